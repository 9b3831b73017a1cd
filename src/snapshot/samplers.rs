//! `samplers.parquet`: named arrays of the live items, of the samplers and objectives, and of the row lifecycles.

use std::path::Path;

use arrow_array::types::{Float64Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::damaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_column, list_field, string_column};
use crate::checkpoint::store::Draft;
use crate::config::Config;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::StreamView;
use crate::state_dict::{Array, StateDict, StateDictError};
use crate::trainer::state::{NegativeSources, State, horizon};
use crate::trainer::state_snapshot::StateSnapshot;

const SAMPLERS: &str = "samplers.parquet";
/// What the column `kind` says of an array of unsigned numbers.
const U32: &str = "u32";
/// What the column `kind` says of an array of floating-point numbers.
const F64: &str = "f64";
/// Longest piece of an array in one row of the file.
const PIECE: usize = 1 << 16;

/// Scope of [`LiveItems`].
const LIVE_ITEMS: &str = "live_items";
/// Scope of the samplers.
const NOISE: &str = "samplers";
/// Scope of the objectives.
const OBJECTIVES: &str = "objectives";
/// Scope of the row lifecycles.
const LIFECYCLES: &str = "row_lifecycles";

/// Writes the arrays of `snapshot`: a row for each piece of an array, `name`, `kind` (`u32` or `f64`), and the numbers in the
/// column of its kind.
pub(super) fn write(draft: &mut Draft, snapshot: &StateSnapshot) -> Result<(), CheckpointError> {
    let StateSnapshot { live_items, samplers, objectives, items, users, .. } = snapshot;
    let mut lifecycles = StateDict::default();
    lifecycles.scope("items", |saved| items.lifecycle.save(saved));
    lifecycles.scope("users", |saved| users.lifecycle.save(saved));
    let scopes = [(LIVE_ITEMS, live_items), (NOISE, samplers), (OBJECTIVES, objectives), (LIFECYCLES, &lifecycles)];
    // A name in a scope is what `StateDict::within` makes of it. An empty array has a row too.
    let mut pieces: Vec<(String, &str, &[u32], &[f64])> = Vec::new();
    let arrays = scopes.into_iter().flat_map(|(scope, dict)| dict.arrays().map(move |array| (scope, array)));
    for (scope, (name, array)) in arrays {
        let name = || format!("{scope}/{name}");
        match array {
            Array::U32(whole) if whole.is_empty() => pieces.push((name(), U32, &[], &[])),
            Array::F64(real) if real.is_empty() => pieces.push((name(), F64, &[], &[])),
            Array::U32(whole) => pieces.extend(whole.chunks(PIECE).map(|piece| (name(), U32, piece, &[][..]))),
            Array::F64(real) => pieces.extend(real.chunks(PIECE).map(|piece| (name(), F64, &[][..], piece))),
        }
    }
    let fields = vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        list_field::<UInt32Type>(U32),
        list_field::<Float64Type>(F64),
    ];
    columns::write(draft, SAMPLERS, fields, pieces.len(), Layout::Internal, |range| {
        let pieces = &pieces[range];
        vec![
            string_column(pieces.iter().map(|(name, ..)| name.as_str())),
            string_column(pieces.iter().map(|(_, kind, ..)| *kind)),
            list_column::<UInt32Type, _>(pieces.iter().map(|(_, _, whole, _)| whole.iter().copied())),
            list_column::<Float64Type, _>(pieces.iter().map(|(_, _, _, real)| real.iter().copied())),
        ]
    })
}

fn read_arrays(folder: &Path) -> Result<StateDict, CheckpointError> {
    let mut arrays: Vec<(String, Array)> = Vec::new();
    columns::read(folder, SAMPLERS, |slice| {
        let (names, kinds) = (slice.strings("name")?, slice.strings("kind")?);
        let (whole, real) = (slice.lists::<UInt32Type>(U32)?, slice.lists::<Float64Type>(F64)?);
        for row in 0..slice.len() {
            let continued = arrays.last_mut().filter(|(name, _)| name == names.value(row));
            match (continued, whole.row(row), real.row(row)) {
                (Some((_, Array::U32(numbers))), piece, _) => numbers.extend_from_slice(piece),
                (Some((_, Array::F64(numbers))), _, piece) => numbers.extend_from_slice(piece),
                (None, piece, _) if kinds.value(row) == U32 => {
                    arrays.push((names.value(row).to_owned(), Array::U32(piece.to_vec())));
                }
                (None, _, piece) => arrays.push((names.value(row).to_owned(), Array::F64(piece.to_vec()))),
            }
        }
        Ok(())
    })?;
    Ok(StateDict::from_arrays(arrays))
}

/// Reads the arrays into `state`, whose items, users, model and frequencies are read.
pub(super) fn read(folder: &Path, config: &Config, state: &mut State) -> Result<(), CheckpointError> {
    let mut saved = read_arrays(folder)?;
    let damaged = |error: StateDictError| damaged(folder, SAMPLERS, &error.to_string());
    let State { items, users, model, objectives, negatives, progress: _, sources: _ } = state;
    let NegativeSources { frequencies, live, noise, bank: _, false_negatives: _ } = negatives;
    let (n_items, n_users) = (items.ids.len(), users.ids.len());
    *live = saved.scope(LIVE_ITEMS, |saved| LiveItems::restore(horizon(config), n_items, saved)).map_err(damaged)?;
    let view = StreamView { frequencies, live, vectors: &*model };
    saved.scope(NOISE, |saved| noise.restore(view, saved)).map_err(damaged)?;
    saved.scope(OBJECTIVES, |saved| objectives.restore(n_items, saved)).map_err(damaged)?;
    let lifecycles = saved.scope(LIFECYCLES, |saved| {
        saved.scope("items", |saved| items.lifecycle.restore(n_items, saved))?;
        saved.scope("users", |saved| users.lifecycle.restore(n_users, saved))
    });
    lifecycles.map_err(damaged)
}
