//! Messages that cannot be decoded yet, since their schemas are not known at the moment.
//!
//! The first of them holds up all the others: records of a partition keep their order, and nothing is fetched that would
//! only have to wait too. Meanwhile the client is called, so that the group hears of this worker and can take partitions
//! away; what was read of those is forgotten here, and read again by whoever has them then.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::message::{Message, OwnedMessage};

use super::{Client, KafkaSource, partitions};
use crate::event::Record;
use crate::source::SourceError;

/// See the module; in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct DecodeBacklog(VecDeque<OwnedMessage>);

impl DecodeBacklog {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of partition `id` is among them.
    pub(super) fn holds(&self, id: i32) -> bool {
        self.0.iter().any(|message| message.partition() == id)
    }

    pub(super) fn push(&mut self, message: OwnedMessage) {
        self.0.push_back(message);
    }

    /// Forgets those of partitions that are another's now, or are read again from their positions.
    pub(super) fn forget(&mut self, ids: &[i32]) {
        self.0.retain(|message| !ids.contains(&message.partition()));
    }
}

impl KafkaSource {
    /// Takes the messages that wait; `false` where the first of them still cannot be decoded. Then the client was called,
    /// and nothing more is to be read.
    pub(super) fn decode_waiting(&mut self, consumer: &Client, block: &mut Vec<Record>) -> Result<bool, SourceError> {
        if self.undecoded.is_empty() {
            return Ok(true);
        }
        while let Some(message) = self.undecoded.0.pop_front() {
            if !self.take(&message, block)? {
                self.undecoded.0.push_front(message);
                // Again each time: partitions that were assigned meanwhile are not paused.
                self.pause(consumer);
                self.serve(consumer, Duration::ZERO, block)?;
                return Ok(false);
            }
        }
        self.resume(consumer);
        Ok(true)
    }

    /// Nothing more comes of the partitions that are read.
    pub(super) fn pause(&self, consumer: &Client) {
        let list = self.partitions.list(&self.config.topic, partitions::Partition::is_read);
        if list.count() > 0
            && let Err(error) = consumer.pause(&list)
        {
            tracing::debug!(%error, "partitions were not paused");
        }
    }

    /// It comes again, but of partitions that are read to their declared ends.
    pub(super) fn resume(&self, consumer: &Client) {
        let list = self.partitions.list(&self.config.topic, |partition| partition.is_read() && !partition.done);
        if list.count() > 0
            && let Err(error) = consumer.resume(&list)
        {
            tracing::debug!(%error, "partitions were not resumed");
        }
    }
}
