//! Checkpoints on demand: whoever asks for one, by a signal or over the network, is told which one it became.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests for checkpoints, from any thread, and the answers to them. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct CheckpointRequests {
    /// Set by a signal.
    signalled: Arc<AtomicBool>,
    desk: Arc<Mutex<Desk>>,
}

/// A request that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointAnswer {
    /// A durable checkpoint holds everything that was part of the state when it was asked for.
    Durable {
        /// Its name: that of its folder.
        name: String,
        /// Records that it has read.
        events: u64,
    },
    /// None could be written.
    Failed(String),
}

#[derive(Debug, Default)]
struct Desk {
    /// Requests that were made.
    asked: u64,
    /// Requests that were answered, the oldest first.
    answered: u64,
    newest: Option<CheckpointAnswer>,
}

impl CheckpointRequests {
    /// Requests that a signal makes too, by setting `flag`.
    pub fn with_flag(flag: Arc<AtomicBool>) -> Self {
        Self { signalled: flag, desk: Arc::default() }
    }

    /// Asks for a checkpoint.
    pub fn ask(&self) -> Ticket {
        let mut desk = self.desk();
        desk.asked += 1;
        Ticket(desk.asked)
    }

    /// The answer to a request, once there is one.
    pub fn answer(&self, ticket: Ticket) -> Option<CheckpointAnswer> {
        let desk = self.desk();
        desk.newest.clone().filter(|_| desk.answered >= ticket.0)
    }

    /// The newest request that was not answered yet.
    pub(super) fn outstanding(&self) -> Option<Ticket> {
        let mut desk = self.desk();
        if self.signalled.swap(false, Ordering::Relaxed) {
            desk.asked += 1;
        }
        (desk.asked > desk.answered).then_some(Ticket(desk.asked))
    }

    /// Answers a request, and all that were made before it.
    pub(super) fn reply(&self, ticket: Ticket, answer: CheckpointAnswer) {
        let mut desk = self.desk();
        desk.answered = desk.answered.max(ticket.0);
        desk.newest = Some(answer);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_checkpoint_answers_all_that_asked_before_it() {
        let flag = Arc::new(AtomicBool::new(false));
        let requests = CheckpointRequests::with_flag(Arc::clone(&flag));
        assert_eq!(requests.outstanding(), None);
        let (first, second) = (requests.ask(), requests.ask());
        let outstanding = requests.outstanding().expect("two have asked");
        let third = requests.ask();
        let answer = CheckpointAnswer::Durable { name: "0000000003".to_owned(), events: 7 };
        requests.reply(outstanding, answer.clone());
        assert_eq!(requests.answer(first), Some(answer.clone()));
        assert_eq!((requests.answer(second), requests.answer(third)), (Some(answer), None));
        requests.reply(third, CheckpointAnswer::Failed("full".to_owned()));
        assert_eq!(requests.outstanding(), None);
        flag.store(true, Ordering::Relaxed);
        assert!(requests.outstanding().is_some() && !flag.load(Ordering::Relaxed));
    }
}
