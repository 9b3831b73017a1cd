//! Restoring: a pipeline goes on from the newest checkpoint that is intact and its own, or begins with a new model.

use std::cell::Cell;

use crate::checkpoint::manifest::{Manifest, differences};
use crate::checkpoint::store::Store;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::kernel::Kernel;
use crate::snapshot;
use crate::source::SourceError;
use crate::trainer::state::State;

/// The state that a pipeline goes on from, and the store that it holds from now on.
#[derive(Debug)]
pub struct Restored {
    /// The checkpoint that was read; `None` for a new model.
    pub checkpoint: Option<Checkpoint>,
    /// The state.
    pub state: State,
    pub(super) store: Store,
    /// Whether checkpoints newer than this one belong to another worker by now.
    pub(super) overtaken: bool,
    /// Whether checkpoints newer than this one are damaged.
    pub fallen_back: bool,
}

impl Restored {
    /// Locks the checkpoint store and reads the newest intact checkpoint in it; `fresh` begins with a new model.
    ///
    /// # Errors
    /// Where the store is in use, no checkpoint is intact, or the newest was made with another configuration.
    pub fn find(config: &Config, fresh: bool) -> Result<Self, CheckpointError> {
        Self::find_own(config, fresh, |_, _| Ok(()))
    }

    /// [`Self::find`] among the checkpoints that `check` accepts: those whose streams are all still this worker's. `check` is
    /// given a manifest, and whether a newer checkpoint was passed over because it is damaged.
    ///
    /// # Errors
    /// Those of [`Self::find`], and where `check` accepts no checkpoint.
    pub fn find_own(
        config: &Config,
        fresh: bool,
        check: impl Fn(&Manifest, bool) -> Result<(), SourceError>,
    ) -> Result<Self, CheckpointError> {
        let store = Store::open(&config.checkpoint)?;
        let (mut overtaken, damaged) = (false, Cell::new(false));
        let found = if fresh {
            None
        } else {
            store.restore_newest(
                |checkpoint| {
                    check(checkpoint.manifest(), damaged.get()).map_err(|error| {
                        if !error.is_fenced() {
                            // It lacks records that are in no state any more, and an older one lacks more.
                            damaged.set(true);
                        }
                        CheckpointError::Overtaken { path: checkpoint.path().to_owned(), cause: error.to_string() }
                    })?;
                    restore(config, checkpoint)
                },
                |error| {
                    match error {
                        CheckpointError::Overtaken { .. } => overtaken = true,
                        _ => damaged.set(true),
                    }
                    tracing::error!(%error, "checkpoint passed over");
                },
            )?
        };
        let Some((checkpoint, state)) = found else {
            let state = State::new(config, Kernel::detect());
            return Ok(Self { checkpoint: None, state, store, overtaken, fallen_back: false });
        };
        tracing::info!(
            checkpoint = %checkpoint.path().display(),
            events = state.progress.events.read,
            items = state.items.ids.len(),
            users = state.users.ids.len(),
            "going on from checkpoint"
        );
        let fallen_back = damaged.get();
        Ok(Self { checkpoint: Some(checkpoint), state, store, overtaken, fallen_back })
    }

    /// Length of the dead-letter file of `config` that belongs to the state; `None` where the checkpoint names no such file.
    pub fn dead_letters(&self, config: &Config) -> Option<u64> {
        let mark = self.checkpoint.as_ref()?.manifest().dead_letters.as_ref()?;
        (mark.file == config.dead_letters.file).then_some(mark.bytes)
    }
}

/// Reads the state of a checkpoint that was made with a configuration that agrees with `config`.
fn restore(config: &Config, checkpoint: &Checkpoint) -> Result<State, CheckpointError> {
    let differences = differences(&checkpoint.manifest().configuration, &config.state_relevant());
    if differences.is_empty() {
        return snapshot::load(config, Kernel::detect(), checkpoint);
    }
    Err(CheckpointError::OtherConfiguration { path: checkpoint.path().to_owned(), differences: differences.join("; ") })
}
