//! `unigram`: in proportion to a power of the decayed count, n_j^α.
//!
//! With several half-lives it is the mixture of theirs, with the same shares as q̂. Decay multiplies all counts alike, so
//! their powers too, and nothing need hear of it.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::classes::{Classes, Places};
use super::{NoiseSampler, Scene, Seen};
use crate::negatives::saved::{Saved, SavedError};

/// Draws by frequency.
#[derive(Debug)]
pub struct Unigram {
    power: f64,
    /// One for each half-life.
    parts: Vec<(Classes, Places)>,
}

impl Unigram {
    /// For the given power α.
    pub fn new(power: f64) -> Self {
        Self { power, parts: Vec::new() }
    }

    /// Shares of those parts that have something to draw from; all have, or none.
    fn shares<'a>(&'a self, scene: Scene<'a>) -> impl Iterator<Item = (&'a (Classes, Places), f64)> {
        self.parts.iter().zip(scene.frequencies.shares().iter().copied()).filter(|(_, share)| *share > 0.0)
    }
}

impl NoiseSampler for Unigram {
    fn observe(&mut self, scene: Scene<'_>, seen: Seen<'_>) {
        let fadings = scene.frequencies.fadings();
        self.parts.resize_with(fadings.len(), Default::default);
        for ((classes, places), fading) in self.parts.iter_mut().zip(fadings) {
            if let Some(factor) = fading.rescaled() {
                classes.scale(places, factor.powf(self.power));
            }
            for item in seen.items {
                // An item that comes and dies within one batch is not drawn either.
                if scene.live.contains(*item) {
                    classes.set(places, *item, fading.relative()[*item as usize].powf(self.power));
                }
            }
            scene.live.died().iter().for_each(|item| classes.set(places, *item, 0.0));
            classes.settle();
        }
    }

    fn is_empty(&self, _scene: Scene<'_>) -> bool {
        self.parts.iter().all(|(classes, _)| classes.is_empty())
    }

    fn draw(&self, scene: Scene<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.is_empty(scene) {
            return;
        }
        let (mut ends, mut sum) = (Vec::with_capacity(self.parts.len()), 0.0);
        for ((classes, _), share) in self.shares(scene) {
            sum += share;
            ends.push((sum, classes));
        }
        out.extend((0..draws).map(|_| {
            let point = if ends.len() > 1 { random.random::<f64>() * sum } else { 0.0 };
            let (_, classes) = ends.iter().find(|(end, _)| point < *end).unwrap_or(&ends[ends.len() - 1]);
            classes.draw(random)
        }));
    }

    fn probability(&self, scene: Scene<'_>, item: u32) -> f64 {
        if self.is_empty(scene) {
            return 0.0;
        }
        self.shares(scene)
            .map(|((classes, places), share)| share * classes.weight(places, item) / classes.total())
            .sum()
    }

    fn save(&self, out: &mut Saved) {
        out.put_whole("parts", vec![self.parts.len() as u32]);
        for (index, (classes, _)) in self.parts.iter().enumerate() {
            out.within(&index.to_string(), |out| classes.save(out));
        }
    }

    fn restore(&mut self, scene: Scene<'_>, saved: &mut Saved) -> Result<(), SavedError> {
        let n_parts = saved.take_whole("parts")?.first().copied().unwrap_or_default() as usize;
        if n_parts != scene.frequencies.fadings().len() && !(n_parts == 0 && scene.live.items().is_empty()) {
            return Err(saved.error("parts", "are not as many as half-lives"));
        }
        self.parts.clear();
        for index in 0..n_parts {
            let mut places = Places::default();
            let n_items = scene.frequencies.len();
            let part = |saved: &mut Saved| Classes::restore(&mut places, n_items, saved);
            let classes = saved.within(&index.to_string(), part)?;
            if classes.iter().any(|(item, _)| !scene.live.contains(item)) {
                return Err(saved.error("items", "names one that does not live"));
            }
            self.parts.push((classes, places));
        }
        Ok(())
    }
}
