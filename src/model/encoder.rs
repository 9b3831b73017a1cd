//! The encoder: sequences of items become queries.
//!
//! ```text
//! c = Σ_k w_k·(vector + context row of the k-th newest item) / Σ_k w_k  (+ the user's row) (+ vectors of the situation)
//! raw query = W·c
//! ```
//!
//! W is there only where an objective learns it (`cpc`). Instead of a sum, c can be the state of a recurrent unit:
//! `recurrent`. With the cosine as similarity, the query is divided by its norm.
//! All the sequences of a step are encoded together: the contexts of the batch's queries come first, then what objectives
//! ask for.

use std::ops::Range;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::Model;
use super::recurrent::Recurrence;
use crate::context::situation::Situation;
use crate::context::{Batch, NOBODY};
use crate::kernel::Kernel;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::{add_scaled, dot, inverse_norm, prefetch};

/// Below this the weights of a context do not count as a sum to divide by.
const SMALLEST_WEIGHT_SUM: f32 = 1e-3;

/// Sequences of items, each newest first.
#[derive(Debug, Default)]
pub struct Sequences {
    /// One behind the other; sequence `s` is `starts[s]..starts[s + 1]`.
    pub items: Vec<u32>,
    /// Bounds of the sequences in [`Self::items`], one more than sequences.
    pub starts: Vec<u32>,
    /// The user whose row is added, or [`NOBODY`].
    pub users: Vec<u32>,
    /// The sequence whose past is also that of this one: itself, of the batch's contexts; or [`NOBODY`].
    origins: Vec<u32>,
    /// Which W: 0 for the next item, 1 for the one after it, …
    pub steps: Vec<u32>,
    /// The situations of the batch's queries, which are the first sequences.
    pub situations: Vec<Situation>,
}

impl Sequences {
    /// Begins anew, with the contexts of `batch`.
    pub fn begin(&mut self, batch: &Batch) {
        let Self { items, starts, users, origins, steps, situations } = self;
        situations.clone_from(&batch.situations);
        items.clone_from(&batch.contexts);
        starts.clone_from(&batch.context_starts);
        users.clear();
        users.extend((0..batch.n_queries()).map(|query| batch.user(query)));
        origins.clear();
        origins.extend(0..batch.n_queries() as u32);
        steps.clear();
        steps.resize(batch.n_queries(), 0);
    }

    /// Begins anew, without sequences.
    pub fn begin_empty(&mut self) {
        let Self { items, starts, users, origins, steps, situations } = self;
        situations.clear();
        for numbers in [items, &mut *starts, users, origins, steps] {
            numbers.clear();
        }
        starts.push(0);
    }

    /// Adds a sequence (newest first) of the user of query `query`, or of nobody, for the W of `step`.
    pub fn push(&mut self, items: impl IntoIterator<Item = u32>, query: Option<usize>, step: u32) {
        self.items.extend(items);
        self.starts.push(self.items.len() as u32);
        self.users.push(query.map_or(NOBODY, |query| self.users[query]));
        self.origins.push(query.map_or(NOBODY, |query| query as u32));
        self.steps.push(step);
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Sequence `sequence`, newest item first.
    pub fn of(&self, sequence: usize) -> &[u32] {
        &self.items[self.range(sequence)]
    }

    /// The query whose history sequence `sequence` continues from, or [`NOBODY`].
    pub(crate) fn origin(&self, sequence: usize) -> u32 {
        self.origins[sequence]
    }

    /// The places of sequence `sequence` in [`Self::items`].
    pub fn range(&self, sequence: usize) -> Range<usize> {
        self.starts[sequence] as usize..self.starts[sequence + 1] as usize
    }
}

/// Sequences as the encoder leaves them: queries, and what the backward pass needs of the forward one.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The queries as they are scored, sequences × stride: of norm 1 where the similarity is the cosine.
    pub normalized: Padded,
    /// 1/norm of each before it was divided by it (1 where the similarity is the dot product).
    pub inverse_norms: Vec<f32>,
    /// The batch's queries times their gates, queries × stride; no rows where the model has no gate.
    gated: Padded,
    /// What each of them was multiplied by.
    scales: Vec<f32>,
    /// Sum of the position weights of each.
    pub weight_sums: Vec<f32>,
    /// Weight of the k-th newest item.
    pub position_weights: Vec<f32>,
    /// c of each, where there is a W.
    contexts: Padded,
    pub(crate) recurrence: Recurrence,
}

impl Encoded {
    /// The sequences of `rows` as items are scored with them: times their gates, if they are queries of the batch.
    pub fn scored(&self, rows: Range<usize>) -> ArrayView2<'_, f32> {
        if self.scales(rows.clone()).is_empty() { self.normalized.rows(rows) } else { self.gated.rows(rows) }
    }

    /// Sequence `row` as items are scored with it.
    pub fn scored_row(&self, row: usize) -> &[f32] {
        if row < self.scales.len() { self.gated.row(row) } else { self.normalized.row(row) }
    }

    /// The gates of the sequences of `rows`; empty where they have none.
    pub fn scales(&self, rows: Range<usize>) -> &[f32] {
        self.scales.get(rows).unwrap_or(&[])
    }
}

impl Model {
    /// Encodes `sequences`; `initial_states` is what [`Self::advance_hidden_states`] made of the batch.
    pub fn encode(&self, kernel: Kernel, sequences: &Sequences, initial_states: &[f32], encoded: &mut Encoded) {
        let (n, dim, stride) = (sequences.len(), self.dim(), self.stride());
        encoded.position_weights.clear();
        encoded.position_weights.extend(self.position_weights.values.iter().map(|log| log.exp()));
        encoded.normalized.resize_to(n, stride);
        encoded.inverse_norms.resize(n, 1.0);
        encoded.weight_sums.resize(n, 0.0);
        let (weights, vectors) = (&encoded.position_weights, self.vectors());
        let ask_ahead = |sequence: usize| {
            if sequence < n {
                for item in sequences.of(sequence) {
                    prefetch(vectors.row(*item as usize));
                    if let Some(contexts) = &self.contexts {
                        prefetch(contexts.values.row(*item as usize));
                    }
                }
            }
        };
        let Encoded { normalized, inverse_norms, weight_sums, contexts, recurrence, .. } = encoded;
        let divide_by_norm = |row: &mut [f32]| {
            let inverse = if self.is_cosine() { inverse_norm(&row[..dim]) } else { 1.0 };
            row[..dim].iter_mut().for_each(|number| *number *= inverse);
            inverse
        };
        let add_vectors = |sequence: usize, raw: &mut [f32]| {
            let user = sequences.users[sequence];
            if let Some(users) = self.users.as_ref().filter(|_| user != NOBODY) {
                add_scaled(kernel, raw, users.values.row(user as usize), 1.0);
            }
            if let (Some(vectors), Some(situation)) = (&self.situations, sequences.situations.get(sequence)) {
                vectors.add_to(kernel, *situation, raw);
            }
        };
        let at_once = self.transforms.is_empty() && self.gru.is_none();
        if let Some(weights) = &self.gru {
            self.run_gru(&weights.values, sequences, initial_states, recurrence, normalized);
            (0..n).for_each(|sequence| add_vectors(sequence, &mut normalized.row_mut(sequence)[..dim]));
        } else {
            let rows =
                (normalized.rows_mut(), &mut *inverse_norms, weight_sums).into_par_iter().with_min_len(32).enumerate();
            rows.for_each(|(sequence, (row, inverse, weight_sum))| {
                ask_ahead(sequence + 1);
                let items = sequences.of(sequence);
                *weight_sum = weights[..items.len()].iter().sum::<f32>().max(SMALLEST_WEIGHT_SUM);
                row.fill(0.0);
                let raw = &mut row[..dim];
                for (item, weight) in items.iter().zip(weights) {
                    let share = weight / *weight_sum;
                    add_scaled(kernel, raw, vectors.row(*item as usize), share);
                    if let Some(contexts) = &self.contexts {
                        add_scaled(kernel, raw, contexts.values.row(*item as usize), share);
                    }
                }
                add_vectors(sequence, raw);
                if at_once {
                    *inverse = divide_by_norm(row);
                }
            });
        }
        if self.transforms.is_empty() {
            if !at_once {
                let rows = normalized.rows_mut().zip(inverse_norms);
                rows.for_each(|(row, inverse)| *inverse = divide_by_norm(row));
            }
        } else {
            contexts.clone_from(normalized);
            let contexts = &*contexts;
            let rows = (normalized.rows_mut(), inverse_norms, &sequences.steps).into_par_iter().enumerate();
            rows.for_each(|(sequence, (row, inverse, step))| {
                let context = &contexts.row(sequence)[..dim];
                let transform = self.transforms[*step as usize].values.chunks_exact(dim);
                row.iter_mut().zip(transform).for_each(|(raw, numbers)| *raw = dot(numbers, context));
                *inverse = divide_by_norm(row);
            });
        }
        self.open_gates(sequences, encoded);
    }

    /// Multiplies the batch's queries by their gates.
    fn open_gates(&self, sequences: &Sequences, encoded: &mut Encoded) {
        let Encoded { normalized, gated, scales, .. } = encoded;
        scales.clear();
        let Some(gate) = &self.gate else { return };
        scales.extend(sequences.situations.iter().map(|situation| gate.factor(*situation)));
        gated.resize_to(scales.len(), self.stride());
        for (row, scale) in scales.iter().enumerate() {
            let query = gated.row_mut(row).iter_mut().zip(normalized.row(row));
            query.for_each(|(number, unit)| *number = unit * scale);
        }
    }

    /// Turns the gradients of the raw queries (sequences × stride) into those of c, in place; leaves those of each W in
    /// `transforms`.
    pub(crate) fn back_through_transforms(
        &self,
        kernel: Kernel,
        sequences: &Sequences,
        encoded: &Encoded,
        gradients: &mut Padded,
        transforms: &mut Vec<Vec<f32>>,
    ) {
        let dim = self.dim();
        transforms.resize_with(self.transforms.len(), Vec::new);
        for of_one in &mut *transforms {
            of_one.clear();
            of_one.resize(dim * dim, 0.0);
        }
        if transforms.is_empty() {
            return;
        }
        let mut of_context = vec![0.0; dim];
        for sequence in 0..sequences.len() {
            let step = sequences.steps[sequence] as usize;
            let (context, gradient) = (&encoded.contexts.row(sequence)[..dim], gradients.row_mut(sequence));
            of_context.fill(0.0);
            let rows = self.transforms[step].values.chunks_exact(dim).zip(transforms[step].chunks_exact_mut(dim));
            for (number, (row, sum)) in gradient.iter().zip(rows) {
                add_scaled(kernel, sum, context, *number);
                add_scaled(kernel, &mut of_context, row, *number);
            }
            gradient[..dim].copy_from_slice(&of_context);
        }
    }
}

/// The newest item of each context, encoded alone: what an item-to-item list goes by.
#[derive(Debug, Default)]
pub struct LastItems {
    sequences: Sequences,
    encoded: Encoded,
}

impl LastItems {
    /// Encodes the newest item of each query's context.
    pub fn encode(&mut self, kernel: Kernel, model: &Model, batch: &Batch) -> &Encoded {
        let Self { sequences, encoded } = self;
        sequences.begin_empty();
        (0..batch.n_queries()).for_each(|query| sequences.push(batch.context(query)[..1].iter().copied(), None, 0));
        model.encode(kernel, sequences, &[], encoded);
        encoded
    }
}

/// A matrix whose rows are filled up with zeros to whole blocks; keeps its memory from batch to batch.
#[derive(Debug, Default, Clone)]
pub struct Padded {
    numbers: Aligned<f32>,
    stride: usize,
}

impl Padded {
    /// `rows` × `stride`; the numbers are whatever they were.
    pub fn resize_to(&mut self, rows: usize, stride: usize) {
        self.numbers.resize(rows * stride, 0.0);
        self.stride = stride;
    }

    /// `rows` × `stride` zeros.
    pub fn clear_to(&mut self, rows: usize, stride: usize) {
        self.resize_to(rows, stride);
        self.numbers.fill(0.0);
    }

    /// The rows, for writing in parallel.
    pub fn rows_mut(&mut self) -> rayon::slice::ChunksExactMut<'_, f32> {
        self.numbers.par_chunks_exact_mut(self.stride)
    }

    /// Row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.stride..][..self.stride]
    }

    /// Row `row`, to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.numbers[row * self.stride..][..self.stride]
    }

    /// All numbers, row by row.
    pub fn numbers_mut(&mut self) -> &mut Aligned<f32> {
        &mut self.numbers
    }

    /// The rows of `range`, as a matrix.
    pub fn rows(&self, range: Range<usize>) -> ArrayView2<'_, f32> {
        let numbers = &self.numbers[range.start * self.stride..range.end * self.stride];
        ArrayView2::from_shape((range.len(), self.stride), numbers).expect("whole rows")
    }

    /// The matrix.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        self.rows(0..self.numbers.len() / self.stride.max(1))
    }
}
