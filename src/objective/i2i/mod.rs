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
#[cfg(test)]
use super::tests::reference::{Reference, mean};
#[cfg(test)]
use super::tests::scores::product;
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
    /// What decides how much a pair of items counts.
    pub enum Acceptance {
        /// Nothing decides: every pair of a session counts alike.
        Raw = "raw",
        /// The evidence that the two come together more often on the stream than by chance.
        Lift = "lift",
        /// The cosine of the two vectors.
        Agreement = "agreement",
    }
}

config_section! {
    /// The options of `i2i`.
    pub struct I2iOptions {
        /// What a pair counts by: `lift`, the probability that its lift is 4 and not 1, given how often it came and was
        /// expected to; `agreement`, the cosine of the two vectors; `raw`, nothing: all count alike.
        acceptance: Acceptance = Acceptance::Lift;
        /// Minutes without an event of the user that end a session.
        gap_minutes: f64 = 30.0 => [within(0.0..=1e9)];
        /// How many items before an event it is paired with.
        window: usize = 5 => [within(1..=128)];
        /// Half-life of the evidence, in pairs; no longer than items live.
        half_life: f64 = 1e6 => [within(1.0..=1e12)];
        /// Cells of each of the sketch's four rows; as many as pairs in a half-life, or more.
        width: usize = 1 << 18 => [within(16..=1 << 26)];
    }
}

impl Component for I2iOptions {
    const NAME: &'static str = "i2i";
    const SUMMARY: &'static str = "Items of a session belong together, as far as the stream bears it out.";
}

impl ObjectiveOptions for I2iOptions {
    const TESTED: &'static [&'static str] = &["acceptance='raw'"];

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

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let batch = &at.world.batch;
        let mut pairs = Vec::new();
        for query in 0..batch.n_queries() {
            let event = batch.with_context[query] as usize;
            // The user's items before, newest first, until a pause; each is where it last was.
            let (mut later, mut seen, mut passed) = (batch.timestamps[event], vec![batch.positive(query)], Vec::new());
            for before in (0..event).rev().filter(|before| batch.users[*before] == batch.user(query)) {
                if passed.contains(&batch.items[before]) {
                    continue;
                }
                if later - batch.timestamps[before] > (self.gap_minutes * 60_000.0) as i64 {
                    break;
                }
                later = batch.timestamps[before];
                passed.push(batch.items[before]);
                if !seen.contains(&batch.items[before]) && seen.len() <= self.window {
                    seen.push(batch.items[before]);
                }
            }
            pairs.extend(seen[1..].iter().map(|before| (*before, seen[0])));
        }
        at.claim(&pairs.iter().map(|(before, _)| vec![*before]).collect::<Vec<_>>());
        if pairs.is_empty() {
            return 0.0;
        }
        // Of the step before, on the same batch.
        let mut evidence = Evidence::new(self.half_life, self.width, ROWS);
        evidence.observe(&pairs, at.start_scores().numbers["item"].len() / at.world.config.model.dim);
        // What a pair counts is a constant to the gradient.
        let here = at.start_scores();
        let weight = |before: u32, item: u32| match self.acceptance {
            _ if !at.weighed => 1.0,
            Acceptance::Raw => 1.0,
            Acceptance::Lift => f64::from(evidence.acceptance(before, item)),
            Acceptance::Agreement => {
                let vector = |item| here.normalized(here.row("item", item).unwrap().to_vec());
                let (a, b) = (vector(before), vector(item));
                (product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).clamp(0.0, 1.0)
            }
        };
        mean(pairs.iter().map(|(before, item)| {
            let vector = at.scores.encode(&[*before], None, 0);
            weight(*before, *item)
                * at.softmax(at.contrast(at.scores, &vector, *item, |_| 0.0, |other| other == *before))
        }))
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
                    terms.begin_query(candidates, *item, true);
                    // An item is not its own neighbour.
                    terms.mask(candidates, *before);
                    terms.end_query();
                }
            },
            weights: &self.weights,
            weight: self.weight,
            is_next_item: false,
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
            saved.scope("evidence", |saved| evidence.save(saved));
        }
    }

    fn restore(&mut self, n_items: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        match &mut self.evidence {
            Some(evidence) => saved.scope("evidence", |saved| evidence.restore(n_items, saved)),
            None => Ok(()),
        }
    }
}
