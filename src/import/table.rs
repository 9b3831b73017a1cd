//! Vectors from a table of Parquet.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{ForeignVectors, ImportError, VectorColumns, problem};
use crate::decode::arrow_rows::{described, identifier, is_number, is_uuid, names_things, number, time};
use crate::util::catch_panic::catch_panic;
use crate::util::escape::escape_for_terminal;

/// Names of the column of vectors that need not be given: the one of a checkpoint's items, and the one that `export` writes.
const VECTOR_NAMES: [&str; 2] = ["embedding", "vector"];
/// Names of further columns that need not be given: those of a checkpoint's items.
const COUNT_NAME: &str = "count";
const LAST_EVENT_NAME: &str = "last_event";

/// The columns of a table, by their names.
struct TableColumns {
    id: String,
    vector: String,
    count: Option<String>,
    last_event: Option<String>,
}

/// Reads the table at `path`.
pub(super) fn read(path: &Path, columns: VectorColumns<'_>) -> Result<ForeignVectors, ImportError> {
    let unreadable = |cause: &dyn std::fmt::Display| problem(path, &format!("cannot be read as Parquet: {cause}"));
    let file = File::open(path).map_err(|error| problem(path, &format!("cannot be read: {error}")))?;
    // The writer's Arrow types are storage details: the Parquet types are few and always the same.
    let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = catch_panic(|| ArrowReaderMetadata::load(&file, reading)).map_err(|words| unreadable(&words))?;
    let metadata = metadata.map_err(|error| unreadable(&error))?;
    let columns = TableColumns::find(metadata.schema(), columns).map_err(|words| problem(path, &words))?;
    let are_uuids = is_uuid(metadata.parquet_schema(), std::slice::from_ref(&columns.id));
    let roots = metadata.schema().fields().iter().enumerate();
    let roots: Vec<usize> = roots.filter(|(_, field)| columns.have(field.name())).map(|(root, _)| root).collect();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone()).with_projection(mask);
    let reader = catch_panic(|| reader.build()).map_err(|words| unreadable(&words))?;
    let mut reader = reader.map_err(|error| unreadable(&error))?;
    let mut vectors = ForeignVectors {
        counts: columns.count.is_some().then(Vec::new),
        last_events: columns.last_event.is_some().then(Vec::new),
        ..ForeignVectors::default()
    };
    while let Some(batch) = catch_panic(|| reader.next()).map_err(|words| unreadable(&words))? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let column = |name: &str| batch.column_by_name(name).expect("it was asked for");
        let (ids, lists) = (column(&columns.id), column(&columns.vector));
        for row in 0..batch.num_rows() {
            let place = vectors.ids.len() + 1;
            let in_row = |words: &str| problem(path, &format!("row {place}: {words}"));
            let name = identifier(ids, row, are_uuids).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| in_row(&format!("'{}' names no item", columns.id)))?;
            let of_item =
                |words: &str| problem(path, &format!("row {place}, item '{}': {words}", escape_for_terminal(&name)));
            let list = vector(lists, row).ok_or_else(|| of_item("the vector, or one of its numbers, is null"))?;
            if let (Some(name), Some(counts)) = (&columns.count, &mut vectors.counts) {
                let count = number(column(name), row).filter(|count| *count >= 0.0 && count.fract() == 0.0);
                counts.push(count.ok_or_else(|| of_item(&format!("'{name}' is no number of events")))? as u64);
            }
            if let (Some(name), Some(times)) = (&columns.last_event, &mut vectors.last_events) {
                times.push(time(column(name), row).ok_or_else(|| of_item(&format!("'{name}' is no time")))?);
            }
            vectors.push(path, name, list.into_iter())?;
        }
    }
    vectors.columns = columns.into_names();
    Ok(vectors)
}

impl TableColumns {
    /// Finds the columns in a table with `schema`.
    fn find(schema: &Schema, wanted: VectorColumns<'_>) -> Result<Self, String> {
        let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let kind = |name: &str| schema.field_with_name(name).ok().map(|field| field.data_type());
        let checked = |name: &str, flag: &str, fits: &dyn Fn(&DataType) -> bool, what: &str| match kind(name) {
            Some(found) if fits(found) => Ok(name.to_owned()),
            Some(found) => Err(format!("column '{name}' must be {what}, but is {} ({flag})", described(found))),
            None => Err(format!("column '{name}' is missing; there are {} ({flag})", there.join(", "))),
        };
        let vector = match wanted.vector {
            Some(name) => name,
            None => VECTOR_NAMES.into_iter().find(|name| kind(name).is_some()).unwrap_or(VECTOR_NAMES[0]),
        };
        let optional = |name: Option<&str>, default: &str, flag: &str, fits: &dyn Fn(&DataType) -> bool, what: &str| {
            let name = name.or_else(|| kind(default).map(|_| default));
            name.map(|name| checked(name, flag, fits, what)).transpose()
        };
        let is_time = |of: &DataType| of.is_integer() || matches!(of, DataType::Timestamp(..) | DataType::Date32);
        Ok(Self {
            id: checked(wanted.id, "--id", &names_things, "text or whole numbers")?,
            vector: checked(vector, "--vector", &is_vector, "lists of numbers")?,
            count: optional(wanted.count, COUNT_NAME, "--count", &is_number, "numbers")?,
            last_event: optional(
                wanted.last_event,
                LAST_EVENT_NAME,
                "--last-event",
                &is_time,
                "timestamps, dates, or milliseconds since 1970",
            )?,
        })
    }

    fn have(&self, name: &str) -> bool {
        let Self { id, vector, count, last_event } = self;
        [Some(id), Some(vector), count.as_ref(), last_event.as_ref()].contains(&Some(&name.to_owned()))
    }

    fn into_names(self) -> Vec<String> {
        let Self { id, vector, count, last_event } = self;
        [Some(id), Some(vector), count, last_event].into_iter().flatten().collect()
    }
}

/// Whether a column of this type holds vectors.
fn is_vector(of: &DataType) -> bool {
    let inner = match of {
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => inner.data_type(),
        _ => return false,
    };
    inner.is_floating()
}

/// The vector in row `row` of `column`; `None` where it is null, or one of its numbers is.
fn vector(column: &ArrayRef, row: usize) -> Option<Vec<f32>> {
    if column.is_null(row) {
        return None;
    }
    let numbers = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        _ => column.as_fixed_size_list().value(row),
    };
    if numbers.null_count() > 0 {
        return None;
    }
    Some(match numbers.data_type() {
        DataType::Float16 => numbers.as_primitive::<Float16Type>().values().iter().map(|half| half.to_f32()).collect(),
        DataType::Float64 => numbers.as_primitive::<Float64Type>().values().iter().map(|wide| *wide as f32).collect(),
        _ => numbers.as_primitive::<Float32Type>().values().to_vec(),
    })
}
