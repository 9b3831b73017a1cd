//! `run`: train on a Kafka topic until told to stop.

use super::{Surroundings, check_output};
use crate::catalogue::Catalogue;
use crate::cli::Run;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::kafka::EMBEDDED;
use crate::kafka::dead_letters::DeadLetterTopic;
use crate::kafka::embedded::EmbeddedBroker;
use crate::reporter::Reporter;
use crate::schemas;
use crate::source::kafka::{KafkaSource, Until};
use crate::source::{EventSource, SourceError, spawn};
use crate::telemetry::health::Latch;
use crate::telemetry::status::Phase;
use crate::worker::{Ending, Origin, Worker};

pub(super) fn run(config: &Config, options: Run) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let around = Surroundings::set_up(config)?;
    let catalogue = Catalogue::open(config)?;
    let decoder = schemas::decoder(&config.source)?;
    let server = around.serve(config)?;
    around.status.enter(Phase::Restoring);
    let mut origin = Origin::find(config, options.fresh)?;
    let (_embedded, brokers) = match config.kafka.brokers.as_str() {
        EMBEDDED => {
            let broker = EmbeddedBroker::start(&config.kafka.topic, config.kafka.partitions)?;
            // Its log begins with this process, so no earlier position means anything in it.
            origin.state.positions.forget(&format!("kafka/{}/", config.kafka.topic));
            tracing::warn!(
                bootstrap = broker.bootstrap(),
                "embedded broker started, with an empty topic; send events with: negstream produce --set kafka.brokers={} LOG.parquet",
                broker.bootstrap()
            );
            let bootstrap = broker.bootstrap().to_owned();
            (Some(broker), bootstrap)
        }
        brokers => (None, brokers.to_owned()),
    };
    around.health.release(Latch::Restored);
    around.status.enter(Phase::Waiting);
    let until = if options.until_end { Until::End } else { Until::Stopped };
    let positions = &mut origin.state.positions;
    let opened = KafkaSource::open(&config.kafka, &brokers, decoder, positions, until, around.stop.flag());
    let source = match opened {
        Err(error @ SourceError::Stopped { .. }) => {
            // As told, and nothing was begun.
            tracing::info!("{error}");
            return Ok(());
        }
        opened => opened?,
    };
    let mut begins = false;
    for (stream, next) in source.starts().iter() {
        if positions.next(stream).is_none() {
            positions.advance(stream, next);
            begins = true;
        }
    }
    let dead_letters = match config.kafka.dead_letter_topic.as_str() {
        "" => DeadLetters::None,
        _ => DeadLetters::Topic(DeadLetterTopic::open(&config.kafka, &brokers, config.source.format)?),
    };
    let mut reporter = Reporter::new(around.status.clone(), around.health.clone(), &origin.state);
    reporter.show_lag(source.streams(), source.high_watermarks());
    let mut worker = Worker::new(config, origin, dead_letters, catalogue)?;
    if begins {
        // From here on the positions are ours, and only ours: a restart finds them, whatever the broker says.
        worker.save()?;
    }
    let feed = spawn(Box::new(source));
    around.health.release(Latch::SourceOpen);
    let ending =
        worker.work(&feed, around.stop.flag(), &mut |trainer, happening| reporter.happened(trainer, happening));
    around.health.drain();
    around.status.enter(Phase::Draining);
    feed.close();
    if matches!(ending, Ok(Ending::Stopped)) {
        tracing::info!("stopped by a signal");
    }
    if ending.is_err() {
        around.status.enter(Phase::Failed);
    }
    ending?;
    around.conclude(&worker, &reporter, &options.output)?;
    if let Some(server) = server {
        server.shutdown();
    }
    Ok(())
}
