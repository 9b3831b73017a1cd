//! What stale serving would have ranked: events are ranked once more, by what the model was a delay before.
//!
//! What is *learnt* moves at the end of a batch, and is published between two: every quarter of a delay, and at once where the stream
//! pauses for longer than the delay. It is served from when the stream's time is the delay past its newest event until what was
//! published next is. What is *counted* follows the stream at the distance of the delay (`trailing`), and is brought up to
//! date every quarter of it. So both are at least as old as the delay, and the age is noted with every rank.
//!
//! Memory is bounded by the delay: of what is learnt no more than six states are kept, which share with the model what has not changed
//! since; of what is counted one, and the events of the delay, which wait. Nothing is ranked any more once a row was evicted, since
//! rows have other numbers then.
//!
//! An item that came after the state was published is in none of its lists: it cannot be served, and is missed where it is the
//! target. In a user's context it has the vector that a new item starts with.

use std::collections::VecDeque;

use super::TrainerSettings;
use super::pending::PendingBatch;
use super::state::State;
use super::trailing::TrailingHistories;
use crate::context::Batch;
use crate::evaluate::history::{BatchHistory, Counts};
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::{ModelView, Ranking};
use crate::event::Evicted;
use crate::model::Model;
use crate::model::encoder::{Encoded, Sequences};
use crate::negatives::frequency::Frequencies;
use crate::table::paged::Paged;

/// States are published this many times in a delay.
const PER_DELAY: i64 = 4;
/// States of one delay that are kept: those of a delay, the one that is served, and one that a pause brought.
const MOST_PUBLISHED: usize = PER_DELAY as usize + 2;

/// What of a ranking is as old as the delay; the rest is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StalePart {
    /// All that is learnt: vectors, and the weights of every term. Counts, contexts and own items are live.
    Vectors,
    /// All that is counted: popularity, users' contexts and own items, co-occurrence. What is learnt is live.
    Histories,
    /// Both.
    Everything,
}

/// How one event was ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StaleRank {
    /// The place of the delay among those that were asked for.
    pub delay: usize,
    /// What was that old.
    pub part: StalePart,
    /// The event's number on the stream, counting positives from 0.
    pub number: u64,
    /// Its rank from 0, as [`crate::evaluate::ranking::Ranked::model`]; `None` where the item could not be served.
    pub rank: Option<f64>,
    /// Age of what was served, milliseconds from its newest event to the event that is ranked; `None` where nothing was yet.
    pub age_ms: Option<i64>,
}

/// A state as it was published.
#[derive(Debug)]
struct Published {
    /// Time of the newest event in it.
    time: i64,
    n_items: usize,
    model: Model,
    /// Whether the model's norms are made.
    is_ready: bool,
}

/// The counts before a batch, to be counted on once more.
#[derive(Debug)]
pub(super) struct CountsBefore {
    frequencies: Frequencies,
    occurrences: Paged<u64>,
    last_event: Paged<i64>,
}

/// A batch, and what of it is ranked.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchToRank<'a> {
    pub batch: &'a Batch,
    /// The queries that are ranked.
    pub chosen: &'a [usize],
    /// Items that had a row before the batch.
    pub n_known: usize,
}

/// Ranks events by states that are as old as some delays.
#[derive(Debug)]
pub(super) struct StaleServing {
    /// Milliseconds.
    delays: Vec<i64>,
    /// The number of the first event that is ranked.
    from: u64,
    /// By delay, the oldest first.
    published: Vec<VecDeque<Published>>,
    /// By delay.
    trailing: Vec<TrailingHistories>,
    /// The newest time that is in the state.
    newest: Option<i64>,
    evicted: Evicted,
    /// How the events of the newest batch were ranked.
    pub ranks: Vec<StaleRank>,
    scratch: StaleScratch,
}

/// Buffers that are kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct StaleScratch {
    pub sequences: Sequences,
    pub encoded: Encoded,
    pub history: BatchHistory,
    pub ranking: Ranking,
    pub batch: Batch,
    asked: Vec<usize>,
}

impl StaleServing {
    pub(super) fn new(state: &mut State, delays: &[i64], from: u64) -> Self {
        Self {
            trailing: delays.iter().map(|_| TrailingHistories::new(state)).collect(),
            delays: delays.to_vec(),
            from,
            published: delays.iter().map(|_| VecDeque::new()).collect(),
            newest: None,
            evicted: state.evicted(),
            ranks: Vec::new(),
            scratch: StaleScratch::default(),
        }
    }

    /// Before a batch: publishes the state where that is due.
    pub(super) fn publish(&mut self, state: &mut State, pending: &PendingBatch) {
        let times = || pending.events.iter().map(|pending| pending.event.timestamp);
        if let (Some(newest), Some(first)) = (self.newest, times().min()) {
            for (delay, published) in self.delays.iter().zip(&mut self.published) {
                let served_from = first.saturating_sub(*delay);
                let last = published.back().map(|published| published.time);
                let has_news = last.is_none_or(|last| newest > last);
                let is_due = last.is_none_or(|last| newest.saturating_sub(last) >= *delay / PER_DELAY);
                if *delay > 0 && has_news && (is_due || newest <= served_from) {
                    published.push_back(Published::new(state, newest));
                }
                while published.get(1).is_some_and(|second| second.time <= served_from)
                    || published.len() > MOST_PUBLISHED
                {
                    published.pop_front();
                }
            }
        }
        self.newest = self.newest.max(times().max());
    }

    /// Ranks the chosen queries of a batch that was captured and counted, but not yet learnt; `popularity` is that before it.
    pub(super) fn rank(
        &mut self,
        state: &State,
        settings: &TrainerSettings,
        before: &CountsBefore,
        popularity: &PopularityOrder,
        to_rank: BatchToRank<'_>,
    ) {
        let Self { delays, from, published, trailing, ranks, scratch, .. } = self;
        ranks.clear();
        if state.evicted() != self.evicted {
            return;
        }
        let BatchToRank { batch, chosen, .. } = to_rank;
        let event = |query: usize| batch.with_context[query] as usize;
        let mut asked = std::mem::take(&mut scratch.asked);
        asked.clear();
        asked.extend(chosen.iter().copied().filter(|query| batch.numbers[event(*query)] >= *from));
        let to_rank = BatchToRank { chosen: &asked, ..to_rank };
        let first = batch.timestamps.iter().copied().min().unwrap_or_default();
        for (place, delay) in delays.iter().copied().enumerate() {
            let mut note = |part: StalePart, queries: &[usize], found: Vec<(u64, Option<f64>)>, time: Option<i64>| {
                ranks.extend(found.into_iter().zip(queries).map(|((number, rank), query)| {
                    let age_ms = time.map(|time| batch.timestamps[event(*query)].saturating_sub(time));
                    StaleRank { delay: place, part, number, rank, age_ms }
                }));
            };
            if delay == 0 {
                // What is no time old is live.
                let found =
                    by_vectors((&state.model, usize::MAX), state, settings, before, popularity, to_rank, scratch);
                for part in [StalePart::Vectors, StalePart::Histories, StalePart::Everything] {
                    note(part, &asked, found.clone(), None);
                }
                continue;
            }
            let trailing = &mut trailing[place];
            trailing.count_until(first.saturating_sub(delay));
            let served = published[place].front_mut();
            let mut served = served.filter(|served| served.time <= first.saturating_sub(delay) && !asked.is_empty());
            if let Some(served) = &mut served {
                served.ready(state);
                let model = (&served.model, served.n_items);
                let found = by_vectors(model, state, settings, before, popularity, to_rank, scratch);
                note(StalePart::Vectors, &asked, found, Some(served.time));
            }
            // Histories are as of the first event of a run that is no longer than a quarter of the delay.
            let mut rest = asked.as_slice();
            while let Some(query) = rest.first() {
                let begin = batch.timestamps[event(*query)];
                let is_of_run = |query: &&usize| {
                    (0..=delay / PER_DELAY).contains(&batch.timestamps[event(**query)].saturating_sub(begin))
                };
                let n = rest.iter().take_while(is_of_run).count();
                let (run, others) = rest.split_at(n);
                rest = others;
                trailing.count_until(begin.saturating_sub(delay));
                let of_run = BatchToRank { chosen: run, ..to_rank };
                let found = trailing.rank((&state.model, usize::MAX), settings, of_run, scratch);
                note(StalePart::Histories, run, found, trailing.newest);
                if let Some(served) = &served {
                    let found = trailing.rank((&served.model, served.n_items), settings, of_run, scratch);
                    note(StalePart::Everything, run, found, Some(served.time));
                }
            }
            trailing.wait(batch);
        }
        self.scratch.asked = asked;
    }
}

impl CountsBefore {
    /// The counts of `state`, whose batch was captured but not counted.
    pub(super) fn of(state: &State) -> Self {
        Self {
            frequencies: state.negatives.frequencies.clone(),
            occurrences: state.items.occurrences.clone(),
            last_event: state.items.last_event.clone(),
        }
    }
}

impl Published {
    fn new(state: &mut State, time: i64) -> Self {
        Self { time, n_items: state.items.ids.len(), model: state.model.freeze(), is_ready: false }
    }

    /// Makes the norms, and gives the rows that have come since those of what is new.
    fn ready(&mut self, state: &State) {
        if !self.is_ready {
            self.model.refresh_all_norms();
            self.is_ready = true;
        }
        for row in self.model.items.values.len()..state.items.ids.len() {
            self.model.add_item(state.items.ids.name(row as u32));
        }
        if let Some(n_users) = self.model.users.as_ref().map(|users| users.values.len()) {
            (n_users..state.users.ids.len()).for_each(|row| self.model.add_user(state.users.ids.name(row as u32)));
        }
    }
}

/// By `model`, which may serve its first `n_items`, and live histories.
fn by_vectors(
    (model, n_items): (&Model, usize),
    state: &State,
    settings: &TrainerSettings,
    before: &CountsBefore,
    popularity: &PopularityOrder,
    BatchToRank { batch, chosen, n_known }: BatchToRank<'_>,
    scratch: &mut StaleScratch,
) -> Vec<(u64, Option<f64>)> {
    let StaleScratch { sequences, encoded, history, ranking, .. } = scratch;
    let kernel = model.kernel();
    let mut counts = (before.frequencies.clone(), before.occurrences.clone(), before.last_event.clone());
    let mut order = popularity.clone();
    let mut is_ranked = vec![false; batch.len()];
    chosen.iter().for_each(|query| is_ranked[batch.with_context[*query] as usize] = true);
    let counted = Counts {
        frequencies: &mut counts.0,
        popularity: &mut order,
        occurrences: &mut counts.1,
        last_event: &mut counts.2,
    };
    history.observe(kernel, model, counted, batch, n_known, &is_ranked);
    history.leave_out(n_items);
    sequences.begin(batch);
    model.encode(kernel, sequences, &[], encoded);
    let view = ModelView {
        model,
        history,
        frequencies: &counts.0,
        popularity: &order,
        histories: &state.users.histories,
        repeat: settings.positive_rules.repeat,
        history_terms: true,
    };
    let ranked = ranking.rank(kernel, view, batch, chosen, encoded);
    let is_served = |query: usize| (batch.positive(query) as usize) < n_items;
    let ranked = ranked.iter().zip(chosen);
    ranked.map(|(ranked, query)| (ranked.number, ranked.model.filter(|_| is_served(*query)))).collect()
}
