//! The inputs of the kernel: the candidates' vectors with their biases, and the additive terms of single pairs.

use std::ops::Range;

use rayon::prelude::*;

use crate::context::{Batch, PositiveRules};
use crate::kernel::Kernel;
use crate::kernel::contrast::Pairs;
use crate::kernel::rows::{prefetch, scale};
use crate::model::Model;
use crate::model::backward::PairSource;
use crate::model::encoder::Padded;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;

/// How many rows ahead memory is prefetched: working on them takes about as long as memory takes to answer.
const AHEAD: usize = 8;

/// The candidates of a step as columns of the matrix of scores.
#[derive(Debug, Default)]
pub(super) struct CandidateColumns {
    /// The candidates' vectors as scored: N × stride.
    pub(super) vectors: Padded,
    /// `β·log q̂ + b_c − log E`: the bias of one draw of each column.
    pub(super) bias: Vec<f32>,
    /// `β·log q̂ + b_c − log E + log m`: the bias of all draws of each column together.
    pub(super) merged_bias: Vec<f32>,
}

impl CandidateColumns {
    /// Fills the columns with the candidates of a step.
    pub(super) fn gather(&mut self, kernel: Kernel, model: &Model, candidates: &Candidates, bank: &Bank) {
        let (stride, dim) = (model.stride(), model.dim());
        let (beta, items) = (model.beta(), model.vectors());
        let (n_columns, n_live) = (candidates.items.len(), candidates.n_live());
        let Self { vectors, bias, merged_bias } = self;
        vectors.resize_to(n_columns, stride);
        bias.resize(n_columns, 0.0);
        merged_bias.resize(n_columns, 0.0);
        let columns = (vectors.rows_mut(), bias, merged_bias).into_par_iter().with_min_len(32).enumerate();
        columns.for_each(|(column, (row, bias, merged_bias))| {
            let item = candidates.items[column] as usize;
            *bias = beta * candidates.log_frequency[column] + model.bias(item) - candidates.log_expected[column];
            *merged_bias = *bias + log_multiplicity(candidates.multiplicity[column]);
            row[dim..].fill(0.0);
            if column >= n_live {
                return bank.frozen_vector(candidates.frozen[column - n_live] as usize, &mut row[..dim]);
            }
            if let Some(soon) = candidates.items.get(column + AHEAD) {
                prefetch(items.row(*soon as usize));
            }
            scale(kernel, &mut row[..dim], items.row(item), model.inverse_norms[item]);
        });
    }
}

/// The rules by which pairs of queries and columns get terms of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairRules {
    /// Which of a user's earlier items are masked.
    pub(super) positives: PositiveRules,
    /// Whether pairs carry ρ and κ.
    pub(super) history_terms: bool,
    /// Whether the positive counts once and without a correction, since it is there with certainty; otherwise it is a
    /// candidate like all others.
    pub(super) certain: bool,
}

/// The positives of queries, and the additive terms of single pairs of query and column, in compressed rows.
#[derive(Debug, Default)]
pub(super) struct PairTerms {
    /// The column of each query's positive.
    pub(super) positives: Vec<u32>,
    /// For each pair, what it takes ρ and κ from.
    pub(super) sources: Vec<PairSource>,
    starts: Vec<u32>,
    columns: Vec<u32>,
    terms: Vec<f32>,
    /// By column: the place of its pair with the query that is being gathered, if it has one; otherwise anything.
    places: Vec<u32>,
    /// Buffers: the pairs of runs of queries, one for each thread.
    runs: Vec<PairTerms>,
}

impl PairTerms {
    /// Gathers the pairs of `queries`, which are places among the batch's queries.
    pub(super) fn gather(
        &mut self,
        model: &Model,
        batch: &Batch,
        candidates: &Candidates,
        queries: impl ExactSizeIterator<Item = usize> + Clone + Sync,
        rules: PairRules,
    ) {
        self.clear();
        let mut runs = std::mem::take(&mut self.runs);
        runs.resize_with(rayon::current_num_threads(), Self::default);
        let length = queries.len().div_ceil(runs.len());
        runs.par_iter_mut().enumerate().for_each(|(run, pairs)| {
            pairs.clear();
            let of_run = queries.clone().skip(run * length).take(length);
            of_run.for_each(|query| pairs.gather_query(model, batch, candidates, query, rules));
        });
        runs.iter().for_each(|run| self.append(run));
        self.runs = runs;
    }

    fn gather_query(&mut self, model: &Model, batch: &Batch, candidates: &Candidates, query: usize, rules: PairRules) {
        let PairRules { positives, history_terms, certain } = rules;
        let positive = batch.positive(query);
        self.begin_query(candidates, positive, certain);
        let recent = positives.recent(batch.context(query));
        for (place, own) in (batch.own_starts[query]..).zip(batch.own(query)) {
            if own.item != positive && (!positives.repeat || recent.contains(&own.item)) {
                self.mask(candidates, own.item);
            } else if positives.repeat && history_terms {
                let term = || model.repetition.term(own.buckets);
                self.add(candidates, own.item, term, PairSource::of_own(place));
            }
        }
        if history_terms {
            for (place, related) in batch.related_lists.places(query) {
                let term = || model.cooccurrence.term(related.buckets);
                self.add(candidates, related.item, term, PairSource::of_related(place));
            }
        }
        self.end_query();
    }

    /// Appends the pairs of other queries.
    fn append(&mut self, other: &Self) {
        let Self { positives, sources, starts, columns, terms, places: _, runs: _ } = other;
        let n_before = self.columns.len() as u32;
        self.starts.extend(starts[1..].iter().map(|start| n_before + start));
        self.positives.extend_from_slice(positives);
        self.sources.extend_from_slice(sources);
        self.columns.extend_from_slice(columns);
        self.terms.extend_from_slice(terms);
    }

    /// Removes all pairs.
    pub(super) fn clear(&mut self) {
        let Self { positives, sources, starts, columns, terms, places: _, runs: _ } = self;
        for numbers in [positives, &mut *starts, columns] {
            numbers.clear();
        }
        sources.clear();
        terms.clear();
        starts.push(0);
    }

    /// Begins the pairs of a query with its positive.
    pub(super) fn begin_query(&mut self, candidates: &Candidates, positive: u32, certain: bool) {
        let column = candidates.column(positive).expect("every positive is a candidate");
        self.places.resize(candidates.items.len(), 0);
        self.positives.push(column);
        let taken_back = match certain {
            true => {
                candidates.log_expected[column as usize] - log_multiplicity(candidates.multiplicity[column as usize])
            }
            false => 0.0,
        };
        self.push(column, taken_back, PairSource::NONE);
        // A further draw of it is an accidental hit.
        if let Some(column) = candidates.frozen_column(positive).filter(|_| certain) {
            self.push(column, f32::NEG_INFINITY, PairSource::NONE);
        }
    }

    fn push(&mut self, column: u32, term: f32, source: PairSource) {
        self.places[column as usize] = self.columns.len() as u32;
        self.columns.push(column);
        self.terms.push(term);
        self.sources.push(source);
    }

    /// The place of the pair of `column` with the query that is being gathered.
    #[inline]
    fn place(&self, column: u32) -> Option<usize> {
        let place = self.places[column as usize] as usize;
        let first = self.starts.last().map_or(0, |start| *start as usize);
        (place >= first && self.columns.get(place) == Some(&column)).then_some(place)
    }

    /// Masks `item` for the query that is being gathered.
    pub(super) fn mask(&mut self, candidates: &Candidates, item: u32) {
        for column in [candidates.column(item), candidates.frozen_column(item)].into_iter().flatten() {
            self.push(column, f32::NEG_INFINITY, PairSource::NONE);
        }
    }

    /// Adds `term` to the pairs of `item` with the query that is being gathered, but for masked ones.
    fn add(&mut self, candidates: &Candidates, item: u32, term: impl FnOnce() -> f32, source: PairSource) {
        let columns = [candidates.column(item), candidates.frozen_column(item)];
        if columns == [None, None] {
            return;
        }
        let term = term();
        for column in columns.into_iter().flatten() {
            match self.place(column) {
                None => self.push(column, term, source),
                Some(place) if self.terms[place] == f32::NEG_INFINITY => {}
                Some(place) => {
                    self.terms[place] += term;
                    let PairSource { own, related } = &mut self.sources[place];
                    (*own, *related) = ((*own).min(source.own), (*related).min(source.related));
                }
            }
        }
    }

    /// Ends the pairs of a query.
    pub(super) fn end_query(&mut self) {
        self.starts.push(self.columns.len() as u32);
    }

    /// The places of the pairs of the `query`-th query.
    pub(super) fn of_query(&self, query: usize) -> Range<usize> {
        self.starts[query] as usize..self.starts[query + 1] as usize
    }

    /// The pairs as the kernel takes them.
    pub(super) fn pairs(&self) -> Pairs<'_> {
        Pairs { starts: &self.starts, columns: &self.columns, terms: &self.terms }
    }
}

/// log m; most columns stand for one draw.
fn log_multiplicity(draws: u32) -> f32 {
    if draws == 1 { 0.0 } else { (draws as f32).ln() }
}
