//! Where in a sketch of fixed size a key is: one cell in each of a few rows, by hashes that are always alike, unlike the
//! standard library's. Two keys that share a cell in one row hardly ever share those of the others.

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

#[cfg(test)]
mod tests {
    use super::*;

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
