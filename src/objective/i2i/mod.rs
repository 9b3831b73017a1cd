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
use super::term::{Scene, StepAccumulator, StepRequest, Term};
use crate::config::{Acceptance, ObjectiveKind, ObjectiveTerm};
use crate::context::Batch;
use crate::kernel::rows::{dot, inverse_norm};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use evidence::Evidence;

/// Rows of the sketch.
const ROWS: usize = 4;

/// See the module.
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
    pub(super) fn new(term: &ObjectiveTerm) -> Self {
        let evidence = || Evidence::new(term.half_life(), term.width(), ROWS);
        Self {
            weight: term.weight(),
            acceptance: term.acceptance(),
            gap_ms: (term.gap_minutes() * 60_000.0) as i64,
            window: term.window(),
            evidence: (term.acceptance() == Acceptance::Lift).then(evidence),
            first: 0,
            pairs: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// What each pair counts; then the evidence takes note of them.
    fn accept(&mut self, scene: &Scene<'_>) {
        let model = scene.model;
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

impl Term for I2i {
    fn ask(&mut self, batch: &Batch, _random: (u64, u64), asked: &mut StepRequest) {
        self.first = asked.sequences.len();
        self.pairs.clear();
        for query in 0..batch.n_queries() {
            let item = batch.positive(query);
            let session = batch.session(query, self.gap_ms);
            for before in session.filter(|before| *before != item).take(self.window) {
                self.pairs.push((before, item));
                asked.sequences.push([before], None, 0);
            }
        }
    }

    fn step(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        self.accept(scene);
        if self.pairs.is_empty() {
            return;
        }
        let candidates = scene.candidates;
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
        let (loss, bound) = contrast.tell_apart(scene, found);
        let mean = self.weights.iter().sum::<f32>() / self.weights.len() as f32;
        found.lost(ObjectiveKind::I2i, "", self.weight, loss, bound);
        found.accepted(mean.into());
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
