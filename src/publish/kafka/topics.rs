//! The topics of the sink: made where they are missing, refused where they would lose rows.

use rdkafka::error::RDKafkaErrorCode;

use super::{KafkaSink, NAME};
use crate::kafka::{ClientError, admin};
use crate::publish::SinkError;

/// The topic of state is compacted in small pieces: every update adds a record.
const STATE_SEGMENT: &str = "4194304";
/// How the topic of queries is cleaned up where it has to be created.
const QUERY_POLICY: &str = "compact,delete";

impl KafkaSink {
    /// Makes the topics that are missing, refuses those that would lose rows, and returns how many partitions items have.
    pub(super) fn ensure_topics(&mut self) -> Result<usize, SinkError> {
        let count = self.n_partitions;
        let all = [
            (&self.topics[0], count, &[("cleanup.policy", "compact")][..]),
            (&self.topics[1], count, &[("cleanup.policy", "compact")]),
            (&self.topics[2], 1, &[("cleanup.policy", "compact"), ("segment.bytes", STATE_SEGMENT)]),
            // Who does nothing for as long as the topic's retention leaves it.
            (&self.topics[3], count, &[("cleanup.policy", QUERY_POLICY)]),
        ];
        for (topic, count, properties) in all.into_iter().take(if self.with_users { 4 } else { 3 }) {
            let made = admin::ensure_topic_with(&self.config, &self.brokers, topic, count, properties);
            made.map_err(|error| self.admin_error(error))?;
            let policy = match admin::topic_property(&self.config, &self.brokers, topic, "cleanup.policy") {
                Ok(policy) => policy,
                Err(error) => {
                    tracing::warn!(%error, topic, "whether the topic of a sink is compacted cannot be seen");
                    continue;
                }
            };
            let is_right =
                |policy: &String| policy == "compact" || *topic == self.topics[3] && policy.contains("compact");
            if let Some(policy) = policy.filter(|policy| !is_right(policy)) {
                return Err(self.refused(format!(
                    "topic '{topic}' has cleanup.policy={policy}, and would lose rows by it: set it to compact, or choose \
                     another prefix (name)"
                )));
            }
        }
        let topic = self.topics[0].clone();
        let partitions = self.ask(|reader| reader.partitions(&topic))?;
        Ok(partitions.map_or(0, |partitions| partitions.len()))
    }

    /// Whether brokers refuse to make a topic, or are away.
    fn admin_error(&self, error: ClientError) -> SinkError {
        use RDKafkaErrorCode as Code;
        let is_refusal = |code: Code| {
            let is_wrong = matches!(
                code,
                Code::PolicyViolation
                    | Code::InvalidTopic
                    | Code::InvalidPartitions
                    | Code::InvalidReplicationFactor
                    | Code::InvalidConfig
            );
            is_wrong || crate::kafka::is_refusal(code)
        };
        let is_refused = !matches!(error, ClientError::Failed { .. }) || error.code().is_some_and(is_refusal);
        if is_refused { self.refused(error) } else { SinkError::away(NAME, error) }
    }
}
