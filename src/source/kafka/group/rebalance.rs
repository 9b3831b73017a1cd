//! Rebalances: what the group's coordinator says, noted in the client's callback. They are carried out by
//! [`Membership`](super::membership::Membership), whenever the source is called.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::kafka::ClientCallbacks;
use crate::source::kafka::topic_partition::TopicPartition;

/// A change of this worker's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::kafka) enum Rebalance {
    /// Partitions that are this worker's to read.
    Assigned(Vec<TopicPartition>),
    /// Partitions that will be another worker's once this one has released them.
    Revoked(Vec<TopicPartition>),
    /// Partitions that are another worker's already, or soon: this one was not heard of for too long.
    Lost(Vec<TopicPartition>),
}

/// The callbacks of the consumer: log lines, errors, rebalances.
#[derive(Debug, Default)]
pub(in crate::source::kafka) struct ConsumerCallbacks {
    pub(in crate::source::kafka) reports: ClientCallbacks,
    rebalances: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
}

impl ConsumerCallbacks {
    /// The oldest rebalance that was not carried out yet.
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances().pop_front()
    }

    /// Whether there is a rebalance to carry out.
    pub(in crate::source::kafka) fn has_rebalances(&self) -> bool {
        !self.rebalances().is_empty()
    }

    /// Answers every further rebalance at once in the callback: the source carries none out any more.
    pub(in crate::source::kafka) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn rebalances(&self) -> MutexGuard<'_, VecDeque<Rebalance>> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for ConsumerCallbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ConsumerContext for ConsumerCallbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assignment = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let done = match is_assignment {
                true => consumer.incremental_assign(&TopicPartitionList::new()),
                false => consumer.incremental_unassign(partitions),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the last rebalance was not carried out");
            }
            return;
        }
        let changed: Vec<TopicPartition> = partitions.elements().iter().map(TopicPartition::of).collect();
        let rebalance = match (is_assignment, consumer.assignment_lost()) {
            (true, _) => Rebalance::Assigned(changed),
            (false, true) => Rebalance::Lost(changed),
            (false, false) => Rebalance::Revoked(changed),
        };
        self.rebalances().push_back(rebalance);
    }
}
