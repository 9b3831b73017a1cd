//! Errors of the Kafka source, and what an error of its client means for it.

use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::{ClientError, ClientFailure};

/// A fault of the Kafka source that waiting cannot mend.
#[derive(Debug, thiserror::Error)]
pub enum KafkaSourceError {
    /// A position that the partition does not hold any more (or not yet).
    #[error("position {position} of {stream} is not there: it holds {low}..{high}; {advice}")]
    PositionLost {
        /// The stream's label.
        stream: String,
        /// The offset that was to be read next.
        position: u64,
        /// The oldest offset of the partition.
        low: u64,
        /// One past the newest offset of the partition.
        high: u64,
        /// What the operator can do.
        advice: &'static str,
    },
    /// Another record stands where one was read before.
    #[error(
        "the record at offset {offset} of {stream} is not the one that was read there: the topic was created anew; begin anew \
         too, with --fresh, or keep the model and set the positions anew: `negstream migrate`"
    )]
    Recreated {
        /// The stream's label.
        stream: String,
        /// The offset.
        offset: u64,
    },
    /// The topic is another one of the same name than the one that was read.
    #[error(
        "topic '{topic}' is not the one that was read: {found}, and no position means anything there; begin anew too, with \
         --fresh, or keep the model and set the positions anew: `negstream migrate` (its --help says where to)"
    )]
    OtherTopic {
        /// The topic.
        topic: String,
        /// What tells them apart.
        found: &'static str,
    },
    /// The state is another worker's.
    #[error(
        "the checkpoints in checkpoint.dir are those of worker '{was}', and this one is '{name}' (kafka.group_instance_id): \
         {found}; folders were exchanged, or one was copied, and records would be learnt twice; give each worker its own folder \
         back, and a new one an empty folder"
    )]
    OtherWorker {
        /// The name of the worker that the state is of.
        was: String,
        /// The name of this worker.
        name: String,
        /// Why both cannot be the same worker.
        found: String,
    },
    /// A client that cannot be set up.
    #[error(transparent)]
    Setup(#[from] ClientError),
    /// The topic, or this worker's way of reading it, is not acceptable.
    #[error("kafka ({brokers}): {problem}")]
    Refused {
        /// The brokers as configured.
        brokers: String,
        /// What is not acceptable, and what the operator can do.
        problem: String,
    },
    /// An error of the client that waiting will not mend.
    #[error("kafka ({brokers}): {doing}: {source}")]
    Client {
        /// The brokers as configured.
        brokers: String,
        /// What the client was to do, or the topic.
        doing: String,
        /// The client's error.
        source: ClientFailure,
    },
    /// A batch that the client cannot unpack.
    #[error(
        "the compressed batch at offset {offset} of {stream} cannot be unpacked: it is larger than receive.message.max.bytes \
         ({most_bytes}), or damaged; raise kafka.properties.\"receive.message.max.bytes\", for which there has to be memory, or \
         pass it over with kafka.on_data_loss = \"skip\" (its records are then counted as lost)"
    )]
    Unreadable {
        /// The stream's label.
        stream: String,
        /// The offset that was to be read next.
        offset: u64,
        /// The most bytes that a batch may have unpacked.
        most_bytes: String,
    },
    /// Another worker of the group reads what was this one's.
    #[error(
        "fenced: {stream} is read by another worker of the group from offset {from} on, and this one had read up to {position} \
         without telling the group; started again, it goes on from the newest checkpoint that fits"
    )]
    Fenced {
        /// The stream's label.
        stream: String,
        /// The offset at which the other worker began.
        from: u64,
        /// The position in this worker's state.
        position: u64,
    },
    /// Whether the state is still this worker's is not known, and cannot become known any more.
    #[error(
        "fenced: whether {stream} is still this worker's is not known: {why}; start it again: it goes on from a checkpoint that \
         is its own"
    )]
    OwnershipUnknown {
        /// The stream's label.
        stream: String,
        /// Why the ownership cannot become known.
        why: &'static str,
    },
    /// The state does not fit the group's history of a stream.
    #[error("the state holds {stream} up to {position}, which does not fit the group's history: {why}")]
    HistoryMismatch {
        /// The stream's label.
        stream: String,
        /// The position in the state.
        position: u64,
        /// What does not fit, and what the operator can do.
        why: String,
    },
    /// The group has another worker of the same name.
    #[error(
        "fenced: another worker of the group calls itself '{member}' (kafka.group_instance_id); each needs a name of its own"
    )]
    DuplicateMember {
        /// The name.
        member: String,
    },
    /// Told to stop before there was anything to read.
    #[error("stopped while waiting for the brokers ({brokers})")]
    Stopped {
        /// The brokers as configured.
        brokers: String,
    },
    /// A thread of the source that the operating system did not start.
    #[error("cannot start the thread '{name}': {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

impl KafkaSourceError {
    /// Whether another worker owns what this one has read, or may own it: then the state must not be saved.
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Fenced { .. } | Self::OwnershipUnknown { .. } | Self::DuplicateMember { .. } => true,
            Self::PositionLost { .. }
            | Self::Recreated { .. }
            | Self::OtherTopic { .. }
            | Self::OtherWorker { .. }
            | Self::Unreadable { .. }
            | Self::Setup(_)
            | Self::Refused { .. }
            | Self::Client { .. }
            | Self::HistoryMismatch { .. }
            | Self::Stopped { .. }
            | Self::Thread { .. } => false,
        }
    }
}

/// The class of an error of the consumer: what the source does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// A position is not there: find out which, and end or skip.
    OutOfRange,
    /// A batch cannot be unpacked: find out which, and end or skip.
    Unreadable,
    /// End: waiting mends nothing, or going on would lose records.
    Final,
    /// Wait until it passes.
    Transient,
}

/// The class of the error with this code.
pub(super) fn classify(code: RDKafkaErrorCode) -> ErrorClass {
    use RDKafkaErrorCode as Code;
    match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => ErrorClass::OutOfRange,
        // The topic is gone, or closed to this worker.
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::TopicAuthorizationFailed => ErrorClass::Final,
        // After these librdkafka goes on behind the records that it could not read: going on would lose them.
        Code::BadCompression => ErrorClass::Unreadable,
        Code::BadMessage
        | Code::NotImplemented
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::UnsupportedCompressionType
        | Code::MessageSizeTooLarge => ErrorClass::Final,
        _ => ErrorClass::Transient,
    }
}

/// True where the group no longer counts this worker among its members: the commit was refused for good.
pub(super) fn is_fenced(code: RDKafkaErrorCode) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classify_tells_transient_errors_from_final_ones() {
        use RDKafkaErrorCode as Code;
        for (code, expected) in [
            (Code::AutoOffsetReset, ErrorClass::OutOfRange),
            (Code::UnknownTopicOrPartition, ErrorClass::Final),
            (Code::BadMessage, ErrorClass::Final),
            (Code::BadCompression, ErrorClass::Unreadable),
            (Code::BrokerTransportFailure, ErrorClass::Transient),
            (Code::AllBrokersDown, ErrorClass::Transient),
            (Code::LeaderNotAvailable, ErrorClass::Transient),
            (Code::GroupAuthorizationFailed, ErrorClass::Transient),
        ] {
            assert_eq!(classify(code), expected, "{code:?}");
        }
    }
}
