//! A sink of one's own: after each checkpoint it is told which embeddings changed.
//!
//! `cargo run --release --example own_sink`

use negstream::publish::{EmbeddingSink, ItemRow, SinkError, Update};
use negstream::source::memory::MemorySource;
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::{Config, Pipeline};

/// Prints a line per update, where another sink would write to an index.
#[derive(Debug, Default)]
struct PrintingSink {
    update: Option<Update>,
    n_rows: usize,
    n_removed: usize,
}

impl EmbeddingSink for PrintingSink {
    fn name(&self) -> &str {
        "print"
    }

    fn begin(&mut self, update: &Update) -> Result<(), SinkError> {
        *self = Self { update: Some(update.clone()), ..Self::default() };
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

    fn commit(&mut self) -> Result<(), SinkError> {
        let Update { kind, version, dim } =
            self.update.take().ok_or_else(|| SinkError::refused("print", "commit without begin"))?;
        println!(
            "{kind:?} update, epoch {}, step {}: {} rows of {dim} numbers, {} removed",
            version.epoch, version.step, self.n_rows, self.n_removed
        );
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
