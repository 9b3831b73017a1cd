//! Noise: distributions over the live items that negatives are drawn from, with exactly known probabilities.
//!
//! All queries of a batch share their candidates. Where a sampler's distribution depends on the query, what is drawn
//! from, and corrected for, is its mean over the batch's queries: `q(j) = (1/B) Σ_i q(j | query i)`.
//!
//! A sampler is one file, with its options and its [`NoiseSampler`], and one line in [`SAMPLERS`]; [`mix`] holds those that
//! are at work.

pub mod adaptive;
mod centres;
pub mod classes;
pub mod cooccurrence;
pub mod exposure;
pub mod hard;
pub mod interval;
pub mod log_uniform;
pub mod mix;
pub mod mixture;
pub mod registry;
#[cfg(test)]
pub(super) mod tests;
pub mod uniform;
pub mod unigram;

use rand_pcg::Pcg64Mcg;

use super::Vectors;
use super::frequency::Frequencies;
use super::live::LiveItems;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use registry::SamplerEntry;

/// All noise samplers, in the order in which they are documented.
pub static SAMPLERS: &[SamplerEntry] = &[
    SamplerEntry::of::<uniform::UniformOptions>(),
    SamplerEntry::of::<unigram::UnigramOptions>(),
    SamplerEntry::of::<log_uniform::LogUniformOptions>(),
    SamplerEntry::of::<interval::IntervalOptions>(),
    SamplerEntry::of::<cooccurrence::CooccurrenceOptions>(),
    SamplerEntry::of::<adaptive::AdaptiveOptions>(),
    SamplerEntry::of::<hard::HardOptions>(),
    SamplerEntry::of::<exposure::ExposureOptions>(),
    SamplerEntry::of::<mixture::MixtureOptions>(),
];

/// The state of the stream after a batch, as samplers see it.
#[derive(Debug, Clone, Copy)]
pub struct StreamView<'a> {
    /// q̂, the batch included.
    pub frequencies: &'a Frequencies,
    /// The items that may be drawn, and who came and went with the batch.
    pub live: &'a LiveItems,
    /// The items' vectors.
    pub vectors: &'a dyn Vectors,
}

/// The events of a batch, as samplers see them.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchObservation<'a> {
    /// The items, in the order of the events.
    pub items: &'a [u32],
    /// (item before, item) of each event whose user has a past, in their order.
    pub pairs: &'a [(u32, u32)],
    /// (user, item) of what was shown, in order; and of what was chosen.
    pub shown: &'a [Shown],
}

/// Something that a user was shown, or chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Row of the user.
    pub user: u32,
    /// Row of the item.
    pub item: u32,
    /// Whether the user chose it.
    pub chosen: bool,
}

/// The queries that negatives are wanted for.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryContext<'a> {
    /// The newest item of each query's context.
    pub last_items: &'a [u32],
    /// The row of each query's user.
    pub users: &'a [u32],
    /// The vectors of the queries as scored: `stride` numbers each, of which the first dim count.
    pub queries: &'a [f32],
    /// Numbers from one query to the next.
    pub stride: usize,
    /// The other candidates: the batch's positives and the bank; items may be there several times.
    pub others: &'a [u32],
}

/// A distribution over the live items that negatives are drawn from, with exactly known probabilities.
///
/// In each batch [`Self::observe`] is called once, then [`Self::set_queries`], then any number of draws. What is drawn depends
/// on the calls before it and on the generator alone. A sampler that was saved and restored draws the same.
pub trait NoiseSampler: Send + Sync + std::fmt::Debug {
    /// Observes a batch of events.
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>);

    /// Sets the queries that negatives are drawn for: [`Self::draw`] and [`Self::probability`] are about them from now on.
    fn set_queries(&mut self, _view: StreamView<'_>, _asking: QueryContext<'_>) {}

    /// Whether it has to be asked: its distribution depends on the queries.
    fn depends_on_queries(&self) -> bool {
        false
    }

    /// Whether there is nothing to draw from.
    fn is_empty(&self, view: StreamView<'_>) -> bool;

    /// Appends `draws` independent draws to `out`; nothing where it [is empty](Self::is_empty).
    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>);

    /// The probability that one draw is `item`; 0 for what cannot be drawn.
    fn probability(&self, view: StreamView<'_>, item: u32) -> f64;

    /// Remaps item rows after an eviction. The queries are forgotten: [`Self::set_queries`] must follow before the next draw.
    fn keep_items(&mut self, items: &RowRemap);

    /// Remaps user rows after an eviction.
    fn keep_users(&mut self, _users: &RowRemap) {}

    /// Saves the state that [`Self::restore`] reads.
    fn save(&self, out: &mut StateDict);

    /// Restores the state of a sampler with the same options.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError>;
}
