//! What draws say of a distribution, and a distribution of another.

use serde::Serialize;

use crate::table::paged::Paged;

/// Cells that are expected to be drawn less often than this are put together, or Pearson's statistic is not chi-square's.
const SMALLEST_CELL: f64 = 5.0;

/// By row of the item.
#[derive(Debug)]
pub(super) struct ItemDraws<'a> {
    /// q, as the sampler states it.
    pub probabilities: Vec<f64>,
    /// How often it was drawn.
    pub draws: Vec<u64>,
    /// Share in the data.
    pub data: Vec<f64>,
    /// Its events so far.
    pub occurrences: &'a Paged<u64>,
}

/// Of one distribution; divergences in nats.
#[derive(Debug, Serialize)]
pub(super) struct DrawStatistics {
    /// Items that can be drawn.
    pub drawable: usize,
    /// Σ q.
    pub sum: f64,
    /// Of q, in nats.
    pub entropy: f64,
    /// KL(q ‖ data); infinite where something is drawn that the data have no trace of.
    pub kl_noise_data: f64,
    /// KL(data ‖ q); infinite where some of the data cannot be drawn.
    pub kl_data_noise: f64,
    /// The share of the data that cannot be drawn.
    pub data_beyond: f64,
    /// Of the draws against q.
    pub chi_square: ChiSquare,
}

/// Pearson's test.
#[derive(Debug, Serialize)]
pub(super) struct ChiSquare {
    /// Infinite where something was drawn that cannot be.
    pub statistic: f64,
    /// Cells less one.
    pub degrees_of_freedom: usize,
    /// Chance of a larger one, where there is anything to choose between; by the approximation of Wilson and Hilferty.
    pub p_value: Option<f64>,
}

/// Items whose number of events has the same number of digits.
#[derive(Debug, Default, Serialize)]
pub(super) struct PopularityBand {
    /// Fewest events.
    pub from: u64,
    /// Most events.
    pub to: u64,
    /// Items.
    pub items: usize,
    /// Share of the draws.
    pub draws: f64,
    /// Share of q.
    pub probability: f64,
    /// Share of the data.
    pub data: f64,
}

impl ItemDraws<'_> {
    /// The rows that can be drawn.
    pub(super) fn drawable(&self) -> impl Iterator<Item = usize> {
        (0..self.probabilities.len()).filter(|row| self.probabilities[*row] > 0.0)
    }

    /// The `k` rows most drawn, most first; none that was not drawn.
    pub(super) fn most_drawn(&self, k: usize) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.draws.len()).filter(|row| self.draws[*row] > 0).collect();
        rows.sort_unstable_by_key(|row| (std::cmp::Reverse(self.draws[*row]), *row));
        rows.truncate(k);
        rows
    }

    /// All of them.
    pub(super) fn figures(&self) -> DrawStatistics {
        let both = || self.probabilities.iter().copied().zip(self.data.iter().copied());
        DrawStatistics {
            drawable: self.drawable().count(),
            sum: self.probabilities.iter().sum(),
            entropy: -self.probabilities.iter().filter(|q| **q > 0.0).map(|q| q * q.ln()).sum::<f64>(),
            kl_noise_data: divergence(both()),
            kl_data_noise: divergence(both().map(|(q, data)| (data, q))),
            // A sum of nothing would be −0.
            data_beyond: both().filter(|(q, _)| *q <= 0.0).fold(0.0, |sum, (_, data)| sum + data),
            chi_square: self.chi_square(),
        }
    }

    fn chi_square(&self) -> ChiSquare {
        let total = self.draws.iter().sum::<u64>() as f64;
        let (mut statistic, mut cells, mut rare) = (0.0, 0usize, (0.0, 0.0));
        for (probability, draws) in self.probabilities.iter().zip(&self.draws) {
            let (expected, draws) = (probability * total, *draws as f64);
            if expected >= SMALLEST_CELL {
                statistic += (draws - expected).powi(2) / expected;
                cells += 1;
            } else if expected > 0.0 {
                rare = (rare.0 + expected, rare.1 + draws);
            } else if draws > 0.0 {
                statistic = f64::INFINITY;
            }
        }
        if rare.0 >= SMALLEST_CELL {
            statistic += (rare.1 - rare.0).powi(2) / rare.0;
            cells += 1;
        }
        let degrees_of_freedom = cells.saturating_sub(1);
        let p_value = (degrees_of_freedom > 0).then(|| upper_tail(statistic, degrees_of_freedom as f64));
        ChiSquare { statistic, degrees_of_freedom, p_value }
    }

    /// By popularity, least first, up to that of the most frequent item.
    pub(super) fn bands(&self) -> Vec<PopularityBand> {
        let total = self.draws.iter().sum::<u64>() as f64;
        let mut bands: Vec<PopularityBand> = Vec::new();
        for (row, events) in self.occurrences.iter().enumerate() {
            let place = events.max(&1).ilog10();
            while bands.len() <= place as usize {
                let from = 10u64.pow(bands.len() as u32);
                bands.push(PopularityBand { from, to: from.saturating_mul(10) - 1, ..PopularityBand::default() });
            }
            let band = &mut bands[place as usize];
            band.items += 1;
            band.draws += self.draws[row] as f64 / total;
            band.probability += self.probabilities[row];
            band.data += self.data[row];
        }
        bands
    }
}

/// Σ p·log(p/q), in nats.
fn divergence(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let sum: f64 = pairs.filter(|(p, _)| *p > 0.0).map(|(p, q)| p * (p / q).ln()).sum();
    // Below zero by rounding alone.
    sum.max(0.0)
}

/// The chance that chi-square is larger: its cube root is about normal (Wilson & Hilferty 1931).
fn upper_tail(statistic: f64, degrees_of_freedom: f64) -> f64 {
    let variance = 2.0 / (9.0 * degrees_of_freedom);
    let z = ((statistic / degrees_of_freedom).cbrt() - (1.0 - variance)) / variance.sqrt();
    0.5 * complementary_error(z / std::f64::consts::SQRT_2)
}

/// erfc, to a relative 1.2e-7 (the Chebyshev fit of Press et al., Numerical Recipes, 6.2).
fn complementary_error(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = (1.0 + 0.5 * x.abs()).recip();
    let fit = FIT.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let tail = t * (fit - x * x).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chi_square_tails_match_published_tables() {
        // The upper 5 % points, from any table of chi-square; the approximation is worst with one degree of freedom.
        for (freedom, point) in [(1.0, 3.841), (5.0, 11.070), (30.0, 43.773), (100.0, 124.342), (1000.0, 1074.679)] {
            let p = upper_tail(point, freedom);
            assert!((p - 0.05).abs() < 0.003, "{freedom}: {p}");
        }
        assert!((complementary_error(1.0) - 0.157_299_207).abs() < 1e-7);
        assert!((complementary_error(-0.5) - 1.520_499_878).abs() < 1e-6);
        assert_eq!(upper_tail(f64::INFINITY, 7.0), 0.0);
    }

    fn occurrences() -> Paged<u64> {
        [1, 9, 10, 1_000].into_iter().collect()
    }

    fn rows<'a>(occurrences: &'a Paged<u64>, probabilities: &[f64], draws: &[u64], data: &[f64]) -> ItemDraws<'a> {
        ItemDraws { probabilities: probabilities.to_vec(), draws: draws.to_vec(), data: data.to_vec(), occurrences }
    }

    #[test]
    fn draw_statistics_handle_partial_support() {
        let occurrences = occurrences();
        let rows = rows(&occurrences, &[0.5, 0.5, 0.0, 0.0], &[60, 40, 0, 0], &[0.25, 0.5, 0.25, 0.0]);
        let figures = rows.figures();
        assert_eq!((figures.drawable, figures.sum, figures.data_beyond), (2, 1.0, 0.25));
        assert!((figures.entropy - 2f64.ln()).abs() < 1e-12);
        assert!((figures.kl_noise_data - 0.5 * 2f64.ln()).abs() < 1e-12);
        assert_eq!(figures.kl_data_noise, f64::INFINITY);
        assert_eq!((figures.chi_square.statistic, figures.chi_square.degrees_of_freedom), (4.0, 1));
        let bands = rows.bands();
        assert_eq!(bands.iter().map(|band| band.items).collect::<Vec<_>>(), [2, 1, 0, 1]);
        assert_eq!((bands[0].from, bands[0].to, bands[0].draws, bands[0].data), (1, 9, 1.0, 0.75));
    }

    #[test]
    fn chi_square_is_infinite_for_impossible_draw() {
        let occurrences = [1, 9, 10].into_iter().collect();
        let figures = rows(&occurrences, &[0.5, 0.5, 0.0], &[50, 49, 1], &[0.3, 0.3, 0.4]).figures();
        assert_eq!((figures.chi_square.statistic, figures.chi_square.p_value), (f64::INFINITY, Some(0.0)));
    }
}
