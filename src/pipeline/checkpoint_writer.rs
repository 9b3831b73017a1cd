//! Checkpoints are written on a thread of their own, one at a time, while training goes on.
//!
//! The trainer stands still for as long as it takes to freeze the state ([`crate::snapshot::frozen`]), and hands that over.
//! A checkpoint is published only after the dead letters that lie before it are durable, which the saver waits for too.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::publisher::{Publisher, TableChanges};
use super::{OBSERVE_EVERY, SaveError, WrittenCheckpoint};
use crate::checkpoint::manifest::DeadLetterMark;
use crate::checkpoint::store::{Pinned, PublishedCheckpoint, Store};
use crate::config::Config;
use crate::dead_letters::{DeadLetterError, DeadLetters};
use crate::event::Rejection;
use crate::position::Positions;
use crate::snapshot;
use crate::snapshot::frozen::Frozen;

/// How long the saver waits until it looks again after dead letters.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Dead letters, written by the trainer and made durable by the saver.
#[derive(Debug)]
pub(super) struct SharedDeadLetters {
    letters: Arc<Mutex<DeadLetters>>,
    kept: bool,
    length: Option<u64>,
}

impl SharedDeadLetters {
    pub(super) fn new(letters: DeadLetters) -> Self {
        let (kept, length) = (!matches!(letters, DeadLetters::None), letters.length());
        Self { letters: Arc::new(Mutex::new(letters)), kept, length }
    }

    /// Whether they are kept anywhere.
    pub(super) fn are_kept(&self) -> bool {
        self.kept
    }

    /// Keeps a record that was not taken; see [`DeadLetters::offer`].
    pub(super) fn offer(&mut self, stream: &str, offset: u64, rejection: &Rejection) -> Result<bool, DeadLetterError> {
        if !self.kept {
            return Ok(true);
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = letters.offer(stream, offset, rejection)?;
        self.length = letters.length();
        Ok(taken)
    }

    /// See [`DeadLetters::length`].
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }
}

/// A checkpoint to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) frozen: Frozen,
    /// Changes since the checkpoint before.
    pub(super) changes: TableChanges,
    pub(super) dead_letters: Option<DeadLetterMark>,
    /// What outlasts `checkpoint.keep`.
    pub(super) pinned: Pinned,
    /// How long the trainer stood still for it.
    pub(super) pause: Duration,
}

/// What became of a checkpoint.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) written: Result<WrittenCheckpoint, SaveError>,
    /// Where the sources stood in it.
    pub(super) positions: Positions,
    /// The same, of what it holds as the member of a group.
    pub(super) claimed: Positions,
    /// Records that lie behind it.
    pub(super) passed: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct CheckpointWriter {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread, which keeps `store` until the saver is gone.
    pub(super) fn start(
        config: &Config,
        store: Store,
        letters: &SharedDeadLetters,
        mut publisher: Publisher,
    ) -> std::io::Result<Self> {
        let (jobs, to_do) = bounded::<Job>(1);
        let (done, outcomes) = bounded(1);
        let (config, letters) = (config.clone(), Arc::clone(&letters.letters));
        let thread = std::thread::Builder::new().name("saver".to_owned()).spawn(move || {
            for Job { frozen, changes, dead_letters, pinned, pause } in to_do {
                let begin = Instant::now();
                let (positions, claimed) = (frozen.positions().clone(), frozen.claimed());
                let (events, passed) = (frozen.events().read, frozen.events().passed());
                let written = write(&config, &store, &letters, &frozen, dead_letters, &pinned);
                let took = begin.elapsed();
                match &written {
                    Ok(published) => publisher.publish(&frozen, &changes, number(&published.path)),
                    Err(_) => publisher.miss(),
                }
                // The state has its tables back before it hears of it.
                drop(frozen);
                let written = written.map(|published| {
                    let PublishedCheckpoint { path, bytes } = published;
                    WrittenCheckpoint { path, bytes, events, took, pause }
                });
                if done.send(Outcome { written, positions, claimed, passed }).is_err() {
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
        assert!(sent, "the saver has panicked");
    }

    /// What became of the checkpoint that was being written, once that is known.
    pub(super) fn finished(&mut self) -> Option<Outcome> {
        if !self.is_busy {
            return None;
        }
        let outcome = match self.outcomes.try_recv() {
            Err(crossbeam_channel::TryRecvError::Empty) => return None,
            outcome => outcome.expect("the saver has panicked"),
        };
        self.is_busy = false;
        Some(outcome)
    }

    /// The same, waited for; `meanwhile` is called now and then. `None` where no checkpoint is being written.
    pub(super) fn wait(&mut self, mut meanwhile: impl FnMut()) -> Option<Outcome> {
        if !std::mem::take(&mut self.is_busy) {
            return None;
        }
        loop {
            match self.outcomes.recv_timeout(OBSERVE_EVERY) {
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                outcome => return Some(outcome.expect("the saver has panicked")),
            }
        }
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // What is being written is finished; the folder is let go of.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The number of the checkpoint in `folder`, which is named by it.
fn number(folder: &Path) -> u64 {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).expect("a checkpoint is named by its number")
}

fn write(
    config: &Config,
    store: &Store,
    letters: &Mutex<DeadLetters>,
    frozen: &Frozen,
    mark: Option<DeadLetterMark>,
    pinned: &Pinned,
) -> Result<PublishedCheckpoint, SaveError> {
    // Not held while it waits: the trainer may have a further letter meanwhile.
    let settle = || letters.lock().unwrap_or_else(PoisonError::into_inner).settle();
    while !settle()? {
        std::thread::sleep(BETWEEN_LOOKS);
    }
    let published = snapshot::save(config, frozen, mark, store.draft()?)?;
    if let Err(error) = store.prune(config.checkpoint.keep, pinned) {
        // The new one is durable all the same; the next one tries again.
        tracing::warn!(%error, "old checkpoints stay");
    }
    Ok(published)
}
