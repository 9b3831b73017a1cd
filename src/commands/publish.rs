//! `publish`: a checkpoint's embeddings into sinks, once; `publish verify`: what sinks hold against a checkpoint.

use std::fmt::Write;

use anyhow::Context;
use indicatif::MultiProgress;
use serde_json::{Value, json};
use toml::Table;

use super::output::progress_bar;
use super::{checkpoint, load, print};
use crate::checkpoint::Checkpoint;
use crate::cli::{Layers, PublishAction, PublishArgs, SinkPlaceArgs};
use crate::exit::UsageError;
use crate::publish::full_update::{TableHead, TableRow, publish_table};
use crate::publish::verify::{Differences, ExpectedTable, Verification, VerifyOptions, verify};
use crate::publish::{self, SinkConfig, SinkDiffers};
use crate::telemetry::logging::{self, LineWriter};
use crate::util::escape::escape_for_terminal;

/// Items that a difference names.
const SHOWN: usize = 10;

pub(super) fn publish(layers: &Layers, options: PublishArgs) -> anyhow::Result<()> {
    match options.action {
        Some(PublishAction::Verify(options)) => {
            let memory = options.memory_mb << 20;
            let how = VerifyOptions { frequencies: !options.embeddings_alone, shown: SHOWN, memory };
            verify_sinks(layers, &options.place, how, options.json)
        }
        None => publish_once(layers, &options.place, options.rows_per_second, options.json),
    }
}

/// Publishes to each sink, one after the other.
fn publish_once(
    layers: &Layers,
    place: &SinkPlaceArgs,
    rows_per_second: Option<u64>,
    json: bool,
) -> anyhow::Result<()> {
    let (checkpoint, sinks) = open(layers, place)?;
    let bars = MultiProgress::new();
    logging::init(&load(layers)?.log, LineWriter::above(bars.clone()))?;
    let manifest = checkpoint.manifest();
    let model_id = manifest.model_id();
    let (mut values, mut text) = (Vec::new(), String::new());
    for config in sinks {
        let mut sink = publish::open(&config)?;
        let head = TableHead {
            model_id: &model_id,
            dim: manifest.dim,
            step: manifest.step,
            replace: config.common.replace,
            rows_per_second,
        };
        let bar = bars.add(progress_bar(manifest.items, "rows"));
        let rows = rows(&checkpoint)?;
        let version = publish_table(sink.as_mut(), head, rows, |sent| bar.set_position(sent))?;
        bar.finish_and_clear();
        values.push(json!({
            "sink": config.sink, "rows": manifest.items, "model_id": model_id, "epoch": version.epoch, "step": version.step,
        }));
        writeln!(text, "{}: {} rows of model {model_id}, {version}", config.sink, manifest.items)?;
    }
    print(&if json { format!("{}\n", Value::from(values)) } else { text });
    Ok(())
}

/// Compares each sink with the checkpoint, row by row.
fn verify_sinks(layers: &Layers, place: &SinkPlaceArgs, options: VerifyOptions, json: bool) -> anyhow::Result<()> {
    let (checkpoint, sinks) = open(layers, place)?;
    let (manifest, model_id) = (checkpoint.manifest(), checkpoint.manifest().model_id());
    let table = ExpectedTable { model_id: &model_id, dim: manifest.dim, rows: manifest.items };
    let (mut differing, mut values, mut text) = (Vec::new(), Vec::new(), String::new());
    for config in sinks {
        let mut sink = publish::open(&config)?;
        let found = verify(sink.as_mut(), table, || rows(&checkpoint), options)?;
        if !found.equal {
            differing.push(config.sink.clone());
        }
        text.push_str(&told(&config.sink, &found));
        let mut value = serde_json::to_value(&found)?;
        value["sink"] = config.sink.into();
        values.push(value);
    }
    print(&if json { format!("{}\n", Value::from(values)) } else { text });
    if differing.is_empty() { Ok(()) } else { Err(SinkDiffers { sinks: differing.join(", ") }.into()) }
}

/// The checkpoint, and the sinks that the command line or the configuration names.
fn open(layers: &Layers, place: &SinkPlaceArgs) -> anyhow::Result<(Checkpoint, Vec<SinkConfig>)> {
    let Some(path) = &place.checkpoint else { return Err(UsageError("no checkpoint is named".to_owned()).into()) };
    let sinks = match &place.sink {
        Some(sink) => vec![named(sink, place)?],
        None => load(layers)?.publish,
    };
    if sinks.is_empty() {
        let message = "no sink is named: give --sink NAME --target URL, or tables [[publish]] in --config FILE";
        return Err(UsageError(message.to_owned()).into());
    }
    Ok((checkpoint(layers, path)?, sinks))
}

/// The sink that the command line describes.
fn named(sink: &str, place: &SinkPlaceArgs) -> Result<SinkConfig, UsageError> {
    let mut table = Table::new();
    let texts = [("sink", Some(sink)), ("target", place.target.as_deref()), ("name", place.name.as_deref())];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        table.insert(key.to_owned(), text.into());
    }
    for option in &place.options {
        let Some((key, value)) = option.split_once('=') else {
            return Err(UsageError("--option: expected KEY=VALUE, in one argument".to_owned()));
        };
        let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = parsed.unwrap_or_else(|| value.into());
        match key.trim().split_once('.') {
            // `registry.url=…`, `properties.sasl.username=…`
            Some((section, key)) => {
                let section = table.entry(section).or_insert_with(|| Table::new().into());
                section.as_table_mut().map(|section| section.insert(key.to_owned(), value));
            }
            None => drop(table.insert(key.trim().to_owned(), value)),
        }
    }
    SinkConfig::from_table(table).map_err(UsageError)
}

/// The rows of a checkpoint.
fn rows(checkpoint: &Checkpoint) -> anyhow::Result<impl Iterator<Item = anyhow::Result<TableRow>> + use<>> {
    let path = checkpoint.path().display().to_string();
    let items = checkpoint.items()?;
    Ok(items.map(move |item| {
        let item = item.with_context(|| path.clone())?;
        Ok(TableRow { item_id: item.id, embedding: item.embedding, log_frequency: item.log_frequency })
    }))
}

/// What was found, for people.
fn told(sink: &str, found: &Verification) -> String {
    let Verification { rows, held_rows, model_id, held_model_id, largest_difference, .. } = found;
    if found.equal {
        return format!("{sink}: equal, {rows} rows of model {model_id}\n");
    }
    let mut text = format!("{sink}: differs; it holds {held_rows} rows, the checkpoint {rows}\n");
    match held_model_id {
        None => text.push_str("  nothing was ever committed\n"),
        Some(held) if held != model_id => {
            text.push_str(&format!(
                "  wrong model: it holds {}, the checkpoint is of {model_id}\n",
                escape_for_terminal(held)
            ));
        }
        Some(_) => {}
    }
    let largest = format!("other embedding (by {largest_difference:e} at most)");
    for (what, Differences { count, items }) in [
        ("missing", &found.missing),
        ("extra", &found.extra),
        (largest.as_str(), &found.other_embedding),
        ("other frequency", &found.other_frequency),
    ] {
        if *count > 0 {
            let items: Vec<String> = items.iter().map(|item| escape_for_terminal(item)).collect();
            let more = if *count > items.len() as u64 { ", …" } else { "" };
            text.push_str(&format!("  {what}: {count} ({}{more})\n", items.join(", ")));
        }
    }
    text
}
