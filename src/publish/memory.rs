//! A sink in memory: a table that another thread of the process can read, and the fake for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{EmbeddingSink, ItemRow, SinkEntry, SinkError, Update, UpdateKind, Version};

const NAME: &str = "memory";

/// The line of the registry.
pub(super) const ENTRY: SinkEntry = SinkEntry {
    name: NAME,
    about: "a table in this process; its target is a name by which MemorySink::shared finds it",
    open: |config| Ok(Box::new(MemorySink::shared(&config.target))),
};

/// A row that the sink holds.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// The embedding.
    pub embedding: Vec<f32>,
    /// Logarithm of the item's share among the stream's events, when the row was written last.
    pub log_frequency: f32,
    /// The version of the update that wrote the row last.
    pub version: Version,
}

/// A sink in memory. Clones are the same sink: one goes to the pipeline, the others read.
///
/// An update is invisible to readers until it is committed.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    committed: BTreeMap<String, StoredRow>,
    version: Option<Version>,
    /// Updates committed: full ones, and deltas.
    n_committed: (u64, u64),
    open: Option<OpenUpdate>,
    failures: u32,
}

#[derive(Debug)]
struct OpenUpdate {
    update: Update,
    removed: Vec<String>,
    rows: BTreeMap<String, StoredRow>,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sink called `name` of this process; an empty one where the name is new.
    pub fn shared(name: &str) -> Self {
        static SHARED: Mutex<BTreeMap<String, MemorySink>> = Mutex::new(BTreeMap::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.entry(name.to_owned()).or_default().clone()
    }

    /// The committed row of `item_id`; `None` where the table has no such item.
    pub fn get(&self, item_id: &str) -> Option<StoredRow> {
        self.tables().committed.get(item_id).cloned()
    }

    /// All committed rows, by item.
    pub fn rows(&self) -> BTreeMap<String, StoredRow> {
        self.tables().committed.clone()
    }

    /// The version of the newest committed update; `None` before the first.
    pub fn version(&self) -> Option<Version> {
        self.tables().version
    }

    /// How many full updates and how many deltas were committed.
    pub fn n_committed(&self) -> (u64, u64) {
        self.tables().n_committed
    }

    /// Refuses the next `n` commits, as a sink does that is away: for tests.
    pub fn refuse_commits(&self, n: u32) {
        self.tables().failures = n;
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn open(&mut self) -> Result<&mut OpenUpdate, SinkError> {
        self.open.as_mut().ok_or_else(|| SinkError::refused(NAME, "no update was begun"))
    }
}

impl EmbeddingSink for MemorySink {
    fn name(&self) -> &str {
        NAME
    }

    fn begin(&mut self, update: &Update) -> Result<(), SinkError> {
        let mut tables = self.tables();
        if tables.version.is_some_and(|version| update.version <= version) {
            return Err(SinkError::refused(NAME, "the update is not newer than what was committed"));
        }
        tables.open = Some(OpenUpdate { update: update.clone(), removed: Vec::new(), rows: BTreeMap::new() });
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let mut tables = self.tables();
        tables.open()?.removed.extend(item_ids.iter().map(|item_id| (*item_id).to_owned()));
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let mut tables = self.tables();
        let OpenUpdate { update, rows: open, .. } = tables.open()?;
        for ItemRow { item_id, embedding, log_frequency } in rows {
            let (embedding, log_frequency) = (embedding.to_vec(), *log_frequency);
            open.insert((*item_id).to_owned(), StoredRow { embedding, log_frequency, version: update.version });
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let mut tables = self.tables();
        tables.open()?;
        if tables.failures > 0 {
            tables.failures -= 1;
            tables.open = None;
            return Err(SinkError::refused(NAME, "told to refuse"));
        }
        let Some(OpenUpdate { update, removed, rows }) = tables.open.take() else { return Ok(()) };
        match update.kind {
            UpdateKind::Full => {
                tables.committed = rows;
                tables.n_committed.0 += 1;
            }
            UpdateKind::Delta => {
                for item_id in &removed {
                    tables.committed.remove(item_id);
                }
                tables.committed.extend(rows);
                tables.n_committed.1 += 1;
            }
        }
        tables.version = Some(update.version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(kind: UpdateKind, epoch: u64, step: u64) -> Update {
        Update { kind, version: Version { epoch, step }, dim: 2, model_id: String::new() }
    }

    fn row<'a>(item_id: &'a str, embedding: &'a [f32]) -> ItemRow<'a> {
        ItemRow { item_id, embedding, log_frequency: -1.0 }
    }

    fn items(sink: &MemorySink) -> Vec<(String, Vec<f32>)> {
        sink.rows().into_iter().map(|(item_id, row)| (item_id, row.embedding)).collect()
    }

    #[test]
    fn memory_sink_shows_an_update_once_it_is_committed() {
        let reader = MemorySink::new();
        let mut sink = reader.clone();
        sink.begin(&update(UpdateKind::Full, 1, 10)).unwrap();
        sink.upsert(&[row("a", &[1.0, 0.0]), row("b", &[0.0, 1.0])]).unwrap();
        assert_eq!((items(&reader), reader.version()), (vec![], None));
        sink.commit().unwrap();
        assert_eq!(reader.version(), Some(Version { epoch: 1, step: 10 }));
        sink.begin(&update(UpdateKind::Delta, 1, 20)).unwrap();
        sink.remove(&["a", "never there"]).unwrap();
        sink.upsert(&[row("c", &[0.5, 0.5])]).unwrap();
        sink.commit().unwrap();
        assert_eq!(items(&reader), [("b".to_owned(), vec![0.0, 1.0]), ("c".to_owned(), vec![0.5, 0.5])]);
        assert_eq!(reader.get("b").unwrap().version.step, 10);
        assert_eq!(reader.get("c").unwrap().version.step, 20);
        // A full update leaves nothing of the table before it.
        sink.begin(&update(UpdateKind::Full, 2, 5)).unwrap();
        sink.upsert(&[row("d", &[1.0, 1.0])]).unwrap();
        sink.commit().unwrap();
        assert_eq!((items(&reader), reader.n_committed()), (vec![("d".to_owned(), vec![1.0, 1.0])], (2, 1)));
    }

    #[test]
    fn memory_sink_refuses_what_is_not_newer_and_what_was_not_begun() {
        let mut sink = MemorySink::new();
        assert!(sink.upsert(&[]).is_err() && sink.remove(&[]).is_err() && sink.commit().is_err());
        sink.begin(&update(UpdateKind::Full, 2, 5)).unwrap();
        sink.commit().unwrap();
        for (epoch, step) in [(2, 5), (2, 4), (1, 9)] {
            assert!(sink.begin(&update(UpdateKind::Delta, epoch, step)).is_err(), "{epoch}, {step}");
        }
        sink.refuse_commits(1);
        sink.begin(&update(UpdateKind::Delta, 2, 6)).unwrap();
        assert!(sink.commit().is_err());
        assert_eq!(sink.version(), Some(Version { epoch: 2, step: 5 }));
    }

    #[test]
    fn shared_memory_sinks_of_one_name_are_one_sink() {
        let mut sink = MemorySink::shared("shared_memory_sinks_of_one_name_are_one_sink");
        sink.begin(&update(UpdateKind::Full, 1, 1)).unwrap();
        sink.commit().unwrap();
        let again = MemorySink::shared("shared_memory_sinks_of_one_name_are_one_sink");
        assert_eq!(again.version(), sink.version());
        assert_eq!(MemorySink::shared("another").version(), None);
    }
}
