//! The gradients of one step, added up over the objectives: everything that the model shares among them.

use crate::context::Batch;
use crate::kernel::aligned::Aligned;
use crate::kernel::contrast::Gradients;
use crate::model::cooccurrence::{self, CooccurrenceTerm};
use crate::model::encoder::Padded;
use crate::model::gate::{self, SimilarityGate};
use crate::model::repetition::{self, Repetition};

/// Stands in place of an entry of the batch's lists that a pair does not have.
pub const NO_ENTRY: u32 = u32::MAX;

/// What the terms ρ and κ of a pair of query and candidate are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairSource {
    /// The candidate's place in [`Batch::own`], where the user had it before: ρ has a part in the pair.
    pub own: u32,
    /// The candidate's place in [`Batch::related`], where it came together with the context: κ has a part in the pair.
    pub related: u32,
}

impl PairSource {
    /// A pair without either term.
    pub const NONE: Self = Self { own: NO_ENTRY, related: NO_ENTRY };

    /// A pair with the user's own item at place `own`.
    pub fn of_own(own: u32) -> Self {
        Self { own, ..Self::NONE }
    }

    /// A pair with the related item at place `related`.
    pub fn of_related(related: u32) -> Self {
        Self { related, ..Self::NONE }
    }
}

/// The sum of the gradients of all objectives in one step. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub struct GradientAccumulator {
    /// Gradients of the sequences' raw vectors (before they are normalised), sequences × stride.
    pub(super) sequences: Padded,
    has_sequences: bool,
    /// Gradients of the candidates as they were scored, one set for each contrast; `contrasts[..n_contrasts]` are of this
    /// step.
    contrasts: Vec<Gradients>,
    n_contrasts: usize,
    /// Gradients of the candidates as they were scored that no contrast gave, candidates × stride.
    extra_candidates: Padded,
    has_extra_candidates: bool,
    /// Gradients of b_c, one for each candidate; empty where items have no bias.
    pub biases: Vec<f32>,
    /// Gradients of the parameters of ρ.
    pub(super) repetition: Vec<f32>,
    /// Gradients of the parameters of the gate.
    pub(super) gate: Vec<f32>,
    /// Gradients of the parameters of κ.
    pub(super) cooccurrence: Vec<f32>,
    /// Gradient of β.
    pub popularity: f64,
    /// Gradient of 1/τ.
    pub inverse_temperature: f64,
    /// Gradient of the normaliser.
    pub normaliser: f64,
    /// The value that the normaliser starts from; set in the first step alone.
    pub first_normaliser: Option<f32>,
    n_sequences: usize,
    stride: usize,
}

impl GradientAccumulator {
    /// Starts a step on `n_sequences` sequences: all gradients are 0.
    pub fn begin(&mut self, n_sequences: usize, stride: usize) {
        (self.n_sequences, self.stride) = (n_sequences, stride);
        (self.n_contrasts, self.has_sequences, self.has_extra_candidates) = (0, false, false);
        (self.popularity, self.inverse_temperature, self.normaliser) = (0.0, 0.0, 0.0);
        self.first_normaliser = None;
        self.biases.clear();
        self.repetition.clear();
        self.repetition.resize(repetition::LENGTH, 0.0);
        self.gate.clear();
        self.gate.resize(gate::LENGTH, 0.0);
        self.cooccurrence.clear();
        self.cooccurrence.resize(cooccurrence::LENGTH, 0.0);
    }

    /// Ends the accumulation: a gradient that no objective has written is 0.
    pub(super) fn finish(&mut self) {
        if !self.has_sequences {
            self.sequences.clear_to(self.n_sequences, self.stride);
        }
    }

    /// The candidates' gradients, a set for each contrast of this step.
    pub(super) fn contrasts(&self) -> &[Gradients] {
        &self.contrasts[..self.n_contrasts]
    }

    /// The candidates' gradients that no contrast gave.
    pub(super) fn extra_candidates(&self) -> Option<&Padded> {
        self.has_extra_candidates.then_some(&self.extra_candidates)
    }

    /// A buffer for the gradients of a contrast with the candidates, to be handed back to [`Self::add_contrast`].
    pub fn contrast_buffer(&mut self) -> Gradients {
        self.contrasts.get_mut(self.n_contrasts).map(std::mem::take).unwrap_or_default()
    }

    /// Adds the candidates' gradients of one contrast.
    pub fn add_contrast(&mut self, gradients: Gradients) {
        match self.contrasts.get_mut(self.n_contrasts) {
            Some(place) => *place = gradients,
            None => self.contrasts.push(gradients),
        }
        self.n_contrasts += 1;
    }

    /// Adds gradients of the raw vectors of the sequences from `first` on.
    pub fn add_sequences(&mut self, first: usize, gradients: &mut Aligned<f32>) {
        if !self.has_sequences {
            self.has_sequences = true;
            if first == 0 && gradients.len() == self.n_sequences * self.stride {
                self.sequences.resize_to(self.n_sequences, self.stride);
                return std::mem::swap(self.sequences.numbers_mut(), gradients);
            }
            self.sequences.clear_to(self.n_sequences, self.stride);
        }
        let rows = &mut self.sequences.numbers_mut()[first * self.stride..];
        rows.iter_mut().zip(&**gradients).for_each(|(sum, number)| *sum += number);
    }

    /// Gradients of the candidates as they were scored, one row for each, to be added to in place.
    pub fn extra_candidates_mut(&mut self, n_candidates: usize) -> &mut Padded {
        if !self.has_extra_candidates {
            self.has_extra_candidates = true;
            self.extra_candidates.clear_to(n_candidates, self.stride);
        }
        &mut self.extra_candidates
    }

    /// Adds the gradients of β and 1/τ that a contrast gave.
    pub fn add_scalars(&mut self, gradients: &Gradients) {
        self.popularity += gradients.slope;
        self.inverse_temperature += gradients.inverse_temperature;
    }

    /// Adds the gradient of the gate, where `of_queries` are those of 1/τ that the batch's queries have a part in.
    pub fn add_gate(&mut self, batch: &Batch, inverse_temperature: f64, of_queries: &[f64]) {
        for (situation, gradient) in batch.situations.iter().zip(of_queries) {
            SimilarityGate::add_gradient(*situation, (inverse_temperature * gradient) as f32, &mut self.gate);
        }
    }

    /// Adds `gradients` of pairs to those of ρ and κ; `sources` says for each pair which entries of the batch's lists it has.
    pub fn add_pairs(&mut self, batch: &Batch, sources: &[PairSource], gradients: &[f32]) {
        for (source, gradient) in sources.iter().zip(gradients) {
            if source.own != NO_ENTRY {
                Repetition::add_gradient(batch.own[source.own as usize].buckets, *gradient, &mut self.repetition);
            }
            if source.related != NO_ENTRY {
                let buckets = batch.related_lists.item(source.related).buckets;
                CooccurrenceTerm::add_gradient(buckets, *gradient, &mut self.cooccurrence);
            }
        }
    }
}
