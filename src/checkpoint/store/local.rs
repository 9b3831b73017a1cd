//! A folder of checkpoints on a local disk.
//!
//! A draft is a folder with a hidden name; it becomes a checkpoint by being renamed to its number. The operating system
//! lets one worker at a time hold the lock, and releases it when the process dies, however it dies. The lock is on the file, not
//! on its name: where somebody removes or replaces that, a second worker may get a lock of its own, so a worker looks whether
//! the name still leads to the file that it holds before it begins, commits or removes anything.
//!
//! Folders of somebody else may have names of ten digits too. They count as checkpoints that are not intact, so that nothing is
//! begun beside them by mistake, and are never removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::backend::{Backend, DraftFile, DraftId, WritableBackend};
use super::retention::{Pinned, expired};
use super::{LATEST, LINEAGE, disk, is_lineage, latest_in, number_in, point_to};
use crate::checkpoint::failpoint;
use crate::checkpoint::file::read_bounded;
use crate::checkpoint::manifest::{FileEntry, LONGEST_MANIFEST, MANIFEST, Manifest, ManifestFault};
use crate::checkpoint::reader::manifest_from;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::util::encoding::random_id;

const LOCK: &str = ".lock";
const DRAFT_PREFIX: &str = ".draft-";
/// No file that tells the run is longer, in bytes.
const LONGEST_LINEAGE: u64 = 128;
/// The highest number that a folder can have.
const LAST_NUMBER: u64 = 9_999_999_999;
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

    /// Whether the folder of this number is a checkpoint that this program has written, damaged or not.
    fn is_ours(&self, number: u64) -> bool {
        let has_manifest = || {
            let text = read_bounded(&self.path(number).join(MANIFEST), LONGEST_MANIFEST).ok()?;
            match Manifest::from_text(&text) {
                Ok(_) | Err(ManifestFault::OtherFormat(_)) => Some(()),
                Err(ManifestFault::Damaged(_)) => None,
            }
        };
        self.lineage_marker(number).is_some() || has_manifest().is_some()
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
        let text = read_bounded(&self.path(number).join(LINEAGE), LONGEST_LINEAGE).ok()?;
        Some(str::from_utf8(&text).ok()?.trim_end().to_owned()).filter(|text| is_lineage(text))
    }

    fn fetch(&self, number: u64) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_folder(&self.path(number))
    }

    fn latest(&self) -> Result<Option<u64>, CheckpointError> {
        let path = self.dir.join(LATEST);
        let unreadable = |error| CheckpointError::io(&path, "read")(error);
        let text = match fs::read_link(&path) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A file system without links has a file with the same text.
            Err(error) if error.kind() == ErrorKind::InvalidInput => match read_bounded(&path, LONGEST_LINEAGE) {
                Ok(text) => String::from_utf8_lossy(&text).into_owned(),
                Err(CheckpointError::Damaged { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(unreadable(error)),
        };
        Ok(latest_in(&text))
    }

    fn acquire(self: Box<Self>) -> Result<Box<dyn WritableBackend>, CheckpointError> {
        Ok(Box::new(LockedLocalBackend::lock(*self)?))
    }
}

/// The manifest in the folder `path`.
pub(in crate::checkpoint) fn manifest_in(path: &Path) -> Result<Manifest, CheckpointError> {
    manifest_from(&read_bounded(&path.join(MANIFEST), LONGEST_MANIFEST)?, path)
}

/// A folder of checkpoints that this worker has locked.
#[derive(Debug)]
struct LockedLocalBackend {
    folder: LocalBackend,
    /// The locked file.
    lock: File,
    /// Whether the name of the lock's file was found to lead elsewhere.
    is_lost: AtomicBool,
}

impl LockedLocalBackend {
    /// Locks `folder`, making it where it is missing, and removes the drafts that a dead worker left behind.
    fn lock(folder: LocalBackend) -> Result<Self, CheckpointError> {
        let dir = &folder.dir;
        fs::create_dir_all(dir).map_err(CheckpointError::io(dir, "create the folder"))?;
        let path = dir.join(LOCK);
        if fs::metadata(&path).is_ok_and(|there| there.file_type().is_fifo()) {
            // To open it would take until somebody reads it.
            return Err(CheckpointError::InvalidLocation {
                dir: dir.clone(),
                problem: "its .lock is no file".to_owned(),
            });
        }
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
        let owned = Self { folder, lock, is_lost: AtomicBool::new(false) };
        let dir = &owned.folder.dir;
        for entry in fs::read_dir(dir).map_err(CheckpointError::io(dir, "list"))? {
            let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
            if is_draft(&entry.file_name().to_string_lossy()) {
                disk::remove_folder(&entry.path()).map_err(CheckpointError::io(entry.path(), "remove"))?;
            }
        }
        owned.check_lock()?;
        let foreign: Vec<u64> =
            owned.folder.numbers()?.into_iter().filter(|number| !owned.folder.is_ours(*number)).collect();
        if let Some(one) = foreign.first() {
            tracing::warn!(
                folder = %owned.folder.path(*one).display(),
                how_many = foreign.len(),
                "named like a checkpoint, but none that negstream has written: left alone"
            );
        }
        Ok(owned)
    }

    /// Checks that the lock's name leads to the file that this worker has locked.
    ///
    /// # Errors
    /// [`CheckpointError::LockGone`] where another file, or none, is there: a second worker may have a lock of its own.
    fn check_lock(&self) -> Result<(), CheckpointError> {
        let path = self.folder.dir.join(LOCK);
        let held = self.lock.metadata().map_err(CheckpointError::io(&path, "look at"))?;
        let is_there = match fs::metadata(&path) {
            Ok(there) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(CheckpointError::io(&path, "look at")(error)),
        };
        if !is_there {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        self.ensure_owned()
    }

    /// Does `work` where this worker has the lock. Where it fails because another worker has swept the folder, the error says so.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
        self.check_lock()?;
        work().map_err(|error| self.check_lock().err().filter(CheckpointError::is_fenced).unwrap_or(error))
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
        self.check_lock()?;
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

impl Drop for LockedLocalBackend {
    fn drop(&mut self) {
        // To close the file is not enough: a process that is being started holds a copy of it until its program is there.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, folder = %self.folder.dir.display(), "the lock of a folder is not released");
        }
    }
}

impl WritableBackend for LockedLocalBackend {
    fn reader(&self) -> &dyn Backend {
        &self.folder
    }

    fn ensure_owned(&self) -> Result<(), CheckpointError> {
        match self.is_lost.load(Ordering::Relaxed) {
            true => Err(CheckpointError::LockGone { dir: self.folder.dir.clone() }),
            false => Ok(()),
        }
    }

    fn next_number(&self) -> Result<u64, CheckpointError> {
        match self.folder.numbers()?.last() {
            Some(&last) if last >= LAST_NUMBER => Err(CheckpointError::InvalidLocation {
                dir: self.folder.dir.clone(),
                problem: format!("its folder {last} has the highest number that there is: name another checkpoint.dir"),
            }),
            last => Ok(last.map_or(1, |last| last + 1)),
        }
    }

    fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError> {
        Ok(!self.folder.numbers()?.is_empty())
    }

    fn claim(&self, _number: u64, _restored: &Manifest) -> Result<bool, CheckpointError> {
        // The lock keeps everybody else from committing.
        Ok(true)
    }

    fn begin(&self) -> Result<DraftId, CheckpointError> {
        self.guarded(|| {
            let number = self.next_number()?;
            // A name of its own, whoever else takes the folder for his.
            let draft = DraftId { number, folder: format!("{DRAFT_PREFIX}{number:010}-{}", random_id()) };
            let path = self.draft_path(&draft);
            disk::create_folder(&path).map_err(CheckpointError::io(&path, "create the folder"))?;
            Ok(draft)
        })
    }

    fn create(&self, draft: &DraftId, name: &str) -> Result<Box<dyn DraftFile>, CheckpointError> {
        self.guarded(|| Ok(Box::new(LocalDraftFile::create(self.draft_path(draft).join(name))?) as Box<dyn DraftFile>))
    }

    fn commit(&self, draft: &DraftId, manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        let path = self.draft_path(draft);
        // Once the folder has its number, there is nothing left to remove.
        let published = self.guarded(|| self.publish(&path, draft.number, &manifest));
        published.inspect_err(|_| drop(disk::remove_folder(&path)))
    }

    fn discard(&self, draft: &DraftId, _files: &[FileEntry]) {
        // What stays is removed at the next start.
        let _ = disk::remove_folder(&self.draft_path(draft));
    }

    fn point_latest(&self, number: u64) -> Result<(), CheckpointError> {
        self.guarded(|| {
            let (dir, path) = (&self.folder.dir, self.folder.dir.join(LATEST));
            if fs::symlink_metadata(&path).is_ok() && self.folder.latest()?.is_none() {
                let problem = "its 'latest' is somebody else's: left alone".to_owned();
                return Err(CheckpointError::InvalidLocation { dir: dir.clone(), problem });
            }
            // A draft's name, so that one which was left behind is swept away.
            let fresh = dir.join(format!("{DRAFT_PREFIX}{number:010}-{}", random_id()));
            let target = point_to(number);
            std::os::unix::fs::symlink(&target, &fresh)
                .or_else(|_| fs::write(&fresh, format!("{target}\n")))
                .and_then(|()| fs::rename(&fresh, &path))
                .inspect_err(|_| drop(fs::remove_file(&fresh)))
                .map_err(CheckpointError::io(&path, "point to the newest checkpoint"))
        })
    }

    fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError> {
        self.check_lock()?;
        let mut numbers = self.folder.numbers()?;
        numbers.retain(|number| self.folder.is_ours(*number));
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

/// Whether a folder of this name is a draft, or a checkpoint that was being removed.
fn is_draft(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(DRAFT_PREFIX) else { return false };
    let rest = rest.strip_prefix("old-").unwrap_or(rest);
    let (number, id) = rest.split_at_checked(10).unwrap_or((rest, ""));
    number_in(number).is_some() && (id.is_empty() || id.strip_prefix('-').is_some_and(is_lineage))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_free_once_released_though_a_process_that_is_starting_has_a_copy_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || LocalBackend { dir: dir.path().to_owned() };
        let owned = LockedLocalBackend::lock(folder()).unwrap();
        let copy = owned.lock.try_clone().unwrap();
        assert!(matches!(LockedLocalBackend::lock(folder()), Err(CheckpointError::Locked { .. })));
        drop(owned);
        drop(LockedLocalBackend::lock(folder()).unwrap());
        drop(copy);
    }
}
