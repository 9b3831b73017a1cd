//! The rows of what items share, to a checkpoint and back. Which item has which is in the items' own rows.

use std::path::Path;

use arrow_array::types::UInt32Type;
use arrow_schema::{DataType, Field};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, numbers, vector_field};
use crate::checkpoint::store::Draft;
use crate::model::Model;
use crate::snapshot::rows::{read_rows, slice_of};

const FEATURES: &str = "features.parquet";

/// Writes them, where items have features.
pub(crate) fn save(draft: &mut Draft, model: &Model) -> Result<(), CheckpointError> {
    let Some(features) = &model.features else { return Ok(()) };
    let rows = &features.rows;
    let fields = vec![
        Field::new("bucket", DataType::UInt32, false),
        vector_field("feature", rows.values.dim()),
        vector_field("feature_sums", rows.sums.dim()),
    ];
    columns::write(draft, FEATURES, fields, features.buckets().len(), Layout::Internal, |range| {
        vec![
            numbers::<UInt32Type>(features.buckets().runs(range.clone()).flatten().copied()),
            slice_of(&rows.values, range.clone()),
            slice_of(&rows.sums, range),
        ]
    })
}

/// Reads them back into `model`, which has none yet.
pub(crate) fn load(path: &Path, model: &mut Model) -> Result<(), CheckpointError> {
    let Some(features) = &mut model.features else { return Ok(()) };
    let mut buckets = Vec::new();
    columns::read(path, FEATURES, |slice| {
        buckets.extend_from_slice(slice.numbers::<UInt32Type>("bucket")?);
        read_rows(slice, "feature", &mut features.rows)
    })?;
    let problem = "it does not have a row for each bucket, or has buckets twice";
    let damaged = || CheckpointError::Damaged { path: path.join(FEATURES), problem: problem.to_owned() };
    features.restore(buckets).ok_or_else(damaged)
}
