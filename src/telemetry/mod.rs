//! \[9\] Telemetry: what a worker shows of itself, and where.
//!
//! | part | purpose |
//! | --- | --- |
//! | [`observer`] | events of the pipeline become log lines, figures and health, each at one place |
//! | [`status`] | every figure that is shown, as plain data; the registry of metrics |
//! | [`phase`] | the one word for what the worker is doing, derived wherever it is shown |
//! | [`metrics`] | the status in Prometheus' text format |
//! | [`health`] | an orchestrator's questions: is the worker alive, is it ready |
//! | [`http`] | the address that serves all of that |
//! | [`page`] | the page for people, and what it asks for |
//! | [`diagnosis`] | is the worker well, and why: a sentence |
//! | [`plots`] | what is plotted, on the page and in reports |
//! | [`series`] | the last day of it by the clock, for the page |
//! | [`history`] | a run of it by events, for the report |
//! | [`logging`] | lines on standard error |
//! | [`report`] | the report of a run |
//! | [`report_page`] | the same as a page |
//! | [`process`] | memory, as the operating system counts it |
//!
//! The training thread publishes a few times a second, and at every event; everything else reads the same [`Status`]. So a
//! page, a scrape and a log line never disagree, and none of them can hold training up. Identifiers of users and items
//! never become labels, and whatever comes from outside is escaped where it is shown.

mod config;
pub mod diagnosis;
pub mod health;
pub mod history;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod observer;
pub mod page;
pub mod phase;
pub mod plots;
pub mod process;
pub mod report;
pub mod report_page;
mod run_figures;
pub mod series;
pub mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::exit::Exit;
use crate::serve::ServingFigures;
pub use config::{HttpConfig, LogConfig, LogFormat};
use health::{Health, Latch};
use phase::Stage;
use series::Series;
use status::{ServedCheckpoint, Status};

/// A cheap handle on everything that is shown of a worker; clones share it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    status: Arc<Mutex<Status>>,
    health: Health,
    serving: Arc<Mutex<ServingFigures>>,
    series: Arc<Mutex<Series>>,
}

/// What happens in the life of a worker, outside the training loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleEvent {
    /// A checkpoint is looked for.
    Restoring,
    /// The state is there: read from a checkpoint, or new.
    Restored,
    /// The source is open at its positions.
    SourceOpened,
    /// The worker knows what is its to read.
    Assigned,
    /// The worker finishes, and is not ready any more.
    Draining,
    /// The work is over.
    Done,
    /// The worker gave up, and ends with this exit code.
    Failed(Exit),
}

impl Telemetry {
    /// The telemetry of a worker that begins now.
    pub fn new(now: Instant) -> Self {
        let mut status = Status::default();
        status.run.checkpoints.written_at = Some(observer::seconds_since_1970());
        Self {
            status: Arc::new(Mutex::new(status)),
            health: Health::new(now),
            serving: Arc::default(),
            series: Arc::default(),
        }
    }

    /// Shows what happened in the life of the worker. A worker that gave up stays failed.
    pub fn emit(&self, event: LifecycleEvent) {
        let stage = match event {
            LifecycleEvent::Restoring => Some(Stage::Restoring),
            LifecycleEvent::Restored => {
                self.health.release(Latch::Restored);
                Some(Stage::Running)
            }
            LifecycleEvent::SourceOpened => {
                self.health.release(Latch::SourceOpen);
                None
            }
            LifecycleEvent::Assigned => {
                self.health.release(Latch::Assigned);
                None
            }
            LifecycleEvent::Draining => {
                self.health.drain();
                Some(Stage::Draining)
            }
            LifecycleEvent::Done => Some(Stage::Done),
            LifecycleEvent::Failed(exit) => {
                self.health.drain();
                Some(Stage::Failed { reason: exit.name() })
            }
        };
        self.update(|status| {
            match (status.lifecycle.stage, stage) {
                (Stage::Failed { .. }, _) | (_, None) => {}
                (_, Some(stage)) => status.lifecycle.stage = stage,
            }
            if matches!(event, LifecycleEvent::Done | LifecycleEvent::Failed(_)) {
                // Nothing is measured any more, and the last rate would be shown for ever.
                (status.lifecycle.is_training, status.run.events_per_second) = (false, 0.0);
            }
        });
    }

    /// The status as it stands.
    pub fn snapshot(&self) -> Status {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut status = self.lock().clone();
        status.serving = serving;
        status
    }

    /// Where it is counted how requests to the API fare.
    pub fn serving(&self) -> Arc<Mutex<ServingFigures>> {
        Arc::clone(&self.serving)
    }

    /// Shows that a replica answers from `checkpoint` now.
    pub fn serves(&self, checkpoint: ServedCheckpoint) {
        self.update(|status| status.replica = Some(checkpoint));
    }

    /// Counts the status as it stands in the series of the page, at second `now` since 1970.
    pub fn sample(&self, now: u64) {
        let status = self.snapshot();
        self.series().sample(now, &status);
    }

    /// The series of the page.
    pub fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Liveness and readiness.
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // A change is a few assignments; none of them leaves the status in a state that cannot be shown.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::phase::Phase;
    use super::*;

    #[test]
    fn emit_shows_each_phase_at_once() {
        let telemetry = Telemetry::new(Instant::now());
        let phase = |event| {
            telemetry.emit(event);
            telemetry.snapshot().lifecycle.phase()
        };
        assert_eq!(phase(LifecycleEvent::Restoring), Phase::Restoring);
        assert_eq!(phase(LifecycleEvent::Restored), Phase::Waiting);
        assert_eq!(phase(LifecycleEvent::SourceOpened), Phase::Waiting);
        assert!(!telemetry.health().readiness(Instant::now()).ready, "it waits for the group");
        phase(LifecycleEvent::Assigned);
        assert!(telemetry.health().readiness(Instant::now()).ready);
        assert_eq!(phase(LifecycleEvent::Draining), Phase::Draining);
        assert!(telemetry.health().readiness(Instant::now()).draining);
        telemetry.update(|status| status.run.events_per_second = 9.0);
        assert_eq!(phase(LifecycleEvent::Done), Phase::Done);
        assert_eq!(telemetry.snapshot().run.events_per_second, 0.0, "nothing is read any more");
        assert_eq!(phase(LifecycleEvent::Failed(Exit::Diverged)), Phase::Failed);
        assert_eq!(phase(LifecycleEvent::Done), Phase::Failed, "a failure stays");
        assert_eq!(telemetry.snapshot().lifecycle.failure(), Some("diverged"));
        let text = metrics::render(&telemetry.snapshot());
        assert!(text.contains("negstream_phase{phase=\"failed\"} 1\n"), "{text}");
        assert!(text.contains("negstream_failure{reason=\"diverged\"} 1\n"), "{text}");
    }
}
