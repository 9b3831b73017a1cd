//! What names tell: which files are data, which columns folders stand for, and in what order logs come.

use std::cmp::Ordering;
use std::path::{Component, Path};

use crate::decode::arrow_rows::PartitionValue;

/// Endings of Parquet files.
const ENDINGS: [&str; 3] = ["parquet", "parq", "pq"];
/// Endings of files that are still being written, or that were put aside.
const UNFINISHED: [&str; 10] =
    ["tmp", "temp", "partial", "part", "inprogress", "pending", "crdownload", "unfinished", "bak", "swp"];
/// Endings of logs in text, before those of their compression.
const TEXT: [&str; 5] = ["csv", "tsv", "json", "jsonl", "ndjson"];
/// Endings of what is compressed as a whole.
const COMPRESSED: [&str; 4] = ["gz", "gzip", "zst", "lz4"];
/// Endings of data in other formats.
const OTHER_DATA: [&str; 12] =
    ["avro", "orc", "arrow", "feather", "gz", "gzip", "zst", "lz4", "zip", "bz2", "xz", "sqlite"];
/// What a column holds in a folder whose name stands for null.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// What the name of a file says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameClaim {
    /// A log.
    Log,
    /// A log in text.
    Text,
    /// Still being written, or put aside.
    Unfinished,
    /// Data in another format.
    OtherData,
    /// Nothing that tells whether it is a log.
    Nothing,
}

impl NameClaim {
    pub(super) fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let split = |name: &'_ str| name.rsplit_once('.').map(|(stem, ending)| (stem.to_owned(), ending.to_owned()));
        let (stem, ending) = split(&name).unwrap_or_default();
        let inner = split(&stem).map_or(String::new(), |(_, inner)| inner);
        let ending = ending.as_str();
        if name.ends_with('~') || UNFINISHED.contains(&ending) || name.contains(".inprogress.") {
            Self::Unfinished
        } else if ENDINGS.contains(&ending) {
            Self::Log
        } else if TEXT.contains(&ending) || (COMPRESSED.contains(&ending) && TEXT.contains(&inner.as_str())) {
            Self::Text
        } else if OTHER_DATA.contains(&ending) {
            Self::OtherData
        } else {
            Self::Nothing
        }
    }
}

/// Whether a name below a folder is of no data. A column's name may begin with `_`.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// Whether a name may stand for several.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Columns that the names of folders tell: `event_type=click/day=2026-01-01/part-0.parquet`.
pub(in super::super) fn partitions(path: &Path) -> Vec<PartitionValue> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|part| match part {
            Component::Normal(name) => {
                let name = name.to_string_lossy();
                let (column, value) = name.split_once('=').filter(|(column, _)| !column.is_empty())?;
                let value = (value != NULL_PARTITION).then(|| unescaped(value));
                Some((unescaped(column), value))
            }
            _ => None,
        })
        .collect()
}

/// A name of a folder without its `%20` and the like.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// The order of two paths, part by part, in which numbers count as numbers: `part-2` comes before `part-10`.
pub(super) fn natural_order(a: &Path, b: &Path) -> Ordering {
    let parts = |path: &Path| -> Vec<String> {
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (left, right) = (parts(a), parts(b));
    let by_parts = left.iter().zip(&right).map(|(a, b)| natural(a, b)).find(|order| order.is_ne());
    by_parts.unwrap_or_else(|| left.len().cmp(&right.len())).then_with(|| a.cmp(b))
}

fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            let (left, right) = (number(&mut a), number(&mut b));
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            first.cmp(second)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The digits that `text` begins with, without zeros before them; `text` begins behind them then.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut paths: Vec<PathBuf> =
            ["part-10", "part-2", "part-1", "part-0010", "b/1", "b/10", "b/9", "a", "part", "a-1/x"]
                .map(PathBuf::from)
                .into();
        paths.sort_by(|a, b| natural_order(a, b));
        let sorted: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        let expected = ["a", "a-1/x", "b/1", "b/9", "b/10", "part", "part-1", "part-2", "part-0010", "part-10"];
        assert_eq!(sorted, expected);
    }

    #[test]
    fn folders_may_be_columns() {
        let found = partitions(Path::new(
            "logs/event_type=add%20to cart/day=2026-01-01/x=__HIVE_DEFAULT_PARTITION__/a=b.parquet",
        ));
        let expected = [("event_type", Some("add to cart")), ("day", Some("2026-01-01")), ("x", None)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }
}
