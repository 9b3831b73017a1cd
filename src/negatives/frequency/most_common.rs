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
    /// The count of each, since it is compared with every event.
    counts: Vec<f64>,
}

impl MostCommon {
    /// The most common items by `counts`.
    pub(super) fn of(counts: &Paged<f64>) -> Self {
        let mut top = Self::default();
        counts.iter().zip(0..).for_each(|(count, item)| top.rise(item, *count));
        top
    }

    /// Whether `item` is among them.
    pub(super) fn contains(&self, item: u32) -> bool {
        self.items.contains(&item)
    }

    /// Finds the new place of `item`, whose count has risen to `count`.
    pub(super) fn rise(&mut self, item: u32, count: f64) {
        let (is_full, last) = (self.items.len() == LENGTH, LENGTH - 1);
        if count == 0.0 || (is_full && order((self.counts[last], self.items[last]), (count, item)).is_lt()) {
            return;
        }
        let mut place = match self.items.iter().position(|other| *other == item) {
            Some(old) => old,
            None if is_full => last,
            None => {
                self.items.push(item);
                self.counts.push(count);
                self.items.len() - 1
            }
        };
        (self.items[place], self.counts[place]) = (item, count);
        while place > 0 && order((count, item), (self.counts[place - 1], self.items[place - 1])).is_lt() {
            self.items.swap(place - 1, place);
            self.counts.swap(place - 1, place);
            place -= 1;
        }
    }
}

/// The order of two items in the list, each with its count.
fn order((count, item): (f64, u32), (of_other, other): (f64, u32)) -> Ordering {
    of_other.total_cmp(&count).then(item.cmp(&other))
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
                top.rise(item, counts[item as usize]);
                // Some events weigh alike: counts are equal now and then.
                weight *= if item % 3 == 0 { 1.25 } else { 1.0 };
                let mut sorted: Vec<u32> = (0..60).filter(|item| counts[*item as usize] > 0.0).collect();
                sorted.sort_by(|one, other| order((counts[*one as usize], *one), (counts[*other as usize], *other)));
                sorted.truncate(LENGTH);
                prop_assert_eq!(&top.items, &sorted);
                prop_assert_eq!(MostCommon::of(&counts), top.clone());
                prop_assert!((0..60).all(|item| top.contains(item) == sorted.contains(&item)));
            }
        }
    }
}
