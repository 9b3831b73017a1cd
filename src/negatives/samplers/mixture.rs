//! `mixture`: `Σ_m w_m·q_m` of other samplers, with the log of the mixture.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::{Asking, NoiseSampler, Scene, Seen};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// Draws from one of several, each by its weight.
#[derive(Debug)]
pub struct Mixture {
    parts: Vec<(f64, Box<dyn NoiseSampler>)>,
}

impl Mixture {
    /// Of samplers with their weights, which are positive.
    pub fn new(parts: Vec<(f64, Box<dyn NoiseSampler>)>) -> Self {
        Self { parts }
    }

    /// Those that have something to draw from, with their weights, which sum to `1/factor`.
    fn able<'a>(&'a self, scene: Scene<'a>) -> (f64, impl Iterator<Item = &'a (f64, Box<dyn NoiseSampler>)>) {
        let able = move || self.parts.iter().filter(move |(_, part)| !part.is_empty(scene));
        let sum: f64 = able().map(|(weight, _)| weight).sum();
        (sum.recip(), able())
    }
}

impl NoiseSampler for Mixture {
    fn observe(&mut self, scene: Scene<'_>, seen: Seen<'_>) {
        self.parts.iter_mut().for_each(|(_, part)| part.observe(scene, seen));
    }

    fn ask(&mut self, scene: Scene<'_>, asking: Asking<'_>) {
        self.parts.iter_mut().for_each(|(_, part)| part.ask(scene, asking));
    }

    fn depends_on_queries(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.depends_on_queries())
    }

    fn is_empty(&self, scene: Scene<'_>) -> bool {
        self.parts.iter().all(|(_, part)| part.is_empty(scene))
    }

    fn draw(&self, scene: Scene<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        let (factor, able) = self.able(scene);
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
            part.draw(scene, count, random, out);
        }
    }

    fn probability(&self, scene: Scene<'_>, item: u32) -> f64 {
        let (factor, able) = self.able(scene);
        able.map(|(weight, part)| weight * factor * part.probability(scene, item)).sum()
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.parts.iter_mut().for_each(|(_, part)| part.keep_items(items));
    }

    fn keep_users(&mut self, users: &RowRemap) {
        self.parts.iter_mut().for_each(|(_, part)| part.keep_users(users));
    }

    fn save(&self, out: &mut StateDict) {
        for (index, (_, part)) in self.parts.iter().enumerate() {
            out.within(&index.to_string(), |out| part.save(out));
        }
    }

    fn restore(&mut self, scene: Scene<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        for (index, (_, part)) in self.parts.iter_mut().enumerate() {
            saved.within(&index.to_string(), |saved| part.restore(scene, saved))?;
        }
        Ok(())
    }
}
