//! The items that are at the top of a list by how often they came.

use std::cmp::Ordering;

use crate::table::paged::Paged;

/// The length of the list: that of the lists which the evaluation judges.
const LENGTH: usize = 20;

/// The most common items, exact as of the newest event.
///
/// Of counts that all decay alike only that of the item which came rises against the others. So the list changes by that item
/// alone, and keeping it costs no more than a glance at its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MostCommon {
    /// At most [`LENGTH`] items that came at least once: the most common one first, of equally common ones that with the lower row.
    items: Vec<u32>,
}

impl MostCommon {
    /// The most common items by `counts`.
    pub(super) fn of(counts: &Paged<f64>) -> Self {
        let mut top = Self::default();
        (0..counts.len() as u32).for_each(|item| top.rise(item, counts));
        top
    }

    /// Whether `item` is among them.
    pub(super) fn contains(&self, item: u32) -> bool {
        self.items.contains(&item)
    }

    /// Finds the new place of `item`, whose count has risen to that in `counts`.
    pub(super) fn rise(&mut self, item: u32, counts: &Paged<f64>) {
        let is_before = |other: &u32| order(*other, item, counts).is_lt();
        if counts[item as usize] == 0.0 || (self.items.len() == LENGTH && self.items.last().is_some_and(is_before)) {
            return;
        }
        let old = self.items.iter().position(|other| *other == item);
        old.map(|old| self.items.remove(old));
        self.items.truncate(LENGTH - 1);
        let place = self.items.partition_point(is_before);
        self.items.insert(place, item);
    }
}

/// The order of two items in the list.
fn order(one: u32, other: u32, counts: &Paged<f64>) -> Ordering {
    counts[other as usize].total_cmp(&counts[one as usize]).then(one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn list_is_that_of_a_sort(events in prop::collection::vec(0u32..60, 0..400)) {
            let mut counts = Paged::default();
            counts.grow(60);
            let mut top = MostCommon::default();
            let mut weight = 1.0;
            for item in events {
                *counts.get_mut(item as usize) += weight;
                top.rise(item, &counts);
                // Some events weigh alike: counts are equal now and then.
                weight *= if item % 3 == 0 { 1.25 } else { 1.0 };
                let mut sorted: Vec<u32> = (0..60).filter(|item| counts[*item as usize] > 0.0).collect();
                sorted.sort_by(|one, other| order(*one, *other, &counts));
                sorted.truncate(LENGTH);
                prop_assert_eq!(&top.items, &sorted);
                prop_assert_eq!(MostCommon::of(&counts), top.clone());
                prop_assert!((0..60).all(|item| top.contains(item) == sorted.contains(&item)));
            }
        }
    }
}
