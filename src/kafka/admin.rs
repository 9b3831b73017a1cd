//! Topics: create what is missing, list partitions.
//!
//! Nothing here changes or deletes a topic that exists. The broker inside the process cannot create topics over the
//! protocol; see [`super::embedded`].

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::{ClientCallbacks, ClientError, ClientFailure, admin_properties, create};
use crate::kafka::KafkaConfig;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long until a topic that was created is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether a topic had to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCreation {
    /// The topic is new.
    Created,
    /// The topic was there before.
    Existed,
}

/// Creates `topic` with `kafka.partitions` partitions (and the broker's own replication) unless there is one.
///
/// # Errors
/// If the broker cannot be reached or refuses.
pub fn ensure_topic(config: &KafkaConfig, brokers: &str, topic: &str) -> Result<TopicCreation, ClientError> {
    ensure_topic_with(config, brokers, topic, config.partitions, &[])
}

/// Creates `topic` with so many partitions and these properties, unless there is one, which then is left as it is.
///
/// # Errors
/// If the broker cannot be reached or refuses.
pub(crate) fn ensure_topic_with(
    config: &KafkaConfig,
    brokers: &str,
    topic: &str,
    n_partitions: i32,
    properties: &[(&str, &str)],
) -> Result<TopicCreation, ClientError> {
    let doing = || format!("topic '{topic}' cannot be created");
    if partitions(config, brokers, topic)?.is_some() {
        return Ok(TopicCreation::Existed);
    }
    let wanted = NewTopic::new(topic, n_partitions, TopicReplication::Fixed(-1));
    let wanted = properties.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value));
    let results = ask(config, brokers, doing(), async |admin, options| admin.create_topics([&wanted], options).await)?;
    match results.into_iter().next() {
        // It was not there a moment ago: a request whose answer was late was sent twice.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)) | Ok(_)) | None => {}
        Some(Err((_, code))) => return Err(ClientError::failed(brokers, doing(), code)),
    }
    // Brokers hear of a new topic a little later than it is confirmed, and whoever asks next must find it.
    let deadline = Instant::now() + PATIENCE;
    while partitions(config, brokers, topic)?.is_none() && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(TopicCreation::Created)
}

/// The value of a property of `topic`; `None` where brokers of this age do not know it.
///
/// # Errors
/// If the broker cannot be reached or refuses to say.
pub(crate) fn topic_property(
    config: &KafkaConfig,
    brokers: &str,
    topic: &str,
    property: &str,
) -> Result<Option<String>, ClientError> {
    let doing = || format!("the properties of topic '{topic}' cannot be looked up");
    let described = ask(config, brokers, doing(), async |admin, options| {
        admin.describe_configs([&ResourceSpecifier::Topic(topic)], options).await
    })?;
    match described.into_iter().next() {
        Some(Ok(resource)) => Ok(resource.get(property).and_then(|entry| entry.value.clone())),
        Some(Err(code)) => Err(ClientError::failed(brokers, doing(), code)),
        None => Ok(None),
    }
}

/// Sends a request to a broker, and waits for the answer; `doing` is what an error says of it.
fn ask<T>(
    config: &KafkaConfig,
    brokers: &str,
    doing: String,
    request: impl AsyncFnOnce(&AdminClient<ClientCallbacks>, &AdminOptions) -> KafkaResult<T>,
) -> Result<T, ClientError> {
    let client = admin_properties(config, brokers)?;
    let admin: AdminClient<ClientCallbacks> = create(brokers, client.create_with_context(ClientCallbacks::default()))?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime
            .block_on(request(&admin, &options))
            .map_err(|error| ClientError::failed(brokers, doing, ClientFailure::from(error))),
        Err(error) => Err(ClientError::failed(brokers, doing, error)),
    }
}

/// The partitions of `topic`, ascending; `None` where there is no such topic.
///
/// # Errors
/// If the broker cannot be reached or refuses.
pub fn partitions(config: &KafkaConfig, brokers: &str, topic: &str) -> Result<Option<Vec<i32>>, ClientError> {
    partitions_within(config, brokers, topic, PATIENCE)
}

/// The partitions of `topic`, ascending, for which the brokers are asked for so long; `None` where there is no such topic.
///
/// # Errors
/// If no broker answers, or one refuses.
pub fn partitions_within(
    config: &KafkaConfig,
    brokers: &str,
    topic: &str,
    patience: Duration,
) -> Result<Option<Vec<i32>>, ClientError> {
    let client = admin_properties(config, brokers)?;
    // A consumer without a group: it asks for metadata and never creates the topic by asking.
    let consumer: BaseConsumer<ClientCallbacks> =
        create(brokers, client.create_with_context(ClientCallbacks::default()))?;
    let doing = || format!("topic '{topic}' cannot be looked up");
    let deadline = Instant::now() + patience;
    let metadata = loop {
        let error = match consumer.fetch_metadata(Some(topic), Duration::from_secs(1)) {
            Ok(metadata) => break metadata,
            Err(error) => error,
        };
        // Why the brokers refuse us is told on the side, to whoever asks for it.
        let _ = consumer.poll(Duration::from_millis(100));
        if let Some(cause) = consumer.context().refusal() {
            return Err(ClientError::failed(brokers, doing(), cause));
        }
        if Instant::now() >= deadline {
            return Err(ClientError::failed(brokers, doing(), ClientFailure::from(error)));
        }
    };
    partitions_of(&metadata, topic).map_err(|code| ClientError::failed(brokers, doing(), code))
}

/// The partitions of `topic` in `metadata`, ascending; `None` where there is no such topic.
pub(crate) fn partitions_of(metadata: &Metadata, topic: &str) -> Result<Option<Vec<i32>>, RDKafkaErrorCode> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {
            let mut partitions: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
            partitions.sort_unstable();
            Ok((!partitions.is_empty()).then_some(partitions))
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(code),
    }
}
