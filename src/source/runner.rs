//! The thread that a source runs on, and the bounded channel to the trainer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::{CommitTracker, EventSource, SourceControl, SourceError, Status};
use crate::event::Record;
use crate::position::{Positions, Stream};

/// How many blocks may wait for the trainer.
const BLOCKS_IN_FLIGHT: usize = 4;
/// How long the thread waits for the trainer until it looks after its source again: what is durable is passed on soon,
/// however long the trainer's queue.
const IN_TOUCH: Duration = Duration::from_millis(20);

/// How long it waits until it looks again whether streams are let go of.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What the source's thread sends to the trainer.
#[derive(Debug)]
pub enum Message {
    /// Records, in order.
    Block(Vec<Record>),
    /// Something else; [`SourceControl::Revoking`] waits for an answer: what is durable.
    SourceControl(SourceControl, Sender<Positions>),
    /// Nothing to do at the moment; sent so that the trainer can look after its other duties.
    Idle,
    /// The declared end.
    End,
    /// The source failed for good.
    Failed(SourceError),
}

/// The trainer's end of a running source.
#[derive(Debug)]
pub struct SourceHandle {
    /// The streams that were known at the start; more come by [`SourceControl::Streams`].
    pub streams: Vec<Stream>,
    /// Blocks of records, in order.
    pub messages: Receiver<Message>,
    /// Where the source is told what is durable, if it wants to know.
    pub commits: Option<CommitTracker>,
    /// Dropped once nothing more will be durable.
    working: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SourceHandle {
    /// Tells the source what is durable now.
    pub fn tell(&self, durable: Positions) {
        if let Some(commits) = &self.commits {
            commits.want(durable);
        }
    }

    /// Stops the source and waits until its thread has passed on what is durable.
    pub fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread may be waiting for room in the channel: take what it still has.
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
            self.shut();
        }
    }
}

/// Starts `source` on its own thread.
pub fn spawn(source: Box<dyn EventSource>) -> SourceHandle {
    let (streams, commits) = (source.streams(), source.commits());
    let (to_trainer, messages) = bounded(BLOCKS_IN_FLIGHT);
    let (working, over) = bounded::<()>(0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut pump = SourceThread { source, to_trainer: Some(to_trainer), stop: Arc::clone(&stop) };
    let thread = std::thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            pump.run();
            // After the end the trainer writes its last checkpoint: wait for it, so that it is passed on.
            pump.to_trainer = None;
            while over.recv_timeout(IN_TOUCH) == Err(RecvTimeoutError::Timeout) {
                pump.source.wait();
            }
        })
        .expect("the operating system starts a thread");
    SourceHandle { streams, messages, commits, working: Some(working), stop, thread: Some(thread) }
}

struct SourceThread {
    source: Box<dyn EventSource>,
    to_trainer: Option<Sender<Message>>,
    stop: Arc<AtomicBool>,
}

/// The trainer takes no more.
struct Over;

impl SourceThread {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.turn().is_err() {
                break;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Over> {
        let mut block = Vec::new();
        let polled = self.source.poll(&mut block);
        let idle = block.is_empty();
        if !idle {
            self.send(Message::Block(block))?;
        }
        match polled {
            Ok(Status::More) => Ok(()),
            Ok(Status::Idle) if !idle => Ok(()),
            Ok(Status::Idle) => self.send(Message::Idle),
            Ok(Status::SourceControl(notice)) => self.notify(notice),
            Ok(Status::End) => self.send(Message::End).and(Err(Over)),
            Err(error) => self.send(Message::Failed(error)).and(Err(Over)),
        }
    }

    /// Hands a message over; looks after the source while there is no room for it.
    fn send(&mut self, mut message: Message) -> Result<(), Over> {
        let Some(to_trainer) = self.to_trainer.clone() else { return Err(Over) };
        loop {
            match to_trainer.send_timeout(message, IN_TOUCH) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(again)) => message = again,
                Err(SendTimeoutError::Disconnected(_)) => return Err(Over),
            }
            self.source.wait();
        }
    }

    fn notify(&mut self, notice: SourceControl) -> Result<(), Over> {
        let (reply, answer) = bounded(1);
        let losing = match &notice {
            SourceControl::Revoking(streams) => Some(streams.clone()),
            SourceControl::Streams(_)
            | SourceControl::Assigned(_)
            | SourceControl::HandedOver(_)
            | SourceControl::Lost { .. } => None,
        };
        let sent = self.send(Message::SourceControl(notice, reply));
        let Some(streams) = losing else { return sent };
        let durable = loop {
            match answer.recv_timeout(IN_TOUCH) {
                Ok(durable) => break durable,
                Err(RecvTimeoutError::Timeout) => self.source.wait(),
                // The worker ends. The last commit lets go of everything.
                Err(RecvTimeoutError::Disconnected) => return Err(Over),
            }
        };
        loop {
            match self.source.release(&streams, &durable) {
                Ok(true) => return sent,
                Ok(false) if self.stop.load(Ordering::Relaxed) => return Err(Over),
                Ok(false) => {
                    self.source.wait();
                    std::thread::sleep(BETWEEN_LOOKS);
                }
                Err(error) => return self.send(Message::Failed(error)).and(Err(Over)),
            }
        }
    }
}
