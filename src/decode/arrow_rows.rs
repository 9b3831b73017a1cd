//! ArrowRows of Arrow columns to interactions: what the columns must be, and what is wrong with a row that is not taken.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use compact_str::{CompactString, ToCompactString};
use serde_json::{Map, Value};

use crate::decode::FieldNames;
use crate::event::{EventLimits, Interaction, Reason, Rejection};

/// What is wrong with a column: its name, and the problem in words.
pub type ColumnProblem = (String, String);

/// Checks that a log with `schema` can be read.
///
/// # Errors
/// The first column that is missing or of the wrong type.
pub fn check_schema(schema: &Schema, fields: &FieldNames) -> Result<(), ColumnProblem> {
    let column = |name: &str| schema.field_with_name(name).ok().map(Field::data_type);
    let check = |name: &str, required: bool, wanted: &str, fits: &dyn Fn(&DataType) -> bool| match column(name) {
        None if required => {
            let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let problem = format!("is missing; there are {} (source.fields maps other names)", there.join(", "));
            Err((name.to_owned(), problem))
        }
        Some(found) if !fits(found) => Err((name.to_owned(), format!("must be {wanted}, but is {found}"))),
        _ => Ok(()),
    };
    let id = |found: &DataType| *found == DataType::Utf8 || found.is_integer();
    check(&fields.user_id, true, "text or whole numbers", &id)?;
    check(&fields.item_id, true, "text or whole numbers", &id)?;
    let time = |found: &DataType| matches!(found, DataType::Timestamp(..));
    check(&fields.timestamp, true, "a timestamp", &time)?;
    let text = |found: &DataType| *found == DataType::Utf8;
    check(&fields.event_type, false, "text", &text)?;
    check(&fields.session_id, false, "text or whole numbers", &id)?;
    let number = |found: &DataType| found.is_floating() || found.is_integer();
    check(&fields.value, false, "a number", &number)?;
    let list = |found: &DataType| matches!(found, DataType::List(inner) if *inner.data_type() == DataType::Utf8);
    check(&fields.features, false, "a list of text", &list)
}

/// The rows of a record batch whose schema was checked.
#[derive(Debug)]
pub struct ArrowRows<'a> {
    batch: &'a RecordBatch,
    fields: &'a FieldNames,
    limits: EventLimits,
}

impl<'a> ArrowRows<'a> {
    /// The rows of `batch`.
    pub fn new(batch: &'a RecordBatch, fields: &'a FieldNames, limits: EventLimits) -> Self {
        Self { batch, fields, limits }
    }

    /// The interaction in row `row`.
    ///
    /// # Errors
    /// The rejection, with the row as JSON.
    pub fn get(&self, row: usize) -> Result<Interaction, Rejection> {
        self.decode(row).map_err(|(reason, detail)| Rejection {
            reason,
            detail,
            key: None,
            payload: Value::Object(self.as_json(row)).to_string().into_bytes(),
        })
    }

    fn decode(&self, row: usize) -> Result<Interaction, (Reason, String)> {
        let missing = |name: &str| (Reason::MissingField, format!("{name}: missing"));
        let FieldNames { user_id, item_id, event_type, timestamp, session_id, value, features } = self.fields;
        let event = Interaction {
            user: self.text(user_id, row).ok_or_else(|| missing(user_id))?,
            item: self.text(item_id, row).ok_or_else(|| missing(item_id))?,
            kind: self.text(event_type, row).unwrap_or_default(),
            timestamp: self.time(timestamp, row).ok_or_else(|| missing(timestamp))?,
            session: self.text(session_id, row),
            value: self.number(value, row),
            features: self.list(features, row),
        };
        self.limits.check(&event)?;
        Ok(event)
    }

    fn column(&self, name: &str, row: usize) -> Option<&ArrayRef> {
        self.batch.column_by_name(name).filter(|column| column.is_valid(row))
    }

    fn text(&self, name: &str, row: usize) -> Option<CompactString> {
        identifier(self.batch.column_by_name(name)?, row)
    }

    fn time(&self, name: &str, row: usize) -> Option<i64> {
        let column = self.column(name, row)?;
        let DataType::Timestamp(unit, _) = column.data_type() else { return None };
        Some(match unit {
            TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1000),
            TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(row),
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1000),
            TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000),
        })
    }

    fn number(&self, name: &str, row: usize) -> Option<f64> {
        use arrow_array::types::{Float32Type, Float64Type};
        let column = self.column(name, row)?;
        match column.data_type() {
            DataType::Float64 => Some(column.as_primitive::<Float64Type>().value(row)),
            DataType::Float32 => Some(column.as_primitive::<Float32Type>().value(row).into()),
            _ => integer(column, row).map(|number| number as f64),
        }
    }

    fn list(&self, name: &str, row: usize) -> Vec<CompactString> {
        let Some(list) = self.column(name, row).and_then(|column| column.as_list_opt::<i32>()) else {
            return Vec::new();
        };
        let features = list.value(row);
        features.as_string::<i32>().iter().flatten().map(CompactString::from).collect()
    }

    fn as_json(&self, row: usize) -> Map<String, Value> {
        let FieldNames { user_id, item_id, event_type, timestamp, session_id, value, features } = self.fields;
        let mut object = Map::new();
        for name in [user_id, item_id, event_type, session_id] {
            if let Some(text) = self.text(name, row) {
                object.insert(name.clone(), Value::from(text.as_str()));
            }
        }
        if let Some(time) = self.time(timestamp, row) {
            object.insert(timestamp.clone(), Value::from(time));
        }
        if let Some(number) = self.number(value, row) {
            // JSON has no NaN; as text it is at least visible.
            let number = serde_json::Number::from_f64(number).map_or(Value::from(number.to_string()), Value::Number);
            object.insert(value.clone(), number);
        }
        let list = self.list(features, row);
        if !list.is_empty() {
            object.insert(features.clone(), list.iter().map(|feature| feature.as_str()).collect());
        }
        object
    }
}

/// Row `row` of a column of text or of whole numbers, as text; `None` where there is nothing.
pub fn identifier(column: &ArrayRef, row: usize) -> Option<CompactString> {
    if column.is_null(row) {
        return None;
    }
    match column.as_string_opt::<i32>() {
        Some(text) => Some(CompactString::from(text.value(row))),
        None => integer(column, row).map(|number| number.to_compact_string()),
    }
}

fn integer(column: &ArrayRef, row: usize) -> Option<i128> {
    Some(match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        _ => return None,
    })
}
