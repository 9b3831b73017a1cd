//! The users' histories: each user's newest items, memory and own items, exact event by event.

use super::repeat_memory::{Moment, NO_PREDECESSOR, RememberedItem, RepeatDecay};
use super::situation::{SESSION_GAP_MS, Situation};
use super::{Batch, NOBODY, OwnItem};
use crate::table::records::{Records, TableRecord};
use crate::table::row_remap::RowRemap;

/// How far one event moves the share of a user's repeats.
const REPEAT_RATE_STEP: f32 = 0.07;

/// What one user had, as far as it is remembered.
#[derive(Debug, Default, PartialEq)]
pub struct UserHistory {
    /// Events of the user so far.
    pub clock: u32,
    /// Events in the newest session ([`SESSION_GAP_MS`]).
    pub session_events: u32,
    /// Share of the events whose item was remembered, newer ones counting more (`REPEAT_RATE_STEP`).
    pub repeat_rate: f32,
    /// The newest items, oldest first; the same item may be there twice.
    pub recent: Vec<u32>,
    /// The newest distinct items, least recent first.
    pub memory: Vec<RememberedItem>,
    /// All items, in the order they came; kept only where own items leave the ranking.
    pub own: Vec<u32>,
}

impl Clone for UserHistory {
    fn clone(&self) -> Self {
        let mut clone = Self::default();
        clone.clone_from(self);
        clone
    }

    /// Copies lists into the memory of those that were there: histories are copied as often as views of them are made.
    fn clone_from(&mut self, source: &Self) {
        let Self { clock, session_events, repeat_rate, recent, memory, own } = source;
        (self.clock, self.session_events, self.repeat_rate) = (*clock, *session_events, *repeat_rate);
        self.recent.clone_from(recent);
        self.memory.clone_from(memory);
        self.own.clone_from(own);
    }
}

impl TableRecord for UserHistory {}

impl UserHistory {
    /// Whether there is an item to make a context of.
    pub fn is_known(&self) -> bool {
        !self.recent.is_empty()
    }

    fn newest_item(&self) -> u32 {
        self.recent.last().copied().unwrap_or(NO_PREDECESSOR)
    }

    /// Remaps items after eviction; evicted items leave the history.
    fn keep_items(&mut self, rows: &RowRemap) {
        let Self { clock: _, session_events: _, repeat_rate: _, recent, memory, own } = self;
        rows.renumber(recent);
        rows.renumber_by(memory, |remembered| &mut remembered.item);
        memory.iter_mut().for_each(|remembered| remembered.keep_predecessors(rows));
        rows.renumber(own);
    }
}

/// How much of a history is kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Number of newest items that make a context.
    pub context: usize,
    /// Decay and capacity of the memory behind the repetition term.
    pub decay: RepeatDecay,
    /// Whether items may recur: then the repetition term is looked up, otherwise own items are listed.
    pub repeat: bool,
    /// Longest list of own items.
    pub own_items: usize,
}

impl Retention {
    /// Adds an event of user `row` with `item` to `batch`, the context of which is `history`, if there is one.
    fn add_event(&self, batch: &mut Batch, (row, item): (u32, u32), history: &UserHistory, timestamp: i64) {
        let event = batch.items.len() as u32;
        batch.users.push(row);
        batch.items.push(item);
        batch.timestamps.push(timestamp);
        if !history.is_known() {
            return;
        }
        let newest = history.memory.last().map(|remembered| remembered.timestamp);
        batch.with_context.push(event);
        batch.contexts.extend(history.recent.iter().rev());
        batch.context_starts.push(batch.contexts.len() as u32);
        let situation = Situation::of(history.clock, newest, history.session_events, timestamp);
        let moment = Moment {
            clock: history.clock,
            newest: history.newest_item(),
            now: timestamp,
            repeat_rate: history.repeat_rate,
            situation,
        };
        batch.own.extend(history.memory.iter().map(|remembered| OwnItem {
            item: remembered.item,
            // Without meaning where own items leave the ranking.
            buckets: if self.repeat { self.decay.buckets(remembered, &moment) } else { Default::default() },
            count: self.decay.count(remembered, history.clock),
            timestamp: remembered.timestamp,
        }));
        batch.own_starts.push(batch.own.len() as u32);
        batch.situations.push(situation);
        batch.all_own.push(history.own.len() as u32);
    }

    /// Adds an event with `item` at `timestamp` to `history`. Gives whether the item was remembered.
    fn advance(&self, history: &mut UserHistory, item: u32, timestamp: i64) -> bool {
        let newest = history.memory.last().map(|remembered| remembered.timestamp);
        let is_same_session = newest.is_some_and(|newest| timestamp.saturating_sub(newest) <= SESSION_GAP_MS);
        history.clock = history.clock.saturating_add(1);
        history.session_events = if is_same_session { history.session_events.saturating_add(1) } else { 1 };
        let predecessor = history.newest_item();
        if history.recent.len() == self.context {
            history.recent.remove(0);
        }
        history.recent.push(item);
        let is_repeat = self.decay.remember(&mut history.memory, item, predecessor, history.clock, timestamp);
        history.repeat_rate += REPEAT_RATE_STEP * (f32::from(is_repeat) - history.repeat_rate);
        if !self.repeat {
            history.own.push(item);
        }
        is_repeat
    }
}

/// The histories of all users, by row.
#[derive(Debug)]
pub struct UserHistories {
    records: Records<UserHistory>,
    retention: Retention,
}

impl UserHistories {
    /// Histories of no users yet.
    pub fn new(retention: Retention) -> Self {
        Self { records: Records::default(), retention }
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds the empty history of a new user, in the next row.
    pub fn push(&mut self) {
        self.records.push(UserHistory::default());
    }

    /// Adds the history of a user that a checkpoint holds, in the next row.
    pub fn restore(&mut self, history: UserHistory) {
        self.records.push(history);
    }

    /// The history of the user in row `user`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, user: u32) -> &UserHistory {
        self.records.get(user as usize)
    }

    /// All histories, in the order of their rows.
    pub fn iter(&self) -> impl Iterator<Item = &UserHistory> + Clone {
        self.records.iter()
    }

    /// A copy of the histories as they are, which shares with them what does not change: [`crate::table::chunks`].
    #[must_use]
    pub fn snapshot(&mut self) -> Self {
        Self { records: self.records.freeze(), retention: self.retention.clone() }
    }

    /// Whether items may recur: then own items stay in the ranking, and have the repetition term.
    pub fn items_recur(&self) -> bool {
        self.retention.repeat
    }

    /// The history of somebody who had `items`, oldest first, all of them at `timestamp`: of whom no more is known.
    pub fn of_items(&self, items: &[u32], timestamp: i64) -> UserHistory {
        let mut history = UserHistory::default();
        for item in items {
            self.retention.advance(&mut history, *item, timestamp);
        }
        history
    }

    /// Adds an event to `batch` that is still to come, at `timestamp`, with `history` as its context: a query without an answer, whose
    /// item is [`NOBODY`]. It is one of user `row`, or of [`NOBODY`].
    pub fn ask(&self, batch: &mut Batch, row: u32, history: &UserHistory, timestamp: i64) {
        self.retention.add_event(batch, (row, NOBODY), history, timestamp);
        batch.repeats.push(false);
    }

    /// Captures the history of the user in row `row` into `batch` as the context of an event with `item` at `timestamp`,
    /// then adds the event to the history.
    pub fn capture(&mut self, batch: &mut Batch, row: u32, item: u32, timestamp: i64) {
        let history = self.records.get_mut(row as usize);
        self.retention.add_event(batch, (row, item), history, timestamp);
        batch.repeats.push(self.retention.advance(history, item, timestamp));
    }

    /// Captures a history likewise, and leaves it as it is.
    pub fn look(&self, batch: &mut Batch, row: u32, item: u32, timestamp: i64) {
        self.retention.add_event(batch, (row, item), self.get(row), timestamp);
    }

    /// Captures into `batch` an event of a user without a row: it has no context, and becomes part of no history.
    pub fn capture_nobody(batch: &mut Batch, item: u32, timestamp: i64) {
        batch.users.push(NOBODY);
        batch.items.push(item);
        batch.timestamps.push(timestamp);
        batch.repeats.push(false);
    }

    /// All the items that the user of query `query` had before it.
    pub fn own(&self, batch: &Batch, query: usize) -> &[u32] {
        &self.get(batch.user(query)).own[..batch.all_own[query] as usize]
    }

    /// Remaps items after eviction; evicted items leave the histories.
    pub fn keep_items(&mut self, rows: &RowRemap) {
        (0..self.records.len()).for_each(|user| self.records.get_mut(user).keep_items(rows));
    }

    /// Remaps users after eviction.
    pub fn keep(&mut self, rows: &RowRemap) {
        let Self { records, retention: _ } = self;
        records.keep(rows);
    }

    /// Shortens the lists of own items of the users of `batch` to their bound; between batches only, since a batch refers to
    /// the lists.
    pub fn trim(&mut self, batch: &Batch) {
        let bound = self.retention.own_items;
        for user in batch.users.iter().filter(|user| **user != NOBODY) {
            let length = self.records.get(*user as usize).own.len();
            // Some slack, so that a long list is not moved at every event.
            if length > bound + bound / 4 + 1 {
                let own = &mut self.records.get_mut(*user as usize).own;
                own.drain(..own.len() - bound);
            }
        }
    }

    /// A frozen copy of the histories: [`crate::table::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Records<UserHistory> {
        self.records.freeze()
    }

    /// Takes back histories that frozen copies which are gone had shared: [`Records::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.records.thaw(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ids::Ids;

    /// Histories, and the names of the users in the order of their rows.
    struct World {
        ids: Ids,
        histories: UserHistories,
    }

    impl World {
        fn new(repeat: bool) -> Self {
            let retention = Retention { context: 3, decay: RepeatDecay::new(50.0, 128), repeat, own_items: 4 };
            Self { ids: Ids::default(), histories: UserHistories::new(retention) }
        }

        fn capture(&mut self, batch: &mut Batch, user: &str, item: u32, timestamp: i64) {
            let row = self.ids.intern(user);
            if row as usize == self.histories.len() {
                self.histories.push();
            }
            self.histories.capture(batch, row, item, timestamp);
        }
    }

    #[test]
    fn session_ends_at_a_pause_of_the_user() {
        let mut users = World::new(true);
        let mut batch = Batch::default();
        batch.clear(0);
        // "a" pauses between 2 and 3, and comes back to 1 after it.
        for (user, item, when) in
            [("a", 1, 0), ("a", 2, 100), ("b", 9, 900), ("a", 3, 1000), ("a", 1, 1050), ("a", 3, 1100), ("a", 4, 1200)]
        {
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
    fn capture_is_exact_within_a_batch() {
        let mut users = World::new(false);
        let mut batch = Batch::default();
        batch.clear(0);
        for (user, item) in [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("a", 3), ("a", 4)] {
            users.capture(&mut batch, user, item, 0);
        }
        assert_eq!(batch.with_context, [2, 3, 4, 5]);
        let contexts: Vec<_> = (0..4).map(|query| batch.context(query).to_vec()).collect();
        assert_eq!(contexts, [vec![0], vec![2, 0], vec![0, 2, 0], vec![3, 0, 2]]);
        assert_eq!(users.histories.own(&batch, 3), [0, 2, 0, 3]);
        let own: Vec<_> = batch.own(3).iter().map(|own| own.item).collect();
        assert_eq!(own, [2, 0, 3]);
    }

    #[test]
    fn trim_bounds_lists_of_own_items() {
        let mut users = World::new(false);
        let mut batch = Batch::default();
        for item in 0..50 {
            batch.clear(item);
            users.capture(&mut batch, "a", item as u32, 0);
            users.histories.trim(&batch);
            assert!(users.histories.get(0).own.len() <= 6);
            assert_eq!(users.histories.get(0).own.last(), Some(&(item as u32)));
        }
    }

    #[test]
    fn histories_go_on_after_eviction_of_items_and_users() {
        let mut users = World::new(false);
        let mut batch = Batch::default();
        batch.clear(0);
        for (user, item) in [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("c", 2), ("a", 3)] {
            users.capture(&mut batch, user, item, 0);
        }
        users.histories.keep_items(&RowRemap::of_rows(4, |row| [0, 3].contains(&row)));
        let [a, b] = [0, 1].map(|user| users.histories.get(user).clone());
        assert_eq!((a.recent, a.own, a.clock), (vec![0, 1], vec![0, 0, 1], 4));
        assert_eq!(
            a.memory.iter().map(|remembered| (remembered.item, remembered.clock)).collect::<Vec<_>>(),
            [(0, 3), (1, 4)]
        );
        assert!(!b.is_known());
        let rows = RowRemap::of_rows(3, |row| row != 1);
        users.ids.keep(&rows);
        users.histories.keep(&rows);
        assert_eq!(users.ids.iter().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(users.histories.len(), 2);
        // A user with nothing left has no context to be ranked by, like a new user.
        batch.clear(6);
        for (user, item) in [("c", 1), ("a", 1), ("b", 0), ("c", 0)] {
            users.capture(&mut batch, user, item, 0);
        }
        assert_eq!((batch.with_context.clone(), batch.users.clone()), (vec![1, 3], vec![1, 0, 2, 1]));
    }
}
