//! Restoring: a pipeline goes on from the newest checkpoint that is intact and its own, or begins with a new model.

use std::cell::Cell;

use crate::checkpoint::manifest::{Manifest, differences};
use crate::checkpoint::store::Store;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::kernel::Kernel;
use crate::position::TopicChange;
use crate::share::log::LogTopic;
use crate::share::{ShareError, SharedProgress};
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

    /// Makes the state one of those that share the model of `topic`: its own goes on from what it has received; a new one begins
    /// with the newest checkpoint of a peer (`share.peers`), or at the beginning of the topic.
    ///
    /// # Errors
    /// The state was made with another log or none, the configuration is another than the peer's, or the topic has lost what would
    /// have to be received.
    pub fn share(&mut self, config: &Config, topic: &LogTopic) -> Result<(), ShareError> {
        if self.checkpoint.is_some() {
            return check_log(&self.state, topic);
        }
        self.store.begin_run(&topic.lineage());
        if let Some(adopted) = adopt_newest(config, topic)? {
            self.state = adopted;
            return Ok(());
        }
        if topic.low() > 0 {
            return Err(ShareError::Gone { topic: topic.name().to_owned(), low: topic.low(), next: 0 });
        }
        let shared =
            SharedProgress { topic: topic.name().to_owned(), identity: topic.identity().clone(), ..Default::default() };
        self.state.sources.shared = Some(shared);
        Ok(())
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

/// Checks that a state was made with the log in `topic`.
fn check_log(state: &State, topic: &LogTopic) -> Result<(), ShareError> {
    let other = |why: String| Err(ShareError::OtherLog { why });
    let Some(shared) = &state.sources.shared else {
        return other("was made by a worker that shares its model with nobody".to_owned());
    };
    if shared.topic != topic.name() {
        return other(format!("was made with topic '{}'", shared.topic));
    }
    match shared.identity.changed_to(topic.identity()) {
        None => Ok(()),
        Some(TopicChange::Cluster) => other(format!("was made with topic '{}' of another cluster", shared.topic)),
        Some(TopicChange::Topic) => {
            other(format!("was made with another topic '{}', which was deleted since", shared.topic))
        }
    }
}

/// The state of a new worker by the newest checkpoint of a peer that the log reaches back to; `None` where there is none.
fn adopt_newest(config: &Config, topic: &LogTopic) -> Result<Option<State>, ShareError> {
    let mut found: Vec<(u64, Checkpoint)> = Vec::new();
    for place in &config.share.peers {
        let checkpoint = match Checkpoint::open_with(place, &config.checkpoint) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                tracing::warn!(peer = place, %error, "no checkpoint can be opened at this place of share.peers");
                continue;
            }
        };
        match &checkpoint.manifest().shared {
            Some(shared) if shared.topic == topic.name() && shared.ledger.next >= topic.low() => {
                found.push((shared.ledger.next, checkpoint));
            }
            Some(shared) => {
                let (next, low) = (shared.ledger.next, topic.low());
                tracing::warn!(
                    peer = place,
                    topic = shared.topic,
                    next,
                    low,
                    "this checkpoint of share.peers is passed over: it is older than what share.topic still holds, or of another topic"
                );
            }
            None => tracing::warn!(
                peer = place,
                "this checkpoint of share.peers is passed over: its worker shares its model with nobody"
            ),
        }
    }
    found.sort_by_key(|(next, _)| std::cmp::Reverse(*next));
    for (next, checkpoint) in found {
        let path = checkpoint.path().display();
        let mut state = match restore(config, &checkpoint) {
            Ok(state) => state,
            Err(CheckpointError::OtherConfiguration { differences, .. }) => {
                let why = format!("of the peer at {path} was made with another configuration ({differences})");
                return Err(ShareError::OtherLog { why });
            }
            Err(error) => {
                tracing::warn!(%error, "this checkpoint of share.peers cannot be used");
                continue;
            }
        };
        check_log(&state, topic)?;
        let by = state.sources.ownerships.worker.clone();
        tracing::info!(checkpoint = %path, %by, next, items = state.items.ids.len(), "beginning with the checkpoint of a peer");
        state.adopt(config);
        return Ok(Some(state));
    }
    Ok(None)
}
