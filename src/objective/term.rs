//! What objectives have in common: what they see of a step, and what they add to it.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::inputs::{Columns, PairRules, PairTerms};
use crate::config::ObjectiveKind;
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

/// One objective. A new one is one file: this trait, and a line in [`super::Objectives::new`].
pub(super) trait Term: std::fmt::Debug + Send + Sync {
    /// Asks for what it needs besides the batch's contexts: sequences to be encoded, items to be candidates.
    fn ask(&mut self, _batch: &Batch, _random: (u64, u64), _asked: &mut StepRequest) {}

    /// Adds its gradients and its losses.
    fn step(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator);

    /// Its own learned parameters, by name: the one list for saving and restoring.
    fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        Vec::new()
    }

    /// Keeps the items that stay, in what it keeps by item.
    fn keep_items(&mut self, _items: &RowRemap) {}

    /// Writes down what else it keeps.
    fn save(&self, _saved: &mut StateDict) {}

    /// Reads that back, where there are `n_items` items.
    fn restore(&mut self, _n_items: usize, _saved: &mut StateDict) -> Result<(), StateDictError> {
        Ok(())
    }
}

/// What objectives ask for before a step.
#[derive(Debug, Default)]
pub struct StepRequest {
    /// What is encoded: the contexts of the batch's queries first.
    pub sequences: Sequences,
    /// What the candidates must hold as draws of the stream: the batch's positives first.
    pub positives: Vec<u32>,
    /// Items of the longest sequence there may be.
    pub longest: usize,
}

/// What a step is taken on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) kernel: Kernel,
    pub(super) model: &'a Model,
    pub(super) batch: &'a Batch,
    pub(super) encoded: &'a Encoded,
    pub(super) candidates: &'a Candidates,
    pub(super) columns: &'a Columns,
    /// Which of a user's earlier items are never negatives.
    pub(super) positive_rules: PositiveRules,
    /// Seed, and number of the step.
    pub(super) random: (u64, u64),
    /// Step size, for what a term moves itself.
    pub(super) rate: f32,
}

/// How one part of an objective did in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermLoss {
    /// The objective's name.
    pub objective: String,
    /// Which part of it: `1` for one step ahead, `local`, …; empty where it has but one.
    pub part: String,
    /// Mean loss, in nats.
    pub loss: f64,
    /// What the loss says of the mutual information of what was contrasted: a lower bound, in nats.
    pub bound: Option<f64>,
    /// What its pairs counted on average, where they do not all count alike.
    pub acceptance: Option<f64>,
}

/// The generator of `purpose` in the step of `random` (seed, number of the step), which belongs to these alone.
pub(super) fn generator((seed, step): (u64, u64), purpose: &str) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(stable_hash(seed ^ step.rotate_left(32), &[purpose]))
}

impl TermLoss {
    /// Whether it tells the item that comes next from others, which is what the information bound of a step is of.
    pub fn is_of_next_item(&self) -> bool {
        self.objective == ObjectiveKind::InfoNce.name()
            || (self.objective == ObjectiveKind::Cpc.name() && self.part == "1")
    }
}

/// What the objectives have added up in one step: gradients of the model, and losses.
#[derive(Debug, Default)]
pub(super) struct StepAccumulator {
    /// The gradients of everything that the model shares among objectives.
    pub(super) gradients: GradientAccumulator,
    /// The weighted sum of the losses.
    pub(super) loss: f64,
    losses: Vec<TermLoss>,
    /// A buffer for the terms of single pairs.
    pub(super) pairs: PairTerms,
}

impl StepAccumulator {
    /// Starts a step on `n_sequences` sequences: all gradients and losses are 0.
    pub(super) fn begin(&mut self, n_sequences: usize, stride: usize) {
        self.gradients.begin(n_sequences, stride);
        self.loss = 0.0;
        self.losses.clear();
    }

    /// Takes down a loss that counts `weight`.
    pub(super) fn lost(&mut self, kind: ObjectiveKind, part: &str, weight: f64, loss: f64, bound: Option<f64>) {
        self.loss += weight * loss;
        self.losses.push(TermLoss {
            objective: kind.name().to_owned(),
            part: part.to_owned(),
            loss,
            bound,
            acceptance: None,
        });
    }

    /// Takes down what the pairs of the loss before counted on average.
    pub(super) fn accepted(&mut self, acceptance: f64) {
        if let Some(last) = self.losses.last_mut() {
            last.acceptance = Some(acceptance);
        }
    }

    /// What was taken down.
    pub(super) fn losses(&self) -> &[TermLoss] {
        &self.losses
    }
}

impl Scene<'_> {
    /// The rules for the pairs of a loss that sums over candidates.
    pub(super) fn rules(&self) -> PairRules {
        PairRules { positives: self.positive_rules, repetition: self.positive_rules.repeat, certain: true }
    }
}

impl Instrumented for [TermLoss] {
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
