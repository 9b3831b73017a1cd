//! The ways out of the training loop, and what each of them leaves behind.
//!
//! | exit path | batch in progress | final checkpoint | result |
//! | --- | --- | --- | --- |
//! | end of the source | trained | required | [`StopReason::End`] |
//! | stop requested | read again after a restart; trained where the clock cuts batches anyway | required | [`StopReason::Stopped`] |
//! | source failed | read again after a restart | attempted | the source's error |
//! | too many rejected | trained | attempted | the error |
//! | nothing taken | dropped | forbidden | the error |
//! | none of the types that are trained on | dropped | forbidden | the error |
//! | fenced | dropped | forbidden | the source's error |
//! | checkpoint failed | dropped | forbidden | the checkpoint's error |
//! | dead letters failed | dropped | forbidden | the dead letters' error |
//! | diverged | dropped | forbidden | the error |
//!
//! Where records were rejected and none was taken ([`Probation`](super::probation::Probation)), nothing is saved on any way out.
//!
//! [`ExitPath::policy`] is this table in code; the loop leaves by an [`ExitPath`] only, so that nothing else decides.

use super::StopReason;
use super::error::{Diverged, NoneOfKinds, NothingTaken, PipelineError, SaveError, TooManyRejected};
use crate::checkpoint::CheckpointError;
use crate::dead_letters::DeadLetterError;
use crate::share::ShareError;
use crate::source::SourceError;

/// A way out of the training loop.
#[derive(Debug)]
pub(super) enum ExitPath {
    /// The declared end of the source.
    EndOfSource,
    /// The stop flag was set.
    StopRequested,
    /// The source failed for good; what was read of it before is sound.
    SourceFailed(SourceError),
    /// Nearly everything that arrives is rejected.
    TooManyRejected(TooManyRejected),
    /// Every record was rejected, and none was ever taken: the configuration may be at fault.
    NothingTaken(NothingTaken),
    /// The source has ended, and no event was ever of a type that is trained on.
    NoneOfKinds(NoneOfKinds),
    /// The streams belong to another worker, or may: so does everything trained since the last checkpoint.
    Fenced(SourceError),
    /// A checkpoint that had to succeed failed, or another worker has taken over the checkpoint folder.
    CheckpointFailed(CheckpointError),
    /// A rejected record could not be kept, so no position behind it may become durable.
    DeadLettersFailed(DeadLetterError),
    /// The parameters are no model any more.
    Diverged(Diverged),
}

/// What becomes of the events that wait for their batch to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchInProgress {
    /// They are trained on as a short batch.
    Train,
    /// They stay out of the state; a restart reads them again.
    LeaveUnread,
}

/// Whether the state is saved on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalCheckpoint {
    /// It is saved, and a failure to do so is the result of the run.
    Required,
    /// It is saved, but a failure to do so is only logged: the run has an error of its own already.
    Attempted,
    /// It must not be saved.
    Forbidden,
}

impl ExitPath {
    /// What this way out leaves behind: the table of the module. `has_clock` says that the clock cuts batches too.
    pub(super) fn policy(&self, has_clock: bool) -> (BatchInProgress, FinalCheckpoint) {
        match self {
            Self::EndOfSource => (BatchInProgress::Train, FinalCheckpoint::Required),
            Self::StopRequested if has_clock => (BatchInProgress::Train, FinalCheckpoint::Required),
            // A short batch here would make the model depend on the moment of a signal.
            Self::StopRequested => (BatchInProgress::LeaveUnread, FinalCheckpoint::Required),
            Self::SourceFailed(_) => (BatchInProgress::LeaveUnread, FinalCheckpoint::Attempted),
            // Records rejected behind the batch in progress are part of the state only with it: they would be rejected, and
            // kept as dead letters, once more after a restart.
            Self::TooManyRejected(_) => (BatchInProgress::Train, FinalCheckpoint::Attempted),
            Self::NothingTaken(_)
            | Self::NoneOfKinds(_)
            | Self::Fenced(_)
            | Self::CheckpointFailed(_)
            | Self::DeadLettersFailed(_)
            | Self::Diverged(_) => (BatchInProgress::LeaveUnread, FinalCheckpoint::Forbidden),
        }
    }

    /// The result of a run that ends this way.
    pub(super) fn into_result(self) -> Result<StopReason, PipelineError> {
        match self {
            Self::EndOfSource => Ok(StopReason::End),
            Self::StopRequested => Ok(StopReason::Stopped),
            Self::SourceFailed(error) | Self::Fenced(error) => Err(error.into()),
            Self::TooManyRejected(error) => Err(error.into()),
            Self::NothingTaken(error) => Err(error.into()),
            Self::NoneOfKinds(error) => Err(error.into()),
            Self::CheckpointFailed(error) => Err(error.into()),
            Self::DeadLettersFailed(error) => Err(error.into()),
            Self::Diverged(error) => Err(error.into()),
        }
    }
}

impl From<SourceError> for ExitPath {
    fn from(error: SourceError) -> Self {
        if error.is_fenced() { Self::Fenced(error) } else { Self::SourceFailed(error) }
    }
}

impl From<ShareError> for ExitPath {
    fn from(error: ShareError) -> Self {
        SourceError::from(error).into()
    }
}

impl From<CheckpointError> for ExitPath {
    fn from(error: CheckpointError) -> Self {
        Self::CheckpointFailed(error)
    }
}

impl From<SaveError> for ExitPath {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Checkpoint(error) => error.into(),
            SaveError::DeadLetters(error) => error.into(),
            SaveError::Share(error) => error.into(),
        }
    }
}

impl From<DeadLetterError> for ExitPath {
    fn from(error: DeadLetterError) -> Self {
        Self::DeadLettersFailed(error)
    }
}

impl From<TooManyRejected> for ExitPath {
    fn from(error: TooManyRejected) -> Self {
        Self::TooManyRejected(error)
    }
}

impl From<NothingTaken> for ExitPath {
    fn from(error: NothingTaken) -> Self {
        Self::NothingTaken(error)
    }
}

impl From<Diverged> for ExitPath {
    fn from(error: Diverged) -> Self {
        Self::Diverged(error)
    }
}
