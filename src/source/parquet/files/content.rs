//! What a file is, by its first and last bytes, whatever it is called.

use std::io;
use std::path::Path;

use super::beside::CONVERT;
use super::names::NameClaim;
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

const JSON: &str = "JSON";
const TEXT: &str = "text (CSV?)";
const GZIP: &str = "compressed by gzip as a whole";
const ZSTD: &str = "compressed by zstd as a whole";
const LZ4: &str = "compressed by lz4 as a whole";
const ZIP: &str = "a zip archive";
const UTF_16: &str = "text in UTF-16";

fn described(begin: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 15] = [
        (&[0x1f, 0x8b], GZIP),
        (&[0x28, 0xb5, 0x2f, 0xfd], ZSTD),
        (b"BZh", "compressed by bzip2 as a whole"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "compressed by xz as a whole"),
        (&[0x04, 0x22, 0x4d, 0x18], LZ4),
        (b"PK\x03\x04", ZIP),
        (b"ORC", "ORC"),
        (b"Obj\x01", "an Avro file"),
        (b"ARROW1", "an Arrow file"),
        (b"FEA1", "a Feather file"),
        (b"SQLite", "an SQLite database"),
        (b"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file)"),
        (&[0x89, b'H', b'D', b'F'], "HDF5"),
        (&[0xff, 0xfe], UTF_16),
        (&[0xfe, 0xff], UTF_16),
    ];
    if let Some((_, described)) = known.iter().find(|(magic, _)| begin.starts_with(magic)) {
        return described;
    }
    let text = text_of(begin);
    let is_text = !begin.contains(&0) && text.chars().filter(|c| *c == '\u{fffd}').count() <= 1;
    match text.chars().next() {
        Some('{' | '[') if is_text => JSON,
        Some('<') if is_text => "XML or a web page (of a download that failed?)",
        Some(_) if is_text => TEXT,
        _ => "of a format that is not known",
    }
}

/// The beginning of a file as text, from its first character on.
fn text_of(begin: &[u8]) -> String {
    let text = String::from_utf8_lossy(begin);
    text.trim_start_matches('\u{feff}').trim_start().to_owned()
}

/// How a log is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Storage {
    Parquet,
    /// Text, compressed as a whole or not.
    Text,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TextKind {
    Csv,
    JsonLines,
}

/// Finds out how a log of that name is stored. What is called Parquet has to be Parquet.
///
/// # Errors
/// What the file is instead of a log, and what to do about it.
pub(in super::super) fn storage(path: &Path, bytes: &LogBytes) -> io::Result<Result<Storage, String>> {
    if bytes.length() == 0 {
        return Ok(Err("the file is empty (0 bytes)".to_owned()));
    }
    let is_called_parquet = NameClaim::of(path) == NameClaim::Log;
    Ok(match look(bytes)? {
        FileKind::Parquet => Ok(Storage::Parquet),
        FileKind::Encrypted => Err("it is encrypted Parquet: decrypt it first".to_owned()),
        FileKind::Cut => {
            Err("it begins as Parquet, but does not end so (no PAR1 at its end): it is cut short, or still \
                              being written"
                .to_owned())
        }
        FileKind::Other(kind) if is_called_parquet => {
            let advice = match kind {
                kind if kind.starts_with("compressed by") => "decompress it first",
                JSON | TEXT => "called .csv or .jsonl, it is read as text",
                _ => CONVERT,
            };
            Err(format!("it is not Parquet (no PAR1 at its end), but {kind}: {advice}"))
        }
        FileKind::Other(JSON | TEXT | GZIP | ZSTD | LZ4) => Ok(Storage::Text),
        FileKind::Other(kind) => Err(no_log(kind)),
    })
}

/// What a text is that begins with `head`.
///
/// # Errors
/// What it is instead of a log, and what to do about it.
pub(in super::super) fn text_kind(head: &[u8]) -> Result<TextKind, String> {
    if head.starts_with(MAGIC) {
        return Err("it is Parquet, compressed as a whole: decompress it".to_owned());
    }
    if head.get(257..262) == Some(b"ustar") {
        return Err("it is a tar archive: unpack it first (tar -xf)".to_owned());
    }
    let begin = &head[..head.len().min(BEGINNING as usize)];
    if text_of(begin).is_empty() && head.len() < BEGINNING as usize {
        // A part without rows, as programs write that split their work: there are no columns either, which JSON does not mind.
        return Ok(TextKind::JsonLines);
    }
    match described(begin) {
        JSON if text_of(begin).starts_with('[') => Err(
            "it is JSON, but one list: each line must be one event, an object (jq -c '.[]' IN.json makes that of it)"
                .to_owned(),
        ),
        JSON => Ok(TextKind::JsonLines),
        TEXT => Ok(TextKind::Csv),
        kind => Err(no_log(kind)),
    }
}

/// The words for a file that is no log, but of that kind.
fn no_log(kind: &str) -> String {
    match kind {
        kind if kind.starts_with("compressed by") => format!("it is {kind}: decompress it first"),
        ZIP => format!("it is {kind}: unpack it first (unzip)"),
        UTF_16 => format!("it is {kind}: iconv -f UTF-16 -t UTF-8 IN > OUT makes UTF-8 of it"),
        kind => format!("it is no log, but {kind}; {CONVERT}"),
    }
}
