//! A user's memory: the newest distinct items, each with a decayed count, and when it last came.
//!
//! It stands behind the repetition term ρ: people come back to what they had, and how likely depends on how often, how
//! many of the user's own events ago, and how long ago.

/// Number of buckets of the decayed count.
pub const COUNT_BUCKETS: usize = 20;
/// Number of buckets of the user's events since.
pub const RECENCY_BUCKETS: usize = 20;
/// Number of buckets of the time since.
pub const AGE_BUCKETS: usize = 28;

/// The logarithmic buckets by which ρ is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Bucket of the decayed count, in half octaves; a count of 1 is in bucket 8.
    pub count: u8,
    /// Bucket of the number of the user's events since, in half octaves.
    pub recency: u8,
    /// Bucket of the seconds since, in octaves.
    pub age: u8,
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

    /// What the repetition term is looked up by, for a user whose clock shows `clock` at time `now`.
    #[inline]
    pub fn buckets(&self, remembered: &RememberedItem, clock: u32, now: i64) -> Buckets {
        let ago = clock - remembered.clock;
        let count = self.count(remembered, clock) + 1e-9;
        let recency = f64::from(ago) + 1.0;
        let seconds = 1.0 + now.saturating_sub(remembered.timestamp).max(0) as f64 / 1000.0;
        let bucket = |octave: i64, buckets: usize| octave.clamp(0, buckets as i64 - 1) as u8;
        Buckets {
            // floor(2·log₂ x) = floor(log₂ x²)
            count: bucket(floor_log2(count * count) + 8, COUNT_BUCKETS),
            recency: bucket(floor_log2(recency * recency), RECENCY_BUCKETS),
            age: bucket(floor_log2(seconds), AGE_BUCKETS),
        }
    }

    /// How often the user had the item, decayed to where their clock shows `clock`.
    #[inline]
    pub fn count(&self, remembered: &RememberedItem, clock: u32) -> f64 {
        remembered.count * self.factor(clock - remembered.clock)
    }

    /// Adds `item` at time `now` to `memory` (least recent first), the user's clock having moved on to `clock`. Gives whether
    /// it was remembered.
    pub fn remember(&self, memory: &mut Vec<RememberedItem>, item: u32, clock: u32, now: i64) -> bool {
        let before = memory.iter().rposition(|remembered| remembered.item == item);
        let count = match before {
            Some(place) => {
                let before = memory.remove(place);
                1.0 + before.count * self.factor(clock - before.clock)
            }
            None => 1.0,
        };
        if memory.len() == self.capacity {
            memory.remove(0);
        }
        memory.push(RememberedItem { item, clock, count, timestamp: now });
        before.is_some()
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
        decay.remember(&mut memory, 7, 1, 1_000);
        decay.remember(&mut memory, 8, 2, 2_000);
        decay.remember(&mut memory, 7, 51, 3_000);
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(memory[1].count, 1.5);
        let buckets = decay.buckets(&memory[1], 51, 3_000);
        // 2·log₂ 1.5 = 1.17; nothing since; no time since.
        assert_eq!(buckets, Buckets { count: 9, recency: 0, age: 0 });
        let buckets = decay.buckets(&memory[0], 54, 2_000 + 7_000);
        // 52 events ago: 2^(−52/50), 2·log₂ 53 = 11.5, log₂ 8 = 3.
        assert_eq!(buckets, Buckets { count: 5, recency: 11, age: 3 });
    }

    #[test]
    fn repeat_memory_drops_the_least_recent() {
        let decay = RepeatDecay::new(50.0, 2);
        let mut memory = Vec::new();
        for (clock, item) in [1, 2, 1, 3].into_iter().enumerate() {
            decay.remember(&mut memory, item, clock as u32 + 1, 0);
        }
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [1, 3]);
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
                decay.remember(&mut memory, *item, clock as u32 + 1, clock as i64);
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
