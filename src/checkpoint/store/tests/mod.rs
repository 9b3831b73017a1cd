//! Stores as a whole: what is durable when the power goes, and what an object store holds after any sequence of faults.

mod contract;
#[cfg(feature = "s3")]
mod faulty;
mod local;
mod memory;
#[cfg(feature = "s3")]
mod object_store;
mod power_cut;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Store;
use crate::checkpoint::manifest::{FORMAT, FileEntry, Manifest, Provenance};
use crate::checkpoint::{Checkpoint, CheckpointConfig, CheckpointError};

/// A checkpoint of a state that is one number.
fn publish(store: &Store, state: u64) -> Result<PathBuf, CheckpointError> {
    let mut draft = store.draft()?;
    draft.file("items.parquet", |file| Ok(file.write_all(format!("items {state}").as_bytes())?))?;
    draft.file("state.json", |file| Ok(file.write_all(format!("{state}").as_bytes())?))?;
    Ok(draft.publish(|files| manifest_of(state, files))?.path)
}

/// A manifest of that state.
fn manifest_of(state: u64, files: Vec<FileEntry>) -> Manifest {
    Manifest {
        format: FORMAT,
        negstream: String::new(),
        configuration_digest: String::new(),
        configuration: serde_json::Map::new(),
        seed: 1,
        step: state,
        events: Default::default(),
        items: 0,
        users: 0,
        evicted: Default::default(),
        dim: 1,
        similarity: String::new(),
        beta: 0.0,
        temperature: 1.0,
        positions: Default::default(),
        ownerships: Default::default(),
        cuts: None,
        shared: None,
        dead_letters: None,
        provenance: Provenance::default(),
        files,
    }
}

/// The state in a checkpoint, read from its files.
fn state(checkpoint: &Checkpoint) -> Result<u64, CheckpointError> {
    let text = std::fs::read_to_string(checkpoint.folder().join("state.json")).unwrap();
    assert_eq!(text, checkpoint.manifest().step.to_string(), "files and manifest are of the same state");
    Ok(checkpoint.manifest().step)
}

/// The newest state, and what was passed over on the way to it.
fn newest(store: &Store) -> Result<(Option<u64>, Vec<String>), CheckpointError> {
    let mut passed = Vec::new();
    let found = store.restore_newest(state, |error| passed.push(error.to_string()))?;
    Ok((found.map(|(_, state)| state), passed))
}

fn folder(dir: &Path) -> CheckpointConfig {
    CheckpointConfig {
        dir: dir.to_owned(),
        every_events: 1,
        lease_ms: 1000,
        request_timeout_ms: 1000,
        ..CheckpointConfig::default()
    }
}
