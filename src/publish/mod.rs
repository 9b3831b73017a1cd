//! Publishing: item embeddings leave the pipeline for the systems that serve them.
//!
//! | module | holds |
//! | --- | --- |
//! | `sink` | the contract: [`EmbeddingSink`], what it is called with, what is expected of it |
//! | [`config`] | the tables `[[publish]]` |
//! | [`registry`] | [`SINKS`], by name |
//! | `precision` | in how many bits embeddings are stored |
//! | `full_update` | the update that brings a whole table |
//! | `verify` | what a sink holds against what it should |
//! | [`kafka`] | compacted topics |
//! | [`memory`] | a sink in this process, and the fake for tests |
//! | [`parquet`] | files that one line of SQL merges |
//! | `redis`, `postgres`, `opensearch` | sinks of servers, each with a feature of its name |
//!
//! What is sent, and when, is decided by the pipeline's publisher. A new sink costs two files: its own, with its options
//! ([`OwnOptions`]) and the sink itself, and one line in the registry.

pub mod config;
mod error;
#[doc(hidden)]
pub mod full_update;
pub mod kafka;
pub mod memory;
#[cfg(feature = "opensearch")]
pub mod opensearch;
pub mod parquet;
#[cfg(feature = "postgres")]
pub mod postgres;
mod precision;
#[cfg(feature = "redis")]
pub mod redis;
pub mod registry;
mod sink;
#[doc(hidden)]
pub mod verify;

pub use config::{SinkConfig, SinkOptions, WhenFull};
pub use error::{SinkDiffers, SinkError};
pub use memory::MemorySink;
pub use precision::{StoredPrecision, VectorPrecision};
pub use registry::{OwnOptions, SINKS, SinkEntry, open};
pub use sink::{EmbeddingSink, ItemRow, RowPart, SinkState, StoredRow, Update, UpdateKind, UserQuery, Version};
