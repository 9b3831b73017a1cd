//! `cooccurrence.parquet`: which items follow one another, in the order of `items.parquet`, where that is counted.

use std::path::Path;

use arrow_array::types::{Float32Type, Float64Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::damaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_column, list_field, primitive_column};
use crate::checkpoint::store::Draft;
use crate::context::cooccurrence::{Cooccurrences, CountedNeighbor, Neighborhood};
use crate::table::records::Records;

const COOCCURRENCE: &str = "cooccurrence.parquet";

/// Writes a row for each item: its `events`, the rows of its `neighbors`, and the `weights` of these.
pub(super) fn write(draft: &mut Draft, neighborhoods: &Records<Neighborhood>) -> Result<(), CheckpointError> {
    let fields = vec![
        Field::new("events", DataType::Float64, false),
        list_field::<UInt32Type>("neighbors"),
        list_field::<Float32Type>("weights"),
    ];
    columns::write(draft, COOCCURRENCE, fields, neighborhoods.len(), Layout::Internal, |range| {
        let rows = || range.clone().map(|item| neighborhoods.get(item));
        let neighbors = |row: &'_ Neighborhood| row.neighbors.clone().into_iter();
        vec![
            primitive_column::<Float64Type>(rows().map(|row| row.events)),
            list_column::<UInt32Type, _>(rows().map(|row| neighbors(row).map(|neighbor| neighbor.item))),
            list_column::<Float32Type, _>(rows().map(|row| neighbors(row).map(|neighbor| neighbor.weight))),
        ]
    })
}

/// Reads the neighbourhoods of the `n_items` items into `cooccurrences`, which has none yet.
pub(super) fn read(folder: &Path, n_items: usize, cooccurrences: &mut Cooccurrences) -> Result<(), CheckpointError> {
    if !cooccurrences.is_on() {
        return Ok(());
    }
    let longest = cooccurrences.longest();
    let is_item = |item: &u32| (*item as usize) < n_items;
    // Weights are compared by their bits, so that -0 is refused too.
    let is_count = |count: f64| count.is_finite() && count.is_sign_positive();
    let mut is_sound = true;
    columns::read(folder, COOCCURRENCE, |slice| {
        let events = slice.primitives::<Float64Type>("events")?;
        let neighbors = slice.lists::<UInt32Type>("neighbors")?;
        let weights = slice.lists::<Float32Type>("weights")?;
        for (row, events) in events.iter().enumerate() {
            let (items, weights) = (neighbors.row(row), weights.row(row));
            is_sound &= cooccurrences.len() < n_items
                && is_count(*events)
                && items.len() <= longest
                && items.len() == weights.len()
                && items.iter().all(is_item)
                && weights.iter().all(|weight| is_count((*weight).into()));
            if !is_sound {
                break;
            }
            let neighbors =
                items.iter().zip(weights).map(|(item, weight)| CountedNeighbor { item: *item, weight: *weight });
            cooccurrences.restore(Neighborhood { events: *events, neighbors: neighbors.collect() });
        }
        Ok(())
    })?;
    if is_sound && cooccurrences.len() == n_items {
        return Ok(());
    }
    Err(damaged(folder, COOCCURRENCE, "its counts cannot be counts, or are too many, or not of each item"))
}
