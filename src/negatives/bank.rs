//! The bank: the newest positives of any user, first events included, reused as negatives across batches.
//!
//! With `fresh` vectors it holds items, whose vectors are read live, and trained; nothing in it goes stale. With `frozen`
//! ones it holds the vectors as they were when the items came in, which get no gradient: for encoders that are too dear
//! to run again. How stale they are is measured: [`Bank::state`].

use std::collections::VecDeque;

use serde::Serialize;

use super::Vectors;
use crate::metric::{Instrumented, Metric};
use crate::table::row_remap::RowRemap;

/// Entries that [`Bank::state`] looks at.
const SAMPLE: usize = 256;

/// One positive of an earlier batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BankEntry {
    /// The item's row.
    pub item: u32,
    /// The number of the positive's event.
    pub event: u64,
}

/// The newest positives of earlier batches, first in, first out.
#[derive(Debug, Clone, PartialEq)]
pub struct Bank {
    capacity: usize,
    /// Entries leave when they are more than so many events old.
    max_age: u64,
    entries: VecDeque<BankEntry>,
    /// The frozen vectors, one behind the other, as many as entries; empty where vectors are fresh.
    vectors: VecDeque<f32>,
    frozen: bool,
    /// Events so far.
    now: u64,
    /// Events of a group for each that comes in here; 1 where nobody else's do.
    pace: f64,
}

/// How full, how old and how stale a bank is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct BankState {
    /// The number of entries.
    pub entries: usize,
    /// Events since the mean entry came in.
    pub mean_age: Option<f64>,
    /// Events since the oldest entry came in.
    pub oldest: Option<u64>,
    /// Mean cosine of frozen and current vectors; 1 where vectors are fresh.
    pub staleness: Option<f64>,
}

impl Bank {
    /// An empty bank for `capacity` items, none older than `max_age` events (0: of any age).
    pub fn new(capacity: usize, max_age: u64, frozen: bool) -> Self {
        let max_age = if max_age == 0 { u64::MAX } else { max_age };
        let entries = VecDeque::with_capacity(capacity);
        Self { capacity, max_age, entries, vectors: VecDeque::new(), frozen, now: 0, pace: 1.0 }
    }

    /// The bank with the saved [`Self::entries`], [`Self::frozen_vectors`] and [`Self::now`]; `None` where the numbers of
    /// vectors and entries do not match, or entries exceed the capacity.
    pub fn with_entries(mut self, entries: Vec<BankEntry>, vectors: Vec<f32>, dim: usize, now: u64) -> Option<Self> {
        let wanted = if self.frozen { entries.len() * dim } else { 0 };
        if vectors.len() != wanted || entries.len() > self.capacity {
            return None;
        }
        (self.entries, self.vectors, self.now) = (entries.into(), vectors.into(), now);
        Some(self)
    }

    /// Adds items, and drops the oldest entries beyond the capacity and the age.
    pub fn push(&mut self, items: &[u32], vectors: &dyn Vectors) {
        let dim = if self.frozen { vectors.dim() } else { 0 };
        let skipped = items.len().saturating_sub(self.capacity);
        self.drop_oldest((self.entries.len() + items.len() - skipped).saturating_sub(self.capacity), dim);
        let mut vector = vec![0.0; dim];
        for (place, item) in items.iter().enumerate().skip(skipped) {
            let event = self.now + (place as f64 * self.pace) as u64;
            self.entries.push_back(BankEntry { item: *item, event });
            if self.frozen {
                vectors.vector(*item, &mut vector);
                self.vectors.extend(&vector);
            }
        }
        self.now += (items.len() as f64 * self.pace) as u64;
        self.drop_aged(dim);
    }

    /// Numbers the events of a group from now on, of which the newest is number `now`, and of which there are `pace` for each that
    /// comes in here.
    pub fn follow(&mut self, now: u64, pace: f64) {
        (self.now, self.pace) = (self.now.max(now), pace);
    }

    /// Adds the positives of others, each at its place among those that are there; `more` is in the order of its events. Their
    /// vectors are as they are now, where they are frozen.
    pub fn absorb(&mut self, more: &[BankEntry], vectors: &dyn Vectors) {
        let dim = if self.frozen { vectors.dim() } else { 0 };
        let n = self.entries.len() + more.len();
        let skipped = n.saturating_sub(self.capacity);
        let (old, old_vectors) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.vectors));
        let (mut old, mut more) = (old.into_iter().enumerate().peekable(), more.iter().copied().peekable());
        let mut vector = vec![0.0; dim];
        for place in 0..n {
            let is_more = match (old.peek(), more.peek()) {
                (Some((_, one)), Some(other)) => other.event < one.event,
                (old, _) => old.is_none(),
            };
            let entry = match is_more {
                true => more.next().inspect(|entry| {
                    if self.frozen {
                        vectors.vector(entry.item, &mut vector);
                    }
                }),
                false => old.next().map(|(slot, entry)| {
                    let kept = old_vectors.range(slot * dim..(slot + 1) * dim);
                    vector.iter_mut().zip(kept).for_each(|(out, number)| *out = *number);
                    entry
                }),
            };
            if let Some(entry) = entry.filter(|_| place >= skipped) {
                self.entries.push_back(entry);
                self.vectors.extend(&vector);
            }
        }
        self.now = self.now.max(self.entries.back().map_or(0, |newest| newest.event + 1));
        self.drop_aged(dim);
    }

    fn drop_aged(&mut self, dim: usize) {
        let oldest = self.now.saturating_sub(self.max_age);
        let aged = self.entries.iter().take_while(|entry| entry.event < oldest).count();
        self.drop_oldest(aged, dim);
    }

    /// Remaps item rows after an eviction; entries of evicted items leave.
    pub fn keep(&mut self, items: &RowRemap) {
        let dim = self.vectors.len() / self.entries.len().max(1);
        let (mut number, entries) = (0, &self.entries);
        self.vectors.retain(|_| {
            number += 1;
            items.get(entries[(number - 1) / dim].item).is_some()
        });
        self.entries.retain_mut(|entry| {
            let new = items.get(entry.item);
            entry.item = new.unwrap_or(entry.item);
            new.is_some()
        });
    }

    fn drop_oldest(&mut self, entries: usize, dim: usize) {
        self.entries.drain(..entries);
        self.vectors.drain(..entries * dim);
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &VecDeque<BankEntry> {
        &self.entries
    }

    /// Whether vectors are frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The frozen vectors, one behind the other.
    pub fn frozen_vectors(&self) -> &VecDeque<f32> {
        &self.vectors
    }

    /// Events so far.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Writes the frozen vector of entry `slot` to `out`.
    pub fn frozen_vector(&self, slot: usize, out: &mut [f32]) {
        let range = slot * out.len()..(slot + 1) * out.len();
        out.iter_mut().zip(self.vectors.range(range)).for_each(|(out, number)| *out = *number);
    }

    /// How full, old and stale the bank is; staleness is measured on at most 256 evenly spaced entries.
    pub fn state(&self, current: &dyn Vectors) -> BankState {
        let n = self.entries.len();
        let age = |entry: &BankEntry| self.now - entry.event;
        BankState {
            entries: n,
            mean_age: (n > 0).then(|| self.entries.iter().map(|entry| age(entry) as f64).sum::<f64>() / n as f64),
            oldest: self.entries.front().map(age),
            staleness: self.staleness(current),
        }
    }

    fn staleness(&self, current: &dyn Vectors) -> Option<f64> {
        if !self.frozen {
            return (!self.entries.is_empty()).then_some(1.0);
        }
        let dim = current.dim();
        let (mut then, mut now) = (vec![0.0; dim], vec![0.0; dim]);
        let step = self.entries.len().div_ceil(SAMPLE).max(1);
        let cosines = (0..self.entries.len()).step_by(step).map(|slot| {
            self.frozen_vector(slot, &mut then);
            current.vector(self.entries[slot].item, &mut now);
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            product(&then, &now) / (product(&then, &then) * product(&now, &now)).sqrt().max(f64::MIN_POSITIVE)
        });
        let n = cosines.len();
        (n > 0).then(|| cosines.sum::<f64>() / n as f64)
    }
}

impl Instrumented for BankState {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge("negstream_bank_entries", "Entries of the bank of negatives.", |bank, samples| {
            samples.put(bank.entries);
        }),
        Metric::gauge(
            "negstream_bank_age_events",
            "Events since the mean entry of the bank came in.",
            |bank, samples| samples.put(bank.mean_age),
        ),
        Metric::gauge(
            "negstream_bank_oldest_events",
            "Events since the oldest entry of the bank came in.",
            |bank, samples| samples.put(bank.oldest),
        ),
        Metric::gauge(
            "negstream_bank_cosine",
            "Mean cosine of the bank's vectors with the current ones: 1 where they are fresh, less the staler they are.",
            |bank, samples| samples.put(bank.staleness),
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::samplers::tests::Planted;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bank_keeps_vectors_of_remaining_entries(
            items in proptest::collection::vec(0u32..20, 0..60),
            stays in proptest::collection::vec(any::<bool>(), 20),
            frozen in any::<bool>(),
        ) {
            let mut bank = Bank::new(40, 0, frozen);
            items.chunks(7).for_each(|items| bank.push(items, &Planted));
            let before = bank.clone();
            let rows = RowRemap::of_rows(20, |row| stays[row as usize]);
            bank.keep(&rows);
            let kept: Vec<usize> = (0..before.entries.len()).filter(|slot| stays[before.entries[*slot].item as usize]).collect();
            prop_assert_eq!(bank.entries().len(), kept.len());
            let (mut then, mut now) = (vec![0.0; 8], vec![0.0; 8]);
            for (slot, old) in kept.into_iter().enumerate() {
                let (entry, was) = (bank.entries[slot], before.entries[old]);
                prop_assert_eq!((Some(entry.item), entry.event), (rows.get(was.item), was.event));
                if frozen {
                    before.frozen_vector(old, &mut then);
                    bank.frozen_vector(slot, &mut now);
                    prop_assert_eq!(&then, &now);
                }
            }
            prop_assert_eq!(bank.vectors.len(), if frozen { bank.entries.len() * 8 } else { 0 });
            bank.push(&[0; 50], &Planted);
            prop_assert_eq!(bank.entries().len(), 40);
        }
    }
}
