//! Co-occurrence: which items follow one another in users' histories, counted as the stream goes by.
//!
//! It stands behind the term κ: what came together lately will come together again, and a count knows that after one event,
//! where vectors take steps to move. (The sampler of the same name, `crate::negatives::samplers`, draws negatives by sketches of
//! such counts; here they are exact for the nearest, and part of the score.) Each item keeps a bounded list of neighbours. Before an event, the `window` newest items
//! h₀, h₁, … of the user's context vote for their neighbours; with c(h, j) the weight of j in the list of h, and n the events of
//! an item,
//!
//! ```text
//! confidence(j)   = Σ_k 0.8^k·c(h_k, j)/(n(h_k) + 3) / Σ_k 0.8^k
//! cosine(j)       = Σ_k 0.8^k·c(h_k, j)/√((n(h_k) + 10)·(n(j) + 10))
//! plain cosine(j) = Σ_k 0.8^k·c(h_k, j)/√(n(h_k)·n(j))
//! ```
//!
//! The first two trust items with few events little, which is right for most. But a rare item that came together with one of
//! the context most of the few times that it came at all is among the likeliest of the rare ones, and only the third says so.
//!
//! After it, c(h_k, i) grows by 0.9^k and c(i, h_k) by half of that, i being the event's item.

use std::mem;

use super::Batch;
use super::repeat_memory::floor_log2;
use super::votes::{Vote, VoteSums, Votes};
use crate::table::records::{Records, TableRecord, prefetch_beginning, prefetch_list};
use crate::table::row_remap::RowRemap;

/// The longest list of neighbours that may be asked for.
pub const MOST_NEIGHBORS: usize = 1024;
/// The most items of a context that may count.
pub const WIDEST_WINDOW: usize = 64;
/// Number of buckets of each measure, half octaves.
pub const BUCKETS: usize = 32;
/// By how much the vote of each older item of the context is weaker.
const VOTE_DECAY: f32 = 0.8;
/// By how much each older item of the context is less of a neighbour of the event's item.
const COUNT_DECAY: f32 = 0.9;
/// What an item of the context counts in the list of the event's item. The event's item counts 1 in its list: what follows says
/// more than what went before.
const BACKWARD: f32 = 0.5;
/// Events that are added to an item's own where confidence is computed: of an item with few events little is known.
const CONFIDENCE_PRIOR: f64 = 3.0;
/// Likewise of the cosine.
const COSINE_PRIOR: f64 = 10.0;
/// The bucket of a confidence of 1, which is the largest but for rounding.
const CONFIDENCE_OF_ONE: i64 = 30;
/// The bucket of a cosine of 1.
const COSINE_OF_ONE: i64 = 24;
/// The bucket of a plain cosine of 1.
const PLAIN_COSINE_OF_ONE: i64 = 24;
/// Whoever has a smaller confidence, and a smaller plain cosine than [`LEAST_PLAIN_COSINE`], is not related: such items are
/// many, and κ says next to nothing of them.
const LEAST_CONFIDENCE: f32 = 0.02;
/// The least plain cosine of an item that is related although its confidence is small, as rare items' are.
const LEAST_PLAIN_COSINE: f64 = 0.05;
/// How many votes ahead a candidate's neighbourhood is fetched.
const PREFETCH_DISTANCE: usize = 8;
/// When an item has so many events, all its counts are halved: single precision adds small numbers to no more than that.
const MOST_EVENTS: f64 = (1 << 22) as f64;

/// The logarithmic buckets by which κ is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CooccurrenceBuckets {
    /// Bucket of the confidence, in half octaves.
    pub confidence: u8,
    /// Bucket of the cosine, in half octaves.
    pub cosine: u8,
    /// Bucket of the plain cosine, in half octaves.
    pub plain_cosine: u8,
}

/// An item that came together with items of a user's context, at the time of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelatedItem {
    /// The item's row.
    pub item: u32,
    /// What κ is looked up by.
    pub buckets: CooccurrenceBuckets,
}

/// The related items of a batch's queries, one list behind the other.
#[derive(Debug, Default)]
pub struct RelatedLists {
    items: Vec<RelatedItem>,
    /// The end of each list in `items`.
    ends: Vec<u32>,
    /// How many events of the batch were captured.
    n_events: usize,
}

impl RelatedLists {
    /// The list of query `query`.
    ///
    /// # Panics
    /// Where it was not captured.
    pub fn of(&self, query: usize) -> &[RelatedItem] {
        &self.items[self.start(query)..self.ends[query] as usize]
    }

    /// The items of the list of query `query`, each with its place among the items of all lists.
    pub fn places(&self, query: usize) -> impl Iterator<Item = (u32, &RelatedItem)> {
        (self.start(query) as u32..).zip(self.of(query))
    }

    /// The item at `place` among those of all lists.
    pub fn item(&self, place: u32) -> &RelatedItem {
        &self.items[place as usize]
    }

    /// Appends the list of an event that is counted nowhere.
    pub(super) fn push(&mut self, list: &[RelatedItem]) {
        self.items.extend_from_slice(list);
        self.n_events += 1;
        self.end_list();
    }

    pub(super) fn clear(&mut self) {
        let Self { items, ends, n_events } = self;
        items.clear();
        ends.clear();
        *n_events = 0;
    }

    fn start(&self, query: usize) -> usize {
        query.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn end_list(&mut self) {
        self.ends.push(self.items.len() as u32);
    }
}

/// An item in the list of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountedNeighbor {
    /// The item's row.
    pub item: u32,
    /// How often it came near the other, by distance.
    pub weight: f32,
}

/// What came near one item.
#[derive(Debug, Default, PartialEq)]
pub struct Neighborhood {
    /// Events of the item.
    pub events: f64,
    /// The items near it, in the order in which they came to the list.
    pub neighbors: Vec<CountedNeighbor>,
}

impl Clone for Neighborhood {
    fn clone(&self) -> Self {
        Self { events: self.events, neighbors: self.neighbors.clone() }
    }

    /// Copies the list into the memory of the one that was there: neighbourhoods are copied as often as views of them are made.
    fn clone_from(&mut self, source: &Self) {
        let Self { events, neighbors } = source;
        self.events = *events;
        self.neighbors.clone_from(neighbors);
    }
}

impl TableRecord for Neighborhood {
    #[inline]
    fn prefetch_owned(&self) {
        prefetch_beginning(&self.neighbors);
    }
}

impl Neighborhood {
    /// Adds `weight` to `item`. In a full list it takes the place of the least, and that one's weight besides (the
    /// space-saving counter of Metwally et al. 2005): so a newcomer stays long enough to show whether it recurs.
    fn add(&mut self, item: u32, weight: f32, capacity: usize) {
        let neighbors = &mut self.neighbors;
        if let Some(place) = position_by_eights(neighbors, |neighbor| neighbor.item == item) {
            neighbors[place].weight += weight;
        } else if neighbors.len() < capacity {
            if neighbors.len() == neighbors.capacity() {
                // Twice as many, as a vector would by itself, but no more than there may be.
                neighbors.reserve_exact(neighbors.len().max(4).min(capacity - neighbors.len()));
            }
            neighbors.push(CountedNeighbor { item, weight });
        } else {
            // No weight is negative: their bits, read as integers, are in the same order, and the least integer is found in vectors.
            let bits = |neighbor: &CountedNeighbor| neighbor.weight.to_bits() as i32;
            let least = neighbors.iter().fold(i32::MAX, |least, neighbor| least.min(bits(neighbor)));
            if let Some(place) = position_by_eights(neighbors, |neighbor| bits(neighbor) == least) {
                neighbors[place] = CountedNeighbor { item, weight: neighbors[place].weight + weight };
            }
        }
    }

    fn count_event(&mut self) {
        self.events += 1.0;
        if self.events >= MOST_EVENTS {
            self.events /= 2.0;
            self.neighbors.iter_mut().for_each(|neighbor| neighbor.weight /= 2.0);
        }
    }
}

/// The place of the first neighbour that is wanted. Lists are looked through by eights, and an eight is compared at once.
#[inline]
fn position_by_eights(neighbors: &[CountedNeighbor], is_wanted: impl Fn(&CountedNeighbor) -> bool) -> Option<usize> {
    let (eights, rest) = neighbors.as_chunks::<8>();
    let has_wanted =
        |eight: &[CountedNeighbor; 8]| eight.iter().fold(false, |found, neighbor| found | is_wanted(neighbor));
    let (begin, part) = match eights.iter().position(has_wanted) {
        Some(eight) => (8 * eight, &eights[eight][..]),
        None => (8 * eights.len(), rest),
    };
    part.iter().position(is_wanted).map(|place| begin + place)
}

/// How much of the co-occurrence is kept.
#[derive(Debug, Clone, Copy)]
pub struct CooccurrenceLimits {
    /// How many of the newest items of a context count.
    pub window: usize,
    /// Longest list of neighbours; 0: nothing is counted.
    pub neighbors: usize,
    /// Whether items are related by their plain cosine too, where their confidence is small.
    pub plain_cosine: bool,
}

/// The neighbourhoods of all items, by row.
#[derive(Debug)]
pub struct Cooccurrences {
    neighborhoods: Records<Neighborhood>,
    limits: CooccurrenceLimits,
    votes: Votes,
}

impl Cooccurrences {
    /// Of no items yet.
    pub fn new(limits: CooccurrenceLimits) -> Self {
        Self { neighborhoods: Records::default(), limits, votes: Votes::default() }
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.limits.neighbors > 0
    }

    /// Adds the empty neighbourhood of a new item, in the next row.
    pub fn push(&mut self) {
        self.restore(Neighborhood::default());
    }

    /// Adds the neighbourhood of an item that a checkpoint holds, in the next row.
    pub fn restore(&mut self, neighborhood: Neighborhood) {
        if self.is_on() {
            self.neighborhoods.push(neighborhood);
        }
    }

    /// The longest list of neighbours.
    pub fn longest(&self) -> usize {
        self.limits.neighbors
    }

    /// Number of neighbourhoods: as many as items, or none where nothing is counted.
    pub fn len(&self) -> usize {
        self.neighborhoods.len()
    }

    /// Whether there are no neighbourhoods.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The neighbourhood of the item in row `item`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, item: u32) -> &Neighborhood {
        self.neighborhoods.get(item as usize)
    }

    /// Captures into `lists` the items that are related to the contexts of those events of `batch` that came since it was asked
    /// last, each as of just before the event, and counts these events.
    pub fn capture(&mut self, batch: &Batch, lists: &mut RelatedLists) {
        for (event, item) in batch.items.iter().enumerate().skip(lists.n_events) {
            let query = lists.ends.len();
            if batch.with_context.get(query).is_some_and(|of_query| *of_query as usize == event) {
                if self.is_on() {
                    // Lists lie anywhere in memory. This item's own is counted after the vote, and those of the next event's context
                    // are read after that: both are fetched while this event's context votes.
                    prefetch_list(&self.get(*item).neighbors);
                    if query + 1 < batch.n_queries() {
                        self.newest(batch, query + 1).iter().for_each(|item| prefetch_list(&self.get(*item).neighbors));
                    }
                    let newest = self.newest(batch, query);
                    vote(&self.neighborhoods, self.limits, &mut self.votes, newest, &mut lists.items);
                    self.count_neighbors(newest, *item);
                }
                lists.end_list();
            }
            if self.is_on() {
                self.neighborhoods.get_mut(*item as usize).count_event();
            }
        }
        lists.n_events = batch.len();
    }

    /// How many of the newest items of a context count.
    pub fn window(&self) -> usize {
        if self.is_on() { self.limits.window } else { 0 }
    }

    /// Counts an event that somebody else has captured: of `item`, by a user who had `context`, the newest item first.
    pub fn count(&mut self, item: u32, context: &[u32]) {
        if self.is_on() {
            self.count_neighbors(&context[..context.len().min(self.limits.window)], item);
            self.neighborhoods.get_mut(item as usize).count_event();
        }
    }

    /// Captures the items that are related to the context of the newest query of `batch` into it, and counts nothing: the event is
    /// still to come.
    pub fn ask(&self, batch: &mut Batch, votes: &mut Votes) {
        let mut lists = mem::take(&mut batch.related_lists);
        if self.is_on() {
            let newest = self.newest(batch, batch.n_queries() - 1);
            vote(&self.neighborhoods, self.limits, votes, newest, &mut lists.items);
        }
        lists.end_list();
        batch.related_lists = lists;
    }

    /// Captures what is related to the newest event of `batch` likewise, if it has a context.
    pub fn look(&mut self, batch: &mut Batch) {
        if batch.newest_has_context() {
            let mut votes = mem::take(&mut self.votes);
            self.ask(batch, &mut votes);
            self.votes = votes;
        }
    }

    /// The items of the context of query `query` that vote, newest first.
    fn newest<'a>(&self, batch: &'a Batch, query: usize) -> &'a [u32] {
        let context = batch.context(query);
        &context[..context.len().min(self.limits.window)]
    }

    /// A copy as it is. One that is made by itself shares with this one what does not change ([`crate::table::chunks`]); one that is
    /// given an `earlier` one with neighbourhoods of its own follows, or begins to where that has none: lists of many items are
    /// written between two views, and whoever shares copies each twice.
    #[must_use]
    pub fn snapshot(&mut self, earlier: Option<Self>) -> Self {
        let neighborhoods = match earlier {
            None => self.neighborhoods.freeze(),
            Some(mut earlier) => {
                self.neighborhoods.follow(&mut earlier.neighborhoods);
                earlier.neighborhoods
            }
        };
        Self { neighborhoods, limits: self.limits, votes: Votes::default() }
    }

    /// What the next copy goes on with: no neighbourhoods that are shared, which would be copied as long as it is kept.
    #[must_use]
    pub fn into_own(self) -> Self {
        let neighborhoods = if self.neighborhoods.is_own() { self.neighborhoods } else { Records::default() };
        Self { neighborhoods, ..self }
    }

    /// Makes `item` and the items of `newest`, the newest first, neighbours of each other.
    fn count_neighbors(&mut self, newest: &[u32], item: u32) {
        let Self { neighborhoods, limits, .. } = self;
        let mut weight = 1.0;
        for other in newest {
            if *other != item {
                neighborhoods.get_mut(*other as usize).add(item, weight, limits.neighbors);
                neighborhoods.get_mut(item as usize).add(*other, BACKWARD * weight, limits.neighbors);
            }
            weight *= COUNT_DECAY;
        }
    }

    /// Remaps items after eviction; evicted items leave the lists.
    pub fn keep_items(&mut self, rows: &RowRemap) {
        if !self.is_on() {
            return;
        }
        let Self { neighborhoods, limits: _, votes: _ } = self;
        neighborhoods.keep(rows);
        for row in 0..neighborhoods.len() {
            rows.renumber_by(&mut neighborhoods.get_mut(row).neighbors, |neighbor| &mut neighbor.item);
        }
    }

    /// A frozen copy of the neighbourhoods: [`crate::table::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Records<Neighborhood> {
        self.neighborhoods.freeze()
    }

    /// Takes back neighbourhoods that frozen copies which are gone had shared: [`Records::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.neighborhoods.thaw(budget)
    }
}

/// Lists what is related to `newest`, the newest item first, in `related`.
fn vote(
    neighborhoods: &Records<Neighborhood>,
    limits: CooccurrenceLimits,
    votes: &mut Votes,
    newest: &[u32],
    related: &mut Vec<RelatedItem>,
) {
    votes.begin(newest.iter().map(|item| neighborhoods.get(*item as usize).neighbors.len()).sum());
    let strengths = || std::iter::successors(Some(1.0f32), |strength| Some(strength * VOTE_DECAY));
    let total = f64::from(strengths().take(newest.len()).sum::<f32>());
    for (item, strength) in newest.iter().zip(strengths()) {
        let Neighborhood { events, neighbors } = neighborhoods.get(*item as usize);
        let strength = f64::from(strength);
        let confidence = (strength / ((events + CONFIDENCE_PRIOR) * total)) as f32;
        let cosine = (strength / (events + COSINE_PRIOR).sqrt()) as f32;
        let plain_cosine = (strength / events.max(1.0).sqrt()) as f32;
        for CountedNeighbor { item, weight } in neighbors {
            let more = VoteSums {
                confidence: confidence * weight,
                cosine: cosine * weight,
                plain_cosine: plain_cosine * weight,
            };
            votes.add(*item, more);
        }
    }
    // floor(2·log₂ x) = floor(log₂ x²), and a square needs no root of n(j).
    let bucket = |square: f64, of_one: i64| (floor_log2(square) + of_one).clamp(0, BUCKETS as i64 - 1) as u8;
    let least = LEAST_PLAIN_COSINE * LEAST_PLAIN_COSINE;
    let square = |number: f32| f64::from(number) * f64::from(number);
    // Most are not related whatever n(j) is, which lies anywhere in memory; of the others it is fetched ahead.
    let candidates = votes.retain(|VoteSums { confidence, plain_cosine, cosine: _ }| {
        (*confidence >= LEAST_CONFIDENCE) | (limits.plain_cosine & (square(*plain_cosine) >= least))
    });
    related.reserve(candidates.len());
    for (place, Vote { item, sums }) in candidates.iter().enumerate() {
        if let Some(later) = candidates.get(place + PREFETCH_DISTANCE) {
            neighborhoods.prefetch(later.item as usize);
        }
        let events = neighborhoods.get(*item as usize).events;
        let plain_cosine = square(sums.plain_cosine) / events.max(1.0);
        if sums.confidence >= LEAST_CONFIDENCE || plain_cosine >= least {
            let buckets = CooccurrenceBuckets {
                confidence: bucket(square(sums.confidence), CONFIDENCE_OF_ONE),
                cosine: bucket(square(sums.cosine) / (events + COSINE_PRIOR), COSINE_OF_ONE),
                plain_cosine: bucket(plain_cosine, PLAIN_COSINE_OF_ONE),
            };
            related.push(RelatedItem { item: *item, buckets });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::context::repeat_memory::RepeatDecay;
    use crate::context::users::{Retention, UserHistories};
    use proptest::prelude::*;

    const N_ITEMS: u32 = 12;

    /// Captures `events` (user, item), and gives for each the items related to its context.
    fn capture(limits: CooccurrenceLimits, events: &[(u32, u32)]) -> (Vec<Vec<RelatedItem>>, Cooccurrences) {
        let retention = Retention { context: 3, decay: RepeatDecay::new(50.0, 16), repeat: true, own_items: 4 };
        let (mut histories, mut counted) = (UserHistories::new(retention), Cooccurrences::new(limits));
        (0..4).for_each(|_| histories.push());
        (0..N_ITEMS).for_each(|_| counted.push());
        let mut batch = Batch::default();
        batch.clear(0);
        let mut related = Vec::new();
        for (user, item) in events {
            let n_queries = batch.n_queries();
            histories.capture(&mut batch, *user, *item, 0);
            batch.capture_related(&mut counted);
            related.push(if batch.n_queries() > n_queries { batch.related(n_queries).to_vec() } else { Vec::new() });
        }
        (related, counted)
    }

    #[test]
    fn cooccurrence_counts_both_ways_by_distance() {
        let (_, counted) = capture(
            CooccurrenceLimits { window: 2, neighbors: 8, plain_cosine: true },
            &[(0, 1), (0, 2), (0, 3), (0, 4)],
        );
        let of = |item: u32| {
            let neighborhood = counted.neighborhoods.get(item as usize);
            neighborhood.neighbors.iter().map(|neighbor| (neighbor.item, neighbor.weight)).collect::<Vec<_>>()
        };
        assert_eq!(of(1), [(2, 1.0), (3, 0.9)]);
        assert_eq!(of(2), [(1, 0.5), (3, 1.0), (4, 0.9)]);
        assert_eq!(of(4), [(3, 0.5), (2, 0.45)]);
    }

    #[test]
    fn cooccurrence_full_list_replaces_its_least() {
        let mut neighborhood = Neighborhood::default();
        for item in [1, 1, 2, 3] {
            neighborhood.add(item, 1.0, 2);
        }
        let expected = [CountedNeighbor { item: 1, weight: 2.0 }, CountedNeighbor { item: 3, weight: 2.0 }];
        assert_eq!(neighborhood.neighbors, expected);
    }

    proptest! {
        /// Against a list that is looked through one by one; weights are few, so that many are equal.
        #[test]
        fn cooccurrence_lists_are_those_of_a_plain_loop(
            capacity in 1usize..40,
            added in proptest::collection::vec((0u32..60, 1u8..4), 0..300),
        ) {
            let (mut neighborhood, mut expected) = (Neighborhood::default(), Vec::<(u32, f32)>::new());
            for (item, weight) in added {
                let weight = f32::from(weight);
                neighborhood.add(item, weight, capacity);
                let place = expected.iter().position(|(of_item, _)| *of_item == item);
                match place {
                    Some(place) => expected[place].1 += weight,
                    None if expected.len() < capacity => expected.push((item, weight)),
                    None => {
                        let least = expected.iter().map(|(_, weight)| *weight).fold(f32::INFINITY, f32::min);
                        let first = expected.iter().position(|(_, weight)| *weight == least).expect("one is the least");
                        expected[first] = (item, least + weight);
                    }
                }
            }
            let found: Vec<_> = neighborhood.neighbors.iter().map(|neighbor| (neighbor.item, neighbor.weight)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn cooccurrence_halves_counts_that_grow_too_large() {
        let neighbors = vec![CountedNeighbor { item: 1, weight: 3.0 }];
        let mut neighborhood = Neighborhood { events: MOST_EVENTS - 1.0, neighbors };
        neighborhood.count_event();
        assert_eq!((neighborhood.events, neighborhood.neighbors[0].weight), (MOST_EVENTS / 2.0, 1.5));
    }

    #[test]
    fn cooccurrence_goes_on_after_eviction() {
        let events = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
        let (_, mut counted) = capture(CooccurrenceLimits { window: 2, neighbors: 8, plain_cosine: true }, &events);
        counted.keep_items(&RowRemap::of_rows(N_ITEMS as usize, |row| row != 2));
        // Item 1 keeps its row, item 3 is in row 2 now.
        let of = |row: usize| counted.neighborhoods.get(row).neighbors.iter().map(|n| n.item).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![2], vec![1]));
        assert_eq!(counted.neighborhoods.len(), N_ITEMS as usize - 1);
    }

    #[test]
    fn cooccurrence_that_is_off_relates_nothing() {
        let (related, mut counted) =
            capture(CooccurrenceLimits { window: 2, neighbors: 0, plain_cosine: true }, &[(0, 1), (0, 2), (0, 1)]);
        assert!(related.iter().all(Vec::is_empty));
        assert_eq!(counted.len(), 0);
        counted.keep_items(&RowRemap::of_rows(N_ITEMS as usize, |row| row != 2));
    }

    proptest! {
        /// Against sums over all pairs that came before, in double precision.
        #[test]
        fn cooccurrence_measures_agree_with_their_formulas(events in proptest::collection::vec((0u32..4, 0..N_ITEMS), 1..60), plain_cosine: bool) {
            let window = 2;
            let (related, _) = capture(CooccurrenceLimits { window, neighbors: N_ITEMS as usize, plain_cosine }, &events);
            for (place, (user, _)) in events.iter().enumerate() {
                let newest = |until: usize, user: u32| {
                    let of_user = events[..until].iter().rev().filter(move |(other, _)| *other == user);
                    of_user.map(|(_, item)| *item).take(window).collect::<Vec<_>>()
                };
                let (mut counts, mut occurrences) = (BTreeMap::new(), [0.0f64; N_ITEMS as usize]);
                for (before, (user, item)) in events[..place].iter().enumerate() {
                    for (k, other) in newest(before, *user).into_iter().enumerate().filter(|(_, other)| other != item) {
                        *counts.entry((other, *item)).or_insert(0.0) += 0.9f64.powi(k as i32);
                        *counts.entry((*item, other)).or_insert(0.0) += 0.5 * 0.9f64.powi(k as i32);
                    }
                    occurrences[*item as usize] += 1.0;
                }
                let context = newest(place, *user);
                let total: f64 = (0..context.len()).map(|k| 0.8f64.powi(k as i32)).sum();
                let mut expected = BTreeMap::new();
                for (k, other) in context.iter().enumerate() {
                    for ((_, item), count) in counts.iter().filter(|((from, _), _)| from == other) {
                        let [of_other, of_item] = [*other, *item].map(|item| occurrences[item as usize]);
                        let vote = 0.8f64.powi(k as i32) * count;
                        let measures: &mut [f64; 3] = expected.entry(*item).or_default();
                        measures[0] += vote / (of_other + 3.0) / total;
                        measures[1] += vote / ((of_other + 10.0) * (of_item + 10.0)).sqrt();
                        measures[2] += vote / (of_other * of_item).sqrt();
                    }
                }
                expected.retain(|_, [confidence, _, plain]| *confidence >= 0.02 || plain_cosine && *plain >= 0.05);
                prop_assert_eq!(related[place].len(), expected.len());
                for RelatedItem { item, buckets } in &related[place] {
                    let near = |bucket: u8, measure: f64, of_one: f64| {
                        // A half octave's bounds may be met to the last digit.
                        let octaves = 2.0 * measure.log2() + of_one;
                        (f64::from(bucket) - octaves.floor()).abs() < 0.5 || (octaves - octaves.round()).abs() < 1e-3
                    };
                    prop_assert!(near(buckets.confidence, expected[item][0], 30.0), "{:?} {:?}", buckets, expected[item]);
                    prop_assert!(near(buckets.cosine, expected[item][1], 24.0), "{:?} {:?}", buckets, expected[item]);
                    prop_assert!(near(buckets.plain_cosine, expected[item][2], 24.0), "{:?} {:?}", buckets, expected[item]);
                }
            }
        }
    }
}
