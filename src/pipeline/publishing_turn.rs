//! Whose turn it is to publish, where workers share a model: that of the one who reads partition 0 of the first topic. It begins
//! with the whole table, as after a start, and the sinks go by the newest epoch.

use super::PipelineError;
use super::publisher::{Publisher, open_sinks};
use crate::publish::SinkConfig;

/// The sinks of the configuration, which one of the workers publishes to.
#[derive(Debug)]
pub(super) struct PublishingTurn {
    sinks: Vec<SinkConfig>,
    model_id: String,
    dim: usize,
    /// The stream whose reader publishes.
    stream: String,
}

impl PublishingTurn {
    /// The turn to publish to `sinks` embeddings of `model_id`, of `dim` numbers: it is that of whoever reads `stream`.
    ///
    /// # Errors
    /// A sink that can never be opened.
    pub(super) fn new(
        sinks: Vec<SinkConfig>,
        stream: String,
        model_id: &str,
        dim: usize,
    ) -> Result<Self, PipelineError> {
        // Whoever configured it wants to know now, and not when another worker dies.
        open_sinks(&sinks)?;
        Ok(Self { sinks, model_id: model_id.to_owned(), dim, stream })
    }

    /// Whether reading `stream` decides whose turn it is.
    pub(super) fn is_decided_by(&self, stream: &str) -> bool {
        !self.sinks.is_empty() && self.stream == stream
    }

    /// A publisher of this worker's: its turn has come.
    ///
    /// # Errors
    /// A sink that cannot be opened, or a thread that does not start.
    pub(super) fn begin(&self) -> Result<Publisher, PipelineError> {
        tracing::info!(stream = self.stream, "this worker publishes the embeddings of the shared model");
        Publisher::start(open_sinks(&self.sinks)?, &self.model_id, self.dim)
    }

    /// A publisher to nothing: it is another worker's turn.
    ///
    /// # Errors
    /// A thread that does not start.
    pub(super) fn end(&self) -> Result<Publisher, PipelineError> {
        tracing::info!(stream = self.stream, "another worker publishes the embeddings of the shared model");
        Publisher::start(Vec::new(), &self.model_id, self.dim)
    }
}
