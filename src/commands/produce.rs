//! `produce`: a log into the topic, or each event into the topic of its type, keyed by user.

use super::topics::{Outlet, configured_topic};
use super::{CommandContext, print};
use crate::cli::ProduceArgs;
use crate::config::Config;
use crate::event::Reason;
use crate::exit::UsageError;
use crate::kafka::producer::SendError;
use crate::source::parquet::ordered::OrderedLogs;
use crate::source::parquet::{ColumnSelection, LogOptions};
use crate::source::{EventSource, PollStatus};

pub(super) fn produce(config: &Config, options: ProduceArgs) -> anyhow::Result<()> {
    let kafka = match &options.topic {
        Some(topic) => &configured_topic(&config.kafka, topic)?,
        None => &config.kafka,
    };
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
    let mut logs = OrderedLogs::open(&options.logs, reading, options.sort)?;
    let mut outlets = Outlet::open_all(config, kafka)?;
    let bar = context.bar(logs.rows(), "events");
    let (mut taken, mut rejected) = (0u64, 0u64);
    let mut block = Vec::new();
    while !context.stop.requested() {
        let status = logs.poll(&mut block)?;
        for record in block.drain(..) {
            taken += 1;
            let sent = match &record.outcome {
                Ok(event) => match Outlet::choose(&mut outlets, event) {
                    Some(outlet) => outlet.send(event, || context.stop.requested()),
                    None => Err(SendError::NoRoom((Reason::WrongType, no_topic_for(&event.kind)))),
                },
                Err(rejection) => Err(SendError::NoRoom((rejection.reason, rejection.detail.clone()))),
            };
            match sent {
                Ok(()) => {}
                Err(SendError::NoRoom((reason, detail))) => {
                    rejected += 1;
                    log_left_out(record.offset, reason, &detail, rejected);
                }
                Err(SendError::Kafka(error)) => return Err(error.into()),
            }
        }
        bar.set_position(taken);
        if status == PollStatus::End {
            break;
        }
    }
    outlets.iter_mut().try_for_each(Outlet::flush)?;
    bar.finish_and_clear();
    let stopped = if context.stop.requested() { "stopped by a signal: " } else { "" };
    let sent = |outlet: &Outlet| format!("{} events sent to topic '{}'", outlet.sent, outlet.topic);
    let sent: Vec<String> = outlets.iter().map(sent).collect();
    print(&format!("{stopped}{}, {rejected} rows left out\n", sent.join(", ")));
    Ok(())
}

/// Why an event of the type `kind` is in none of the topics.
fn no_topic_for(kind: &str) -> String {
    format!("no topic of kafka.topics is for events of the type {kind:?}; --topic names one for all")
}

/// Logs a row that is left out: the first of them, and ever fewer of the rest.
fn log_left_out(row: u64, reason: Reason, detail: &str, so_far: u64) {
    if so_far.is_power_of_two() {
        tracing::warn!(row, reason = reason.name(), detail, so_far, "row left out");
    }
}
