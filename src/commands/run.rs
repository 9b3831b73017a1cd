//! `run`: train on a Kafka topic until told to stop.

use super::{CommandContext, check_output};
use crate::catalogue::Catalogue;
use crate::cli::Run;
use crate::config::{Assignment, Config, KafkaConfig};
use crate::dead_letters::DeadLetters;
use crate::dead_letters::topic::DeadLetterTopic;
use crate::kafka::EMBEDDED;
use crate::kafka::embedded::EmbeddedBroker;
use crate::pipeline::{Restored, StopReason, Worker};
use crate::registry;
use crate::reporter::Reporter;
use crate::source::kafka::{Connection, Known, Until};
use crate::source::{SourceError, spawn};
use crate::telemetry::health::Latch;
use crate::telemetry::status::Phase;
use crate::trainer::state::State;
use crate::util::encoding::unique;

pub(super) fn run(config: &Config, options: Run) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let around = CommandContext::set_up(config)?;
    let catalogue = Catalogue::open(config)?;
    let decoder = registry::decoder(&config.source)?;
    let server = around.serve(config)?;
    around.status.enter(Phase::Restoring);
    let mut kafka = config.kafka.clone();
    let embedded = match kafka.brokers.as_str() {
        EMBEDDED => {
            let broker = EmbeddedBroker::start(&kafka.topic, kafka.partitions)?;
            tracing::warn!(
                bootstrap = broker.bootstrap(),
                "embedded broker started, with an empty topic; send events with: negstream produce --set kafka.brokers={} LOG.parquet",
                broker.bootstrap()
            );
            broker.bootstrap().clone_into(&mut kafka.brokers);
            // Nobody else is there to share it with.
            kafka.assignment = Assignment::All;
            Some(broker)
        }
        _ => None,
    };
    let brokers = kafka.brokers.clone();
    let connection = match Connection::open(&kafka, &brokers, around.stop.flag()) {
        Err(error @ SourceError::Stopped { .. }) => {
            // As told, and nothing was begun.
            tracing::info!("{error}");
            return Ok(());
        }
        connected => connected?,
    };
    let mut origin = Restored::find_own(config, options.fresh, |manifest, fallen_back| match embedded {
        Some(_) => Ok(()),
        None => {
            let known = Known { positions: &manifest.positions, holdings: &manifest.holdings };
            connection.check(known, fallen_back)
        }
    })?;
    let State { positions, holdings, .. } = &mut origin.state;
    if embedded.is_some() {
        // Its log begins with this process, so no earlier position means anything in it.
        let prefix = format!("kafka/{}/", kafka.topic);
        positions.forget(&prefix);
        holdings.forget(&prefix);
    }
    name_worker(&mut holdings.worker, &kafka);
    around.health.release(Latch::Restored);
    around.status.enter(Phase::Waiting);
    let until = if options.until_end { Until::End } else { Until::Stopped };
    let source = connection.read(decoder, Known { positions, holdings }, until)?;
    let dead_letters = match config.kafka.dead_letter_topic.as_str() {
        "" => DeadLetters::None,
        _ => DeadLetters::Topic(DeadLetterTopic::open(&kafka, &brokers, config.source.format, around.stop.clone())?),
    };
    let mut reporter = Reporter::new(around.status.clone(), around.health.clone(), &origin.state);
    reporter.show_lag(source.high_watermarks());
    let mut worker = Worker::new(config, origin, dead_letters, catalogue)?;
    let feed = spawn(Box::new(source));
    around.health.release(Latch::SourceOpen);
    let ending =
        worker.work(&feed, around.stop.flag(), &mut |trainer, happening| reporter.happened(trainer, happening));
    around.health.drain();
    around.status.enter(Phase::Draining);
    feed.close();
    if matches!(ending, Ok(StopReason::Stopped)) {
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

/// What the worker calls itself in its group: as configured, as it did before, or a name that nobody else has.
fn name_worker(name: &mut String, kafka: &KafkaConfig) {
    if !kafka.member.is_empty() {
        name.clone_from(&kafka.member);
    } else if name.is_empty() {
        *name = format!("negstream-{}", unique());
    }
}
