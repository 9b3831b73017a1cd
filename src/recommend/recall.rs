//! How many of the best items are still the best by embeddings that are older than the model's.

use super::shortlist::Shortlist;
use super::{Recommender, Visitor};
use crate::kernel::rows::dot;
use crate::trainer::state::State;

/// Compares the lists of `users` (rows) by the live embeddings with those by others: `older` gives the embedding of an item that
/// differs, and `candidates` are the items that are ranked. Gives how many places of lists of length `k` were compared, and how
/// many of their items are also in the other list.
///
/// Scores are those that an index of embeddings and frequencies gives, without what an item has for one user alone; queries and
/// frequencies are the live ones on both sides.
///
/// # Panics
/// If there is no such row of a user or an item.
pub fn kept_in_lists<'a>(
    state: &State,
    users: &[u32],
    at: i64,
    k: usize,
    candidates: impl Iterator<Item = u32>,
    older: impl Fn(u32) -> Option<&'a [f32]>,
) -> (u64, u64) {
    let recommender = Recommender::new(state);
    let visitors: Vec<Visitor> = users.iter().map(|user| Visitor::User(*user)).collect();
    let queries = recommender.queries(&visitors, at);
    let n_queries = queries.batch.n_queries();
    let (dim, factor) = (state.model.dim(), state.model.inverse_temperature());
    let vectors: Vec<&[f32]> = (0..n_queries).map(|query| &queries.encoded.scored_row(query)[..dim]).collect();
    let mut lists = vec![[Shortlist::new(k), Shortlist::new(k)]; n_queries];
    let mut live = vec![0.0; dim];
    for item in candidates {
        state.model.served(item as usize, &mut live);
        let (bias, older) = (recommender.popularity(item), older(item));
        for (query, [by_live, by_older]) in vectors.iter().zip(&mut lists) {
            let score = dot(query, &live) * factor + bias;
            by_live.offer(score, item);
            by_older.offer(older.map_or(score, |older| dot(query, older) * factor + bias), item);
        }
    }
    let mut found = (0, 0);
    for [by_live, by_older] in lists {
        let (by_live, by_older) = (by_live.into_best(), by_older.into_best());
        found.0 += by_live.len() as u64;
        found.1 += by_live.iter().filter(|(_, item)| by_older.iter().any(|(_, older)| older == item)).count() as u64;
    }
    found
}
