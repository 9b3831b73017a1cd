//! The observer of a pipeline: each event gives its log line, its figures and its change of health at one place.
//!
//! [`RunObserver::observe`] is that place: one arm for each event. What changes in the status there is what metrics, page
//! and `/status` show.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::process::ProcessMemory;
use super::report::Report;
use super::status::{Status, StreamLag, TrainerFigures};
use super::{LifecycleEvent, Telemetry};
use crate::event::Rejection;
use crate::pipeline::PipelineEvent;
use crate::position::Stream;
use crate::source::LagProbe;
use crate::trainer::Trainer;
use crate::trainer::state::State;

/// How often a log line sums up where no progress bar is drawn.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// The window over which the shown rate is smoothed.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// The shortest time over which a rate is measured.
const RATE_EVERY: Duration = Duration::from_millis(200);

/// Turns the events of one run of a pipeline into status, health, log lines and a progress bar.
#[derive(Debug)]
pub struct RunObserver {
    telemetry: Telemetry,
    progress_bar: Option<ProgressBar>,
    lag_probe: Option<Arc<dyn LagProbe>>,
    began: Instant,
    read_at_start: u64,
    /// Rows of the log that were read before this run.
    bar_start: u64,
    logged: Instant,
    rate: ReadRate,
}

/// The smoothed rate of reading.
#[derive(Debug)]
struct ReadRate {
    measured: Instant,
    read: u64,
    per_second: Option<f64>,
}

impl ReadRate {
    fn measure(&mut self, now: Instant, read: u64) {
        let elapsed = now - self.measured;
        if elapsed < RATE_EVERY {
            return;
        }
        let fresh = (read - self.read) as f64 / elapsed.as_secs_f64();
        let share = 1.0 - (-elapsed.as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
        let smoothed = self.per_second.map_or(fresh, |rate| rate + share * (fresh - rate));
        *self = Self { measured: now, read, per_second: Some(smoothed) };
    }
}

impl RunObserver {
    /// An observer of a pipeline that goes on from `state`.
    pub fn new(telemetry: Telemetry, state: &State) -> Self {
        let (now, read_at_start) = (Instant::now(), state.progress.events.read);
        Self {
            telemetry,
            progress_bar: None,
            lag_probe: None,
            began: now,
            read_at_start,
            bar_start: 0,
            logged: now,
            rate: ReadRate { measured: now, read: read_at_start, per_second: None },
        }
    }

    /// Draws a bar for a log of `rows` rows, of which `done` were read before, where standard error is a terminal.
    pub fn draw_bar(&mut self, bars: &MultiProgress, rows: u64, done: u64) {
        let style = "{bar:30.cyan/dim} {percent:>3}% {human_pos}/{human_len} events  {msg}  {eta} left";
        let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━╸─");
        let bar = bars.add(ProgressBar::new(rows).with_style(style).with_position(done));
        bar.reset_eta();
        self.bar_start = done;
        if !bar.is_hidden() {
            self.progress_bar = Some(bar);
        }
    }

    /// Shows from now on how far each stream is behind its high watermark.
    pub fn show_lag(&mut self, lag_probe: Arc<dyn LagProbe>) {
        self.lag_probe = Some(lag_probe);
    }

    /// Shows what happened in the pipeline.
    pub fn observe(&mut self, trainer: &Trainer, event: PipelineEvent<'_>) {
        let now = Instant::now();
        let Self { telemetry, .. } = self;
        match event {
            PipelineEvent::Step { report, took } => telemetry.update(|status| {
                status.run.step_seconds.observe(took.as_secs_f64());
                status.run.newest_event = Some(report.last_event);
            }),
            PipelineEvent::Tick => self.tick(trainer, now),
            PipelineEvent::Assigned => telemetry.emit(LifecycleEvent::Assigned),
            PipelineEvent::RecordRejected { stream, offset, rejection, is_dead_letter, so_far } => {
                if is_dead_letter {
                    telemetry.update(|status| status.run.dead_letters += 1);
                }
                // The first of them, and ever fewer of the rest.
                if so_far.is_power_of_two() {
                    let Rejection { reason, detail, key: _, payload: _ } = rejection;
                    tracing::warn!(place = stream, offset, reason = reason.name(), %detail, so_far, "record rejected");
                }
            }
            PipelineEvent::CheckpointStarted => {
                telemetry.update(|status| {
                    status.lifecycle.is_checkpointing = true;
                    status.run.checkpoints.is_in_progress = true;
                });
                telemetry.health().checkpoint_started(now);
            }
            PipelineEvent::CheckpointSkipped => {
                telemetry.update(|status| status.run.checkpoints.skipped += 1);
                tracing::warn!(
                    events = trainer.state.progress.events.read,
                    "checkpoint skipped: the one before it is still being written; raise checkpoint.every_events"
                );
            }
            PipelineEvent::CheckpointWritten(checkpoint) => {
                telemetry.update(|status| {
                    status.lifecycle.is_checkpointing = false;
                    let figures = &mut status.run.checkpoints;
                    figures.written += 1;
                    figures.is_in_progress = false;
                    figures.seconds.observe(checkpoint.took.as_secs_f64());
                    figures.pause_seconds.observe(checkpoint.pause.as_secs_f64());
                    figures.written_at = Some(seconds_since_1970());
                    figures.newest = Some(checkpoint.clone());
                });
                telemetry.health().checkpoint_written();
                tracing::info!(
                    checkpoint = %checkpoint.path.display(),
                    events = checkpoint.events,
                    bytes = checkpoint.bytes,
                    seconds = format_args!("{:.2}", checkpoint.took.as_secs_f64()),
                    pause_ms = format_args!("{:.2}", 1e3 * checkpoint.pause.as_secs_f64()),
                    "checkpoint written"
                );
            }
            PipelineEvent::CheckpointFailed(error) => {
                telemetry.update(|status| {
                    status.lifecycle.is_checkpointing = false;
                    status.run.checkpoints.is_in_progress = false;
                    status.run.checkpoints.failed += 1;
                });
                telemetry.health().checkpoint_failed();
                tracing::error!(%error, "checkpoint failed, training goes on");
            }
            PipelineEvent::Diverged => {
                self.publish(trainer, now);
                self.telemetry.update(|status| status.trainer.training.loss = Some(f64::NAN));
            }
            PipelineEvent::Draining => telemetry.emit(LifecycleEvent::Draining),
        }
    }

    /// Clears the progress bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.progress_bar {
            bar.finish_and_clear();
        }
    }

    /// Seconds of work, and records read in them.
    pub fn progress(&self, trainer: &Trainer) -> (f64, u64) {
        (self.began.elapsed().as_secs_f64(), trainer.state.progress.events.read - self.read_at_start)
    }

    /// The report of the run; `checkpoint` is the newest one's folder.
    pub fn report(&mut self, trainer: &Trainer, checkpoint: Option<String>) -> Report {
        let (seconds, read) = self.progress(trainer);
        self.publish(trainer, Instant::now());
        Report::new(&self.telemetry.snapshot(), seconds, read, checkpoint)
    }

    fn tick(&mut self, trainer: &Trainer, now: Instant) {
        self.publish(trainer, now);
        match &self.progress_bar {
            Some(bar) => {
                let status = self.telemetry.snapshot();
                bar.set_position(self.bar_start + status.trainer.events.read - self.read_at_start);
                bar.set_message(summary(&status));
            }
            None if now - self.logged >= LOG_EVERY => {
                self.logged = now;
                log_progress(&self.telemetry.snapshot());
            }
            None => {}
        }
    }

    /// Publishes the trainer's figures as they stand.
    fn publish(&mut self, trainer: &Trainer, now: Instant) {
        let figures = TrainerFigures::of(trainer);
        self.rate.measure(now, figures.events.read);
        let lag = self.lag_probe.iter().flat_map(|probe| lag(trainer, probe.high_watermarks())).collect();
        let events_per_second = self.rate.per_second.unwrap_or(0.0);
        self.telemetry.health().tick(now);
        self.telemetry.update(|status| {
            status.lifecycle.is_training = events_per_second > 0.5;
            status.run.seconds = (now - self.began).as_secs_f64();
            status.run.events_per_second = events_per_second;
            status.run.lag = lag;
            status.run.memory = ProcessMemory::now();
            status.update(figures);
        });
    }
}

/// How far the trainer is behind the ends of its streams.
fn lag(trainer: &Trainer, high_watermarks: Vec<(Stream, u64)>) -> Vec<StreamLag> {
    let positions = &trainer.state.sources.positions;
    let lag = |(stream, high): (Stream, u64)| {
        let next = positions.next(&stream.name)?;
        Some(StreamLag { events: high.saturating_sub(next), stream: stream.label })
    };
    high_watermarks.into_iter().filter_map(lag).collect()
}

fn log_progress(status: &Status) {
    let Status { run, trainer, .. } = status;
    let rounded = |figure: Option<f64>| figure.map(|figure| (figure * 1e4).round() / 1e4);
    tracing::info!(
        events = trainer.events.read,
        events_per_second = run.events_per_second.round(),
        items = trainer.training.items,
        users = trainer.training.users,
        rejected = trainer.events.rejected.total(),
        loss = rounded(trainer.training.loss),
        mi_bound = rounded(trainer.training.mi_bound),
        recent_hr_20 = rounded(trainer.evaluation.model_recent.map(|figures| figures.hit_rate)),
        popularity_hr_20 = rounded(trainer.evaluation.popularity_recent.map(|figures| figures.hit_rate)),
        "training"
    );
}

/// The text behind a progress bar.
fn summary(status: &Status) -> String {
    let Status { run, trainer, .. } = status;
    let or_dash = |figure: Option<f64>| figure.map_or("–".to_owned(), |figure| format!("{figure:.3}"));
    format!(
        "{:.0} events/s  loss {}  HR@20 {} (popularity {})",
        run.events_per_second,
        or_dash(trainer.training.loss),
        or_dash(trainer.evaluation.model_recent.map(|figures| figures.hit_rate)),
        or_dash(trainer.evaluation.popularity_recent.map(|figures| figures.hit_rate)),
    )
}

pub(super) fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::NAN, |since| since.as_secs_f64())
}
