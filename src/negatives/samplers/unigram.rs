//! `unigram`: in proportion to a power of the decayed count, n_j^α; one draw in twenty is uniform over the live items.
//!
//! The uniform part is for what has not come for many half-lives: its count is almost nothing, the model still scores it,
//! and a proposal that never draws what the softmax sums over leaves a bias that more draws do not take away
//! (docs/negatives.md measures it).
//!
//! With several half-lives it is the mixture of theirs, with the shares that q̂ has. Decay multiplies all counts alike, so
//! their powers too, and nothing need hear of it.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::classes::{Classes, Places};
use super::registry::{Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

/// Share of the draws that are uniform over the live items.
pub const UNIFORM: f64 = 0.05;
/// A half-life is followed from this share on…
const WAKE: f64 = 1e-3;
/// …until it has less than this.
const SLEEP: f64 = 1e-9;

config_section! {
    /// The options of `unigram`.
    pub struct UnigramOptions {
        /// The power of the decayed frequency.
        power: f64 = 1.0 => [within(0.0..=4.0)];
    }
}

impl Component for UnigramOptions {
    const NAME: &'static str = "unigram";
    const SUMMARY: &'static str = "In proportion to a power of the decayed frequency; one draw in twenty uniform.";
}

impl SamplerOptions for UnigramOptions {
    const ORIGIN: Origin = Origin::State(1);
    const TESTED: &'static [&'static str] = &["", "power = 0.75", "power = 0.0"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Unigram::new(self.power))
    }
}

/// Draws by frequency.
#[derive(Debug)]
pub struct Unigram {
    power: f64,
    /// Classes for each half-life. Half-lives of hardly any weight have empty ones, which are filled again when they count:
    /// the stream seldom changes its mind, and most events then cost one update instead of five.
    parts: Vec<Part>,
}

#[derive(Debug, Default)]
struct Part {
    awake: bool,
    classes: Classes,
    places: Places,
}

impl Unigram {
    /// For the given power α.
    pub fn new(power: f64) -> Self {
        Self { power, parts: Vec::new() }
    }

    /// The parts that are drawn from, with their shares, and the sum of these.
    fn awake<'a>(&'a self, view: StreamView<'a>) -> (f64, impl Iterator<Item = (&'a Part, f64)>) {
        let shares = view.frequencies.shares().iter().copied();
        let awake = self.parts.iter().zip(shares).filter(|(part, share)| part.awake && *share > 0.0);
        (awake.clone().map(|(_, share)| share).sum(), awake)
    }

    fn weight(&self, count: f64) -> f64 {
        if self.power == 1.0 { count } else { count.powf(self.power) }
    }
}

impl NoiseSampler for Unigram {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        let fadings = view.frequencies.mixed();
        let mut parts = std::mem::take(&mut self.parts);
        parts.resize_with(fadings.len(), Part::default);
        for ((part, fading), share) in parts.iter_mut().zip(fadings).zip(view.frequencies.shares()) {
            let Part { awake, classes, places } = part;
            let relative = fading.relative();
            if *awake && *share < SLEEP {
                *part = Part::default();
            } else if *awake {
                if let Some(factor) = fading.rescaled() {
                    classes.scale(places, factor.powf(self.power));
                }
                classes.approach(places, observed.items.iter().copied());
                for item in observed.items {
                    // An item that comes and dies within one batch is not drawn either.
                    if view.live.contains(*item) {
                        classes.set(places, *item, self.weight(relative[*item as usize]));
                    }
                }
                view.live.died().iter().for_each(|item| classes.set(places, *item, 0.0));
                classes.settle();
            } else if *share >= WAKE {
                *awake = true;
                let items = view.live.items().iter();
                items.for_each(|item| classes.set(places, *item, self.weight(relative[*item as usize])));
                classes.settle();
            }
        }
        self.parts = parts;
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.parts.iter().all(|part| part.classes.is_empty())
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.is_empty(view) {
            return;
        }
        let live = view.live.items();
        let (mut ends, mut sum) = (Vec::with_capacity(self.parts.len()), 0.0);
        for (part, share) in self.awake(view).1 {
            sum += share;
            ends.push((sum, &part.classes));
        }
        out.extend((0..draws).map(|_| {
            // No half-life counts where the numbers of a forged checkpoint have overflowed.
            if ends.is_empty() || random.random::<f64>() < UNIFORM {
                return live[random.random_range(0..live.len())];
            }
            let point = if ends.len() > 1 { random.random::<f64>() * sum } else { 0.0 };
            let (_, classes) = ends.iter().find(|(end, _)| point < *end).unwrap_or(&ends[ends.len() - 1]);
            classes.draw(random)
        }));
    }

    fn probability(&self, view: StreamView<'_>, item: u32) -> f64 {
        if !view.live.contains(item) || self.is_empty(view) {
            return 0.0;
        }
        let (sum, awake) = self.awake(view);
        let of = |(Part { classes, places, .. }, share): (&Part, f64)| {
            share * classes.weight(places, item) / classes.total()
        };
        let by_count = awake.map(of).sum::<f64>() / sum;
        UNIFORM / view.live.items().len() as f64 + (1.0 - UNIFORM) * by_count
    }

    fn keep_items(&mut self, items: &RowRemap) {
        for Part { classes, places, .. } in &mut self.parts {
            places.keep(items);
            classes.keep(places, items);
            classes.settle();
        }
    }

    fn save(&self, out: &mut StateDict) {
        out.put_u32("awake", self.parts.iter().map(|part| u32::from(part.awake)).collect());
        for (index, part) in self.parts.iter().enumerate() {
            out.scope(&index.to_string(), |out| part.classes.save(out));
        }
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        let awake = saved.take_u32("awake")?;
        if awake.len() != view.frequencies.mixed().len() && !(awake.is_empty() && view.live.items().is_empty()) {
            return Err(saved.error("awake", "are not as many as half-lives"));
        }
        let anybody = !view.live.items().is_empty();
        self.parts.clear();
        for (index, awake) in awake.into_iter().enumerate() {
            let mut places = Places::default();
            let part = |saved: &mut StateDict| Classes::default().restored(&mut places, view.live, saved);
            let classes = saved.scope(&index.to_string(), part)?;
            if awake > 1 || awake == 0 && !classes.is_empty() || awake == 1 && classes.is_empty() && anybody {
                return Err(saved.error("awake", "is not as the weights are"));
            }
            self.parts.push(Part { awake: awake == 1, classes, places });
        }
        if !view.live.items().is_empty() && (self.is_empty(view) || self.awake(view).1.next().is_none()) {
            return Err(saved.error("awake", "is none of them that counts"));
        }
        Ok(())
    }
}
