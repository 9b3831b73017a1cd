//! Rows that go, and the new numbers of those that stay.
//!
//! Whoever holds something by row, or refers to rows, has a method that takes this. Rows that stay keep their order and
//! move up, so what was sorted by row stays sorted.

/// The number of a row that is gone.
const GONE: u32 = u32::MAX;

/// The new numbers of the rows that stay after an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRemap {
    /// By old number.
    new: Vec<u32>,
    n_kept: usize,
}

impl RowRemap {
    /// The remap of `n_rows` rows of which the rows stay for which `stays` is true.
    pub fn of_rows(n_rows: usize, mut stays: impl FnMut(u32) -> bool) -> Self {
        let mut n_kept = 0;
        let number = |row: u32| {
            if stays(row) {
                n_kept += 1;
                n_kept - 1
            } else {
                GONE
            }
        };
        let new = (0..n_rows as u32).map(number).collect();
        Self { new, n_kept: n_kept as usize }
    }

    /// How many rows there were.
    pub fn n_rows(&self) -> usize {
        self.new.len()
    }

    /// How many stay.
    pub fn n_kept(&self) -> usize {
        self.n_kept
    }

    /// The new number of `row`; `None` where it is gone, or never was.
    pub fn get(&self, row: u32) -> Option<u32> {
        self.new.get(row as usize).copied().filter(|new| *new != GONE)
    }

    /// (old number, new number) of the rows that stay, in order.
    pub fn kept(&self) -> impl Iterator<Item = (usize, usize)> {
        let kept = self.new.iter().enumerate().filter(|(_, new)| **new != GONE);
        kept.map(|(old, new)| (old, *new as usize))
    }

    /// Keeps of `values`, which are by row, those of the rows that stay. There may be fewer values than rows.
    pub fn keep<T>(&self, values: &mut Vec<T>) {
        let mut new = self.new.iter();
        values.retain(|_| new.next().is_some_and(|new| *new != GONE));
    }

    /// Gives the rows in `rows` their new numbers; those that are gone leave the list.
    pub fn renumber(&self, rows: &mut Vec<u32>) {
        self.renumber_by(rows, |row| row);
    }

    /// Remaps entries that each refer to a row; entries of evicted rows leave the list.
    pub fn renumber_by<T>(&self, entries: &mut Vec<T>, row: impl Fn(&mut T) -> &mut u32) {
        entries.retain_mut(|entry| {
            let row = row(entry);
            let new = self.get(*row);
            *row = new.unwrap_or(*row);
            new.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn remap_moves_kept_rows_up() {
        let rows = RowRemap::of_rows(6, |row| ![0, 3].contains(&row));
        assert_eq!((rows.n_rows(), rows.n_kept()), (6, 4));
        assert_eq!(
            (0..8).map(|row| rows.get(row)).collect::<Vec<_>>(),
            [None, Some(0), Some(1), None, Some(2), Some(3), None, None]
        );
        assert_eq!(rows.kept().collect::<Vec<_>>(), [(1, 0), (2, 1), (4, 2), (5, 3)]);
        let mut values = vec!['a', 'b', 'c', 'd', 'e'];
        rows.keep(&mut values);
        assert_eq!(values, ['b', 'c', 'e']);
        let mut list = vec![5, 3, 1, 5, 0];
        rows.renumber(&mut list);
        assert_eq!(list, [3, 0, 3]);
    }

    proptest! {
        #[test]
        fn remapped_values_follow_their_rows(stays in proptest::collection::vec(any::<bool>(), 0..200), list in proptest::collection::vec(0u32..200, 0..50)) {
            let rows = RowRemap::of_rows(stays.len(), |row| stays[row as usize]);
            let names: Vec<usize> = (0..stays.len()).map(|row| row * 10).collect();
            let mut kept = names.clone();
            rows.keep(&mut kept);
            prop_assert_eq!(kept.len(), rows.n_kept());
            for (old, new) in rows.kept() {
                prop_assert_eq!(kept[new], names[old]);
                prop_assert_eq!(rows.get(old as u32), Some(new as u32));
            }
            let mut renumbered = list.clone();
            rows.renumber(&mut renumbered);
            let expected: Vec<u32> = list.iter().filter_map(|row| rows.get(*row)).collect();
            prop_assert_eq!(renumbered, expected);
        }
    }
}
