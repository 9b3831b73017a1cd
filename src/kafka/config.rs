//! The section `kafka`: brokers, topics, and the consumer group.

use std::collections::BTreeMap;

use super::EMBEDDED;
use super::topics::{TopicConfig, require_one_topic};
use crate::decode::{Format, SourceConfig};
use crate::util::cargo_feature::CargoFeature;
use crate::util::config_section::{REDACTED, Refusal, config_choice, config_section, require};
use crate::util::credentials::may_hold_credentials;

/// What is wrong with a topic of events that is its own topic of dead letters.
const FEEDS_ITSELF: &str = "must be another topic than kafka.topic or one of kafka.topics: each letter would be read, \
                            rejected and written again, without end";

config_choice! {
    /// Where a topic is read from when no position in it is known.
    pub enum StartingOffsets {
        /// From the oldest record that is there.
        Earliest = "earliest",
        /// From now on.
        Latest = "latest",
    }
}

config_choice! {
    /// Who reads which partitions of the topics.
    pub enum Assignment {
        /// The workers of the group share them.
        Group = "group",
        /// This worker reads all, whoever else does.
        All = "all",
    }
}

config_choice! {
    /// What becomes of records that retention deleted before they were read.
    pub enum OnDataLoss {
        /// The worker stops.
        Fail = "fail",
        /// They are counted as lost, and passed over.
        Skip = "skip",
    }
}

config_section! {
    /// Brokers, topics, and the consumer group.
    pub struct KafkaConfig {
        /// `host:port,…`; `embedded`: a broker inside the process, whose records end with it.
        brokers: String = String::new() => [check(|brokers, _| validate_brokers(brokers))];
        /// The topic of events.
        topic: String = "interactions".to_owned() => [not_empty, check(|topic, _| require_one_topic(topic))];
        /// Several topics of events, in place of `kafka.topic`: a list of tables, `[[kafka.topics]]`, each with a `name` and any
        /// keys of `source` that are others for its records (`event_type = "view"`, `fields.user_id = "uid"`); see
        /// docs/kafka.md.
        topics: Vec<TopicConfig> = Vec::new();
        /// The consumer group.
        group: String = "negstream".to_owned();
        /// `group`: the workers of the group share the partitions, each record is learnt by one of them. `all`: this worker
        /// reads every partition, and commits offsets to the group for lag monitors alone.
        assignment: Assignment = Assignment::Group;
        /// This worker's name in the group across restarts, different for each worker. Empty: the worker names itself, and
        /// its checkpoints keep the name.
        group_instance_id: String = String::new();
        /// The group keeps the worker's place while it is away (static membership): started again within
        /// `session.timeout.ms`, also after it was killed, it gets its own partitions back at once. `false`: what it read is
        /// given to others as soon as it stops. A run with an end (`run --until-end`) leaves no place behind, unless it has a
        /// `group_instance_id`.
        static_membership: bool = true;
        /// Records deleted by retention before they were read: `fail`, or `skip` (counted as lost).
        on_data_loss: OnDataLoss = OnDataLoss::Fail;
        /// Where to begin on the very first start: `earliest` or `latest`.
        starting_offsets: StartingOffsets = StartingOffsets::Earliest;
        /// Topic for rejected records, another one than those that are read; empty: none.
        dead_letter_topic: String = String::new() => [check(|topic, kafka| require(!kafka.topic_names().contains(&topic.as_str()), FEEDS_ITSELF))];
        /// Partitions of a topic that has to be created.
        partitions: i32 = 1 => [at_least(1)];
        /// Further librdkafka properties, passed on as they are.
        properties: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_properties), check(|properties, _| validate_properties(properties))];
    }
}

impl KafkaConfig {
    /// Whether brokers outside of this process are named.
    pub fn names_brokers(&self) -> bool {
        !self.brokers.is_empty() && self.brokers != EMBEDDED
    }

    /// The topics of events, in the order of the configuration.
    pub fn topic_names(&self) -> Vec<&str> {
        match self.topics.as_slice() {
            [] => vec![&self.topic],
            topics => topics.iter().map(|topic| topic.name.as_str()).collect(),
        }
    }

    /// How the records of each topic are read, in the order of [`Self::topic_names`], where `source` says what they have in
    /// common.
    ///
    /// # Errors
    /// A setting of a topic that is refused.
    pub fn topic_sources(&self, source: &SourceConfig) -> Result<Vec<SourceConfig>, Refusal> {
        match self.topics.as_slice() {
            [] => Ok(vec![source.clone()]),
            topics => topics.iter().map(|topic| topic.source(source)).collect(),
        }
    }

    /// The encoding of the records of `topic`, where those that say nothing of it are in `format`.
    pub fn format_of(&self, topic: &str, format: Format) -> Format {
        let topic = self.topics.iter().find(|configured| configured.name == topic);
        topic.and_then(TopicConfig::format).unwrap_or(format)
    }

    /// The same configuration for `topic` alone.
    #[must_use]
    pub fn for_topic(&self, topic: &str) -> Self {
        let topics = self.topics.iter().filter(|configured| configured.name == topic).cloned().collect();
        Self { topic: topic.to_owned(), topics, ..self.clone() }
    }
}

/// Refuses what may be a password: every message about the brokers repeats their addresses.
fn validate_brokers(brokers: &str) -> Result<(), Refusal> {
    let message = "must be host:port,…; user and password are kafka.properties.sasl.username and .sasl.password";
    require(!may_hold_credentials(brokers), message)
}

/// Refuses properties that this build cannot do.
pub(crate) fn validate_properties(properties: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (property, value) in properties {
        CargoFeature::Tls.require_if(needs_tls(property, value)).map_err(|message| Refusal::of(property, message))?;
    }
    Ok(())
}

/// Whether librdkafka refuses a property, or its value, where it was built without OpenSSL.
fn needs_tls(property: &str, value: &str) -> bool {
    match property {
        "security.protocol" => ["ssl", "sasl_ssl"].iter().any(|secured| value.eq_ignore_ascii_case(secured)),
        "sasl.mechanism" | "sasl.mechanisms" => value.to_ascii_uppercase().starts_with("SCRAM-"),
        _ => property.starts_with("ssl."),
    }
}

/// Words in the name of a property whose value is not shown.
const SECRETS: [&str; 11] =
    ["password", "passwd", "secret", "key", "token", "jaas", "pem", "oauth", "credential", "proxy", "assertion"];

/// Hides the values that may be secret.
pub(crate) fn redact_properties(properties: &mut BTreeMap<String, String>) {
    for (key, value) in properties {
        let harmless = ["sasl.mechanism", "sasl.mechanisms", "sasl.username"].contains(&key.as_str());
        let secret = SECRETS.iter().any(|word| key.to_lowercase().contains(word));
        if secret || (key.starts_with("sasl.") && !harmless) {
            REDACTED.clone_into(value);
        }
    }
}
