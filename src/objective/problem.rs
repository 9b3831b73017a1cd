//! What the kernel is given: the candidates' vectors with their biases, and the terms of single pairs.

use rayon::prelude::*;

use super::score::{Model, Padded};
use crate::context::Batch;
use crate::kernel::Kernel;
use crate::kernel::info_nce::Pairs;
use crate::kernel::rows::{prefetch, scale};
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;

/// How many rows ahead memory is asked for: together they take about as long as memory takes to answer.
const AHEAD: usize = 8;
/// A pair that is not there for ρ.
pub(super) const NOT_OWN: u32 = u32::MAX;

/// The candidates as columns.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// N × stride, as scored.
    pub(super) vectors: Padded,
    /// `β·log q̂ − log E + log m`.
    pub(super) bias: Vec<f32>,
}

impl Columns {
    /// Fills in both.
    pub(super) fn gather(&mut self, kernel: Kernel, model: &Model, candidates: &Candidates, bank: &Bank) {
        let (stride, dim) = (model.stride(), model.dim());
        let beta = model.beta();
        let (n_columns, n_live) = (candidates.items.len(), candidates.n_live());
        self.vectors.resize_to(n_columns, stride);
        self.bias.resize(n_columns, 0.0);
        let columns = self.vectors.rows_mut().zip(&mut self.bias).with_min_len(32).enumerate();
        columns.for_each(|(column, (row, bias))| {
            *bias = beta * candidates.log_frequency[column] - candidates.log_expected[column]
                + log_multiplicity(candidates.multiplicity[column]);
            row[dim..].fill(0.0);
            if column >= n_live {
                return bank.frozen_vector(candidates.frozen[column - n_live] as usize, &mut row[..dim]);
            }
            let item = candidates.items[column] as usize;
            if let Some(soon) = candidates.items.get(column + AHEAD) {
                prefetch(model.items.values.row(*soon as usize));
            }
            // Needed when the rows are moved.
            prefetch(model.items.sums.row(item));
            scale(kernel, &mut row[..dim], model.items.values.row(item), model.inverse_norms[item]);
        });
    }
}

/// Positives, and the terms of single pairs.
#[derive(Debug, Default)]
pub(super) struct PairTerms {
    /// By query: the column of its positive.
    pub(super) positives: Vec<u32>,
    /// The own item of each pair (its place in the batch's lists), where ρ is what the pair is for.
    pub(super) own: Vec<u32>,
    starts: Vec<u32>,
    columns: Vec<u32>,
    terms: Vec<f32>,
}

impl PairTerms {
    /// Finds them. In the row of its own positive a column counts once, and as itself: further draws are taken off again,
    /// and so is the correction. Where own items
    /// may recur (`repeat`) they carry ρ, but for the newest `mask_recent`; otherwise they are masked.
    pub(super) fn gather(
        &mut self,
        model: &Model,
        batch: &Batch,
        candidates: &Candidates,
        (repeat, mask_recent): (bool, usize),
    ) {
        let Self { positives, own: pair_own, starts, columns, terms } = self;
        for numbers in [&mut *positives, pair_own, starts, columns] {
            numbers.clear();
        }
        terms.clear();
        starts.push(0);
        for query in 0..batch.n_queries() {
            let positive = batch.positive(query);
            let column = candidates.column(positive).expect("every positive is a candidate");
            let at_positive = terms.len();
            positives.push(column);
            columns.push(column);
            // It is there with certainty, whatever the proposals expect of it.
            terms.push(
                candidates.log_expected[column as usize] - log_multiplicity(candidates.multiplicity[column as usize]),
            );
            pair_own.push(NOT_OWN);
            if let Some(column) = candidates.frozen_column(positive) {
                columns.push(column);
                terms.push(f32::NEG_INFINITY);
                pair_own.push(NOT_OWN);
            }
            let context = batch.context(query);
            let recent = &context[..mask_recent.min(context.len())];
            for (place, own) in (batch.own_starts[query]..).zip(batch.own(query)) {
                let found = [candidates.column(own.item), candidates.frozen_column(own.item)];
                if found == [None, None] {
                    continue;
                }
                let masked = !repeat || recent.contains(&own.item);
                if own.item != positive {
                    let term = if masked { f32::NEG_INFINITY } else { model.repetition.term(own.buckets) };
                    for column in found.into_iter().flatten() {
                        columns.push(column);
                        terms.push(term);
                        pair_own.push(if masked { NOT_OWN } else { place });
                    }
                } else if repeat {
                    let term = model.repetition.term(own.buckets);
                    terms[at_positive] += term;
                    pair_own[at_positive] = place;
                }
            }
            starts.push(columns.len() as u32);
        }
    }

    /// As the kernel takes them.
    pub(super) fn pairs(&self) -> Pairs<'_> {
        Pairs { starts: &self.starts, columns: &self.columns, terms: &self.terms }
    }
}

/// log m; most columns stand for one draw.
fn log_multiplicity(draws: u32) -> f32 {
    if draws == 1 { 0.0 } else { (draws as f32).ln() }
}
