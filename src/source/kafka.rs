//! Kafka: every partition of one topic, read by one consumer.
//!
//! | question | answer |
//! | --- | --- |
//! | where does a partition begin | at its position; where the topic was never read, at `kafka.start`; where other partitions of the topic were read before, it is a new one and begins at its oldest record |
//! | a position that is not there | [`SourceError::PositionLost`], at open and at run time; never a jump |
//! | brokers away | waited for, and logged every few seconds |
//! | records that arrive damaged | the end: librdkafka would skip them |
//! | gaps in the offsets (transactions, compaction) | are no records; [`Until::End`] does not wait for them |
//! | a record at an offset that was passed already | dropped and logged, never delivered twice |
//!
//! Partitions are assigned by hand: no rebalance can take one away. Offsets are committed to `kafka.group` after the
//! state that holds them is durable, for lag monitors only, and are never read back. What it deliberately does not do:
//! look at the timestamps of messages, or take up partitions that are added while it runs (it says so, and reads them
//! from their beginning after the next start).

mod opening;
mod watermarks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};

use super::{EventSource, SourceError, Status};
use crate::config::KafkaConfig;
use crate::decode::Decoder;
use crate::event::Record;
use crate::kafka::{ClientError, Reminder, Reports, words};
use crate::position::{Positions, Stream};
use opening::{Marks, Opening};
pub use watermarks::HighWatermarks;
use watermarks::Watcher;

/// Most records of a block.
const BLOCK_RECORDS: usize = 4096;
/// Most bytes of payload of a block, give or take one record.
const BLOCK_BYTES: usize = 8 << 20;
/// Longest wait for the first record of a block.
const BLOCK_WAIT: Duration = Duration::from_millis(100);
/// Longest wait at the end, for the last commit and for taking leave of the brokers.
const CLOSING: Duration = Duration::from_secs(3);
/// Longest wait for a broker's answer about a position that was lost.
const ASKING: Duration = Duration::from_secs(5);

type Client = BaseConsumer<Reports>;

/// How far a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For ever: there is always more to come.
    Stopped,
    /// Up to the ends that the partitions had when the source was opened; nothing beyond is delivered.
    End,
}

/// The records of a topic.
pub struct KafkaSource {
    /// Present until the source is dropped.
    consumer: Option<Arc<Client>>,
    brokers: String,
    topic: String,
    decoder: Decoder,
    /// A message that could not be decoded yet: it goes before all others.
    undecoded: Option<OwnedMessage>,
    /// By the number of the partition; the index is [`Record::stream`].
    partitions: Vec<Partition>,
    starts: Positions,
    watermarks: Arc<HighWatermarks>,
    watcher: Watcher,
    committed: Option<TopicPartitionList>,
    trouble: Option<Reminder>,
    backward: Reminder,
}

/// What is known of a partition.
#[derive(Debug)]
struct Partition {
    id: i32,
    stream: Stream,
    /// The offset after the last record that was delivered.
    next: u64,
    /// The first offset that is not delivered any more.
    end: Option<u64>,
    done: bool,
}

impl KafkaSource {
    /// Opens the topic of `config` at `positions` (which may hold other streams too). Waits for brokers that are away
    /// until `stop` is set.
    ///
    /// # Errors
    /// A topic that does not exist, a position that is lost, a property that is refused, or brokers that refuse us.
    pub fn open(
        config: &KafkaConfig,
        brokers: &str,
        decoder: Decoder,
        positions: &Positions,
        until: Until,
        stop: &AtomicBool,
    ) -> Result<Self, SourceError> {
        let client = crate::kafka::consumer_properties(config, brokers)
            .and_then(|client| crate::kafka::create(brokers, client.create_with_context(Reports::default())))
            .map_err(|error| source_error(brokers, error))?;
        let consumer: Arc<Client> = Arc::new(client);
        let mut opening = Opening::new(&consumer, brokers, &config.topic, stop);
        let marks = opening.watermarks()?;
        let starts = opening::starts(&config.topic, config.start, positions, &marks)?;
        let partitions: Vec<Partition> =
            marks.iter().zip(&starts).map(|(marks, start)| partition(&config.topic, *marks, *start, until)).collect();
        assign(&consumer, &config.topic, &partitions).map_err(|error| kafka(brokers, "no assignment", &error))?;
        let mut started = Positions::default();
        for partition in &partitions {
            started.advance(&partition.stream.name, partition.next);
            tracing::info!(partition = partition.stream.label, offset = partition.next, end = partition.end, "reading");
        }
        let ids = partitions.iter().map(|partition| partition.id).collect();
        let watermarks = Arc::new(HighWatermarks::new(marks.iter().map(|marks| marks.high)));
        let watcher = Watcher::start(Arc::clone(&consumer), config.topic.clone(), ids, Arc::clone(&watermarks));
        Ok(Self {
            consumer: Some(consumer),
            brokers: brokers.to_owned(),
            topic: config.topic.clone(),
            decoder,
            undecoded: None,
            partitions,
            starts: started,
            watermarks,
            watcher,
            committed: None,
            trouble: None,
            backward: Reminder::default(),
        })
    }

    /// Where each partition begins. To be taken over into the positions of the very first checkpoint: a partition of
    /// which nothing was read before it would be taken for a new one afterwards, and `kafka.start = "latest"` be
    /// forgotten.
    pub fn starts(&self) -> &Positions {
        &self.starts
    }

    /// One past the newest offset of each partition, kept up to date while the source lives; for any thread.
    pub fn high_watermarks(&self) -> Arc<HighWatermarks> {
        Arc::clone(&self.watermarks)
    }

    /// Appends what a message holds; `false` where it cannot be decoded yet: then it has to be taken again.
    fn take(&mut self, message: &impl Message, block: &mut Vec<Record>) -> bool {
        let Some(index) = self.index(message.partition()) else { return true };
        let partition = &mut self.partitions[index];
        // Offsets of records are never negative.
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        if partition.end.is_some_and(|end| offset >= end) {
            self.finish(index);
            return true;
        }
        if offset < partition.next {
            if self.backward.due() {
                let (partition, expected) = (&partition.stream.label, partition.next);
                tracing::error!(partition, offset, expected, "kafka went backwards; the record is dropped");
            }
            return true;
        }
        let Some(outcome) = self.decoder.decode(message.key(), message.payload()) else { return false };
        partition.next = offset + 1;
        self.watermarks.raise(index, offset + 1);
        block.push(Record { stream: index as u32, offset, outcome });
        if partition.end.is_some_and(|end| offset + 1 >= end) {
            self.finish(index);
        }
        if self.trouble.take().is_some() {
            tracing::info!("kafka answers again");
        }
        true
    }

    fn index(&self, id: i32) -> Option<usize> {
        self.partitions.binary_search_by_key(&id, |partition| partition.id).ok()
    }

    /// Marks a partition as read to its declared end.
    fn finish(&mut self, index: usize) {
        let partition = &mut self.partitions[index];
        if partition.end.is_none() || std::mem::replace(&mut partition.done, true) {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition.id);
        if let Some(consumer) = &self.consumer {
            // Only spares the network: what still comes is not delivered.
            let _ = consumer.pause(&list);
        }
    }

    fn all_done(&self) -> bool {
        self.partitions.iter().all(|partition| partition.done)
    }

    /// What an error of the consumer means: nothing, something to wait for, or the end.
    fn weigh(&mut self, consumer: &Client, error: &KafkaError) -> Result<(), SourceError> {
        if let KafkaError::PartitionEOF(id) = error {
            if let Some(index) = self.index(*id) {
                self.finish(index);
            }
            return Ok(());
        }
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let said = consumer.context().words_for(code).unwrap_or_else(|| words(error));
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match if fatal { Verdict::Final } else { verdict(code) } {
            Verdict::OutOfRange => Err(self.position_lost(consumer, &said)),
            Verdict::Final => Err(SourceError::Kafka {
                brokers: self.brokers.clone(),
                cause: format!("topic '{}': {said}", self.topic),
            }),
            Verdict::Transient => {
                crate::telemetry::metrics::record_source_error();
                if self.trouble.get_or_insert_default().due() {
                    tracing::warn!(brokers = self.brokers, cause = said, "kafka is in trouble; waiting");
                }
                Ok(())
            }
        }
    }

    /// Finds out which position was lost; Kafka's error does not tell.
    fn position_lost(&self, consumer: &Client, said: &str) -> SourceError {
        for partition in &self.partitions {
            let Ok((low, high)) = consumer.fetch_watermarks(&self.topic, partition.id, ASKING) else { continue };
            let marks = Marks::new(partition.id, low, high);
            if !partition.done && !marks.hold(partition.next) {
                return opening::lost(&partition.stream.label, partition.next, marks);
            }
        }
        let cause = format!("topic '{}': a position is not there any more: {said}", self.topic);
        SourceError::Kafka { brokers: self.brokers.clone(), cause }
    }
}

impl EventSource for KafkaSource {
    fn streams(&self) -> Vec<Stream> {
        self.partitions.iter().map(|partition| partition.stream.clone()).collect()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<Status, SourceError> {
        let Some(consumer) = self.consumer.clone() else { return Ok(Status::End) };
        if let Some(message) = self.undecoded.take()
            && !self.take(&message, block)
        {
            self.undecoded = Some(message);
            return Ok(Status::Idle);
        }
        let deadline = Instant::now() + BLOCK_WAIT;
        let (first, mut bytes) = (block.len(), 0);
        while !self.all_done() && block.len() - first < BLOCK_RECORDS && bytes < BLOCK_BYTES {
            // Waits for the first record only: those that are there already must not grow old.
            let wait =
                if block.len() > first { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    bytes += message.payload_len() + message.key_len();
                    if !self.take(&message, block) {
                        self.undecoded = Some(message.detach());
                        break;
                    }
                }
                Some(Err(error)) => self.weigh(&consumer, &error)?,
                None if block.len() > first || Instant::now() >= deadline => break,
                None => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        match () {
            () if self.all_done() => Ok(Status::End),
            () if block.len() > first => Ok(Status::More),
            () => Ok(Status::Idle),
        }
    }

    fn acknowledge(&mut self, durable: &Positions) {
        let Some(consumer) = &self.consumer else { return };
        let mut offsets = TopicPartitionList::new();
        for partition in &self.partitions {
            let Some(next) = durable.next(&partition.stream.name) else { continue };
            let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
            if let Err(error) = offsets.add_partition_offset(&self.topic, partition.id, offset) {
                tracing::warn!(
                    partition = partition.stream.label,
                    cause = words(&error),
                    "an offset cannot be committed"
                );
            }
        }
        if offsets.count() == 0 || self.committed.as_ref() == Some(&offsets) {
            return;
        }
        match consumer.commit(&offsets, CommitMode::Async) {
            Ok(()) => consumer.context().commit_begins(),
            Err(error) => tracing::warn!(cause = words(&error), "offsets were not committed to the group"),
        }
        self.committed = Some(offsets);
    }
}

impl Drop for KafkaSource {
    /// Passes on the last commit and takes leave of the brokers, within a deadline: brokers that are away must not keep
    /// the process from ending.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let committed = self.committed.take();
        let watcher = self.watcher.stop();
        let (done, closed) = bounded::<()>(1);
        let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            if let Some(offsets) = committed.filter(|_| consumer.context().commits_in_flight() > 0)
                && let Err(error) = consumer.commit(&offsets, CommitMode::Sync)
            {
                tracing::warn!(cause = words(&error), "the last offsets were not committed to the group");
            }
            watcher.join();
            drop(consumer);
            drop(done);
        });
        if closing.is_ok() && closed.recv_timeout(CLOSING) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(brokers = self.brokers, "the brokers do not answer; left without a last commit");
        }
    }
}

/// What to do about an error of the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    OutOfRange,
    Final,
    Transient,
}

fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Verdict::OutOfRange,
        // The topic is gone, or closed to us.
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::TopicAuthorizationFailed => Verdict::Final,
        // After these librdkafka goes on behind the records that it could not read: going on would lose them.
        Code::BadMessage
        | Code::BadCompression
        | Code::NotImplemented
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::UnsupportedCompressionType
        | Code::MessageSizeTooLarge => Verdict::Final,
        _ => Verdict::Transient,
    }
}

fn partition(topic: &str, marks: Marks, start: u64, until: Until) -> Partition {
    let end = (until == Until::End).then_some(marks.high);
    Partition {
        id: marks.id,
        stream: Stream { name: opening::stream_name(topic, marks.id), label: format!("{topic}/{}", marks.id) },
        next: start,
        end,
        done: end.is_some_and(|end| start >= end),
    }
}

fn assign(consumer: &Client, topic: &str, partitions: &[Partition]) -> Result<(), KafkaError> {
    let mut assignment = TopicPartitionList::new();
    for partition in partitions.iter().filter(|partition| !partition.done) {
        let offset = Offset::Offset(i64::try_from(partition.next).unwrap_or(i64::MAX));
        assignment.add_partition_offset(topic, partition.id, offset)?;
    }
    if assignment.count() == 0 { Ok(()) } else { consumer.assign(&assignment) }
}

fn kafka(brokers: &str, doing: &str, error: &KafkaError) -> SourceError {
    SourceError::Kafka { brokers: brokers.to_owned(), cause: format!("{doing}: {}", words(error)) }
}

fn source_error(brokers: &str, error: ClientError) -> SourceError {
    let cause = match error {
        ClientError::Failed { doing, cause, .. } => format!("{doing}: {cause}"),
        other => other.to_string(),
    };
    SourceError::Kafka { brokers: brokers.to_owned(), cause }
}

#[cfg(test)]
mod tests;
