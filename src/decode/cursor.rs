//! The cursor that both binary formats read by. Nothing is read beyond the end, and nothing is
//! allocated for a length before the bytes are seen to be there.

use super::Fault;
use crate::event::Reason;

/// Most levels of values that are nested in each other.
pub(super) const MAX_DEPTH: usize = 64;

/// A place in the bytes of a record.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        match usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)) {
            Some(end) if end <= self.bytes.len() => {
                let taken = &self.bytes[self.at..end];
                self.at = end;
                Ok(taken)
            }
            _ => Err(self.fault(&format!("{count} bytes are announced, {} are left", self.remaining()))),
        }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }

    /// A number in groups of seven bits, the lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let mut number = 0_u64;
        for (index, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(number);
            }
        }
        Err(self.fault(if self.remaining() < 10 {
            "the bytes end in a number"
        } else {
            "a number of more than 64 bits"
        }))
    }

    /// A number whose sign is its lowest bit.
    pub(super) fn zigzag(&mut self) -> Result<i64, Fault> {
        self.varint().map(unzigzag)
    }

    /// The next `count` bytes as text.
    pub(super) fn text(&mut self, count: u64) -> Result<&'a str, Fault> {
        let begin = self.at;
        std::str::from_utf8(self.take(count)?)
            .map_err(|error| (Reason::Unparsable, format!("not UTF-8 at byte {}", begin + error.valid_up_to())))
    }

    /// The fault of bytes that are damaged at this place.
    #[cold]
    pub(super) fn fault(&self, problem: &str) -> Fault {
        (Reason::Unparsable, format!("{problem} at byte {}", self.at))
    }
}

/// The number whose sign is the lowest bit of `number`.
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// `number` with its sign as the lowest bit.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Appends a number in groups of seven bits, the lowest first.
pub(super) fn put_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_is_bounded_by_64_bits() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!((cursor.varint(), cursor.remaining()), (Ok(number), 0));
            assert!(Cursor::new(&bytes[..bytes.len() - 1]).varint().unwrap_err().1.contains("end in a number"));
        }
        let beyond = [&[0xff; 9][..], &[0x02]].concat();
        assert!(Cursor::new(&beyond).varint().unwrap_err().1.contains("more than 64 bits"));
        assert!(Cursor::new(&[0xff; 20]).varint().unwrap_err().1.contains("more than 64 bits"));
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
    }

    #[test]
    fn take_is_bounded_by_the_bytes_that_are_left() {
        for announced in [4, u64::from(u32::MAX), u64::MAX] {
            let (reason, detail) = Cursor::new(b"abc").take(announced).unwrap_err();
            assert_eq!(reason, Reason::Unparsable);
            assert_eq!(detail, format!("{announced} bytes are announced, 3 are left at byte 0"));
        }
    }
}
