//! Contrastive predictive coding: what comes k steps ahead, for each k = 1…K (van den Oord et al. 2018).
//!
//! ```text
//! f_1(c_t, x) = e^g·s(W_1·c_t, x)/τ + β·log q̂(x) + ρ(u, x) + κ(u, x)        InfoNCE for each k
//! f_k(c_t, x) = s(W_k·c_t, x)/τ + β·log q̂(x)                                where k > 1
//! ```
//!
//! On a stream, when an item arrives it is the positive of the contexts 1…K events back. W_1 makes the query that is
//! ranked by, and served: so the first step has the whole score, as InfoNCE does. The gate g, the repetition term ρ and
//! the co-occurrence term κ are about what happens next, and no part of the later steps. Masks are those of the query,
//! at every step.

use super::contrast::ItemContrast;
use super::inputs::{PairRules, PairTerms};
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext, StepRequest};
#[cfg(test)]
use super::tests::reference::{Reference, mean};
use crate::context::Batch;
use crate::model::ModelRequirements;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `cpc`.
    pub struct CpcOptions {
        /// K: how many steps ahead is predicted, each with a matrix of its own.
        steps: usize = 3 => [within(1..=32)];
    }
}

impl Component for CpcOptions {
    const NAME: &'static str = "cpc";
    const SUMMARY: &'static str = "Contrastive predictive coding: the item k steps ahead, for each of several k.";
}

impl ObjectiveOptions for CpcOptions {
    const TESTED: &'static [&'static str] = &[""];

    fn build(&self, weight: f64, _setting: ObjectiveSetting) -> Box<dyn Objective> {
        Box::new(Cpc { weight, steps: self.steps, further: vec![(0, Vec::new()); self.steps - 1] })
    }

    fn requirements(&self) -> ModelRequirements {
        ModelRequirements { transforms: self.steps, ..ModelRequirements::default() }
    }

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let batch = &at.world.batch;
        let mut sum = 0.0;
        for back in 0..self.steps {
            let queries: Vec<usize> =
                (0..batch.n_queries()).filter(|query| batch.context(*query).len() > back).collect();
            let earlier = |query: &usize| batch.context(*query)[back..].to_vec();
            if back > 0 {
                at.claim(&queries.iter().map(earlier).collect::<Vec<_>>());
            }
            if queries.len() < 2 {
                continue;
            }
            sum += mean(queries.iter().map(|query| {
                let scores = if back == 0 { at.next_scores(*query) } else { at.scores };
                let vector = match back {
                    0 => scores.gated(*query),
                    _ => at.scores.encode(&earlier(query), Some(*query), back),
                };
                let term = |item| if back == 0 { scores.history_terms(*query, item) } else { 0.0 };
                at.softmax(at.contrast(scores, &vector, batch.positive(*query), term, |item| at.masked(*query, item)))
            }));
        }
        sum / self.steps as f64
    }
}

/// CPC at work.
#[derive(Debug)]
pub(super) struct Cpc {
    weight: f64,
    steps: usize,
    /// For k = 2…K: the first sequence of that k, and the query that each of its sequences belongs to.
    further: Vec<(usize, Vec<usize>)>,
}

impl Objective for Cpc {
    fn prepare(&mut self, batch: &Batch, _random: (u64, u64), request: &mut StepRequest) {
        for (place, (first, queries)) in self.further.iter_mut().enumerate() {
            let back = place + 1;
            *first = request.sequences.len();
            queries.clear();
            queries.extend((0..batch.n_queries()).filter(|query| batch.context(*query).len() > back));
            for query in &*queries {
                let context = batch.context(*query)[back..].iter().copied();
                request.sequences.push(context, Some(*query), back as u32);
            }
        }
    }

    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let StepContext { model, batch, candidates, .. } = *step;
        let weight = self.weight / self.steps as f64;
        let rules = step.rules();
        let all: Vec<usize> = (0..batch.n_queries()).collect();
        // ρ and κ are about what happens next, not about what happens later.
        let later = PairRules { history_terms: false, ..rules };
        let first = (0, &all, rules);
        let further = self.further.iter().map(|(first, queries)| (*first, queries, later));
        for (place, (first, queries, rules)) in [first].into_iter().chain(further).enumerate() {
            if queries.len() < 2 {
                continue;
            }
            let contrast = ItemContrast {
                rows: first..first + queries.len(),
                pairs: |pairs: &mut _| {
                    PairTerms::gather(pairs, model, batch, candidates, queries.iter().copied(), rules);
                },
                weights: &[],
                weight,
                is_next_item: place == 0,
                merged: true,
            };
            let (loss, bound) = contrast.tell_apart(step, accumulator);
            accumulator.add_loss(CpcOptions::NAME, &(place + 1).to_string(), weight, loss, bound);
            if place == 0 {
                accumulator.mark_next_item();
            }
        }
    }
}
