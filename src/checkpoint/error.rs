//! What can go wrong with checkpoints.

use std::io::ErrorKind;
use std::path::PathBuf;

/// What can go wrong with checkpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused an operation on a file or folder.
    #[error("checkpoint {}: cannot {action}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The content of a file is not what the manifest says, or makes no sense.
    #[error("checkpoint file {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There are checkpoints, but none is intact.
    #[error(
        "none of the {} checkpoints in {} is intact and this worker's own; the newest: {newest}{}",
        count, dir.display(), of_an_older(older.as_deref())
    )]
    NoneIntact {
        /// The folder of checkpoints.
        dir: PathBuf,
        /// Number of checkpoints.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<CheckpointError>,
        /// Why an older one that is intact cannot stand in for it.
        older: Option<Box<CheckpointError>>,
    },
    /// The path does not exist, or no checkpoint is in it.
    #[error("no checkpoint at {}", path.display())]
    Missing {
        /// The path that was given.
        path: PathBuf,
    },
    /// The checkpoint was written by a version of negstream with another format.
    #[error("checkpoint {} has format {found}, this version reads format {known} alone", path.display())]
    OtherFormat {
        /// The checkpoint.
        path: PathBuf,
        /// The format version of the checkpoint.
        found: u64,
        /// The format version that can be read.
        known: u32,
    },
    /// The newest checkpoints are damaged, and the older ones belong to another run.
    #[error(
        "checkpoint {} cannot be used, and the older ones belong to another run, or cannot be told from one, that \
         --fresh left behind: {newest}; remove it to go on from {}, or begin anew with --fresh",
        path.display(), older.display()
    )]
    OtherRun {
        /// The oldest of the damaged checkpoints.
        path: PathBuf,
        /// The newest checkpoint of another run.
        older: PathBuf,
        /// What is wrong with the newest.
        newest: Box<CheckpointError>,
    },
    /// Another worker owns the place.
    #[error("checkpoint folder {} is in use by another worker", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// Another worker took the place over; this one may not save anything any more.
    #[error("checkpoint folder {} is fenced: another worker took it over (epoch {epoch})", dir.display())]
    Fenced {
        /// The folder.
        dir: PathBuf,
        /// The epoch of the other worker's lease.
        epoch: u64,
    },
    /// The file that holds this worker's lock is gone, or another one is in its place: another worker may be at work there.
    #[error(
        "checkpoint folder {}: the lock that this worker holds is not there any more (its file .lock was removed or replaced); \
         another worker may write here by now, so this one saves nothing more; started again, it goes on from the newest \
         checkpoint",
        dir.display()
    )]
    LockGone {
        /// The folder.
        dir: PathBuf,
    },
    /// The file system supports no locks.
    #[error(
        "checkpoint folder {}: cannot lock it against a second worker: {source}; its file system supports no locks: \
         choose a local one, or an object store (checkpoint.dir = \"s3://…\")",
        dir.display()
    )]
    NoLocks {
        /// The folder.
        dir: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// An object store failed, after all retries.
    #[error("checkpoint {}: cannot {action}: {source}", path.display())]
    ObjectStore {
        /// The object or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The error of the last attempt.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `checkpoint.dir`, or an option of its object store, is not valid.
    #[error("checkpoint folder {}: {problem}", dir.display())]
    InvalidLocation {
        /// The location as it was configured, without what may be a secret.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else committed a checkpoint under the number that this one was to get.
    #[error("checkpoint {} exists already: another worker writes here", path.display())]
    NumberTaken {
        /// The address under which the checkpoint was to appear.
        path: PathBuf,
    },
    /// The checkpoint holds partitions that another worker of the group reads by now.
    #[error("checkpoint {} is not this worker's any more: {cause}", path.display())]
    Overtaken {
        /// The checkpoint.
        path: PathBuf,
        /// The partition and the other worker.
        cause: String,
    },
    /// The checkpoint was made with a configuration whose state this one cannot go on from.
    #[error(
        "checkpoint {} was made with another configuration: {differences}; go on with that, begin anew with --fresh, or name another checkpoint.dir (and, for `run`, another kafka.group: a group is not read twice)",
        path.display()
    )]
    OtherConfiguration {
        /// The checkpoint.
        path: PathBuf,
        /// The keys that differ, with both values.
        differences: String,
    },
}

/// What a message says of a checkpoint that is intact and cannot be used all the same.
fn of_an_older(older: Option<&CheckpointError>) -> String {
    older.map_or_else(String::new, |error| format!("; the newest intact one: {error}"))
}

impl CheckpointError {
    /// Whether an older checkpoint may be restored instead: the fault lies in this checkpoint, neither in the disk or
    /// object store nor in the configuration of whoever wants to read it.
    pub fn permits_fallback(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Overtaken { .. })
    }

    /// Whether another worker took over, so that this one must not go on.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::LockGone { .. })
    }

    pub(super) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    /// The error for a file of a checkpoint, or its folder, that cannot be read. One that is not there is damage; everything else is
    /// a fault of the surroundings, of which the checkpoint knows nothing: with it gone, the file may be whole.
    pub(crate) fn unreadable(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                Self::damaged(path, "it is not there")
            }
            _ => Self::io(path, "read")(error),
        }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, problem: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), problem: problem.to_string() }
    }
}
