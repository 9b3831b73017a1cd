//! `replay`: historical logs through the same pipeline.

use std::path::Path;

use super::{CommandContext, check_output, print};
use crate::catalogue::Catalogue;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store;
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::exit::UsageError;
use crate::pipeline::{Pipeline, Restored, StopReason};
use crate::position::Positions;
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
    if restored.checkpoint.is_none() {
        // The share of the log that is only learnt from; a resumed worker keeps to what it began with.
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
        let mut observer = RunObserver::new(context.telemetry.clone(), &restored.state);
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
    let Some(newest) = manifests.last() else {
        return Err(UsageError(format!("--cuts: no checkpoints in {}", place.display())));
    };
    let lineage = &newest.provenance.lineage;
    let own: Vec<&Manifest> = manifests.iter().filter(|manifest| manifest.provenance.lineage == *lineage).collect();
    let first = own.first().map_or(0, |manifest| manifest.events.read);
    if first > 0 {
        return Err(UsageError(format!(
            "--cuts: the first checkpoint in {} has read {first} records, and where batches were cut before that is not known: \
             keep all of them (checkpoint.keep)",
            place.display()
        )));
    }
    Ok(own.iter().flat_map(|manifest| manifest.cuts.iter().copied()).collect())
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
