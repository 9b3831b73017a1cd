//! A delta: what one worker's model has moved by between two of its flushes.

use compact_str::CompactString;

use crate::kernel::bf16::{from_bf16, to_bf16};

/// What one worker's state has moved by since its delta before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// The worker's name in its group.
    pub worker: CompactString,
    /// The incarnation of the worker that said it: a random number of its process.
    pub incarnation: u64,
    /// The configuration that the state depends on, as a number ([`Ledger::judge`](super::Ledger::judge)).
    pub configuration: u64,
    /// The number of the delta among the worker's, from 0.
    pub sequence: u64,
    /// Which records it covers: by stream, those that became part of the worker's state since its delta before.
    pub sources: Vec<SourceSpan>,
    /// The group's clock before the first and after the last of the events.
    pub clock: ClockSpan,
    /// Events of a positive type, whether they are among [`Self::events`] or their item had no row.
    pub positives: u64,
    /// The items that the delta speaks of; everything else refers to them by their place here.
    pub items: Vec<SharedItem>,
    /// Rows that left before anything else of the delta: their items have no row any more, or a new one.
    pub evicted: Vec<CompactString>,
    /// The events, in the order in which the worker counted them.
    pub events: Vec<SharedEvent>,
    /// What the events say of each half-life, as sums that are discounted to the end of the delta.
    pub evidence: Vec<f64>,
    /// How far rows moved, by table.
    pub rows: Vec<RowMoves>,
    /// How far the learned numbers moved that belong to no row.
    pub parameters: Vec<ParameterMoves>,
}

/// Records of one stream that a delta covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpan {
    /// The stream's name.
    pub stream: String,
    /// The first offset that the delta covers.
    pub from: u64,
    /// One past the last.
    pub until: u64,
}

/// A stretch on the group's clock, in events of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClockSpan {
    /// Before the first event.
    pub from: f64,
    /// After the last event.
    pub until: f64,
}

impl ClockSpan {
    /// The clock after event `place` of `n`, which are evenly spread over the span.
    pub fn at(self, place: usize, n: usize) -> f64 {
        self.from + (self.until - self.from) * (place + 1) as f64 / n.max(1) as f64
    }
}

/// An item that a delta speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedItem {
    /// The item's name.
    pub name: CompactString,
    /// The buckets of the item's features, for those who have no row of it yet; empty where items have no features.
    pub buckets: Vec<u32>,
}

/// An event that a worker has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedEvent {
    /// The item's place in [`Delta::items`].
    pub item: u32,
    /// Time of the event, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The user's newest items just before it, the newest first, as far as anything counts them; empty where the user had no
    /// past.
    pub context: Vec<u32>,
}

/// A table of rows that workers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedTable {
    /// Items as candidates and, without a table of their own, in contexts. Keys are places in [`Delta::items`].
    Items,
    /// Items in their role in the context. Keys are places in [`Delta::items`].
    Contexts,
    /// b_c of the items. Keys are places in [`Delta::items`].
    Biases,
    /// Rows of features. Keys are buckets.
    Features,
}

impl SharedTable {
    /// Every table, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Items, Self::Contexts, Self::Biases, Self::Features];
}

/// How far rows of one table moved.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMoves {
    /// The table.
    pub table: SharedTable,
    /// Numbers to a row: its values, then its sums of squared gradients.
    pub width: usize,
    /// By row: its key.
    pub keys: Vec<u32>,
    /// By row, one behind the other: how far each of its numbers moved.
    pub moves: Vec<f32>,
}

impl RowMoves {
    /// No rows yet.
    pub fn new(table: SharedTable, width: usize) -> Self {
        Self { table, width, keys: Vec::new(), moves: Vec::new() }
    }

    /// Key and moves of each row.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[f32])> {
        self.keys.iter().copied().zip(self.moves.chunks_exact(self.width.max(1)))
    }
}

/// How far learned numbers moved that belong to no row.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterMoves {
    /// Their name in checkpoints.
    pub name: String,
    /// How far each number moved.
    pub values: Vec<f32>,
    /// By how much each number's sum of squared gradients grew.
    pub sums: Vec<f32>,
}

crate::util::config_section::config_choice! {
    /// In which numbers workers send each other how far rows moved.
    pub enum MovePrecision {
        /// Single precision.
        F32 = "f32",
        /// The upper half of single precision: eight significant bits, and the same range.
        Bf16 = "bf16",
    }
}

impl MovePrecision {
    /// Rounds a move to it. Who sends rounded moves has to move by no more themselves, so that all workers agree.
    pub fn round(self, moves: &mut [f32]) {
        if self == Self::Bf16 {
            moves.iter_mut().for_each(|number| *number = from_bf16(to_bf16(*number)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_spread_over_the_span() {
        let span = ClockSpan { from: 100.0, until: 108.0 };
        assert_eq!([0, 1, 3].map(|place| span.at(place, 4)), [102.0, 104.0, 108.0]);
    }
}
