//! What objectives have in common: what they see of a step, and what they add to it.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::inputs::{Columns, NOT_OWN, PairRules, PairTerms};
use crate::config::ObjectiveKind;
use crate::context::Batch;
use crate::kernel::Kernel;
use crate::kernel::aligned::Aligned;
use crate::kernel::contrast::Gradients;
use crate::model::Model;
use crate::model::encoder::{Encoded, Padded, Sequences};
use crate::model::repetition::{self, Repetition};
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
    fn step(&mut self, scene: &Scene<'_>, found: &mut Found);

    /// Its own learned numbers, by name.
    fn numbers(&self) -> Vec<(String, &Parameters)> {
        Vec::new()
    }

    /// The same, to be filled in.
    fn numbers_mut(&mut self) -> Vec<(String, &mut Parameters)> {
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
    /// Items may recur.
    pub(super) repeat: bool,
    /// So many of a query's newest items are never its negatives.
    pub(super) mask_recent: usize,
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

/// Gradients of everything that the model shares among objectives, added up. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of the sequences' raw vectors, sequences × stride.
    pub(super) rows: Padded,
    /// Of the candidates as they were scored.
    against: Vec<Gradients>,
    n_against: usize,
    /// Of the candidates, further, N × stride; only where [`Self::has_more`].
    pub(super) more: Padded,
    pub(super) has_more: bool,
    /// N: of b_c; empty where there is none.
    pub(super) biases: Vec<f32>,
    /// Of ρ.
    pub(super) repetition: Vec<f32>,
    /// Of β.
    pub(super) slope: f64,
    /// Of 1/τ.
    pub(super) inverse_temperature: f64,
    /// Of the normaliser.
    pub(super) normaliser: f64,
    /// Where the normaliser begins, in the first step.
    pub(super) first_normaliser: Option<f32>,
    /// The weighted sum of the losses.
    pub(super) loss: f64,
    losses: Vec<TermLoss>,
    n_sequences: usize,
    stride: usize,
    has_rows: bool,
    pub(super) pairs: PairTerms,
}

impl Found {
    /// Forgets everything.
    pub(super) fn begin(&mut self, n_sequences: usize, stride: usize) {
        (self.n_sequences, self.stride) = (n_sequences, stride);
        (self.n_against, self.has_rows, self.has_more) = (0, false, false);
        (self.slope, self.inverse_temperature, self.normaliser, self.loss) = (0.0, 0.0, 0.0, 0.0);
        self.first_normaliser = None;
        self.losses.clear();
        self.biases.clear();
        self.repetition.clear();
        self.repetition.resize(repetition::LENGTH, 0.0);
    }

    /// Ends it: what nobody has written is 0.
    pub(super) fn finish(&mut self) {
        if !self.has_rows {
            self.rows.clear_to(self.n_sequences, self.stride);
        }
    }

    /// Gradients of candidates, to be added up.
    pub(super) fn against(&self) -> &[Gradients] {
        &self.against[..self.n_against]
    }

    /// Somewhere to put the gradients of a contrast with the candidates, to be handed back to [`Self::add_against`].
    pub(super) fn next_against(&mut self) -> Gradients {
        self.against.get_mut(self.n_against).map(std::mem::take).unwrap_or_default()
    }

    /// Adds the gradients of a contrast with the candidates.
    pub(super) fn add_against(&mut self, gradients: Gradients) {
        match self.against.get_mut(self.n_against) {
            Some(place) => *place = gradients,
            None => self.against.push(gradients),
        }
        self.n_against += 1;
    }

    /// Adds gradients of the raw vectors of the sequences from `first` on.
    pub(super) fn add_rows(&mut self, first: usize, gradients: &mut Aligned<f32>) {
        if !self.has_rows {
            self.has_rows = true;
            if first == 0 && gradients.len() == self.n_sequences * self.stride {
                self.rows.resize_to(self.n_sequences, self.stride);
                return std::mem::swap(self.rows.numbers_mut(), gradients);
            }
            self.rows.clear_to(self.n_sequences, self.stride);
        }
        let rows = &mut self.rows.numbers_mut()[first * self.stride..];
        rows.iter_mut().zip(&**gradients).for_each(|(sum, number)| *sum += number);
    }

    /// Further gradients of the candidates as they were scored, one row for each.
    pub(super) fn more(&mut self, n_columns: usize) -> &mut Padded {
        if !self.has_more {
            self.has_more = true;
            self.more.clear_to(n_columns, self.stride);
        }
        &mut self.more
    }

    /// Adds those of β and τ.
    pub(super) fn add_numbers(&mut self, gradients: &Gradients) {
        self.slope += gradients.slope;
        self.inverse_temperature += gradients.inverse_temperature;
    }

    /// Adds those of ρ: `gradients` of pairs, each of the own item whose place in the batch's lists is in `own`, or of none.
    pub(super) fn add_repetition(&mut self, batch: &Batch, own: &[u32], gradients: &[f32]) {
        for (own, gradient) in own.iter().zip(gradients).filter(|(own, _)| **own != NOT_OWN) {
            Repetition::add_gradient(batch.own[*own as usize].buckets, *gradient, &mut self.repetition);
        }
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
        PairRules { repeat: self.repeat, repetition: self.repeat, mask_recent: self.mask_recent, certain: true }
    }
}
