//! Liveness and readiness, for an orchestrator.
//!
//! | question | answered by | yes when |
//! | --- | --- | --- |
//! | is it alive? | the tick of the training loop | the last tick is less than a minute old |
//! | is it ready? | latches, each released once | all are released, and it is not draining |
//!
//! A broker that is away makes a worker neither dead nor unready: restarting would not bring it back. Until the first
//! tick a worker counts as alive, since reading a large checkpoint may take longer than a minute. Nothing here reads a
//! clock: the time is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long the training loop may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);

/// No tick yet.
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
    draining: AtomicBool,
}

impl Health {
    /// All latches closed, no tick yet.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(State {
            began: now,
            last_tick: AtomicU64::new(NEVER),
            released: Default::default(),
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
    pub fn readiness(&self) -> Readiness {
        let closed = |latch: &Latch| !self.0.released[*latch as usize].load(Ordering::Acquire);
        let missing: Vec<_> = Latch::ALL.into_iter().filter(closed).map(Latch::name).collect();
        let draining = self.0.draining.load(Ordering::Acquire);
        Readiness { ready: missing.is_empty() && !draining, missing, draining }
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
        let health = Health::new(Instant::now());
        assert_eq!(health.readiness().missing, ["restored", "source open"]);
        health.release(Latch::SourceOpen);
        assert_eq!(health.readiness().missing, ["restored"]);
        health.release(Latch::Restored);
        assert!(health.readiness().ready);
        health.drain();
        health.release(Latch::Restored);
        let readiness = health.readiness();
        assert!(!readiness.ready && readiness.draining && readiness.missing.is_empty());
    }
}
