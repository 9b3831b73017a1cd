//! Recommending: the items that a user should see next, by the full score, as the evaluator ranks them.
//!
//! ```text
//! f(q, c) = e^g·s(q, c)/τ + β·log q̂(c) + ρ(u, c) + κ(u, c)
//! ```
//!
//! Every item that has a row is scored, by the same operations in the same order as in [`crate::evaluate::ranking`]: where the
//! evaluator gives an event's item rank 3, three items are above it in the list that is given here just before the event. Nothing
//! of the state moves.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`Recommender`]: what is asked, and the queries that are made of it |
//! | `list` | the best of all items for each query |
//! | `shortlist` | the best items of a pass over the table |
//! | `recall` | how many of the best items older embeddings keep |

mod list;
pub mod recall;
mod shortlist;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::context::cooccurrence::{Cooccurrences, Votes};
use crate::context::users::{UserHistories, UserHistory};
use crate::context::{Batch, NOBODY};
use crate::model::Model;
use crate::model::encoder::{Encoded, Sequences};
use crate::negatives::frequency::Frequencies;
use crate::table::rows::CHUNK;
use crate::trainer::state::State;

/// Visitors whose lists are made in one pass over the items.
const VISITORS_PER_PASS: usize = 256;

/// Who is to get a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visitor {
    /// The user in a row, by all that is known of them.
    User(u32),
    /// Somebody of whom nothing is known but the items (rows, oldest first) that they had just now.
    Session(Vec<u32>),
}

/// What a list may hold.
#[derive(Debug, Clone, Copy)]
pub struct ListRules<'a> {
    /// Length of the list; shorter where there are no more items.
    pub k: usize,
    /// When the visitor asks, milliseconds since 1970 UTC.
    pub at: i64,
    /// Items that must not be in it.
    pub excluded: &'a [u32],
    /// The only items that may be in it; `None` for all.
    pub candidates: Option<&'a [u32]>,
}

/// An item of a list, and why it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommendation {
    /// The item's row.
    pub item: u32,
    /// The full score f: the sum of the parts, but for rounding.
    pub score: f32,
    /// e^g·s/τ: likeness to what the visitor had.
    pub similarity: f32,
    /// β·log q̂, and b_c where an objective learns it.
    pub popularity: f32,
    /// ρ: what having had the item before adds.
    pub repetition: f32,
    /// κ: what coming together with the visitor's newest items adds.
    pub cooccurrence: f32,
}

/// Makes lists from a state that stands still.
#[derive(Debug)]
pub struct Recommender<'a> {
    model: &'a Model,
    histories: &'a UserHistories,
    cooccurrences: &'a Cooccurrences,
    /// By item: factor of the dot product.
    scale: Vec<f32>,
    /// By item: β·log q̂ + b.
    popularity: Vec<f32>,
}

/// The queries of some visitors.
#[derive(Debug, Default)]
pub struct VisitorQueries {
    /// What is known of each.
    pub batch: Batch,
    /// Their vectors, times their gates: [`Encoded::scored_row`].
    pub encoded: Encoded,
}

impl<'a> Recommender<'a> {
    /// Reads `state`. The vectors of its model have to be up to date ([`Model::refresh_all`]), as they are in one that was
    /// loaded from a checkpoint.
    pub fn new(state: &'a State) -> Self {
        Self::of_parts(&state.model, &state.negatives.frequencies, &state.users.histories, &state.items.cooccurrences)
    }

    /// The same, from the parts of a state that are read.
    pub fn of_parts(
        model: &'a Model,
        frequencies: &Frequencies,
        histories: &'a UserHistories,
        cooccurrences: &'a Cooccurrences,
    ) -> Self {
        let inverse_temperature = model.inverse_temperature();
        let scale = model.inverse_norms.par_iter().map(|norm| norm * inverse_temperature).collect();
        let mut popularity = vec![0.0; model.items.values.len()];
        popularity.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, popularity)| {
            frequencies.log_frequencies(model.kernel(), chunk * CHUNK, model.beta(), popularity);
            if model.biases.is_some() {
                let items = popularity.iter_mut().enumerate();
                items.for_each(|(place, popularity)| *popularity += model.bias(chunk * CHUNK + place));
            }
        });
        Self { model, histories, cooccurrences, scale, popularity }
    }

    /// Number of items.
    pub fn n_items(&self) -> usize {
        self.popularity.len()
    }

    /// β·log q̂ + b of each item.
    pub fn popularity(&self) -> &[f32] {
        &self.popularity
    }

    /// Whether there is anything to make a list of for `visitor`: an item that they had and that still has a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn knows(&self, visitor: &Visitor) -> bool {
        match visitor {
            Visitor::User(user) => self.histories.get(*user).is_known(),
            Visitor::Session(items) => !items.is_empty(),
        }
    }

    /// The list of each of `visitors`, best first; equal scores in the order of rows. Empty for one that it does not know
    /// ([`Self::knows`]).
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn recommend(&self, visitors: &[Visitor], rules: ListRules<'_>) -> Vec<Vec<Recommendation>> {
        let mut lists = Vec::with_capacity(visitors.len());
        for visitors in visitors.chunks(VISITORS_PER_PASS) {
            let queries = self.queries(visitors, rules.at);
            let of_queries = self.lists(visitors, &queries, rules);
            let mut of_queries = of_queries.into_iter();
            lists.extend(visitors.iter().map(|visitor| match self.knows(visitor) {
                true => of_queries.next().unwrap_or_default(),
                false => Vec::new(),
            }));
        }
        lists
    }

    /// The queries of `visitors` at time `at` (milliseconds since 1970 UTC), in order; there is none of a visitor that is not known.
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn queries(&self, visitors: &[Visitor], at: i64) -> VisitorQueries {
        let Self { model, histories, cooccurrences, .. } = self;
        let VisitorQueries { mut batch, mut encoded } = VisitorQueries::default();
        batch.clear(0);
        let (mut votes, mut carried) = (Votes::default(), Vec::new());
        for visitor in visitors.iter().filter(|visitor| self.knows(visitor)) {
            let of_session: UserHistory;
            let (user, history) = match visitor {
                Visitor::User(user) => (*user, histories.get(*user)),
                Visitor::Session(items) => {
                    of_session = histories.of_items(items, at);
                    (NOBODY, &of_session)
                }
            };
            histories.ask(&mut batch, user, history, at);
            cooccurrences.ask(&mut batch, &mut votes);
            if model.gru.is_some() {
                match user {
                    NOBODY => carried.resize(carried.len() + model.dim(), 0.0),
                    user => carried.extend_from_slice(model.hidden_states.row(user as usize)),
                }
            }
        }
        let mut sequences = Sequences::default();
        sequences.begin(&batch);
        model.encode(model.kernel(), &sequences, &carried, &mut encoded);
        VisitorQueries { batch, encoded }
    }
}
