//! Numbers of rows that hold for one batch: forgotten all at once, without touching a row.

use crate::kernel::rows::prefetch_one;

/// By row: the batch in which it was marked last, and its number there.
#[derive(Debug, Default)]
pub struct GenerationMap {
    rows: Vec<(u32, u32)>,
    batch: u32,
}

impl GenerationMap {
    /// Forgets all numbers; rows are below `n_rows` from now on.
    pub fn begin(&mut self, n_rows: usize) {
        if self.batch == u32::MAX {
            self.rows.fill((0, 0));
            self.batch = 0;
        }
        self.batch += 1;
        self.rows.resize(n_rows, (0, 0));
    }

    /// Asks memory for what is known of `row`, which will be looked up soon.
    #[inline]
    pub fn ask_ahead(&self, row: u32) {
        if let Some(number) = self.rows.get(row as usize) {
            prefetch_one(number);
        }
    }

    /// The number of `row`, where it has one.
    #[inline]
    pub fn get(&self, row: u32) -> Option<u32> {
        match self.rows.get(row as usize) {
            Some((batch, number)) if *batch == self.batch => Some(*number),
            _ => None,
        }
    }

    /// Gives `row` a number.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn set(&mut self, row: u32, number: u32) {
        self.rows[row as usize] = (self.batch, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_map_forgets_with_each_batch() {
        let mut marks = GenerationMap::default();
        marks.begin(2);
        assert_eq!((marks.get(0), marks.get(5)), (None, None));
        marks.set(0, 7);
        assert_eq!((marks.get(0), marks.get(1)), (Some(7), None));
        marks.begin(3);
        assert_eq!(marks.get(0), None);
        marks.set(2, 0);
        // The last batch that can be counted.
        marks.batch = u32::MAX;
        marks.begin(3);
        assert!((0..3).all(|row| marks.get(row).is_none()));
    }
}
