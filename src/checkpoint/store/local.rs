//! A folder of checkpoints on a local disk.
//!
//! A draft is a folder with a hidden name; it becomes a checkpoint by being renamed to its number. The operating system
//! lets one worker at a time hold the lock, and releases it when the process dies, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::backend::{Backend, DraftFile, DraftId, WritableBackend};
use super::retention::{Pinned, expired};
use super::{LINEAGE, disk, is_lineage, number_in};
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{FileEntry, MANIFEST, Manifest};
use crate::checkpoint::reader::manifest_from;
use crate::checkpoint::{Checkpoint, CheckpointError};

const LOCK: &str = ".lock";
const DRAFT_PREFIX: &str = ".draft-";
/// Bytes written to the disk at a time.
const BUFFER: usize = 1 << 20;

/// A folder of checkpoints, to be read.
#[derive(Debug, Clone)]
pub(super) struct LocalBackend {
    /// Path of the folder.
    pub dir: PathBuf,
}

impl LocalBackend {
    /// The folder of a checkpoint.
    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}"))
    }
}

impl Backend for LocalBackend {
    fn address(&self) -> &Path {
        &self.dir
    }

    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
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

    fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError> {
        manifest_in(&self.path(number))
    }

    fn lineage_marker(&self, number: u64) -> Option<String> {
        let text = fs::read_to_string(self.path(number).join(LINEAGE)).ok()?;
        Some(text.trim_end().to_owned()).filter(|text| is_lineage(text))
    }

    fn fetch(&self, number: u64) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_folder(&self.path(number))
    }

    fn acquire(self: Box<Self>) -> Result<Box<dyn WritableBackend>, CheckpointError> {
        Ok(Box::new(LockedLocalBackend::lock(*self)?))
    }
}

/// The manifest in the folder `path`.
pub(in crate::checkpoint) fn manifest_in(path: &Path) -> Result<Manifest, CheckpointError> {
    let file = path.join(MANIFEST);
    let text = fs::read(&file).map_err(|error| CheckpointError::damaged(&file, error))?;
    manifest_from(&text, path)
}

/// A folder of checkpoints that this worker has locked.
#[derive(Debug)]
struct LockedLocalBackend {
    folder: LocalBackend,
    // The lock is released when the file is closed.
    _lock: File,
}

impl LockedLocalBackend {
    /// Locks `folder`, making it where it is missing, and removes the drafts that a dead worker left behind.
    fn lock(folder: LocalBackend) -> Result<Self, CheckpointError> {
        let dir = &folder.dir;
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
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Locked { dir: dir.clone() }),
            Err(TryLockError::Error(source)) if is_without_locks(&source) => {
                return Err(CheckpointError::NoLocks { dir: dir.clone(), source });
            }
            Err(TryLockError::Error(source)) => return Err(CheckpointError::io(&path, "lock")(source)),
        }
        for entry in fs::read_dir(dir).map_err(CheckpointError::io(dir, "list"))? {
            let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT_PREFIX) {
                disk::remove_folder(&entry.path()).map_err(CheckpointError::io(entry.path(), "remove"))?;
            }
        }
        Ok(Self { folder, _lock: lock })
    }

    fn draft_path(&self, draft: &DraftId) -> PathBuf {
        self.folder.dir.join(&draft.folder)
    }

    /// Writes the manifest as the last file of the draft in `path`.
    fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), CheckpointError> {
        let path = path.join(MANIFEST);
        let mut file = LocalDraftFile::create(path.clone())?;
        let written = file.write_all(manifest.to_text().as_bytes()).and_then(|()| failpoint::reach("file"));
        written.map_err(CheckpointError::io(&path, "write"))?;
        file.flush_to_disk()?;
        failpoint::reach("flushed").map_err(CheckpointError::io(&path, "flush"))
    }

    /// Makes the draft in `draft` the checkpoint `number`.
    fn publish(&self, draft: &Path, number: u64, manifest: &Manifest) -> Result<PathBuf, CheckpointError> {
        Self::write_manifest(draft, manifest)?;
        disk::flush_folder(draft).map_err(CheckpointError::io(draft, "flush the folder"))?;
        let path = self.folder.path(number);
        failpoint::reach("commit").map_err(CheckpointError::io(&path, "rename"))?;
        match disk::rename(draft, &path) {
            Ok(()) => {}
            Err(_) if path.exists() => return Err(CheckpointError::NumberTaken { path }),
            Err(source) => return Err(CheckpointError::io(&path, "rename")(source)),
        }
        let dir = &self.folder.dir;
        failpoint::reach("committed").map_err(CheckpointError::io(dir, "flush the folder"))?;
        disk::flush_folder(dir).map_err(CheckpointError::io(dir, "flush the folder"))?;
        Ok(path)
    }
}

impl WritableBackend for LockedLocalBackend {
    fn reader(&self) -> &dyn Backend {
        &self.folder
    }

    fn ensure_owned(&self) -> Result<(), CheckpointError> {
        // Nobody can take a lock of the operating system away.
        Ok(())
    }

    fn next_number(&self) -> Result<u64, CheckpointError> {
        Ok(self.folder.numbers()?.last().map_or(1, |last| last + 1))
    }

    fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError> {
        Ok(!self.folder.numbers()?.is_empty())
    }

    fn claim(&self, _number: u64, _restored: &Manifest) -> Result<bool, CheckpointError> {
        // The lock keeps everybody else from committing.
        Ok(true)
    }

    fn begin(&self) -> Result<DraftId, CheckpointError> {
        let number = self.next_number()?;
        let draft = DraftId { number, folder: format!("{DRAFT_PREFIX}{number:010}") };
        let path = self.draft_path(&draft);
        disk::remove_folder(&path).map_err(CheckpointError::io(&path, "remove"))?;
        disk::create_folder(&path).map_err(CheckpointError::io(&path, "create the folder"))?;
        Ok(draft)
    }

    fn create(&self, draft: &DraftId, name: &str) -> Result<Box<dyn DraftFile>, CheckpointError> {
        Ok(Box::new(LocalDraftFile::create(self.draft_path(draft).join(name))?))
    }

    fn commit(&self, draft: &DraftId, manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        let path = self.draft_path(draft);
        // Once the folder has its number, there is nothing left to remove.
        self.publish(&path, draft.number, &manifest).inspect_err(|_| drop(disk::remove_folder(&path)))
    }

    fn discard(&self, draft: &DraftId, _files: &[FileEntry]) {
        // What stays is removed at the next start.
        let _ = disk::remove_folder(&self.draft_path(draft));
    }

    fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError> {
        let numbers = self.folder.numbers()?;
        for number in expired(numbers.into_iter().map(|number| (number, None::<()>)), keep, pinned) {
            // Renamed first, so that one which dies halfway is no checkpoint any more.
            let path = self.folder.path(number);
            let doomed = self.folder.dir.join(format!("{DRAFT_PREFIX}old-{number:010}"));
            disk::rename(&path, &doomed).map_err(CheckpointError::io(&path, "rename"))?;
            failpoint::reach("prune").map_err(CheckpointError::io(&doomed, "remove"))?;
            disk::remove_folder(&doomed).map_err(CheckpointError::io(&doomed, "remove"))?;
        }
        Ok(())
    }
}

/// A file of a draft on the disk.
#[derive(Debug)]
struct LocalDraftFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl LocalDraftFile {
    fn create(path: PathBuf) -> Result<Self, CheckpointError> {
        let file = disk::create_file(&path).map_err(CheckpointError::io(&path, "create"))?;
        Ok(Self { path, file: BufWriter::with_capacity(BUFFER, file) })
    }

    fn flush_to_disk(self) -> Result<(), CheckpointError> {
        let Self { path, file } = self;
        let file = file.into_inner().map_err(|error| CheckpointError::io(&path, "write")(error.into_error()))?;
        disk::flush_file(&file, &path).map_err(CheckpointError::io(&path, "flush"))
    }
}

impl Write for LocalDraftFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DraftFile for LocalDraftFile {
    fn finish(self: Box<Self>) -> Result<Option<String>, CheckpointError> {
        self.flush_to_disk()?;
        Ok(None)
    }
}

/// Whether a lock failed because the file system supports none, as some network file systems do.
fn is_without_locks(error: &io::Error) -> bool {
    const ENOLCK: i32 = 37;
    const ENOSYS: i32 = 38;
    const EOPNOTSUPP: i32 = 95;
    error.kind() == ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(ENOLCK | ENOSYS | EOPNOTSUPP))
}
