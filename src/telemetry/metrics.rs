//! Prometheus metrics: one closed list ([`METRICS`]), and a typed function for each occasion on which they change.
//!
//! [`install`] sets the recorder of the process, once; until then every function here does nothing, so that whoever
//! reports need not know whether somebody listens. Names follow Prometheus' rules: the application's prefix, base
//! units, `_total` for what only grows. What is not known is NaN, not 0.
//!
//! Labels come from closed lists, with one exception: a stream's label, of which the first [`MAX_STREAMS`] are
//! shown, made harmless. Identifiers of users and items never become labels. Nothing outside this file names a metric,
//! save `deploy/`, which a test holds to the list.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::status::{CheckpointSummary, Evaluation, Memory, Phase, Ranking, Status};
use crate::event::Reason;

/// How many streams get a series of their own.
pub const MAX_STREAMS: usize = 256;
/// Longest label of a stream, in characters.
const MAX_LABEL: usize = 120;
/// Upper bounds of the buckets for a step: from a tenth of a millisecond to seconds.
const STEP_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
/// Upper bounds of the buckets for a checkpoint: from a small one to one that is too slow.
const CHECKPOINT_BUCKETS: [f64; 12] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The word of Prometheus' text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it counts or measures in.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub description: &'static str,
}

/// Declares each metric once: as a constant for the functions below, and as an entry of the list.
macro_rules! closed_list {
    ($($constant:ident = $kind:ident $name:literal $unit:ident [$($label:literal),*] $description:literal;)*) => {
        $(const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            description: $description,
        };)*

        /// Every metric there is.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

closed_list! {
    INFO = Gauge "negstream_info" Count ["version"] "Always 1; the version is the label.";
    PHASE = Gauge "negstream_phase" Count ["phase"] "1 for what the worker is doing, 0 for everything else.";
    EVENTS_READ = Counter "negstream_events_read_total" Count [] "Records read from the source.";
    EVENTS_USED = Counter "negstream_events_used_total" Count [] "Events trained on.";
    EVENTS_IGNORED = Counter "negstream_events_ignored_total" Count []
        "Events of a type that does not count as positive.";
    EVENTS_DEFERRED = Counter "negstream_events_deferred_total" Count []
        "Events of an item that has not come often enough for a row yet (memory.items.admit_after).";
    EVENTS_LOST = Counter "negstream_events_lost_total" Count []
        "Records that were gone before they were read (kafka.expired).";
    EVENTS_REJECTED = Counter "negstream_events_rejected_total" Count ["reason"]
        "Records that could not be taken, by reason.";
    DEAD_LETTERS = Counter "negstream_dead_letters_total" Count [] "Rejected records passed on as dead letters.";
    SOURCE_ERRORS = Counter "negstream_source_errors_total" Count []
        "Troubles of the source that it waits out, such as a broker that is away.";
    STEPS = Counter "negstream_steps_total" Count [] "Training steps.";
    STEP_SECONDS = Histogram "negstream_step_seconds" Seconds [] "Time of a training step.";
    LOSS = Gauge "negstream_loss_nats" Count [] "Loss, smoothed.";
    MI_BOUND = Gauge "negstream_mi_bound_nats" Count [] "Lower bound on the mutual information of query and item.";
    PART_LOSS = Gauge "negstream_objective_loss_nats" Count ["objective", "part"]
        "Mean loss of a part of an objective, in the newest step.";
    PART_BOUND = Gauge "negstream_objective_mi_bound_nats" Count ["objective", "part"]
        "Lower bound on the mutual information of what that part contrasts.";
    PART_ACCEPTANCE = Gauge "negstream_objective_acceptance" Count ["objective", "part"]
        "What the pairs of that part count on average.";
    BETA = Gauge "negstream_popularity_share" Count [] "Beta, the share of popularity that is preference.";
    TEMPERATURE = Gauge "negstream_temperature" Count [] "Temperature that similarity is divided by.";
    ITEMS = Gauge "negstream_items" Count [] "Items known.";
    USERS = Gauge "negstream_users" Count [] "Users known.";
    EVICTED = Counter "negstream_evicted_rows_total" Count ["table", "reason"]
        "Rows that went, for want of events (expired) or to make room (capped).";
    MEMORY = Gauge "negstream_state_bytes" Bytes ["part"] "Memory of the rows of items, of users, and of names, estimated.";
    RESIDENT = Gauge "negstream_resident_bytes" Bytes [] "Memory of the process.";
    PEAK = Gauge "negstream_resident_peak_bytes" Bytes [] "Memory of the process, at most so far.";
    HALF_LIFE = Gauge "negstream_frequency_half_life_events" Count []
        "Half-life of the items' frequencies: as configured, or as the stream has chosen.";
    LIVE_ITEMS = Gauge "negstream_live_items" Count [] "Items that can be drawn as noise.";
    BANK = Gauge "negstream_bank_entries" Count [] "Entries of the bank of negatives.";
    BANK_AGE = Gauge "negstream_bank_age_events" Count [] "Events since the mean entry of the bank came in.";
    BANK_OLDEST = Gauge "negstream_bank_oldest_events" Count [] "Events since the oldest entry of the bank came in.";
    BANK_COSINE = Gauge "negstream_bank_cosine" Count []
        "Mean cosine of the bank's vectors with the current ones: 1 where they are fresh, less the staler they are.";
    PROPOSAL_SHARE = Gauge "negstream_proposal_share" Count ["proposal"] "Share of all negatives drawn, by proposal.";
    PROPOSAL_ENTROPY = Gauge "negstream_proposal_entropy_nats" Count ["proposal"] "Entropy of a noise sampler.";
    PROPOSAL_DIVERGENCE = Gauge "negstream_proposal_divergence_nats" Count ["proposal"]
        "KL divergence of a noise sampler from the live items' frequencies.";
    PROPOSAL_COLLISIONS = Gauge "negstream_proposal_collision_share" Count ["proposal"]
        "Share of a noise sampler's draws that were candidates already.";
    WATCHED = Counter "negstream_watched_negatives_total" Count ["proposal", "band"]
        "Negatives of watched queries, by proposal and by how often the item came before.";
    FALSE = Counter "negstream_false_negatives_total" Count ["proposal", "band"]
        "Watched negatives that the same user chose soon after.";
    EVALUATED = Counter "negstream_evaluated_events_total" Count [] "Events ranked before they were trained on.";
    HIT_RATE = Gauge "negstream_hit_rate_at_20" Count ["ranking", "window"]
        "Share of targets among the best 20, of the model and of decayed popularity, over all and over recent events.";
    NDCG = Gauge "negstream_ndcg_at_20" Count ["ranking", "window"] "NDCG at 20, likewise.";
    MRR = Gauge "negstream_mrr_at_20" Count ["ranking", "window"] "Mean reciprocal rank at 20, likewise.";
    BAND_HIT_RATE = Gauge "negstream_band_hit_rate_at_20" Count ["band"]
        "Hit rate of the model over the third of the events with the rarest (tail) and most frequent (head) targets, and over \
         those whose targets came fewer than 5 times before (cold).";
    LAG = Gauge "negstream_lag_events" Count ["stream"] "Records that are there and not trained on yet.";
    NEWEST_EVENT = Gauge "negstream_newest_event_timestamp_seconds" Seconds []
        "Time of the newest event trained on, since 1970.";
    CHECKPOINTS = Counter "negstream_checkpoints_total" Count [] "Checkpoints written by this process.";
    CHECKPOINT_FAILURES = Counter "negstream_checkpoint_failures_total" Count []
        "Checkpoints that could not be written.";
    CHECKPOINTS_SKIPPED = Counter "negstream_checkpoints_skipped_total" Count []
        "Checkpoints that were due while the one before was still being written.";
    CHECKPOINT_IN_PROGRESS = Gauge "negstream_checkpoint_in_progress" Count [] "1 while a checkpoint is being written.";
    CHECKPOINT_PAUSE = Histogram "negstream_checkpoint_pause_seconds" Seconds []
        "How long training stood still for a checkpoint.";
    CHECKPOINT_SECONDS = Histogram "negstream_checkpoint_seconds" Seconds [] "Time of writing a checkpoint.";
    CHECKPOINT_BYTES = Gauge "negstream_checkpoint_size_bytes" Bytes [] "Size of the newest checkpoint.";
    CHECKPOINT_EVENTS = Gauge "negstream_checkpoint_events" Count [] "Records read when the newest checkpoint was taken.";
    CHECKPOINT_TIME = Gauge "negstream_checkpoint_timestamp_seconds" Seconds []
        "When this process last wrote a checkpoint, since 1970; its start, before the first.";
}

/// What was recorded, ready to be shown. A cheap handle.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl std::fmt::Debug for Exposition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Exposition")
    }
}

impl Exposition {
    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

static INSTALLED: OnceLock<Exposition> = OnceLock::new();

/// Installs the recorder of this process and sets every metric to its beginning. A second call gives the same handle.
///
/// # Panics
/// Where something else has installed a recorder of the `metrics` crate already.
pub fn install() -> Exposition {
    let exposition = INSTALLED.get_or_init(|| {
        let recorder = recorder();
        let exposition = Exposition(recorder.handle());
        metrics::set_global_recorder(recorder).expect("nothing else installs a recorder");
        begin();
        exposition
    });
    exposition.clone()
}

/// Everything recorded so far, in Prometheus' text format; empty before [`install`].
pub fn render() -> String {
    INSTALLED.get().map(Exposition::render).unwrap_or_default()
}

/// A step was taken.
pub fn record_step(seconds: f64) {
    histogram!(STEP_SECONDS.name).record(seconds);
}

/// A checkpoint was written, just now.
pub fn record_checkpoint(checkpoint: &CheckpointSummary) {
    counter!(CHECKPOINTS.name).increment(1);
    histogram!(CHECKPOINT_SECONDS.name).record(checkpoint.seconds);
    histogram!(CHECKPOINT_PAUSE.name).record(checkpoint.pause);
    gauge!(CHECKPOINT_IN_PROGRESS.name).set(0.0);
    gauge!(CHECKPOINT_TIME.name).set(seconds_since_1970());
}

/// A checkpoint is being written from now on.
pub fn record_checkpoint_begin() {
    gauge!(CHECKPOINT_IN_PROGRESS.name).set(1.0);
}

/// A checkpoint was due, and left out.
pub fn record_checkpoint_skipped() {
    counter!(CHECKPOINTS_SKIPPED.name).increment(1);
}

/// A checkpoint could not be written; training goes on.
pub fn record_checkpoint_failure() {
    gauge!(CHECKPOINT_IN_PROGRESS.name).set(0.0);
    counter!(CHECKPOINT_FAILURES.name).increment(1);
}

/// Rejected records were passed on.
pub fn record_dead_letters(records: u64) {
    counter!(DEAD_LETTERS.name).increment(records);
}

/// The source met a trouble that it waits out.
pub fn record_source_error() {
    counter!(SOURCE_ERRORS.name).increment(1);
}

/// Shows what the trainer published.
pub fn record_status(status: &Status) {
    for phase in Phase::ALL {
        gauge!(PHASE.name, "phase" => phase.name()).set(f64::from(u8::from(phase == status.phase)));
    }
    counter!(EVENTS_READ.name).absolute(status.events.read);
    counter!(EVENTS_USED.name).absolute(status.events.used);
    counter!(EVENTS_IGNORED.name).absolute(status.events.ignored);
    counter!(EVENTS_DEFERRED.name).absolute(status.events.deferred);
    counter!(EVENTS_LOST.name).absolute(status.events.lost);
    for reason in Reason::ALL {
        counter!(EVENTS_REJECTED.name, "reason" => reason.name()).absolute(status.events.rejected.of(reason));
    }
    counter!(STEPS.name).absolute(status.steps);
    gauge!(LOSS.name).set(known(status.loss));
    gauge!(MI_BOUND.name).set(known(status.mi_bound));
    gauge!(BETA.name).set(known(status.beta));
    gauge!(TEMPERATURE.name).set(known(status.temperature));
    gauge!(ITEMS.name).set(status.items as f64);
    gauge!(USERS.name).set(status.users as f64);
    for (table, rows) in [("items", status.evicted.items), ("users", status.evicted.users)] {
        for (reason, number) in [("expired", rows.expired), ("capped", rows.capped)] {
            counter!(EVICTED.name, "table" => table, "reason" => reason).absolute(number);
        }
    }
    let Memory { items, users, names, resident, peak } = status.memory;
    for (part, bytes) in [("items", items), ("users", users), ("names", names)] {
        gauge!(MEMORY.name, "part" => part).set(bytes as f64);
    }
    gauge!(RESIDENT.name).set(known(resident.map(|bytes| bytes as f64)));
    gauge!(PEAK.name).set(known(peak.map(|bytes| bytes as f64)));
    record_evaluation(&status.evaluation);
    // Names of parts come from a closed list, and the numbers of the configuration's steps.
    for part in &status.parts {
        let show = |metric: Metric, figure: Option<f64>| {
            gauge!(metric.name, "objective" => part.objective.clone(), "part" => part.part.clone()).set(known(figure));
        };
        show(PART_LOSS, Some(part.loss));
        show(PART_BOUND, part.bound);
        show(PART_ACCEPTANCE, part.acceptance);
    }
    record_negatives(status);
    for lag in status.lag.iter().take(MAX_STREAMS) {
        gauge!(LAG.name, "stream" => harmless(&lag.stream)).set(known(lag.events.map(|events| events as f64)));
    }
    gauge!(NEWEST_EVENT.name).set(known(status.newest_event.map(|millis| millis as f64 / 1_000.0)));
    let checkpoint = status.checkpoint.as_ref();
    gauge!(CHECKPOINT_BYTES.name).set(known(checkpoint.map(|checkpoint| checkpoint.bytes as f64)));
    gauge!(CHECKPOINT_EVENTS.name).set(known(checkpoint.map(|checkpoint| checkpoint.events as f64)));
    // Observations wait in memory until somebody looks; here they are counted even if nobody ever does.
    if let Some(Exposition(handle)) = INSTALLED.get() {
        handle.run_upkeep();
    }
}

fn record_negatives(status: &Status) {
    let negatives = &status.negatives;
    gauge!(HALF_LIFE.name).set(known(negatives.half_life));
    gauge!(LIVE_ITEMS.name).set(negatives.live_items as f64);
    gauge!(BANK.name).set(negatives.bank as f64);
    gauge!(BANK_AGE.name).set(known(negatives.bank_age));
    gauge!(BANK_OLDEST.name).set(known(negatives.bank_oldest.map(|events| events as f64)));
    gauge!(BANK_COSINE.name).set(known(negatives.bank_cosine));
    // Names of proposals come from the configuration's own closed list.
    for proposal in &status.proposals {
        let show = |metric: Metric, figure: Option<f64>| {
            gauge!(metric.name, "proposal" => proposal.name.clone()).set(known(figure));
        };
        show(PROPOSAL_SHARE, Some(proposal.share));
        show(PROPOSAL_ENTROPY, proposal.entropy);
        show(PROPOSAL_DIVERGENCE, proposal.divergence);
        show(PROPOSAL_COLLISIONS, proposal.collisions);
    }
    for watched in &status.watched {
        for (metric, figure) in [(WATCHED, watched.used), (FALSE, watched.r#false)] {
            counter!(metric.name, "proposal" => watched.proposal.clone(), "band" => watched.band).absolute(figure);
        }
    }
}

fn record_evaluation(evaluation: &Evaluation) {
    counter!(EVALUATED.name).absolute(evaluation.events);
    let rankings = [
        ("model", "all", evaluation.model),
        ("model", "recent", evaluation.model_recent),
        ("popularity", "all", evaluation.popularity),
        ("popularity", "recent", evaluation.popularity_recent),
    ];
    for (ranking, window, figures) in rankings {
        let show = |metric: Metric, figure: fn(Ranking) -> f64| {
            gauge!(metric.name, "ranking" => ranking, "window" => window).set(known(figures.map(figure)));
        };
        show(HIT_RATE, |ranking| ranking.hit_rate);
        show(NDCG, |ranking| ranking.ndcg);
        show(MRR, |ranking| ranking.mrr);
    }
    gauge!(BAND_HIT_RATE.name, "band" => "tail").set(known(evaluation.tail_hit_rate));
    gauge!(BAND_HIT_RATE.name, "band" => "head").set(known(evaluation.head_hit_rate));
    gauge!(BAND_HIT_RATE.name, "band" => "cold").set(known(evaluation.cold_hit_rate));
}

fn recorder() -> PrometheusRecorder {
    let full = |metric: Metric| Matcher::Full(metric.name.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(full(STEP_SECONDS), &STEP_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(full(CHECKPOINT_SECONDS), &CHECKPOINT_BUCKETS))
        .and_then(|builder| builder.set_buckets_for_metric(full(CHECKPOINT_PAUSE), &STEP_BUCKETS))
        .expect("there are buckets")
        .build_recorder()
}

/// Describes every metric and gives each a first value, so that a rate over a counter sees its first increment.
fn begin() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.description),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.description),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.description),
        }
        match metric.kind {
            Kind::Counter if metric.labels.is_empty() => counter!(metric.name).absolute(0),
            // Looking it up is enough for it to be shown, empty.
            Kind::Histogram => drop(histogram!(metric.name)),
            Kind::Counter | Kind::Gauge => {}
        }
    }
    gauge!(INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(CHECKPOINT_TIME.name).set(seconds_since_1970());
    gauge!(CHECKPOINT_IN_PROGRESS.name).set(0.0);
    record_status(&Status::default());
}

fn known(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// A label that may be shown anywhere: no control characters, not too long. The end is kept, since paths differ there.
fn harmless(label: &str) -> String {
    let skipped = label.chars().count().saturating_sub(MAX_LABEL);
    label.chars().skip(skipped).map(|letter| if letter.is_control() { '_' } else { letter }).collect()
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::NAN, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::status::{ProposalSummary, StreamLag, Watched};
    use super::*;
    use crate::telemetry::status::PartSummary;

    fn recorded(record: impl FnOnce()) -> String {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            begin();
            record();
        });
        recorder.handle().render()
    }

    #[test]
    fn every_metric_of_the_list_is_shown_and_no_other() {
        let lag = vec![StreamLag { stream: "interactions/0".to_owned(), events: Some(3) }];
        let proposals = vec![ProposalSummary { name: "bank".to_owned(), ..ProposalSummary::default() }];
        let watched = vec![Watched { proposal: "bank".to_owned(), band: "1-9", used: 9, r#false: 1 }];
        let parts = vec![PartSummary { objective: "cpc".to_owned(), part: "1".to_owned(), ..PartSummary::default() }];
        let text = recorded(|| record_status(&Status { lag, proposals, watched, parts, ..Status::default() }));
        for metric in METRICS {
            let name = metric.name;
            assert!(text.contains(&format!("# HELP {name} {}", metric.description)), "{name}: no HELP");
            assert!(text.contains(&format!("# TYPE {name} {}\n", metric.kind.name())), "{name}: wrong TYPE");
            for label in metric.labels {
                assert!(text.contains(&format!("{label}=\"")), "{name}: no label {label}");
            }
            let shown = text.lines().filter(|line| line.starts_with(name)).count();
            assert!(shown > 0, "{name}: no value");
        }
        assert_eq!(text.matches("# TYPE ").count(), METRICS.len());
    }

    #[test]
    fn names_follow_the_rules() {
        for metric in METRICS {
            assert!(metric.name.starts_with("negstream_"), "{}", metric.name);
            let counts = metric.name.ends_with("_total");
            assert_eq!(counts, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.unit != Unit::Seconds || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.unit != Unit::Bytes || metric.name.ends_with("_bytes"), "{}", metric.name);
            assert!(metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()));
        }
    }

    #[test]
    fn events_of_every_sort_arrive() {
        let text = recorded(|| {
            record_step(0.003);
            record_step(0.03);
            record_checkpoint(&CheckpointSummary { seconds: 1.5, ..CheckpointSummary::default() });
            record_checkpoint_failure();
            record_dead_letters(4);
            record_source_error();
            let mut status = Status { phase: Phase::Training, loss: Some(2.5), ..Status::default() };
            status.events.read = 100;
            status.events.rejected.add(Reason::IdTooLong, 7);
            status.evaluation.model_recent = Some(Ranking { hit_rate: 0.5, ndcg: 0.25, mrr: 0.125 });
            record_status(&status);
        });
        for line in [
            "negstream_step_seconds_bucket{le=\"0.005\"} 1",
            "negstream_step_seconds_bucket{le=\"0.05\"} 2",
            "negstream_step_seconds_count 2",
            "negstream_checkpoint_seconds_bucket{le=\"2\"} 1",
            "negstream_checkpoints_total 1",
            "negstream_checkpoint_failures_total 1",
            "negstream_dead_letters_total 4",
            "negstream_source_errors_total 1",
            "negstream_phase{phase=\"training\"} 1",
            "negstream_phase{phase=\"starting\"} 0",
            "negstream_events_read_total 100",
            "negstream_events_rejected_total{reason=\"id_too_long\"} 7",
            "negstream_loss_nats 2.5",
            "negstream_mi_bound_nats NaN",
            "negstream_hit_rate_at_20{ranking=\"model\",window=\"recent\"} 0.5",
            "negstream_mrr_at_20{ranking=\"popularity\",window=\"all\"} NaN",
        ] {
            assert!(text.lines().any(|shown| shown == line), "not shown: {line}\n{text}");
        }
    }

    #[test]
    fn a_hostile_stream_cannot_add_lines_or_series_without_end() {
        let hostile = StreamLag { stream: format!("{}\"}} 1\nevil 2\u{1b}[0m", "x".repeat(500)), events: None };
        let many = (0..10_000).map(|number| StreamLag { stream: number.to_string(), events: Some(1) });
        let lag = std::iter::once(hostile).chain(many).collect();
        let text = recorded(|| record_status(&Status { lag, ..Status::default() }));
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with("negstream_") || line.starts_with("# ")));
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.len() < 400));
        assert_eq!(text.lines().filter(|line| line.starts_with("negstream_lag_events{")).count(), MAX_STREAMS);
    }

    #[test]
    fn nothing_happens_before_the_recorder_is_installed_and_a_second_installation_is_the_first() {
        record_step(1.0);
        install();
        record_dead_letters(5);
        assert!(install().render().contains("negstream_dead_letters_total 5"));
        assert!(render().contains("negstream_info{version="));
    }
}
