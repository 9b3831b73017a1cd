//! From the gradients that objectives have found to rows and numbers, all of which move once.

use super::Options;
use super::inputs::Columns;
use super::scatter::{Sources, Touched};
use super::term::Found;
use crate::context::NOBODY;
use crate::kernel::Kernel;
use crate::kernel::rows::add_scaled;
use crate::model::Model;
use crate::model::encoder::{Encoded, Padded, Sequences};
use crate::negatives::candidates::Candidates;

/// Buffers of the way back.
#[derive(Debug, Default)]
pub(super) struct Back {
    transforms: Vec<Vec<f32>>,
    users: UserGradients,
    /// Gradients by place of the sequences, and of the recurrent unit's weights.
    places: Padded,
    unit: Vec<f32>,
}

/// Gradients of the users' rows.
#[derive(Debug, Default)]
struct UserGradients {
    /// (user, sequence), in the order of the users.
    sequences: Vec<(u32, u32)>,
    sum: Vec<f32>,
}

impl Back {
    /// Brings the gradients back to rows and numbers, and moves them; whether all of them are still finite.
    pub(super) fn apply(
        &mut self,
        kernel: Kernel,
        options: Options,
        model: &mut Model,
        (sequences, encoded): (&Sequences, &mut Encoded),
        (candidates, columns): (&Candidates, &Columns),
        (found, touched): (&mut Found, &mut Touched),
    ) -> bool {
        let rate = options.learning_rate;
        found.finish();
        let Self { transforms, users, places, unit } = self;
        model.back_through_transforms(kernel, sequences, encoded, &mut found.rows, transforms);
        let mut finite = users.move_rows(kernel, model, sequences, &found.rows, rate);
        if options.recurrent {
            model.back_through_unit(sequences, encoded, &found.rows, unit, places);
        }
        let sources = Sources {
            columns: &columns.vectors,
            against: found.against(),
            more: found.has_more.then_some(&found.more),
            sequences: if options.recurrent { places } else { &found.rows },
        };
        finite &= touched.move_rows(kernel, model, sources, rate);
        if !found.biases.is_empty() {
            // An item may have a frozen column besides its live one.
            for column in candidates.n_live()..candidates.items.len() {
                if let Some(live) = candidates.column(candidates.items[column]) {
                    found.biases[live as usize] += std::mem::take(&mut found.biases[column]);
                }
            }
            let once =
                |(column, item): &(usize, &u32)| *column < candidates.n_live() || candidates.column(**item).is_none();
            for (column, item) in candidates.items.iter().enumerate().filter(once) {
                finite &= model.move_bias(kernel, *item, found.biases[column], rate);
            }
        }
        if !options.recurrent {
            model.position_weights.step(kernel, touched.position_gradients(sequences, encoded), rate);
        }
        if options.learn_popularity {
            model.popularity.step(kernel, &[found.slope as f32], rate);
        }
        if options.learn_temperature {
            // ∂/∂ log(1/τ)
            let gradient = found.inverse_temperature as f32 * model.inverse_temperature();
            model.temperature.step(kernel, &[gradient], rate);
        }
        if options.repeat {
            model.repetition.parameters.step(kernel, &found.repetition, rate);
        }
        if model.biases.is_some() {
            if let Some(first) = found.first_normaliser {
                model.normaliser.values[0] = first;
            }
            model.normaliser.step(kernel, &[found.normaliser as f32], rate);
        }
        model.transforms.iter_mut().zip(transforms).for_each(|(numbers, found)| numbers.step(kernel, found, rate));
        if let Some(numbers) = &mut model.unit {
            numbers.step(kernel, unit, rate);
        }
        // A sum is finite only where every part is (or where two infinities meet, which make it NaN).
        let sound = |row: &[f32]| row.iter().sum::<f32>().is_finite();
        let fixed = [
            &model.position_weights,
            &model.popularity,
            &model.temperature,
            &model.normaliser,
            &model.repetition.parameters,
        ];
        finite
            && fixed.into_iter().chain(&model.transforms).chain(&model.unit).all(|numbers| sound(&numbers.values))
            && model.inverse_temperature().is_normal()
    }
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
