//! One file of the sink: rows with their versions, and in its metadata what they belong to.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::ChunkReader;
use serde::{Deserialize, Serialize};

use crate::publish::Version;
use crate::util::parquet_layout::{ELEMENT, published_properties};

/// Rows of a row group at most.
const GROUP_ROWS: usize = 131_072;

/// What a file says of itself, in its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileHead {
    pub model_id: String,
    pub dim: usize,
    /// The version of the newest update that is in it.
    pub epoch: u64,
    pub step: u64,
    /// Whether it holds all that the files before it of the same epoch do.
    pub whole: bool,
    /// The random name of its writer, and how many files that one had written by then.
    pub writer: String,
}

impl FileHead {
    pub(super) fn version(&self) -> Version {
        Version { epoch: self.epoch, step: self.step }
    }

    fn to_metadata(&self) -> Vec<KeyValue> {
        let Self { model_id, dim, epoch, step, whole, writer } = self;
        let texts = [
            ("model_id", model_id.clone()),
            ("dim", dim.to_string()),
            ("epoch", epoch.to_string()),
            ("step", step.to_string()),
            ("whole", whole.to_string()),
            ("writer", writer.clone()),
        ];
        texts.into_iter().map(|(key, value)| KeyValue::new(format!("negstream.{key}"), value)).collect()
    }

    fn from_metadata(metadata: &[KeyValue]) -> Option<Self> {
        let texts: BTreeMap<&str, &str> = metadata
            .iter()
            .filter_map(|entry| Some((entry.key.strip_prefix("negstream.")?, entry.value.as_deref()?)))
            .collect();
        let text = |key: &str| texts.get(key).copied();
        Some(Self {
            model_id: text("model_id")?.to_owned(),
            dim: text("dim")?.parse().ok()?,
            epoch: text("epoch")?.parse().ok()?,
            step: text("step")?.parse().ok()?,
            whole: text("whole")?.parse().ok()?,
            writer: text("writer")?.to_owned(),
        })
    }
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileRow {
    pub item_id: String,
    /// `None` where only the log-frequency moved, or the item went.
    pub embedding: Option<Vec<f32>>,
    /// `None` where the item went.
    pub log_frequency: Option<f32>,
    pub version: Version,
}

impl FileRow {
    /// Whether the item went.
    pub(super) fn is_removed(&self) -> bool {
        self.log_frequency.is_none()
    }

    /// This row laid over an older one of the same item.
    pub(super) fn over(self, older: Self) -> Self {
        if self.is_removed() || self.embedding.is_some() || older.is_removed() && older.embedding.is_none() {
            // Frequencies of an item that went are passed over.
            let is_lost = self.embedding.is_none() && !self.is_removed() && older.is_removed();
            return if is_lost { older } else { self };
        }
        Self { log_frequency: self.log_frequency, ..older }
    }
}

fn schema() -> SchemaRef {
    let element = Field::new(ELEMENT, DataType::Float32, false);
    Arc::new(Schema::new(vec![
        Field::new("item_id", DataType::Utf8, false),
        Field::new("embedding", DataType::List(Arc::new(element)), true),
        Field::new("log_frequency", DataType::Float32, true),
        Field::new("removed", DataType::Boolean, false),
        Field::new("epoch", DataType::Int64, false),
        Field::new("step", DataType::Int64, false),
    ]))
}

/// Writes a file.
pub(super) struct FileWriter {
    writer: ArrowWriter<File>,
    head: FileHead,
    n_rows: usize,
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter").field("head", &self.head).field("n_rows", &self.n_rows).finish_non_exhaustive()
    }
}

impl FileWriter {
    pub(super) fn begin(file: File, head: FileHead) -> Result<Self, ParquetError> {
        let properties = published_properties()
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(head.to_metadata()));
        let writer = ArrowWriter::try_new(file, schema(), Some(properties.build()))?;
        Ok(Self { writer, head, n_rows: 0 })
    }

    pub(super) fn write(&mut self, rows: &[FileRow]) -> Result<(), ParquetError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut names = StringBuilder::new();
        let element = Field::new(ELEMENT, DataType::Float32, false);
        let mut embeddings = ListBuilder::new(Float32Builder::new()).with_field(element);
        for row in rows {
            names.append_value(&row.item_id);
            if let Some(embedding) = &row.embedding {
                embeddings.values().append_slice(embedding);
            }
            embeddings.append(row.embedding.is_some());
        }
        let number = |get: fn(&FileRow) -> u64| rows.iter().map(|row| get(row) as i64).collect::<Int64Array>();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(names.finish()),
            Arc::new(embeddings.finish()),
            Arc::new(rows.iter().map(|row| row.log_frequency).collect::<Float32Array>()),
            Arc::new(rows.iter().map(|row| Some(row.is_removed())).collect::<BooleanArray>()),
            Arc::new(number(|row| row.version.epoch)),
            Arc::new(number(|row| row.version.step)),
        ];
        self.writer.write(&RecordBatch::try_new(schema(), columns)?)?;
        self.n_rows += rows.len();
        Ok(())
    }

    /// Ends the file, and tells how many rows are in it.
    pub(super) fn finish(self) -> Result<(File, FileHead, usize), ParquetError> {
        let Self { writer, head, n_rows } = self;
        Ok((writer.into_inner()?, head, n_rows))
    }
}

/// The rows of a file, a batch at a time.
#[derive(Debug)]
pub(super) struct FileRows {
    reader: ParquetRecordBatchReader,
}

impl FileRows {
    /// Opens a file; `None` where it is none of [`FileWriter`]'s. Beside its head and rows, tells how many rows there are.
    pub(super) fn open(file: impl ChunkReader + 'static) -> Result<Option<(FileHead, usize, Self)>, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let metadata = builder.metadata().file_metadata();
        let head = metadata.key_value_metadata().and_then(|metadata| FileHead::from_metadata(metadata));
        let (Some(head), n_rows) = (head, usize::try_from(metadata.num_rows()).unwrap_or_default()) else {
            return Ok(None);
        };
        let reader = builder.with_batch_size(4_096).build()?;
        Ok(Some((head, n_rows, Self { reader })))
    }
}

impl Iterator for FileRows {
    type Item = Result<Vec<FileRow>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(ParquetError::from).and_then(|batch| {
            rows(&batch).ok_or_else(|| ParquetError::General("a column is missing, or of another type".to_owned()))
        }))
    }
}

fn rows(batch: &RecordBatch) -> Option<Vec<FileRow>> {
    let names = batch.column_by_name("item_id")?.as_string_opt::<i32>()?;
    let embeddings = batch.column_by_name("embedding")?.as_list_opt::<i32>()?;
    let frequencies = batch.column_by_name("log_frequency")?.as_primitive_opt::<Float32Type>()?;
    let removed = batch.column_by_name("removed")?.as_boolean_opt()?;
    let epochs = batch.column_by_name("epoch")?.as_primitive_opt::<Int64Type>()?;
    let steps = batch.column_by_name("step")?.as_primitive_opt::<Int64Type>()?;
    let row = |place: usize| {
        let embedding = embeddings.is_valid(place).then(|| embeddings.value(place));
        let embedding = embedding.map(|numbers| Some(numbers.as_primitive_opt::<Float32Type>()?.values().to_vec()));
        Some(FileRow {
            item_id: names.value(place).to_owned(),
            embedding: match embedding {
                Some(numbers) => Some(numbers?),
                None => None,
            },
            log_frequency: (!removed.value(place)).then(|| frequencies.value(place)),
            version: Version { epoch: epochs.value(place) as u64, step: steps.value(place) as u64 },
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, embedding: Option<f32>, log_frequency: Option<f32>) -> FileRow {
        let version = Version { epoch: 1, step };
        FileRow { item_id: "a".to_owned(), embedding: embedding.map(|x| vec![x]), log_frequency, version }
    }

    #[test]
    fn newer_rows_are_laid_over_older_ones() {
        let (gone, moved) = (row(5, None, None), row(5, None, Some(-2.0)));
        let whole = row(5, Some(1.0), Some(-1.0));
        let older = row(3, Some(0.5), Some(-3.0));
        assert_eq!(whole.clone().over(older.clone()), whole);
        assert_eq!(gone.clone().over(older.clone()), gone);
        assert_eq!(moved.clone().over(older), row(3, Some(0.5), Some(-2.0)));
        assert_eq!(moved.clone().over(row(4, None, Some(-9.0))).log_frequency, Some(-2.0));
        assert_eq!(moved.over(row(4, None, None)), row(4, None, None));
        assert_eq!(whole.clone().over(row(4, None, None)), whole);
    }

    #[test]
    fn files_say_what_they_are_and_give_back_their_rows() {
        let head =
            FileHead { model_id: "m".to_owned(), dim: 1, epoch: 1, step: 5, whole: true, writer: "w-1".to_owned() };
        let written = [row(5, Some(1.5), Some(-1.0)), row(5, None, Some(-2.0)), row(4, None, None)];
        let mut writer = FileWriter::begin(tempfile::tempfile().unwrap(), head.clone()).unwrap();
        writer.write(&written).unwrap();
        let (file, _, n_rows) = writer.finish().unwrap();
        let (read_head, n_read, rows) = FileRows::open(file).unwrap().unwrap();
        assert_eq!((read_head, n_rows, n_read), (head, 3, 3));
        assert_eq!(rows.map(|rows| rows.unwrap()).collect::<Vec<_>>().concat(), written);
    }
}
