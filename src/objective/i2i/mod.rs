//! Items that belong together: pairs of a session, as far as the stream bears them out.
//!
//! Each event is paired with the newest distinct items of the user's session before it, and each of these alone has to tell
//! the event's item from the candidates (InfoNCE). A session ends where the user pauses. But one user has several
//! interests, and their items come in turn: so a pair counts by what is to be said for it ([`Acceptance`]): nothing
//! (`raw`), the lift of the two on the whole stream ([`evidence`]), or that their vectors agree.

pub mod evidence;
#[cfg(test)]
mod tests;

use super::contrast::ItemContrast;
use super::inputs::PairTerms;
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext, StepRequest};
use crate::context::Batch;
use crate::kernel::rows::{dot, inverse_norm};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::{config_choice, config_section};
use evidence::Evidence;

/// Rows of the sketch.
const ROWS: usize = 4;

config_choice! {
    /// What a pair of items must bring along to count.
    pub enum Acceptance {
        /// Nothing: every pair of a session counts.
        Raw = "raw",
        /// That the two come together more often on the stream than by chance.
        Lift = "lift",
        /// That the vectors of the two agree.
        Agreement = "agreement",
    }
}

config_section! {
    /// The options of `i2i`.
    pub struct I2iOptions {
        /// What a pair must bring along.
        acceptance: Acceptance = Acceptance::Lift;
        /// Minutes without an event of the user that end a session.
        gap_minutes: f64 = 30.0 => [within(0.0..=1e9)];
        /// How many items before an event it is paired with.
        window: usize = 5 => [within(1..=128)];
        /// Half-life of the evidence, in pairs.
        half_life: f64 = 1e6 => [within(1.0..=1e12)];
        /// Cells of each row of the sketch that pairs are counted in.
        width: usize = 1 << 18 => [within(16..=1 << 26)];
    }
}

impl Component for I2iOptions {
    const NAME: &'static str = "i2i";
    const SUMMARY: &'static str = "Items of a session belong together, as far as the stream bears it out.";
}

impl ObjectiveOptions for I2iOptions {
    fn build(&self, weight: f64, _setting: ObjectiveSetting) -> Box<dyn Objective> {
        let evidence = || Evidence::new(self.half_life, self.width, ROWS);
        Box::new(I2i {
            weight,
            acceptance: self.acceptance,
            gap_ms: (self.gap_minutes * 60_000.0) as i64,
            window: self.window,
            evidence: (self.acceptance == Acceptance::Lift).then(evidence),
            first: 0,
            pairs: Vec::new(),
            weights: Vec::new(),
        })
    }

    fn validate_memory(&self, remembered_items: usize) -> Result<(), String> {
        if self.window > remembered_items {
            let what = "'window' of 'i2i' must be at most repetition.items: what is remembered of a user";
            return Err(what.to_owned());
        }
        Ok(())
    }
}

/// The objective `i2i` at work.
#[derive(Debug)]
pub(super) struct I2i {
    weight: f64,
    acceptance: Acceptance,
    gap_ms: i64,
    window: usize,
    evidence: Option<Evidence>,
    /// The first of its sequences, each a single item.
    first: usize,
    /// (item before, item).
    pairs: Vec<(u32, u32)>,
    weights: Vec<f32>,
}

impl I2i {
    /// What each pair counts; then the evidence takes note of them.
    fn accept(&mut self, step: &StepContext<'_>) {
        let model = step.model;
        let (mut a, mut b) = (vec![0.0; model.dim()], vec![0.0; model.dim()]);
        let (pairs, weights, acceptance) = (&self.pairs, &mut self.weights, self.acceptance);
        weights.clear();
        weights.extend(pairs.iter().map(|(before, item)| match (acceptance, &self.evidence) {
            (Acceptance::Lift, Some(evidence)) => evidence.acceptance(*before, *item),
            (Acceptance::Agreement, _) => {
                model.served(*before as usize, &mut a);
                model.served(*item as usize, &mut b);
                (dot(&a, &b) * inverse_norm(&a) * inverse_norm(&b)).clamp(0.0, 1.0)
            }
            _ => 1.0,
        }));
        if let Some(evidence) = &mut self.evidence {
            evidence.observe(pairs, model.items.values.len());
        }
    }
}

impl Objective for I2i {
    fn prepare(&mut self, batch: &Batch, _random: (u64, u64), request: &mut StepRequest) {
        self.first = request.sequences.len();
        self.pairs.clear();
        for query in 0..batch.n_queries() {
            let item = batch.positive(query);
            let session = batch.session(query, self.gap_ms);
            for before in session.filter(|before| *before != item).take(self.window) {
                self.pairs.push((before, item));
                request.sequences.push([before], None, 0);
            }
        }
    }

    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        self.accept(step);
        if self.pairs.is_empty() {
            return;
        }
        let candidates = step.candidates;
        let pairs = &self.pairs;
        let contrast = ItemContrast {
            rows: self.first..self.first + pairs.len(),
            pairs: |terms: &mut PairTerms| {
                terms.clear();
                for (before, item) in pairs {
                    terms.positive(candidates, *item, true);
                    // An item is not its own neighbour.
                    terms.mask(candidates, *before);
                    terms.close();
                }
            },
            weights: &self.weights,
            weight: self.weight,
            merged: true,
        };
        let (loss, bound) = contrast.tell_apart(step, accumulator);
        let mean = self.weights.iter().sum::<f32>() / self.weights.len() as f32;
        accumulator.add_loss(I2iOptions::NAME, "", self.weight, loss, bound);
        accumulator.note_acceptance(mean.into());
    }

    fn keep_items(&mut self, items: &RowRemap) {
        if let Some(evidence) = &mut self.evidence {
            evidence.keep(items);
        }
    }

    fn save(&self, saved: &mut StateDict) {
        if let Some(evidence) = &self.evidence {
            saved.within("evidence", |saved| evidence.save(saved));
        }
    }

    fn restore(&mut self, n_items: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        match &mut self.evidence {
            Some(evidence) => saved.within("evidence", |saved| evidence.restore(n_items, saved)),
            None => Ok(()),
        }
    }
}
