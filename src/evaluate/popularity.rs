//! Ranks under decayed popularity, without looking at every item for every event, or for every batch.
//!
//! The counts of all items are kept in order, in blocks. A batch changes the counts of its own items only (decay moves all alike,
//! so it changes no order), and each of them changes a block; a rank is then two binary searches, corrected for the
//! few items that the batch has touched so far ([`super::history`]).

use crate::negatives::frequency::Frequencies;

/// Counts in a block, at most: so few that making room among them takes no longer than finding them.
const BLOCK: usize = 512;

/// Counts of all items, ascending, on the scale of their [`relative`](crate::negatives::frequency::DecayedCounts::relative).
#[derive(Debug, Clone, Default)]
pub struct PopularityOrder {
    /// The counts, in blocks one behind the other, of which none is empty.
    blocks: Vec<Vec<f64>>,
    /// By block: its last count, so that a search for a block looks at neighbouring numbers.
    lasts: Vec<f64>,
    /// By block: how many counts are in it and in those before it.
    ends: Vec<usize>,
}

impl PopularityOrder {
    /// The order of `frequencies` as they are.
    pub fn new(frequencies: &Frequencies) -> Self {
        Self::of_counts(frequencies.popularity().relative().iter().copied().collect())
    }

    fn of_counts(mut counts: Vec<f64>) -> Self {
        counts.sort_unstable_by(f64::total_cmp);
        // Room in each, or the first new count would split it.
        let blocks: Vec<Vec<f64>> = counts.chunks(BLOCK * 3 / 4).map(<[f64]>::to_vec).collect();
        let mut order = Self { lasts: blocks.iter().map(|block| last(block)).collect(), blocks, ends: Vec::new() };
        order.add_up();
        order
    }

    /// How many items count more than `count`, and how many as much.
    pub fn compare(&self, count: f64) -> (usize, usize) {
        let below = self.place(self.lasts.partition_point(|last| *last < count), |other| other < count);
        let up_to = self.place(self.lasts.partition_point(|last| *last <= count), |other| other <= count);
        (self.ends.last().copied().unwrap_or(0) - up_to, up_to - below)
    }

    /// How many counts there are before the first in block `block` that is not `before`.
    fn place(&self, block: usize, before: impl Fn(f64) -> bool) -> usize {
        let begin = block.checked_sub(1).map_or(0, |earlier| self.ends[earlier]);
        begin + self.blocks.get(block).map_or(0, |counts| counts.partition_point(|other| before(*other)))
    }

    /// Puts all counts on another scale; `factor` is a power of two.
    pub fn rescale(&mut self, factor: f64) {
        self.blocks.iter_mut().flatten().chain(&mut self.lasts).for_each(|count| *count *= factor);
    }

    /// Takes each count of `gone` out once, and puts those of `come` in.
    pub fn update(&mut self, gone: Vec<f64>, come: Vec<f64>) {
        gone.into_iter().for_each(|count| self.take(count));
        come.into_iter().for_each(|count| self.put(count));
        self.add_up();
    }

    fn take(&mut self, count: f64) {
        let number = self.lasts.partition_point(|last| *last < count);
        let Some(block) = self.blocks.get_mut(number) else { return };
        let place = block.partition_point(|other| *other < count);
        if block.get(place) != Some(&count) {
            return;
        }
        block.remove(place);
        // Neighbours that have become small are one block from now on, or there would be ever more of them.
        let room = BLOCK / 2 - block.len().min(BLOCK / 2);
        match self.blocks.get(number + 1) {
            Some(next) if next.len() < room => {
                let next = self.blocks.remove(number + 1);
                self.blocks[number].extend(next);
                self.lasts.remove(number);
            }
            _ if self.blocks[number].is_empty() => {
                self.blocks.remove(number);
                self.lasts.remove(number);
            }
            _ => self.lasts[number] = last(&self.blocks[number]),
        }
    }

    fn put(&mut self, count: f64) {
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
            self.lasts.push(count);
        }
        // What counts more than all others goes into the last block.
        let number = self.lasts.partition_point(|last| *last < count).min(self.blocks.len() - 1);
        let block = &mut self.blocks[number];
        block.insert(block.partition_point(|other| *other < count), count);
        if block.len() > BLOCK {
            let upper = block.split_off(BLOCK / 2);
            self.lasts.insert(number, last(block));
            self.lasts[number + 1] = last(&upper);
            self.blocks.insert(number + 1, upper);
        } else {
            self.lasts[number] = last(block);
        }
    }

    /// Brings the sums of the blocks' lengths up to date.
    fn add_up(&mut self) {
        let mut end = 0;
        self.ends.clear();
        self.ends.extend(self.blocks.iter().map(|block| {
            end += block.len();
            end
        }));
    }
}

fn last(block: &[f64]) -> f64 {
    *block.last().expect("no block is empty")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn blocks_split_and_join_as_counts_move() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut counts = vec![0.0; 20_000];
        let mut order = PopularityOrder::of_counts(counts.clone());
        for round in 0..60 {
            // First each item by itself, so that blocks split; then all to the same few counts, so that they empty.
            let to = |random: &mut Pcg64Mcg| match round < 30 {
                true => f64::from(random.random_range(0_u32..1 << 30)),
                false => f64::from(random.random_range(0_u32..3)),
            };
            let mut items: Vec<usize> = (0..2_000).map(|_| random.random_range(0..counts.len())).collect();
            items.sort_unstable();
            items.dedup();
            let gone = items.iter().map(|item| counts[*item]).collect();
            let come: Vec<f64> = items.iter().map(|_| to(&mut random)).collect();
            items.iter().zip(&come).for_each(|(item, count)| counts[*item] = *count);
            order.update(gone, come);
            order.rescale(0.5);
            counts.iter_mut().for_each(|count| *count *= 0.5);
            let mut sorted = counts.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            assert_eq!(order.blocks.concat(), sorted);
            assert!(order.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
            let least = order.blocks.windows(2).map(|pair| pair[0].len() + pair[1].len()).min();
            assert!(least.is_none_or(|least| least >= BLOCK / 4), "{least:?}");
            let asked = sorted[sorted.len() / 3];
            let above = sorted.iter().filter(|other| **other > asked).count();
            let equal = sorted.iter().filter(|other| **other == asked).count();
            assert_eq!(order.compare(asked), (above, equal));
        }
    }

    proptest! {
        #[test]
        fn popularity_order_is_that_of_sorting(
            changes in proptest::collection::vec((0usize..30, 0u8..20), 1..60),
            batch in 1usize..10,
        ) {
            let mut counts = vec![1.0; 10];
            let mut order = PopularityOrder::of_counts(counts.clone());
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
                prop_assert_eq!(order.blocks.concat(), sorted);
                prop_assert!(order.blocks.iter().zip(&order.lasts).all(|(block, end)| block.last() == Some(end)));
                for count in &counts {
                    let above = counts.iter().filter(|other| *other > count).count();
                    let equal = counts.iter().filter(|other| *other == count).count();
                    prop_assert_eq!(order.compare(*count), (above, equal));
                }
            }
        }
    }
}
