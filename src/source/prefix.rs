//! The beginning of a source: so many records, and then its end.

use std::task::Poll;

use super::{CommitTracker, EventSource, PollStatus, Record, SourceError};
use crate::position::{Positions, Stream};

/// Another source up to a record.
#[derive(Debug)]
pub struct Prefix<S> {
    source: S,
    /// Records that are still to come.
    left: u64,
}

impl<S: EventSource> Prefix<S> {
    /// The first `records` of `source`.
    pub fn new(source: S, records: u64) -> Self {
        Self { source, left: records }
    }
}

impl<S: EventSource> EventSource for Prefix<S> {
    fn streams(&self) -> Vec<Stream> {
        self.source.streams()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        let before = block.len();
        if self.left == 0 {
            return Ok(PollStatus::End);
        }
        let status = self.source.poll(block)?;
        let come = (block.len() - before) as u64;
        if come < self.left {
            self.left -= come;
            return Ok(status);
        }
        block.truncate(before + self.left as usize);
        self.left = 0;
        Ok(PollStatus::End)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        self.source.commit_tracker()
    }

    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError> {
        self.source.release(streams, durable)
    }

    fn keep_alive(&mut self) {
        self.source.keep_alive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memory::MemorySource;
    use crate::synth::{EventGenerator, SynthConfig};

    #[test]
    fn prefix_ends_behind_its_last_record() {
        let mut generator = EventGenerator::new(SynthConfig::default());
        let events: Vec<_> = (0..5000).map(|_| generator.next_event()).collect();
        for length in [0, 1, 4999, 5000, 6000] {
            let mut prefix = Prefix::new(MemorySource::of_events(events.clone()), length);
            let mut block = Vec::new();
            while prefix.poll(&mut block).expect("memory can be read") != PollStatus::End {}
            assert_eq!(block.len() as u64, length.min(5000));
            assert_eq!(prefix.poll(&mut block).expect("it has ended"), PollStatus::End);
        }
    }
}
