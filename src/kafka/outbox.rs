//! What the producers share: sending with back-pressure, and an account of every record.
//!
//! Records leave in the order in which they were sent (per partition), each once, even if the connection breaks on the
//! way: the producer is idempotent. One that fails for good is counted, and the next call says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::{ClientCallbacks, ClientError, ClientFailure, LogThrottle, create, lock};

/// Records between two looks at what was delivered.
const SENDS_PER_LOOK: u32 = 256;

/// A producer for one topic.
pub(crate) struct Outbox {
    producer: BaseProducer<Deliveries>,
    brokers: String,
    topic: String,
    sends: u32,
}

impl Outbox {
    /// With `keep_too_large`, a record that the brokers find too large does not count as failed, but waits in
    /// [`Outbox::too_large`].
    pub(crate) fn open(
        client: &ClientConfig,
        brokers: &str,
        topic: &str,
        keep_too_large: bool,
    ) -> Result<Self, ClientError> {
        let deliveries = Deliveries { keep_too_large, ..Deliveries::default() };
        let producer = create(brokers, client.create_with_context(deliveries))?;
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        Ok(Self { producer, brokers, topic, sends: 0 })
    }

    /// Hands over a record, waiting for room if there is none.
    pub(crate) fn send(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), ClientError> {
        let mut record = BaseRecord::to(&self.topic);
        record.key = key;
        record.payload = payload;
        record.headers = headers;
        self.sends += 1;
        if self.sends >= SENDS_PER_LOOK {
            self.sends = 0;
            self.producer.poll(Duration::ZERO);
            self.check()?;
        }
        let mut reminder = LogThrottle::begun();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
                Err((error, _)) => return Err(self.not_sent(error)),
            }
            self.producer.poll(Duration::from_millis(100));
            self.check()?;
            self.remind(&mut reminder, "the queue of records is full");
        }
    }

    /// Hands over a record if there is room for it, without waiting; whether there was.
    pub(crate) fn offer(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<bool, ClientError> {
        self.producer.poll(Duration::ZERO);
        self.check()?;
        let mut record = BaseRecord::to(&self.topic).headers(headers);
        record.key = key;
        record.payload = payload;
        match self.producer.send::<[u8], [u8]>(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(self.not_sent(error)),
        }
    }

    /// Whether every record was delivered, or found too large.
    pub(crate) fn is_settled(&self) -> Result<bool, ClientError> {
        self.producer.poll(Duration::ZERO);
        self.check()?;
        Ok(self.in_flight() == 0)
    }

    /// Waits until every record is delivered or has failed, at most for `patience`.
    pub(crate) fn flush(&mut self, patience: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + patience;
        let mut reminder = LogThrottle::begun();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.producer.flush(left.min(super::REMINDER)) {
                Ok(()) => return self.check(),
                Err(error) => {
                    self.check()?;
                    if left.is_zero() {
                        return Err(self.given_up(ClientFailure::from(error)));
                    }
                }
            }
            self.remind(&mut reminder, "records are not delivered yet");
        }
    }

    /// Hands back the records that the brokers found too large.
    pub(crate) fn too_large(&mut self) -> Vec<OwnedMessage> {
        std::mem::take(&mut *lock(&self.producer.context().too_large))
    }

    /// Records that are neither delivered nor failed.
    pub(crate) fn in_flight(&self) -> u64 {
        u64::try_from(self.producer.in_flight_count()).unwrap_or_default()
    }

    fn check(&self) -> Result<(), ClientError> {
        let deliveries = self.producer.context();
        let count = deliveries.n_failed.load(Ordering::Acquire);
        if count == 0 {
            // Brokers that took records before may only have a bad moment: those are waited for.
            let refusal = deliveries.reports.refusal().filter(|_| !deliveries.is_any_delivered.load(Ordering::Relaxed));
            return refusal.map_or(Ok(()), |cause| {
                let doing = format!("nothing can be sent to topic '{}'", self.topic);
                Err(ClientError::failed(&self.brokers, doing, cause))
            });
        }
        let first = lock(&deliveries.first_failure).clone();
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        let source = ClientFailure::from(first.expect("the first failure is noted before it is counted"));
        Err(ClientError::Undelivered { brokers, topic, count, source })
    }

    fn not_sent(&self, error: KafkaError) -> ClientError {
        let doing = format!("a record for topic '{}' cannot be sent", self.topic);
        ClientError::failed(&self.brokers, doing, ClientFailure::from(error))
    }

    /// The error for records that nobody waits for any longer.
    pub(crate) fn given_up(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        let doing = format!("{} records for topic '{}' are not delivered", self.in_flight(), self.topic);
        ClientError::failed(&self.brokers, doing, cause)
    }

    pub(crate) fn remind(&self, reminder: &mut LogThrottle, what: &str) {
        if reminder.due() {
            tracing::warn!(brokers = self.brokers, topic = self.topic, waiting = self.in_flight(), "{what}");
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").field("brokers", &self.brokers).field("topic", &self.topic).finish()
    }
}

/// An account of the deliveries.
#[derive(Debug, Default)]
struct Deliveries {
    /// Whether any record was delivered.
    is_any_delivered: AtomicBool,
    n_failed: AtomicU64,
    /// Set before the first failure is counted.
    first_failure: Mutex<Option<KafkaError>>,
    keep_too_large: bool,
    too_large: Mutex<Vec<OwnedMessage>>,
    reports: ClientCallbacks,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else {
            self.is_any_delivered.store(true, Ordering::Relaxed);
            return;
        };
        if self.keep_too_large && error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
            lock(&self.too_large).push(message.detach());
        } else {
            lock(&self.first_failure).get_or_insert_with(|| error.clone());
            self.n_failed.fetch_add(1, Ordering::Release);
        }
    }
}
