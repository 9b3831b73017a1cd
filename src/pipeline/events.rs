//! What happens in a pipeline, for an observer.

use std::path::PathBuf;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::{DisorderFigures, FreshnessFigures, LateEvent, SaveError, ShareFigures, SinkFigures};
use crate::event::Rejection;
use crate::trainer::{StepReport, Trainer};

/// An event of a pipeline.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipelineEvent<'a> {
    /// A training step was taken.
    Step {
        /// What the step did.
        report: &'a StepReport,
        /// The time that the step took.
        took: Duration,
    },
    /// How fresh what is learnt is; comes before each [`PipelineEvent::Tick`].
    Freshness(&'a FreshnessFigures),
    /// How far out of order the events were so far; comes before each [`PipelineEvent::Tick`].
    Disorder(&'a DisorderFigures),
    /// How each sink is, in their order; comes before each [`PipelineEvent::Tick`] where there are any.
    Publishing(Vec<SinkFigures>),
    /// What was sent to those who share the model, and received of them; comes before each [`PipelineEvent::Tick`] where it is shared.
    Sharing(&'a ShareFigures),
    /// The loop turns: a sign of life, a few times a second, whether or not anything else happens.
    Tick,
    /// The source said which streams are this worker's to read; they may be none.
    Assigned,
    /// A record was rejected.
    RecordRejected {
        /// The label of its stream. It comes from outside.
        stream: &'a str,
        /// The place of the record in its stream.
        offset: u64,
        /// The reason, and the record.
        rejection: &'a Rejection,
        /// Whether the record was kept as a dead letter.
        is_dead_letter: bool,
        /// Records rejected by this process so far, this one included.
        so_far: u64,
    },
    /// An event came long after a later one.
    LateEvent {
        /// The event's place, and how late it is.
        event: &'a LateEvent,
        /// Late events of this process so far, this one included.
        so_far: u64,
    },
    /// The state is about to be frozen, and a checkpoint of it to be written.
    CheckpointStarted,
    /// A checkpoint is due, but the one before it is still being written.
    CheckpointSkipped,
    /// A checkpoint is due, and begins after this time at the earliest, so that writing takes no more of a replay than
    /// `checkpoint.max_share`.
    CheckpointPutOff {
        /// The time.
        wait: Duration,
    },
    /// A checkpoint became durable.
    CheckpointWritten(&'a WrittenCheckpoint),
    /// A checkpoint could not be written. Training goes on, unless this checkpoint had to succeed.
    CheckpointFailed(&'a SaveError),
    /// The model diverged in the step just taken: a loss or a parameter is NaN or infinite. The run ends.
    Diverged,
    /// The loop has ended: what is left to be trained and saved is, and the source is closed.
    Draining,
}

/// An observer of a pipeline: shown the trainer, and what happened. It is called on the training thread.
pub type Observer<'a> = dyn FnMut(&Trainer, PipelineEvent<'_>) + 'a;

/// A checkpoint that this process wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenCheckpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Records that the state had read.
    pub events: u64,
    /// The time that writing took, beside training.
    pub took: Duration,
    /// The time that training stood still for it.
    pub pause: Duration,
}

impl Serialize for WrittenCheckpoint {
    /// Writes the name of the folder, without the path to it, and times in seconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { path, bytes, events, took, pause } = self;
        let mut fields = serializer.serialize_struct("WrittenCheckpoint", 5)?;
        fields.serialize_field("name", &path.file_name().map(|name| name.to_string_lossy()))?;
        fields.serialize_field("bytes", bytes)?;
        fields.serialize_field("events", events)?;
        fields.serialize_field("seconds", &took.as_secs_f64())?;
        fields.serialize_field("pause", &pause.as_secs_f64())?;
        fields.end()
    }
}
