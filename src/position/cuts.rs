//! Where batches were cut by something else than the log: the clock, a signal, a rebalance, an end that was declared.
//!
//! A model is a pure function of configuration, seed, the sequence of events and these cuts, so whoever makes the same ones
//! gets the same bytes. A place is a count of records: how many had been read, since the very first start, when the batch was
//! cut. Counts say the same for every source, and cost a byte or two each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The cuts since a checkpoint, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    after: u64,
    #[serde(rename = "at")]
    places: BTreeSet<u64>,
}

impl Cuts {
    /// No cuts since a checkpoint that had read `after` records.
    pub fn after(after: u64) -> Self {
        Self { after, places: BTreeSet::new() }
    }

    /// Records that the checkpoint had read behind which these cuts are.
    pub fn begin(&self) -> u64 {
        self.after
    }

    /// Whether there is no cut.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The places, ascending.
    pub fn places(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.iter().copied()
    }

    /// Adds a cut behind the record with the number `place`, counted from 1.
    pub fn add(&mut self, place: u64) {
        if place > self.after {
            self.places.insert(place);
        }
    }

    /// The cut that comes next where `read` records were read; those before it are forgotten.
    pub fn next(&mut self, read: u64) -> Option<u64> {
        while let Some(first) = self.places.first().copied() {
            if first >= read {
                return Some(first);
            }
            self.places.pop_first();
        }
        None
    }

    /// Forgets the cuts up to `read` records: a checkpoint that had read so many is durable.
    pub fn forget_until(&mut self, read: u64) {
        self.after = self.after.max(read);
        self.places = self.places.split_off(&(self.after + 1));
    }

    /// The oldest cuts as bytes, `most` at most: the distance of each from the one before, in base 128 with the lowest digit
    /// first. Newer ones are left out: without an older one they would be worth nothing.
    pub fn to_bytes(&self, most: usize) -> Vec<u8> {
        let (mut bytes, mut before) = (Vec::new(), self.after);
        for place in self.places() {
            let (length, mut distance) = (bytes.len(), place - before);
            while distance >= 128 {
                bytes.push((distance % 128) as u8 | 128);
                distance /= 128;
            }
            bytes.push(distance as u8);
            if bytes.len() > most {
                bytes.truncate(length);
                break;
            }
            before = place;
        }
        bytes
    }

    /// The cuts behind `after` records that [`Cuts::to_bytes`] wrote; `None` where it wrote no such thing.
    pub fn from_bytes(after: u64, bytes: &[u8]) -> Option<Self> {
        let mut cuts = Self::after(after);
        let (mut place, mut distance, mut digit) = (after, 0_u64, 0_u32);
        for byte in bytes {
            distance = distance.checked_add(u64::from(byte & 127).checked_shl(7 * digit)?)?;
            digit += 1;
            if byte & 128 == 0 {
                place = place.checked_add(distance)?;
                cuts.add(place);
                (distance, digit) = (0, 0);
            }
        }
        (digit == 0).then_some(cuts)
    }
}

impl Extend<u64> for Cuts {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, places: I) {
        places.into_iter().for_each(|place| self.add(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(after: u64, places: &[u64]) -> Cuts {
        let mut cuts = Cuts::after(after);
        cuts.extend(places.iter().copied());
        cuts
    }

    #[test]
    fn bytes_hold_the_oldest_cuts_that_fit() {
        let all = cuts(1_000, &[1_001, 1_003, 1_300, 70_000]);
        let bytes = all.to_bytes(100);
        assert_eq!(bytes.len(), 1 + 1 + 2 + 3);
        assert_eq!(Cuts::from_bytes(1_000, &bytes), Some(all.clone()));
        assert_eq!(Cuts::from_bytes(1_000, &all.to_bytes(6)), Some(cuts(1_000, &[1_001, 1_003, 1_300])));
        assert!(all.to_bytes(0).is_empty());
        assert_eq!(Cuts::from_bytes(5, &[]), Some(Cuts::after(5)));
        assert_eq!(Cuts::from_bytes(5, &[0x80]), None, "half a number");
        assert_eq!(Cuts::from_bytes(5, &[0xff; 30]), None, "too large a number");
    }

    #[test]
    fn cuts_before_the_checkpoint_are_none() {
        let mut cuts = cuts(10, &[9, 10, 11, 15, 20]);
        assert_eq!(cuts.places().collect::<Vec<_>>(), [11, 15, 20]);
        cuts.forget_until(15);
        assert_eq!((cuts.begin(), cuts.places().collect::<Vec<_>>()), (15, vec![20]));
        cuts.forget_until(12);
        assert_eq!(cuts.begin(), 15);
        assert_eq!((cuts.next(17), cuts.next(20), cuts.next(21)), (Some(20), Some(20), None));
        assert!(cuts.is_empty());
    }
}
