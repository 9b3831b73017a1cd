//! `replay`: historical logs through the same pipeline.

use std::path::Path;

use super::{CommandContext, check_output, print};
use crate::catalogue::Catalogue;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store;
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::event::EventCounts;
use crate::exit::UsageError;
use crate::pipeline::{Pipeline, Restored, StopReason};
use crate::position::Positions;
use crate::position::cuts::Cuts;
use crate::source::parquet::sorted::SortedLogs;
use crate::source::parquet::{LogOptions, ParquetLogs};
use crate::source::{EventSource, PollStatus};
use crate::telemetry::observer::RunObserver;
use crate::trainer::warnings::{IgnoredKinds, none_of_kinds};

/// Rows in which event types are looked for, to say which there are.
const MOST_LOOKED_AT: usize = 1_000_000;

pub(super) fn replay(config: &Config, options: ReplayArgs) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let context = CommandContext::set_up(config)?;
    let catalogue = Catalogue::open(config)?;
    // Every log is opened before the checkpoint folder is touched.
    let reading = LogOptions::new(&config.source, config.features.buckets > 0);
    let mut logs = ParquetLogs::open(&options.logs, reading, &Positions::default())?;
    let mut restored = Restored::find(config, options.fresh)?;
    if restored.state.progress.events == EventCounts::default() {
        // Nothing was read before, though a model may have been imported. The share of the log that is only learnt from; a resumed worker keeps to what it began with.
        let positives = logs.count_kinds(&config.positives.kinds)?;
        if positives == 0 && logs.rows().0 > 0 {
            return Err(nothing_to_learn(config, &options, logs)?.into());
        }
        restored.state.progress.evaluation.counts_from = (positives as f64 * config.evaluate.from).ceil() as u64;
    }
    let cuts = match &options.cuts {
        Some(place) => cuts_of(&store::manifests(place, &config.checkpoint)?, place)?,
        None => Vec::new(),
    };
    let replay = Replay { config, options: &options, context: &context, catalogue, cuts };
    let positions = &restored.state.sources.positions;
    if options.sort {
        let sorted = SortedLogs::new(logs, positions)?;
        let rows = sorted.rows();
        replay.train(restored, sorted, rows)
    } else {
        logs.seek(positions)?;
        let rows = logs.rows();
        replay.train(restored, logs, rows)
    }
}

/// What a replay needs besides its logs.
struct Replay<'a> {
    config: &'a Config,
    options: &'a ReplayArgs,
    context: &'a CommandContext,
    catalogue: Catalogue,
    /// Where batches are cut, besides.
    cuts: Vec<u64>,
}

impl Replay<'_> {
    /// Trains on `source`, which has so many rows, and had so many of them read before.
    fn train(
        self,
        restored: Restored,
        source: impl EventSource + 'static,
        (rows, done): (u64, u64),
    ) -> anyhow::Result<()> {
        let Self { config, options, context, catalogue, cuts } = self;
        if rows == done {
            tracing::info!("these logs were read to their end before; --fresh begins anew");
        }
        let mut observer = RunObserver::new(context.telemetry.clone(), &config.log, &restored.state);
        observer.draw_bar(&context.bars, rows, done);
        let mut pipeline = Pipeline::builder(config)
            .restored(restored)
            .catalogue(catalogue)
            .stop(context.stop.clone())
            .cuts(cuts)
            .checkpoint_requests(context.requests.clone())
            .build()?;
        let result = pipeline.run_observed(source, &mut |trainer, event| observer.observe(trainer, event));
        observer.finish();
        if result? == StopReason::Stopped {
            match options.fresh {
                // It would begin anew once more.
                true => tracing::warn!("stopped by a signal; the same command without --fresh goes on from here"),
                false => tracing::warn!("stopped by a signal; the same command goes on from here"),
            }
        }
        context.conclude(&pipeline, &mut observer, &options.output)
    }
}

/// Where the worker of the newest of `manifests` cut batches, from its first record on; `place` is where they are.
fn cuts_of(manifests: &[Manifest], place: &Path) -> Result<Vec<u64>, UsageError> {
    let place = place.display();
    let Some(mut newest) = manifests.last() else {
        return Err(UsageError(format!("--cuts: no checkpoints in {place}")));
    };
    let (mut cuts, mut older) = (Cuts::default(), manifests);
    loop {
        let Some(since) = &newest.cuts else {
            return Err(UsageError(format!("--cuts: a checkpoint in {place} is of a version that did not keep them")));
        };
        cuts.extend(since.places());
        if since.begin() == 0 {
            return Ok(cuts.places().collect());
        }
        // Not always the one before: that may have been damaged, and gone back behind.
        let is_before = |manifest: &Manifest| {
            manifest.events.read == since.begin() && manifest.provenance.lineage == newest.provenance.lineage
        };
        let Some(index) = older.iter().rposition(is_before) else {
            return Err(UsageError(format!(
                "--cuts: the checkpoint of the first {} records is not in {place} any more, nor where batches were cut before \
                 that: a worker whose batches are to be cut again has to keep all of them (checkpoint.keep)",
                since.begin()
            )));
        };
        (newest, older) = (&older[index], &older[..index]);
    }
}

/// Says that none of the logs' events is of a type that is trained on, and which types there are.
fn nothing_to_learn(config: &Config, options: &ReplayArgs, mut logs: ParquetLogs) -> anyhow::Result<UsageError> {
    let (rows, mut kinds, mut block) = (logs.rows().0, IgnoredKinds::default(), Vec::new());
    let mut looked_at = 0;
    while looked_at < MOST_LOOKED_AT && logs.poll(&mut block)? == PollStatus::More {
        looked_at += block.len();
        for record in block.drain(..) {
            if let Ok(event) = record.outcome {
                kinds.note(&event.kind);
            }
        }
    }
    let why = none_of_kinds(rows, &config.positives.kinds, &kinds);
    if !options.output.json {
        // Where a report would be: whoever reads that alone is told as well.
        print(&format!("warning      nothing was learnt: {why}\n"));
    }
    Ok(UsageError(format!("{why}; nothing is saved")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(read: u64, cuts: &str, lineage: &str) -> Manifest {
        let text = format!(
            r#"{{"format":2,"negstream":"","configuration_digest":"","configuration":{{}},"seed":1,"step":0,"events":{},
                "items":0,"users":0,"evicted":{},"dim":1,"similarity":"","beta":0,"temperature":1,"positions":{{}},
                "ownerships":{{}},"cuts":{cuts},"dead_letters":null,
                "provenance":{{"lineage":"{lineage}","epoch":0,"id":""}},"files":[]}}"#,
            serde_json::json!(EventCounts { read, ..Default::default() }),
            serde_json::json!(crate::event::Evicted::default()),
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn cuts(manifests: &[Manifest]) -> Result<Vec<u64>, String> {
        cuts_of(manifests, Path::new("there")).map_err(|error| error.to_string())
    }

    #[test]
    fn cuts_are_those_of_the_way_to_the_newest_checkpoint() {
        let all = [
            manifest(90, r#"{"after":0,"at":[7]}"#, "older"),
            manifest(0, r#"{"after":0,"at":[]}"#, "run"),
            manifest(10, r#"{"after":0,"at":[3,10]}"#, "run"),
            // Damaged later, and gone back behind.
            manifest(20, r#"{"after":10,"at":[15]}"#, "run"),
            manifest(30, r#"{"after":10,"at":[16,30]}"#, "run"),
            manifest(30, r#"{"after":30,"at":[]}"#, "run"),
        ];
        assert_eq!(cuts(&all), Ok(vec![3, 10, 16, 30]));
        assert!(cuts(&all[4..]).is_err_and(|why| why.contains("first 10 records") && why.contains("checkpoint.keep")));
        assert!(cuts(&[]).is_err_and(|why| why.contains("no checkpoints in there")));
        assert!(cuts(&[manifest(5, "null", "run")]).is_err_and(|why| why.contains("version")));
    }
}
