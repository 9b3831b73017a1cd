//! Protobuf: one message per record, its wire format read in one pass straight into the interaction; and the encoder
//! beside it.
//!
//! | field | taken as |
//! | --- | --- |
//! | `user_id`, `item_id` | `string`, any integer type, an enum (its value's name), `bytes` in UTF-8, `double` and `float` without a fraction |
//! | `timestamp` | `google.protobuf.Timestamp`, any number type (of `source.timestamp_unit`), RFC 3339 `string` |
//! | `event_type`, `session_id` | as identifiers; `bool` as a type |
//! | `value` | `double`, `float`, any integer type |
//! | `features` | `repeated`, as identifiers, packed or not |
//! | each of them | also in the wrappers of `google.protobuf` (`StringValue`, …), and in messages that a path leads into |
//! | any other | ignored |
//!
//! What is not sent is absent; but a field without presence (`proto3` without `optional`) then holds its default, as
//! always in Protobuf. Only a session is never the empty text for that reason. As always in Protobuf too, of a field that
//! comes twice the last one counts.

mod encode;
mod file;
mod schema;

use std::borrow::Cow;

pub(super) use encode::{check, encode};
pub(super) use schema::ProtobufSchema;
use schema::{FieldContent, Kind, MessageField, MessageSchema};

use super::Fault;
use super::cursor::{Cursor, MAX_DEPTH, unzigzag};
use super::fields::{Field, FieldRules, FieldValue, FieldValues, ListBuilder};
use crate::event::{Interaction, Reason};

/// Wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;
const FOUR_BYTES: u64 = 5;

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub(super) fn decode(
    payload: &[u8],
    schema: &ProtobufSchema,
    message: &MessageSchema,
    rules: &FieldRules,
) -> Result<Interaction, Fault> {
    let mut reading = MessageReader { schema, found: FieldValues::default(), lists: Default::default() };
    reading.message(Cursor::new(payload), &message.fields, 1)?;
    let MessageReader { mut found, lists, .. } = reading;
    for (field, list) in Field::ALL.into_iter().zip(lists) {
        if let Some((depth, list)) = list
            && let Some(slot) = found.slot_at(field, depth)
        {
            *slot = list.into_value();
        }
    }
    found.interaction(rules)
}

/// A record that is being read.
struct MessageReader<'a> {
    schema: &'a ProtobufSchema,
    found: FieldValues<'a>,
    /// The lists so far, and how deep each was found.
    lists: [Option<(u8, ListBuilder)>; Field::COUNT],
}

impl<'a> MessageReader<'a> {
    /// Reads a message, `depth` messages deep, of which these are the fields that mean something.
    fn message(&mut self, mut cursor: Cursor<'a>, fields: &[MessageField], depth: u8) -> Result<(), Fault> {
        while cursor.remaining() > 0 {
            let tag = cursor.varint()?;
            let (number, wire) = (tag >> 3, tag & 7);
            let before = cursor.clone();
            let mut is_known = false;
            for wanted in fields.iter().filter(|wanted| wanted.number == number) {
                cursor = before.clone();
                is_known = true;
                match &wanted.content {
                    FieldContent::Field(field) => self.field(&mut cursor, wanted, *field, wire, depth)?,
                    FieldContent::Within(inner) if wire == LENGTH => {
                        let length = cursor.varint()?;
                        self.message(Cursor::new(cursor.take(length)?), inner, depth + 1)?;
                    }
                    FieldContent::Within(_) => return Err(another_type(&cursor, number, wire)),
                }
            }
            if !is_known {
                skip(&mut cursor, number, wire, 0)?;
            }
        }
        for wanted in fields.iter().filter(|wanted| wanted.implicit && !wanted.repeated) {
            let Some(field) = wanted.field() else { continue };
            if matches!(self.found.slot(field), FieldValue::Absent)
                && let Some(slot) = self.found.slot_at(field, depth)
            {
                *slot = default_of(wanted, field, self.schema);
            }
        }
        Ok(())
    }

    /// Reads a field of the interaction.
    fn field(
        &mut self,
        cursor: &mut Cursor<'a>,
        wanted: &MessageField,
        field: Field,
        wire: u64,
        depth: u8,
    ) -> Result<(), Fault> {
        let (schema, number) = (self.schema, wanted.number);
        if !wanted.repeated {
            let value = value(cursor, wanted.kind, wire, number, schema)?;
            if let Some(slot) = self.found.slot_at(field, depth) {
                *slot = value;
            }
            return Ok(());
        }
        let list = &mut self.lists[field as usize];
        if list.as_ref().is_none_or(|(found, _)| depth < *found) {
            *list = Some((depth, ListBuilder::default()));
        }
        let mut unused = ListBuilder::default();
        let list = match list {
            Some((found, list)) if *found == depth => list,
            _ => &mut unused,
        };
        let packable = !matches!(wire_of(wanted.kind), Some(LENGTH) | None);
        if wire == LENGTH && packable {
            let length = cursor.varint()?;
            let mut packed = Cursor::new(cursor.take(length)?);
            let each = wire_of(wanted.kind).unwrap_or(VARINT);
            while packed.remaining() > 0 {
                list.push(&value(&mut packed, wanted.kind, each, number, schema)?);
            }
        } else {
            list.push(&value(cursor, wanted.kind, wire, number, schema)?);
        }
        Ok(())
    }
}

fn another_type(cursor: &Cursor<'_>, number: u64, wire: u64) -> Fault {
    cursor.fault(&format!("field {number} is of another type than in the schema (wire type {wire})"))
}

/// What a field without presence holds where it is not sent.
fn default_of<'a>(wanted: &MessageField, field: Field, schema: &'a ProtobufSchema) -> FieldValue<'a> {
    match wanted.kind {
        _ if field == Field::Session => FieldValue::Absent,
        Kind::Text => FieldValue::Text(Cow::Borrowed("")),
        Kind::Enum(id) => symbol(schema, id, 0),
        Kind::Double | Kind::Float => FieldValue::Float(0.0),
        Kind::Boolean => FieldValue::Boolean(false),
        Kind::Bytes => FieldValue::bytes(&[]),
        _ => FieldValue::Natural(0),
    }
}

/// The wire type of values of a kind; `None` where it is not known.
fn wire_of(kind: Kind) -> Option<u64> {
    Some(match kind {
        Kind::Int32 | Kind::Int64 | Kind::Unsigned | Kind::Signed | Kind::Boolean | Kind::Enum(_) => VARINT,
        Kind::Double | Kind::Fixed64 | Kind::SignedFixed64 => EIGHT_BYTES,
        Kind::Float | Kind::Fixed32 | Kind::SignedFixed32 => FOUR_BYTES,
        Kind::Text | Kind::Bytes | Kind::Timestamp | Kind::Wrapped(_) => LENGTH,
        Kind::Message | Kind::Unknown => return None,
    })
}

/// The value of a field of the interaction.
fn value<'a>(
    cursor: &mut Cursor<'a>,
    kind: Kind,
    wire: u64,
    number: u64,
    schema: &'a ProtobufSchema,
) -> Result<FieldValue<'a>, Fault> {
    if wire_of(kind).is_some_and(|expected| expected != wire) {
        return Err(another_type(cursor, number, wire));
    }
    Ok(match kind {
        Kind::Double => FieldValue::Float(f64::from_le_bytes(cursor.array()?)),
        Kind::Float => FieldValue::Float(f32::from_le_bytes(cursor.array()?).into()),
        Kind::Int32 => FieldValue::integer((cursor.varint()? as i32).into()),
        Kind::Int64 => FieldValue::integer(cursor.varint()? as i64),
        Kind::Unsigned => FieldValue::Natural(cursor.varint()?),
        Kind::Signed => FieldValue::integer(unzigzag(cursor.varint()?)),
        Kind::Fixed32 => FieldValue::Natural(u32::from_le_bytes(cursor.array()?).into()),
        Kind::Fixed64 => FieldValue::Natural(u64::from_le_bytes(cursor.array()?)),
        Kind::SignedFixed32 => FieldValue::integer(i32::from_le_bytes(cursor.array()?).into()),
        Kind::SignedFixed64 => FieldValue::integer(i64::from_le_bytes(cursor.array()?)),
        Kind::Boolean => FieldValue::Boolean(cursor.varint()? != 0),
        Kind::Text => {
            let length = cursor.varint()?;
            FieldValue::Text(Cow::Borrowed(cursor.text(length)?))
        }
        Kind::Bytes => {
            let length = cursor.varint()?;
            FieldValue::bytes(cursor.take(length)?)
        }
        Kind::Enum(id) => symbol(schema, id, (cursor.varint()? as i32).into()),
        Kind::Timestamp => {
            let length = cursor.varint()?;
            timestamp(cursor.take(length)?)?
        }
        Kind::Wrapped(scalar) => {
            let length = cursor.varint()?;
            let mut inner = Cursor::new(cursor.take(length)?);
            let mut held = default_of_kind(scalar.kind());
            while inner.remaining() > 0 {
                let tag = inner.varint()?;
                match tag >> 3 {
                    1 => held = value(&mut inner, scalar.kind(), tag & 7, 1, schema)?,
                    other => skip(&mut inner, other, tag & 7, 0)?,
                }
            }
            held
        }
        Kind::Message => {
            skip(cursor, number, wire, 0)?;
            FieldValue::Object
        }
        Kind::Unknown => {
            skip(cursor, number, wire, 0)?;
            FieldValue::Unsupported("a value of a type that the schema does not describe")
        }
    })
}

fn default_of_kind<'a>(kind: Kind) -> FieldValue<'a> {
    match kind {
        Kind::Text => FieldValue::Text(Cow::Borrowed("")),
        Kind::Double | Kind::Float => FieldValue::Float(0.0),
        _ => FieldValue::Natural(0),
    }
}

/// The name of an enum's value.
fn symbol(schema: &ProtobufSchema, id: usize, number: i64) -> FieldValue<'_> {
    match schema.enums[id].get(&number) {
        Some(name) => FieldValue::Text(Cow::Borrowed(name)),
        None => FieldValue::Unsupported("a number that its enum does not name"),
    }
}

/// `google.protobuf.Timestamp`, in milliseconds.
fn timestamp<'a>(bytes: &[u8]) -> Result<FieldValue<'a>, Fault> {
    let mut cursor = Cursor::new(bytes);
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i64);
    while cursor.remaining() > 0 {
        let tag = cursor.varint()?;
        match (tag >> 3, tag & 7) {
            (1, VARINT) => seconds = cursor.varint()? as i64,
            (2, VARINT) => nanoseconds = (cursor.varint()? as i32).into(),
            (number, wire) => skip(&mut cursor, number, wire, 0)?,
        }
    }
    let milliseconds =
        seconds.checked_mul(1_000).and_then(|whole| whole.checked_add(nanoseconds.div_euclid(1_000_000)));
    milliseconds
        .map(FieldValue::Time)
        .ok_or_else(|| (Reason::TimestampOutOfRange, format!("timestamp: {seconds} s is outside the believable range")))
}

/// Passes over the value of a field.
fn skip(cursor: &mut Cursor<'_>, number: u64, wire: u64, depth: usize) -> Result<(), Fault> {
    match wire {
        _ if number == 0 => return Err(cursor.fault("a field of the number 0")),
        VARINT => drop(cursor.varint()?),
        EIGHT_BYTES => drop(cursor.take(8)?),
        FOUR_BYTES => drop(cursor.take(4)?),
        LENGTH => {
            let length = cursor.varint()?;
            cursor.take(length)?;
        }
        GROUP if depth < MAX_DEPTH => loop {
            let tag = cursor.varint()?;
            match (tag >> 3, tag & 7) {
                (end, GROUP_END) if end == number => return Ok(()),
                (inner, wire) => skip(cursor, inner, wire, depth + 1)?,
            }
        },
        GROUP => return Err(cursor.fault(&format!("groups are nested deeper than {MAX_DEPTH}"))),
        _ => return Err(cursor.fault(&format!("field {number} has wire type {wire}, which does not belong there"))),
    }
    Ok(())
}

#[cfg(all(test, feature = "protobuf"))]
mod tests;
