//! The phase of a worker: one word for what it is doing, derived from its [`Lifecycle`] wherever it is shown.
//!
//! Nothing stores a phase. The page, `/status` and a scrape each derive it at the moment they are asked, so that no phase
//! is too short to be seen, and none is seen by one of them alone.

use serde::{Serialize, Serializer};

/// What a worker is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The process has begun; nothing is known yet.
    Starting,
    /// The worker reads a checkpoint, or looks for one.
    Restoring,
    /// The worker has nothing to train on at the moment.
    Waiting,
    /// The worker trains.
    Training,
    /// A checkpoint is being written; training goes on meanwhile, unless the worker waits for that checkpoint.
    Checkpointing,
    /// The worker finishes: it trains and saves what it still has to, and lets go of its source.
    Draining,
    /// The worker reached the end of its source, or stopped as told.
    Done,
    /// The worker gave up.
    Failed,
}

impl Phase {
    /// Every phase, in the order in which they usually come.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Restoring,
        Self::Waiting,
        Self::Training,
        Self::Checkpointing,
        Self::Draining,
        Self::Done,
        Self::Failed,
    ];

    /// The name in metrics, log lines and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Restoring => "restoring",
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Checkpointing => "checkpointing",
            Self::Draining => "draining",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// How far a worker has come, and what it is busy with: everything that its phase follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// How far the worker has come.
    pub stage: Stage,
    /// Whether records have been trained on lately.
    pub is_training: bool,
    /// Whether a checkpoint is being written.
    pub is_checkpointing: bool,
}

/// How far a worker has come in its life. Stages are never gone back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// The process has begun.
    #[default]
    Starting,
    /// A checkpoint is looked for and read.
    Restoring,
    /// The state is there; records are trained on as they come.
    Running,
    /// The worker finishes.
    Draining,
    /// The work is over.
    Done,
    /// The worker gave up.
    Failed {
        /// The name of the exit code ([`crate::exit::Exit::name`]).
        reason: &'static str,
    },
}

impl Lifecycle {
    /// What the worker is doing.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Starting => Phase::Starting,
            Stage::Restoring => Phase::Restoring,
            Stage::Running if self.is_checkpointing => Phase::Checkpointing,
            Stage::Running if self.is_training => Phase::Training,
            Stage::Running => Phase::Waiting,
            Stage::Draining => Phase::Draining,
            Stage::Done => Phase::Done,
            Stage::Failed { .. } => Phase::Failed,
        }
    }

    /// Why the worker gave up, where it did.
    pub fn failure(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Failed { reason } => Some(reason),
            Stage::Starting | Stage::Restoring | Stage::Running | Stage::Draining | Stage::Done => None,
        }
    }
}

impl Serialize for Lifecycle {
    /// Writes the phase, and the reason of a failure.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Lifecycle", 2)?;
        fields.serialize_field("phase", &self.phase())?;
        fields.serialize_field("failure", &self.failure())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_names_are_those_in_json() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("plain data"), phase.name());
        }
    }

    #[test]
    fn every_phase_follows_from_some_lifecycle() {
        let running =
            |is_training, is_checkpointing| Lifecycle { stage: Stage::Running, is_training, is_checkpointing };
        let at = |stage| Lifecycle { stage, is_training: true, is_checkpointing: true };
        let phases = [
            at(Stage::Starting),
            at(Stage::Restoring),
            running(false, false),
            running(true, false),
            running(true, true),
            at(Stage::Draining),
            at(Stage::Done),
            at(Stage::Failed { reason: "diverged" }),
        ]
        .map(|lifecycle| lifecycle.phase());
        assert_eq!(phases, Phase::ALL);
    }
}
