//! The pace of a producer into an embedded broker: that one keeps a few megabytes of each partition and drops older records,
//! so that a producer must not run far ahead of the worker that reads them.
//!
//! The worker with the broker in its process commits where it reads; here that is looked at.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::admin::partitions;
use super::{ClientCallbacks, ClientError, ClientFailure, admin_properties, create};
use crate::kafka::KafkaConfig;

/// Records between two looks, at most.
const RECORDS_PER_LOOK: u64 = 500;
/// Bytes between two looks, at most.
const BYTES_PER_LOOK: u64 = 256 << 10;
/// The most bytes that wait to be read, about: the broker keeps 5 MiB of a partition.
const MOST_WAITING: u64 = 1 << 20;
/// The most records that wait to be read: it keeps 100,000 of a partition.
const MOST_RECORDS_WAITING: u64 = 20_000;
/// Time between two looks while there is no room.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long it may take until anything is read.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What the ids of embedded clusters begin with.
const EMBEDDED_CLUSTER: &str = "mock";

/// What a producer into an embedded broker goes by.
pub(crate) struct EmbeddedPace {
    consumer: BaseConsumer<ClientCallbacks>,
    brokers: String,
    topic: String,
    group: String,
    partitions: Vec<i32>,
    /// What was sent at the last look: records, bytes.
    looked_at: (u64, u64),
}

impl EmbeddedPace {
    /// The pace for the brokers of `config`; `None` where they are real ones.
    ///
    /// # Errors
    /// Brokers that do not answer.
    pub(crate) fn of(config: &KafkaConfig) -> Result<Option<Self>, ClientError> {
        let brokers = config.brokers.clone();
        let mut properties = admin_properties(config, &brokers)?;
        properties.set("group.id", &config.group);
        let consumer: BaseConsumer<ClientCallbacks> =
            create(&brokers, properties.create_with_context(ClientCallbacks::default()))?;
        let cluster = consumer.client().fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_default();
        if !cluster.starts_with(EMBEDDED_CLUSTER) {
            return Ok(None);
        }
        let partitions = partitions(config, &brokers, &config.topic)?.unwrap_or_default();
        let (topic, group) = (config.topic.clone(), config.group.clone());
        Ok(Some(Self { consumer, brokers, topic, group, partitions, looked_at: (0, 0) }))
    }

    /// Whether it is time to look, after so many `records` with so many `bytes` in all. What was sent has to be with the
    /// broker before [`Self::wait`].
    pub(crate) fn is_look_due(&self, records: u64, bytes: u64) -> bool {
        records - self.looked_at.0 >= RECORDS_PER_LOOK || bytes - self.looked_at.1 >= BYTES_PER_LOOK
    }

    /// Waits until there is room for more, after so many `records` with so many `bytes` in all, or until `stopped`.
    ///
    /// # Errors
    /// Nobody reads the topic, or the broker is gone.
    pub(crate) fn wait(&mut self, records: u64, bytes: u64, stopped: impl Fn() -> bool) -> Result<(), ClientError> {
        self.looked_at = (records, bytes);
        let average = (bytes / records.max(1)).max(1);
        let most = (MOST_WAITING / average).clamp(1, MOST_RECORDS_WAITING);
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let waiting = self.waiting()?;
            if waiting <= most || stopped() {
                return Ok(());
            }
            if waiting < least {
                (least, since) = (waiting, Instant::now());
            } else if since.elapsed() > PATIENCE {
                let problem = format!(
                    "{waiting} records wait, and no worker of the group '{}' reads them; an embedded broker keeps a few \
                     megabytes, and would drop what is sent now",
                    self.group
                );
                return Err(ClientError::failed(&self.brokers, format!("topic '{}'", self.topic), problem));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Records that nobody has read yet.
    fn waiting(&self) -> Result<u64, ClientError> {
        let failed =
            |error| ClientError::failed(&self.brokers, format!("topic '{}'", self.topic), ClientFailure::from(error));
        let mut asked = TopicPartitionList::new();
        let mut highs = Vec::with_capacity(self.partitions.len());
        for id in &self.partitions {
            asked.add_partition(&self.topic, *id);
            highs.push(self.consumer.fetch_watermarks(&self.topic, *id, REQUEST_TIMEOUT).map_err(failed)?.1);
        }
        let committed = self.consumer.committed_offsets(asked, REQUEST_TIMEOUT).map_err(failed)?;
        let waiting = |(id, high): (&i32, i64)| {
            let read = committed.find_partition(&self.topic, *id).and_then(|element| element.offset().to_raw());
            u64::try_from(high - read.unwrap_or(0).max(0)).unwrap_or(0)
        };
        Ok(self.partitions.iter().zip(highs).map(waiting).sum())
    }
}
