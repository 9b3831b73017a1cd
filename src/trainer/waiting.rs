//! What waits for a batch, and what samplers are told of one.

use super::audit::Stretch;
use crate::context::Batch;
use crate::event::{EventCounts, Interaction};
use crate::negatives::noise::Shown;

/// What samplers are told of a batch, and of its queries.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) pairs: Vec<(u32, u32)>,
    pub(super) last_items: Vec<u32>,
    pub(super) users: Vec<u32>,
    pub(super) shown: Vec<Shown>,
}

/// What was read since the last step.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) events: Vec<Interaction>,
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

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.shown.is_empty()
    }
}

impl Notes {
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
