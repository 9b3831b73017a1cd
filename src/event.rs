//! The event: one interaction of a user with an item, and what a source hands over for each record it read.
//!
//! Everything downstream of `decode` sees only these types. Identifiers are data from outside: they are kept as they
//! came, and whoever shows them (logs, pages, file names) has to escape them.

use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::metric::{Instrumented, Metric};

/// One interaction, decoded and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Interaction {
    /// The user who acted. Never empty.
    pub user: CompactString,
    /// The item that was acted upon. Never empty.
    pub item: CompactString,
    /// The type of the event (`click`, `purchase`, …); empty where the record named none.
    pub kind: CompactString,
    /// Time of the event, in milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// Session or basket that the event belongs to.
    pub session: Option<CompactString>,
    /// Value of the event (rating, price, …); always finite.
    pub value: Option<f64>,
    /// Free-form features of the item or of the event.
    pub features: Vec<CompactString>,
}

/// The reason of a rejection. The set is closed, since it labels a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not of the format, not UTF-8, or not an object.
    Unparsable,
    /// Not in the wire format of a schema registry: another magic byte, or cut short.
    InvalidFrame,
    /// Its schema is not in the registry, or is none that an event can be read by.
    UnknownSchema,
    /// A field that must be there is not, or is null.
    MissingField,
    /// A field holds another type than it must.
    WrongType,
    /// `user_id` or `item_id` is the empty string.
    EmptyId,
    /// An identifier is longer than `source.max_id_bytes`.
    IdTooLong,
    /// A time before `source.earliest_year` or after `source.latest_year`.
    TimestampOutOfRange,
    /// `value` is NaN or infinite.
    ValueNotFinite,
    /// A Kafka record without a value, as compacted topics have them: nothing is wrong, and nothing to be learnt.
    NullValue,
}

impl Reason {
    /// Every reason, in the order in which they are documented.
    pub const ALL: [Self; 10] = [
        Self::Unparsable,
        Self::InvalidFrame,
        Self::UnknownSchema,
        Self::MissingField,
        Self::WrongType,
        Self::EmptyId,
        Self::IdTooLong,
        Self::TimestampOutOfRange,
        Self::ValueNotFinite,
        Self::NullValue,
    ];

    /// Whether records rejected for this reason become dead letters.
    pub fn is_fault(self) -> bool {
        self != Self::NullValue
    }

    /// Name of the reason in metrics, dead letters and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::InvalidFrame => "invalid_frame",
            Self::UnknownSchema => "unknown_schema",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::EmptyId => "empty_id",
            Self::IdTooLong => "id_too_long",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::ValueNotFinite => "value_not_finite",
            Self::NullValue => "null_value",
        }
    }
}

/// A rejected record: the reason, and the bytes as they came, for the dead letters.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The class of the fault.
    pub reason: Reason,
    /// What exactly is wrong, for a person: names the field and what was found.
    pub detail: String,
    /// The record's key, as it came.
    pub key: Option<Vec<u8>>,
    /// The record's bytes, as they came (a Parquet row: its JSON).
    pub payload: Vec<u8>,
}

/// One record of a source, decoded or rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Index of the stream (partition, file) in the source's list of streams.
    pub stream: u32,
    /// Place in that stream: the Kafka offset, or the row of the file.
    pub offset: u64,
    /// Time at which the record was produced, as the broker says (milliseconds since 1970); `None` for the rows of files.
    pub broker_timestamp: Option<i64>,
    /// The interaction, or the reason why there is none.
    pub outcome: Result<Interaction, Rejection>,
}

/// The bounds that every event must keep, whatever its encoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventLimits {
    /// Longest identifier, in bytes.
    pub max_id_bytes: usize,
    /// First millisecond, since 1970, that is believed of an event.
    pub start_of_time: i64,
    /// First millisecond, since 1970, that is too late for an event.
    pub end_of_time: i64,
    /// Nanoseconds of the unit in which times come that are plain numbers.
    pub timestamp_unit: i64,
}

/// The units in which programs count time: the value of `source.timestamp_unit`, the word, and nanoseconds.
const UNITS: [(&str, &str, i64); 5] = [
    ("s", "seconds", 1_000_000_000),
    ("ms", "milliseconds", 1_000_000),
    ("us", "microseconds", 1_000),
    ("ns", "nanoseconds", 1),
    ("days", "days", 86_400_000_000_000),
];

impl EventLimits {
    /// Checks the bounds that do not depend on the encoding.
    ///
    /// # Errors
    /// The class of the fault and its description, naming the field.
    pub fn check(&self, event: &Interaction) -> Result<(), (Reason, String)> {
        for (name, id) in [("user_id", &event.user), ("item_id", &event.item)] {
            if id.is_empty() {
                return Err((Reason::EmptyId, format!("{name} is empty")));
            }
            self.check_length(name, id)?;
        }
        self.check_length("event_type", &event.kind)?;
        if let Some(session) = &event.session {
            self.check_length("session_id", session)?;
        }
        for feature in &event.features {
            self.check_length("features", feature)?;
        }
        let milliseconds = i128::from(event.timestamp);
        if !self.is_believable(milliseconds) {
            return Err((Reason::TimestampOutOfRange, self.unbelievable("timestamp", milliseconds)));
        }
        match event.value {
            Some(value) if !value.is_finite() => Err((Reason::ValueNotFinite, format!("value is {value}"))),
            _ => Ok(()),
        }
    }

    /// Whether a time, in milliseconds since 1970, lies within the years that are believed.
    pub fn is_believable(&self, milliseconds: i128) -> bool {
        (i128::from(self.start_of_time)..i128::from(self.end_of_time)).contains(&milliseconds)
    }

    /// The words for a time outside the believable years; where the same number is within them in another unit, they name
    /// that unit.
    pub fn unbelievable(&self, name: &str, milliseconds: i128) -> String {
        let number = milliseconds.saturating_mul(1_000_000) / i128::from(self.timestamp_unit);
        let day = |milliseconds: i128| {
            let time = chrono::DateTime::from_timestamp_millis(i64::try_from(milliseconds).ok()?)?;
            Some(time.date_naive().to_string())
        };
        let shown = day(milliseconds).map_or(String::new(), |day| format!(" ({day})"));
        let told = format!("{name} {milliseconds} ms{shown} is outside the believable range");
        let others = UNITS.iter().filter(|(.., nanoseconds)| *nanoseconds != self.timestamp_unit);
        for (value, word, nanoseconds) in others {
            let otherwise = number.saturating_mul(i128::from(*nanoseconds)) / 1_000_000;
            if self.is_believable(otherwise)
                && let Some(day) = day(otherwise)
            {
                return format!("{told}; a number of {word} would be {day}: source.timestamp_unit = \"{value}\"?");
            }
        }
        let key = if milliseconds < i128::from(self.start_of_time) { "earliest_year" } else { "latest_year" };
        format!("{told} (source.{key})")
    }

    fn check_length(&self, name: &str, text: &str) -> Result<(), (Reason, String)> {
        if text.len() <= self.max_id_bytes {
            return Ok(());
        }
        let detail = format!("{name} has {} bytes, more than {}", text.len(), self.max_id_bytes);
        Err((Reason::IdTooLong, detail))
    }
}

/// How many records were rejected, by reason. In JSON: an object with every reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejections([u64; Reason::ALL.len()]);

impl Rejections {
    /// Counts `records` more.
    pub fn add(&mut self, reason: Reason, records: u64) {
        self.0[index(reason)] += records;
    }

    /// Number of records rejected for `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[index(reason)]
    }

    /// Number of records rejected for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

fn index(reason: Reason) -> usize {
    Reason::ALL.iter().position(|known| *known == reason).expect("the list of reasons is complete")
}

impl std::ops::AddAssign for EventCounts {
    fn add_assign(&mut self, more: Self) {
        self.read += more.read;
        self.used += more.used;
        self.ignored += more.ignored;
        self.lost += more.lost;
        self.deferred += more.deferred;
        for (sum, count) in self.rejected.0.iter_mut().zip(more.rejected.0) {
            *sum += count;
        }
    }
}

impl<'de> Deserialize<'de> for Rejections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_name = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut rejections = Self::default();
        for reason in Reason::ALL {
            rejections.add(reason, by_name.get(reason.name()).copied().unwrap_or(0));
        }
        Ok(rejections)
    }
}

impl Serialize for Rejections {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for reason in Reason::ALL {
            map.serialize_entry(reason.name(), &self.of(reason))?;
        }
        map.end()
    }
}

/// What became of the records, counted since the very first start: these numbers are part of the checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Records read.
    pub read: u64,
    /// Events trained on.
    pub used: u64,
    /// Events of a type that does not count as positive.
    pub ignored: u64,
    /// Events of an item that has not come often enough for a row yet: not trained on.
    #[serde(default)]
    pub deferred: u64,
    /// Records that were not taken, by reason.
    pub rejected: Rejections,
    /// Offsets that were gone before they were read (`kafka.on_data_loss = "skip"`); not among those read.
    #[serde(default)]
    pub lost: u64,
}

impl EventCounts {
    /// Number of records that were read or lost. Two states of one stream that differ also differ in this number.
    pub fn passed(&self) -> u64 {
        self.read + self.lost
    }

    /// Whether any event was taken: trained on, deferred, or passed over for its type.
    pub fn has_taken_any(&self) -> bool {
        self.used + self.ignored + self.deferred > 0
    }

    /// Number of events of a positive type, whether trained on or not: the unit of the stream's own time.
    pub fn positives(&self) -> u64 {
        self.used + self.deferred
    }
}

/// Evicted rows, of items or of users, since the very first start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictedRows {
    /// Rows that had no event for too long.
    pub expired: u64,
    /// Rows that made room for others.
    pub capped: u64,
}

/// Evicted rows, since the very first start: these numbers are part of the checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// Evicted rows of items.
    pub items: EvictedRows,
    /// Evicted rows of users.
    pub users: EvictedRows,
}

impl Instrumented for EventCounts {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter("negstream_events_read_total", "Records read from the source.", |events, samples| {
            samples.put(events.read);
        }),
        Metric::counter("negstream_events_used_total", "Events trained on.", |events, samples| {
            samples.put(events.used);
        }),
        Metric::counter(
            "negstream_events_ignored_total",
            "Events of a type that does not count as positive.",
            |events, samples| samples.put(events.ignored),
        ),
        Metric::counter(
            "negstream_events_deferred_total",
            "Events of an item that has not come often enough for a row yet (memory.items.admit_after).",
            |events, samples| samples.put(events.deferred),
        ),
        Metric::counter(
            "negstream_events_lost_total",
            "Records that were gone before they were read (kafka.on_data_loss).",
            |events, samples| samples.put(events.lost),
        ),
        Metric::counter_by(
            "negstream_events_rejected_total",
            &["reason"],
            "Records that were rejected, by reason.",
            |events, samples| {
                for reason in Reason::ALL {
                    samples.put_for([reason.name()], events.rejected.of(reason));
                }
            },
        ),
    ];
}

impl Instrumented for Evicted {
    const METRICS: &'static [Metric<Self>] = &[Metric::counter_by(
        "negstream_evicted_rows_total",
        &["table", "reason"],
        "Rows that were evicted, for want of events (expired) or to make room (capped).",
        |evicted, samples| {
            for (table, rows) in [("items", evicted.items), ("users", evicted.users)] {
                samples.put_for([table, "expired"], rows.expired);
                samples.put_for([table, "capped"], rows.capped);
            }
        },
    )];
}
