//! `run`: train on Kafka topics until told to stop.

use std::sync::Arc;

use super::{CommandContext, check_output};
use crate::catalogue::{Catalogue, MOST_OF_EVENT};
use crate::checkpoint::Checkpoint;
use crate::cli::RunArgs;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::dead_letters::topic::DeadLetterTopic;
use crate::decode::EventDecoder;
use crate::exit::UsageError;
use crate::kafka::EMBEDDED;
use crate::kafka::embedded::EmbeddedBroker;
use crate::kafka::{Assignment, KafkaConfig};
use crate::pipeline::{Pipeline, Restored, StopReason};
use crate::registry;
use crate::share::DeltaLog;
use crate::share::log::LogTopic;
use crate::source::kafka::topic_partition::stream_prefix;
use crate::source::kafka::{ResumeState, SharedStarts, TopicConnection, Until};
use crate::source::{KafkaSourceError, SourceError};
use crate::telemetry::LifecycleEvent;
use crate::telemetry::observer::RunObserver;
use crate::trainer::state::SourceProgress;
use crate::util::encoding::random_id;

pub(super) fn run(config: &Config, options: RunArgs) -> anyhow::Result<()> {
    check_output(&options.output)?;
    if config.kafka.brokers.is_empty() {
        return Err(UsageError(
            "no broker is named: set kafka.brokers to HOST:PORT. `negstream demo` shows everything at work without one, and \
             kafka.brokers = \"embedded\" stands for a broker inside the process, whose records end with it"
                .to_owned(),
        )
        .into());
    }
    let context = CommandContext::set_up(config)?;
    let catalogue = Catalogue::open(config)?;
    let mut decoders = registry::decoders(&config.kafka, &config.source)?;
    decoders.iter_mut().for_each(|decoder| decoder.most_features = most_features(config));
    let server = context.serve(config)?;
    let result = train(config, &options, &context, catalogue, decoders);
    if let Err(error) = &result {
        context.show_failure(config, server.as_ref(), error);
    }
    if let Some(server) = server {
        server.shutdown();
    }
    result
}

/// Trains until the end or a signal. Everything that the worker holds is let go of when this returns.
fn train(
    config: &Config,
    options: &RunArgs,
    context: &CommandContext,
    catalogue: Catalogue,
    decoders: Vec<EventDecoder>,
) -> anyhow::Result<()> {
    context.telemetry.emit(LifecycleEvent::Restoring);
    let mut kafka = config.kafka.clone();
    let embedded = match kafka.brokers.as_str() {
        EMBEDDED => {
            let topics = kafka.topic_names();
            let broker = EmbeddedBroker::start(topics[0], kafka.partitions)?;
            topics[1..].iter().try_for_each(|topic| broker.create_topic(topic, kafka.partitions))?;
            tracing::warn!(
                bootstrap = broker.bootstrap(),
                ?topics,
                "embedded broker started, with empty topics; send events with: negstream produce --set kafka.brokers={} LOG.parquet",
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
    let mut connection = match TopicConnection::open(&kafka, &brokers, context.stop.flag()) {
        Err(error @ SourceError::Kafka(KafkaSourceError::Stopped { .. })) => {
            // As told, and nothing was begun.
            tracing::info!("{error}");
            return Ok(());
        }
        connected => connected?,
    };
    // Begun anew it is the same worker, which reads its own once more.
    let known_as = if options.fresh { last_name(config) } else { String::new() };
    let mut restored = Restored::find_own(config, options.fresh, |manifest, fallen_back| match embedded {
        Some(_) => Ok(()),
        None => {
            let known = ResumeState { positions: &manifest.positions, ownerships: &manifest.ownerships };
            connection.verify_ownership(known, fallen_back)
        }
    })?;
    if let Some(checkpoint) = &restored.checkpoint {
        context.restore_page(checkpoint);
    }
    let log = if config.share.is_on() { Some(share(config, &brokers, &mut restored, &mut connection)?) } else { None };
    let SourceProgress { positions, ownerships, shared, .. } = &mut restored.state.sources;
    if embedded.is_some() {
        // Its logs begin with this process, so no earlier position means anything in them.
        for topic in kafka.topic_names() {
            let prefix = stream_prefix(topic);
            positions.forget(&prefix);
            ownerships.forget(&prefix);
            ownerships.forget_topic(topic);
        }
    }
    let cuts = match shared {
        // The log says what is part of the model, and its deltas what was learnt of it.
        Some(_) => Vec::new(),
        None => {
            connection.go_back(positions, ownerships, restored.fallen_back);
            // Under the name that it had when it died.
            connection.cuts_since(&ownerships.worker, restored.state.progress.events.read)
        }
    };
    let name = name_of_worker(&kafka, &[&ownerships.worker, &known_as]);
    connection.verify_identity(ownerships, &name)?;
    ownerships.rename(&name);
    if embedded.is_none() {
        for (topic, identity) in connection.identities() {
            ownerships.set_topic(topic, identity.clone());
        }
    }
    context.telemetry.emit(LifecycleEvent::Restored);
    let until = if options.until_end { Until::End } else { Until::Stopped };
    let positions = shared.as_ref().map_or(&*positions, |shared| &shared.histories);
    let mut source = connection.into_source(decoders, ResumeState { positions, ownerships }, until)?;
    if embedded.is_some() {
        source.tell_producers();
    }
    let dead_letters = match config.kafka.dead_letter_topic.as_str() {
        "" => DeadLetters::None,
        _ => DeadLetters::Topic(DeadLetterTopic::open(&kafka, &brokers, config.source.format, context.stop.clone())?),
    };
    let mut observer = RunObserver::new(context.telemetry.clone(), &config.log, &restored.state);
    observer.show_lag(source.lag_probe());
    let mut pipeline = Pipeline::builder(config);
    if let Some(log) = log {
        let first = format!("{}0", stream_prefix(kafka.topic_names()[0]));
        pipeline = pipeline.log(log, first);
    }
    let mut pipeline = pipeline
        .restored(restored)
        .catalogue(catalogue)
        .dead_letters(dead_letters)
        .stop(context.stop.clone())
        .live(!options.until_end)
        .cuts(cuts)
        .checkpoint_requests(context.requests.clone())
        .views(context.views.clone())
        .side_file(context.page_file())
        .build()?;
    context.telemetry.emit(LifecycleEvent::SourceOpened);
    let reason = pipeline.run_observed(source, &mut |trainer, event| observer.observe(trainer, event))?;
    if reason == StopReason::Stopped {
        tracing::info!("stopped by a signal");
    }
    context.conclude(&pipeline, &mut observer, &options.output)
}

/// Makes the restored state one of those that share the model of `share.topic`, and has partitions begin by it.
fn share(
    config: &Config,
    brokers: &str,
    restored: &mut Restored,
    connection: &mut TopicConnection,
) -> anyhow::Result<DeltaLog> {
    let topic = LogTopic::open(&config.share, &config.kafka, brokers).map_err(SourceError::from)?;
    restored.share(config, &topic).map_err(SourceError::from)?;
    let next = restored.state.sources.shared.as_ref().map_or(0, |shared| shared.ledger.next);
    let (name, reread) = (topic.name().to_owned(), config.share.reread);
    let log = topic.read_from(next).map_err(SourceError::from)?;
    connection.share(SharedStarts { view: Arc::clone(log.view()), topic: name, reread });
    Ok(log)
}

/// Most features of an event that the model has a use for.
fn most_features(config: &Config) -> usize {
    if config.features.buckets > 0 { MOST_OF_EVENT } else { 0 }
}

/// The worker's name in its group: as configured, as it was `known` before, or one that nobody else has.
fn name_of_worker(kafka: &KafkaConfig, known: &[&str]) -> String {
    let mut names = std::iter::once(kafka.group_instance_id.as_str()).chain(known.iter().copied());
    names.find(|name| !name.is_empty()).map_or_else(|| format!("negstream-{}", random_id()), str::to_owned)
}

/// The name of the worker whose checkpoints there are; empty where there is none that can be read.
fn last_name(config: &Config) -> String {
    let newest = Checkpoint::open_with(&config.checkpoint.dir, &config.checkpoint);
    newest.map(|newest| newest.manifest().ownerships.worker.clone()).unwrap_or_default()
}
