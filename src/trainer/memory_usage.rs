//! How much memory the parts of the state take, roughly: what grows with the stream, for whoever watches it.

use compact_str::CompactString;
use serde::Serialize;

use crate::context::repeat_memory::Remembered;
use crate::context::users::User;
use crate::metric::{Instrumented, Metric};
use crate::table::ids::Ids;
use crate::trainer::state::State;

/// So many names and users are looked at, evenly spaced.
const SAMPLE: usize = 256;
/// A slot of the index of names: a row and a byte, half of them free.
const INDEX_BYTES: usize = 10;
/// Allocations are rounded up and have a head.
const ALLOCATION: usize = 16;

/// Bytes, roughly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Rows of items, and what is counted by item. What samplers keep is not there.
    pub items: u64,
    /// Rows of users, and their pasts.
    pub users: u64,
    /// Names of both.
    pub names: u64,
}

impl State {
    /// How much memory its parts take.
    pub fn held(&self) -> Held {
        let Self { items, users, model, frequencies, .. } = self;
        let (of_item, of_user) = model.row_bytes();
        // Counts by half-life and in the popularity order; occurrences, time of the last event, when seen; norm.
        let counted = 8 * (frequencies.memories().len() + 2) + 3 * 8 + 4;
        let past = |user: &User| {
            let User { clock: _, recent, memory, own } = user;
            let lists = [recent.capacity() * 4, memory.capacity() * size_of::<Remembered>(), own.capacity() * 4];
            size_of::<User>()
                + 8
                + lists.iter().filter(|bytes| **bytes > 0).map(|bytes| bytes + ALLOCATION).sum::<usize>()
        };
        let n_users = users.users.len();
        Held {
            items: (items.len() * (of_item + counted)) as u64,
            users: (n_users * of_user) as u64 + estimate(n_users, |row| past(users.users.get(row))),
            names: names(items) + names(&users.ids),
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

/// The sum over `n` rows, from some of them.
fn estimate(n: usize, bytes: impl Fn(usize) -> usize) -> u64 {
    let every = n.div_ceil(SAMPLE).max(1);
    let sampled = n.div_ceil(every);
    let sum: usize = (0..n).step_by(every).map(bytes).sum();
    (sum as f64 * n as f64 / sampled.max(1) as f64) as u64
}

impl Instrumented for Held {
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
    fn a_sample_tells_the_sum() {
        assert_eq!(estimate(0, |_| 5), 0);
        assert_eq!(estimate(7, |row| row), 21);
        let sum = estimate(100_000, |row| row % 100);
        assert!((4_000_000..6_000_000).contains(&sum), "{sum}");
    }
}
