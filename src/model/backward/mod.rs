//! The backward pass: from the gradients that objectives have added up to rows and parameters, each of which moves once.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `gradients` | the sum of the objectives' gradients |
//! | `item_rows` | which items a step touches, and the update of their rows |

mod gradients;
mod item_rows;

use super::Model;
use super::encoder::{Encoded, Padded, Sequences};
use super::situation::{self, SituationVectors};
use crate::context::NOBODY;
use crate::kernel::Kernel;
use crate::kernel::rows::add_scaled;
use crate::negatives::candidates::Candidates;
pub use gradients::{GradientAccumulator, NO_ENTRY, PairSource};
use item_rows::{GradientSources, TouchedItems};

/// How far a step moves the model, and which of its optional parameters it moves.
#[derive(Debug, Clone, Copy)]
pub struct UpdateRules {
    /// Adagrad's step size.
    pub learning_rate: f32,
    /// That of ρ, in multiples of it: few events look up a number of its tables, and much hangs on them from the first thousands on.
    pub repetition_rate: f32,
    /// That of κ, likewise.
    pub cooccurrence_rate: f32,
    /// Whether β is learnt.
    pub learn_popularity: bool,
    /// Whether τ is learnt.
    pub learn_temperature: bool,
    /// Whether ρ is learnt.
    pub learn_repetition: bool,
    /// Whether κ is learnt.
    pub learn_cooccurrence: bool,
}

/// The backward pass of one step, with the buffers that it keeps from step to step.
#[derive(Debug, Default)]
pub struct BackwardPass {
    items: TouchedItems,
    users: UserGradients,
    /// Gradients of each W, dim × dim.
    transforms: Vec<Vec<f32>>,
    /// Gradients by place of the sequences (as in [`Sequences::items`]), and of the recurrent unit's weights.
    places: Padded,
    gru: Vec<f32>,
    /// Gradients of the vectors of situations.
    situations: Vec<f32>,
}

/// Gradients of the users' rows.
#[derive(Debug, Default)]
struct UserGradients {
    /// (user, sequence), in the order of the users.
    sequences: Vec<(u32, u32)>,
    sum: Vec<f32>,
}

impl BackwardPass {
    /// Finds the rows of items that the step touches: those of live candidates, and of the sequences. Needs no gradients.
    pub fn find_touched(
        &mut self,
        model: &Model,
        (sequences, encoded): (&Sequences, &Encoded),
        candidates: &Candidates,
    ) {
        self.items.gather(model.items.values.len(), (sequences, encoded), candidates, model.gru.is_some());
    }

    /// Brings `gradients` back to rows and parameters, and moves these, as [`Self::find_touched`] prepared it.
    /// `candidate_vectors` are the candidates as they were scored, candidates × stride. Gives whether everything that moved
    /// is still finite.
    pub fn apply(
        &mut self,
        kernel: Kernel,
        rules: UpdateRules,
        model: &mut Model,
        (sequences, encoded): (&Sequences, &mut Encoded),
        (candidates, candidate_vectors): (&Candidates, &Padded),
        gradients: &mut GradientAccumulator,
    ) -> bool {
        let rate = rules.learning_rate;
        gradients.finish();
        model.keep_copies(self.items.items(), self.items.in_sequences(), &candidates.items);
        let Self { items, users, transforms, places, gru, situations } = self;
        model.back_through_transforms(kernel, sequences, encoded, &mut gradients.sequences, transforms);
        let mut finite = users.move_rows(kernel, model, sequences, &gradients.sequences, rate);
        if let Some(vectors) = &mut model.situations {
            let (length, dim) = (vectors.parameters.values.len(), model.items.values.dim());
            situations.clear();
            situations.resize(length, 0.0);
            for (sequence, situation) in sequences.situations.iter().enumerate() {
                let gradient = &gradients.sequences.row(sequence)[..dim];
                SituationVectors::add_gradient(kernel, *situation, gradient, situations);
            }
            vectors.parameters.step(kernel, situations, rate * situation::RATE_SHARE);
        }
        let recurrent = model.gru.is_some();
        if recurrent {
            model.back_through_gru(sequences, encoded, &gradients.sequences, gru, places);
        }
        let sources = GradientSources {
            candidate_vectors,
            contrasts: gradients.contrasts(),
            extra_candidates: gradients.extra_candidates(),
            sequences: if recurrent { places } else { &gradients.sequences },
        };
        finite &= items.move_rows(kernel, model, sources, rate);
        finite &= move_biases(kernel, model, candidates, &mut gradients.biases, rate);
        if !recurrent {
            model.position_weights.step(kernel, items.position_gradients(sequences, encoded), rate);
        }
        if rules.learn_popularity {
            model.popularity.step(kernel, &[gradients.popularity as f32], rate);
        }
        if rules.learn_temperature {
            // ∂/∂ log(1/τ)
            let gradient = gradients.inverse_temperature as f32 * model.inverse_temperature();
            model.temperature.step(kernel, &[gradient], rate);
        }
        if rules.learn_repetition {
            model.repetition.step(kernel, &mut gradients.repetition, rate * rules.repetition_rate);
        }
        if let Some(gate) = &mut model.gate {
            gate.parameters.step(kernel, &gradients.gate, rate);
        }
        if rules.learn_cooccurrence {
            model.cooccurrence.step(kernel, &mut gradients.cooccurrence, rate * rules.cooccurrence_rate);
        }
        if model.biases.is_some() {
            if let Some(first) = gradients.first_normaliser {
                model.normaliser.values[0] = first;
            }
            model.normaliser.step(kernel, &[gradients.normaliser as f32], rate);
        }
        model.transforms.iter_mut().zip(transforms).for_each(|(parameters, sums)| parameters.step(kernel, sums, rate));
        if let Some(parameters) = &mut model.gru {
            parameters.step(kernel, gru, rate);
        }
        // A sum is finite only where every part is (or where two infinities meet, which make it NaN).
        let is_finite = |values: &[f32]| values.iter().sum::<f32>().is_finite();
        finite
            && model.parameters_mut().all(|(_, parameters)| is_finite(&parameters.values))
            && model.inverse_temperature().is_normal()
    }
}

/// Moves b_c of every candidate once, by `gradients` (one for each candidate; empty where no objective learns biases).
/// Gives whether all of them are still finite.
fn move_biases(kernel: Kernel, model: &mut Model, candidates: &Candidates, gradients: &mut [f32], rate: f32) -> bool {
    if gradients.is_empty() {
        return true;
    }
    // An item may have a frozen column besides its live one.
    for column in candidates.n_live()..candidates.items.len() {
        if let Some(live) = candidates.column(candidates.items[column]) {
            gradients[live as usize] += std::mem::take(&mut gradients[column]);
        }
    }
    let mut finite = true;
    let once = |(column, item): &(usize, &u32)| *column < candidates.n_live() || candidates.column(**item).is_none();
    for (column, item) in candidates.items.iter().enumerate().filter(once) {
        finite &= model.move_bias(kernel, *item, gradients[column], rate);
    }
    finite
}

impl UserGradients {
    /// One move per user, of the sum of their gradients; whether all rows are still finite.
    fn move_rows(
        &mut self,
        kernel: Kernel,
        model: &mut Model,
        sequences: &Sequences,
        gradients: &Padded,
        rate: f32,
    ) -> bool {
        let dim = model.dim();
        let Some(users) = &mut model.users else { return true };
        self.sequences.clear();
        let known = (0..sequences.len()).filter(|sequence| sequences.users[*sequence] != NOBODY);
        self.sequences.extend(known.map(|sequence| (sequences.users[sequence], sequence as u32)));
        self.sequences.sort_unstable();
        self.sum.resize(dim, 0.0);
        let mut finite = true;
        for group in self.sequences.chunk_by(|a, b| a.0 == b.0) {
            self.sum.fill(0.0);
            for (_, sequence) in group {
                add_scaled(kernel, &mut self.sum, &gradients.row(*sequence as usize)[..dim], 1.0);
            }
            finite &= !users.step(kernel, group[0].0 as usize, &self.sum, rate).is_nan();
        }
        finite
    }
}
