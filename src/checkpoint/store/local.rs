//! A folder of checkpoints on a local disk.
//!
//! A draft is a folder with a hidden name; it becomes a checkpoint by being renamed to its number. The operating system
//! lets one worker at a time hold the lock, and lets go of it when the process dies, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

use super::disk;
use super::{Pinned, is_lineage, number_in, verify_file};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{MANIFEST, Manifest};

const LOCK: &str = ".lock";
const DRAFT_PREFIX: &str = ".draft-";
/// Written to the disk at a time.
const BUFFER: usize = 1 << 20;

/// A folder of checkpoints, to be read.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub dir: PathBuf,
}

impl Folder {
    /// Numbers of the checkpoints in it, ascending; none where there is no such folder.
    pub fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let dir = &self.dir;
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CheckpointError::io(dir, "list")(error)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
            numbers.extend(number_in(&entry.file_name().to_string_lossy()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The folder of a checkpoint.
    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}"))
    }

    /// The run that a checkpoint belongs to, as the file beside its manifest tells.
    pub fn lineage(&self, number: u64) -> Option<String> {
        let text = fs::read_to_string(self.path(number).join(super::LINEAGE)).ok()?;
        Some(text.trim_end().to_owned()).filter(|text| is_lineage(text))
    }
}

/// The manifest in the folder `path`.
pub(super) fn manifest(path: &Path) -> Result<Manifest, CheckpointError> {
    let place = path.join(MANIFEST);
    let text = fs::read(&place).map_err(|error| CheckpointError::damaged(&place, error))?;
    super::manifest_from(&text, path)
}

/// Verifies every file in the folder `path` against its manifest.
pub(super) fn verify(path: &Path) -> Result<Manifest, CheckpointError> {
    let manifest = manifest(path)?;
    for entry in &manifest.files {
        verify_file(&path.join(&entry.name), entry)?;
    }
    Ok(manifest)
}

/// A folder of checkpoints, held by this worker alone.
#[derive(Debug)]
pub(super) struct Local {
    pub folder: Folder,
    // Held for as long as this lives.
    _lock: File,
}

impl Local {
    /// Opens `dir`, making it where it is missing, and sweeps away what an earlier worker left unfinished.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(dir).map_err(CheckpointError::io(dir, "create the folder"))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(CheckpointError::io(&path, "open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) if knows_no_locks(&source) => {
                return Err(CheckpointError::NoLocks { dir: dir.to_owned(), source });
            }
            Err(TryLockError::Error(source)) => return Err(CheckpointError::io(&path, "lock")(source)),
        }
        for entry in fs::read_dir(dir).map_err(CheckpointError::io(dir, "list"))? {
            let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT_PREFIX) {
                disk::remove_folder(&entry.path()).map_err(CheckpointError::io(entry.path(), "remove"))?;
            }
        }
        Ok(Self { folder: Folder { dir: dir.to_owned() }, _lock: lock })
    }

    /// Begins a checkpoint: its number, and the folder of its files.
    pub fn begin(&self) -> Result<(u64, PathBuf), CheckpointError> {
        let number = self.folder.numbers()?.last().map_or(1, |last| last + 1);
        let path = self.folder.dir.join(format!("{DRAFT_PREFIX}{number:010}"));
        disk::remove_folder(&path).map_err(CheckpointError::io(&path, "remove"))?;
        disk::create_folder(&path).map_err(CheckpointError::io(&path, "create the folder"))?;
        Ok((number, path))
    }

    /// Makes the draft in `draft`, whose manifest is written, the checkpoint `number`.
    pub fn commit(&self, draft: &Path, number: u64) -> Result<PathBuf, CheckpointError> {
        disk::flush_folder(draft).map_err(CheckpointError::io(draft, "flush the folder"))?;
        let path = self.folder.path(number);
        failpoint::reach("commit").map_err(CheckpointError::io(&path, "rename"))?;
        match disk::rename(draft, &path) {
            Ok(()) => {}
            Err(_) if path.exists() => return Err(CheckpointError::PendingEvent { path }),
            Err(source) => return Err(CheckpointError::io(&path, "rename")(source)),
        }
        let dir = &self.folder.dir;
        failpoint::reach("committed").map_err(CheckpointError::io(dir, "flush the folder"))?;
        disk::flush_folder(dir).map_err(CheckpointError::io(dir, "flush the folder"))?;
        Ok(path)
    }

    /// Removes all but the `keep` newest checkpoints and those `spared`.
    pub fn prune(&self, keep: usize, spared: &Pinned) -> Result<(), CheckpointError> {
        let numbers = self.folder.numbers()?;
        let old = &numbers[..numbers.len().saturating_sub(keep)];
        for number in old.iter().filter(|number| !spared.has(**number)) {
            // Renamed first, so that one which dies halfway is no checkpoint any more.
            let path = self.folder.path(*number);
            let doomed = self.folder.dir.join(format!("{DRAFT_PREFIX}old-{number:010}"));
            disk::rename(&path, &doomed).map_err(CheckpointError::io(&path, "rename"))?;
            failpoint::reach("prune").map_err(CheckpointError::io(&doomed, "remove"))?;
            disk::remove_folder(&doomed).map_err(CheckpointError::io(&doomed, "remove"))?;
        }
        Ok(())
    }
}

/// A file of a draft, while it is written.
pub(super) fn create(path: &Path) -> Result<BufWriter<File>, CheckpointError> {
    let file = disk::create_file(path).map_err(CheckpointError::io(path, "create"))?;
    Ok(BufWriter::with_capacity(BUFFER, file))
}

/// Makes a file of a draft durable.
pub(super) fn finish(file: BufWriter<File>, path: &Path) -> Result<(), CheckpointError> {
    let file = file.into_inner().map_err(|error| CheckpointError::io(path, "write")(error.into_error()))?;
    disk::flush_file(&file, path).map_err(CheckpointError::io(path, "flush"))
}

/// Whether a lock failed because there is no such thing where the file is, as on some network file systems.
fn knows_no_locks(error: &io::Error) -> bool {
    const ENOLCK: i32 = 37;
    const ENOSYS: i32 = 38;
    const EOPNOTSUPP: i32 = 95;
    error.kind() == ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(ENOLCK | ENOSYS | EOPNOTSUPP))
}
