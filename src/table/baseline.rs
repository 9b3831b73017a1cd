//! Rows as they were at a mark, kept for those that moved since: what tells how far each of them has moved.
//!
//! A row is copied when it is about to move for the first time after the mark, so that a table pays for the rows that move
//! between two marks, and not for those that rest. Others may move a row meanwhile: then what they add is added to the
//! copy too, and the difference stays what was moved here.

use super::row_remap::RowRemap;

/// A row that has not moved since the mark.
const NONE: u32 = u32::MAX;

/// Copies of the rows that moved since a mark, as they were then, each with its sums.
#[derive(Debug, Clone)]
pub struct RowBaseline {
    /// By row: its place among the copies, or `NONE`. Rows behind the last have not moved.
    places: Vec<u32>,
    /// The rows that have a copy, in the order in which they moved first.
    rows: Vec<u32>,
    /// The copies, one behind the other: first the values of a row, then its sums.
    copies: Vec<f32>,
    width: usize,
}

impl RowBaseline {
    /// No row has moved yet; a row has `width` numbers, its sums included.
    pub fn new(width: usize) -> Self {
        Self { places: Vec::new(), rows: Vec::new(), copies: Vec::new(), width }
    }

    /// Whether row `row` has a copy.
    pub fn has(&self, row: usize) -> bool {
        self.places.get(row).is_some_and(|place| *place != NONE)
    }

    /// The rows that have a copy, in the order in which they moved first.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Copies row `row`, which has no copy yet: `values`, then `sums`.
    pub fn keep_copy(&mut self, row: usize, values: &[f32], sums: &[f32]) {
        if self.places.len() <= row {
            self.places.resize(row + 1, NONE);
        }
        self.places[row] = self.rows.len() as u32;
        self.rows.push(row as u32);
        self.copies.extend_from_slice(values);
        self.copies.extend_from_slice(sums);
    }

    /// The copy of row `row`, its values and sums one behind the other, if there is one.
    pub fn copy(&self, row: usize) -> Option<&[f32]> {
        let place = *self.places.get(row)?;
        (place != NONE).then(|| &self.copies[place as usize * self.width..][..self.width])
    }

    /// The copy of row `row`, to be changed, if there is one.
    pub fn copy_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        let place = *self.places.get(row)?;
        (place != NONE).then(|| &mut self.copies[place as usize * self.width..][..self.width])
    }

    /// Sets a mark: no row has moved since.
    pub fn mark(&mut self) {
        self.rows.iter().for_each(|row| self.places[*row as usize] = NONE);
        self.rows.clear();
        self.copies.clear();
    }

    /// Remaps rows after an eviction; the copies of evicted rows leave.
    pub fn keep_rows(&mut self, remap: &RowRemap) {
        let width = self.width;
        let old = std::mem::take(&mut self.copies);
        let rows = std::mem::take(&mut self.rows);
        self.places.clear();
        self.places.resize(remap.n_kept(), NONE);
        for (copy, row) in old.chunks_exact(width).zip(rows) {
            if let Some(row) = remap.get(row) {
                self.places[row as usize] = self.rows.len() as u32;
                self.rows.push(row);
                self.copies.extend_from_slice(copy);
            }
        }
    }

    /// Bytes that the copies take, and what finds them.
    pub fn bytes(&self) -> usize {
        (self.copies.capacity() + self.rows.capacity() + self.places.capacity()) * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of copies by the rows' names, which outlast evictions.
        #[test]
        fn copies_follow_their_rows(
            rounds in proptest::collection::vec(
                (proptest::collection::vec(0usize..40, 0..20), proptest::option::of(proptest::collection::vec(any::<bool>(), 40)), any::<bool>()),
                0..12,
            ),
        ) {
            let mut baseline = RowBaseline::new(3);
            let mut names: Vec<usize> = (0..40).collect();
            let mut truth: Vec<usize> = Vec::new();
            for (moved, stays, marks) in rounds {
                for row in moved.into_iter().filter(|row| *row < names.len()) {
                    let name = names[row];
                    prop_assert_eq!(baseline.has(row), truth.contains(&name));
                    if !baseline.has(row) {
                        baseline.keep_copy(row, &[name as f32, 1.0], &[-(name as f32)]);
                        truth.push(name);
                    }
                }
                if let Some(stays) = stays {
                    let remap = RowRemap::of_rows(names.len(), |row| stays[row as usize]);
                    baseline.keep_rows(&remap);
                    remap.keep(&mut names);
                    truth.retain(|name| names.contains(name));
                }
                if marks {
                    baseline.mark();
                    truth.clear();
                }
                let found: Vec<usize> = baseline.rows().iter().map(|row| names[*row as usize]).collect();
                prop_assert_eq!(&found, &truth);
                for (row, name) in names.iter().enumerate() {
                    let copy = baseline.copy(row).map(<[f32]>::to_vec);
                    let expected = truth.contains(name).then(|| vec![*name as f32, 1.0, -(*name as f32)]);
                    prop_assert_eq!(copy, expected);
                }
            }
        }
    }
}
