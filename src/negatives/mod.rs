//! \[4\] Negatives: what a query is scored against, and the one correction for how it got there.
//!
//! Candidates come from several proposals: the batch's own positives, the bank of the newest positives, and noise
//! samplers. Whichever of them drew item `j`, its correction is `log E_j`, with `E_j = Σ_m n_m·q_m(j)` the number of
//! times that all proposals together are expected to bring it.

pub mod bank;
pub mod candidates;
pub mod frequency;
pub mod uniform;
pub mod unigram;

use rand_pcg::Pcg64Mcg;

use frequency::Frequencies;

/// A distribution over the live items that negatives are drawn from, with exactly known probabilities.
///
/// A sampler's state is a function of the frequencies alone, so that it need not be saved: [`Self::rebuild`] brings
/// back the same next draws.
pub trait NoiseSampler: Send + Sync + std::fmt::Debug {
    /// Takes note of a batch: `items` were added to `frequencies`, which may also hold items never seen before.
    fn observe(&mut self, frequencies: &Frequencies, items: &[u32]);

    /// Makes the state anew from `frequencies`.
    fn rebuild(&mut self, frequencies: &Frequencies);

    /// Appends `draws` items to `out`; none where there is nothing to draw from.
    fn draw(&self, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>);

    /// The probability that one draw is `item`.
    fn probability(&self, item: u32) -> f64;
}
