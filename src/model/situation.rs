//! Learned vectors that are added to a query for the situation of its event: how active the user is, how long ago they came
//! last, hour, weekday, and place in the session.

use crate::context::situation::{ACTIVITY_BUCKETS, GAP_BUCKETS, SESSION_BUCKETS, Situation};
use crate::kernel::Kernel;
use crate::kernel::rows::add_scaled;
use crate::table::adagrad::Parameters;

const GAP: usize = ACTIVITY_BUCKETS;
const HOUR: usize = GAP + GAP_BUCKETS;
const WEEKDAY: usize = HOUR + 24;
const SESSION: usize = WEEKDAY + 7;
/// How many vectors there are.
const LENGTH: usize = SESSION + SESSION_BUCKETS;
/// Every query of a batch moves these few vectors, and so they take smaller steps than rows do: so much of the learning rate.
pub const RATE_SHARE: f32 = 0.06;

/// A vector for each bucket, one behind the other: activity, gap, hour, weekday, session.
#[derive(Debug, Clone, PartialEq)]
pub struct SituationVectors {
    /// The learned numbers, buckets × dim.
    pub parameters: Parameters,
}

impl SituationVectors {
    /// All of them 0.
    pub fn new(dim: usize) -> Self {
        Self { parameters: Parameters::new(vec![0.0; LENGTH * dim]) }
    }

    /// Adds the vectors of `situation` to `query`, which has as many numbers as they.
    pub fn add_to(&self, kernel: Kernel, situation: Situation, query: &mut [f32]) {
        for place in places(situation) {
            add_scaled(kernel, query, &self.parameters.values[place * query.len()..][..query.len()], 1.0);
        }
    }

    /// Adds the gradient of a query to `gradients` (of the length of the parameters).
    pub fn add_gradient(kernel: Kernel, situation: Situation, gradient: &[f32], gradients: &mut [f32]) {
        for place in places(situation) {
            add_scaled(kernel, &mut gradients[place * gradient.len()..][..gradient.len()], gradient, 1.0);
        }
    }
}

fn places(situation: Situation) -> [usize; 5] {
    let Situation { activity, gap, hour, weekday, session } = situation;
    [
        usize::from(activity),
        GAP + usize::from(gap),
        HOUR + usize::from(hour),
        WEEKDAY + usize::from(weekday),
        SESSION + usize::from(session),
    ]
}
