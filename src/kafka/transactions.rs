//! Records into several topics, all of them or none: a producer whose transactions follow each other.
//!
//! Of all producers with one transactional id, the one that was set up last can write; the brokers fence the others, and end
//! what they have left open.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::{ClientCallbacks, ClientError, KafkaConfig, create, is_refusal, lock, producer_properties};

/// Records between two looks at what was delivered.
const SENDS_PER_LOOK: u32 = 256;

/// How long a look at the deliveries takes where they are waited for.
const LOOK: Duration = Duration::from_millis(5);

/// A topic, a partition of it, and the offset behind the last record there.
pub(crate) type PartitionEnd = (String, i32, i64);

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(crate) enum TransactionError {
    /// Another producer of the same id was set up since, or the brokers ended a transaction that took too long.
    Fenced,
    /// Brokers refuse: nothing changes by itself.
    Refused(ClientError),
    /// Brokers are away, or too slow.
    Away(ClientError),
}

/// A producer of transactions.
pub(crate) struct TransactionalProducer {
    producer: BaseProducer<WrittenOffsets>,
    brokers: String,
    timeout: Duration,
    sends: u32,
}

impl std::fmt::Debug for TransactionalProducer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TransactionalProducer").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl TransactionalProducer {
    /// Sets up the newest producer of `transactional_id`: earlier ones can write no more, and what they have left open is
    /// void. Brokers may take `timeout` to answer, and end a transaction that lasts longer than `longest`.
    ///
    /// # Errors
    /// A property that is refused; brokers that are away, or refuse.
    pub(crate) fn open(
        config: &KafkaConfig,
        brokers: &str,
        transactional_id: &str,
        timeout: Duration,
        longest: Duration,
    ) -> Result<Self, TransactionError> {
        let mut client = producer_properties(config, brokers).map_err(TransactionError::Refused)?;
        client.set("transactional.id", transactional_id);
        client.set("transaction.timeout.ms", longest.as_millis().to_string());
        // A transaction waits for its last record anyway.
        client.set("linger.ms", "2");
        let producer = create(brokers, client.create_with_context(WrittenOffsets::default()));
        let producer: BaseProducer<WrittenOffsets> = producer.map_err(TransactionError::Refused)?;
        let producer = Self { producer, brokers: brokers.to_owned(), timeout, sends: 0 };
        let begun = producer.producer.init_transactions(timeout);
        begun.map_err(|error| producer.classify(error, "no transaction can be begun"))?;
        Ok(producer)
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self) -> Result<(), TransactionError> {
        lock(&self.producer.context().ends).clear();
        self.producer.begin_transaction().map_err(|error| self.classify(error, "no transaction can be begun"))
    }

    /// Hands over a record, waiting for room if there is none.
    pub(crate) fn send(
        &mut self,
        topic: &str,
        key: &[u8],
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), TransactionError> {
        let mut record = BaseRecord::to(topic).key(key).headers(headers);
        record.payload = payload;
        self.sends += 1;
        if self.sends >= SENDS_PER_LOOK {
            self.sends = 0;
            self.look(Duration::ZERO)?;
        }
        let mut deadline = self.deadline();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
                Err((error, _)) => return Err(self.classify(error, "a record cannot be sent")),
            }
            self.wait_for_deliveries(&mut deadline)?;
        }
    }

    /// Commits the transaction, and returns the offset behind the last record that it has in each partition of each topic.
    pub(crate) fn commit(&mut self) -> Result<Vec<PartitionEnd>, TransactionError> {
        let mut deadline = self.deadline();
        while self.producer.in_flight_count() > 0 {
            self.wait_for_deliveries(&mut deadline)?;
        }
        self.look(Duration::ZERO)?;
        let committed = self.producer.commit_transaction(self.timeout);
        committed.map_err(|error| self.classify(error, "a transaction cannot be committed"))?;
        let ends = std::mem::take(&mut *lock(&self.producer.context().ends));
        Ok(ends.into_iter().map(|((topic, partition), end)| (topic, partition, end)).collect())
    }

    /// Ends the open transaction without any of its records, where brokers can be told.
    pub(crate) fn abort(self) {
        if let Err(error) = self.producer.abort_transaction(self.timeout.min(Duration::from_secs(5))) {
            tracing::debug!(error = super::describe(&error), "a transaction is left to its timeout");
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Waits a moment; `deadline` moves as long as records are delivered.
    fn wait_for_deliveries(&self, deadline: &mut Instant) -> Result<(), TransactionError> {
        let before = self.producer.in_flight_count();
        self.look(LOOK)?;
        if self.producer.in_flight_count() < before {
            *deadline = self.deadline();
        } else if Instant::now() >= *deadline {
            let cause = format_args!("no answer within {} ms", self.timeout.as_millis());
            let cause = self.producer.context().reports.with_last_reason(cause);
            let doing = format!("{before} records are not delivered");
            return Err(TransactionError::Away(ClientError::failed(&self.brokers, doing, cause)));
        }
        Ok(())
    }

    fn look(&self, wait: Duration) -> Result<(), TransactionError> {
        self.producer.poll(wait);
        let failed = lock(&self.producer.context().first_failure).clone();
        failed.map_or(Ok(()), |error| Err(self.classify(error, "a record was not delivered")))
    }

    /// Which kind of error it is, with what librdkafka knows besides.
    fn classify(&self, error: KafkaError, doing: &str) -> TransactionError {
        use RDKafkaErrorCode as Code;
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        if let Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) = code {
            return TransactionError::Fenced;
        }
        let reports = &self.producer.context().reports;
        let refusal = reports.refusal();
        let is_refused = refusal.is_some() || code.is_some_and(|code| is_refusal(code) || is_refused(code));
        let said = match (refusal, fatal) {
            (Some(refusal), _) => refusal,
            (None, Some((_, reason))) => reason,
            (None, None) => reports.explain(error, self.timeout),
        };
        let error = ClientError::failed(&self.brokers, doing, said);
        if is_refused { TransactionError::Refused(error) } else { TransactionError::Away(error) }
    }
}

/// Whether brokers will not take a record, or a transaction, whenever it comes.
fn is_refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTransactionTimeout
            | Code::MessageSizeTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
    )
}

/// Where the records of a transaction were written.
#[derive(Debug, Default)]
struct WrittenOffsets {
    /// The offset behind the last record of each partition.
    ends: Mutex<BTreeMap<(String, i32), i64>>,
    first_failure: Mutex<Option<KafkaError>>,
    reports: ClientCallbacks,
}

impl ClientContext for WrittenOffsets {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for WrittenOffsets {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(record) => {
                let mut ends = lock(&self.ends);
                let end = ends.entry((record.topic().to_owned(), record.partition())).or_default();
                *end = (*end).max(record.offset() + 1);
            }
            Err((error, _)) => drop(lock(&self.first_failure).get_or_insert_with(|| error.clone())),
        }
    }
}
