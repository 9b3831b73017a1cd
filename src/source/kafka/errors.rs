//! What an error of the consumer means.

use rdkafka::error::RDKafkaErrorCode;

/// What to do about an error of the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    OutOfRange,
    Final,
    Transient,
}

/// What to do about an error.
pub(super) fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Verdict::OutOfRange,
        // The topic is gone, or closed to us.
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::TopicAuthorizationFailed => Verdict::Final,
        // After these librdkafka goes on behind the records that it could not read: going on would lose them.
        Code::BadMessage
        | Code::BadCompression
        | Code::NotImplemented
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::UnsupportedCompressionType
        | Code::MessageSizeTooLarge => Verdict::Final,
        _ => Verdict::Transient,
    }
}
