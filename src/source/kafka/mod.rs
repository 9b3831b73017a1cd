//! Kafka: the partitions of one topic, all of them or a group's share.
//!
//! | question | answer |
//! | --- | --- |
//! | who reads a partition | the workers of `kafka.group` share them, each partition is one worker's (`member`); with `kafka.assignment = "all"` this one reads every one |
//! | where does a partition begin | at its position in the state; at the group's where another worker read it last (`claims`); where the topic was never read, at `kafka.starting_offsets`; a new partition of a known topic begins at its oldest record |
//! | a position that is not there | [`SourceError::PositionLost`], at open and at run time; never a jump, unless `kafka.on_data_loss` allows it, and then counted |
//! | a topic that was created anew | the record before the position was produced at another time: [`SourceError::Recreated`] |
//! | brokers away | waited for, and logged every few seconds |
//! | records that arrive damaged | the end: librdkafka would skip them |
//! | gaps in the offsets (transactions, compaction) | are no records; [`Until::End`] does not wait for them |
//! | a record at an offset that was passed already | dropped and logged, never delivered twice |
//! | partitions are added | they are read, from their oldest record, within a minute |
//! | a record whose schema is not known yet | nothing more is read, and the client is kept in touch with the group, until the registry answers |
//! | the trainer has no room | the client is kept in touch with the group meanwhile; what was fetched is bounded |
//!
//! Offsets are committed after the state that holds them is durable. A worker's own positions are never read back from
//! them; in a group they tell where others stopped. What it deliberately does not do: look at the timestamps of messages
//! as times of events.

mod connection;
mod decode_backlog;
mod errors;
mod group;
mod lag;
mod partitions;
mod shutdown;
mod startup;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::{CommitTracker, EventSource, LagProbe, PollStatus, SourceControl, SourceError};
use crate::decode::EventDecoder;
use crate::event::{Reason, Record, Rejection};
use crate::kafka::KafkaConfig;
use crate::kafka::{ClientError, LogThrottle, words};
use crate::position::{Positions, Stream};
use crate::source::transient_errors::TRANSIENT_ERRORS;
pub use connection::{ResumeState, TopicConnection};
use decode_backlog::DecodeBacklog;
use errors::{Verdict, verdict};
use group::committer::Committer;
use group::membership::Member;
use group::rebalance::Context;
use lag::HighWatermarks;
use lag::Watcher;
use partitions::Partitions;
use startup::Marks;

/// Most records of a block.
const BLOCK_RECORDS: usize = 4096;
/// Most bytes of payload of a block, give or take one record.
const BLOCK_BYTES: usize = 8 << 20;
/// Longest wait for the first record of a block.
const BLOCK_WAIT: Duration = Duration::from_millis(100);
/// Longest wait at the end, for the last commit and for taking leave of the brokers.
const CLOSING: Duration = Duration::from_secs(3);
/// Longest wait for a broker's answer.
const ASKING: Duration = Duration::from_secs(5);

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

type Client = BaseConsumer<Context>;

/// How far a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For ever: there is always more to come.
    Stopped,
    /// Until so many records were delivered.
    Records(u64),
    /// Up to the ends that the partitions had when the source was opened; nothing beyond is delivered. In a group: until
    /// this worker's share is read, or all is, by others.
    End,
}

/// The records of a topic.
pub struct KafkaSource {
    /// Present until the source is dropped.
    consumer: Option<Arc<Client>>,
    brokers: String,
    config: KafkaConfig,
    until: Until,
    decoder: EventDecoder,
    undecoded: DecodeBacklog,
    partitions: Partitions,
    /// So many of them the trainer knows.
    streams_told: usize,
    /// Present in a group.
    member: Option<Member>,
    starts: Positions,
    /// What came while there was no room for it.
    pending: Vec<Record>,
    /// What went wrong meanwhile: it is not told twice.
    failed: Option<SourceError>,
    /// A position is gone, and brokers did not let us go on behind it yet.
    is_behind: bool,
    notices: std::collections::VecDeque<SourceControl>,
    watermarks: Arc<HighWatermarks>,
    watcher: Watcher,
    commits: CommitTracker,
    committer: Committer,
    trouble: Option<LogThrottle>,
    backward: LogThrottle,
    /// When the client was last called.
    called: Instant,
    /// How long it may stay uncalled.
    patience: Duration,
}

impl KafkaSource {
    /// Where each partition begins that was assigned so far.
    pub fn starts(&self) -> &Positions {
        &self.starts
    }

    /// The high watermarks of the partitions, kept up to date while the source lives.
    pub fn lag_probe(&self) -> Arc<dyn LagProbe> {
        Arc::clone(&self.watermarks) as Arc<dyn LagProbe>
    }

    /// Appends what a message holds; `false` where it cannot be decoded yet: then it has to be taken again.
    fn take(&mut self, message: &impl Message, block: &mut Vec<Record>) -> Result<bool, SourceError> {
        let Some(index) = self.partitions.index(message.partition()) else { return Ok(true) };
        let partition = &mut self.partitions[index];
        if !partition.is_read() {
            return Ok(true);
        }
        // Offsets of records are never negative.
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        let broker_timestamp = message.timestamp().to_millis();
        if let Some(expected) = partition.verify.take()
            && offset + 1 == partition.next
        {
            if broker_timestamp != Some(expected) {
                return Err(startup::recreated(&partition.stream.label, offset));
            }
            return Ok(true);
        }
        if partition.end.is_some_and(|end| offset >= end) {
            self.finish(index);
            return Ok(true);
        }
        if offset < partition.next {
            if self.backward.due() {
                let (partition, expected) = (&partition.stream.label, partition.next);
                tracing::error!(partition, offset, expected, "kafka went backwards; the record is dropped");
            }
            return Ok(true);
        }
        if self.until == Until::Records(0) {
            return Ok(true);
        }
        let outcome = match message.payload() {
            Some(payload) => match self.decoder.decode(message.key(), Some(payload)) {
                Some(outcome) => outcome,
                None => return Ok(false),
            },
            // A deletion marker of a compacted topic: nothing happened, and nothing is wrong.
            None => Err(Rejection {
                reason: Reason::NullValue,
                detail: "the record has no value".to_owned(),
                key: message.key().map(<[u8]>::to_vec),
                payload: Vec::new(),
            }),
        };
        partition.next = offset + 1;
        self.watermarks.raise(index, offset + 1);
        block.push(Record { stream: index as u32, offset, broker_timestamp, outcome });
        if let Until::Records(left) = &mut self.until {
            *left -= 1;
        }
        if self.partitions[index].end.is_some_and(|end| offset + 1 >= end) {
            self.finish(index);
        }
        if self.trouble.take().is_some() {
            tracing::info!("kafka answers again");
        }
        Ok(true)
    }

    /// Marks a partition as read to its declared end.
    fn finish(&mut self, index: usize) {
        let partition = &mut self.partitions[index];
        if partition.end.is_none() || std::mem::replace(&mut partition.done, true) {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.config.topic, partition.id);
        if let Some(consumer) = &self.consumer {
            // Only spares the network: what still comes is not delivered.
            let _ = consumer.pause(&list);
        }
    }

    /// What an error of the consumer means: nothing, something to wait for, or the end.
    fn weigh(&mut self, consumer: &Client, error: &KafkaError) -> Result<(), SourceError> {
        if let KafkaError::PartitionEOF(id) = error {
            // Not before what was read of it is decoded.
            if let Some(index) = self.partitions.index(*id)
                && !self.undecoded.holds(*id)
            {
                self.finish(index);
            }
            return Ok(());
        }
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let said = consumer.context().reports.words_for(code).unwrap_or_else(|| words(error));
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if code == RDKafkaErrorCode::FencedInstanceId || (fatal && consumer.context().reports.is_fenced()) {
            return Err(SourceError::SameName { member: self.config.group_instance_id.clone() });
        }
        match if fatal { Verdict::Final } else { verdict(code) } {
            Verdict::OutOfRange => self.out_of_range(consumer, &said),
            Verdict::Final => Err(SourceError::Kafka {
                brokers: self.brokers.clone(),
                cause: format!("topic '{}': {said}", self.config.topic),
            }),
            Verdict::Transient => {
                self.in_trouble(&said);
                Ok(())
            }
        }
    }

    fn in_trouble(&mut self, said: &str) {
        TRANSIENT_ERRORS.increment();
        if self.trouble.get_or_insert_default().due() {
            tracing::warn!(brokers = self.brokers, cause = said, "kafka is in trouble; waiting");
        }
    }

    /// Finds out which position was lost, since Kafka's error does not tell, and goes on behind it where that is allowed.
    fn out_of_range(&mut self, consumer: &Client, said: &str) -> Result<(), SourceError> {
        for index in 0..self.partitions.len() {
            let partition = &self.partitions[index];
            if !partition.is_read() || partition.done {
                continue;
            }
            let Ok((low, high)) = consumer.fetch_watermarks(&self.config.topic, partition.id, ASKING) else { continue };
            let marks = Marks::new(partition.id, low, high);
            let entry = startup::entry(&partition.stream.label, partition.next, marks, self.config.on_data_loss)?;
            // Only the record before the position, which was to be looked at, may be gone.
            let unverified = partition.verify.is_some() && marks.low >= partition.next;
            if entry.lost.is_none() && !unverified {
                continue;
            }
            let offset = partitions::offset(entry.offset);
            if let Err(error) = consumer.seek(&self.config.topic, partition.id, offset, ASKING) {
                self.in_trouble(&words(&error));
                self.is_behind = true;
                return Ok(());
            }
            self.partitions[index].verify = None;
            if let Some(lost) = entry.lost {
                self.pass_over(index, lost);
            }
            return Ok(());
        }
        let cause = format!("topic '{}': a position is not there any more: {said}", self.config.topic);
        Err(SourceError::Kafka { brokers: self.brokers.clone(), cause })
    }

    /// Goes on behind records that are gone.
    fn pass_over(&mut self, index: usize, lost: std::ops::Range<u64>) {
        let partition = &mut self.partitions[index];
        tracing::error!(
            partition = partition.stream.label,
            from = lost.start,
            until = lost.end,
            "records were deleted before they were read; they are counted as lost"
        );
        partition.next = lost.end;
        partition.verify = None;
        self.notices.push_back(SourceControl::Lost { stream: index as u32, offsets: lost });
    }

    /// One call of the client. What came is appended to `block`.
    fn serve(&mut self, consumer: &Client, wait: Duration, block: &mut Vec<Record>) -> Result<usize, SourceError> {
        self.called = Instant::now();
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                let bytes = message.payload_len() + message.key_len();
                if !self.undecoded.is_empty() || !self.take(&message, block)? {
                    self.undecoded.push(message.detach());
                }
                Ok(bytes)
            }
            Some(Err(error)) => self.weigh(consumer, &error).map(|()| 0),
            None => Ok(0),
        }
    }
}

impl EventSource for KafkaSource {
    fn streams(&self) -> Vec<Stream> {
        self.partitions.iter().map(|partition| partition.stream.clone()).collect()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        let Some(consumer) = self.consumer.clone() else { return Ok(PollStatus::End) };
        self.commit_what_is_durable();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if std::mem::take(&mut self.is_behind) {
            self.out_of_range(&consumer, "")?;
        }
        if self.pending.is_empty() {
            self.carry_out(&consumer)?;
            if let Some(notice) = self.notices.pop_front() {
                return Ok(PollStatus::Control(notice));
            }
        }
        let deadline = Instant::now() + BLOCK_WAIT;
        let (first, mut bytes) = (block.len(), 0);
        block.append(&mut self.pending);
        let decoding = self.decode_waiting(&consumer, block)?;
        while decoding && !self.is_over(&consumer) && block.len() - first < BLOCK_RECORDS && bytes < BLOCK_BYTES {
            // Waits for the first record only: those that are there already must not grow old.
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if block.len() > first { Duration::ZERO } else { left };
            let before = block.len();
            bytes += self.serve(&consumer, wait, block)?;
            let none = block.len() == before;
            if consumer.context().waits()
                || !self.undecoded.is_empty()
                || !self.notices.is_empty()
                || left.is_zero()
                || (none && wait.is_zero())
            {
                break;
            }
        }
        match () {
            () if block.len() > first => Ok(PollStatus::More),
            () if consumer.context().waits() || !self.notices.is_empty() => Ok(PollStatus::More),
            () if decoding && self.is_over(&consumer) => Ok(PollStatus::End),
            () => Ok(PollStatus::Idle),
        }
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        Some(self.commits.clone())
    }

    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError> {
        let handed_over = self.let_go(streams, durable)?;
        Ok(if handed_over { Poll::Ready(()) } else { Poll::Pending })
    }

    fn keep_alive(&mut self) {
        self.commit_what_is_durable();
        let Some(consumer) = self.consumer.clone().filter(|_| self.called.elapsed() > self.patience) else { return };
        // Paused partitions bring nothing, and yet the group hears of us.
        self.pause(&consumer);
        let mut came = std::mem::take(&mut self.pending);
        if let Err(error) = self.serve(&consumer, Duration::ZERO, &mut came) {
            self.failed.get_or_insert(error);
        }
        self.pending = came;
        if self.undecoded.is_empty() {
            self.resume(&consumer);
        }
    }
}

/// A third of the time after which the group gives up a member that does not call its client.
fn patience(config: &KafkaConfig) -> Duration {
    let interval = config.properties.get("max.poll.interval.ms").and_then(|interval| interval.parse().ok());
    Duration::from_millis(interval.unwrap_or(MAX_POLL_INTERVAL_MS) / 3)
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
