//! Losses that are any function of one query's logits: the matrix products are a library's, the loss is the caller's.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::tile::Workspace;
use super::{Gradients, Problem};
use crate::kernel::Kernel;
use crate::kernel::activations::{exponentials, largest};

/// A loss of one query.
pub trait RowLoss: Sync {
    /// The loss, in nats, of query `query` with `logits` (N; bias and pair terms are in them, −∞ where masked); leaves
    /// ∂loss/∂logit in their place.
    fn of(&self, query: usize, logits: &mut [f32]) -> f64;
}

/// InfoNCE as such a loss: for whoever wants [`Gradients::columns`], which [`super::info_nce`] does not give.
#[derive(Debug, Clone, Copy)]
pub struct Softmax<'a> {
    /// What computes.
    pub kernel: Kernel,
    /// By query: the column of its positive.
    pub positives: &'a [u32],
}

impl RowLoss for Softmax<'_> {
    fn of(&self, query: usize, logits: &mut [f32]) -> f64 {
        let (positive, shift) = (self.positives[query] as usize, largest(logits));
        let at_positive = f64::from(logits[positive]);
        let sum = exponentials(self.kernel, logits, 1.0, shift);
        let share = sum.recip() as f32;
        logits.iter_mut().for_each(|weight| *weight *= share);
        logits[positive] -= 1.0;
        f64::from(shift) - at_positive + sum.ln()
    }
}

/// Computes loss and gradients of `loss` for each query of `problem`, [`Gradients::columns`] among them, into `out`.
///
/// # Panics
/// If the shapes disagree or a matrix is not in standard layout.
pub fn any(problem: &Problem<'_>, loss: &impl RowLoss, out: &mut Gradients) {
    out.run(problem, |group, queries, gradients| tile(problem, loss, group, queries, gradients));
    out.columns.clear();
    out.columns.resize(problem.bias.len(), 0.0);
    for group in &out.groups[..out.n_groups] {
        out.columns.iter_mut().zip(&group.columns).for_each(|(sum, part)| *sum += part);
    }
}

fn tile(
    problem: &Problem<'_>,
    loss: &impl RowLoss,
    group: &mut Workspace,
    queries: Range<usize>,
    query_gradients: &mut [f32],
) {
    let (n_candidates, stride) = problem.candidates.dim();
    let inverse_temperature = problem.inverse_temperature;
    let rows: ArrayView2<'_, f32> = problem.queries.slice(s![queries.clone(), ..]);
    if group.stale {
        group.columns.clear();
        group.columns.resize(n_candidates, 0.0);
    }
    let logits = &mut group.weights.as_flattened_mut()[..queries.len() * n_candidates];
    let mut weights = ArrayViewMut2::from_shape((queries.len(), n_candidates), logits).expect("a row for each query");
    general_mat_mul(inverse_temperature, &rows, &problem.candidates.t(), 0.0, &mut weights);
    for (query, mut row) in queries.clone().zip(weights.rows_mut()) {
        let row = row.as_slice_mut().expect("standard layout");
        row.iter_mut().zip(problem.bias).for_each(|(logit, bias)| *logit += bias);
        let (pairs, weight) = (problem.pairs_of(query), problem.weight(query));
        for pair in pairs.clone() {
            row[problem.pairs.columns[pair] as usize] += problem.pairs.terms[pair];
        }
        group.losses.push(loss.of(query, row));
        let mut of_query = 0.0;
        for ((number, slope), sum) in row.iter_mut().zip(problem.slope).zip(&mut group.columns) {
            *number *= weight;
            of_query += f64::from(*number * slope);
            *sum += *number;
        }
        group.slopes.push(of_query);
        for pair in pairs {
            group.pair_gradients[pair - group.first_pair] = row[problem.pairs.columns[pair] as usize];
        }
    }
    let mut directions = ArrayViewMut2::from_shape((queries.len(), stride), query_gradients).expect("whole rows");
    general_mat_mul(1.0, &weights, &problem.candidates, 0.0, &mut directions);
    for (query, mut direction) in queries.zip(directions.rows_mut()) {
        let direction = direction.as_slice_mut().expect("standard layout");
        group.inverse_temperatures.push(problem.back_to_vector(query, direction));
    }
    let sums = ArrayViewMut2::from_shape((n_candidates, stride), &mut group.candidate_gradients[..]);
    let begin = if group.stale { 0.0 } else { 1.0 };
    general_mat_mul(inverse_temperature, &weights.t(), &rows, begin, &mut sums.expect("whole rows"));
}
