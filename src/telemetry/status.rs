//! The state of the worker as plain data: what the trainer publishes, and the page, the log line and the metrics show.
//!
//! [`SharedStatus`] carries it between threads and keeps the history for the chart. Publishing and reading take a lock
//! for the time of a copy (some kilobytes); neither waits for anything else. Nothing in here computes a figure.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};

use crate::event::{EventCounts, Evicted};

/// Points that the history keeps at most.
const HISTORY_POINTS: usize = 500;

/// What the worker is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing yet.
    #[default]
    Starting,
    /// Reads a checkpoint.
    Restoring,
    /// Has nothing to train on at the moment.
    Waiting,
    /// Trains.
    Training,
    /// Writes a checkpoint.
    Checkpointing,
    /// Was told to stop and finishes.
    Draining,
    /// Reached the end, or stopped as told.
    Done,
    /// Gave up.
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

    /// Its name in metrics, log lines and JSON.
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

/// How well the target was ranked, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Ranking {
    /// Share of targets among the best 20.
    pub hit_rate: f64,
    /// NDCG@20.
    pub ndcg: f64,
    /// MRR@20.
    pub mrr: f64,
}

/// The evaluation on the stream itself. `None` where nothing was ranked yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Events that count.
    pub events: u64,
    /// The model, over all of them.
    pub model: Option<Ranking>,
    /// The model, over a recent window.
    pub model_recent: Option<Ranking>,
    /// Decayed popularity, the baseline, over all of them.
    pub popularity: Option<Ranking>,
    /// Decayed popularity, over the same recent window.
    pub popularity_recent: Option<Ranking>,
    /// Events of the recent window.
    pub recent_events: u64,
    /// The model's hit rate over the third of the events with the rarest targets.
    pub tail_hit_rate: Option<f64>,
    /// The same over the third with the most frequent ones.
    pub head_hit_rate: Option<f64>,
    /// The same over the events whose targets came fewer than 5 times before.
    pub cold_hit_rate: Option<f64>,
}

/// The newest checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckpointSummary {
    /// The name of its folder.
    pub name: String,
    /// Records read when it was taken.
    pub events: u64,
    /// How long it took to write, in seconds; training went on meanwhile.
    pub seconds: f64,
    /// How long training stood still for it, in seconds.
    pub pause: f64,
    /// Its size.
    pub bytes: u64,
}

/// How far one stream is behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StreamLag {
    /// The stream's label. Data from outside: escape it where it is shown.
    pub stream: String,
    /// Records that are there and not trained yet; `None` where the end is not known.
    pub events: Option<u64>,
}

/// A point of the chart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Point {
    /// Records read by then.
    pub events: u64,
    /// The model's hit rate over the recent window.
    pub hit_rate: Option<f64>,
    /// Decayed popularity's.
    pub popularity_hit_rate: Option<f64>,
    /// The loss.
    pub loss: Option<f64>,
    /// Events per second.
    pub events_per_second: f64,
}

/// A bounded number of points, evenly spread over everything that was offered. Once it is full, every other point goes
/// and only every other offer is taken from then on.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    points: Vec<Point>,
    stride: u64,
    offered: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, offered: 0 }
    }
}

impl History {
    /// Offers a point.
    pub fn offer(&mut self, point: Point) {
        if self.offered.is_multiple_of(self.stride) {
            self.points.push(point);
        }
        self.offered += 1;
        if self.points.len() > HISTORY_POINTS {
            let mut place = 0;
            self.points.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// The points, oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.points.serialize(serializer)
    }
}

/// What one proposal of negatives brings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProposalSummary {
    /// `batch`, `bank`, or a sampler's name.
    pub name: String,
    /// Its share of all draws.
    pub share: f64,
    /// Its entropy, in nats.
    pub entropy: Option<f64>,
    /// Its divergence from the live items' frequencies, in nats.
    pub divergence: Option<f64>,
    /// Share of its draws that were candidates already.
    pub collisions: Option<f64>,
}

/// The bank, and how long frequencies remember.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Negatives {
    /// The half-life of frequencies, in events: as configured, or as the stream has chosen.
    pub half_life: Option<f64>,
    /// Items that can be drawn.
    pub live_items: u64,
    /// Entries of the bank.
    pub bank: u64,
    /// Events since the mean entry came in.
    pub bank_age: Option<f64>,
    /// Events since the oldest entry came in.
    pub bank_oldest: Option<u64>,
    /// Mean cosine of the bank's vectors with the current ones.
    pub bank_cosine: Option<f64>,
}

/// What takes memory, in bytes. What the parts take is estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Rows of items.
    pub items: u64,
    /// Rows of users, and their pasts.
    pub users: u64,
    /// Names of both.
    pub names: u64,
    /// The whole process; `None` where the operating system does not tell.
    pub resident: Option<u64>,
    /// The whole process, at most so far.
    pub peak: Option<u64>,
}

/// How one part of an objective did in the newest step.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PartSummary {
    /// The objective.
    pub objective: String,
    /// Which part of it; empty where it has but one.
    pub part: String,
    /// Mean loss, in nats.
    pub loss: f64,
    /// Lower bound on the mutual information of what was contrasted, in nats.
    pub bound: Option<f64>,
    /// What its pairs counted on average.
    pub acceptance: Option<f64>,
}

/// Watched negatives of one proposal and one band of popularity.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Watched {
    /// `batch`, `bank`, or a sampler's name.
    pub proposal: String,
    /// How often the items came before.
    pub band: &'static str,
    /// Negatives of watched queries.
    pub used: u64,
    /// Of these, chosen by the same user soon after.
    pub r#false: u64,
}

/// Everything that is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// What the worker is doing.
    pub phase: Phase,
    /// What became of the records.
    pub events: EventCounts,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of work of this process.
    pub seconds: f64,
    /// Records read per second, lately.
    pub events_per_second: f64,
    /// The loss, smoothed.
    pub loss: Option<f64>,
    /// The bound on mutual information, in nats.
    pub mi_bound: Option<f64>,
    /// By objective and part.
    pub parts: Vec<PartSummary>,
    /// β, the share of popularity that is preference.
    pub beta: Option<f64>,
    /// τ.
    pub temperature: Option<f64>,
    /// The negatives, altogether.
    pub negatives: Negatives,
    /// By proposal.
    pub proposals: Vec<ProposalSummary>,
    /// Negatives that were watched.
    pub watched: Vec<Watched>,
    /// Items known.
    pub items: u64,
    /// Users known.
    pub users: u64,
    /// Rows that went.
    pub evicted: Evicted,
    /// What takes memory.
    pub memory: Memory,
    /// The evaluation on the stream itself.
    pub evaluation: Evaluation,
    /// The newest checkpoint, where there is one.
    pub checkpoint: Option<CheckpointSummary>,
    /// How far each stream is behind.
    pub lag: Vec<StreamLag>,
    /// Time of the newest trained event, in milliseconds since 1970-01-01 UTC.
    pub newest_event: Option<i64>,
    /// Kept by [`SharedStatus`]; whoever publishes leaves it empty.
    pub history: History,
}

impl Status {
    fn point(&self) -> Point {
        Point {
            events: self.events.read,
            hit_rate: self.evaluation.model_recent.map(|ranking| ranking.hit_rate),
            popularity_hit_rate: self.evaluation.popularity_recent.map(|ranking| ranking.hit_rate),
            loss: self.loss,
            events_per_second: self.events_per_second,
        }
    }
}

/// A cheap handle on the newest [`Status`]; clones show the same one.
#[derive(Debug, Clone, Default)]
pub struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    /// A handle on the state of a worker that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the status. Where records were read since, a point is added to the history, which outlives the
    /// replacement; a history that `status` brings along is ignored.
    pub fn publish(&self, mut status: Status) {
        let mut current = self.lock();
        status.history = std::mem::take(&mut current.history);
        if status.events.read > current.events.read {
            status.history.offer(status.point());
        }
        *current = status;
    }

    /// Changes only the phase.
    pub fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// The newest status, with its history.
    pub fn snapshot(&self) -> Status {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        // A status is replaced whole, so what a panicking thread left behind is whole too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;

    fn at(read: u64) -> Status {
        Status { events: EventCounts { read, ..EventCounts::default() }, ..Status::default() }
    }

    #[test]
    fn the_history_is_bounded_even_and_in_order() {
        let mut history = History::default();
        for events in 0..10_000 {
            history.offer(Point { events, ..Point::default() });
        }
        let points = history.points();
        assert!((HISTORY_POINTS / 2..=HISTORY_POINTS).contains(&points.len()), "{} points", points.len());
        let step = points[1].events - points[0].events;
        assert!(points.windows(2).all(|pair| pair[1].events - pair[0].events == step));
        assert!(points[points.len() - 1].events + step >= 10_000);
    }

    #[test]
    fn publishing_keeps_the_history_and_adds_to_it_only_on_progress() {
        let shared = SharedStatus::new();
        let reader = shared.clone();
        for read in [10, 20, 20, 30] {
            shared.publish(at(read));
        }
        shared.enter(Phase::Draining);
        let seen = reader.snapshot();
        assert_eq!(seen.history.points().iter().map(|point| point.events).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!((seen.events.read, seen.phase), (30, Phase::Draining));
    }

    #[test]
    fn json_has_every_reason_and_no_number_that_json_lacks() {
        let mut status = at(5);
        status.events.rejected.add(Reason::TimestampOutOfRange, 2);
        status.loss = Some(f64::NAN);
        let json = serde_json::to_value(&status).expect("plain data");
        assert_eq!(json["phase"], "starting");
        assert_eq!(json["events"]["rejected"]["timestamp_out_of_range"], 2);
        for reason in Reason::ALL {
            assert!(json["events"]["rejected"][reason.name()].is_u64());
        }
        assert!(json["loss"].is_null());
        assert_eq!(status.events.rejected.total(), 2);
    }

    #[test]
    fn names_of_phases_are_those_in_json() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("plain data"), phase.name());
        }
    }
}
