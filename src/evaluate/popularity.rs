//! Ranks under decayed popularity, without looking at every item for every event.
//!
//! The counts of all items are kept in order. A batch changes the counts of its own items only (decay moves all alike,
//! so it changes no order), and one merge brings the order up to date; a rank is then two binary searches.

use crate::negatives::frequency::Frequencies;

/// Counts of all items, ascending, on the scale of their [`relative`](crate::negatives::frequency::DecayedCounts::relative).
#[derive(Debug, Default)]
pub struct PopularityOrder {
    sorted: Vec<f64>,
    spare: Vec<f64>,
}

impl PopularityOrder {
    /// The order of `frequencies` as they are.
    pub fn new(frequencies: &Frequencies) -> Self {
        let mut sorted = frequencies.popularity().relative().iter().copied().collect::<Vec<_>>();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted, spare: Vec::new() }
    }

    /// How many items count more than `count`, and how many as much.
    pub fn compare(&self, count: f64) -> (usize, usize) {
        let below = self.sorted.partition_point(|other| *other < count);
        let up_to = self.sorted.partition_point(|other| *other <= count);
        (self.sorted.len() - up_to, up_to - below)
    }

    /// Adds `items`, which may be new, to `frequencies`, and keeps up with it.
    pub fn add(&mut self, frequencies: &mut Frequencies, n_items: usize, items: &[u32]) {
        let mut changed = items.to_vec();
        changed.sort_unstable();
        changed.dedup();
        let known = frequencies.len() as u32;
        let count = |frequencies: &Frequencies, item: &u32| frequencies.popularity().relative()[*item as usize];
        let mut gone: Vec<f64> =
            changed.iter().filter(|item| **item < known).map(|item| count(frequencies, item)).collect();
        frequencies.grow(n_items);
        frequencies.add(items);
        if frequencies.popularity().rescaled().is_some() {
            *self = Self::new(frequencies);
            return;
        }
        // All that is new comes in, whether the batch named it or not.
        let new = known..frequencies.len() as u32;
        let moved = changed.into_iter().filter(|item| *item < known).chain(new);
        let mut come: Vec<f64> = moved.map(|item| count(frequencies, &item)).collect();
        gone.sort_unstable_by(f64::total_cmp);
        come.sort_unstable_by(f64::total_cmp);
        self.merge(&gone, &come);
    }

    /// Takes each number of `gone` out once and puts those of `come` in; both ascending.
    fn merge(&mut self, gone: &[f64], come: &[f64]) {
        self.spare.clear();
        let (mut gone, mut come) = (gone.iter().peekable(), come.iter().peekable());
        for count in &self.sorted {
            if gone.next_if(|gone| *gone == count).is_some() {
                continue;
            }
            while let Some(new) = come.next_if(|new| *new <= count) {
                self.spare.push(*new);
            }
            self.spare.push(*count);
        }
        self.spare.extend(come);
        std::mem::swap(&mut self.sorted, &mut self.spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn popularity_order_keeps_up_with_frequencies(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..40, 1..30), 1..30),
            half_life in prop_oneof![Just(f64::INFINITY), 1.0f64..200.0],
        ) {
            let mut frequencies = Frequencies::new(Some(half_life));
            let mut order = PopularityOrder::default();
            for batch in &batches {
                let n_items = batch.iter().max().map_or(0, |item| *item as usize + 1).max(frequencies.len());
                order.add(&mut frequencies, n_items, batch);
                prop_assert_eq!(&order.sorted, &PopularityOrder::new(&frequencies).sorted);
            }
            for count in frequencies.popularity().relative().iter() {
                let above = frequencies.popularity().relative().iter().filter(|other| *other > count).count();
                let equal = frequencies.popularity().relative().iter().filter(|other| *other == count).count();
                prop_assert_eq!(order.compare(*count), (above, equal));
            }
        }
    }
}
