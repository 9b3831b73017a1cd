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
use super::{LifecycleEvent, LogConfig, Telemetry};
use crate::event::Rejection;
use crate::pipeline::PipelineEvent;
use crate::position::Stream;
use crate::source::LagProbe;
use crate::trainer::Trainer;
use crate::trainer::state::State;

/// The window over which the shown rate is smoothed.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// Records after which a run that goes on warns of what is likely set wrong; one that ends does so anyway.
const WARN_AFTER: u64 = 20_000;
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
    /// Rows of the log that were read before this run, and all of its rows, where they are known.
    bar_start: u64,
    log_rows: Option<u64>,
    logged: Instant,
    /// How often a log line sums up where no progress bar is drawn.
    log_every: Duration,
    rate: ReadRate,
    /// Whether the log holds the trainer's warnings.
    has_warned: bool,
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
    /// An observer of a pipeline that goes on from `state`; logs are configured by `log`.
    pub fn new(telemetry: Telemetry, log: &LogConfig, state: &State) -> Self {
        let (now, read_at_start) = (Instant::now(), state.progress.events.read);
        Self {
            telemetry,
            progress_bar: None,
            lag_probe: None,
            began: now,
            read_at_start,
            bar_start: 0,
            log_rows: None,
            logged: now,
            log_every: Duration::from_secs_f64(log.progress_seconds),
            rate: ReadRate { measured: now, read: read_at_start, per_second: None },
            has_warned: false,
        }
    }

    /// Draws a bar for a log of `rows` rows, of which `done` were read before, where standard error is a terminal.
    pub fn draw_bar(&mut self, bars: &MultiProgress, rows: u64, done: u64) {
        let style = ProgressStyle::with_template("{bar:8.cyan/dim} {percent:>3}% {msg}").expect("a valid template");
        let style = style.progress_chars("━╸─");
        let bar = bars.add(ProgressBar::new(rows).with_style(style).with_position(done));
        (self.bar_start, self.log_rows) = (done, Some(rows));
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
            PipelineEvent::Freshness(figures) => telemetry.update(|status| status.run.freshness.clone_from(figures)),
            PipelineEvent::Disorder(figures) => telemetry.update(|status| status.run.disorder.clone_from(figures)),
            PipelineEvent::Sharing(figures) => telemetry.update(|status| status.run.sharing = Some(*figures)),
            PipelineEvent::Publishing(sinks) => telemetry.update(|status| status.run.sinks = sinks),
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
            PipelineEvent::LateEvent { event, so_far } => {
                if so_far.is_power_of_two() {
                    let (place, offset, remedy) = (&event.stream, event.offset, event.remedy());
                    tracing::warn!(place, offset, so_far, "time goes back by {}: {remedy}", event.behind());
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
            PipelineEvent::CheckpointPutOff { wait } => tracing::info!(
                events = trainer.state.progress.events.read,
                "checkpoint put off by {:.1} s, since writing may take checkpoint.max_share of a replay's time: raise it for more of them",
                wait.as_secs_f64()
            ),
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
        self.warn(trainer);
        self.publish(trainer, Instant::now());
        let status = self.telemetry.snapshot();
        if let Some(warning) = status.run.disorder.warning() {
            tracing::warn!("{warning}");
        }
        Report::new(&status, seconds, read, checkpoint, trainer.warnings())
    }

    /// Logs the trainer's warnings, once.
    fn warn(&mut self, trainer: &Trainer) {
        if self.has_warned {
            return;
        }
        for warning in trainer.warnings() {
            self.has_warned = true;
            tracing::warn!("{warning}");
        }
    }

    fn tick(&mut self, trainer: &Trainer, now: Instant) {
        self.publish(trainer, now);
        if trainer.ingested().read - self.read_at_start >= WARN_AFTER {
            self.warn(trainer);
        }
        match &self.progress_bar {
            Some(bar) => {
                let status = self.telemetry.snapshot();
                let place = self.bar_start + status.trainer.events.read - self.read_at_start;
                bar.set_position(place);
                bar.set_message(summary(&status, place, bar.length().unwrap_or(place)));
            }
            None if now - self.logged >= self.log_every => {
                self.logged = now;
                let status = self.telemetry.snapshot();
                let place = self.bar_start + status.trainer.events.read - self.read_at_start;
                log_progress(&status, self.log_rows.map(|rows| (place, rows)));
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

/// Sums up how training does, at a place of so many rows where a log is read.
fn log_progress(status: &Status, place: Option<(u64, u64)>) {
    let Status { run, trainer, .. } = status;
    let (row, rows) = place.unzip();
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
        row,
        rows,
        "training"
    );
}

/// The text behind a progress bar, at `place` of so many `rows`. Both fit into the 80 columns of a terminal, since a longer
/// line would be cut. The time that is left follows from the rate of this run: what an earlier one read tells nothing.
fn summary(status: &Status, place: u64, rows: u64) -> String {
    let Status { run, trainer, .. } = status;
    let rate = run.events_per_second;
    let share = |figure: Option<f64>| {
        figure.map_or("–".to_owned(), |figure| match format!("{figure:.3}").strip_prefix('0') {
            Some(decimals) => decimals.to_owned(),
            None => format!("{figure:.2}"),
        })
    };
    let loss = trainer.training.loss.map_or("–".to_owned(), |loss| match loss {
        ..100.0 => format!("{loss:.2}"),
        _ if loss.is_nan() => "NaN".to_owned(),
        _ => rounded_to_five(loss),
    });
    let left = if rate > 0.0 { rounded_time(rows.saturating_sub(place) as f64 / rate) } else { "–".to_owned() };
    format!(
        "{}/{} {}/s  loss {loss}  HR@20 {} pop {}  {left} left",
        rounded_to_five(place as f64),
        rounded_to_five(rows as f64),
        rounded_to_five(rate),
        share(trainer.evaluation.model_recent.map(|figures| figures.hit_rate)),
        share(trainer.evaluation.popularity_recent.map(|figures| figures.hit_rate)),
    )
}

/// A count in five characters at most.
fn rounded_to_five(count: f64) -> String {
    match count {
        ..9_999.5 => format!("{count:.0}"),
        ..999_500.0 => format!("{:.0}k", count / 1e3),
        ..9_995_000.0 => format!("{:.2}M", count / 1e6),
        ..99_950_000.0 => format!("{:.1}M", count / 1e6),
        ..999_500_000.0 => format!("{:.0}M", count / 1e6),
        ..9_999.5e9 => format!("{:.0}G", count / 1e9),
        _ => "many".to_owned(),
    }
}

/// A time in six characters at most.
fn rounded_time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () if days < 100 => format!("{days}d{:02}h", hours % 24),
        () => "months".to_owned(),
    }
}

pub(crate) fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::NAN, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::metrics::RankMetrics;

    /// A status with these figures, and a bar of 8 characters, a space, the percentage and a space before its summary.
    fn width(rate: f64, loss: f64, hit_rate: f64, place: u64, rows: u64) -> (usize, String) {
        let mut status = Status::default();
        status.run.events_per_second = rate;
        status.trainer.training.loss = Some(loss);
        let recent = Some(RankMetrics { hit_rate, ..RankMetrics::default() });
        (status.trainer.evaluation.model_recent, status.trainer.evaluation.popularity_recent) = (recent, recent);
        let text = summary(&status, place, rows);
        (8 + 1 + 4 + 1 + text.chars().count(), text)
    }

    #[test]
    fn progress_line_fits_eighty_columns() {
        for rows in [1, 9_999, 10_000, 999_499, 9_994_999, 99_949_999, 999_499_999, 87_654_321_098] {
            for rate in [0.0, 0.7, 9_999.4, 999_499.0, 9.99e6] {
                for loss in [0.0, 12.345, 99.994, 1234.5] {
                    let (columns, text) = width(rate, loss, 1.0, rows - 1, rows);
                    assert!(columns < 80, "{columns}: {text}");
                    let (columns, text) = width(rate, loss, 0.3456, 0, rows);
                    assert!(columns < 80, "{columns}: {text}");
                }
            }
        }
        let (_, text) = width(107_000.0, 5.1234, 0.3456, 1_230_000, 2_409_924);
        assert_eq!(text, "1.23M/2.41M 107k/s  loss 5.12  HR@20 .346 pop .346  11s left");
    }

    #[test]
    fn time_left_is_that_of_this_run_and_short() {
        assert_eq!(
            [59.6, 3_599.0, 45_240.0, 200_000.0, 1e9].map(rounded_time),
            ["1m00s", "59m59s", "12h34m", "2d07h", "months"]
        );
        let mut observer = RunObserver::new(
            Telemetry::new(Instant::now()),
            &LogConfig::default(),
            &State::new(&crate::config::Config::default(), crate::kernel::Kernel::detect()),
        );
        // A resumed run: the first rate is that of what it read itself.
        observer.bar_start = 1_000_000;
        observer.rate.measure(observer.began + Duration::from_secs(1), 5_000);
        assert_eq!(observer.rate.per_second, Some(5_000.0));
    }
}
