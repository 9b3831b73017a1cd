//! The errors of a pipeline.

use std::io;

use crate::catalogue::CatalogueError;
use crate::checkpoint::CheckpointError;
use crate::dead_letters::DeadLetterError;
use crate::publish::SinkError;
use crate::source::SourceError;

/// An error that keeps a pipeline from being built, or ends its run early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The source failed for good. What was trained is saved, unless the records belong to another worker by now.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A checkpoint that had to succeed could not be written, or no usable one could be restored.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A rejected record could not be kept.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The catalogue of items (`features.catalogue`) could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The model diverged.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// Too large a share of the newest records was rejected.
    #[error(transparent)]
    TooManyRejected(#[from] TooManyRejected),
    /// A sink could not be opened by its name.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The operating system did not start a thread.
    #[error("cannot start the {purpose} thread")]
    Thread {
        /// The work that the thread would have done.
        purpose: &'static str,
        /// The refusal of the operating system.
        source: io::Error,
    },
}

/// The reason why a checkpoint did not become durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The checkpoint itself could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The dead letters before it could not be made durable.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
}

impl From<SaveError> for PipelineError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Checkpoint(error) => Self::Checkpoint(error),
            SaveError::DeadLetters(error) => Self::DeadLetters(error),
        }
    }
}

/// The model diverged: a loss or a parameter is NaN or infinite. Nothing was saved since the last checkpoint.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model diverged at step {steps}: a loss or a number is infinite or NaN; nothing was saved since the last \
     checkpoint; lower train.learning_rate, or raise model.temperature"
)]
pub struct Diverged {
    pub(super) steps: u64,
}

/// The share of rejected records among the newest ones exceeds `dead_letters.max_share`: their producer must be broken.
#[derive(Debug, thiserror::Error)]
#[error(
    "{:.0} % of about the last {window} records were rejected, more than {:.0} % (dead_letters.max_share); the newest: \
     {reason}: {detail}; what was trained is saved: mend whoever produces them, or raise the limit to go on",
    share * 100.0,
    max_share * 100.0
)]
pub struct TooManyRejected {
    /// Share of rejected records, a moving average over `window` records.
    pub(super) share: f64,
    /// Length of the moving average, in records (`dead_letters.window`).
    pub(super) window: u64,
    /// The limit (`dead_letters.max_share`).
    pub(super) max_share: f64,
    /// Reason of the newest rejection.
    pub(super) reason: &'static str,
    /// Detail of the newest rejection.
    pub(super) detail: String,
}
