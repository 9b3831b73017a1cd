//! Where a source stands: for each of its streams, the offset of the first record not yet part of the model.
//!
//! Positions travel with the state in the checkpoint; nothing else decides where a worker goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One stream of a source: a partition of a topic, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its lasting identity: `kafka/TOPIC/PARTITION`, or `parquet/FINGERPRINT` (of the content, so that a moved file
    /// is known again).
    pub name: String,
    /// What a person calls it: `TOPIC/PARTITION` or the file's path.
    pub label: String,
}

/// The next offset of every stream ever read, by the stream's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions(BTreeMap<String, u64>);

impl Positions {
    /// The first offset of `stream` that is not part of the model yet; `None` where it was never read.
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

/// How a worker came to hold what its state has of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// As the member of a group, by the claim of this number.
    Claim(u64),
    /// As the member of a group that let go of it.
    LetGo,
    /// Without a group: all of the stream is this worker's.
    Outside,
}

/// What is known of a stream besides the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOwnership {
    /// How it is held.
    pub hold: Hold,
    /// When the record before the position was produced (milliseconds since 1970, as the broker says): a stream that
    /// holds another record there is another stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<i64>,
}

/// What a worker holds of each stream, by the stream's name, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownerships {
    /// The worker's name in its group; empty where it never was in one.
    #[serde(default)]
    pub worker: String,
    #[serde(default)]
    streams: BTreeMap<String, StreamOwnership>,
}

impl Ownerships {
    /// What is held of `stream`; nothing that is known: [`Hold::Outside`], without a stamp.
    pub fn of(&self, stream: &str) -> StreamOwnership {
        self.streams.get(stream).copied().unwrap_or(StreamOwnership { hold: Hold::Outside, stamp: None })
    }

    /// Notes how `stream` is held from now on, where its position stays the same.
    pub fn hold(&mut self, stream: &str, hold: Hold) {
        let stamp = self.of(stream).stamp;
        self.streams.insert(stream.to_owned(), StreamOwnership { hold, stamp });
    }

    /// Notes when the record before the position of `stream` was produced.
    pub fn stamp(&mut self, stream: &str, stamp: Option<i64>) {
        match self.streams.get_mut(stream) {
            Some(holding) => holding.stamp = stamp,
            None => drop(self.streams.insert(stream.to_owned(), StreamOwnership { hold: Hold::Outside, stamp })),
        }
    }

    /// Drops what is known of streams whose name begins with `prefix`.
    pub fn forget(&mut self, prefix: &str) {
        self.streams.retain(|name, _| !name.starts_with(prefix));
    }
}
