//! One model, many workers: what the workers of a group send each other, and how it is written down.
//!
//! Every worker trains on the events of its own partitions, and says now and then what that has come to: a [`Delta`]. Whoever
//! reads it adds it to what they have. Nothing in it says what a number *is*, only by how much it *moved*, so that the deltas of
//! many workers add up to the same model in whatever order they come:
//!
//! | part of a delta | how others take it |
//! | --- | --- |
//! | moves of rows, and of Adagrad's sums of squared gradients | are added |
//! | moves of the few learned numbers that belong to no row (β, weights of positions, ρ, κ, …), and of their sums | are added |
//! | events: item, time, and what the user had just before | are counted, each in its place on the group's clock |
//! | what speaks for each half-life | is added |
//! | names of rows that were evicted | their rows leave |
//!
//! A move is never divided by the number of workers: two workers that have each learnt something of an item have learnt twice
//! as much. What keeps rows from moving too far that all workers move at the same time are Adagrad's sums, which add up like
//! the moves, and that workers send each other more often while a model is young, and where interest fades fast
//! (`Trainer::is_delta_due`): what was learnt side by side from nothing does not fit together.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `delta` | [`Delta`], and what it is made of |
//! | `encoding` | deltas as bytes, and back |
//! | `parts` | long deltas as several records |
//! | `ledger` | [`Ledger`]: which deltas count, by their order in the log |
//! | `log` | [`DeltaLog`]: the topic that they are in |
//! | `clock` | [`GroupClock`]: the number of the group's events, as far as a worker can know it |
//! | `config` | the section `share` |
//! | `error` | what can go wrong |
//!
//! What of a worker's state a delta is made of, and how it is merged, is the trainer's (`crate::trainer`); when it is sent and
//! received, the pipeline's.

pub mod clock;
mod config;
pub mod delta;
pub mod encoding;
mod error;
pub mod ledger;
pub mod log;
pub mod parts;

pub use clock::GroupClock;
pub use config::ShareConfig;
pub use delta::{
    ClockSpan, Delta, MovePrecision, ParameterMoves, RowMoves, SharedEvent, SharedItem, SharedTable, SourceSpan,
};
pub use encoding::DeltaError;
pub use error::ShareError;
pub use ledger::{DeltaConflict, DeltaVerdict, Ledger, ReceivedRecord, SharedProgress};
pub use log::{DeltaLog, LogTopic, LogView};
