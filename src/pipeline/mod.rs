//! The worker: feeds the trainer from a source, and keeps what it learnt.
//!
//! Everything that `run`, `replay` and `demo` have in common: restore, the loop, dead letters, checkpoints, and an
//! observer that is shown the state now and then. The commands bring the source and decide what is shown. Checkpoints are
//! written beside training: `saver`.

mod checkpoint_writer;
mod control;
mod events;
mod pins;
mod restore;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::RecvTimeoutError;

use crate::catalogue::Catalogue;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::DeadLetterMark;
use crate::checkpoint::store::Store;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::position::{Positions, Stream};
use crate::source::{Message, SourceError, SourceHandle};
use crate::trainer::{StepReport, Trainer};
use checkpoint_writer::{CheckpointWriter, Job, Outcome, SharedDeadLetters};
pub use events::{Diverged, LastCheckpoint, Observer, WorkError, WorkerEvent};
use pins::CheckpointPins;
pub use restore::Restored;

/// How often the observer is shown the state.
const OBSERVE_EVERY: Duration = Duration::from_millis(250);
/// So many rows of tables that a checkpoint has shared are put in their places after a step; a megabyte takes about a
/// tenth of a millisecond.
const ROWS_AT_A_TIME: usize = 4_096;

/// How a run of the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The declared end of the source.
    End,
    /// A signal.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    /// The model and its trainer.
    pub trainer: Trainer,
    config: Config,
    saver: CheckpointWriter,
    store: Store,
    dead_letters: SharedDeadLetters,
    unconfirmed: CheckpointPins,
    /// Whether the state may share tables with a checkpoint that is, or was, written.
    shares: bool,
    streams: Vec<Stream>,
    /// Length of the dead-letter file at the end of the last batch.
    dead_letters_settled: Option<u64>,
    /// Records passed at the newest checkpoint, whether ours or restored.
    saved_at: Option<u64>,
    /// Records read at which the next checkpoint is due.
    due: u64,
    /// Whether one that was due could not be begun.
    owed: bool,
    /// Records rejected by this process.
    rejected: u64,
    last: Option<LastCheckpoint>,
    restored: Option<PathBuf>,
}

impl Worker {
    /// A worker that goes on from `origin`, and learns of new items what `catalogue` knows.
    ///
    /// # Errors
    /// Where threads cannot be started, or a first checkpoint cannot be written. One that begins anew beside older
    /// checkpoints, or goes on from one before those that another worker has overtaken, says so at once, lest the newest be
    /// taken for its state; one with a file of dead letters records where its own begin, lest a restart write them twice.
    pub fn new(
        config: &Config,
        origin: Restored,
        dead_letters: DeadLetters,
        catalogue: Catalogue,
    ) -> anyhow::Result<Self> {
        let Restored { checkpoint, state, store, overtaken } = origin;
        let marked = checkpoint.as_ref().and_then(|intact| intact.manifest.dead_letters.as_ref());
        let unmarked_letters =
            dead_letters.length().is_some() && marked.is_none_or(|mark| mark.file != config.dead_letters.file);
        let begins_anew =
            unmarked_letters || overtaken || (checkpoint.is_none() && store.begins_with_a_checkpoint()?);
        let dead_letters = SharedDeadLetters::new(dead_letters);
        let mut worker = Self {
            saved_at: checkpoint.is_some().then_some(state.events.passed()),
            dead_letters_settled: dead_letters.length(),
            trainer: Trainer::new(config, state).context("cannot start the compute threads")?.with_catalogue(catalogue),
            config: config.clone(),
            saver: CheckpointWriter::start(config, store.clone(), &dead_letters)
                .context("cannot start the thread that saves")?,
            store,
            dead_letters,
            unconfirmed: CheckpointPins::new(checkpoint.as_ref().map(|intact| intact.path.as_path())),
            shares: false,
            streams: Vec::new(),
            due: 0,
            owed: false,
            rejected: 0,
            last: None,
            restored: checkpoint.map(|intact| intact.path),
        };
        worker.due = next_due(config, &worker.trainer);
        if begins_anew {
            worker.save()?;
        }
        Ok(worker)
    }

    /// The folder of the newest checkpoint, written or restored.
    pub fn checkpoint_path(&self) -> Option<String> {
        let written = self.last.as_ref().map(|last| &last.published.path);
        written.or(self.restored.as_ref()).map(|path| path.display().to_string())
    }

    /// Trains on what `feed` brings until its end, or until `stop` is set; then writes a checkpoint.
    ///
    /// # Errors
    /// Where the source failed for good (what was trained is saved all the same), or the last checkpoint could not be
    /// written.
    pub fn work(
        &mut self,
        feed: &SourceHandle,
        stop: &AtomicBool,
        observer: &mut Observer<'_>,
    ) -> anyhow::Result<StopReason> {
        self.streams.clone_from(&feed.streams);
        self.unconfirmed.follow(feed.commits.clone());
        self.trainer.follow(&self.streams);
        let mut seen = Instant::now();
        let outcome = 'work: loop {
            if stop.load(Ordering::Relaxed) {
                break Ok(StopReason::Stopped);
            }
            match feed.messages.recv_timeout(OBSERVE_EVERY) {
                Ok(Message::Block(records)) => {
                    for record in records {
                        if let Err(rejection) = &record.outcome
                            && rejection.reason.is_fault()
                        {
                            // Before it is kept: where it stops the worker, it is still to be read.
                            if let Err(error) = self.check_rejections(rejection) {
                                break 'work Err(error);
                            }
                            if !self.reject((record.stream, record.offset), rejection, stop, observer)? {
                                break;
                            }
                            if self.dead_letters.are_kept() {
                                observer(&self.trainer, WorkerEvent::DeadLetter);
                            }
                        }
                        let begin = Instant::now();
                        let step = self.trainer.take(record);
                        if self.trainer.is_settled() {
                            self.dead_letters_settled = self.dead_letters.length();
                        }
                        match step {
                            Some(report) => {
                                self.stepped(&report, begin.elapsed(), observer)?;
                                self.look_after_checkpoints(feed, observer)?;
                            }
                            // What no batch waits for is part of the state too, however long that goes on.
                            None if self.trainer.is_settled() => {}
                            None => continue,
                        }
                        if self.trainer.state.events.read >= self.due {
                            self.checkpoint_in_passing(observer);
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if seen.elapsed() >= OBSERVE_EVERY {
                            seen = Instant::now();
                            observer(&self.trainer, WorkerEvent::Tick);
                        }
                    }
                }
                Ok(Message::SourceControl(notice, reply)) => {
                    if let Err(error) = self.notice(notice, &reply, observer) {
                        break Err(error);
                    }
                    if self.saved_at == Some(self.trainer.state.events.passed()) {
                        // Nothing was read since: killed before it was passed on, or gained just now.
                        feed.tell(self.trainer.state.positions.clone());
                    }
                }
                Ok(Message::Idle) | Err(RecvTimeoutError::Timeout) => {
                    self.look_after_checkpoints(feed, observer)?;
                    observer(&self.trainer, WorkerEvent::Tick);
                }
                Ok(Message::End) => {
                    self.close_batch(observer)?;
                    break Ok(StopReason::End);
                }
                Ok(Message::Failed(error)) => break Err(error.into()),
                Err(RecvTimeoutError::Disconnected) => break Err(SourceError::Panicked.into()),
            }
        };
        if let Err(WorkError::TooManyRejected { .. }) = outcome {
            // What was rejected behind the batch that is begun is not rejected again after a restart.
            self.close_batch(observer)?;
        }
        if outcome.as_ref().is_err_and(WorkError::disowns) {
            // What was trained since the last checkpoint is another worker's by now: it dies here.
            return Err(outcome.unwrap_err().into());
        }
        if let Some(durable) = self.wait_for_checkpoint(observer) {
            feed.tell(durable);
        }
        // The last checkpoint has to succeed, or the caller must know.
        if self.saved_at != Some(self.trainer.state.events.passed()) {
            let saved = self.save_shown(observer);
            match (&outcome, saved) {
                (Err(error), Err(unsaved)) => {
                    tracing::error!(%error, %unsaved, "the source failed, and so did the checkpoint")
                }
                (_, saved) => saved?,
            }
        }
        feed.tell(self.trainer.state.positions.clone());
        observer(&self.trainer, WorkerEvent::Tick);
        Ok(outcome?)
    }

    /// Closes a batch that is begun: everything that was taken is part of the state.
    fn close_batch(&mut self, observer: &mut Observer<'_>) -> Result<(), Diverged> {
        let begin = Instant::now();
        if let Some(report) = self.trainer.finish() {
            self.stepped(&report, begin.elapsed(), observer)?;
        }
        self.dead_letters_settled = self.dead_letters.length();
        Ok(())
    }

    /// Shows a step that was taken, unless the model is none any more after it.
    fn stepped(&self, report: &StepReport, took: Duration, observer: &mut Observer<'_>) -> Result<(), Diverged> {
        if !report.loss.finite {
            return Err(Diverged { steps: self.trainer.state.steps });
        }
        observer(&self.trainer, WorkerEvent::Step(report, took));
        Ok(())
    }

    /// Freezes the state and has it written, unless the one before is not done with.
    fn checkpoint_in_passing(&mut self, observer: &mut Observer<'_>) {
        // Where it fails it is not tried again before the next is due: a full disk stays full for a while.
        self.due = next_due(&self.config, &self.trainer);
        if self.saver.is_busy() || !self.take_back(16 * ROWS_AT_A_TIME) {
            self.owed = true;
            return observer(&self.trainer, WorkerEvent::CheckpointSkipped);
        }
        self.owed = false;
        observer(&self.trainer, WorkerEvent::CheckpointBegins);
        self.begin_checkpoint();
    }

    fn begin_checkpoint(&mut self) {
        let begin = Instant::now();
        let frozen = self.trainer.freeze();
        self.shares = true;
        let file = &self.config.dead_letters.file;
        let dead_letters = self.dead_letters_settled.map(|bytes| DeadLetterMark { file: file.clone(), bytes });
        let pause = begin.elapsed();
        self.saver.begin(Job {
            frozen,
            dead_letters,
            spared: self.unconfirmed.spared(self.config.checkpoint.keep),
            pause,
        });
    }

    /// Hears of a checkpoint that has been written meanwhile; the state takes its tables back.
    ///
    /// # Errors
    /// Where another worker took over: whatever is trained from here on is that one's to train.
    fn look_after_checkpoints(
        &mut self,
        feed: &SourceHandle,
        observer: &mut Observer<'_>,
    ) -> Result<(), CheckpointError> {
        if let Some(finished) = self.saver.finished()
            && let Some(durable) = self.checkpoint_finished(finished, observer)
        {
            feed.tell(durable);
        }
        if !self.saver.is_busy() && self.take_back(ROWS_AT_A_TIME) && std::mem::take(&mut self.owed) {
            // One was skipped, and nobody knows when the next is due: the stream may have come to rest.
            observer(&self.trainer, WorkerEvent::CheckpointBegins);
            self.begin_checkpoint();
        }
        self.store.still_held()
    }

    /// Moves so many rows of tables that were shared; whether none is shared any more.
    fn take_back(&mut self, rows: usize) -> bool {
        self.shares = self.shares && !self.trainer.state.thaw(rows);
        !self.shares
    }

    /// Waits for the checkpoint that is being written; gives what is durable by it.
    fn wait_for_checkpoint(&mut self, observer: &mut Observer<'_>) -> Option<Positions> {
        let finished = self.saver.wait(|| observer(&self.trainer, WorkerEvent::Tick))?;
        self.checkpoint_finished(finished, observer)
    }

    /// Shows what became of a checkpoint; gives what is durable by it.
    fn checkpoint_finished(&mut self, finished: Outcome, observer: &mut Observer<'_>) -> Option<Positions> {
        let positions = finished.positions.clone();
        if let Err(error) = self.note(finished) {
            observer(&self.trainer, WorkerEvent::CheckpointFailed(&error));
            return None;
        }
        self.last.iter().for_each(|last| observer(&self.trainer, WorkerEvent::Checkpoint(last)));
        Some(positions)
    }

    fn note(&mut self, finished: Outcome) -> Result<(), CheckpointError> {
        let written = finished.written?;
        self.unconfirmed.wrote(&written.published.path, finished.claimed);
        self.saved_at = Some(finished.passed);
        self.last = Some(written);
        Ok(())
    }

    /// Writes a checkpoint of the state as it is, and returns once it is durable.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// While one is being written.
    pub fn save(&mut self) -> Result<(), CheckpointError> {
        self.save_meanwhile(&mut |_| {})
    }

    fn save_meanwhile(&mut self, meanwhile: &mut dyn FnMut(&Trainer)) -> Result<(), CheckpointError> {
        self.owed = false;
        // Nobody waits for a step now, and tables that are still in halves would be copied.
        self.take_back(usize::MAX);
        self.begin_checkpoint();
        let finished = self.saver.wait(|| meanwhile(&self.trainer)).expect("it has just begun");
        self.note(finished)?;
        self.take_back(usize::MAX);
        Ok(())
    }
}

/// The next multiple of the interval, so that checkpoints stand at the same places however often a run is resumed.
fn next_due(config: &Config, trainer: &Trainer) -> u64 {
    (trainer.state.events.read / config.checkpoint.every_events + 1) * config.checkpoint.every_events
}
