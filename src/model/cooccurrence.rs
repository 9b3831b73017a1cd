//! κ: how much likelier an item is for having come together with the newest items of the context.
//!
//! The sum of two learned tables, or of three with `cooccurrence.plain_cosine`, looked up by the logarithmic buckets of the measures
//! of [`crate::context::cooccurrence`].

use crate::context::CooccurrenceConfig;
use crate::context::cooccurrence::{BUCKETS, CooccurrenceBuckets};
use crate::kernel::Kernel;
use crate::table::adagrad::Parameters;

/// The tables one behind the other: confidence, cosine, plain cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct CooccurrenceTerm {
    /// The learned numbers.
    pub parameters: Parameters,
    /// Whether the table of the plain cosine is learnt, or stays 0.
    plain_cosine: bool,
}

/// How many numbers there are.
pub const LENGTH: usize = PLAIN_COSINE + BUCKETS;
const COSINE: usize = BUCKETS;
const PLAIN_COSINE: usize = COSINE + BUCKETS;

impl CooccurrenceTerm {
    /// κ before it has learnt anything, with the tables that `config` asks for.
    pub fn new(config: &CooccurrenceConfig) -> Self {
        let CooccurrenceConfig { neighbors: _, window: _, plain_cosine } = *config;
        Self { parameters: Parameters::new(vec![0.0; LENGTH]), plain_cosine }
    }

    /// κ for an item in these buckets.
    #[inline]
    pub fn term(&self, buckets: CooccurrenceBuckets) -> f32 {
        let n_tables = if self.plain_cosine { 3 } else { 2 };
        places(buckets)[..n_tables].iter().map(|place| self.parameters.values[*place]).sum()
    }

    /// Adds the gradient of one term to `gradients` (of length [`LENGTH`]).
    #[inline]
    pub fn add_gradient(buckets: CooccurrenceBuckets, gradient: f32, gradients: &mut [f32]) {
        for place in places(buckets) {
            gradients[place] += gradient;
        }
    }

    /// Moves the tables that are on against `gradients` (of length [`LENGTH`]).
    pub fn step(&mut self, kernel: Kernel, gradients: &mut [f32], rate: f32) {
        if !self.plain_cosine {
            gradients[PLAIN_COSINE..].fill(0.0);
        }
        self.parameters.step(kernel, gradients, rate);
    }
}

#[inline]
fn places(buckets: CooccurrenceBuckets) -> [usize; 3] {
    let CooccurrenceBuckets { confidence, cosine, plain_cosine } = buckets;
    [confidence as usize, COSINE + cosine as usize, PLAIN_COSINE + plain_cosine as usize]
}
