//! The Kafka client: how every client of the program is set up, and what can go wrong with one.
//!
//! | module | holds |
//! | --- | --- |
//! | [`admin`] | topics: create, list partitions |
//! | [`embedded`] | a broker inside the process |
//! | [`producer`] | events into a topic |
//! | `transactions` | records into several topics, all of them or none |
//! | `committed` | what transactions have left in a topic, read to its end |
//! | `pacing` | how far a producer may run ahead of an embedded broker's reader |
//! | `topics` | what is different about the records of each of several topics |
//! | `topic_id` | which of all topics of a name it is |
//! | [`crate::dead_letters::topic`] | records that could not be taken, into a topic |
//!
//! The consumer is [`crate::source::kafka`]. Here is the only place where properties are set: negstream's own first, the
//! user's `kafka.properties` over them; those on which exactness rests are refused. No message ever repeats the value of
//! a property, since it may be a password.

pub mod admin;
pub(crate) mod committed;
mod config;
pub mod embedded;
pub(crate) mod outbox;
pub(crate) mod pacing;
pub mod producer;
pub(crate) mod topic_id;
mod topics;
pub(crate) mod transactions;

pub use config::{Assignment, KafkaConfig, OnDataLoss, StartingOffsets};
pub(crate) use config::{redact_properties, validate_properties};
pub use topics::TopicConfig;
pub(crate) use topics::require_one_topic;

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

/// `kafka.brokers` that stands for a broker inside the process.
pub const EMBEDDED: &str = "embedded";

/// How the workers of a group share partitions.
pub(crate) const ASSIGNOR: &str = "cooperative-sticky";

/// How often a state that lasts is logged.
pub(crate) const REMINDER: Duration = Duration::from_secs(5);

/// Properties that only negstream sets, and why.
const OWN_PROPERTIES: [(&str, &str); 16] = [
    ("auto.commit.enable", "positions are kept in the checkpoint"),
    ("auto.offset.reset", "a position that is lost must be an error, never a jump"),
    ("bootstrap.servers", "it is kafka.brokers"),
    ("delivery.report.only.error", "every record sent has to be accounted for"),
    ("enable.auto.commit", "positions are kept in the checkpoint"),
    ("enable.auto.offset.store", "positions are kept in the checkpoint"),
    ("enable.idempotence", "without it records could be sent twice or out of order"),
    ("enable.partition.eof", "the end of a partition has to be seen"),
    ("group.id", "it is kafka.group"),
    ("group.instance.id", "it is kafka.group_instance_id"),
    ("group.protocol", "rebalances are those of the classic protocol"),
    ("log.queue", "log lines are routed by negstream"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("partition.assignment.strategy", "rebalances are cooperative"),
    ("test.mock.num.brokers", "it is kafka.brokers = \"embedded\""),
    ("transactional.id", "it is that of a sink, which has one of its own"),
];

/// A fault of a client of Kafka, other than the consumer (whose errors are
/// [`SourceError`](crate::source::SourceError)s).
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A property that would break what negstream promises.
    #[error("'kafka.properties.{key}' cannot be set: {reason}")]
    OwnProperty {
        /// The property.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// A property that librdkafka does not know, or whose value it refuses.
    #[error("'kafka.properties.{key}': {problem}")]
    Property {
        /// The property.
        key: String,
        /// What is wrong, without the value.
        problem: &'static str,
    },
    /// A topic that does not exist.
    #[error("kafka ({brokers}): no topic '{topic}'; create it, or let `negstream produce` do so")]
    NoTopic {
        /// The brokers as configured.
        brokers: String,
        /// The topic.
        topic: String,
    },
    /// Records that the brokers did not take.
    #[error("kafka ({brokers}): {count} records for topic '{topic}' were not delivered; the first: {source}")]
    Undelivered {
        /// The brokers as configured.
        brokers: String,
        /// The topic.
        topic: String,
        /// How many.
        count: u64,
        /// The error of the first of them.
        source: ClientFailure,
    },
    /// Any other failure of a client.
    #[error("kafka ({brokers}): {doing}: {source}")]
    Failed {
        /// The brokers as configured.
        brokers: String,
        /// What was being done.
        doing: String,
        /// The cause, in Kafka's own words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClientError {
    pub(crate) fn failed(
        brokers: &str,
        doing: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { brokers: brokers.to_owned(), doing: doing.into(), source: cause.into() }
    }

    /// Kafka's code of the failure, where it has one.
    pub(crate) fn code(&self) -> Option<RDKafkaErrorCode> {
        let Self::Failed { source, .. } = self else { return None };
        let of_client = || source.downcast_ref::<ClientFailure>().map(ClientFailure::error);
        let error = source.downcast_ref::<KafkaError>().or_else(of_client);
        let code = error.and_then(KafkaError::rdkafka_error_code);
        code.or_else(|| source.downcast_ref::<RDKafkaErrorCode>().copied())
    }
}

/// An error of librdkafka, told in Kafka's own words. It has no source that is shown beside it: that one repeats the values
/// of properties.
#[derive(Debug, Clone)]
pub struct ClientFailure {
    /// In a box, since it is large and every result of a client has room for it.
    error: Box<KafkaError>,
    /// The reason that librdkafka gave beside the error.
    reason: Option<String>,
}

impl ClientFailure {
    pub(crate) fn with_reason(error: KafkaError, reason: Option<String>) -> Self {
        Self { error: Box::new(error), reason }
    }

    /// The error as the client gave it.
    pub fn error(&self) -> &KafkaError {
        &self.error
    }
}

impl From<KafkaError> for ClientFailure {
    fn from(error: KafkaError) -> Self {
        Self { error: Box::new(error), reason: None }
    }
}

impl Display for ClientFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            Some(reason) => formatter.write_str(reason),
            None => formatter.write_str(&describe(&self.error)),
        }
    }
}

impl std::error::Error for ClientFailure {}

/// Checks `kafka.properties` without touching a broker: names and values that are known, none that is negstream's own.
///
/// # Errors
/// The first property that is refused.
pub fn check_properties(config: &KafkaConfig) -> Result<(), ClientError> {
    for (key, value) in &config.properties {
        if let Some((_, reason)) = OWN_PROPERTIES.iter().find(|(own, _)| own == key) {
            return Err(ClientError::OwnProperty { key: key.clone(), reason });
        }
        let mut alone = ClientConfig::new();
        alone.set(key, value);
        if let Err(error) = alone.create_native_config() {
            return Err(bad_property(&error).unwrap_or(ClientError::Property { key: key.clone(), problem: "refused" }));
        }
    }
    Ok(())
}

/// The error for a property that librdkafka refused, without its value.
fn bad_property(error: &KafkaError) -> Option<ClientError> {
    use rdkafka::types::RDKafkaConfRes;
    let KafkaError::ClientConfig(result, _, key, _) = error else { return None };
    let problem = match result {
        RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "librdkafka knows no such property",
        // TLS, for one, is not in every build.
        _ => "librdkafka refuses the value, or was built without what it needs",
    };
    Some(ClientError::Property { key: key.clone(), problem })
}

/// What every client has in common.
fn base(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client.set("client.id", "negstream");
    client.set("socket.keepalive.enable", "true");
    // A broker that comes back is found again within seconds.
    client.set("reconnect.backoff.max.ms", "2000");
    client
}

fn with_user_properties(mut client: ClientConfig, config: &KafkaConfig) -> Result<ClientConfig, ClientError> {
    check_properties(config)?;
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    Ok(client)
}

/// The properties of the consumer.
pub(crate) fn consumer_properties(config: &KafkaConfig, brokers: &str) -> Result<ClientConfig, ClientError> {
    let mut client = base(brokers);
    client.set("group.id", &config.group);
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client.set("auto.offset.reset", "error");
    client.set("enable.partition.eof", "true");
    client.set("allow.auto.create.topics", "false");
    client.set("check.crcs", "true");
    // Bounds what waits for the trainer; refilled soon after it took some.
    client.set("queued.max.messages.kbytes", "32768");
    // What one answer holds is unpacked at once, and records of a few characters repeated unpack to hundreds of times that.
    client.set("fetch.message.max.bytes", "262144");
    client.set("fetch.queue.backoff.ms", "50");
    // New partitions of the topic are found within that time.
    client.set("topic.metadata.refresh.interval.ms", "30000");
    match config.assignment {
        Assignment::Group => {
            client.set("partition.assignment.strategy", ASSIGNOR);
            match config.group_instance_id.as_str() {
                // Nobody comes back to a place that has no name: what a killed worker read is somebody else's soon.
                "" => client.set("session.timeout.ms", "10000"),
                name => client.set("group.instance.id", name),
            };
        }
        // A trainer that takes its time loses nothing.
        Assignment::All => drop(client.set("max.poll.interval.ms", "86400000")),
    }
    with_user_properties(client, config)
}

/// The properties of a producer.
pub(crate) fn producer_properties(config: &KafkaConfig, brokers: &str) -> Result<ClientConfig, ClientError> {
    let mut client = base(brokers);
    client.set("enable.idempotence", "true");
    // The partition that a Java producer would choose for the same key.
    client.set("partitioner", "murmur2_random");
    client.set("linger.ms", "20");
    client.set("batch.num.messages", "10000");
    client.set("compression.type", "lz4");
    client.set("queue.buffering.max.kbytes", "65536");
    with_user_properties(client, config)
}

/// The properties of a client that only asks or creates.
pub(crate) fn admin_properties(config: &KafkaConfig, brokers: &str) -> Result<ClientConfig, ClientError> {
    let mut client = base(brokers);
    client.set("allow.auto.create.topics", "false");
    with_user_properties(client, config)
}

/// Creates a client; what fails here is its configuration.
pub(crate) fn create<T>(brokers: &str, created: KafkaResult<T>) -> Result<T, ClientError> {
    created.map_err(|error| {
        bad_property(&error)
            .unwrap_or_else(|| ClientError::failed(brokers, "the client cannot be set up", ClientFailure::from(error)))
    })
}

/// Kafka's own words for an error, without those of the wrapper, and without the value of any property.
pub(crate) fn describe(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => match error {
            KafkaError::AdminOp(code) => code.to_string(),
            KafkaError::ClientConfig(_, _, key, _) => format!("property '{key}' is refused"),
            other => other.to_string(),
        },
    }
}

/// True for what no waiting will mend: who we are is refused.
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

/// Locks what the callbacks of a client write, even if a thread panicked that held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log line that is written once in a while only.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Option<Instant>);

impl LogThrottle {
    /// A throttle for a state that is worth logging only once it has lasted a while.
    pub(crate) fn begun() -> Self {
        Self(Some(Instant::now()))
    }

    /// Whether the line is due (again).
    pub(crate) fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= REMINDER);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// What the clients of the program report: log lines and errors.
#[derive(Debug, Default)]
pub(crate) struct ClientCallbacks {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    refusal: Mutex<Option<String>>,
}

impl ClientCallbacks {
    /// The reason that came with the newest error, if it had this code.
    pub(crate) fn reason_of(&self, code: RDKafkaErrorCode) -> Option<String> {
        let last = lock(&self.last);
        last.as_ref().filter(|(known, _)| *known == code).map(|(_, reason)| reason.clone())
    }

    /// `cause`, and the reason that came with the newest error, if there was one.
    pub(crate) fn with_last_reason(&self, cause: impl Display) -> String {
        match &*lock(&self.last) {
            Some((_, reason)) => format!("{cause}: {reason}"),
            None => cause.to_string(),
        }
    }

    /// Why a request was not answered that was given up after `waited`: what librdkafka says, and its newest reason.
    pub(crate) fn explain(&self, error: KafkaError, waited: Duration) -> String {
        self.with_last_reason(format_args!("{} (waited {} ms)", ClientFailure::from(error), waited.as_millis()))
    }

    /// Why the brokers refused us, if they did.
    pub(crate) fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
    }

    /// Whether the group has another member of the same `group.instance.id`.
    pub(crate) fn is_fenced(&self) -> bool {
        self.reason_of(RDKafkaErrorCode::FencedInstanceId).is_some()
    }
}

impl ClientContext for ClientCallbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Transient trouble is waited out, so librdkafka's errors are our warnings. Producers and consumers share properties,
        // and know those that are not for them.
        match level {
            _ if facility == "CONFWARN" && message.contains("will be ignored by this") => {
                tracing::debug!(target: "librdkafka", facility, "{message}")
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        tracing::debug!(%code, reason, "kafka reports an error");
        if is_refusal(code) {
            *lock(&self.refusal) = Some(reason.to_owned());
        }
        let mut last = lock(&self.last);
        // That all brokers are away says less than why the last of them is.
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for ClientCallbacks {}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaConfig {
        let mut config = crate::config::Config::default().kafka;
        config.properties.insert(key.to_owned(), value.to_owned());
        config
    }

    #[test]
    fn own_properties_are_refused() {
        for (key, _) in OWN_PROPERTIES {
            let error = consumer_properties(&with(key, "true"), "b:1").unwrap_err().to_string();
            assert!(error.starts_with(&format!("'kafka.properties.{key}' cannot be set: ")), "{error}");
        }
    }

    #[test]
    fn user_properties_win_over_defaults() {
        let client = consumer_properties(&with("queued.max.messages.kbytes", "1024"), "b:1").unwrap();
        assert_eq!(client.get("queued.max.messages.kbytes"), Some("1024"));
        assert_eq!(client.get("auto.offset.reset"), Some("error"));
        let client = producer_properties(&with("compression.type", "none"), "b:1").unwrap();
        assert_eq!(client.get("compression.type"), Some("none"));
    }

    #[test]
    fn check_properties_names_the_property_and_hides_its_value() {
        let error = check_properties(&with("sasl.pasword", "hunter2")).unwrap_err().to_string();
        assert_eq!(error, "'kafka.properties.sasl.pasword': librdkafka knows no such property");
        let error = check_properties(&with("security.protocol", "hunter2")).unwrap_err().to_string();
        assert_eq!(
            error,
            "'kafka.properties.security.protocol': librdkafka refuses the value, or was built without what it needs"
        );
    }
}
