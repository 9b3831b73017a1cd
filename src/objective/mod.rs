//! \[5\] The objective: what the model is trained to do.
//!
//! The score of item c for a user u with query q is
//!
//! ```text
//! f(q, c) = e^g·s(q, c)/τ + β·log q̂(c) + ρ(u, c) + κ(u, c)  (+ b_c)
//! ```
//!
//! with the similarity s, its gate g, the popularity term β, the repetition term ρ, the co-occurrence term κ and, where
//! an objective learns it, a bias b_c. [`crate::model`] holds these numbers, [`crate::model::features`] is what items
//! share, [`crate::model::encoder`] makes queries of contexts and of other sequences, [`crate::model::gate`] is g,
//! [`crate::model::repetition`] the term ρ, [`crate::model::cooccurrence`] the term κ. Objectives are parts that plug
//! into one path (`step::Objective`), and each has a line in [`OBJECTIVES`]:
//!
//! | part | what it learns from |
//! | --- | --- |
//! | `info_nce` | the item that came next, among candidates |
//! | `nce` | the item that came next, told from noise one candidate at a time |
//! | `cpc` | the items that came one, two, … steps later |
//! | `info_max` | what belongs to the same sequence; and what codes should be distributed like |
//! | `views` | two views of the same sequence |
//! | `i2i` | items of the same session, as far as the stream bears them out |
//!
//! In a step `inputs` lays out what the kernel is given, [`crate::kernel`] does the dense arithmetic, each part adds
//! its gradients, and [`crate::model::backward`] brings them back to rows and parameters, which move once.

mod contrast;
mod cpc;
pub mod i2i;
mod info_max;
mod info_nce;
mod inputs;
mod nce;
mod prior;
pub mod registry;
pub mod step;
mod views;

#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::context::{Batch, PositiveRules};
use crate::kernel::Kernel;
use crate::model::Model;
use crate::model::backward::{BackwardPass, UpdateRules};
use crate::model::encoder::Encoded;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::adagrad::Parameters;
use crate::table::row_remap::RowRemap;
use registry::{ObjectiveEntry, ObjectiveSetting};
use step::{Objective, ObjectiveLoss, StepAccumulator, StepContext, StepRequest};

/// All objectives, in the order in which they are documented.
pub static OBJECTIVES: &[ObjectiveEntry] = &[
    ObjectiveEntry::of::<info_nce::InfoNceOptions>(),
    ObjectiveEntry::of::<nce::NceOptions>(),
    ObjectiveEntry::of::<cpc::CpcOptions>(),
    ObjectiveEntry::of::<info_max::InfoMaxOptions>(),
    ObjectiveEntry::of::<views::ViewsOptions>(),
    ObjectiveEntry::of::<i2i::I2iOptions>(),
];

/// The loss of a step, with the size of its problem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossStats {
    /// The weighted sum of the objectives' mean losses, in nats.
    pub loss: f64,
    /// A lower bound on the mutual information of context and next item, in nats; 0 where no part tells it.
    pub information_bound: f64,
    /// Queries in the batch.
    pub queries: usize,
    /// Columns that the queries were scored against.
    pub columns: usize,
    /// Whether every number that moved is still finite.
    pub finite: bool,
}

impl Default for LossStats {
    fn default() -> Self {
        Self { loss: 0.0, information_bound: 0.0, queries: 0, columns: 0, finite: true }
    }
}

/// The objectives at work, with their own parameters and state besides the model.
#[derive(Debug)]
pub struct Objectives {
    parts: Vec<Box<dyn Objective>>,
    options: Options,
}

/// The options that all objectives share.
#[derive(Debug, Clone, Copy)]
struct Options {
    /// Which of a user's earlier items are never negatives.
    positive_rules: PositiveRules,
    /// Items of the longest context.
    context: usize,
    /// Events of a full batch.
    full_batch: usize,
    update: UpdateRules,
}

/// Buffers that are reused from step to step.
#[derive(Debug, Default)]
pub struct Scratch {
    columns: inputs::CandidateColumns,
    accumulator: StepAccumulator,
    backward: BackwardPass,
}

impl Scratch {
    /// The loss of each part of each objective in the newest step.
    pub fn losses(&self) -> &[ObjectiveLoss] {
        self.accumulator.losses()
    }
}

impl Objectives {
    /// The objectives as configured, before the first step.
    pub fn new(config: &Config) -> Self {
        let setting = ObjectiveSetting { dim: config.model.dim, seed: config.seed };
        Self {
            parts: config.objective.terms().iter().map(|term| term.build(setting)).collect(),
            options: Options {
                positive_rules: config.positive_rules(),
                context: config.context.length,
                full_batch: config.train.batch,
                update: UpdateRules {
                    learning_rate: config.train.learning_rate as f32,
                    repetition_rate: config.train.repetition_rate as f32,
                    cooccurrence_rate: config.train.cooccurrence_rate as f32,
                    learn_popularity: config.model.learn_popularity,
                    learn_temperature: config.model.learn_temperature,
                    learn_repetition: config.evaluate.repeat,
                    learn_cooccurrence: config.cooccurrence.neighbors > 0,
                },
            },
        }
    }

    /// What a step on `batch`, number `random.1`, needs: the batch's contexts and positives, and what objectives ask
    /// for.
    pub fn prepare(&mut self, batch: &Batch, random: (u64, u64), request: &mut StepRequest) {
        request.sequences.begin(batch);
        request.positives.clear();
        request.longest = self.options.context;
        request.positives.extend(batch.with_context.iter().map(|event| batch.items[*event as usize]));
        self.parts.iter_mut().for_each(|part| part.prepare(batch, random, request));
    }

    /// Takes one step on the queries of `batch`, of which there must be one: `request` was prepared with `random`
    /// (seed, number of the step), and encoded, and gathered as `candidates`.
    pub fn step(
        &mut self,
        (kernel, random): (Kernel, (u64, u64)),
        model: &mut Model,
        batch: &Batch,
        (request, encoded): (&StepRequest, &mut Encoded),
        (candidates, bank): (&Candidates, &Bank),
        scratch: &mut Scratch,
    ) -> LossStats {
        let Scratch { columns, accumulator, backward } = scratch;
        let options = self.options;
        let sequences = &request.sequences;
        rayon::join(
            || columns.gather(kernel, model, candidates, bank),
            || backward.find_touched(model, (sequences, encoded), candidates),
        );
        accumulator.begin(sequences.len(), model.stride());
        let step = StepContext {
            kernel,
            model,
            batch,
            encoded,
            candidates,
            columns,
            positive_rules: options.positive_rules,
            random,
            share: (batch.len() as f32 / options.full_batch as f32).min(1.0),
            rate: options.update.learning_rate,
        };
        self.parts.iter_mut().for_each(|part| part.step(&step, accumulator));
        let of_next = accumulator.losses().iter().find(|part| part.of_next_item);
        let bound = of_next.and_then(|part| part.bound).unwrap_or(0.0);
        let loss = accumulator.loss;
        let finite = backward.apply(
            kernel,
            options.update,
            model,
            (sequences, encoded),
            (candidates, &columns.vectors),
            &mut accumulator.gradients,
        );
        LossStats {
            loss,
            information_bound: bound,
            queries: batch.n_queries(),
            columns: candidates.items.len(),
            finite: finite && loss.is_finite() && bound.is_finite(),
        }
    }

    /// The objectives' own learned parameters, by name in `parameters.parquet`: the one list for saving and restoring.
    pub fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        self.parts.iter_mut().flat_map(|part| part.parameters_mut()).collect()
    }

    /// Remaps item rows after an eviction, in what objectives keep by item.
    pub fn keep_items(&mut self, items: &RowRemap) {
        self.parts.iter_mut().for_each(|part| part.keep_items(items));
    }

    /// Saves the objectives' state besides their parameters.
    pub fn save(&self, saved: &mut StateDict) {
        self.parts.iter().for_each(|part| part.save(saved));
    }

    /// Restores the state that [`Self::save`] wrote, where there are `n_items` items.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restore(&mut self, n_items: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        self.parts.iter_mut().try_for_each(|part| part.restore(n_items, saved))
    }
}
