//! Which changed rows are worth sending: those whose embedding has moved enough since it was published, and those that have waited
//! for long.
//!
//! The filter keeps the embedding of each row as it was published last, and lets a touched row pass once it lies further from that
//! than a threshold: its Euclidean distance, times what the row matters to lists. New rows pass at once, and so does what an item's
//! first events move; a row that moved at all passes after `max_age`. The threshold is the controller's
//! ([`RecallController`](super::recall_controller::RecallController)).
//!
//! It takes 4·d + 13 bytes a row. Nothing of it is part of the state.

use crate::table::row_remap::RowRemap;

/// The slot of a row that was never published.
const NO_SLOT: u32 = u32::MAX;
/// A feed looks at one in so many of the rows, for those that are held back: whether they are old enough, or the threshold has come
/// down.
const SWEEP: usize = 16;
/// What so many events of an item move, from its first on, is sent at once: it has to be found soon.
const FIRST_EVENTS: u64 = 3;

/// The live table, as a filter looks at it.
pub struct LiveRows<'a> {
    /// Number of rows.
    pub n_rows: usize,
    /// Writes the embedding of a row.
    pub served: &'a dyn Fn(usize, &mut [f32]),
    /// What a movement of a row counts.
    pub weight: &'a dyn Fn(usize) -> f32,
    /// Events of a row's item.
    pub events: &'a dyn Fn(usize) -> u64,
}

/// What was published of each row, and what is held back.
#[derive(Debug)]
pub struct ChangeFilter {
    dim: usize,
    /// How far a row may move before it is sent.
    pub threshold: f32,
    /// After how many milliseconds a row that moved at all is sent.
    max_age: u64,
    /// By row: where its embedding is kept.
    slots: Vec<u32>,
    /// By slot: the embedding that was published last.
    published: Vec<f32>,
    /// By slot: how far the row has moved since; 0 for one that is as published.
    moved: Vec<f32>,
    /// By slot: events of the item when the row was published last; they are counted no further than to the first that wait.
    events: Vec<u8>,
    /// By slot: when it began to differ from what was published, in seconds.
    held_since: Vec<u32>,
    /// Slots without a row.
    free: Vec<u32>,
    n_held: usize,
    /// The row that the next sweep begins with.
    sweep_at: usize,
    /// When the oldest row began to differ that is held back: of the sweep so far, and of the one before it.
    oldest: [Option<u32>; 2],
    live: Vec<f32>,
}

impl ChangeFilter {
    /// A filter of rows of `dim` numbers, of which nothing is published yet. It holds no row back for longer than `max_age`
    /// milliseconds and a few feeds.
    pub fn new(dim: usize, max_age: u64) -> Self {
        Self {
            dim,
            threshold: 0.0,
            max_age,
            slots: Vec::new(),
            published: Vec::new(),
            moved: Vec::new(),
            events: Vec::new(),
            held_since: Vec::new(),
            free: Vec::new(),
            n_held: 0,
            sweep_at: 0,
            oldest: [None; 2],
            live: vec![0.0; dim],
        }
    }

    /// Rows that moved and were not sent.
    pub fn n_held(&self) -> usize {
        self.n_held
    }

    /// For how many seconds, at `now` milliseconds, the oldest row has been held back that the newest sweeps met.
    pub fn oldest_age(&self, now: u64) -> Option<u64> {
        let oldest = self.oldest.iter().flatten().min()?;
        (self.n_held > 0).then(|| (now / 1_000).saturating_sub(u64::from(*oldest)))
    }

    /// The embedding of `row` that was published last; `None` where it never was.
    pub fn published(&self, row: usize) -> Option<&[f32]> {
        let slot = self.slots.get(row).filter(|slot| **slot != NO_SLOT)?;
        Some(self.vector(*slot))
    }

    /// The embedding of `row` that was published last, where the live one is known to differ from it.
    pub fn held(&self, row: usize) -> Option<&[f32]> {
        let slot = self.slots.get(row).filter(|slot| **slot != NO_SLOT)?;
        (self.moved[*slot as usize] > 0.0).then(|| self.vector(*slot))
    }

    fn vector(&self, slot: u32) -> &[f32] {
        &self.published[slot as usize * self.dim..][..self.dim]
    }

    /// Follows evictions, in their order.
    pub fn follow(&mut self, evictions: &[RowRemap]) {
        for rows in evictions {
            for (row, slot) in self.slots.iter().enumerate().filter(|(_, slot)| **slot != NO_SLOT) {
                if rows.get(row as u32).is_none() {
                    self.n_held -= usize::from(self.moved[*slot as usize] > 0.0);
                    self.moved[*slot as usize] = 0.0;
                    self.free.push(*slot);
                }
            }
            // Rows that came after the last feed are in the remap too: they have no slot, and are new.
            self.slots.resize(rows.n_rows().max(self.slots.len()), NO_SLOT);
            rows.keep(&mut self.slots);
        }
    }

    /// The rows of `table` that are to be sent, ascending, where those in `changed` (ascending) were touched; they count as
    /// published from here on. `now` is in milliseconds since some beginning.
    pub fn select(&mut self, changed: &[u32], now: u64, table: &LiveRows<'_>) -> Vec<u32> {
        self.slots.resize(table.n_rows, NO_SLOT);
        let mut selected: Vec<u32> =
            changed.iter().copied().filter(|row| self.is_due(*row as usize, now, table)).collect();
        let swept = self.sweep(now, table);
        if !swept.is_empty() {
            selected.extend(swept);
            selected.sort_unstable();
        }
        selected
    }

    /// The rows that differ from what was published, ascending, where those in `changed` (ascending) were touched; all rows are as
    /// published from here on.
    pub fn settle(&mut self, changed: &[u32], table: &LiveRows<'_>) -> Vec<u32> {
        self.slots.resize(table.n_rows, NO_SLOT);
        let mut selected = Vec::new();
        for row in 0..table.n_rows {
            if (self.held(row).is_some() || changed.binary_search(&(row as u32)).is_ok()) && self.look_at(row, table) {
                self.publish(row, table);
                selected.push(row as u32);
            }
        }
        selected
    }

    /// Takes all rows for published as they are.
    pub fn reset(&mut self, table: &LiveRows<'_>) {
        self.slots.resize(table.n_rows, NO_SLOT);
        for row in 0..table.n_rows {
            (table.served)(row, &mut self.live);
            self.publish(row, table);
        }
    }

    /// Looks at a touched row, and publishes it where it has moved far enough.
    fn is_due(&mut self, row: usize, now: u64, table: &LiveRows<'_>) -> bool {
        let is_other = self.look_at(row, table);
        let slot = self.slots[row];
        if slot == NO_SLOT {
            self.publish(row, table);
            return true;
        }
        if !is_other {
            self.hold(slot, 0.0);
            return false;
        }
        // The squares of the smallest differences vanish.
        let moved = (distance(self.vector(slot), &self.live) * (table.weight)(row)).max(f32::MIN_POSITIVE);
        if moved > self.threshold || known_events(table, row) > self.events[slot as usize] {
            self.publish(row, table);
            return true;
        }
        if self.moved[slot as usize] == 0.0 {
            self.held_since[slot as usize] = (now / 1_000) as u32;
        }
        self.hold(slot, moved);
        false
    }

    /// Takes the embedding of a row into `live`; whether it is other than what was published, in any bit.
    fn look_at(&mut self, row: usize, table: &LiveRows<'_>) -> bool {
        (table.served)(row, &mut self.live);
        let is_same = |published: &[f32]| self.live.iter().zip(published).all(|(a, b)| a.to_bits() == b.to_bits());
        !self.published(row).is_some_and(is_same)
    }

    /// Notes that the row in `live` is published.
    fn publish(&mut self, row: usize, table: &LiveRows<'_>) {
        let slot = match self.slots[row] {
            NO_SLOT => self.new_slot(row),
            slot => slot,
        };
        self.published[slot as usize * self.dim..][..self.dim].copy_from_slice(&self.live);
        self.events[slot as usize] = known_events(table, row);
        self.hold(slot, 0.0);
    }

    fn new_slot(&mut self, row: usize) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.published.resize(self.published.len() + self.dim, 0.0);
            self.moved.push(0.0);
            self.events.push(0);
            self.held_since.push(0);
            self.moved.len() as u32 - 1
        });
        self.slots[row] = slot;
        slot
    }

    /// Notes how far a row has moved that is not sent.
    fn hold(&mut self, slot: u32, moved: f32) {
        let before = std::mem::replace(&mut self.moved[slot as usize], moved);
        self.n_held += usize::from(moved > 0.0);
        self.n_held -= usize::from(before > 0.0);
    }

    /// The rows of a part of the table that are held back and are due by now: each row is looked at every [`SWEEP`] calls.
    fn sweep(&mut self, now: u64, table: &LiveRows<'_>) -> Vec<u32> {
        if self.sweep_at >= self.slots.len() {
            (self.sweep_at, self.oldest) = (0, [None, self.oldest[0]]);
        }
        let end = (self.sweep_at + self.slots.len().div_ceil(SWEEP)).min(self.slots.len());
        let mut due = Vec::new();
        for row in std::mem::replace(&mut self.sweep_at, end)..end {
            let slot = self.slots[row];
            if slot == NO_SLOT || self.moved[slot as usize] == 0.0 {
                continue;
            }
            let since = self.held_since[slot as usize];
            let is_old = now.saturating_sub(u64::from(since) * 1_000) >= self.max_age;
            if is_old || self.moved[slot as usize] > self.threshold {
                (table.served)(row, &mut self.live);
                self.publish(row, table);
                due.push(row as u32);
            } else {
                self.oldest[0] = Some(self.oldest[0].map_or(since, |oldest| oldest.min(since)));
            }
        }
        due
    }
}

/// Events of a row's item, counted to the first for which nothing is sent at once.
fn known_events(table: &LiveRows<'_>, row: usize) -> u8 {
    match (table.events)(row) {
        events @ 0..=FIRST_EVENTS => events as u8,
        _ => FIRST_EVENTS as u8,
    }
}

/// The Euclidean distance of two rows.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((blocks_a, rest_a), (blocks_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for block in 0..blocks_a.len().min(blocks_b.len()) {
        for lane in 0..LANES {
            let difference = blocks_a[block][lane] - blocks_b[block][lane];
            sums[lane] += difference * difference;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| (a - b) * (a - b)).sum();
    (sums.iter().sum::<f32>() + rest).sqrt()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const DIM: usize = 3;

    /// A table of named rows as the trainer has it, and what a sink of it holds.
    #[derive(Debug, Default)]
    struct Twin {
        names: Vec<u32>,
        rows: Vec<[f32; DIM]>,
        in_sink: BTreeMap<u32, [f32; DIM]>,
        touched: Vec<u32>,
        evictions: Vec<RowRemap>,
        next_name: u32,
    }

    impl Twin {
        fn feed(&mut self, filter: &mut ChangeFilter, now: u64, is_end: bool) -> usize {
            filter.follow(&std::mem::take(&mut self.evictions));
            let rows = &self.rows;
            let table = LiveRows {
                n_rows: rows.len(),
                served: &|row, out| out.copy_from_slice(&rows[row]),
                weight: &|_| 1.0,
                events: &|_| 9,
            };
            self.touched.sort_unstable();
            self.touched.dedup();
            let touched = std::mem::take(&mut self.touched);
            let selected = if is_end { filter.settle(&touched, &table) } else { filter.select(&touched, now, &table) };
            self.in_sink.retain(|name, _| self.names.contains(name));
            for row in &selected {
                self.in_sink.insert(self.names[*row as usize], rows[*row as usize]);
            }
            assert!(selected.is_sorted_by(|a, b| a < b), "{selected:?}");
            selected.len()
        }

        fn evict(&mut self, stays: impl Fn(usize) -> bool) {
            let rows = RowRemap::of_rows(self.names.len(), |row| stays(row as usize));
            rows.keep(&mut self.names);
            rows.keep(&mut self.rows);
            rows.renumber(&mut self.touched);
            self.evictions.push(rows);
        }

        fn touch(&mut self, row: usize, by: f32) {
            self.rows[row][0] += by;
            self.touched.push(row as u32);
        }

        fn add(&mut self) {
            self.names.push(self.next_name);
            self.rows.push([self.next_name as f32; DIM]);
            self.touched.push(self.names.len() as u32 - 1);
            self.next_name += 1;
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Add,
        Touch(usize, f32),
        Evict(Vec<bool>),
        Feed,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            3 => Just(Operation::Add),
            6 => (any::<usize>(), prop_oneof![Just(0.0_f32), Just(1e-30), Just(0.3), Just(2.0)])
                .prop_map(|(row, by)| Operation::Touch(row, by)),
            1 => proptest::collection::vec(any::<bool>(), 8).prop_map(Operation::Evict),
            3 => Just(Operation::Feed),
        ]
    }

    proptest! {
        /// No row in the sink is further from the live one than the threshold, and in the end all are the same to the bit.
        #[test]
        fn sink_is_never_further_away_than_the_threshold_and_the_same_in_the_end(
            operations in proptest::collection::vec(operation(), 0..120)
        ) {
            let (mut twin, mut filter) = (Twin::default(), ChangeFilter::new(DIM, u64::MAX));
            filter.threshold = 0.5;
            for operation in operations {
                match operation {
                    Operation::Add => twin.add(),
                    Operation::Touch(..) if twin.rows.is_empty() => {}
                    Operation::Touch(row, by) => twin.touch(row % twin.rows.len(), by),
                    Operation::Evict(stays) => twin.evict(|row| stays[row % stays.len()]),
                    Operation::Feed => {
                        twin.feed(&mut filter, 0, false);
                        for (name, live) in twin.names.iter().zip(&twin.rows) {
                            let held = twin.in_sink[name];
                            prop_assert!(distance(live, &held) <= 0.5, "{name}: {live:?}, {held:?}");
                        }
                        let differing = twin.names.iter().zip(&twin.rows).filter(|(name, live)| twin.in_sink[name] != **live);
                        prop_assert_eq!(filter.n_held(), differing.count());
                    }
                }
            }
            twin.feed(&mut filter, 0, true);
            prop_assert_eq!(filter.n_held(), 0);
            let live: BTreeMap<u32, [f32; DIM]> = twin.names.iter().copied().zip(twin.rows.iter().copied()).collect();
            prop_assert_eq!(&twin.in_sink, &live);
        }
    }

    #[test]
    fn what_the_first_events_of_an_item_move_is_sent_at_once() {
        let mut filter = ChangeFilter::new(1, u64::MAX);
        filter.threshold = 9.0;
        let mut feed = |number: f32, events: u64| {
            let table =
                LiveRows { n_rows: 1, served: &|_, out| out[0] = number, weight: &|_| 1.0, events: &|_| events };
            filter.select(&[0], 0, &table).len()
        };
        let fed = [(0.1, 1), (0.2, 1), (0.3, 2), (0.4, 2), (0.5, 3), (0.6, 3), (0.7, 4), (0.8, 5)];
        assert_eq!(fed.map(|(number, events)| feed(number, events)), [1, 0, 1, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn row_that_moved_at_all_is_sent_once_it_is_old_enough_or_the_threshold_came_down() {
        let (mut twin, mut filter) = (Twin::default(), ChangeFilter::new(DIM, 60_000));
        filter.threshold = 0.5;
        (0..3).for_each(|_| twin.add());
        assert_eq!(twin.feed(&mut filter, 0, false), 3, "new rows are sent at once");
        twin.touch(1, 0.25);
        assert_eq!((twin.feed(&mut filter, 1_000, false), filter.n_held()), (0, 1));
        let sent = |twin: &mut Twin, filter: &mut ChangeFilter, now: u64| -> usize {
            (0..SWEEP).map(|_| twin.feed(filter, now, false)).sum()
        };
        assert_eq!(sent(&mut twin, &mut filter, 30_000), 0);
        assert_eq!(filter.oldest_age(30_000), Some(29));
        assert_eq!(sent(&mut twin, &mut filter, 61_000), 1);
        assert_eq!((filter.n_held(), filter.oldest_age(61_000)), (0, None));
        twin.touch(2, 0.25);
        assert_eq!(twin.feed(&mut filter, 62_000, false), 0);
        filter.threshold = 0.1;
        assert_eq!(sent(&mut twin, &mut filter, 62_000), 1);
        // A touch that moves nothing sends nothing.
        twin.touch(2, 0.0);
        assert_eq!((twin.feed(&mut filter, 63_000, false), filter.n_held()), (0, 0));
    }
}
