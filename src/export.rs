//! Vectors in the files of other programs: arrays of NumPy, matrices of USearch, indices of Faiss, tables of Parquet.
//!
//! | format | the file is |
//! | --- | --- |
//! | [`MatrixFormat::Npy`] | NumPy's, version 1.0 |
//! | [`MatrixFormat::Fbin`] | rows and columns as little-endian u32, then the numbers: what USearch, and the benchmarks of nearest neighbours, load |
//! | [`MatrixFormat::FaissFlatIp`] | a Faiss `IndexFlatIP` |
//!
//! All numbers are little-endian f32, row by row; who a row is stands in a list of names beside, or, in Parquet, in a column.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use crate::checkpoint::columns::{published_properties, string_column, vector_column, vector_field};

/// Rows that are made and written at a time.
const SLICE_ROWS: usize = 4_096;

/// A file of numbers without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixFormat {
    /// An array of NumPy.
    Npy,
    /// Rows, columns, numbers.
    Fbin,
    /// A Faiss index that compares with every row, by the inner product.
    FaissFlatIp,
}

impl MatrixFormat {
    /// What stands before the numbers.
    fn head(self, n_rows: usize, dim: usize) -> Vec<u8> {
        let mut head = Vec::new();
        match self {
            Self::Npy => {
                let shape = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {dim}), }}");
                // With the ten bytes before it and its end of line, a multiple of 64.
                let length = (10 + shape.len() + 1).next_multiple_of(64) - 10;
                head.extend(b"\x93NUMPY\x01\x00");
                head.extend((length as u16).to_le_bytes());
                head.extend(format!("{shape:<width$}\n", width = length - 1).as_bytes());
            }
            Self::Fbin => {
                head.extend((n_rows as u32).to_le_bytes());
                head.extend((dim as u32).to_le_bytes());
            }
            Self::FaissFlatIp => {
                head.extend(b"IxFI");
                head.extend((dim as i32).to_le_bytes());
                head.extend((n_rows as i64).to_le_bytes());
                // Two numbers that Faiss does not use any more.
                head.extend([(1_i64 << 20).to_le_bytes(); 2].concat());
                // It needs no training; its metric is the inner product.
                head.push(1);
                head.extend(0_i32.to_le_bytes());
                head.extend(((n_rows * dim) as u64).to_le_bytes());
            }
        }
        head
    }
}

/// Writes `n_rows` rows of `dim` numbers; `slice` makes some of them.
///
/// # Errors
/// What the disk says.
pub fn write_matrix(
    file: &mut File,
    format: MatrixFormat,
    n_rows: usize,
    dim: usize,
    slice: &mut dyn FnMut(Range<usize>) -> Vec<f32>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&format.head(n_rows, dim))?;
    for begin in (0..n_rows).step_by(SLICE_ROWS) {
        for number in slice(begin..(begin + SLICE_ROWS).min(n_rows)) {
            out.write_all(&number.to_le_bytes())?;
        }
    }
    out.flush()
}

/// Writes a table of Parquet with the columns `names_column` and `vector`, a list of `dim` numbers.
///
/// # Errors
/// What the disk says.
pub fn write_table(
    file: &mut File,
    names_column: &str,
    names: &[&str],
    dim: usize,
    slice: &mut dyn FnMut(Range<usize>) -> Vec<f32>,
) -> Result<(), ParquetError> {
    let fields = vec![Field::new(names_column, DataType::Utf8, false), vector_field("vector", dim)];
    let schema = Arc::new(Schema::new(fields));
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(published_properties().build()))?;
    for begin in (0..names.len()).step_by(SLICE_ROWS) {
        let rows = begin..(begin + SLICE_ROWS).min(names.len());
        let of_slice: ArrayRef = string_column(names[rows.clone()].iter().copied());
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![of_slice, vector_column(slice(rows), dim)])?)?;
    }
    writer.close().map(drop)
}

/// Writes names as a list of JSON, in the order of rows.
///
/// # Errors
/// What the disk says.
pub fn write_names(file: &mut File, names: &[&str]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    serde_json::to_writer(&mut out, names)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    fn written(format: MatrixFormat) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        write_matrix(&mut file, format, 3, 2, &mut |rows| rows.flat_map(|row| [row as f32, -1.0]).collect()).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        io::copy(&mut file, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn heads_are_as_long_as_their_formats_say() {
        for (format, head) in [(MatrixFormat::Npy, 128), (MatrixFormat::Fbin, 8), (MatrixFormat::FaissFlatIp, 45)] {
            let bytes = written(format);
            assert_eq!(bytes.len(), head + 3 * 2 * 4, "{format:?}");
            assert_eq!(bytes[bytes.len() - 8..], [2.0_f32.to_le_bytes(), (-1.0_f32).to_le_bytes()].concat()[..]);
        }
    }
}
