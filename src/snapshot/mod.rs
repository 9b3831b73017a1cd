//! State ⇄ files: what a checkpoint holds, one module for each file, its columns, the writing and the reading side by
//! side.
//!
//! | file | module | holds |
//! | --- | --- | --- |
//! | `items.parquet` | `items` | for everybody: names, embeddings as served, log q̂, occurrences, time of the last event |
//! | `item_state.parquet` | `item_state` | item rows as trained, their optimizer's accumulators, decayed counts; in the order of `items.parquet` |
//! | `cooccurrence.parquet` | `cooccurrence` | which items follow one another, in the order of `items.parquet`; no rows where that is not counted |
//! | `features.parquet` | `features` | rows of the item features, where items have features |
//! | `users.parquet` | `users` | the users' histories and rows; items by their row in `items.parquet` |
//! | `parameters.parquet` | `parameters` | the learned parameters that belong to no row |
//! | `bank.parquet` | `bank` | the memory bank, oldest entry first |
//! | `samplers.parquet` | `samplers` | live items, state of the samplers and objectives, row lifecycles |
//! | `false_negatives.json` | `false_negatives` | negatives that are watched, and those that turned out false |
//! | `audit.parquet` | [`audit`] | which records are part of the state, where `checkpoint.audit` asks for it |
//! | `progress.json` | `progress` | scales of the decayed counts, evaluation, last losses |
//!
//! Everything else (steps, event counts, positions) is in the manifest, which [`save`] makes and [`load`] reads.

pub mod audit;
mod bank;
mod cooccurrence;
mod false_negatives;
mod features;
mod item_state;
mod items;
mod parameters;
mod progress;
mod rows;
mod samplers;
mod users;

use std::path::Path;

use crate::checkpoint::manifest::{DeadLetterMark, FORMAT, Manifest, Provenance, digest};
use crate::checkpoint::store::{Draft, PublishedCheckpoint};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::kernel::Kernel;
use crate::model::Similarity;
use crate::trainer::state::{SourceProgress, State};
use crate::trainer::state_snapshot::StateSnapshot;
use crate::util::catch_panic::catch_panic;

/// Writes `snapshot` as the checkpoint `draft`, and publishes it.
///
/// # Errors
/// What the disk or the object store say.
pub fn save(
    config: &Config,
    snapshot: &StateSnapshot,
    dead_letters: Option<DeadLetterMark>,
    mut draft: Draft,
) -> Result<PublishedCheckpoint, CheckpointError> {
    // Named one by one, so that a field which is not saved does not compile.
    let StateSnapshot {
        items,
        users,
        model,
        parameters,
        frequencies,
        live_items: _,
        samplers: _,
        objectives: _,
        bank,
        false_negatives,
        progress,
        sources,
    } = snapshot;
    items::write(&mut draft, config.checkpoint.embedding_type, items, model, frequencies)?;
    item_state::write(&mut draft, model, frequencies)?;
    cooccurrence::write(&mut draft, &items.neighborhoods)?;
    features::write(&mut draft, model)?;
    users::write(&mut draft, users, model)?;
    parameters::write(&mut draft, parameters)?;
    bank::write(&mut draft, bank)?;
    samplers::write(&mut draft, snapshot)?;
    false_negatives::write(&mut draft, false_negatives)?;
    let SourceProgress { positions, ownerships, audit, cuts, shared } = sources;
    if let Some(audit) = audit {
        audit::write(&mut draft, audit)?;
    }
    progress::write(&mut draft, progress, frequencies)?;

    let configuration = config.state_relevant();
    draft.publish(|files| Manifest {
        format: FORMAT,
        negstream: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_digest: digest(&configuration),
        configuration,
        seed: config.seed,
        step: progress.steps,
        events: progress.events,
        items: items.names.len() as u64,
        users: users.names.len() as u64,
        evicted: snapshot.evicted(),
        dim: config.model.dim,
        similarity: match config.model.similarity {
            Similarity::Cosine => "cosine".to_owned(),
            Similarity::Dot => "dot".to_owned(),
        },
        beta: model.beta(),
        temperature: model.inverse_temperature().recip(),
        positions: positions.clone(),
        ownerships: ownerships.clone(),
        cuts: Some(cuts.clone()),
        shared: shared.clone(),
        dead_letters,
        provenance: Provenance::default(),
        files,
    })
}

/// Reads the state that `checkpoint` holds, for a model of the configuration `config` that computes with `kernel`.
///
/// # Errors
/// [`CheckpointError::Damaged`] where a file does not hold what it must.
pub fn load(config: &Config, kernel: Kernel, checkpoint: &Checkpoint) -> Result<State, CheckpointError> {
    // Checksums tell what has changed, not what was forged, or written by a program with a fault: what no reader expects is
    // damage too. The state is thrown away with it.
    catch_panic(|| load_files(config, kernel, checkpoint)).unwrap_or_else(|problem| {
        let problem = problem.trim_start_matches("damaged: ").to_owned();
        Err(CheckpointError::Damaged { path: checkpoint.folder().to_owned(), problem })
    })
}

fn load_files(config: &Config, kernel: Kernel, checkpoint: &Checkpoint) -> Result<State, CheckpointError> {
    let (folder, manifest) = (checkpoint.folder(), checkpoint.manifest());
    let mut state = State::new(config, kernel);
    // In this order: each file is checked against the rows that the files before it have.
    items::read(folder, manifest.items, &mut state.items)?;
    cooccurrence::read(folder, state.items.ids.len(), &mut state.items.cooccurrences)?;
    features::read(folder, &mut state.model)?;
    let counts = item_state::read(folder, state.items.ids.len(), &mut state.model, &state.negatives.frequencies)?;
    users::read(folder, state.items.ids.len(), &mut state.users, &mut state.model)?;
    parameters::read(folder, &mut state.model, &mut state.objectives)?;
    (state.progress.steps, state.progress.events) = (manifest.step, manifest.events);
    state.negatives.frequencies = progress::read(folder, config, counts, &mut state.progress)?;
    (state.sources.positions, state.sources.ownerships) = (manifest.positions.clone(), manifest.ownerships.clone());
    state.sources.cuts.forget_until(manifest.events.read);
    state.sources.shared.clone_from(&manifest.shared);
    if config.checkpoint.audit {
        // An audit that is begun now knows nothing of the records before.
        state.sources.audit = Some(audit::read(checkpoint)?.unwrap_or_default());
    }
    bank::read(folder, config.model.dim, &mut state)?;
    samplers::read(folder, config, &mut state)?;
    false_negatives::read(folder, config, &mut state)?;
    Ok(state)
}

/// The error for the file `name` in `folder`, which has a `problem`.
fn damaged(folder: &Path, name: &str, problem: &str) -> CheckpointError {
    CheckpointError::Damaged { path: folder.join(name), problem: problem.to_owned() }
}
