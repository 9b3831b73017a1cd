//! The log of items' frequencies, from decayed counts in memories of several lengths.
//!
//! A frequency starts as a mixture of shares, `Σ_h w_h·n_h`; then memories that are shorter may contradict it, from the
//! longest of them to the shortest ([`Contradiction`]).

use super::exp::ln;
use super::{Kernel, LANES, cut_alike, for_each_isa};

/// Counts of a run of items, and the factor that puts them on a common scale.
#[derive(Debug, Clone, Copy)]
pub struct ScaledCounts<'a> {
    /// n.
    pub counts: &'a [f64],
    /// Of each count.
    pub factor: f64,
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

/// `out[j] = factor · ln (floor + q_j)`, where q_j is the sum of the `mixed` counts of j, unless some of `shorter`, looked
/// at in order, contradict it.
///
/// # Panics
/// If the lengths differ.
pub fn log_frequencies(
    kernel: Kernel,
    mixed: &[ScaledCounts<'_>],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    floor: f64,
    factor: f32,
    out: &mut [f32],
) {
    let mut all = mixed.iter().chain(shorter.iter().map(|(counts, _)| counts));
    assert!(all.all(|counts| counts.counts.len() == out.len()));
    run(kernel.isa, mixed, shorter, floor, factor, out);
}

for_each_isa!(run = body(
    mixed: &[ScaledCounts<'_>],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    floor: f64,
    factor: f32,
    out: &mut [f32],
));

#[inline(always)]
fn body<const FMA: bool, const ROWS: usize>(
    mixed: &[ScaledCounts<'_>],
    shorter: &[(ScaledCounts<'_>, Contradiction)],
    floor: f64,
    factor: f32,
    out: &mut [f32],
) {
    for (block, out) in out.chunks_mut(LANES).enumerate() {
        let range = block * LANES..block * LANES + out.len();
        let mut shares = [0.0; LANES];
        for ScaledCounts { counts, factor } in mixed {
            let (shares, counts) = cut_alike(&mut shares, &counts[range.clone()]);
            for k in 0..counts.len() {
                shares[k] += counts[k] * factor;
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
