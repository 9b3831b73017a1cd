//! The audit: which records became part of the state, and what became of each, by stream and offset.
//!
//! It is kept where `checkpoint.audit` asks for it. `negstream audit` lays the audits of one or several workers side by side
//! and says whether each record was applied exactly once. Neighbouring offsets of one fate are one range, so that an audit
//! stays short where little is rejected; its length has no bound.

use std::collections::BTreeMap;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordFate {
    /// The record was trained on.
    Trained,
    /// The record's item has no row yet.
    Deferred,
    /// The record's type does not count as positive, or it has no value.
    Skipped,
    /// The record was rejected.
    Rejected,
    /// The record was gone before it was read.
    Lost,
    /// There is no record for a reader: the source passed the offset over on its way to the next record (markers and records
    /// of aborted transactions, records that compaction removed).
    Passed,
}

impl RecordFate {
    /// Every fate.
    pub const ALL: [Self; 6] = [Self::Trained, Self::Deferred, Self::Skipped, Self::Rejected, Self::Lost, Self::Passed];

    /// The name by which checkpoints know the fate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Deferred => "deferred",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
            Self::Passed => "passed",
        }
    }
}

/// The offsets `from..until` of a stream, all of one fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The first offset.
    pub from: u64,
    /// One past the last offset.
    pub until: u64,
    /// What became of the records.
    pub fate: RecordFate,
}

/// What became of every record of every stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordAudit {
    /// Ranges by the stream's name, in the order in which they were applied.
    pub streams: BTreeMap<String, Vec<OffsetRange>>,
}

impl RecordAudit {
    /// Records what became of the offsets `range` of `stream`.
    pub fn record(&mut self, stream: &str, range: OffsetRange) {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), Vec::new());
        }
        let ranges = self.streams.get_mut(stream).expect("it is there now");
        match ranges.last_mut() {
            Some(last) if last.fate == range.fate && last.until == range.from => last.until = range.until,
            _ => ranges.push(range),
        }
    }
}
