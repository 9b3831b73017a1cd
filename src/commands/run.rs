//! `run`: train on a Kafka topic until told to stop.

use super::{CommandContext, check_output};
use crate::catalogue::Catalogue;
use crate::cli::Run;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::dead_letters::topic::DeadLetterTopic;
use crate::kafka::EMBEDDED;
use crate::kafka::embedded::EmbeddedBroker;
use crate::kafka::{Assignment, KafkaConfig};
use crate::pipeline::{Pipeline, PipelineEvent, Restored, StopReason};
use crate::registry;
use crate::reporter::Reporter;
use crate::source::SourceError;
use crate::source::kafka::{ResumeState, TopicConnection, Until};
use crate::telemetry::health::Latch;
use crate::telemetry::status::Phase;
use crate::trainer::state::State;
use crate::util::encoding::random_id;

pub(super) fn run(config: &Config, options: Run) -> anyhow::Result<()> {
    check_output(&options.output)?;
    let context = CommandContext::set_up(config)?;
    let catalogue = Catalogue::open(config)?;
    let decoder = registry::decoder(&config.source)?;
    let server = context.serve(config)?;
    context.status.enter(Phase::Restoring);
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
    let connection = match TopicConnection::open(&kafka, &brokers, context.stop.flag()) {
        Err(error @ SourceError::Stopped { .. }) => {
            // As told, and nothing was begun.
            tracing::info!("{error}");
            return Ok(());
        }
        connected => connected?,
    };
    let mut restored = Restored::find_own(config, options.fresh, |manifest, fallen_back| match embedded {
        Some(_) => Ok(()),
        None => {
            let known = ResumeState { positions: &manifest.positions, ownerships: &manifest.ownerships };
            connection.verify_ownership(known, fallen_back)
        }
    })?;
    let State { positions, ownerships, .. } = &mut restored.state;
    if embedded.is_some() {
        // Its log begins with this process, so no earlier position means anything in it.
        let prefix = format!("kafka/{}/", kafka.topic);
        positions.forget(&prefix);
        ownerships.forget(&prefix);
    }
    name_worker(&mut ownerships.worker, &kafka);
    context.health.release(Latch::Restored);
    context.status.enter(Phase::Waiting);
    let until = if options.until_end { Until::End } else { Until::Stopped };
    let source = connection.into_source(decoder, ResumeState { positions, ownerships }, until)?;
    let dead_letters = match config.kafka.dead_letter_topic.as_str() {
        "" => DeadLetters::None,
        _ => DeadLetters::Topic(DeadLetterTopic::open(&kafka, &brokers, config.source.format, context.stop.clone())?),
    };
    let mut reporter = Reporter::new(context.status.clone(), context.health.clone(), &restored.state);
    reporter.show_lag(source.lag_probe());
    let mut pipeline = Pipeline::builder(config)
        .restored(restored)
        .catalogue(catalogue)
        .dead_letters(dead_letters)
        .stop(context.stop.clone())
        .build()?;
    context.health.release(Latch::SourceOpen);
    let result = pipeline.run_observed(source, &mut |trainer, event| {
        if matches!(event, PipelineEvent::Draining) {
            context.health.drain();
            context.status.enter(Phase::Draining);
        }
        reporter.happened(trainer, event);
    });
    if matches!(result, Ok(StopReason::Stopped)) {
        tracing::info!("stopped by a signal");
    }
    if result.is_err() {
        context.status.enter(Phase::Failed);
    }
    result?;
    context.conclude(&pipeline, &reporter, &options.output)?;
    if let Some(server) = server {
        server.shutdown();
    }
    Ok(())
}

/// Names the worker in its group: as configured, as it was named before, or by a name that is unique.
fn name_worker(name: &mut String, kafka: &KafkaConfig) {
    if !kafka.member.is_empty() {
        name.clone_from(&kafka.member);
    } else if name.is_empty() {
        *name = format!("negstream-{}", random_id());
    }
}
