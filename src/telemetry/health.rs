//! Liveness and readiness, for an orchestrator.
//!
//! | question | answered by | yes when |
//! | --- | --- | --- |
//! | is it alive? | the tick of the training loop | the last tick is less than a minute old |
//! | is it ready? | latches, each released once | all are released, and it is not draining |
//! | | what became of checkpoints | the newest [`FAILURES`] did not all fail, and none takes longer than [`PATIENCE`] |
//!
//! A broker that is away makes a worker neither dead nor unready: restarting would not bring it back. Until the first
//! tick a worker counts as alive, since reading a large checkpoint may take longer than a minute. Nothing here reads a
//! clock: the time is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long the training loop may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);

/// So many checkpoints may fail in a row before a worker is not ready: what it learns is lost if it dies.
pub const FAILURES: u32 = 3;
/// How long a checkpoint may take to be written before a worker is not ready: a disk may hang instead of failing.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// No tick yet, or no checkpoint being written.
const NEVER: u64 = u64::MAX;

/// What has to have happened once before a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latch {
    /// The state is there: read from a checkpoint, or new.
    Restored,
    /// The source is open at its positions.
    SourceOpen,
}

impl Latch {
    /// Every latch, in the order in which they are released.
    pub const ALL: [Self; 2] = [Self::Restored, Self::SourceOpen];

    /// What an answer calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::SourceOpen => "source open",
        }
    }
}

/// Whether the training loop turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Liveness {
    /// The answer.
    pub alive: bool,
    /// Seconds since the last tick; `None` before the first.
    pub seconds_since_tick: Option<f64>,
}

/// Whether the worker does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The answer.
    pub ready: bool,
    /// Which latches are still closed.
    pub missing: Vec<&'static str>,
    /// Told to stop: never ready again.
    pub draining: bool,
    /// Checkpoints cannot be written: what is learnt meanwhile would be learnt again after a restart.
    pub unsaved: bool,
}

/// A cheap handle; clones share the state.
#[derive(Debug, Clone)]
pub struct Health(Arc<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Milliseconds after `began`.
    last_tick: AtomicU64,
    released: [AtomicBool; Latch::ALL.len()],
    /// Checkpoints that failed since the last one that did not.
    failures: AtomicU32,
    /// When the one that is being written was begun, in milliseconds after `began`.
    writing_since: AtomicU64,
    draining: AtomicBool,
}

impl Health {
    /// All latches closed, no tick yet.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(State {
            began: now,
            last_tick: AtomicU64::new(NEVER),
            released: Default::default(),
            failures: AtomicU32::new(0),
            writing_since: AtomicU64::new(NEVER),
            draining: AtomicBool::new(false),
        }))
    }

    /// The training loop turned.
    pub fn tick(&self, now: Instant) {
        self.0.last_tick.store(self.millis(now), Ordering::Relaxed);
    }

    /// Releases a latch, for good.
    pub fn release(&self, latch: Latch) {
        self.0.released[latch as usize].store(true, Ordering::Release);
    }

    /// A checkpoint is being written from now on.
    pub fn checkpoint_begins(&self, now: Instant) {
        self.0.writing_since.store(self.millis(now), Ordering::Relaxed);
    }

    /// It was written.
    pub fn checkpoint_written(&self) {
        self.0.writing_since.store(NEVER, Ordering::Relaxed);
        self.0.failures.store(0, Ordering::Relaxed);
    }

    /// It could not be written.
    pub fn checkpoint_failed(&self) {
        self.0.writing_since.store(NEVER, Ordering::Relaxed);
        self.0.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on the worker is not ready.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Is it alive?
    pub fn liveness(&self, now: Instant) -> Liveness {
        let silence = match self.0.last_tick.load(Ordering::Relaxed) {
            NEVER => None,
            tick => Some(Duration::from_millis(self.millis(now).saturating_sub(tick))),
        };
        Liveness {
            alive: silence.is_none_or(|silence| silence < SILENCE),
            seconds_since_tick: silence.map(|silence| silence.as_secs_f64()),
        }
    }

    /// Is it ready?
    pub fn readiness(&self, now: Instant) -> Readiness {
        let closed = |latch: &Latch| !self.0.released[*latch as usize].load(Ordering::Acquire);
        let missing: Vec<_> = Latch::ALL.into_iter().filter(closed).map(Latch::name).collect();
        let draining = self.0.draining.load(Ordering::Acquire);
        let hangs = match self.0.writing_since.load(Ordering::Relaxed) {
            NEVER => false,
            since => self.millis(now).saturating_sub(since) > PATIENCE.as_millis() as u64,
        };
        let unsaved = hangs || self.0.failures.load(Ordering::Relaxed) >= FAILURES;
        Readiness { ready: missing.is_empty() && !draining && !unsaved, missing, draining, unsaved }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0.began).as_millis()).unwrap_or(NEVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_dead_after_a_minute_without_a_tick_and_alive_again_after_one() {
        let start = Instant::now();
        let health = Health::new(start);
        assert!(health.liveness(start + SILENCE * 10).alive, "restoring may take long");
        health.tick(start + Duration::from_secs(5));
        assert!(health.liveness(start + Duration::from_secs(64)).alive);
        let late = health.liveness(start + Duration::from_secs(65));
        assert_eq!(late, Liveness { alive: false, seconds_since_tick: Some(60.0) });
        health.tick(start + Duration::from_secs(66));
        assert!(health.liveness(start + Duration::from_secs(67)).alive);
    }

    #[test]
    fn it_is_ready_once_every_latch_is_released_and_never_while_draining() {
        let now = Instant::now();
        let health = Health::new(now);
        assert_eq!(health.readiness(now).missing, ["restored", "source open"]);
        health.release(Latch::SourceOpen);
        assert_eq!(health.readiness(now).missing, ["restored"]);
        health.release(Latch::Restored);
        assert!(health.readiness(now).ready);
        health.drain();
        health.release(Latch::Restored);
        let readiness = health.readiness(now);
        assert!(!readiness.ready && readiness.draining && readiness.missing.is_empty());
    }

    #[test]
    fn it_is_not_ready_while_checkpoints_fail_or_hang() {
        let start = Instant::now();
        let health = Health::new(start);
        Latch::ALL.into_iter().for_each(|latch| health.release(latch));
        for failures in 1..=FAILURES {
            health.checkpoint_begins(start);
            assert!(health.readiness(start + PATIENCE).ready);
            health.checkpoint_failed();
            assert_eq!(health.readiness(start + PATIENCE * 2).unsaved, failures == FAILURES);
        }
        health.checkpoint_begins(start);
        health.checkpoint_written();
        assert!(health.readiness(start).ready);
        health.checkpoint_begins(start);
        let late = start + PATIENCE + Duration::from_secs(1);
        assert!(health.readiness(late).unsaved && !health.readiness(late).ready);
        health.checkpoint_written();
        assert!(health.readiness(late).ready);
    }
}
