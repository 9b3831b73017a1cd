//! Columns of state in Parquet files: written in slices, so that a table is never in memory twice, and read back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::CheckpointError;
use super::store::Draft;

/// Rows written at a time.
const SLICE: usize = 16_384;
/// The name of a list's inner field, as the Parquet format recommends.
const ELEMENT: &str = "element";

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// For others to read: vectors byte-stream-split, everything compressed.
    Published,
    /// For ourselves: as fast as it can be written and read.
    Internal,
}

/// Writes `rows` rows of a file, whose columns `slice(begin..end)` makes.
///
/// # Errors
/// What the disk says.
pub fn write(
    draft: &mut Draft,
    name: &str,
    fields: Vec<Field>,
    rows: usize,
    layout: Layout,
    mut slice: impl FnMut(std::ops::Range<usize>) -> Vec<ArrayRef>,
) -> Result<(), CheckpointError> {
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by("negstream".to_owned())
        .set_max_row_group_row_count(Some(SLICE * 8));
    if layout == Layout::Published {
        properties = properties.set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a known level")));
        for field in &fields {
            if let DataType::FixedSizeList(..) = field.data_type() {
                let path = [field.name().as_str(), "list", ELEMENT].map(str::to_owned).to_vec();
                properties = properties.set_column_encoding(ColumnPath::new(path), Encoding::BYTE_STREAM_SPLIT);
            }
        }
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    draft.file(name, |file| {
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties.build()))?;
        for begin in (0..rows).step_by(SLICE) {
            let columns = slice(begin..(begin + SLICE).min(rows));
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
        }
        writer.close()?;
        Ok(())
    })
}

/// Reads the file `name` of the checkpoint whose files are in `folder`, slice by slice.
///
/// # Errors
/// Where it is not Parquet after all, or a column is missing.
pub fn read(
    folder: &Path,
    name: &str,
    mut slice: impl FnMut(&Slice) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    Slices::open(folder, name)?.try_for_each(|read| slice(&read?))
}

/// The slices of a file, in order.
#[derive(Debug)]
pub struct Slices {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl Slices {
    /// Opens the file `name` of the checkpoint whose files are in `folder`.
    ///
    /// # Errors
    /// Where it cannot be opened, or is not Parquet after all.
    pub fn open(folder: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = folder.join(name);
        let file = File::open(&path).map_err(CheckpointError::io(&path, "open"))?;
        let damaged = |error| CheckpointError::damaged(&path, error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let reader = builder.with_batch_size(SLICE).build().map_err(damaged)?;
        Ok(Self { path, reader })
    }
}

impl Iterator for Slices {
    type Item = Result<Slice, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let batch = batch.map_err(|error| CheckpointError::damaged(&self.path, error));
        Some(batch.map(|batch| Slice { path: self.path.clone(), batch }))
    }
}

/// Some rows of a file.
#[derive(Debug)]
pub struct Slice {
    path: PathBuf,
    batch: RecordBatch,
}

impl Slice {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as an Arrow batch.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }

    fn column(&self, name: &str) -> Result<&ArrayRef, CheckpointError> {
        self.batch
            .column_by_name(name)
            .ok_or_else(|| CheckpointError::damaged(&self.path, format!("column '{name}' is missing")))
    }

    fn wrong(&self, name: &str) -> CheckpointError {
        CheckpointError::damaged(&self.path, format!("column '{name}' has another type than it must"))
    }

    /// A column of text.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn text(&self, name: &str) -> Result<&StringArray, CheckpointError> {
        self.column(name)?.as_string_opt().ok_or_else(|| self.wrong(name))
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&[T::Native], CheckpointError> {
        Ok(self.column(name)?.as_primitive_opt::<T>().ok_or_else(|| self.wrong(name))?.values())
    }

    /// A column of vectors, one behind the other.
    ///
    /// # Errors
    /// Where it is missing, or the vectors are not `dim` long.
    pub fn vectors(&self, name: &str, dim: usize) -> Result<&[f32], CheckpointError> {
        let list = self.column(name)?.as_fixed_size_list_opt().ok_or_else(|| self.wrong(name))?;
        if list.value_length() as usize != dim {
            return Err(self.wrong(name));
        }
        Ok(list.values().as_primitive_opt::<Float32Type>().ok_or_else(|| self.wrong(name))?.values())
    }

    /// A column of lists: their ends and what they hold, one behind the other.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn lists<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Lists<'_, T>, CheckpointError> {
        let list = self.column(name)?.as_list_opt::<i32>().ok_or_else(|| self.wrong(name))?;
        let values = list.values().as_primitive_opt::<T>().ok_or_else(|| self.wrong(name))?.values();
        Ok(Lists { offsets: list.value_offsets(), values })
    }
}

/// A column of lists.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a, T: ArrowPrimitiveType> {
    offsets: &'a [i32],
    values: &'a [T::Native],
}

impl<'a, T: ArrowPrimitiveType> Lists<'a, T> {
    /// The list of row `row`.
    pub fn row(&self, row: usize) -> &'a [T::Native] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// A column of vectors of `dim` numbers.
pub fn vector_field(name: &str, dim: usize) -> Field {
    let element = Arc::new(Field::new(ELEMENT, DataType::Float32, false));
    Field::new(name, DataType::FixedSizeList(element, dim as i32), false)
}

/// A column of vectors, from their numbers one behind the other.
pub fn vectors(numbers: Vec<f32>, dim: usize) -> ArrayRef {
    let element = Arc::new(Field::new(ELEMENT, DataType::Float32, false));
    Arc::new(FixedSizeListArray::new(element, dim as i32, Arc::new(Float32Array::from(numbers)), None))
}

/// A column of lists.
pub fn list_field<T: ArrowPrimitiveType>(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new(ELEMENT, T::DATA_TYPE, false))), false)
}

/// A column of lists, made row by row.
pub fn lists<T: ArrowPrimitiveType, I: IntoIterator<Item = T::Native>>(rows: impl Iterator<Item = I>) -> ArrayRef {
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    for row in rows {
        let before = values.len();
        values.extend(row);
        lengths.push(values.len() - before);
    }
    let element = Arc::new(Field::new(ELEMENT, T::DATA_TYPE, false));
    let values = Arc::new(PrimitiveArray::<T>::from_iter_values(values));
    Arc::new(ListArray::new(element, OffsetBuffer::from_lengths(lengths), values, None))
}

/// A column of numbers.
pub fn numbers<T: ArrowPrimitiveType>(values: impl IntoIterator<Item = T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values))
}

/// A column of text.
pub fn text<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}
