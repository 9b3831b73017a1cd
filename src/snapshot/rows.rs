//! Rows of a table as columns of a file: the values, and the optimizer's accumulators beside them.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::Field;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{ColumnSlice, vector_column, vector_field};
use crate::table::adagrad::TrainedRows;
use crate::table::rows::Rows;

/// The name of the column of accumulators beside the column `name` of values.
fn accumulator(name: &str) -> String {
    format!("{name}_accumulator")
}

/// The fields of the columns that [`trained_columns`] makes.
pub(super) fn trained_fields(name: &str, table: &TrainedRows) -> [Field; 2] {
    [vector_field(name, table.values.dim()), vector_field(&accumulator(name), table.sums.dim())]
}

/// Values and accumulators of the rows `range`.
pub(super) fn trained_columns(table: &TrainedRows, range: Range<usize>) -> [ArrayRef; 2] {
    [rows_column(&table.values, range.clone()), rows_column(&table.sums, range)]
}

/// The rows `range`, as a column of vectors.
pub(super) fn rows_column(rows: &Rows, range: Range<usize>) -> ArrayRef {
    let mut flat = Vec::with_capacity(range.len() * rows.dim());
    range.for_each(|row| flat.extend_from_slice(rows.row(row)));
    vector_column(flat, rows.dim())
}

/// Adds the rows that `slice` holds in the columns of [`trained_columns`] to `table`.
pub(super) fn read_trained(slice: &ColumnSlice, name: &str, table: &mut TrainedRows) -> Result<(), CheckpointError> {
    let (dim, accumulator_dim) = (table.values.dim(), table.sums.dim());
    let values = slice.vectors(name, dim)?;
    let accumulators = slice.vectors(&accumulator(name), accumulator_dim)?;
    for (value, sum) in values.chunks_exact(dim).zip(accumulators.chunks_exact(accumulator_dim)) {
        table.push(|row| row.copy_from_slice(value));
        table.sums.row_mut(table.values.len() - 1).copy_from_slice(sum);
    }
    Ok(())
}
