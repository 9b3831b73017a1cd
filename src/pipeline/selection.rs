//! What all sinks that ask for the same recall are sent: a filter of rows, the controller of its threshold, and the sample that it
//! measures on.

use std::time::{Duration, Instant};

use compact_str::CompactString;

use super::change_filter::{ChangeFilter, LiveRows};
use super::recall_controller::RecallController;
use crate::publish::{SinkOptions, VectorPrecision};
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
    /// Of what readers of these sinks see.
    precision: VectorPrecision,
    filter: ChangeFilter,
    controller: RecallController,
    measure_at: Instant,
    /// Where the next measurement begins, where not all items are in it.
    offset: usize,
}

impl ChangeSelection {
    /// A selection as `options` say, of rows of `dim` numbers.
    pub(super) fn new(options: &SinkOptions, precision: VectorPrecision, dim: usize) -> Self {
        let (recall, max_age) = (options.recall, options.max_age);
        let filter = ChangeFilter::new(dim, max_age.saturating_mul(1_000));
        let controller = RecallController::new(recall);
        Self { recall, max_age, precision, filter, controller, measure_at: Instant::now() + MEASURE_EVERY, offset: 0 }
    }

    /// Whether it is as `options` and the precision say.
    pub(super) fn serves(&self, options: &SinkOptions, precision: VectorPrecision) -> bool {
        (self.recall, self.max_age, self.precision) == (options.recall, options.max_age, precision)
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
        let (compared, kept) = match self.precision {
            VectorPrecision::Single => {
                kept_in_lists(state, &users, recent.at, LIST, candidates, |row| self.filter.held(row as usize))
            }
            fewer_bits => {
                let rounded = rounded_rows(&self.filter, fewer_bits, candidates.clone());
                let place = |row: u32| (row as usize - self.offset) / stride;
                kept_in_lists(state, &users, recent.at, LIST, candidates, |row| rounded.get(place(row))?.as_deref())
            }
        };
        self.controller.measured(compared, kept);
        self.measure_at = Instant::now() + MEASURE_EVERY.max(SHARE_OF_TIME * begin.elapsed());
    }
}

/// The rows of `candidates` as they were published, and rounded; `None` for one that never was.
fn rounded_rows(
    filter: &ChangeFilter,
    precision: VectorPrecision,
    candidates: impl Iterator<Item = u32>,
) -> Vec<Option<Box<[f32]>>> {
    let rounded = |row: u32| {
        let mut rounded: Box<[f32]> = filter.published(row as usize)?.into();
        precision.round(&mut rounded);
        Some(rounded)
    };
    candidates.map(rounded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_as_readers_see_them() {
        let embedding = [0.1_f32, -0.7, 1.0, 3e-5];
        let mut filter = ChangeFilter::new(4, u64::MAX);
        let served = |_: usize, out: &mut [f32]| out.copy_from_slice(&embedding);
        filter.reset(&LiveRows { n_rows: 2, served: &served, weight: &|_| 1.0, events: &|_| 1 });
        for (precision, most) in [(VectorPrecision::Half, 5e-4), (VectorPrecision::Bytes, 4e-3)] {
            let rounded = rounded_rows(&filter, precision, 0..3);
            assert!(rounded[0] == rounded[1] && rounded[2].is_none());
            let row = rounded[0].as_ref().unwrap();
            let error = row.iter().zip(&embedding).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error > 0.0 && error <= most, "{precision:?}: {error}");
        }
        assert!(filter.held(0).is_none(), "rounding is no movement: nothing is sent again for it");
        let options = SinkOptions::default();
        let selection = ChangeSelection::new(&options, VectorPrecision::Half, 4);
        assert!(
            selection.serves(&options, VectorPrecision::Half) && !selection.serves(&options, VectorPrecision::Single)
        );
    }
}
