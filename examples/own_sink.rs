//! A sink of one's own: it is told which embeddings changed, while they are learnt.
//!
//! `cargo run --release --example own_sink`

use negstream::publish::{EmbeddingSink, ItemRow, SinkError, SinkState, StoredRow, Update, UpdateKind, Version};
use negstream::source::memory::MemorySource;
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::{Config, Pipeline};

/// Prints a line per update, where another sink would write to an index.
#[derive(Debug, Default)]
struct PrintingSink {
    update: Option<(UpdateKind, Version)>,
    n_rows: usize,
    n_removed: usize,
}

impl EmbeddingSink for PrintingSink {
    fn name(&self) -> &str {
        "print"
    }

    fn read(&mut self, _visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        // What is printed cannot be read back: it is always published to as to an empty sink.
        Ok(None)
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        *self = Self { update: Some((update.kind, update.version)), ..Self::default() };
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        self.n_removed += item_ids.len();
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        // A real sink writes `row.embedding` under `row.item_id` where it holds an older version than the update's.
        self.n_rows += rows.len();
        Ok(())
    }

    fn set_popularity(&mut self, _popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let (kind, version) = self.update.take().ok_or_else(|| SinkError::refused("print", "commit without begin"))?;
        println!("{kind:?} update, {version}: {} rows, {} removed", self.n_rows, self.n_removed);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let dir = format!("checkpoint.dir={}", folder.path().display());
    let config = Config::with_settings(&["model.dim=16", "checkpoint.every_events=2000", &dir])?;
    let mut generator = EventGenerator::new(SynthConfig::default());
    let events = (0..10_000).map(|_| generator.next_event());
    Pipeline::builder(&config).sink(PrintingSink::default()).build()?.run(MemorySource::of_events(events))?;
    Ok(())
}
