//! Avro: one datum per record in the binary encoding, walked by the schema that it was written with, straight into the
//! interaction; and the encoder beside it.
//!
//! | field | taken as |
//! | --- | --- |
//! | `user_id`, `item_id` | `string`, `int`, `long`, `enum` (its symbol) |
//! | `timestamp` | `long` or `int` milliseconds, the logical types `timestamp-millis`, `-micros`, `-nanos`, RFC 3339 `string` |
//! | `event_type`, `session_id` | as identifiers |
//! | `value` | `double`, `float`, `long`, `int` |
//! | `features` | `array` of identifiers |
//! | each of them | also in a union; `null` counts as absent |
//! | any other | ignored |
//!
//! Bytes behind the datum make a record unparsable: they tell that it was written with another schema. What it
//! deliberately does not do: build a tree of the record, or believe a length before the bytes are there.

mod encode;
mod schema;

use std::borrow::Cow;

pub(super) use encode::{check, encode};
pub(super) use schema::AvroSchema;
use schema::{AvroType, LogicalType, TypeId};

use super::Fault;
use super::cursor::{Cursor, MAX_DEPTH};
use super::fields::{Field, FieldValue, FieldValues, ListBuilder};
use crate::decode::FieldNames;
use crate::event::{Interaction, Reason};

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub(super) fn decode(payload: &[u8], schema: &AvroSchema, names: &FieldNames) -> Result<Interaction, Fault> {
    let mut walk = DatumReader { cursor: Cursor::new(payload), schema };
    let mut root = schema.root;
    if let AvroType::Union(branches) = schema.get(root) {
        root = walk.branch(branches)?;
    }
    let mut found = FieldValues::default();
    match schema.get(root) {
        AvroType::Record(fields) => {
            for field in fields {
                match field.field {
                    Some(wanted) => *found.slot(wanted) = walk.value(field.of, wanted, 1)?,
                    None => walk.skip(field.of, 1)?,
                }
            }
        }
        _ => return Err((Reason::WrongType, "the record is of a type without fields".to_owned())),
    }
    match walk.cursor.remaining() {
        0 => found.interaction(names),
        left => Err(walk.cursor.fault(&format!("{left} bytes too many for the schema"))),
    }
}

struct DatumReader<'a> {
    cursor: Cursor<'a>,
    schema: &'a AvroSchema,
}

impl<'a> DatumReader<'a> {
    /// The value of a field of the interaction.
    fn value(&mut self, of: TypeId, field: Field, depth: usize) -> Result<FieldValue<'a>, Fault> {
        self.check(depth)?;
        Ok(match self.schema.get(of) {
            AvroType::Null => FieldValue::Null,
            AvroType::Boolean => FieldValue::Boolean(self.boolean()?),
            AvroType::Int(meaning) => {
                let number = self.cursor.zigzag()?;
                if i32::try_from(number).is_err() {
                    return Err(self.cursor.fault("an int of more than 32 bits"));
                }
                number_of(number, *meaning, field)
            }
            AvroType::Long(meaning) => number_of(self.cursor.zigzag()?, *meaning, field),
            AvroType::Float => FieldValue::Float(f32::from_le_bytes(self.cursor.array()?).into()),
            AvroType::Double => FieldValue::Float(f64::from_le_bytes(self.cursor.array()?)),
            AvroType::Text => {
                let length = self.length()?;
                FieldValue::Text(Cow::Borrowed(self.cursor.text(length)?))
            }
            AvroType::Enum(symbols) => {
                let index = self.cursor.zigzag()?;
                match usize::try_from(index).ok().and_then(|index| symbols.get(index)) {
                    Some(symbol) => FieldValue::Text(Cow::Borrowed(symbol)),
                    None => return Err(self.cursor.fault(&format!("an enum has no symbol {index}"))),
                }
            }
            AvroType::Union(branches) => {
                let branch = self.branch(branches)?;
                self.value(branch, field, depth + 1)?
            }
            AvroType::Array(items) => self.list(*items, field, depth)?,
            AvroType::Bytes | AvroType::Fixed(_) => {
                self.skip(of, depth)?;
                FieldValue::Unsupported("bytes")
            }
            AvroType::Map(_) | AvroType::Record(_) => {
                self.skip(of, depth)?;
                FieldValue::Object
            }
        })
    }

    fn list(&mut self, items: TypeId, field: Field, depth: usize) -> Result<FieldValue<'a>, Fault> {
        let mut list = ListBuilder::default();
        while let Some((count, _)) = self.block()? {
            if self.schema.takes_no_bytes(items) {
                list.push(&self.value(items, field, depth + 1)?);
                continue;
            }
            for _ in 0..count {
                match list.is_invalid() {
                    false => list.push(&self.value(items, field, depth + 1)?),
                    true => self.skip(items, depth + 1)?,
                }
            }
        }
        Ok(list.into_value())
    }

    /// Passes over a value.
    fn skip(&mut self, of: TypeId, depth: usize) -> Result<(), Fault> {
        self.check(depth)?;
        if self.schema.takes_no_bytes(of) {
            return Ok(());
        }
        match self.schema.get(of) {
            AvroType::Null => {}
            AvroType::Boolean => drop(self.boolean()?),
            AvroType::Int(_) | AvroType::Long(_) | AvroType::Enum(_) => drop(self.cursor.varint()?),
            AvroType::Float => drop(self.cursor.take(4)?),
            AvroType::Double => drop(self.cursor.take(8)?),
            AvroType::Bytes | AvroType::Text => {
                let length = self.length()?;
                self.cursor.take(length)?;
            }
            AvroType::Fixed(size) => drop(self.cursor.take(*size)?),
            AvroType::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip(branch, depth + 1)?;
            }
            AvroType::Record(fields) => {
                for field in fields {
                    self.skip(field.of, depth + 1)?;
                }
            }
            AvroType::Array(items) => {
                while let Some((count, size)) = self.block()? {
                    match size {
                        Some(size) => drop(self.cursor.take(size)?),
                        None if self.schema.takes_no_bytes(*items) => {}
                        None => {
                            for _ in 0..count {
                                self.skip(*items, depth + 1)?;
                            }
                        }
                    }
                }
            }
            AvroType::Map(values) => {
                while let Some((count, size)) = self.block()? {
                    match size {
                        Some(size) => drop(self.cursor.take(size)?),
                        None => {
                            for _ in 0..count {
                                let length = self.length()?;
                                self.cursor.take(length)?;
                                self.skip(*values, depth + 1)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// How many items the next block of a list holds, and in how many bytes where it says so; `None` at the end.
    fn block(&mut self) -> Result<Option<(u64, Option<u64>)>, Fault> {
        match self.cursor.zigzag()? {
            0 => Ok(None),
            count if count > 0 => Ok(Some((count.unsigned_abs(), None))),
            count => Ok(Some((count.unsigned_abs(), Some(self.length()?)))),
        }
    }

    fn branch(&mut self, branches: &[TypeId]) -> Result<TypeId, Fault> {
        let index = self.cursor.zigzag()?;
        match usize::try_from(index).ok().and_then(|index| branches.get(index)) {
            Some(branch) => Ok(*branch),
            None => Err(self.cursor.fault(&format!("a union has no branch {index}"))),
        }
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        match self.cursor.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.cursor.fault(&format!("{other} is no boolean"))),
        }
    }

    fn length(&mut self) -> Result<u64, Fault> {
        let length = self.cursor.zigzag()?;
        u64::try_from(length).map_err(|_| self.cursor.fault(&format!("{length} is no length")))
    }

    fn check(&self, depth: usize) -> Result<(), Fault> {
        match depth <= MAX_DEPTH {
            true => Ok(()),
            false => Err(self.cursor.fault(&format!("values are nested deeper than {MAX_DEPTH}"))),
        }
    }
}

/// A number, as what its logical type says; a time in milliseconds.
fn number_of<'a>(number: i64, meaning: LogicalType, field: Field) -> FieldValue<'a> {
    let number = match meaning {
        LogicalType::Microseconds if field == Field::Timestamp => number.div_euclid(1_000),
        LogicalType::Nanoseconds if field == Field::Timestamp => number.div_euclid(1_000_000),
        LogicalType::Other(described) => return FieldValue::Unsupported(described),
        _ => number,
    };
    FieldValue::integer(number)
}

#[cfg(test)]
mod tests;
