//! A gated recurrent unit over sequences of items, with its gradients, for many sequences at once.
//!
//! With x the input at a place, h the state before it and h' the state after it (Cho et al. 2014; the reset gate is
//! applied to the product, as in cuDNN, Appleyard et al. 2016, so that one product with h serves all three gates):
//!
//! ```text
//! r = σ(x·W_r + h·U_r + b_r)                 reset
//! z = σ(x·W_z + h·U_z + b_z)                 update
//! u = h·U_n + c
//! n = tanh(x·W_n + b_n + r ⊙ u)              candidate
//! h' = n + z ⊙ (h − n)
//! ```
//!
//! Gradients go back through all places of a sequence and end before its oldest one (truncated back-propagation through
//! time, Williams & Peng 1990): the state that a sequence begins with is a constant.
//!
//! Work is shared out in groups of [`GROUP`] sequences, whatever the number of threads, and the groups' gradients of the
//! weights are added in their order: same input, same bytes. It runs on the thread pool that the caller is in.
//!
//! Dropout, layers and projections are not here; nor is the optimizer, which moves [`start`]'s numbers like any others.

use std::cmp::Reverse;

use crate::kernel::Kernel;
use crate::kernel::rows::add_scaled;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use cell::{cell, cell_backward};

mod cell;

#[cfg(test)]
mod tests;

/// GruInputs that are worked on together: enough for the matrix products of a step, few enough to share out a batch.
pub const GROUP: usize = 32;
/// What the update gate begins with: the state is kept for some places before anything is learnt (as the bias of 1 for
/// forget gates: Gers et al. 2000, Jozefowicz et al. 2015).
const UPDATE_BIAS: f32 = 1.0;
/// A thread adds up no fewer weights than these.
const WEIGHTS_AT_A_TIME: usize = 4096;

/// How many numbers the unit has for inputs and states of `dim` numbers: 6·dim² + 4·dim.
///
/// They lie in one array, matrices by rows, a row for each number that is multiplied by it:
///
/// | numbers | what |
/// | --- | --- |
/// | dim × 3·dim | of the input: W_n, W_r, W_z side by side |
/// | dim × 3·dim | of the state: U_r, U_z, U_n side by side |
/// | 4·dim | what is added: b_n, b_r, b_z, c |
pub fn length(dim: usize) -> usize {
    6 * dim * dim + 4 * dim
}

/// The numbers to begin with, which depend on `dim` and `seed` alone: W uniform by the rule of Glorot & Bengio (2010),
/// each U orthogonal (Saxe et al. 2014; Henaff et al. 2016 for recurrent units), the update's bias 1, other biases 0.
pub fn start(dim: usize, seed: u64) -> Vec<f32> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut weights = vec![0.0; length(dim)];
    let (of_input, rest) = weights.split_at_mut(3 * dim * dim);
    let (of_state, biases) = rest.split_at_mut(3 * dim * dim);
    let bound = (3.0 / dim as f32).sqrt();
    of_input.iter_mut().for_each(|weight| *weight = random.random_range(-bound..=bound));
    for gate in 0..3 {
        let block = orthogonal(dim, &mut random);
        for (row, numbers) in of_state.chunks_exact_mut(3 * dim).zip(block.chunks_exact(dim)) {
            row[gate * dim..][..dim].iter_mut().zip(numbers).for_each(|(weight, number)| *weight = *number as f32);
        }
    }
    biases[2 * dim..3 * dim].fill(UPDATE_BIAS);
    weights
}

/// Rows of normal numbers, made orthonormal one after the other (modified Gram–Schmidt).
fn orthogonal(dim: usize, random: &mut Pcg64Mcg) -> Vec<f64> {
    let mut rows: Vec<f64> = (0..dim * dim).map(|_| StandardNormal.sample(random)).collect();
    for row in 0..dim {
        let (earlier, later) = rows.split_at_mut(row * dim);
        let row = &mut later[..dim];
        for other in earlier.chunks_exact(dim) {
            let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(number, other)| *number -= along * other);
        }
        // Never 0: normal rows are independent, and by far so in 53 bits.
        let norm = row.iter().map(|number| number * number).sum::<f64>().sqrt();
        row.iter_mut().for_each(|number| *number /= norm);
    }
    rows
}

/// A batch of sequences of any lengths.
#[derive(Debug, Clone, Copy)]
pub struct GruInputs<'a> {
    /// Sequence s has the places `starts[s]..starts[s + 1]`; the first start is 0.
    pub starts: &'a [u32],
    /// n_places × dim, each sequence's oldest first.
    pub inputs: &'a [f32],
    /// n_sequences × dim: the states before the oldest places. No gradient goes into them.
    pub initial: &'a [f32],
}

/// Forward and backward passes over batches, one after the other; buffers are kept from batch to batch.
#[derive(Debug)]
pub struct Runs {
    dim: usize,
    starts: Vec<u32>,
    states: Vec<f32>,
    groups: Vec<Group>,
    /// Whether the groups still hold what a backward pass needs: it works in place.
    fresh: bool,
}

impl Runs {
    /// Nothing run yet.
    pub fn new(dim: usize) -> Self {
        Self { dim, starts: vec![0], states: Vec::new(), groups: Vec::new(), fresh: false }
    }

    /// Runs over all places of `sequences`, and leaves the states after them in [`Self::states`].
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward(&mut self, weights: &[f32], sequences: GruInputs<'_>) {
        let Self { dim, starts, states, groups, fresh } = self;
        let GruInputs { starts: new_starts, inputs, initial } = sequences;
        let n_places = new_starts.last().map_or(0, |end| *end as usize);
        let n_sequences = new_starts.len().saturating_sub(1);
        assert_eq!(weights.len(), length(*dim));
        assert_eq!((inputs.len(), initial.len()), (n_places * *dim, n_sequences * *dim));
        starts.clear();
        starts.extend_from_slice(new_starts);
        // All are written below.
        states.resize(n_places * *dim, 0.0);
        let n_groups = n_sequences.div_ceil(GROUP);
        if groups.len() < n_groups {
            groups.resize_with(n_groups, Group::default);
        }
        let weights = GruWeights::new(*dim, weights);
        by_group(starts, *dim, &mut groups[..n_groups], states).into_par_iter().for_each(
            |(start, group, starts, states)| {
                let inputs = &inputs[starts[0] as usize * weights.dim..][..states.len()];
                let initial = &initial[start * weights.dim..][..(starts.len() - 1) * weights.dim];
                group.forward(&weights, starts, inputs, initial, states);
            },
        );
        *fresh = true;
    }

    /// n_places × dim: the state after each place of the last [`Self::forward`].
    pub fn states(&self) -> &[f32] {
        &self.states
    }

    /// Takes the gradient of a loss with respect to each state, where it enters the loss directly (n_places × dim), and
    /// gives, in place of what is in them, those with respect to the weights (as many as [`length`]) and to the inputs
    /// (n_places × dim). Once for each forward pass, with the weights of that pass.
    ///
    /// # Panics
    /// If the lengths do not fit, or there was no forward pass since the last time.
    pub fn backward(
        &mut self,
        weights: &[f32],
        state_gradients: &[f32],
        weight_gradients: &mut [f32],
        input_gradients: &mut [f32],
    ) {
        let Self { dim, starts, states, groups, fresh } = self;
        assert!(std::mem::take(fresh), "a backward pass follows a forward pass");
        assert_eq!((weights.len(), weight_gradients.len()), (length(*dim), length(*dim)));
        assert_eq!((state_gradients.len(), input_gradients.len()), (states.len(), states.len()));
        let groups = &mut groups[..starts.len().saturating_sub(1).div_ceil(GROUP)];
        let weights = GruWeights::new(*dim, weights);
        by_group(starts, *dim, groups, input_gradients).into_par_iter().for_each(
            |(_, group, starts, input_gradients)| {
                let state_gradients = &state_gradients[starts[0] as usize * weights.dim..][..input_gradients.len()];
                group.backward(&weights, starts, state_gradients, input_gradients);
            },
        );
        weight_gradients.par_chunks_mut(WEIGHTS_AT_A_TIME).enumerate().for_each(|(chunk, sums)| {
            sums.fill(0.0);
            for group in &*groups {
                let numbers = &group.weight_gradients[chunk * WEIGHTS_AT_A_TIME..][..sums.len()];
                sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            }
        });
    }
}

/// Each group with its first sequence, its starts, and its part of `rows` (n_places × dim).
fn by_group<'a>(
    starts: &'a [u32],
    dim: usize,
    groups: &'a mut [Group],
    mut rows: &'a mut [f32],
) -> Vec<(usize, &'a mut Group, &'a [u32], &'a mut [f32])> {
    let mut parts = Vec::with_capacity(groups.len());
    for (number, group) in groups.iter_mut().enumerate() {
        let first = number * GROUP;
        let starts = &starts[first..starts.len().min(first + GROUP + 1)];
        let n_places = (starts[starts.len() - 1] - starts[0]) as usize;
        let (here, later) = rows.split_at_mut(n_places * dim);
        rows = later;
        parts.push((first, group, starts, here));
    }
    parts
}

/// The numbers of [`length`], as matrices.
struct GruWeights<'a> {
    dim: usize,
    /// dim × 3·dim.
    of_input: ArrayView2<'a, f32>,
    /// dim × 3·dim.
    of_state: ArrayView2<'a, f32>,
    /// 4·dim.
    biases: &'a [f32],
}

impl<'a> GruWeights<'a> {
    fn new(dim: usize, numbers: &'a [f32]) -> Self {
        let (of_input, rest) = numbers.split_at(3 * dim * dim);
        let (of_state, biases) = rest.split_at(3 * dim * dim);
        Self { dim, of_input: matrix(of_input, 3 * dim), of_state: matrix(of_state, 3 * dim), biases }
    }
}

/// One group's work. Its places are kept in rows by step: first all oldest places, the longest sequence's before the
/// others', then all second ones, and so on. Whatever sequences have a place at a step are then the first rows of it, and
/// a step is one matrix product.
#[derive(Debug, Default)]
struct Group {
    /// The group's sequences, longest first.
    order: Vec<usize>,
    /// The rows of step t are `steps[t]..steps[t + 1]`.
    steps: Vec<usize>,
    /// rows × dim; after the backward pass their gradients.
    inputs: Vec<f32>,
    /// rows × dim: the state before.
    before: Vec<f32>,
    /// rows × 4·dim: n, r, z, u; after the backward pass the gradients of what each was made of.
    gates: Vec<f32>,
    /// Up to [`GROUP`] × dim: gradient with respect to the states before the step that was gone through last.
    carried: Vec<f32>,
    weight_gradients: Vec<f32>,
}

impl Group {
    fn lay_out(&mut self, starts: &[u32]) {
        let Self { order, steps, .. } = self;
        let length = |sequence: &usize| starts[sequence + 1] - starts[*sequence];
        order.clear();
        order.extend(0..starts.len() - 1);
        order.sort_unstable_by_key(|sequence| (Reverse(length(sequence)), *sequence));
        steps.clear();
        steps.push(0);
        let mut active = order.len();
        let mut end = 0;
        for step in 0.. {
            while active > 0 && length(&order[active - 1]) <= step {
                active -= 1;
            }
            if active == 0 {
                break;
            }
            end += active;
            steps.push(end);
        }
    }

    /// `starts` as in the batch; all else is the group's alone.
    fn forward(
        &mut self,
        weights: &GruWeights<'_>,
        starts: &[u32],
        inputs: &[f32],
        initial: &[f32],
        states: &mut [f32],
    ) {
        self.lay_out(starts);
        let Self { order, steps, inputs: rows, before, gates, .. } = self;
        let dim = weights.dim;
        let place = |sequence: usize, step: usize| (starts[sequence] - starts[0]) as usize + step;
        // Every row of both is written below.
        rows.resize(inputs.len(), 0.0);
        before.resize(inputs.len(), 0.0);
        for (step, range) in steps.windows(2).enumerate() {
            let rows = rows[range[0] * dim..range[1] * dim].chunks_exact_mut(dim);
            for (row, sequence) in rows.zip(&*order) {
                row.copy_from_slice(&inputs[place(*sequence, step) * dim..][..dim]);
            }
        }
        for (row, sequence) in before.chunks_exact_mut(dim).zip(&order[..steps.get(1).copied().unwrap_or(0)]) {
            row.copy_from_slice(&initial[sequence * dim..][..dim]);
        }
        gates.clear();
        (0..inputs.len() / dim).for_each(|_| gates.extend_from_slice(weights.biases));
        let mut of_input = matrix_mut(gates, 4 * dim);
        general_mat_mul(1.0, &matrix(rows, dim), &weights.of_input, 1.0, &mut of_input.slice_mut(s![.., ..3 * dim]));
        for (step, range) in steps.windows(2).enumerate() {
            let (before, after) = before[range[0] * dim..].split_at_mut((range[1] - range[0]) * dim);
            let gates = &mut gates[range[0] * 4 * dim..range[1] * 4 * dim];
            let mut of_state = matrix_mut(gates, 4 * dim);
            let mut of_state = of_state.slice_mut(s![.., dim..]);
            general_mat_mul(1.0, &matrix(before, dim), &weights.of_state, 1.0, &mut of_state);
            let n_next = steps.get(step + 2).map_or(0, |end| end - range[1]);
            let rows = gates.chunks_exact_mut(4 * dim).zip(before.chunks_exact(dim)).zip(&*order).enumerate();
            for (row, ((gates, before), sequence)) in rows {
                let state = &mut states[place(*sequence, step) * dim..][..dim];
                cell(gates, before, state);
                if row < n_next {
                    after[row * dim..][..dim].copy_from_slice(state);
                }
            }
        }
    }

    fn backward(&mut self, weights: &GruWeights<'_>, starts: &[u32], of_states: &[f32], of_inputs: &mut [f32]) {
        let Self { order, steps, inputs, before, gates, carried, weight_gradients } = self;
        let dim = weights.dim;
        let place = |sequence: usize, step: usize| (starts[sequence] - starts[0]) as usize + step;
        carried.clear();
        carried.resize(order.len() * dim, 0.0);
        for (step, range) in steps.windows(2).enumerate().rev() {
            let gates = &mut gates[range[0] * 4 * dim..range[1] * 4 * dim];
            let before = &before[range[0] * dim..range[1] * dim];
            let carried = &mut carried[..before.len()];
            let rows = gates.chunks_exact_mut(4 * dim).zip(before.chunks_exact(dim)).zip(carried.chunks_exact_mut(dim));
            for (((gates, before), carried), sequence) in rows.zip(&*order) {
                cell_backward(gates, before, &of_states[place(*sequence, step) * dim..][..dim], carried);
            }
            if step > 0 {
                let gates = matrix(gates, 4 * dim);
                let mut carried = matrix_mut(carried, dim);
                general_mat_mul(1.0, &gates.slice(s![.., dim..]), &weights.of_state.t(), 1.0, &mut carried);
            }
        }
        weight_gradients.resize(length(dim), 0.0);
        let gates = matrix(gates, 4 * dim);
        let (of_input, rest) = weight_gradients.split_at_mut(3 * dim * dim);
        let (of_state, biases) = rest.split_at_mut(3 * dim * dim);
        let (by_input, by_state) = (gates.slice(s![.., ..3 * dim]), gates.slice(s![.., dim..]));
        general_mat_mul(1.0, &matrix(inputs, dim).t(), &by_input, 0.0, &mut matrix_mut(of_input, 3 * dim));
        general_mat_mul(1.0, &matrix(before, dim).t(), &by_state, 0.0, &mut matrix_mut(of_state, 3 * dim));
        biases.fill(0.0);
        for row in gates.rows() {
            biases.iter_mut().zip(row).for_each(|(bias, gradient)| *bias += gradient);
        }
        general_mat_mul(1.0, &by_input, &weights.of_input.t(), 0.0, &mut matrix_mut(inputs, dim));
        for (step, range) in steps.windows(2).enumerate() {
            let rows = inputs[range[0] * dim..range[1] * dim].chunks_exact(dim);
            for (row, sequence) in rows.zip(&*order) {
                of_inputs[place(*sequence, step) * dim..][..dim].copy_from_slice(row);
            }
        }
    }
}

/// Moves one `state` (dim numbers) on by one `input` (dim numbers): what [`Runs::forward`] does for a sequence of one
/// place, up to rounding. `scratch` is a buffer to be kept from call to call.
///
/// # Panics
/// If the lengths do not fit.
pub fn advance(kernel: Kernel, weights: &[f32], state: &mut [f32], input: &[f32], scratch: &mut Vec<f32>) {
    let dim = state.len();
    assert_eq!((weights.len(), input.len()), (length(dim), dim));
    let (of_input, rest) = weights.split_at(3 * dim * dim);
    let (of_state, biases) = rest.split_at(3 * dim * dim);
    scratch.clear();
    scratch.extend_from_slice(biases);
    scratch.extend_from_slice(state);
    let (gates, before) = scratch.split_at_mut(4 * dim);
    for (row, number) in of_input.chunks_exact(3 * dim).zip(input) {
        add_scaled(kernel, &mut gates[..3 * dim], row, *number);
    }
    for (row, number) in of_state.chunks_exact(3 * dim).zip(&*before) {
        add_scaled(kernel, &mut gates[dim..], row, *number);
    }
    cell(gates, before, state);
}

/// Rows of `width` numbers.
fn matrix(numbers: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((numbers.len() / width, width), numbers).expect("whole rows")
}

/// Rows of `width` numbers.
fn matrix_mut(numbers: &mut [f32], width: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((numbers.len() / width, width), numbers).expect("whole rows")
}
