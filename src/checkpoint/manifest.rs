//! The manifest: what a checkpoint is, and the sizes and checksums of its files.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{EventCounts, Evicted};
use crate::position::cuts::Cuts;
use crate::position::{Ownerships, Positions};
use crate::share::SharedProgress;
use crate::util::encoding::sha256;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 2;
/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// No manifest is longer, in bytes: it has a line or two for each stream that was ever read.
pub const LONGEST_MANIFEST: u64 = 256 << 20;

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The file's name in the checkpoint's folder.
    pub name: String,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal as `sha256sum` prints it.
    pub sha256: String,
    /// Key of the file below the place of all checkpoints, in an object store; `None` on a disk, where it is beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Which run a checkpoint belongs to, and which worker wrote it. [`super::store::Draft::publish`] fills it in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run: a name that all checkpoints which stem from the same beginning share.
    pub lineage: String,
    /// The epoch of the lease under which it was written, in an object store; 0 on a disk.
    pub epoch: u64,
    /// A random name of this manifest alone, by which its writer recognises it after a lost answer.
    pub id: String,
}

/// How much of the file of dead letters belongs to the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterMark {
    /// The configured path, `dead_letters.file`.
    pub file: String,
    /// Length of the part that belongs to the state, in bytes.
    pub bytes: u64,
}

/// The manifest of a checkpoint: what the model is, where the sources stood, and the list of files. It is written last, so that
/// a checkpoint with a manifest is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the checkpoint format: [`FORMAT`].
    pub format: u32,
    /// Version of negstream that wrote it.
    pub negstream: String,
    /// SHA-256 of `configuration`.
    pub configuration_digest: String,
    /// The part of the configuration that the state depends on: `Config::state_relevant`.
    pub configuration: Map<String, Value>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// Optimizer steps taken.
    pub step: u64,
    /// Events by what became of them.
    pub events: EventCounts,
    /// Number of items.
    pub items: u64,
    /// Number of users.
    pub users: u64,
    /// Rows of items and users that were evicted.
    pub evicted: Evicted,
    /// Dimensions of an embedding.
    pub dim: usize,
    /// `cosine` (the embeddings in `items.parquet` have norm 1) or `dot`.
    pub similarity: String,
    /// β: what `log_frequency` counts in the score. A query's extra dimension, where an index serves it.
    pub beta: f32,
    /// τ: similarity is divided by it.
    pub temperature: f32,
    /// For every stream ever read, the first offset that is not part of the state.
    pub positions: Positions,
    /// How each stream is owned, and which member of its group the worker is.
    pub ownerships: Ownerships,
    /// Where batches were cut by something else than the log since the checkpoint before: by the clock, a signal, a rebalance,
    /// an end. The checkpoint before, the log and these give this state. `None` in checkpoints of a version that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<Cuts>,
    /// How far the worker is with what others tell, where its model is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedProgress>,
    /// The dead-letter file and how much of it belongs to the state, where there is one.
    pub dead_letters: Option<DeadLetterMark>,
    /// Which run the checkpoint belongs to, and which worker wrote it.
    pub provenance: Provenance,
    /// The other files of the checkpoint.
    pub files: Vec<FileEntry>,
}

/// What can be wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestFault {
    /// The text is not as it was written.
    Damaged(String),
    /// The manifest is of this other format. (Every format keeps the checksum as it is.)
    OtherFormat(u64),
}

/// Digits of a [`model_id`].
const MODEL_ID_DIGITS: usize = 24;

/// The name of the space that embeddings belong to, of the configuration with this digest, learnt by the run `lineage`: the same
/// for all checkpoints of a run, hexadecimal digits.
pub fn model_id(configuration_digest: &str, lineage: &str) -> String {
    let mut id = sha256(format!("{configuration_digest} {lineage}").as_bytes());
    id.truncate(MODEL_ID_DIGITS);
    id
}

/// The key of the manifest's own checksum.
const CHECKSUM: &str = "manifest_sha256";

impl Manifest {
    /// The name of the space that the checkpoint's embeddings belong to, as sinks have it.
    pub fn model_id(&self) -> String {
        model_id(&self.configuration_digest, &self.provenance.lineage)
    }

    /// The file's text: JSON, with a checksum of everything else as its last key.
    pub fn to_text(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a manifest is JSON");
        value[CHECKSUM] = Value::from(sha256(value.to_string().as_bytes()));
        format!("{value:#}\n")
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`ManifestFault`], the checksum being compared before anything else.
    pub fn from_text(text: &[u8]) -> Result<Self, ManifestFault> {
        let damaged = |error: serde_json::Error| ManifestFault::Damaged(error.to_string());
        let mut value: Value = serde_json::from_slice(text).map_err(damaged)?;
        let stated = value.as_object_mut().and_then(|object| object.shift_remove(CHECKSUM));
        let found = sha256(value.to_string().as_bytes());
        if stated.as_ref().and_then(Value::as_str) != Some(&found) {
            return Err(ManifestFault::Damaged("its own checksum does not fit".to_owned()));
        }
        // After the checksum: an altered version number is damage, not another format.
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format != u64::from(FORMAT) => Err(ManifestFault::OtherFormat(format)),
            _ => serde_json::from_value(value).map_err(damaged),
        }
    }
}

/// SHA-256 of the state-relevant configuration.
pub fn digest(configuration: &Map<String, Value>) -> String {
    sha256(Value::Object(configuration.clone()).to_string().as_bytes())
}

/// The keys in which two state-relevant configurations differ, with both values; empty where they agree.
pub fn differences(theirs: &Map<String, Value>, ours: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &Value::Object(theirs.clone()), &Value::Object(ours.clone()), &mut found);
    found
}

fn compare(key: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let keys: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
            for inner in keys {
                let full = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                let value = |map: &Map<String, Value>| map.get(inner).cloned().unwrap_or(Value::Null);
                compare(&full, &value(theirs), &value(ours), found);
            }
        }
        _ if theirs == ours => {}
        _ => found.push(format!("{key} = {theirs} there, {ours} here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers;

    fn with(flags: &[&str]) -> Map<String, Value> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        layers::load(None, std::iter::empty(), &flags).unwrap().state_relevant()
    }

    #[test]
    fn only_what_matters_is_compared() {
        let there = with(&[]);
        let same = with(&["threads=1", "kafka.topic=x", "checkpoint.keep=9", "evaluate.share=0.1"]);
        assert_eq!(digest(&there), digest(&same));
        assert!(differences(&there, &same).is_empty());
        let other = with(&["model.dim=8", "negatives.half_life=inf"]);
        assert_ne!(digest(&there), digest(&other));
        assert_eq!(
            differences(&there, &other),
            ["model.dim = 64 there, 8 here", "negatives.half_life = \"auto\" there, \"inf\" here"]
        );
    }
}
