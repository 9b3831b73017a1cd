//! Rows of numbers that grow without ever moving, and can be frozen: see [`super::chunks`].

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

pub use super::chunks::CHUNK;
use super::chunks::{Block, Chunk, Chunks};
use super::row_remap::RowRemap;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::copy_rows;

/// [`CHUNK`] neighbouring rows.
pub type RowChunk = Chunk<Aligned<f32>>;

/// A growing table of rows of `dim` numbers each.
#[derive(Debug, Clone)]
pub struct Rows(Chunks<Aligned<f32>>);

impl Block for Aligned<f32> {
    type Row = [f32];

    fn n_rows(&self, width: usize) -> usize {
        self.len() / width
    }

    #[inline]
    fn row(&self, row: usize, width: usize) -> &[f32] {
        &self[row * width..][..width]
    }

    #[inline]
    fn row_mut(&mut self, row: usize, width: usize) -> &mut [f32] {
        &mut self[row * width..][..width]
    }

    #[inline]
    fn rows_mut(&mut self, width: usize) -> impl Iterator<Item = &mut [f32]> {
        self.chunks_exact_mut(width)
    }

    fn copy_all(pairs: &mut [(&[f32], &mut [f32])]) {
        copy_rows(pairs);
    }

    fn put_copy(&mut self, place: usize, row: &[f32], width: usize) {
        match self.get_mut(place * width..(place + 1) * width) {
            Some(old) => old.copy_from_slice(row),
            None => self.extend_from_slice(row),
        }
    }

    fn take_back(&mut self, row: usize, other: &mut Self, from: usize, width: usize) {
        let numbers = other.row(from, width);
        match self.get_mut(row * width..(row + 1) * width) {
            Some(old) => old.copy_from_slice(numbers),
            None => self.extend_from_slice(numbers),
        }
    }

    fn move_up(&mut self, from: usize, to: usize, width: usize) {
        self.copy_within(from * width..(from + 1) * width, to * width);
    }

    fn truncate(&mut self, n_rows: usize, width: usize) {
        self.resize(n_rows * width, 0.0);
    }

    fn recycle(&mut self, _width: usize) {
        self.clear();
    }
}

impl Rows {
    /// No rows yet.
    pub fn new(dim: usize) -> Self {
        Self(Chunks::new(dim))
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.0.width()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.n_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row, filled in by `fill`.
    pub fn push(&mut self, fill: impl FnOnce(&mut [f32])) {
        let dim = self.dim();
        self.0.push(
            || Aligned::with_capacity(CHUNK * dim),
            |numbers| {
                let begin = numbers.len();
                numbers.resize(begin + dim, 0.0);
                fill(&mut numbers[begin..]);
            },
        );
    }

    /// Row `row`.
    #[inline]
    pub fn row(&self, row: usize) -> &[f32] {
        self.0.row(row)
    }

    /// Row `row`, to be changed.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        self.0.row_mut(row)
    }

    /// The chunks in order, to be changed by threads that share them out.
    pub fn chunks_to_share(&mut self) -> &mut [RowChunk] {
        self.0.chunks_mut()
    }

    /// How many chunks there are; all but the last hold [`CHUNK`] rows.
    pub fn n_chunks(&self) -> usize {
        self.0.chunks().len()
    }

    /// The numbers of chunk `chunk`, one row behind the other; they are put together in `scratch` where they do not lie so.
    pub fn chunk<'a>(&'a self, chunk: usize, scratch: &'a mut Aligned<f32>) -> &'a [f32] {
        let rows = &self.0.chunks()[chunk];
        if let Some(numbers) = rows.whole() {
            return numbers;
        }
        scratch.clear();
        let n_rows = (self.len() - chunk * CHUNK).min(CHUNK);
        (0..n_rows).for_each(|row| scratch.extend_from_slice(rows.row(row, self.dim())));
        scratch
    }

    /// Every number, row by row.
    #[cfg(test)]
    pub(crate) fn numbers_mut(&mut self) -> Vec<&mut f32> {
        let dim = self.dim();
        let rows = self.0.chunks_mut().iter_mut().map(|chunk| chunk.own().expect("the rows are shared with nobody"));
        let rows = rows.flat_map(|block| block.chunks_exact_mut(dim));
        rows.flatten().collect()
    }

    /// Remaps rows after eviction.
    pub fn keep(&mut self, rows: &RowRemap) {
        let dim = self.dim();
        self.0.keep(rows, || Aligned::with_capacity(CHUNK * dim));
    }

    /// A frozen copy of the rows: [`super::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        Self(self.0.freeze())
    }

    /// Whether no frozen copy shares any of them.
    pub fn is_own(&self) -> bool {
        self.0.is_own()
    }

    /// Makes `copy`, which followed before or is new, the same rows as these: [`Chunks::follow`].
    pub fn follow(&mut self, copy: &mut Self) {
        let dim = self.dim();
        self.0.follow(&mut copy.0, || Aligned::with_capacity(CHUNK * dim));
    }

    /// Takes back rows that frozen copies which are gone had shared: [`Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.0.thaw(budget)
    }
}

/// Fills `row` with a new row's starting values, N(0, (scale/√dim)²), which depend on the seed, the row's role and its
/// name alone: not on when it came, nor on what else there is.
pub fn start(row: &mut [f32], seed: u64, role: &str, name: &str, scale: f32) {
    let mut random = Pcg64Mcg::seed_from_u64(stable_hash(seed, &[role, name]));
    let deviation = scale / (row.len() as f32).sqrt();
    for number in row {
        let normal: f32 = StandardNormal.sample(&mut random);
        *number = normal * deviation;
    }
}

/// FNV-1a over the parts, each closed by a byte that no text holds; the same on every machine and in every version.
pub fn stable_hash(seed: u64, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    seed.to_le_bytes().into_iter().for_each(&mut eat);
    for part in parts {
        part.bytes().for_each(&mut eat);
        eat(0xff);
    }
    hash
}

/// 2⁶⁴/φ: what SplitMix64 goes on by from number to number.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads whole numbers evenly: the finaliser of SplitMix64 (Steele et al. 2014).
pub fn split_mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_stay_where_they_are() {
        let mut rows = Rows::new(3);
        rows.push(|row| row.fill(1.0));
        let place = rows.row(0).as_ptr();
        for number in 1..CHUNK * 2 + 1 {
            rows.push(|row| row[2] = number as f32);
        }
        assert_eq!(rows.row(0).as_ptr(), place);
        assert_eq!(rows.row(CHUNK + 5), [0.0, 0.0, (CHUNK + 5) as f32]);
        let lengths = (0..rows.n_chunks()).map(|chunk| rows.chunk(chunk, &mut Aligned::default()).len());
        assert_eq!(lengths.collect::<Vec<_>>(), [CHUNK * 3, CHUNK * 3, 3]);
    }

    proptest! {
        #[test]
        fn kept_rows_are_as_they_were(stays in proptest::collection::vec(any::<bool>(), 0..1_100), more in 0usize..300) {
            let mut rows = Rows::new(2);
            (0..stays.len()).for_each(|number| rows.push(|row| row.fill(number as f32)));
            let renumbering = RowRemap::of_rows(stays.len(), |row| stays[row as usize]);
            rows.keep(&renumbering);
            // As if the others had never been; and it goes on growing.
            let mut truth = Rows::new(2);
            renumbering.kept().for_each(|(old, _)| truth.push(|row| row.fill(old as f32)));
            for number in 0..more {
                rows.push(|row| row.fill(-(number as f32)));
                truth.push(|row| row.fill(-(number as f32)));
            }
            prop_assert_eq!(rows.len(), truth.len());
            prop_assert!((0..rows.len()).all(|row| rows.row(row) == truth.row(row)));
            prop_assert_eq!(rows.n_chunks(), truth.n_chunks());
        }
    }

    #[test]
    fn starting_values_have_the_right_spread() {
        let (mut sum, mut squares) = (0.0, 0.0);
        let mut row = [0.0; 64];
        for item in 0..2000 {
            start(&mut row, 1, "item", &item.to_string(), 0.4);
            sum += row.iter().map(|&number| f64::from(number)).sum::<f64>();
            squares += row.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>();
        }
        let n = 2000.0 * 64.0;
        assert!((sum / n).abs() < 5e-4);
        assert!(((squares / n).sqrt() / (0.4 / 8.0) - 1.0).abs() < 0.01);
    }

    #[test]
    fn starting_values_depend_on_name_role_and_seed() {
        let make = |seed, role, name| {
            let mut row = [0.0; 4];
            start(&mut row, seed, role, name, 1.0);
            row
        };
        assert_eq!(make(1, "item", "a"), make(1, "item", "a"));
        assert_ne!(make(1, "item", "a"), make(1, "item", "b"));
        assert_ne!(make(1, "item", "a"), make(1, "context", "a"));
        assert_ne!(make(1, "item", "a"), make(2, "item", "a"));
    }
}
