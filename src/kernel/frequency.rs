//! The log of items' frequencies, from decayed counts in memories of several lengths.
//!
//! A frequency starts as a mixture of shares, `Σ_h w_h·n_h`, each corrected by the item's age ([`AgeCorrection`]); then memories that are
//! shorter may contradict it, from the longest of them to the shortest ([`Contradiction`]).

use super::exp::{exp, ln};
use super::{Kernel, LANES, cut_alike, for_each_isa};

/// Counts of a run of items, and the factor that puts them on a common scale.
#[derive(Debug, Clone, Copy)]
pub struct ScaledCounts<'a> {
    /// n.
    pub counts: &'a [f64],
    /// Of each count.
    pub factor: f64,
}

/// What takes the share that an item has in a memory to what it would have if it were as old as the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeCorrection {
    /// Doublings of an event's weight from one event to the next: the inverse of the half-life.
    pub rate: f64,
    /// What is left of a weight of 1 from the beginning of the stream.
    pub left_of_stream: f64,
    /// Of the share, what the first event of a new item does not count.
    pub debit: f64,
    /// The part of the time before it came that is made up for, below 1.
    pub relief: f64,
}

impl AgeCorrection {
    /// That of a memory which takes shares as they are.
    pub const NONE: Self = Self { rate: 0.0, left_of_stream: 0.0, debit: 0.0, relief: 0.0 };

    /// The same of shares that count `weight` times.
    pub fn weighted(self, weight: f64) -> Self {
        Self { debit: self.debit * weight, ..self }
    }

    /// Of what the memory remembers, the part that came before an item of an age in events: 0 of one that is as old as the stream.
    pub fn missing(self, age: f64) -> f64 {
        (((-age.max(0.0) * self.rate).exp2() - self.left_of_stream) / (1.0 - self.left_of_stream)).max(0.0)
    }

    /// The `share` of an item, of whose time the part `missing` is missing.
    #[inline(always)]
    pub fn correct(self, share: f64, missing: f64) -> f64 {
        (share - self.debit * missing).max(0.0) / (1.0 - self.relief * missing)
    }
}

/// When items came first, and the clock by which their ages are taken, in events.
#[derive(Debug, Clone, Copy)]
pub struct ItemArrivals<'a> {
    /// By item.
    pub of_items: &'a [f64],
    /// Now.
    pub clock: f64,
}

/// How far a shorter memory's share s has to be from what a longer one says, q, to be believed instead: where
/// `(s − q)² > slope·q + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contradiction {
    /// Of the squared distance that is noise, by q.
    pub slope: f64,
    /// That distance for q = 0.
    pub offset: f64,
}

impl Contradiction {
    /// Which of two shares holds.
    #[inline(always)]
    pub fn settle(self, longer: f64, shorter: f64) -> f64 {
        let distance = shorter - longer;
        if distance * distance > self.slope * longer + self.offset { shorter } else { longer }
    }
}

/// Of items that are older than so many half-lives, the part that is missing is below what single precision holds.
const NOTHING_MISSING_FROM: f32 = 40.0;

/// `out[j] = factor · ln (floor + q_j)`, where q_j is the sum of the `mixed` counts of j, corrected by its age, unless some of
/// `shorter`, looked at in order, contradict it.
///
/// # Panics
/// If the lengths differ.
pub fn log_frequencies(
    kernel: Kernel,
    mixed: &[(ScaledCounts<'_>, AgeCorrection)],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    arrivals: ItemArrivals<'_>,
    floor: f64,
    factor: f32,
    out: &mut [f32],
) {
    let mut all = mixed.iter().map(|(counts, _)| counts).chain(shorter.iter().map(|(counts, _)| counts));
    assert!(all.all(|counts| counts.counts.len() == out.len()) && arrivals.of_items.len() == out.len());
    run(kernel.isa, mixed, shorter, arrivals, floor, factor, out);
}

for_each_isa!(run = body(
    mixed: &[(ScaledCounts<'_>, AgeCorrection)],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    arrivals: ItemArrivals<'_>,
    floor: f64,
    factor: f32,
    out: &mut [f32],
));

#[inline(always)]
fn body<const FMA: bool, const ROWS: usize>(
    mixed: &[(ScaledCounts<'_>, AgeCorrection)],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    arrivals: ItemArrivals<'_>,
    floor: f64,
    factor: f32,
    out: &mut [f32],
) {
    for (block, out) in out.chunks_mut(LANES).enumerate() {
        let range = block * LANES..block * LANES + out.len();
        let mut shares = [0.0; LANES];
        // As old as the stream where there is no item.
        let mut ages = [f32::INFINITY; LANES];
        {
            let (ages, of_items) = cut_alike(&mut ages, &arrivals.of_items[range.clone()]);
            for k in 0..of_items.len() {
                ages[k] = (arrivals.clock - of_items[k]) as f32;
            }
        }
        let mut youngest = f32::INFINITY;
        for k in 0..LANES {
            youngest = if ages[k] < youngest { ages[k] } else { youngest };
        }
        for (ScaledCounts { counts, factor }, correction) in mixed {
            let (shares, counts) = cut_alike(&mut shares, &counts[range.clone()]);
            let rate = correction.rate as f32;
            if rate == 0.0 || youngest * rate > NOTHING_MISSING_FROM {
                for k in 0..counts.len() {
                    shares[k] += counts[k] * factor;
                }
                continue;
            }
            let mut left = [0.0; LANES];
            for k in 0..LANES {
                let age = if ages[k] > 0.0 { ages[k] } else { 0.0 };
                left[k] = age * -rate * std::f32::consts::LN_2;
            }
            let left = exp::<FMA>(left);
            let scale = (1.0 - correction.left_of_stream).recip();
            for k in 0..counts.len().min(LANES) {
                let missing = (f64::from(left[k]) - correction.left_of_stream) * scale;
                let missing = if missing > 0.0 { missing } else { 0.0 };
                shares[k] += correction.correct(counts[k] * factor, missing);
            }
        }
        for (ScaledCounts { counts, factor }, contradiction) in shorter {
            let (shares, counts) = cut_alike(&mut shares, &counts[range.clone()]);
            for k in 0..counts.len() {
                shares[k] = contradiction.settle(shares[k], counts[k] * factor);
            }
        }
        let mut frequencies = [1.0; LANES];
        for k in 0..out.len().min(LANES) {
            frequencies[k] = (shares[k] + floor) as f32;
        }
        let logs = ln::<FMA>(frequencies);
        for k in 0..out.len().min(LANES) {
            out[k] = factor * logs[k];
        }
    }
}
