//! \[1\] Sources: where records come from, and the thread that reads them.
//!
//! A source runs on a thread of its own; the trainer receives blocks of records over a bounded channel, so that a slow
//! trainer slows the source down instead of filling memory. Every source promises:
//!
//! | promise | meaning |
//! | --- | --- |
//! | order | records of one stream arrive in the order of their offsets, each once |
//! | no silent jump | a position that no longer exists is an error, never a new start somewhere else |
//! | patience | what may pass by itself (a broker that is away) is waited for and logged; an error is final |
//! | nothing skipped | a record that cannot be decoded arrives too, as a rejection |
//!
//! | module | holds |
//! | --- | --- |
//! | [`kafka`] | the partitions of a topic, all of them or a group's share |
//! | [`parquet`] | historical logs in files |
//! | [`memory`] | records and events from a program; the shortest example of a source |
//! | `prefix` | the first so many records of another source |
//! | `runner` | the thread and its channel: [`spawn`], [`SourceHandle`] |
//! | `commit_tracker` | which positions are durable, and which of them the group has confirmed |

mod commit_tracker;
pub mod kafka;
pub mod memory;
pub mod parquet;
pub mod prefix;
mod runner;
pub mod transient_errors;

use std::ops::Range;
use std::task::Poll;

use crate::event::Record;
use crate::position::{OwnershipRecord, Positions, Stream};
use crate::share::ShareError;
pub use commit_tracker::{CommitTracker, NotedCuts, RestorePoints};
pub use kafka::KafkaSourceError;
pub use parquet::ParquetLogError;
pub use runner::{SourceHandle, SourceMessage, spawn};

/// The outcome of a call of [`EventSource::poll`], besides the records that it appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollStatus {
    /// More may come at once.
    More,
    /// Nothing more at the moment; where no record was appended, the call has waited a while already.
    Idle,
    /// A message that comes after all records that were delivered before it. Sent with no records in the same block, or
    /// behind them.
    Control(SourceControl),
    /// The declared end: no record will come any more.
    End,
}

/// A message of a source besides records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceControl {
    /// New streams; their indices follow that of the last known one.
    Streams(Vec<Stream>),
    /// Streams that this worker reads from now on. None where there is nothing for it to read as yet.
    Assigned(Vec<Assigned>),
    /// Streams (by index) that another worker will read. What was delivered of them has to become durable, and
    /// [`EventSource::release`] be called with those positions, before the source hands them over.
    Revoking(Vec<u32>),
    /// A stream (by index) that another worker reads from the position on at which this worker's state stands.
    HandedOver(u32),
    /// Records that are gone, and that the configuration allows to be skipped.
    Lost {
        /// Index of the stream.
        stream: u32,
        /// The offsets of the lost records.
        offsets: Range<u64>,
    },
}

/// A stream that this worker reads from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The stream.
    pub stream: Stream,
    /// The first offset that will be delivered.
    pub next: u64,
    /// How the worker came to own the stream.
    pub record: OwnershipRecord,
}

/// A place where records come from, opened at given [`Positions`].
///
/// [`spawn`] moves a source to a thread of its own, and is the only caller of these methods: they are never called at the
/// same time. No method has a default, so that a source which wraps another one cannot forget to forward one.
/// [`memory::MemorySource`] is the shortest implementation.
///
/// | a call of | may be followed by |
/// | --- | --- |
/// | `poll`, giving [`PollStatus::More`] or [`PollStatus::Idle`] | any method |
/// | `poll`, giving [`SourceControl::Revoking`] | `keep_alive` until the worker's state is durable, then `release` until it is ready; no `poll` in between |
/// | `poll`, giving [`PollStatus::End`] or an error | `keep_alive`, until the source is dropped |
/// | `release`, giving [`Poll::Pending`] | `keep_alive`, `release` with the same arguments |
/// | `release`, giving an error | `keep_alive`, until the source is dropped |
///
/// Dropping a source ends its reading for good: the last request of its [`CommitTracker`] is sent, within a few seconds.
pub trait EventSource: Send {
    /// The known streams. [`Record::stream`] is an index into this list, which only grows: streams that are found later are
    /// told by [`SourceControl::Streams`].
    fn streams(&self) -> Vec<Stream>;

    /// Appends records to `block` (some thousands at most), waiting for them no longer than a fraction of a second.
    ///
    /// Records of one stream come in the order of their offsets, over all calls, each once. Of several streams the order is
    /// the source's. Every record belongs to a known stream that is this worker's to read.
    ///
    /// # Errors
    /// What waiting cannot mend; whatever may pass by itself is [`PollStatus::Idle`]. The records appended before the
    /// error are valid, the source is not polled again, and what was delivered may still be saved unless the error
    /// [is fencing](SourceError::is_fenced).
    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError>;

    /// Where durable positions are requested to be committed, for lag monitors and for other workers of the same group;
    /// `None` for a source that commits nothing. The source sends requests whenever one of its methods is called, and a last
    /// time when it is dropped.
    fn commit_tracker(&self) -> Option<CommitTracker>;

    /// Hands over the streams (by index) of a [`SourceControl::Revoking`], of which all records before `durable` are
    /// durable. [`Poll::Ready`]: the handover is known to the group, [`SourceControl::HandedOver`] follows for each stream,
    /// and no more records of theirs. [`Poll::Pending`]: not yet, to be called again with the same arguments.
    ///
    /// # Errors
    /// The streams were another worker's already, or may have been.
    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError>;

    /// Keeps the source's connections alive; called every few milliseconds while the trainer has no room for more records,
    /// or has not answered yet. Must return at once. Trouble is told by the next [`EventSource::poll`].
    fn keep_alive(&mut self);
}

/// The high watermarks of a source, from which lag is computed; readable from any thread while the source runs.
pub trait LagProbe: std::fmt::Debug + Send + Sync {
    /// Every stream that is this worker's to read, with one past the offset of its newest record, a few seconds old at most.
    /// What another worker reads is not in it: a lag that nobody knows would spoil every sum of lags.
    fn high_watermarks(&self) -> Vec<(Stream, u64)>;
}

/// A fault of a source that waiting cannot mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A log that cannot be read.
    #[error(transparent)]
    Parquet(#[from] ParquetLogError),
    /// A fault of the Kafka source.
    #[error(transparent)]
    Kafka(#[from] KafkaSourceError),
    /// A fault of a worker that shares its model.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A thread that the operating system did not start.
    #[error("cannot start the thread '{name}': {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The source's thread died.
    #[error("the source's thread panicked")]
    Panicked,
    /// The error of a source that is not part of this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// Whether another worker owns what this one has read, or may own it: then the state must not be saved.
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Kafka(error) => error.is_fenced(),
            Self::Share(error) => error.is_fenced(),
            Self::Parquet(_) | Self::Thread { .. } | Self::Panicked | Self::Other(_) => false,
        }
    }
}
