//! The two ways of contrasting that most objectives are made of: against items, and against other sequences.

use std::ops::Range;

use rayon::prelude::*;

use super::inputs::PairTerms;
use super::step::{StepAccumulator, StepContext};
use crate::kernel::activations::softplus;
use crate::kernel::aligned::Aligned;
use crate::kernel::contrast::{Gradients, Pairs, Problem, Softmax, any, info_nce};
use crate::kernel::rows::unnormalise;
use crate::negatives::candidates::Candidates;

/// InfoNCE, with the gradients of b_c where there are any (which the fused kernel does not give).
pub(super) fn tell_apart(step: &StepContext<'_>, problem: &Problem<'_>, gradients: &mut Gradients) {
    let kernel = step.kernel;
    match step.model.biases {
        None => info_nce(kernel, problem, gradients),
        Some(_) => any(problem, &Softmax { kernel, positives: problem.positives }, gradients),
    }
}

/// Queries against the candidates of the step.
pub(super) struct ItemContrast<'a, Queries> {
    /// The queries' rows among the sequences.
    pub(super) rows: Range<usize>,
    /// Gathers the queries' pairs: positives, masks, ρ and κ.
    pub(super) pairs: Queries,
    /// The weight of each query; empty where all count alike.
    pub(super) weights: &'a [f32],
    /// The weight of the queries' mean loss in the sum of objectives.
    pub(super) weight: f64,
    /// Whether the rows are the batch's queries, each with the item that came next: these have gates.
    pub(super) is_next_item: bool,
    /// Whether equal candidates are merged into one logit (with log m), as a sum over candidates wants them.
    pub(super) merged: bool,
}

impl<Queries: FnOnce(&mut PairTerms)> ItemContrast<'_, Queries> {
    /// Computes the loss with `solve`, and adds its gradients. Gives the mean loss, and the information bound where
    /// `bounded`.
    pub(super) fn run(
        self,
        step: &StepContext<'_>,
        accumulator: &mut StepAccumulator,
        bounded: bool,
        solve: impl FnOnce(&Problem<'_>, &mut Gradients),
    ) -> (f64, Option<f64>) {
        let StepContext { model, batch, encoded, candidates, columns, .. } = *step;
        let mut pairs = std::mem::take(&mut accumulator.pairs);
        (self.pairs)(&mut pairs);
        let n_queries = self.rows.len();
        let problem = Problem {
            queries: if self.is_next_item {
                encoded.scored(self.rows.clone())
            } else {
                encoded.normalized.rows(self.rows.clone())
            },
            query_inverse_norms: if model.is_cosine() { &encoded.inverse_norms[self.rows.clone()] } else { &[] },
            query_scales: if self.is_next_item { encoded.scales(self.rows.clone()) } else { &[] },
            candidates: columns.vectors.view(),
            inverse_temperature: model.inverse_temperature(),
            bias: if self.merged { &columns.merged_bias } else { &columns.bias },
            slope: &candidates.log_frequency,
            positives: &pairs.positives,
            pairs: pairs.pairs(),
            scale: self.weight as f32 * step.share / n_queries as f32,
            weights: self.weights,
        };
        let mut gradients = accumulator.gradients.contrast_buffer();
        solve(&problem, &mut gradients);
        // An item without a row could not have been ranked: from its first event these terms would learn that they are wrong.
        let teaches = |query: usize| !(self.is_next_item && batch.is_newcomer(query));
        for query in (0..n_queries).filter(|query| teaches(*query)) {
            let of_query = pairs.of_query(query);
            accumulator.gradients.popularity += gradients.slopes[query];
            accumulator.gradients.add_pairs(batch, &pairs.sources[of_query.clone()], &gradients.pairs[of_query]);
        }
        accumulator.gradients.inverse_temperature += gradients.inverse_temperature;
        if !problem.query_scales.is_empty() {
            let inverse_temperature = f64::from(model.inverse_temperature());
            accumulator.gradients.add_gate(batch, inverse_temperature, &gradients.inverse_temperatures);
        }
        let loss = gradients.loss / n_queries as f64;
        let bound = bounded.then(|| information_bound(candidates, &pairs.positives, &gradients.losses));
        accumulator.gradients.add_sequences(self.rows.start, &mut gradients.queries);
        if !gradients.columns.is_empty() && model.biases.is_some() {
            accumulator.gradients.biases.resize(gradients.columns.len(), 0.0);
            accumulator.gradients.biases.iter_mut().zip(&gradients.columns).for_each(|(sum, number)| *sum += number);
        }
        accumulator.gradients.add_contrast(gradients);
        accumulator.pairs = pairs;
        (loss, bound)
    }
}

impl<Queries: FnOnce(&mut PairTerms)> ItemContrast<'_, Queries> {
    /// InfoNCE: [`Self::run`] with [`tell_apart`], and the bound.
    pub(super) fn tell_apart(self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) -> (f64, Option<f64>) {
        self.run(step, accumulator, true, |problem, gradients| tell_apart(step, problem, gradients))
    }
}

/// A lower bound on the mutual information of query and item, in nats: that of van den Oord et al. 2018, `log|C| − L'`,
/// for the critic `f − log q`, which is the one that the bound is tight for, q being the shares of the stream's draws. In
/// L' the positive is one of the candidates like all others, as often as it was drawn: `L'_i = log(m_p + E_p·(exp L_i − 1))`.
/// Where all candidates come from the stream that is the bound; other proposals are weighed in: `mean_i(log E_p − log q(p) −
/// L'_i)`, p being i's positive. Where own items are masked, it is the bound of a critic that rules them out, and holds on
/// streams where they do not recur.
fn information_bound(candidates: &Candidates, positives: &[u32], losses: &[f64]) -> f64 {
    let bound = |(column, loss): (&u32, &f64)| {
        let column = *column as usize;
        let log_expected = f64::from(candidates.log_expected[column]);
        let item = candidates.items[column];
        let frozen = candidates.frozen_column(item).map_or(0, |column| candidates.multiplicity[column as usize]);
        let log_draws = f64::from(candidates.multiplicity[column] + frozen).ln();
        // log(m + exp x) with x = log E + log(exp L − 1), in a form that no loss overflows.
        let x = log_expected + loss + (-(-loss).exp_m1()).ln();
        let among_equals = log_draws + if *loss > 0.0 { softplus(x - log_draws) } else { 0.0 };
        log_expected - f64::from(candidates.log_stream_share[column]) - among_equals
    };
    // Logarithms take their time: runs of queries, whose number is none of the threads', are summed up side by side.
    let mut runs = [0.0; 32];
    let length = losses.len().div_ceil(runs.len()).max(1);
    let of_runs = runs.par_iter_mut().zip(positives.par_chunks(length).zip(losses.par_chunks(length)));
    of_runs.for_each(|(sum, (positives, losses))| *sum = positives.iter().zip(losses).map(bound).sum());
    runs.iter().sum::<f64>() / losses.len().max(1) as f64
}

/// Sequences against sequences: row `first + i` belongs to row `other + i`, and the other rows of that run are its
/// negatives, but for those that `same` says are no strangers.
pub(super) struct SequenceContrast<Same> {
    pub(super) first: usize,
    pub(super) other: usize,
    pub(super) n: usize,
    pub(super) same: Same,
    /// The weight of the mean loss in the sum of objectives.
    pub(super) weight: f64,
}

impl<Same: Fn(usize, usize) -> bool> SequenceContrast<Same> {
    /// InfoNCE from the rows to the others; adds the gradients of both. Gives the mean loss, and the bound
    /// `mean log(candidates) − loss` on the information that one has of the other.
    pub(super) fn run(
        &self,
        step: &StepContext<'_>,
        accumulator: &mut StepAccumulator,
        scratch: &mut RowsScratch,
    ) -> (f64, f64) {
        let Self { first, other, n, ref same, weight } = *self;
        let StepContext { kernel, model, encoded, .. } = *step;
        let RowsScratch { gradients, starts, columns, terms, positives, zeros, of_others } = scratch;
        for numbers in [&mut *starts, columns, positives] {
            numbers.clear();
        }
        terms.clear();
        starts.push(0);
        let mut log_candidates = 0.0;
        for row in 0..n {
            positives.push(row as u32);
            columns.push(row as u32);
            terms.push(0.0);
            for stranger in (0..n).filter(|column| *column != row && same(row, *column)) {
                columns.push(stranger as u32);
                terms.push(f32::NEG_INFINITY);
            }
            let masked = columns.len() - 1 - starts[row] as usize;
            log_candidates += ((n - masked) as f64).ln();
            starts.push(columns.len() as u32);
        }
        zeros.clear();
        zeros.resize(n, 0.0);
        let inverse_norms = |first: usize| &encoded.inverse_norms[first..first + n];
        let problem = Problem {
            queries: encoded.normalized.rows(first..first + n),
            query_inverse_norms: if model.is_cosine() { inverse_norms(first) } else { &[] },
            query_scales: &[],
            candidates: encoded.normalized.rows(other..other + n),
            inverse_temperature: model.inverse_temperature(),
            bias: zeros,
            slope: zeros,
            positives,
            pairs: Pairs { starts, columns, terms },
            scale: weight as f32 * step.share / n as f32,
            weights: &[],
        };
        info_nce(kernel, &problem, gradients);
        accumulator.gradients.add_scalars(gradients);
        accumulator.gradients.add_sequences(first, &mut gradients.queries);
        add_candidates(step, accumulator, gradients, other, of_others);
        let loss = gradients.loss / n as f64;
        (loss, log_candidates / n as f64 - loss)
    }
}

/// Adds the gradients of candidates that are the sequences from `first` on, as those of their raw vectors.
pub(super) fn add_candidates(
    step: &StepContext<'_>,
    accumulator: &mut StepAccumulator,
    gradients: &Gradients,
    first: usize,
    raw: &mut Aligned<f32>,
) {
    let StepContext { kernel, model, encoded, .. } = *step;
    let stride = model.stride();
    raw.resize(gradients.n_candidates() * stride, 0.0);
    for (row, sum) in raw.chunks_exact_mut(stride).enumerate() {
        sum.copy_from_slice(&gradients.candidate(row));
        if model.is_cosine() {
            unnormalise(kernel, encoded.normalized.row(first + row), encoded.inverse_norms[first + row], sum);
        }
    }
    accumulator.gradients.add_sequences(first, raw);
}

/// Buffers of [`SequenceContrast`].
#[derive(Debug, Default)]
pub(super) struct RowsScratch {
    gradients: Gradients,
    starts: Vec<u32>,
    columns: Vec<u32>,
    terms: Vec<f32>,
    positives: Vec<u32>,
    zeros: Vec<f32>,
    of_others: Aligned<f32>,
}
