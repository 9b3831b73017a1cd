//! `item_state.parquet`: what training keeps of each item besides its name, in the order of `items.parquet`.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::types::{Float64Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::damaged;
use super::rows::{read_trained, trained_columns, trained_fields};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_column, list_field, primitive_column};
use crate::checkpoint::store::Draft;
use crate::model::Model;
use crate::negatives::frequency::{DecayedCounts, Frequencies};
use crate::table::adagrad::TrainedRows;
use crate::table::paged::Paged;

const ITEM_STATE: &str = "item_state.parquet";
/// The column of the time at which an item came first, in events.
const ARRIVAL: &str = "arrival";

/// What is counted of the items.
#[derive(Debug)]
pub(super) struct ItemCounts {
    /// By half-life: the decayed counts.
    pub counts: Vec<Paged<f64>>,
    /// When each came first, in events.
    pub arrivals: Paged<f64>,
}

/// The column of the counts of the `index`-th half-life, relative to the scale in `progress.json`.
fn frequency_column(index: usize) -> String {
    format!("frequency_{index}")
}

/// Writes a row for each item: its decayed counts, its trained rows with accumulators, and its features.
pub(super) fn write(draft: &mut Draft, model: &Model, frequencies: &Frequencies) -> Result<(), CheckpointError> {
    let all = [("item", Some(&model.items)), ("context", model.contexts.as_ref()), ("bias", model.biases.as_ref())];
    let tables: Vec<(&str, &TrainedRows)> =
        all.into_iter().filter_map(|(name, table)| table.map(|table| (name, table))).collect();
    let counts = frequencies.memories();
    let mut fields: Vec<Field> =
        (0..counts.len()).map(|index| Field::new(frequency_column(index), DataType::Float64, false)).collect();
    fields.push(Field::new(ARRIVAL, DataType::Float64, false));
    fields.extend(tables.iter().flat_map(|(name, table)| trained_fields(name, table)));
    if model.features.is_some() {
        fields.push(list_field::<UInt32Type>("features"));
    }
    columns::write(draft, ITEM_STATE, fields, frequencies.len(), Layout::Internal, |range| {
        let column =
            |counts: &Paged<f64>| primitive_column::<Float64Type>(counts.runs(range.clone()).flatten().copied());
        let mut columns: Vec<ArrayRef> = counts.iter().map(DecayedCounts::relative).map(column).collect();
        columns.push(column(frequencies.newcomers().arrivals()));
        columns.extend(tables.iter().flat_map(|(_, table)| trained_columns(table, range.clone())));
        if let Some(features) = &model.features {
            columns.push(list_column::<UInt32Type, _>(range.map(|item| features.of(item).iter().copied())));
        }
        columns
    })
}

/// Reads the items' rows into `model`, whose features are read and whose items are not, and returns what is counted of the
/// items, by each half-life of `frequencies`.
pub(super) fn read(
    folder: &Path,
    n_items: usize,
    model: &mut Model,
    frequencies: &Frequencies,
) -> Result<ItemCounts, CheckpointError> {
    let (mut counts, mut arrivals) = (vec![Paged::default(); frequencies.memories().len()], Paged::default());
    let Model { items, features, contexts, biases, .. } = &mut *model;
    let mut tables = [("item", Some(items)), ("context", contexts.as_mut()), ("bias", biases.as_mut())];
    let mut has_features = true;
    columns::read(folder, ITEM_STATE, |slice| {
        for (index, counts) in counts.iter_mut().enumerate() {
            counts.extend(slice.primitives::<Float64Type>(&frequency_column(index))?.iter().copied());
        }
        arrivals.extend(slice.primitives::<Float64Type>(ARRIVAL)?.iter().copied());
        for (name, table) in &mut tables {
            if let Some(table) = table {
                read_trained(slice, name, table)?;
            }
        }
        if let Some(features) = features {
            let of_items = slice.lists::<UInt32Type>("features")?;
            has_features &= (0..slice.len()).all(|row| features.restore_item(of_items.row(row)).is_some());
        }
        Ok(())
    })?;
    if !has_features {
        return Err(damaged(folder, ITEM_STATE, "it refers to features that are not there"));
    }
    if !counts.iter().all(|counts| counts.len() == n_items) {
        return Err(damaged(folder, ITEM_STATE, "it does not have a row for each item"));
    }
    model.refresh_all_norms();
    Ok(ItemCounts { counts, arrivals })
}
