//! A source of one's own: lines of text become events.
//!
//! `cargo run --release --example own_source < EVENTS`, each line `USER ITEM`; a few lines are built in.

use std::io::{BufRead, IsTerminal, Lines};
use std::task::Poll;

use negstream::event::{Interaction, Reason, Record, Rejection};
use negstream::position::{Positions, Stream};
use negstream::source::{CommitTracker, PollStatus, SourceError};
use negstream::{Config, EventSource, Pipeline, Report};

/// Lines read at a time. The pipeline's channel is bounded, so a source never runs far ahead of training.
const BLOCK_LINES: usize = 1_024;

struct LineSource<R> {
    lines: Lines<R>,
    /// Number of the next line: the offset of its record.
    next: u64,
}

impl<R: BufRead> LineSource<R> {
    /// Goes on behind the lines that `positions` says are part of the model already.
    fn new(reader: R, positions: &Positions) -> Self {
        let next = positions.next("lines").unwrap_or(0);
        let mut lines = reader.lines();
        lines.by_ref().take(next as usize).for_each(drop);
        Self { lines, next }
    }

    fn record(&mut self, line: &str) -> Record {
        let outcome = match line.split_once(' ') {
            Some((user, item)) => Ok(Interaction {
                user: user.into(),
                item: item.into(),
                kind: "click".into(),
                timestamp: 1_767_225_600_000 + self.next as i64,
                session: None,
                value: None,
                features: Vec::new(),
            }),
            // Nothing is skipped: what cannot be decoded is delivered as a rejection, and counted.
            None => Err(Rejection {
                reason: Reason::Unparsable,
                detail: "not USER ITEM".to_owned(),
                key: None,
                payload: line.as_bytes().to_vec(),
            }),
        };
        let record = Record { stream: 0, offset: self.next, outcome, broker_timestamp: None };
        self.next += 1;
        record
    }
}

impl<R: BufRead + Send> EventSource for LineSource<R> {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "lines".to_owned(), label: "standard input".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        for _ in 0..BLOCK_LINES {
            match self.lines.next() {
                Some(Ok(line)) => {
                    let record = self.record(&line);
                    block.push(record);
                }
                Some(Err(error)) => {
                    return Err(SourceError::Other(error.into()));
                }
                None => return Ok(PollStatus::End),
            }
        }
        Ok(PollStatus::More)
    }

    // Lines are shared with no other worker: nobody has to hear what is durable, and nothing is ever handed over.

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = Config::with_settings(&["train.batch=8", &format!("checkpoint.dir={}", folder.path().display())])?;
    let mut pipeline = Pipeline::new(&config)?;
    if std::io::stdin().is_terminal() {
        let lines = "ann tea\nbob coffee\nann milk\nbob sugar\nnonsense\nann tea\n";
        pipeline.run(LineSource::new(lines.as_bytes(), pipeline.positions()))?;
    } else {
        let lines = std::io::BufReader::new(std::io::stdin());
        pipeline.run(LineSource::new(lines, pipeline.positions()))?;
    }
    let report = Report::of(&pipeline);
    println!("{} lines read, {} rejected, {} items known", report.events.read, report.events.rejected, report.items);
    Ok(())
}
