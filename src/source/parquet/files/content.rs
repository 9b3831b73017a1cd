//! What a file is, by its first and last bytes, whatever it is called.

use std::io;

use super::beside::CONVERT;
use crate::source::parquet::bytes::LogBytes;

/// How Parquet begins and ends.
const MAGIC: &[u8; 4] = b"PAR1";
/// How encrypted Parquet begins and ends.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// How much of the beginning is looked at.
const BEGINNING: u64 = 256;

/// What a file is, by its first and last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Parquet,
    Encrypted,
    /// It begins as Parquet, and does not end so.
    Cut,
    /// Something else, described.
    Other(&'static str),
}

/// Looks at the first and the last bytes.
pub(super) fn look(bytes: &LogBytes) -> io::Result<FileKind> {
    let length = bytes.length();
    let begin = bytes.read(0..length.min(BEGINNING))?;
    let is_parquet = begin.starts_with(MAGIC);
    let end = if is_parquet && length >= 12 { bytes.read(length - 4..length)? } else { Vec::new() };
    Ok(match (is_parquet, end.as_slice()) {
        _ if begin.starts_with(ENCRYPTED) || end == ENCRYPTED => FileKind::Encrypted,
        (true, end) if end == MAGIC => FileKind::Parquet,
        (true, _) => FileKind::Cut,
        _ => FileKind::Other(described(&begin)),
    })
}

fn described(begin: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 13] = [
        (&[0x1f, 0x8b], "compressed by gzip as a whole"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed by zstd as a whole"),
        (b"BZh", "compressed by bzip2 as a whole"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "compressed by xz as a whole"),
        (&[0x04, 0x22, 0x4d, 0x18], "compressed by lz4 as a whole"),
        (b"PK\x03\x04", "a zip archive"),
        (b"ORC", "ORC"),
        (b"Obj\x01", "an Avro file"),
        (b"ARROW1", "an Arrow file"),
        (b"FEA1", "a Feather file"),
        (b"SQLite", "an SQLite database"),
        (b"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file)"),
        (&[0x89, b'H', b'D', b'F'], "HDF5"),
    ];
    if let Some((_, described)) = known.iter().find(|(magic, _)| begin.starts_with(magic)) {
        return described;
    }
    let text = String::from_utf8_lossy(begin);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_text = !begin.contains(&0) && text.chars().filter(|c| *c == '\u{fffd}').count() <= 1;
    match text.chars().next() {
        Some('{' | '[') if is_text => "JSON",
        Some('<') if is_text => "XML or a web page (of a download that failed?)",
        Some(_) if is_text => "text (CSV?)",
        _ => "of a format that is not known",
    }
}

/// Checks that a file may be Parquet.
///
/// # Errors
/// What it is instead, and what to do about it.
pub(in super::super) fn check(bytes: &LogBytes) -> io::Result<Result<(), String>> {
    if bytes.length() == 0 {
        return Ok(Err("the file is empty (0 bytes), not Parquet".to_owned()));
    }
    Ok(match look(bytes)? {
        FileKind::Parquet => Ok(()),
        FileKind::Encrypted => Err("it is encrypted Parquet: decrypt it first".to_owned()),
        FileKind::Cut => {
            Err("it begins as Parquet, but does not end so (no PAR1 at its end): it is cut short, or still \
                              being written"
                .to_owned())
        }
        FileKind::Other(kind) if kind.starts_with("compressed by") => {
            Err(format!("it is not Parquet (no PAR1 at its end), but {kind}: decompress it first"))
        }
        FileKind::Other(kind) => Err(format!("it is not Parquet (no PAR1 at its end), but {kind}; {CONVERT}")),
    })
}
