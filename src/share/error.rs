//! What can go wrong between workers that share a model.

use super::ledger::DeltaConflict;
use super::{DeltaError, parts};
use crate::kafka::ClientError;

/// A fault of a worker that shares its model.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// A client of Kafka failed for good.
    #[error("the shared model: {0}")]
    Kafka(#[from] ClientError),
    /// The topic cannot hold the deltas of a model.
    #[error(
        "'share.topic' is '{topic}', which has {n} partitions: deltas have one order only where there is one; name another, or none that exists"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        n: usize,
    },
    /// The state was made with another log, or none.
    #[error(
        "the state in 'checkpoint.dir' {why}; name the topic that it was made with, or an empty folder: a new worker takes the shared model over from the topic, or from 'share.peers'"
    )]
    OtherLog {
        /// What is different about it.
        why: String,
    },
    /// The model of the topic is another.
    #[error(
        "the model of topic '{topic}' was made with another configuration, as far as it depends on it: all its workers have the same; name another topic for another model"
    )]
    OtherConfiguration {
        /// The topic.
        topic: String,
    },
    /// The state is part of a shared model, and is to go on without the others.
    #[error(
        "the state in 'checkpoint.dir' is that of a worker that shares its model by topic '{topic}': set 'share.topic' to it, or name another folder"
    )]
    OthersLeftOut {
        /// The topic.
        topic: String,
    },
    /// The topic has lost what would have to be received.
    #[error(
        "topic '{topic}' begins at offset {low}, and the state holds what it says up to {next} only: deltas between are gone; take the model over from another worker's newest checkpoint (an empty 'checkpoint.dir', and 'share.peers')"
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The oldest offset that it holds.
        low: u64,
        /// The first one that the state has not received.
        next: u64,
    },
    /// A record of the topic that no worker of this version writes.
    #[error("topic '{topic}', offset {offset}: {problem}")]
    Foreign {
        /// The topic.
        topic: String,
        /// Where it is.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// What this worker sent is void: deltas of others covered the same records before.
    #[error(
        "worker '{worker}' was overtaken: what it has learnt does not count, since {conflict}; it goes on from its checkpoint and topic '{topic}' when it is started again"
    )]
    Overtaken {
        /// The worker.
        worker: String,
        /// The topic.
        topic: String,
        /// Why.
        conflict: DeltaConflict,
    },
    /// Another process sends deltas in this worker's name.
    #[error(
        "another process has sent deltas as worker '{worker}': two workers of a group need two names (kafka.group_instance_id) and two folders"
    )]
    Impostor {
        /// The name.
        worker: String,
    },
    /// Another worker has sent a delta of records that this one has read, and sent none of.
    #[error(
        "another worker, '{by}', has sent a delta of {stream} from offset {from} on, which this worker has read already: the partition was taken over; the worker goes on from its checkpoint and topic '{topic}' when it is started again"
    )]
    TakenOver {
        /// The stream.
        stream: String,
        /// First offset of the other's delta.
        from: u64,
        /// The other worker.
        by: String,
        /// The topic.
        topic: String,
    },
    /// What was sent last has not come back in time.
    #[error(
        "what this worker sent last did not come back on topic '{topic}' within {seconds} s; whether it counts is found out at the next start"
    )]
    Unconfirmed {
        /// The topic.
        topic: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The source begins a stream behind what the shared model holds of it.
    #[error("{stream}: reading goes on at offset {next}, and the shared model holds it up to {covered} only")]
    Gap {
        /// The stream.
        stream: String,
        /// Where reading goes on.
        next: u64,
        /// The first record that is in no delta.
        covered: u64,
    },
    /// A thread that the operating system did not start.
    #[error("cannot start the thread that reads the deltas of other workers: {0}")]
    Thread(std::io::Error),
    /// The thread died.
    #[error("the thread that reads the deltas of other workers panicked")]
    Panicked,
}

impl ShareError {
    /// Whether what this worker has learnt since its newest checkpoint does not count, and must not be saved.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Overtaken { .. } | Self::Impostor { .. } | Self::TakenOver { .. })
    }

    /// The error for a record at `offset` of `topic` that is no delta.
    pub(super) fn foreign(topic: &str, offset: u64, problem: impl ToString) -> Self {
        Self::Foreign { topic: topic.to_owned(), offset, problem: problem.to_string() }
    }
}

/// Why a record is no delta.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordFault {
    #[error(transparent)]
    NoPart(#[from] parts::NoPart),
    #[error(transparent)]
    Delta(#[from] DeltaError),
}
