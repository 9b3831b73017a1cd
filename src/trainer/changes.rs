//! Which items' embeddings changed: what a sink has to be sent.
//!
//! An item's embedding changes when its own row is moved, or, where items have features, the row of one of its features. A
//! frequency that changes is no change. Tracking begins with [`State::track_changes`], is no part of the state that a
//! checkpoint holds, and reads nothing that training depends on: training does the same with and without it.

use compact_str::CompactString;

use crate::table::changes::ChangeMark;
use crate::table::ids::Ids;
use crate::table::row_remap::RowRemap;
use crate::trainer::state::State;

/// The embeddings that changed since a mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbeddingChanges {
    /// Rows of the items whose embedding may have changed, new items included, ascending. A row is there also where the step
    /// that moved it had a gradient of 0.
    pub changed: Vec<u32>,
    /// Names of items that lost their row, and have none now.
    pub removed: Vec<CompactString>,
    /// The evictions meanwhile, in their order: where rows of before are now.
    pub evictions: Vec<RowRemap>,
}

/// Names of the items that were evicted, each with the interval in which that was, and how the others moved up.
#[derive(Debug, Clone, Default)]
pub(super) struct EvictedNames {
    names: Vec<(ChangeMark, CompactString)>,
    remaps: Vec<(ChangeMark, RowRemap)>,
}

impl EvictedNames {
    /// Adds the names of `ids` that have no row any more after `rows`.
    pub(super) fn add(&mut self, interval: ChangeMark, ids: &Ids, rows: &RowRemap) {
        let evicted = (0..ids.len() as u32).filter(|row| rows.get(*row).is_none());
        self.names.extend(evicted.map(|row| (interval, CompactString::new(ids.name(row)))));
        self.remaps.push((interval, rows.clone()));
    }
}

impl State {
    /// Starts to track which embeddings change; all of them count as changed at first. Does nothing where they are tracked.
    pub fn track_changes(&mut self) {
        if self.items.evicted_names.is_none() {
            self.model.track_changes();
            self.items.evicted_names = Some(EvictedNames::default());
        }
    }

    /// Sets a mark: changes from here on are changes since it. `None` where changes are not tracked.
    pub fn mark_changes(&mut self) -> Option<ChangeMark> {
        self.model.mark_changes()
    }

    /// The embeddings that changed since `mark`, as rows of the items now. `None` where changes are not tracked.
    pub fn changes_since(&self, mark: ChangeMark) -> Option<EmbeddingChanges> {
        let evicted = self.items.evicted_names.as_ref()?;
        let changed = self.model.changed_since(mark)?;
        let since =
            evicted.names.iter().filter(|(interval, name)| *interval > mark && self.items.ids.get(name).is_none());
        let mut removed: Vec<CompactString> = since.map(|(_, name)| name.clone()).collect();
        removed.sort_unstable();
        removed.dedup();
        let evictions = evicted.remaps.iter().filter(|(interval, _)| *interval > mark);
        let evictions = evictions.map(|(_, rows)| rows.clone()).collect();
        Some(EmbeddingChanges { changed, removed, evictions })
    }

    /// Forgets the names that were evicted before `mark`: nobody will ask for changes since an earlier one.
    pub fn forget_changes(&mut self, mark: ChangeMark) {
        if let Some(evicted) = &mut self.items.evicted_names {
            evicted.names.retain(|(interval, _)| *interval > mark);
            evicted.remaps.retain(|(interval, _)| *interval > mark);
        }
    }

    /// The embeddings that changed since the last call, or since tracking began; for a single reader. `None` where changes
    /// are not tracked.
    pub fn drain_changes(&mut self) -> Option<EmbeddingChanges> {
        let mark = self.items.drained;
        let changes = self.changes_since(mark)?;
        self.items.drained = self.mark_changes()?;
        self.forget_changes(self.items.drained);
        Some(changes)
    }
}
