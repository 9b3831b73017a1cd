//! Adds up ranks: hit rate, NDCG and MRR over everything counted and over the newest events; tail, head and cold.
//!
//! Tail and head are the thirds of the events whose items came least and most often before; cold are
//! those whose items came fewer than 5 times. To find them without keeping every event, hits are counted by number of
//! occurrences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rank_code::RankCode;
use super::ranking::Ranked;

/// Occurrences are told apart exactly up to here, and by 64 steps an octave beyond: memory stays bounded on a stream
/// that never ends.
const EXACT_OCCURRENCES: u64 = 1 << 20;
/// An item that came fewer times than this is cold.
pub const WARM: u64 = 5;
/// Half-life of the recent figures, in ranked events.
const RECENT_HALF_LIFE: f64 = 2_000.0;

/// RankSums for one ranker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankSums {
    hits: u64,
    gain: f64,
    reciprocal: f64,
    recent_hits: f64,
    recent_gain: f64,
    recent_reciprocal: f64,
    /// By occurrences of the target: events and hits.
    bands: BTreeMap<u64, (u64, u64)>,
}

/// The metrics of test-then-train evaluation so far, for the model and for decayed popularity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalMetrics {
    /// Number of the first event that counts, counting positives from 0.
    pub counts_from: u64,
    /// Ranked events, counted or not.
    pub ranked: u64,
    /// Counted events.
    pub events: u64,
    recent_weight: f64,
    model: RankSums,
    popularity: RankSums,
    own_history: Option<RankSums>,
}

/// Ranking metrics of one ranker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankingMetrics {
    /// Share of the events whose item was among the first 20.
    #[serde(rename = "hr@20")]
    pub hit_rate: f64,
    /// Mean of 1/log₂(rank + 2) where it was.
    #[serde(rename = "ndcg@20")]
    pub ndcg: f64,
    /// Mean of 1/(rank + 1) where it was.
    #[serde(rename = "mrr@20")]
    pub mrr: f64,
    /// Hit rate over the third of the events whose items came least often before.
    #[serde(rename = "tail_hr@20")]
    pub tail_hit_rate: f64,
    /// Hit rate over the third whose items came most often.
    #[serde(rename = "head_hr@20")]
    pub head_hit_rate: f64,
    /// Hit rate over the events whose items came fewer than 5 times before, never included.
    #[serde(rename = "cold_hr@20")]
    pub cold_hit_rate: f64,
}

/// The metrics that need nothing but ranks: over the newest events, or over those that a comparison judges by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RankMetrics {
    /// Hit rate.
    #[serde(rename = "hr@20")]
    pub hit_rate: f64,
    /// NDCG.
    #[serde(rename = "ndcg@20")]
    pub ndcg: f64,
    /// MRR.
    #[serde(rename = "mrr@20")]
    pub mrr: f64,
}

impl EvalMetrics {
    /// Nothing ranked yet; events from number `counts_from` on count.
    pub fn new(counts_from: u64) -> Self {
        Self {
            counts_from,
            ranked: 0,
            events: 0,
            recent_weight: 0.0,
            model: RankSums::default(),
            popularity: RankSums::default(),
            own_history: None,
        }
    }

    /// Measures the ranking by users' own history too, which is a peer where items may recur.
    #[must_use]
    pub fn with_own_history(mut self, repeat: bool) -> Self {
        self.own_history = repeat.then(RankSums::default);
        self
    }

    /// Adds the ranks of events.
    pub fn add(&mut self, ranked: &[Ranked]) {
        let keep = (-1.0 / RECENT_HALF_LIFE).exp2();
        for event in ranked {
            let counts = event.number >= self.counts_from;
            self.ranked += 1;
            self.events += u64::from(counts);
            self.recent_weight = self.recent_weight * keep + 1.0;
            self.model.add(event.model, event.occurrences, counts, keep);
            self.popularity.add(event.popularity, event.occurrences, counts, keep);
            if let Some(own_history) = &mut self.own_history {
                own_history.add(event.own_history, event.occurrences, counts, keep);
            }
        }
    }

    /// The model's figures; `None` before anything was counted.
    pub fn model(&self) -> Option<RankingMetrics> {
        self.model.figures(self.events)
    }

    /// The figures of decayed popularity; `None` before anything was counted.
    pub fn popularity(&self) -> Option<RankingMetrics> {
        self.popularity.figures(self.events)
    }

    /// The figures of users' own history; `None` before anything was counted, and where items do not recur.
    pub fn own_history(&self) -> Option<RankingMetrics> {
        self.own_history.as_ref()?.figures(self.events)
    }

    /// Counted events whose items came fewer than 5 times before.
    pub fn cold_events(&self) -> u64 {
        self.model.bands.range(..WARM).map(|(_, band)| band.0).sum()
    }

    /// The model's figures over the newest events; `None` before anything was ranked.
    pub fn recent_model(&self) -> Option<RankMetrics> {
        self.model.recent(self.recent_weight)
    }

    /// The figures of decayed popularity over the newest events; `None` before anything was ranked.
    pub fn recent_popularity(&self) -> Option<RankMetrics> {
        self.popularity.recent(self.recent_weight)
    }

    /// How many events the figures over the newest events amount to.
    pub fn recent_events(&self) -> f64 {
        self.recent_weight
    }
}

impl RankSums {
    fn add(&mut self, rank: Option<f64>, occurrences: u64, counts: bool, keep: f64) {
        let rank = RankCode::new(rank);
        let (gain, reciprocal) = (rank.gain(), rank.reciprocal());
        self.recent_hits = self.recent_hits * keep + f64::from(u8::from(rank.is_hit()));
        self.recent_gain = self.recent_gain * keep + gain;
        self.recent_reciprocal = self.recent_reciprocal * keep + reciprocal;
        if !counts {
            return;
        }
        self.hits += u64::from(rank.is_hit());
        self.gain += gain;
        self.reciprocal += reciprocal;
        let band = self.bands.entry(band(occurrences)).or_default();
        band.0 += 1;
        band.1 += u64::from(rank.is_hit());
    }

    fn recent(&self, weight: f64) -> Option<RankMetrics> {
        (weight > 0.0).then(|| RankMetrics {
            hit_rate: self.recent_hits / weight,
            ndcg: self.recent_gain / weight,
            mrr: self.recent_reciprocal / weight,
        })
    }

    fn figures(&self, events: u64) -> Option<RankingMetrics> {
        if events == 0 {
            return None;
        }
        let n = events as f64;
        let rate = |bands: &mut dyn Iterator<Item = (&u64, &(u64, u64))>| {
            let (events, hits) = bands.fold((0, 0), |sum, (_, band)| (sum.0 + band.0, sum.1 + band.1));
            if events == 0 { 0.0 } else { hits as f64 / events as f64 }
        };
        let (low, high) = (self.quantile(events, 1.0 / 3.0), self.quantile(events, 2.0 / 3.0));
        Some(RankingMetrics {
            hit_rate: self.hits as f64 / n,
            ndcg: self.gain / n,
            mrr: self.reciprocal / n,
            tail_hit_rate: rate(&mut self.bands.iter().filter(|(occurrences, _)| **occurrences as f64 <= low)),
            head_hit_rate: rate(&mut self.bands.iter().filter(|(occurrences, _)| **occurrences as f64 > high)),
            cold_hit_rate: rate(&mut self.bands.range(..WARM)),
        })
    }

    /// The quantile of the targets' occurrences, interpolated between neighbours (Hyndman & Fan's type 7).
    fn quantile(&self, events: u64, share: f64) -> f64 {
        let place = share * (events - 1) as f64;
        let value = |place: u64| {
            let mut seen = 0;
            self.bands.iter().find(|(_, band)| {
                seen += band.0;
                seen > place
            })
        };
        let at = |place: u64| value(place).map_or(0.0, |(occurrences, _)| *occurrences as f64);
        let (low, high) = (at(place.floor() as u64), at(place.ceil() as u64));
        low + (high - low) * place.fract()
    }
}

fn band(occurrences: u64) -> u64 {
    if occurrences < EXACT_OCCURRENCES {
        return occurrences;
    }
    let shift = occurrences.ilog2() - 6;
    occurrences >> shift << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, rank: f64, occurrences: u64) -> Ranked {
        Ranked { model: Some(rank), occurrences, ..Ranked::missed(number) }
    }

    #[test]
    fn metrics_match_figures_by_hand() {
        let mut tally = EvalMetrics::new(10);
        tally.add(&[event(9, 0.0, 5), event(10, 0.0, 1)]);
        tally.add(&[event(11, 19.5, 2), event(12, 20.0, 3)]);
        let figures = tally.model().unwrap();
        assert_eq!((tally.ranked, tally.events), (4, 3));
        assert!((figures.hit_rate - 2.0 / 3.0).abs() < 1e-12);
        assert!((figures.ndcg - (1.0 + 1.0 / 21.5f64.log2()) / 3.0).abs() < 1e-12);
        assert!((figures.mrr - (1.0 + 1.0 / 20.5) / 3.0).abs() < 1e-12);
        // Occurrences 1, 2, 3: a third of the way is 1.67, two thirds 2.33.
        assert_eq!((figures.tail_hit_rate, figures.head_hit_rate), (1.0, 0.0));
        assert_eq!(tally.popularity().unwrap().hit_rate, 0.0);
    }

    #[test]
    fn cold_hit_rate_counts_items_seen_fewer_than_five_times() {
        let mut tally = EvalMetrics::new(0);
        let fared = [(3.0, 4), (30.0, 1), (0.0, 5), (0.0, 900), (2.0, 1)];
        tally.add(&[Ranked::missed(0)]);
        tally.add(&fared.map(|(rank, occurrences)| event(1, rank, occurrences)));
        assert_eq!((tally.cold_events(), tally.model().unwrap().cold_hit_rate), (4, 0.5));
        let mut warm = EvalMetrics::new(0);
        warm.add(&[event(0, 0.0, 5)]);
        assert_eq!((warm.cold_events(), warm.model().unwrap().cold_hit_rate), (0, 0.0));
    }

    #[test]
    fn metrics_of_nothing_counted_are_none() {
        assert_eq!(EvalMetrics::new(0).model(), None);
        assert_eq!(EvalMetrics::new(0).recent_model(), None);
    }

    #[test]
    fn bands_beyond_the_exact_range_are_few() {
        assert_eq!(band(EXACT_OCCURRENCES - 1), EXACT_OCCURRENCES - 1);
        assert!(band(u64::MAX) > 1 << 62);
        let bands: std::collections::BTreeSet<u64> =
            (0..10_000u64).map(|step| band((1 << 30) + step * 100_000)).collect();
        assert!(bands.len() < 100);
    }
}
