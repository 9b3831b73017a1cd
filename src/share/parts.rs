//! Deltas in parts: a broker takes no record longer than a megabyte, unless it is told to, and a delta may be longer.
//!
//! ```text
//! "nsp" · version (1 byte) · number of the part, from 0 (4 bytes) · number of parts (4 bytes) · the delta's own number (8 bytes) · bytes
//! ```
//!
//! Numbers have their lowest byte first. The parts of one delta come in their order, and those of other deltas may lie between
//! them; a worker that dies on the way leaves parts behind that no last one follows.

use std::collections::BTreeMap;

const MAGIC: &[u8; 4] = b"nsp\x01";
/// Bytes before those of the delta.
const HEADER: usize = MAGIC.len() + 4 + 4 + 8;
/// Most bytes of a part, which with everything around it is a record that any broker takes.
const PART: usize = 900_000;
/// No delta has more parts.
const MOST_PARTS: u32 = 4_096;
/// A delta of which nothing more has come for so many records is never ended: its worker has died.
const PATIENCE: u64 = 10_000;

/// A record of the log that is no part of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of the log is no part of a delta")]
pub struct NoPart;

/// The records that a delta of these `bytes` is sent in; no other delta of the log has its `number`.
pub fn split(number: u64, bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let n_parts = bytes.len().div_ceil(PART).max(1) as u32;
    (0..n_parts).map(move |part| {
        let begin = part as usize * PART;
        let body = &bytes[begin..bytes.len().min(begin + PART)];
        let mut record = Vec::with_capacity(HEADER + body.len());
        record.extend(MAGIC);
        record.extend(part.to_le_bytes());
        record.extend(n_parts.to_le_bytes());
        record.extend(number.to_le_bytes());
        record.extend(body);
        record
    })
}

/// A delta, put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeDelta {
    /// The number that it was split with.
    pub number: u64,
    /// The delta as bytes.
    pub bytes: Vec<u8>,
}

/// Puts deltas together from the records of a log.
#[derive(Debug, Default)]
pub struct Assembly {
    /// By the delta's number: what has come of one of which the last part has not.
    begun: BTreeMap<u64, PartialDelta>,
}

#[derive(Debug)]
struct PartialDelta {
    /// The offsets of its first part, and of its newest one.
    offsets: (u64, u64),
    next: u32,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Takes the record at `offset`; gives a delta where it is the last part of one.
    ///
    /// # Errors
    /// The record is no part of any delta.
    pub fn take(&mut self, offset: u64, record: &[u8]) -> Result<Option<WholeDelta>, NoPart> {
        let (header, body) = record.split_at_checked(HEADER).ok_or(NoPart)?;
        let (magic, numbers) = header.split_at(MAGIC.len());
        let short = |place: usize| u32::from_le_bytes(numbers[place..place + 4].try_into().expect("four bytes"));
        let (part, n_parts) = (short(0), short(4));
        let delta = u64::from_le_bytes(numbers[8..].try_into().expect("eight bytes"));
        if magic != MAGIC || part >= n_parts || n_parts > MOST_PARTS {
            return Err(NoPart);
        }
        self.begun.retain(|_, begun| offset <= begun.offsets.1 + PATIENCE);
        if part == 0 {
            self.begun.insert(delta, PartialDelta { offsets: (offset, offset), next: 0, bytes: Vec::new() });
        }
        // The first parts may lie before the place from which the log is read.
        let Some(begun) = self.begun.get_mut(&delta).filter(|begun| begun.next == part) else { return Ok(None) };
        begun.bytes.extend_from_slice(body);
        (begun.next, begun.offsets.1) = (part + 1, offset);
        if begun.next < n_parts {
            return Ok(None);
        }
        Ok(self.begun.remove(&delta).map(|begun| WholeDelta { number: delta, bytes: begun.bytes }))
    }

    /// From where the log has to be read again by someone who has what is put together so far, up to `next`: the first part
    /// of what is begun.
    pub fn resume_at(&self, next: u64) -> u64 {
        self.begun.values().map(|begun| begun.offsets.0).min().map_or(next, |offset| offset.min(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_in_parts_come_together_whatever_lies_between() {
        let long: Vec<u8> = (0..2 * PART + 17).map(|number| (number % 251) as u8).collect();
        let one: Vec<Vec<u8>> = split(8, &long).collect();
        let other: Vec<Vec<u8>> = split(9, b"short").collect();
        assert_eq!((one.len(), other.len()), (3, 1));
        assert!(one.iter().all(|part| part.len() <= PART + HEADER));
        let mut assembly = Assembly::default();
        let whole = |number: u64, bytes: &[u8]| Ok(Some(WholeDelta { number, bytes: bytes.to_vec() }));
        assert_eq!(assembly.take(5, &one[0]), Ok(None));
        assert_eq!(assembly.take(6, &other[0]), whole(9, b"short"));
        assert_eq!(assembly.resume_at(7), 5, "or the beginning of the long one would be missed");
        assert_eq!(assembly.take(7, &one[1]), Ok(None));
        assert_eq!(assembly.take(8, &one[2]), whole(8, &long));
        assert_eq!(assembly.resume_at(9), 9);
    }

    #[test]
    fn what_a_dead_worker_has_begun_is_forgotten() {
        let [first, second]: [Vec<u8>; 2] = split(3, &vec![7; PART + 1]).collect::<Vec<_>>().try_into().unwrap();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(0, &second), Ok(None), "its beginning lies before the place where reading began");
        assert_eq!(assembly.take(1, &first), Ok(None));
        let other = split(4, b"other").next().unwrap();
        let whole = WholeDelta { number: 4, bytes: b"other".to_vec() };
        assert_eq!(assembly.take(2 + PATIENCE, &other), Ok(Some(whole)));
        assert_eq!(assembly.resume_at(3 + PATIENCE), 3 + PATIENCE);
        assert_eq!(assembly.take(3 + PATIENCE, b"{}"), Err(NoPart));
        assert_eq!(assembly.take(3 + PATIENCE, &[0; 40]), Err(NoPart));
    }
}
