//! A step as objectives see it: what they request before it, what they read in it, and where they add gradients and losses.

use std::mem::take;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::inputs::{CandidateColumns, PairRules, PairTerms};
use crate::context::{Batch, PositiveRules};
use crate::kernel::Kernel;
use crate::metric::{Instrumented, Metric};
use crate::model::Model;
use crate::model::backward::GradientAccumulator;
use crate::model::encoder::{Encoded, Sequences};
use crate::negatives::candidates::Candidates;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::adagrad::Parameters;
use crate::table::row_remap::RowRemap;
use crate::table::rows::stable_hash;

/// One objective at work. A new one is one file, with this trait and its options, and a line in [`super::registry`].
pub(super) trait Objective: std::fmt::Debug + Send + Sync {
    /// Requests what the objective needs besides the batch's contexts: sequences to be encoded, items to be candidates.
    fn prepare(&mut self, _batch: &Batch, _random: (u64, u64), _request: &mut StepRequest) {}

    /// Adds the objective's gradients and losses.
    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator);

    /// The objective's own learned parameters, by name: the one list for saving and restoring.
    fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        Vec::new()
    }

    /// Remaps what the objective keeps by item after an eviction.
    fn keep_items(&mut self, _items: &RowRemap) {}

    /// Writes the objective's other state.
    fn save(&self, _saved: &mut StateDict) {}

    /// Reads back what [`Self::save`] wrote, where there are `n_items` items.
    fn restore(&mut self, _n_items: usize, _saved: &mut StateDict) -> Result<(), StateDictError> {
        Ok(())
    }
}

/// What objectives request before a step.
#[derive(Debug, Default)]
pub struct StepRequest {
    /// The sequences to be encoded: the contexts of the batch's queries first.
    pub sequences: Sequences,
    /// The items that the candidates must hold as draws of the stream: the batch's positives first.
    pub positives: Vec<u32>,
    /// The largest number of items that a sequence may have.
    pub longest: usize,
}

/// What a step is taken on: the batch, its encoded queries and its candidates, under the model as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepContext<'a> {
    pub(super) kernel: Kernel,
    pub(super) model: &'a Model,
    pub(super) batch: &'a Batch,
    pub(super) encoded: &'a Encoded,
    pub(super) candidates: &'a Candidates,
    pub(super) columns: &'a CandidateColumns,
    /// Which of a user's earlier items are never negatives.
    pub(super) positive_rules: PositiveRules,
    /// Seed, and number of the step.
    pub(super) random: (u64, u64),
    /// What part of a full batch the batch is. Mean losses count so much in the gradients, so that an event counts the same in
    /// every batch: else one that is trained on alone would fill Adagrad's sums, and nothing would move its rows any more.
    pub(super) share: f32,
    /// The step size, for parameters that an objective moves itself.
    pub(super) rate: f32,
}

/// The loss of one part of an objective in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveLoss {
    /// The objective's name.
    pub objective: String,
    /// The part: `1` for one step ahead, `local`, …; empty where the objective has but one.
    pub part: String,
    /// The mean loss, in nats.
    pub loss: f64,
    /// A lower bound on the mutual information of what was contrasted, in nats, where the loss gives one.
    pub bound: Option<f64>,
    /// The mean weight of the pairs, where they do not all count alike.
    pub acceptance: Option<f64>,
    /// Whether the part tells the item that comes next from others, so that its bound is that of the model.
    #[serde(default)]
    pub of_next_item: bool,
}

/// The generator of `purpose` in the step of `random` (seed, number of the step), which belongs to these alone.
pub(super) fn generator((seed, step): (u64, u64), purpose: &str) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(stable_hash(seed ^ step.rotate_left(32), &[purpose]))
}

/// The sum of what the objectives found in one step: gradients of the model, and losses.
#[derive(Debug, Default)]
pub(super) struct StepAccumulator {
    /// The gradients of everything that the model shares among objectives.
    pub(super) gradients: GradientAccumulator,
    /// The weighted sum of the losses.
    pub(super) loss: f64,
    /// The first `n_losses` are of this step.
    losses: Vec<ObjectiveLoss>,
    n_losses: usize,
    /// A buffer for the terms of single pairs.
    pub(super) pairs: PairTerms,
}

impl StepAccumulator {
    /// Starts a step on `n_sequences` sequences: all gradients and losses are 0.
    pub(super) fn begin(&mut self, n_sequences: usize, stride: usize) {
        self.gradients.begin(n_sequences, stride);
        self.loss = 0.0;
        self.n_losses = 0;
    }

    /// Adds the loss of `part` of `objective`, which counts `weight` in the sum.
    pub(super) fn add_loss(&mut self, objective: &str, part: &str, weight: f64, loss: f64, bound: Option<f64>) {
        self.loss += weight * loss;
        // What an earlier step named needs no memory of its own.
        let earlier = self.losses.get_mut(self.n_losses).map(|loss| (take(&mut loss.objective), take(&mut loss.part)));
        let named = |text: &str, mut buffer: String| {
            buffer.clear();
            buffer.push_str(text);
            buffer
        };
        let (of_objective, of_part) = earlier.unwrap_or_default();
        let loss = ObjectiveLoss {
            objective: named(objective, of_objective),
            part: named(part, of_part),
            loss,
            bound,
            acceptance: None,
            of_next_item: false,
        };
        match self.losses.get_mut(self.n_losses) {
            Some(place) => *place = loss,
            None => self.losses.push(loss),
        }
        self.n_losses += 1;
    }

    /// Marks the loss that was added last as one that tells the next item from others.
    pub(super) fn mark_next_item(&mut self) {
        if let Some(last) = self.losses[..self.n_losses].last_mut() {
            last.of_next_item = true;
        }
    }

    /// Notes the mean weight of the pairs of the loss that was added last.
    pub(super) fn note_acceptance(&mut self, acceptance: f64) {
        if let Some(last) = self.losses[..self.n_losses].last_mut() {
            last.acceptance = Some(acceptance);
        }
    }

    /// The losses of all parts, in the order in which they were added.
    pub(super) fn losses(&self) -> &[ObjectiveLoss] {
        &self.losses[..self.n_losses]
    }
}

impl StepContext<'_> {
    /// The rules for the pairs of a loss that sums over candidates.
    pub(super) fn rules(&self) -> PairRules {
        PairRules { positives: self.positive_rules, history_terms: true, certain: true }
    }
}

impl Instrumented for [ObjectiveLoss] {
    // Names of parts come from a closed list, and the numbers of the configuration's steps.
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge_by(
            "negstream_objective_loss_nats",
            &["objective", "part"],
            "Mean loss of a part of an objective, in the newest step.",
            |losses, samples| losses.iter().for_each(|term| samples.put_for([&term.objective, &term.part], term.loss)),
        ),
        Metric::gauge_by(
            "negstream_objective_mi_bound_nats",
            &["objective", "part"],
            "Lower bound on the mutual information of what that part contrasts.",
            |losses, samples| losses.iter().for_each(|term| samples.put_for([&term.objective, &term.part], term.bound)),
        ),
        Metric::gauge_by(
            "negstream_objective_acceptance",
            &["objective", "part"],
            "What the pairs of that part count on average.",
            |losses, samples| {
                losses.iter().for_each(|term| samples.put_for([&term.objective, &term.part], term.acceptance));
            },
        ),
    ];
}
