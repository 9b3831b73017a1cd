//! Rows and numbers with what the optimizer keeps of them.
//!
//! Only what has a gradient moves, so a step touches only the rows of its batch.

use super::baseline::RowBaseline;
use super::changes::{RowChanges, SharedChanges};
use super::row_remap::RowRemap;
use super::rows::{CHUNK, RowChunk, Rows};
use crate::kernel::Kernel;
use crate::kernel::rows::{adagrad, prefetch, rowwise_adagrad};

/// Where the sums begin: small, so that a first gradient moves a number by about the learning rate.
pub const START: f32 = 1e-6;

/// How rows are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// A sum for each number.
    Adagrad,
    /// A sum for each row: half the memory.
    RowwiseAdagrad,
}

/// Rows and their sums, growing together.
#[derive(Debug, Clone)]
pub struct TrainedRows {
    /// The rows.
    pub values: Rows,
    /// Adagrad's sums: as wide as the rows, or one for each.
    pub sums: Rows,
    optimizer: Optimizer,
    /// When each row changed last, where somebody wants to know.
    changes: Option<RowChanges>,
    /// The rows that moved since a mark, as they were then, where somebody wants to know how far they moved.
    baseline: Option<RowBaseline>,
}

impl TrainedRows {
    /// No rows yet.
    pub fn new(dim: usize, optimizer: Optimizer) -> Self {
        let sums = match optimizer {
            Optimizer::Adagrad => dim,
            Optimizer::RowwiseAdagrad => 1,
        };
        Self { values: Rows::new(dim), sums: Rows::new(sums), optimizer, changes: None, baseline: None }
    }

    /// Adds a row that starts as `fill` makes it.
    pub fn push(&mut self, fill: impl FnOnce(&mut [f32])) {
        self.values.push(fill);
        self.sums.push(|row| row.fill(START));
        if let Some(changes) = &mut self.changes {
            changes.push();
        }
    }

    /// Remaps rows after eviction.
    pub fn keep(&mut self, rows: &RowRemap) {
        let Self { values, sums, optimizer: _, changes, baseline } = self;
        values.keep(rows);
        sums.keep(rows);
        if let Some(changes) = changes {
            changes.keep(rows);
        }
        if let Some(baseline) = baseline {
            baseline.keep_rows(rows);
        }
    }

    /// Starts to track which rows change; all of them count as changed at first.
    pub fn track_changes(&mut self) {
        self.changes = Some(RowChanges::new(self.values.len()));
    }

    /// The changes of the rows, where they are tracked.
    pub fn changes(&self) -> Option<&RowChanges> {
        self.changes.as_ref()
    }

    /// The changes of the rows, where they are tracked, to be marked.
    pub fn changes_mut(&mut self) -> Option<&mut RowChanges> {
        self.changes.as_mut()
    }

    /// Starts to keep what rows are before they move ([`Self::keep_copies`]): the mark is now.
    pub fn track_moves(&mut self) {
        self.baseline = Some(RowBaseline::new(self.values.dim() + self.sums.dim()));
    }

    /// The rows that moved since the mark, where that is tracked.
    pub fn baseline(&self) -> Option<&RowBaseline> {
        self.baseline.as_ref()
    }

    /// Keeps copies of those of `rows` that have none since the mark: they are about to move. Where moves are not tracked, this
    /// does nothing.
    pub fn keep_copies(&mut self, rows: impl IntoIterator<Item = u32>) {
        let Self { values, sums, baseline: Some(baseline), .. } = self else { return };
        for row in rows.into_iter().map(|row| row as usize) {
            if !baseline.has(row) {
                baseline.keep_copy(row, values.row(row), sums.row(row));
            }
        }
    }

    /// Hands over how far each row moved since the mark, and sets a new one. `take` is told the row, and its values and sums one
    /// behind the other, as moves; it may round them, and by what it leaves there the row has moved in the end; a row whose values
    /// that alters has changed. Rows whose moves are all 0 are passed over. Gives the rows that were rounded or not, as long as they have moved.
    pub fn take_moves(&mut self, mut take: impl FnMut(u32, &mut [f32])) -> Vec<u32> {
        let Self { values, sums, changes, baseline: Some(baseline), .. } = self else { return Vec::new() };
        let (dim, mut moved) = (values.dim(), Vec::new());
        let mut moves = vec![0.0; dim + sums.dim()];
        for row in baseline.rows() {
            let place = *row as usize;
            let before = baseline.copy(place).expect("it is one of those with a copy");
            let (before_values, before_sums) = before.split_at(dim);
            let (of_values, of_sums) = moves.split_at_mut(dim);
            subtract(of_values, values.row(place), before_values);
            subtract(of_sums, sums.row(place), before_sums);
            if moves.iter().all(|part| *part == 0.0) {
                continue;
            }
            take(*row, &mut moves);
            let (of_values, of_sums) = moves.split_at(dim);
            let is_altered = add(values.row_mut(place), before_values, of_values);
            add(sums.row_mut(place), before_sums, of_sums);
            if let Some(changes) = changes.as_mut().filter(|_| is_altered) {
                changes.touch(place);
            }
            moved.push(*row);
        }
        baseline.mark();
        moved
    }

    /// Adds to row `row` what somebody else has moved it by: values and sums one behind the other. It is none of the moves that
    /// [`Self::take_moves`] hands over.
    pub fn add_moves(&mut self, row: usize, moves: &[f32]) {
        let Self { values, sums, optimizer: _, changes, baseline } = self;
        let (of_values, of_sums) = moves.split_at(values.dim());
        accumulate(values.row_mut(row), of_values);
        accumulate(sums.row_mut(row), of_sums);
        if let Some(copy) = baseline.as_mut().and_then(|baseline| baseline.copy_mut(row)) {
            accumulate(copy, moves);
        }
        if let Some(changes) = changes {
            changes.touch(row);
        }
    }

    /// Sets row `row` to `values`, and each of its sums to `sum`.
    pub fn set(&mut self, row: usize, values: &[f32], sum: f32) {
        self.values.row_mut(row).copy_from_slice(values);
        self.sums.row_mut(row).fill(sum);
        if let Some(changes) = &mut self.changes {
            changes.touch(row);
        }
    }

    /// Moves row `row` against `gradient`; gives 1/norm of the moved row, NaN where it is not finite.
    pub fn step(&mut self, kernel: Kernel, row: usize, gradient: &[f32], rate: f32) -> f32 {
        if let Some(changes) = &mut self.changes {
            changes.touch(row);
        }
        step(kernel, self.optimizer, self.values.row_mut(row), self.sums.row_mut(row), gradient, rate)
    }

    /// A frozen copy of the rows, whose changes are not tracked: [`super::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        let Self { values, sums, optimizer, changes: _, baseline: _ } = self;
        Self { values: values.freeze(), sums: sums.freeze(), optimizer: *optimizer, changes: None, baseline: None }
    }

    /// A frozen copy of the rows alone: what moves them stays behind. It is for reading.
    #[must_use]
    pub fn freeze_values(&mut self) -> Self {
        let values = self.values.freeze();
        self.to_read(values)
    }

    /// The same, by rows that followed these before, or are new ([`Rows::follow`]): for those who read all the time.
    #[must_use]
    pub fn follow_values(&mut self, mut values: Rows) -> Self {
        self.values.follow(&mut values);
        self.to_read(values)
    }

    fn to_read(&self, values: Rows) -> Self {
        let sums = Rows::new(self.sums.dim());
        Self { values, sums, optimizer: self.optimizer, changes: None, baseline: None }
    }

    /// Takes back rows that frozen copies which are gone had shared: [`super::chunks::Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        // Each by itself: a copy that lasts may share one of them alone.
        self.values.thaw(budget) & self.sums.thaw(budget)
    }

    /// All rows, to be shared out among threads.
    pub fn share(&mut self) -> Share<'_> {
        let (dim, sums_dim, optimizer) = (self.values.dim(), self.sums.dim(), self.optimizer);
        let (values, sums) = (self.values.chunks_to_share(), self.sums.chunks_to_share());
        let changes = self.changes.as_mut().map(RowChanges::share);
        Share { values, sums, dim, sums_dim, optimizer, changes }
    }
}

/// Neighbouring rows: whole chunks of [`super::rows::CHUNK`].
#[derive(Debug)]
pub struct Share<'a> {
    values: &'a mut [RowChunk],
    sums: &'a mut [RowChunk],
    dim: usize,
    sums_dim: usize,
    optimizer: Optimizer,
    changes: Option<SharedChanges<'a>>,
}

impl Share<'_> {
    /// The first `n_chunks` chunks, and the others.
    pub fn split_at(self, n_chunks: usize) -> (Self, Self) {
        let Self { values, sums, dim, sums_dim, optimizer, changes } = self;
        let (changes, more_changes) = changes.map(|changes| changes.split_at(n_chunks * CHUNK)).unzip();
        let ((values, more_values), (sums, more_sums)) = (values.split_at_mut(n_chunks), sums.split_at_mut(n_chunks));
        (
            Self { values, sums, dim, sums_dim, optimizer, changes },
            Self { values: more_values, sums: more_sums, dim, sums_dim, optimizer, changes: more_changes },
        )
    }

    /// Row `row` of chunk `chunk`, both counted from the first here.
    pub fn row(&self, chunk: usize, row: usize) -> &[f32] {
        self.values[chunk].row(row, self.dim)
    }

    /// Asks memory for row `row` of chunk `chunk`, and what moves it.
    #[inline]
    pub fn ask_ahead(&self, chunk: usize, row: usize) {
        prefetch(self.values[chunk].row(row, self.dim));
        prefetch(self.sums[chunk].row(row, self.sums_dim));
    }

    /// Moves row `row` of chunk `chunk` against `gradient`, as [`TrainedRows::step`] does.
    pub fn step(&mut self, kernel: Kernel, (chunk, row): (usize, usize), gradient: &[f32], rate: f32) -> f32 {
        if let Some(changes) = &mut self.changes {
            changes.touch(chunk * CHUNK + row);
        }
        let values = self.values[chunk].row_mut(row, self.dim);
        let sums = self.sums[chunk].row_mut(row, self.sums_dim);
        step(kernel, self.optimizer, values, sums, gradient, rate)
    }
}

fn step(
    kernel: Kernel,
    optimizer: Optimizer,
    values: &mut [f32],
    sums: &mut [f32],
    gradient: &[f32],
    rate: f32,
) -> f32 {
    match optimizer {
        Optimizer::Adagrad => adagrad(kernel, values, sums, gradient, rate),
        Optimizer::RowwiseAdagrad => rowwise_adagrad(kernel, values, &mut sums[0], gradient, rate),
    }
}

/// `out = now − before`. These loops go over indices, as those of the kernel do.
fn subtract(out: &mut [f32], now: &[f32], before: &[f32]) {
    let (now, before) = (&now[..out.len()], &before[..out.len()]);
    for k in 0..out.len() {
        out[k] = now[k] - before[k];
    }
}

/// `out = before + moves`; whether that alters a number of `out`.
fn add(out: &mut [f32], before: &[f32], moves: &[f32]) -> bool {
    let (before, moves) = (&before[..out.len()], &moves[..out.len()]);
    let mut is_altered = false;
    for k in 0..out.len() {
        let sum = before[k] + moves[k];
        is_altered |= sum.to_bits() != out[k].to_bits();
        out[k] = sum;
    }
    is_altered
}

/// `out += moves`.
fn accumulate(out: &mut [f32], moves: &[f32]) {
    let moves = &moves[..out.len()];
    for k in 0..out.len() {
        out[k] += moves[k];
    }
}

/// A few learned numbers that belong to no row (weights of positions, β, …), with their sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The numbers.
    pub values: Vec<f32>,
    /// Adagrad's sums.
    pub sums: Vec<f32>,
}

impl Parameters {
    /// Starting at `values`.
    pub fn new(values: Vec<f32>) -> Self {
        let sums = vec![START; values.len()];
        Self { values, sums }
    }

    /// Moves the numbers against `gradients`.
    pub fn step(&mut self, kernel: Kernel, gradients: &[f32], learning_rate: f32) {
        adagrad(kernel, &mut self.values, &mut self.sums, gradients, learning_rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_sets_or_rounds_a_row_counts_as_a_change() {
        let mut rows = TrainedRows::new(2, Optimizer::Adagrad);
        (0..4).for_each(|_| rows.push(|row| row.fill(1.0)));
        rows.track_changes();
        rows.track_moves();
        let kernel = Kernel::detect();
        rows.keep_copies([1, 3]);
        [1, 3].into_iter().for_each(|row| _ = rows.step(kernel, row, &[0.5, -0.25], 0.1));
        let changed = |rows: &TrainedRows, mark| {
            let changes = rows.changes().expect("changes are tracked");
            (0..4).map(|row| changes.is_changed(row, mark)).collect::<Vec<_>>()
        };
        // A sink that published the rows up to this mark has to publish them again once their moves are rounded.
        let mark = rows.changes_mut().expect("changes are tracked").mark();
        assert_eq!(changed(&rows, mark), [false; 4]);
        let moved = rows.take_moves(|_, moves| moves.iter_mut().for_each(|number| *number *= 0.5));
        assert_eq!(moved, [1, 3]);
        assert_eq!(changed(&rows, mark), [false, true, false, true]);
        rows.set(0, &[2.0, 3.0], 0.5);
        assert_eq!((rows.values.row(0), rows.sums.row(0)), (&[2.0, 3.0][..], &[0.5, 0.5][..]));
        assert_eq!(changed(&rows, mark), [true, true, false, true]);
        let mark = rows.changes_mut().expect("changes are tracked").mark();
        rows.add_moves(2, &[0.5, 0.5, 0.0, 0.0]);
        assert_eq!(changed(&rows, mark), [false, false, true, false]);
        // It has no need to where the moves are handed over as they are.
        rows.keep_copies([3]);
        rows.step(kernel, 3, &[0.5, -0.25], 0.1);
        let mark = rows.changes_mut().expect("changes are tracked").mark();
        assert_eq!(rows.take_moves(|_, _| ()), [3]);
        assert_eq!(changed(&rows, mark), [false; 4]);
    }
}
