//! \[3\] Context: what is known of a user just before an event, and the batches of (context, positive) made of it.
//!
//! A batch is built from whole events in their order. For each event the user's history is captured first and the event
//! added to it after, so that every context is exact, also where one user has several events in a batch.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`Batch`]: the events of one step with the context of each |
//! | `users` | the users' histories |
//! | `repeat_memory` | decayed counts of a user's items, behind the repetition term ρ |
//! | `situation` | time and activity at an event, behind vectors that are added to queries |
//! | `cooccurrence` | counts of items that follow one another, behind the co-occurrence term κ |
//! | `votes` | what the items of a context give to their neighbours, by those counts |

mod config;
pub mod cooccurrence;
pub mod repeat_memory;
pub mod situation;
pub mod users;
pub mod votes;

pub use config::{ContextConfig, CooccurrenceConfig, EncoderKind, RepetitionConfig};

use compact_str::CompactString;

use cooccurrence::{Cooccurrences, RelatedItem, RelatedLists};
use repeat_memory::Buckets;
use situation::Situation;

/// Which of a user's earlier items are positives of the user's next query too, and so never negatives of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositiveRules {
    /// Items may recur: the user's earlier items are likely negatives, to which ρ applies. Otherwise none is a negative.
    pub repeat: bool,
    /// Number of the newest items of the context that are never negatives, even where items may recur.
    pub mask_recent: usize,
}

impl PositiveRules {
    /// The items of `context` (newest first) that are too recent to be negatives.
    pub fn recent(self, context: &[u32]) -> &[u32] {
        &context[..self.mask_recent.min(context.len())]
    }
}

/// Stands in place of a row for a user without one.
pub const NOBODY: u32 = u32::MAX;

/// An item that a user had before, at the time of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnItem {
    /// The item's row.
    pub item: u32,
    /// What the repetition term is looked up by.
    pub buckets: Buckets,
    /// How often the user had the item, decayed to the event.
    pub count: f64,
    /// Time of the user's newest event with the item, milliseconds since 1970 UTC.
    pub timestamp: i64,
}

/// The events of one step, with the context of each. A *query* is an event that has a context: what the model is asked.
#[derive(Debug, Default)]
pub struct Batch {
    /// Row of each event's user, or [`NOBODY`].
    pub users: Vec<u32>,
    /// Row of each event's item.
    pub items: Vec<u32>,
    /// Time of each event, milliseconds since 1970 UTC.
    pub timestamps: Vec<i64>,
    /// Type of each event.
    pub kinds: Vec<CompactString>,
    /// Whether each event's user had its item before, as far as is remembered.
    pub repeats: Vec<bool>,
    /// Whether each event's item had no row before.
    pub newcomers: Vec<bool>,
    /// Number of each event on the stream, counting positives from 0, those without a row for their item included.
    pub numbers: Vec<u64>,
    /// Number of the first event on the stream, counting from 0 what is trained on.
    pub first_event: u64,
    /// Indices of the events that have a context: entry `i` is the event of query `i`.
    pub with_context: Vec<u32>,
    /// Contexts one behind the other, each newest first; that of event `with_context[i]` is
    /// `context_starts[i]..context_starts[i + 1]`.
    pub contexts: Vec<u32>,
    /// Bounds of the contexts in [`Self::contexts`], one more than queries.
    pub context_starts: Vec<u32>,
    /// By query: the situation of its event.
    pub situations: Vec<Situation>,
    /// The remembered items of the queries' users, one list behind the other.
    pub own: Vec<OwnItem>,
    /// Bounds of the lists in [`Self::own`], one more than queries.
    pub own_starts: Vec<u32>,
    /// The items that came together with items of the queries' contexts.
    pub related_lists: RelatedLists,
    /// By query: how long the list of all the user's own items was ([`users::UserHistory::own`]).
    pub all_own: Vec<u32>,
}

impl Batch {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the batch has no events.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of events that can be ranked and trained on.
    pub fn n_queries(&self) -> usize {
        self.with_context.len()
    }

    /// Appends an event of which nothing is known but the context, newest item first: no own and no related items. For whoever
    /// has no histories to capture one from.
    pub fn push(&mut self, user: u32, item: u32, context: &[u32]) {
        let event = self.items.len() as u32;
        self.users.push(user);
        self.items.push(item);
        self.timestamps.push(0);
        self.kinds.push(CompactString::default());
        self.repeats.push(false);
        self.newcomers.push(false);
        self.numbers.push(self.first_event + u64::from(event));
        self.with_context.push(event);
        self.contexts.extend(context);
        self.context_starts.push(self.contexts.len() as u32);
        self.situations.push(Situation::default());
        self.own_starts.push(self.own.len() as u32);
        self.related_lists.push(&[]);
        self.all_own.push(0);
    }

    /// The context of query `query`, newest item first.
    pub fn context(&self, query: usize) -> &[u32] {
        &self.contexts[self.context_starts[query] as usize..self.context_starts[query + 1] as usize]
    }

    /// The remembered items of the user of query `query`.
    pub fn own(&self, query: usize) -> &[OwnItem] {
        &self.own[self.own_starts[query] as usize..self.own_starts[query + 1] as usize]
    }

    /// The items that came together with items of the context of query `query`, each once.
    pub fn related(&self, query: usize) -> &[RelatedItem] {
        self.related_lists.of(query)
    }

    /// Captures what is related to the contexts of the events that came since it was asked last, and counts these events.
    pub fn capture_related(&mut self, cooccurrences: &mut Cooccurrences) {
        let mut lists = std::mem::take(&mut self.related_lists);
        cooccurrences.capture(self, &mut lists);
        self.related_lists = lists;
    }

    /// The item that query `query` led to.
    pub fn positive(&self, query: usize) -> u32 {
        self.items[self.with_context[query] as usize]
    }

    /// Whether the item that query `query` led to had no row before: nothing could have ranked it.
    pub fn is_newcomer(&self, query: usize) -> bool {
        self.newcomers[self.with_context[query] as usize]
    }

    /// The user of query `query`.
    pub fn user(&self, query: usize) -> u32 {
        self.users[self.with_context[query] as usize]
    }

    /// Whether the newest event has a context, and so is a query.
    pub fn newest_has_context(&self) -> bool {
        self.with_context.last().is_some_and(|event| *event as usize + 1 == self.items.len())
    }

    /// The distinct items that the user of query `query` had in the session of its event, newest first: all that the user
    /// comes to without a pause longer than `gap_ms`.
    pub fn session(&self, query: usize, gap_ms: i64) -> impl Iterator<Item = u32> {
        let mut later = self.timestamps[self.with_context[query] as usize];
        let own = self.own(query).iter().rev();
        let near = move |own: &&OwnItem| {
            let gap = later.saturating_sub(own.timestamp);
            later = own.timestamp;
            gap <= gap_ms
        };
        own.take_while(near).map(|own| own.item)
    }

    /// The items that are no negatives of query `query`, sorted: its positive; and its user's own items where these leave the
    /// ranking (`repeat` is false), else the newest `recent` items of its context.
    pub fn known_positives(&self, query: usize, rules: PositiveRules) -> Vec<u32> {
        let context = self.context(query);
        let mut positives = vec![self.positive(query)];
        match rules.repeat {
            true => positives.extend(rules.recent(context)),
            false => positives.extend(self.own(query).iter().map(|own| own.item)),
        }
        positives.sort_unstable();
        positives.dedup();
        positives
    }

    /// Empties the batch, whose next first event is number `first_event` of the stream.
    pub fn clear(&mut self, first_event: u64) {
        let Self {
            users,
            items,
            timestamps,
            kinds,
            repeats,
            newcomers,
            numbers,
            first_event: first,
            with_context,
            contexts,
            context_starts,
            situations,
            own,
            own_starts,
            related_lists,
            all_own,
        } = self;
        *first = first_event;
        for rows in [users, items, with_context, contexts, context_starts, own_starts, all_own] {
            rows.clear();
        }
        timestamps.clear();
        kinds.clear();
        repeats.clear();
        newcomers.clear();
        numbers.clear();
        situations.clear();
        own.clear();
        related_lists.clear();
        context_starts.push(0);
        own_starts.push(0);
    }
}
