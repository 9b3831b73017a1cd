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

use compact_str::{CompactString, ToCompactString};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use super::{Fault, rfc3339_milliseconds};
use crate::config::FieldNames;
use crate::event::{Interaction, Reason};

/// How much of a text that was found is repeated in a message.
const QUOTED_CHARACTERS: usize = 60;

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub fn decode(payload: &[u8], names: &FieldNames) -> Result<Interaction, Fault> {
    if payload.is_empty() {
        return Err((Reason::Unparsable, "empty record".to_owned()));
    }
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
            let reason = if beyond { Reason::BadValue } else { Reason::Unparsable };
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

/// The fields of an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    User,
    Item,
    Timestamp,
    Kind,
    Session,
    Value,
    Features,
}

impl Field {
    const COUNT: usize = 7;

    fn of(name: &str, names: &FieldNames) -> Option<Self> {
        match () {
            () if name == names.user_id => Some(Self::User),
            () if name == names.item_id => Some(Self::Item),
            () if name == names.timestamp => Some(Self::Timestamp),
            () if name == names.event_type => Some(Self::Kind),
            () if name == names.session_id => Some(Self::Session),
            () if name == names.value => Some(Self::Value),
            () if name == names.features => Some(Self::Features),
            () => None,
        }
    }
}

/// What a field of the record holds.
#[derive(Debug, Default)]
enum Found<'a> {
    #[default]
    Nothing,
    Null,
    Boolean(bool),
    Negative(i64),
    Natural(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// A list of texts and integers.
    Texts(Vec<CompactString>),
    /// A list with something else in it, described.
    Mixture(String),
    Object,
}

impl Found<'_> {
    /// The text of an identifier: a string, or an integer's digits.
    fn text(&self) -> Option<CompactString> {
        match self {
            Self::Text(text) => Some(CompactString::from(text.as_ref())),
            Self::Natural(number) => Some(number.to_compact_string()),
            Self::Negative(number) => Some(number.to_compact_string()),
            _ => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Nothing | Self::Null)
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing"),
            Self::Null => formatter.write_str("null"),
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Negative(number) => write!(formatter, "{number}"),
            Self::Natural(number) => write!(formatter, "{number}"),
            Self::Float(number) => write!(formatter, "{number:?}"),
            // Escaped and cut: what was found comes from outside.
            Self::Text(text) => match text.char_indices().nth(QUOTED_CHARACTERS) {
                Some((end, _)) => write!(formatter, "{:?}…", &text[..end]),
                None => write!(formatter, "{text:?}"),
            },
            Self::Texts(_) => formatter.write_str("a list"),
            Self::Mixture(element) => write!(formatter, "a list with {element}"),
            Self::Object => formatter.write_str("an object"),
        }
    }
}

/// All fields of one record, unchecked.
#[derive(Default)]
struct FoundFields<'a>([Found<'a>; Field::COUNT]);

impl FoundFields<'_> {
    fn interaction(mut self, names: &FieldNames) -> Result<Interaction, Fault> {
        Ok(Interaction {
            user: self.identifier(Field::User, &names.user_id)?,
            item: self.identifier(Field::Item, &names.item_id)?,
            timestamp: self.timestamp(&names.timestamp)?,
            kind: self.optional_text(Field::Kind, &names.event_type)?.unwrap_or_default(),
            session: self.optional_text(Field::Session, &names.session_id)?,
            value: self.value(&names.value)?,
            features: self.features(&names.features)?,
        })
    }

    fn get(&self, field: Field) -> &Found<'_> {
        &self.0[field as usize]
    }

    fn identifier(&self, field: Field, name: &str) -> Result<CompactString, Fault> {
        self.optional_text(field, name)?.ok_or_else(|| missing(name, self.get(field)))
    }

    fn optional_text(&self, field: Field, name: &str) -> Result<Option<CompactString>, Fault> {
        let found = self.get(field);
        if found.is_absent() {
            return Ok(None);
        }
        found.text().map(Some).ok_or_else(|| wrong_type(name, "a string or an integer", found))
    }

    fn timestamp(&self, name: &str) -> Result<i64, Fault> {
        let found = self.get(Field::Timestamp);
        let milliseconds =
            match found {
                Found::Nothing | Found::Null => return Err(missing(name, found)),
                Found::Natural(number) => Some(i64::try_from(*number).map_err(|_| {
                    (Reason::AbsurdTime, format!("{name}: {number} ms is outside the believable range"))
                })?),
                Found::Negative(number) => Some(*number),
                Found::Text(text) => rfc3339_milliseconds(text),
                _ => None,
            };
        milliseconds.ok_or_else(|| wrong_type(name, "milliseconds or RFC 3339", found))
    }

    fn value(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.get(Field::Value) {
            Found::Nothing | Found::Null => Ok(None),
            Found::Natural(number) => Ok(Some(*number as f64)),
            Found::Negative(number) => Ok(Some(*number as f64)),
            Found::Float(number) => Ok(Some(*number)),
            other => Err(wrong_type(name, "a number", other)),
        }
    }

    fn features(&mut self, name: &str) -> Result<Vec<CompactString>, Fault> {
        match std::mem::take(&mut self.0[Field::Features as usize]) {
            Found::Nothing | Found::Null => Ok(Vec::new()),
            Found::Texts(texts) => Ok(texts),
            other => Err(wrong_type(name, "a list of strings or integers", &other)),
        }
    }
}

fn missing(name: &str, found: &Found<'_>) -> Fault {
    let state = if matches!(found, Found::Null) { "null" } else { "missing" };
    (Reason::MissingField, format!("{name}: {state}"))
}

fn wrong_type(name: &str, expected: &str, found: &Found<'_>) -> Fault {
    (Reason::WrongType, format!("{name}: expected {expected}, found {found}"))
}

/// Reads the object of a record.
struct RecordSeed<'a> {
    names: &'a FieldNames,
    /// The field whose value is being read, for whoever looks after a failure.
    reading: &'a mut Option<Field>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = FoundFields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = FoundFields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = FoundFields::default();
        while let Some(field) = map.next_key_seed(NameSeed(self.names))? {
            *self.reading = field;
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let slot = &mut found.0[field as usize];
            if !matches!(slot, Found::Nothing) {
                return Err(A::Error::custom(format_args!("{} comes twice", name_of(field, self.names))));
            }
            *slot = map.next_value_seed(ValueSeed { in_list: false })?;
        }
        *self.reading = None;
        Ok(found)
    }
}

fn name_of(field: Field, names: &FieldNames) -> &str {
    match field {
        Field::User => &names.user_id,
        Field::Item => &names.item_id,
        Field::Timestamp => &names.timestamp,
        Field::Kind => &names.event_type,
        Field::Session => &names.session_id,
        Field::Value => &names.value,
        Field::Features => &names.features,
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
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Found<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Found::Boolean(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Found::Negative(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Found::Natural(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Found::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        if self.in_list {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Found::Texts(texts));
        }
        while let Some(element) = list.next_element_seed(ValueSeed { in_list: true })? {
            match element.text() {
                Some(text) => texts.push(text),
                None => {
                    let described = element.to_string();
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Found::Mixture(described));
                }
            }
        }
        Ok(Found::Texts(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Object)
    }
}

#[cfg(test)]
mod tests;
