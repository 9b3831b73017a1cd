//! `inspect`: what a checkpoint holds; every checksum verified.

use std::fmt::Write;

use super::{checkpoint, print};
use crate::cli::{InspectArgs, Layers};
use crate::position::cuts::Cuts;
use crate::util::escape::escape_for_terminal;

pub(super) fn inspect(layers: &Layers, options: InspectArgs) -> anyhow::Result<()> {
    let checkpoint = checkpoint(layers, &options.checkpoint)?;
    let manifest = checkpoint.manifest();
    if options.json {
        let mut value = serde_json::to_value(manifest)?;
        value["path"] = checkpoint.path().display().to_string().into();
        value["intact"] = true.into();
        print(&format!("{value:#}\n"));
        return Ok(());
    }
    let mut text = String::new();
    let events = &manifest.events;
    writeln!(
        text,
        "{}  intact, format {}, written by negstream {}",
        checkpoint.path().display(),
        manifest.format,
        manifest.negstream
    )?;
    writeln!(
        text,
        "model      {} items × {} dimensions ({}), {} users, seed {}",
        manifest.items, manifest.dim, manifest.similarity, manifest.users, manifest.seed
    )?;
    if let Some(buckets) = manifest
        .configuration
        .get("features")
        .and_then(|features| features["buckets"].as_u64())
        .filter(|buckets| *buckets > 0)
    {
        writeln!(text, "features   of items, hashed to {buckets} buckets")?;
    }
    writeln!(text, "score      τ {:.4}, β {:.4}", manifest.temperature, manifest.beta)?;
    writeln!(
        text,
        "events     {} read, {} used, {} ignored, {} deferred, {} rejected, {} lost, in {} steps",
        events.read,
        events.used,
        events.ignored,
        events.deferred,
        events.rejected.total(),
        events.lost,
        manifest.step
    )?;
    for (what, rows) in [("items", manifest.evicted.items), ("users", manifest.evicted.users)] {
        if rows.expired + rows.capped > 0 {
            writeln!(text, "evicted    {} {what} expired, {} to make room", rows.expired, rows.capped)?;
        }
    }
    // Not the model's: every model that these settings make has it.
    writeln!(text, "settings   digest {}", manifest.configuration_digest)?;
    for (stream, next) in manifest.positions.iter() {
        writeln!(text, "position   {stream} → {next}")?;
    }
    let n = manifest.cuts.iter().flat_map(Cuts::places).count();
    if n > 0 {
        writeln!(text, "cuts       {n} since the checkpoint before, by the clock, a signal, a rebalance or an end")?;
    }
    for file in &manifest.files {
        writeln!(text, "file       {:<20} {:>12} bytes  sha256 {}", file.name, file.bytes, file.sha256)?;
    }
    // Names in a manifest are data too.
    let harmless: String = text.lines().map(|line| escape_for_terminal(line) + "\n").collect();
    print(&harmless);
    Ok(())
}
