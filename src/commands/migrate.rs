//! `migrate`: another topic of the same name (another cluster, or one that was made anew) for a model that is kept.

use std::fmt::Write as _;

use super::topics::configured_topic;
use super::{CommandContext, print};
use crate::cli::MigrateArgs;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::decode::rfc3339_milliseconds;
use crate::exit::UsageError;
use crate::pipeline::{Pipeline, Restored};
use crate::source::kafka::topic_partition::stream_prefix;
use crate::source::kafka::{StartPlace, TopicConnection};
use crate::util::escape::escape_for_terminal;

pub(super) fn migrate(config: &Config, options: &MigrateArgs) -> anyhow::Result<()> {
    let kafka = match &options.topic {
        Some(topic) => &configured_topic(&config.kafka, topic)?,
        None => &config.kafka,
    };
    if !kafka.names_brokers() {
        return Err(
            UsageError("no broker is named: set kafka.brokers to those that are read from now on".to_owned()).into()
        );
    }
    let place = place(&options.to)?;
    let context = CommandContext::set_up(config)?;
    let connection = TopicConnection::open(kafka, &kafka.brokers, context.stop.flag())?;
    let mut restored = Restored::find(config, false)?;
    if restored.checkpoint.is_none() {
        let dir = config.checkpoint.dir.display();
        return Err(
            UsageError(format!("{dir} holds no model that could be kept; `negstream run` begins a new one")).into()
        );
    }
    let sources = &mut restored.state.sources;
    let positions = connection.positions_at(place, &sources.positions)?;
    let mut text = String::new();
    for (stream, next) in positions.iter() {
        let was = sources.positions.next(stream).map_or("–".to_owned(), |was| was.to_string());
        writeln!(text, "{}: {was} → {next}", escape_for_terminal(stream))?;
    }
    for (topic, identity) in connection.identities() {
        let prefix = stream_prefix(topic);
        sources.positions.forget(&prefix);
        sources.ownerships.forget(&prefix);
        sources.ownerships.forget_topic(topic);
        sources.ownerships.set_topic(topic, identity.clone());
        if let Some(audit) = &mut sources.audit {
            // Its offsets are those of the other topic.
            audit.streams.retain(|stream, _| !stream.starts_with(&prefix));
        }
    }
    for (stream, next) in positions.iter() {
        sources.positions.advance(stream, next);
    }
    let (events, items) = (restored.state.progress.events.read, restored.state.items.ids.len());
    let mut pipeline = Pipeline::builder(config).restored(restored).dead_letters(DeadLetters::None).build()?;
    pipeline.save()?;
    let checkpoint = pipeline.checkpoint_path().map(|path| path.display().to_string()).unwrap_or_default();
    print(&format!("{text}the model of {events} events and {items} items is kept: {checkpoint}\n"));
    Ok(())
}

/// The place that the command line names.
fn place(text: &str) -> Result<StartPlace, UsageError> {
    Ok(match text {
        "earliest" => StartPlace::Earliest,
        "latest" => StartPlace::Latest,
        "same" => StartPlace::Same,
        "group" => StartPlace::Group,
        time => StartPlace::Since(rfc3339_milliseconds(time).ok_or_else(|| {
            UsageError(format!(
                "--to {}: neither earliest, latest, same or group, nor a time like 2026-01-31T12:00:00Z",
                escape_for_terminal(time)
            ))
        })?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_a_word_or_a_time() {
        assert_eq!(place("earliest").unwrap(), StartPlace::Earliest);
        assert_eq!(place("1970-01-01T00:00:01Z").unwrap(), StartPlace::Since(1_000));
        let error = place("yesterday").unwrap_err().to_string();
        assert!(error.contains("yesterday") && error.contains("earliest"), "{error}");
    }
}
