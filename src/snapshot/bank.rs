//! `bank.parquet`: the memory bank, oldest entry first.

use std::path::Path;

use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_schema::{DataType, Field};

use super::damaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_column, list_field, primitive_column};
use crate::checkpoint::store::Draft;
use crate::negatives::bank::{Bank, BankEntry};
use crate::trainer::state::State;

const BANK: &str = "bank.parquet";

/// Writes a row for each entry: the row of its `item`, the used `event` that it came with, and its `vector` as it was then,
/// which is empty where the bank reads vectors live.
pub(super) fn write(draft: &mut Draft, bank: &Bank) -> Result<(), CheckpointError> {
    let entries: Vec<&BankEntry> = bank.entries().iter().collect();
    let fields = vec![
        Field::new("item", DataType::UInt32, false),
        Field::new("event", DataType::UInt64, false),
        list_field::<Float32Type>("vector"),
    ];
    let dim = bank.frozen_vectors().len() / entries.len().max(1);
    columns::write(draft, BANK, fields, entries.len(), Layout::Internal, |range| {
        let rows = &entries[range.clone()];
        let vectors = range.map(|slot| bank.frozen_vectors().range(slot * dim..(slot + 1) * dim).copied());
        vec![
            primitive_column::<UInt32Type>(rows.iter().map(|entry| entry.item)),
            primitive_column::<UInt64Type>(rows.iter().map(|entry| entry.event)),
            list_column::<Float32Type, _>(vectors),
        ]
    })
}

/// Reads the bank into `state`, whose items and event counts are read; vectors have `dim` numbers.
pub(super) fn read(folder: &Path, dim: usize, state: &mut State) -> Result<(), CheckpointError> {
    let (mut entries, mut frozen) = (Vec::new(), Vec::new());
    columns::read(folder, BANK, |slice| {
        let (items, events) = (slice.primitives::<UInt32Type>("item")?, slice.primitives::<UInt64Type>("event")?);
        let vectors = slice.lists::<Float32Type>("vector")?;
        for (row, item) in items.iter().enumerate() {
            entries.push(BankEntry { item: *item, event: events[row] });
            frozen.extend_from_slice(vectors.row(row));
        }
        Ok(())
    })?;
    let n_items = state.items.ids.len();
    // The clock of a group may be ahead of the events that its workers know of.
    let newest =
        entries.iter().map(|entry| entry.event.saturating_add(1)).max().filter(|_| state.sources.shared.is_some());
    let n_used = (state.progress.events.used + state.progress.others.used).max(newest.unwrap_or(0));
    if entries.iter().any(|entry| entry.item as usize >= n_items || entry.event >= n_used) {
        return Err(damaged(folder, BANK, "it refers to items or events that are not there"));
    }
    let empty = std::mem::replace(&mut state.negatives.bank, Bank::new(0, 0, false));
    let bank = empty.with_entries(entries, frozen, dim, n_used);
    state.negatives.bank = bank.ok_or_else(|| damaged(folder, BANK, "its vectors are not as many as its entries"))?;
    Ok(())
}
