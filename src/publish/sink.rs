//! The contract of a sink: what it is called with, in which order, and what it has to promise.

use std::fmt;

use super::{SinkError, VectorPrecision};

/// The version of a row in a sink. Versions are ordered: first by epoch, then by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The timeline that the row belongs to. It grows with each full update: with every start of a worker, and whenever a sink
    /// is made whole again after an error.
    pub epoch: u64,
    /// Training steps taken when the row was copied.
    pub step: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "epoch {}, step {}", self.epoch, self.step)
    }
}

/// What an update brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateKind {
    /// Every row of the table: what the sink holds besides is gone once the update is committed.
    Full,
    /// Rows that moved, rows that left, and frequencies.
    Delta,
}

/// The head of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// Whether it brings all rows, or changed ones.
    pub kind: UpdateKind,
    /// The version of its rows.
    pub version: Version,
    /// Numbers in an embedding.
    pub dim: usize,
    /// The space that the embeddings belong to: 24 hexadecimal digits, the same for all checkpoints that stem from one
    /// beginning with one configuration. Vectors of two spaces must never be compared.
    pub model_id: &'a str,
}

/// A row of the table of items, as `items.parquet` of a checkpoint of the same moment holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemRow<'a> {
    /// The item's identifier.
    pub item_id: &'a str,
    /// Its embedding, [`Update::dim`] numbers; of norm 1 where `model.similarity` is cosine.
    pub embedding: &'a [f32],
    /// Natural logarithm of its share among the stream's events. It moves all the time: a change of it alone sends no row, but
    /// goes by [`EmbeddingSink::set_popularity`].
    pub log_frequency: f32,
}

/// The query of a user, as it stood after their newest event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserQuery<'a> {
    /// The user's identifier.
    pub user_id: &'a str,
    /// The vector to search with, [`Update::dim`] numbers, times its gate: its inner product with an item's embedding, and `beta_tau`
    /// times the item's `log_frequency`, add up to what items are ranked by.
    pub vector: &'a [f32],
    /// β·τ of the model.
    pub beta_tau: f32,
}

/// A row of items as a sink holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// The item's identifier.
    pub item_id: String,
    /// The embedding, as single-precision numbers.
    pub embedding: Vec<f32>,
    /// Natural logarithm of the item's share among the stream's events, when it was written last.
    pub log_frequency: f32,
    /// The version of the update that wrote the embedding last.
    pub version: Version,
}

/// What a sink says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkState {
    /// The space of its embeddings.
    pub model_id: String,
    /// The newest version: of what was committed, or, by [`EmbeddingSink::state`], begun.
    pub version: Version,
    /// Numbers in an embedding.
    pub dim: usize,
}

/// One of several parts of a table, alike in size, each row in one of them by its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPart {
    index: u32,
    of: u32,
}

impl RowPart {
    /// The only part of one.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The `count` parts of a table.
    pub fn all(count: u32) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { index, of: count })
    }

    /// Whether the row with the identifier `item_id` is in this part.
    pub fn holds(&self, item_id: &[u8]) -> bool {
        if self.of <= 1 {
            return true;
        }
        // FNV-1a, whose high bits are the well-mixed ones once they are multiplied again.
        let hash = item_id
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let high = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (high * u64::from(self.of)) >> 32 == u64::from(self.index)
    }
}

/// A place that item embeddings are published to.
///
/// # Order of calls
///
/// An update is [`begin`](Self::begin), then [`remove`](Self::remove), [`upsert`](Self::upsert) and
/// [`set_popularity`](Self::set_popularity), each any number of times and in this order (no item in two of them), then
/// [`set_queries`](Self::set_queries) where it takes them, then [`commit`](Self::commit). Updates follow each other, never interleave, and come from one thread, which is the sink's own:
/// it may block.
///
/// # Versions
///
/// Versions of committed updates only grow. A sink that outlives the process keeps the version with each row and writes only
/// what is newer: then a row may be written any number of times (idempotence per version and row), and an older process that
/// is still alive does no harm. An update whose version is not newer than what the sink holds is refused by `begin`.
///
/// The first update of a process is always a full one under an epoch above any that the sink reports; so is any after an
/// error, under the same epoch as the one before where that was refused. So a sink needs no memory of what it was sent before a restart; and what was published of a timeline that a restart
/// has left is gone with the next commit: at the end of a full update, a sink removes every row whose version is older.
///
/// # Errors
///
/// An error ends the update: no further method is called for it. The sink may keep what it has of it (rows have a version)
/// or drop it. [`SinkError::Away`] is tried again soon, [`SinkError::Refused`] more seldom; training goes on meanwhile, and a
/// full update follows. An error of a sink never fails a checkpoint or a run.
///
/// # Time
///
/// Whoever calls has a thread for it, but at the end of a run waits for `patience` at most. So a sink gives up an unanswered
/// request by itself ([`SinkError::Away`]), after about ten seconds, rather than wait without end.
pub trait EmbeddingSink: fmt::Debug + Send {
    /// The name of the sink in logs and metrics.
    fn name(&self) -> &str;

    /// What the sink holds, with the newest version that any of its rows may have: that of an update that was broken off, where
    /// it is newer than what was committed. `None` where it holds nothing.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        self.read(&mut |_| {})
    }

    /// Shows `visit` every row that the sink holds, in any order, outside of updates, and says what was committed last; `None`
    /// where nothing was.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError>;

    /// As [`read`](Self::read), of the rows of `part` alone. A sink that holds rows in memory while it reads them holds those of
    /// the part.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read_part(&mut self, part: RowPart, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read(&mut |row| {
            if part.holds(row.item_id.as_bytes()) {
                visit(row);
            }
        })
    }

    /// In how many bits the sink stores embeddings: recall is measured with what readers see.
    fn precision(&self) -> VectorPrecision {
        VectorPrecision::Single
    }

    /// Rounds an embedding as the sink does that stores it in fewer bits: what [`read`](Self::read) gives of it is compared
    /// with the result.
    fn round(&self, embedding: &mut [f32]) {
        self.precision().round(embedding);
    }

    /// Begins an update.
    ///
    /// # Errors
    /// Where the sink cannot take it: it is away, holds newer embeddings, does not hold the update before a delta any more, or,
    /// where `replace` is not set, holds embeddings of another model or dimension.
    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError>;

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

    /// Writes log-frequencies of items beside the embeddings that the sink holds of them. The version of the rows stays. Items
    /// that it does not hold are passed over.
    ///
    /// # Errors
    /// Where the sink cannot take them.
    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError>;

    /// Whether it takes the queries of users.
    fn takes_queries(&self) -> bool {
        false
    }

    /// Writes queries over those that the sink holds of the same users.
    ///
    /// # Errors
    /// Where the sink cannot take them.
    fn set_queries(&mut self, queries: &[UserQuery<'_>]) -> Result<(), SinkError> {
        let _ = queries;
        Ok(())
    }

    /// Ends the update: all of it is visible to readers of the sink once this returns.
    ///
    /// # Errors
    /// Where that cannot be promised.
    fn commit(&mut self) -> Result<(), SinkError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_epoch_before_step() {
        let version = |epoch, step| Version { epoch, step };
        assert!(version(1, 900) < version(2, 100) && version(2, 100) < version(2, 101));
    }
}
