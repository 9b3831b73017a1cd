//! Hit rates and the like: of all events, by band, along the stream.

use super::judged::JudgedEvents;
use crate::evaluate::metrics::RankMetrics;
use crate::evaluate::rank_code::RankCode;

/// Stretches of the stream that curves are drawn over.
pub const STRETCHES: usize = 40;

/// The metrics of these ranks; 0 where there are none.
pub fn of_ranks(ranks: &[RankCode]) -> RankMetrics {
    let n = ranks.len().max(1) as f64;
    let mean = |of: &dyn Fn(&RankCode) -> f64| ranks.iter().map(of).sum::<f64>() / n;
    RankMetrics {
        hit_rate: mean(&|rank| f64::from(u8::from(rank.is_hit()))),
        ndcg: mean(&|rank| rank.gain()),
        mrr: mean(&|rank| rank.reciprocal()),
    }
}

/// Hit rate by band, in the order of the bands; `None` where a band is empty.
pub fn by_band(judged: &JudgedEvents, ranks: &[RankCode]) -> Vec<Option<f64>> {
    let rate = |band: usize| {
        let inside = ranks.iter().enumerate().filter(|(place, _)| judged.is_in_band(*place, band));
        let (hits, n) = inside.fold((0, 0), |(hits, n), (_, rank)| (hits + u64::from(rank.is_hit()), n + 1));
        (n > 0).then(|| hits as f64 / n as f64)
    };
    (0..judged.bands().len()).map(rate).collect()
}

/// Hit rate along the stream, in [`STRETCHES`] stretches of as many judged events (fewer where there are fewer events).
pub fn along_stream(ranks: &[RankCode]) -> Vec<f64> {
    let rate = |stretch: &[RankCode]| stretch.iter().filter(|rank| rank.is_hit()).count() as f64 / stretch.len() as f64;
    stretches(ranks.len()).map(|range| rate(&ranks[range])).collect()
}

/// The stretches of so many judged events.
pub fn stretches(events: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let n = STRETCHES.min(events);
    (0..n).map(move |stretch| stretch * events / n..(stretch + 1) * events / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_means_over_all_events() {
        let ranks = [RankCode::new(Some(0.0)), RankCode::new(Some(2.0)), RankCode::MISS, RankCode::MISS];
        let metrics = of_ranks(&ranks);
        assert_eq!((metrics.hit_rate, metrics.ndcg, metrics.mrr), (0.5, 0.375, (1.0 + 1.0 / 3.0) / 4.0));
        assert_eq!(of_ranks(&[]).hit_rate, 0.0);
        assert_eq!(along_stream(&ranks), [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn stretches_cover_every_event_once() {
        for events in [0, 1, 39, 40, 41, 1234] {
            let covered: Vec<usize> = stretches(events).flatten().collect();
            assert_eq!(covered, (0..events).collect::<Vec<_>>());
        }
    }
}
