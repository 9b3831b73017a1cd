//! \[2\] Decoding: the bytes of one record, or a row of columns, into an [`Interaction`], or the reason why not.
//!
//! Pure: no I/O, no clock, no logging. A [`Decoder`] never panics, whatever the bytes, and never drops a record: what
//! it cannot take becomes a [`Rejection`] that carries the bytes on.
//!
//! What it deliberately does not do: look at the timestamp of the Kafka message (an event's time is in the event), or
//! repair anything (a record is taken as it stands, or not at all).

pub mod json;
pub mod rows;

use chrono::{DateTime, NaiveDate};

use crate::config::{FieldNames, SourceConfig};
use crate::event::{Interaction, Limits, Reason, Rejection};

/// Turns records into interactions.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// What the fields are called in the records.
    pub fields: FieldNames,
    /// The bounds that every event must keep.
    pub limits: Limits,
}

impl Decoder {
    /// The decoder that `source` describes.
    pub fn new(source: &SourceConfig) -> Self {
        Self { fields: source.fields.clone(), limits: limits(source) }
    }

    /// Decodes one record. `None` as payload is Kafka's null value.
    ///
    /// # Errors
    /// The reason, with `key` and `payload` as they came.
    pub fn decode(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<Interaction, Rejection> {
        let payload = payload.unwrap_or_default();
        let decoded = json::decode(payload, &self.fields).and_then(|event| {
            self.limits.check(&event)?;
            Ok(event)
        });
        decoded.map_err(|(reason, detail)| Rejection {
            reason,
            detail,
            key: key.map(<[u8]>::to_vec),
            payload: payload.to_vec(),
        })
    }
}

/// A fault, before the record's bytes are attached to it.
pub type Fault = (Reason, String);

/// The bounds that `source` describes.
pub fn limits(source: &SourceConfig) -> Limits {
    let end_of_time = NaiveDate::from_ymd_opt(i32::from(source.latest_year) + 1, 1, 1)
        .and_then(|day| day.and_hms_opt(0, 0, 0))
        .map_or(i64::MAX, |midnight| midnight.and_utc().timestamp_millis());
    Limits { max_id_bytes: source.max_id_bytes, end_of_time }
}

/// Milliseconds since 1970 of an RFC 3339 text.
pub(crate) fn rfc3339_milliseconds(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> Decoder {
        Decoder::new(&crate::config::layers::default().source)
    }

    #[test]
    fn limits_end_with_the_latest_year() {
        let mut source = crate::config::layers::default().source;
        source.latest_year = 1970;
        assert_eq!(limits(&source).end_of_time, 365 * 86_400_000);
        source.latest_year = u16::MAX;
        assert!(limits(&source).end_of_time > 0);
    }

    #[test]
    fn rejection_carries_key_and_bytes() {
        let rejection = decoder().decode(Some(b"k\xff"), Some(b"{nonsense")).unwrap_err();
        assert_eq!(rejection.reason, Reason::Unparsable);
        assert_eq!(rejection.key.as_deref(), Some(&b"k\xff"[..]));
        assert_eq!(rejection.payload, b"{nonsense");
    }

    #[test]
    fn null_and_empty_payloads_are_unparsable() {
        for payload in [None, Some(&b""[..])] {
            let rejection = decoder().decode(None, payload).unwrap_err();
            assert_eq!((rejection.reason, rejection.detail.as_str()), (Reason::Unparsable, "empty record"));
            assert_eq!(rejection.key, None);
        }
    }

    #[test]
    fn limits_are_checked() {
        let long = "x".repeat(1025);
        for (record, reason) in [
            (r#"{"user_id":"","item_id":"i","timestamp":1}"#.to_owned(), Reason::EmptyId),
            (format!(r#"{{"user_id":"{long}","item_id":"i","timestamp":1}}"#), Reason::LongId),
            (r#"{"user_id":"u","item_id":"i","timestamp":-1}"#.to_owned(), Reason::AbsurdTime),
            (r#"{"user_id":"u","item_id":"i","timestamp":"9999-01-01T00:00:00Z"}"#.to_owned(), Reason::AbsurdTime),
            (r#"{"user_id":"u","item_id":"i","timestamp":18446744073709551615}"#.to_owned(), Reason::AbsurdTime),
        ] {
            assert_eq!(decoder().decode(None, Some(record.as_bytes())).unwrap_err().reason, reason, "{record}");
        }
    }
}
