//! A sink in memory: a table that another thread of the process can read, and the fake for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    EmbeddingSink, ItemRow, OwnOptions, SinkConfig, SinkError, SinkState, StoredRow, Update, UpdateKind, Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;

const NAME: &str = "memory";

config_section! {
    /// The options of `memory`: none of its own.
    pub struct MemoryOptions {}
}

impl Component for MemoryOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "A table in this process; its target is a name by which `MemorySink::shared` finds it.";
}

impl OwnOptions for MemoryOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(MemorySink::shared(&config.common.target)))
    }
}

/// A sink in memory. Clones are the same sink: one goes to the pipeline, the others read.
///
/// An update is invisible to readers until it is committed.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    committed: BTreeMap<String, StoredRow>,
    state: Option<SinkState>,
    /// Updates committed: full ones, and deltas.
    n_committed: (u64, u64),
    open: Option<OpenUpdate>,
    failures: u32,
}

#[derive(Debug)]
struct OpenUpdate {
    kind: UpdateKind,
    state: SinkState,
    removed: Vec<String>,
    rows: BTreeMap<String, StoredRow>,
    popularity: Vec<(String, f32)>,
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
        self.tables().state.as_ref().map(|state| state.version)
    }

    /// How many full updates and how many deltas were committed.
    pub fn n_committed(&self) -> (u64, u64) {
        self.tables().n_committed
    }

    /// Fails the next `n` commits, as a sink does that is away: for tests.
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

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        Ok(self.tables().state.clone())
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        let tables = self.tables();
        tables.committed.values().cloned().for_each(visit);
        Ok(tables.state.clone())
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        let mut tables = self.tables();
        if tables.state.as_ref().is_some_and(|state| update.version <= state.version) {
            return Err(SinkError::refused(NAME, "the update is not newer than what was committed"));
        }
        let Update { kind, version, dim, model_id } = *update;
        tables.open = Some(OpenUpdate {
            kind,
            state: SinkState { model_id: model_id.to_owned(), version, dim },
            removed: Vec::new(),
            rows: BTreeMap::new(),
            popularity: Vec::new(),
        });
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let mut tables = self.tables();
        tables.open()?.removed.extend(item_ids.iter().map(|item_id| (*item_id).to_owned()));
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let mut tables = self.tables();
        let OpenUpdate { state: SinkState { version, .. }, rows: open, .. } = tables.open()?;
        for ItemRow { item_id, embedding, log_frequency } in rows {
            let (item_id, embedding) = ((*item_id).to_owned(), embedding.to_vec());
            let row =
                StoredRow { item_id: item_id.clone(), embedding, log_frequency: *log_frequency, version: *version };
            open.insert(item_id, row);
        }
        Ok(())
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let mut tables = self.tables();
        let popularity = popularity.iter().map(|(item_id, log_frequency)| ((*item_id).to_owned(), *log_frequency));
        tables.open()?.popularity.extend(popularity);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let mut tables = self.tables();
        tables.open()?;
        if tables.failures > 0 {
            tables.failures -= 1;
            tables.open = None;
            return Err(SinkError::away(NAME, "told to fail"));
        }
        let Some(OpenUpdate { kind, state, removed, rows, popularity }) = tables.open.take() else {
            return Ok(());
        };
        match kind {
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
        for (item_id, log_frequency) in popularity {
            if let Some(row) = tables.committed.get_mut(&item_id) {
                row.log_frequency = log_frequency;
            }
        }
        tables.state = Some(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(kind: UpdateKind, epoch: u64, step: u64) -> Update<'static> {
        Update { kind, version: Version { epoch, step }, dim: 2, model_id: "model" }
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
        sink.begin(&update(UpdateKind::Delta, 1, 21)).unwrap();
        sink.set_popularity(&[("b", -3.0), ("never there", -4.0)]).unwrap();
        sink.commit().unwrap();
        let b = reader.get("b").unwrap();
        assert_eq!((b.log_frequency, b.version.step), (-3.0, 10), "the version is the vector's");
        assert_eq!(sink.state().unwrap(), sink.read(&mut |row| assert_ne!(row.item_id, "a")).unwrap());
        // A full update leaves nothing of the table before it.
        sink.begin(&update(UpdateKind::Full, 2, 5)).unwrap();
        sink.upsert(&[row("d", &[1.0, 1.0])]).unwrap();
        sink.commit().unwrap();
        assert_eq!((items(&reader), reader.n_committed()), (vec![("d".to_owned(), vec![1.0, 1.0])], (2, 2)));
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
