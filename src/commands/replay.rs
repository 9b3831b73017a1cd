//! `replay`: historical logs through the same pipeline.

use super::{CommandContext, check_output};
use crate::catalogue::Catalogue;
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::pipeline::{Pipeline, Restored, StopReason};
use crate::position::Positions;
use crate::source::parquet::{LogOptions, ParquetLogs};
use crate::telemetry::observer::RunObserver;

pub(super) fn replay(config: &Config, options: ReplayArgs) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let context = CommandContext::set_up(config)?;
    let reading = LogOptions::new(&config.source, config.features.buckets > 0);
    let catalogue = Catalogue::open(config)?;
    // Every log is opened before the checkpoint folder is touched.
    ParquetLogs::open(&options.logs, reading.clone(), &Positions::default())?;
    let mut restored = Restored::find(config, options.fresh)?;
    let logs = ParquetLogs::open(&options.logs, reading, &restored.state.sources.positions)?;
    if restored.checkpoint.is_none() {
        // The share of the log that is only learnt from; a resumed worker keeps to what it began with.
        let positives = logs.count_kinds(&config.positives.kinds)?;
        restored.state.progress.evaluation.counts_from = (positives as f64 * config.evaluate.from).ceil() as u64;
    }
    let (rows, done) = logs.rows();
    if rows == done {
        tracing::info!("these logs were read to their end before; --fresh begins anew");
    }
    let mut observer = RunObserver::new(context.telemetry.clone(), &restored.state);
    observer.draw_bar(&context.bars, rows, done);
    let mut pipeline =
        Pipeline::builder(config).restored(restored).catalogue(catalogue).stop(context.stop.clone()).build()?;
    let result = pipeline.run_observed(logs, &mut |trainer, event| observer.observe(trainer, event));
    observer.finish();
    if result? == StopReason::Stopped {
        tracing::warn!("stopped by a signal; the same command goes on from here");
    }
    context.conclude(&pipeline, &mut observer, &options.output)
}
