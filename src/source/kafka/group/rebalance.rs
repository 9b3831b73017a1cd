//! What the group's coordinator says, noted for the source: rebalances are carried out by [`crate::source::kafka::group::membership`], not in the
//! client's callback.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::kafka::ClientCallbacks;

/// Partitions by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::kafka) enum Rebalance {
    /// They are this worker's to read.
    Assigned(Vec<i32>),
    /// They will be another's once this worker lets go.
    Revoked(Vec<i32>),
    /// They are another's already, or soon: this worker was not heard of for too long.
    Lost(Vec<i32>),
}

/// The consumer's context.
#[derive(Debug, Default)]
pub(in crate::source::kafka) struct Context {
    pub(in crate::source::kafka) reports: ClientCallbacks,
    rebalances: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
}

impl Context {
    /// The oldest that was not carried out yet.
    pub(in crate::source::kafka) fn next(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether one waits.
    pub(in crate::source::kafka) fn waits(&self) -> bool {
        !self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// From now on partitions are let go of at once: nobody will carry anything out.
    pub(in crate::source::kafka) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let done = match assigned {
                true => consumer.incremental_assign(&TopicPartitionList::new()),
                false => consumer.incremental_unassign(partitions),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the last rebalance was not carried out");
            }
            return;
        }
        let ids: Vec<i32> = partitions.elements().iter().map(TopicPartitionListElem::partition).collect();
        let rebalance = match (assigned, consumer.assignment_lost()) {
            (true, _) => Rebalance::Assigned(ids),
            (false, true) => Rebalance::Lost(ids),
            (false, false) => Rebalance::Revoked(ids),
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}

/// True where the group knows this worker no more.
pub(in crate::source::kafka) fn is_out(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
            | Code::AssignmentLost
    )
}
