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
//! | `pass` | one pass over a table for many queries |
//! | `shortlist` | the best items of a pass over the table |
//! | `terms` | what makes scores of inner products: a factor for each item, and its popularity |
//! | `view` | [`StateView`](view::StateView): a state as it was at a moment, to be asked while training goes on |
//! | `slot` | [`ViewSlot`](slot::ViewSlot): where the trainer leaves views, and readers find them |
//! | [`index`] | an index over the vectors of many items |
//! | `recall` | how many of the best items older embeddings keep |

pub mod index;
mod list;
mod pass;
pub mod recall;
mod shortlist;
pub mod slot;
mod terms;
#[cfg(test)]
mod tests;
pub mod view;

use std::sync::Arc;

use self::index::SearchIndex;
use self::pass::ScoreBounds;
use self::terms::{ItemTerms, RowTerms as _};
use crate::context::cooccurrence::Cooccurrences;
use crate::context::users::{UserHistories, UserHistory};
use crate::context::votes::Votes;
use crate::context::{Batch, NOBODY};
use crate::model::Model;
use crate::model::encoder::{Encoded, Sequences};
use crate::negatives::frequency::Frequencies;
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
    /// Items that the visitor had may be in it whatever the model was trained for: for whoever only asks for scores.
    pub with_own: bool,
}

/// A visitor, and what their list may hold.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Who is to get a list.
    pub visitor: Visitor,
    /// What it may hold.
    pub rules: ListRules<'a>,
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

/// Makes queries from a state that stands still; reads nothing of its items but those that visitors had.
#[derive(Debug, Clone, Copy)]
pub struct VisitorEncoder<'a> {
    model: &'a Model,
    histories: &'a UserHistories,
    cooccurrences: &'a Cooccurrences,
}

/// Makes lists from a state that stands still.
#[derive(Debug)]
pub struct Recommender<'a> {
    encoder: VisitorEncoder<'a>,
    terms: ItemTerms<'a>,
    /// What scores items can have at most.
    bounds: Option<Arc<ScoreBounds>>,
    /// Where to look for the best of many items, and by block of it the largest popularity.
    index: Option<(&'a SearchIndex, &'a [f32])>,
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
        let terms = ItemTerms::of_state(model, frequencies);
        let bounds = ScoreBounds::of(model, &terms).map(Arc::new);
        Self { encoder: VisitorEncoder { model, histories, cooccurrences }, terms, bounds, index: None }
    }

    /// Number of items.
    pub fn n_items(&self) -> usize {
        self.terms.n_rows()
    }

    /// β·log q̂ + b of the item in row `item`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn popularity(&self, item: u32) -> f32 {
        self.terms.popularity(item as usize)
    }

    /// Whether there is anything to make a list of for `visitor`: an item that they had and that still has a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn knows(&self, visitor: &Visitor) -> bool {
        self.encoder.knows(visitor)
    }

    /// The list of each of `visitors`, best first; equal scores in the order of rows. Empty for one that it does not know
    /// ([`Self::knows`]).
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn recommend(&self, visitors: &[Visitor], rules: ListRules<'_>) -> Vec<Vec<Recommendation>> {
        let wish = |visitor: &Visitor| Wish { visitor: visitor.clone(), rules };
        self.recommend_each(&visitors.iter().map(wish).collect::<Vec<_>>())
    }

    /// The list of each visitor, by rules of their own: [`Self::recommend`].
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn recommend_each(&self, wishes: &[Wish<'_>]) -> Vec<Vec<Recommendation>> {
        let mut lists = Vec::with_capacity(wishes.len());
        for wishes in wishes.chunks(VISITORS_PER_PASS) {
            let is_answered = |wish: &Wish<'_>| wish.rules.k > 0 && self.knows(&wish.visitor);
            let known: Vec<&Wish<'_>> = wishes.iter().filter(|wish| is_answered(wish)).collect();
            let queries = self.encoder.queries_of(known.iter().map(|wish| (&wish.visitor, wish.rules.at)));
            let mut of_queries = self.lists(&known, &queries).into_iter();
            lists.extend(wishes.iter().map(|wish| match is_answered(wish) {
                true => of_queries.next().unwrap_or_default(),
                false => Vec::new(),
            }));
        }
        lists
    }

    /// The queries of `visitors`: [`VisitorEncoder::queries`].
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn queries(&self, visitors: &[Visitor], at: i64) -> VisitorQueries {
        self.encoder.queries(visitors, at)
    }
}

impl<'a> VisitorEncoder<'a> {
    /// Reads `state`, whose vectors are up to date.
    pub fn new(state: &'a State) -> Self {
        Self { model: &state.model, histories: &state.users.histories, cooccurrences: &state.items.cooccurrences }
    }

    /// Whether there is anything to make a query of for `visitor`: an item that they had and that still has a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn knows(&self, visitor: &Visitor) -> bool {
        match visitor {
            Visitor::User(user) => self.histories.get(*user).is_known(),
            Visitor::Session(items) => !items.is_empty(),
        }
    }

    /// The queries of `visitors` at time `at` (milliseconds since 1970 UTC), in order; there is none of a visitor that is not known.
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn queries(&self, visitors: &[Visitor], at: i64) -> VisitorQueries {
        self.queries_of(visitors.iter().filter(|visitor| self.knows(visitor)).map(|visitor| (visitor, at)))
    }

    /// The queries of visitors that are known, each at a time of its own.
    fn queries_of<'b>(&self, visitors: impl Iterator<Item = (&'b Visitor, i64)>) -> VisitorQueries {
        let Self { model, histories, cooccurrences } = self;
        let VisitorQueries { mut batch, mut encoded } = VisitorQueries::default();
        batch.clear(0);
        let (mut votes, mut carried) = (Votes::default(), Vec::new());
        for (visitor, at) in visitors {
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
