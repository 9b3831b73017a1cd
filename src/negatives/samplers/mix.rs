//! The noise as configured: samplers by name, each with its number of draws per batch.

use rand_pcg::Pcg64Mcg;

use super::registry::NoiseTerm;
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// A sampler at work.
#[derive(Debug)]
pub struct NoiseSource {
    /// The term's name, unique among all terms.
    pub name: String,
    /// Draws per batch.
    pub draws: usize,
    /// At most this share of the candidates.
    pub cap: f64,
    /// The sampler.
    pub sampler: Box<dyn NoiseSampler>,
    /// The items drawn for the newest batch.
    pub drawn: Vec<u32>,
    /// How many of these were candidates already.
    pub collisions: usize,
}

impl NoiseSource {
    /// Draws for a batch that has `others` candidates already.
    pub fn draw(&mut self, view: StreamView<'_>, others: usize, random: &mut Pcg64Mcg) {
        self.drawn.clear();
        let most = if self.cap < 1.0 { (self.cap / (1.0 - self.cap) * others as f64) as usize } else { usize::MAX };
        self.sampler.draw(view, self.draws.min(most), random, &mut self.drawn);
    }
}

/// All noise samplers at work.
#[derive(Debug)]
pub struct NoiseMix {
    /// The samplers, in the order of the configuration.
    pub terms: Vec<NoiseSource>,
}

impl NoiseMix {
    /// The samplers as configured. Where several terms have the same sampler, the later ones are numbered.
    pub fn new(terms: &[NoiseTerm]) -> Self {
        let mut mix = Self { terms: Vec::new() };
        for term in terms {
            let kind = term.sampler.name;
            let like = |other: &&NoiseSource| other.name.split('-').next() == Some(kind);
            let name = match mix.terms.iter().filter(like).count() {
                0 => kind.to_owned(),
                n => format!("{kind}-{}", n + 1),
            };
            mix.terms.push(NoiseSource {
                name,
                draws: term.draws(),
                cap: term.cap(),
                sampler: term.build(),
                drawn: Vec::new(),
                collisions: 0,
            });
        }
        mix
    }

    /// Observes a batch of events.
    pub fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        self.terms.iter_mut().for_each(|term| term.sampler.observe(view, observed));
    }

    /// Whether any of them has to know who asks.
    pub fn depends_on_queries(&self) -> bool {
        self.terms.iter().any(|term| term.sampler.depends_on_queries())
    }

    /// Sets the queries that negatives are drawn for.
    pub fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        self.terms.iter_mut().for_each(|term| term.sampler.set_queries(view, asking));
    }

    /// Remaps item rows after an eviction; draws are forgotten.
    pub fn keep_items(&mut self, items: &RowRemap) {
        for term in &mut self.terms {
            term.drawn.clear();
            term.sampler.keep_items(items);
        }
    }

    /// Remaps user rows after an eviction; draws are forgotten.
    pub fn keep_users(&mut self, users: &RowRemap) {
        for term in &mut self.terms {
            term.drawn.clear();
            term.sampler.keep_users(users);
        }
    }

    /// How many times the newest batch's draws were expected to bring `item`.
    pub fn expected(&self, view: StreamView<'_>, item: u32) -> f64 {
        let expected = |term: &NoiseSource| match term.drawn.len() {
            0 => 0.0,
            draws => draws as f64 * term.sampler.probability(view, item),
        };
        self.terms.iter().map(expected).sum()
    }

    /// Saves the state that [`Self::restore`] reads.
    pub fn save(&self, out: &mut StateDict) {
        for term in &self.terms {
            out.scope(&term.name, |out| term.sampler.save(out));
        }
    }

    /// Restores the state of all samplers.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        for term in &mut self.terms {
            saved.scope(&term.name, |saved| term.sampler.restore(view, saved))?;
        }
        Ok(())
    }
}
