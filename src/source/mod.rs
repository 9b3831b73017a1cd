//! \[1\] Sources: where records come from, and the thread that reads them.
//!
//! A source owns its thread; the trainer receives blocks of records over a bounded channel, so that a slow trainer
//! slows the source down instead of filling memory. What a source promises:
//!
//! | promise | meaning |
//! | --- | --- |
//! | order | records of one stream arrive in the order of their offsets, each once |
//! | no silent jump | a position that no longer exists is an error, never a new start somewhere else |
//! | patience | what may pass by itself (a broker that is away) is waited for and logged; an error is final |
//! | nothing skipped | a record that cannot be decoded arrives too, as a rejection |

pub mod kafka;
pub mod parquet;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::event::Record;
use crate::position::{Positions, Stream};

/// How many blocks may wait for the trainer.
const BLOCKS_IN_FLIGHT: usize = 4;

/// What a call of [`EventSource::poll`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There may be more at once.
    More,
    /// Nothing at the moment; the call waited a while already.
    Idle,
    /// The declared end: nothing will come any more.
    End,
}

/// A place where records come from. Opened at given [`Positions`]; see the module for what it promises.
pub trait EventSource: Send {
    /// The streams of this source; [`Record::stream`] is an index into this list, which never changes.
    fn streams(&self) -> Vec<Stream>;

    /// Appends records to `block` (some thousands at most), waiting for them no longer than a fraction of a second.
    ///
    /// # Errors
    /// Only what waiting cannot mend. The records appended before the error are valid.
    fn poll(&mut self, block: &mut Vec<Record>) -> Result<Status, SourceError>;

    /// Tells what is durable now. Advisory, for lag monitors: recovery never reads it back.
    fn acknowledge(&mut self, _durable: &Positions) {}
}

/// What can be wrong with a source for good.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path or pattern that names no file.
    #[error("no such log: {pattern}")]
    NotFound {
        /// As the user gave it.
        pattern: String,
    },
    /// A file that cannot be opened or read, or is not Parquet.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, with the place in the file where it is known.
        cause: String,
    },
    /// A column that is missing or of the wrong type.
    #[error("{}: column '{column}' {problem}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column's name in the file.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A position that the source does not hold any more (or not yet).
    #[error("position {position} of {stream} is not there: it holds {low}..{high}; {advice}")]
    PositionLost {
        /// The stream's label.
        stream: String,
        /// The offset that was asked for.
        position: u64,
        /// The oldest offset that is there.
        low: u64,
        /// One past the newest offset.
        high: u64,
        /// What the operator can do.
        advice: String,
    },
    /// Kafka said no, and waiting will not help.
    #[error("kafka ({brokers}): {cause}")]
    Kafka {
        /// The brokers as configured.
        brokers: String,
        /// Kafka's own words, with the topic.
        cause: String,
    },
    /// Told to stop before there was anything to read.
    #[error("stopped while waiting for the brokers ({brokers})")]
    Stopped {
        /// The brokers as configured.
        brokers: String,
    },
    /// The source's thread died.
    #[error("the source's thread panicked")]
    Panicked,
}

/// What the source's thread sends to the trainer.
#[derive(Debug)]
pub enum Message {
    /// Records, in order.
    Block(Vec<Record>),
    /// Nothing to do at the moment; sent so that the trainer can look after its other duties.
    Idle,
    /// The declared end.
    End,
    /// The source failed for good.
    Failed(SourceError),
}

/// The trainer's end of a running source.
#[derive(Debug)]
pub struct Feed {
    /// The streams that records refer to.
    pub streams: Vec<Stream>,
    /// Blocks of records, in order.
    pub messages: Receiver<Message>,
    durable: Option<Sender<Positions>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Tells the source what is durable now.
    pub fn acknowledge(&self, durable: Positions) {
        if let Some(sender) = &self.durable {
            // A source that has failed has no use for it.
            let _ = sender.send(durable);
        }
    }

    /// Stops the source and waits until its thread has passed on what was acknowledged.
    pub fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread may be waiting for room in the channel: take what it still has.
        while self.messages.recv().is_ok() {}
        self.durable = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shut();
        }
    }
}

/// Starts `source` on its own thread.
pub fn spawn(mut source: Box<dyn EventSource>) -> Feed {
    let streams = source.streams();
    let (to_trainer, messages) = bounded(BLOCKS_IN_FLIGHT);
    let (durable, acknowledged) = unbounded::<Positions>();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(newest) = acknowledged.try_iter().last() {
                    source.acknowledge(&newest);
                }
                let mut block = Vec::new();
                let polled = source.poll(&mut block);
                let idle = block.is_empty();
                if !idle && to_trainer.send(Message::Block(block)).is_err() {
                    break;
                }
                let message = match polled {
                    Ok(Status::More) => continue,
                    Ok(Status::Idle) if !idle => continue,
                    Ok(Status::Idle) => Message::Idle,
                    Ok(Status::End) => Message::End,
                    Err(error) => Message::Failed(error),
                };
                let last = !matches!(message, Message::Idle);
                if to_trainer.send(message).is_err() || last {
                    break;
                }
            }
            // After the end the trainer writes its last checkpoint: wait for it, so that it is passed on.
            drop(to_trainer);
            while let Ok(newest) = acknowledged.recv() {
                source.acknowledge(&newest);
            }
        })
        .expect("the operating system starts a thread");
    Feed { streams, messages, durable: Some(durable), stop, thread: Some(thread) }
}
