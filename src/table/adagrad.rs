//! Rows and numbers with what the optimizer keeps of them.
//!
//! Only what has a gradient moves, so a step touches only the rows of its batch.

use super::changes::{RowChanges, SharedChanges};
use super::row_remap::RowRemap;
use super::rows::{CHUNK, RowChunk, Rows};
use crate::kernel::Kernel;
use crate::kernel::rows::{adagrad, rowwise_adagrad};

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
}

impl TrainedRows {
    /// No rows yet.
    pub fn new(dim: usize, optimizer: Optimizer) -> Self {
        let sums = match optimizer {
            Optimizer::Adagrad => dim,
            Optimizer::RowwiseAdagrad => 1,
        };
        Self { values: Rows::new(dim), sums: Rows::new(sums), optimizer, changes: None }
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
        let Self { values, sums, optimizer: _, changes } = self;
        values.keep(rows);
        sums.keep(rows);
        if let Some(changes) = changes {
            changes.keep(rows);
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
        let Self { values, sums, optimizer, changes: _ } = self;
        Self { values: values.freeze(), sums: sums.freeze(), optimizer: *optimizer, changes: None }
    }

    /// A frozen copy of the rows alone: what moves them stays behind. It is for reading.
    #[must_use]
    pub fn freeze_values(&mut self) -> Self {
        let Self { values, sums, optimizer, changes: _ } = self;
        Self { values: values.freeze(), sums: Rows::new(sums.dim()), optimizer: *optimizer, changes: None }
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
