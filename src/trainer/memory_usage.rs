//! Memory usage: how much memory the parts of the state take, roughly, of what grows with the stream.

use compact_str::CompactString;
use serde::Serialize;

use crate::context::cooccurrence::{CountedNeighbor, Neighborhood};
use crate::context::repeat_memory::RememberedItem;
use crate::context::users::UserHistory;
use crate::metric::{Instrumented, Metric};
use crate::table::ids::Ids;
use crate::trainer::state::State;

/// Number of names and of users that are looked at, evenly spaced.
const SAMPLE: usize = 256;
/// Bytes of the index of names for each name: a row and a byte, and half of the slots free.
const INDEX_BYTES: usize = 10;
/// Bytes that an allocation takes beyond what is asked for, by rounding and its head.
const ALLOCATION: usize = 16;

/// Estimated memory of the state, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// Memory of the items' rows, counts and neighbours, without what samplers keep.
    pub items: u64,
    /// Memory of the users' rows and histories.
    pub users: u64,
    /// Memory of the names of items and users.
    pub names: u64,
}

impl State {
    /// How much memory the parts of the state take, estimated from a sample.
    pub fn memory_usage(&self) -> MemoryUsage {
        let Self { items, users, model, negatives, .. } = self;
        let (of_item, of_user) = model.row_bytes();
        // Counts by half-life and in the popularity order; occurrences, the first and the last event, last activity; norm.
        let counted = 8 * (negatives.frequencies.memories().len() + 2) + 4 * 8 + 4;
        let history = |user: &UserHistory| {
            let UserHistory { clock: _, session_events: _, repeat_rate: _, recent, memory, own } = user;
            let lists = [recent.capacity() * 4, memory.capacity() * size_of::<RememberedItem>(), own.capacity() * 4];
            size_of::<UserHistory>()
                + 8
                + lists.iter().filter(|bytes| **bytes > 0).map(|bytes| bytes + ALLOCATION).sum::<usize>()
        };
        let neighborhood = |of_item: &Neighborhood| {
            let bytes = of_item.neighbors.capacity() * size_of::<CountedNeighbor>();
            size_of::<Neighborhood>() + if bytes > 0 { bytes + ALLOCATION } else { 0 }
        };
        let (n_items, n_users) = (items.ids.len(), users.histories.len());
        MemoryUsage {
            items: (n_items * (of_item + counted)) as u64
                + estimate(items.cooccurrences.len(), |row| neighborhood(items.cooccurrences.get(row as u32))),
            users: (n_users * of_user) as u64 + estimate(n_users, |row| history(users.histories.get(row as u32))),
            names: names(&items.ids) + names(&users.ids),
        }
    }
}

fn names(ids: &Ids) -> u64 {
    let inline = size_of::<CompactString>();
    estimate(ids.len(), |row| {
        let length = ids.name(row as u32).len();
        INDEX_BYTES + inline + if length > inline { length + ALLOCATION } else { 0 }
    })
}

/// The sum of `bytes` over `n` rows, estimated from some of them.
fn estimate(n: usize, bytes: impl Fn(usize) -> usize) -> u64 {
    let every = n.div_ceil(SAMPLE).max(1);
    let sampled = n.div_ceil(every);
    let sum: usize = (0..n).step_by(every).map(bytes).sum();
    (sum as f64 * n as f64 / sampled.max(1) as f64) as u64
}

impl Instrumented for MemoryUsage {
    const METRICS: &'static [Metric<Self>] = &[Metric::gauge_by(
        "negstream_state_bytes",
        &["part"],
        "Memory of the rows of items, of users, and of names, estimated.",
        |usage, samples| {
            let Self { items, users, names } = *usage;
            samples.put_for(["items"], items);
            samples.put_for(["users"], users);
            samples.put_for(["names"], names);
        },
    )];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_tells_the_sum_from_a_sample() {
        assert_eq!(estimate(0, |_| 5), 0);
        assert_eq!(estimate(7, |row| row), 21);
        let sum = estimate(100_000, |row| row % 100);
        assert!((4_000_000..6_000_000).contains(&sum), "{sum}");
    }
}
