//! JSON: one object per record, read in a single pass straight into the interaction; and the encoder beside it.
//!
//! | field | taken as |
//! | --- | --- |
//! | `user_id`, `item_id` | string, or integer (its decimal text) |
//! | `timestamp` | integer milliseconds since 1970, or RFC 3339 text |
//! | `event_type`, `session_id` | string or integer; absent or null: none |
//! | `value` | number; absent or null: none |
//! | `features` | list of strings or integers; absent or null: none |
//! | any other | ignored |
//!
//! The whole record is read before anything is said about its fields: one that is not JSON to its last byte is
//! unparsable, whatever its fields hold. A field of the interaction that comes twice makes a record unparsable too,
//! since parsers disagree about which one counts. What it deliberately does not do: notice that an ignored field came
//! twice, or build a tree of the record.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use super::Fault;
use super::fields::{Field, FieldValue, FieldValues, ListBuilder};
use crate::decode::FieldNames;
use crate::event::{Interaction, Reason};

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub fn decode(payload: &[u8], names: &FieldNames) -> Result<Interaction, Fault> {
    // Checked as a whole, since serde_json looks only at the strings that it hands out.
    let text = std::str::from_utf8(payload)
        .map_err(|error| (Reason::Unparsable, format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut reading = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    RecordSeed { names, reading: &mut reading }
        .deserialize(&mut deserializer)
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| {
            // JSON has no infinity: a number beyond every float is as near as it gets.
            let beyond = reading == Some(Field::Value) && error.to_string().starts_with("number out of range");
            let reason = if beyond { Reason::ValueNotFinite } else { Reason::Unparsable };
            (reason, error.to_string())
        })?
        .interaction(names)
}

/// Writes an interaction as [`decode`] reads it: timestamp in milliseconds, what is absent left out.
pub fn encode(event: &Interaction, names: &FieldNames) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    write(event, names, &mut bytes).expect("writing plain values into memory succeeds");
    bytes
}

fn write(event: &Interaction, names: &FieldNames, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut serializer = serde_json::Serializer::new(bytes);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry(&names.user_id, event.user.as_str())?;
    map.serialize_entry(&names.item_id, event.item.as_str())?;
    if !event.kind.is_empty() {
        map.serialize_entry(&names.event_type, event.kind.as_str())?;
    }
    map.serialize_entry(&names.timestamp, &event.timestamp)?;
    if let Some(session) = &event.session {
        map.serialize_entry(&names.session_id, session.as_str())?;
    }
    if let Some(value) = event.value {
        map.serialize_entry(&names.value, &value)?;
    }
    if !event.features.is_empty() {
        map.serialize_entry(&names.features, &event.features)?;
    }
    map.end()
}

/// Reads the object of a record.
struct RecordSeed<'a> {
    names: &'a FieldNames,
    /// The field whose value is being read, to name it after a failure.
    reading: &'a mut Option<Field>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = FieldValues<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = FieldValues<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = FieldValues::default();
        while let Some(field) = map.next_key_seed(NameSeed(self.names))? {
            *self.reading = field;
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let slot = found.slot(field);
            if !matches!(slot, FieldValue::Absent) {
                return Err(A::Error::custom(format_args!("{} comes twice", field.name(self.names))));
            }
            *slot = map.next_value_seed(ValueSeed { in_list: false })?;
        }
        *self.reading = None;
        Ok(found)
    }
}

/// Reads the name of a field, without keeping it.
struct NameSeed<'a>(&'a FieldNames);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Option<Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Option<Field>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Field::of(name, self.0))
    }
}

/// Reads a value of any type. Lists in lists are skipped, so that no depth of nesting costs anything.
struct ValueSeed {
    in_list: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = FieldValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = FieldValue<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(FieldValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(FieldValue::Boolean(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(FieldValue::Negative(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(FieldValue::Natural(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(FieldValue::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(FieldValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(FieldValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = ListBuilder::default();
        while !self.in_list && !elements.is_invalid() {
            match list.next_element_seed(ValueSeed { in_list: true })? {
                Some(element) => elements.push(&element),
                None => return Ok(elements.into_value()),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements.into_value())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Object)
    }
}

#[cfg(test)]
mod tests;
