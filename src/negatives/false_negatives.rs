//! The tracker of false negatives: how many of a query's negatives did the same user choose soon after?
//!
//! A sample of the queries is watched for some events of the stream. Each column that such a query was scored against,
//! other than its positive and what was masked, counts as used, for every proposal that brought it; as false, when the
//! same user then chose it. Counts are taken when the time is over, so that every query had as long.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bank::Bank;
use super::candidates::Candidates;
use super::samplers::mix::NoiseMix;
use crate::metric::{Instrumented, Metric};
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;

/// Bands of popularity, by how often an item came before.
pub const BANDS: [&str; 3] = ["1-9", "10-99", "100+"];
/// The proposals that bring items of the stream, besides the noise samplers.
pub const STREAM: [&str; 2] = ["batch", "bank"];
/// The largest number of columns of a batch that are watched; they are evenly spaced.
const MOST_COLUMNS: usize = 8192;
/// The number of proposals that a mask of bits has room for.
const SOURCES: usize = 32;
/// The row that stands for an evicted user, for whom no event comes any more.
const GONE: u32 = u32::MAX;

/// The number of negatives of watched queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Negatives that queries were scored against.
    pub used: u64,
    /// Negatives that the same user chose soon after.
    pub r#false: u64,
}

/// A batch some of whose queries are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WatchedBatch {
    /// The number of the event after the batch's last.
    end: u64,
    /// (item, which proposals brought it, band), by item.
    columns: Vec<(u32, u32, u8)>,
    /// The watched queries, by user.
    queries: Vec<WatchedQuery>,
}

/// A query that is watched until its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WatchedQuery {
    user: u32,
    event: u64,
    /// The positive, what was masked, and what was already found false.
    settled: Vec<u32>,
    /// Columns found false.
    found: Vec<u32>,
}

/// Counts, for each proposal, the negatives of sampled queries that their users chose within a horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FalseNegativeTracker {
    /// Events that a query is watched for.
    horizon: u64,
    watched: VecDeque<WatchedBatch>,
    /// Counts by proposal and band.
    counts: Vec<[Count; BANDS.len()]>,
    /// The number of watched queries of each user; computed again on restore.
    #[serde(skip)]
    users: Vec<u32>,
}

/// A query that the tracker is asked to watch.
#[derive(Debug, Clone, Copy)]
pub struct QueryToWatch<'a> {
    /// Row of the user.
    pub user: u32,
    /// Number of the event.
    pub event: u64,
    /// The positive, and what was masked.
    pub known_positives: &'a [u32],
}

impl FalseNegativeTracker {
    /// A tracker that watches each query for `horizon` events.
    pub fn new(horizon: u64) -> Self {
        Self { horizon, watched: VecDeque::new(), counts: Vec::new(), users: Vec::new() }
    }

    /// A copy without the numbers that [`Self::restored`] computes again.
    #[must_use]
    pub fn to_be_saved(&self) -> Self {
        Self { users: Vec::new(), watched: self.watched.clone(), counts: self.counts.clone(), ..*self }
    }

    /// The tracker complete again, for a stream of `n_events` so far; `None` where it refers to items, users or
    /// events that are not there.
    pub fn restored(mut self, horizon: u64, (n_items, n_users): (usize, usize), n_events: u64) -> Option<Self> {
        self.horizon = horizon;
        for WatchedBatch { end, columns, queries } in &self.watched {
            let columns_fit =
                columns.iter().all(|(item, _, band)| (*item as usize) < n_items && usize::from(*band) < BANDS.len());
            let fits = |query: &WatchedQuery| {
                ((query.user as usize) < n_users || query.user == GONE)
                    && query.event < *end
                    && query.settled.is_sorted()
                    && query.found.iter().all(|found| (*found as usize) < columns.len())
            };
            let sorted = columns.is_sorted() && queries.is_sorted_by_key(|query| query.user);
            if !(columns_fit && queries.iter().all(fits) && sorted && *end <= n_events) {
                return None;
            }
            for query in queries {
                count(&mut self.users, query.user, 1);
            }
        }
        Some(self)
    }

    /// Watches some queries of a batch with these candidates, of which `end` is the number of the event after its last.
    pub fn watch<'a>(
        &mut self,
        candidates: &Candidates,
        (bank, noise): (&Bank, &NoiseMix),
        occurrences: &Paged<u64>,
        end: u64,
        queries: impl Iterator<Item = QueryToWatch<'a>>,
    ) {
        let mut queries: Vec<WatchedQuery> = queries
            .map(|watch| {
                let mut settled = watch.known_positives.to_vec();
                settled.sort_unstable();
                settled.dedup();
                settled.retain(|item| candidates.column(*item).is_some() || candidates.frozen_column(*item).is_some());
                WatchedQuery { user: watch.user, event: watch.event, settled, found: Vec::new() }
            })
            .collect();
        if queries.is_empty() {
            return;
        }
        queries.sort_by_key(|query| query.user);
        queries.iter().for_each(|query| count(&mut self.users, query.user, 1));
        let mut columns: Vec<(u32, u32, u8)> = Vec::with_capacity(candidates.items.len());
        let band = |item: u32| match occurrences[item as usize] {
            ..10 => 0,
            10..100 => 1,
            100.. => 2,
        };
        let sources = candidates.sources(bank, noise);
        columns.extend(candidates.items.iter().zip(sources).map(|(item, sources)| (*item, sources, band(*item))));
        columns.sort_unstable();
        // An item may have a live and a frozen column.
        columns.dedup_by(|next, first| {
            first.1 |= if next.0 == first.0 { next.1 } else { 0 };
            next.0 == first.0
        });
        // A sample of them tells as much.
        let every = columns.len().div_ceil(MOST_COLUMNS).max(1);
        let columns = columns.into_iter().step_by(every).collect();
        self.watched.push_back(WatchedBatch { end, columns, queries });
    }

    /// Observes the items that users chose, `first_event` being the number of the first event.
    pub fn judge(&mut self, first_event: u64, users: &[u32], items: &[u32]) {
        let chosen = users.iter().zip(items).zip(first_event..);
        for ((user, item), event) in
            chosen.filter(|((user, _), _)| self.users.get(**user as usize).is_some_and(|n| *n > 0))
        {
            for watched in &mut self.watched {
                let first = watched.queries.partition_point(|query| query.user < *user);
                let of_user = watched.queries[first..].iter_mut().take_while(|query| query.user == *user);
                for query in of_user.filter(|query| query.event < event && event <= query.event + self.horizon) {
                    let Err(place) = query.settled.binary_search(item) else { continue };
                    if let Ok(column) = watched.columns.binary_search_by_key(item, |(item, _, _)| *item) {
                        query.settled.insert(place, *item);
                        query.found.push(column as u32);
                    }
                }
            }
        }
        let now = first_event + items.len() as u64;
        while self.watched.front().is_some_and(|watched| watched.end + self.horizon <= now) {
            let watched = self.watched.pop_front().expect("it is there");
            self.close(&watched);
        }
    }

    /// Remaps item rows after an eviction. An evicted item cannot be chosen any more, so it is counted now.
    pub fn keep_items(&mut self, items: &RowRemap) {
        let mut all = std::mem::take(&mut self.watched);
        for watched in &mut all {
            let stays = |column: u32| items.get(watched.columns[column as usize].0).is_some();
            let columns = RowRemap::of_rows(watched.columns.len(), stays);
            self.count_columns(watched, |column| !stays(column));
            for query in &mut watched.queries {
                items.renumber(&mut query.settled);
                columns.renumber(&mut query.found);
            }
            items.renumber_by(&mut watched.columns, |(item, ..)| item);
        }
        self.watched = all;
    }

    /// Remaps user rows after an eviction; queries of evicted users are watched to the end.
    pub fn keep_users(&mut self, users: &RowRemap) {
        users.keep(&mut self.users);
        for watched in &mut self.watched {
            watched.queries.iter_mut().for_each(|query| query.user = users.get(query.user).unwrap_or(GONE));
            watched.queries.sort_by_key(|query| query.user);
        }
    }

    fn close(&mut self, watched: &WatchedBatch) {
        self.count_columns(watched, |_| true);
        watched.queries.iter().for_each(|query| count(&mut self.users, query.user, -1));
    }

    /// Counts those columns that are `over`.
    fn count_columns(&mut self, watched: &WatchedBatch, over: impl Fn(u32) -> bool) {
        let masks = watched.columns.iter().fold(0, |all, (_, sources, _)| all | sources);
        self.counts.resize((SOURCES - masks.leading_zeros() as usize).max(self.counts.len()), Default::default());
        let mut tally = |(_, sources, band): &(u32, u32, u8), change: &dyn Fn(&mut Count)| {
            (0..SOURCES).filter(|source| sources >> source & 1 == 1).for_each(|source| {
                change(&mut self.counts[source][usize::from(*band)]);
            });
        };
        let n_queries = watched.queries.len() as u64;
        for (_, column) in (0..).zip(&watched.columns).filter(|(place, _)| over(*place)) {
            let spared = |query: &&WatchedQuery| {
                query.settled.binary_search(&column.0).is_ok()
                    && !query.found.iter().any(|found| watched.columns[*found as usize].0 == column.0)
            };
            let spared = watched.queries.iter().filter(spared).count() as u64;
            tally(column, &|count| count.used += n_queries - spared);
        }
        for query in &watched.queries {
            let found = query.found.iter().filter(|found| over(**found));
            found.for_each(|found| tally(&watched.columns[*found as usize], &|count| count.r#false += 1));
        }
    }

    /// Counts by proposal ([`STREAM`], then the noise samplers) and band.
    pub fn counts(&self) -> &[[Count; BANDS.len()]] {
        &self.counts
    }
}

fn count(users: &mut Vec<u32>, user: u32, change: i32) {
    if user == GONE {
        return;
    }
    users.resize(users.len().max(user as usize + 1), 0);
    let queries = &mut users[user as usize];
    *queries = queries.saturating_add_signed(change);
}

/// Watched negatives of one proposal and one band of popularity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FalseNegativeCount {
    /// `batch`, `bank`, or the name of a sampler at work.
    pub proposal: String,
    /// How often the items came before: one of [`BANDS`].
    pub band: &'static str,
    /// The negatives, and those of them that were false.
    #[serde(flatten)]
    pub count: Count,
}

impl FalseNegativeTracker {
    /// Watched negatives by proposal and band, where `samplers` are the names of the noise samplers at work; proposals and
    /// bands of which nothing was watched are left out.
    pub fn summary<'a>(&self, samplers: impl Iterator<Item = &'a str>) -> Vec<FalseNegativeCount> {
        let by_band = |(proposal, counts): (&str, &[Count; BANDS.len()])| {
            let of_band = |(band, count): (&&'static str, &Count)| FalseNegativeCount {
                proposal: proposal.to_owned(),
                band,
                count: *count,
            };
            let watched = BANDS.iter().zip(counts).filter(|(_, count)| count.used > 0);
            watched.map(of_band).collect::<Vec<_>>()
        };
        STREAM.into_iter().chain(samplers).zip(self.counts()).flat_map(by_band).collect()
    }
}

impl Instrumented for [FalseNegativeCount] {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter_by(
            "negstream_watched_negatives_total",
            &["proposal", "band"],
            "Negatives of watched queries, by proposal and by how often the item came before.",
            |counts, samples| {
                counts.iter().for_each(|one| samples.put_for([&one.proposal, one.band], one.count.used));
            },
        ),
        Metric::counter_by(
            "negstream_false_negatives_total",
            &["proposal", "band"],
            "Watched negatives that the same user chose soon after.",
            |counts, samples| {
                counts.iter().for_each(|one| samples.put_for([&one.proposal, one.band], one.count.r#false));
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::samplers::QueryContext;
    use crate::negatives::samplers::tests::Stream;

    #[test]
    fn tracker_counts_item_chosen_within_horizon_as_false() {
        let mut stream = Stream::new(20, u64::MAX, None);
        stream.add(&[10, 11, 12, 13, 10]);
        let (mut candidates, mut noise, bank) = (Candidates::default(), NoiseMix::new(&[]), Bank::new(0, 0, false));
        let positives = [10, 11, 12, 13, 10].into_iter();
        candidates.gather(positives, &bank, &mut noise, stream.view(), QueryContext::default(), (1, 0));
        let mut occurrences: Paged<u64> = std::iter::repeat_n(5, 20).collect();
        *occurrences.get_mut(12) = 50;
        let mut ledger = FalseNegativeTracker::new(100);
        // User 1's positive is 10, and 13 was masked.
        let watch = QueryToWatch { user: 1, event: 7, known_positives: &[13, 10] };
        ledger.watch(&candidates, (&bank, &noise), &occurrences, 8, [watch].into_iter());
        // Before the query; not the user; the masked one; then, twice, a false negative; then one too late.
        ledger.judge(0, &[1, 2, 1, 1, 1, 1, 1, 1], &[12, 12, 12, 12, 12, 12, 12, 12]);
        ledger.judge(8, &[2, 1, 1, 1], &[12, 13, 12, 12]);
        ledger.judge(12, &[0; 95], &[0; 95]);
        assert_eq!(ledger.counts().len(), 0);
        ledger.judge(107, &[1], &[11]);
        let [used, found] = [|count: &Count| count.used, |count: &Count| count.r#false]
            .map(|of| ledger.counts()[0].iter().map(of).collect::<Vec<_>>());
        assert_eq!((used, found), (vec![1, 1, 0], vec![1, 1, 0]));
        ledger.judge(108, &[1], &[11]);
        assert_eq!(ledger.counts()[0][0], Count { used: 1, r#false: 1 });
    }

    #[test]
    fn tracker_settles_evicted_columns_at_once_and_others_at_horizon() {
        let mut stream = Stream::new(20, u64::MAX, None);
        stream.add(&[10, 11, 12, 13, 10]);
        let (mut candidates, mut noise, bank) = (Candidates::default(), NoiseMix::new(&[]), Bank::new(0, 0, false));
        let positives = [10, 11, 12, 13, 10].into_iter();
        candidates.gather(positives, &bank, &mut noise, stream.view(), QueryContext::default(), (1, 0));
        let mut ledger = FalseNegativeTracker::new(100);
        let watch = |user| QueryToWatch { user, event: 7, known_positives: &[10] };
        let occurrences: Paged<u64> = std::iter::repeat_n(0, 20).collect();
        ledger.watch(&candidates, (&bank, &noise), &occurrences, 8, [watch(4), watch(1), watch(2)].into_iter());
        ledger.judge(8, &[1, 2], &[12, 13]);
        // Items 0 to 9, 11 and 12 go; 12 was chosen by user 1. The others are 0 (10) and 1 (13) from now on.
        ledger.keep_items(&RowRemap::of_rows(20, |row| row >= 10 && ![11, 12].contains(&row)));
        assert_eq!(ledger.counts()[0][0], Count { used: 6, r#false: 1 });
        // User 1 goes: 4 is 3, and 2 is 1.
        ledger.keep_users(&RowRemap::of_rows(5, |row| row != 1));
        ledger.judge(10, &[3, 1, u32::MAX], &[1, 1, 1]);
        let text = serde_json::to_string(&ledger).unwrap();
        let restored = serde_json::from_str::<FalseNegativeTracker>(&text).unwrap().restored(100, (8, 4), 13);
        assert_eq!(restored.as_ref(), Some(&ledger));
        ledger.judge(108, &[0], &[0]);
        // Of 13, which 2 had chosen before and 4 chose after; 10 was everybody's positive.
        assert_eq!(ledger.counts()[0][0], Count { used: 9, r#false: 3 });
        assert!(ledger.users.iter().all(|queries| *queries == 0));
    }
}
