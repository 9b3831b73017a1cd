//! Events from memory: a fake for tests, and the shortest example of a source of one's own.
//!
//! A [`MemorySource`] delivers what was pushed into it, in that order, and ends. Its [`Journal`] tells afterwards what the
//! worker asked of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::{CommitTracker, EventSource, PollStatus, SourceControl, SourceError};
use crate::event::{Interaction, Reason, Record, Rejection};
use crate::position::{Positions, Stream};

/// Most records of a block.
const BLOCK_RECORDS: usize = 4096;

/// A source of records that a program pushes into it before it is spawned.
#[derive(Debug)]
pub struct MemorySource {
    streams: Vec<Stream>,
    /// Next offset of each stream.
    next: Vec<u64>,
    script: VecDeque<Step>,
    commits: CommitTracker,
    journal: Journal,
}

/// One element of what a memory source delivers.
#[derive(Debug)]
enum Step {
    Record(Box<Record>),
    EndOfBlock,
    Control(SourceControl),
    /// Streams to revoke, and how often their release is pending.
    Revocation(Vec<u32>, usize),
    Error(SourceError),
}

impl MemorySource {
    /// An empty source with one stream of each label; the streams' names are `memory/LABEL`.
    pub fn new<L: Into<String>>(labels: impl IntoIterator<Item = L>) -> Self {
        let stream = |label: String| Stream { name: format!("memory/{label}"), label };
        let streams: Vec<Stream> = labels.into_iter().map(|label| stream(label.into())).collect();
        Self {
            next: vec![0; streams.len()],
            streams,
            script: VecDeque::new(),
            commits: CommitTracker::default(),
            journal: Journal::default(),
        }
    }

    /// A source with one stream that holds `events`.
    pub fn of_events(events: impl IntoIterator<Item = Interaction>) -> Self {
        let mut source = Self::new(["events"]);
        for event in events {
            source.push(0, event);
        }
        source
    }

    /// Appends an event at the next offset of a stream.
    ///
    /// # Panics
    /// Where there is no stream of that index.
    pub fn push(&mut self, stream: u32, event: Interaction) {
        self.push_outcome(stream, Ok(event));
    }

    /// Appends a record without an event, whose payload is `payload`.
    ///
    /// # Panics
    /// Where there is no stream of that index.
    pub fn push_rejection(&mut self, stream: u32, payload: &str) {
        let (detail, payload) = ("pushed as a rejection".to_owned(), payload.as_bytes().to_vec());
        self.push_outcome(stream, Err(Rejection { reason: Reason::Unparsable, detail, key: None, payload }));
    }

    fn push_outcome(&mut self, stream: u32, outcome: Result<Interaction, Rejection>) {
        let next = &mut self.next[stream as usize];
        let record = Record { stream, offset: *next, broker_timestamp: None, outcome };
        *next += 1;
        self.script.push_back(Step::Record(Box::new(record)));
    }

    /// Delivers what follows in another block than what came before.
    pub fn end_block(&mut self) {
        self.script.push_back(Step::EndOfBlock);
    }

    /// Appends a control message. Streams that it adds can be pushed to from now on.
    pub fn push_control(&mut self, control: SourceControl) {
        if let SourceControl::Streams(new) = &control {
            self.next.resize(self.next.len() + new.len(), 0);
        }
        self.script.push_back(Step::Control(control));
    }

    /// Appends the revocation of streams, whose release is pending so many times before it is ready.
    pub fn push_revocation(&mut self, streams: Vec<u32>, pending: usize) {
        self.script.push_back(Step::Revocation(streams, pending));
    }

    /// Appends a failure; nothing behind it is delivered.
    pub fn push_error(&mut self, error: SourceError) {
        self.script.push_back(Step::Error(error));
    }

    /// The journal of this source.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    fn commit(&self) {
        if let Some(durable) = self.commits.next_commit() {
            self.commits.confirm();
            self.journal.entries().committed = Some(durable);
        }
    }
}

impl EventSource for MemorySource {
    fn streams(&self) -> Vec<Stream> {
        self.streams.clone()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        self.commit();
        let first = block.len();
        while block.len() - first < BLOCK_RECORDS {
            match self.script.pop_front() {
                Some(Step::Record(record)) => block.push(*record),
                Some(Step::EndOfBlock) => break,
                Some(Step::Control(control)) => {
                    if let SourceControl::Streams(new) = &control {
                        self.streams.extend(new.iter().cloned());
                    }
                    return Ok(PollStatus::Control(control));
                }
                Some(Step::Revocation(streams, pending)) => {
                    self.script.push_front(Step::Revocation(streams.clone(), pending));
                    return Ok(PollStatus::Control(SourceControl::Revoking(streams)));
                }
                Some(Step::Error(error)) => return Err(error),
                None => return Ok(PollStatus::End),
            }
        }
        Ok(PollStatus::More)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        Some(self.commits.clone())
    }

    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError> {
        self.journal.entries().releases.push((streams.to_vec(), durable.clone()));
        match self.script.pop_front() {
            Some(Step::Revocation(revoked, pending)) if pending > 0 => {
                self.script.push_front(Step::Revocation(revoked, pending - 1));
                return Ok(Poll::Pending);
            }
            Some(Step::Revocation(..)) | None => {}
            Some(other) => self.script.push_front(other),
        }
        for stream in streams.iter().rev() {
            self.script.push_front(Step::Control(SourceControl::HandedOver(*stream)));
        }
        self.commits.confirm_external(durable);
        self.journal.entries().committed = Some(durable.clone());
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {
        self.commit();
        self.journal.entries().keep_alives += 1;
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        self.commit();
    }
}

/// What a worker asked of a [`MemorySource`]; clones share their entries, which outlive the source.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<JournalEntries>>);

#[derive(Debug, Default)]
struct JournalEntries {
    releases: Vec<(Vec<u32>, Positions)>,
    keep_alives: u64,
    committed: Option<Positions>,
}

impl Journal {
    /// The calls of [`EventSource::release`], with their arguments.
    pub fn releases(&self) -> Vec<(Vec<u32>, Positions)> {
        self.entries().releases.clone()
    }

    /// The number of calls of [`EventSource::keep_alive`].
    pub fn keep_alives(&self) -> u64 {
        self.entries().keep_alives
    }

    /// The newest committed positions.
    pub fn committed(&self) -> Option<Positions> {
        self.entries().committed.clone()
    }

    fn entries(&self) -> MutexGuard<'_, JournalEntries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
