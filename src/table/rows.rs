//! Rows of numbers that grow without ever moving: chunks of [`CHUNK`] rows, each one allocation.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use super::renumbering::Renumbering;
use crate::kernel::aligned::Aligned;

/// Rows in a chunk: few enough that threads which move different chunks share the work evenly.
pub const CHUNK: usize = 256;

/// n × dim numbers.
#[derive(Debug, Clone)]
pub struct Rows {
    dim: usize,
    len: usize,
    chunks: Vec<Aligned<f32>>,
}

impl Rows {
    /// No rows yet.
    pub fn new(dim: usize) -> Self {
        Self { dim, len: 0, chunks: Vec::new() }
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a row, filled in by `fill`.
    pub fn push(&mut self, fill: impl FnOnce(&mut [f32])) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Aligned::with_capacity(CHUNK * self.dim));
        }
        let chunk = self.chunks.last_mut().expect("a chunk with room");
        let begin = chunk.len();
        chunk.resize(begin + self.dim, 0.0);
        fill(&mut chunk[begin..]);
        self.len += 1;
    }

    /// Row `row`.
    #[inline]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.chunks[row / CHUNK][row % CHUNK * self.dim..][..self.dim]
    }

    /// Row `row`, to be changed.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.chunks[row / CHUNK][row % CHUNK * self.dim..][..self.dim]
    }

    /// The chunks in order, to be changed by threads that share them out.
    pub fn chunks_to_share(&mut self) -> &mut [Aligned<f32>] {
        &mut self.chunks
    }

    /// Every number, chunk by chunk.
    #[cfg(test)]
    pub(crate) fn chunks_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.chunks.iter_mut().map(|chunk| &mut **chunk)
    }

    /// Keeps the rows that stay, in place.
    pub fn keep(&mut self, rows: &Renumbering) {
        let mut moved = vec![0.0; self.dim];
        for (old, new) in rows.kept().filter(|(old, new)| old != new) {
            moved.copy_from_slice(self.row(old));
            self.row_mut(new).copy_from_slice(&moved);
        }
        self.len = rows.n_kept();
        self.chunks.truncate(self.len.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut() {
            last.resize(((self.len - 1) % CHUNK + 1) * self.dim, 0.0);
        }
    }

    /// The chunks in order; all but the last hold [`CHUNK`] rows.
    pub fn chunks(&self) -> impl Iterator<Item = &[f32]> {
        self.chunks.iter().map(|chunk| &**chunk)
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
        assert_eq!(rows.chunks().map(<[f32]>::len).collect::<Vec<_>>(), [CHUNK * 3, CHUNK * 3, 3]);
    }

    proptest! {
        #[test]
        fn rows_that_stay_are_as_they_were(stays in proptest::collection::vec(any::<bool>(), 0..1_100), more in 0usize..300) {
            let mut rows = Rows::new(2);
            (0..stays.len()).for_each(|number| rows.push(|row| row.fill(number as f32)));
            let renumbering = Renumbering::of_rows(stays.len(), |row| stays[row as usize]);
            rows.keep(&renumbering);
            // As if the others had never been; and it goes on growing.
            let mut truth = Rows::new(2);
            renumbering.kept().for_each(|(old, _)| truth.push(|row| row.fill(old as f32)));
            for number in 0..more {
                rows.push(|row| row.fill(-(number as f32)));
                truth.push(|row| row.fill(-(number as f32)));
            }
            prop_assert_eq!(rows.len(), truth.len());
            prop_assert!(rows.chunks().eq(truth.chunks()));
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
