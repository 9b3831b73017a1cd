//! The noise as configured: samplers by name, each with its number of draws per batch.

use rand_pcg::Pcg64Mcg;

use super::adaptive::Adaptive;
use super::cooccurrence::Cooccurrence;
use super::exposure::Exposure;
use super::hard::Hard;
use super::interval::Interval;
use super::log_uniform::LogUniform;
use super::mixture::Mixture;
use super::uniform::Uniform;
use super::unigram::Unigram;
use super::{Asking, NoiseSampler, Scene, Seen};
use crate::config::{NoiseTerm, SamplerKind};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// One sampler at work.
#[derive(Debug)]
pub struct Term {
    /// Its name, unique among the terms.
    pub name: String,
    /// Draws per batch.
    pub draws: usize,
    /// At most this share of the candidates.
    pub cap: f64,
    /// The sampler.
    pub sampler: Box<dyn NoiseSampler>,
    /// What it drew for the newest batch.
    pub drawn: Vec<u32>,
    /// How many of these were candidates already.
    pub collisions: usize,
}

impl Term {
    /// Draws for a batch that has `others` candidates already.
    pub fn draw(&mut self, scene: Scene<'_>, others: usize, random: &mut Pcg64Mcg) {
        self.drawn.clear();
        let most = if self.cap < 1.0 { (self.cap / (1.0 - self.cap) * others as f64) as usize } else { usize::MAX };
        self.sampler.draw(scene, self.draws.min(most), random, &mut self.drawn);
    }
}

/// All of them.
#[derive(Debug)]
pub struct NoiseMix {
    /// In the order of the configuration.
    pub terms: Vec<Term>,
}

/// The sampler that `term` describes.
pub fn sampler(term: &NoiseTerm) -> Option<Box<dyn NoiseSampler>> {
    Some(match term.sampler {
        SamplerKind::None => return None,
        SamplerKind::Uniform => Box::new(Uniform),
        SamplerKind::Unigram => Box::new(Unigram::new(term.power())),
        SamplerKind::LogUniform => Box::new(LogUniform::default()),
        SamplerKind::Interval => Box::new(Interval::new(term.width(), term.rows(), term.rate())),
        SamplerKind::Cooccurrence => Box::new(Cooccurrence::new(term.followers(), term.half_life())),
        SamplerKind::Adaptive => Box::new(Adaptive::new(term.clusters(), term.power())),
        SamplerKind::Hard => Box::new(Hard::new(term.size(), term.probes())),
        SamplerKind::Exposure => Box::new(Exposure::new(term.remembered())),
        SamplerKind::Mixture => {
            let part = |part: &NoiseTerm| Some((part.weight(), sampler(part)?));
            Box::new(Mixture::new(term.parts.iter().filter_map(part).collect()))
        }
    })
}

impl NoiseMix {
    /// As configured. Of several terms with one sampler, the later ones are numbered.
    pub fn new(terms: &[NoiseTerm]) -> Self {
        let mut mix = Self { terms: Vec::new() };
        for term in terms {
            let Some(sampler) = sampler(term) else { continue };
            let kind = term.sampler.name();
            let like = |other: &&Term| other.name.split('-').next() == Some(kind);
            let name = match mix.terms.iter().filter(like).count() {
                0 => kind.to_owned(),
                n => format!("{kind}-{}", n + 1),
            };
            // Others have none.
            let cap = if term.sampler == SamplerKind::Hard { term.cap() } else { 1.0 };
            mix.terms.push(Term { name, draws: term.draws(), cap, sampler, drawn: Vec::new(), collisions: 0 });
        }
        mix
    }

    /// Takes note of a batch.
    pub fn observe(&mut self, scene: Scene<'_>, seen: Seen<'_>) {
        self.terms.iter_mut().for_each(|term| term.sampler.observe(scene, seen));
    }

    /// Whether any of them has to know who asks.
    pub fn depends_on_queries(&self) -> bool {
        self.terms.iter().any(|term| term.sampler.depends_on_queries())
    }

    /// Takes note of whom negatives are drawn for.
    pub fn ask(&mut self, scene: Scene<'_>, asking: Asking<'_>) {
        self.terms.iter_mut().for_each(|term| term.sampler.ask(scene, asking));
    }

    /// Keeps the items that stay; what was drawn is forgotten.
    pub fn keep_items(&mut self, items: &RowRemap) {
        for term in &mut self.terms {
            term.drawn.clear();
            term.sampler.keep_items(items);
        }
    }

    /// Keeps the users that stay; what was drawn is forgotten.
    pub fn keep_users(&mut self, users: &RowRemap) {
        for term in &mut self.terms {
            term.drawn.clear();
            term.sampler.keep_users(users);
        }
    }

    /// How many times the newest batch's draws were expected to bring `item`.
    pub fn expected(&self, scene: Scene<'_>, item: u32) -> f64 {
        let expected = |term: &Term| match term.drawn.len() {
            0 => 0.0,
            draws => draws as f64 * term.sampler.probability(scene, item),
        };
        self.terms.iter().map(expected).sum()
    }

    /// Puts down what [`Self::restore`] needs.
    pub fn save(&self, out: &mut StateDict) {
        for term in &self.terms {
            out.within(&term.name, |out| term.sampler.save(out));
        }
    }

    /// Brings back what was saved.
    ///
    /// # Errors
    /// Where something is missing or cannot be.
    pub fn restore(&mut self, scene: Scene<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        for term in &mut self.terms {
            saved.within(&term.name, |saved| term.sampler.restore(scene, saved))?;
        }
        Ok(())
    }
}
