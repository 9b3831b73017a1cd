//! Freshness: how long events take from when they happened, and from when they were read, until they are in the weights and
//! until they are in a durable checkpoint.
//!
//! It is measured on live streams only: the times of a historical log say nothing of today. Memory is bounded, however many
//! events are trained on between two checkpoints: what waits for one is a sketch ([`AgeSketch`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::metric::{Histogram, Instrumented, Metric};

/// Upper bounds of the buckets, in seconds: from a busy stream's batch to a backlog of a day.
pub(super) const BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1_800.0,
    3_600.0, 21_600.0, 86_400.0,
];
/// Width of a slot of time in a sketch, at first, in milliseconds.
const SLOT_MS: u64 = 250;
/// Most entries of a sketch; where there are more, its slots become twice as wide.
const MOST_ENTRIES: usize = 4_096;
/// Buckets of age for each doubling, in a sketch: an age is known to about four percent.
const BUCKETS_PER_DOUBLING: f64 = 8.0;

/// How fresh a worker is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FreshnessFigures {
    /// Seconds from an event's own time until it is in the weights.
    pub event_to_weights: Histogram,
    /// Seconds from when an event was read until it is in the weights.
    pub read_to_weights: Histogram,
    /// Seconds from an event's own time until it is in a durable checkpoint.
    pub event_to_checkpoint: Histogram,
    /// Seconds from when an event was read until it is in a durable checkpoint.
    pub read_to_checkpoint: Histogram,
    /// When the oldest event was read that waits for its batch, in seconds since 1970; `None` where none waits.
    pub oldest_untrained: Option<f64>,
    /// When the oldest event was read that is in no durable checkpoint, in seconds since 1970; `None` where there is none.
    pub oldest_unsaved: Option<f64>,
    /// Batches that the clock has cut.
    pub clock_cuts: u64,
}

impl Default for FreshnessFigures {
    fn default() -> Self {
        let empty = || Histogram::new(BUCKETS);
        Self {
            event_to_weights: empty(),
            read_to_weights: empty(),
            event_to_checkpoint: empty(),
            read_to_checkpoint: empty(),
            oldest_untrained: None,
            oldest_unsaved: None,
            clock_cuts: 0,
        }
    }
}

impl Instrumented for FreshnessFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::histogram_by(
            "negstream_freshness_seconds",
            &["from", "to"],
            "Time from when an event happened (`event`), or was read (`read`), until it is in the weights (`weights`), or in a \
             durable checkpoint (`checkpoint`); on a live stream.",
            |figures, samples| {
                samples.put_for(["event", "weights"], &figures.event_to_weights);
                samples.put_for(["read", "weights"], &figures.read_to_weights);
                samples.put_for(["event", "checkpoint"], &figures.event_to_checkpoint);
                samples.put_for(["read", "checkpoint"], &figures.read_to_checkpoint);
            },
        ),
        Metric::gauge(
            "negstream_oldest_untrained_timestamp_seconds",
            "When the oldest event was read that waits for its batch, since 1970; NaN where none waits.",
            |figures, samples| samples.put(figures.oldest_untrained),
        ),
        Metric::gauge(
            "negstream_oldest_unsaved_timestamp_seconds",
            "When the oldest event was read that is in no durable checkpoint, since 1970; NaN where there is none.",
            |figures, samples| samples.put(figures.oldest_unsaved),
        ),
        Metric::counter("negstream_clock_cuts_total", "Batches that the clock has cut.", |figures, samples| {
            samples.put(figures.clock_cuts);
        }),
    ];
}

/// An event that waits for its batch.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    read_at: Instant,
    /// The event's own time, milliseconds since 1970.
    happened: i64,
}

/// Measures how fresh a worker is.
#[derive(Debug)]
pub(super) struct Freshness {
    /// Whether the stream is live: nothing is measured otherwise.
    is_live: bool,
    began: Instant,
    waiting: Vec<Arrival>,
    /// Trained since the newest checkpoint was begun.
    unsaved: Unsaved,
    /// Part of the checkpoint that is being written.
    in_writing: Unsaved,
    /// Trained since the sinks were given something last; `None` where there are no sinks.
    unpublished: Option<Unsaved>,
    figures: FreshnessFigures,
}

impl Freshness {
    pub(super) fn new(is_live: bool) -> Self {
        Self {
            is_live,
            began: Instant::now(),
            waiting: Vec::new(),
            unsaved: Unsaved::default(),
            in_writing: Unsaved::default(),
            unpublished: None,
            figures: FreshnessFigures::default(),
        }
    }

    /// Keeps for sinks, too, how old the events were.
    pub(super) fn keep_for_sinks(&mut self) {
        self.unpublished = self.is_live.then(Unsaved::default);
    }

    /// How old the events were that were trained on since the last call.
    pub(super) fn take_unpublished(&mut self) -> EventAges {
        let events = self.unpublished.as_mut().map(std::mem::take).unwrap_or_default();
        EventAges { began: self.began, events }
    }

    /// Notes an event that waits for its batch: when it was read, and its own time.
    pub(super) fn note_arrival(&mut self, read_at: Instant, happened: i64) {
        if self.is_live {
            self.waiting.push(Arrival { read_at, happened });
        }
    }

    /// Notes that all events but the newest `n_waiting` are in the weights now.
    pub(super) fn note_trained(&mut self, n_waiting: usize) {
        let n_trained = self.waiting.len().saturating_sub(n_waiting);
        if n_trained == 0 {
            return;
        }
        let (now, today) = (Instant::now(), milliseconds_since_1970());
        let at = millis(now - self.began);
        for Arrival { read_at, happened } in self.waiting.drain(..n_trained) {
            self.unsaved.oldest.get_or_insert(read_at);
            let since_read = now.saturating_duration_since(read_at).as_secs_f64();
            // Of a clock that is ahead nothing is known but that the event is new.
            let since_event = (today.saturating_sub(happened).max(0) as f64 / 1e3).max(since_read);
            self.figures.read_to_weights.observe(since_read);
            self.figures.event_to_weights.observe(since_event);
            for pending in [Some(&mut self.unsaved), self.unpublished.as_mut()].into_iter().flatten() {
                pending.since_read.add(at, since_read, 1);
                pending.since_event.add(at, since_event, 1);
            }
        }
    }

    /// Notes a cut that the clock made.
    pub(super) fn note_clock_cut(&mut self) {
        self.figures.clock_cuts += 1;
    }

    /// Notes that a checkpoint of all that is in the weights was begun.
    pub(super) fn note_begun(&mut self) {
        let begun = std::mem::take(&mut self.unsaved);
        self.in_writing.merge(begun);
    }

    /// Notes whether the checkpoint that was begun last is durable now, or was not written.
    pub(super) fn note_written(&mut self, is_durable: bool) {
        let mut written = std::mem::take(&mut self.in_writing);
        if is_durable {
            let at = millis(self.began.elapsed());
            written.since_read.observe_into(&mut self.figures.read_to_checkpoint, at);
            written.since_event.observe_into(&mut self.figures.event_to_checkpoint, at);
        } else {
            written.merge(std::mem::take(&mut self.unsaved));
            self.unsaved = written;
        }
    }

    /// The figures as they stand.
    pub(super) fn figures(&self) -> FreshnessFigures {
        let today = milliseconds_since_1970() as f64 / 1e3;
        let date = |read_at: Instant| today - read_at.elapsed().as_secs_f64();
        let waiting = self.waiting.first().map(|arrival| arrival.read_at);
        FreshnessFigures {
            oldest_untrained: waiting.map(date),
            oldest_unsaved: self.in_writing.oldest.or(self.unsaved.oldest).or(waiting).map(date),
            ..self.figures.clone()
        }
    }
}

/// How old events were when they were trained on that no sink shows yet.
#[derive(Debug, Clone)]
pub(super) struct EventAges {
    began: Instant,
    events: Unsaved,
}

impl EventAges {
    /// Of no event.
    pub(super) fn none() -> Self {
        Self { began: Instant::now(), events: Unsaved::default() }
    }

    /// Adds newer events.
    pub(super) fn merge(&mut self, newer: Self) {
        // Those of no event know of no beginning.
        self.began = newer.began;
        self.events.merge(newer.events);
    }

    /// Counts every event with the ages that it has now, since it was read and since it happened.
    pub(super) fn observe_into(&self, since_read: &mut Histogram, since_event: &mut Histogram) {
        let at = millis(self.began.elapsed());
        self.events.since_read.observe_into(since_read, at);
        self.events.since_event.observe_into(since_event, at);
    }
}

/// What is in the weights and in no durable checkpoint, or no sink.
#[derive(Debug, Clone, Default)]
struct Unsaved {
    /// When the oldest of it was read.
    oldest: Option<Instant>,
    since_read: AgeSketch,
    since_event: AgeSketch,
}

impl Unsaved {
    /// Adds what is newer.
    fn merge(&mut self, newer: Self) {
        self.oldest = self.oldest.or(newer.oldest);
        self.since_read.merge(newer.since_read);
        self.since_event.merge(newer.since_event);
    }
}

/// How old events were when they were trained on, and when that was: so many of each age in each slot of time. Ages are known to
/// a few percent, times to a slot, and it never has more than some thousand entries.
#[derive(Debug, Clone)]
struct AgeSketch {
    /// Width of a slot, in milliseconds.
    slot_ms: u64,
    /// Events by slot and by the bucket of their age.
    counts: BTreeMap<(u64, u16), u64>,
}

impl Default for AgeSketch {
    fn default() -> Self {
        Self { slot_ms: SLOT_MS, counts: BTreeMap::new() }
    }
}

impl AgeSketch {
    /// Adds `n` events that were `age` seconds old at the time `at`, in milliseconds.
    fn add(&mut self, at: u64, age: f64, n: u64) {
        let bucket = ((1.0 + age * 1e3).log2() * BUCKETS_PER_DOUBLING).round() as u16;
        *self.counts.entry((at / self.slot_ms, bucket)).or_default() += n;
        self.shrink();
    }

    /// Widens the slots until there are few enough entries.
    fn shrink(&mut self) {
        while self.counts.len() > MOST_ENTRIES && self.slot_ms < u64::MAX / 4 {
            self.widen();
        }
    }

    /// Makes the slots twice as wide.
    fn widen(&mut self) {
        self.slot_ms *= 2;
        for ((slot, bucket), n) in std::mem::take(&mut self.counts) {
            *self.counts.entry((slot / 2, bucket)).or_default() += n;
        }
    }

    /// Adds what another sketch holds.
    fn merge(&mut self, mut other: Self) {
        while self.slot_ms < other.slot_ms {
            self.widen();
        }
        while other.slot_ms < self.slot_ms {
            other.widen();
        }
        for (key, n) in other.counts {
            *self.counts.entry(key).or_default() += n;
        }
        self.shrink();
    }

    /// Counts every event with the age that it has at the time `now`, in milliseconds.
    fn observe_into(&self, histogram: &mut Histogram, now: u64) {
        for ((slot, bucket), n) in &self.counts {
            let age = ((f64::from(*bucket) / BUCKETS_PER_DOUBLING).exp2() - 1.0) / 1e3;
            let middle = (*slot as f64 + 0.5) * self.slot_ms as f64;
            histogram.observe_many(age + (now as f64 - middle).max(0.0) / 1e3, *n);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

pub(super) fn milliseconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sketch_tells_ages_at_any_later_time_and_stays_small() {
        let mut sketch = AgeSketch::default();
        // An event every 20 ms for an hour, of ages from milliseconds to days.
        let n = 180_000_u64;
        for number in 0..n {
            sketch.add(number * 20, 0.001 * f64::from(1 << (number % 28)), 1);
        }
        assert!(sketch.counts.len() <= MOST_ENTRIES);
        assert_eq!(sketch.counts.values().sum::<u64>(), n);
        let mut sketch = AgeSketch::default();
        sketch.add(60_000, 5.0, 3);
        let mut seen = Histogram::new(&[64.0, 66.0]);
        sketch.observe_into(&mut seen, 120_000);
        assert_eq!(seen.cumulative().map(|(_, count)| count).collect::<Vec<_>>(), [0, 3, 3]);
    }

    #[test]
    fn failed_checkpoint_leaves_what_it_held_unsaved() {
        let mut freshness = Freshness::new(true);
        freshness.note_arrival(Instant::now(), 0);
        freshness.note_arrival(Instant::now(), milliseconds_since_1970());
        assert!(freshness.figures().oldest_untrained.is_some() && freshness.figures().oldest_unsaved.is_some());
        freshness.note_trained(1);
        freshness.note_begun();
        freshness.note_trained(0);
        freshness.note_written(false);
        assert!(freshness.figures().oldest_unsaved.is_some());
        freshness.note_begun();
        freshness.note_written(true);
        let figures = freshness.figures();
        assert_eq!((figures.oldest_untrained, figures.oldest_unsaved), (None, None));
        for histogram in [&figures.read_to_weights, &figures.event_to_weights] {
            assert_eq!(histogram.count(), 2);
        }
        for histogram in [&figures.read_to_checkpoint, &figures.event_to_checkpoint] {
            assert_eq!(histogram.count(), 2);
        }
        assert!(figures.event_to_weights.quantile(0.99).is_some_and(|seconds| seconds >= 86_400.0), "one is of 1970");
        assert!(figures.read_to_weights.quantile(0.99).is_some_and(|seconds| seconds <= 60.0));
    }

    #[test]
    fn historical_logs_are_not_measured() {
        let mut freshness = Freshness::new(false);
        freshness.note_arrival(Instant::now(), 0);
        freshness.note_trained(0);
        assert_eq!(freshness.figures(), FreshnessFigures::default());
    }
}
