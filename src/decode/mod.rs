//! \[2\] Decoding: the bytes of one record, or a row of columns, into an [`Interaction`], or the reason why not.
//!
//! | module | holds |
//! | --- | --- |
//! | [`json`], `avro`, `protobuf` | the formats of a record, both ways |
//! | `framing` | the wire format of schema registries, around a record of any format |
//! | `fields` | what the fields of a record hold, and what an interaction makes of it; shared by the formats and by rows |
//! | `names` | under which names, or at the end of which paths, they are found |
//! | `time` | what numbers, texts and dates mean in the place of a timestamp |
//! | `zone` | the moments at which the clocks of a zone show a time |
//! | [`arrow_rows`] | rows of columns |
//! | [`csv_rows`] | rows of cells, which are all text |
//! | `folder_values` | fields that the names of folders tell |
//!
//! Pure: no I/O, no clock, no logging. A [`EventDecoder`] never panics, whatever the bytes, never allocates more than a small
//! multiple of a record, and never drops one: what it cannot take becomes a [`Rejection`] that carries the bytes on; for
//! what it cannot take *yet* it says so.
//!
//! What it deliberately does not do: look at the timestamp of the Kafka message (an event's time is in the event), repair
//! anything (a record is taken as it stands, or not at all), or fetch a schema ([`SchemaResolver`] does).

pub mod arrow_rows;
mod avro;
mod config;
pub mod csv_rows;
mod cursor;
mod encoder;
mod fields;
mod folder_values;
mod framing;
pub mod json;
mod names;
#[cfg_attr(not(feature = "protobuf"), expect(dead_code, reason = "without its parser there is no schema to read by"))]
mod protobuf;
mod schema;
mod time;
mod zone;

pub use config::{
    CsvConfig, CsvHeader, CsvQuote, DateOrder, FieldNames, Format, RegistryConfig, SourceConfig, TimestampUnit,
};
pub use fields::FieldRules;
pub use folder_values::FolderValues;
pub(crate) use names::likely_fields;
pub(crate) use time::{is_number_or_time, ordered_time, text_time};

use chrono::{DateTime, NaiveDate};

pub use encoder::EventEncoder;
use schema::{RecordSchema, SchemaCache};
pub use schema::{SchemaError, SchemaId, SchemaLookup, SchemaResolver, SchemaText};

use crate::event::{EventLimits, Interaction, Reason, Rejection};

/// Turns records into interactions.
#[derive(Debug)]
pub struct EventDecoder {
    rules: FieldRules,
    /// The bounds that every event must keep.
    pub limits: EventLimits,
    /// Most features of an event that are kept: whoever uses none, or a few, need not have memory for thousands.
    pub most_features: usize,
    encoding: Encoding,
}

/// The encoding of a topic's records.
#[derive(Debug)]
enum Encoding {
    Json,
    /// Plain records, all by one schema.
    Plain(Box<RecordSchema>),
    /// JSON in frames, whose schemas are ignored.
    FramedJson,
    /// Records in frames, each of which names its schema.
    Framed {
        format: Format,
        cache: SchemaCache,
        schemas: Box<dyn SchemaResolver>,
    },
}

impl EventDecoder {
    /// The decoder that `source` describes: for records that come plain, by the schema `plain`; for those that come in a
    /// registry's frames, by the schemas that `registry` finds.
    ///
    /// # Errors
    /// A schema that no interaction can be read by.
    pub fn new(
        source: &SourceConfig,
        plain: &SchemaText,
        registry: Option<Box<dyn SchemaResolver>>,
    ) -> Result<Self, SchemaError> {
        let encoding = match (source.format, registry) {
            (Format::Json, None) => Encoding::Json,
            (Format::Json, Some(_)) => Encoding::FramedJson,
            (format, None) => Encoding::Plain(Box::new(RecordSchema::plain(format, plain, source)?)),
            (format, Some(schemas)) => Encoding::Framed { format, cache: SchemaCache::default(), schemas },
        };
        Ok(Self { rules: FieldRules::new(source), limits: limits(source), most_features: usize::MAX, encoding })
    }

    /// Decodes one record. `None` as payload is Kafka's null value. Gives `None` where its schema is not known yet: then
    /// the same record has to be tried again, and no later one may overtake it.
    pub fn decode(&mut self, key: Option<&[u8]>, payload: Option<&[u8]>) -> Option<Result<Interaction, Rejection>> {
        let payload = payload.unwrap_or_default();
        let decoded = self.attempt(payload)?.and_then(|mut event| {
            self.limits.check(&event)?;
            if event.features.len() > self.most_features {
                event.features.truncate(self.most_features);
                event.features.shrink_to_fit();
            }
            Ok(event)
        });
        Some(decoded.map_err(|(reason, detail)| Rejection {
            reason,
            detail,
            key: key.map(<[u8]>::to_vec),
            payload: payload.to_vec(),
        }))
    }

    fn attempt(&mut self, payload: &[u8]) -> Option<Result<Interaction, Fault>> {
        let rules = &self.rules;
        if payload.is_empty() {
            return Some(Err((Reason::Unparsable, "empty record".to_owned())));
        }
        Some(match &mut self.encoding {
            Encoding::Json => json::decode(payload, rules),
            Encoding::Plain(schema) => schema.decode(payload, rules).map_err(|fault| framed_perhaps(fault, payload)),
            Encoding::FramedJson => framing::open(payload).and_then(|(_, inner)| json::decode(inner, rules)),
            Encoding::Framed { format, cache, schemas } => match framing::open(payload) {
                Ok((id, inner)) => match cache.schema(id, *format, rules, schemas.as_mut())? {
                    Ok(schema) => schema.decode_framed(inner, rules),
                    Err(problem) => Err((Reason::UnknownSchema, format!("schema {id}: {problem}"))),
                },
                Err(fault) => Err(fault),
            },
        })
    }
}

/// The fault of a record that came plain and begins as one in a registry's frame does: the frame may be all that is wrong.
fn framed_perhaps((reason, detail): Fault, payload: &[u8]) -> Fault {
    match payload {
        [0, _, _, _, _, _, ..] => {
            let hint = "begins with a byte 0: in a schema registry's frame? (source.registry.url)";
            (reason, format!("{detail}; {hint}"))
        }
        _ => (reason, detail),
    }
}

/// A fault, before the record's bytes are attached to it.
pub type Fault = (Reason, String);

/// The bounds that `source` describes.
pub fn limits(source: &SourceConfig) -> EventLimits {
    let new_year = |year: u16| {
        NaiveDate::from_ymd_opt(i32::from(year), 1, 1)
            .map_or(i64::MAX, |day| i64::from(day.to_epoch_days()) * 86_400_000)
    };
    EventLimits {
        max_id_bytes: source.max_id_bytes,
        start_of_time: new_year(source.earliest_year),
        end_of_time: source.latest_year.checked_add(1).map_or(i64::MAX, new_year),
        timestamp_unit: source.timestamp_unit.nanoseconds(),
    }
}

/// Milliseconds since 1970 of an RFC 3339 text.
pub(crate) fn rfc3339_milliseconds(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

/// The time as RFC 3339 text; `None` where it has no year of four digits.
fn rfc3339(milliseconds: i64) -> Option<String> {
    let text = DateTime::from_timestamp_millis(milliseconds)?.to_rfc3339();
    (rfc3339_milliseconds(&text) == Some(milliseconds)).then_some(text)
}

#[cfg(test)]
mod tests;
