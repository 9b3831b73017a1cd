//! What of an object store is not needed any more: decided here, from a listing and the manifests, and nothing else.

use std::collections::BTreeSet;

use super::object::{Listing, References, attempt_of};
use super::{LINEAGE, Pinned};

/// What is to go, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Checkpoints whose manifests go first, oldest first: one without all of its data must not be seen.
    pub checkpoints: Vec<u64>,
    /// Objects that no manifest that stays refers to.
    pub objects: Vec<String>,
}

/// Keeps the `keep` newest states among the checkpoints that `references` has, those `spared`, and whatever may yet become
/// one: what attempts of a later epoch than `epoch` write, and the attempts `live` of this one.
pub(super) fn plan(
    listing: &Listing,
    references: &References,
    keep: usize,
    spared: &Pinned,
    epoch: u64,
    live: &BTreeSet<String>,
) -> Sweep {
    let mut sweep = Sweep::default();
    let mut kept: Vec<Option<Vec<&str>>> = Vec::new();
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut unreadable = false;
    for (number, files) in references.iter().rev() {
        // A worker that goes on says so by a manifest of its own for the state that was there: the same state.
        let state = files.as_ref().map(|files| {
            files.iter().filter(|file| file.name != LINEAGE).filter_map(|file| file.key.as_deref()).collect()
        });
        if !spared.has(*number) && (kept.len() >= keep || (state.is_some() && kept.contains(&state))) {
            sweep.checkpoints.push(*number);
            continue;
        }
        unreadable |= files.is_none();
        needed.extend(files.iter().flatten().filter_map(|file| file.key.as_deref()));
        kept.push(state);
    }
    sweep.checkpoints.reverse();
    if unreadable {
        // What it refers to is not known; it goes with time, and then all of this.
        return sweep;
    }
    let dead = |key: &&String| match attempt_of(key) {
        Some((attempt, written)) => {
            !needed.contains(key.as_str()) && (written < epoch || (written == epoch && !live.contains(attempt)))
        }
        None => false,
    };
    sweep.objects = listing.keys.iter().filter(dead).cloned().collect();
    sweep
}
