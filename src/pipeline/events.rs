//! What happens in the pipeline, for an observer.

use std::time::Duration;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::store::PublishedCheckpoint;
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
    /// The run has ended; the source is told what is durable, and closed.
    Draining,
}

/// The observer: shown the trainer, and what happened.
pub type Observer<'a> = dyn FnMut(&Trainer, WorkerEvent<'_>) + 'a;

/// The newest checkpoint of this worker.
#[derive(Debug, Clone, PartialEq)]
pub struct LastCheckpoint {
    /// Its folder, and the bytes of its files.
    pub published: PublishedCheckpoint,
    /// Records read when it was made.
    pub events: u64,
    /// How long it took to write, beside training.
    pub took: Duration,
    /// How long training stood still for it.
    pub pause: Duration,
}
