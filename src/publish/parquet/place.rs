//! Where the files of the sink are: a folder, or a prefix of an object store.
//!
//! A file appears whole, under a number that nobody else has used, or not at all: on a disk by a hard link, in an object store by a
//! conditional put.

use std::fs::{self, File};
use std::io;
#[cfg(feature = "s3")]
use std::io::Seek as _;
use std::path::{Path, PathBuf};

use super::NAME;
use super::file::{FileHead, FileRows};
use crate::publish::SinkError;
use crate::util::encoding::random_id;
use crate::util::file_name::sync_name;

#[cfg(feature = "s3")]
use crate::remote::{bucket::ObjectBucket, error::RemoteError};
#[cfg(feature = "s3")]
use crate::util::temporary::nameless_file;

/// Digits of a file's number in its name.
const DIGITS: usize = 10;

/// The place of the files.
#[derive(Debug)]
pub(super) enum FilePlace {
    /// A folder on this machine.
    Folder(PathBuf),
    /// The keys below a prefix, which ends with a slash.
    #[cfg(feature = "s3")]
    Bucket(ObjectBucket, String),
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct HiddenFile {
    pub file: File,
    /// Its name, where it has one.
    path: Option<PathBuf>,
}

impl Drop for HiddenFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing is lost if it cannot be removed: it is hidden and says that it is unfinished.
            let _ = fs::remove_file(path);
        }
    }
}

fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}.parquet")
}

/// The number in a file's name; an error for a file of Parquet that is none of ours.
fn number_of(name: &str) -> Result<Option<u64>, SinkError> {
    let Some(stem) = name.strip_suffix(".parquet") else { return Ok(None) };
    let is_ours = stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
    if is_ours { Ok(stem.parse().ok()) } else { Err(foreign(name)) }
}

fn foreign(name: &str) -> SinkError {
    SinkError::refused(NAME, format!("its folder holds {name:?}, which negstream has not written; choose another name"))
}

impl FilePlace {
    /// The numbers of the files, ascending.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, SinkError> {
        let mut numbers = Vec::new();
        match self {
            Self::Folder(folder) => {
                let entries = match fs::read_dir(folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
                    entries => entries.map_err(on_disk(folder))?,
                };
                for entry in entries {
                    let name = entry.map_err(on_disk(folder))?.file_name();
                    let name = name.to_string_lossy();
                    if !name.starts_with('.') {
                        numbers.extend(number_of(&name)?);
                    }
                }
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket, prefix) => {
                for object in bucket.list(prefix).map_err(in_store)? {
                    if let Some(name) = object.key().strip_prefix(prefix.as_str()) {
                        numbers.extend(number_of(name)?);
                    }
                }
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A file that is not seen yet.
    pub(super) fn hidden(&self) -> Result<HiddenFile, SinkError> {
        match self {
            Self::Folder(folder) => {
                fs::create_dir_all(folder).map_err(on_disk(folder))?;
                let path = folder.join(format!(".{}.unfinished", random_id()));
                let file = File::options().read(true).write(true).create_new(true).open(&path);
                Ok(HiddenFile { file: file.map_err(on_disk(&path))?, path: Some(path) })
            }
            #[cfg(feature = "s3")]
            Self::Bucket(..) => {
                let folder = std::env::temp_dir();
                Ok(HiddenFile { file: nameless_file().map_err(on_disk(&folder))?, path: None })
            }
        }
    }

    /// Shows a file, which is whole, under `number`; whether nobody else had used it. `writer` is in the file's head.
    #[cfg_attr(not(feature = "s3"), expect(unused_mut, unused_variables, reason = "they are for object stores"))]
    pub(super) fn show(&self, mut hidden: HiddenFile, number: u64, writer: &str) -> Result<bool, SinkError> {
        match (self, &hidden.path) {
            (Self::Folder(folder), Some(path)) => {
                let shown = folder.join(name_of(number));
                hidden.file.sync_all().map_err(on_disk(path))?;
                match fs::hard_link(path, &shown) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                    linked => linked.map_err(on_disk(&shown))?,
                }
                sync_name(&shown).map_err(on_disk(&shown))?;
                Ok(true)
            }
            (Self::Folder(_), None) => Ok(false),
            #[cfg(feature = "s3")]
            (Self::Bucket(bucket, prefix), _) => {
                let mut bytes = Vec::new();
                let file = &mut hidden.file;
                file.rewind().and_then(|()| io::copy(file, &mut bytes)).map_err(on_disk(&std::env::temp_dir()))?;
                let key = format!("{prefix}{}", name_of(number));
                let put = bucket.create(&key, bytes.into());
                if let Ok(true) = put {
                    return Ok(true);
                }
                // An answer that was lost, and somebody else's file, look alike from here: what stands there decides.
                match (put, self.open(number)) {
                    (_, Ok(Some((head, ..)))) => Ok(head.writer == writer),
                    (Err(error), _) => Err(in_store(error)),
                    (Ok(_), Ok(None)) => Ok(false),
                    (Ok(_), Err(error)) => Err(error),
                }
            }
        }
    }

    /// Opens the file of that number; `None` where it is there no more.
    pub(super) fn open(&self, number: u64) -> Result<Option<(FileHead, usize, FileRows)>, SinkError> {
        let name = name_of(number);
        let opened = match self {
            Self::Folder(folder) => {
                let path = folder.join(&name);
                let file = match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    file => file.map_err(on_disk(&path))?,
                };
                FileRows::open(file)
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket, prefix) => match bucket.fetch(&format!("{prefix}{name}")).map_err(in_store)? {
                Some(bytes) => FileRows::open(bytes),
                None => return Ok(None),
            },
        };
        let damaged =
            |error| SinkError::refused(NAME, format!("{name} is damaged ({error}); remove it, or choose another name"));
        opened.map_err(damaged)?.map_or_else(|| Err(foreign(&name)), |opened| Ok(Some(opened)))
    }

    /// Removes the file of that number; one that is not there is no fault.
    pub(super) fn remove(&self, number: u64) -> Result<(), SinkError> {
        let name = name_of(number);
        match self {
            Self::Folder(folder) => match fs::remove_file(folder.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(on_disk(&folder.join(&name))),
            },
            #[cfg(feature = "s3")]
            Self::Bucket(bucket, prefix) => bucket.delete(&format!("{prefix}{name}")).map_err(in_store),
        }
    }
}

/// An error of a disk, at `path`.
pub(super) fn on_disk(path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    use io::ErrorKind as Kind;
    let path = path.display().to_string();
    move |error| match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            SinkError::refused(NAME, format!("{path}: {error}: its disk is full, give it more room"))
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::NotADirectory => {
            SinkError::refused(NAME, format!("{path}: {error}"))
        }
        _ => SinkError::away(NAME, format!("{path}: {error}")),
    }
}

#[cfg(feature = "s3")]
fn in_store(error: RemoteError) -> SinkError {
    match error {
        RemoteError::Unreachable { .. } | RemoteError::Cut { .. } | RemoteError::Busy { .. } => {
            SinkError::away(NAME, error)
        }
        _ => SinkError::refused(NAME, error),
    }
}
