//! `produce`: a Parquet log into the topic, keyed by user.

use std::time::Duration;

use super::{CommandContext, print};
use crate::cli::ProduceArgs;
use crate::config::Config;
use crate::event::Reason;
use crate::exit::UsageError;
use crate::kafka::admin;
use crate::kafka::pacing::EmbeddedPace;
use crate::kafka::producer::{EventProducer, SendError};
use crate::position::Positions;
use crate::registry;
use crate::source::parquet::{ColumnSelection, LogOptions, ParquetLogs};
use crate::source::{EventSource, PollStatus};

/// How long the last records may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn produce(config: &Config, options: ProduceArgs) -> anyhow::Result<()> {
    let kafka = &config.kafka;
    if !kafka.names_brokers() {
        return Err(UsageError(
            "no broker is named: set kafka.brokers=HOST:PORT (an embedded broker ends with its process; a running \
             `negstream run` with one logs its address)"
                .to_owned(),
        )
        .into());
    }
    let context = CommandContext::set_up(config)?;
    let reading = LogOptions::selecting(&config.source, ColumnSelection::All);
    let mut logs = ParquetLogs::open(&options.logs, reading, &Positions::default())?;
    let encoder = registry::encoder(&config.source, &kafka.topic)?;
    admin::ensure_topic(kafka, &kafka.brokers, &kafka.topic)?;
    let mut producer = EventProducer::open(kafka, &kafka.brokers, encoder)?;
    let mut pace = EmbeddedPace::of(kafka)?;
    let bar = context.bar(logs.rows().0, "events");
    let (mut sent, mut rejected) = (0u64, 0u64);
    let mut block = Vec::new();
    while !context.stop.requested() {
        let status = logs.poll(&mut block)?;
        for record in block.drain(..) {
            match &record.outcome {
                Ok(event) => match producer.send(event) {
                    Ok(()) => {
                        sent += 1;
                        if let Some(pace) = pace.as_mut().filter(|pace| pace.is_look_due(sent, producer.bytes())) {
                            producer.flush(PATIENCE)?;
                            pace.wait(sent, producer.bytes(), || context.stop.requested())?;
                        }
                    }
                    Err(SendError::NoRoom((reason, detail))) => {
                        rejected += 1;
                        log_left_out(record.offset, reason, &detail, rejected);
                    }
                    Err(SendError::Kafka(error)) => return Err(error.into()),
                },
                Err(rejection) => {
                    rejected += 1;
                    log_left_out(record.offset, rejection.reason, &rejection.detail, rejected);
                }
            }
        }
        bar.set_position(sent + rejected);
        if status == PollStatus::End {
            break;
        }
    }
    producer.flush(PATIENCE)?;
    bar.finish_and_clear();
    let stopped = if context.stop.requested() { "stopped by a signal: " } else { "" };
    print(&format!("{stopped}{sent} events sent to topic '{}', {rejected} rows left out\n", kafka.topic));
    Ok(())
}

/// Logs a row that is left out: the first of them, and ever fewer of the rest.
fn log_left_out(row: u64, reason: Reason, detail: &str, so_far: u64) {
    if so_far.is_power_of_two() {
        tracing::warn!(row, reason = reason.name(), detail, so_far, "row left out");
    }
}
