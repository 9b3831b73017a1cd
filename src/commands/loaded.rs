//! A checkpoint's state, for commands, and for other programs' modules, that ask it something and train nothing.

use std::path::Path;

use serde_json::{Map, Value};

use super::checkpoint;
use crate::checkpoint::manifest::MANIFEST;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cli::Layers;
use crate::config::Config;
use crate::config::layers::{self, ConfigError};
use crate::exit::UsageError;
use crate::kernel::Kernel;
use crate::snapshot;
use crate::table::ids::Ids;
use crate::trainer::state::State;
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

/// A checkpoint, the configuration that it was made with as far as its state depends on it, and the state.
#[derive(Debug)]
pub struct LoadedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What its state was made with.
    pub config: Config,
    /// The state.
    pub state: State,
}

impl LoadedCheckpoint {
    /// Reads the checkpoint that a command line names.
    ///
    /// # Errors
    /// There is none, it is damaged, or the configuration of the object store is wrong.
    pub fn read(layers: &Layers, path: &Path) -> anyhow::Result<Self> {
        let checkpoint = checkpoint(layers, path)?;
        let damaged = |error: ConfigError| CheckpointError::Damaged {
            path: checkpoint.path().join(MANIFEST),
            problem: format!("this version does not know its configuration: {error}"),
        };
        let config = configuration(&checkpoint.manifest().configuration).map_err(damaged)?;
        let state = snapshot::load(&config, Kernel::detect(), &checkpoint)?;
        Ok(Self { checkpoint, config, state })
    }
}

/// The configuration that a checkpoint was made with, as far as its state depends on it; over the defaults.
///
/// # Errors
/// A key is unknown, or a value is out of bounds.
pub fn configuration(state_relevant: &Map<String, Value>) -> Result<Config, ConfigError> {
    let mut settings = Vec::new();
    flatten("", state_relevant, &mut settings);
    layers::load_with_defaults(&settings, None, std::iter::empty(), &[])
}

/// `KEY=VALUE` of each key.
fn flatten(prefix: &str, table: &Map<String, Value>, settings: &mut Vec<String>) {
    for (key, value) in table {
        let value = match value {
            Value::Object(inner) => {
                flatten(&format!("{prefix}{key}."), inner, settings);
                continue;
            }
            // JSON has no infinity, and nothing else becomes null.
            Value::Null => "inf".to_owned(),
            // What TOML has no place for is refused as text.
            value => toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string()),
        };
        settings.push(format!("{prefix}{key}={value}"));
    }
}

/// The row of `name`.
///
/// # Errors
/// There is none; the message has the nearest name.
pub fn row(what: &str, ids: &Ids, name: &str, path: &Path) -> Result<u32, UsageError> {
    ids.get(name).ok_or_else(|| {
        let like =
            nearest(ids.iter(), name).map(|(like, _)| format!("; the nearest name is '{}'", escape_for_terminal(like)));
        UsageError(format!(
            "no {what} '{}' in {}{}",
            escape_for_terminal(name),
            path.display(),
            like.unwrap_or_default()
        ))
    })
}
