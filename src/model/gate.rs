//! The gate: how much the similarity of a query counts, by how active its user is, how long ago they came last, and the place in the
//! session.
//!
//! ```text
//! f = e^g·s(q, c)/τ + …      g = g₁[activity] + g₂[gap] + g₃[session]
//! ```
//!
//! Of a user who has just begun little is known, and after a long pause what was known is stale: then popularity should say more,
//! and likeness less. As the tables begin at 0, so does the gate at 1.

use crate::context::situation::{ACTIVITY_BUCKETS, GAP_BUCKETS, SESSION_BUCKETS, Situation};
use crate::table::adagrad::Parameters;

/// How many numbers there are.
pub const LENGTH: usize = SESSION + SESSION_BUCKETS;
const GAP: usize = ACTIVITY_BUCKETS;
const SESSION: usize = GAP + GAP_BUCKETS;

/// The tables one behind the other: activity, gap, session.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilarityGate {
    /// The learned numbers.
    pub parameters: Parameters,
}

impl Default for SimilarityGate {
    fn default() -> Self {
        Self { parameters: Parameters::new(vec![0.0; LENGTH]) }
    }
}

impl SimilarityGate {
    /// e^g, by which the similarity is multiplied.
    pub fn factor(&self, situation: Situation) -> f32 {
        places(situation).iter().map(|place| self.parameters.values[*place]).sum::<f32>().exp()
    }

    /// Adds the gradient of g to `gradients` (of length [`LENGTH`]).
    pub fn add_gradient(situation: Situation, gradient: f32, gradients: &mut [f32]) {
        for place in places(situation) {
            gradients[place] += gradient;
        }
    }
}

fn places(situation: Situation) -> [usize; 3] {
    let Situation { activity, gap, session, .. } = situation;
    [usize::from(activity), GAP + usize::from(gap), SESSION + usize::from(session)]
}
