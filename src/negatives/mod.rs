//! \[4\] Negatives: what a query is scored against, and the one correction for how it got there.
//!
//! Candidates come from several proposals: the batch's own positives, the bank of the newest positives, and noise
//! samplers. Whichever of them drew item `j`, its correction is `log E_j`, with `E_j = Σ_m n_m·q_m(j)` the number of
//! times that all proposals together are expected to bring it. Of the batch and the bank, which hold the newest events, that is
//! told by q̂, or, where the stream has chosen a half-life that is shorter, by counts over about as many events.

pub mod bank;
pub mod candidates;
mod config;
pub mod false_negatives;
pub mod frequency;
pub mod live;
pub mod proposals;
pub mod samplers;
pub mod sketch;

pub use config::{BankVectors, HalfLife, NegativesConfig};

/// The items' vectors, as samplers see them.
pub trait Vectors: Sync + std::fmt::Debug {
    /// Numbers in a vector.
    fn dim(&self) -> usize;
    /// Vector of `item` as it is scored (norm 1 where the similarity is the cosine), written to `out` (dim numbers).
    fn vector(&self, item: u32, out: &mut [f32]);
    /// 1/τ.
    fn inverse_temperature(&self) -> f32;
    /// β.
    fn beta(&self) -> f32;
}
