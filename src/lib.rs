//! negstream turns a live stream of user–item interactions into recommendation embeddings that are seconds old.
//!
//! # The map
//!
//! ```text
//!  source ─ decode ─ context ─ negatives ─ objective ─ table ─┬─ checkpoint
//!  (kafka,  (json, …, (past +   (in-batch,  (InfoNCE,   (rows, ├─ evaluate (before the step!)
//!  parquet)  rows)   positive)  bank,       kernel)    Adagrad) └─ telemetry
//!                               noise)
//! ```
//!
//! Modules in the order in which an event meets them:
//!
//! | module | what happens there |
//! | --- | --- |
//! | [`source`] | records are read, on a thread of their own, from given positions |
//! | [`decode`] | bytes and columns become interactions, or rejections with a reason |
//! | [`context`] | each event gets the past of its user; memories move on |
//! | [`evaluate`] | the event is ranked by the model as it stands, before it is learnt |
//! | [`negatives`] | what it is scored against: the batch, the bank, noise; and the correction for that |
//! | [`objective`] | loss and gradients; dense arithmetic is in [`kernel`] |
//! | [`table`] | rows that grow with the stream, and the optimizer that moves them |
//! | [`trainer`] | the order of all that; the sole owner of the state |
//! | [`checkpoint`] | durable state, whole or not at all |
//! | [`telemetry`] | status, metrics, health, page, logs |
//!
//! Around them: [`event`], [`position`] and [`util`] (what all stages speak of), [`config`], [`catalogue`] (what is known of
//! items), [`dead_letters`], [`kafka`] (clients
//! and the embedded broker), [`registry`] (what binary records are read by), [`synth`] (a log with known structure), [`pipeline`] (what `run`, `replay` and `demo` have
//! in common), [`commands`] (the composition root), [`cli`], [`exit`] and [`signals`].
//!
//! # What holds everywhere
//!
//! - **The model is a pure function of configuration, seed and sequence of events.** No wall clock, no order of a hash
//!   table, no timing of threads reaches it. So a replay equals the live run, a killed worker ends byte for byte like one
//!   that was not, and a run can be repeated to debug it.
//! - **State and positions move together**, at the end of a batch. A checkpoint holds both; what was read but not
//!   trained is read again.
//! - **Channels are bounded.** A slow trainer slows its source down.
//! - **Identifiers are data**: nothing in them reaches a path, a metric's label, a log line or a page unescaped.
//!
//! Which module may import which is held by a test (`tests/it/tidy.rs`).

pub mod catalogue;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod dead_letters;
pub mod decode;
pub mod evaluate;
pub mod event;
pub mod exit;
pub mod kafka;
pub mod kernel;
pub mod metric;
pub mod model;
pub mod negatives;
pub mod neighbors;
pub mod objective;
pub mod pipeline;
pub mod position;
pub mod publish;
pub mod registry;
pub mod signals;
pub mod snapshot;
pub mod source;
pub mod state_dict;
pub mod synth;
pub mod table;
pub mod telemetry;
pub mod trainer;
pub mod util;
