//! What waits for a batch, and what samplers are told of one.

use compact_str::CompactString;
use hashbrown::HashTable;

use crate::context::Batch;
use crate::event::{EventCounts, Interaction};
use crate::negatives::samplers::Shown;
use crate::snapshot::audit::Stretch;

/// What samplers are told of a batch, and of its queries.
#[derive(Debug, Default)]
pub(super) struct SamplerInput {
    pub(super) pairs: Vec<(u32, u32)>,
    pub(super) last_items: Vec<u32>,
    pub(super) users: Vec<u32>,
    pub(super) shown: Vec<Shown>,
}

/// An event that is to be trained on.
#[derive(Debug)]
pub(super) struct PendingEvent {
    pub(super) event: Interaction,
    /// Whether its user has a row, or is to be given one.
    pub(super) has_user: bool,
}

/// How often ids came, by their hashes, since they were last taken in.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Hash and count; found by the hash alone.
    counts: HashTable<(u64, u32)>,
    /// In the order in which they first came.
    order: Vec<u64>,
}

impl Arrivals {
    /// The id with this hash came; how often it did.
    pub(super) fn add(&mut self, hash: u64) -> u32 {
        match self.counts.find_mut(hash, |(other, _)| *other == hash) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                self.counts.insert_unique(hash, (hash, 1), |(hash, _)| *hash);
                self.order.push(hash);
                1
            }
        }
    }

    /// Hands over hashes and counts, in the order in which they first came, and forgets them.
    pub(super) fn drain(&mut self, mut take: impl FnMut(u64, u32)) {
        for hash in self.order.drain(..) {
            if let Ok(entry) = self.counts.find_entry(hash, |(other, _)| *other == hash) {
                take(hash, entry.remove().0.1);
            }
        }
    }
}

/// What was read since the last step.
#[derive(Debug, Default)]
pub(super) struct PendingBatch {
    pub(super) events: Vec<PendingEvent>,
    /// The users of events that are not trained on, each with the number of `events` before it.
    pub(super) deferred: Vec<(usize, CompactString)>,
    /// Items and users that came and have no row.
    pub(super) items: Arrivals,
    /// See [`Self::items`].
    pub(super) users: Arrivals,
    /// What users were shown, each with the number of `events` before it.
    pub(super) shown: Vec<(usize, Interaction)>,
    pub(super) counts: EventCounts,
    /// Of all records up to the newest that was taken.
    pub(super) rejected_share: f64,
    /// By index of the stream, where it moved: the next offset, and when the record before it was produced.
    pub(super) next: Vec<Option<(u64, Option<i64>)>>,
    /// What became of which offsets, by index of the stream; empty without an audit.
    pub(super) fates: Vec<(u32, Stretch)>,
}

impl PendingBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.shown.is_empty()
    }
}

impl SamplerInput {
    /// Takes note of the queries of `batch`.
    pub(super) fn note(&mut self, batch: &Batch) {
        let queries = 0..batch.n_queries();
        self.last_items.clear();
        self.last_items.extend(queries.clone().map(|query| batch.context(query)[0]));
        self.users.clear();
        self.users.extend(queries.clone().map(|query| batch.user(query)));
        self.pairs.clear();
        self.pairs.extend(self.last_items.iter().zip(queries).map(|(before, query)| (*before, batch.positive(query))));
    }
}
