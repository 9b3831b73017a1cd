//! Interactions as Avro, by any schema that has room for them.

use super::schema::{AvroSchema, AvroType, LogicalType, RecordField, TypeId};
use crate::decode::cursor::{put_varint, zigzag};
use crate::decode::fields::{EventField, Field, FieldRules};
use crate::decode::names::NameTree;
use crate::decode::{Fault, rfc3339};
use crate::event::{Interaction, Reason};

/// Whether interactions can be written by `schema`: whatever else it describes must be able to stay away.
pub(in crate::decode) fn check(schema: &AvroSchema, rules: &FieldRules) -> Result<(), String> {
    let AvroType::Record(fields) = schema.get(schema.root) else {
        return Err("only a record can be written".to_owned());
    };
    let mut room = Vec::new();
    check_record(fields, schema, &rules.tree, &mut room)?;
    for wanted in [Field::User, Field::Item, Field::Timestamp] {
        if !room.contains(&wanted) {
            return Err(format!("it has no field for {}", wanted.key()));
        }
    }
    Ok(())
}

fn check_record(
    fields: &[RecordField],
    schema: &AvroSchema,
    names: &NameTree,
    room: &mut Vec<Field>,
) -> Result<(), String> {
    for field in fields {
        let entry = names.get(&field.name);
        match (entry.and_then(|entry| entry.field), entry.and_then(|entry| entry.inner.as_ref())) {
            (Some(wanted), _) => room.push(wanted),
            (None, Some(inner)) if let Some((_, fields)) = inner_record(schema, field.of) => {
                check_record(fields, schema, inner, room)?;
            }
            _ if absent(schema, field.of).is_none() => {
                let name = &field.name;
                return Err(format!("nothing can be written into its field {name:?}, which may not be null"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The fields of a record, or of the first one of a union, with its number in the union.
fn inner_record(schema: &AvroSchema, of: TypeId) -> Option<(Option<usize>, &[RecordField])> {
    match schema.get(of) {
        AvroType::Record(fields) => Some((None, fields)),
        AvroType::Union(branches) => {
            branches.iter().enumerate().find_map(|(index, branch)| match schema.get(*branch) {
                AvroType::Record(fields) => Some((Some(index), fields.as_slice())),
                _ => None,
            })
        }
        _ => None,
    }
}

/// Writes an interaction as [`super::decode`] reads it.
pub(in crate::decode) fn encode(
    event: &Interaction,
    schema: &AvroSchema,
    rules: &FieldRules,
) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(96);
    if let AvroType::Record(fields) = schema.get(schema.root) {
        put_record(event, fields, schema, &rules.tree, &mut bytes)?;
    }
    Ok(bytes)
}

fn put_record(
    event: &Interaction,
    fields: &[RecordField],
    schema: &AvroSchema,
    names: &NameTree,
    bytes: &mut Vec<u8>,
) -> Result<(), Fault> {
    for field in fields {
        let entry = names.get(&field.name);
        let wanted = entry.and_then(|entry| entry.field);
        let inner = entry.and_then(|entry| entry.inner.as_ref()).filter(|_| wanted.is_none());
        if let (Some(inner), Some((branch, fields))) = (inner, inner_record(schema, field.of)) {
            if let Some(branch) = branch {
                put_long(branch as i64, bytes);
            }
            put_record(event, fields, schema, inner, bytes)?;
            continue;
        }
        let given = wanted.map_or(EventField::Absent, |wanted| EventField::of(event, wanted));
        if !put(&given, schema, field.of, bytes) {
            return Err((Reason::WrongType, format!("{}: the schema has no room for {given:?}", field.name)));
        }
    }
    Ok(())
}

/// How nothing is written as a value of this type.
fn absent(schema: &AvroSchema, of: TypeId) -> Option<&'static [u8]> {
    match schema.get(of) {
        AvroType::Null => Some(&[]),
        // An empty list is a block of no elements.
        AvroType::Array(_) | AvroType::Map(_) => Some(&[0]),
        AvroType::Union(branches) => {
            // The number of the branch; no union of interest has more than these.
            let index = branches.iter().position(|branch| matches!(schema.get(*branch), AvroType::Null))?;
            [&[0_u8][..], &[2], &[4], &[6]].get(index).copied()
        }
        _ => None,
    }
}

/// Appends a value, or nothing and `false` where the type has no room for it.
fn put(given: &EventField<'_>, schema: &AvroSchema, of: TypeId, bytes: &mut Vec<u8>) -> bool {
    if matches!(given, EventField::Absent) {
        let nothing = absent(schema, of);
        bytes.extend(nothing.unwrap_or_default());
        // No text is as good as none: the type of an event may not be null.
        return nothing.is_some() || put(&EventField::Text(""), schema, of, bytes);
    }
    match (schema.get(of), given) {
        (AvroType::Text, EventField::Text(text)) => put_text(text, bytes),
        (AvroType::Text, EventField::Time(time)) => match rfc3339(*time) {
            Some(text) => put_text(&text, bytes),
            None => return false,
        },
        (AvroType::Enum(symbols), EventField::Text(text)) => match symbols.iter().position(|symbol| symbol == text) {
            Some(index) => put_long(index as i64, bytes),
            None => return false,
        },
        (AvroType::Int(_) | AvroType::Long(_), _) => match integer(given, schema.get(of)) {
            Some(number) => put_long(number, bytes),
            None => return false,
        },
        (AvroType::Double, EventField::Number(number)) => bytes.extend(number.to_le_bytes()),
        (AvroType::Float, EventField::Number(number)) => bytes.extend((*number as f32).to_le_bytes()),
        (AvroType::Array(items), EventField::List(texts)) => {
            if !texts.is_empty() {
                put_long(texts.len() as i64, bytes);
                if !texts.iter().all(|text| put(&EventField::Text(text), schema, *items, bytes)) {
                    return false;
                }
            }
            bytes.push(0);
        }
        (AvroType::Union(branches), _) => {
            let before = bytes.len();
            for (index, branch) in branches.iter().enumerate() {
                put_long(index as i64, bytes);
                if put(given, schema, *branch, bytes) {
                    return true;
                }
                bytes.truncate(before);
            }
            return false;
        }
        _ => return false,
    }
    true
}

fn integer(given: &EventField<'_>, of: &AvroType) -> Option<i64> {
    let (AvroType::Int(meaning) | AvroType::Long(meaning)) = of else { return None };
    let number = match (given, meaning) {
        (EventField::Time(time), LogicalType::Microseconds) => time.checked_mul(1_000),
        (EventField::Time(time), LogicalType::Nanoseconds) => time.checked_mul(1_000_000),
        (_, LogicalType::Other(_) | LogicalType::Local(_)) => None,
        _ => given.integer(),
    }?;
    (matches!(of, AvroType::Long(_)) || i32::try_from(number).is_ok()).then_some(number)
}

fn put_long(number: i64, bytes: &mut Vec<u8>) {
    put_varint(zigzag(number), bytes);
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    put_long(text.len() as i64, bytes);
    bytes.extend(text.as_bytes());
}
