//! The queries of users whose events came since the sinks were given something last.

use std::collections::BTreeSet;

use compact_str::CompactString;

use crate::recommend::{Visitor, VisitorEncoder};
use crate::trainer::state::State;

/// Queries that are made at a time, so that training is not held up for long; the others follow a moment later.
const AT_A_TIME: usize = 4_096;

/// Users whose queries are to be made.
#[derive(Debug, Default)]
pub(super) struct PendingUsers {
    names: BTreeSet<CompactString>,
    /// Time of the newest event, milliseconds since 1970.
    at: i64,
}

/// Queries as they stood at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct UserQueries {
    pub(super) names: Vec<CompactString>,
    /// The vectors of `names`, one behind the other.
    pub(super) vectors: Vec<f32>,
    pub(super) beta_tau: f32,
}

impl PendingUsers {
    /// Notes that a user has done something.
    pub(super) fn note(&mut self, user: &str, at: i64) {
        self.names.insert(user.into());
        self.at = at;
    }

    /// Makes the queries of some of them, who are pending no more.
    pub(super) fn take(&mut self, state: &State) -> UserQueries {
        let encoder = VisitorEncoder::new(state);
        let (mut names, mut visitors) = (Vec::new(), Vec::new());
        while names.len() < AT_A_TIME {
            let Some(name) = self.names.pop_first() else { break };
            // Whoever was evicted meanwhile, or had nothing but what was, has no query.
            let visitor = state.users.ids.get(&name).map(Visitor::User);
            if let Some(visitor) = visitor.filter(|visitor| encoder.knows(visitor)) {
                names.push(name);
                visitors.push(visitor);
            }
        }
        let (dim, queries) = (state.model.dim(), encoder.queries(&visitors, self.at));
        let mut vectors = Vec::with_capacity(names.len() * dim);
        (0..names.len()).for_each(|place| vectors.extend_from_slice(&queries.encoded.scored_row(place)[..dim]));
        UserQueries { names, vectors, beta_tau: state.model.beta() / state.model.inverse_temperature() }
    }
}

impl UserQueries {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of identifiers and vectors.
    pub(super) fn n_bytes(&self) -> usize {
        self.names.iter().map(|name| name.len()).sum::<usize>() + size_of_val(&self.vectors[..])
    }

    /// Those of several moments, one after the other, as one: a user's newest is in it.
    pub(super) fn merged<'a>(of_moments: impl DoubleEndedIterator<Item = &'a Self>) -> Self {
        let (mut merged, mut seen) = (Self::default(), BTreeSet::new());
        for queries in of_moments.rev().filter(|queries| !queries.is_empty()) {
            if merged.is_empty() {
                merged.beta_tau = queries.beta_tau;
            }
            let dim = queries.vectors.len() / queries.names.len();
            for (name, vector) in queries.names.iter().zip(queries.vectors.chunks_exact(dim)) {
                if seen.insert(name) {
                    merged.names.push(name.clone());
                    merged.vectors.extend_from_slice(vector);
                }
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_query_of_a_user_counts() {
        let of = |names: &[&str], number: f32| UserQueries {
            names: names.iter().map(CompactString::new).collect(),
            vectors: vec![number; 2 * names.len()],
            beta_tau: number,
        };
        let moments = [of(&["a", "b"], 1.0), of(&["b", "c"], 2.0), of(&[], 9.0)];
        let merged = UserQueries::merged(moments.iter());
        assert_eq!(merged.names, ["b", "c", "a"]);
        assert_eq!(merged.vectors, [2.0, 2.0, 2.0, 2.0, 1.0, 1.0]);
        assert_eq!((merged.beta_tau, merged.n_bytes()), (2.0, 3 + 6 * 4));
    }
}
