//! Publishing: item embeddings leave the pipeline for the systems that serve them.
//!
//! After each checkpoint, the pipeline brings every sink up to the table of that checkpoint: a sink never holds an embedding
//! that a restart could take back. What an [`EmbeddingSink`] can rely on, and what is expected of it, stands at the trait.
//!
//! A new sink costs two files: its own, with the sink and its [`SinkEntry`], and one line in [`SINKS`].

pub mod memory;
#[cfg(feature = "opensearch")]
pub mod opensearch;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sink_config;

use std::error::Error;
use std::fmt;

use crate::util::cargo_feature::CargoFeature;

pub use memory::MemorySink;
pub use sink_config::SinkConfig;

/// The sinks that can be opened by name.
pub const SINKS: &[SinkEntry] = &[
    memory::ENTRY,
    #[cfg(feature = "opensearch")]
    opensearch::ENTRY,
    #[cfg(feature = "postgres")]
    postgres::ENTRY,
    #[cfg(feature = "redis")]
    redis::ENTRY,
];

/// Features that are the names of sinks: who asks for one that was not built in learns which feature it needs.
const LEFT_OUT: [CargoFeature; 3] = [CargoFeature::Opensearch, CargoFeature::Postgres, CargoFeature::Redis];

/// A kind of sink, as the registry lists it.
#[derive(Debug, Clone, Copy)]
pub struct SinkEntry {
    /// The name by which [`open`] finds it.
    pub name: &'static str,
    /// What it does, and what its target is, in one line.
    pub about: &'static str,
    /// Opens a sink on its target. Nothing is asked of a server before the first update.
    pub open: fn(config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError>,
}

/// Opens the sink called `name` on `target`.
///
/// # Errors
/// Where no sink has that name, or the sink refuses the target.
pub fn open(name: &str, target: &str) -> Result<Box<dyn EmbeddingSink>, SinkError> {
    let Some(entry) = SINKS.iter().find(|entry| entry.name == name) else {
        let known = SINKS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        return Err(match LEFT_OUT.iter().find(|feature| feature.name() == name) {
            Some(feature) => SinkError::refused(name, feature.missing()),
            None => SinkError::Unknown { name: name.to_owned(), known },
        });
    };
    (entry.open)(&SinkConfig::new(name, target))
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The space that its embeddings are of. A sink holds one space: what holds another is refused.
    pub model_id: String,
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

/// A row that a sink holds, as [`EmbeddingSink::read`] gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredItem {
    /// The item's identifier.
    pub item_id: String,
    /// Its embedding.
    pub embedding: Vec<f32>,
    /// Logarithm of its share among the stream's events, when it was written last.
    pub log_frequency: f32,
    /// The version of the update that wrote the embedding last.
    pub version: Version,
}

/// What a sink says of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkState {
    /// The space that its embeddings are of.
    pub model_id: String,
    /// The version of the update that was committed last.
    pub version: Version,
    /// Numbers in an embedding.
    pub dim: usize,
}

/// A place that item embeddings are published to.
///
/// # Order of calls
///
/// An update is [`begin`](Self::begin), then [`remove`](Self::remove), [`upsert`](Self::upsert) and
/// [`set_popularity`](Self::set_popularity) any number of times (removals first; no item in two of them), then [`commit`](Self::commit). Updates follow each other, never interleave, and come from one
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

    /// Sets the log frequency of items that it holds, and leaves their embeddings and versions as they are. A sink in which
    /// that costs as much as writing the row does nothing.
    ///
    /// # Errors
    /// Where the sink cannot take them.
    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let _ = popularity;
        Ok(())
    }

    /// Shows `visit` every row that the sink holds, in any order, outside of updates; `None` where nothing was committed.
    ///
    /// # Errors
    /// Where the sink cannot be read.
    fn read(&mut self, visit: &mut dyn FnMut(StoredItem)) -> Result<Option<SinkState>, SinkError> {
        let _ = visit;
        Err(SinkError::refused(self.name(), "it cannot be read"))
    }
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
            // Servers have addresses.
            let target = if entry.name == "opensearch" { "http://host" } else { &format!("{}://host", entry.name) };
            assert_eq!(open(entry.name, target).unwrap().name(), entry.name);
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
