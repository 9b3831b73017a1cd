//! Rows to columns of a checkpoint and back.

use arrow_array::ArrayRef;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, vectors};
use crate::table::adagrad::TrainedRows;
use crate::table::rows::Rows;

pub(crate) fn slice_of(rows: &Rows, range: std::ops::Range<usize>) -> ArrayRef {
    let mut flat = Vec::with_capacity(range.len() * rows.dim());
    range.for_each(|row| flat.extend_from_slice(rows.row(row)));
    vectors(flat, rows.dim())
}

pub(crate) fn read_rows(slice: &columns::Slice, name: &str, table: &mut TrainedRows) -> Result<(), CheckpointError> {
    let (dim, sums_dim) = (table.values.dim(), table.sums.dim());
    let values = slice.vectors(name, dim)?;
    let sums = slice.vectors(&format!("{name}_sums"), sums_dim)?;
    for (value, sum) in values.chunks_exact(dim).zip(sums.chunks_exact(sums_dim)) {
        table.push(|row| row.copy_from_slice(value));
        table.sums.row_mut(table.values.len() - 1).copy_from_slice(sum);
    }
    Ok(())
}
