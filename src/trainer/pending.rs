//! What was read since the last step, and what samplers are told of a batch.

use compact_str::CompactString;
use hashbrown::HashTable;

use crate::context::Batch;
use crate::event::{EventCounts, Interaction};
use crate::negatives::samplers::Shown;
use crate::position::cuts::Cuts;
use crate::trainer::audit::OffsetRange;

/// What samplers are told of a batch and of its queries.
#[derive(Debug, Default)]
pub(super) struct SamplerInput {
    /// By query: the newest item of its context, and the item that followed.
    pub(super) pairs: Vec<(u32, u32)>,
    /// By query: the newest item of its context.
    pub(super) last_items: Vec<u32>,
    /// By query: its user.
    pub(super) users: Vec<u32>,
    /// What users were shown, and what they chose, in the order of the stream.
    pub(super) shown: Vec<Shown>,
}

/// An event that is to be trained on.
#[derive(Debug)]
pub(super) struct PendingEvent {
    pub(super) event: Interaction,
    /// Whether its user has a row, or is to be given one.
    pub(super) has_user: bool,
}

/// How often names without a row arrived since the last step, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Hash and count; found by the hash alone.
    counts: HashTable<(u64, u32)>,
    /// Hashes in the order of their first arrival.
    order: Vec<u64>,
}

impl Arrivals {
    /// Counts an arrival of the name with this hash; gives its arrivals so far.
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

    /// Hands over hashes and counts, in the order of first arrival, and forgets them.
    pub(super) fn drain(&mut self, mut take: impl FnMut(u64, u32)) {
        for hash in self.order.drain(..) {
            if let Ok(entry) = self.counts.find_entry(hash, |(other, _)| *other == hash) {
                take(hash, entry.remove().0.1);
            }
        }
    }
}

/// What was read since the last step, and is not part of the state yet.
#[derive(Debug, Default)]
pub(super) struct PendingBatch {
    pub(super) events: Vec<PendingEvent>,
    /// The users of events that are not trained on, each with the number of `events` before it.
    pub(super) deferred: Vec<(usize, CompactString)>,
    /// Arrivals of items without a row.
    pub(super) items: Arrivals,
    /// Arrivals of users without a row.
    pub(super) users: Arrivals,
    /// What users were shown, each with the number of `events` before it.
    pub(super) shown: Vec<(usize, Interaction)>,
    pub(super) counts: EventCounts,
    /// Share of rejected records, as of the newest record that was ingested.
    pub(super) rejected_share: f64,
    /// By index of the stream, where it moved: the next offset, and when the record before that was produced.
    pub(super) next: Vec<Option<(u64, Option<i64>)>>,
    /// What became of which offsets, by index of the stream; empty without an audit.
    pub(super) fates: Vec<(u32, OffsetRange)>,
    /// Cuts that are to be made again, behind records that are still to come.
    pub(super) planned: Cuts,
}

impl PendingBatch {
    /// Whether no batch is begun.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.shown.is_empty()
    }

    /// Forgets the events, after a step on them. Arrivals, counts and positions have become part of the state by then.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.shown.clear();
        self.deferred.clear();
    }
}

impl SamplerInput {
    /// Sets what samplers are told of the queries to those of `batch`.
    pub(super) fn set_queries(&mut self, batch: &Batch) {
        let queries = 0..batch.n_queries();
        self.last_items.clear();
        self.last_items.extend(queries.clone().map(|query| batch.context(query)[0]));
        self.users.clear();
        self.users.extend(queries.clone().map(|query| batch.user(query)));
        self.pairs.clear();
        self.pairs.extend(self.last_items.iter().zip(queries).map(|(before, query)| (*before, batch.positive(query))));
    }
}
