//! The document of the state: which model, dimension and version was committed last.

use serde_json::{Value, json};

use super::OpenSearchSink;
use crate::publish::{SinkError, SinkState, Update, Version};

/// The document of the state.
pub(super) const STATE_ID: &str = "state";

/// The state, and where its document stands: sequence number and primary term.
pub(super) type PlacedState = (SinkState, (u64, u64));

impl OpenSearchSink {
    /// The state's document, and where it stands.
    pub(super) fn placed_state(&mut self) -> Result<Option<PlacedState>, SinkError> {
        let path = format!("{}-state/_doc/{STATE_ID}", self.index);
        let answer = self.ask_json("GET", &path, None, &[404])?;
        let (held, number) = (&answer.body["_source"], |value: &Value| value.as_u64().unwrap_or_default());
        Ok(held["model_id"].as_str().map(|model_id| {
            let version = Version { epoch: number(&held["epoch"]), step: number(&held["step"]) };
            let dim = usize::try_from(number(&held["dim"])).unwrap_or_default();
            let place = (number(&answer.body["_seq_no"]), number(&answer.body["_primary_term"]));
            (SinkState { model_id: model_id.to_owned(), version, dim }, place)
        }))
    }

    /// Deletes the index, and that of the state, where it holds embeddings of another model or dimension.
    pub(super) fn drop_others(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        let Some((held, _)) = self.placed_state()? else { return Ok(()) };
        if held.model_id != update.model_id || held.dim != update.dim {
            let index = self.index.clone();
            self.ask_json("DELETE", &index, None, &[404])?;
            self.ask_json("DELETE", &format!("{index}-state"), None, &[404])?;
        }
        Ok(())
    }

    /// Writes the state's document of an index in which nothing was committed yet.
    pub(super) fn make_state(&mut self, update: &Update<'_>) -> Result<(u64, u64), SinkError> {
        let state = json!({ "model_id": update.model_id, "dim": update.dim, "epoch": 0, "step": 0 });
        let path = format!("{}-state/_doc/{STATE_ID}?op_type=create", self.index);
        let answer = self.ask_json("PUT", &path, Some(&state), &[409])?;
        if answer.status == 409 {
            return Err(self.away("another worker begins at the same time"));
        }
        let number = |key: &str| answer.body[key].as_u64().unwrap_or_default();
        Ok((number("_seq_no"), number("_primary_term")))
    }
}
