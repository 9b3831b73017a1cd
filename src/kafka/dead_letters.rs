//! Dead letters in a topic: the record as it came, and headers that say where it came from and what is wrong with it.
//!
//! The headers are those of Kafka Connect's dead-letter queue, so that its tools can read them:
//!
//! | header `__connect.errors.…` | holds |
//! | --- | --- |
//! | `topic`, `partition`, `offset` | where the record was read |
//! | `connector.name`, `task.id` | `negstream`, `0` |
//! | `stage` | `VALUE_CONVERTER` |
//! | `class.name` | the decoder of the configured format |
//! | `exception.class.name` | the name of the [`Reason`](crate::event::Reason) |
//! | `exception.message` | the detail |
//!
//! A record that the brokers find too large for this topic is sent again without its payload, with a header
//! `negstream.payload.bytes` that tells its size: the record itself is still in its own topic. After a crash, letters
//! since the last checkpoint are sent again; topic, partition and offset tell which are the same.

use std::time::Duration;

use rdkafka::message::{Header, Message as _, OwnedHeaders};

use super::outbox::Outbox;
use super::{ClientError, admin, producer_properties};
use crate::config::{Format, KafkaConfig};
use crate::event::Rejection;

/// The longest that [`DeadLetterTopic::flush`] waits. What the brokers did not take by then has failed on its own
/// account (`message.timeout.ms`, five minutes).
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends dead letters to `kafka.dead_letter_topic`.
#[derive(Debug)]
pub struct DeadLetterTopic {
    outbox: Outbox,
    decoder: &'static str,
}

impl DeadLetterTopic {
    /// Sets up the producer, and makes sure that there is such a topic. The letters name the decoder of `format`.
    ///
    /// # Errors
    /// A topic that does not exist, a property that is refused, or brokers that cannot be reached.
    pub fn open(config: &KafkaConfig, brokers: &str, format: Format) -> Result<Self, ClientError> {
        let topic = &config.dead_letter_topic;
        if admin::partitions(config, brokers, topic)?.is_none() {
            return Err(ClientError::NoTopic { brokers: brokers.to_owned(), topic: topic.clone() });
        }
        let mut client = producer_properties(config, brokers)?;
        // What is too large is for the brokers to say: they took the record once.
        client.set("message.max.bytes", "1000000000");
        let decoder = match format {
            Format::Json => "negstream::decode::json",
            Format::Avro => "negstream::decode::avro",
            Format::Protobuf => "negstream::decode::protobuf",
        };
        Ok(Self { outbox: Outbox::open(&client, brokers, topic, true)?, decoder })
    }

    /// Hands over a dead letter; waits while the queue is full.
    ///
    /// # Errors
    /// If this or an earlier one cannot be delivered.
    pub fn write(&mut self, stream_label: &str, offset: u64, rejection: &Rejection) -> Result<(), ClientError> {
        let headers = headers(self.decoder, stream_label, offset, rejection);
        self.outbox.send(rejection.key.as_deref(), Some(&rejection.payload), Some(headers))
    }

    /// Waits until all are durable.
    ///
    /// # Errors
    /// If one was not delivered.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.outbox.flush(PATIENCE)?;
        let too_large = self.outbox.too_large();
        if too_large.is_empty() {
            return Ok(());
        }
        tracing::warn!(letters = too_large.len(), "dead letters are too large for their topic; sent without payload");
        for letter in too_large {
            let bytes = letter.payload().map_or(0, <[u8]>::len).to_string();
            let headers = letter.headers().map_or_else(OwnedHeaders::new, Clone::clone);
            let headers = headers.insert(Header { key: "negstream.payload.bytes", value: Some(&bytes) });
            self.outbox.send(letter.key(), None, Some(headers))?;
        }
        self.outbox.flush(PATIENCE)
    }
}

fn headers(decoder: &str, stream_label: &str, offset: u64, rejection: &Rejection) -> OwnedHeaders {
    // A stream that is no partition (a file) goes by its whole label.
    let (topic, partition) = stream_label.rsplit_once('/').unwrap_or((stream_label, "0"));
    let offset = offset.to_string();
    let mut headers = OwnedHeaders::new_with_capacity(9);
    for (name, value) in [
        ("__connect.errors.topic", topic),
        ("__connect.errors.partition", partition),
        ("__connect.errors.offset", &offset),
        ("__connect.errors.connector.name", "negstream"),
        ("__connect.errors.task.id", "0"),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.class.name", decoder),
        ("__connect.errors.exception.class.name", rejection.reason.name()),
        ("__connect.errors.exception.message", &rejection.detail),
    ] {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    headers
}
