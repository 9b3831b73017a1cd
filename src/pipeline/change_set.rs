//! What a sink is sent: rows of the table at one moment, and what left it.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::freshness::EventAges;
use super::user_queries::UserQueries;
use crate::publish::{UpdateKind, VectorPrecision};

/// Rows of the table at one moment, and what left it.
#[derive(Debug)]
pub(super) struct ChangeSet {
    pub(super) kind: UpdateKind,
    /// Training steps taken.
    pub(super) step: u64,
    pub(super) dim: usize,
    /// Rows of the whole table.
    pub(super) n_items: usize,
    pub(super) names: Vec<CompactString>,
    /// The embeddings of `names`, one behind the other.
    pub(super) embeddings: Vec<f32>,
    /// The log-frequencies of `names`.
    pub(super) log_frequencies: Vec<f32>,
    pub(super) removed: Vec<CompactString>,
    /// Log-frequencies of items that are not in `names`.
    pub(super) popularity: Vec<(CompactString, f32)>,
    /// Of users, for a sink that takes them.
    pub(super) queries: UserQueries,
    /// Of the events that are visible by it.
    pub(super) ages: EventAges,
}

/// What several changes make of an item.
#[derive(Debug, Clone, Copy)]
enum MergedChange<'a> {
    Row { embedding: &'a [f32], log_frequency: f32 },
    Removed,
    Popularity(f32),
}

impl ChangeSet {
    /// What it counts in a queue: its rows, and something where it has none.
    pub(super) fn n_rows(&self) -> usize {
        (self.names.len() + self.removed.len() + self.popularity.len() + self.queries.names.len()).max(1)
    }

    /// Whether the sink has nothing to do with it: all rows that moved are held back.
    pub(super) fn is_empty(&self) -> bool {
        let Self { kind, names, removed, popularity, queries, .. } = self;
        let has_no_rows = names.is_empty() && removed.is_empty() && popularity.is_empty();
        *kind == UpdateKind::Delta && has_no_rows && queries.is_empty()
    }

    /// Bytes of what it brings to a sink of this precision.
    pub(super) fn n_bytes(&self, precision: VectorPrecision) -> usize {
        let number = size_of::<f32>();
        let names = self.names.iter().chain(&self.removed).chain(self.popularity.iter().map(|(name, _)| name));
        let names: usize = names.map(|name| name.len()).sum();
        let numbers = self.log_frequencies.len() + self.popularity.len();
        let embeddings = self.names.len() * precision.n_bytes(self.dim);
        names + embeddings + number * numbers + self.queries.n_bytes()
    }

    /// Changes that follow each other, as one: a row that moved in several of them is in it once. `None` where there are none.
    pub(super) fn merged(changes: &[Arc<Self>]) -> Option<Arc<Self>> {
        let newest = changes.last()?;
        if changes.len() == 1 {
            return Some(Arc::clone(newest));
        }
        let mut items: BTreeMap<&CompactString, MergedChange<'_>> = BTreeMap::new();
        let mut ages = EventAges::none();
        for set in changes {
            items.extend(set.removed.iter().map(|name| (name, MergedChange::Removed)));
            let rows = set.names.iter().zip(set.embeddings.chunks_exact(set.dim)).zip(&set.log_frequencies);
            items.extend(rows.map(|((name, embedding), log_frequency)| {
                (name, MergedChange::Row { embedding, log_frequency: *log_frequency })
            }));
            for (name, newer) in &set.popularity {
                match items.entry(name).or_insert(MergedChange::Popularity(*newer)) {
                    MergedChange::Row { log_frequency, .. } | MergedChange::Popularity(log_frequency) => {
                        *log_frequency = *newer;
                    }
                    MergedChange::Removed => {}
                }
            }
            ages.merge(set.ages.clone());
        }
        let mut merged = Self {
            kind: newest.kind,
            step: newest.step,
            dim: newest.dim,
            n_items: newest.n_items,
            names: Vec::new(),
            embeddings: Vec::new(),
            log_frequencies: Vec::new(),
            removed: Vec::new(),
            popularity: Vec::new(),
            queries: UserQueries::merged(changes.iter().map(|set| &set.queries)),
            ages,
        };
        for (name, change) in items {
            match change {
                MergedChange::Row { embedding, log_frequency } => {
                    merged.names.push(name.clone());
                    merged.embeddings.extend_from_slice(embedding);
                    merged.log_frequencies.push(log_frequency);
                }
                MergedChange::Removed => merged.removed.push(name.clone()),
                MergedChange::Popularity(log_frequency) => merged.popularity.push((name.clone(), log_frequency)),
            }
        }
        Some(Arc::new(merged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(step: u64, rows: &[(&str, f32)], removed: &[&str], popularity: &[(&str, f32)]) -> Arc<ChangeSet> {
        Arc::new(ChangeSet {
            kind: UpdateKind::Delta,
            step,
            dim: 1,
            n_items: 9,
            names: rows.iter().map(|(name, _)| (*name).into()).collect(),
            embeddings: rows.iter().map(|(_, number)| *number).collect(),
            log_frequencies: vec![-1.0; rows.len()],
            removed: removed.iter().map(|name| (*name).into()).collect(),
            popularity: popularity.iter().map(|(name, number)| ((*name).into(), *number)).collect(),
            queries: UserQueries::default(),
            ages: EventAges::none(),
        })
    }

    #[test]
    fn changes_that_follow_each_other_are_merged_into_what_they_make_of_each_item() {
        assert!(ChangeSet::merged(&[]).is_none());
        let changes = [
            set(1, &[("a", 1.0), ("b", 1.0), ("c", 1.0)], &["back"], &[("d", -5.0), ("e", -5.0)]),
            set(2, &[("a", 2.0), ("back", 2.0)], &["b"], &[]),
            set(3, &[("a", 3.0)], &[], &[("c", -3.0), ("d", -3.0), ("back", -3.0)]),
        ];
        let merged = ChangeSet::merged(&changes).unwrap();
        assert_eq!((merged.step, merged.kind), (3, UpdateKind::Delta));
        assert_eq!(merged.names, ["a", "back", "c"]);
        assert_eq!(
            (&merged.embeddings[..], &merged.log_frequencies[..]),
            (&[3.0, 2.0, 1.0][..], &[-1.0, -3.0, -3.0][..])
        );
        assert_eq!(merged.removed, ["b"]);
        assert_eq!(merged.popularity, [("d".into(), -3.0), ("e".into(), -5.0)]);
        assert!(Arc::ptr_eq(&ChangeSet::merged(&changes[..1]).unwrap(), &changes[0]), "one alone is not copied");
    }
}
