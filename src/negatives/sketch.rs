//! Where in a sketch of fixed size a key is: one cell in each of a few rows, by hashes that are always alike, unlike the
//! standard library's. Two keys that share a cell in one row hardly ever share those of the others.

use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::table::rows::{GOLDEN, split_mix};

/// Rows of cells, row after row in one array that is the owner's.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    width: usize,
    seeds: Vec<u64>,
}

impl Rows {
    /// `rows` rows of `width` cells each; one at least of each.
    pub fn new(width: usize, rows: usize) -> Self {
        let seeds = (1..=rows.max(1) as u64).map(|row| split_mix(row.wrapping_mul(GOLDEN))).collect();
        Self { width: width.max(1), seeds }
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.width * self.seeds.len()
    }

    /// The places of the cells of `key`, row after row.
    pub fn places(&self, key: u64) -> impl Iterator<Item = usize> {
        let width = self.width;
        self.seeds.iter().enumerate().map(move |(row, seed)| {
            let hash = split_mix(seed ^ key);
            row * width + ((u128::from(hash) * width as u128) >> 64) as usize
        })
    }
}

/// What items are known by in a sketch: numbers that they keep when rows are renumbered, and that nobody gets again.
/// As long as no row has gone, they are the rows' own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// Of the rows that there were when rows went last.
    old: Vec<u32>,
    /// Of the first row after these.
    next: u32,
}

impl Keys {
    /// The key of row `item`.
    #[inline]
    pub fn of(&self, item: u32) -> u32 {
        let later = || self.next.wrapping_add(item.wrapping_sub(self.old.len() as u32));
        self.old.get(item as usize).copied().unwrap_or_else(later)
    }

    /// Keeps the keys of the items that stay.
    pub fn keep(&mut self, items: &RowRemap) {
        let old = items.kept().map(|(old, _)| self.of(old as u32)).collect();
        *self = Self { old, next: self.of(items.n_rows() as u32) };
    }

    /// Puts down what [`Self::restore`] needs.
    pub fn save(&self, out: &mut StateDict) {
        out.put_whole("keys", [self.next].iter().chain(&self.old).copied().collect());
    }

    /// Brings back what was saved, of at most `n_items` items.
    ///
    /// # Errors
    /// Where something is missing or cannot be.
    pub fn restore(n_items: usize, saved: &mut StateDict) -> Result<Self, StateDictError> {
        let keys = saved.take_whole("keys")?;
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
    fn items_keep_their_keys_and_nobody_gets_them_again() {
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
    fn keys_fall_evenly_and_apart_in_each_row() {
        let rows = Rows::new(1_000, 3);
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
