//! Publishing: item embeddings leave the pipeline for the systems that serve them.
//!
//! After each checkpoint, the pipeline brings every sink up to the table of that checkpoint: a sink never holds an embedding
//! that a restart could take back. What an [`EmbeddingSink`] can rely on, and what is expected of it, stands at the trait.
//!
//! A new sink costs two files: its own, with the sink and its [`SinkEntry`], and one line in [`SINKS`].

pub mod memory;

use std::error::Error;
use std::fmt;

pub use memory::MemorySink;

/// The sinks that can be opened by name.
pub const SINKS: &[SinkEntry] = &[memory::ENTRY];

/// A kind of sink, as the registry lists it.
#[derive(Debug, Clone, Copy)]
pub struct SinkEntry {
    /// The name by which [`open`] finds it.
    pub name: &'static str,
    /// What it does, and what its target is, in one line.
    pub about: &'static str,
    /// Opens a sink on a target: an address, a path, whatever the sink says its target is.
    pub open: fn(target: &str) -> Result<Box<dyn EmbeddingSink>, SinkError>,
}

/// Opens the sink called `name` on `target`.
///
/// # Errors
/// Where no sink has that name, or the sink refuses the target.
pub fn open(name: &str, target: &str) -> Result<Box<dyn EmbeddingSink>, SinkError> {
    let entry = SINKS.iter().find(|entry| entry.name == name).ok_or_else(|| SinkError::Unknown {
        name: name.to_owned(),
        known: SINKS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })?;
    (entry.open)(target)
}

/// The version of a row in a sink. Versions are ordered: first by epoch, then by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The timeline that the row belongs to: the number of the checkpoint by which the newest full update was made. It grows
    /// with each full update, also over restarts on the same `checkpoint.dir`.
    pub epoch: u64,
    /// Training steps taken when the checkpoint was made.
    pub step: u64,
}

/// What an update brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateKind {
    /// Every row of the table: what the sink holds besides is gone once the update is committed.
    Full,
    /// Rows whose embedding changed since the last committed update, and rows that left the table since.
    Delta,
}

/// The head of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Whether it brings all rows, or changed ones.
    pub kind: UpdateKind,
    /// The version of its rows.
    pub version: Version,
    /// Numbers in an embedding.
    pub dim: usize,
}

/// A row of the table of items, as `items.parquet` of the checkpoint holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemRow<'a> {
    /// The item's identifier.
    pub item_id: &'a str,
    /// Its embedding, [`Update::dim`] numbers; of norm 1 where `model.similarity` is cosine.
    pub embedding: &'a [f32],
    /// Logarithm of its share among the stream's events. It moves all the time: a change of it alone sends no row.
    pub log_frequency: f32,
}

/// A place that item embeddings are published to.
///
/// # Order of calls
///
/// An update is [`begin`](Self::begin), then [`remove`](Self::remove) and [`upsert`](Self::upsert) any number of times (removals
/// first; no item in both), then [`commit`](Self::commit). Updates follow each other, never interleave, and come from one
/// thread, beside training. Rows of an update come in the order of the table, each once.
///
/// # Versions
///
/// Versions of committed updates only grow. A sink that outlives the process keeps the version with each row and writes only
/// what is newer: then a row may be written any number of times (idempotence per version and row), and an older process that
/// is still alive does no harm.
///
/// The first update of a process is always a full one, as is any after an error. So a sink needs no memory of what it was
/// sent before a restart; and what was published of a timeline that a restart has left is gone with the next commit.
///
/// # Errors
///
/// An error ends the update: no further method is called for it. The sink may keep what it has of it (rows have a version)
/// or drop it. The error is logged, training goes on, and after the next checkpoint a full update is made. An error of a sink
/// never fails a checkpoint or a run.
///
/// # Time
///
/// A checkpoint counts as durable for the source only when its sinks have been called, so a sink should refuse rather than
/// wait without end.
pub trait EmbeddingSink: fmt::Debug + Send {
    /// The name of the sink in logs.
    fn name(&self) -> &str;

    /// Begins an update.
    ///
    /// # Errors
    /// Where the sink cannot take it: it is away, or holds embeddings of another model or dimension.
    fn begin(&mut self, update: &Update) -> Result<(), SinkError>;

    /// Removes items that left the table; unknown ones are no error.
    ///
    /// # Errors
    /// Where the sink cannot take it.
    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError>;

    /// Writes rows over what the sink holds of the same items.
    ///
    /// # Errors
    /// Where the sink cannot take them.
    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError>;

    /// Ends the update: all of it is visible to readers of the sink once this returns.
    ///
    /// # Errors
    /// Where that cannot be promised.
    fn commit(&mut self) -> Result<(), SinkError>;
}

/// An error of a sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No sink has the name.
    #[error("no sink is called '{name}'; there are: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The sink refused an update, or its target.
    #[error("sink {sink}: {source}")]
    Refused {
        /// The name of the sink.
        sink: String,
        /// The refusal.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SinkError {
    /// A refusal by `sink`, for the reason `source`.
    pub fn refused(sink: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused { sink: sink.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_finds_sinks_by_name_and_lists_them_where_there_is_none() {
        for entry in SINKS {
            assert_eq!(open(entry.name, "test").unwrap().name(), entry.name);
            assert!(!entry.about.is_empty());
        }
        let error = open("memroy", "").unwrap_err().to_string();
        assert!(error.contains("'memroy'") && error.contains("memory"), "{error}");
    }

    #[test]
    fn versions_are_ordered_by_epoch_before_step() {
        let version = |epoch, step| Version { epoch, step };
        assert!(version(1, 900) < version(2, 100) && version(2, 100) < version(2, 101));
    }
}
