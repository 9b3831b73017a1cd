//! The thread that a source runs on, and the bounded channel to the trainer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::{CommitTracker, EventSource, NotedCuts, PollStatus, SourceControl, SourceError};
use crate::event::Record;
use crate::position::cuts::Cuts;
use crate::position::{Positions, Stream};

/// Most blocks that wait for the trainer.
const BLOCKS_IN_FLIGHT: usize = 4;
/// Time between two calls of [`EventSource::keep_alive`] while the thread waits for the trainer: durable positions are
/// committed soon, however long the trainer's queue.
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(20);
/// Time between two calls of [`EventSource::release`].
const RELEASE_EVERY: Duration = Duration::from_millis(2);
/// Name of the thread.
const THREAD: &str = "source";

/// A message of the source's thread to the trainer.
#[derive(Debug)]
pub enum SourceMessage {
    /// Records, in order, and when they were read.
    Records(Vec<Record>, Instant),
    /// A message besides records. [`SourceControl::Revoking`] waits for the durable positions as its answer.
    Control(SourceControl, Sender<Positions>),
    /// Nothing to do at the moment; sent so that the trainer can look after its other duties.
    Idle,
    /// The declared end.
    End,
    /// The source failed for good.
    Failed(SourceError),
}

/// The trainer's end of a running source; dropping it stops the source.
#[derive(Debug)]
pub struct SourceHandle {
    /// The streams that were known at the start; more come by [`SourceControl::Streams`].
    pub streams: Vec<Stream>,
    /// Messages of the source, in order. Disconnected without [`SourceMessage::End`] or [`SourceMessage::Failed`] where the
    /// source's thread panicked.
    pub messages: Receiver<SourceMessage>,
    /// The source's commits, if it makes any.
    pub commit_tracker: Option<CommitTracker>,
    /// Dropped once no more commits will be requested.
    working: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SourceHandle {
    /// Asks the source to commit `durable`, if it commits anything.
    pub fn request_commit(&self, durable: Positions) {
        if let Some(commits) = &self.commit_tracker {
            commits.request(durable);
        }
    }

    /// Has the source note `cuts` of `worker` beside what it commits, if it commits anything.
    pub fn note_cuts(&self, worker: &str, cuts: Cuts) {
        if let Some(commits) = &self.commit_tracker {
            commits.note_cuts(NotedCuts { by: worker.to_owned(), cuts });
        }
    }

    /// Has the source read no further; what it delivered is still to be had.
    pub fn stop_reading(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the source and waits until its thread has sent the last requested commit.
    pub fn close(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread may be waiting for room in the channel: drain it.
        while self.messages.recv().is_ok() {}
        self.working = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shut_down();
        }
    }
}

/// Starts `source` on a thread of its own.
///
/// # Errors
/// The operating system starts no thread.
pub fn spawn(source: Box<dyn EventSource>) -> Result<SourceHandle, SourceError> {
    let (streams, commit_tracker) = (source.streams(), source.commit_tracker());
    let (to_trainer, messages) = bounded(BLOCKS_IN_FLIGHT);
    let (working, worker_gone) = bounded::<()>(0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut runner = SourceThread { source, to_trainer: Some(to_trainer), stop: Arc::clone(&stop) };
    let thread = std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || {
            runner.run();
            // After the end the trainer writes its last checkpoint: wait for it, so that its positions are committed.
            runner.to_trainer = None;
            while worker_gone.recv_timeout(KEEP_ALIVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                runner.source.keep_alive();
            }
        })
        .map_err(|source| SourceError::Thread { name: THREAD, source })?;
    Ok(SourceHandle { streams, messages, commit_tracker, working: Some(working), stop, thread: Some(thread) })
}

/// The source's thread: polls the source and passes on what comes.
struct SourceThread {
    source: Box<dyn EventSource>,
    to_trainer: Option<Sender<SourceMessage>>,
    stop: Arc<AtomicBool>,
}

/// The channel to the trainer is closed, or nothing more is to be sent.
struct Closed;

impl SourceThread {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.turn().is_err() {
                break;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Closed> {
        let mut block = Vec::new();
        let polled = self.source.poll(&mut block);
        let is_empty = block.is_empty();
        if !is_empty {
            self.send(SourceMessage::Records(block, Instant::now()))?;
        }
        match polled {
            Ok(PollStatus::More) => Ok(()),
            Ok(PollStatus::Idle) if !is_empty => Ok(()),
            Ok(PollStatus::Idle) => self.send(SourceMessage::Idle),
            Ok(PollStatus::Control(control)) => self.send_control(control),
            Ok(PollStatus::End) => self.send(SourceMessage::End).and(Err(Closed)),
            Err(error) => self.send(SourceMessage::Failed(error)).and(Err(Closed)),
        }
    }

    /// Sends a message; keeps the source alive while there is no room for it.
    fn send(&mut self, mut message: SourceMessage) -> Result<(), Closed> {
        let Some(to_trainer) = self.to_trainer.clone() else { return Err(Closed) };
        loop {
            match to_trainer.send_timeout(message, KEEP_ALIVE_EVERY) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(unsent)) => message = unsent,
                Err(SendTimeoutError::Disconnected(_)) => return Err(Closed),
            }
            self.source.keep_alive();
        }
    }

    /// Sends a control message; for [`SourceControl::Revoking`] waits for the durable positions and releases the streams.
    fn send_control(&mut self, control: SourceControl) -> Result<(), Closed> {
        let (reply, answer) = bounded(1);
        let revoking = match &control {
            SourceControl::Revoking(streams) => Some(streams.clone()),
            SourceControl::Streams(_)
            | SourceControl::Assigned(_)
            | SourceControl::HandedOver(_)
            | SourceControl::Lost { .. } => None,
        };
        let sent = self.send(SourceMessage::Control(control, reply));
        let Some(streams) = revoking else { return sent };
        let durable = loop {
            match answer.recv_timeout(KEEP_ALIVE_EVERY) {
                Ok(durable) => break durable,
                Err(RecvTimeoutError::Timeout) => self.source.keep_alive(),
                // The worker ends: the last commit releases every stream.
                Err(RecvTimeoutError::Disconnected) => return Err(Closed),
            }
        };
        loop {
            match self.source.release(&streams, &durable) {
                Ok(Poll::Ready(())) => return sent,
                Ok(Poll::Pending) if self.stop.load(Ordering::Relaxed) => return Err(Closed),
                Ok(Poll::Pending) => {
                    self.source.keep_alive();
                    std::thread::sleep(RELEASE_EVERY);
                }
                Err(error) => return self.send(SourceMessage::Failed(error)).and(Err(Closed)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memory::MemorySource;

    fn source(records: u64) -> MemorySource {
        let mut source = MemorySource::new(["a", "b"]);
        for offset in 0..records {
            source.push_rejection(0, &format!("{offset}"));
        }
        source
    }

    #[test]
    fn handle_receives_records_then_end() {
        let handle = spawn(Box::new(source(3))).unwrap();
        let messages: Vec<SourceMessage> = handle.messages.iter().collect();
        let [SourceMessage::Records(records, _), SourceMessage::End] = &messages[..] else { panic!("{messages:?}") };
        let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
    }

    #[test]
    fn handle_receives_records_before_the_failure_behind_them() {
        let mut source = source(2);
        source.push_error(SourceError::Panicked);
        let handle = spawn(Box::new(source)).unwrap();
        let messages: Vec<SourceMessage> = handle.messages.iter().collect();
        assert!(
            matches!(&messages[..], [SourceMessage::Records(block, _), SourceMessage::Failed(_)] if block.len() == 2),
            "{messages:?}"
        );
    }

    #[test]
    fn revoking_waits_for_durable_positions_and_repeats_release_until_ready() {
        let mut source = source(1);
        source.push_revocation(vec![0], 3);
        let journal = source.journal();
        let handle = spawn(Box::new(source)).unwrap();
        let durable = Positions::from_iter([("memory/a", 1_u64)]);
        let mut handed_over = Vec::new();
        for message in &handle.messages {
            match message {
                SourceMessage::Control(SourceControl::Revoking(_), reply) => {
                    assert!(journal.releases().is_empty(), "before the answer");
                    reply.send(durable.clone()).unwrap();
                }
                SourceMessage::Control(SourceControl::HandedOver(stream), _) => handed_over.push(stream),
                SourceMessage::End => break,
                _ => {}
            }
        }
        assert_eq!(handed_over, [0]);
        assert_eq!(journal.releases(), vec![(vec![0], durable); 4], "thrice pending, then ready");
    }

    #[test]
    fn full_channel_keeps_the_source_alive() {
        let mut source = MemorySource::new(["a"]);
        for _ in 0..=BLOCKS_IN_FLIGHT {
            source.push_rejection(0, "x");
            source.end_block();
        }
        let journal = source.journal();
        let handle = spawn(Box::new(source)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while journal.keep_alives() == 0 {
            assert!(Instant::now() < deadline, "the source was not kept alive");
            std::thread::sleep(Duration::from_millis(1));
        }
        handle.close();
    }

    #[test]
    fn close_leaves_the_last_request_to_the_source() {
        let source = source(1);
        let journal = source.journal();
        let handle = spawn(Box::new(source)).unwrap();
        for message in &handle.messages {
            if matches!(message, SourceMessage::End) {
                break;
            }
        }
        let durable = Positions::from_iter([("memory/a", 1_u64)]);
        handle.request_commit(durable.clone());
        handle.close();
        assert_eq!(journal.committed(), Some(durable));
    }
}
