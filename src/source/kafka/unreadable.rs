//! Batches that the client cannot unpack: damaged ones, and those that are larger unpacked than it takes; and whether there
//! is a record at all between two offsets.
//!
//! librdkafka says neither where such a batch lies nor where it ends, and asks for it again and again. Here that is found
//! out, by a client of its own which is shown one offset after the other, so that the worker ends with a place and a
//! remedy, or passes the batch over where that is allowed.

use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::client::TopicClient;
use super::errors::KafkaSourceError;
use super::group::rebalance::ConsumerCallbacks;
use super::partitions::add_to_list;
use super::startup::Watermarks;
use super::topic_partition::TopicPartition;
use crate::kafka::{Assignment, KafkaConfig};

/// Longest wait for what lies at an offset.
const PATIENCE: Duration = Duration::from_secs(10);

/// librdkafka's default of `receive.message.max.bytes`.
const RECEIVE_MESSAGE_MAX_BYTES: &str = "100000000";

/// The most bytes that a batch may have unpacked.
pub(super) fn most_bytes(config: &KafkaConfig) -> &str {
    config.properties.get("receive.message.max.bytes").map_or(RECEIVE_MESSAGE_MAX_BYTES, String::as_str)
}

/// What comes first from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// A record at this offset.
    Record(u64),
    /// A batch that cannot be unpacked.
    Unreadable,
    /// Nothing any more.
    End,
}

/// A client that looks at single partitions: what the worker's own would say of them, and say once.
pub(super) struct Probe {
    consumer: BaseConsumer<ConsumerCallbacks>,
}

impl Probe {
    /// A probe of what `client` reads.
    ///
    /// # Errors
    /// The client cannot be set up.
    pub(super) fn new(client: &TopicClient) -> Result<Self, KafkaSourceError> {
        let config = KafkaConfig { assignment: Assignment::All, ..client.config.clone() };
        let properties = crate::kafka::consumer_properties(&config, &client.brokers)?;
        let consumer = properties.create_with_context(ConsumerCallbacks::default());
        Ok(Self { consumer: crate::kafka::create(&client.brokers, consumer)? })
    }

    /// What comes first from `offset` of a partition on; `None` where the brokers do not say in time.
    fn first(&self, partition: &TopicPartition, offset: u64) -> Option<First> {
        let mut place = TopicPartitionList::new();
        add_to_list(&mut place, partition, offset, None);
        self.consumer.assign(&place).ok()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.topic() == partition.topic && message.partition() == partition.id => {
                    // Offsets of records are never negative.
                    return Some(First::Record(u64::try_from(message.offset()).unwrap_or_default()));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Some(First::End),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BadCompression) => {
                    return Some(First::Unreadable);
                }
                _ => {}
            }
        }
        None
    }

    /// Whether there is a record at one of `offsets` of a partition; `None` where the brokers do not say in time.
    pub(super) fn holds_record(&self, partition: &TopicPartition, offsets: Range<u64>) -> Option<bool> {
        if offsets.is_empty() {
            return Some(false);
        }
        Some(match self.first(partition, offsets.start)? {
            First::Record(offset) => offset < offsets.end,
            First::Unreadable => true,
            First::End => false,
        })
    }

    /// The offsets from `next` of a partition on that cannot be read, where `next` is one of them; nothing where it can be, or
    /// the brokers do not say.
    pub(super) fn unreadable(
        &self,
        partition: &TopicPartition,
        next: u64,
        watermarks: Watermarks,
    ) -> Option<Range<u64>> {
        let is_readable = |offset| self.first(partition, offset).map(|first| first != First::Unreadable);
        let end = first_readable(next, watermarks.high, is_readable)?;
        (end > next).then_some(next..end)
    }
}

/// The first offset from `next` on that is readable, or `high`, by as few questions as it takes: ever further ahead until
/// one is, and then in halves. `None` where a question has no answer.
fn first_readable(next: u64, high: u64, mut is_readable: impl FnMut(u64) -> Option<bool>) -> Option<u64> {
    if next >= high || is_readable(next)? {
        return Some(next);
    }
    let (mut last_unreadable, mut step) = (next, 1);
    let mut readable = loop {
        let ahead = last_unreadable.saturating_add(step);
        if ahead >= high {
            break high;
        }
        if is_readable(ahead)? {
            break ahead;
        }
        (last_unreadable, step) = (ahead, step * 2);
    };
    while readable - last_unreadable > 1 {
        let middle = last_unreadable + (readable - last_unreadable) / 2;
        match is_readable(middle)? {
            true => readable = middle,
            false => last_unreadable = middle,
        }
    }
    Some(readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_readable_finds_the_end_of_a_batch() {
        for (next, bad, high, expected) in [
            (0, 0..40, 100, 40),
            (0, 0..1, 100, 1),
            (7, 5..8, 9, 8),
            (7, 5..1_000_003, 2_000_000, 1_000_003),
            (0, 0..40, 40, 40),
            (3, 5..8, 100, 3),
            (9, 5..9, 9, 9),
        ] {
            let mut n_questions = 0;
            let found = first_readable(next, high, |offset| {
                n_questions += 1;
                assert!(offset < high);
                Some(!bad.contains(&offset))
            });
            assert_eq!(found, Some(expected), "{bad:?}");
            assert!(n_questions <= 45, "{n_questions}");
        }
        assert_eq!(first_readable(0, 9, |offset| (offset < 2).then_some(false)), None);
    }
}
