//! What committed transactions have left in a topic, read from a place to its end.
//!
//! The end is that of the last transaction before the first that is still open: what a producer that was killed has left
//! open is not seen, and hides what others wrote behind it until the brokers, or its successor, end it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::admin::partitions_of;
use super::{ClientCallbacks, ClientError, KafkaConfig, consumer_properties, create};

/// How long one look for records takes.
const LOOK: Duration = Duration::from_millis(100);
/// How long until an end that has not moved is asked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Offsets before the end of a partition at which its newest record is looked for first.
const TAIL: i64 = 64;

/// A client that reads committed records.
pub(crate) struct CommittedReader {
    consumer: BaseConsumer<ClientCallbacks>,
    brokers: String,
    timeout: Duration,
}

impl std::fmt::Debug for CommittedReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CommittedReader").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl CommittedReader {
    /// A client of `brokers`, each of which may take `timeout` to answer; none is asked yet.
    ///
    /// # Errors
    /// A property that is refused.
    pub(crate) fn open(config: &KafkaConfig, brokers: &str, timeout: Duration) -> Result<Self, ClientError> {
        let mut client = consumer_properties(config, brokers)?;
        client.set("isolation.level", "read_committed");
        // An end is told by an answer without records.
        client.set("fetch.wait.max.ms", "10");
        let consumer = create(brokers, client.create_with_context(ClientCallbacks::default()))?;
        Ok(Self { consumer, brokers: brokers.to_owned(), timeout })
    }

    /// The partitions of `topic`, ascending; `None` where there is no such topic.
    ///
    /// # Errors
    /// Where brokers do not answer, or refuse.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Option<Vec<i32>>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let error = match self.consumer.fetch_metadata(Some(topic), self.timeout.min(Duration::from_secs(1))) {
                Ok(metadata) => {
                    let found = partitions_of(&metadata, topic);
                    return found.map_err(|code| self.failed(topic, KafkaError::MetadataFetch(code)));
                }
                Err(error) => error,
            };
            // Why the brokers refuse us is told on the side, to whoever asks for it.
            let _ = self.consumer.poll(LOOK);
            if self.consumer.context().refusal().is_some() || Instant::now() >= deadline {
                return Err(self.failed(topic, error));
            }
        }
    }

    /// Where a partition ends for readers of committed records.
    ///
    /// # Errors
    /// Where brokers do not answer, or refuse.
    pub(crate) fn end(&self, topic: &str, partition: i32) -> Result<i64, ClientError> {
        self.ends(topic, partition).map(|(_, end)| end)
    }

    fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), ClientError> {
        self.consumer.fetch_watermarks(topic, partition, self.timeout).map_err(|error| self.failed(topic, error))
    }

    /// Waits until readers of committed records see the partition up to `end`: brokers confirm a transaction a moment
    /// before they show it.
    ///
    /// # Errors
    /// Where that takes longer than the timeout, or brokers refuse.
    pub(crate) fn await_end(&self, topic: &str, partition: i32, end: i64) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.timeout;
        while self.end(topic, partition)? < end {
            if Instant::now() >= deadline {
                return Err(self.silent(topic));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Shows `visit` every committed record of these partitions, each in its order.
    ///
    /// # Errors
    /// Where brokers do not answer, or refuse.
    pub(crate) fn read(
        &self,
        topic: &str,
        partitions: &[i32],
        visit: &mut dyn FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let places: Vec<(i32, Offset)> = partitions.iter().map(|partition| (*partition, Offset::Beginning)).collect();
        self.read_from(topic, &places, visit)
    }

    /// The newest committed value of a partition; `None` where it has none.
    ///
    /// # Errors
    /// Where brokers do not answer, or refuse.
    pub(crate) fn newest(&self, topic: &str, partition: i32) -> Result<Option<Vec<u8>>, ClientError> {
        let (begin, end) = self.ends(topic, partition)?;
        let mut tail = TAIL;
        loop {
            let from = begin.max(end - tail);
            let mut newest = None;
            if from < end {
                let place = [(partition, Offset::Offset(from))];
                self.read_from(topic, &place, &mut |record| newest = record.payload().map(<[u8]>::to_vec))?;
            }
            if newest.is_some() || from == begin {
                return Ok(newest);
            }
            tail *= 16;
        }
    }

    fn read_from(
        &self,
        topic: &str,
        places: &[(i32, Offset)],
        visit: &mut dyn FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let mut assigned = TopicPartitionList::new();
        for (partition, offset) in places {
            let added = assigned.add_partition_offset(topic, *partition, *offset);
            added.map_err(|error| self.failed(topic, error))?;
        }
        self.consumer.assign(&assigned).map_err(|error| self.failed(topic, error))?;
        let read = self.until_ends(topic, places, visit);
        let left = self.consumer.unassign().map_err(|error| self.failed(topic, error));
        read.and(left)
    }

    fn until_ends(
        &self,
        topic: &str,
        places: &[(i32, Offset)],
        visit: &mut dyn FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let mut open: BTreeSet<i32> = places.iter().map(|(partition, _)| *partition).collect();
        let mut deadline = Instant::now() + self.timeout;
        while !open.is_empty() {
            match self.consumer.poll(LOOK) {
                Some(Ok(record)) => {
                    visit(&record);
                    deadline = Instant::now() + self.timeout;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                // Whatever passes by itself ends with a record, and what does not with the deadline.
                Some(Err(error)) if Instant::now() >= deadline => return Err(self.failed(topic, error)),
                Some(Err(_)) => {}
                None if Instant::now() >= deadline => return Err(self.silent(topic)),
                None => {}
            }
            if let Some(cause) = self.consumer.context().refusal() {
                return Err(ClientError::failed(&self.brokers, doing(topic), cause));
            }
        }
        Ok(())
    }

    fn silent(&self, topic: &str) -> ClientError {
        let cause = format!("no answer within {} ms", self.timeout.as_millis());
        ClientError::failed(&self.brokers, doing(topic), cause)
    }

    fn failed(&self, topic: &str, error: KafkaError) -> ClientError {
        let reports = self.consumer.context();
        let cause = reports.refusal().unwrap_or_else(|| reports.explain(error, self.timeout));
        ClientError::failed(&self.brokers, doing(topic), cause)
    }

    /// Whether brokers refused us for who we are.
    pub(crate) fn is_refused(&self) -> bool {
        self.consumer.context().refusal().is_some()
    }
}

fn doing(topic: &str) -> String {
    format!("topic '{topic}' cannot be read")
}
