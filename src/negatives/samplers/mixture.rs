//! `mixture`: `Σ_m w_m·q_m` of other samplers, with the log of the mixture.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::registry::{MixtureParts, NoiseTerm, Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `mixture`.
    pub struct MixtureOptions {
        /// The samplers that the mixture is made of, each with its `weight`.
        parts: MixtureParts = MixtureParts(Vec::new());
    }
}

impl Component for MixtureOptions {
    const NAME: &'static str = "mixture";
    const SUMMARY: &'static str = "Others, each with its weight.";
}

impl SamplerOptions for MixtureOptions {
    const ORIGIN: Origin =
        Origin::Stream("negatives.noise=[{sampler=\"mixture\", parts=[{sampler=\"unigram\"}, {sampler=\"uniform\"}]}]");
    const TESTED: &'static [&'static str] = &[
        "parts = [{ sampler = 'uniform' }, { sampler = 'unigram', weight = 3.0 }, { sampler = 'exposure' }]",
        "parts = [{ sampler = 'adaptive', weight = 0.5, clusters = 3 }, { sampler = 'cooccurrence' }]",
    ];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Mixture::new(self.parts.0.iter().map(|part| (part.weight(), part.build())).collect()))
    }

    fn parts(&self) -> Vec<NoiseTerm> {
        self.parts.0.clone()
    }
}

/// Draws from one of several, each by its weight.
#[derive(Debug)]
pub struct Mixture {
    parts: Vec<(f64, Box<dyn NoiseSampler>)>,
}

impl Mixture {
    /// A mixture of samplers with their weights, which are positive.
    pub fn new(parts: Vec<(f64, Box<dyn NoiseSampler>)>) -> Self {
        Self { parts }
    }

    /// The parts that have something to draw from, with their weights, which sum to `1/factor`.
    fn able<'a>(&'a self, view: StreamView<'a>) -> (f64, impl Iterator<Item = &'a (f64, Box<dyn NoiseSampler>)>) {
        let able = move || self.parts.iter().filter(move |(_, part)| !part.is_empty(view));
        let sum: f64 = able().map(|(weight, _)| weight).sum();
        (sum.recip(), able())
    }
}

impl NoiseSampler for Mixture {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        self.parts.iter_mut().for_each(|(_, part)| part.observe(view, observed));
    }

    fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        self.parts.iter_mut().for_each(|(_, part)| part.set_queries(view, asking));
    }

    fn depends_on_queries(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.depends_on_queries())
    }

    fn is_empty(&self, view: StreamView<'_>) -> bool {
        self.parts.iter().all(|(_, part)| part.is_empty(view))
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        let (factor, able) = self.able(view);
        let able: Vec<_> = able.collect();
        if able.is_empty() {
            return;
        }
        // How many each draws is drawn first; then all of a part's at once, which is as independent, and faster.
        let mut counts = vec![0; able.len()];
        for _ in 0..draws {
            let mut point = random.random::<f64>() / factor;
            let part = able.iter().position(|(weight, _)| {
                point -= weight;
                point < 0.0
            });
            counts[part.unwrap_or(able.len() - 1)] += 1;
        }
        for ((_, part), count) in able.into_iter().zip(counts) {
            part.draw(view, count, random, out);
        }
    }

    fn probability(&self, view: StreamView<'_>, item: u32) -> f64 {
        let (factor, able) = self.able(view);
        able.map(|(weight, part)| weight * factor * part.probability(view, item)).sum()
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.parts.iter_mut().for_each(|(_, part)| part.keep_items(items));
    }

    fn keep_users(&mut self, users: &RowRemap) {
        self.parts.iter_mut().for_each(|(_, part)| part.keep_users(users));
    }

    fn save(&self, out: &mut StateDict) {
        for (index, (_, part)) in self.parts.iter().enumerate() {
            out.scope(&index.to_string(), |out| part.save(out));
        }
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        for (index, (_, part)) in self.parts.iter_mut().enumerate() {
            saved.scope(&index.to_string(), |saved| part.restore(view, saved))?;
        }
        Ok(())
    }
}
