//! `items.parquet`: the items as an index serves them. Other programs read this file, so its columns stay as they are.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::{Float32Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, TimeUnit};

use super::damaged;
use crate::checkpoint::columns::{
    self, Layout, count_column, half_vector_column, half_vector_field, primitive_column, string_column, vector_column,
    vector_field,
};
use crate::checkpoint::reader::ITEMS;
use crate::checkpoint::store::Draft;
use crate::checkpoint::{CheckpointError, EmbeddingType};
use crate::model::Model;
use crate::negatives::frequency::Frequencies;
use crate::trainer::state::{FrozenItems, ItemStore};

/// Writes a row for each item: `item_id`, `embedding` as served, `log_frequency`, `count`, `last_event`, and `bias` where the
/// objective has one.
pub(super) fn write(
    draft: &mut Draft,
    embedding_type: EmbeddingType,
    items: &FrozenItems,
    model: &Model,
    frequencies: &Frequencies,
) -> Result<(), CheckpointError> {
    let FrozenItems { names, occurrences, last_event, neighborhoods: _, lifecycle: _ } = items;
    let dim = model.dim();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("item_id", DataType::Utf8, false),
        match embedding_type {
            EmbeddingType::Float32 => vector_field("embedding", dim),
            EmbeddingType::Float16 => half_vector_field("embedding", dim),
        },
        Field::new("log_frequency", DataType::Float32, false),
        Field::new("count", DataType::Int64, false),
        Field::new("last_event", time, false),
    ];
    if model.biases.is_some() {
        fields.push(Field::new("bias", DataType::Float32, false));
    }
    columns::write(draft, ITEMS, fields, names.len(), Layout::Published, |range| {
        let mut embeddings = vec![0.0; range.len() * dim];
        for (item, out) in range.clone().zip(embeddings.chunks_exact_mut(dim)) {
            model.served(item, out);
        }
        let times = last_event.runs(range.clone()).flatten().copied();
        let times = TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![
            string_column(range.clone().map(|item| names.get(item).as_str())),
            match embedding_type {
                EmbeddingType::Float32 => vector_column(embeddings, dim),
                EmbeddingType::Float16 => half_vector_column(&embeddings, dim),
            },
            primitive_column::<Float32Type>(range.clone().map(|item| frequencies.log_frequency(item as u32))),
            count_column(occurrences.runs(range.clone()).flatten().copied()),
            Arc::new(times),
        ];
        if model.biases.is_some() {
            columns.push(primitive_column::<Float32Type>(range.map(|item| model.bias(item))));
        }
        columns
    })
}

/// Reads names, counts and times of the `n_items` items into `items`, which is empty.
pub(super) fn read(folder: &Path, n_items: u64, items: &mut ItemStore) -> Result<(), CheckpointError> {
    // The lifecycle is in `samplers.parquet`; the tracking of changes, which is private, is no part of a checkpoint.
    let ItemStore { ids, occurrences, last_event, lifecycle: _, .. } = items;
    columns::read(folder, ITEMS, |slice| {
        let names = slice.strings("item_id")?;
        (0..slice.len()).for_each(|row| {
            ids.intern(names.value(row));
        });
        occurrences.extend(slice.counts("count")?);
        last_event.extend(slice.primitives::<TimestampMillisecondType>("last_event")?.iter().copied());
        Ok(())
    })?;
    if ids.len() != occurrences.len() || occurrences.len() as u64 != n_items {
        return Err(damaged(folder, ITEMS, "items are missing or twice"));
    }
    Ok(())
}
