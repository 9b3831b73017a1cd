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

mod commit_tracker;
pub mod kafka;
pub mod parquet;
mod runner;

use std::ops::Range;
use std::path::PathBuf;

use crate::event::Record;
use crate::position::{Hold, Positions, Stream};
pub use commit_tracker::{Back, CommitTracker};
pub use runner::{Message, SourceHandle, spawn};

/// What a call of [`EventSource::poll`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There may be more at once.
    More,
    /// Nothing at the moment; the call waited a while already.
    Idle,
    /// Something that is no record, and comes behind all that was delivered before it.
    SourceControl(SourceControl),
    /// The declared end: nothing will come any more.
    End,
}

/// What a source has to say besides records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceControl {
    /// Streams that were not known before; their indices follow those of the last one that was.
    Streams(Vec<Stream>),
    /// Streams that are this worker's to read from now on.
    Assigned(Vec<Assigned>),
    /// Streams that another worker will read: what was delivered of them has to become durable, and the source to be
    /// told so by [`EventSource::release`], before it lets go of them.
    Revoking(Vec<u32>),
    /// A stream of which the state holds all up to where another worker goes on.
    HandedOver(u32),
    /// Records that are gone, and that the configuration allows to be passed over.
    Lost {
        /// Index of the stream.
        stream: u32,
        /// Their offsets.
        offsets: Range<u64>,
    },
}

/// A stream that is this worker's to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// What it is.
    pub stream: Stream,
    /// The first offset that will be delivered.
    pub next: u64,
    /// How it is held.
    pub hold: Hold,
}

/// A place where records come from. Opened at given [`Positions`]; see the module for what it promises.
pub trait EventSource: Send {
    /// The streams that are known; [`Record::stream`] is an index into this list, which only grows, by
    /// [`SourceControl::Streams`].
    fn streams(&self) -> Vec<Stream>;

    /// Appends records to `block` (some thousands at most), waiting for them no longer than a fraction of a second.
    ///
    /// # Errors
    /// Only what waiting cannot mend. The records appended before the error are valid.
    fn poll(&mut self, block: &mut Vec<Record>) -> Result<Status, SourceError>;

    /// Where to tell what is durable: for lag monitors, and for whoever else reads in the same group. The source looks there
    /// whenever it is called, and for the last time when it is dropped.
    fn commits(&self) -> Option<CommitTracker> {
        None
    }

    /// Answers [`SourceControl::Revoking`]: what is durable. `false`: it is to be called again, since that is not told to whoever
    /// gets the streams yet. Once it is, [`SourceControl::HandedOver`] follows for each.
    ///
    /// # Errors
    /// Where the streams were another's already.
    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<bool, SourceError> {
        Ok(true)
    }

    /// Called now and then while the trainer has no room for more: stays in touch with whoever expects it.
    fn wait(&mut self) {}
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
    /// Another record stands where one was read before.
    #[error(
        "the record at offset {offset} of {stream} is not the one that was read there: the topic was created anew; begin anew \
         too, with an empty checkpoint.dir"
    )]
    Recreated {
        /// The stream's label.
        stream: String,
        /// The offset.
        offset: u64,
    },
    /// Kafka said no, and waiting will not help.
    #[error("kafka ({brokers}): {cause}")]
    Kafka {
        /// The brokers as configured.
        brokers: String,
        /// Kafka's own words, with the topic.
        cause: String,
    },
    /// Another worker of the group reads what was this one's.
    #[error(
        "fenced: {stream} is read by another worker of the group from offset {from} on, and this one had read up to {position} \
         without telling the group; started again, it goes on from the newest checkpoint that fits"
    )]
    Fenced {
        /// The stream's label.
        stream: String,
        /// Where the other began.
        from: u64,
        /// Where this one stands.
        position: u64,
    },
    /// Whether the state is still this worker's is not known, and cannot become known any more.
    #[error(
        "fenced: whether {stream} is still this worker's is not known: {why}; start it again: it goes on from a checkpoint that \
         is its own"
    )]
    Unsure {
        /// The stream's label.
        stream: String,
        /// Why it cannot become known.
        why: &'static str,
    },
    /// The state does not fit what the group knows of a stream.
    #[error("the state holds {stream} up to {position}, which does not fit the group's history: {why}")]
    Estranged {
        /// The stream's label.
        stream: String,
        /// Where the state stands.
        position: u64,
        /// What does not fit, and what the operator can do.
        why: String,
    },
    /// The group has another worker of the same name.
    #[error("fenced: another worker of the group calls itself '{member}' (kafka.member); each needs a name of its own")]
    SameName {
        /// The name.
        member: String,
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
