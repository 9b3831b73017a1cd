//! Replays a Parquet log through the pipeline, and prints the nearest neighbours of its most frequent items.
//!
//! `cargo run --release --example replay_and_neighbors [LOG.parquet]`; without a log, a synthetic one is made.

use std::path::PathBuf;

use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::synth::log::write_parquet;
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::{Checkpoint, Config, NeighborIndex, Pipeline, Report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let log = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        None => {
            let path = folder.path().join("log.parquet");
            write_parquet(&mut EventGenerator::new(SynthConfig::default()), 20_000, &path, |_| {})?;
            path
        }
    };

    // Every key of `negstream config default` can be set like this.
    let checkpoints = folder.path().join("checkpoints");
    let config = Config::with_settings(&["model.dim=32", &format!("checkpoint.dir={}", checkpoints.display())])?;

    // A pipeline goes on from the newest checkpoint of its folder, so the source is opened where that one ends.
    let mut pipeline = Pipeline::new(&config)?;
    let logs =
        ParquetLogs::open(&[log.display().to_string()], LogOptions::new(&config.source, false), pipeline.positions())?;
    let reason = pipeline.run(logs)?;
    let report = Report::of(&pipeline);
    println!("{reason:?} after {} events: {} items, {} users", report.events.read, report.items, report.users);

    // What was learnt is read from the checkpoint, as any other program would.
    let index = NeighborIndex::read(&Checkpoint::open(&checkpoints)?)?;
    for item in index.most_frequent().into_iter().take(3) {
        println!("nearest to {item}:");
        for neighbor in index.nearest(item, 5).unwrap_or_default() {
            println!("  {:<24} {:.3}", neighbor.item_id, neighbor.cosine);
        }
    }
    Ok(())
}
