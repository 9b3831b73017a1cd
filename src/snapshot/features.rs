//! `features.parquet`: the rows of the item features, where items have features. Which item has which features is in
//! `item_state.parquet`.

use std::path::Path;

use arrow_array::types::UInt32Type;
use arrow_schema::{DataType, Field};

use super::damaged;
use super::rows::{read_trained, trained_columns, trained_fields};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, primitive_column};
use crate::checkpoint::store::Draft;
use crate::model::Model;

const FEATURES: &str = "features.parquet";

/// Writes a row for each hash bucket that any item has: the bucket's number, and its trained row.
pub(super) fn write(draft: &mut Draft, model: &Model) -> Result<(), CheckpointError> {
    let Some(features) = &model.features else { return Ok(()) };
    let mut fields = vec![Field::new("bucket", DataType::UInt32, false)];
    fields.extend(trained_fields("feature", &features.rows));
    columns::write(draft, FEATURES, fields, features.buckets().len(), Layout::Internal, |range| {
        let buckets = features.buckets().runs(range.clone()).flatten().copied();
        let mut columns = vec![primitive_column::<UInt32Type>(buckets)];
        columns.extend(trained_columns(&features.rows, range));
        columns
    })
}

/// Reads the rows into `model`, which has no feature yet.
pub(super) fn read(folder: &Path, model: &mut Model) -> Result<(), CheckpointError> {
    let Some(features) = &mut model.features else { return Ok(()) };
    let mut buckets = Vec::new();
    columns::read(folder, FEATURES, |slice| {
        buckets.extend_from_slice(slice.primitives::<UInt32Type>("bucket")?);
        read_trained(slice, "feature", &mut features.rows)
    })?;
    let problem = "it does not have a row for each bucket, or has buckets twice";
    features.restore(buckets).ok_or_else(|| damaged(folder, FEATURES, problem))
}
