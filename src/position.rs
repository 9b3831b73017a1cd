//! Positions of a worker in the streams of its source, and what is known of how it came to own them.
//!
//! Positions travel with the state in the checkpoint; nothing else decides where a worker goes on.

pub mod cuts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One stream of a source: a partition of a topic, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The stream's lasting identity: `kafka/TOPIC/PARTITION`, or `parquet/FINGERPRINT`, `csv/…`, `json/…` (of the content,
    /// so that a moved file is known again).
    pub name: String,
    /// What a person calls the stream: `TOPIC/PARTITION` or the file's path.
    pub label: String,
}

impl Stream {
    /// Whether the stream is a file: those are read one after the other, and partitions side by side.
    pub fn is_file(&self) -> bool {
        ["parquet/", "csv/", "json/"].iter().any(|format| self.name.starts_with(format))
    }
}

/// The next offset of every stream ever read, by the stream's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions(BTreeMap<String, u64>);

impl Positions {
    /// The first offset of `stream` that is not part of the model yet; `None` where the stream was never read.
    pub fn next(&self, stream: &str) -> Option<u64> {
        self.0.get(stream).copied()
    }

    /// Moves `stream` on to `next`.
    pub fn advance(&mut self, stream: &str, next: u64) {
        match self.0.get_mut(stream) {
            Some(position) => *position = next,
            None => {
                self.0.insert(stream.to_owned(), next);
            }
        }
    }

    /// Whether every stream of `other` stands here at least as far.
    pub fn cover(&self, other: &Self) -> bool {
        other.iter().all(|(stream, next)| self.next(stream).is_some_and(|reached| reached >= next))
    }

    /// Streams and their next offsets, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, next)| (name.as_str(), *next))
    }

    /// Drops the positions of streams whose name begins with `prefix`.
    pub fn forget(&mut self, prefix: &str) {
        self.0.retain(|name, _| !name.starts_with(prefix));
    }
}

impl<S: Into<String>> FromIterator<(S, u64)> for Positions {
    fn from_iter<I: IntoIterator<Item = (S, u64)>>(positions: I) -> Self {
        Self(positions.into_iter().map(|(stream, next)| (stream.into(), next)).collect())
    }
}

/// How a worker came to own what its state holds of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnershipRecord {
    /// As the member of a group, by the claim of this number.
    Claim(u64),
    /// As the member of a group that has handed the stream over since.
    Released,
    /// Without a group: all of the stream is this worker's.
    Standalone,
}

/// What is known of a stream besides its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOwnership {
    /// How the worker came to own the stream.
    pub record: OwnershipRecord,
    /// The broker's timestamp of the record before the position (milliseconds since 1970): a stream with another record
    /// there is another stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<i64>,
}

impl Default for StreamOwnership {
    /// The ownership of a stream of which nothing is known: standalone, without a timestamp.
    fn default() -> Self {
        Self { record: OwnershipRecord::Standalone, last_timestamp: None }
    }
}

/// What tells one topic from another of the same name: that of another cluster, or one that was made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicIdentity {
    /// The id of the cluster, where the brokers tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The id of the topic, where the brokers tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// In what a topic is another than the one that was known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicChange {
    /// It is of another cluster.
    Cluster,
    /// It was created anew.
    Topic,
}

impl TopicIdentity {
    /// In what the topic with the identity `now` is another than this one; `None` where it is the same as far as both are known.
    pub fn changed_to(&self, now: &Self) -> Option<TopicChange> {
        let differ = |was: &Option<String>, is: &Option<String>| was.is_some() && is.is_some() && was != is;
        if differ(&self.cluster, &now.cluster) {
            Some(TopicChange::Cluster)
        } else {
            differ(&self.topic, &now.topic).then_some(TopicChange::Topic)
        }
    }
}

/// The ownership of every stream in a worker's state, by the stream's name, and the worker's own name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownerships {
    /// The worker's name in its group; empty where it never was in one.
    #[serde(default)]
    pub worker: String,
    /// The name that it had before that one, where it had another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<String>,
    #[serde(default)]
    streams: BTreeMap<String, StreamOwnership>,
    /// A digest of the settings by which the newest record was read that was taken; `None` before the first, and in
    /// checkpoints of a version that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_by: Option<String>,
    /// The identity of each topic that was read, by the topic's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    topics: BTreeMap<String, TopicIdentity>,
}

impl Ownerships {
    /// The ownership of `stream`; the default where nothing is known.
    pub fn of(&self, stream: &str) -> StreamOwnership {
        self.streams.get(stream).copied().unwrap_or_default()
    }

    /// Names the worker; the name that it had before is remembered.
    pub fn rename(&mut self, name: &str) {
        let was = std::mem::replace(&mut self.worker, name.to_owned());
        if !was.is_empty() && was != name {
            self.formerly = Some(was);
        }
    }

    /// The identity of `topic`, where it is known.
    pub fn topic(&self, topic: &str) -> Option<&TopicIdentity> {
        self.topics.get(topic)
    }

    /// Notes the identity of `topic`; what the brokers do not tell now stays as it was known.
    pub fn set_topic(&mut self, topic: &str, identity: TopicIdentity) {
        let known = self.topics.entry(topic.to_owned()).or_default();
        known.cluster = identity.cluster.or(known.cluster.take());
        known.topic = identity.topic.or(known.topic.take());
    }

    /// Drops what is known of a topic's identity.
    pub fn forget_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Notes how `stream` is owned from now on; the timestamp before its position stays.
    pub fn set_record(&mut self, stream: &str, record: OwnershipRecord) {
        let last_timestamp = self.of(stream).last_timestamp;
        self.streams.insert(stream.to_owned(), StreamOwnership { record, last_timestamp });
    }

    /// Notes the timestamp of the record before the position of `stream`.
    pub fn set_last_timestamp(&mut self, stream: &str, last_timestamp: Option<i64>) {
        match self.streams.get_mut(stream) {
            Some(ownership) => ownership.last_timestamp = last_timestamp,
            None => {
                let ownership = StreamOwnership { last_timestamp, ..StreamOwnership::default() };
                self.streams.insert(stream.to_owned(), ownership);
            }
        }
    }

    /// Drops what is known of streams whose name begins with `prefix`.
    pub fn forget(&mut self, prefix: &str) {
        self.streams.retain(|name, _| !name.starts_with(prefix));
    }
}
