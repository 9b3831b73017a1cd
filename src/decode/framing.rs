//! The wire format of schema registries (Confluent's): a magic byte of 0, the number of the schema in four bytes (big end
//! first), then the record. Before a Protobuf record stands also which message of the schema it is: the places from the
//! outermost to it, as a counted list; a single 0 stands for the first one.

use super::cursor::{Cursor, MAX_DEPTH, put_varint, zigzag};
use super::{Fault, SchemaId};
use crate::event::Reason;

const MAGIC: u8 = 0;

/// Number of the schema, and what is in the frame.
pub(super) fn open(payload: &[u8]) -> Result<(SchemaId, &[u8]), Fault> {
    match payload {
        [MAGIC, a, b, c, d, inner @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), inner)),
        [MAGIC, ..] => bad(format!("{} bytes are too few for the number of a schema", payload.len())),
        [other, ..] => bad(format!("the magic byte is {other}, not {MAGIC}: not written with a schema registry")),
        [] => bad("no bytes".to_owned()),
    }
}

/// Which message of a Protobuf schema it is, and the message.
pub(super) fn open_message(inner: &[u8]) -> Result<(Vec<usize>, &[u8]), Fault> {
    let mut cursor = Cursor::new(inner);
    let mut next =
        || cursor.zigzag().map_err(|(_, detail)| (Reason::InvalidFrame, format!("place of the message: {detail}")));
    let count = next()?;
    let mut path = vec![0];
    if count != 0 {
        match usize::try_from(count) {
            Ok(count) if count <= MAX_DEPTH => path.clear(),
            _ => return bad(format!("{count} places of a message")),
        }
        for _ in 0..count {
            let place = next()?;
            path.push(usize::try_from(place).or_else(|_| bad(format!("{place} is no place of a message")))?);
        }
    }
    Ok((path, &inner[inner.len() - cursor.remaining()..]))
}

/// Puts a frame around a record; `path` for Protobuf.
pub(super) fn close(id: SchemaId, path: Option<&[usize]>, inner: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(inner.len() + 8);
    framed.push(MAGIC);
    framed.extend(id.to_be_bytes());
    match path {
        Some([0]) => framed.push(0),
        Some(path) => {
            put_varint(zigzag(path.len() as i64), &mut framed);
            path.iter().for_each(|place| put_varint(zigzag(*place as i64), &mut framed));
        }
        None => {}
    }
    framed.extend(inner);
    framed
}

fn bad<T>(detail: String) -> Result<T, Fault> {
    Err((Reason::InvalidFrame, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_as_confluent_documents_them() {
        assert_eq!(close(0x0102_0304, None, b"x"), b"\x00\x01\x02\x03\x04x");
        // The first message; then the second one within it: a count of 2, then 1 and 0, each doubled by the zigzag.
        assert_eq!(close(7, Some(&[0]), b"x"), b"\x00\x00\x00\x00\x07\x00x");
        assert_eq!(close(7, Some(&[1, 0]), b"x"), b"\x00\x00\x00\x00\x07\x04\x02\x00x");
        assert_eq!(open_message(b"\x00x"), Ok((vec![0], &b"x"[..])));
        assert_eq!(open_message(b"\x02\x00x"), Ok((vec![0], &b"x"[..])));
        assert_eq!(open_message(b"\x04\x02\x00x"), Ok((vec![1, 0], &b"x"[..])));
    }

    #[test]
    fn open_names_what_is_wrong_with_a_frame() {
        for (payload, detail) in [
            (&b"{}"[..], "the magic byte is 123, not 0"),
            (b"\x01\x00\x00\x00\x01{}", "the magic byte is 1, not 0"),
            (b"\x00", "1 bytes are too few"),
            (b"\x00\x00\x00\x01", "4 bytes are too few"),
            (b"", "no bytes"),
        ] {
            let (reason, told) = open(payload).unwrap_err();
            assert!(reason == Reason::InvalidFrame && told.starts_with(detail), "{told}");
        }
        for inner in [&b""[..], b"\x80", b"\x04\x00", b"\x01", b"\x02\x01", b"\xff\xff\xff\xff\x0f"] {
            assert_eq!(open_message(inner).unwrap_err().0, Reason::InvalidFrame, "{inner:?}");
        }
    }
}
