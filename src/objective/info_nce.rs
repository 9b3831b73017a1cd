//! One InfoNCE step: candidates in, all rows and numbers moved once.
//!
//! ```text
//! logit_ij = f(q_i, c_j) − log E_j + log m_j        L_i = −logit_ip + log Σ_j exp logit_ij
//! ```
//!
//! m_j draws of item j are one column with + log m_j. In the row of its own positive that column counts once: further
//! draws of it are accidental hits. Where own items leave the ranking, the remembered own items of the user are masked
//! as well; where they may recur, they carry the repetition term. (van den Oord et al. 2018; correction: Bengio &
//! Senécal 2008, Yi et al. 2019.)

use crate::context::Batch;
use crate::kernel::Kernel;
use crate::kernel::info_nce::{Gradients, Pairs, Problem, gradients};
use crate::negatives::candidates::Candidates;
use crate::objective::repetition;
use crate::objective::score::{Model, Padded, Queries, add_scaled, dot};
use rayon::prelude::*;

/// What a step reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossStats {
    /// Mean loss per query, in nats.
    pub loss: f64,
    /// A lower bound on the mutual information of context and item, in nats; see [`InfoNce::step`].
    pub information_bound: f64,
    /// Queries in the batch.
    pub queries: usize,
    /// Columns they were scored against.
    pub columns: usize,
    /// Whether every number that moved is still one: no infinity, no NaN.
    pub finite: bool,
}

/// Options of the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfoNce {
    /// What the loss counts.
    pub weight: f32,
    /// Items may recur: learn ρ instead of masking own items.
    pub repeat: bool,
    /// Step size.
    pub learning_rate: f32,
    /// Learn β.
    pub learn_popularity: bool,
    /// Learn τ.
    pub learn_temperature: bool,
}

/// Buffers that are kept from step to step.
#[derive(Debug, Default)]
pub struct Scratch {
    candidates: Padded,
    bias: Vec<f32>,
    positives: Vec<u32>,
    pair_starts: Vec<u32>,
    pair_columns: Vec<u32>,
    pair_terms: Vec<f32>,
    gradients: Gradients,
    touched: Touched,
}

/// Gradients of the rows that a step touches, each row once.
#[derive(Debug, Default)]
struct Touched {
    /// Items that are candidates or in a context.
    items: Vec<u32>,
    /// By item: the step in which it was touched last, and its place in `items`.
    places: Vec<(u64, u32)>,
    step: u64,
    /// items × dim, as candidates and in the context.
    item_gradients: Vec<f32>,
    /// items × dim, of the context rows.
    context_gradients: Vec<f32>,
    /// Which of `items` are in a context.
    in_context: Vec<bool>,
}

impl InfoNce {
    /// Takes one step on the queries of `batch`, of which there must be at least two.
    ///
    /// The reported bound on mutual information is that of van den Oord et al. 2018, `log|C| − L`, for the critic
    /// `f − log q̂`, which is the one that the bound is tight for. Where all candidates come from the stream, its loss is
    /// the corrected loss; other proposals are weighed in: `mean_i(log E_p − log q̂(p)) − L`, p being i's positive.
    pub fn step(
        &self,
        kernel: Kernel,
        model: &mut Model,
        batch: &Batch,
        queries: &Queries,
        candidates: &Candidates,
        scratch: &mut Scratch,
    ) -> LossStats {
        let n_queries = batch.n_queries();
        let n_columns = candidates.items.len();
        self.prepare(model, batch, candidates, scratch);
        let problem = Problem {
            queries: queries.unit.view(),
            candidates: scratch.candidates.view(),
            inverse_temperature: model.inverse_temperature(),
            bias: &scratch.bias,
            slope: &candidates.log_frequency,
            positives: &scratch.positives,
            pairs: Pairs { starts: &scratch.pair_starts, columns: &scratch.pair_columns, terms: &scratch.pair_terms },
            scale: self.weight / n_queries as f32,
        };
        gradients(kernel, &problem, &mut scratch.gradients);
        let finite = self.apply(model, batch, queries, candidates, scratch);
        let loss = scratch.gradients.loss / n_queries as f64;
        let log_ratio = |column: &u32| {
            let column = *column as usize;
            f64::from(candidates.log_expected[column]) - f64::from(candidates.log_frequency[column])
        };
        let mean_log_ratio = scratch.positives.iter().map(log_ratio).sum::<f64>() / n_queries as f64;
        LossStats {
            loss,
            information_bound: mean_log_ratio - loss,
            queries: n_queries,
            columns: n_columns,
            finite: finite && loss.is_finite(),
        }
    }

    /// Columns, their biases, and the terms of single pairs.
    fn prepare(&self, model: &Model, batch: &Batch, candidates: &Candidates, scratch: &mut Scratch) {
        let (stride, dim) = (model.stride(), model.dim());
        scratch.candidates.resize_to(candidates.items.len(), stride);
        scratch.candidates.rows_mut(stride).zip(&candidates.items).for_each(|(row, item)| {
            model.served(*item as usize, &mut row[..dim]);
        });
        let beta = model.beta();
        scratch.bias.clear();
        for column in 0..candidates.items.len() {
            let log_expected = candidates.log_expected[column];
            let multiplicity = (candidates.multiplicity[column] as f32).ln();
            scratch.bias.push(beta * candidates.log_frequency[column] - log_expected + multiplicity);
        }

        scratch.positives.clear();
        scratch.pair_columns.clear();
        scratch.pair_terms.clear();
        scratch.pair_starts.clear();
        scratch.pair_starts.push(0);
        for query in 0..batch.n_queries() {
            let positive = batch.positive(query);
            let column = candidates.column(positive).expect("every positive is a candidate");
            scratch.positives.push(column);
            scratch.pair_columns.push(column);
            scratch.pair_terms.push(-(candidates.multiplicity[column as usize] as f32).ln());
            let at_positive = scratch.pair_terms.len() - 1;
            for own in batch.own(query) {
                let Some(column) = candidates.column(own.item) else { continue };
                let term = if self.repeat { model.repetition.term(own.buckets) } else { f32::NEG_INFINITY };
                if own.item != positive {
                    scratch.pair_columns.push(column);
                    scratch.pair_terms.push(term);
                } else if self.repeat {
                    scratch.pair_terms[at_positive] += term;
                }
            }
            scratch.pair_starts.push(scratch.pair_columns.len() as u32);
        }
    }

    /// Brings the gradients back to rows and numbers, and moves them; whether all of them are still finite.
    fn apply(
        &self,
        model: &mut Model,
        batch: &Batch,
        queries: &Queries,
        candidates: &Candidates,
        scratch: &mut Scratch,
    ) -> bool {
        let (stride, dim) = (model.stride(), model.dim());
        let Scratch { candidates: columns, gradients, touched, pair_starts, .. } = scratch;

        // From the unit vectors back to the vectors themselves.
        gradients.candidates.par_chunks_exact_mut(stride).enumerate().for_each(|(column, gradient)| {
            let inverse_norm = model.inverse_norms[candidates.items[column] as usize];
            model.unnormalise(columns.row(column), inverse_norm, gradient);
        });
        gradients.queries.par_chunks_exact_mut(stride).enumerate().for_each(|(query, gradient)| {
            model.unnormalise(queries.unit.row(query), queries.inverse_norms[query], gradient);
        });

        // Every touched row once, candidates first.
        touched.begin(model.items.values.len());
        for (column, item) in candidates.items.iter().enumerate() {
            let place = touched.place(*item, dim);
            add_scaled(touched.item_gradient(place, dim), &gradients.candidates[column * stride..][..dim], 1.0);
        }
        let weights: Vec<f32> = model.position_weights.values.iter().map(|log| log.exp()).collect();
        let mut weight_gradients = vec![0.0; weights.len()];
        let mut user_gradients: Vec<(u32, usize)> = Vec::new();
        let with_contexts = model.contexts.is_some();
        let mut both = vec![0.0; dim];
        for query in 0..batch.n_queries() {
            let gradient = &gradients.queries[query * stride..][..dim];
            let weight_sum = queries.weight_sums[query];
            // The mean of the context, without the user's row.
            let mut mean_product = dot(&queries.raw.row(query)[..dim], gradient);
            if let Some(users) = &model.users {
                let user = batch.user(query);
                mean_product -= dot(users.values.row(user as usize), gradient);
                user_gradients.push((user, query));
            }
            for (position, item) in batch.context(query).iter().enumerate() {
                let share = weights[position] / weight_sum;
                both.copy_from_slice(model.items.values.row(*item as usize));
                if let Some(contexts) = &model.contexts {
                    add_scaled(&mut both, contexts.values.row(*item as usize), 1.0);
                }
                weight_gradients[position] += share * (dot(&both, gradient) - mean_product);
                let place = touched.place(*item, dim);
                add_scaled(touched.item_gradient(place, dim), gradient, share);
                if with_contexts {
                    touched.in_context[place] = true;
                    add_scaled(&mut touched.context_gradients[place * dim..][..dim], gradient, share);
                }
            }
        }
        let mut repetition_gradients = vec![0.0; repetition::LENGTH];
        if self.repeat {
            self.add_repetition(batch, candidates, &gradients.pairs, pair_starts, &mut repetition_gradients);
        }

        let rate = self.learning_rate;
        // A sum is finite only where every part is (or where two infinities meet, which make it NaN).
        let sound = |row: &[f32]| row.iter().sum::<f32>().is_finite();
        let mut finite = true;
        for (place, item) in touched.items.iter().enumerate() {
            let item = *item as usize;
            model.items.step(item, &touched.item_gradients[place * dim..][..dim], rate);
            model.refresh_norm(item);
            finite &= sound(model.items.values.row(item));
            if touched.in_context[place] {
                let contexts = model.contexts.as_mut().expect("marked only where there are context rows");
                contexts.step(item, &touched.context_gradients[place * dim..][..dim], rate);
                finite &= sound(contexts.values.row(item));
            }
        }
        if let Some(users) = &mut model.users {
            // One move per user, of the sum of their gradients; in the order of rows, so that it is always the same.
            user_gradients.sort_unstable();
            for group in user_gradients.chunk_by(|a, b| a.0 == b.0) {
                both.fill(0.0);
                for (_, query) in group {
                    add_scaled(&mut both, &gradients.queries[query * stride..][..dim], 1.0);
                }
                users.step(group[0].0 as usize, &both, rate);
                finite &= sound(users.values.row(group[0].0 as usize));
            }
        }
        model.position_weights.step(&weight_gradients, rate);
        if self.learn_popularity {
            model.popularity.step(&[gradients.slope as f32], rate);
        }
        if self.learn_temperature {
            // ∂/∂ log(1/τ)
            let gradient = gradients.inverse_temperature as f32 * model.inverse_temperature();
            model.temperature.step(&[gradient], rate);
        }
        if self.repeat {
            model.repetition.parameters.step(&repetition_gradients, rate);
        }
        finite
            && sound(&model.position_weights.values)
            && sound(&model.repetition.parameters.values)
            && model.beta().is_finite()
            && model.inverse_temperature().is_normal()
    }

    /// The gradients of ρ, from those of the pairs; walks the pairs in the order in which `prepare` made them.
    fn add_repetition(
        &self,
        batch: &Batch,
        candidates: &Candidates,
        pair_gradients: &[f32],
        pair_starts: &[u32],
        sums: &mut [f32],
    ) {
        for (query, start) in pair_starts[..batch.n_queries()].iter().enumerate() {
            let positive = batch.positive(query);
            let at_positive = *start as usize;
            let mut pair = at_positive;
            for own in batch.own(query) {
                if candidates.column(own.item).is_none() {
                    continue;
                }
                let gradient = if own.item == positive {
                    pair_gradients[at_positive]
                } else {
                    pair += 1;
                    pair_gradients[pair]
                };
                repetition::Repetition::add_gradient(own.buckets, gradient, sums);
            }
        }
    }
}

impl Default for LossStats {
    fn default() -> Self {
        Self { loss: 0.0, information_bound: 0.0, queries: 0, columns: 0, finite: true }
    }
}

impl Touched {
    fn begin(&mut self, n_items: usize) {
        self.step += 1;
        self.items.clear();
        self.in_context.clear();
        self.item_gradients.clear();
        self.context_gradients.clear();
        self.places.resize(n_items, (0, 0));
    }

    fn place(&mut self, item: u32, dim: usize) -> usize {
        let (step, place) = self.places[item as usize];
        if step == self.step {
            return place as usize;
        }
        let place = self.items.len();
        self.places[item as usize] = (self.step, place as u32);
        self.items.push(item);
        self.in_context.push(false);
        self.item_gradients.resize((place + 1) * dim, 0.0);
        self.context_gradients.resize((place + 1) * dim, 0.0);
        place
    }

    fn item_gradient(&mut self, place: usize, dim: usize) -> &mut [f32] {
        &mut self.item_gradients[place * dim..][..dim]
    }
}
