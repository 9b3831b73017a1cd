//! The figures of a sink: what it was sent, what waits for it, and how long events take to be visible in it.

use serde::Serialize;

use super::freshness::BUCKETS;
use crate::metric::{Histogram, Instrumented, Metric};

/// How a sink is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkCondition {
    /// It is being sent something, or waits for its first update.
    #[default]
    Sending,
    /// It holds what it was given.
    Settled,
    /// It does not keep up: what waited for it was dropped, all rows follow.
    Behind,
    /// It cannot be reached, or not now; all rows follow once it is back.
    Away,
    /// It refused the newest update: credentials, another model, no room. Somebody has to do something.
    Refused,
}

impl SinkCondition {
    /// All of them.
    const ALL: [Self; 5] = [Self::Sending, Self::Settled, Self::Behind, Self::Away, Self::Refused];

    /// The name in metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Settled => "settled",
            Self::Behind => "behind",
            Self::Away => "away",
            Self::Refused => "refused",
        }
    }
}

/// What was sent to one sink, and how fresh it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SinkFigures {
    /// The sink's name; a number follows it where others of its kind come before it.
    pub sink: String,
    /// How it is.
    pub condition: SinkCondition,
    /// Rows that it took, with their embeddings; those that left are counted too.
    pub rows: u64,
    /// Log-frequencies that it took without their embeddings.
    pub popularity_rows: u64,
    /// Bytes of identifiers, embeddings and frequencies that it took, before a protocol adds its own.
    pub bytes: u64,
    /// Updates that it took.
    pub updates: u64,
    /// Updates that brought the whole table.
    pub full_updates: u64,
    /// Updates that failed, or were dropped since the sink did not keep up.
    pub errors: u64,
    /// Rows that wait to be sent.
    pub queue_rows: u64,
    /// Rows that moved, and are held back since it was not far enough.
    pub held_rows: u64,
    /// Seconds since the oldest of them moved; `None` where none is held back.
    pub oldest_held_seconds: Option<u64>,
    /// Share of the lists of the best items that what is published gives as the live model does, measured lately on a sample;
    /// `None` before that, and where every touched row is sent.
    pub recall: Option<f64>,
    /// Seconds from an event's own time until an update that was copied after it is visible in the sink; on a live stream.
    pub event_to_visible: Histogram,
    /// Seconds from when an event was read until such an update is visible in the sink; on a live stream.
    pub read_to_visible: Histogram,
}

impl SinkFigures {
    pub(crate) fn new(sink: String) -> Self {
        Self {
            sink,
            condition: SinkCondition::default(),
            rows: 0,
            popularity_rows: 0,
            bytes: 0,
            updates: 0,
            full_updates: 0,
            errors: 0,
            queue_rows: 0,
            held_rows: 0,
            oldest_held_seconds: None,
            recall: None,
            event_to_visible: Histogram::new(BUCKETS),
            read_to_visible: Histogram::new(BUCKETS),
        }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let Self { sink, condition, rows, bytes, updates, errors, held_rows, recall, .. } = self;
        let mut text =
            format!("{sink} {}: {rows} rows, {} kB in {updates} updates", condition.name(), bytes.div_ceil(1_000));
        if let Some(recall) = recall {
            text.push_str(&format!(", recall {recall:.4}"));
        }
        if *held_rows > 0 {
            text.push_str(&format!(", {held_rows} rows held back"));
        }
        if *errors > 0 {
            text.push_str(&format!(", {errors} errors"));
        }
        if let Some(seconds) = self.read_to_visible.quantile(0.99) {
            text.push_str(&format!(", visible in {seconds:.2} s (99 %)"));
        }
        text
    }
}

/// Adds a sample for each sink.
macro_rules! by_sink {
    ($figure:ident) => {
        |sinks, samples| sinks.iter().for_each(|sink| samples.put_for([&sink.sink], sink.$figure))
    };
}

impl Instrumented for Vec<SinkFigures> {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge_by(
            "negstream_sink_condition",
            &["sink", "condition"],
            "1 for how the sink is, 0 for everything else: `sending`; `settled`, it holds what it was given; `behind`, it does not \
             keep up; `away`; `refused`, somebody has to do something.",
            |sinks, samples| {
                for sink in sinks {
                    for condition in SinkCondition::ALL {
                        samples.put_for([&sink.sink, condition.name()], sink.condition == condition);
                    }
                }
            },
        ),
        Metric::counter_by("negstream_sink_rows_total", &["sink"], "Rows that the sink took.", by_sink!(rows)),
        Metric::counter_by(
            "negstream_sink_popularity_rows_total",
            &["sink"],
            "Log-frequencies that the sink took without their embeddings.",
            by_sink!(popularity_rows),
        ),
        Metric::counter_by(
            "negstream_sink_bytes_total",
            &["sink"],
            "Bytes of identifiers, embeddings and frequencies that the sink took.",
            by_sink!(bytes),
        ),
        Metric::counter_by("negstream_sink_updates_total", &["sink"], "Updates that the sink took.", by_sink!(updates)),
        Metric::counter_by(
            "negstream_sink_full_updates_total",
            &["sink"],
            "Updates that the sink took and that brought the whole table: one, and another after each error.",
            by_sink!(full_updates),
        ),
        Metric::counter_by(
            "negstream_sink_errors_total",
            &["sink"],
            "Updates that failed, or were dropped since the sink did not keep up.",
            by_sink!(errors),
        ),
        Metric::gauge_by("negstream_sink_queue_rows", &["sink"], "Rows that wait for the sink.", by_sink!(queue_rows)),
        Metric::gauge_by(
            "negstream_sink_held_rows",
            &["sink"],
            "Rows that moved, and are held back since it was not far enough.",
            by_sink!(held_rows),
        ),
        Metric::gauge_by(
            "negstream_sink_oldest_held_seconds",
            &["sink"],
            "Time since the oldest row moved that is held back; NaN where none is.",
            by_sink!(oldest_held_seconds),
        ),
        Metric::gauge_by(
            "negstream_sink_recall",
            &["sink"],
            "Recall@20 of what is published against the live embeddings, measured lately on a sample; NaN before that, and where \
             every touched row is sent.",
            by_sink!(recall),
        ),
        Metric::histogram_by(
            "negstream_sink_freshness_seconds",
            &["sink", "from"],
            "Time from when an event happened (`event`), or was read (`read`), until an update that was copied after it is visible \
             in the sink; on a live stream.",
            |sinks, samples| {
                for sink in sinks {
                    samples.put_for([&sink.sink, "event"], &sink.event_to_visible);
                    samples.put_for([&sink.sink, "read"], &sink.read_to_visible);
                }
            },
        ),
    ];
}
