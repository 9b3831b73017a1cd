//! Dead letters in a topic: the record as it came, and headers that say where it came from and what is wrong with it.
//!
//! The headers are those of Kafka Connect's dead-letter queue, so that its tools can read them:
//!
//! | header `__connect.errors.…` | holds |
//! | --- | --- |
//! | `topic`, `partition`, `offset` | where the record was read |
//! | `connector.name`, `task.id` | `negstream`, `0` |
//! | `stage` | `VALUE_CONVERTER` |
//! | `class.name` | the decoder of the format that is configured for the topic |
//! | `exception.class.name` | the name of the [`Reason`](crate::event::Reason) |
//! | `exception.message` | the detail |
//!
//! A record that the brokers find too large for this topic is sent again without its payload, with a header
//! `negstream.payload.bytes` that tells its size: the record itself is still in its own topic. After a crash, letters
//! since the last checkpoint are sent again; topic, partition and offset tell which are the same.

use std::time::{Duration, Instant};

use rdkafka::message::{Header, Message as _, OwnedHeaders};

use crate::decode::Format;
use crate::event::Rejection;
use crate::kafka::KafkaConfig;
use crate::kafka::outbox::Outbox;
use crate::kafka::{ClientError, LogThrottle, admin, producer_properties};
use crate::signals::Stop;

/// How long letters may still be on their way once the worker was told to stop.
const LEAVING: Duration = Duration::from_secs(5);

/// Sends dead letters to `kafka.dead_letter_topic`.
#[derive(Debug)]
pub struct DeadLetterTopic {
    outbox: Outbox,
    config: KafkaConfig,
    /// The format of topics that have none of their own.
    format: Format,
    /// Headers and key of those that have to be sent again, without their payload.
    too_large: Vec<(OwnedHeaders, Option<Vec<u8>>)>,
    /// Present while letters have to wait.
    reminder: Option<LogThrottle>,
    stop: Stop,
    /// Since when it is known that the worker is to stop, while letters are on their way.
    stopping: Option<Instant>,
}

impl DeadLetterTopic {
    /// Sets up the producer, and makes sure that there is such a topic. The letters name the decoder of `format`, or of the one
    /// that their topic has for itself.
    /// Brokers that are away are waited for until `stop` is requested.
    ///
    /// # Errors
    /// A topic that does not exist, a property that is refused, or brokers that cannot be reached.
    pub fn open(config: &KafkaConfig, brokers: &str, format: Format, stop: Stop) -> Result<Self, ClientError> {
        let topic = &config.dead_letter_topic;
        if admin::partitions(config, brokers, topic)?.is_none() {
            return Err(ClientError::NoTopic { brokers: brokers.to_owned(), topic: topic.clone() });
        }
        let mut client = producer_properties(config, brokers)?;
        // What is too large is for the brokers to say: they took the record once.
        client.set("message.max.bytes", "1000000000");
        if !config.properties.contains_key("message.timeout.ms") {
            // Never given up: what lies behind a letter waits for it.
            client.set("message.timeout.ms", "0");
        }
        Ok(Self {
            outbox: Outbox::open(&client, brokers, topic, true)?,
            config: config.clone(),
            format,
            too_large: Vec::new(),
            reminder: None,
            stop,
            stopping: None,
        })
    }

    /// Hands over a dead letter, without waiting; `false` while the queue is full.
    ///
    /// # Errors
    /// If this or an earlier one cannot be delivered.
    pub fn offer(&mut self, stream_label: &str, offset: u64, rejection: &Rejection) -> Result<bool, ClientError> {
        let headers = self.headers(stream_label, offset, rejection);
        let taken = self.outbox.offer(rejection.key.as_deref(), Some(&rejection.payload), headers)?;
        if !taken {
            self.outbox
                .remind(self.reminder.get_or_insert_with(LogThrottle::begun), "the queue of dead letters is full");
        }
        Ok(taken)
    }

    /// Whether all are durable; does not wait.
    ///
    /// # Errors
    /// If one cannot be delivered, or the worker was told to stop and they take too long.
    pub fn settle(&mut self) -> Result<bool, ClientError> {
        if self.outbox.is_settled()? {
            // Asked once: a second look could see the report of one that is too large, and it is not in the topic yet.
            self.take_back_too_large();
            if self.too_large.is_empty() {
                (self.stopping, self.reminder) = (None, None);
                return Ok(true);
            }
            while let Some((headers, key)) = self.too_large.last() {
                if !self.outbox.offer(key.as_deref(), None, headers.clone())? {
                    break;
                }
                self.too_large.pop();
            }
        }
        if self.stop.requested() && self.stopping.get_or_insert_with(Instant::now).elapsed() > LEAVING {
            return Err(self.outbox.given_up("told to stop"));
        }
        self.outbox.remind(self.reminder.get_or_insert_with(LogThrottle::begun), "dead letters are not delivered yet");
        Ok(false)
    }

    fn headers(&self, stream_label: &str, offset: u64, rejection: &Rejection) -> OwnedHeaders {
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
            ("__connect.errors.class.name", decoder_name(self.config.format_of(topic, self.format))),
            ("__connect.errors.exception.class.name", rejection.reason.name()),
            ("__connect.errors.exception.message", &rejection.detail),
        ] {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        headers
    }

    /// What the brokers found too large is to be sent again, smaller.
    fn take_back_too_large(&mut self) {
        let letters = self.outbox.too_large();
        if !letters.is_empty() {
            tracing::warn!(letters = letters.len(), "dead letters are too large for their topic; sent without payload");
        }
        for letter in letters {
            let bytes = letter.payload().map_or(0, <[u8]>::len).to_string();
            let headers = letter.headers().map_or_else(OwnedHeaders::new, Clone::clone);
            let headers = headers.insert(Header { key: "negstream.payload.bytes", value: Some(&bytes) });
            self.too_large.push((headers, letter.key().map(<[u8]>::to_vec)));
        }
    }
}

/// The name of the decoder of a format.
fn decoder_name(format: Format) -> &'static str {
    match format {
        Format::Json => "negstream::decode::json",
        Format::Avro => "negstream::decode::avro",
        Format::Protobuf => "negstream::decode::protobuf",
    }
}
