//! Rows of Arrow columns to interactions: where each field is, what its column must be, and what is wrong with a row that
//! is not taken.
//!
//! A cell becomes the same `FieldValue` as a field of a record, so that a log takes and refuses what a topic does. What a
//! column holds is looked at once, before the first row ([`LogColumns::find`]); what is wrong with single cells makes
//! single rejections.
//!
//! | field | columns |
//! | --- | --- |
//! | `user_id`, `item_id`, `session_id` | text, whole numbers, decimals and floats without fractions, UUIDs, bytes in UTF-8 |
//! | `event_type` | these, and truth values |
//! | `timestamp` | timestamps of any unit; numbers of `source.timestamp_unit`; RFC 3339 text; dates, where `source.timezone` says of which zone |
//! | `value` | numbers, decimals |
//! | `features` | lists of what an identifier may be |
//! | each of them | also within structs, by a path; also from the names of folders (`event_type=click/`); also nothing but nulls |

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, TimeUnit};
use compact_str::CompactString;
use parquet::arrow::ProjectionMask;
use parquet::basic::LogicalType;
use parquet::schema::types::SchemaDescriptor;
use serde_json::{Map, Value};

use super::fields::{Field, FieldRules, FieldValue, FieldValues, ListBuilder};
use super::folder_values::folder_value;
use super::names::{beside_user, likely_fields};
use crate::event::{EventLimits, Interaction, Reason, Rejection};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// What is wrong with a column: its name, and the problem in words.
pub type ColumnProblem = (String, String);

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnSelection {
    /// Those that the model is made of, and those by which a row is refused.
    Model,
    /// And the features of items.
    ModelWithFeatures,
    /// All of the event, each of which must be readable.
    All,
}

/// A value that every row of a file has, by the name of a folder: its name, and the value where it is not null.
pub type PartitionValue = (String, Option<String>);

/// Where the fields of interactions are in a file.
#[derive(Debug, Clone)]
pub struct LogColumns {
    places: [ColumnPlace; Field::COUNT],
    /// The file's own columns that are read, in its order.
    roots: Vec<usize>,
}

/// Where a field is.
#[derive(Debug, Clone)]
enum ColumnPlace {
    Nowhere,
    /// The same in every row.
    Constant(Option<String>),
    Column {
        /// Place among the file's columns.
        root: usize,
        /// Names from the column on, through structs, to the value.
        path: Vec<String>,
        is_uuid: bool,
    },
}

impl LogColumns {
    /// Finds the fields in the columns of a file, and says what else a person should know of them.
    ///
    /// # Errors
    /// The first column that is missing, or is nothing that the field can be made of.
    pub fn find(
        schema: &Schema,
        parquet: &SchemaDescriptor,
        rules: &FieldRules,
        selection: ColumnSelection,
        partitions: &[PartitionValue],
    ) -> Result<(Self, Vec<ColumnProblem>), ColumnProblem> {
        let mut places: [ColumnPlace; Field::COUNT] = std::array::from_fn(|_| ColumnPlace::Nowhere);
        let mut told = Vec::new();
        for field in Field::ALL {
            if field == Field::Features && selection == ColumnSelection::Model {
                continue;
            }
            let name = field.name(&rules.names);
            let is_required = matches!(field, Field::User | Field::Item | Field::Timestamp);
            // These are not part of the model: what they hold can make a row a rejection, but not a log unreadable.
            let is_spare = matches!(field, Field::Session | Field::Value) && selection != ColumnSelection::All;
            let beside = || lookup(schema, &beside_user(field, &rules.names)?);
            let Some((root, path, of)) = lookup(schema, name).or_else(beside) else {
                if let Some((_, value)) = partitions.iter().find(|(partition, _)| partition == name) {
                    places[field as usize] = ColumnPlace::Constant(value.clone());
                } else if is_required {
                    return Err((name.to_owned(), missing(schema, name, field, rules)));
                } else if !field.has_default_name(&rules.names) {
                    told.push((name.to_owned(), format!("is missing, and so left out ({})", field.key())));
                }
                continue;
            };
            match unsuitable(field, of, rules) {
                Some(problem) if is_spare => told.push((name.to_owned(), format!("{problem}: it is not read"))),
                Some(problem) => {
                    let remedy = remedy(field, of, name);
                    return Err((name.to_owned(), format!("{problem}; {remedy}")));
                }
                None => {
                    let is_uuid = is_uuid(parquet, &path);
                    places[field as usize] = ColumnPlace::Column { root, path, is_uuid };
                }
            }
        }
        let columns = places.iter().filter_map(|place| match place {
            ColumnPlace::Column { root, .. } => Some(*root),
            ColumnPlace::Nowhere | ColumnPlace::Constant(_) => None,
        });
        let mut roots: Vec<usize> = columns.collect();
        roots.sort_unstable();
        roots.dedup();
        Ok((Self { places, roots }, told))
    }

    /// The column of event types alone, without the other fields; `None` where no column tells them.
    pub fn kinds_alone(&self) -> Option<Self> {
        let ColumnPlace::Column { root, .. } = &self.places[Field::Kind as usize] else { return None };
        let mut places: [ColumnPlace; Field::COUNT] = std::array::from_fn(|_| ColumnPlace::Nowhere);
        let roots = vec![*root];
        places[Field::Kind as usize] = self.places[Field::Kind as usize].clone();
        Some(Self { places, roots })
    }

    /// The type of every event, where the name of a folder tells it.
    pub fn constant_kind(&self) -> Option<&str> {
        match &self.places[Field::Kind as usize] {
            ColumnPlace::Constant(kind) => Some(kind.as_deref().unwrap_or_default()),
            ColumnPlace::Nowhere | ColumnPlace::Column { .. } => None,
        }
    }

    /// The leaves of the file's schema that are read.
    pub fn leaves(&self, parquet: &SchemaDescriptor) -> Vec<usize> {
        let is_read = |leaf: &usize| {
            let parts = parquet.column(*leaf);
            let root = parquet.get_column_root_idx(*leaf);
            self.places.iter().any(|place| match place {
                ColumnPlace::Column { root: read, path, .. } => *read == root && parts.path().parts().starts_with(path),
                ColumnPlace::Nowhere | ColumnPlace::Constant(_) => false,
            })
        };
        (0..parquet.num_columns()).filter(is_read).collect()
    }

    /// The place of the timestamps' leaf, where they are in a column.
    pub fn time_leaf(&self, parquet: &SchemaDescriptor) -> Option<usize> {
        let ColumnPlace::Column { root, path, .. } = &self.places[Field::Timestamp as usize] else { return None };
        (0..parquet.num_columns())
            .find(|leaf| parquet.get_column_root_idx(*leaf) == *root && parquet.column(*leaf).path().parts() == path)
    }

    /// What is read of the file.
    pub fn mask(&self, parquet: &SchemaDescriptor) -> ProjectionMask {
        ProjectionMask::leaves(parquet, self.leaves(parquet))
    }
}

/// The column of that name, or that the path of names leads to: its root, the names on the way, and its type.
fn lookup<'s>(schema: &'s Schema, name: &str) -> Option<(usize, Vec<String>, &'s DataType)> {
    let mut path = Vec::new();
    let of = descend(schema.fields(), name, &mut path)?;
    let root = schema.fields().iter().position(|field| *field.name() == path[0])?;
    Some((root, path, of))
}

fn descend<'s>(fields: &'s Fields, name: &str, path: &mut Vec<String>) -> Option<&'s DataType> {
    let named = |name: &str| fields.iter().find(|field| field.name() == name).map(|field| field.data_type());
    if let Some(of) = named(name) {
        path.push(name.to_owned());
        return Some(of);
    }
    for (dot, _) in name.match_indices('.') {
        if let Some(DataType::Struct(inner)) = named(&name[..dot]) {
            path.push(name[..dot].to_owned());
            if let Some(of) = descend(inner, &name[dot + 1..], path) {
                return Some(of);
            }
            path.pop();
        }
    }
    None
}

/// Whether the column at the end of `path` holds UUIDs, which Arrow takes for any bytes.
pub fn is_uuid(parquet: &SchemaDescriptor, path: &[String]) -> bool {
    let column = parquet.columns().iter().find(|column| column.path().parts() == path);
    column.is_some_and(|column| matches!(column.logical_type_ref(), Some(LogicalType::Uuid)))
}

/// Says that a column is missing, what there is, and which of it may be meant.
fn missing(schema: &Schema, name: &str, field: Field, rules: &FieldRules) -> String {
    let there: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut paths = Vec::new();
    paths_to(schema.fields(), "", &mut paths);
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_alike = |path: &&String| {
        let end = path.rsplit('.').next().unwrap_or(path);
        path.eq_ignore_ascii_case(name) || end.eq_ignore_ascii_case(last) || end.eq_ignore_ascii_case(name)
    };
    match paths.iter().find(is_alike) {
        Some(path) => missing_with(&there, &format!("{} = {path:?}?", field.key())),
        None => missing_among(&there, name, field, rules),
    }
}

/// Says that the column `name` is missing, which there are, and which of them may be meant.
pub(super) fn missing_among(there: &[String], name: &str, field: Field, rules: &FieldRules) -> String {
    let hint = match there.iter().find(|column| column.eq_ignore_ascii_case(name)) {
        Some(column) => format!("{} = {column:?}?", field.key()),
        None => match likely_fields(there, &rules.names) {
            settings if settings.is_empty() => "source.fields maps other names".to_owned(),
            settings => {
                let flags: Vec<String> = settings.iter().map(|(key, column)| format!("--set {key}={column}")).collect();
                format!("{}?", flags.join(" "))
            }
        },
    };
    missing_with(there, &hint)
}

fn missing_with(there: &[String], hint: &str) -> String {
    let told: Vec<&str> = there.iter().take(MOST_TOLD).map(String::as_str).collect();
    let more = if there.len() > MOST_TOLD { ", …" } else { "" };
    format!("is missing; there are {}{more} ({hint})", told.join(", "))
}

/// Most columns that are told where one is missing.
const MOST_TOLD: usize = 40;
/// Deepest struct in which a missing column is looked for.
const DEEPEST_LOOK: usize = 5;

fn paths_to(fields: &Fields, before: &str, paths: &mut Vec<String>) {
    for field in fields {
        let path = if before.is_empty() { field.name().clone() } else { format!("{before}.{}", field.name()) };
        if let DataType::Struct(inner) = field.data_type()
            && path.matches('.').count() < DEEPEST_LOOK
        {
            paths_to(inner, &path, paths);
        }
        paths.push(path);
    }
}

/// Whether identifiers can be made of a column.
pub fn names_things(of: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    matches!(of, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Null)
        || is_number(of)
}

/// Whether a column of this type can hold numbers.
pub fn is_number(of: &DataType) -> bool {
    of.is_integer() || of.is_floating() || of.is_decimal()
}

/// What is wrong with a column of this type in the place of a field, if anything is.
fn unsuitable(field: Field, of: &DataType, rules: &FieldRules) -> Option<String> {
    let (fits, wanted) = match field {
        Field::User | Field::Item | Field::Session => (names_things(of), "text or whole numbers"),
        Field::Kind => (names_things(of) || *of == DataType::Boolean, "text, whole numbers or truth values"),
        Field::Value => (is_number(of) || *of == DataType::Null, "numbers"),
        Field::Features => {
            let fits = match of {
                DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
                    names_things(inner.data_type())
                }
                of => *of == DataType::Null,
            };
            (fits, "lists of text or whole numbers")
        }
        Field::Timestamp => {
            let is_date = matches!(of, DataType::Date32 | DataType::Date64);
            if is_date && !rules.times.takes_local_times() {
                return Some("must be timestamps, but holds dates, without a time of day or a zone".to_owned());
            }
            (names_things(of) || is_date || matches!(of, DataType::Timestamp(..)), "timestamps, numbers or text")
        }
    };
    (!fits).then(|| format!("must be {wanted}, but holds {}", described(of)))
}

/// What a user can do about a column that does not fit.
fn remedy(field: Field, of: &DataType, name: &str) -> String {
    let key = field.key();
    match (field, of) {
        (Field::Timestamp, DataType::Date32 | DataType::Date64) => {
            "source.timezone = \"UTC\" takes each for the midnight that it begins with".to_owned()
        }
        (_, DataType::Struct(inner)) if !inner.is_empty() => {
            format!("{key} = {:?} names one of their fields", format!("{name}.{}", inner[0].name()))
        }
        _ => format!("cast it where the log is written, or name another column ({key})"),
    }
}

/// What a column of this type holds, in words.
pub fn described(of: &DataType) -> String {
    match of {
        DataType::Boolean => "truth values".to_owned(),
        DataType::Timestamp(..) => "timestamps".to_owned(),
        DataType::Date32 | DataType::Date64 => "dates".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "times of day".to_owned(),
        DataType::Duration(_) | DataType::Interval(_) => "durations".to_owned(),
        DataType::Struct(_) => "records".to_owned(),
        DataType::Map(..) => "maps".to_owned(),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            format!("lists of {}", described(inner.data_type()))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytes".to_owned()
        }
        DataType::Null => "nothing but nulls".to_owned(),
        of if of.is_integer() => "whole numbers".to_owned(),
        of if is_number(of) => "numbers with fractions".to_owned(),
        of => of.to_string(),
    }
}

/// The rows of a record batch.
#[derive(Debug)]
pub struct ArrowRows<'a> {
    cells: [Cells<'a>; Field::COUNT],
    rules: &'a FieldRules,
    limits: EventLimits,
}

/// The values of a field in a batch.
#[derive(Debug)]
enum Cells<'a> {
    None,
    Constant(Option<&'a str>),
    Column {
        /// The structs on the way: where one is null, so is the value.
        around: Vec<&'a ArrayRef>,
        values: &'a ArrayRef,
        is_uuid: bool,
    },
}

impl<'a> ArrowRows<'a> {
    /// The rows of `batch`, which holds what [`LogColumns::mask`] asks for.
    pub fn new(batch: &'a RecordBatch, columns: &'a LogColumns, rules: &'a FieldRules, limits: EventLimits) -> Self {
        let cells = std::array::from_fn(|field| match &columns.places[field] {
            ColumnPlace::Nowhere => Cells::None,
            ColumnPlace::Constant(value) => Cells::Constant(value.as_deref()),
            ColumnPlace::Column { root, path, is_uuid } => {
                let place = columns.roots.iter().position(|read| read == root).unwrap_or_default();
                let mut values = batch.column(place);
                let mut around = Vec::new();
                for name in &path[1..] {
                    let Some(inner) = values.as_struct_opt().and_then(|outer| outer.column_by_name(name)) else {
                        return Cells::None;
                    };
                    around.push(values);
                    values = inner;
                }
                Cells::Column { around, values, is_uuid: *is_uuid }
            }
        });
        Self { cells, rules, limits }
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
        let mut found = FieldValues::default();
        for field in Field::ALL {
            *found.slot(field) = self.cell(field, row);
        }
        let event = found.interaction(self.rules)?;
        self.limits.check(&event)?;
        Ok(event)
    }

    /// The type of the event in row `row`, whatever else the row holds; `None` where there is none.
    pub fn kind(&self, row: usize) -> Option<CompactString> {
        match self.cell(Field::Kind, row) {
            FieldValue::Boolean(value) => Some(CompactString::from(if value { "true" } else { "false" })),
            kind => kind.text(),
        }
    }

    fn cell(&self, field: Field, row: usize) -> FieldValue<'a> {
        match &self.cells[field as usize] {
            Cells::None => FieldValue::Absent,
            Cells::Constant(None) => FieldValue::Null,
            Cells::Constant(Some(text)) => folder_value(text, field),
            Cells::Column { around, .. } if around.iter().any(|outer| outer.is_null(row)) => FieldValue::Null,
            Cells::Column { values, is_uuid, .. } => match value(values, row, *is_uuid) {
                // A column without a zone holds UTC unless the configuration says otherwise.
                FieldValue::LocalTime(time) if matches!(values.data_type(), DataType::Timestamp(..)) => {
                    FieldValue::Time(self.rules.times.declared_local(time))
                }
                value => value,
            },
        }
    }

    fn as_json(&self, row: usize) -> Map<String, Value> {
        let mut object = Map::new();
        for field in Field::ALL {
            let shown = match self.cell(field, row) {
                FieldValue::Absent | FieldValue::Null => continue,
                FieldValue::Boolean(value) => Value::from(value),
                FieldValue::Natural(number) => Value::from(number),
                FieldValue::Negative(number) | FieldValue::Time(number) | FieldValue::LocalTime(number) => {
                    Value::from(number)
                }
                // JSON has no NaN; as text it is at least visible.
                FieldValue::Float(number) => {
                    serde_json::Number::from_f64(number).map_or(Value::from(number.to_string()), Value::Number)
                }
                FieldValue::Decimal(digits) => Value::from(digits),
                FieldValue::Text(text) => Value::from(text.as_ref()),
                FieldValue::Texts(list) if list.is_empty() => continue,
                FieldValue::Texts(list) => list.iter().map(CompactString::as_str).collect(),
                other @ (FieldValue::InvalidList(_) | FieldValue::Object | FieldValue::Unsupported(_)) => {
                    Value::from(other.to_string())
                }
            };
            object.insert(field.name(&self.rules.names).to_owned(), shown);
        }
        object
    }
}

/// Row `row` of a column that [`names_things`], as the text of an identifier; `None` where there is nothing, or nothing
/// that names anything.
pub fn identifier(column: &ArrayRef, row: usize, is_uuid: bool) -> Option<CompactString> {
    value(column, row, is_uuid).text()
}

/// Row `row` of a column of numbers; `None` where there is nothing, or no number.
pub fn number(column: &ArrayRef, row: usize) -> Option<f64> {
    match value(column, row, false) {
        FieldValue::Natural(number) => Some(number as f64),
        FieldValue::Negative(number) => Some(number as f64),
        FieldValue::Float(number) => Some(number),
        FieldValue::Decimal(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Row `row` of a column of times, in milliseconds since 1970 UTC, which whole numbers are too; `None` where there is no time.
pub fn time(column: &ArrayRef, row: usize) -> Option<i64> {
    match value(column, row, false) {
        FieldValue::Time(milliseconds) | FieldValue::LocalTime(milliseconds) | FieldValue::Negative(milliseconds) => {
            Some(milliseconds)
        }
        FieldValue::Natural(milliseconds) => i64::try_from(milliseconds).ok(),
        _ => None,
    }
}

/// What row `row` of a column holds, for a person; `None` where there is nothing.
pub fn shown(column: &ArrayRef, row: usize, is_uuid: bool) -> Option<String> {
    match value(column, row, is_uuid) {
        FieldValue::Null | FieldValue::Absent => None,
        FieldValue::Text(text) => Some(text.into_owned()),
        FieldValue::Time(milliseconds) | FieldValue::LocalTime(milliseconds) => {
            Some(super::rfc3339(milliseconds).unwrap_or_else(|| milliseconds.to_string()))
        }
        other => Some(other.to_string()),
    }
}

/// What row `row` of a column holds.
fn value(column: &ArrayRef, row: usize, is_uuid: bool) -> FieldValue<'_> {
    if column.is_null(row) || *column.data_type() == DataType::Null {
        return FieldValue::Null;
    }
    macro_rules! number {
        ($of:ty) => {
            column.as_primitive::<$of>().value(row)
        };
    }
    match column.data_type() {
        DataType::Boolean => FieldValue::Boolean(column.as_boolean().value(row)),
        DataType::Int8 => FieldValue::integer(number!(Int8Type).into()),
        DataType::Int16 => FieldValue::integer(number!(Int16Type).into()),
        DataType::Int32 => FieldValue::integer(number!(Int32Type).into()),
        DataType::Int64 => FieldValue::integer(number!(Int64Type)),
        DataType::UInt8 => FieldValue::Natural(number!(UInt8Type).into()),
        DataType::UInt16 => FieldValue::Natural(number!(UInt16Type).into()),
        DataType::UInt32 => FieldValue::Natural(number!(UInt32Type).into()),
        DataType::UInt64 => FieldValue::Natural(number!(UInt64Type)),
        DataType::Float16 => FieldValue::Float(number!(Float16Type).to_f64()),
        DataType::Float32 => FieldValue::Float(number!(Float32Type).into()),
        DataType::Float64 => FieldValue::Float(number!(Float64Type)),
        DataType::Utf8 => FieldValue::Text(column.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => FieldValue::Text(column.as_string::<i64>().value(row).into()),
        DataType::Utf8View => FieldValue::Text(column.as_string_view().value(row).into()),
        DataType::Binary => FieldValue::bytes(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => FieldValue::bytes(column.as_binary::<i64>().value(row)),
        DataType::BinaryView => FieldValue::bytes(column.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => {
            let bytes = column.as_fixed_size_binary().value(row);
            match bytes.try_into() {
                Ok(uuid) if is_uuid => FieldValue::uuid(uuid),
                _ => FieldValue::bytes(bytes),
            }
        }
        DataType::Decimal32(_, scale) => decimal(i128::from(number!(Decimal32Type)), *scale),
        DataType::Decimal64(_, scale) => decimal(i128::from(number!(Decimal64Type)), *scale),
        DataType::Decimal128(_, scale) => decimal(number!(Decimal128Type), *scale),
        DataType::Decimal256(_, scale) => FieldValue::decimal(&number!(Decimal256Type).to_string(), i32::from(*scale)),
        DataType::Date32 => FieldValue::LocalTime(i64::from(number!(Date32Type)) * DAY),
        DataType::Date64 => FieldValue::LocalTime(number!(Date64Type)),
        DataType::Timestamp(unit, zone) => {
            let milliseconds = match unit {
                TimeUnit::Second => number!(TimestampSecondType).saturating_mul(1000),
                TimeUnit::Millisecond => number!(TimestampMillisecondType),
                TimeUnit::Microsecond => number!(TimestampMicrosecondType).div_euclid(1000),
                TimeUnit::Nanosecond => number!(TimestampNanosecondType).div_euclid(1_000_000),
            };
            match zone {
                Some(_) => FieldValue::Time(milliseconds),
                None => FieldValue::LocalTime(milliseconds),
            }
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row)),
        DataType::Struct(_) | DataType::Map(..) => FieldValue::Object,
        _ => FieldValue::Unsupported("a value of a type that no event is made of"),
    }
}

fn decimal<'a>(unscaled: i128, scale: i8) -> FieldValue<'a> {
    match i64::try_from(unscaled) {
        Ok(whole) if scale == 0 => FieldValue::integer(whole),
        _ => FieldValue::decimal(&unscaled.to_string(), i32::from(scale)),
    }
}

fn list<'a>(elements: &ArrayRef) -> FieldValue<'a> {
    let mut list = ListBuilder::default();
    for row in 0..elements.len() {
        list.push(&value(elements, row, false));
    }
    list.into_value()
}

/// The schema in which times of the old 96-bit type keep their whole range: in milliseconds, where in nanoseconds they
/// would end with the year 2262. `None` where a file has none.
pub fn with_wide_times(schema: &Schema, parquet: &SchemaDescriptor) -> Option<Schema> {
    let is_old =
        |column: &&parquet::schema::types::ColumnDescPtr| column.physical_type() == parquet::basic::Type::INT96;
    let old: Vec<&[String]> = parquet.columns().iter().filter(is_old).map(|column| column.path().parts()).collect();
    if old.is_empty() {
        return None;
    }
    let fields: Vec<ArrowField> = schema.fields().iter().map(|field| widened(field, &mut Vec::new(), &old)).collect();
    Some(Schema::new(fields))
}

fn widened(field: &ArrowField, path: &mut Vec<String>, old: &[&[String]]) -> ArrowField {
    path.push(field.name().clone());
    let of = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) if old.contains(&path.as_slice()) => {
            DataType::Timestamp(TimeUnit::Millisecond, None)
        }
        DataType::Struct(inner) => {
            DataType::Struct(inner.iter().map(|field| widened(field, path, old)).collect::<Vec<_>>().into())
        }
        of => of.clone(),
    };
    path.pop();
    field.clone().with_data_type(of)
}
