//! The reporter: turns what happens in the worker into status, metrics, log lines and a progress bar.

pub mod report;

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::evaluate::tally::{EvalMetrics, Figures, Recent};
use crate::negatives::false_negatives::{BANDS, Count, STREAM};
use crate::negatives::proposals::Proposal;
use crate::objective::term::TermLoss;
use crate::pipeline::{PipelineEvent, WrittenCheckpoint};
use crate::position::Stream;
use crate::source::LagProbe;
use crate::telemetry::health::Health;
use crate::telemetry::metrics;
use crate::telemetry::process::resident;
use crate::telemetry::status::{
    CheckpointSummary, Evaluation, Memory, Negatives, PartSummary, Phase, ProposalSummary, Ranking, SharedStatus,
    Status, StreamLag, Watched,
};
use crate::trainer::Trainer;
use crate::trainer::memory_usage::Held;
use crate::trainer::state::State;

/// How often a log line sums up where no progress bar is drawn.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Over how long the shown rate is smoothed.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct Reporter {
    status: SharedStatus,
    health: Health,
    bar: Option<ProgressBar>,
    lag: Option<std::sync::Arc<dyn LagProbe>>,
    begin: Instant,
    read_at_begin: u64,
    bar_begin: u64,
    logged: Instant,
    rate: Rate,
    newest_event: Option<i64>,
    checkpoint: Option<CheckpointSummary>,
}

#[derive(Debug)]
struct Rate {
    at: Instant,
    read: u64,
    per_second: Option<f64>,
}

impl Reporter {
    /// Reports on a worker that goes on from `state`.
    pub fn new(status: SharedStatus, health: Health, state: &State) -> Self {
        let now = Instant::now();
        let read = state.events.read;
        Self {
            status,
            health,
            bar: None,
            lag: None,
            begin: now,
            read_at_begin: read,
            bar_begin: 0,
            logged: now,
            rate: Rate { at: now, read, per_second: None },
            newest_event: None,
            checkpoint: None,
        }
    }

    /// Draws a bar for a log of `rows` rows, of which `done` were read before, where standard error is a terminal.
    pub fn draw_bar(&mut self, bars: &MultiProgress, rows: u64, done: u64) {
        let style = "{bar:30.cyan/dim} {percent:>3}% {human_pos}/{human_len} events  {msg}  {eta} left";
        let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━╸─");
        let bar = bars.add(ProgressBar::new(rows).with_style(style).with_position(done));
        bar.reset_eta();
        self.bar_begin = done;
        if !bar.is_hidden() {
            self.bar = Some(bar);
        }
    }

    /// Shows how far each stream is behind.
    pub fn show_lag(&mut self, probe: std::sync::Arc<dyn LagProbe>) {
        self.lag = Some(probe);
    }

    /// Takes note of what happened.
    pub fn happened(&mut self, trainer: &Trainer, happening: PipelineEvent<'_>) {
        match happening {
            PipelineEvent::Step { report, took } => {
                metrics::record_step(took.as_secs_f64());
                self.newest_event = Some(report.last_event);
            }
            PipelineEvent::Tick => self.tick(trainer),
            PipelineEvent::RecordRejected { stream, offset, rejection, is_dead_letter, so_far } => {
                if is_dead_letter {
                    metrics::record_dead_letters(1);
                }
                // The first of them, and ever fewer of the rest.
                if so_far.is_power_of_two() {
                    let (reason, detail) = (rejection.reason.name(), &rejection.detail);
                    tracing::warn!(place = stream, offset, reason, %detail, so_far, "record rejected");
                }
            }
            PipelineEvent::CheckpointStarted => {
                self.status.enter(Phase::Checkpointing);
                self.health.checkpoint_begins(Instant::now());
                metrics::record_checkpoint_begin();
            }
            PipelineEvent::CheckpointSkipped => {
                metrics::record_checkpoint_skipped();
                tracing::warn!(
                    events = trainer.state.events.read,
                    "checkpoint skipped: the one before it is still being written; raise checkpoint.every_events"
                );
            }
            PipelineEvent::CheckpointWritten(last) => {
                let summary = summary(last);
                self.health.checkpoint_written();
                metrics::record_checkpoint(&summary);
                tracing::info!(
                    checkpoint = %last.path.display(),
                    events = summary.events,
                    bytes = summary.bytes,
                    seconds = format_args!("{:.2}", summary.seconds),
                    pause_ms = format_args!("{:.2}", 1e3 * summary.pause),
                    "checkpoint written"
                );
                self.checkpoint = Some(summary);
            }
            PipelineEvent::CheckpointFailed(error) => {
                self.health.checkpoint_failed();
                metrics::record_checkpoint_failure();
                tracing::error!(%error, "checkpoint failed, training goes on");
            }
            PipelineEvent::Diverged | PipelineEvent::Draining => {}
        }
    }

    /// The bar's last words.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Seconds of work, and events read in them.
    pub fn worked(&self, state: &State) -> (f64, u64) {
        (self.begin.elapsed().as_secs_f64(), state.events.read - self.read_at_begin)
    }

    fn tick(&mut self, trainer: &Trainer) {
        let now = Instant::now();
        self.health.tick(now);
        let read = trainer.taken().read;
        let elapsed = now - self.rate.at;
        if elapsed >= Duration::from_millis(200) {
            let fresh = (read - self.rate.read) as f64 / elapsed.as_secs_f64();
            let share = 1.0 - (-elapsed.as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
            let smoothed = self.rate.per_second.map_or(fresh, |rate| rate + share * (fresh - rate));
            self.rate = Rate { at: now, read, per_second: Some(smoothed) };
        }
        let status = self.status_of(trainer);
        metrics::record_status(&status);
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.bar_begin + read - self.read_at_begin);
                bar.set_message(line(&status));
            }
            None if self.logged.elapsed() >= LOG_EVERY => {
                self.logged = now;
                let hit_rate = status.evaluation.model_recent.map(|ranking| ranking.hit_rate);
                let popularity = status.evaluation.popularity_recent.map(|ranking| ranking.hit_rate);
                tracing::info!(
                    events = read,
                    events_per_second = status.events_per_second.round(),
                    items = status.items,
                    users = status.users,
                    rejected = status.events.rejected.total(),
                    loss = status.loss.map(rounded),
                    mi_bound = status.mi_bound.map(rounded),
                    recent_hr_20 = hit_rate.map(rounded),
                    popularity_hr_20 = popularity.map(rounded),
                    "training"
                );
            }
            None => {}
        }
        self.status.publish(status);
    }

    fn status_of(&self, trainer: &Trainer) -> Status {
        let state = &trainer.state;
        let trained = state.last_loss != (0.0, 0.0);
        Status {
            phase: if self.rate.per_second.is_some_and(|rate| rate > 0.5) { Phase::Training } else { Phase::Waiting },
            events: trainer.taken(),
            steps: state.steps,
            seconds: self.begin.elapsed().as_secs_f64(),
            events_per_second: self.rate.per_second.unwrap_or(0.0),
            loss: trained.then_some(state.last_loss.0),
            mi_bound: mi_bound(state),
            parts: parts(state),
            beta: Some(state.model.beta().into()),
            temperature: Some(state.model.inverse_temperature().recip().into()),
            negatives: negatives(state),
            proposals: trainer.proposals().into_iter().map(proposal).collect(),
            watched: watched(state),
            items: state.items.len() as u64,
            users: state.users.ids.len() as u64,
            evicted: state.tenure.evicted(),
            memory: memory(state),
            evaluation: evaluation(&state.tally),
            checkpoint: self.checkpoint.clone(),
            lag: self.lag.iter().flat_map(|probe| lag(state, &**probe)).collect(),
            newest_event: self.newest_event,
            history: Default::default(),
        }
    }
}

/// The bound on the information of context and next item, where an objective tells it.
fn mi_bound(state: &State) -> Option<f64> {
    state.last_parts.iter().find(|part| part.is_of_next_item())?.bound
}

/// How each part of the objectives did in the newest step.
fn parts(state: &State) -> Vec<PartSummary> {
    let part = |part: &TermLoss| {
        let TermLoss { objective, part, loss, bound, acceptance } = part.clone();
        PartSummary { objective, part, loss, bound, acceptance }
    };
    state.last_parts.iter().map(part).collect()
}

/// What takes memory.
fn memory(state: &State) -> Memory {
    let Held { items, users, names } = state.held();
    let resident = resident();
    let (now, peak) = (resident.map(|resident| resident.now), resident.map(|resident| resident.peak));
    Memory { items, users, names, resident: now, peak }
}

fn negatives(state: &State) -> Negatives {
    let bank = state.bank.state(&state.model);
    Negatives {
        half_life: Some(state.frequencies.half_life()),
        live_items: state.live.items().len() as u64,
        bank: bank.entries as u64,
        bank_age: bank.mean_age,
        bank_oldest: bank.oldest,
        bank_cosine: bank.staleness,
    }
}

fn proposal(proposal: Proposal) -> ProposalSummary {
    let Proposal { name, share, entropy, divergence, collisions } = proposal;
    ProposalSummary { name, share, entropy, divergence, collisions }
}

/// What the ledger found, by proposal and band; proposals of which nothing was watched are left out.
fn watched(state: &State) -> Vec<Watched> {
    let names = STREAM.into_iter().chain(state.noise.terms.iter().map(|term| term.name.as_str()));
    let of_proposal = |(name, counts): (&str, &[Count; BANDS.len()])| {
        let of_band = |(band, count): (&&'static str, &Count)| Watched {
            proposal: name.to_owned(),
            band,
            used: count.used,
            r#false: count.r#false,
        };
        BANDS.iter().zip(counts).map(of_band).filter(|watched| watched.used > 0).collect::<Vec<_>>()
    };
    names.zip(state.ledger.counts()).flat_map(of_proposal).collect()
}

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// What a bar says behind the count.
fn line(status: &Status) -> String {
    let or_dash = |number: Option<f64>, digits| number.map_or("–".to_owned(), |number| format!("{number:.digits$}"));
    format!(
        "{:.0} events/s  loss {}  HR@20 {} (popularity {})",
        status.events_per_second,
        or_dash(status.loss, 3),
        or_dash(status.evaluation.model_recent.map(|ranking| ranking.hit_rate), 3),
        or_dash(status.evaluation.popularity_recent.map(|ranking| ranking.hit_rate), 3),
    )
}

/// Of the streams that are this worker's; unknown for those that were.
fn lag(state: &State, probe: &dyn LagProbe) -> Vec<StreamLag> {
    let of = |(stream, high): (Stream, Option<u64>)| StreamLag {
        events: high.zip(state.positions.next(&stream.name)).map(|(high, next)| high.saturating_sub(next)),
        stream: stream.label,
    };
    probe.high_watermarks().into_iter().map(of).collect()
}

fn summary(last: &WrittenCheckpoint) -> CheckpointSummary {
    let name = last.path.file_name().map(|name| name.to_string_lossy().into_owned());
    CheckpointSummary {
        name: name.unwrap_or_default(),
        events: last.events,
        seconds: last.took.as_secs_f64(),
        pause: last.pause.as_secs_f64(),
        bytes: last.bytes,
    }
}

fn evaluation(tally: &EvalMetrics) -> Evaluation {
    let whole = |figures: Figures| Ranking { hit_rate: figures.hit_rate, ndcg: figures.ndcg, mrr: figures.mrr };
    let recent = |recent: Recent| Ranking { hit_rate: recent.hit_rate, ndcg: recent.ndcg, mrr: recent.mrr };
    Evaluation {
        events: tally.events,
        model: tally.model().map(whole),
        model_recent: tally.recent_model().map(recent),
        popularity: tally.popularity().map(whole),
        popularity_recent: tally.recent_popularity().map(recent),
        recent_events: tally.recent_events().round() as u64,
        tail_hit_rate: tally.model().map(|figures| figures.tail_hit_rate),
        head_hit_rate: tally.model().map(|figures| figures.head_hit_rate),
        cold_hit_rate: tally.model().map(|figures| figures.cold_hit_rate),
    }
}
