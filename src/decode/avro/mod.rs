//! Avro: one datum per record in the binary encoding, walked by the schema that it was written with, straight into the
//! interaction; and the encoder beside it.
//!
//! | field | taken as |
//! | --- | --- |
//! | `user_id`, `item_id` | `string`, `int`, `long`, `enum` (its symbol), `bytes` in UTF-8, `uuid`, whole `decimal`, `float` and `double` |
//! | `timestamp` | the logical types `timestamp-millis`, `-micros`, `-nanos`; a number of `source.timestamp_unit`; `string` in RFC 3339; `date` and `local-timestamp-…` by `source.timezone` |
//! | `event_type`, `session_id` | as identifiers; `boolean` as a type |
//! | `value` | `double`, `float`, `long`, `int`, `decimal` |
//! | `features` | `array` of identifiers |
//! | each of them | also in a union; `null` counts as absent; also in records that a path leads into |
//! | any other | ignored |
//!
//! Bytes behind the datum make a record unparsable: they tell that it was written with another schema. What it
//! deliberately does not do: build a tree of the record, or believe a length before the bytes are there.

mod encode;
mod schema;

use std::borrow::Cow;

pub(super) use encode::{check, encode};
pub(super) use schema::AvroSchema;
use schema::{AvroType, LogicalType, RecordField, TypeId};

use super::Fault;
use super::cursor::{Cursor, MAX_DEPTH};
use super::fields::{Field, FieldRules, FieldValue, FieldValues, ListBuilder};
use super::names::NameTree;
use crate::event::{Interaction, Reason};

/// Most fields of a schema that are told where one is missing.
const MOST_TOLD: usize = 8;

/// The bytes of one record as an interaction; bounds are not checked here.
///
/// # Errors
/// The class of the fault, and a description that names the field and what was found.
pub(super) fn decode(payload: &[u8], schema: &AvroSchema, rules: &FieldRules) -> Result<Interaction, Fault> {
    let mut walk = DatumReader { cursor: Cursor::new(payload), schema };
    let mut root = schema.root;
    if let AvroType::Union(branches) = schema.get(root) {
        root = walk.branch(branches)?;
    }
    let mut found = FieldValues::default();
    match schema.get(root) {
        AvroType::Record(fields) => walk.record(fields, &rules.tree, &mut found, 1)?,
        _ => return Err((Reason::WrongType, "the record is of a type without fields".to_owned())),
    }
    match walk.cursor.remaining() {
        0 => found.interaction(rules).map_err(|(reason, detail)| match schema.get(root) {
            AvroType::Record(fields) if reason == Reason::MissingField => {
                let there = there(fields, rules, &detail);
                (reason, detail + &there)
            }
            _ => (reason, detail),
        }),
        left => Err(walk.cursor.fault(&format!("{left} bytes too many for the schema"))),
    }
}

/// For a record that lacks a field, as `detail` says, since its schema does: the fields that it has.
fn there(fields: &[RecordField], rules: &FieldRules, detail: &str) -> String {
    let required = [Field::User, Field::Item, Field::Timestamp];
    let is_lost = |field: &Field| {
        let name = field.name(&rules.names);
        detail.strip_suffix(": missing") == Some(name) && !fields.iter().any(|there| there.name == name)
    };
    let Some(lost) = required.into_iter().find(is_lost) else { return String::new() };
    let names: Vec<String> = fields.iter().take(MOST_TOLD).map(|field| format!("{:?}", field.name)).collect();
    let more = if fields.len() > MOST_TOLD { ", …" } else { "" };
    format!("; there are {}{more} ({})", names.join(", "), lost.key())
}

struct DatumReader<'a> {
    cursor: Cursor<'a>,
    schema: &'a AvroSchema,
}

impl<'a> DatumReader<'a> {
    /// The fields of a record, `depth` records deep, that are the interaction's or that paths lead into.
    fn record(
        &mut self,
        fields: &[RecordField],
        names: &NameTree,
        found: &mut FieldValues<'a>,
        depth: usize,
    ) -> Result<(), Fault> {
        for field in fields {
            let entry = if depth == 1 && !field.is_named { None } else { names.get(&field.name) };
            let Some(entry) = entry else {
                self.skip(field.of, depth)?;
                continue;
            };
            let before = self.cursor.clone();
            if let Some(wanted) = entry.field {
                let value = self.value(field.of, wanted, depth)?;
                if let Some(slot) = found.slot_at(wanted, depth as u8) {
                    *slot = value;
                }
            }
            if let Some(inner) = &entry.inner {
                // Where it is a field and a record with fields, it is walked twice.
                self.cursor = before;
                self.within(field.of, inner, found, depth)?;
            }
        }
        Ok(())
    }

    /// The value of a field that paths lead into.
    fn within(&mut self, of: TypeId, names: &NameTree, found: &mut FieldValues<'a>, depth: usize) -> Result<(), Fault> {
        self.check(depth)?;
        let schema = self.schema;
        match schema.get(of) {
            AvroType::Record(fields) => self.record(fields, names, found, depth + 1),
            AvroType::Union(branches) => {
                let branch = self.branch(branches)?;
                self.within(branch, names, found, depth + 1)
            }
            _ => self.skip(of, depth),
        }
    }

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
            AvroType::Bytes(meaning) => {
                let length = self.length()?;
                bytes_of(self.cursor.take(length)?, *meaning)
            }
            AvroType::Fixed(size, meaning) => bytes_of(self.cursor.take(*size)?, *meaning),
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
            AvroType::Bytes(_) | AvroType::Text => {
                let length = self.length()?;
                self.cursor.take(length)?;
            }
            AvroType::Fixed(size, _) => drop(self.cursor.take(*size)?),
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

/// A number, as what its logical type says.
fn number_of<'a>(number: i64, meaning: LogicalType, field: Field) -> FieldValue<'a> {
    match meaning {
        LogicalType::Milliseconds if field == Field::Timestamp => FieldValue::Time(number),
        LogicalType::Microseconds if field == Field::Timestamp => FieldValue::Time(number.div_euclid(1_000)),
        LogicalType::Nanoseconds if field == Field::Timestamp => FieldValue::Time(number.div_euclid(1_000_000)),
        LogicalType::Local(nanoseconds) => {
            let milliseconds = (i128::from(number) * i128::from(nanoseconds)).div_euclid(1_000_000);
            FieldValue::LocalTime(i64::try_from(milliseconds).unwrap_or(i64::MAX))
        }
        LogicalType::Other(described) => FieldValue::Unsupported(described),
        _ => FieldValue::integer(number),
    }
}

/// Bytes, as what their logical type says.
fn bytes_of(bytes: &[u8], meaning: LogicalType) -> FieldValue<'_> {
    match meaning {
        LogicalType::Decimal(scale) => match unscaled(bytes) {
            Some(number) => FieldValue::decimal(&number.to_string(), scale),
            None => FieldValue::Unsupported("a decimal of more than 128 bits"),
        },
        LogicalType::Uuid => {
            bytes.try_into().map_or(FieldValue::Unsupported("a uuid that has not 16 bytes"), FieldValue::uuid)
        }
        _ => FieldValue::bytes(bytes),
    }
}

/// A whole number in two's complement, the highest byte first.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 16];
    let spare = wide.len().checked_sub(bytes.len())?;
    wide[spare..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests;
