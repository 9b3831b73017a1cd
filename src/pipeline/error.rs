//! The errors of a pipeline.

use std::io;

use crate::catalogue::CatalogueError;
use crate::checkpoint::CheckpointError;
use crate::dead_letters::DeadLetterError;
use crate::event::Reason;
use crate::publish::SinkError;
use crate::share::ShareError;
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
    /// Every record was rejected, and none was ever taken.
    #[error(transparent)]
    NothingTaken(#[from] NothingTaken),
    /// No event was ever of a type that is trained on.
    #[error(transparent)]
    NoneOfKinds(#[from] NoneOfKinds),
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
    /// What the state has moved by could not be sent to those who share it.
    #[error(transparent)]
    Share(#[from] ShareError),
}

impl From<SaveError> for PipelineError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Checkpoint(error) => Self::Checkpoint(error),
            SaveError::DeadLetters(error) => Self::DeadLetters(error),
            SaveError::Share(error) => Self::Source(error.into()),
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
    "{:.0} % of about the last {window} records were rejected, more than {:.0} % (dead_letters.max_share); the newest, \
     {stream} at {offset}: {}: {detail}; what was trained is saved: mend whoever produces them or, where that is at fault, {}; \
     or raise the limit to go on",
    share * 100.0,
    max_share * 100.0,
    reason.name(),
    settings_for(*reason, *by_topic)
)]
pub struct TooManyRejected {
    /// Share of rejected records, a moving average over `window` records.
    pub(super) share: f64,
    /// Length of the moving average, in records (`dead_letters.window`).
    pub(super) window: u64,
    /// The limit (`dead_letters.max_share`).
    pub(super) max_share: f64,
    /// Label of the newest rejection's stream.
    pub(super) stream: String,
    /// Its place in its stream.
    pub(super) offset: u64,
    /// Whether topics have settings of their own.
    pub(super) by_topic: bool,
    /// Reason of the newest rejection.
    pub(super) reason: Reason,
    /// Detail of the newest rejection.
    pub(super) detail: String,
}

/// Every record was rejected, and none was taken by these settings: they are at fault rather than the records. Nothing was
/// saved, so that a run which is set right reads them again.
#[derive(Debug, thiserror::Error)]
#[error(
    "none of the {n_rejected} records that were read was taken; the first, {stream} at {offset}: {}: {detail}; nothing is \
     saved, so that they are read again once this is set right: see {}",
    reason.name(),
    settings_for(*reason, *by_topic)
)]
pub struct NothingTaken {
    /// Records that were rejected.
    pub(super) n_rejected: u64,
    /// Label of the first one's stream.
    pub(super) stream: String,
    /// Place of the first one in its stream.
    pub(super) offset: u64,
    /// Whether topics have settings of their own.
    pub(super) by_topic: bool,
    /// Reason of the first rejection.
    pub(super) reason: Reason,
    /// Detail of the first rejection.
    pub(super) detail: String,
}

/// The source has ended, and none of its events was of a type that is trained on. Nothing was saved, so that a run with other
/// `positives.kinds` reads them.
#[derive(Debug, thiserror::Error)]
#[error("{0}; nothing is saved, so that they are read again once this is set right")]
pub struct NoneOfKinds(pub(super) String);

/// The settings by which records of a sound producer are rejected where they are wrong; `by_topic` says that they may also be
/// those of a topic.
fn settings_for(reason: Reason, by_topic: bool) -> String {
    let settings = match reason {
        Reason::Unparsable => "source.format, and source.registry.url for records in a registry's frames",
        Reason::InvalidFrame => {
            "source.registry.url, which is for records in a registry's frames only, and source.format"
        }
        Reason::UnknownSchema => "source.registry.url and source.format",
        Reason::MissingField | Reason::WrongType | Reason::EmptyId | Reason::ValueNotFinite => {
            "source.fields, which says what the fields are called"
        }
        Reason::IdTooLong => "source.max_id_bytes, and source.fields, which says what the fields are called",
        Reason::TimestampOutOfRange => {
            "source.fields.timestamp and the unit of the times there, and source.latest_year"
        }
        Reason::NullValue => "the topic",
    };
    let own = if by_topic { " (or the same of that topic, in kafka.topics)" } else { "" };
    format!("{settings}{own}")
}
