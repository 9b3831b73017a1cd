//! \[7\] Checkpoints: durable state, in folders that appear whole or not at all.
//!
//! ```text
//! DIR/0000000042/manifest.json    what it is, where the sources stand, sizes and checksums of the other files
//! DIR/0000000042/items.parquet    the embeddings, for everybody
//! DIR/0000000042/…                whatever else is needed to go on as if never stopped
//! ```
//!
//! | step | what makes it durable |
//! | --- | --- |
//! | data files are written under a temporary name of the folder | each is flushed to the disk |
//! | the manifest is written, the last file of the folder | it and the folder are flushed |
//! | the folder gets its number | renaming fails where that number is taken; the parent folder is flushed |
//!
//! So a folder with a number holds a complete checkpoint, and whatever dies before leaves only a temporary name, which
//! the next start sweeps away. Reading verifies every size and checksum over the bytes before anything is parsed:
//! Parquet itself would hand out altered pages without a word.

pub mod columns;
pub mod manifest;
pub mod store;

use std::path::PathBuf;

/// What can go wrong with checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("checkpoint {}: cannot {action}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file is not what the manifest says, or cannot be what it should be.
    #[error("checkpoint file {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There are checkpoints, but none can be used.
    #[error("none of the {} checkpoints in {} is intact; the newest: {newest}", count, dir.display())]
    NoneIntact {
        /// The folder of checkpoints.
        dir: PathBuf,
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<CheckpointError>,
    },
    /// Nothing of that name, or no checkpoint in it.
    #[error("no checkpoint at {}", path.display())]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// Made by a newer version.
    #[error("checkpoint {} has format {found}, this version reads up to {known}", path.display())]
    Newer {
        /// The checkpoint.
        path: PathBuf,
        /// Its format version.
        found: u64,
        /// The newest that can be read.
        known: u32,
    },
    /// Another worker uses the folder.
    #[error("checkpoint folder {} is in use by another worker", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The number of the next checkpoint was taken meanwhile.
    #[error("checkpoint {} exists already: another worker writes here", path.display())]
    Taken {
        /// The folder that was to be made.
        path: PathBuf,
    },
    /// Another worker of the group reads what is in it.
    #[error("checkpoint {} is not this worker's any more: {cause}", path.display())]
    Overtaken {
        /// The checkpoint.
        path: PathBuf,
        /// Where and by whom.
        cause: String,
    },
    /// Made with a configuration that this one cannot go on from.
    #[error(
        "checkpoint {} was made with another configuration: {differences}; go on with that, name another checkpoint.dir, or begin anew with --fresh",
        path.display()
    )]
    OtherConfiguration {
        /// The checkpoint.
        path: PathBuf,
        /// Keys with both values.
        differences: String,
    },
}

impl CheckpointError {
    fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    fn damaged(path: impl Into<PathBuf>, problem: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), problem: problem.to_string() }
    }
}
