//! Events into a topic, keyed by user, so that the events of a user stay in order.
//!
//! Every event is sent once and in order, even over a connection that breaks; one that the brokers refuse makes the next
//! call fail. Dropping a producer throws away what was not flushed: that is for the caller to decide. It does not create
//! the topic; see [`super::admin::ensure_topic`].

use std::time::Duration;

use super::outbox::Outbox;
use super::{ClientError, producer_properties};
use crate::decode::{EventEncoder, Fault};
use crate::event::Interaction;
use crate::kafka::KafkaConfig;

/// Sends events to the topic of a configuration.
#[derive(Debug)]
pub struct EventProducer {
    outbox: Outbox,
    encoder: EventEncoder,
    /// Bytes of everything that was handed over.
    bytes: u64,
}

/// Why an event was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The schema has no room for it; others may still be sent.
    #[error("an event that the schema has no room for: {}", .0.1)]
    NoRoom(Fault),
    /// This or an earlier event cannot be delivered.
    #[error(transparent)]
    Kafka(#[from] ClientError),
}

impl EventProducer {
    /// Sets up a producer that writes by `encoder`; brokers that are away are noticed by what is sent.
    ///
    /// # Errors
    /// A property that is refused.
    pub fn open(config: &KafkaConfig, brokers: &str, encoder: EventEncoder) -> Result<Self, ClientError> {
        let outbox = Outbox::open(&producer_properties(config, brokers)?, brokers, &config.topic, false)?;
        Ok(Self { outbox, encoder, bytes: 0 })
    }

    /// Hands over an event; waits while the queue is full.
    ///
    /// # Errors
    /// If the schema has no room for it, or this or an earlier event cannot be delivered; the first reason is told.
    pub fn send(&mut self, event: &Interaction) -> Result<(), SendError> {
        let payload = self.encoder.encode(event).map_err(SendError::NoRoom)?;
        Ok(self.send_bytes(event.user.as_bytes(), &payload)?)
    }

    /// Hands over bytes as they are, under the given key.
    ///
    /// # Errors
    /// If this or an earlier event cannot be delivered.
    pub fn send_bytes(&mut self, key: &[u8], payload: &[u8]) -> Result<(), ClientError> {
        self.bytes += (key.len() + payload.len()) as u64;
        self.outbox.send(Some(key), Some(payload), None)
    }

    /// Bytes of everything that was handed over, keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until everything is delivered, at most for `patience`.
    ///
    /// # Errors
    /// If something was not delivered, or not in time.
    pub fn flush(&mut self, patience: Duration) -> Result<(), ClientError> {
        self.outbox.flush(patience)
    }

    /// Events handed over whose delivery is still open.
    pub fn in_flight(&self) -> u64 {
        self.outbox.in_flight()
    }
}
