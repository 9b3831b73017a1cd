//! The consumer of the topics, with what every use of it needs: its configuration, its log of trouble, and when it was
//! last polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};

use super::errors::KafkaSourceError;
use super::group::rebalance::ConsumerCallbacks;
use super::partitions::offset_in_list;
use super::startup::Watermarks;
use super::topic_partition::{TopicPartition, list_of};
use crate::kafka::{ClientFailure, KafkaConfig, LogThrottle, describe};
use crate::source::transient_errors::TRANSIENT_ERRORS;

/// librdkafka's consumer with the callbacks of this source.
pub(super) type TopicConsumer = BaseConsumer<ConsumerCallbacks>;

/// Longest wait for a broker's answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

/// A consumer of the topics of a configuration.
pub(super) struct TopicClient {
    pub(super) consumer: Arc<TopicConsumer>,
    pub(super) config: KafkaConfig,
    pub(super) brokers: String,
    /// Present while the brokers are in trouble.
    trouble: Option<LogThrottle>,
    last_poll: Instant,
    /// Longest time between two polls: a third of the interval after which the group gives a member up.
    poll_interval: Duration,
}

impl TopicClient {
    pub(super) fn new(consumer: Arc<TopicConsumer>, config: KafkaConfig, brokers: String) -> Self {
        let interval = config.properties.get("max.poll.interval.ms").and_then(|interval| interval.parse().ok());
        let poll_interval = Duration::from_millis(interval.unwrap_or(MAX_POLL_INTERVAL_MS) / 3);
        Self { consumer, config, brokers, trouble: None, last_poll: Instant::now(), poll_interval }
    }

    /// The topics, for a message.
    pub(super) fn topics(&self) -> String {
        name_topics(&self.config)
    }

    pub(super) fn callbacks(&self) -> &ConsumerCallbacks {
        self.consumer.context()
    }

    /// Whether the client has to be polled for the group's sake.
    pub(super) fn is_poll_due(&self) -> bool {
        self.last_poll.elapsed() > self.poll_interval
    }

    /// Notes that the client is polled now.
    pub(super) fn note_poll(&mut self) {
        self.last_poll = Instant::now();
    }

    /// Counts an error of the brokers, and logs it now and then.
    pub(super) fn note_trouble(&mut self, cause: &str) {
        TRANSIENT_ERRORS.increment();
        if self.trouble.get_or_insert_default().due() {
            tracing::warn!(brokers = self.brokers, cause, "kafka is in trouble; waiting");
        }
    }

    /// Logs that the brokers answer, where they did not before.
    pub(super) fn note_answer(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("kafka answers again");
        }
    }

    /// The offsets that a partition holds.
    pub(super) fn watermarks(&self, partition: &TopicPartition) -> KafkaResult<Watermarks> {
        let (low, high) = self.consumer.fetch_watermarks(&partition.topic, partition.id, REQUEST_TIMEOUT)?;
        Ok(Watermarks::new(partition.id, low, high))
    }

    /// Makes `offset` the next one that is fetched of a partition.
    pub(super) fn seek(&self, partition: &TopicPartition, offset: u64) -> KafkaResult<()> {
        self.consumer.seek(&partition.topic, partition.id, offset_in_list(offset), REQUEST_TIMEOUT)
    }

    /// Stops fetching the partitions of `list`; only spares the network and memory, since the source ignores records of
    /// partitions that it does not read.
    pub(super) fn pause(&self, list: &TopicPartitionList) {
        if list.count() > 0
            && let Err(error) = self.consumer.pause(list)
        {
            tracing::debug!(%error, "partitions were not paused");
        }
    }

    /// Fetches the partitions of `list` again.
    pub(super) fn resume(&self, list: &TopicPartitionList) {
        if list.count() > 0
            && let Err(error) = self.consumer.resume(list)
        {
            tracing::debug!(%error, "partitions were not resumed");
        }
    }

    /// Fetches the partitions of `list` and no others, each from its offset on; leaves all as it is where there are none.
    ///
    /// # Errors
    /// The client refuses.
    pub(super) fn assign(&self, list: &TopicPartitionList) -> Result<(), KafkaSourceError> {
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer.assign(list).map_err(|error| self.error("no assignment", error))
    }

    /// Fetches the partitions of `list` too, each from its offset on.
    ///
    /// # Errors
    /// The client refuses.
    pub(super) fn assign_more(&self, list: &TopicPartitionList) -> Result<(), KafkaSourceError> {
        self.consumer.incremental_assign(list).map_err(|error| self.error("no assignment", error))
    }

    /// Answers an assignment without fetching its partitions: until the group says more, they are nobody's.
    pub(super) fn assign_without_fetching(&self, partitions: &[TopicPartition]) {
        let mut list = list_of(partitions);
        let _ = list.set_all_offsets(rdkafka::Offset::End);
        if let Err(error) = self.consumer.incremental_assign(&list) {
            tracing::debug!(%error, "no assignment");
        }
    }

    /// Stops fetching partitions that another worker may read.
    pub(super) fn unassign(&self, partitions: &[TopicPartition]) {
        if let Err(error) = self.consumer.incremental_unassign(&list_of(partitions)) {
            tracing::warn!(cause = describe(&error), "partitions were not let go of");
        }
    }

    /// The final error for an error of the client.
    pub(super) fn error(&self, doing: &str, error: KafkaError) -> KafkaSourceError {
        KafkaSourceError::Client {
            brokers: self.brokers.clone(),
            doing: doing.to_owned(),
            source: ClientFailure::from(error),
        }
    }
}

/// The topics of a configuration, for a message.
pub(super) fn name_topics(config: &KafkaConfig) -> String {
    match config.topic_names().as_slice() {
        [topic] => format!("topic '{topic}'"),
        topics => format!("topics '{}'", topics.join("', '")),
    }
}
