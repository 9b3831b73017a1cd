//! Logs among the objects of a bucket, by the rules that hold for folders: a key is read as a path.

use std::fmt;
use std::path::PathBuf;

use glob::{MatchOptions, Pattern};

use super::address::BucketAddress;
use super::beside::Beside;
use super::content::look;
use super::names::{is_hidden, is_pattern};
use super::{FoundLog, not_found};
use crate::remote::bucket::{Object, ObjectBucket};
use crate::remote::error::RemoteError;
use crate::source::parquet::bytes::LogPlace;
use crate::source::parquet::{ParquetLogError, unreadable};

impl fmt::Display for BucketAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address_of(self.key))
    }
}

impl BucketAddress<'_> {
    fn address_of(&self, key: &str) -> String {
        format!("{}://{}/{key}", self.provider.scheme(), self.bucket)
    }
}

/// The logs that an address stands for.
pub(super) fn find(
    address: &BucketAddress<'_>,
    bucket: &ObjectBucket,
    beside: &mut Beside,
) -> Result<Vec<FoundLog>, ParquetLogError> {
    let failed = |error: RemoteError| unreadable(address.to_string().as_ref(), error.into());
    let open = |object: Object| {
        let path = PathBuf::from(address.address_of(object.key()));
        FoundLog { path, place: LogPlace::Remote(bucket.open(object)) }
    };
    let key = address.key.trim_end_matches('/');
    let whole =
        if key.len() == address.key.len() && !key.is_empty() { bucket.find(key).map_err(failed)? } else { None };
    // Stores that have folders show one as an object without content.
    if let Some(object) = whole.as_ref().filter(|object| object.length() > 0) {
        return Ok(vec![open(object.clone())]);
    }
    let selection = Selection::new(key).map_err(|problem| not_found(&address.to_string(), &problem))?;
    let mut logs = Vec::new();
    for object in bucket.list(selection.prefix()).map_err(failed)? {
        let Some(folder) = selection.folder_of(object.key()) else { continue };
        let below = object.key().get(folder..).unwrap_or_default().trim_start_matches('/');
        for (kind, end) in tables(below) {
            let end = object.key().len() - below.len() + end;
            let table = object.key()[..end].trim_end_matches('/');
            beside.add_table(kind, address.address_of(table).as_ref());
        }
        if below.split('/').any(is_hidden) {
            continue;
        }
        let log = open(object.clone());
        // What a network does not give now may be a log all the same: it is not left out in silence.
        let kind = || log.place.open(&log.path).and_then(|bytes| look(&bytes)).map(Some);
        let is_log = beside.add(&log.path, object.length(), kind);
        if is_log.map_err(|error| unreadable(&log.path, log.place.cause(error.into())))? {
            logs.push(log);
        }
    }
    match whole {
        // Nothing is below it: a file, if an empty one.
        Some(object) if logs.is_empty() => Ok(vec![open(object)]),
        _ => Ok(logs),
    }
}

/// Which of a bucket's keys a name selects.
#[derive(Debug)]
enum Selection<'a> {
    /// Those below a prefix.
    Folder(&'a str),
    /// Those that a pattern matches, and those below what it matches.
    Pattern {
        pattern: Pattern,
        text: &'a str,
        /// Length of the part before the first name that may stand for several.
        fixed: usize,
    },
}

impl<'a> Selection<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        if !is_pattern(text) {
            return Ok(Self::Folder(text));
        }
        let pattern = Pattern::new(text);
        let pattern = pattern.map_err(|error| format!("the pattern is not understood at character {}", error.pos))?;
        let first = text.find(['*', '?', '[']).unwrap_or_default();
        Ok(Self::Pattern { pattern, text, fixed: text[..first].rfind('/').unwrap_or(0) })
    }

    /// Where all the keys begin.
    fn prefix(&self) -> &'a str {
        match self {
            Self::Folder(prefix) => prefix,
            Self::Pattern { text, fixed, .. } => &text[..*fixed],
        }
    }

    /// How much of a key is a folder that is selected, below which the rules for names hold; `None` where the key is not.
    fn folder_of(&self, key: &str) -> Option<usize> {
        match self {
            Self::Folder(prefix) => Some(prefix.len()),
            Self::Pattern { pattern, text, fixed } => {
                let options = MatchOptions {
                    case_sensitive: true,
                    require_literal_separator: true,
                    require_literal_leading_dot: true,
                };
                // Where the pattern itself asks for names with `_`, they are meant.
                let asks = text.split('/').any(|part| part.starts_with('_'));
                let is_shown = |end: usize| asks || !key[*fixed..end].trim_start_matches('/').split('/').any(is_hidden);
                let is_match = |end: &usize| pattern.matches_with(&key[..*end], options);
                if is_match(&key.len()) {
                    return is_shown(key.len()).then_some(key.len());
                }
                // What a pattern with `**` matches of a folder's folders comes with the folder.
                let mut folders = key.match_indices('/').map(|(end, _)| end);
                folders.find(is_match).filter(|end| !text.contains("**") && is_shown(*end))
            }
        }
    }
}

/// The tables that a key below a folder tells of: their kind, and how much of the key is their own folder.
fn tables(below: &str) -> Vec<(&'static str, usize)> {
    let mut found = Vec::new();
    let mut begin = 0;
    while let Some((name, rest)) = below[begin..].split_once('/') {
        match name {
            "_delta_log" => found.push(("Delta", begin)),
            ".hoodie" => found.push(("Hudi", begin)),
            "metadata" if !rest.contains('/') && rest.ends_with(".metadata.json") => found.push(("Iceberg", begin)),
            _ => {}
        }
        begin += name.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(text: &str, key: &str) -> Option<String> {
        Selection::new(text).unwrap().folder_of(key).map(|folder| key[folder..].trim_start_matches('/').to_owned())
    }

    #[test]
    fn patterns_select_as_they_do_in_folders() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(selected("logs", "logs/a/_x"), some("a/_x"), "below a folder, names are looked at later");
        assert_eq!(selected("logs/*.parquet", "logs/a.parquet"), some(""));
        assert_eq!(selected("logs/*.parquet", "logs/b/a.parquet"), None, "a star stands for one name");
        assert_eq!(selected("logs/**/*.parquet", "logs/b/c/a.parquet"), some(""));
        assert_eq!(
            selected("logs/day*", "logs/day=1/part/a.parquet"),
            some("part/a.parquet"),
            "a folder that it matches"
        );
        assert_eq!(selected("logs/*", "logs/_tmp/a.parquet"), None);
        assert_eq!(selected("logs/_*", "logs/_tmp/a.parquet"), some("a.parquet"), "what is asked for is meant");
        assert_eq!(selected("logs/*", "logs/.a.parquet"), None);
        assert_eq!(Selection::new("a/b*/c").unwrap().prefix(), "a");
        assert_eq!(Selection::new("b*/c").unwrap().prefix(), "");
        assert!(Selection::new("a/[").is_err());
    }

    #[test]
    fn tables_are_known_by_what_they_keep() {
        assert_eq!(tables("t/_delta_log/0.json"), [("Delta", 2)]);
        assert_eq!(tables("metadata/v1.metadata.json"), [("Iceberg", 0)]);
        assert_eq!(tables("a/metadata/x/v1.metadata.json"), []);
        assert_eq!(tables("a/.hoodie/x"), [("Hudi", 2)]);
        assert_eq!(tables("_delta_log"), []);
    }
}
