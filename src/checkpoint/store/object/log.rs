//! The log of manifests in an object store: which keys mean what, who has which number, and which objects nobody needs.
//! Everything here is decided from listings and manifests alone.
//!
//! ```text
//! PREFIX/lease.json                              who may write (see `lease`)
//! PREFIX/latest                                  the number of the newest checkpoint that holds any item, for loaders
//! PREFIX/0000000042/manifest.json                put if absent, after everything else: the commit
//! PREFIX/0000000042/e7-5f3a…/items.parquet       data of an attempt in epoch 7, under a name that no other attempt has
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::super::retention::{Pinned, expired};
use super::super::{LINEAGE, is_lineage, number_in};
use crate::checkpoint::manifest::{FileEntry, MANIFEST, Provenance};
use crate::util::encoding::random_id;

/// What is below the prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Keys below the prefix, in order.
    pub keys: Vec<String>,
}

impl Listing {
    /// Numbers of the checkpoints, ascending.
    pub fn checkpoints(&self) -> Vec<u64> {
        let number = |key: &String| number_in(key.strip_suffix(MANIFEST)?.strip_suffix('/')?);
        let mut numbers: Vec<u64> = self.keys.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The latest epoch in which anything was written.
    pub fn latest_epoch(&self) -> u64 {
        self.keys.iter().filter_map(|key| Some(attempt_of(key)?.1)).max().unwrap_or(0)
    }
}

/// The beginning of the keys of a new attempt at the checkpoint `number`.
pub(super) fn new_attempt(number: u64, epoch: u64) -> String {
    format!("{number:010}/e{epoch}-{}", random_id())
}

/// The attempt that a key of data belongs to, and its epoch; `None` for any other key.
fn attempt_of(key: &str) -> Option<(&str, u64)> {
    let (attempt, name) = key.rsplit_once('/')?;
    let (number, writer) = attempt.split_once('/')?;
    let (epoch, id) = writer.strip_prefix('e')?.split_once('-')?;
    let is_attempt = !name.is_empty() && number_in(number).is_some() && is_lineage(id);
    if is_attempt { Some((attempt, epoch.parse().ok()?)) } else { None }
}

/// The key of the manifest of the checkpoint `number`.
pub(super) fn manifest_key(number: u64) -> String {
    format!("{number:010}/{MANIFEST}")
}

/// What it means that the next number of a worker is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NumberConflict {
    /// A worker of this later epoch took over.
    Fenced(u64),
    /// The manifest is the worker's own, of an attempt whose outcome was not known, or that of an earlier worker: the next
    /// number is to be tried.
    Passed,
}

/// Decides what the manifest of provenance `existing` at its next number means to a worker of `epoch`. `existing` is `None`
/// where the manifest cannot be read.
pub(super) fn resolve_conflict(epoch: u64, existing: Option<&Provenance>) -> NumberConflict {
    match existing {
        Some(existing) if existing.epoch > epoch => NumberConflict::Fenced(existing.epoch),
        _ => NumberConflict::Passed,
    }
}

/// The files that the manifests refer to, by number; `None` for a manifest that cannot be read.
pub(super) type ReferencedFiles = BTreeMap<u64, Option<Vec<FileEntry>>>;

/// What is to be removed, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RemovalPlan {
    /// Checkpoints whose manifests go first, oldest first: a checkpoint without all of its data must not be seen.
    pub checkpoints: Vec<u64>,
    /// Objects that no manifest that stays refers to.
    pub objects: Vec<String>,
}

/// Keeps the `keep` newest states among the checkpoints of `references`, the `pinned` ones, and whatever may yet become a
/// checkpoint: data of a later epoch than `epoch`, and the attempts `live` of this one.
pub(super) fn plan_removal(
    listing: &Listing,
    references: &ReferencedFiles,
    keep: usize,
    pinned: &Pinned,
    epoch: u64,
    live: &BTreeSet<String>,
) -> RemovalPlan {
    // A worker that goes on from a state says so by a manifest of its own, which refers to the same data.
    let state = |files: &Option<Vec<FileEntry>>| -> Option<Vec<String>> {
        let data = files.as_ref()?.iter().filter(|file| file.name != LINEAGE);
        Some(data.filter_map(|file| file.key.clone()).collect())
    };
    let states = references.iter().map(|(number, files)| (*number, state(files)));
    let checkpoints = expired(states, keep, pinned);
    let kept = || references.iter().filter(|(number, _)| !checkpoints.contains(number)).map(|(_, files)| files);
    if kept().any(Option::is_none) {
        // What it refers to is not known. It expires with time, and then the objects go.
        return RemovalPlan { checkpoints, objects: Vec::new() };
    }
    let needed: BTreeSet<&str> = kept().flatten().flatten().filter_map(|file| file.key.as_deref()).collect();
    let is_garbage = |key: &&String| match attempt_of(key) {
        Some((attempt, written)) => {
            !needed.contains(key.as_str()) && (written < epoch || (written == epoch && !live.contains(attempt)))
        }
        None => false,
    };
    let objects = listing.keys.iter().filter(is_garbage).cloned().collect();
    RemovalPlan { checkpoints, objects }
}
