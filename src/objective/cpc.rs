//! Contrastive predictive coding: what comes k steps ahead, for each k = 1…K (van den Oord et al. 2018).
//!
//! ```text
//! f_k(c_t, x) = s(W_k·c_t, x)/τ + β·log q̂(x)        InfoNCE for each k
//! ```
//!
//! On a stream, when an item arrives it is the positive of the contexts 1…K events back. W_1 makes the query that is ranked
//! by, and served: so the first step also carries the repetition term, as InfoNCE does. Masks are those of the query, at
//! every step.

use super::contrast::ItemContrast;
use super::inputs::{PairRules, PairTerms};
use super::term::{Scene, StepAccumulator, StepRequest, Term};
use crate::config::{ObjectiveKind, ObjectiveTerm};
use crate::context::Batch;

/// See the module.
#[derive(Debug)]
pub(super) struct Cpc {
    weight: f64,
    steps: usize,
    /// For k = 2…K: the first of its sequences, and the query that each belongs to.
    further: Vec<(usize, Vec<usize>)>,
}

impl Cpc {
    pub(super) fn new(term: &ObjectiveTerm) -> Self {
        let steps = term.steps();
        Self { weight: term.weight(), steps, further: vec![(0, Vec::new()); steps - 1] }
    }
}

impl Term for Cpc {
    fn ask(&mut self, batch: &Batch, _random: (u64, u64), asked: &mut StepRequest) {
        for (place, (first, queries)) in self.further.iter_mut().enumerate() {
            let back = place + 1;
            *first = asked.sequences.len();
            queries.clear();
            queries.extend((0..batch.n_queries()).filter(|query| batch.context(*query).len() > back));
            for query in &*queries {
                let context = batch.context(*query)[back..].iter().copied();
                asked.sequences.push(context, Some(*query), back as u32);
            }
        }
    }

    fn step(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        let Scene { model, batch, candidates, .. } = *scene;
        let weight = self.weight / self.steps as f64;
        let rules = scene.rules();
        let all: Vec<usize> = (0..batch.n_queries()).collect();
        // ρ is what happens next, not what happens later.
        let later = PairRules { repetition: false, ..rules };
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
                merged: true,
            };
            let (loss, bound) = contrast.tell_apart(scene, found);
            found.lost(ObjectiveKind::Cpc, &(place + 1).to_string(), weight, loss, bound);
        }
    }
}
