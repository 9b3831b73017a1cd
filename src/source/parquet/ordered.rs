//! Logs as they are stored, or in the order of time, as somebody asked for.

use std::task::Poll;

use super::sorted::SortedLogs;
use super::{LogOptions, ParquetLogs};
use crate::event::Record;
use crate::position::{Positions, Stream};
use crate::source::{CommitTracker, EventSource, PollStatus, SourceError};

/// Logs from their first row on, in the order that was asked for.
#[derive(Debug)]
pub enum OrderedLogs {
    /// As they are stored.
    Stored(ParquetLogs),
    /// In the order of time.
    ByTime(Box<SortedLogs>),
}

impl OrderedLogs {
    /// Opens the logs that `patterns` name, to be read in the order of time where `by_time` says so.
    ///
    /// # Errors
    /// As [`ParquetLogs::open`].
    pub fn open(patterns: &[String], options: LogOptions, by_time: bool) -> Result<Self, SourceError> {
        let logs = ParquetLogs::open(patterns, options, &Positions::default())?;
        if !by_time {
            return Ok(Self::Stored(logs));
        }
        Ok(Self::ByTime(Box::new(SortedLogs::new(logs, &Positions::default())?)))
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Stored(logs) => logs.rows().0,
            Self::ByTime(logs) => logs.rows().0,
        }
    }

    fn source(&mut self) -> &mut dyn EventSource {
        match self {
            Self::Stored(logs) => logs,
            Self::ByTime(logs) => logs.as_mut(),
        }
    }
}

impl EventSource for OrderedLogs {
    fn streams(&self) -> Vec<Stream> {
        match self {
            Self::Stored(logs) => logs.streams(),
            Self::ByTime(logs) => logs.streams(),
        }
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        self.source().poll(block)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError> {
        self.source().release(streams, durable)
    }

    fn keep_alive(&mut self) {
        self.source().keep_alive();
    }
}
