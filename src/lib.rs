//! negstream turns a live stream of user–item interactions into recommendation embeddings that are seconds old.
//!
//! # In ten lines
//!
//! ```
//! use negstream::source::memory::MemorySource;
//! use negstream::synth::{EventGenerator, SynthConfig};
//! use negstream::{Checkpoint, Config, NeighborIndex, Pipeline, Report, StopReason};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let checkpoints = folder.path().display();
//! // Any key of `negstream config default` can be set.
//! let config = Config::with_settings(&["model.dim=16".to_owned(), format!("checkpoint.dir={checkpoints}")])?;
//! let mut generator = EventGenerator::new(SynthConfig { users: 300, items: 200, ..SynthConfig::default() });
//! let events = (0..5_000).map(|_| generator.next_event());
//!
//! let mut pipeline = Pipeline::new(&config)?;
//! assert_eq!(pipeline.run(MemorySource::of_events(events))?, StopReason::End);
//! assert_eq!(Report::of(&pipeline).events.read, 5_000);
//!
//! let index = NeighborIndex::read(&Checkpoint::open(folder.path())?)?;
//! for neighbor in index.nearest(index.most_frequent()[0], 3).expect("a known item") {
//!     println!("{} {:.3}", neighbor.item_id, neighbor.cosine);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! | --- | --- |
//! | train | [`Pipeline`], on any [`EventSource`]: logs, Kafka, memory, one of your own |
//! | read what was learnt | [`Checkpoint`], [`NeighborIndex`] |
//! | publish embeddings | [`EmbeddingSink`], by [`PipelineBuilder::sink`] |
//! | see how it went | [`Report`] |
//! | draw negatives without training | [`negatives::samplers`] |
//!
//! `examples/` has a program for each. Modules that this page does not list are the inside of the program: they may change
//! with any version.
//!
//! # The map
//!
//! ```text
//!  source ─ decode ─ context ─ negatives ─ objective ─ table ─┬─ checkpoint ─ publish
//!  (kafka,  (json, …, (past +   (in-batch,  (InfoNCE,   (rows, ├─ evaluate (before the step!)
//!  parquet)  rows)   positive)  bank,       kernel)    Adagrad) └─ telemetry
//!                               samplers)
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
//! | [`negatives`] | candidates that the event is scored against: the batch, the bank, samplers; and their correction |
//! | [`model`] | parameters and encoders: what makes a query of a context, and moves by gradients |
//! | [`objective`] | loss and gradients; dense arithmetic is in [`kernel`] |
//! | [`table`] | rows that grow with the stream, and the optimizer that moves them |
//! | [`trainer`] | the order of all that; the sole owner of the state |
//! | [`snapshot`] | the state to files and back |
//! | [`checkpoint`] | durable files, whole or not at all, in a folder or an object store |
//! | [`recommend`] | the best items for a user, by the full score |
//! | [`share`] | what workers that learn one model tell each other |
//! | [`serve`] | programs ask the model while it learns |
//! | [`publish`] | embeddings leave for where they are served |
//! | [`telemetry`] | status, metrics, health, page, logs, report |
//!
//! Around them: [`pipeline`] (the loop, and what stands around it), [`event`], [`position`], [`metric`], [`state_dict`] and
//! [`util`] (what all stages speak of), [`config`] (the sum of the rooms' sections), [`catalogue`] (what is known of items),
//! `remote` (object stores and web servers, with the feature `s3`), [`dead_letters`], [`kafka`] (clients and the embedded
//! broker), [`registry`] (schemas of binary records), [`neighbors`], [`export`] and [`import`] (vectors in files of other programs),
//! [`synth`] (a log with known structure), [`peers`] (rankings by counting), [`compare`] (contestants side by side),
//! [`tune`] (what a search tries, and who goes on), [`check`] (what a log seems to be),
//! [`commands`] (the composition root), [`cli`], [`exit`] and [`signals`].
//!
//! # What holds everywhere
//!
//! - **The model is a pure function of configuration, seed, sequence of events, and the places at which batches were cut.** The
//!   log alone cuts them in a replay; on a quiet live stream the clock does too, and each such cut is written down
//!   ([`position::cuts`]). No order of a hash table, no timing of threads reaches the model, and of the clock nothing else. So
//!   a replay with the same cuts equals the live run, a killed worker ends byte for byte like one that was not, and a run can
//!   be repeated to debug it.
//! - **State and positions move together**, at the end of a batch. A checkpoint holds both; what was read but not
//!   trained is read again.
//! - **Channels are bounded.** A slow trainer slows its source down.
//! - **Identifiers are data**: nothing in them reaches a path, a metric's label, a log line or a page unescaped.
//!
//! Which module may import which is held by a test (`tests/it/tidy.rs`).

#[doc(hidden)]
pub mod catalogue;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod compare;
pub mod config;
#[doc(hidden)]
pub mod context;
#[doc(hidden)]
pub mod dead_letters;
#[doc(hidden)]
pub mod decode;
#[doc(hidden)]
pub mod evaluate;
pub mod event;
#[doc(hidden)]
pub mod exit;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod kafka;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod metric;
#[doc(hidden)]
pub mod model;
pub mod negatives;
pub mod neighbors;
#[doc(hidden)]
pub mod objective;
#[doc(hidden)]
pub mod peers;
pub mod pipeline;
pub mod position;
pub mod publish;
#[doc(hidden)]
pub mod recommend;
#[doc(hidden)]
pub mod registry;
#[cfg(feature = "s3")]
#[doc(hidden)]
pub mod remote;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod share;
#[doc(hidden)]
pub mod signals;
#[doc(hidden)]
pub mod snapshot;
pub mod source;
#[doc(hidden)]
pub mod state_dict;
pub mod synth;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod telemetry;
#[doc(hidden)]
pub mod trainer;
#[doc(hidden)]
pub mod tune;
#[doc(hidden)]
pub mod util;

pub use checkpoint::{Checkpoint, CheckpointError, ItemEmbedding};
pub use config::Config;
pub use config::layers::ConfigError;
pub use neighbors::{Neighbor, NeighborIndex};
pub use pipeline::{Pipeline, PipelineBuilder, PipelineError, StopReason};
pub use publish::{EmbeddingSink, MemorySink, SinkError};
pub use signals::Stop;
pub use source::{EventSource, SourceError};
pub use telemetry::report::Report;
