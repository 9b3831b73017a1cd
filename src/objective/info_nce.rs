//! One InfoNCE step: candidates in, all rows and numbers moved once.
//!
//! ```text
//! logit_ij = f(q_i, c_j) − log E_j + log m_j,  logit_ip = f(q_i, c_p)        L_i = −logit_ip + log Σ_j exp logit_ij
//! ```
//!
//! m_j draws of item j are one column with + log m_j. In the row of its own positive that column counts once, and without
//! a correction: it is there with certainty, not because it was drawn, and further draws of it are accidental hits. (To
//! correct it as if it had been drawn leaves a bias that more draws do not take away: docs/negatives.md.) Where own items leave the ranking, the remembered own items of the user are masked
//! as well; where they may recur, they carry the repetition term. (van den Oord et al. 2018; correction: Bengio &
//! Senécal 2008, Yi et al. 2019.)

use crate::context::Batch;
use crate::kernel::Kernel;
use crate::kernel::info_nce::{Gradients, Problem, gradients};
use crate::kernel::rows::add_scaled;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::objective::problem::{Columns, NOT_OWN, PairTerms};
use crate::objective::repetition;
use crate::objective::scatter::Touched;
use crate::objective::score::{Model, Queries};

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
    /// So many of a query's newest items are never its negatives.
    pub mask_recent: usize,
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
    columns: Columns,
    pairs: PairTerms,
    repetition_gradients: Vec<f32>,
    user_gradients: UserGradients,
    gradients: Gradients,
    touched: Touched,
}

/// Gradients of the users' rows.
#[derive(Debug, Default)]
struct UserGradients {
    /// (user, query), in the order of the users.
    queries: Vec<(u32, u32)>,
    sum: Vec<f32>,
}

impl InfoNce {
    /// Takes one step on the queries of `batch`, of which there must be at least two.
    ///
    /// The reported bound on mutual information is that of van den Oord et al. 2018, `log|C| − L'`, for the critic
    /// `f − log q̂`, which is the one that the bound is tight for. In L' the positive is one of the candidates like all
    /// others: `L'_i = log(1 + E_p·(exp L_i − 1))`. Where all candidates come from the stream that is the bound; other
    /// proposals are weighed in: `mean_i(log E_p − log q̂(p) − L'_i)`, p being i's positive.
    pub fn step(
        &self,
        kernel: Kernel,
        model: &mut Model,
        batch: &Batch,
        queries: &Queries,
        (candidates, bank): (&Candidates, &Bank),
        scratch: &mut Scratch,
    ) -> LossStats {
        let n_queries = batch.n_queries();
        let n_columns = candidates.items.len();
        let Scratch { columns, pairs, touched, gradients: found, .. } = &mut *scratch;
        let n_items = model.items.values.len();
        rayon::join(
            || columns.gather(kernel, model, candidates, bank),
            || {
                rayon::join(
                    || touched.gather(n_items, batch, queries, candidates),
                    || pairs.gather(model, batch, candidates, (self.repeat, self.mask_recent)),
                )
            },
        );
        let problem = Problem {
            queries: queries.unit.view(),
            query_inverse_norms: if model.is_cosine() { &queries.inverse_norms } else { &[] },
            candidates: columns.vectors.view(),
            inverse_temperature: model.inverse_temperature(),
            bias: &columns.bias,
            slope: &candidates.log_frequency,
            positives: &pairs.positives,
            pairs: pairs.pairs(),
            scale: self.weight / n_queries as f32,
        };
        gradients(kernel, &problem, found);
        let finite = self.apply(kernel, model, batch, queries, scratch);
        let loss = scratch.gradients.loss / n_queries as f64;
        let bound = |(column, loss): (&u32, &f64)| {
            let column = *column as usize;
            let log_expected = f64::from(candidates.log_expected[column]);
            // log(1 + exp x) with x = log E + log(exp L − 1), in a form that no loss overflows.
            let x = log_expected + loss + (-(-loss).exp_m1()).ln();
            let among_equals = if *loss > 0.0 { x.max(0.0) + (-x.abs()).exp().ln_1p() } else { 0.0 };
            log_expected - f64::from(candidates.log_frequency[column]) - among_equals
        };
        let information_bound = scratch.pairs.positives.iter().zip(&scratch.gradients.losses).map(bound).sum::<f64>();
        LossStats {
            loss,
            information_bound: information_bound / n_queries as f64,
            queries: n_queries,
            columns: n_columns,
            finite: finite && loss.is_finite() && information_bound.is_finite(),
        }
    }

    /// Brings the gradients back to rows and numbers, and moves them; whether all of them are still finite.
    fn apply(
        &self,
        kernel: Kernel,
        model: &mut Model,
        batch: &Batch,
        queries: &Queries,
        scratch: &mut Scratch,
    ) -> bool {
        let Scratch { columns, gradients, touched, pairs, repetition_gradients, user_gradients } = scratch;
        let rate = self.learning_rate;
        let mut finite = touched.move_rows(kernel, model, &columns.vectors, gradients, rate);
        finite &= user_gradients.move_rows(kernel, model, batch, gradients, rate);
        model.position_weights.step(kernel, touched.position_gradients(batch, queries), rate);
        if self.learn_popularity {
            model.popularity.step(kernel, &[gradients.slope as f32], rate);
        }
        if self.learn_temperature {
            // ∂/∂ log(1/τ)
            let gradient = gradients.inverse_temperature as f32 * model.inverse_temperature();
            model.temperature.step(kernel, &[gradient], rate);
        }
        if self.repeat {
            repetition_gradients.clear();
            repetition_gradients.resize(repetition::LENGTH, 0.0);
            for (own, gradient) in pairs.own.iter().zip(&gradients.pairs).filter(|(own, _)| **own != NOT_OWN) {
                let buckets = batch.own[*own as usize].buckets;
                repetition::Repetition::add_gradient(buckets, *gradient, repetition_gradients);
            }
            model.repetition.parameters.step(kernel, repetition_gradients, rate);
        }
        // A sum is finite only where every part is (or where two infinities meet, which make it NaN).
        let sound = |row: &[f32]| row.iter().sum::<f32>().is_finite();
        finite
            && sound(&model.position_weights.values)
            && sound(&model.repetition.parameters.values)
            && model.beta().is_finite()
            && model.inverse_temperature().is_normal()
    }
}

impl UserGradients {
    /// One move per user, of the sum of their gradients; whether all rows are still finite.
    fn move_rows(
        &mut self,
        kernel: Kernel,
        model: &mut Model,
        batch: &Batch,
        gradients: &Gradients,
        rate: f32,
    ) -> bool {
        let (dim, stride) = (model.dim(), model.stride());
        let Some(users) = &mut model.users else { return true };
        self.queries.clear();
        self.queries.extend((0..batch.n_queries()).map(|query| (batch.user(query), query as u32)));
        self.queries.sort_unstable();
        self.sum.resize(dim, 0.0);
        let mut finite = true;
        for group in self.queries.chunk_by(|a, b| a.0 == b.0) {
            self.sum.fill(0.0);
            for (_, query) in group {
                add_scaled(kernel, &mut self.sum, &gradients.queries[*query as usize * stride..][..dim], 1.0);
            }
            finite &= !users.step(kernel, group[0].0 as usize, &self.sum, rate).is_nan();
        }
        finite
    }
}

impl Default for LossStats {
    fn default() -> Self {
        Self { loss: 0.0, information_bound: 0.0, queries: 0, columns: 0, finite: true }
    }
}
