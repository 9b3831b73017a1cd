//! What the topic of state holds: model, layout and version of what was committed last.

use serde::{Deserialize, Serialize};

use super::VectorEncoding;
use crate::publish::{Update, Version};

/// The key of the only record of the topic of state.
pub(super) const STATE_KEY: &str = "items";

/// What the topic of state holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateRecord {
    pub(super) model_id: String,
    pub(super) dim: usize,
    pub(super) epoch: u64,
    pub(super) step: u64,
    pub(super) encoding: String,
    pub(super) partitions: usize,
}

impl StateRecord {
    pub(super) fn version(&self) -> Version {
        Version { epoch: self.epoch, step: self.step }
    }

    /// Why rows of `update`, written by `encoding`, must not lie beside those that are there; `None` where they may.
    pub(super) fn refusal(&self, update: &Update<'_>, encoding: VectorEncoding) -> Option<String> {
        let elsewhere = "set replace = true, or choose another prefix (name)";
        let Update { model_id, dim, .. } = *update;
        let problem = match self {
            held if held.model_id != model_id => {
                format!("it holds vectors of another model, {}, not of {model_id}", held.model_id)
            }
            held if held.dim != dim => format!("it holds vectors of dimension {}, not {dim}", held.dim),
            held if held.encoding != encoding.name() => {
                format!("its vectors are written as {}, not {}", held.encoding, encoding.name())
            }
            _ => return None,
        };
        Some(format!("{problem}; {elsewhere}"))
    }
}
