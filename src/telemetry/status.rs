//! The status: every figure that is shown, as plain data, in one place.
//!
//! The page, `/status`, a scrape of `/metrics` and the log line of a running worker all read it, and nothing else, so they
//! never disagree. It is also the registry of metrics: `trainer_figures!` lists the groups of figures that come from the
//! trainer, one line each, and [`Status::families`] those that do not. A metric is declared beside the type of its group
//! ([`Instrumented`]); a new group is one line here.

use serde::Serialize;

use super::history::History;
use super::phase::{Lifecycle, Phase};
pub use super::run_figures::{CheckpointFigures, RunFigures, StreamLag};
use crate::evaluate::summary::EvalSummary;
use crate::event::{EventCounts, Evicted};
use crate::metric::{Instrumented, Metric, MetricFamily};
use crate::negatives::bank::BankState;
use crate::negatives::false_negatives::FalseNegativeCount;
use crate::negatives::proposals::Proposal;
use crate::objective::step::ObjectiveLoss;
use crate::serve::ServingFigures;
use crate::source::transient_errors::TRANSIENT_ERRORS;
use crate::trainer::Trainer;
use crate::trainer::figures::TrainingFigures;
use crate::trainer::memory_usage::MemoryUsage;

/// Declares [`TrainerFigures`]: each line names a group, its type, and where it is read from.
macro_rules! trainer_figures {
    ($($(#[$attribute:meta])* $group:ident: $figures:ty = |$trainer:ident| $read:expr;)*) => {
        /// The figures of the trainer, in groups.
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct TrainerFigures {
            $($(#[$attribute])* pub $group: $figures,)*
        }

        impl TrainerFigures {
            /// The figures as they stand.
            pub fn of(trainer: &Trainer) -> Self {
                Self { $($group: { let $trainer = trainer; $read },)* }
            }

            fn families(&self) -> Vec<MetricFamily> {
                [$(self.$group.families()),*].concat()
            }
        }
    };
}

trainer_figures! {
    /// What became of the records.
    events: EventCounts = |trainer| trainer.ingested();
    /// How training stands.
    #[serde(flatten)]
    training: TrainingFigures = |trainer| trainer.figures();
    /// How each part of the objectives did in the newest step.
    objectives: Vec<ObjectiveLoss> = |trainer| trainer.state.progress.last_parts.clone();
    /// The bank of negatives.
    bank: BankState = |trainer| trainer.state.negatives.bank.state(&trainer.state.model);
    /// What each proposal of negatives brought to the newest batch.
    proposals: Vec<Proposal> = |trainer| trainer.proposals();
    /// Watched negatives, and how many of them were false.
    false_negatives: Vec<FalseNegativeCount> = |trainer| {
        trainer.state.negatives.false_negatives.summary(trainer.state.negatives.noise.terms.iter().map(|term| term.name.as_str()))
    };
    /// Rows that were evicted.
    evicted: Evicted = |trainer| trainer.state.evicted();
    /// Memory of the parts of the state.
    state_memory: MemoryUsage = |trainer| trainer.state.memory_usage();
    /// The evaluation on the stream itself.
    evaluation: EvalSummary = |trainer| EvalSummary::from(&trainer.state.progress.evaluation);
}

/// The checkpoint that a replica answers from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServedCheckpoint {
    /// Steps that its model had taken.
    pub step: u64,
    /// Records that it had read.
    pub events: u64,
    /// Items that it knows.
    pub items: u64,
    /// When it was written, in seconds since 1970.
    pub written_at: f64,
}

/// Everything that is shown of a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// What the worker is doing, and why it gave up where it did.
    #[serde(flatten)]
    pub lifecycle: Lifecycle,
    /// What this process has done.
    #[serde(flatten)]
    pub run: RunFigures,
    /// The trainer and its model.
    #[serde(flatten)]
    pub trainer: TrainerFigures,
    /// How requests to the API fare.
    pub serving: ServingFigures,
    /// What a replica serves, where this is one.
    pub replica: Option<ServedCheckpoint>,
    /// How the figures came about, by events.
    pub history: History,
}

impl Status {
    /// Every metric, with its samples as the status stands.
    pub fn families(&self) -> Vec<MetricFamily> {
        let Self { lifecycle, run, trainer, serving, replica: _, history: _ } = self;
        [
            lifecycle.families(),
            run.families(),
            run.checkpoints.families(),
            run.freshness.families(),
            run.disorder.families(),
            run.sharing.unwrap_or_default().families(),
            run.sinks.families(),
            run.memory.families(),
            serving.families(),
            trainer.families(),
            TRANSIENT_ERRORS.families(),
        ]
        .concat()
    }

    /// Replaces the figures of the trainer. Where records were read since, a point is added to the history.
    pub fn update(&mut self, trainer: TrainerFigures) {
        let progressed = trainer.events.read > self.trainer.events.read;
        self.trainer = trainer;
        if progressed {
            let mut history = std::mem::take(&mut self.history);
            history.offer(self.trainer.events.read, self);
            self.history = history;
        }
    }
}

impl Instrumented for Lifecycle {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge_by("negstream_info", &["version"], "Always 1; the version is the label.", |_, samples| {
            samples.put_for([env!("CARGO_PKG_VERSION")], true);
        }),
        Metric::gauge_by(
            "negstream_phase",
            &["phase"],
            "1 for what the worker is doing, 0 for everything else.",
            |lifecycle, samples| {
                for phase in Phase::ALL {
                    samples.put_for([phase.name()], phase == lifecycle.phase());
                }
            },
        ),
        Metric::gauge_by(
            "negstream_failure",
            &["reason"],
            "1 for the reason why the worker gave up; not there before it does.",
            |lifecycle, samples| {
                lifecycle.failure().into_iter().for_each(|reason| samples.put_for([reason], true));
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;

    fn read(events: u64) -> TrainerFigures {
        let events = EventCounts { read: events, ..EventCounts::default() };
        TrainerFigures { events, ..TrainerFigures::default() }
    }

    #[test]
    fn update_adds_to_the_history_only_on_progress() {
        let mut status = Status::default();
        for events in [10, 20, 20, 30] {
            status.update(read(events));
        }
        assert_eq!(status.history.events().collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(status.trainer.events.read, 30);
    }

    #[test]
    fn status_in_json_has_every_reason_and_no_number_that_json_lacks() {
        let mut status = Status { trainer: read(5), ..Status::default() };
        status.trainer.events.rejected.add(Reason::TimestampOutOfRange, 2);
        status.trainer.training.loss = Some(f64::NAN);
        let json = serde_json::to_value(&status).expect("plain data");
        assert_eq!(json["phase"], "starting");
        assert!(json["failure"].is_null());
        assert_eq!(json["events"]["rejected"]["timestamp_out_of_range"], 2);
        for reason in Reason::ALL {
            assert!(json["events"]["rejected"][reason.name()].is_u64());
        }
        assert!(json["loss"].is_null());
    }
}
