//! How often ids came that have no row yet, in a table of fixed size.
//!
//! An id falls into one bucket, which holds the newest `WAYS` of those that do, newest first; the oldest gives way. So an
//! id is counted exactly as long as few others come in between, however many there are altogether, and a flood of ids
//! that come once each only pushes out others that are as old. (A sketch of counts, which ids share, would let such a
//! flood in: what everybody adds to is soon above any threshold.)

use super::rows::split_mix;

/// Ids in a bucket: a cache line.
const WAYS: usize = 8;
/// Bits of a slot that are its count.
const COUNT_BITS: u32 = 8;
/// The highest count there is.
pub const MOST: u32 = (1 << COUNT_BITS) - 1;

/// Counts the events of names without a row, in bounded memory. Names are told apart by 56 bits of their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionCounter {
    /// Hash and count; 0 where there is none. Bucket after bucket.
    slots: Vec<u64>,
}

impl AdmissionCounter {
    /// For the newest `n` ids, or somewhat more; none where it is 0.
    pub fn new(n: usize) -> Self {
        Self { slots: vec![0; n.next_multiple_of(WAYS)] }
    }

    /// Restores a counter from the slots that [`Self::slots`] gave; `None` where the size is another.
    pub fn with_slots(n: usize, slots: Vec<u64>) -> Option<Self> {
        (slots.len() == n.next_multiple_of(WAYS)).then_some(Self { slots })
    }

    /// What it holds, for [`Self::with_slots`].
    pub fn slots(&self) -> &[u64] {
        &self.slots
    }

    fn first(&self, hash: u64) -> usize {
        let buckets = (self.slots.len() / WAYS) as u128;
        ((u128::from(split_mix(hash)) * buckets) >> 64) as usize * WAYS
    }

    fn place(&self, hash: u64) -> Option<usize> {
        let first = self.first(hash);
        let slots = self.slots.get(first..first + WAYS)?;
        let same = |slot: &u64| *slot != 0 && slot >> COUNT_BITS == hash >> COUNT_BITS;
        slots.iter().position(same).map(|way| first + way)
    }

    /// How often the id with this hash came, as far as it is remembered.
    pub fn count(&self, hash: u64) -> u32 {
        self.place(hash).map_or(0, |place| self.slots[place] as u32 & MOST)
    }

    /// The id with this hash came, and that makes `count` times (1 to [`MOST`]).
    pub fn set(&mut self, hash: u64, count: u32) {
        let first = self.first(hash);
        let last = self.place(hash).unwrap_or(first + WAYS - 1);
        let Some(newer) = self.slots.get_mut(first..=last) else { return };
        newer.rotate_right(1);
        newer[0] = hash >> COUNT_BITS << COUNT_BITS | u64::from(count.clamp(1, MOST));
    }

    /// Forgets the id with this hash: it has a row now.
    pub fn forget(&mut self, hash: u64) {
        if let Some(place) = self.place(hash) {
            let first = self.first(hash);
            self.slots[place..first + WAYS].rotate_left(1);
            self.slots[first + WAYS - 1] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows::stable_hash;
    use proptest::prelude::*;

    fn hash(number: u32) -> u64 {
        stable_hash(7, &[&number.to_string()])
    }

    fn come(newcomers: &mut AdmissionCounter, hash: u64) -> u32 {
        let count = newcomers.count(hash) + 1;
        newcomers.set(hash, count);
        count
    }

    #[test]
    fn admission_counter_is_exact_for_few_and_drops_the_oldest_of_many() {
        let mut newcomers = AdmissionCounter::new(1 << 12);
        for round in 1..=3 {
            assert!((0..500).all(|number| come(&mut newcomers, hash(number)) == round));
        }
        newcomers.forget(hash(7));
        assert_eq!((newcomers.count(hash(7)), newcomers.count(hash(8))), (0, 3));
        // A flood of ids that come once: none of them is taken for another.
        for number in 1_000..200_000 {
            assert_eq!(come(&mut newcomers, hash(number)), 1, "{number}");
        }
        assert!((0..500).all(|number| newcomers.count(hash(number)) == 0));
        let remembered = (190_000..200_000).filter(|number| newcomers.count(hash(*number)) == 1).count();
        assert!(remembered > 4_000, "{remembered}");
        assert_eq!(newcomers.slots().len(), 1 << 12);
    }

    #[test]
    fn admission_counter_without_slots_knows_no_name() {
        let mut newcomers = AdmissionCounter::new(0);
        newcomers.set(9, 3);
        newcomers.forget(9);
        assert_eq!(newcomers.count(9), 0);
    }

    proptest! {
        /// One bucket against a list of the newest.
        #[test]
        fn admission_bucket_lists_the_newest(steps in proptest::collection::vec((0u32..14, any::<bool>()), 0..200)) {
            let (mut newcomers, mut truth) = (AdmissionCounter::new(1), Vec::<(u32, u32)>::new());
            for (number, comes) in steps {
                let before = truth.iter().position(|(other, _)| *other == number).map(|place| truth.remove(place).1);
                if comes {
                    truth.insert(0, (number, before.unwrap_or(0) + 1));
                    truth.truncate(WAYS);
                    come(&mut newcomers, hash(number));
                } else {
                    newcomers.forget(hash(number));
                }
                for other in 0..14 {
                    let count = truth.iter().find(|(number, _)| *number == other).map_or(0, |(_, count)| *count);
                    prop_assert_eq!(newcomers.count(hash(other)), count.min(MOST));
                }
            }
        }
    }
}
