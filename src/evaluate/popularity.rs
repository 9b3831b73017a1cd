//! Ranks under decayed popularity, without looking at every item for every event.
//!
//! The counts of all items are kept in order. A batch changes the counts of its own items only (decay moves all alike,
//! so it changes no order), and one merge brings the order up to date; a rank is then two binary searches, corrected for the
//! few items that the batch has touched so far ([`super::history`]).

use crate::negatives::frequency::Frequencies;

/// Counts of all items, ascending, on the scale of their [`relative`](crate::negatives::frequency::DecayedCounts::relative).
#[derive(Debug, Clone, Default)]
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

    /// Puts all counts on another scale; `factor` is a power of two.
    pub fn rescale(&mut self, factor: f64) {
        self.sorted.iter_mut().for_each(|count| *count *= factor);
    }

    /// Takes each count of `gone` out once, and puts those of `come` in.
    pub fn update(&mut self, mut gone: Vec<f64>, mut come: Vec<f64>) {
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
        fn popularity_order_is_that_of_sorting(
            changes in proptest::collection::vec((0usize..30, 0u8..20), 1..60),
            batch in 1usize..10,
        ) {
            let mut counts = vec![1.0; 10];
            let mut order = PopularityOrder { sorted: counts.clone(), spare: Vec::new() };
            for changes in changes.chunks(batch) {
                let (before, known) = (counts.clone(), counts.len());
                for (item, more) in changes {
                    counts.resize(counts.len().max(item + 1), 0.0);
                    counts[*item] += f64::from(*more);
                }
                let changed = |item: &usize| before.get(*item) != Some(&counts[*item]);
                let gone = (0..known).filter(changed).map(|item| before[item]).collect();
                order.update(gone, (0..counts.len()).filter(changed).map(|item| counts[item]).collect());
                let mut sorted = counts.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                prop_assert_eq!(&order.sorted, &sorted);
                for count in &counts {
                    let above = counts.iter().filter(|other| *other > count).count();
                    let equal = counts.iter().filter(|other| *other == count).count();
                    prop_assert_eq!(order.compare(*count), (above, equal));
                }
            }
        }
    }
}
