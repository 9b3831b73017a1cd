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

    /// Streams and their next offsets, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, next)| (name.as_str(), *next))
    }

    /// Drops the positions of streams whose name begins with `prefix`.
    pub fn forget(&mut self, prefix: &str) {
        self.0.retain(|name, _| !name.starts_with(prefix));
    }
}
