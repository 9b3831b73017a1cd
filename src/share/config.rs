//! The section `share`: one model of all workers of a group.

use super::MovePrecision;
use crate::kafka::require_one_topic;
use crate::util::config_section::{Refusal, config_section};

config_section! {
    /// One model of all workers of a `kafka.group`, by a topic in which they send each other what they learn; see
    /// docs/scale-out.md.
    pub struct ShareConfig {
        /// The topic, of one partition, which is made where there is none; empty: each worker has a model of its own. All workers
        /// of one model name the same, and no other.
        topic: String = String::new() => [check(|topic, _| require_topic_or_none(topic))];
        /// How often a worker sends what it has learnt, in milliseconds; while the model is young, and where interest fades fast, more often.
        flush_ms: u64 = 1_000 => [within(10..=600_000)];
        /// The numbers by which rows' moves are sent: `bf16`, or `f32` for twice the bytes.
        precision: MovePrecision = MovePrecision::Bf16;
        /// Records before its first one that are read again of a partition which another worker had, for the pasts of its users.
        reread: u64 = 100_000 => [at_most(1_000_000_000)];
        /// Where checkpoints of other workers of the group may be, `checkpoint.dir` of theirs: a worker without one of its own begins
        /// with the newest of them. Without any it begins at the beginning of the topic, which must not have lost it yet.
        peers: Vec<String> = Vec::new();
        /// How long the topic keeps what was sent, in hours, where it is made here: for longer than a worker is away.
        retention_hours: u64 = 168 => [within(1..=87_600)];
    }
}

impl ShareConfig {
    /// Whether the model is shared.
    pub fn is_on(&self) -> bool {
        !self.topic.is_empty()
    }
}

fn require_topic_or_none(topic: &str) -> Result<(), Refusal> {
    if topic.is_empty() { Ok(()) } else { require_one_topic(topic) }
}
