//! The seam between checkpoints and where they are kept: what a folder on a disk, a prefix of an object store and the
//! double of the tests promise alike.
//!
//! | trait | stands for | how many at a time |
//! | --- | --- | --- |
//! | [`Backend`] | a place whose checkpoints can be read | any number |
//! | [`WritableBackend`] | the same place, owned by one worker, which may add and remove checkpoints | one |
//! | [`DraftFile`] | a file of a checkpoint that is being written | one a draft |
//!
//! None of the methods has a default: a backend that leaves one out does not compile.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::retention::Pinned;
use crate::checkpoint::manifest::{FileEntry, Manifest};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// A place where checkpoints are kept, to be read.
///
/// Reading needs no permission: any number of processes may read while one writes. Each of them sees the checkpoint
/// before a commit or the one after it, never a half.
pub trait Backend: std::fmt::Debug + Send + Sync {
    /// The place as people call it: a path, or a URL. Errors and logs name files below it.
    fn address(&self) -> &Path;

    /// The numbers of the checkpoints, ascending; empty where the place does not exist yet.
    ///
    /// A number is listed if and only if its commit took effect and it was not removed since. Whether its files are
    /// intact is for [`Self::fetch`] to tell.
    ///
    /// # Errors
    /// Where disk or object store refuse.
    fn numbers(&self) -> Result<Vec<u64>, CheckpointError>;

    /// The manifest of the checkpoint `number`, its own checksum verified, the other files unread.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] where it is missing or altered, [`CheckpointError::OtherFormat`] where this version
    /// cannot read it; what disk or object store say.
    fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError>;

    /// The run that the checkpoint `number` belongs to, as the file beside its manifest tells. It is asked only where
    /// the manifest cannot be read; `None` where this file does not tell either.
    fn lineage_marker(&self, number: u64) -> Option<String>;

    /// The checkpoint `number`, readable on this machine. Size and checksum of every file were compared with the manifest
    /// before this returns.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] for the first file that is not what the manifest says; what disk or object store say.
    fn fetch(&self, number: u64) -> Result<Checkpoint, CheckpointError>;

    /// The number of the checkpoint that programs are pointed to which load what was learnt: the newest that holds any item.
    /// `None` where nobody was pointed to any yet.
    ///
    /// # Errors
    /// What disk or object store say.
    fn latest(&self) -> Result<Option<u64>, CheckpointError>;

    /// Becomes the only writer of the place, making it where it is missing, until the result is dropped, or its process
    /// dies. Drafts that a dead worker left behind are removed, now or by a later [`WritableBackend::prune`].
    ///
    /// # Errors
    /// [`CheckpointError::Locked`] where another worker is at work there, [`CheckpointError::Fenced`] where one was faster;
    /// what disk or object store say.
    fn acquire(self: Box<Self>) -> Result<Box<dyn WritableBackend>, CheckpointError>;
}

/// A place where checkpoints are kept, owned by this worker alone.
///
/// A draft goes through [`Self::begin`], then [`Self::create`] for each file, then [`Self::commit`] or [`Self::discard`].
/// A process may die between any two of these: the checkpoints that were committed before are all that is seen.
pub trait WritableBackend: std::fmt::Debug + Send + Sync {
    /// The same place, to be read.
    fn reader(&self) -> &dyn Backend;

    /// Whether this worker still owns the place, as far as is known without asking anybody.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] where another worker took over: from then on nothing is written.
    fn ensure_owned(&self) -> Result<(), CheckpointError>;

    /// The number that the next checkpoint is to get: above every number that is listed now.
    ///
    /// # Errors
    /// Where disk or object store refuse.
    fn next_number(&self) -> Result<u64, CheckpointError>;

    /// Whether a run that begins anew has to commit a checkpoint before it trains anything: beside older checkpoints, lest
    /// a restart go on from those; in an object store always, so that a worker that was taken for dead finds its next
    /// number taken.
    ///
    /// # Errors
    /// Where disk or object store refuse.
    fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError>;

    /// Declares that this worker goes on from the checkpoint whose manifest is `restored`, which was the newest when
    /// `number` was the next number. Once this has returned `true`, no earlier owner can commit any more. It returns
    /// `false` where an earlier owner committed in between: then the newest checkpoint has to be looked for again.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`]; what disk or object store say.
    fn claim(&self, number: u64, restored: &Manifest) -> Result<bool, CheckpointError>;

    /// Begins a draft. Its files are seen by no reader before the commit.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`]; what disk or object store say.
    fn begin(&self) -> Result<DraftId, CheckpointError>;

    /// Creates the file `name` of `draft`; a draft has each name once.
    ///
    /// # Errors
    /// What disk or object store say.
    fn create(&self, draft: &DraftId, name: &str) -> Result<Box<dyn DraftFile>, CheckpointError>;

    /// Makes `draft`, whose every file is finished, a checkpoint, and returns its address. Once this has returned, the
    /// checkpoint survives the death of the process and a power cut.
    ///
    /// The draft is over either way: where this fails, whatever of it certainly belongs to no checkpoint is removed.
    ///
    /// # Errors
    /// [`CheckpointError::NumberTaken`] where somebody else committed under the number,
    /// [`CheckpointError::Fenced`]; what disk or object store say.
    fn commit(&self, draft: &DraftId, manifest: Manifest) -> Result<PathBuf, CheckpointError>;

    /// Gives `draft`, of which `files` are finished, up. What cannot be removed now is removed later.
    fn discard(&self, draft: &DraftId, files: &[FileEntry]);

    /// Points programs that load what was learnt to the checkpoint `number`, which is committed. They see the one before, or
    /// this one.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`]; what disk or object store say.
    fn point_latest(&self, number: u64) -> Result<(), CheckpointError>;

    /// Removes what retention does not keep, and what unfinished drafts left behind. A checkpoint ceases to be
    /// listed before the first of its files goes.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`]; what disk or object store say. Checkpoints that stay are whole all the same.
    fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError>;
}

/// A file of a draft, while it is written.
pub trait DraftFile: Write + std::fmt::Debug + Send {
    /// Makes everything that was written durable, and returns the file's key below the backend's address where that is not
    /// the checkpoint's folder. A file that is dropped instead belongs to no checkpoint.
    ///
    /// # Errors
    /// What disk or object store say.
    fn finish(self: Box<Self>) -> Result<Option<String>, CheckpointError>;
}

/// A draft of a [`WritableBackend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftId {
    /// The number that the checkpoint is to get.
    pub number: u64,
    /// Name of the draft's folder (or beginning of its files' keys) below the backend's address.
    pub folder: String,
}
