//! `replay`: historical logs through the same pipeline.

use std::path::Path;

use super::{CommandContext, check_output};
use crate::catalogue::Catalogue;
use crate::cli::Replay;
use crate::config::Config;
use crate::dead_letters::{DeadLetterFile, DeadLetters};
use crate::decode;
use crate::pipeline::{Restored, StopReason, Worker};
use crate::position::Positions;
use crate::reporter::Reporter;
use crate::source::parquet::{Columns, LogOptions, ParquetLogs};
use crate::source::spawn;

pub(super) fn replay(config: &Config, options: Replay) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let around = CommandContext::set_up(config)?;
    let reading = LogOptions {
        fields: config.source.fields.clone(),
        limits: decode::limits(&config.source),
        columns: if config.features.buckets > 0 { Columns::ModelWithFeatures } else { Columns::Model },
    };
    let catalogue = Catalogue::open(config)?;
    // Every log is opened before the checkpoint folder is touched.
    ParquetLogs::open(&options.logs, reading.clone(), &Positions::default())?;
    let mut origin = Restored::find(config, options.fresh)?;
    let logs = ParquetLogs::open(&options.logs, reading, &origin.state.positions)?;
    if origin.checkpoint.is_none() {
        // The share of the log that is only learnt from; a resumed worker keeps to what it began with.
        let positives = logs.count_kinds(&config.positives.kinds)?;
        origin.state.tally.counts_from = (positives as f64 * config.evaluate.from).ceil() as u64;
    }
    let dead_letters = match config.dead_letters.file.as_str() {
        "" => DeadLetters::None,
        file => DeadLetters::File(DeadLetterFile::open(Path::new(file), origin.dead_letters(config))?),
    };
    let (rows, done) = logs.rows();
    if rows == done {
        tracing::info!("these logs were read to their end before; --fresh begins anew");
    }
    let mut reporter = Reporter::new(around.status.clone(), around.health.clone(), &origin.state);
    reporter.draw_bar(&around.bars, rows, done);
    let mut worker = Worker::new(config, origin, dead_letters, catalogue)?;
    let feed = spawn(Box::new(logs));
    let ending =
        worker.work(&feed, around.stop.flag(), &mut |trainer, happening| reporter.happened(trainer, happening));
    feed.close();
    reporter.finish();
    if ending? == StopReason::Stopped {
        tracing::warn!("stopped by a signal; the same command goes on from here");
    }
    around.conclude(&worker, &reporter, &options.output)
}
