//! Which files are a log: what the names on the command line stand for, and what is passed over in folders.
//!
//! A file that is named is a log, whatever it is called. Of a folder, and of what a pattern matches, those files are that end as
//! Parquet does, or that are Parquet by their first and last bytes. As other programs have it, names that begin with `_` or
//! `.` are no data (what Spark has not committed, the metadata of tables, what macOS leaves behind), and folders named
//! `column=value` are columns. Files come in the order of their names, in which numbers count as numbers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use glob::MatchOptions;

use super::ParquetLogError;
use crate::decode::arrow_rows::PartitionValue;

/// Endings of Parquet files.
const ENDINGS: [&str; 3] = ["parquet", "parq", "pq"];
/// Endings of files that are still being written, or that were put aside.
const UNFINISHED: [&str; 10] =
    ["tmp", "temp", "partial", "part", "inprogress", "pending", "crdownload", "unfinished", "bak", "swp"];
/// What a column holds in a folder whose name stands for null.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// Most examples that a message gives.
const EXAMPLES: usize = 3;
/// How Parquet begins and ends.
const MAGIC: &[u8; 4] = b"PAR1";
/// How encrypted Parquet ends.
const ENCRYPTED: &[u8; 4] = b"PARE";

/// The files that some names stand for, and what a person should know of the others.
#[derive(Debug, Default)]
pub(super) struct FoundLogs {
    pub(super) paths: Vec<PathBuf>,
    /// Sentences for the log of the program.
    pub(super) remarks: Vec<String>,
}

/// Finds the files that `patterns` name: a file itself, a folder's logs at any depth, or what a pattern matches.
pub(super) fn expand(patterns: &[String]) -> Result<FoundLogs, ParquetLogError> {
    let mut found = FoundLogs::default();
    for pattern in patterns {
        let begin = found.paths.len();
        let mut beside = Beside::default();
        let pattern = pattern.strip_prefix("file://").unwrap_or(pattern);
        if let Some(reason) = not_here(pattern) {
            return Err(not_found(&reason.0, reason.1));
        }
        let path = Path::new(pattern);
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => walk(path, &mut Vec::new(), &mut found.paths, &mut beside)?,
            Ok(meta) if meta.is_file() => found.paths.push(path.to_owned()),
            Ok(_) => return Err(not_found(pattern, "it is neither a file nor a folder: logs are read from files")),
            // A name that is none may be a pattern.
            Err(error) if error.kind() == io::ErrorKind::NotFound || pattern.contains(['*', '?', '[']) => {
                matches(pattern, &mut found.paths, &mut beside)?;
            }
            Err(error) => return Err(super::unreadable(path, error.into())),
        }
        found.paths[begin..].sort_by(|a, b| natural_order(a, b));
        if found.paths.len() == begin {
            return Err(not_found(pattern, &beside.instead()));
        }
        found.remarks.extend(beside.remarks(pattern));
    }
    Ok(found)
}

fn not_found(pattern: &str, reason: &str) -> ParquetLogError {
    ParquetLogError::NotFound { pattern: pattern.to_owned(), reason: reason.to_owned() }
}

/// What is said of an address in place of a path: without what may be secret in it.
fn not_here(pattern: &str) -> Option<(String, &'static str)> {
    let (scheme, rest) = pattern.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    if !is_scheme {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let shown = format!("{scheme}://{host}{}", path.map_or(String::new(), |path| format!("/{path}")));
    let advice = match scheme {
        "s3" | "s3a" | "s3n" => {
            "logs are read from this machine alone: copy it (aws s3 sync), or mount the bucket (checkpoints can be in an \
             object store)"
        }
        "gs" | "gcs" => "logs are read from this machine alone: copy it (gcloud storage rsync), or mount the bucket",
        "az" | "abfs" | "abfss" | "wasb" | "wasbs" | "adl" => {
            "logs are read from this machine alone: copy it (azcopy), or mount the container"
        }
        "http" | "https" | "ftp" => "logs are read from this machine alone: download it (curl -O)",
        "hdfs" | "viewfs" => "logs are read from this machine alone: copy it (hdfs dfs -get)",
        _ => "logs are read from this machine alone: copy it here",
    };
    Some((shown, advice))
}

/// What lies beside the logs of a folder.
#[derive(Debug, Default)]
struct Beside {
    /// Files that are no Parquet, by what they are.
    others: BTreeMap<&'static str, Vec<PathBuf>>,
    /// Files of the length 0 that end as Parquet does.
    empty: Vec<PathBuf>,
    /// Files that are still being written.
    unfinished: Vec<PathBuf>,
    /// Folders of tables that know by themselves which of their files count.
    tables: Vec<(&'static str, PathBuf)>,
}

impl Beside {
    /// Why nothing was found.
    fn instead(&self) -> String {
        if let Some((kind, paths)) = self.others.iter().find(|(kind, _)| **kind != OTHER) {
            return format!("there is no Parquet, but {kind} ({}): {}", examples(paths), CONVERT);
        }
        match (self.empty.as_slice(), self.unfinished.as_slice(), self.others.values().next()) {
            ([_, ..], ..) => format!("its files are empty (0 bytes): {}", examples(&self.empty)),
            (_, [_, ..], _) => format!("its files are still being written: {}", examples(&self.unfinished)),
            (_, _, Some(paths)) => format!("there is no Parquet, but {}", examples(paths)),
            _ => "nothing is there by this name".to_owned(),
        }
    }

    /// What is said where logs were found all the same.
    fn remarks(&self, pattern: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        for (kind, paths) in self.others.iter().filter(|(kind, _)| **kind != OTHER) {
            remarks.push(format!("{pattern}: left out, since it is {kind}: {} ({CONVERT})", examples(paths)));
        }
        if !self.empty.is_empty() {
            remarks.push(format!("{pattern}: empty files (0 bytes) hold no events: {}", examples(&self.empty)));
        }
        if !self.unfinished.is_empty() {
            remarks
                .push(format!("{pattern}: left out, since it is still being written: {}", examples(&self.unfinished)));
        }
        for (table, path) in &self.tables {
            remarks.push(format!(
                "{} is a {table} table: all of its files are read, and so rows that it has deleted or replaced come too \
                 (export the table, or compact and vacuum it)",
                path.display()
            ));
        }
        remarks
    }

    fn add(&mut self, path: PathBuf) -> Result<Option<PathBuf>, ParquetLogError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if name.ends_with('~') || UNFINISHED.contains(&ending) || name.contains(".inprogress.") {
            self.unfinished.push(path);
            return Ok(None);
        }
        let is_named = ENDINGS.contains(&ending);
        let meta = fs::metadata(&path);
        match meta {
            Ok(meta) if !meta.is_file() => return Ok(None),
            Ok(meta) if meta.len() == 0 => {
                if is_named {
                    self.empty.push(path);
                }
                return Ok(None);
            }
            Ok(_) if is_named => return Ok(Some(path)),
            Err(error) if is_named => return Err(super::unreadable(&path, error.into())),
            _ => {}
        }
        // One that cannot be looked into, and does not claim to be a log, is none.
        match File::open(&path).and_then(|mut file| look(&mut file)) {
            Ok(FileKind::Parquet) => return Ok(Some(path)),
            Ok(FileKind::Encrypted | FileKind::Cut) | Err(_) => self.others.entry(OTHER).or_default().push(path),
            Ok(FileKind::Other(kind)) => {
                let is_data =
                    ["csv", "tsv", "json", "jsonl", "ndjson", "avro", "orc", "arrow", "feather", "gz", "zst", "zip"];
                let kind = if is_data.contains(&ending) { kind } else { OTHER };
                self.others.entry(kind).or_default().push(path);
            }
        }
        Ok(None)
    }
}

/// Files of a folder that nobody would take for data, such as notes.
const OTHER: &str = "other files";

/// What to do about a log in another format.
const CONVERT: &str = "logs are Parquet: convert it, with DuckDB for instance: copy (from 'IN') to 'OUT.parquet'";

fn examples(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(EXAMPLES).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(EXAMPLES);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// Whether a name below a folder is of no data. A column's name may begin with `_`.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// Adds the logs of a folder, at any depth. `around` are the folders on the way, as they are on the disk.
fn walk(
    folder: &Path,
    around: &mut Vec<PathBuf>,
    logs: &mut Vec<PathBuf>,
    beside: &mut Beside,
) -> Result<(), ParquetLogError> {
    let unreadable = |error: io::Error| super::unreadable(folder, error.into());
    let real = fs::canonicalize(folder).map_err(unreadable)?;
    if around.contains(&real) {
        // A link that leads back to where it is.
        return Ok(());
    }
    for (mark, table) in [("_delta_log", "Delta"), (".hoodie", "Hudi")] {
        if folder.join(mark).is_dir() {
            beside.tables.push((table, folder.to_owned()));
        }
    }
    let is_iceberg = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".metadata.json");
    if fs::read_dir(folder.join("metadata"))
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_iceberg(&entry.file_name()))))
    {
        beside.tables.push(("Iceberg", folder.to_owned()));
    }
    around.push(real);
    // A folder that cannot be looked into is no reason to leave its files out in silence.
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_hidden(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, around, logs, beside)?;
        } else {
            logs.extend(beside.add(path)?);
        }
    }
    around.pop();
    Ok(())
}

/// Adds the logs that a pattern matches: files, and the logs of folders.
fn matches(pattern: &str, logs: &mut Vec<PathBuf>, beside: &mut Beside) -> Result<(), ParquetLogError> {
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let matches = glob::glob_with(pattern, options)
        .map_err(|error| not_found(pattern, &format!("the pattern is not understood at character {}", error.pos)))?;
    // Where the pattern itself asks for names with `_`, they are meant.
    let asks = Path::new(pattern).components().any(|part| part.as_os_str().to_string_lossy().starts_with('_'));
    let fixed: usize = Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .count();
    let mut matched = Vec::new();
    for found in matches {
        let path = found.map_err(|error| super::unreadable(error.path(), error.error().to_string().into()))?;
        let below = path.components().skip(fixed);
        if !asks && below.clone().any(|part| is_hidden(&part.as_os_str().to_string_lossy())) {
            continue;
        }
        if path.is_dir() {
            // What a pattern with `**` matches of a folder's folders comes with the folder.
            if !pattern.contains("**") {
                walk(&path, &mut Vec::new(), &mut matched, beside)?;
            }
        } else {
            matched.extend(beside.add(path)?);
        }
    }
    // A folder and a file in it may both have matched.
    matched.sort();
    matched.dedup();
    logs.extend(matched);
    Ok(())
}

/// Columns that the names of folders tell: `event_type=click/day=2026-01-01/part-0.parquet`.
pub(super) fn partitions(path: &Path) -> Vec<PartitionValue> {
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

/// What a file is, by its first and last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Parquet,
    Encrypted,
    /// It begins as Parquet, and does not end so.
    Cut,
    /// Something else, described.
    Other(&'static str),
}

fn look(file: &mut File) -> io::Result<FileKind> {
    let mut begin = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(256).read_to_end(&mut begin)?;
    let mut end = [0; 4];
    let length = file.seek(SeekFrom::End(0))?;
    if length >= 12 {
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut end)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(match (begin.starts_with(MAGIC), &end) {
        _ if begin.starts_with(ENCRYPTED) || &end == ENCRYPTED => FileKind::Encrypted,
        (true, MAGIC) => FileKind::Parquet,
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
pub(super) fn check(file: &mut File) -> io::Result<Result<(), String>> {
    if file.metadata()?.len() == 0 {
        return Ok(Err("the file is empty (0 bytes), not Parquet".to_owned()));
    }
    Ok(match look(file)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| folder.join(pattern).display().to_string()).collect();
        let found = expand(&patterns).unwrap().paths;
        found.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    const PARQUET: &[u8] = b"PAR1 something PAR1";

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
    fn folders_hold_logs_and_what_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in [
            "day/part-2.parquet",
            "day/part-10.parquet",
            "day/deep/x.pq",
            "day/000000_0",
            "day/_temporary/0/part-0.parquet",
            "day/.hidden.parquet",
            "day/._part-2.parquet",
            "day/_delta_log/10.checkpoint.parquet",
            "day/_kind=click/y.parquet",
            "day/part-3.parquet.tmp",
        ] {
            write(folder, name, PARQUET);
        }
        write(folder, "day/_SUCCESS", b"");
        write(folder, "day/README.txt", b"not a log");
        write(folder, "day/more.csv", b"user_id,item_id\n");
        write(folder, "day/part-4.parquet", b"");
        let expected =
            ["day/000000_0", "day/_kind=click/y.parquet", "day/deep/x.pq", "day/part-2.parquet", "day/part-10.parquet"];
        assert_eq!(names(folder, &["day"]), expected);
        assert_eq!(names(folder, &["d*"]), expected, "a folder that a pattern matches is one");
        assert_eq!(names(folder, &["day/*.parquet"]), ["day/part-2.parquet", "day/part-10.parquet"]);
        assert_eq!(names(folder, &["day/.hidden.parquet"]), ["day/.hidden.parquet"], "what is named is meant");
        let found = expand(&[folder.join("day").display().to_string()]).unwrap();
        let said = found.remarks.join("\n");
        for word in ["more.csv", "part-4.parquet", "part-3.parquet.tmp", "Delta"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("README"), "{said}");
    }

    #[test]
    fn what_is_not_found_is_told_with_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "csv/a.csv", b"user_id,item_id\n");
        write(folder, "empty/a.parquet", b"");
        let told = |pattern: String| expand(&[pattern]).unwrap_err().to_string();
        assert!(told(folder.join("csv").display().to_string()).contains("text (CSV?)"));
        assert!(told(folder.join("empty").display().to_string()).contains("0 bytes"));
        assert!(told(folder.join("nothing*").display().to_string()).contains("nothing is there"));
        let address = told("s3://key:secret@bucket/logs/?token=secret".to_owned());
        assert!(address.contains("s3://bucket/logs/") && address.contains("this machine alone"), "{address}");
        assert!(!address.contains("secret"), "{address}");
    }

    #[test]
    fn folders_may_be_columns() {
        let found = partitions(Path::new(
            "logs/event_type=add%20to cart/day=2026-01-01/x=__HIVE_DEFAULT_PARTITION__/a=b.parquet",
        ));
        let expected = [("event_type", Some("add to cart")), ("day", Some("2026-01-01")), ("x", None)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_back_end() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a/x.parquet", PARQUET);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
        assert_eq!(names(folder.path(), &["a"]), ["a/again/a/x.parquet", "a/x.parquet"][1..].to_vec());
    }
}
