//! The bounded queue before a thread that answers: who finds it full is told so at once, and nobody waits without an end.

use crossbeam_channel::{Sender, TrySendError};

use super::problem::{ApiProblem, ProblemKind};

/// Puts `request` into `queue`.
///
/// # Errors
/// It is full, which `full` explains to whoever asked, or its thread has ended.
pub(super) fn enqueue<T>(queue: &Sender<T>, request: T, full: &str) -> Result<(), ApiProblem> {
    queue.try_send(request).map_err(|error| match error {
        TrySendError::Full(_) => ApiProblem::new(ProblemKind::TooMany, full),
        TrySendError::Disconnected(_) => ApiProblem::new(ProblemKind::Fault, "nobody answers any more"),
    })
}
