//! What happens in the worker, for whoever wants to see, and what ends it early.

use std::time::Duration;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::store::Published;
use crate::source::SourceError;
use crate::trainer::{StepReport, Trainer};

/// What happens, for whoever wants to see.
#[derive(Debug)]
pub enum WorkerEvent<'a> {
    /// A step was taken.
    Step(&'a StepReport, Duration),
    /// Now and then.
    Tick,
    /// A record was kept as a dead letter.
    DeadLetter,
    /// The state is about to be frozen, and a checkpoint to be written.
    CheckpointBegins,
    /// A checkpoint is due, but the one before it is still being written.
    CheckpointSkipped,
    /// A checkpoint became durable.
    Checkpoint(&'a LastCheckpoint),
    /// A checkpoint could not be written; training goes on.
    CheckpointFailed(&'a CheckpointError),
}

/// The observer: shown the trainer, and what happened.
pub type Observer<'a> = dyn FnMut(&Trainer, WorkerEvent<'_>) + 'a;

/// The newest checkpoint of this worker.
#[derive(Debug, Clone, PartialEq)]
pub struct LastCheckpoint {
    /// Its folder, and the bytes of its files.
    pub published: Published,
    /// Records read when it was made.
    pub events: u64,
    /// How long it took to write, beside training.
    pub took: Duration,
    /// How long training stood still for it.
    pub pause: Duration,
}

/// The model holds a number that is none any more. Nothing of it was saved.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model diverged at step {steps}: a loss or a number is infinite or NaN; nothing was saved since the last \
     checkpoint; lower train.learning_rate, or raise model.temperature"
)]
pub struct Diverged {
    pub(super) steps: u64,
}

/// What ends the work early.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A checkpoint that had to succeed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// Nearly everything is bad.
    #[error(
        "{:.0} % of about the last {window} records were rejected, more than {:.0} % (dead_letters.max_share); the newest: \
         {reason}: {detail}; what was trained is saved: mend whoever produces them, or raise the limit to go on",
        share * 100.0,
        max_share * 100.0
    )]
    TooManyRejected {
        /// Of the newest records, with a memory that fades.
        share: f64,
        /// How long that memory is, in records.
        window: u64,
        /// The limit.
        max_share: f64,
        /// Why the newest was rejected.
        reason: &'static str,
        /// What was wrong with it.
        detail: String,
    },
}

impl WorkError {
    /// Whether the state must not be saved: it is not this worker's own any more, or not a model.
    pub(super) fn disowns(&self) -> bool {
        match self {
            Self::Source(error) => {
                matches!(error, SourceError::Fenced { .. } | SourceError::Unsure { .. } | SourceError::SameName { .. })
            }
            Self::Checkpoint(_) | Self::Diverged(_) => true,
            Self::TooManyRejected { .. } => false,
        }
    }
}
