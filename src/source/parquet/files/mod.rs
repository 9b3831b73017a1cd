//! Which files are a log: what the names on the command line stand for, and what is passed over in folders.
//!
//! A file that is named is a log, whatever it is called. Of a folder, and of what a pattern matches, those files are that end as
//! Parquet does, or that are Parquet by their first and last bytes; where there are none, those that end as CSV or JSON lines
//! do, compressed or not. As other programs have it, names that begin with `_` or
//! `.` are no data (what Spark has not committed, the metadata of tables, what macOS leaves behind), and folders named
//! `column=value` are columns. Files come in the order of their names, in which numbers count as numbers. All that holds for
//! the objects of a bucket too, whose keys are read as paths. A web server lists nothing: there, each file is named.
//!
//! | module | holds |
//! | --- | --- |
//! | `address` | where a name points |
//! | `folder` | logs of this machine |
//! | `bucket` | logs among the objects of a bucket |
//! | `web` | a log of a web server |
//! | `network` | what leads to other machines |
//! | `names` | what names tell: data or not, columns, order |
//! | `content` | what the first and last bytes tell |
//! | `beside` | what lies beside logs, for a person |

mod address;
mod beside;
#[cfg(feature = "s3")]
mod bucket;
mod content;
mod folder;
mod names;
#[cfg(feature = "s3")]
mod network;
#[cfg(feature = "http")]
mod web;

use std::path::PathBuf;

use self::address::LogAddress;
use self::beside::Beside;
pub(super) use self::content::{Storage, TextKind, storage, text_kind};
pub(super) use self::names::partitions;
use super::bytes::LogPlace;
use super::{NetworkOptions, ParquetLogError};

/// A file that is a log.
#[derive(Debug, Clone)]
pub(super) struct FoundLog {
    /// The path; of a file on another machine its address, without what may be secret in it.
    pub(super) path: PathBuf,
    pub(super) place: LogPlace,
}

/// The files that some names stand for, and what a person should know of the others.
#[derive(Debug, Default)]
pub(super) struct FoundLogs {
    pub(super) logs: Vec<FoundLog>,
    /// Sentences for the log of the program.
    pub(super) remarks: Vec<String>,
}

/// Finds the files that `patterns` name: a file itself, a folder's logs at any depth, or what a pattern matches.
#[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "the options are those of other machines"))]
pub(super) fn expand(patterns: &[String], options: &NetworkOptions) -> Result<FoundLogs, ParquetLogError> {
    let mut found = FoundLogs::default();
    #[cfg(feature = "s3")]
    let mut network = network::Network::new(options);
    for pattern in patterns {
        let mut beside = Beside::default();
        let (shown, mut logs): (String, Vec<FoundLog>) = match LogAddress::parse(pattern)? {
            LogAddress::Local(pattern) => {
                let mut paths = Vec::new();
                folder::find(pattern, &mut paths, &mut beside)?;
                let logs = paths.into_iter().map(|path| FoundLog { path, place: LogPlace::Disk }).collect();
                (pattern.to_owned(), logs)
            }
            #[cfg(feature = "s3")]
            LogAddress::Bucket(address) => {
                (address.to_string(), bucket::find(&address, &network.bucket(&address)?, &mut beside)?)
            }
            #[cfg(feature = "http")]
            LogAddress::Web(address) => (address::shown(address), vec![web::find(address, &network.client()?)?]),
            #[cfg(not(feature = "http"))]
            other => return Err(other.refused(pattern)),
        };
        beside.keep_one_storage(&mut logs);
        logs.sort_by(|a, b| names::natural_order(&a.path, &b.path));
        if logs.is_empty() {
            return Err(not_found(&shown, &beside.instead()));
        }
        found.logs.append(&mut logs);
        found.remarks.extend(beside.remarks(&shown));
    }
    Ok(found)
}

fn not_found(pattern: &str, reason: &str) -> ParquetLogError {
    ParquetLogError::NotFound { pattern: pattern.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn found(patterns: &[String]) -> Result<FoundLogs, ParquetLogError> {
        expand(patterns, &NetworkOptions::default())
    }

    fn names(folder: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| folder.join(pattern).display().to_string()).collect();
        let found = found(&patterns).unwrap().logs;
        found.iter().map(|log| log.path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    const PARQUET: &[u8] = b"PAR1 something PAR1";

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
        let found = found(&[folder.join("day").display().to_string()]).unwrap();
        let said = found.remarks.join("\n");
        for word in ["more.csv", "part-4.parquet", "part-3.parquet.tmp", "Delta"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("README"), "{said}");
    }

    #[test]
    fn folders_without_parquet_hold_text() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in ["a.csv", "b.tsv.gz", "c.jsonl", "d.JSON.zst", "e.csv.bz2.tmp", "README.txt", "LICENSE"] {
            write(folder, &format!("t/{name}"), b"user_id,item_id\n");
        }
        assert_eq!(names(folder, &["t"]), ["t/a.csv", "t/b.tsv.gz", "t/c.jsonl", "t/d.JSON.zst"]);
        write(folder, "t/e.parquet", PARQUET);
        assert_eq!(names(folder, &["t"]), ["t/e.parquet"], "what lies beside Parquet may be the same once more");
        assert_eq!(names(folder, &["t/README.txt", "t/a.csv"]), ["t/README.txt", "t/a.csv"], "what is named is meant");
    }

    #[test]
    fn what_is_not_found_is_told_with_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, "avro/a.avro", b"Obj\x01");
        write(folder, "empty/a.parquet", b"");
        let told = |pattern: String| found(&[pattern]).unwrap_err().to_string();
        assert!(told(folder.join("avro").display().to_string()).contains("an Avro file"));
        assert!(told(folder.join("empty").display().to_string()).contains("0 bytes"));
        assert!(told(folder.join("nothing*").display().to_string()).contains("nothing is there"));
    }
}
