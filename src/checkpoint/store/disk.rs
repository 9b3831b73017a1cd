//! Every change to the disk, and every flush, goes through here, so that a test can tell what a power cut would leave.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a folder; durable once the folder that it is in is flushed.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    note(|| Change::Folder(path.to_owned()));
    Ok(())
}

/// Makes a file that is not there yet.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let file = File::create_new(path)?;
    note(|| Change::File(path.to_owned()));
    Ok(file)
}

/// Makes what was written to a file durable; the name of the file is its folder's.
pub(super) fn flush_file(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    note(|| Change::FlushFile(path.to_owned()));
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn flush_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    note(|| Change::FlushFolder(path.to_owned()));
    Ok(())
}

/// Gives a folder another name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    note(|| Change::Rename(from.to_owned(), to.to_owned()));
    Ok(())
}

/// Removes a folder and what is in it; one that is not there is no fault.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    note(|| Change::Remove(path.to_owned()));
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// What was done, in the order in which it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Folder(std::path::PathBuf),
    File(std::path::PathBuf),
    FlushFile(std::path::PathBuf),
    FlushFolder(std::path::PathBuf),
    Rename(std::path::PathBuf, std::path::PathBuf),
    Remove(std::path::PathBuf),
}

#[cfg(not(test))]
fn note(_change: impl FnOnce() -> Change) {}

#[cfg(test)]
use journal::note;

#[cfg(test)]
pub(super) mod journal {
    use std::cell::RefCell;

    use super::Change;

    /// Changes, and what was in each file as it was flushed.
    pub type Journal = Vec<(Change, Vec<u8>)>;

    thread_local! {
        static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
    }

    pub(super) fn note(change: impl FnOnce() -> Change) {
        JOURNAL.with_borrow_mut(|journal| {
            if let Some(journal) = journal {
                let change = change();
                let content = match &change {
                    Change::FlushFile(path) => std::fs::read(path).expect("it was just written"),
                    _ => Vec::new(),
                };
                journal.push((change, content));
            }
        });
    }

    /// What this thread does to the disk while `work` runs.
    pub fn recorded<T>(work: impl FnOnce() -> T) -> (T, Journal) {
        JOURNAL.set(Some(Vec::new()));
        let outcome = work();
        (outcome, JOURNAL.take().unwrap_or_default())
    }

    /// How much was recorded so far.
    pub fn length() -> usize {
        JOURNAL.with_borrow(|journal| journal.as_ref().map_or(0, Vec::len))
    }
}
