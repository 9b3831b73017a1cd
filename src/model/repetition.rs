//! ρ: how much likelier an item is for having been this user's before.
//!
//! The sum of one constant and of learned tables. Three are looked up by the logarithmic buckets of the item's decayed count,
//! of the user's events since, and of the time since. The others can be switched off: how due the item is, whether it used to
//! come after the user's newest item, and three that say how the user is.

use std::ops::Range;

use crate::context::RepetitionConfig;
use crate::context::repeat_memory::{
    AGE_BUCKETS, Buckets, COUNT_BUCKETS, DUE_BUCKETS, RATE_BUCKETS, RECENCY_BUCKETS, TRANSITION_BUCKETS,
};
use crate::context::situation::{GAP_BUCKETS, SESSION_BUCKETS};
use crate::kernel::Kernel;
use crate::table::adagrad::Parameters;

/// The tables one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Repetition {
    /// The learned numbers.
    pub parameters: Parameters,
    /// The tables that are switched off, and stay 0.
    off: Vec<Range<usize>>,
}

const COUNT: usize = 1;
const RECENCY: usize = COUNT + COUNT_BUCKETS;
const AGE: usize = RECENCY + RECENCY_BUCKETS;
const DUE: usize = AGE + AGE_BUCKETS;
const TRANSITION: usize = DUE + DUE_BUCKETS;
const RATE: usize = TRANSITION + TRANSITION_BUCKETS;
const GAP: usize = RATE + RATE_BUCKETS;
const SESSION: usize = GAP + GAP_BUCKETS;
/// How many numbers there are.
pub const LENGTH: usize = SESSION + SESSION_BUCKETS;

impl Repetition {
    /// ρ before it has learnt anything, with the tables that `config` asks for.
    pub fn new(config: &RepetitionConfig) -> Self {
        let RepetitionConfig { items: _, half_life: _, due, transitions, user } = *config;
        let tables = [(due, DUE..TRANSITION), (transitions, TRANSITION..RATE), (user, RATE..LENGTH)];
        let off = tables.into_iter().filter(|(on, _)| !on).map(|(_, table)| table).collect();
        Self { parameters: Parameters::new(vec![0.0; LENGTH]), off }
    }

    /// ρ for an item in these buckets.
    #[inline]
    pub fn term(&self, buckets: Buckets) -> f32 {
        places(buckets).iter().map(|place| self.parameters.values[*place]).sum()
    }

    /// Adds the gradient of one term to `gradients` (of length [`LENGTH`]).
    #[inline]
    pub fn add_gradient(buckets: Buckets, gradient: f32, gradients: &mut [f32]) {
        for place in places(buckets) {
            gradients[place] += gradient;
        }
    }

    /// Moves the tables that are on against `gradients` (of length [`LENGTH`]).
    pub fn step(&mut self, kernel: Kernel, gradients: &mut [f32], rate: f32) {
        self.off.iter().for_each(|table| gradients[table.clone()].fill(0.0));
        self.parameters.step(kernel, gradients, rate);
    }
}

#[inline]
fn places(buckets: Buckets) -> [usize; 9] {
    let Buckets { count, recency, age, due, transition, rate, gap, session } = buckets;
    [
        0,
        COUNT + count as usize,
        RECENCY + recency as usize,
        AGE + age as usize,
        DUE + due as usize,
        TRANSITION + transition as usize,
        RATE + rate as usize,
        GAP + gap as usize,
        SESSION + session as usize,
    ]
}
