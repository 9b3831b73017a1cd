//! Change tracking: which rows of a table changed since a mark.
//!
//! Each row has the number of the interval in which it changed last, and a mark ends an interval. So a change costs one
//! store beside a row that is being written anyway, and any number of readers can ask for the changes since marks of their
//! own. A table that is not tracked pays nothing.

use super::row_remap::RowRemap;

/// A point in time between two changes of a table. Marks are ordered as they were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeMark(u32);

impl ChangeMark {
    /// Before every change: since then, every row counts as changed.
    pub const START: Self = Self(0);

    /// The mark that ends the interval after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// When each row of a table changed last, in intervals between marks.
#[derive(Debug, Clone)]
pub struct RowChanges {
    /// The interval that the next mark ends.
    interval: ChangeMark,
    /// By row: the interval of its newest change.
    changed_in: Vec<ChangeMark>,
}

impl RowChanges {
    /// Tracks a table of `n_rows` rows, all of which count as changed.
    pub fn new(n_rows: usize) -> Self {
        let interval = ChangeMark::START.next();
        Self { interval, changed_in: vec![interval; n_rows] }
    }

    /// Sets a mark: changes from here on are changes since it.
    pub fn mark(&mut self) -> ChangeMark {
        let mark = self.interval;
        self.interval = mark.next();
        mark
    }

    /// The interval that the next mark ends.
    pub fn interval(&self) -> ChangeMark {
        self.interval
    }

    /// Adds a row behind the last one, as changed.
    pub fn push(&mut self) {
        self.changed_in.push(self.interval);
    }

    /// Notes that row `row` changed.
    #[inline]
    pub fn touch(&mut self, row: usize) {
        self.changed_in[row] = self.interval;
    }

    /// Remaps rows after eviction. A row that moves up has not changed.
    pub fn keep(&mut self, rows: &RowRemap) {
        rows.keep(&mut self.changed_in);
    }

    /// Whether row `row` changed since `mark`.
    pub fn is_changed(&self, row: usize, mark: ChangeMark) -> bool {
        self.changed_in[row] > mark
    }

    /// All rows, to be noted by threads that share them out.
    pub fn share(&mut self) -> SharedChanges<'_> {
        SharedChanges { interval: self.interval, changed_in: &mut self.changed_in }
    }
}

/// The changes of neighbouring rows, of which one thread takes note.
#[derive(Debug)]
pub struct SharedChanges<'a> {
    interval: ChangeMark,
    changed_in: &'a mut [ChangeMark],
}

impl SharedChanges<'_> {
    /// The first `n_rows` rows, and the others.
    pub fn split_at(self, n_rows: usize) -> (Self, Self) {
        let Self { interval, changed_in } = self;
        let (first, others) = changed_in.split_at_mut(n_rows.min(changed_in.len()));
        (Self { interval, changed_in: first }, Self { interval, changed_in: others })
    }

    /// Notes that row `row`, counted from the first here, changed.
    #[inline]
    pub fn touch(&mut self, row: usize) {
        self.changed_in[row] = self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Operation {
        Push,
        Touch(usize),
        Keep(Vec<bool>),
        Mark,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            2 => Just(Operation::Push),
            4 => any::<usize>().prop_map(Operation::Touch),
            1 => proptest::collection::vec(any::<bool>(), 64).prop_map(Operation::Keep),
            2 => Just(Operation::Mark),
        ]
    }

    proptest! {
        /// Against the list of changes since each mark.
        #[test]
        fn changes_since_a_mark_match_a_list_of_changes(operations in proptest::collection::vec(operation(), 0..80)) {
            let mut changes = RowChanges::new(3);
            // By mark: whether each row changed since.
            let mut truth: Vec<(ChangeMark, Vec<bool>)> = vec![(ChangeMark::START, vec![true; 3])];
            let mut n_rows = 3;
            for operation in operations {
                match operation {
                    Operation::Push => {
                        changes.push();
                        truth.iter_mut().for_each(|(_, changed)| changed.push(true));
                        n_rows += 1;
                    }
                    Operation::Touch(_) if n_rows == 0 => {}
                    Operation::Touch(row) => {
                        changes.touch(row % n_rows);
                        truth.iter_mut().for_each(|(_, changed)| changed[row % n_rows] = true);
                    }
                    Operation::Keep(stays) => {
                        let rows = RowRemap::of_rows(n_rows, |row| stays[row as usize % stays.len()]);
                        changes.keep(&rows);
                        truth.iter_mut().for_each(|(_, changed)| rows.keep(changed));
                        n_rows = rows.n_kept();
                    }
                    Operation::Mark => truth.push((changes.mark(), vec![false; n_rows])),
                }
                for (mark, changed) in &truth {
                    let found: Vec<bool> = (0..n_rows).map(|row| changes.is_changed(row, *mark)).collect();
                    prop_assert_eq!(&found, changed);
                }
            }
        }
    }
}
