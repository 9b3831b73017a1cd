//! What all sinks that ask for the same recall are sent: a filter of rows, the controller of its threshold, and the sample that it
//! measures on.

use std::time::{Duration, Instant};

use compact_str::CompactString;

use super::change_filter::{ChangeFilter, LiveRows};
use super::recall_controller::RecallController;
use crate::publish::SinkOptions;
use crate::recommend::recall::kept_in_lists;
use crate::table::rows::{GOLDEN, split_mix};
use crate::trainer::changes::EmbeddingChanges;
use crate::trainer::state::State;

/// Length of the lists that are compared.
const LIST: usize = 20;
/// Users whose lists are compared in a measurement, at most.
const USERS: usize = 64;
/// Users where there are so many items that fewer have to do.
const FEWEST_USERS: usize = 16;
/// Scores of a measurement, at most: about a twentieth of a second.
const SCORES: usize = 2_000_000;
/// Shortest time between two measurements.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// The sample is of about so many of the newest events.
const NEWEST_EVENTS: u64 = 1_024;
/// One in so many seconds goes into measurements, at most.
const SHARE_OF_TIME: u32 = 100;
/// A row moves as far as it matters: its distance counts by this power of its item's frequency…
const POWER: f32 = 0.7;
/// … and is itself where the logarithm of that is so much.
const USUAL_LOG_FREQUENCY: f32 = -8.0;

/// Has `work` look at the embeddings of `state`, as a filter does.
pub fn with_live_rows<T>(state: &State, work: impl FnOnce(&LiveRows<'_>) -> T) -> T {
    let log_frequency = |row: usize| state.negatives.frequencies.log_frequency(row as u32);
    work(&LiveRows {
        n_rows: state.items.ids.len(),
        served: &|row, out| state.model.served(row, out),
        weight: &|row| (POWER * (log_frequency(row) - USUAL_LOG_FREQUENCY)).exp(),
        events: &|row| state.items.occurrences[row],
    })
}

/// A sample of the users of the newest events, some hundreds.
#[derive(Debug, Default)]
pub(super) struct RecentUsers {
    names: Vec<CompactString>,
    n_seen: u64,
    random: u64,
    /// Time of the newest event, milliseconds since 1970.
    at: i64,
}

impl RecentUsers {
    /// Notes an event.
    pub(super) fn note(&mut self, user: &str, at: i64) {
        self.n_seen = (self.n_seen + 1).min(NEWEST_EVENTS);
        self.at = at;
        self.random = self.random.wrapping_add(GOLDEN);
        if self.names.len() < USERS {
            self.names.push(user.into());
        } else if let Some(name) = self.names.get_mut((split_mix(self.random) % self.n_seen) as usize) {
            *name = user.into();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct ChangeSelection {
    recall: f64,
    max_age: u64,
    filter: ChangeFilter,
    controller: RecallController,
    measure_at: Instant,
    /// Where the next measurement begins, where not all items are in it.
    offset: usize,
}

impl ChangeSelection {
    /// A selection as `options` say, of rows of `dim` numbers.
    pub(super) fn new(options: &SinkOptions, dim: usize) -> Self {
        let (recall, max_age) = (options.recall, options.max_age);
        let filter = ChangeFilter::new(dim, max_age.saturating_mul(1_000));
        let controller = RecallController::new(recall);
        Self { recall, max_age, filter, controller, measure_at: Instant::now() + MEASURE_EVERY, offset: 0 }
    }

    /// Whether it is as `options` say.
    pub(super) fn serves(&self, options: &SinkOptions) -> bool {
        (self.recall, self.max_age) == (options.recall, options.max_age)
    }

    /// For how long a row is held back at most.
    pub(super) fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age)
    }

    /// Rows that are held back.
    pub(super) fn n_held(&self) -> usize {
        self.filter.n_held()
    }

    /// Rows that are held back, for how many seconds the oldest was at `now` milliseconds, and the recall that was measured lately.
    pub(super) fn figures(&self, now: u64) -> (usize, Option<u64>, Option<f64>) {
        (self.filter.n_held(), self.filter.oldest_age(now), self.controller.recall())
    }

    /// Follows evictions.
    pub(super) fn follow(&mut self, changes: &EmbeddingChanges) {
        self.filter.follow(&changes.evictions);
    }

    /// The rows of `changes`, and of those that were held back, that are to be sent; at the end, all that differ.
    pub(super) fn select(&mut self, state: &State, changes: &EmbeddingChanges, now: u64, is_end: bool) -> Vec<u32> {
        self.filter.threshold = self.controller.threshold();
        with_live_rows(state, |table| match is_end {
            true => self.filter.settle(&changes.changed, table),
            false => self.filter.select(&changes.changed, now, table),
        })
    }

    /// Takes the table for published as it is.
    pub(super) fn reset(&mut self, state: &State) {
        with_live_rows(state, |table| self.filter.reset(table));
    }

    /// The embedding of `row` that was published last.
    pub(super) fn published(&self, row: usize) -> Option<&[f32]> {
        self.filter.published(row)
    }

    /// Measures the recall of what was published, where it is time.
    pub(super) fn measure_if_due(&mut self, state: &State, recent: &RecentUsers) {
        let (begin, n_items) = (Instant::now(), state.items.ids.len());
        if begin < self.measure_at || recent.names.is_empty() || n_items <= LIST {
            return;
        }
        let mut users: Vec<u32> = recent.names.iter().filter_map(|name| state.users.ids.get(name)).collect();
        users.sort_unstable();
        users.dedup();
        let most = (SCORES / n_items).clamp(FEWEST_USERS, USERS);
        let step = users.len().div_ceil(most).max(1);
        let users: Vec<u32> = users.into_iter().step_by(step).collect();
        // Of a larger table, one item in so many: the lists then go deeper than they do in all of it.
        let stride = (users.len() * n_items).div_ceil(SCORES).max(1);
        self.offset = (self.offset + 1) % stride;
        let candidates = (self.offset as u32..n_items as u32).step_by(stride);
        let (compared, kept) =
            kept_in_lists(state, &users, recent.at, LIST, candidates, |row| self.filter.held(row as usize));
        self.controller.measured(compared, kept);
        self.measure_at = Instant::now() + MEASURE_EVERY.max(SHARE_OF_TIME * begin.elapsed());
    }
}
