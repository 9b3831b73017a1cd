//! Noise-contrastive estimation: is an item what the user chose, or noise? (Gutmann & Hyvärinen 2010.)
//!
//! ```text
//! Δ(q, c) = f(q, c) + b_c + b − log E_c        L = −log σ(Δ_p) − Σ_noise log σ(−Δ_j)
//! ```
//!
//! E_c = k·q(c) is the expected number of times that c is among the k draws of noise, whichever proposals they come from.
//! Scores are not normalised by a sum: the learned b_c, and b for all items together, take the place of the log-normaliser.
//! So each is a log-probability by itself, and no candidate needs another. b begins where the first batch's own draws put
//! it, `−mean log Σ_j exp(f + b_c − log E_j)`: from 0, a single number would take hundreds of steps to get there, and
//! meanwhile every b_c would learn what is the same for all.
//!
//! The closer the noise is to the data, the less is lost (ibid., § 2.3): first estimate a model, then use it as the noise,
//! then estimate again. On a stream that is the sampler `adaptive`, a snapshot of the model that is taken again and again.

use super::contrast::ItemContrast;
use super::inputs::{PairRules, PairTerms};
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext};
#[cfg(test)]
use super::tests::reference::{Reference, mean};
use crate::kernel::Kernel;
use crate::kernel::activations::{exponentials, largest, logistic};
use crate::kernel::contrast::{RowLoss, any};
use crate::model::ModelRequirements;
use crate::table::adagrad::START;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `nce`, which has none of its own.
    pub struct NceOptions {}
}

impl Component for NceOptions {
    const NAME: &'static str = "nce";
    const SUMMARY: &'static str = "Noise-contrastive estimation: real or noise?";
}

impl ObjectiveOptions for NceOptions {
    const TESTED: &'static [&'static str] = &["weight=0.5"];

    fn build(&self, weight: f64, _setting: ObjectiveSetting) -> Box<dyn Objective> {
        Box::new(Nce { weight, counts: Vec::new() })
    }

    fn requirements(&self) -> ModelRequirements {
        ModelRequirements { item_biases: true, ..ModelRequirements::default() }
    }

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let (batch, candidates) = (&at.world.batch, &at.world.candidates);
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let of = |(query, vector): (usize, Vec<f64>)| {
            let (positive, scores) = (batch.positive(query), at.next_scores(query));
            let mut real = None;
            let mut noise = 0.0;
            for (column, item) in candidates.items.iter().enumerate() {
                let delta =
                    scores.score(&vector, column) + scores.history_terms(query, *item) + scores.number("normaliser")
                        - f64::from(candidates.log_expected[column]);
                let mut draws = candidates.multiplicity[column];
                if *item == positive && column < candidates.n_live() {
                    // One of them is the real one.
                    real = Some(softplus(-delta));
                    draws -= 1;
                } else if *item != positive && at.masked(query, *item) {
                    draws = 0;
                }
                noise += f64::from(draws) * softplus(delta);
            }
            real.unwrap() + noise
        };
        mean((0..batch.n_queries()).map(|query| of((query, at.scores.gated(query)))))
    }
}

/// NCE at work.
#[derive(Debug)]
pub(super) struct Nce {
    weight: f64,
    /// The number of noise draws that each column stands for.
    counts: Vec<f32>,
}

impl Objective for Nce {
    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let StepContext { kernel, model, batch, candidates, .. } = *step;
        self.counts.clear();
        self.counts.extend(candidates.multiplicity.iter().map(|draws| *draws as f32));
        let counts = &self.counts;
        // Noise may well be the positive: that is what it is told from.
        let rules = PairRules { certain: false, ..step.rules() };
        let n_queries = batch.n_queries();
        let contrast = ItemContrast {
            rows: 0..n_queries,
            pairs: |pairs: &mut _| PairTerms::gather(pairs, model, batch, candidates, 0..n_queries, rules),
            weights: &[],
            weight: self.weight,
            is_next_item: true,
            merged: false,
        };
        // b is part of every Δ.
        let (mut normaliser, mut of_normaliser) = (model.normaliser.values[0], 0.0);
        let first = model.normaliser.sums[0] == START;
        let (loss, _) = contrast.run(step, accumulator, false, |problem, gradients| {
            if first {
                any(problem, &LogSum { kernel, counts }, gradients);
                normaliser = -(gradients.loss / n_queries as f64) as f32;
            }
            any(problem, &RealOrNoise { kernel, counts, normaliser, positives: problem.positives }, gradients);
            of_normaliser = gradients.columns.iter().map(|gradient| f64::from(*gradient)).sum();
        });
        accumulator.gradients.normaliser += of_normaliser;
        accumulator.gradients.first_normaliser = first.then_some(normaliser);
        accumulator.add_loss(NceOptions::NAME, "", self.weight, loss, None);
    }
}

/// The estimate of log Σ exp(score) of one query from the draws of noise; without a gradient.
struct LogSum<'a> {
    kernel: Kernel,
    counts: &'a [f32],
}

impl RowLoss for LogSum<'_> {
    fn of(&self, _query: usize, logits: &mut [f32]) -> f64 {
        logits.iter_mut().zip(self.counts).for_each(|(logit, count)| *logit += count.ln());
        let shift = largest(logits);
        let sum = exponentials(self.kernel, logits, 1.0, shift);
        logits.fill(0.0);
        f64::from(shift) + sum.ln()
    }
}

/// The loss of one query: its logits are Δ − b.
pub(super) struct RealOrNoise<'a> {
    pub(super) kernel: Kernel,
    /// The number of draws that each column stands for.
    pub(super) counts: &'a [f32],
    /// b.
    pub(super) normaliser: f32,
    /// The column of each query that is real.
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
