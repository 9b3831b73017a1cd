//! Columns of a checkpoint's Parquet files. They are written and read in slices, so that a table is never in memory twice.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Int64Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::CheckpointError;
use super::store::Draft;
pub use crate::util::parquet_layout::published_properties;
use crate::util::parquet_layout::{ELEMENT, vector_properties};

/// Rows that are written or read at a time.
const SLICE_ROWS: usize = 16_384;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// For other programs: the plain encoding, which every reader of Parquet knows, compressed by zstd.
    Published,
    /// For negstream alone: uncompressed, since it is written and read fastest.
    Internal,
}

/// Writes the file `name` of `draft` with `rows` rows: `slice(begin..end)` makes the columns of some of them.
///
/// # Errors
/// What the disk or the object store say.
pub fn write(
    draft: &mut Draft,
    name: &str,
    fields: Vec<Field>,
    rows: usize,
    layout: Layout,
    mut slice: impl FnMut(std::ops::Range<usize>) -> Vec<ArrayRef>,
) -> Result<(), CheckpointError> {
    let properties = match layout {
        Layout::Published => published_properties(),
        Layout::Internal => vector_properties(),
    };
    let properties = properties.set_max_row_group_row_count(Some(SLICE_ROWS * 8));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    draft.file(name, |file| {
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties.build()))?;
        for begin in (0..rows).step_by(SLICE_ROWS) {
            let columns = slice(begin..(begin + SLICE_ROWS).min(rows));
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
    mut slice: impl FnMut(&ColumnSlice) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    ColumnSlices::open(folder, name)?.try_for_each(|read| slice(&read?))
}

/// The slices of a file, in order.
#[derive(Debug)]
pub struct ColumnSlices {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl ColumnSlices {
    /// Opens the file `name` of the checkpoint whose files are in `folder`.
    ///
    /// # Errors
    /// Where it cannot be opened, or is not Parquet after all.
    pub fn open(folder: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = folder.join(name);
        let file = File::open(&path).map_err(|error| CheckpointError::unreadable(&path, error))?;
        let damaged = |error| CheckpointError::damaged(&path, error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let reader = builder.with_batch_size(SLICE_ROWS).build().map_err(damaged)?;
        Ok(Self { path, reader })
    }
}

impl Iterator for ColumnSlices {
    type Item = Result<ColumnSlice, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let batch = batch.map_err(|error| CheckpointError::damaged(&self.path, error));
        Some(batch.map(|batch| ColumnSlice { path: self.path.clone(), batch }))
    }
}

/// Some neighbouring rows of a file.
#[derive(Debug)]
pub struct ColumnSlice {
    path: PathBuf,
    batch: RecordBatch,
}

impl ColumnSlice {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as an Arrow batch.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }

    /// Whether there is a column `name`.
    pub fn has(&self, name: &str) -> bool {
        self.batch.column_by_name(name).is_some()
    }

    fn column(&self, name: &str) -> Result<&ArrayRef, CheckpointError> {
        self.batch
            .column_by_name(name)
            .ok_or_else(|| CheckpointError::damaged(&self.path, format!("column '{name}' is missing")))
    }

    fn wrong(&self, name: &str) -> CheckpointError {
        CheckpointError::damaged(&self.path, format!("column '{name}' has another type than it must"))
    }

    /// The column `name` of text.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn strings(&self, name: &str) -> Result<&StringArray, CheckpointError> {
        self.column(name)?.as_string_opt().ok_or_else(|| self.wrong(name))
    }

    /// The column `name` of numbers.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn primitives<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&[T::Native], CheckpointError> {
        Ok(self.column(name)?.as_primitive_opt::<T>().ok_or_else(|| self.wrong(name))?.values())
    }

    /// The column `name` of vectors of `dim` numbers: the numbers of all rows, one row behind the other.
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

    /// The column `name` of vectors of `dim` numbers as other programs are given them, in single or half precision.
    ///
    /// # Errors
    /// Where it is missing, or the vectors are not `dim` long.
    pub fn served_vectors(&self, name: &str, dim: usize) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let list = self.column(name)?.as_fixed_size_list_opt().ok_or_else(|| self.wrong(name))?;
        match list.values().as_primitive_opt::<Float16Type>() {
            Some(halves) if list.value_length() as usize == dim => {
                Ok(Cow::Owned(halves.values().iter().map(|half| half.to_f32()).collect()))
            }
            Some(_) => Err(self.wrong(name)),
            None => self.vectors(name, dim).map(Cow::Borrowed),
        }
    }

    /// The column `name` of counts. (Before version 0.2 they were unsigned, which not every reader knows.)
    ///
    /// # Errors
    /// Where it is missing or of another type, or a count is below zero.
    pub fn counts(&self, name: &str) -> Result<Vec<u64>, CheckpointError> {
        match self.column(name)?.as_primitive_opt::<UInt64Type>() {
            Some(counts) => Ok(counts.values().to_vec()),
            None => {
                let counts: Result<Vec<u64>, _> =
                    self.primitives::<Int64Type>(name)?.iter().map(|count| u64::try_from(*count)).collect();
                counts.map_err(|_| CheckpointError::damaged(&self.path, format!("column '{name}' counts below zero")))
            }
        }
    }

    /// The column `name` of lists.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn lists<T: ArrowPrimitiveType>(&self, name: &str) -> Result<ListColumn<'_, T>, CheckpointError> {
        let list = self.column(name)?.as_list_opt::<i32>().ok_or_else(|| self.wrong(name))?;
        let values = list.values().as_primitive_opt::<T>().ok_or_else(|| self.wrong(name))?.values();
        Ok(ListColumn { offsets: list.value_offsets(), values })
    }
}

/// A column of lists, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct ListColumn<'a, T: ArrowPrimitiveType> {
    offsets: &'a [i32],
    values: &'a [T::Native],
}

impl<'a, T: ArrowPrimitiveType> ListColumn<'a, T> {
    /// The list of row `row`.
    pub fn row(&self, row: usize) -> &'a [T::Native] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// The field of a column `name` of vectors of `dim` numbers.
pub fn vector_field(name: &str, dim: usize) -> Field {
    fixed_list_field(name, DataType::Float32, dim)
}

/// A column of vectors of `dim` numbers, from the numbers of all rows, one row behind the other.
pub fn vector_column(numbers: Vec<f32>, dim: usize) -> ArrayRef {
    fixed_list_column(Arc::new(Float32Array::from(numbers)), dim)
}

/// A number in half precision.
type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// The field of a column `name` of vectors of `dim` numbers in half precision.
pub fn half_vector_field(name: &str, dim: usize) -> Field {
    fixed_list_field(name, DataType::Float16, dim)
}

/// A column of vectors of `dim` numbers in half precision, each the nearest to the given one.
pub fn half_vector_column(numbers: &[f32], dim: usize) -> ArrayRef {
    let halves = numbers.iter().map(|number| Half::from_f32(*number));
    fixed_list_column(Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(halves)), dim)
}

fn fixed_list_field(name: &str, of: DataType, dim: usize) -> Field {
    Field::new(name, DataType::FixedSizeList(element_field(of), dim as i32), false)
}

fn fixed_list_column(numbers: ArrayRef, dim: usize) -> ArrayRef {
    let element = element_field(numbers.data_type().clone());
    Arc::new(FixedSizeListArray::new(element, dim as i32, numbers, None))
}

fn element_field(of: DataType) -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, of, false))
}

/// A column of counts. Unsigned numbers of 64 bits are unknown to Athena, and decimals to Spark.
pub fn count_column(counts: impl IntoIterator<Item = u64>) -> ArrayRef {
    primitive_column::<Int64Type>(counts.into_iter().map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
}

/// The field of a column `name` of lists.
pub fn list_field<T: ArrowPrimitiveType>(name: &str) -> Field {
    Field::new(name, DataType::List(element_field(T::DATA_TYPE)), false)
}

/// A column of lists, from the values of each row.
pub fn list_column<T: ArrowPrimitiveType, I: IntoIterator<Item = T::Native>>(
    rows: impl Iterator<Item = I>,
) -> ArrayRef {
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    for row in rows {
        let before = values.len();
        values.extend(row);
        lengths.push(values.len() - before);
    }
    let element = element_field(T::DATA_TYPE);
    let values = Arc::new(PrimitiveArray::<T>::from_iter_values(values));
    Arc::new(ListArray::new(element, OffsetBuffer::from_lengths(lengths), values, None))
}

/// A column of numbers.
pub fn primitive_column<T: ArrowPrimitiveType>(values: impl IntoIterator<Item = T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values))
}

/// A column of text.
pub fn string_column<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}
