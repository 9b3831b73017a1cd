//! The users: each one's newest items, memory and own items, exact event by event.

use super::repeat_memory::{Fading, Remembered};
use super::{Batch, NOBODY, Own};
use crate::table::ids::Ids;
use crate::table::records::Records;
use crate::table::row_remap::RowRemap;

/// The past of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    /// How many events the user had.
    pub clock: u32,
    /// The newest items, oldest first; the same item may be there twice.
    pub recent: Vec<u32>,
    /// The newest distinct items, least recent first.
    pub memory: Vec<Remembered>,
    /// All items, in the order they came; kept only where own items leave the ranking.
    pub own: Vec<u32>,
}

impl User {
    /// Whether there is a past to make a context of.
    pub fn is_known(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Keeps the items that stay.
    fn keep_items(&mut self, items: &RowRemap) {
        items.renumber(&mut self.recent);
        items.renumber_by(&mut self.memory, |remembered| &mut remembered.item);
        items.renumber(&mut self.own);
    }
}

/// How much of a past is kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Newest items that make a context.
    pub context: usize,
    /// The memory behind the repetition term.
    pub fading: Fading,
    /// Whether items may recur: then the repetition term is looked up, otherwise own items are listed.
    pub repeat: bool,
    /// Longest list of own items.
    pub own_items: usize,
}

/// All users.
#[derive(Debug)]
pub struct Users {
    /// Their names.
    pub ids: Ids,
    /// Their pasts, by row.
    pub users: Records<User>,
    retention: Retention,
}

impl Users {
    /// Nobody yet.
    pub fn new(retention: Retention) -> Self {
        Self { ids: Ids::default(), users: Records::default(), retention }
    }

    /// The row of `user`; a new one where there was none.
    pub fn row(&mut self, user: &str) -> u32 {
        let row = self.ids.intern(user);
        if row as usize == self.users.len() {
            self.users.push(User::default());
        }
        row
    }

    /// Captures the past of the user in row `row` into `batch` as that of an event with `item` at `timestamp`, then adds the
    /// event to the past.
    pub fn capture(&mut self, batch: &mut Batch, row: u32, item: u32, timestamp: i64) {
        let Retention { context, fading, repeat, own_items: _ } = &self.retention;
        let past = self.users.get_mut(row as usize);
        let event = batch.items.len() as u32;
        batch.users.push(row);
        batch.items.push(item);
        batch.timestamps.push(timestamp);
        if past.is_known() {
            batch.with_context.push(event);
            batch.contexts.extend(past.recent.iter().rev());
            batch.context_starts.push(batch.contexts.len() as u32);
            batch.own.extend(past.memory.iter().map(|remembered| Own {
                item: remembered.item,
                // Idle where own items leave the ranking.
                buckets: if *repeat { fading.buckets(remembered, past.clock, timestamp) } else { Default::default() },
                when: remembered.when,
            }));
            batch.own_starts.push(batch.own.len() as u32);
            batch.all_own.push(past.own.len() as u32);
        }
        past.clock = past.clock.saturating_add(1);
        if past.recent.len() == *context {
            past.recent.remove(0);
        }
        past.recent.push(item);
        fading.remember(&mut past.memory, item, past.clock, timestamp);
        if !repeat {
            past.own.push(item);
        }
    }

    /// Captures into `batch` an event of somebody who has no row: there is no past to it, and it becomes part of none.
    pub fn capture_nobody(batch: &mut Batch, item: u32, timestamp: i64) {
        batch.users.push(NOBODY);
        batch.items.push(item);
        batch.timestamps.push(timestamp);
    }

    /// All the items that the user of query `query` had before it.
    pub fn own(&self, batch: &Batch, query: usize) -> &[u32] {
        &self.users.get(batch.user(query) as usize).own[..batch.all_own[query] as usize]
    }

    /// Keeps the items that stay: of a past, what refers to others is gone.
    pub fn keep_items(&mut self, items: &RowRemap) {
        (0..self.users.len()).for_each(|user| self.users.get_mut(user).keep_items(items));
    }

    /// Keeps the users that stay.
    pub fn keep(&mut self, users: &RowRemap) {
        self.ids.keep(users);
        self.users.keep(users);
    }

    /// Keeps the lists of own items within their bound; between batches only, since batches refer to them.
    pub fn trim(&mut self, batch: &Batch) {
        let bound = self.retention.own_items;
        for user in batch.users.iter().filter(|user| **user != NOBODY) {
            let length = self.users.get(*user as usize).own.len();
            // Some slack, so that a long list is not moved at every event.
            if length > bound + bound / 4 + 1 {
                let own = &mut self.users.get_mut(*user as usize).own;
                own.drain(..own.len() - bound);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(repeat: bool) -> Users {
        Users::new(Retention { context: 3, fading: Fading::new(50.0, 128), repeat, own_items: 4 })
    }

    #[test]
    fn a_session_ends_where_the_user_pauses() {
        let mut users = users(true);
        let mut batch = Batch::default();
        batch.clear(0);
        // "a" pauses between 2 and 3, and comes back to 1 after it.
        for (user, item, when) in
            [("a", 1, 0), ("a", 2, 100), ("b", 9, 900), ("a", 3, 1000), ("a", 1, 1050), ("a", 3, 1100), ("a", 4, 1200)]
        {
            let user = users.row(user);
            users.capture(&mut batch, user, item, when);
        }
        let session = |gap: i64| batch.session(batch.n_queries() - 1, gap).collect::<Vec<_>>();
        assert_eq!(session(100), [3, 1]);
        assert_eq!(session(99), [0; 0]);
        // 950 from 1 to 2: an item is where it last was.
        assert_eq!(session(949), [3, 1]);
        assert_eq!(session(950), [3, 1, 2]);
    }

    #[test]
    fn the_past_is_exact_within_a_batch() {
        let mut users = users(false);
        let mut batch = Batch::default();
        batch.clear(0);
        for (user, item) in [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("a", 3), ("a", 4)] {
            let user = users.row(user);
            users.capture(&mut batch, user, item, 0);
        }
        assert_eq!(batch.with_context, [2, 3, 4, 5]);
        let contexts: Vec<_> = (0..4).map(|query| batch.context(query).to_vec()).collect();
        assert_eq!(contexts, [vec![0], vec![2, 0], vec![0, 2, 0], vec![3, 0, 2]]);
        assert_eq!(users.own(&batch, 3), [0, 2, 0, 3]);
        let own: Vec<_> = batch.own(3).iter().map(|own| own.item).collect();
        assert_eq!(own, [2, 0, 3]);
    }

    #[test]
    fn own_lists_are_bounded() {
        let mut users = users(false);
        let mut batch = Batch::default();
        for item in 0..50 {
            batch.clear(item);
            let user = users.row("a");
            users.capture(&mut batch, user, item as u32, 0);
            users.trim(&batch);
            assert!(users.users.get(0).own.len() <= 6);
            assert_eq!(users.users.get(0).own.last(), Some(&(item as u32)));
        }
    }

    #[test]
    fn a_past_goes_on_with_what_stays() {
        let mut users = users(false);
        let mut batch = Batch::default();
        batch.clear(0);
        for (user, item) in [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("c", 2), ("a", 3)] {
            let user = users.row(user);
            users.capture(&mut batch, user, item, 0);
        }
        users.keep_items(&RowRemap::of_rows(4, |row| [0, 3].contains(&row)));
        let [a, b] = [0, 1].map(|user| users.users.get(user).clone());
        assert_eq!((a.recent, a.own, a.clock), (vec![0, 1], vec![0, 0, 1], 4));
        assert_eq!(
            a.memory.iter().map(|remembered| (remembered.item, remembered.at)).collect::<Vec<_>>(),
            [(0, 3), (1, 4)]
        );
        assert!(!b.is_known());
        users.keep(&RowRemap::of_rows(3, |row| row != 1));
        assert_eq!(users.ids.iter().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(users.users.len(), 2);
        // Who has nothing left has no past to be ranked by, like somebody new.
        batch.clear(6);
        for (user, item) in [("c", 1), ("a", 1), ("b", 0), ("c", 0)] {
            let user = users.row(user);
            users.capture(&mut batch, user, item, 0);
        }
        assert_eq!((batch.with_context.clone(), batch.users.clone()), (vec![1, 3], vec![1, 0, 2, 1]));
    }
}
