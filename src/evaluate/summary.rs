//! The evaluation's results for whoever shows them.

use serde::Serialize;

use super::metrics::{EvalMetrics, RankMetrics, RankingMetrics};
use crate::metric::{Instrumented, Metric, Samples};

/// The results of the evaluation on the stream itself; `None` where nothing was ranked yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct EvalSummary {
    /// Ranked events that count.
    pub events: u64,
    /// Counted events whose items came fewer than 5 times before.
    pub cold_events: u64,
    /// How many events the figures over the newest events amount to.
    pub recent_events: u64,
    /// The model, over all counted events.
    pub model: Option<RankingMetrics>,
    /// Decayed popularity, the baseline, over the same events.
    pub popularity: Option<RankingMetrics>,
    /// Users' own history, over the same events; only where items may recur.
    pub own_history: Option<RankingMetrics>,
    /// The model, over the newest events.
    pub model_recent: Option<RankMetrics>,
    /// Decayed popularity, over the newest events.
    pub popularity_recent: Option<RankMetrics>,
}

impl From<&EvalMetrics> for EvalSummary {
    fn from(metrics: &EvalMetrics) -> Self {
        Self {
            events: metrics.events,
            cold_events: metrics.cold_events(),
            recent_events: metrics.recent_events().round() as u64,
            model: metrics.model(),
            popularity: metrics.popularity(),
            own_history: metrics.own_history(),
            model_recent: metrics.recent_model(),
            popularity_recent: metrics.recent_popularity(),
        }
    }
}

impl EvalSummary {
    /// Adds a sample for each ranking and window.
    fn put_rankings(&self, samples: &mut Samples, whole: fn(RankingMetrics) -> f64, recent: fn(RankMetrics) -> f64) {
        samples.put_for(["model", "all"], self.model.map(whole));
        samples.put_for(["model", "recent"], self.model_recent.map(recent));
        samples.put_for(["popularity", "all"], self.popularity.map(whole));
        samples.put_for(["popularity", "recent"], self.popularity_recent.map(recent));
        samples.put_for(["own_history", "all"], self.own_history.map(whole));
    }
}

impl Instrumented for EvalSummary {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter(
            "negstream_evaluated_events_total",
            "Events ranked before they were trained on.",
            |summary, samples| samples.put(summary.events),
        ),
        Metric::gauge_by(
            "negstream_hit_rate_at_20",
            &["ranking", "window"],
            "Share of targets among the best 20, of the model, of decayed popularity and (where items may recur) of users' own history, over all and over recent events.",
            |summary, samples| summary.put_rankings(samples, |all| all.hit_rate, |recent| recent.hit_rate),
        ),
        Metric::gauge_by(
            "negstream_ndcg_at_20",
            &["ranking", "window"],
            "NDCG at 20, likewise.",
            |summary, samples| {
                summary.put_rankings(samples, |all| all.ndcg, |recent| recent.ndcg);
            },
        ),
        Metric::gauge_by(
            "negstream_mrr_at_20",
            &["ranking", "window"],
            "Mean reciprocal rank at 20, likewise.",
            |summary, samples| summary.put_rankings(samples, |all| all.mrr, |recent| recent.mrr),
        ),
        Metric::gauge_by(
            "negstream_band_hit_rate_at_20",
            &["band"],
            "Hit rate of the model over the third of the events with the rarest (tail) and most frequent (head) targets, and \
             over the events whose targets came fewer than 5 times before (cold).",
            |summary, samples| {
                samples.put_for(["tail"], summary.model.map(|figures| figures.tail_hit_rate));
                samples.put_for(["head"], summary.model.map(|figures| figures.head_hit_rate));
                samples.put_for(["cold"], summary.model.map(|figures| figures.cold_hit_rate));
            },
        ),
    ];
}
