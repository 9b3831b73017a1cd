//! Checkpoints are written on a thread of their own, one at a time, while training goes on.
//!
//! Training stands still for as long as it takes to freeze the state ([`crate::trainer::state_snapshot`]), which is handed over.
//! A checkpoint is published only after the dead letters that lie before its positions are durable; the writer waits for them.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{OBSERVE_EVERY, SaveError, WrittenCheckpoint};
use crate::checkpoint::manifest::DeadLetterMark;
use crate::checkpoint::store::{Pinned, PublishedCheckpoint, Store};
use crate::config::Config;
use crate::dead_letters::{DeadLetterError, DeadLetters};
use crate::event::Rejection;
use crate::position::Positions;
use crate::snapshot;
use crate::trainer::state_snapshot::StateSnapshot;

/// The time between two looks at whether the dead letters are durable.
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Dead letters, offered by the training loop and made durable by the checkpoint writer.
#[derive(Debug)]
pub(super) struct SharedDeadLetters {
    letters: Arc<Mutex<DeadLetters>>,
    are_kept: bool,
    length: Option<u64>,
}

impl SharedDeadLetters {
    pub(super) fn new(letters: DeadLetters) -> Self {
        let (are_kept, length) = (!matches!(letters, DeadLetters::None), letters.length());
        Self { letters: Arc::new(Mutex::new(letters)), are_kept, length }
    }

    /// Whether dead letters are kept anywhere.
    pub(super) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// Offers a rejected record, as [`DeadLetters::offer`] does; `false` where there is no room for it yet.
    pub(super) fn offer(&mut self, stream: &str, offset: u64, rejection: &Rejection) -> Result<bool, DeadLetterError> {
        if !self.are_kept {
            return Ok(true);
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let is_accepted = letters.offer(stream, offset, rejection)?;
        self.length = letters.length();
        Ok(is_accepted)
    }

    /// Length of the file of dead letters; `None` where they go elsewhere.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }
}

/// A file that somebody else keeps with the checkpoints, such as what a page has to show after a restart. Nothing of the state
/// depends on it, so it may hold what the clock says.
#[derive(Clone)]
pub struct SideFile {
    /// Its name in a checkpoint.
    pub name: &'static str,
    /// What is to be written now.
    pub content: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
}

impl std::fmt::Debug for SideFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SideFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A checkpoint to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) frozen: StateSnapshot,
    pub(super) dead_letters: Option<DeadLetterMark>,
    /// Checkpoints that outlast `checkpoint.keep`.
    pub(super) pinned: Pinned,
    /// The time that training stood still for the checkpoint.
    pub(super) pause: Duration,
}

/// The outcome of writing a checkpoint.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) written: Result<WrittenCheckpoint, SaveError>,
    /// Positions of the sources in the checkpoint.
    pub(super) positions: Positions,
    /// Positions restricted to streams that are owned through a group claim.
    pub(super) claimed: Positions,
    /// Records that had been passed when the state was frozen.
    pub(super) passed: u64,
}

/// The thread that writes checkpoints, one at a time.
#[derive(Debug)]
pub(super) struct CheckpointWriter {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread, which holds `store` until the writer is dropped.
    pub(super) fn start(
        config: &Config,
        store: Store,
        letters: &SharedDeadLetters,
        side_file: Option<SideFile>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(1);
        let (results, outcomes) = bounded(1);
        let (config, letters) = (config.clone(), Arc::clone(&letters.letters));
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            for Job { frozen, dead_letters, pinned, pause } in queue {
                let begin = Instant::now();
                let (positions, claimed) = (frozen.positions().clone(), frozen.claimed_positions());
                let (events, passed) = (frozen.events().read, frozen.progress.passed());
                let written = write(&config, &store, &letters, &frozen, (dead_letters, side_file.as_ref()), &pinned);
                let took = begin.elapsed();
                // Nothing is shared with the state any more by the time that the outcome is known.
                drop(frozen);
                let written = written.map(|published| {
                    let PublishedCheckpoint { path, bytes } = published;
                    WrittenCheckpoint { path, bytes, events, took, pause }
                });
                if results.send(Outcome { written, positions, claimed, passed }).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, is_busy: false, thread: Some(thread) })
    }

    /// Whether a checkpoint is being written.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Hands a checkpoint over.
    ///
    /// # Panics
    /// If one is being written, or the thread has panicked.
    pub(super) fn begin(&mut self, job: Job) {
        assert!(!self.is_busy, "checkpoints do not overlap");
        self.is_busy = true;
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "the checkpoint thread has panicked");
    }

    /// The outcome of the checkpoint that was being written, once it is known.
    pub(super) fn finished(&mut self) -> Option<Outcome> {
        if !self.is_busy {
            return None;
        }
        let outcome = match self.outcomes.try_recv() {
            Err(crossbeam_channel::TryRecvError::Empty) => return None,
            outcome => outcome.expect("the checkpoint thread has panicked"),
        };
        self.is_busy = false;
        Some(outcome)
    }

    /// Waits for the outcome of the checkpoint that is being written, and calls `meanwhile` now and then; `None` where no
    /// checkpoint is being written.
    pub(super) fn wait(&mut self, mut meanwhile: impl FnMut()) -> Option<Outcome> {
        if !std::mem::take(&mut self.is_busy) {
            return None;
        }
        loop {
            match self.outcomes.recv_timeout(OBSERVE_EVERY) {
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                outcome => return Some(outcome.expect("the checkpoint thread has panicked")),
            }
        }
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // The checkpoint in progress is finished before the store is released.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(
    config: &Config,
    store: &Store,
    letters: &Mutex<DeadLetters>,
    frozen: &StateSnapshot,
    (mark, side_file): (Option<DeadLetterMark>, Option<&SideFile>),
    pinned: &Pinned,
) -> Result<PublishedCheckpoint, SaveError> {
    // The lock is not held while this waits: the training loop may have a further letter meanwhile.
    let settle = || letters.lock().unwrap_or_else(PoisonError::into_inner).settle();
    while !settle()? {
        std::thread::sleep(SETTLE_POLL_INTERVAL);
    }
    let mut draft = store.draft()?;
    if let Some(SideFile { name, content }) = side_file {
        draft.file(name, |file| Ok(file.write_all(&content())?))?;
    }
    let published = snapshot::save(config, frozen, mark, draft)?;
    if let Err(error) = store.prune(config.checkpoint.keep, pinned) {
        // The new checkpoint is durable all the same; the next one tries again.
        tracing::warn!(%error, "old checkpoints stay");
    }
    Ok(published)
}
