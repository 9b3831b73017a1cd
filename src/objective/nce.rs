//! Noise-contrastive estimation: is an item what the user chose, or noise? (Gutmann & Hyvärinen 2010.)
//!
//! ```text
//! Δ(q, c) = f(q, c) + b_c + b − log E_c        L = −log σ(Δ_p) − Σ_noise log σ(−Δ_j)
//! ```
//!
//! E_c = k·q(c) is the expected number of times that c is among the k draws of noise, whichever proposals they come from.
//! Scores are not normalised by a sum: the learned b_c, and b for all items together, take the place of the log-normaliser.
//! So each is a log-probability by itself, and no candidate needs another.
//!
//! The closer the noise is to the data, the less is lost (ibid., § 2.3): first estimate a model, then use it as the noise,
//! then estimate again. On a stream that is the sampler `adaptive`, a snapshot of the model that is taken again and again.

use super::against::AgainstItems;
use super::problem::{PairRules, PairTerms};
use super::term::{Found, Scene, Term};
use crate::config::{ObjectiveKind, ObjectiveTerm};
use crate::kernel::Kernel;
use crate::kernel::contrast::{RowLoss, any};
use crate::kernel::links::logistic;

/// See the module.
#[derive(Debug)]
pub(super) struct Nce {
    weight: f64,
    /// By column: how many draws of noise it stands for.
    counts: Vec<f32>,
}

impl Nce {
    pub(super) fn new(term: &ObjectiveTerm) -> Self {
        Self { weight: term.weight(), counts: Vec::new() }
    }
}

impl Term for Nce {
    fn step(&mut self, scene: &Scene<'_>, found: &mut Found) {
        let Scene { kernel, model, batch, candidates, .. } = *scene;
        self.counts.clear();
        self.counts.extend(candidates.multiplicity.iter().map(|draws| *draws as f32));
        let counts = &self.counts;
        // Noise may well be the positive: that is what it is told from.
        let rules = PairRules { certain: false, ..scene.rules() };
        let n_queries = batch.n_queries();
        let contrast = AgainstItems {
            rows: 0..n_queries,
            pairs: |pairs: &mut _| PairTerms::gather(pairs, model, batch, candidates, 0..n_queries, rules),
            weights: &[],
            weight: self.weight,
            merged: false,
        };
        let normaliser = model.normaliser.values[0];
        // b is part of every Δ.
        let mut of_normaliser = 0.0;
        let (loss, _) = contrast.run(scene, found, false, |problem, gradients| {
            any(problem, &RealOrNoise { kernel, counts, normaliser, positives: problem.positives }, gradients);
            of_normaliser = gradients.columns.iter().map(|gradient| f64::from(*gradient)).sum();
        });
        found.normaliser += of_normaliser;
        found.lost(ObjectiveKind::Nce, "", self.weight, loss, None);
    }
}

/// The loss of one query: its logits are Δ − b.
pub(super) struct RealOrNoise<'a> {
    pub(super) kernel: Kernel,
    /// By column: draws.
    pub(super) counts: &'a [f32],
    /// b.
    pub(super) normaliser: f32,
    /// By query: the column that is real.
    pub(super) positives: &'a [u32],
}

impl RowLoss for RealOrNoise<'_> {
    fn of(&self, query: usize, logits: &mut [f32]) -> f64 {
        let positive = self.positives[query] as usize;
        logits.iter_mut().for_each(|logit| *logit += self.normaliser);
        let at_positive = f64::from(logits[positive]);
        let noise = logistic(self.kernel, logits, self.counts);
        // One of its draws is the real one itself: −log σ(Δ) instead of −log σ(−Δ), which is Δ less.
        logits[positive] -= 1.0;
        noise - at_positive
    }
}
