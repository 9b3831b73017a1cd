//! `log_uniform`: by popularity rank r, from 0: `q = log((r+2)/(r+1)) / log(n+1)`, the law of Zipf's distribution.
//!
//! Ranks follow the decayed counts (with several half-lives, those of the baseline) from event to event: items lie in
//! classes of like count, and within a class, which spans an eighth of an octave, ranks are arbitrary.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::classes::{Classes, Guide, Places};
use super::registry::{Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `log_uniform`, which has none of its own.
    pub struct LogUniformOptions {}
}

impl Component for LogUniformOptions {
    const NAME: &'static str = "log_uniform";
    const SUMMARY: &'static str = "By popularity rank.";
}

impl SamplerOptions for LogUniformOptions {
    const ORIGIN: Origin = Origin::State(1);
    const TESTED: &'static [&'static str] = &[""];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(LogUniform::default())
    }
}

/// Draws by rank.
#[derive(Debug)]
pub struct LogUniform {
    classes: Classes,
    places: Places,
    /// For each class, heaviest first: P(rank in the class or above), times log(n+1).
    ends: Vec<f64>,
    guide: Guide,
}

impl Default for LogUniform {
    fn default() -> Self {
        let classes = Classes::fine();
        Self { classes, places: Places::default(), ends: Vec::new(), guide: Guide::default() }
    }
}

impl LogUniform {
    fn settle(&mut self) {
        self.classes.settle();
        // After each class the next lighter one begins.
        let after = self.classes.ranks().iter().rev().skip(1).copied().chain([self.classes.len() as u32]);
        self.ends.clear();
        if !self.classes.is_empty() {
            self.ends.extend(after.map(|rank| (f64::from(rank) + 1.0).ln()));
        }
        self.guide.build(&self.ends);
    }
}

impl NoiseSampler for LogUniform {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        let counts = view.frequencies.popularity();
        if let Some(factor) = counts.rescaled() {
            self.classes.scale(&mut self.places, factor);
        }
        self.classes.approach(&self.places, observed.items.iter().copied());
        for item in observed.items.iter().filter(|item| view.live.contains(**item)) {
            self.classes.set(&mut self.places, *item, counts.relative()[*item as usize]);
        }
        view.live.died().iter().for_each(|item| self.classes.set(&mut self.places, *item, 0.0));
        self.settle();
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.classes.is_empty()
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.is_empty(view) {
            return;
        }
        let (n, all) = (self.classes.len() as u32, ((self.classes.len() + 1) as f64).ln());
        let ranks = self.classes.ranks();
        out.extend((0..draws).map(|_| {
            // P(rank ≤ r) = log(r + 2) / log(n + 1), turned round.
            let point = random.random::<f64>() * all;
            let class = ranks.len() - 1 - self.guide.find(&self.ends, point);
            let (first, after) = (ranks[class], if class == 0 { n } else { ranks[class - 1] });
            self.classes.at_rank(class, (point.exp() as u32).clamp(first + 1, after) - 1)
        }));
    }

    fn probability(&self, _view: StreamView<'_>, item: u32) -> f64 {
        let Some(rank) = self.classes.rank(&self.places, item) else { return 0.0 };
        (f64::from(rank) + 1.0).recip().ln_1p() / ((self.classes.len() + 1) as f64).ln()
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.places.keep(items);
        self.classes.keep(&mut self.places, items);
        self.settle();
    }

    fn save(&self, out: &mut StateDict) {
        self.classes.save(out);
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        self.places = Places::default();
        self.classes = Classes::fine().restored(&mut self.places, view.live, saved)?;
        self.settle();
        Ok(())
    }
}
