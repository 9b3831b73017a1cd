//! What the fields of a record hold, whatever its encoding, and what an interaction makes of it.
//!
//! Every format fills the same [`FieldValues`], so that each takes the same and says the same of what it does not take.

use std::borrow::Cow;
use std::fmt;

use compact_str::{CompactString, ToCompactString};

use super::names::NameTree;
use super::time::TimeRules;
use super::{Fault, limits};
use crate::decode::{FieldNames, SourceConfig};
use crate::event::{Interaction, Reason};
use crate::util::encoding::hexadecimal;

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
    pub(super) const ALL: [Self; 7] =
        [Self::User, Self::Item, Self::Timestamp, Self::Kind, Self::Session, Self::Value, Self::Features];
    pub(super) const COUNT: usize = Self::ALL.len();

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

    /// Whether the configuration leaves the field its own name.
    pub(super) fn has_default_name(self, names: &FieldNames) -> bool {
        self.key().strip_prefix("source.fields.") == Some(self.name(names))
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

/// What is known of a record's fields before the record is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldRules {
    /// What they are called.
    pub names: FieldNames,
    /// Where they are found.
    pub(super) tree: NameTree,
    /// How their times are read.
    pub(super) times: TimeRules,
    /// The type of every event, where that is not for its record to say.
    event_type: Option<CompactString>,
}

impl FieldRules {
    /// The rules that `source` describes.
    pub fn new(source: &SourceConfig) -> Self {
        let tree = NameTree::new(&source.fields);
        let event_type = Some(source.event_type.as_str()).filter(|kind| !kind.is_empty()).map(CompactString::from);
        Self { names: source.fields.clone(), tree, times: TimeRules::new(source, limits(source)), event_type }
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
    /// A number with a decimal point, by its digits; without a fraction, only where 64 bits do not hold it.
    Decimal(String),
    Text(Cow<'a, str>),
    /// A declared time, in milliseconds since 1970.
    Time(i64),
    /// A date, or a time that is declared to have no zone, as if it were one of UTC.
    LocalTime(i64),
    /// A list of texts and integers.
    Texts(Vec<CompactString>),
    /// A list with something else in it, described.
    InvalidList(String),
    Object,
    /// A value that no field of an interaction is made of, described.
    Unsupported(&'static str),
}

/// Beyond it floats leave whole numbers out.
const LAST_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

impl<'a> FieldValue<'a> {
    pub(super) fn integer(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Negative(number), Self::Natural)
    }

    /// Bytes that nobody declared to be text, but that are.
    pub(super) fn bytes(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes)
            .map_or(Self::Unsupported("bytes that are not UTF-8"), |text| Self::Text(Cow::Borrowed(text)))
    }

    /// A UUID, as it is written.
    pub(super) fn uuid(bytes: [u8; 16]) -> Self {
        let mut text = hexadecimal(&bytes);
        for dash in [8, 13, 18, 23] {
            text.insert(dash, '-');
        }
        Self::Text(Cow::Owned(text))
    }

    /// The number whose digits, without a decimal point, are `unscaled`, and that has `scale` of them behind the point.
    pub(super) fn decimal(unscaled: &str, scale: i32) -> Self {
        let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
        let behind = scale.max(0) as usize;
        let zeros = if scale < 0 { "0".repeat(scale.unsigned_abs() as usize) } else { String::new() };
        let digits = format!("{}{digits}{zeros}", "0".repeat((behind + 1).saturating_sub(digits.len())));
        let (whole, fraction) = digits.split_at(digits.len() - behind);
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let whole = if whole.is_empty() { "0" } else { whole };
        if !fraction.is_empty() {
            return Self::Decimal(format!("{sign}{whole}.{fraction}"));
        }
        let whole = if whole == "0" { whole.to_owned() } else { format!("{sign}{whole}") };
        match (whole.parse::<u64>(), whole.parse::<i64>()) {
            (Ok(number), _) => Self::Natural(number),
            (_, Ok(number)) => Self::Negative(number),
            _ => Self::Decimal(whole),
        }
    }

    /// The text of an identifier: a string, or the digits of a number without a fraction.
    pub(super) fn text(&self) -> Option<CompactString> {
        match self {
            Self::Text(text) => Some(CompactString::from(text.as_ref())),
            Self::Natural(number) => Some(number.to_compact_string()),
            Self::Negative(number) => Some(number.to_compact_string()),
            // A column of integers in which some are missing is one of floats to many programs.
            Self::Float(number) if number.fract() == 0.0 && number.abs() < LAST_WHOLE_FLOAT => {
                Some((*number as i64).to_compact_string())
            }
            Self::Decimal(digits) if !digits.contains('.') => Some(CompactString::from(digits)),
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
            Self::Decimal(digits) => formatter.write_str(digits),
            Self::Time(_) => formatter.write_str("a time"),
            Self::LocalTime(_) => formatter.write_str("a date or a local time"),
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
    /// Adds an element; one that is null says nothing.
    pub(super) fn push(&mut self, element: &FieldValue<'_>) {
        match element.text() {
            _ if self.invalid.is_some() || matches!(element, FieldValue::Null) => {}
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
pub(super) struct FieldValues<'a> {
    values: [FieldValue<'a>; Field::COUNT],
    /// How deep in the record each was found.
    depths: [u8; Field::COUNT],
}

impl<'a> FieldValues<'a> {
    /// The place for the value of a field.
    pub(super) fn slot(&mut self, field: Field) -> &mut FieldValue<'a> {
        &mut self.values[field as usize]
    }

    /// Whether a value of a field was found `depth` records deep already.
    pub(super) fn has_at(&self, field: Field, depth: u8) -> bool {
        self.depths[field as usize] == depth && !matches!(self.get(field), FieldValue::Absent)
    }

    /// The place for the value of a field that was found `depth` records deep; `None` where a less deep one was found.
    pub(super) fn slot_at(&mut self, field: Field, depth: u8) -> Option<&mut FieldValue<'a>> {
        let (value, found) = (&mut self.values[field as usize], &mut self.depths[field as usize]);
        if !matches!(value, FieldValue::Absent) {
            if *found < depth {
                return None;
            }
            if *found > depth {
                *value = FieldValue::Absent;
            }
        }
        *found = depth;
        Some(value)
    }

    /// The interaction that the values make together; bounds are not checked here.
    pub(super) fn interaction(mut self, rules: &FieldRules) -> Result<Interaction, Fault> {
        let FieldRules { names, times, event_type, tree: _ } = rules;
        Ok(Interaction {
            user: self.identifier(Field::User, &names.user_id)?,
            item: self.identifier(Field::Item, &names.item_id)?,
            timestamp: times.milliseconds(&names.timestamp, self.get(Field::Timestamp))?,
            kind: event_type.clone().map_or_else(|| self.kind(&names.event_type), Ok)?,
            session: self.optional_text(Field::Session, &names.session_id)?,
            value: self.value(&names.value)?,
            features: self.features(&names.features)?,
        })
    }

    fn get(&self, field: Field) -> &FieldValue<'a> {
        &self.values[field as usize]
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

    /// A truth value is a type of events as well: bought, or not.
    fn kind(&self, name: &str) -> Result<CompactString, Fault> {
        match self.get(Field::Kind) {
            FieldValue::Boolean(value) => Ok(value.to_compact_string()),
            _ => Ok(self.optional_text(Field::Kind, name)?.unwrap_or_default()),
        }
    }

    fn value(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.get(Field::Value) {
            FieldValue::Absent | FieldValue::Null => Ok(None),
            FieldValue::Natural(number) => Ok(Some(*number as f64)),
            FieldValue::Negative(number) => Ok(Some(*number as f64)),
            FieldValue::Float(number) => Ok(Some(*number)),
            FieldValue::Decimal(digits) => Ok(digits.parse().ok()),
            other => Err(wrong_type(name, "a number", other)),
        }
    }

    fn features(&mut self, name: &str) -> Result<Vec<CompactString>, Fault> {
        match std::mem::take(self.slot(Field::Features)) {
            FieldValue::Absent | FieldValue::Null => Ok(Vec::new()),
            FieldValue::Texts(texts) => Ok(texts),
            other => Err(wrong_type(name, "a list of strings or integers", &other)),
        }
    }
}

pub(super) fn missing(name: &str, found: &FieldValue<'_>) -> Fault {
    let state = if matches!(found, FieldValue::Null) { "null" } else { "missing" };
    (Reason::MissingField, format!("{name}: {state}"))
}

pub(super) fn wrong_type(name: &str, expected: &str, found: &FieldValue<'_>) -> Fault {
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
