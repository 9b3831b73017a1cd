//! The schedule of checkpoints: when one is due, what becomes of it, and what of it is durable.
//!
//! One checkpoint at a time is written, by [`CheckpointWriter`], beside training. One that is due meanwhile is skipped and
//! made up for as soon as the writer is free. Checkpoints are due at multiples of `checkpoint.every_events`, so that they
//! stand at the same places however often a run is resumed; on a live stream also by the clock
//! (`checkpoint.every_seconds`), where anything was read since, and whenever somebody asks for one. A replay of logs loses nothing
//! but time by being killed: those that take long to write are put off there, so that writing takes no more of the time than
//! `checkpoint.max_share`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoint_writer::{CheckpointWriter, Job, Outcome, SharedDeadLetters, SideFile};
use super::freshness::Freshness;
use super::on_demand::{CheckpointAnswer, CheckpointRequests, Ticket};
use super::pins::CheckpointPins;
use super::sharing::Sharing;
use super::{Observer, PipelineError, PipelineEvent, Restored, SaveError, WrittenCheckpoint};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::DeadLetterMark;
use crate::checkpoint::store::Store;
use crate::config::Config;
use crate::position::Positions;
use crate::recommend::slot::ViewWriter;
use crate::share::ShareError;
use crate::source::CommitTracker;
use crate::trainer::Trainer;

/// Rows of tables shared with a checkpoint that are made the state's own again after each step; a megabyte takes about a
/// tenth of a millisecond.
const THAWED_ROWS_PER_STEP: usize = 4_096;

/// Checkpoints that are written sooner than this are never put off.
const WRITTEN_AT_ONCE: Duration = Duration::from_secs(1);

/// What a schedule has to know of the stream besides its configuration.
#[derive(Debug)]
pub(super) struct LiveOptions {
    /// Whether the stream is live.
    pub(super) is_live: bool,
    /// Who asks for checkpoints.
    pub(super) requests: CheckpointRequests,
    /// What somebody else keeps with them.
    pub(super) side_file: Option<SideFile>,
}

/// The checkpoints of one run: due, being written, durable.
#[derive(Debug)]
pub(super) struct CheckpointSchedule {
    every_events: u64,
    keep: usize,
    dead_letter_file: String,
    store: Store,
    writer: CheckpointWriter,
    pins: CheckpointPins,
    /// Records read at which the next checkpoint is due.
    due_at: u64,
    /// Whether a checkpoint was skipped that has not been made up for.
    is_overdue: bool,
    /// Longest time between checkpoints; `None` where they are due by events alone.
    every: Option<Duration>,
    /// Largest share of the time that writing may take, beyond which one that is due by events is put off.
    max_share: f64,
    /// When the newest checkpoint was begun; the start of the schedule before the first.
    begun_at: Instant,
    /// The time that writing the newest one took.
    took: Duration,
    /// Whether one is due before its time.
    is_urgent: bool,
    requests: CheckpointRequests,
    /// The request that the checkpoint answers which is being written.
    serving: Option<Ticket>,
    pub(super) freshness: Freshness,
    /// The views that others ask while the state is trained, where there are such: they share its tables too.
    pub(super) views: Option<ViewWriter>,
    /// The worker's part in a shared model, where there is one: what is not sent is in no checkpoint.
    pub(super) sharing: Option<Sharing>,
    /// Whether the state may share tables with a checkpoint that is being, or was, written.
    shares_tables: bool,
    /// Length of the dead-letter file at the end of the newest batch; `None` where dead letters go elsewhere.
    dead_letter_mark: Option<u64>,
    /// Records passed at the newest durable checkpoint, written or restored.
    durable_at: Option<u64>,
    pub(super) written: Option<WrittenCheckpoint>,
    restored: Option<PathBuf>,
}

impl CheckpointSchedule {
    /// A schedule that goes on from `restored`; the thread that writes is started.
    pub(super) fn start(
        config: &Config,
        restored: &Restored,
        dead_letters: &SharedDeadLetters,
        live: LiveOptions,
    ) -> Result<Self, PipelineError> {
        let LiveOptions { is_live, requests, side_file } = live;
        let Restored { checkpoint, state, store, .. } = restored;
        let path = checkpoint.as_ref().map(|checkpoint| checkpoint.path());
        let writer = CheckpointWriter::start(config, store.clone(), dead_letters, side_file)
            .map_err(|source| PipelineError::Thread { purpose: "checkpoint", source })?;
        let mut schedule = Self {
            every_events: config.checkpoint.every_events,
            keep: config.checkpoint.keep,
            dead_letter_file: config.dead_letters.file.clone(),
            store: store.clone(),
            writer,
            pins: CheckpointPins::new(path),
            due_at: 0,
            is_overdue: false,
            every: Some(Duration::from_secs(config.checkpoint.every_seconds))
                .filter(|every| is_live && !every.is_zero()),
            max_share: if is_live { 1.0 } else { config.checkpoint.max_share },
            begun_at: Instant::now(),
            took: Duration::ZERO,
            is_urgent: false,
            requests,
            serving: None,
            freshness: Freshness::new(is_live),
            views: None,
            sharing: None,
            shares_tables: false,
            dead_letter_mark: dead_letters.length(),
            durable_at: checkpoint.is_some().then_some(state.progress.passed()),
            written: None,
            restored: path.map(Path::to_owned),
        };
        schedule.set_next_due(state.progress.events.read);
        Ok(schedule)
    }

    /// The folder of the newest durable checkpoint, written or restored.
    pub(super) fn newest_path(&self) -> Option<&Path> {
        let written = self.written.as_ref().map(|written| written.path.as_path());
        written.or(self.restored.as_deref())
    }

    /// Whether any checkpoint is durable, written or restored.
    pub(super) fn any_is_durable(&self) -> bool {
        self.durable_at.is_some()
    }

    /// Whether the newest durable checkpoint holds all that is part of the state.
    pub(super) fn is_up_to_date(&self, trainer: &Trainer) -> bool {
        self.durable_at == Some(trainer.state.progress.passed())
    }

    /// Tells which commits the source makes of what is durable, from now on.
    pub(super) fn track_commits(&mut self, commits: Option<CommitTracker>) {
        if commits.is_some() {
            // Retention may delete what no checkpoint holds yet, so that a worker which is killed could not read it again.
            self.max_share = 1.0;
        }
        self.pins.track_commits(commits);
    }

    /// Notes the length of the dead-letter file at the end of a batch.
    pub(super) fn mark_dead_letters(&mut self, length: Option<u64>) {
        self.dead_letter_mark = length;
    }

    /// Begins a checkpoint where one is due, or skips it while the one before is not finished with.
    ///
    /// # Errors
    /// What the state has moved by cannot be sent to those who share it.
    pub(super) fn begin_if_due(
        &mut self,
        trainer: &mut Trainer,
        observer: &mut Observer<'_>,
    ) -> Result<(), ShareError> {
        if trainer.state.progress.events.read < self.due_at {
            return Ok(());
        }
        // One that fails is not tried again before the next is due: a full disk stays full for a while.
        self.set_next_due(trainer.state.progress.events.read);
        if let Some(wait) = self.wait_for_share() {
            self.is_overdue = true;
            observer(trainer, PipelineEvent::CheckpointPutOff { wait });
            return Ok(());
        }
        if self.writer.is_busy() || !self.thaw(trainer, 16 * THAWED_ROWS_PER_STEP) {
            self.is_overdue = true;
            observer(trainer, PipelineEvent::CheckpointSkipped);
            return Ok(());
        }
        observer(trainer, PipelineEvent::CheckpointStarted);
        self.begin(trainer)
    }

    /// Takes note of a checkpoint that has been written meanwhile, and returns the positions that are durable by it. The
    /// state takes tables back that it shared, and a checkpoint that was skipped is made up for. Where it `may_begin`, one that
    /// is due by the clock is begun.
    ///
    /// # Errors
    /// Those of [`Self::begin_if_due`].
    pub(super) fn poll(
        &mut self,
        trainer: &mut Trainer,
        may_begin: bool,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Positions>, ShareError> {
        let durable = self.writer.finished().and_then(|outcome| self.finish(outcome, trainer, observer));
        if self.writer.is_busy() || !self.thaw(trainer, THAWED_ROWS_PER_STEP) {
            return Ok(durable);
        }
        let is_made_up_for = self.is_overdue && self.wait_for_share().is_none();
        if is_made_up_for || (may_begin && self.is_due_by_clock(trainer)) {
            // When the next one is due is not known: the stream may have come to rest.
            observer(trainer, PipelineEvent::CheckpointStarted);
            self.begin(trainer)?;
        }
        Ok(durable)
    }

    /// How long one that is due by events has to wait, so that writing takes no more of the time than it may; `None` where it has not,
    /// or the one before is still being written.
    fn wait_for_share(&self) -> Option<Duration> {
        let took = self.written.as_ref()?.took;
        let wait = shortest_interval(took, self.max_share).checked_sub(self.begun_at.elapsed())?;
        (!self.writer.is_busy() && !wait.is_zero()).then_some(wait)
    }

    fn is_due_by_clock(&self, trainer: &Trainer) -> bool {
        let Some(every) = self.every else { return false };
        // So that what was trained right after the last one was begun is durable in time; and at most half of the time is
        // spent on writing.
        let interval = every.saturating_sub(self.took).max(2 * self.took);
        (self.is_urgent || self.begun_at.elapsed() >= interval) && !self.is_up_to_date(trainer)
    }

    /// Has a checkpoint begun as soon as possible, where they are due by the clock at all.
    pub(super) fn hasten(&mut self) {
        self.is_urgent = true;
    }

    /// Whether somebody asks for a checkpoint, and one could be begun.
    pub(super) fn is_asked_for(&self) -> bool {
        !self.writer.is_busy() && self.requests.outstanding().is_some()
    }

    /// Answers those who ask for a checkpoint: begins one, unless the newest one holds everything.
    ///
    /// # Errors
    /// Those of [`Self::begin_if_due`].
    pub(super) fn serve_requests(
        &mut self,
        trainer: &mut Trainer,
        observer: &mut Observer<'_>,
    ) -> Result<(), ShareError> {
        let Some(ticket) = self.requests.outstanding().filter(|_| !self.writer.is_busy()) else { return Ok(()) };
        let newest = self.newest_path().filter(|_| self.is_up_to_date(trainer));
        match newest.map(|path| durable_at(path, trainer.state.progress.events.read)) {
            Some(answer) => self.requests.reply(ticket, answer),
            None if self.thaw(trainer, 16 * THAWED_ROWS_PER_STEP) => {
                observer(trainer, PipelineEvent::CheckpointStarted);
                self.begin(trainer)?;
            }
            // At the next turn.
            None => {}
        }
        Ok(())
    }

    /// Refuses to those who ask for a checkpoint.
    pub(super) fn refuse_requests(&self, why: &str) {
        if let Some(ticket) = self.requests.outstanding() {
            self.requests.reply(ticket, CheckpointAnswer::Failed(why.to_owned()));
        }
    }

    /// Whether the store is still this worker's, as far as is known without asking.
    ///
    /// # Errors
    /// Where another worker took over the store: whatever is trained from here on is that worker's to train.
    pub(super) fn check_ownership(&self) -> Result<(), CheckpointError> {
        self.store.ensure_owned()
    }

    /// Waits for the checkpoint that is being written, if one is, and returns the positions that are durable by it.
    pub(super) fn wait(&mut self, trainer: &mut Trainer, observer: &mut Observer<'_>) -> Option<Positions> {
        let outcome = self.writer.wait(|| observer(trainer, PipelineEvent::Tick))?;
        self.finish(outcome, trainer, observer)
    }

    /// Writes a checkpoint of the state as it stands, and returns once it is durable.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn save(&mut self, trainer: &mut Trainer, observer: &mut Observer<'_>) -> Result<(), SaveError> {
        // Whatever is durable by the one before is durable by this one too.
        self.wait(trainer, observer);
        observer(trainer, PipelineEvent::CheckpointStarted);
        // No step waits for it now, and tables that are still shared in part would be copied.
        self.thaw(trainer, usize::MAX);
        self.begin(trainer)?;
        let outcome = self.writer.wait(|| observer(trainer, PipelineEvent::Tick)).expect("a checkpoint has just begun");
        let written = self
            .record(outcome, trainer)
            .inspect_err(|error| observer(trainer, PipelineEvent::CheckpointFailed(error)))?;
        observer(trainer, PipelineEvent::CheckpointWritten(&written));
        self.thaw(trainer, usize::MAX);
        Ok(())
    }

    fn set_next_due(&mut self, n_read: u64) {
        self.due_at = (n_read / self.every_events + 1) * self.every_events;
    }

    /// Freezes the state and hands it to the writer, once everything is sent to those who share it.
    fn begin(&mut self, trainer: &mut Trainer) -> Result<(), ShareError> {
        let begin = Instant::now();
        if let Some(sharing) = &mut self.sharing {
            sharing.settle(trainer)?;
        }
        if let Some(views) = &mut self.views {
            views.take_away();
        }
        let frozen = trainer.freeze();
        self.shares_tables = true;
        (self.begun_at, self.is_urgent, self.serving) = (begin, false, self.requests.outstanding());
        self.is_overdue = false;
        self.freshness.note_begun();
        let mark = |bytes| DeadLetterMark { file: self.dead_letter_file.clone(), bytes };
        let dead_letters = self.dead_letter_mark.map(mark);
        let pause = begin.elapsed();
        self.writer.begin(Job { frozen, dead_letters, pinned: self.pins.pinned(self.keep), pause });
        Ok(())
    }

    /// Makes up to `n_rows` shared rows the state's own again; whether none is shared with a checkpoint any more.
    fn thaw(&mut self, trainer: &mut Trainer, n_rows: usize) -> bool {
        self.shares_tables = self.shares_tables && !trainer.state.thaw(n_rows);
        // A view shares them at all times, and the next one takes back what a checkpoint that is done has left.
        !self.shares_tables || self.views.is_some()
    }

    /// Shows the outcome of a checkpoint written beside training; the positions that are durable by it.
    fn finish(&mut self, outcome: Outcome, trainer: &mut Trainer, observer: &mut Observer<'_>) -> Option<Positions> {
        let positions = outcome.positions.clone();
        match self.record(outcome, trainer) {
            Ok(written) => {
                observer(trainer, PipelineEvent::CheckpointWritten(&written));
                Some(positions)
            }
            Err(error) => {
                observer(trainer, PipelineEvent::CheckpointFailed(&error));
                None
            }
        }
    }

    fn record(&mut self, outcome: Outcome, trainer: &mut Trainer) -> Result<WrittenCheckpoint, SaveError> {
        self.took = self.begun_at.elapsed();
        self.freshness.note_written(outcome.written.is_ok());
        if let Some(ticket) = self.serving.take() {
            self.requests.reply(
                ticket,
                match &outcome.written {
                    Ok(written) => durable_at(&written.path, written.events),
                    Err(error) => CheckpointAnswer::Failed(error.to_string()),
                },
            );
        }
        let written = outcome.written?;
        trainer.state.sources.cuts.forget_until(written.events);
        self.pins.add(&written.path, outcome.claimed);
        self.durable_at = Some(outcome.passed);
        self.written = Some(written.clone());
        Ok(written)
    }
}

/// The time from one checkpoint to the next for which writing, which `took` so long, takes no more than `max_share` of it. What is
/// written within a second is never waited for.
fn shortest_interval(took: Duration, max_share: f64) -> Duration {
    if took < WRITTEN_AT_ONCE || max_share >= 1.0 { Duration::ZERO } else { took.div_f64(max_share) }
}

/// The answer that tells of the durable checkpoint at `path`.
fn durable_at(path: &Path, events: u64) -> CheckpointAnswer {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    CheckpointAnswer::Durable { name, events }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_takes_no_more_than_its_share_of_the_time_where_it_takes_long() {
        let (short, long) = (Duration::from_millis(999), Duration::from_secs(3));
        assert_eq!(shortest_interval(Duration::ZERO, 0.1), Duration::ZERO);
        assert_eq!(shortest_interval(short, 0.001), Duration::ZERO);
        assert_eq!(shortest_interval(long, 0.1), Duration::from_secs(30));
        assert_eq!(shortest_interval(long, 0.5), Duration::from_secs(6));
        assert_eq!(shortest_interval(long, 1.0), Duration::ZERO);
    }
}
