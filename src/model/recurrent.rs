//! The recurrent encoder: a gated recurrent unit ([`super::gru`]) over all that a user had.
//!
//! A query is the unit's state after the newest item. The newest `context.length` items are run through at every query, and
//! trained through; what came before is in a state that each user carries, and moves on as items leave that window: as
//! they were when they left it, by the weights of that moment.

use super::Model;
use super::encoder::{Encoded, Padded, Sequences};
use super::gru::{GruInputs, Runs, advance};
use crate::context::{Batch, NOBODY};
use crate::kernel::Kernel;

/// Buffers of the forward pass.
#[derive(Debug, Default)]
pub(crate) struct Recurrence {
    runs: Option<Runs>,
    /// Places × dim, each sequence's oldest first.
    inputs: Vec<f32>,
    /// Sequences × dim.
    initial: Vec<f32>,
}

impl Model {
    /// Writes the hidden states that the sequences of `batch` begin with into `states` (queries × dim), and advances those
    /// of the users, event by event. `longest` is the length of the longest context.
    pub fn advance_hidden_states(&mut self, kernel: Kernel, batch: &Batch, longest: usize, states: &mut Vec<f32>) {
        states.clear();
        let dim = self.dim();
        let Some(gru) = self.gru.take() else { return };
        let (mut input, mut scratch) = (vec![0.0; dim], Vec::new());
        for query in 0..batch.n_queries() {
            let user = batch.user(query) as usize;
            states.extend_from_slice(self.hidden_states.row(user));
            let context = batch.context(query);
            // The event's own item takes the place of the oldest.
            if context.len() == longest {
                self.input(context[longest - 1], &mut input);
                advance(kernel, &gru.values, self.hidden_states.row_mut(user), &input, &mut scratch);
            }
        }
        self.gru = Some(gru);
    }

    fn input(&self, item: u32, out: &mut [f32]) {
        out.copy_from_slice(self.vectors().row(item as usize));
        if let Some(contexts) = &self.contexts {
            out.iter_mut().zip(contexts.values.row(item as usize)).for_each(|(sum, number)| *sum += number);
        }
    }

    /// Runs the unit over `sequences`; its last states become the raw rows.
    pub(crate) fn run_gru(
        &self,
        weights: &[f32],
        sequences: &Sequences,
        initial_states: &[f32],
        recurrence: &mut Recurrence,
        rows: &mut Padded,
    ) {
        let dim = self.dim();
        let Recurrence { runs, inputs, initial } = recurrence;
        inputs.resize(sequences.items.len() * dim, 0.0);
        initial.clear();
        for sequence in 0..sequences.len() {
            let range = sequences.range(sequence);
            let inputs = inputs[range.start * dim..range.end * dim].chunks_exact_mut(dim);
            sequences.of(sequence).iter().rev().zip(inputs).for_each(|(item, input)| self.input(*item, input));
            match sequences.origin(sequence) {
                NOBODY => initial.resize(initial.len() + dim, 0.0),
                origin => initial.extend_from_slice(&initial_states[origin as usize * dim..][..dim]),
            }
        }
        let runs = runs.get_or_insert_with(|| Runs::new(dim));
        runs.forward(weights, GruInputs { starts: &sequences.starts, inputs, initial });
        for sequence in 0..sequences.len() {
            let last = sequences.range(sequence).end - 1;
            let row = rows.row_mut(sequence);
            row[..dim].copy_from_slice(&runs.states()[last * dim..][..dim]);
            row[dim..].fill(0.0);
        }
    }

    /// From the gradients of the raw rows to those of the unit's weights, and of each place of the sequences, in the order
    /// of [`Sequences::items`].
    pub(crate) fn back_through_gru(
        &self,
        sequences: &Sequences,
        encoded: &mut Encoded,
        rows: &Padded,
        weights: &mut Vec<f32>,
        places: &mut Padded,
    ) {
        let (Some(gru), Some(runs)) = (&self.gru, &mut encoded.recurrence.runs) else { return };
        let (dim, n_places) = (self.dim(), sequences.items.len());
        let (mut of_states, mut of_inputs) = (vec![0.0; n_places * dim], vec![0.0; n_places * dim]);
        for sequence in 0..sequences.len() {
            let last = sequences.range(sequence).end - 1;
            of_states[last * dim..][..dim].copy_from_slice(&rows.row(sequence)[..dim]);
        }
        weights.resize(gru.values.len(), 0.0);
        runs.backward(&gru.values, &of_states, weights, &mut of_inputs);
        places.clear_to(n_places, self.stride());
        for sequence in 0..sequences.len() {
            let range = sequences.range(sequence);
            for (place, input) in range.clone().zip(range.rev()) {
                places.row_mut(place)[..dim].copy_from_slice(&of_inputs[input * dim..][..dim]);
            }
        }
    }
}
