//! Test-then-train evaluation: every event is ranked with the model as it stands before the event is learnt.
//!
//! The protocol: a batch's events are ranked before any of them is given to the model, against every item seen before
//! the batch, from the user's exact history. Where items do not recur, the user's earlier items leave the ranking (except
//! the target). rank = items scored strictly above the target + half of the ties; an item never seen before has no
//! rank and counts as a miss. [`ranking`] finds the ranks of the model and of decayed popularity, [`metrics`] adds them up.

mod config;
pub mod metrics;
pub mod popularity;
pub mod ranking;
pub mod summary;

pub use config::EvaluateConfig;

/// The length of the list that a hit must be in.
pub const K: usize = 20;
