//! Before the first record: find the partitions, their oldest and newest offsets, and decide where each begins.
//!
//! Brokers that are away are waited for; the decision itself ([`starts`]) is pure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Client;
use crate::config::Start;
use crate::kafka::admin::partitions_of;
use crate::kafka::{Reminder, is_refusal, words};
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
    pub(super) fn hold(self, position: u64) -> bool {
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

/// Where each partition of `marks` begins.
pub(super) fn starts(
    topic: &str,
    start: Start,
    positions: &Positions,
    marks: &[Marks],
) -> Result<Vec<u64>, SourceError> {
    let prefix = prefix(topic);
    let mut known = false;
    for (name, position) in positions.iter() {
        let Some(partition) = name.strip_prefix(&prefix) else { continue };
        known = true;
        if !marks.iter().any(|marks| marks.id.to_string() == partition) {
            // The topic was created anew, with fewer partitions.
            return Err(lost(&format!("{topic}/{partition}"), position, Marks { id: 0, low: 0, high: 0 }));
        }
    }
    let begin = |marks: &Marks| match positions.next(&stream_name(topic, marks.id)) {
        Some(position) if marks.hold(position) => Ok(position),
        Some(position) => Err(lost(&format!("{topic}/{}", marks.id), position, *marks)),
        None if known => Ok(marks.low),
        None => Ok(match start {
            Start::Earliest => marks.low,
            Start::Latest => marks.high,
        }),
    };
    marks.iter().map(begin).collect()
}

/// The error for a position that is not there.
pub(super) fn lost(stream: &str, position: u64, marks: Marks) -> SourceError {
    let advice = if position < marks.low {
        "records were deleted before they were read (retention): bring them back, or begin anew with an empty \
         checkpoint.dir; a longer retention.ms keeps it from happening again"
    } else {
        "the topic was created anew or lost its newest records: bring them back, or begin anew with an empty \
         checkpoint.dir"
    };
    let Marks { low, high, .. } = marks;
    SourceError::PositionLost { stream: stream.to_owned(), position, low, high, advice: advice.to_owned() }
}

/// Asks the brokers, patiently.
pub(super) struct Opening<'a> {
    consumer: &'a Client,
    brokers: &'a str,
    topic: &'a str,
    stop: &'a AtomicBool,
    reminder: Reminder,
}

impl<'a> Opening<'a> {
    pub(super) fn new(consumer: &'a Client, brokers: &'a str, topic: &'a str, stop: &'a AtomicBool) -> Self {
        Self { consumer, brokers, topic, stop, reminder: Reminder::default() }
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

    fn ask<T>(&mut self, question: impl Fn() -> Result<T, KafkaError>) -> Result<T, SourceError> {
        loop {
            let error = match question() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Serves the errors and log lines that came meanwhile; nothing is assigned, so no record can come.
            let pause = self.consumer.poll(Duration::from_millis(200));
            debug_assert!(!matches!(pause, Some(Ok(_))), "records before an assignment");
            if let Some(refusal) = self.consumer.context().refusal() {
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
