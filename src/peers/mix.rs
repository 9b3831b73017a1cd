//! The weights of a mix.

/// Weights of the parts of a score. What is related, by item-kNN or VSTAN, is scaled so that the best candidate has 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Weight of what is related to the user's newest items.
    pub related: f64,
    /// Weight of the user's own history.
    pub own: f64,
    /// Weight of the user's own transitions.
    pub transitions: f64,
    /// Weight of popularity.
    pub popularity: f64,
    /// Which of the pass's half-lives popularity has.
    pub half_life: usize,
    /// What the weight of popularity is measured in.
    pub unit: PopularityUnit,
}

/// What a weight of popularity is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopularityUnit {
    /// The most popular item has 1.
    Peak,
    /// All items have 1 together.
    Share,
}

impl Mix {
    /// Popularity alone.
    pub fn popularity(half_life: usize) -> Self {
        Self { popularity: 1.0, unit: PopularityUnit::Peak, ..Self::weights(0.0, 0.0, 0.0, 0.0, half_life) }
    }

    /// These parts, and popularity as a share where nothing else decides.
    pub fn weights(related: f64, own: f64, transitions: f64, popularity: f64, half_life: usize) -> Self {
        Self { related, own, transitions, popularity, half_life, unit: PopularityUnit::Share }
    }
}

/// A grid of mixes: what is related, popularity of so many half-lives, and where items may recur own history and own
/// transitions (`with_transitions`).
pub fn grid(n_half_lives: usize, repeat: bool, with_transitions: bool) -> Vec<Mix> {
    let mut mixes = Vec::new();
    for half_life in 0..n_half_lives {
        for popularity in [0.001, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0] {
            for own in [0.0, 0.1, 0.3, 1.0, 3.0] {
                for times_own in [0.0, 2.0, 5.0, 15.0] {
                    let has_transitions = times_own > 0.0;
                    if (own > 0.0 && !repeat) || (has_transitions && (own == 0.0 || !with_transitions)) {
                        continue;
                    }
                    let unit = PopularityUnit::Peak;
                    mixes.push(Mix { related: 1.0, own, transitions: own * times_own, popularity, half_life, unit });
                }
            }
        }
    }
    mixes
}
