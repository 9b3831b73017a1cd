//! The first rows of a log, with all of its columns: for whoever has yet to find out what they are.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::bytes::LogBytes;
use super::columnar::metadata;
use super::files::{self, FoundLog, Storage};
use super::text::{TextHead, TextShape};
use super::{CsvDialect, LogOptions, LogProblem, ParquetLogError};
use crate::decode::arrow_rows::{described, shown};
use crate::util::catch_panic::catch_panic;

/// Deepest record within a record whose fields are columns.
const DEEPEST: usize = 4;

/// The first rows of a log.
#[derive(Debug, Clone, Default)]
pub struct LogSample {
    /// The file that they are of: the first one.
    pub path: String,
    /// How many files there are.
    pub files: usize,
    /// `Parquet`, `CSV` or `JSON lines`.
    pub format: &'static str,
    /// How the file is compressed as a whole; empty where it is not.
    pub compression: &'static str,
    /// How CSV is written.
    pub dialect: Option<CsvDialect>,
    /// Columns, in the order of the file; a field within others by its path.
    pub columns: Vec<SampleColumn>,
    /// How many rows were looked at.
    pub rows: usize,
}

/// A column of a sample.
#[derive(Debug, Clone, Default)]
pub struct SampleColumn {
    /// Its name, or its number.
    pub name: String,
    /// What the file declares it to hold, in words; empty where all is text.
    pub declared: String,
    /// What it holds in the rows where it holds something.
    pub values: Vec<String>,
}

impl LogSample {
    /// Reads up to `most` rows of the first file that `patterns` name.
    ///
    /// # Errors
    /// [`ParquetLogError`]: no file, or one that cannot be read.
    pub fn read(patterns: &[String], options: &LogOptions, most: usize) -> Result<Self, ParquetLogError> {
        let found = files::expand(patterns, &options.network)?;
        let files = found.logs.len();
        let Some(FoundLog { path, place }) = found.logs.into_iter().next() else { return Ok(Self::default()) };
        let of_problem = |problem: LogProblem| problem.named(&path, &place);
        let of_error = |error| of_problem(LogProblem::of_read(error));
        let bytes = place.open(&path).map_err(of_error)?;
        let storage = files::storage(&path, &bytes).map_err(of_error)?;
        let storage = storage.map_err(|problem| of_problem(LogProblem::of_words(problem)))?;
        let sample = match storage {
            Storage::Parquet => Self::columnar(&bytes, most),
            Storage::Text => Self::text(&bytes, options, most),
        };
        let mut sample = sample.map_err(of_problem)?;
        for (name, value) in files::partitions(&path) {
            if sample.columns.iter().all(|column| column.name != name) {
                let values = value.into_iter().collect();
                sample.columns.push(SampleColumn { name, declared: "the name of a folder".to_owned(), values });
            }
        }
        Ok(Self { path: path.display().to_string(), files, ..sample })
    }

    fn columnar(bytes: &LogBytes, most: usize) -> Result<Self, LogProblem> {
        let metadata = metadata(bytes).map_err(LogProblem::of_cause)?;
        let mut sample = Self { format: "Parquet", ..Self::default() };
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_batch_size(most)
            .with_limit(most);
        let built = catch_panic(|| reader.build()).map_err(|panic| LogProblem::of_cause(panic.into()))?;
        let mut reader = built.map_err(|error| LogProblem::of_cause(error.into()))?;
        let mut columns: Vec<SampleColumn> = Vec::new();
        while let Some(batch) = catch_panic(|| reader.next()).map_err(|panic| LogProblem::of_cause(panic.into()))? {
            let batch = batch.map_err(|error| LogProblem::of_cause(error.into()))?;
            sample.rows += batch.num_rows();
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                take_column(field.name(), column, &mut columns, 0);
            }
        }
        if columns.is_empty() {
            let fields = metadata.schema().fields().iter();
            columns.extend(fields.map(|field| SampleColumn {
                name: field.name().clone(),
                declared: described(field.data_type()),
                values: Vec::new(),
            }));
        }
        Ok(Self { columns, ..sample })
    }

    fn text(bytes: &LogBytes, options: &LogOptions, most: usize) -> Result<Self, LogProblem> {
        let head = TextHead::read(bytes, options)?;
        let mut reader = head.reader(bytes).map_err(LogProblem::of_read)?;
        let mut sample = Self { compression: head.compression.name(), ..Self::default() };
        let named = |name: String| SampleColumn { name, ..SampleColumn::default() };
        match head.shape {
            TextShape::Json => sample.format = "JSON lines",
            TextShape::Csv { dialect, names } => {
                (sample.format, sample.dialect) = ("CSV", Some(dialect));
                sample.columns = names.into_iter().map(named).collect();
            }
        }
        let mut places = BTreeMap::new();
        while sample.rows < most && reader.next().map_err(LogProblem::of_read)?.is_some() {
            sample.rows += 1;
            if sample.dialect.is_some() {
                for (column, cell) in sample.columns.iter_mut().zip(reader.cells()) {
                    column.values.extend(Some(cell).filter(|cell| !cell.is_empty()));
                }
            } else if let Ok(Value::Object(record)) = serde_json::from_slice(reader.raw()) {
                for (name, value) in record {
                    take_value(name, value, &mut sample.columns, &mut places, 0);
                }
            }
        }
        Ok(sample)
    }
}

/// Takes in the rows of a column; of records, those of their fields.
fn take_column(name: &str, column: &ArrayRef, columns: &mut Vec<SampleColumn>, depth: usize) {
    if let (DataType::Struct(fields), Some(records), true) =
        (column.data_type(), column.as_struct_opt(), depth < DEEPEST)
    {
        for (field, inner) in fields.iter().zip(records.columns()) {
            take_column(&format!("{name}.{}", field.name()), inner, columns, depth + 1);
        }
        return;
    }
    let place = columns.iter().position(|known| known.name == name).unwrap_or_else(|| {
        let declared = described(column.data_type());
        columns.push(SampleColumn { name: name.to_owned(), declared, values: Vec::new() });
        columns.len() - 1
    });
    columns[place].values.extend((0..column.len()).filter_map(|row| shown(column, row, false)));
}

/// Takes in a value of JSON; of an object, those of its fields.
fn take_value(
    name: String,
    value: Value,
    columns: &mut Vec<SampleColumn>,
    places: &mut BTreeMap<String, usize>,
    depth: usize,
) {
    let (declared, text) = match value {
        Value::Null => ("", None),
        Value::Bool(value) => ("truth values", Some(value.to_string())),
        Value::Number(number) => ("numbers", Some(number.to_string())),
        Value::String(text) => ("text", Some(text)),
        Value::Array(_) => ("lists", Some("a list".to_owned())),
        Value::Object(inner) if depth < DEEPEST => {
            for (field, value) in inner {
                take_value(format!("{name}.{field}"), value, columns, places, depth + 1);
            }
            return;
        }
        Value::Object(_) => ("records", None),
    };
    let place = *places.entry(name.clone()).or_insert_with(|| {
        columns.push(SampleColumn { name, ..SampleColumn::default() });
        columns.len() - 1
    });
    let column = &mut columns[place];
    if column.declared.is_empty() {
        declared.clone_into(&mut column.declared);
    }
    column.values.extend(text);
}
