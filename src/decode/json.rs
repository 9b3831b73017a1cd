//! JSON: one object per record, read in a single pass straight into the interaction; and the encoder beside it.
//!
//! | field | taken as |
//! | --- | --- |
//! | `user_id`, `item_id` | string, or a whole number (its decimal text) |
//! | `timestamp` | a number of `source.timestamp_unit` since 1970, or RFC 3339 text |
//! | `event_type` | string, whole number, truth value; absent or null: none |
//! | `session_id` | string or whole number; absent or null: none |
//! | `value` | number; absent or null: none |
//! | `features` | list of strings or whole numbers; absent or null: none |
//! | any other | ignored, but for objects that a path leads into |
//!
//! The whole record is read before anything is said about its fields: one that is not JSON to its last byte is
//! unparsable, whatever its fields hold. A field of the interaction that comes twice makes a record unparsable too,
//! since parsers disagree about which one counts. A byte order mark before the record is passed over. What it deliberately does not do: notice that an ignored field came
//! twice, or build a tree of the record.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use super::fields::{Field, FieldRules, FieldValue, FieldValues, ListBuilder};
use super::names::{NameEntry, NameTree};
use super::{Fault, FolderValues};
use crate::decode::FieldNames;
use crate::event::{Interaction, Reason};

/// Largest record that is looked at again to say what is there instead of a missing field.
const LOOKED_INTO: usize = 1 << 16;
/// Most names that are told of a record, and the longest of them, in characters.
const NAMES_TOLD: usize = 8;
const LONGEST_NAME: usize = 40;
/// Deepest object in which a missing field is looked for.
const DEEPEST_LOOK: usize = 5;

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub fn decode(payload: &[u8], rules: &FieldRules) -> Result<Interaction, Fault> {
    decode_among(payload, rules, &FolderValues::default())
}

/// The bytes of one line of a log in `folders` as an interaction; bounds are not checked here.
///
/// # Errors
/// As [`decode`].
pub fn decode_among(payload: &[u8], rules: &FieldRules, folders: &FolderValues) -> Result<Interaction, Fault> {
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    // Checked as a whole, since serde_json looks only at the strings that it hands out.
    let text = std::str::from_utf8(payload).map_err(|error| (Reason::Unparsable, not_text(payload, error)))?;
    let mut reading = None;
    let mut found = FieldValues::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let place =
        RecordPlace { names: &rules.names, tree: &rules.tree, depth: 0, found: &mut found, reading: &mut reading };
    RecordSeed(place).deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| {
        // JSON has no infinity: a number beyond every float is as near as it gets.
        let beyond = reading == Some(Field::Value) && error.to_string().starts_with("number out of range");
        let reason = if beyond { Reason::ValueNotFinite } else { Reason::Unparsable };
        (reason, no_json(text, &error))
    })?;
    folders.fill(&mut found);
    found.interaction(rules).map_err(|(reason, detail)| match reason {
        Reason::MissingField if text.len() <= LOOKED_INTO => {
            let there = what_is_there(text, rules, &detail);
            (reason, detail + &there)
        }
        _ => (reason, detail),
    })
}

/// What bytes are that are not UTF-8, where that can be told.
fn not_text(payload: &[u8], error: std::str::Utf8Error) -> String {
    let guess = match payload {
        [0x1f, 0x8b, ..] => ": compressed by gzip? (the producer's compression.type does that so that it can be read)",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ": UTF-16?",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ": compressed by zstd?",
        [0, ..] => return zero_byte(),
        _ => "",
    };
    format!("not UTF-8 at byte {}{guess}", error.valid_up_to())
}

/// The words for a record that begins with a byte 0, as no JSON and no text does.
fn zero_byte() -> String {
    "begins with a byte 0: in a schema registry's frame? (source.registry.url)".to_owned()
}

/// What is wrong with a text that is no JSON object, with its cause where that is a common one.
fn no_json(text: &str, error: &serde_json::Error) -> String {
    let line = text.split_inclusive('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let near = line.get(error.column().saturating_sub(2)..).unwrap_or_default();
    let here = near.trim_start_matches([':', ',', '[', ' ', '-']);
    if text.starts_with('\0') {
        zero_byte()
    } else if ["NaN", "Infinity", "aN", "nfinity"].iter().any(|word| here.starts_with(word)) {
        format!("NaN and infinities are no JSON, at line {} column {}", error.line(), error.column())
    } else if text.trim_start().starts_with('[') {
        "a list: each record must be one event, an object".to_owned()
    } else if text.trim_start().starts_with('"') {
        "a text: an object that was encoded twice?".to_owned()
    } else if error.to_string().starts_with("trailing characters") && near.trim_start().starts_with('{') {
        format!("{error}: several objects? each record must be one event")
    } else {
        error.to_string()
    }
}

/// For a record that lacks a field, as `detail` says: which names it has, and a path that ends in the name, where there is one.
fn what_is_there(text: &str, rules: &FieldRules, detail: &str) -> String {
    let Ok(serde_json::Value::Object(record)) = serde_json::from_str(text) else { return String::new() };
    let required = [Field::User, Field::Item, Field::Timestamp];
    let is_lost = |field: &Field| {
        detail.strip_prefix(field.name(&rules.names)).is_some_and(|rest| [": missing", ": null"].contains(&rest))
    };
    let lost = required.into_iter().find(is_lost);
    if let Some(field) = lost {
        let name = field.name(&rules.names);
        let last = name.rsplit('.').next().unwrap_or(name);
        let mut path = Vec::new();
        if find(&record, last, &mut path) {
            let path = path.join(".");
            if path != name && path.chars().count() <= 2 * LONGEST_NAME && !path.contains(char::is_control) {
                return format!("; there is {path:?} ({} = {path:?})", field.key());
            }
        }
    }
    let told = record.keys().take(NAMES_TOLD).map(|name| match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    });
    let told: Vec<String> = told.collect();
    let more = if record.len() > NAMES_TOLD { ", …" } else { "" };
    let key = lost.map_or("source.fields", Field::key);
    if told.is_empty() { String::new() } else { format!("; there are {}{more} ({key})", told.join(", ")) }
}

/// Finds the first value of that name in objects within `object`, and the path to it.
fn find<'v>(object: &'v serde_json::Map<String, serde_json::Value>, name: &str, path: &mut Vec<&'v str>) -> bool {
    if let Some((found, _)) = object.get_key_value(name).filter(|(_, value)| !value.is_null()) {
        path.push(found);
        return true;
    }
    if path.len() + 1 >= DEEPEST_LOOK {
        return false;
    }
    for (key, value) in object {
        if let serde_json::Value::Object(inner) = value {
            path.push(key);
            if find(inner, name, path) {
                return true;
            }
            path.pop();
        }
    }
    false
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

/// An object of a record that is being read: the record itself, or one within it that a path leads into.
struct RecordPlace<'a, 'de> {
    names: &'a FieldNames,
    tree: &'a NameTree,
    depth: u8,
    found: &'a mut FieldValues<'de>,
    /// The field whose value is being read, to name it after a failure.
    reading: &'a mut Option<Field>,
}

impl<'de> RecordPlace<'_, 'de> {
    fn read<A: MapAccess<'de>>(self, map: &mut A) -> Result<(), A::Error> {
        let Self { names, tree, depth, found, reading } = self;
        while let Some(entry) = map.next_key_seed(NameSeed(tree))? {
            *reading = entry.and_then(|entry| entry.field);
            let Some(entry) = entry else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if let Some(field) = entry.field.filter(|field| found.has_at(*field, depth)) {
                return Err(A::Error::custom(format_args!("{} comes twice", field.name(names))));
            }
            let within = entry.inner.as_ref().map(|tree| RecordPlace {
                names,
                tree,
                depth: depth + 1,
                found: &mut *found,
                reading: &mut *reading,
            });
            let value = map.next_value_seed(ValueSeed { in_list: false, within })?;
            if let Some(slot) = entry.field.and_then(|field| found.slot_at(field, depth)) {
                *slot = value;
            }
        }
        *reading = None;
        Ok(())
    }
}

/// Reads the object of a record.
struct RecordSeed<'a, 'de>(RecordPlace<'a, 'de>);

impl<'de> DeserializeSeed<'de> for RecordSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        self.0.read(&mut map)
    }
}

/// Reads the name of a field, without keeping it.
struct NameSeed<'a>(&'a NameTree);

impl<'de, 'a> DeserializeSeed<'de> for NameSeed<'a> {
    type Value = Option<&'a NameEntry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for NameSeed<'a> {
    type Value = Option<&'a NameEntry>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name))
    }
}

/// Reads a value of any type. Lists in lists are skipped, so that no depth of nesting costs anything.
struct ValueSeed<'a, 'de> {
    in_list: bool,
    /// What becomes of an object's fields, where paths lead into it.
    within: Option<RecordPlace<'a, 'de>>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, 'de> {
    type Value = FieldValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, 'de> {
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
            match list.next_element_seed(ValueSeed { in_list: true, within: None })? {
                Some(element) => elements.push(&element),
                None => return Ok(elements.into_value()),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements.into_value())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match self.within {
            Some(place) => place.read(&mut map)?,
            None => while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {},
        }
        Ok(FieldValue::Object)
    }
}

#[cfg(test)]
mod tests;
