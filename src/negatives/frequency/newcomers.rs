//! What q̂ of an item is by the time that it had to come.
//!
//! An item that came first a short while ago has had less time to be counted than the half-life remembers. By the counts alone it would be as
//! rare as one of which the stream has tired. So its decayed count n is divided by what the count of one that comes with every event
//! could be since then, E, and not by what it could be since ever, N; Adam corrects its moments likewise (Kingma & Ba 2015).
//! Of age a (in events), a half-life h and a stream of the age A:
//!
//! ```text
//! E/N = (1 − 2^(−a/h))/(1 − 2^(−A/h)),    x = 1 − E/N,
//! q̂ = (n − (1 − c)·x·y)/(E + x·c/r),    y = 1 − c/(r·N)
//! ```
//!
//! The first event says nothing of how often the item comes from then on: it counts as c events, and the rate r of new items is
//! what is expected of it until it has come more often (a gamma prior with the shape c and the mean r, which fades with x). The
//! rate is the stream's: events of items that came first within half a half-life, by the items that did and by that time. Where
//! new items hardly come again c/r is large, and y, the part of the correction that is made, is small: at c/r = N there is none,
//! and q̂ = n/N. Once an item is older than a few half-lives there is none either.

use crate::kernel::frequency::AgeCorrection;
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;

/// The shape c of what is expected of a new item: rates of items differ more than those of an exponential distribution (1).
const SHAPE: f64 = 0.5;
/// An item is new for this share of a half-life.
const NEW: f64 = 0.5;
/// Half-lives after which half of what is known of new items is forgotten.
const MEMORY: f64 = 10.0;
/// In a stream that has not decayed by this share, all items are as good as equally old: nothing is corrected.
const LEAST_DECAY: f64 = 1e-3;
/// When an item came first of which nobody knows: when the stream began.
const UNKNOWN: f64 = f64::MIN_POSITIVE;

/// When items came first, and how often new ones come again.
#[derive(Debug, Clone, PartialEq)]
pub struct Newcomers {
    /// Events so far.
    clock: f64,
    /// By item: the clock just before its first event; 0 where it had none.
    arrivals: Paged<f64>,
    /// By half-life: events of new items, and new items, of late.
    seen: Vec<[f64; 2]>,
}

/// The half-life of a memory, as new items are measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NewcomerScale {
    /// For how many events an item is new.
    window: f64,
    /// What is left of [`Newcomers::seen`] after an event.
    fading: f64,
}

impl NewcomerScale {
    /// Of a half-life of `events`.
    pub(super) fn new(events: f64) -> Self {
        Self { window: NEW * events, fading: (-1.0 / (MEMORY * events)).exp2() }
    }
}

impl Newcomers {
    /// Before the first event, with so many half-lives.
    pub(super) fn new(half_lives: usize) -> Self {
        Self { clock: 0.0, arrivals: Paged::default(), seen: vec![[0.0; 2]; half_lives] }
    }

    /// As they were saved: [`Self::clock`], [`Self::arrivals`] and [`Self::seen`].
    pub fn restored(clock: f64, arrivals: Paged<f64>, seen: Vec<[f64; 2]>) -> Self {
        Self { clock, arrivals, seen }
    }

    /// Whether these may be of `half_lives`, and of `n_items`.
    pub(super) fn is_sound(&self, half_lives: usize, n_items: usize) -> bool {
        let is_number = |number: &f64| *number >= 0.0 && number.is_finite();
        [self.seen.len(), self.arrivals.len()] == [half_lives, n_items]
            && is_number(&self.clock)
            && self.seen.iter().flatten().all(is_number)
            && self.arrivals.iter().all(is_number)
    }

    /// Events so far, of the group where workers share a model.
    pub fn clock(&self) -> f64 {
        self.clock
    }

    /// By item: the clock just before its first event; 0 where it had none.
    pub fn arrivals(&self) -> &Paged<f64> {
        &self.arrivals
    }

    /// By half-life: events of new items, and new items, of late.
    pub fn seen(&self) -> &[[f64; 2]] {
        &self.seen
    }

    /// Makes room for `n_more` items.
    pub(super) fn grow(&mut self, n_more: usize) {
        self.arrivals.grow(n_more);
    }

    /// Remaps item rows after an eviction.
    pub(super) fn keep(&mut self, items: &RowRemap) {
        self.arrivals.keep(items);
    }

    /// Takes the items with `counts` for as old as the stream.
    pub(super) fn begin_with(&mut self, counts: &[u64]) {
        let of = |count: &u64| if *count > 0 { UNKNOWN } else { 0.0 };
        self.arrivals.iter_mut().zip(counts).for_each(|(arrival, count)| *arrival = of(count));
    }

    /// Lets `events` pass.
    pub(super) fn pass(&mut self, events: f64) {
        self.clock += events;
    }

    /// Notes an event of `item` before which the clock was `since` events ago, by the `scales` of all half-lives.
    pub(super) fn note(&mut self, item: u32, since: f64, scales: &[NewcomerScale]) {
        let time = (self.clock - since).max(UNKNOWN);
        let arrival = self.arrivals[item as usize];
        let is_first = arrival == 0.0;
        // Other workers tell of the first event later than of the second, now and then.
        if is_first || time < arrival {
            *self.arrivals.get_mut(item as usize) = time;
        }
        for (seen, scale) in self.seen.iter_mut().zip(scales) {
            let is_again = !is_first && time - arrival < scale.window;
            let [again, first] = *seen;
            *seen = [
                again * scale.fading + f64::from(u8::from(is_again)),
                first * scale.fading + f64::from(u8::from(is_first)),
            ];
        }
    }

    /// The clock just before the first event of `item`; 0 where it had none.
    pub(super) fn arrival(&self, item: u32) -> f64 {
        self.arrivals[item as usize]
    }

    /// The correction of a memory, the `place`-th half-life, of `half_life` events, that remembers `total` of them.
    pub(super) fn correction(&self, place: usize, half_life: f64, total: f64) -> AgeCorrection {
        let [again, first] = self.seen[place];
        let left_of_stream = (-self.clock / half_life).exp2();
        if !half_life.is_finite() || again == 0.0 || 1.0 - left_of_stream < LEAST_DECAY {
            return AgeCorrection::NONE;
        }
        // c/r, in events. A younger stream had less time for new items to come again.
        let expected = SHAPE * first * (NEW * half_life).min(self.clock) / again;
        let relief = 1.0 - expected.max(1.0) / total;
        if relief <= 0.0 {
            return AgeCorrection::NONE;
        }
        AgeCorrection { rate: half_life.recip(), left_of_stream, debit: (1.0 - SHAPE) * relief / total, relief }
    }
}
