//! What the fields of a record hold, whatever its encoding, and what an interaction makes of it.
//!
//! Every format fills the same [`FieldValues`], so that each takes the same and says the same of what it does not take.

use std::borrow::Cow;
use std::fmt;

use compact_str::{CompactString, ToCompactString};

use super::{Fault, rfc3339_milliseconds};
use crate::decode::FieldNames;
use crate::event::{Interaction, Reason};

/// How much of a text that was found is repeated in a message.
const QUOTED_CHARACTERS: usize = 60;

/// The fields of an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    User,
    Item,
    Timestamp,
    Kind,
    Session,
    Value,
    Features,
}

impl Field {
    pub(super) const COUNT: usize = 7;

    /// The field of that name.
    pub(super) fn of(name: &str, names: &FieldNames) -> Option<Self> {
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

    /// The field's name in the records.
    pub(super) fn name(self, names: &FieldNames) -> &str {
        match self {
            Field::User => &names.user_id,
            Field::Item => &names.item_id,
            Field::Timestamp => &names.timestamp,
            Field::Kind => &names.event_type,
            Field::Session => &names.session_id,
            Field::Value => &names.value,
            Field::Features => &names.features,
        }
    }

    /// The key of the configuration that names it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Field::User => "source.fields.user_id",
            Field::Item => "source.fields.item_id",
            Field::Timestamp => "source.fields.timestamp",
            Field::Kind => "source.fields.event_type",
            Field::Session => "source.fields.session_id",
            Field::Value => "source.fields.value",
            Field::Features => "source.fields.features",
        }
    }
}

/// The value of a field of the record, before it is checked.
#[derive(Debug, Default)]
pub(super) enum FieldValue<'a> {
    #[default]
    Absent,
    Null,
    Boolean(bool),
    Negative(i64),
    Natural(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// A list of texts and integers.
    Texts(Vec<CompactString>),
    /// A list with something else in it, described.
    InvalidList(String),
    Object,
    /// A value that no field of an interaction is made of, described.
    Unsupported(&'static str),
}

impl FieldValue<'_> {
    pub(super) fn integer(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Negative(number), Self::Natural)
    }

    /// The text of an identifier: a string, or an integer's digits.
    pub(super) fn text(&self) -> Option<CompactString> {
        match self {
            Self::Text(text) => Some(CompactString::from(text.as_ref())),
            Self::Natural(number) => Some(number.to_compact_string()),
            Self::Negative(number) => Some(number.to_compact_string()),
            _ => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("nothing"),
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
            Self::InvalidList(element) => write!(formatter, "a list with {element}"),
            Self::Object => formatter.write_str("an object"),
            Self::Unsupported(described) => formatter.write_str(described),
        }
    }
}

/// Most elements of a list. Beyond it the smallest elements would take many times the memory of the record.
const MAX_ELEMENTS: usize = 1 << 16;

/// A list that is being read: its elements so far, or what makes it useless.
#[derive(Debug, Default)]
pub(super) struct ListBuilder {
    texts: Vec<CompactString>,
    invalid: Option<String>,
}

impl ListBuilder {
    pub(super) fn push(&mut self, element: &FieldValue<'_>) {
        match element.text() {
            _ if self.invalid.is_some() => {}
            None => self.invalid = Some(element.to_string()),
            Some(_) if self.texts.len() == MAX_ELEMENTS => {
                self.invalid = Some(format!("more than {MAX_ELEMENTS} elements"));
            }
            Some(text) => self.texts.push(text),
        }
    }

    /// Whether an element makes the whole list useless: the elements behind it need not be read.
    pub(super) fn is_invalid(&self) -> bool {
        self.invalid.is_some()
    }

    pub(super) fn into_value<'a>(self) -> FieldValue<'a> {
        match self.invalid {
            Some(described) => FieldValue::InvalidList(described),
            None => FieldValue::Texts(self.texts),
        }
    }
}

/// The values of all fields of one record, unchecked.
#[derive(Default)]
pub(super) struct FieldValues<'a>([FieldValue<'a>; Field::COUNT]);

impl<'a> FieldValues<'a> {
    /// The place for the value of a field.
    pub(super) fn slot(&mut self, field: Field) -> &mut FieldValue<'a> {
        &mut self.0[field as usize]
    }

    /// The interaction that the values make together; bounds are not checked here.
    pub(super) fn interaction(mut self, names: &FieldNames) -> Result<Interaction, Fault> {
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

    fn get(&self, field: Field) -> &FieldValue<'a> {
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
        let milliseconds = match found {
            FieldValue::Absent | FieldValue::Null => return Err(missing(name, found)),
            FieldValue::Natural(number) => Some(i64::try_from(*number).map_err(|_| {
                (Reason::TimestampOutOfRange, format!("{name}: {number} ms is outside the believable range"))
            })?),
            FieldValue::Negative(number) => Some(*number),
            FieldValue::Text(text) => rfc3339_milliseconds(text),
            _ => None,
        };
        milliseconds.ok_or_else(|| wrong_type(name, "milliseconds or RFC 3339", found))
    }

    fn value(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.get(Field::Value) {
            FieldValue::Absent | FieldValue::Null => Ok(None),
            FieldValue::Natural(number) => Ok(Some(*number as f64)),
            FieldValue::Negative(number) => Ok(Some(*number as f64)),
            FieldValue::Float(number) => Ok(Some(*number)),
            other => Err(wrong_type(name, "a number", other)),
        }
    }

    fn features(&mut self, name: &str) -> Result<Vec<CompactString>, Fault> {
        match std::mem::take(&mut self.0[Field::Features as usize]) {
            FieldValue::Absent | FieldValue::Null => Ok(Vec::new()),
            FieldValue::Texts(texts) => Ok(texts),
            other => Err(wrong_type(name, "a list of strings or integers", &other)),
        }
    }
}

fn missing(name: &str, found: &FieldValue<'_>) -> Fault {
    let state = if matches!(found, FieldValue::Null) { "null" } else { "missing" };
    (Reason::MissingField, format!("{name}: {state}"))
}

fn wrong_type(name: &str, expected: &str, found: &FieldValue<'_>) -> Fault {
    (Reason::WrongType, format!("{name}: expected {expected}, found {found}"))
}

/// The content of one field of an interaction, for an encoder.
#[derive(Debug)]
pub(super) enum EventField<'a> {
    Absent,
    Text(&'a str),
    /// Milliseconds since 1970.
    Time(i64),
    Number(f64),
    List(&'a [CompactString]),
}

impl<'a> EventField<'a> {
    pub(super) fn of(event: &'a Interaction, field: Field) -> Self {
        match field {
            Field::User => Self::Text(&event.user),
            Field::Item => Self::Text(&event.item),
            Field::Timestamp => Self::Time(event.timestamp),
            Field::Kind if event.kind.is_empty() => Self::Absent,
            Field::Kind => Self::Text(&event.kind),
            Field::Session => event.session.as_ref().map_or(Self::Absent, |session| Self::Text(session)),
            Field::Value => event.value.map_or(Self::Absent, Self::Number),
            Field::Features if event.features.is_empty() => Self::Absent,
            Field::Features => Self::List(&event.features),
        }
    }

    /// The content as a whole number, where nothing is lost by that.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            // The same digits must come back.
            Self::Text(text) => text.parse::<i64>().ok().filter(|number| number.to_string() == *text),
            Self::Time(time) => Some(*time),
            Self::Number(number) => (*number as i64 as f64 == *number).then_some(*number as i64),
            Self::Absent | Self::List(_) => None,
        }
    }
}
