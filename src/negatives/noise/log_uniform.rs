//! `log_uniform`: by popularity rank r, from 0: `q = log((r+2)/(r+1)) / log(n+1)`, the law of Zipf's distribution.
//!
//! Ranks follow the decayed counts (with several half-lives, those of the baseline) from event to event: items lie in
//! classes of like count, and within a class, which spans a sixteenth of an octave, ranks are arbitrary.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::classes::{Classes, Places};
use super::{NoiseSampler, Scene, Seen};
use crate::negatives::saved::{Saved, SavedError};

/// Draws by rank.
#[derive(Debug, Default)]
pub struct LogUniform {
    classes: Classes,
    places: Places,
}

impl NoiseSampler for LogUniform {
    fn observe(&mut self, scene: Scene<'_>, seen: Seen<'_>) {
        let counts = scene.frequencies.baseline();
        if let Some(factor) = counts.rescaled() {
            self.classes.scale(&mut self.places, factor);
        }
        for item in seen.items.iter().filter(|item| scene.live.contains(**item)) {
            self.classes.set(&mut self.places, *item, counts.relative()[*item as usize]);
        }
        scene.live.died().iter().for_each(|item| self.classes.set(&mut self.places, *item, 0.0));
        self.classes.settle();
    }

    fn is_empty(&self, _scene: Scene<'_>) -> bool {
        self.classes.is_empty()
    }

    fn draw(&self, scene: Scene<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.is_empty(scene) {
            return;
        }
        let (n, all) = (self.classes.len(), ((self.classes.len() + 1) as f64).ln());
        out.extend((0..draws).map(|_| {
            // P(rank ≤ r) = log(r + 2) / log(n + 1), turned round.
            let rank = (random.random::<f64>() * all).exp() as usize;
            self.classes.at_rank(rank.clamp(1, n) as u32 - 1)
        }));
    }

    fn probability(&self, _scene: Scene<'_>, item: u32) -> f64 {
        let Some(rank) = self.classes.rank(&self.places, item) else { return 0.0 };
        (f64::from(rank) + 1.0).recip().ln_1p() / ((self.classes.len() + 1) as f64).ln()
    }

    fn save(&self, out: &mut Saved) {
        self.classes.save(out);
    }

    fn restore(&mut self, scene: Scene<'_>, saved: &mut Saved) -> Result<(), SavedError> {
        self.places = Places::default();
        self.classes = Classes::restore(&mut self.places, scene.frequencies.len(), saved)?;
        if self.classes.iter().any(|(item, _)| !scene.live.contains(item)) {
            return Err(saved.error("items", "names one that does not live"));
        }
        Ok(())
    }
}
