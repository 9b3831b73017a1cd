//! The reader: turns what the client fetched into records, in order, and deals with the client's errors.
//!
//! A message whose schema is not known yet holds up all others: records of a partition keep their order, and nothing is
//! fetched that would only have to wait too. Meanwhile the client is polled, so that the group hears of this worker and can
//! take partitions away; messages of those are forgotten here, and read again by whichever worker has them then.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};

use super::Until;
use super::client::TopicClient;
use super::connection::group_is_foreign;
use super::decoders::TopicDecoders;
use super::errors::{ErrorClass, KafkaSourceError, classify};
use super::partitions::{Admission, Partition, Partitions};
use super::startup::resume_offset;
use super::topic_partition::{TopicPartition, list_of};
use super::unreadable::{self, Probe};
use crate::event::{Reason, Record, Rejection};
use crate::kafka::{ClientFailure, LogThrottle, OnDataLoss, describe};

/// Reads the messages of a client, and decodes them.
pub(super) struct Reader {
    decoders: TopicDecoders,
    backlog: DecodeBacklog,
    until: Until,
    /// Records that came while the trainer had no room, for the next block.
    pending: Vec<Record>,
    /// Present where a position is gone, and the brokers did not let the client go on behind it yet.
    seek_due: Option<ClientFailure>,
    /// Indices of partitions that may have been read to their declared ends, which the brokers have not said yet.
    ends_in_doubt: BTreeSet<usize>,
    backwards: LogThrottle,
}

impl Reader {
    pub(super) fn new(decoders: TopicDecoders, until: Until) -> Self {
        Self {
            decoders,
            backlog: DecodeBacklog::default(),
            until,
            pending: Vec::new(),
            seek_due: None,
            ends_in_doubt: BTreeSet::new(),
            backwards: LogThrottle::default(),
        }
    }

    /// How far the topics are still read.
    pub(super) fn until(&self) -> Until {
        self.until
    }

    /// Whether there are records for the next block already.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether messages wait for their schemas.
    pub(super) fn is_held_up(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Appends the records that came while the trainer had no room.
    pub(super) fn deliver_pending(&mut self, block: &mut Vec<Record>) {
        block.append(&mut self.pending);
    }

    /// Drops what came of partitions that another worker reads from now on, or that are read again from their positions.
    pub(super) fn forget(&mut self, names: &[TopicPartition], partitions: &Partitions) {
        self.pending.retain(|record| !names.contains(partitions[record.stream as usize].name()));
        self.backlog.forget(names);
    }

    /// Drops the messages of partitions that wait for their schemas.
    pub(super) fn forget_backlog(&mut self, names: &[TopicPartition]) {
        self.backlog.forget(names);
    }

    /// Goes on behind a lost position, and looks for ends that were reached, where the brokers did not answer before.
    pub(super) fn retry(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
    ) -> Result<(), KafkaSourceError> {
        if let Some(failure) = self.seek_due.take() {
            self.find_lost_position(client, partitions, failure)?;
        }
        self.find_reached_ends(client, partitions)
    }

    /// Decodes the messages that wait for their schemas; `false` where the first of them still has to wait. Then the client
    /// was polled, and nothing more is to be read.
    pub(super) fn decode_backlog(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
        block: &mut Vec<Record>,
    ) -> Result<bool, KafkaSourceError> {
        if self.backlog.is_empty() {
            return Ok(true);
        }
        while let Some(message) = self.backlog.0.pop_front() {
            if !self.accept(&message, client, partitions, block)? {
                self.backlog.0.push_front(message);
                // Again each time: partitions that were assigned meanwhile are not paused.
                client.pause(&partitions.list(Partition::is_read));
                self.poll(client, partitions, Duration::ZERO, block)?;
                return Ok(false);
            }
        }
        client.resume(&partitions.list(Partition::is_unfinished));
        Ok(true)
    }

    /// Polls the client with its partitions paused, so that the group hears of this worker.
    pub(super) fn keep_alive(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
    ) -> Result<(), KafkaSourceError> {
        client.pause(&partitions.list(Partition::is_read));
        let mut pending = std::mem::take(&mut self.pending);
        let polled = self.poll(client, partitions, Duration::ZERO, &mut pending);
        self.pending = pending;
        if self.backlog.is_empty() {
            client.resume(&partitions.list(Partition::is_unfinished));
        }
        polled.map(drop)
    }

    /// Polls the client once, for `wait` at most. What came is appended to `block`, or waits for its schema; gives the bytes
    /// of the message.
    pub(super) fn poll(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
        wait: Duration,
        block: &mut Vec<Record>,
    ) -> Result<usize, KafkaSourceError> {
        client.note_poll();
        let consumer = Arc::clone(&client.consumer);
        let bytes = match consumer.poll(wait) {
            Some(Ok(message)) => {
                let bytes = message.payload_len() + message.key_len();
                if !self.backlog.is_empty() || !self.accept(&message, client, partitions, block)? {
                    self.backlog.push(message.detach());
                }
                bytes
            }
            Some(Err(error)) => {
                self.handle_error(error, client, partitions)?;
                0
            }
            None => 0,
        };
        Ok(bytes)
    }

    /// Appends the record of a message, if it is one; `false` where it cannot be decoded yet and has to be tried again.
    fn accept(
        &mut self,
        message: &impl Message,
        client: &mut TopicClient,
        partitions: &mut Partitions,
        block: &mut Vec<Record>,
    ) -> Result<bool, KafkaSourceError> {
        let Some(index) = partitions.index(message.topic(), message.partition()) else { return Ok(true) };
        // Offsets of records are never negative.
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        let broker_timestamp = message.timestamp().to_millis();
        match partitions.admit(index, offset, broker_timestamp)? {
            Admission::Deliver if self.until == Until::Records(0) => return Ok(true),
            Admission::Deliver => {}
            Admission::Ignore => return Ok(true),
            Admission::BehindEnd => {
                finish(index, client, partitions);
                return Ok(true);
            }
            Admission::Backwards { expected } => {
                if self.backwards.due() {
                    let partition = partitions[index].label();
                    tracing::error!(partition, offset, expected, "kafka went backwards; the record is dropped");
                }
                return Ok(true);
            }
        }
        let outcome = match message.payload() {
            Some(payload) => {
                let decoder = self.decoders.of_topic(partitions[index].topic());
                match decoder.decode(message.key(), Some(payload)) {
                    Some(outcome) => outcome,
                    None => return Ok(false),
                }
            }
            // A deletion marker of a compacted topic: nothing happened, and nothing is wrong.
            None => Err(Rejection {
                reason: Reason::NullValue,
                detail: "the record has no value".to_owned(),
                key: message.key().map(<[u8]>::to_vec),
                payload: Vec::new(),
            }),
        };
        block.push(Record { stream: index as u32, offset, broker_timestamp, outcome });
        if partitions.advance(index, offset) {
            finish(index, client, partitions);
        }
        if let Until::Records(left) = &mut self.until {
            *left -= 1;
        }
        client.note_answer();
        Ok(true)
    }

    /// Deals with an error of the client: it is nothing, something to wait for, or the end.
    fn handle_error(
        &mut self,
        error: KafkaError,
        client: &mut TopicClient,
        partitions: &mut Partitions,
    ) -> Result<(), KafkaSourceError> {
        if let KafkaError::PartitionEOF(id) = error {
            return self.handle_end(id, client, partitions);
        }
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let reports = &client.callbacks().reports;
        let is_duplicate = code == RDKafkaErrorCode::FencedInstanceId || (is_fatal && reports.is_fenced());
        let failure = ClientFailure::with_reason(error, reports.reason_of(code));
        if is_duplicate {
            return Err(KafkaSourceError::DuplicateMember { member: client.config.group_instance_id.clone() });
        }
        if code == RDKafkaErrorCode::InconsistentGroupProtocol {
            let problem = group_is_foreign(&client.config.group, "unknown");
            return Err(KafkaSourceError::Refused { brokers: client.brokers.clone(), problem });
        }
        match if is_fatal { ErrorClass::Final } else { classify(code) } {
            ErrorClass::OutOfRange => self.find_lost_position(client, partitions, failure),
            ErrorClass::Unreadable => self.find_unreadable_batch(client, partitions, failure),
            ErrorClass::Final => Err(KafkaSourceError::Client {
                brokers: client.brokers.clone(),
                doing: client.topics(),
                source: failure,
            }),
            ErrorClass::Transient => {
                client.note_trouble(&failure.to_string());
                Ok(())
            }
        }
    }

    /// Deals with the end of a partition of which the client tells the number alone: it may be that of any topic.
    fn handle_end(
        &mut self,
        id: i32,
        client: &TopicClient,
        partitions: &mut Partitions,
    ) -> Result<(), KafkaSourceError> {
        if self.until != Until::End {
            return Ok(());
        }
        // Not before what was fetched of the partition is decoded.
        let is_open = |partition: &Partition| {
            partition.name().id == id && partition.is_unfinished() && !self.backlog.has_partition(partition.name())
        };
        let open: Vec<usize> = (0..partitions.len()).filter(|index| is_open(&partitions[*index])).collect();
        if partitions.n_topics() == 1 {
            open.into_iter().for_each(|index| finish(index, client, partitions));
            return Ok(());
        }
        self.ends_in_doubt.extend(open);
        self.find_reached_ends(client, partitions)
    }

    /// Finds out which partitions in doubt have no record between their positions and their declared ends.
    fn find_reached_ends(&mut self, client: &TopicClient, partitions: &mut Partitions) -> Result<(), KafkaSourceError> {
        self.ends_in_doubt.retain(|index| partitions[*index].is_unfinished());
        if self.ends_in_doubt.is_empty() {
            return Ok(());
        }
        let probe = Probe::new(client)?;
        for index in std::mem::take(&mut self.ends_in_doubt) {
            let partition = &partitions[index];
            match probe.holds_record(partition.name(), partition.next()..partition.declared_end()) {
                Some(false) => finish(index, client, partitions),
                // The client tells its end again once it has read on.
                Some(true) => {}
                None => drop(self.ends_in_doubt.insert(index)),
            }
        }
        Ok(())
    }

    /// Finds out which position was lost, since Kafka's error does not tell, and goes on behind it where that is allowed.
    fn find_lost_position(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
        failure: ClientFailure,
    ) -> Result<(), KafkaSourceError> {
        for index in 0..partitions.len() {
            let partition = &partitions[index];
            if !partition.is_unfinished() {
                continue;
            }
            let Ok(watermarks) = client.watermarks(partition.name()) else { continue };
            let start = resume_offset(partition.label(), partition.next(), watermarks, client.config.on_data_loss)?;
            // Only the record before the position, which was to be verified, may be gone.
            let is_unverifiable = partition.is_unverified() && watermarks.low >= partition.next();
            if start.lost.is_none() && !is_unverifiable {
                continue;
            }
            if let Err(error) = client.seek(partition.name(), start.offset) {
                client.note_trouble(&describe(&error));
                self.seek_due = Some(failure);
                return Ok(());
            }
            match start.lost {
                Some(lost) => partitions.skip(index, lost),
                None => partitions.skip_verification(index),
            }
            return Ok(());
        }
        Err(KafkaSourceError::Client {
            brokers: client.brokers.clone(),
            doing: format!("{}: a position is not there any more", client.topics()),
            source: failure,
        })
    }

    /// Finds out which batch cannot be unpacked, and goes on behind it where that is allowed.
    fn find_unreadable_batch(
        &mut self,
        client: &mut TopicClient,
        partitions: &mut Partitions,
        failure: ClientFailure,
    ) -> Result<(), KafkaSourceError> {
        let probe = Probe::new(client)?;
        for index in 0..partitions.len() {
            let partition = &partitions[index];
            if !partition.is_unfinished() {
                continue;
            }
            let (name, next) = (partition.name().clone(), partition.next());
            let Ok(watermarks) = client.watermarks(&name) else { continue };
            let Some(lost) = probe.unreadable(&name, next, watermarks) else { continue };
            if client.config.on_data_loss == OnDataLoss::Fail {
                let most_bytes = unreadable::most_bytes(&client.config).to_owned();
                return Err(KafkaSourceError::Unreadable { stream: name.to_string(), offset: next, most_bytes });
            }
            if let Err(error) = client.seek(&name, lost.end) {
                // The client meets the batch again, and says so.
                client.note_trouble(&describe(&error));
                return Ok(());
            }
            partitions.skip(index, lost);
            if partitions[index].is_at_end() {
                finish(index, client, partitions);
            }
            return Ok(());
        }
        // Read meanwhile, or let go of; or the brokers do not answer.
        client.note_trouble(&failure.to_string());
        Ok(())
    }
}

/// Marks a partition as read to its declared end.
fn finish(index: usize, client: &TopicClient, partitions: &mut Partitions) {
    if partitions.finish(index) {
        client.pause(&list_of([partitions[index].name()]));
    }
}

/// Messages that cannot be decoded yet, in the order in which they came.
#[derive(Debug, Default)]
struct DecodeBacklog(VecDeque<OwnedMessage>);

impl DecodeBacklog {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a message of a partition waits.
    fn has_partition(&self, partition: &TopicPartition) -> bool {
        self.0.iter().any(|message| is_of(message, partition))
    }

    fn push(&mut self, message: OwnedMessage) {
        self.0.push_back(message);
    }

    /// Drops the messages of partitions.
    fn forget(&mut self, names: &[TopicPartition]) {
        self.0.retain(|message| !names.iter().any(|partition| is_of(message, partition)));
    }
}

fn is_of(message: &OwnedMessage, partition: &TopicPartition) -> bool {
    message.partition() == partition.id && message.topic() == partition.topic
}
