//! The report of a run, as `--report` and `--json` give it, and as text for people.

use serde::Serialize;

use super::process::ProcessMemory;
use super::status::{Status, TrainerFigures};
use crate::evaluate::metrics::RankingMetrics;
use crate::event::{EventCounts, Evicted, Rejections};
use crate::metric::Histogram;
use crate::negatives::false_negatives::FalseNegativeCount;
use crate::objective::step::ObjectiveLoss;
use crate::pipeline::{DisorderFigures, FreshnessFigures, Pipeline, SinkFigures};
use crate::util::escape::escape_for_terminal;

/// The report of a run, as `--report` and `--json` give it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Records by what became of them, since the very first start.
    pub events: ReportedEvents,
    /// Steps since the very first start.
    pub steps: u64,
    /// Seconds of this run.
    pub seconds: f64,
    /// Records read per second in this run.
    pub events_per_second: f64,
    /// Items that have a row.
    pub items: u64,
    /// Users that have a row.
    pub users: u64,
    /// Rows that were evicted, since the very first start.
    pub evicted: Evicted,
    /// Largest resident memory of this process, in bytes; `None` where the operating system does not tell.
    pub peak_bytes: Option<u64>,
    /// Loss of the newest step, in nats; `None` before the first.
    pub loss: Option<f64>,
    /// Lower bound on the mutual information of context and next item in the newest step, in nats.
    pub mi_bound: Option<f64>,
    /// Loss and bound of each part of the objectives in the newest step.
    pub objectives: Vec<ObjectiveLoss>,
    /// β, the share of popularity that is preference.
    pub beta: f64,
    /// Folder of the newest checkpoint, where there is one.
    pub checkpoint: Option<String>,
    /// The memory of frequencies, and watched negatives.
    pub negatives: ReportedNegatives,
    /// Results of the evaluation on the stream itself.
    pub evaluation: ReportedEvaluation,
    /// How fresh what was learnt in this run was; `None` where no live stream was read.
    pub freshness: Option<FreshnessFigures>,
    /// What each sink of embeddings was sent in this run, and how it is.
    pub sinks: Vec<SinkFigures>,
    /// How far out of order the events of this run were.
    pub disorder: DisorderFigures,
    /// What is likely wrong with the settings or the order of the records, as these show, each with what can be done.
    pub warnings: Vec<String>,
}

/// Records by what became of them.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedEvents {
    /// All records that were read.
    pub read: u64,
    /// Events that were trained on.
    pub used: u64,
    /// Events of kinds that are not trained on.
    pub ignored: u64,
    /// Events whose item has no row yet.
    pub deferred: u64,
    /// Records that are no events.
    pub rejected: u64,
    /// Rejected records by reason.
    pub rejected_by_reason: Rejections,
    /// Records that were gone before they were read; not part of `read`.
    pub lost: u64,
}

/// The half-life of frequencies, in events, and how many watched negatives were false.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedNegatives {
    half_life: f64,
    /// Watched negatives by proposal and band of popularity.
    watched: Vec<FalseNegativeCount>,
}

/// Ranking metrics of the model, and of decayed popularity on the same events.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedEvaluation {
    events: u64,
    #[serde(rename = "hr@20")]
    hit_rate: Option<f64>,
    #[serde(rename = "ndcg@20")]
    ndcg: Option<f64>,
    #[serde(rename = "mrr@20")]
    mrr: Option<f64>,
    #[serde(rename = "tail_hr@20")]
    tail_hit_rate: Option<f64>,
    #[serde(rename = "head_hr@20")]
    head_hit_rate: Option<f64>,
    #[serde(rename = "cold_hr@20")]
    cold_hit_rate: Option<f64>,
    /// Events whose items came fewer than 5 times before: what `cold_hr@20` is over.
    cold_events: u64,
    popularity: Option<RankingMetrics>,
    /// Users' own history, where items may recur.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_history: Option<RankingMetrics>,
}

impl Report {
    /// The report of a pipeline since it was built.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut status = Status::default();
        status.update(TrainerFigures::of(pipeline.trainer()));
        status.run.memory = ProcessMemory::now();
        status.run.freshness = pipeline.freshness();
        status.run.disorder.clone_from(pipeline.disorder());
        status.run.sinks = pipeline.sinks();
        let (seconds, read) = pipeline.progress();
        let checkpoint = pipeline.checkpoint_path().map(|path| path.display().to_string());
        Self::new(&status, seconds, read, checkpoint, pipeline.trainer().warnings())
    }

    /// The report of a worker with this status, which read `read` records in `seconds`; `checkpoint` is the folder of its
    /// newest checkpoint, and `warnings` are those of its trainer.
    pub fn new(status: &Status, seconds: f64, read: u64, checkpoint: Option<String>, warnings: Vec<String>) -> Self {
        let Status { trainer, run, .. } = status;
        let EventCounts { read: all, used, ignored, deferred, rejected, lost } = trainer.events;
        let disorder = run.disorder.clone();
        let warnings = warnings.into_iter().chain(disorder.warning()).collect();
        let evaluation = trainer.evaluation;
        let model = evaluation.model;
        Self {
            events: ReportedEvents {
                read: all,
                used,
                ignored,
                deferred,
                rejected: rejected.total(),
                rejected_by_reason: rejected,
                lost,
            },
            steps: trainer.training.steps,
            seconds,
            events_per_second: if seconds > 0.0 { read as f64 / seconds } else { 0.0 },
            items: trainer.training.items,
            users: trainer.training.users,
            evicted: trainer.evicted,
            peak_bytes: run.memory.peak,
            loss: trainer.training.loss,
            mi_bound: trainer.training.mi_bound,
            objectives: trainer.objectives.clone(),
            beta: trainer.training.beta.unwrap_or(f64::NAN),
            checkpoint,
            negatives: ReportedNegatives {
                half_life: trainer.training.half_life.unwrap_or(f64::NAN),
                watched: trainer.false_negatives.clone(),
            },
            evaluation: ReportedEvaluation {
                events: evaluation.events,
                hit_rate: model.map(|figures| figures.hit_rate),
                ndcg: model.map(|figures| figures.ndcg),
                mrr: model.map(|figures| figures.mrr),
                tail_hit_rate: model.map(|figures| figures.tail_hit_rate),
                head_hit_rate: model.map(|figures| figures.head_hit_rate),
                cold_hit_rate: model.map(|figures| figures.cold_hit_rate),
                cold_events: evaluation.cold_events,
                popularity: evaluation.popularity,
                own_history: evaluation.own_history,
            },
            sinks: run.sinks.clone(),
            disorder,
            freshness: Some(run.freshness.clone()).filter(|freshness| freshness.read_to_weights.count() > 0),
            warnings,
        }
    }

    /// HR@20 of the model and of decayed popularity, over all events that count.
    pub fn hit_rates(&self) -> (Option<f64>, Option<f64>) {
        (self.evaluation.hit_rate, self.evaluation.popularity.map(|figures| figures.hit_rate))
    }

    /// The report as text for people, one figure a line.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let Self { events, steps, seconds, events_per_second, items, users, loss, mi_bound, beta, .. } = self;
        let mut put = |name: &str, value: String| writeln!(text, "{name:<12} {value}").expect("text grows");
        put(
            "events",
            format!(
                "{} read, {} used, {} ignored, {} rejected{}{}",
                events.read,
                events.used,
                events.ignored,
                events.rejected,
                if events.deferred > 0 { format!(", {} deferred", events.deferred) } else { String::new() },
                if events.lost > 0 { format!("; {} lost before they were read", events.lost) } else { String::new() }
            ),
        );
        for warning in &self.warnings {
            put("warning", escape_for_terminal(warning));
        }
        put("model", format!("{items} items, {users} users, {steps} steps"));
        for (what, rows) in [("items", self.evicted.items), ("users", self.evicted.users)] {
            if rows.expired + rows.capped > 0 {
                put("evicted", format!("{} {what} expired, {} to make room", rows.expired, rows.capped));
            }
        }
        let peak = self.peak_bytes.map_or(String::new(), |peak| format!(", {} MB of memory at most", peak >> 20));
        put("this run", format!("{seconds:.1} s, {events_per_second:.0} events/s{peak}"));
        let at_least =
            |bound: &Option<f64>| bound.map_or(String::new(), |bound| format!(", information bound {bound:.3} nats"));
        if let Some(loss) = loss {
            put("last step", format!("loss {loss:.3}{}, popularity β {beta:.3}", at_least(mi_bound)));
        }
        for ObjectiveLoss { objective, part, loss, bound, acceptance, of_next_item: _ } in &self.objectives {
            if self.objectives.len() > 1 {
                let accepted = acceptance.map_or(String::new(), |share| format!(", pairs count {share:.3} on average"));
                put(&format!("  {objective} {part}"), format!("loss {loss:.3}{}{accepted}", at_least(bound)));
            }
        }
        let half_life = self.negatives.half_life;
        put("frequencies", format!("half-life {half_life:.0} events"));
        let (used, found) = self
            .negatives
            .watched
            .iter()
            .fold((0, 0), |sum, watched| (sum.0 + watched.count.used, sum.1 + watched.count.r#false));
        if used > 0 {
            let share = found as f64 / used as f64 * 100.0;
            put("negatives", format!("{used} watched, {found} ({share:.2} %) chosen by the same user soon after"));
        }
        let evaluation = &self.evaluation;
        if let (Some(hit_rate), Some(ndcg), Some(mrr)) = (evaluation.hit_rate, evaluation.ndcg, evaluation.mrr) {
            let (tail, head) = (evaluation.tail_hit_rate.unwrap_or(0.0), evaluation.head_hit_rate.unwrap_or(0.0));
            put("evaluation", format!("over {} events, ranked before they were learnt", evaluation.events));
            let cold = evaluation.cold_hit_rate.unwrap_or(0.0);
            let figures = |hit_rate: f64, ndcg: f64, mrr: f64, [tail, head, cold]: [f64; 3]| {
                format!(
                    "HR@20 {hit_rate:.4}  NDCG@20 {ndcg:.4}  MRR@20 {mrr:.4}  \
                     tail {tail:.4}  head {head:.4}  cold {cold:.4}"
                )
            };
            put("  model", figures(hit_rate, ndcg, mrr, [tail, head, cold]));
            let peers = [("  popularity", evaluation.popularity), ("  own history", evaluation.own_history)];
            for (name, peer) in peers.into_iter().filter_map(|(name, peer)| Some((name, peer?))) {
                let RankingMetrics { hit_rate, ndcg, mrr, tail_hit_rate, head_hit_rate, cold_hit_rate } = peer;
                put(name, figures(hit_rate, ndcg, mrr, [tail_hit_rate, head_hit_rate, cold_hit_rate]));
            }
        }
        if let Some(freshness) = &self.freshness {
            let quantiles = |histogram: &Histogram| {
                let seconds =
                    |share| histogram.quantile(share).map_or("–".to_owned(), |seconds| format!("{seconds:.2}"));
                format!("{} s after they were read (99 %: {} s)", seconds(0.5), seconds(0.99))
            };
            put("freshness", format!("events are in the weights {}", quantiles(&freshness.read_to_weights)));
            if freshness.read_to_checkpoint.count() > 0 {
                put("", format!("and in a checkpoint {}", quantiles(&freshness.read_to_checkpoint)));
            }
        }
        for sink in &self.sinks {
            put("sink", sink.text());
        }
        put("checkpoint", self.checkpoint.clone().unwrap_or_else(|| "none".to_owned()));
        text
    }
}
