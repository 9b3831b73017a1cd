//! A user's memory: the newest distinct items, each with a decayed count, and when it last came.
//!
//! It stands behind the repetition term ρ: people come back to what they had, and how likely depends on how often, how
//! many of the user's own events ago, and how long ago; on whether it is about time again, as the item went; and on whether
//! it used to come after the item that came last.

use super::situation::Situation;
use crate::table::row_remap::RowRemap;

/// Number of buckets of the decayed count.
pub const COUNT_BUCKETS: usize = 20;
/// Number of buckets of the user's events since.
pub const RECENCY_BUCKETS: usize = 20;
/// Number of buckets of the time since.
pub const AGE_BUCKETS: usize = 28;
/// Number of buckets of how due an item is.
pub const DUE_BUCKETS: usize = 45;
/// Number of buckets of the transitions: how many predecessors are known, by how many of them are the item that came last.
pub const TRANSITION_BUCKETS: usize = (PREDECESSORS + 1) * (PREDECESSORS + 1);
/// Number of buckets of the share of a user's events that are repeats.
pub const RATE_BUCKETS: usize = 12;
/// How many of an item's latest predecessors are kept.
pub const PREDECESSORS: usize = 4;

/// Stands in place of a predecessor's row where there is none.
pub const NO_PREDECESSOR: u32 = u32::MAX;

/// The logarithmic buckets by which ρ is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Bucket of the decayed count, in half octaves; a count of 1 is in bucket 8.
    pub count: u8,
    /// Bucket of the number of the user's events since, in half octaves.
    pub recency: u8,
    /// Bucket of the seconds since, in octaves.
    pub age: u8,
    /// Bucket of the time since over the item's mean interval for the user, in quarter octaves; 0 where it never came back.
    pub due: u8,
    /// How many predecessors are known, and how many of them are the user's newest item.
    pub transition: u8,
    /// Bucket of the share of the user's events that are repeats.
    pub rate: u8,
    /// Bucket of the seconds since the user's newest event, in octaves.
    pub gap: u8,
    /// Bucket of the place in the session.
    pub session: u8,
}

/// What a user's remembered items are looked up by together, at one event.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The user's events so far.
    pub clock: u32,
    /// The user's newest item.
    pub newest: u32,
    /// Time of the event, milliseconds since 1970 UTC.
    pub now: i64,
    /// The share of the user's events that were repeats, newer ones counting more.
    pub repeat_rate: f32,
    /// The situation of the event.
    pub situation: Situation,
}

/// An item in a user's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RememberedItem {
    /// The item's row.
    pub item: u32,
    /// The user's clock (events so far) at their newest event with the item.
    pub clock: u32,
    /// How often the user had the item, decayed to that clock.
    pub count: f64,
    /// Time of the user's newest event with the item, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// How often the user came back to the item, at a later time each.
    pub returns: u32,
    /// Mean seconds from one of these times to the next; 0 before the first return.
    pub interval: f32,
    /// The items that came just before it, newest first; then [`NO_PREDECESSOR`].
    pub predecessors: [u32; PREDECESSORS],
}

impl RememberedItem {
    /// Adds an event at `now`, after an event with `predecessor`.
    fn come_again(&mut self, predecessor: u32, now: i64) {
        if now > self.timestamp {
            self.returns = self.returns.saturating_add(1);
            self.interval += (seconds_between(self.timestamp, now) as f32 - self.interval) / self.returns as f32;
        }
        if predecessor != NO_PREDECESSOR {
            self.predecessors.rotate_right(1);
            self.predecessors[0] = predecessor;
        }
    }

    /// The predecessors that are known, newest first.
    pub fn known_predecessors(&self) -> &[u32] {
        let known = self.predecessors.iter().take_while(|item| **item != NO_PREDECESSOR).count();
        &self.predecessors[..known]
    }

    /// Remaps predecessors after eviction; evicted ones are forgotten.
    pub(super) fn keep_predecessors(&mut self, rows: &RowRemap) {
        let kept = self.predecessors.map(|item| rows.get(item));
        self.predecessors = [NO_PREDECESSOR; PREDECESSORS];
        self.predecessors.iter_mut().zip(kept.into_iter().flatten()).for_each(|(place, item)| *place = item);
    }

    fn transition(&self, newest: u32) -> u8 {
        let known = self.known_predecessors();
        let matches = known.iter().filter(|item| **item == newest).count();
        (known.len() * (PREDECESSORS + 1) + matches) as u8
    }
}

fn seconds_between(earlier: i64, later: i64) -> f64 {
    later.saturating_sub(earlier).max(0) as f64 / 1000.0
}

/// How remembered counts decay, and how many items are remembered; shared by all users.
#[derive(Debug, Clone)]
pub struct RepeatDecay {
    half_life: f64,
    capacity: usize,
    /// 2^(−n/half-life) for small n.
    table: Vec<f64>,
}

impl RepeatDecay {
    /// Counts halve in `half_life` of the user's events; `capacity` distinct items are kept.
    pub fn new(half_life: f64, capacity: usize) -> Self {
        let table = (0..1024).map(|ago| (-f64::from(ago) / half_life).exp2()).collect();
        Self { half_life, capacity, table }
    }

    #[inline]
    fn factor(&self, ago: u32) -> f64 {
        self.table.get(ago as usize).copied().unwrap_or_else(|| (-f64::from(ago) / self.half_life).exp2())
    }

    /// What the repetition term is looked up by at `moment`.
    #[inline]
    pub fn buckets(&self, remembered: &RememberedItem, moment: &Moment) -> Buckets {
        let Moment { clock, newest, now, repeat_rate, situation } = *moment;
        let ago = clock - remembered.clock;
        let count = self.count(remembered, clock) + 1e-9;
        let recency = f64::from(ago) + 1.0;
        let since = seconds_between(remembered.timestamp, now);
        let due = since / f64::from(remembered.interval) + 1e-6;
        let bucket = |octave: i64, buckets: usize| octave.clamp(0, buckets as i64 - 1) as u8;
        Buckets {
            // floor(2·log₂ x) = floor(log₂ x²)
            count: bucket(floor_log2(count * count) + 8, COUNT_BUCKETS),
            recency: bucket(floor_log2(recency * recency), RECENCY_BUCKETS),
            age: bucket(floor_log2(1.0 + since), AGE_BUCKETS),
            due: match remembered.returns {
                0 => 0,
                // floor(4·log₂ x): what is due comes soon after, so that a quarter more or less is told apart.
                _ => 1 + bucket(floor_log2(due * due * (due * due)) + 24, DUE_BUCKETS - 1),
            },
            transition: remembered.transition(newest),
            rate: bucket((repeat_rate * RATE_BUCKETS as f32) as i64, RATE_BUCKETS),
            gap: situation.gap,
            session: situation.session,
        }
    }

    /// How often the user had the item, decayed to where their clock shows `clock`.
    #[inline]
    pub fn count(&self, remembered: &RememberedItem, clock: u32) -> f64 {
        remembered.count * self.factor(clock - remembered.clock)
    }

    /// Adds `item` at time `now`, after an event with `predecessor` ([`NO_PREDECESSOR`] at the first), to `memory` (least
    /// recent first), the user's clock having moved on to `clock`. Gives whether it was remembered.
    pub fn remember(
        &self,
        memory: &mut Vec<RememberedItem>,
        item: u32,
        predecessor: u32,
        clock: u32,
        now: i64,
    ) -> bool {
        let place = memory.iter().rposition(|remembered| remembered.item == item);
        let remembered = match place {
            Some(place) => {
                let mut before = memory.remove(place);
                before.come_again(predecessor, now);
                let count = 1.0 + before.count * self.factor(clock - before.clock);
                RememberedItem { clock, count, timestamp: now, ..before }
            }
            None => {
                let mut predecessors = [NO_PREDECESSOR; PREDECESSORS];
                predecessors[0] = predecessor;
                RememberedItem { item, clock, count: 1.0, timestamp: now, returns: 0, interval: 0.0, predecessors }
            }
        };
        if memory.len() == self.capacity {
            memory.remove(0);
        }
        memory.push(remembered);
        place.is_some()
    }
}

/// ⌊log₂ x⌋ of a positive normal number: its exponent.
#[inline]
pub(super) fn floor_log2(x: f64) -> i64 {
    (x.to_bits() >> 52) as i64 - 1023
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repeat_memory_decays_and_adds_counts() {
        let decay = RepeatDecay::new(50.0, 4);
        let mut memory = Vec::new();
        decay.remember(&mut memory, 7, NO_PREDECESSOR, 1, 1_000);
        decay.remember(&mut memory, 8, 7, 2, 2_000);
        decay.remember(&mut memory, 7, 8, 51, 3_000);
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(memory[1].count, 1.5);
        let moment = |clock, now| Moment {
            clock,
            newest: 7,
            now,
            repeat_rate: 0.5,
            situation: Situation::of(clock, None, 0, now),
        };
        let buckets = decay.buckets(&memory[1], &moment(51, 3_000));
        // 2·log₂ 1.5 = 1.17; nothing since; no time since; came back once, not due at all; one predecessor, another one.
        let of_user = Buckets { rate: 6, gap: 27, ..Buckets::default() };
        assert_eq!(buckets, Buckets { count: 9, recency: 0, age: 0, due: 1, transition: 5, ..of_user });
        let buckets = decay.buckets(&memory[0], &moment(54, 2_000 + 7_000));
        // 52 events ago: 2^(−52/50), 2·log₂ 53 = 11.5, log₂ 8 = 3; never came back; its one predecessor is the newest item.
        assert_eq!(buckets, Buckets { count: 5, recency: 11, age: 3, due: 0, transition: 6, ..of_user });
    }

    #[test]
    fn repeat_memory_drops_the_least_recent() {
        let decay = RepeatDecay::new(50.0, 2);
        let mut memory = Vec::new();
        for (clock, item) in [1, 2, 1, 3].into_iter().enumerate() {
            decay.remember(&mut memory, item, 9, clock as u32 + 1, 0);
        }
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn repeat_memory_keeps_intervals_and_the_latest_predecessors() {
        let decay = RepeatDecay::new(50.0, 4);
        let mut memory = Vec::new();
        // Twice at the same time is one visit.
        for (clock, (predecessor, seconds)) in
            [(NO_PREDECESSOR, 0), (1, 0), (2, 10), (1, 40), (3, 100), (1, 100)].iter().enumerate()
        {
            decay.remember(&mut memory, 7, *predecessor, clock as u32 + 1, seconds * 1000);
        }
        let mut seven = memory[0];
        assert_eq!((seven.returns, seven.known_predecessors()), (3, &[1, 3, 1, 2][..]));
        assert!((seven.interval - 100.0 / 3.0).abs() < 1e-4);
        let moment = |newest, seconds: i64| Moment {
            clock: 6,
            newest,
            now: 100_000 + seconds * 1000,
            repeat_rate: 1.0,
            situation: Situation::default(),
        };
        // Four predecessors, two of them 1; as long ago as one mean interval, and a bit.
        let buckets = decay.buckets(&seven, &moment(1, 34));
        assert_eq!((buckets.transition, buckets.due, buckets.rate), (22, 25, 11));
        let buckets = decay.buckets(&seven, &moment(9, 68));
        assert_eq!((buckets.transition, buckets.due), (20, 29));
        seven.keep_predecessors(&RowRemap::of_rows(8, |row| row != 1));
        assert_eq!(seven.known_predecessors(), [2, 1]);
    }

    proptest! {
        #[test]
        fn floor_log2_agrees_with_logarithms(x in 1e-9f64..1e9) {
            let truth = (2.0 * x.log2()).floor() as i64;
            let near = (2.0 * x.log2()).fract().abs();
            prop_assume!(near > 1e-9 && near < 1.0 - 1e-9);
            prop_assert_eq!(floor_log2(x * x), truth);
        }

        #[test]
        fn repeat_memory_is_bounded_and_distinct(items in proptest::collection::vec(0u32..20, 0..200)) {
            let decay = RepeatDecay::new(5.0, 8);
            let mut memory = Vec::new();
            for (clock, item) in items.iter().enumerate() {
                decay.remember(&mut memory, *item, 9, clock as u32 + 1, clock as i64);
                prop_assert_eq!(memory.last().unwrap().item, *item);
            }
            let mut rows: Vec<u32> = memory.iter().map(|remembered| remembered.item).collect();
            rows.sort_unstable();
            rows.dedup();
            prop_assert_eq!(rows.len(), memory.len());
            prop_assert!(memory.len() <= 8);
        }
    }
}
