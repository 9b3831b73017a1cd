//! Disorder: events that come long after later ones.
//!
//! A model learns from events in the order in which they come. Of a log that is sorted by user, shuffled, or read in
//! the wrong order, and of a topic into which somebody writes the past once more, it learns as one who has seen the
//! future of each user and the past of the items. Nothing is put in order here: disorder is noticed, counted and
//! described, without any influence on the model, and is no part of a checkpoint.
//!
//! | streams | compared with |
//! | --- | --- |
//! | partitions | the newest event of the same partition, since they are read side by side |
//! | files | the newest event of all files, since they are read one after the other |
//!
//! A clock that is ahead would make everything behind its event late. So where brokers say when they were given a
//! record, its event counts as no newer than that.

use serde::Serialize;

use crate::event::Record;
use crate::metric::{Instrumented, Metric};
use crate::position::Stream;

/// How much earlier than the newest event before it an event may be without being late, in milliseconds: what buffers
/// and clocks bring about.
const TOLERANCE_MS: i64 = 3_600_000;

/// How far out of order the events were that this process read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DisorderFigures {
    /// Events whose times were looked at.
    pub events: u64,
    /// Events that came after an event of more than an hour later.
    pub late: u64,
    /// The most that an event was late by, in milliseconds.
    pub most_ms: i64,
    /// The first event that was late.
    pub first: Option<LateEvent>,
}

/// An event that came too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LateEvent {
    /// The label of its stream. It comes from outside: whoever shows it has to escape it.
    pub stream: String,
    /// The place of its record in that stream.
    pub offset: u64,
    /// How much earlier it is than the newest event before it, in milliseconds.
    pub behind_ms: i64,
    /// Whether the stream is a file, which can be sorted.
    pub is_in_file: bool,
}

impl LateEvent {
    /// How much earlier it is than the newest event before it, in words.
    pub fn behind(&self) -> String {
        time_span(self.behind_ms)
    }

    /// What can be done about such events.
    pub fn remedy(&self) -> &'static str {
        match self.is_in_file {
            true => "replay --sort reads logs in the order of time",
            false => "a model learns in the order of the partition; see \"Late events\" in docs/kafka.md",
        }
    }
}

impl DisorderFigures {
    /// The sentence, without its end, for how far out of order the events were; `None` where they were in order.
    pub fn warning(&self) -> Option<String> {
        let Self { events, late, most_ms, first } = self;
        let first = first.as_ref()?;
        let (share, most) = (100.0 * *late as f64 / *events as f64, time_span(*most_ms));
        Some(format!(
            "out of order: {late} of {events} events ({share:.1} %) came after events of more than an hour later, by \
             {most} at most, the first of them in {} at {} ({})",
            first.stream,
            first.offset,
            first.remedy()
        ))
    }
}

impl Instrumented for DisorderFigures {
    const METRICS: &'static [Metric<Self>] = &[Metric::counter(
        "negstream_events_late_total",
        "Events that came after an event of more than an hour later: of the same partition, or of the same logs.",
        |figures, samples| samples.put(figures.late),
    )];
}

/// Looks at the times of events in the order in which they come.
#[derive(Debug)]
pub(super) struct OrderWatch {
    /// The time of the newest event in each stream that is no file.
    newest: Vec<i64>,
    /// The time of the newest event in all files.
    newest_in_files: i64,
    figures: DisorderFigures,
}

impl Default for OrderWatch {
    fn default() -> Self {
        Self { newest: Vec::new(), newest_in_files: i64::MIN, figures: DisorderFigures::default() }
    }
}

impl OrderWatch {
    /// Looks at the next record, whose stream is in `streams`; gives the event where it is late.
    pub(super) fn observe(&mut self, record: &Record, streams: &[Stream]) -> Option<LateEvent> {
        let event = record.outcome.as_ref().ok()?;
        let stream = &streams[record.stream as usize];
        let newest = match stream.is_file() {
            true => &mut self.newest_in_files,
            false => {
                self.newest.resize(streams.len(), i64::MIN);
                &mut self.newest[record.stream as usize]
            }
        };
        self.figures.events += 1;
        let behind_ms = newest.saturating_sub(event.timestamp);
        let is_late = *newest != i64::MIN && behind_ms > TOLERANCE_MS;
        *newest = event.timestamp.min(record.broker_timestamp.unwrap_or(i64::MAX)).max(*newest);
        if !is_late {
            return None;
        }
        let late =
            LateEvent { stream: stream.label.clone(), offset: record.offset, behind_ms, is_in_file: stream.is_file() };
        self.figures.late += 1;
        self.figures.most_ms = self.figures.most_ms.max(behind_ms);
        self.figures.first.get_or_insert_with(|| late.clone());
        Some(late)
    }

    pub(super) fn figures(&self) -> &DisorderFigures {
        &self.figures
    }
}

/// A time span in words.
fn time_span(milliseconds: i64) -> String {
    let minutes = milliseconds / 60_000;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Interaction, Reason, Rejection};

    const HOUR: i64 = TOLERANCE_MS;

    fn streams(names: &[&str]) -> Vec<Stream> {
        names.iter().map(|name| Stream { name: (*name).to_owned(), label: (*name).to_owned() }).collect()
    }

    fn record(stream: u32, offset: u64, timestamp: i64) -> Record {
        let event = Interaction {
            user: "u".into(),
            item: "i".into(),
            kind: "".into(),
            timestamp,
            session: None,
            value: None,
            features: Vec::new(),
        };
        Record { stream, offset, broker_timestamp: None, outcome: Ok(event) }
    }

    /// How late each event is, of events in the streams `names` that are each given by stream and hour.
    fn late_by(names: &[&str], events: &[(u32, i64)]) -> (Vec<Option<i64>>, DisorderFigures) {
        let (streams, mut watch) = (streams(names), OrderWatch::default());
        let mut observe = |(offset, (stream, hour)): (usize, &(u32, i64))| {
            Some(watch.observe(&record(*stream, offset as u64, hour * HOUR), &streams)?.behind_ms / HOUR)
        };
        let late = events.iter().enumerate().map(&mut observe).collect();
        (late, watch.figures().clone())
    }

    #[test]
    fn late_events_are_counted_and_described() {
        let hours = [1, 3, 2, 4, 1, 2, 4, 0];
        let (late, figures) = late_by(&["kafka/t/0"], &hours.map(|hour| (0, hour)));
        assert_eq!(late, [None, None, None, None, Some(3), Some(2), None, Some(4)], "an hour is tolerated");
        assert_eq!((figures.events, figures.late, figures.most_ms), (8, 3, 4 * HOUR));
        let first = figures.first.as_ref().unwrap();
        assert_eq!((first.offset, first.behind().as_str()), (4, "3 hours"));
        let warning = figures.warning().unwrap();
        assert!(
            warning.contains("3 of 8 events (37.5 %)")
                && warning.contains("by 4 hours at most")
                && warning.contains("kafka.md"),
            "{warning}"
        );
        assert_eq!(DisorderFigures::default().warning(), None);
    }

    #[test]
    fn partitions_have_each_an_order_of_their_own_and_files_one_together() {
        let events = [(0, 9), (1, 1), (0, 10), (1, 2)];
        assert_eq!(late_by(&["kafka/t/0", "kafka/t/1"], &events).1.late, 0);
        let (late, figures) = late_by(&["parquet/a", "parquet/b"], &events);
        assert_eq!(late, [None, Some(8), None, Some(8)]);
        assert!(
            figures.warning().is_some_and(|warning| warning.contains("parquet/b at 1 (replay --sort")),
            "{figures:?}"
        );
    }

    #[test]
    fn streams_that_are_added_are_watched_too() {
        let mut watch = OrderWatch::default();
        assert_eq!(watch.observe(&record(0, 0, 9 * HOUR), &streams(&["a"])), None);
        let grown = streams(&["a", "b"]);
        assert_eq!(watch.observe(&record(1, 0, HOUR), &grown), None);
        assert!(watch.observe(&record(0, 1, HOUR), &grown).is_some() && watch.figures().late == 1);
    }

    #[test]
    fn clock_that_is_ahead_makes_no_other_event_late() {
        let (streams, mut watch) = (streams(&["kafka/t/0"]), OrderWatch::default());
        let mut is_late = |hour: i64, broker_hour: i64| {
            let record = Record { broker_timestamp: Some(broker_hour * HOUR), ..record(0, 0, hour * HOUR) };
            watch.observe(&record, &streams).is_some()
        };
        assert!(!is_late(10, 10));
        assert!(!is_late(500, 10), "from the future");
        assert!(!is_late(10, 10) && !is_late(9, 11) && !is_late(11, 11));
        assert!(is_late(9, 11));
    }

    #[test]
    fn rejected_record_has_no_time() {
        let rejection = Rejection { reason: Reason::Unparsable, detail: String::new(), key: None, payload: Vec::new() };
        let mut watch = OrderWatch::default();
        let rejected = Record { outcome: Err(rejection), ..record(0, 0, 0) };
        assert_eq!(watch.observe(&rejected, &streams(&["a"])), None);
        assert_eq!(watch.figures(), &DisorderFigures::default());
    }
}
