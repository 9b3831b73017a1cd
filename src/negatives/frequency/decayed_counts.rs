//! How often each item came, with one half-life.

use super::most_common::MostCommon;
use crate::kernel::frequency::Contradiction;
use crate::negatives::HalfLife;
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;

/// Rescale before the fourth power of a count (the largest that a sampler takes) nears the end of what a double holds.
const LARGEST_WEIGHT: f64 = 1e60;
/// A pause counts as so many half-lives at most: a count may fade, but all of them must not vanish at once.
const LONGEST_PAUSE: f64 = 64.0;
/// Weight of the uniform distribution in what is expected without a half-life's counts, in events.
const NOVELTY: f64 = 200.0;
/// Weight of that in a half-life's predictions, in events.
pub(super) const PRIOR: f64 = 50.0;

/// Decayed counts of all items, with one half-life.
#[derive(Debug, Clone, PartialEq)]
pub struct DecayedCounts {
    pub(super) half_life: HalfLife,
    /// The factor by which an event's weight grows from one event to the next, where the half-life is one of events.
    growth: f64,
    /// Weight of the newest event.
    pub(super) weight: f64,
    /// Sum of the weights of all events.
    pub(super) total: f64,
    /// Sum of the weights of each item's events.
    pub(super) counts: Paged<f64>,
    /// The most common items.
    top: MostCommon,
    pub(super) rescaled: Option<f64>,
}

impl DecayedCounts {
    /// Counts before the first event.
    pub(super) fn new(half_life: HalfLife) -> Self {
        let growth = match half_life {
            HalfLife::Events(events) => (1.0 / events).exp2(),
            HalfLife::Millis(_) | HalfLife::Auto => 1.0,
        };
        let (counts, top) = (Paged::default(), MostCommon::default());
        Self { half_life, growth, weight: 1.0, total: 0.0, counts, top, rescaled: None }
    }

    /// Counts by events of a group from now on, of which there are `pace` for each that is counted here.
    pub(super) fn set_pace(&mut self, pace: f64) {
        if let HalfLife::Events(events) = self.half_life {
            self.growth = (pace / events).exp2();
        }
    }

    /// Lets the counts decay by so many events that are counted elsewhere, or never.
    pub(super) fn pass(&mut self, events: f64) {
        if let HalfLife::Events(half_life) = self.half_life {
            self.weight *= (events / half_life).min(LONGEST_PAUSE).exp2();
        }
    }

    /// Lets the counts decay by `elapsed` milliseconds in which there were no events.
    pub(super) fn pass_time(&mut self, elapsed: f64) {
        if let HalfLife::Millis(half_life) = self.half_life {
            self.weight *= (elapsed / half_life).min(LONGEST_PAUSE).exp2();
        }
    }

    /// Counts an event that was so many events, and so many milliseconds, before the newest one.
    pub(super) fn add_late(&mut self, item: u32, events: f64, elapsed: f64) {
        let age = match self.half_life {
            HalfLife::Events(half_life) => events / half_life,
            HalfLife::Millis(half_life) => elapsed / half_life,
            HalfLife::Auto => 0.0,
        };
        let weight = self.weight * (-age).exp2();
        let count = self.counts.get_mut(item as usize);
        *count += weight;
        self.total += weight;
        self.top.rise(item, *count);
    }

    /// These counts as they were saved: the weight of an event, the total, and the counts on their scale.
    pub(super) fn restore(&mut self, [weight, total]: [f64; 2], counts: Paged<f64>) {
        (self.weight, self.total) = (weight, total);
        self.top = MostCommon::of(&counts);
        self.counts = counts;
    }

    /// Begins with `counts` of each item's events, `events` of all of them together, as if they had come in an order that says
    /// nothing: each item keeps its share of what `events` events weigh once they have decayed. How many of them came in a
    /// half-life in time nobody knows: there they weigh as little as what predictions are smoothed by.
    pub(super) fn begin_with(&mut self, counts: &[u64], events: f64) {
        let fading = self.growth.recip();
        let left = match self.half_life {
            HalfLife::Events(_) => (1.0 - fading.powf(events)) / (1.0 - fading),
            HalfLife::Millis(_) | HalfLife::Auto => events.min(PRIOR),
        };
        let weigh = |count: &u64| self.weight * left * (*count as f64 / events);
        self.counts = counts.iter().map(weigh).collect();
        self.total = self.counts.iter().sum();
        self.top = MostCommon::of(&self.counts);
    }

    /// Remaps item rows after an eviction; the total is that of the remaining items.
    pub(super) fn keep(&mut self, items: &RowRemap) {
        self.counts.keep(items);
        self.total = self.counts.iter().sum();
        self.top = MostCommon::of(&self.counts);
    }

    /// Lets the counts decay by an event that comes `elapsed` milliseconds after the one before.
    pub(super) fn decay(&mut self, elapsed: f64) {
        self.weight *= match self.half_life {
            HalfLife::Millis(half_life) if elapsed > 0.0 => (elapsed / half_life).min(LONGEST_PAUSE).exp2(),
            _ => self.growth,
        };
    }

    pub(super) fn add(&mut self, item: u32) {
        let count = self.counts.get_mut(item as usize);
        *count += self.weight;
        self.total += self.weight;
        self.top.rise(item, *count);
    }

    /// Brings weights that grew large back to about 1, by a power of two: no count is rounded.
    pub(super) fn rescale(&mut self) {
        if self.weight <= LARGEST_WEIGHT {
            return;
        }
        let factor = (-self.weight.log2().floor()).exp2();
        self.counts.iter_mut().for_each(|count| *count *= factor);
        self.total *= factor;
        self.weight *= factor;
        self.rescaled = Some(self.rescaled.unwrap_or(1.0) * factor);
        // Counts that had all but faded may be equal now.
        self.top = MostCommon::of(&self.counts);
    }

    /// The half-life.
    pub fn half_life(&self) -> HalfLife {
        self.half_life
    }

    /// The half-life in events: for one in time, as many as came in it of late.
    pub(super) fn events(&self) -> f64 {
        match self.half_life {
            HalfLife::Events(events) => events,
            _ => (self.total / self.weight * std::f64::consts::LN_2).max(1.0),
        }
    }

    /// Sum of all counts, on the scale of [`Self::relative`].
    pub fn relative_total(&self) -> f64 {
        self.total
    }

    /// The factor by which the newest batch changed the scale of [`Self::relative`], if it did.
    pub fn rescaled(&self) -> Option<f64> {
        self.rescaled
    }

    /// All counts on one scale, which only serves to compare items with each other.
    pub fn relative(&self) -> &Paged<f64> {
        &self.counts
    }

    /// The decayed count n_j.
    pub fn count(&self, item: u32) -> f64 {
        self.counts[item as usize] / self.weight
    }

    /// Share of item `item` in the decayed events; 0 before the first.
    pub fn share(&self, item: u32) -> f64 {
        self.counts[item as usize] * self.inverse_total()
    }

    /// The weight of an event and the total, which complete [`Self::relative`] in a checkpoint.
    pub fn scale_parts(&self) -> [f64; 2] {
        [self.weight, self.total]
    }

    /// The factor with which the counts of [`Self::relative`] sum to 1.
    pub fn inverse_total(&self) -> f64 {
        (self.total + 1e-9 * self.weight).recip()
    }

    /// Half an event, as a share of all events.
    pub(super) fn half_an_event(&self) -> f64 {
        0.5 * self.weight * self.inverse_total()
    }

    /// The condition under which these counts contradict a longer memory by `deviations` d, where a count that is expected to be 0 has the
    /// variance `least` v; in shares: `(n − λ)² > d²·(λ/2 + v)`, divided by N².
    pub(super) fn contradiction(&self, deviations: f64, least: f64) -> Contradiction {
        // Before the first event nothing does.
        let events = (self.total / self.weight).max(1.0);
        let slope = deviations * deviations / (2.0 * events);
        Contradiction { slope, offset: slope * 2.0 * least / events }
    }

    /// The probability that the next event is `item`, one of `n_known`, where [`NOVELTY`] events of items that may be any were
    /// seen besides.
    pub(super) fn probability(&self, item: u32, n_known: usize) -> f64 {
        let novelty = NOVELTY * self.weight;
        (self.counts[item as usize] + novelty / n_known as f64) / (self.total + novelty)
    }

    /// log of the probability that the next event is `item`, in nats, where `prior` is what is expected without these counts, and counts
    /// as [`PRIOR`] events. Half an event for every item, as in q̂, would drown a short memory among many items; no more than
    /// their share of a few, and it would be judged by what it has forgotten, and not by what it tells.
    pub(super) fn log_likelihood(&self, item: u32, prior: f64) -> f64 {
        let prior_events = PRIOR * self.weight;
        ((self.counts[item as usize] + prior_events * prior) / (self.total + prior_events)).ln()
    }

    /// Whether `item` is at the top of the list by these counts.
    pub(super) fn lists(&self, item: u32) -> bool {
        self.top.contains(item)
    }
}
