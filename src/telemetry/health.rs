//! Liveness and readiness, for an orchestrator.
//!
//! | question | answered by | yes when |
//! | --- | --- | --- |
//! | is the worker alive? | the tick of the training loop | the last tick is less than [`MAX_SILENCE`] old |
//! | is the worker ready? | latches, each released once | all are released, and the worker is not draining |
//! | | checkpoints | the newest [`MAX_FAILURES`] did not all fail, and none takes longer than [`MAX_WRITE_TIME`] |
//!
//! A broker that is away makes a worker neither dead nor unready: restarting would not bring it back. Until the first
//! tick a worker counts as alive, since reading a large checkpoint may take longer than a minute. Nothing here reads a
//! clock: the time is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The longest time between two ticks of the training loop of a worker that is alive.
pub const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The number of checkpoints that fail in a row for which a worker is not ready: what it learns would be lost if it died.
pub const MAX_FAILURES: u32 = 3;
/// The longest time that a checkpoint may take to be written before a worker is not ready: a disk may hang instead of failing.
pub const MAX_WRITE_TIME: Duration = Duration::from_secs(900);

/// No tick yet, or no checkpoint being written.
const NEVER: u64 = u64::MAX;

/// A condition that has to have come true once before a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latch {
    /// The state is in memory: read from a checkpoint, or new.
    Restored,
    /// The source is open at its positions.
    SourceOpen,
    /// The worker knows what is its to read; in a group that is the group's to say.
    Assigned,
}

impl Latch {
    /// Every latch, in the order in which they are released.
    pub const ALL: [Self; 3] = [Self::Restored, Self::SourceOpen, Self::Assigned];

    /// The name in an answer of `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::SourceOpen => "source open",
            Self::Assigned => "waiting for the group",
        }
    }
}

/// Whether the training loop turns: the answer of `/livez`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Liveness {
    /// Whether the last tick is recent enough, or none was due yet.
    pub alive: bool,
    /// Seconds since the last tick; `None` before the first.
    pub seconds_since_tick: Option<f64>,
}

/// Whether the worker does its work: the answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the worker takes part in the work.
    pub ready: bool,
    /// Names of the latches that are not released yet.
    pub missing: Vec<&'static str>,
    /// Whether the worker finishes; it is never ready again.
    pub draining: bool,
    /// Whether checkpoints cannot be written: what is learnt meanwhile would be learnt again after a restart.
    pub unsaved: bool,
}

/// Liveness and readiness of a worker. A cheap handle; clones share the state.
#[derive(Debug, Clone)]
pub struct Health(Arc<HealthState>);

#[derive(Debug)]
struct HealthState {
    began: Instant,
    /// Time of the last tick, in milliseconds after `began`.
    last_tick: AtomicU64,
    released: [AtomicBool; Latch::ALL.len()],
    /// Checkpoints that failed since the last one that was written.
    failures: AtomicU32,
    /// Start of the checkpoint that is being written, in milliseconds after `began`.
    writing_since: AtomicU64,
    draining: AtomicBool,
}

impl Health {
    /// The health of a worker that begins now: no latch is released, no tick was seen.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(HealthState {
            began: now,
            last_tick: AtomicU64::new(NEVER),
            released: Default::default(),
            failures: AtomicU32::new(0),
            writing_since: AtomicU64::new(NEVER),
            draining: AtomicBool::new(false),
        }))
    }

    /// Notes a turn of the training loop.
    pub fn tick(&self, now: Instant) {
        self.0.last_tick.store(self.millis(now), Ordering::Relaxed);
    }

    /// Releases a latch, for good.
    pub fn release(&self, latch: Latch) {
        self.0.released[latch as usize].store(true, Ordering::Release);
    }

    /// Notes that a checkpoint is being written from now on.
    pub fn checkpoint_started(&self, now: Instant) {
        self.0.writing_since.store(self.millis(now), Ordering::Relaxed);
    }

    /// Notes that the checkpoint was written.
    pub fn checkpoint_written(&self) {
        self.0.writing_since.store(NEVER, Ordering::Relaxed);
        self.0.failures.store(0, Ordering::Relaxed);
    }

    /// Notes that the checkpoint could not be written.
    pub fn checkpoint_failed(&self) {
        self.0.writing_since.store(NEVER, Ordering::Relaxed);
        self.0.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the worker finishes: from now on it is not ready.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the worker is alive.
    pub fn liveness(&self, now: Instant) -> Liveness {
        let silence = match self.0.last_tick.load(Ordering::Relaxed) {
            NEVER => None,
            tick => Some(Duration::from_millis(self.millis(now).saturating_sub(tick))),
        };
        Liveness {
            alive: silence.is_none_or(|silence| silence < MAX_SILENCE),
            seconds_since_tick: silence.map(|silence| silence.as_secs_f64()),
        }
    }

    /// Whether the worker is ready.
    pub fn readiness(&self, now: Instant) -> Readiness {
        let closed = |latch: &Latch| !self.0.released[*latch as usize].load(Ordering::Acquire);
        let missing: Vec<_> = Latch::ALL.into_iter().filter(closed).map(Latch::name).collect();
        let draining = self.0.draining.load(Ordering::Acquire);
        let hangs = match self.0.writing_since.load(Ordering::Relaxed) {
            NEVER => false,
            since => self.millis(now).saturating_sub(since) > MAX_WRITE_TIME.as_millis() as u64,
        };
        let unsaved = hangs || self.0.failures.load(Ordering::Relaxed) >= MAX_FAILURES;
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
    fn liveness_ends_after_a_minute_without_a_tick_and_returns_with_one() {
        let start = Instant::now();
        let health = Health::new(start);
        assert!(health.liveness(start + MAX_SILENCE * 10).alive, "restoring may take long");
        health.tick(start + Duration::from_secs(5));
        assert!(health.liveness(start + Duration::from_secs(64)).alive);
        let late = health.liveness(start + Duration::from_secs(65));
        assert_eq!(late, Liveness { alive: false, seconds_since_tick: Some(60.0) });
        health.tick(start + Duration::from_secs(66));
        assert!(health.liveness(start + Duration::from_secs(67)).alive);
    }

    #[test]
    fn readiness_needs_every_latch_and_ends_with_draining() {
        let now = Instant::now();
        let health = Health::new(now);
        assert_eq!(health.readiness(now).missing, ["restored", "source open", "waiting for the group"]);
        health.release(Latch::SourceOpen);
        assert_eq!(health.readiness(now).missing, ["restored", "waiting for the group"]);
        health.release(Latch::Restored);
        assert_eq!(health.readiness(now).missing, ["waiting for the group"]);
        health.release(Latch::Assigned);
        assert!(health.readiness(now).ready);
        health.drain();
        health.release(Latch::Restored);
        let readiness = health.readiness(now);
        assert!(!readiness.ready && readiness.draining && readiness.missing.is_empty());
    }

    #[test]
    fn readiness_ends_while_checkpoints_fail_or_hang() {
        let start = Instant::now();
        let health = Health::new(start);
        Latch::ALL.into_iter().for_each(|latch| health.release(latch));
        for failures in 1..=MAX_FAILURES {
            health.checkpoint_started(start);
            assert!(health.readiness(start + MAX_WRITE_TIME).ready);
            health.checkpoint_failed();
            assert_eq!(health.readiness(start + MAX_WRITE_TIME * 2).unsaved, failures == MAX_FAILURES);
        }
        health.checkpoint_started(start);
        health.checkpoint_written();
        assert!(health.readiness(start).ready);
        health.checkpoint_started(start);
        let late = start + MAX_WRITE_TIME + Duration::from_secs(1);
        assert!(health.readiness(late).unsaved && !health.readiness(late).ready);
        health.checkpoint_written();
        assert!(health.readiness(late).ready);
    }
}
