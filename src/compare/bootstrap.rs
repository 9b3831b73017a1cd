//! How sure figures and differences are: a paired bootstrap over users.
//!
//! Events of one user are not independent, so whole users are drawn, with replacement; every contestant is judged by the same
//! draws. Drawing n of n users with replacement gives each a number of copies that is nearly a Poisson variable with mean 1, each
//! apart from the others (Chamandy et al., Estimating Uncertainty for Massive Data Streams, 2012): that is what is drawn here.

use rayon::prelude::*;
use serde::Serialize;

use super::judged::JudgedEvents;
use crate::evaluate::rank_code::RankCode;

/// Draws.
const REPLICATES: u64 = 1000;
/// What of the draws lies outside an interval, on each side.
const OUTSIDE: f64 = 0.025;

/// The middle 95 % of the draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConfidenceInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl ConfidenceInterval {
    /// Whether it lies on one side of 0.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        Self { low: at(OUTSIDE), high: at(1.0 - OUTSIDE) }
    }
}

/// How sure the figures of one contestant are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Certainty {
    /// Of its hit rate.
    #[serde(rename = "hr@20")]
    pub hit_rate: ConfidenceInterval,
    /// Of its NDCG.
    #[serde(rename = "ndcg@20")]
    pub ndcg: ConfidenceInterval,
    /// Of how much its hit rate is above the first contestant's.
    #[serde(rename = "hr@20_difference")]
    pub hit_rate_difference: ConfidenceInterval,
    /// Of how much its NDCG is above the first contestant's.
    #[serde(rename = "ndcg@20_difference")]
    pub ndcg_difference: ConfidenceInterval,
}

/// How sure the figures of contestants with these ranks are; empty where nothing was judged.
pub fn certainties(judged: &JudgedEvents, contestants: &[&[RankCode]], seed: u64) -> Vec<Certainty> {
    if judged.is_empty() {
        return Vec::new();
    }
    let n = contestants.len();
    // By user: number of events, then hits and gain of each contestant.
    let width = 1 + 2 * n;
    let mut sums = vec![0.0; judged.n_users * width];
    for (place, user) in judged.users.iter().enumerate() {
        let of_user = &mut sums[*user as usize * width..][..width];
        of_user[0] += 1.0;
        for (contestant, ranks) in contestants.iter().enumerate() {
            of_user[1 + 2 * contestant] += f64::from(u8::from(ranks[place].is_hit()));
            of_user[2 + 2 * contestant] += ranks[place].gain();
        }
    }
    let replicate = |replicate: u64| {
        let mut total = vec![0.0; width];
        for (user, of_user) in (0u64..).zip(sums.chunks_exact(width)) {
            let copies = poisson(mix(mix(seed ^ replicate.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ user));
            if copies > 0.0 {
                total.iter_mut().zip(of_user).for_each(|(total, sum)| *total += copies * sum);
            }
        }
        let events = total[0].max(1.0);
        total.iter_mut().for_each(|sum| *sum /= events);
        total
    };
    let replicates: Vec<Vec<f64>> = (0..REPLICATES).into_par_iter().map(replicate).collect();
    let interval =
        |of: &dyn Fn(&[f64]) -> f64| ConfidenceInterval::of(replicates.iter().map(|means| of(means)).collect());
    (0..n)
        .map(|contestant| {
            let (hits, gain) = (1 + 2 * contestant, 2 + 2 * contestant);
            Certainty {
                hit_rate: interval(&|means| means[hits]),
                ndcg: interval(&|means| means[gain]),
                hit_rate_difference: interval(&|means| means[hits] - means[1]),
                ndcg_difference: interval(&|means| means[gain] - means[2]),
            }
        })
        .collect()
}

/// A hash of 64 bits whose bits are all of use (SplitMix64's last steps; Steele et al., 2014).
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// A Poisson variable with mean 1, from 64 random bits.
fn poisson(bits: u64) -> f64 {
    let uniform = bits as f64 / u64::MAX as f64;
    let (mut copies, mut probability) = (0.0, (-1f64).exp());
    let mut up_to = probability;
    while uniform > up_to && copies < 20.0 {
        copies += 1.0;
        probability /= copies;
        up_to += probability;
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::interactions::Interactions;

    #[test]
    fn poisson_copies_have_mean_and_variance_one() {
        let draws: Vec<f64> = (0..100_000).map(|draw| poisson(mix(draw))).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 1e5;
        // Five standard errors: 1/√n of the mean, √(3/n) of the variance (the fourth central moment is 4).
        assert!((mean - 1.0).abs() < 0.016 && (variance - 1.0).abs() < 0.028, "{mean} {variance}");
    }

    #[test]
    fn intervals_are_those_of_the_binomial_where_each_user_has_one_event() {
        let mut log = Interactions::default();
        (0..4000).for_each(|user| log.push(&format!("u{user}"), "i", 0));
        let judged = JudgedEvents::new(&log, (0..4000).collect(), true);
        let code = |hit: bool| if hit { RankCode::new(Some(0.0)) } else { RankCode::MISS };
        let first: Vec<RankCode> = (0..4000).map(|user| code(user % 4 == 0)).collect();
        let second: Vec<RankCode> = (0..4000).map(|user| code(user % 4 == 0 || user % 100 == 1)).collect();
        let certainties = certainties(&judged, &[&first, &second], 7);
        let width = |interval: ConfidenceInterval| (interval.high - interval.low) / 2.0;
        let expected = 1.96 * (0.25 * 0.75 / 4000f64).sqrt();
        assert!((width(certainties[0].hit_rate) / expected - 1.0).abs() < 0.1);
        assert_eq!(certainties[0].hit_rate_difference, ConfidenceInterval { low: 0.0, high: 0.0 });
        // The difference is that of 1 % of the users, though either rate is less sure than that.
        let paired = 1.96 * (0.01 * 0.99 / 4000f64).sqrt();
        assert!((width(certainties[1].hit_rate_difference) / paired - 1.0).abs() < 0.15);
        assert!(certainties[1].hit_rate_difference.excludes_zero());
    }
}
