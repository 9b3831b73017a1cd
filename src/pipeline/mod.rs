//! The pipeline: reads a source, trains on it, and keeps what it learns in checkpoints.
//!
//! Everything that `run`, `replay`, `demo` and programs that embed this crate have in common: restoring the newest
//! checkpoint, the training loop, dead letters, checkpoints beside training, and an observer that is shown the state now and
//! then. The caller brings the source, and decides what is shown. The parts:
//!
//! | part | decides |
//! | --- | --- |
//! | [`PipelineBuilder`] | what the pipeline goes on from |
//! | `exit_path` | why the loop ends, and what is saved for each reason |
//! | `checkpoints` | when a checkpoint is due, and what is durable |
//! | `checkpoint_writer` | nothing: it writes, on a thread of its own |
//! | `disorder` | nothing: it notices events that come long after later ones |
//! | `freshness` | nothing: it measures how long events take to be in the weights, and in a checkpoint |
//! | `live` | what the clock decides on a live stream: when a batch is cut, and a checkpoint begun |
//! | `on_demand` | nothing: it takes requests for checkpoints, and hands out the answers |
//! | `pins` | which checkpoints outlast `checkpoint.keep`, since a group may send the worker back to them |
//! | `publisher` | which rows a sink is sent, a few times a second |
//! | `publishing_turn` | which of the workers that share a model publishes it |
//! | `change_filter` | which changed rows have moved enough to be sent |
//! | `recall_controller` | how far that is |
//! | `selection` | what sinks of one wanted recall are sent: filter, controller, and what it measures on |
//! | `user_queries` | nothing: it makes the queries of users who did something, for sinks that take them |
//! | `change_set` | nothing: it is what a sink is sent, and merges what waits |
//! | `outlet` | what waits for a sink, and whether training waits too |
//! | `sharing` | when deltas are sent to those who share the model, and theirs are merged |
//! | `control` | what follows from a change of the streams |
//! | `probation` | what becomes of rejected records while none has ever been taken |

mod builder;
#[doc(hidden)]
pub mod change_filter;
mod change_set;
mod checkpoint_writer;
mod checkpoints;
mod control;
mod disorder;
mod error;
mod events;
mod exit_path;
mod freshness;
mod live;
mod on_demand;
mod outlet;
mod pins;
mod probation;
mod publisher;
mod publishing_turn;
#[doc(hidden)]
pub mod recall_controller;
mod restore;
#[doc(hidden)]
pub mod selection;
mod sharing;
mod sink_figures;
#[cfg(test)]
mod tests;
mod user_queries;

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::config::Config;
use crate::dead_letters::DeadLettersConfig;
use crate::event::{Record, Rejection};
use crate::position::{Positions, Stream};
use crate::share::ShareError;
use crate::signals::Stop;
use crate::source::{EventSource, NotedCuts, SourceError, SourceHandle, SourceMessage, spawn};
use crate::trainer::state::State;
use crate::trainer::{StepReport, Trainer};
pub use builder::PipelineBuilder;
use checkpoint_writer::SharedDeadLetters;
#[doc(hidden)]
pub use checkpoint_writer::SideFile;
use checkpoints::CheckpointSchedule;
use disorder::OrderWatch;
pub use disorder::{DisorderFigures, LateEvent};
pub use error::{Diverged, NoneOfKinds, NothingTaken, PipelineError, SaveError, TooManyRejected};
pub use events::{Observer, PipelineEvent, WrittenCheckpoint};
use exit_path::{BatchInProgress, ExitPath, FinalCheckpoint};
pub use freshness::FreshnessFigures;
use live::ClockCuts;
pub use on_demand::{CheckpointAnswer, CheckpointRequests, Ticket};
use probation::{HeldLetter, Probation};
use publisher::Publisher;
use publishing_turn::PublishingTurn;
pub use restore::Restored;
pub use sharing::ShareFigures;
pub use sink_figures::{SinkCondition, SinkFigures};

/// How often the observer is shown the state.
const OBSERVE_EVERY: Duration = Duration::from_millis(250);

/// How soon what others sent is merged while no record comes.
const SHARE_EVERY: Duration = Duration::from_millis(20);

/// Why a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The source ended.
    End,
    /// A stop was requested.
    Stopped,
}

/// A trainer with all that a worker needs around it: a source, checkpoints, dead letters.
///
/// [`Pipeline::new`] goes on from the newest checkpoint in `checkpoint.dir`; [`Pipeline::positions`] then says where a source
/// has to be opened, and [`Pipeline::run`] trains on it.
#[derive(Debug)]
pub struct Pipeline {
    trainer: Trainer,
    config: Config,
    checkpoints: CheckpointSchedule,
    dead_letters: SharedDeadLetters,
    stop: Stop,
    /// The streams of the source; records refer to them by index.
    streams: Vec<Stream>,
    /// Records rejected by this process.
    n_rejected: u64,
    /// What was rejected while nothing had been taken.
    probation: Probation,
    started: Instant,
    /// Records read when this process began.
    read_at_start: u64,
    /// When the observer was shown the state last.
    observed: Instant,
    /// When the clock cuts a batch.
    clock: ClockCuts,
    /// The times of the events, as they came.
    order: OrderWatch,
    /// The sinks of embeddings.
    publisher: Publisher,
    /// Whose turn it is to publish, where the model is shared.
    turn: PublishingTurn,
}

impl Pipeline {
    /// A pipeline with everything as `config` says.
    ///
    /// # Errors
    /// Those of [`PipelineBuilder::build`].
    pub fn new(config: &Config) -> Result<Self, PipelineError> {
        Self::builder(config).build()
    }

    /// A pipeline of which some parts are given by the caller.
    pub fn builder(config: &Config) -> PipelineBuilder<'_> {
        PipelineBuilder::new(config)
    }

    /// The next offset of each stream that the state has read: a source has to be opened there.
    pub fn positions(&self) -> &Positions {
        &self.trainer.state.sources.positions
    }

    /// The trainer, for whoever shows its figures.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The trained state.
    pub fn state(&self) -> &State {
        &self.trainer.state
    }

    /// Ranks events from number `from` on also by states as old as these delays: [`Trainer::serve_stale`].
    pub fn serve_stale(&mut self, delays_ms: &[i64], from: u64) {
        self.trainer.serve_stale(delays_ms, from);
    }

    /// The trained state, for those who change it by other means than a source.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.trainer.state
    }

    /// The handle by which another thread, or the observer, ends a run in good order.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// The folder of the newest durable checkpoint, written or restored.
    pub fn checkpoint_path(&self) -> Option<&Path> {
        self.checkpoints.newest_path()
    }

    /// Seconds since the pipeline was built, and the records read in them.
    pub fn progress(&self) -> (f64, u64) {
        (self.started.elapsed().as_secs_f64(), self.trainer.state.progress.events.read - self.read_at_start)
    }

    /// How fresh what is learnt was, on a live stream.
    pub fn freshness(&self) -> FreshnessFigures {
        self.checkpoints.freshness.figures()
    }

    /// What was sent to each sink, and how fresh it is.
    pub fn sinks(&self) -> Vec<SinkFigures> {
        self.publisher.figures()
    }

    /// How far out of order the events were that this process read.
    pub fn disorder(&self) -> &DisorderFigures {
        self.order.figures()
    }

    /// Leaves a view of the state as it stands for those who ask after the run: the last checkpoint took the one before away.
    #[doc(hidden)]
    pub fn leave_view(&mut self) {
        if let Some(views) = &mut self.checkpoints.views {
            views.leave_last(&mut self.trainer);
        }
    }

    /// Writes a checkpoint of the state as it stands.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&mut self) -> Result<(), PipelineError> {
        Ok(self.checkpoints.save(&mut self.trainer, &mut |_, _| {})?)
    }

    /// Trains on `source` until its end, or until a stop is requested; then writes a checkpoint.
    ///
    /// # Errors
    /// Where the source failed for good (what was trained is saved all the same, unless it is another worker's by now), the
    /// model diverged, nearly every record is rejected, or a checkpoint that has to succeed cannot be written.
    pub fn run(&mut self, source: impl EventSource + 'static) -> Result<StopReason, PipelineError> {
        self.run_observed(source, &mut |_, _| {})
    }

    /// [`Pipeline::run`], with an observer that is called, on this thread, at every event and a few times a second.
    ///
    /// # Errors
    /// Those of [`Pipeline::run`].
    pub fn run_observed(
        &mut self,
        source: impl EventSource + 'static,
        observer: &mut Observer<'_>,
    ) -> Result<StopReason, PipelineError> {
        if let Some(commits) = source.commit_tracker() {
            // Before the source can commit anything: what is still to be cut again must not be forgotten by it.
            let by = self.trainer.state.sources.ownerships.worker.clone();
            commits.note_cuts(NotedCuts { by, cuts: self.trainer.cuts() });
        }
        let source = spawn(Box::new(source))?;
        self.streams.clone_from(&source.streams);
        self.checkpoints.track_commits(source.commit_tracker.clone());
        self.trainer.set_streams(&self.streams);
        self.observed = Instant::now();
        self.feed_sinks();
        self.follow_with_views(true);
        let exit = loop {
            if let Err(exit) = self.turn(&source, observer) {
                break exit;
            }
        };
        observer(&self.trainer, PipelineEvent::Draining);
        let result = self.conclude(exit, &source, observer);
        source.close();
        result
    }

    /// Takes one message of the source's; the way out where the loop has to end.
    fn turn(&mut self, source: &SourceHandle, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        if self.stop.requested() {
            self.train_on_what_was_delivered(source, observer)?;
            return Err(ExitPath::StopRequested);
        }
        self.follow_clock(source, observer)?;
        self.share(source)?;
        self.follow_with_views(false);
        let most = if self.checkpoints.sharing.is_some() { SHARE_EVERY } else { OBSERVE_EVERY };
        let most = self.checkpoints.views.as_ref().map_or(most, |views| views.wait(most));
        match source.messages.recv_timeout(self.clock.wait(most)) {
            Ok(SourceMessage::Records(records, read_at)) => {
                records.into_iter().try_for_each(|record| self.train(record, read_at, source, observer))?;
            }
            Ok(SourceMessage::Control(control, reply)) => {
                self.handle_control(control, &reply, observer)?;
                if self.checkpoints.is_up_to_date(&self.trainer) {
                    // Nothing was read since: the worker was killed before the source was told, or was assigned just now.
                    self.request_commit(source, self.trainer.state.sources.positions.clone());
                }
            }
            Ok(SourceMessage::Idle) | Err(RecvTimeoutError::Timeout) => {
                self.poll_checkpoints(source, observer)?;
                self.follow_with_views(true);
                self.tick_if_due(observer);
            }
            Ok(SourceMessage::End) => return Err(ExitPath::EndOfSource),
            Ok(SourceMessage::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Disconnected) => return Err(SourceError::Panicked.into()),
        }
        self.feed_sinks();
        Ok(())
    }

    /// Sends those who share the model what it has learnt, where it is time, and merges what they sent.
    fn share(&mut self, source: &SourceHandle) -> Result<(), ShareError> {
        let Some(sharing) = &mut self.checkpoints.sharing else { return Ok(()) };
        if sharing.turn(&mut self.trainer)? {
            self.commit_sent(source);
        }
        Ok(())
    }

    /// Leaves a view of the state for those who ask it, where it is time.
    fn follow_with_views(&mut self, is_quiet: bool) {
        if let Some(views) = &mut self.checkpoints.views {
            views.follow(&mut self.trainer, is_quiet);
        }
    }

    /// Gives the sinks what changed, where it is time.
    fn feed_sinks(&mut self) {
        self.publisher.feed_if_due(&mut self.trainer.state, &mut self.checkpoints.freshness, &self.stop);
    }

    /// Hands a record to the trainer, and does what is due after it.
    fn train(
        &mut self,
        record: Record,
        read_at: Instant,
        source: &SourceHandle,
        observer: &mut Observer<'_>,
    ) -> Result<(), ExitPath> {
        if self.trainer.is_read_again(&record) {
            return self.read_again(record, observer);
        }
        match &record.outcome {
            Ok(_) if self.probation.is_open() => {
                self.send_held_letters(observer)?;
                self.probation.close();
                self.trainer.state.sources.ownerships.read_by = Some(self.config.reading_digest());
            }
            Ok(_) => {}
            Err(rejection) if rejection.reason.is_fault() => self.reject(&record, rejection, observer)?,
            Err(_) => {}
        }
        if let Some(event) = self.order.observe(&record, &self.streams) {
            let so_far = self.order.figures().late;
            observer(&self.trainer, PipelineEvent::LateEvent { event: &event, so_far });
        }
        if let Ok(event) = &record.outcome {
            self.publisher.note_event(event);
        }
        let begin = Instant::now();
        let happened = record.outcome.as_ref().ok().map(|event| event.timestamp);
        let n_admitted = self.trainer.n_admitted();
        let step = self.trainer.ingest(record);
        let mut is_step = step.is_some();
        self.note_arrival(read_at, happened.filter(|_| self.trainer.n_admitted() > n_admitted), is_step);
        if let Some(report) = step {
            self.report_step(&report, begin.elapsed(), observer)?;
        }
        if self.trainer.records_to_planned_cut() == Some(0) {
            is_step |= self.close_batch(observer)?;
        }
        let is_settled = self.trainer.is_settled();
        if is_settled {
            self.checkpoints.mark_dead_letters(self.dead_letters.length());
        }
        self.clock.note(is_settled, is_step, read_at);
        if is_step {
            self.poll_checkpoints(source, observer)?;
            self.follow_with_views(false);
        } else if !is_settled {
            return Ok(());
        }
        if !self.probation.has_only_rejected() {
            // Records that no batch waits for are part of the state too, however long none is trained on.
            self.checkpoints.begin_if_due(&mut self.trainer, observer)?;
        }
        if self.stop.requested() && self.clock.is_over(Instant::now()) {
            return Err(ExitPath::StopRequested);
        }
        self.tick_if_due(observer);
        Ok(())
    }

    /// Takes a record that is part of the shared model already. One that was rejected is kept once more where the file of dead
    /// letters ends before it: where this worker had read it, and died.
    fn read_again(&mut self, record: Record, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        if let Err(rejection) = &record.outcome
            && rejection.reason.is_fault()
            && self.trainer.had_read(&record)
        {
            self.send_letter(record.stream, record.offset, rejection, observer)?;
        }
        self.trainer.read_again(record);
        Ok(())
    }

    /// Shows the observer how things stand, where it was not shown of late: to sum it up takes time.
    fn tick_if_due(&mut self, observer: &mut Observer<'_>) {
        if self.observed.elapsed() >= OBSERVE_EVERY {
            self.observed = Instant::now();
            self.tick(observer);
        }
    }

    /// Shows the observer how things stand.
    fn tick(&mut self, observer: &mut Observer<'_>) {
        observer(&self.trainer, PipelineEvent::Freshness(&self.checkpoints.freshness.figures()));
        observer(&self.trainer, PipelineEvent::Disorder(self.order.figures()));
        if let Some(sharing) = &self.checkpoints.sharing {
            let figures = sharing.figures(&mut self.trainer);
            observer(&self.trainer, PipelineEvent::Sharing(&figures));
        }
        let sinks = self.publisher.figures();
        if !sinks.is_empty() {
            observer(&self.trainer, PipelineEvent::Publishing(sinks));
        }
        observer(&self.trainer, PipelineEvent::Tick);
    }

    /// Where the model is shared, asks the source to commit what the log says is part of it; `false` where it is not shared.
    fn commit_sent(&self, source: &SourceHandle) -> bool {
        let shared = self.trainer.state.sources.shared.as_ref();
        shared.map(|shared| source.request_commit(shared.ledger.all_covered().clone())).is_some()
    }

    /// Asks the source to commit `durable`, and to note which cuts are not in it; of a shared model, what was sent.
    fn request_commit(&self, source: &SourceHandle, durable: Positions) {
        if self.commit_sent(source) {
            return;
        }
        source.note_cuts(&self.trainer.state.sources.ownerships.worker, self.trainer.cuts());
        source.request_commit(durable);
    }

    fn check_stop(&self) -> Result<(), ExitPath> {
        if self.stop.requested() { Err(ExitPath::StopRequested) } else { Ok(()) }
    }

    /// Keeps a record that was rejected, waiting for room.
    fn reject(&mut self, record: &Record, rejection: &Rejection, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        let (stream, offset) = (record.stream, record.offset);
        let label = &self.streams[stream as usize].label;
        // Before the record is kept: where it ends the run, it is still to be read.
        self.check_rejected_share(label, offset, rejection)?;
        if self.probation.is_open() {
            self.probation.note(label, offset, rejection);
        }
        if !self.probation.is_open() {
            self.send_letter(stream, offset, rejection, observer)?;
        } else if self.dead_letters.are_kept()
            && !self.probation.hold(HeldLetter { stream, offset, rejection: rejection.clone() })
        {
            return Err(self.probation.error(self.n_rejected + 1).into());
        }
        self.n_rejected += 1;
        let event = PipelineEvent::RecordRejected {
            stream: &self.streams[stream as usize].label,
            offset,
            rejection,
            is_dead_letter: self.dead_letters.are_kept(),
            so_far: self.n_rejected,
        };
        observer(&self.trainer, event);
        Ok(())
    }

    /// Keeps a dead letter, waiting for room.
    fn send_letter(
        &mut self,
        stream: u32,
        offset: u64,
        rejection: &Rejection,
        observer: &mut Observer<'_>,
    ) -> Result<(), ExitPath> {
        while !self.dead_letters.offer(&self.streams[stream as usize].label, offset, rejection)? {
            self.check_stop()?;
            std::thread::sleep(OBSERVE_EVERY);
            observer(&self.trainer, PipelineEvent::Tick);
        }
        Ok(())
    }

    /// Keeps the dead letters that waited for a first record to be taken, or for the state to be saved all the same.
    fn send_held_letters(&mut self, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        for HeldLetter { stream, offset, rejection } in self.probation.release() {
            self.send_letter(stream, offset, &rejection, observer)?;
        }
        Ok(())
    }

    /// Whether the share of rejected records among the newest ones is still bearable.
    fn check_rejected_share(&self, label: &str, offset: u64, newest: &Rejection) -> Result<(), TooManyRejected> {
        let DeadLettersConfig { max_share, window, .. } = self.config.dead_letters;
        let share = self.trainer.rejected_share();
        if share <= max_share {
            return Ok(());
        }
        Err(TooManyRejected {
            share,
            window,
            max_share,
            stream: label.to_owned(),
            offset,
            by_topic: !self.config.kafka.topics.is_empty(),
            reason: newest.reason,
            detail: newest.detail.clone(),
        })
    }

    /// Shows a step to the observer, unless the model has diverged by it.
    fn report_step(&self, report: &StepReport, took: Duration, observer: &mut Observer<'_>) -> Result<(), Diverged> {
        if !report.loss.finite {
            observer(&self.trainer, PipelineEvent::Diverged);
            return Err(Diverged { steps: self.trainer.state.progress.steps });
        }
        observer(&self.trainer, PipelineEvent::Step { report, took });
        Ok(())
    }

    /// Trains on the batch in progress, short as it is: everything that was ingested is part of the state then. Gives whether
    /// there was one.
    fn close_batch(&mut self, observer: &mut Observer<'_>) -> Result<bool, Diverged> {
        let begin = Instant::now();
        let step = self.trainer.finish();
        self.checkpoints.freshness.note_trained(0);
        self.clock.note_cut();
        if let Some(report) = &step {
            self.report_step(report, begin.elapsed(), observer)?;
        }
        self.checkpoints.mark_dead_letters(self.dead_letters.length());
        Ok(step.is_some())
    }

    fn poll_checkpoints(&mut self, source: &SourceHandle, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        let may_begin = !self.probation.has_only_rejected();
        if let Some(durable) = self.checkpoints.poll(&mut self.trainer, may_begin, observer)? {
            self.request_commit(source, durable);
        }
        Ok(self.checkpoints.check_ownership()?)
    }

    /// Ends the run: trains, saves and tells the source what the table of [`ExitPath`] says.
    fn conclude(
        &mut self,
        exit: ExitPath,
        source: &SourceHandle,
        observer: &mut Observer<'_>,
    ) -> Result<StopReason, PipelineError> {
        let exit = match exit {
            ExitPath::EndOfSource | ExitPath::TooManyRejected(_) if self.probation.has_only_rejected() => {
                self.probation.error(self.n_rejected).into()
            }
            ExitPath::EndOfSource => match self.trainer.none_of_kinds() {
                Some(why) => ExitPath::NoneOfKinds(NoneOfKinds(why)),
                None => ExitPath::EndOfSource,
            },
            exit => exit,
        };
        let (batch, checkpoint) = exit.policy(self.clock.is_followed());
        if checkpoint != FinalCheckpoint::Forbidden && self.probation.has_only_rejected() {
            tracing::warn!(
                records = self.n_rejected,
                "every record was rejected; nothing is saved, they are read again"
            );
            return exit.into_result();
        }
        if batch == BatchInProgress::Train {
            self.close_batch(observer)?;
        }
        if checkpoint == FinalCheckpoint::Forbidden {
            return exit.into_result();
        }
        if let Some(durable) = self.checkpoints.wait(&mut self.trainer, observer) {
            self.request_commit(source, durable);
        }
        let saved = if self.checkpoints.is_up_to_date(&self.trainer) {
            Ok(())
        } else {
            self.checkpoints.save(&mut self.trainer, observer)
        };
        let result = match (checkpoint, saved) {
            (FinalCheckpoint::Attempted, Err(unsaved)) => {
                let result = exit.into_result();
                tracing::error!(error = ?result.as_ref().err(), %unsaved, "the run failed, and so did its last checkpoint");
                result
            }
            (_, Err(unsaved)) => return Err(unsaved.into()),
            (_, Ok(())) => {
                self.request_commit(source, self.trainer.state.sources.positions.clone());
                self.publisher.finish(&mut self.trainer.state, &mut self.checkpoints.freshness);
                exit.into_result()
            }
        };
        self.follow_with_views(true);
        self.tick(observer);
        result
    }
}
