//! What negatives are drawn from, to a checkpoint and back: the bank, the live items, the samplers, the ledger; and what
//! objectives keep besides their numbers.

use std::io::Write;
use std::path::Path;

use arrow_array::types::{Float32Type, Float64Type, UInt32Type, UInt64Type};
use arrow_schema::{DataType, Field};

use super::frozen::Frozen;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_field, lists, numbers, text};
use crate::checkpoint::store::Draft;
use crate::config::Config;
use crate::negatives::bank::{Bank, Entry};
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::StreamView;
use crate::state_dict::{Array, StateDict};
use crate::trainer::state::{NegativeSources, State, horizon};

const BANK: &str = "bank.parquet";
const NOISE: &str = "noise.parquet";
const LEDGER: &str = "ledger.json";
const WHOLE: &str = "whole";
const REAL: &str = "real";
/// Longest piece of an array in one row of a file.
const PIECE: usize = 1 << 16;

/// Writes them.
pub(crate) fn save(draft: &mut Draft, frozen: &Frozen) -> Result<(), CheckpointError> {
    save_bank(draft, &frozen.bank)?;
    let mut lifecycles = StateDict::default();
    lifecycles.within("lifecycle", |saved| {
        saved.within("items", |saved| frozen.items.lifecycle.save(saved));
        saved.within("users", |saved| frozen.users.lifecycle.save(saved));
    });
    save_arrays(draft, frozen.arrays.arrays().chain(lifecycles.arrays()))?;
    draft.file(LEDGER, |file| Ok(file.write_all(&serde_json::to_vec(&frozen.false_negatives)?)?))
}

fn save_bank(draft: &mut Draft, bank: &Bank) -> Result<(), CheckpointError> {
    let entries: Vec<&Entry> = bank.entries().iter().collect();
    let fields = vec![
        Field::new("item", DataType::UInt32, false),
        Field::new("event", DataType::UInt64, false),
        list_field::<Float32Type>("frozen"),
    ];
    let dim = bank.frozen_vectors().len() / entries.len().max(1);
    columns::write(draft, BANK, fields, entries.len(), Layout::Internal, |range| {
        let rows = &entries[range.clone()];
        vec![
            numbers::<UInt32Type>(rows.iter().map(|entry| entry.item)),
            numbers::<UInt64Type>(rows.iter().map(|entry| entry.event)),
            lists::<Float32Type, _>(
                range.map(|slot| bank.frozen_vectors().range(slot * dim..(slot + 1) * dim).copied()),
            ),
        ]
    })
}

fn save_arrays<'a>(
    draft: &mut Draft,
    arrays: impl Iterator<Item = (&'a str, &'a Array)>,
) -> Result<(), CheckpointError> {
    // An empty array has a row too.
    let mut pieces: Vec<(&str, &str, &[u32], &[f64])> = Vec::new();
    for (name, array) in arrays {
        match array {
            Array::Whole(whole) if whole.is_empty() => pieces.push((name, WHOLE, &[], &[])),
            Array::Real(real) if real.is_empty() => pieces.push((name, REAL, &[], &[])),
            Array::Whole(whole) => pieces.extend(whole.chunks(PIECE).map(|piece| (name, WHOLE, piece, &[][..]))),
            Array::Real(real) => pieces.extend(real.chunks(PIECE).map(|piece| (name, REAL, &[][..], piece))),
        }
    }
    let fields = vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        list_field::<UInt32Type>("whole"),
        list_field::<Float64Type>("real"),
    ];
    columns::write(draft, NOISE, fields, pieces.len(), Layout::Internal, |range| {
        let pieces = &pieces[range];
        vec![
            text(pieces.iter().map(|(name, ..)| *name)),
            text(pieces.iter().map(|(_, kind, ..)| *kind)),
            lists::<UInt32Type, _>(pieces.iter().map(|(_, _, whole, _)| whole.iter().copied())),
            lists::<Float64Type, _>(pieces.iter().map(|(_, _, _, real)| real.iter().copied())),
        ]
    })
}

/// Reads them back into `state`, of which everything else is there.
pub(crate) fn load(config: &Config, path: &Path, state: &mut State) -> Result<(), CheckpointError> {
    let damaged =
        |file: &str, problem: &str| CheckpointError::Damaged { path: path.join(file), problem: problem.to_owned() };
    let n_items = state.items.ids.len();

    let (mut entries, mut frozen) = (Vec::new(), Vec::new());
    columns::read(path, BANK, |slice| {
        let (items, events) = (slice.numbers::<UInt32Type>("item")?, slice.numbers::<UInt64Type>("event")?);
        let vectors = slice.lists::<Float32Type>("frozen")?;
        for (row, item) in items.iter().enumerate() {
            entries.push(Entry { item: *item, event: events[row] });
            frozen.extend_from_slice(vectors.row(row));
        }
        Ok(())
    })?;
    if entries.iter().any(|entry| entry.item as usize >= n_items || entry.event >= state.progress.events.used) {
        return Err(damaged(BANK, "it refers to items or events that are not there"));
    }
    let bank = std::mem::replace(&mut state.negatives.bank, Bank::new(0, 0, false));
    let bank = bank.with_entries(entries, frozen, config.model.dim, state.progress.events.used);
    state.negatives.bank = bank.ok_or_else(|| damaged(BANK, "its vectors are not as many as its entries"))?;

    let mut arrays: Vec<(String, Array)> = Vec::new();
    columns::read(path, NOISE, |slice| {
        let (names, kinds) = (slice.text("name")?, slice.text("kind")?);
        let (whole, real) = (slice.lists::<UInt32Type>("whole")?, slice.lists::<Float64Type>("real")?);
        for row in 0..slice.len() {
            let continued = arrays.last_mut().filter(|(name, _)| name == names.value(row));
            match (continued, whole.row(row), real.row(row)) {
                (Some((_, Array::Whole(numbers))), piece, _) => numbers.extend_from_slice(piece),
                (Some((_, Array::Real(numbers))), _, piece) => numbers.extend_from_slice(piece),
                (None, piece, _) if kinds.value(row) == WHOLE => {
                    arrays.push((names.value(row).to_owned(), Array::Whole(piece.to_vec())));
                }
                (None, _, piece) => arrays.push((names.value(row).to_owned(), Array::Real(piece.to_vec()))),
            }
        }
        Ok(())
    })?;
    let mut saved = StateDict::from_arrays(arrays);
    let refused = |error: crate::state_dict::StateDictError| damaged(NOISE, &error.to_string());
    state.negatives.live =
        saved.within("live", |saved| LiveItems::restore(horizon(config), n_items, saved)).map_err(refused)?;
    let State { negatives: NegativeSources { frequencies, live, noise, .. }, model, .. } = state;
    let scene = StreamView { frequencies, live, vectors: &*model };
    saved.within("noise", |saved| noise.restore(scene, saved)).map_err(refused)?;
    saved.within("objective", |saved| state.objectives.restore(n_items, saved)).map_err(refused)?;
    let n_users = state.users.ids.len();
    let State { items, users, .. } = state;
    let lifecycles = saved.within("lifecycle", |saved| {
        saved.within("items", |saved| items.lifecycle.restore(n_items, saved))?;
        saved.within("users", |saved| users.lifecycle.restore(n_users, saved))
    });
    lifecycles.map_err(refused)?;

    let text = std::fs::read(path.join(LEDGER)).map_err(|error| damaged(LEDGER, &error.to_string()))?;
    let ledger: FalseNegativeTracker =
        serde_json::from_slice(&text).map_err(|error| damaged(LEDGER, &error.to_string()))?;
    let restored = ledger.restored(
        config.negatives.false_negative_window,
        (n_items, state.users.ids.len()),
        state.progress.events.used,
    );
    state.negatives.false_negatives =
        restored.ok_or_else(|| damaged(LEDGER, "it refers to items or users that are not there"))?;
    Ok(())
}
