//! The layout of count sketches of fixed size: a key has one cell in each of a few rows, by hashes that are alike in every
//! process, unlike the standard library's. Two keys that share a cell in one row hardly ever share cells in the others.

use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::table::rows::{GOLDEN, split_mix};

/// The rows of a sketch, which lie one behind the other in an array of cells that the user of the sketch owns.
#[derive(Debug, Clone, PartialEq)]
pub struct SketchRows {
    width: usize,
    seeds: Vec<u64>,
}

impl SketchRows {
    /// A layout of `rows` rows with `width` cells each; both are raised to 1 at least.
    pub fn new(width: usize, rows: usize) -> Self {
        let seeds = (1..=rows.max(1) as u64).map(|row| split_mix(row.wrapping_mul(GOLDEN))).collect();
        Self { width: width.max(1), seeds }
    }

    /// The number of cells in all rows.
    pub fn cells(&self) -> usize {
        self.width * self.seeds.len()
    }

    /// The places of the cells of `key` in the array, one for each row.
    pub fn places(&self, key: u64) -> impl Iterator<Item = usize> {
        let width = self.width;
        self.seeds.iter().enumerate().map(move |(row, seed)| {
            let hash = split_mix(seed ^ key);
            row * width + ((u128::from(hash) * width as u128) >> 64) as usize
        })
    }
}

/// The keys of items in a sketch: numbers that items keep when rows are renumbered, and that are never given to another
/// item. Until the first eviction the key of an item is its row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// The keys of the rows that remained after the last eviction.
    old: Vec<u32>,
    /// The key of the first row after `old`.
    next: u32,
}

impl Keys {
    /// The key of row `item`.
    #[inline]
    pub fn of(&self, item: u32) -> u32 {
        let later = || self.next.wrapping_add(item.wrapping_sub(self.old.len() as u32));
        self.old.get(item as usize).copied().unwrap_or_else(later)
    }

    /// Remaps the keys after an eviction.
    pub fn keep(&mut self, items: &RowRemap) {
        let old = items.kept().map(|(old, _)| self.of(old as u32)).collect();
        *self = Self { old, next: self.of(items.n_rows() as u32) };
    }

    /// Saves the state that [`Self::restore`] reads.
    pub fn save(&self, out: &mut StateDict) {
        out.put_u32("keys", [self.next].iter().chain(&self.old).copied().collect());
    }

    /// Restores the keys of at most `n_items` items.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restore(n_items: usize, saved: &mut StateDict) -> Result<Self, StateDictError> {
        let keys = saved.take_u32("keys")?;
        match keys.split_first() {
            Some((next, old)) if old.len() <= n_items => Ok(Self { old: old.to_vec(), next: *next }),
            _ => Err(saved.error("keys", "are none, or of more items than there are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_renumbering_and_are_never_reused() {
        let mut keys = Keys::default();
        assert_eq!([0, 5, 9].map(|row| keys.of(row)), [0, 5, 9]);
        // Ten rows, of which the even ones go; then two more come, and one goes.
        keys.keep(&RowRemap::of_rows(10, |row| row % 2 == 1));
        assert_eq!([0, 1, 4, 5, 6].map(|row| keys.of(row)), [1, 3, 9, 10, 11]);
        keys.keep(&RowRemap::of_rows(7, |row| row != 1));
        assert_eq!((0..8).map(|row| keys.of(row)).collect::<Vec<_>>(), [1, 5, 7, 9, 10, 11, 12, 13]);
        let mut saved = StateDict::default();
        keys.save(&mut saved);
        assert!(Keys::restore(5, &mut saved.clone()).is_err());
        assert_eq!(Keys::restore(6, &mut saved), Ok(keys));
    }

    #[test]
    fn sketch_rows_spread_keys_evenly_and_independently() {
        let rows = SketchRows::new(1_000, 3);
        let mut counts = vec![0u32; rows.cells()];
        for key in 0..100_000 {
            let places: Vec<_> = rows.places(key).collect();
            assert!(places.iter().enumerate().all(|(row, place)| place / 1_000 == row), "{places:?}");
            places.into_iter().for_each(|place| counts[place] += 1);
        }
        // A hundred each, ± 10.
        assert!(counts.iter().all(|count| (50..160).contains(count)), "{:?}", counts.iter().max());
        let mut together = 0;
        let first: Vec<_> = rows.places(0).collect();
        for key in 1..100_000 {
            let shared = rows.places(key).zip(&first).filter(|(a, b)| a == *b).count();
            together += usize::from(shared > 1);
        }
        assert!(together <= 3, "{together} keys share two cells with the first");
    }
}
