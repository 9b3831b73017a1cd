//! κ: how much likelier an item is for having come together with the newest items of the context.
//!
//! The sum of three learned tables, looked up by the logarithmic buckets of the three measures of [`crate::context::cooccurrence`].

use crate::context::cooccurrence::{BUCKETS, CooccurrenceBuckets};
use crate::table::adagrad::Parameters;

/// The tables one behind the other: confidence, cosine, plain cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct CooccurrenceTerm {
    /// The learned numbers.
    pub parameters: Parameters,
}

/// How many numbers there are.
pub const LENGTH: usize = 3 * BUCKETS;

impl Default for CooccurrenceTerm {
    fn default() -> Self {
        Self { parameters: Parameters::new(vec![0.0; LENGTH]) }
    }
}

impl CooccurrenceTerm {
    /// κ for an item in these buckets.
    #[inline]
    pub fn term(&self, buckets: CooccurrenceBuckets) -> f32 {
        places(buckets).iter().map(|place| self.parameters.values[*place]).sum()
    }

    /// Adds the gradient of one term to `gradients` (of length [`LENGTH`]).
    #[inline]
    pub fn add_gradient(buckets: CooccurrenceBuckets, gradient: f32, gradients: &mut [f32]) {
        for place in places(buckets) {
            gradients[place] += gradient;
        }
    }
}

#[inline]
fn places(buckets: CooccurrenceBuckets) -> [usize; 3] {
    let CooccurrenceBuckets { confidence, cosine, plain_cosine } = buckets;
    [confidence as usize, BUCKETS + cosine as usize, 2 * BUCKETS + plain_cosine as usize]
}
