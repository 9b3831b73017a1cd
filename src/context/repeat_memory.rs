//! A user's memory: the newest distinct items, each with a decayed count, and when it last came.
//!
//! It stands behind the repetition term ρ: people come back to what they had, and how likely depends on how often, how
//! many of the user's own events ago, and how long ago.

/// Buckets of the decayed count.
pub const COUNT_BUCKETS: usize = 20;
/// Buckets of the number of the user's events since.
pub const RECENCY_BUCKETS: usize = 20;
/// Buckets of the time since.
pub const AGE_BUCKETS: usize = 28;

/// Logarithmic buckets of the three quantities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Of the decayed count: half octaves, 1 is bucket 8.
    pub count: u8,
    /// Of the number of the user's events since: half octaves.
    pub recency: u8,
    /// Of the seconds since: octaves.
    pub age: u8,
}

/// One remembered item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remembered {
    /// The item's row.
    pub item: u32,
    /// The user's clock when it last came.
    pub at: u32,
    /// Its count, decayed to that moment.
    pub count: f64,
    /// When it last came, milliseconds since 1970 UTC.
    pub when: i64,
}

/// How memories fade; shared by all users.
#[derive(Debug, Clone)]
pub struct Fading {
    half_life: f64,
    capacity: usize,
    /// 2^(−n/half-life) for small n.
    table: Vec<f64>,
}

impl Fading {
    /// Counts halve in `half_life` of the user's events; `capacity` distinct items are kept.
    pub fn new(half_life: f64, capacity: usize) -> Self {
        let table = (0..1024).map(|ago| (-f64::from(ago) / half_life).exp2()).collect();
        Self { half_life, capacity, table }
    }

    fn factor(&self, ago: u32) -> f64 {
        self.table.get(ago as usize).copied().unwrap_or_else(|| (-f64::from(ago) / self.half_life).exp2())
    }

    /// What the repetition term is looked up by, for a user whose clock shows `clock` at time `now`.
    pub fn buckets(&self, remembered: &Remembered, clock: u32, now: i64) -> Buckets {
        let ago = clock - remembered.at;
        let count = remembered.count * self.factor(ago) + 1e-9;
        let recency = f64::from(ago) + 1.0;
        let seconds = 1.0 + now.saturating_sub(remembered.when).max(0) as f64 / 1000.0;
        let bucket = |octave: i64, buckets: usize| octave.clamp(0, buckets as i64 - 1) as u8;
        Buckets {
            // floor(2·log₂ x) = floor(log₂ x²)
            count: bucket(floor_log2(count * count) + 8, COUNT_BUCKETS),
            recency: bucket(floor_log2(recency * recency), RECENCY_BUCKETS),
            age: bucket(floor_log2(seconds), AGE_BUCKETS),
        }
    }

    /// Adds `item` at time `now` to `memory` (least recent first), the user's clock having moved on to `clock`.
    pub fn remember(&self, memory: &mut Vec<Remembered>, item: u32, clock: u32, now: i64) {
        let count = match memory.iter().rposition(|remembered| remembered.item == item) {
            Some(place) => {
                let before = memory.remove(place);
                1.0 + before.count * self.factor(clock - before.at)
            }
            None => 1.0,
        };
        if memory.len() == self.capacity {
            memory.remove(0);
        }
        memory.push(Remembered { item, at: clock, count, when: now });
    }
}

/// ⌊log₂ x⌋ of a positive normal number: its exponent.
fn floor_log2(x: f64) -> i64 {
    (x.to_bits() >> 52) as i64 - 1023
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_fade_and_add_up() {
        let fading = Fading::new(50.0, 4);
        let mut memory = Vec::new();
        fading.remember(&mut memory, 7, 1, 1_000);
        fading.remember(&mut memory, 8, 2, 2_000);
        fading.remember(&mut memory, 7, 51, 3_000);
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(memory[1].count, 1.5);
        let buckets = fading.buckets(&memory[1], 51, 3_000);
        // 2·log₂ 1.5 = 1.17; nothing since; no time since.
        assert_eq!(buckets, Buckets { count: 9, recency: 0, age: 0 });
        let buckets = fading.buckets(&memory[0], 54, 2_000 + 7_000);
        // 52 events ago: 2^(−52/50), 2·log₂ 53 = 11.5, log₂ 8 = 3.
        assert_eq!(buckets, Buckets { count: 5, recency: 11, age: 3 });
    }

    #[test]
    fn the_least_recent_goes_first() {
        let fading = Fading::new(50.0, 2);
        let mut memory = Vec::new();
        for (clock, item) in [1, 2, 1, 3].into_iter().enumerate() {
            fading.remember(&mut memory, item, clock as u32 + 1, 0);
        }
        assert_eq!(memory.iter().map(|remembered| remembered.item).collect::<Vec<_>>(), [1, 3]);
    }

    proptest! {
        #[test]
        fn bits_agree_with_logarithms(x in 1e-9f64..1e9) {
            let truth = (2.0 * x.log2()).floor() as i64;
            let near = (2.0 * x.log2()).fract().abs();
            prop_assume!(near > 1e-9 && near < 1.0 - 1e-9);
            prop_assert_eq!(floor_log2(x * x), truth);
        }

        #[test]
        fn never_more_than_capacity_and_always_distinct(items in proptest::collection::vec(0u32..20, 0..200)) {
            let fading = Fading::new(5.0, 8);
            let mut memory = Vec::new();
            for (clock, item) in items.iter().enumerate() {
                fading.remember(&mut memory, *item, clock as u32 + 1, clock as i64);
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
