//! `import`: a first checkpoint with the vectors of another model, from which `run` and `replay` go on.

use serde_json::json;

use super::{load, print};
use crate::catalogue::Catalogue;
use crate::checkpoint::store;
use crate::cli::{ImportArgs, Layers};
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::exit::UsageError;
use crate::import::{ForeignVectors, VectorColumns};
use crate::model::Similarity;
use crate::pipeline::{Pipeline, Restored};
use crate::telemetry::logging::{self, LineWriter};
use crate::trainer::warm_start::{LENGTH, WarmItem, WarmStart};
use crate::util::escape::escape_for_terminal;

pub(super) fn import(layers: &Layers, options: &ImportArgs) -> anyhow::Result<()> {
    // What is published is what was learnt; a worker publishes it when it starts.
    let config = Config { publish: Vec::new(), ..load(layers)? };
    logging::init(&config.log, LineWriter::stderr())?;
    // Everything is read before the checkpoint folder is touched.
    let vectors = read(&config, options)?;
    let catalogue = Catalogue::open(&config)?;
    refuse_existing(&config, options.fresh)?;
    let mut restored = Restored::find(&config, true)?;
    // Once more, now that nobody else can write there.
    refuse_existing(&config, options.fresh)?;
    let items: Vec<WarmItem<'_>> = (0..vectors.ids.len())
        .map(|item| WarmItem {
            name: vectors.ids.name(item as u32),
            vector: vectors.vector(item),
            count: vectors.counts.as_ref().map(|counts| counts[item]),
            last_event: vectors.last_events.as_ref().map_or(0, |times| times[item]),
        })
        .collect();
    let length = options.length.or((config.model.similarity == Similarity::Cosine).then_some(LENGTH));
    restored.state.warm_start(&items, &catalogue, WarmStart { length, events: options.events });
    let mut pipeline =
        Pipeline::builder(&config).restored(restored).catalogue(catalogue).dead_letters(DeadLetters::None).build()?;
    pipeline.save()?;
    let checkpoint = pipeline.checkpoint_path().map(|path| path.display().to_string()).unwrap_or_default();
    let (n_items, dim) = (items.len(), vectors.dim);
    if options.json {
        let value = json!({
            "checkpoint": checkpoint,
            "items": n_items,
            "dim": dim,
            "columns": vectors.columns,
            "events": vectors.counts.map(|counts| counts.iter().sum::<u64>()),
        });
        print(&format!("{value}\n"));
        return Ok(());
    }
    let counted = match &vectors.counts {
        Some(counts) => format!("{} events", counts.iter().sum::<u64>()),
        None => "no counts: popularity begins with the stream".to_owned(),
    };
    print(&format!("{n_items} items × {dim} dimensions, {counted}: {checkpoint}\n"));
    Ok(())
}

/// Reads the vectors, and holds them to the model of `config`.
fn read(config: &Config, options: &ImportArgs) -> anyhow::Result<ForeignVectors> {
    let columns = VectorColumns {
        id: options.id.as_deref().unwrap_or(&config.source.fields.item_id),
        vector: options.vector.as_deref(),
        count: options.count.as_deref(),
        last_event: options.last_event.as_deref(),
    };
    let vectors = ForeignVectors::read(&options.vectors, columns, options.ids.as_deref())?;
    let (file, n_items, dim) = (options.vectors.display(), vectors.ids.len(), config.model.dim);
    if vectors.dim != dim {
        let hint = if vectors.dim == dim + 1 {
            "; of what `negstream export` writes the last number is popularity: import the items.parquet of the checkpoint instead"
        } else {
            ""
        };
        let found = vectors.dim;
        let words =
            format!("{file}: vectors of {found} numbers, but model.dim is {dim}: --set model.dim={found}{hint}");
        return Err(UsageError(words).into());
    }
    let cap = config.memory.items.cap;
    if cap > 0 && n_items > cap {
        let words = format!("{file}: {n_items} items, but memory.items.cap is {cap}: raise it, or leave items out");
        return Err(UsageError(words).into());
    }
    let points_nowhere = |item: &usize| vectors.vector(*item).iter().all(|number| *number == 0.0);
    if config.model.similarity == Similarity::Cosine
        && let Some(item) = (0..n_items).find(points_nowhere)
    {
        let name = escape_for_terminal(vectors.ids.name(item as u32));
        let words = format!(
            "{file}: row {}, item '{name}': all numbers are 0, and a cosine with it is none: leave the item out",
            item + 1
        );
        return Err(UsageError(words).into());
    }
    Ok(vectors)
}

/// Refuses to begin where somebody has been before.
fn refuse_existing(config: &Config, fresh: bool) -> anyhow::Result<()> {
    let dir = &config.checkpoint.dir;
    if !fresh && store::newest_number(dir, &config.checkpoint)?.is_some() {
        let words = format!(
            "{} holds checkpoints, from which a worker goes on: choose another checkpoint.dir, or begin anew with --fresh",
            dir.display()
        );
        return Err(UsageError(words).into());
    }
    Ok(())
}
