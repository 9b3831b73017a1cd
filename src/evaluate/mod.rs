//! Test-then-train evaluation: every event is ranked with the model as it stands before the event is learnt.
//!
//! The protocol, exact to the event: each event is ranked by what came before it, against every item that was seen before it,
//! from the user's exact history; an item is known from its first event on. Counts, popularity and what users had are those
//! just before the event, also within a batch; only trained weights are those before the batch. Where items do not recur, the
//! user's earlier items leave the ranking (except the target). rank = items scored strictly above the target + half of the
//! ties; an item never seen before has no rank and counts as a miss.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `history` | what a batch's events change for one another |
//! | `ranking` | the ranks, under the model and under the baselines |
//! | `exclusions` | the items that leave rankings, as the count of all items passes over them |
//! | `single_items` | what the count of all items gets wrong: items with ρ or κ |
//! | `popularity` | the items in the order of their decayed popularity |
//! | `metrics` | the ranks added up |
//! | `rank_code` | the ranks, a byte each, for whoever keeps them all |
//! | `summary` | the results for whoever shows them |
//!
//! The baselines are decayed popularity and, where items may recur, the user's own history: an item counts as often as the user
//! had it, decayed by `repetition.half_life`, and popularity decides between equals.

mod config;
mod exclusions;
pub mod history;
pub mod metrics;
pub mod popularity;
pub mod rank_code;
pub mod ranking;
mod single_items;
pub mod summary;

pub use config::EvaluateConfig;

/// The length of the list that a hit must be in.
pub const K: usize = 20;
