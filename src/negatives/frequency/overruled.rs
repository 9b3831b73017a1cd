//! A long memory that short ones may overrule, item by item, sooner than they may contradict a half-life which the stream has
//! chosen.
//!
//! Where one item takes half of the events for a few hundred of them, and the rest is as it was for long, no half-life is right:
//! a short one sees the item and forgets the rest, a long one does the reverse. So a memory of 20,000 events, overruled by three
//! that are much shorter, predicts every event beside the half-lives. It counts in their place once it is likelier than each of
//! them.
//!
//! What memories say by which others were overruled does not sum to 1, and a likelihood has to. The sum over all items, which
//! moves slowly, is taken anew once in a while.

use super::AUTO;
use super::decayed_counts::{DecayedCounts, PRIOR};
use crate::kernel::frequency::Contradiction;

/// The place of the long memory in [`AUTO`].
pub(super) const LONG: usize = 8;
/// The places of those that may overrule it, longest first.
pub(super) const OVERRULING: [usize; 3] = [5, 3, 1];
/// Standard deviations of a decayed count that overrule.
const DEVIATIONS: f64 = 2.0;
/// Variance of a decayed count that is expected to be 0.
const LEAST_VARIANCE: f64 = 0.5;
/// The sum is taken anew after so many events at most, or one for each [`ITEMS`] items, where that is later.
const EVENTS: f64 = 2_000.0;
const ITEMS: f64 = 8.0;
/// The sum is taken anew when the stream has grown by this share: at its beginning, in no time.
const GROWTH: f64 = 0.1;

/// How likely the overruled memory is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OverruledMemory {
    /// The sum of what it says of all items.
    pub sum: f64,
    /// Events until the sum is taken anew.
    pub due: f64,
}

impl OverruledMemory {
    /// Before the first event.
    pub fn new() -> Self {
        Self { sum: 1.0, due: 0.0 }
    }

    /// The condition under which `memory` overrules.
    pub fn contradiction(memory: &DecayedCounts) -> Contradiction {
        memory.contradiction(DEVIATIONS, LEAST_VARIANCE)
    }

    /// log of the probability that the next event is `item`, in nats, by the memories of [`AUTO`]; `prior` is as for the half-lives.
    pub fn log_likelihood(&self, memories: &[DecayedCounts], item: u32, prior: f64) -> f64 {
        let long = &memories[LONG];
        let share = OVERRULING.iter().fold(long.share(item), |share, place| {
            let memory = &memories[*place];
            Self::contradiction(memory).settle(share, memory.share(item))
        });
        let of_prior = PRIOR * long.scale_parts()[0] * long.inverse_total();
        ((share + of_prior * prior) / (self.sum + of_prior)).ln()
    }

    /// Lets an event pass that stands for `pace` events of a group.
    pub fn pass(&mut self, pace: f64) {
        self.due -= pace;
    }

    /// Takes the sum anew where it is time, after `events` so far.
    pub fn follow(&mut self, memories: &[DecayedCounts], events: f64) {
        if self.due > 0.0 {
            return;
        }
        let long = &memories[LONG];
        let factor = long.inverse_total();
        let mut shares: Vec<f64> = long.relative().iter().map(|count| count * factor).collect();
        for place in OVERRULING {
            let memory = &memories[place];
            let (factor, contradiction) = (memory.inverse_total(), Self::contradiction(memory));
            let counts = memory.relative().iter();
            shares
                .iter_mut()
                .zip(counts)
                .for_each(|(share, count)| *share = contradiction.settle(*share, count * factor));
        }
        // Before the first event there is none; shares sum to 1.
        let sum: f64 = shares.iter().sum();
        self.sum = if sum > 0.0 { sum } else { 1.0 };
        self.due = (GROWTH * events).min(EVENTS).max(shares.len() as f64 / ITEMS);
    }
}

const _: () = assert!(OVERRULING[0] < LONG && LONG < AUTO.len());
