//! The figures of this process's run: what the events of the pipeline add up to.

use serde::Serialize;

use super::process::ProcessMemory;
use crate::metric::{Histogram, Instrumented, Metric};
use crate::pipeline::{DisorderFigures, FreshnessFigures, ShareFigures, SinkFigures, WrittenCheckpoint};

/// Upper bounds of the buckets for a step and for the pause of a checkpoint: half a millisecond to seconds.
const STEP_BUCKETS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
/// Upper bounds of the buckets for writing a checkpoint: from a small one to one that is too slow.
const CHECKPOINT_BUCKETS: &[f64] = &[0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// What the events of the pipeline add up to since this process began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFigures {
    /// Seconds of work.
    pub seconds: f64,
    /// Records read per second, smoothed over some seconds.
    pub events_per_second: f64,
    /// Time of the newest event trained on, in milliseconds since 1970-01-01 UTC.
    pub newest_event: Option<i64>,
    /// Times of training steps, in seconds.
    pub step_seconds: Histogram,
    /// Rejected records that were kept as dead letters.
    pub dead_letters: u64,
    /// How fresh what is learnt is.
    pub freshness: FreshnessFigures,
    /// How far out of order the events were.
    pub disorder: DisorderFigures,
    /// What was sent to those who share the model, and received of them; `None` where nobody does.
    pub sharing: Option<ShareFigures>,
    /// What embeddings are published to.
    pub sinks: Vec<SinkFigures>,
    /// Checkpoints of this process.
    pub checkpoints: CheckpointFigures,
    /// How far each stream of this worker is behind.
    pub lag: Vec<StreamLag>,
    /// Memory of the process.
    pub memory: ProcessMemory,
}

impl Default for RunFigures {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            events_per_second: 0.0,
            newest_event: None,
            step_seconds: Histogram::new(STEP_BUCKETS),
            dead_letters: 0,
            freshness: FreshnessFigures::default(),
            disorder: DisorderFigures::default(),
            sharing: None,
            sinks: Vec::new(),
            checkpoints: CheckpointFigures::default(),
            lag: Vec::new(),
            memory: ProcessMemory::default(),
        }
    }
}

/// The checkpoints of this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointFigures {
    /// Checkpoints that became durable.
    pub written: u64,
    /// Checkpoints that could not be written.
    pub failed: u64,
    /// Checkpoints that were due while the one before was still being written.
    pub skipped: u64,
    /// Whether a checkpoint is being written.
    pub is_in_progress: bool,
    /// When the newest checkpoint became durable, in seconds since 1970-01-01 UTC; the start of the process before the
    /// first; `None` before the process is served.
    pub written_at: Option<f64>,
    /// The newest checkpoint of this process.
    pub newest: Option<WrittenCheckpoint>,
    /// Times of writing a checkpoint, in seconds; training goes on meanwhile.
    pub seconds: Histogram,
    /// Times that training stood still for a checkpoint, in seconds.
    pub pause_seconds: Histogram,
}

impl Default for CheckpointFigures {
    fn default() -> Self {
        Self {
            written: 0,
            failed: 0,
            skipped: 0,
            is_in_progress: false,
            written_at: None,
            newest: None,
            seconds: Histogram::new(CHECKPOINT_BUCKETS),
            pause_seconds: Histogram::new(STEP_BUCKETS),
        }
    }
}

/// How far one stream is behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StreamLag {
    /// The stream's label. It comes from outside: whoever shows it has to escape it.
    pub stream: String,
    /// Records that are there and not trained on yet.
    pub events: u64,
}

impl Instrumented for RunFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::histogram("negstream_step_seconds", "Time of a training step.", |run, samples| {
            samples.put(&run.step_seconds);
        }),
        Metric::gauge(
            "negstream_newest_event_timestamp_seconds",
            "Time of the newest event trained on, since 1970.",
            |run, samples| samples.put(run.newest_event.map(|millis| millis as f64 / 1_000.0)),
        ),
        Metric::counter("negstream_dead_letters_total", "Rejected records kept as dead letters.", |run, samples| {
            samples.put(run.dead_letters);
        }),
        Metric::gauge_by(
            "negstream_lag_events",
            &["stream"],
            "Records that are there and not trained on yet.",
            |run, samples| {
                run.lag.iter().for_each(|lag| samples.put_for([&lag.stream], lag.events));
            },
        ),
    ];
}

impl Instrumented for CheckpointFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter("negstream_checkpoints_total", "Checkpoints written by this process.", |figures, samples| {
            samples.put(figures.written);
        }),
        Metric::counter(
            "negstream_checkpoint_failures_total",
            "Checkpoints that could not be written.",
            |figures, samples| samples.put(figures.failed),
        ),
        Metric::counter(
            "negstream_checkpoints_skipped_total",
            "Checkpoints that were due while the one before was still being written.",
            |figures, samples| samples.put(figures.skipped),
        ),
        Metric::gauge(
            "negstream_checkpoint_in_progress",
            "1 while a checkpoint is being written.",
            |figures, samples| samples.put(figures.is_in_progress),
        ),
        Metric::histogram(
            "negstream_checkpoint_pause_seconds",
            "How long training stood still for a checkpoint.",
            |figures, samples| samples.put(&figures.pause_seconds),
        ),
        Metric::histogram("negstream_checkpoint_seconds", "Time of writing a checkpoint.", |figures, samples| {
            samples.put(&figures.seconds);
        }),
        Metric::gauge("negstream_checkpoint_size_bytes", "Size of the newest checkpoint.", |figures, samples| {
            samples.put(figures.newest.as_ref().map(|newest| newest.bytes));
        }),
        Metric::gauge(
            "negstream_checkpoint_events",
            "Records read when the newest checkpoint was taken.",
            |figures, samples| samples.put(figures.newest.as_ref().map(|newest| newest.events)),
        ),
        Metric::gauge(
            "negstream_checkpoint_timestamp_seconds",
            "When this process last wrote a checkpoint, since 1970; its start, before the first.",
            |figures, samples| samples.put(figures.written_at),
        ),
    ];
}
