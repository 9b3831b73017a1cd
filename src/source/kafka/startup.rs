//! Before the first record: find the partitions, their oldest and newest offsets, and decide where each begins.
//!
//! Brokers that are away are waited for; the decision itself ([`starts`]) is pure.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Client;
use crate::kafka::admin::partitions_of;
use crate::kafka::{KafkaConfig, OnDataLoss, StartingOffsets};
use crate::kafka::{LogThrottle, is_refusal, words};
use crate::position::Positions;
use crate::source::SourceError;

/// Longest wait for one answer; how soon a request to stop is noticed while brokers are away.
const ASKING: Duration = Duration::from_secs(1);

/// What a partition holds: `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) id: i32,
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Marks {
    pub(super) fn new(id: i32, low: i64, high: i64) -> Self {
        Self { id, low: u64::try_from(low).unwrap_or_default(), high: u64::try_from(high).unwrap_or_default() }
    }

    /// True where reading can go on at `position`.
    pub(super) fn contains(self, position: u64) -> bool {
        (self.low..=self.high).contains(&position)
    }
}

/// The lasting name of a partition.
pub(super) fn stream_name(topic: &str, partition: i32) -> String {
    format!("{}{partition}", prefix(topic))
}

/// No topic's name holds a slash.
fn prefix(topic: &str) -> String {
    format!("kafka/{topic}/")
}

/// Where a partition begins, and the records before it that were lost on the way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) lost: Option<Range<u64>>,
}

/// Where each partition of `marks` begins, all of which one worker reads.
pub(super) fn starts(config: &KafkaConfig, positions: &Positions, marks: &[Marks]) -> Result<Vec<Entry>, SourceError> {
    let topic = &config.topic;
    let known = all_there(topic, positions, marks)?;
    let begin = |marks: &Marks| match positions.next(&stream_name(topic, marks.id)) {
        Some(position) => entry(&format!("{topic}/{}", marks.id), position, *marks, config.on_data_loss),
        None => Ok(Entry { offset: first(config.starting_offsets, known, *marks), lost: None }),
    };
    marks.iter().map(begin).collect()
}

/// Whether anything of the topic was ever read.
///
/// # Errors
/// Where a partition is known that is not there: the topic was created anew, with fewer of them.
pub(super) fn all_there(topic: &str, positions: &Positions, marks: &[Marks]) -> Result<bool, SourceError> {
    let prefix = prefix(topic);
    let mut known = false;
    for (name, position) in positions.iter() {
        let Some(partition) = name.strip_prefix(&prefix) else { continue };
        known = true;
        if !marks.iter().any(|marks| marks.id.to_string() == partition) {
            return Err(lost(&format!("{topic}/{partition}"), position, Marks { id: 0, low: 0, high: 0 }));
        }
    }
    Ok(known)
}

/// Where a partition begins of which nothing was ever read; `known`: but something of others of its topic.
pub(super) fn first(start: StartingOffsets, known: bool, marks: Marks) -> u64 {
    match start {
        StartingOffsets::Latest if !known => marks.high,
        StartingOffsets::Earliest | StartingOffsets::Latest => marks.low,
    }
}

/// Where to go on in a partition that was read up to `position`.
pub(super) fn entry(label: &str, position: u64, marks: Marks, on_data_loss: OnDataLoss) -> Result<Entry, SourceError> {
    match on_data_loss {
        _ if marks.contains(position) => Ok(Entry { offset: position, lost: None }),
        OnDataLoss::Skip if position < marks.low => Ok(Entry { offset: marks.low, lost: Some(position..marks.low) }),
        OnDataLoss::Skip | OnDataLoss::Fail => Err(lost(label, position, marks)),
    }
}

/// The error for a position that is not there.
pub(super) fn lost(stream: &str, position: u64, marks: Marks) -> SourceError {
    let advice = if position < marks.low {
        "records were deleted before they were read (retention): bring them back, pass over them with \
         kafka.on_data_loss = \"skip\" (they are then counted as lost), or begin anew with an empty checkpoint.dir; a longer \
         retention.ms keeps it from happening again"
    } else {
        "the topic was created anew or lost its newest records: bring them back, or begin anew with an empty \
         checkpoint.dir"
    };
    let Marks { low, high, .. } = marks;
    SourceError::PositionLost { stream: stream.to_owned(), position, low, high, advice: advice.to_owned() }
}

/// The error for a topic whose record at `offset` is not the one that was read there.
pub(super) fn recreated(stream: &str, offset: u64) -> SourceError {
    SourceError::Recreated { stream: stream.to_owned(), offset }
}

/// Asks the brokers, patiently.
pub(super) struct Opening<'a> {
    consumer: &'a Client,
    brokers: &'a str,
    topic: &'a str,
    stop: &'a AtomicBool,
    reminder: LogThrottle,
}

impl<'a> Opening<'a> {
    pub(super) fn new(consumer: &'a Client, brokers: &'a str, topic: &'a str, stop: &'a AtomicBool) -> Self {
        Self { consumer, brokers, topic, stop, reminder: LogThrottle::default() }
    }

    /// The partitions by number, with what they hold.
    pub(super) fn watermarks(&mut self) -> Result<Vec<Marks>, SourceError> {
        let (consumer, topic) = (self.consumer, self.topic);
        let found = self.ask(|| {
            let metadata = consumer.fetch_metadata(Some(topic), ASKING)?;
            partitions_of(&metadata, topic).map_err(KafkaError::MetadataFetch)
        })?;
        let Some(ids) = found else {
            return Err(self.error(format!("no topic '{topic}'; create it, or let `negstream produce` do so")));
        };
        let mut marks = Vec::with_capacity(ids.len());
        for id in ids {
            let (low, high) = self.ask(|| consumer.fetch_watermarks(topic, id, ASKING))?;
            marks.push(Marks::new(id, low, high));
        }
        Ok(marks)
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// What waiting cannot mend, or a request to stop.
    pub(super) fn ask<T>(&mut self, question: impl Fn() -> Result<T, KafkaError>) -> Result<T, SourceError> {
        loop {
            let error = match question() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Serves the errors and log lines that came meanwhile; nothing is assigned, so no record can come.
            let pause = self.consumer.poll(Duration::from_millis(200));
            debug_assert!(!matches!(pause, Some(Ok(_))), "records before an assignment");
            if let Some(refusal) = self.consumer.context().reports.refusal() {
                return Err(self.error(refusal));
            }
            if error.rdkafka_error_code().is_some_and(is_refusal) {
                return Err(self.error(format!("topic '{}': {}", self.topic, words(&error))));
            }
            if error.rdkafka_error_code().is_some_and(is_hopeless) {
                return Err(self.error(format!("topic '{}': {}", self.topic, words(&error))));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(SourceError::Stopped { brokers: self.brokers.to_owned() });
            }
            if self.reminder.due() {
                tracing::warn!(brokers = self.brokers, cause = words(&error), "kafka does not answer; waiting");
            }
        }
    }

    fn error(&self, cause: String) -> SourceError {
        SourceError::Kafka { brokers: self.brokers.to_owned(), cause }
    }
}

/// True for questions that no broker will ever answer otherwise.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::InvalidTopic | Code::InvalidArgument | Code::UnknownGroup | Code::Fatal)
}
