//! Changes to the disk and flushes of a checkpoint folder: every one goes through here, so that a test can tell what a
//! power cut would leave.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a folder. Its name is durable once its parent folder is flushed.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    note(|| DiskChange::Folder(path.to_owned()));
    Ok(())
}

/// Makes a file, which must not exist yet.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let file = File::create_new(path)?;
    note(|| DiskChange::File(path.to_owned()));
    Ok(file)
}

/// Makes the content of a file durable. Its name is durable once its folder is flushed.
pub(super) fn flush_file(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    note(|| DiskChange::FlushFile(path.to_owned()));
    Ok(())
}

/// Makes the names in a folder durable, renamed ones included.
pub(super) fn flush_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    note(|| DiskChange::FlushFolder(path.to_owned()));
    Ok(())
}

/// Gives a folder another name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    note(|| DiskChange::Rename(from.to_owned(), to.to_owned()));
    Ok(())
}

/// Removes a folder and everything in it; a folder that does not exist is no fault.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    note(|| DiskChange::Remove(path.to_owned()));
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A pointer that was being moved.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        outcome => outcome,
    }
}

/// A change to the disk, as the journal of a test records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiskChange {
    Folder(std::path::PathBuf),
    File(std::path::PathBuf),
    FlushFile(std::path::PathBuf),
    FlushFolder(std::path::PathBuf),
    Rename(std::path::PathBuf, std::path::PathBuf),
    Remove(std::path::PathBuf),
}

#[cfg(not(test))]
fn note(_change: impl FnOnce() -> DiskChange) {}

#[cfg(test)]
use journal::note;

#[cfg(test)]
pub(super) mod journal {
    use std::cell::RefCell;

    use super::DiskChange;

    /// Changes in the order of time, each flush of a file with the file's content.
    pub type Journal = Vec<(DiskChange, Vec<u8>)>;

    thread_local! {
        static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
    }

    pub(super) fn note(change: impl FnOnce() -> DiskChange) {
        JOURNAL.with_borrow_mut(|journal| {
            if let Some(journal) = journal {
                let change = change();
                let content = match &change {
                    DiskChange::FlushFile(path) => std::fs::read(path).expect("it was just written"),
                    _ => Vec::new(),
                };
                journal.push((change, content));
            }
        });
    }

    /// Runs `work` and returns what this thread did to the disk meanwhile.
    pub fn recorded<T>(work: impl FnOnce() -> T) -> (T, Journal) {
        JOURNAL.set(Some(Vec::new()));
        let outcome = work();
        (outcome, JOURNAL.take().unwrap_or_default())
    }

    /// The number of changes that were recorded so far.
    pub fn length() -> usize {
        JOURNAL.with_borrow(|journal| journal.as_ref().map_or(0, Vec::len))
    }
}
