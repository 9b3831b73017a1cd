//! Which items are alive: seen, and not longer ago than the horizon.

use std::collections::VecDeque;

use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

const DEAD: u32 = u32::MAX;

/// The live items, in an order that changes as they come and go.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveItems {
    /// An item lives on for so many events after its last one.
    horizon: u64,
    /// Events so far.
    now: u64,
    items: Vec<u32>,
    /// The place of each item in `items`.
    places: Vec<u32>,
    /// The number of each item's last event; empty where the horizon is infinite.
    last: Vec<u64>,
    /// (number, item) of the events within the horizon.
    queue: VecDeque<(u64, u32)>,
    died: Vec<u32>,
}

impl LiveItems {
    /// Nobody yet; `horizon` of `u64::MAX`: what lives once lives for ever.
    pub fn new(horizon: u64) -> Self {
        Self {
            horizon,
            now: 0,
            items: Vec::new(),
            places: Vec::new(),
            last: Vec::new(),
            queue: VecDeque::new(),
            died: Vec::new(),
        }
    }

    /// Adds the events of a batch, and removes the items whose last event is too long ago.
    pub fn observe(&mut self, items: &[u32]) {
        self.died.clear();
        for item in items {
            let place = *item as usize;
            if place >= self.places.len() {
                self.places.resize(place + 1, DEAD);
            }
            if self.places[place] == DEAD {
                self.places[place] = self.items.len() as u32;
                self.items.push(*item);
            }
            if self.horizon < u64::MAX {
                self.last.resize(self.places.len(), 0);
                self.last[place] = self.now;
                self.queue.push_back((self.now, *item));
            }
            self.now += 1;
        }
        while let Some((number, item)) = self.queue.front().copied()
            && number.saturating_add(self.horizon) < self.now
        {
            self.queue.pop_front();
            if self.last[item as usize] == number {
                self.bury(item);
            }
        }
    }

    fn bury(&mut self, item: u32) {
        let place = std::mem::replace(&mut self.places[item as usize], DEAD);
        self.items.swap_remove(place as usize);
        if let Some(moved) = self.items.get(place as usize) {
            self.places[*moved as usize] = place;
        }
        self.died.push(item);
    }

    /// Remaps item rows after an eviction. Evicted items are not reported as dead: every holder of items remaps its own rows.
    pub fn keep(&mut self, items: &RowRemap) {
        self.died.clear();
        items.renumber(&mut self.items);
        self.places.clear();
        self.places.resize(items.n_kept(), DEAD);
        for (place, item) in self.items.iter().enumerate() {
            self.places[*item as usize] = place as u32;
        }
        items.keep(&mut self.last);
        self.queue.retain_mut(|(_, item)| {
            let new = items.get(*item);
            *item = new.unwrap_or(*item);
            new.is_some()
        });
    }

    /// The live items.
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// The items that died with the newest batch.
    pub fn died(&self) -> &[u32] {
        &self.died
    }

    /// Whether `item` lives.
    pub fn contains(&self, item: u32) -> bool {
        self.places.get(item as usize).is_some_and(|place| *place != DEAD)
    }

    /// Saves the state that [`Self::restore`] reads.
    pub fn save(&self, out: &mut StateDict) {
        let halves = |number: u64| [number as u32, (number >> 32) as u32];
        out.put_u32("now", halves(self.now).to_vec());
        out.put_u32("items", self.items.clone());
        out.put_u32("queue", self.queue.iter().map(|(_, item)| *item).collect());
        out.put_u32("queue_numbers", self.queue.iter().flat_map(|(number, _)| halves(*number)).collect());
    }

    /// Restores the live items, where there are `n_items` items altogether.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restore(horizon: u64, n_items: usize, saved: &mut StateDict) -> Result<Self, StateDictError> {
        let whole = |halves: &[u32]| u64::from(halves[0]) | u64::from(halves[1]) << 32;
        let mut live = Self::new(horizon);
        let now = saved.take_u32("now")?;
        live.now = if now.len() == 2 { whole(&now) } else { return Err(saved.error("now", "is not one number")) };
        live.items = saved.take_u32("items")?;
        live.places = vec![DEAD; n_items];
        for (place, item) in live.items.iter().enumerate() {
            match live.places.get_mut(*item as usize) {
                Some(free) if *free == DEAD => *free = place as u32,
                _ => return Err(saved.error("items", "names an item twice, or one that is not there")),
            }
        }
        let (items, numbers) = (saved.take_u32("queue")?, saved.take_u32("queue_numbers")?);
        if numbers.len() != 2 * items.len() || items.iter().any(|item| *item as usize >= n_items) {
            return Err(saved.error("queue", "names an item that is not there"));
        }
        if horizon < u64::MAX {
            live.last = vec![0; n_items];
            for (item, number) in items.into_iter().zip(numbers.chunks_exact(2)) {
                live.last[item as usize] = whole(number);
                live.queue.push_back((whole(number), item));
            }
            let ascending = live.queue.iter().zip(live.queue.iter().skip(1)).all(|(one, next)| one.0 < next.0);
            let past = live.queue.back().is_none_or(|(number, _)| *number < live.now);
            let alive = live.queue.iter().all(|(_, item)| live.contains(*item));
            let mut queued: Vec<u32> = live.queue.iter().map(|(_, item)| *item).collect();
            queued.sort_unstable();
            queued.dedup();
            if !(ascending && past && alive && queued.len() == live.items.len()) {
                return Err(saved.error("queue", "is not that of the live items"));
            }
        }
        Ok(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of all events, by names that outlast rows.
        #[test]
        fn live_items_came_within_horizon_and_have_a_row(
            rounds in proptest::collection::vec(
                (proptest::collection::vec(0u32..30, 0..20), proptest::option::of(proptest::collection::vec(any::<bool>(), 30))),
                0..25,
            ),
            horizon in prop_oneof![Just(u64::MAX), 0u64..120],
        ) {
            let mut live = LiveItems::new(horizon);
            // By row: the item's name, and its last event.
            let (mut rows, mut now): (Vec<(u32, u64)>, u64) = (Vec::new(), 0);
            for (names, stays) in rounds {
                let mut batch = Vec::new();
                for name in names {
                    let row = rows.iter().position(|(other, _)| *other == name).unwrap_or(rows.len());
                    rows.resize(rows.len().max(row + 1), (name, 0));
                    rows[row].1 = now;
                    now += 1;
                    batch.push(row as u32);
                }
                live.observe(&batch);
                if let Some(stays) = stays {
                    let renumbering = RowRemap::of_rows(rows.len(), |row| stays[row as usize]);
                    live.keep(&renumbering);
                    renumbering.keep(&mut rows);
                }
                for (row, (_, last)) in rows.iter().enumerate() {
                    prop_assert_eq!(live.contains(row as u32), last.saturating_add(horizon) >= now);
                }
                let mut items = live.items().to_vec();
                items.sort_unstable();
                let expected: Vec<u32> = (0..rows.len() as u32).filter(|row| live.contains(*row)).collect();
                prop_assert_eq!(items, expected);
                let mut saved = StateDict::default();
                live.save(&mut saved);
                let restored = LiveItems::restore(horizon, rows.len(), &mut saved).unwrap();
                prop_assert_eq!(restored.items(), live.items());
            }
        }
    }
}
