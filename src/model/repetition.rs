//! ρ: how much likelier an item is for having been this user's before.
//!
//! The sum of one constant and three learned tables, looked up by the logarithmic buckets of the item's decayed count,
//! of the user's events since, and of the time since.

use crate::context::repeat_memory::{AGE_BUCKETS, Buckets, COUNT_BUCKETS, RECENCY_BUCKETS};
use crate::table::adagrad::Parameters;

/// The tables one behind the other: constant, count, recency, age.
#[derive(Debug, Clone, PartialEq)]
pub struct Repetition {
    /// The learned numbers.
    pub parameters: Parameters,
}

const COUNT: usize = 1;
const RECENCY: usize = COUNT + COUNT_BUCKETS;
const AGE: usize = RECENCY + RECENCY_BUCKETS;
/// How many numbers there are.
pub const LENGTH: usize = AGE + AGE_BUCKETS;

impl Default for Repetition {
    fn default() -> Self {
        Self { parameters: Parameters::new(vec![0.0; LENGTH]) }
    }
}

impl Repetition {
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
}

#[inline]
fn places(buckets: Buckets) -> [usize; 4] {
    [0, COUNT + buckets.count as usize, RECENCY + buckets.recency as usize, AGE + buckets.age as usize]
}
