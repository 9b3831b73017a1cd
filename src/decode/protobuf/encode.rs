//! Interactions as Protobuf, by any message that has room for them.

use super::schema::{FieldContent, Kind, MessageField, MessageSchema, ProtobufSchema};
use super::{EIGHT_BYTES, FOUR_BYTES, LENGTH, VARINT};
use crate::decode::cursor::{put_varint, zigzag};
use crate::decode::fields::{EventField, Field};
use crate::decode::{Fault, rfc3339};
use crate::event::{Interaction, Reason};

/// Whether interactions can be written as `message`.
pub(in crate::decode) fn check(message: &MessageSchema) -> Result<(), String> {
    for wanted in [Field::User, Field::Item, Field::Timestamp] {
        if !has_room(&message.fields, wanted) {
            return Err(format!("message {:?} has no field for {}", message.name, wanted.key()));
        }
    }
    match &message.required {
        Some(name) => {
            Err(format!("nothing can be written into the field {name:?} of {:?}, which is required", message.name))
        }
        None => Ok(()),
    }
}

fn has_room(fields: &[MessageField], wanted: Field) -> bool {
    fields.iter().any(|field| match &field.content {
        FieldContent::Field(field) => *field == wanted,
        FieldContent::Within(inner) => has_room(inner, wanted),
    })
}

/// Writes an interaction as [`super::decode`] reads it.
pub(in crate::decode) fn encode(
    event: &Interaction,
    schema: &ProtobufSchema,
    message: &MessageSchema,
) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(96);
    put_fields(event, &message.fields, schema, &mut bytes)?;
    Ok(bytes)
}

fn put_fields(
    event: &Interaction,
    fields: &[MessageField],
    schema: &ProtobufSchema,
    bytes: &mut Vec<u8>,
) -> Result<(), Fault> {
    for wanted in fields {
        let field = match &wanted.content {
            FieldContent::Field(field) => *field,
            FieldContent::Within(inner) => {
                let mut message = Vec::new();
                put_fields(event, inner, schema, &mut message)?;
                put_bytes(wanted.number, &message, bytes);
                continue;
            }
        };
        let given = EventField::of(event, field);
        let fits = match &given {
            EventField::Absent => true,
            EventField::List(texts) if wanted.repeated => {
                texts.iter().all(|text| put(&EventField::Text(text), wanted.number, wanted.kind, schema, bytes))
            }
            _ => !wanted.repeated && put(&given, wanted.number, wanted.kind, schema, bytes),
        };
        if !fits {
            let (key, number) = (field.key(), wanted.number);
            return Err((Reason::WrongType, format!("field {number} ({key}): the schema has no room for {given:?}")));
        }
    }
    Ok(())
}

/// Appends tag and value, or nothing and `false` where the kind has no room for it.
fn put(given: &EventField<'_>, number: u64, kind: Kind, schema: &ProtobufSchema, bytes: &mut Vec<u8>) -> bool {
    match (kind, given) {
        (Kind::Text, EventField::Text(text)) => put_bytes(number, text.as_bytes(), bytes),
        (Kind::Text, EventField::Time(time)) => match rfc3339(*time) {
            Some(text) => put_bytes(number, text.as_bytes(), bytes),
            None => return false,
        },
        (Kind::Enum(id), EventField::Text(text)) => match schema.enums[id].iter().find(|(_, name)| name == text) {
            Some((value, _)) => put_number(number, *value as u64, bytes),
            None => return false,
        },
        (Kind::Timestamp, EventField::Time(time)) => {
            let mut inner = Vec::new();
            put_number(1, time.div_euclid(1_000) as u64, &mut inner);
            put_number(2, (time.rem_euclid(1_000) * 1_000_000) as u64, &mut inner);
            put_bytes(number, &inner, bytes);
        }
        (Kind::Wrapped(scalar), _) => {
            let mut inner = Vec::new();
            if !put(given, 1, scalar.kind(), schema, &mut inner) {
                return false;
            }
            put_bytes(number, &inner, bytes);
        }
        (Kind::Double, EventField::Number(value)) => {
            put_varint(number << 3 | EIGHT_BYTES, bytes);
            bytes.extend(value.to_le_bytes());
        }
        (Kind::Float, EventField::Number(value)) => {
            put_varint(number << 3 | FOUR_BYTES, bytes);
            bytes.extend((*value as f32).to_le_bytes());
        }
        _ => match given.integer() {
            Some(value) => return put_integer(value, number, kind, bytes),
            None => return false,
        },
    }
    true
}

fn put_integer(value: i64, number: u64, kind: Kind, bytes: &mut Vec<u8>) -> bool {
    match kind {
        Kind::Int32 if i32::try_from(value).is_ok() => put_number(number, value as u64, bytes),
        Kind::Int64 => put_number(number, value as u64, bytes),
        Kind::Unsigned if value >= 0 => put_number(number, value as u64, bytes),
        Kind::Signed => put_number(number, zigzag(value), bytes),
        Kind::Fixed64 if value >= 0 => {
            put_varint(number << 3 | EIGHT_BYTES, bytes);
            bytes.extend(value.to_le_bytes());
        }
        Kind::SignedFixed64 => {
            put_varint(number << 3 | EIGHT_BYTES, bytes);
            bytes.extend(value.to_le_bytes());
        }
        Kind::Fixed32 if u32::try_from(value).is_ok() => {
            put_varint(number << 3 | FOUR_BYTES, bytes);
            bytes.extend((value as u32).to_le_bytes());
        }
        Kind::SignedFixed32 if i32::try_from(value).is_ok() => {
            put_varint(number << 3 | FOUR_BYTES, bytes);
            bytes.extend((value as i32).to_le_bytes());
        }
        _ => return false,
    }
    true
}

fn put_number(number: u64, value: u64, bytes: &mut Vec<u8>) {
    put_varint(number << 3 | VARINT, bytes);
    put_varint(value, bytes);
}

fn put_bytes(number: u64, value: &[u8], bytes: &mut Vec<u8>) {
    put_varint(number << 3 | LENGTH, bytes);
    put_varint(value.len() as u64, bytes);
    bytes.extend(value);
}
