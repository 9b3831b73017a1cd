//! Logs of this machine: a file, a folder's at any depth, or what a pattern matches.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::beside::Beside;
use super::content::look;
use super::names::{NameClaim, is_hidden, is_pattern};
use super::not_found;
use crate::source::parquet::bytes::LogPlace;
use crate::source::parquet::{ParquetLogError, unreadable};

/// Adds the logs that a name stands for.
pub(super) fn find(pattern: &str, logs: &mut Vec<PathBuf>, beside: &mut Beside) -> Result<(), ParquetLogError> {
    let path = Path::new(pattern);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => walk(path, &mut Vec::new(), logs, beside),
        Ok(meta) if meta.is_file() => {
            logs.push(path.to_owned());
            Ok(())
        }
        Ok(_) => Err(not_found(pattern, "it is neither a file nor a folder: logs are read from files")),
        // A name that is none may be a pattern.
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_pattern(pattern) => matches(pattern, logs, beside),
        Err(error) => Err(unreadable(path, error.into())),
    }
}

/// Adds the file if it is a log.
fn add(path: PathBuf, logs: &mut Vec<PathBuf>, beside: &mut Beside) -> Result<(), ParquetLogError> {
    let length = match (fs::metadata(&path), NameClaim::of(&path)) {
        (Ok(meta), _) if !meta.is_file() => return Ok(()),
        (Ok(meta), _) => meta.len(),
        (Err(error), NameClaim::Log | NameClaim::Text) => return Err(unreadable(&path, error.into())),
        (Err(_), NameClaim::Unfinished) => 0,
        (Err(_), NameClaim::OtherData | NameClaim::Nothing) => {
            beside.add_unreadable(&path);
            return Ok(());
        }
    };
    // One that cannot be looked into, and does not claim to be a log, is none.
    let kind = || Ok(LogPlace::Disk.open(&path).and_then(|bytes| look(&bytes)).ok());
    if beside.add(&path, length, kind).map_err(|error| unreadable(&path, error.into()))? {
        logs.push(path);
    }
    Ok(())
}

/// Adds the logs of a folder, at any depth. `around` are the folders on the way, as they are on the disk.
fn walk(
    folder: &Path,
    around: &mut Vec<PathBuf>,
    logs: &mut Vec<PathBuf>,
    beside: &mut Beside,
) -> Result<(), ParquetLogError> {
    let unlisted = |error: io::Error| unreadable(folder, error.into());
    let real = fs::canonicalize(folder).map_err(unlisted)?;
    if around.contains(&real) {
        // A link that leads back to where it is.
        return Ok(());
    }
    for (mark, table) in [("_delta_log", "Delta"), (".hoodie", "Hudi")] {
        if folder.join(mark).is_dir() {
            beside.add_table(table, folder);
        }
    }
    let is_iceberg = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".metadata.json");
    if fs::read_dir(folder.join("metadata"))
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_iceberg(&entry.file_name()))))
    {
        beside.add_table("Iceberg", folder);
    }
    around.push(real);
    // A folder that cannot be looked into is no reason to leave its files out in silence.
    for entry in fs::read_dir(folder).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_hidden(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, around, logs, beside)?;
        } else {
            add(path, logs, beside)?;
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
    let fixed: usize =
        Path::new(pattern).components().take_while(|part| !is_pattern(&part.as_os_str().to_string_lossy())).count();
    let mut matched = Vec::new();
    for found in matches {
        let path = found.map_err(|error| unreadable(error.path(), error.error().to_string().into()))?;
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
            add(path, &mut matched, beside)?;
        }
    }
    // A folder and a file in it may both have matched.
    matched.sort();
    matched.dedup();
    logs.extend(matched);
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_back_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/x.parquet"), b"PAR1 something PAR1").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
        let mut logs = Vec::new();
        find(folder.path().join("a").to_str().unwrap(), &mut logs, &mut Beside::default()).unwrap();
        assert_eq!(logs, [folder.path().join("a/x.parquet")]);
    }
}
