//! What stale serving would have ranked: events are ranked once more, by what the model was a delay before ([`StaleServing`]).
//!
//! A *published state* is the state between two batches. It becomes available when the stream's time is the delay past the newest
//! event in it, and is then served until a newer one is; states are published every quarter of a delay, and at once where the stream
//! pauses for longer than the delay. So what is served is at least as old as the delay, and its age is noted with every rank.
//! Memory is bounded: of one delay no more than six states are kept, which share with the model what has not changed since. Where
//! rows are evicted, what was published before is dropped.
//!
//! An item that came after the state was published is in none of its lists: it cannot be served, and is missed where it is the
//! target. In a user's context it has the vector that a new item starts with.

use std::collections::VecDeque;

use super::TrainerSettings;
use super::pending::PendingBatch;
use super::state::State;
use crate::context::Batch;
use crate::context::cooccurrence::Cooccurrences;
use crate::context::users::UserHistories;
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
    frequencies: Frequencies,
    order: PopularityOrder,
    histories: UserHistories,
    cooccurrences: Cooccurrences,
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
    /// The newest time that is in the state.
    newest: Option<i64>,
    evicted: Evicted,
    /// How the events of the newest batch were ranked.
    pub ranks: Vec<StaleRank>,
    scratch: StaleScratch,
}

#[derive(Debug, Default)]
struct StaleScratch {
    sequences: Sequences,
    encoded: Encoded,
    history: BatchHistory,
    ranking: Ranking,
    batch: Batch,
    asked: Vec<usize>,
}

impl StaleServing {
    pub(super) fn new(delays: &[i64], from: u64) -> Self {
        Self {
            delays: delays.to_vec(),
            from,
            published: delays.iter().map(|_| VecDeque::new()).collect(),
            newest: None,
            evicted: Evicted::default(),
            ranks: Vec::new(),
            scratch: StaleScratch::default(),
        }
    }

    /// Before a batch: publishes the state where that is due.
    pub(super) fn publish(&mut self, state: &mut State, pending: &PendingBatch) {
        let evicted = state.evicted();
        if std::mem::replace(&mut self.evicted, evicted) != evicted {
            // Rows have other numbers now.
            self.published.iter_mut().for_each(VecDeque::clear);
        }
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
        let Self { delays, from, published, ranks, scratch, .. } = self;
        ranks.clear();
        let BatchToRank { batch, chosen, .. } = to_rank;
        let number = |query: &usize| batch.numbers[batch.with_context[*query] as usize];
        let mut asked = std::mem::take(&mut scratch.asked);
        asked.clear();
        asked.extend(chosen.iter().copied().filter(|query| number(query) >= *from));
        let to_rank = BatchToRank { chosen: &asked, ..to_rank };
        let first = batch.timestamps.iter().copied().min().unwrap_or_default();
        for (place, delay) in delays.iter().enumerate().filter(|_| !asked.is_empty()) {
            let served = published[place].front_mut();
            let served = served.filter(|served| served.time <= first.saturating_sub(*delay));
            let mut note = |part: StalePart, found: Vec<(u64, Option<f64>)>, time: Option<i64>| {
                let of_event = found.into_iter().zip(&asked).map(|((number, rank), query)| {
                    let at = batch.timestamps[batch.with_context[*query] as usize];
                    let age_ms = time.map(|time| at.saturating_sub(time));
                    StaleRank { delay: place, part, number, rank, age_ms }
                });
                ranks.extend(of_event);
            };
            if *delay == 0 {
                // What is no time old is live.
                let found =
                    by_vectors((&state.model, usize::MAX), state, settings, before, popularity, to_rank, scratch);
                for part in [StalePart::Vectors, StalePart::Histories, StalePart::Everything] {
                    note(part, found.clone(), None);
                }
                continue;
            }
            let Some(served) = served else {
                for part in [StalePart::Vectors, StalePart::Histories, StalePart::Everything] {
                    note(part, asked.iter().map(|query| (number(query), None)).collect(), None);
                }
                continue;
            };
            served.ready(state);
            let of_vectors =
                by_vectors((&served.model, served.n_items), state, settings, before, popularity, to_rank, scratch);
            let of_histories = served.by_histories(Some(&state.model), settings, to_rank, scratch);
            let of_everything = served.by_histories(None, settings, to_rank, scratch);
            let time = Some(served.time);
            note(StalePart::Vectors, of_vectors, time);
            note(StalePart::Histories, of_histories, time);
            note(StalePart::Everything, of_everything, time);
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
        let frequencies = state.negatives.frequencies.clone();
        Self {
            time,
            n_items: state.items.ids.len(),
            model: state.model.freeze(),
            is_ready: false,
            order: PopularityOrder::new(&frequencies),
            frequencies,
            histories: state.users.histories.snapshot(),
            cooccurrences: state.items.cooccurrences.snapshot(),
        }
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

    /// By histories as they were published, and `live`, or the model as it was published with them. Who had no history then is
    /// served what was popular.
    fn by_histories(
        &mut self,
        live: Option<&Model>,
        settings: &TrainerSettings,
        BatchToRank { batch, chosen, .. }: BatchToRank<'_>,
        scratch: &mut StaleScratch,
    ) -> Vec<(u64, Option<f64>)> {
        let StaleScratch { sequences, encoded, history, ranking, batch: then, .. } = scratch;
        let Self { n_items, model, frequencies, order, histories, cooccurrences, .. } = self;
        let model = live.unwrap_or(model);
        let kernel = model.kernel();
        then.clear(0);
        let event = |query: usize| batch.with_context[query] as usize;
        let had_history =
            |user: u32, histories: &UserHistories| (user as usize) < histories.len() && histories.get(user).is_known();
        let mut found = Vec::with_capacity(chosen.len());
        for query in chosen {
            let (event, user, item) = (event(*query), batch.user(*query), batch.positive(*query));
            let number = batch.numbers[event];
            if had_history(user, histories) {
                histories.look(then, user, item, batch.timestamps[event]);
                cooccurrences.look(then);
                then.numbers.push(number);
                found.push((number, None));
            } else {
                found.push((number, popular_rank(frequencies, order, item as usize, *n_items)));
            }
        }
        let queries: Vec<usize> = (0..then.n_queries()).collect();
        history.observe_nothing(kernel, model, frequencies, then, *n_items);
        sequences.begin(then);
        model.encode(kernel, sequences, &[], encoded);
        let view = ModelView {
            model,
            history,
            frequencies,
            popularity: order,
            histories,
            repeat: settings.positive_rules.repeat,
            history_terms: true,
        };
        let mut ranked = ranking.rank(kernel, view, then, &queries, encoded).into_iter().peekable();
        for (number, rank) in &mut found {
            if let Some(ranked) = ranked.next_if(|ranked| ranked.number == *number) {
                *rank = ranked.model;
            }
        }
        found
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

/// The rank of an item by decayed popularity alone.
fn popular_rank(frequencies: &Frequencies, order: &PopularityOrder, item: usize, n_items: usize) -> Option<f64> {
    (item < n_items).then(|| {
        let (above, up_to_equal) = order.compare(frequencies.popularity().relative()[item]);
        above as f64 + up_to_equal.saturating_sub(1) as f64 / 2.0
    })
}
