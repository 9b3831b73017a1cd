//! `users.parquet`: the users' histories, their trained rows, and the hidden states of a recurrent encoder. Items are given
//! by their row in `items.parquet`.

use std::path::Path;

use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::damaged;
use super::rows::{read_trained, rows_column, trained_columns, trained_fields};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{
    self, Layout, list_column, list_field, primitive_column, string_column, vector_field,
};
use crate::checkpoint::store::Draft;
use crate::context::repeat_memory::{NO_PREDECESSOR, PREDECESSORS, RememberedItem};
use crate::context::users::UserHistory;
use crate::model::Model;
use crate::trainer::state::{FrozenUsers, UserStore};

const USERS: &str = "users.parquet";

/// Writes a row for each user.
///
/// | column | holds |
/// | --- | --- |
/// | `user_id` | the name |
/// | `clock` | events of the user so far |
/// | `session_events` | events of the newest session |
/// | `repeat_rate` | share of the events that were repeats, newer ones counting more |
/// | `recent_items` | the newest items, oldest first |
/// | `memory_items`, `_clocks`, `_counts`, `_timestamps` | the distinct items that the repetition term remembers |
/// | `memory_returns`, `_intervals` | how often the user came back to each, and after how many seconds on average |
/// | `memory_predecessors` | what came just before each, newest first: four a piece, 4294967295 where there were fewer |
/// | `own_items` | all items, where own items leave the ranking |
/// | `user`, `user_accumulator` | the trained row, where users have one |
/// | `hidden_state` | the encoder's hidden state, where it is recurrent |
pub(super) fn write(draft: &mut Draft, users: &FrozenUsers, model: &Model) -> Result<(), CheckpointError> {
    let FrozenUsers { names, histories, lifecycle: _ } = users;
    let mut fields = vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("clock", DataType::UInt32, false),
        Field::new("session_events", DataType::UInt32, false),
        Field::new("repeat_rate", DataType::Float32, false),
        list_field::<UInt32Type>("recent_items"),
        list_field::<UInt32Type>("memory_items"),
        list_field::<UInt32Type>("memory_clocks"),
        list_field::<Float64Type>("memory_counts"),
        list_field::<Int64Type>("memory_timestamps"),
        list_field::<UInt32Type>("memory_returns"),
        list_field::<Float32Type>("memory_intervals"),
        list_field::<UInt32Type>("memory_predecessors"),
        list_field::<UInt32Type>("own_items"),
    ];
    if let Some(table) = &model.users {
        fields.extend(trained_fields("user", table));
    }
    if model.gru.is_some() {
        fields.push(vector_field("hidden_state", model.dim()));
    }
    columns::write(draft, USERS, fields, histories.len(), Layout::Internal, |range| {
        let rows = || range.clone().map(|user| histories.get(user));
        let mut columns = vec![
            string_column(range.clone().map(|user| names.get(user).as_str())),
            primitive_column::<UInt32Type>(rows().map(|user| user.clock)),
            primitive_column::<UInt32Type>(rows().map(|user| user.session_events)),
            primitive_column::<Float32Type>(rows().map(|user| user.repeat_rate)),
            list_column::<UInt32Type, _>(rows().map(|user| user.recent.iter().copied())),
            list_column::<UInt32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.item))),
            list_column::<UInt32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.clock))),
            list_column::<Float64Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.count))),
            list_column::<Int64Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.timestamp))),
            list_column::<UInt32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.returns))),
            list_column::<Float32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.interval))),
            list_column::<UInt32Type, _>(
                rows().map(|user| user.memory.iter().flat_map(|remembered| remembered.predecessors)),
            ),
            list_column::<UInt32Type, _>(rows().map(|user| user.own.iter().copied())),
        ];
        if let Some(table) = &model.users {
            columns.extend(trained_columns(table, range.clone()));
        }
        if model.gru.is_some() {
            columns.push(rows_column(&model.hidden_states, range));
        }
        columns
    })
}

/// Reads the users into `users` and `model`, which have none yet; their items must be among the first `n_items` rows.
pub(super) fn read(
    folder: &Path,
    n_items: usize,
    users: &mut UserStore,
    model: &mut Model,
) -> Result<(), CheckpointError> {
    // The lifecycle is in `samplers.parquet`.
    let UserStore { ids, histories, lifecycle: _ } = users;
    columns::read(folder, USERS, |slice| {
        let names = slice.strings("user_id")?;
        let clocks = slice.primitives::<UInt32Type>("clock")?;
        let session_events = slice.primitives::<UInt32Type>("session_events")?;
        let (recent, own) = (slice.lists::<UInt32Type>("recent_items")?, slice.lists::<UInt32Type>("own_items")?);
        let item = slice.lists::<UInt32Type>("memory_items")?;
        let clock = slice.lists::<UInt32Type>("memory_clocks")?;
        let count = slice.lists::<Float64Type>("memory_counts")?;
        let timestamp = slice.lists::<Int64Type>("memory_timestamps")?;
        let repeat_rates = slice.primitives::<Float32Type>("repeat_rate")?;
        let returns = slice.lists::<UInt32Type>("memory_returns")?;
        let interval = slice.lists::<Float32Type>("memory_intervals")?;
        let predecessors = slice.lists::<UInt32Type>("memory_predecessors")?;
        for (row, user_clock) in clocks.iter().enumerate() {
            ids.intern(names.value(row));
            let (items, clocks, counts) = (item.row(row), clock.row(row), count.row(row));
            let (timestamps, returns, intervals) = (timestamp.row(row), returns.row(row), interval.row(row));
            let (predecessors, rest) = predecessors.row(row).as_chunks::<PREDECESSORS>();
            let lengths =
                [clocks.len(), counts.len(), timestamps.len(), returns.len(), intervals.len(), predecessors.len()];
            if lengths.iter().any(|length| *length != items.len()) || !rest.is_empty() {
                return Err(damaged(folder, USERS, "what is remembered of items is not there for each of them"));
            }
            let remembered = |place: usize| RememberedItem {
                item: items[place],
                clock: clocks[place],
                count: counts[place],
                timestamp: timestamps[place],
                returns: returns[place],
                interval: intervals[place],
                predecessors: predecessors[place],
            };
            histories.restore(UserHistory {
                clock: *user_clock,
                session_events: session_events[row],
                repeat_rate: repeat_rates[row],
                recent: recent.row(row).to_vec(),
                memory: (0..items.len()).map(remembered).collect(),
                own: own.row(row).to_vec(),
            });
        }
        if let Some(table) = &mut model.users {
            read_trained(slice, "user", table)?;
        }
        if model.gru.is_some() {
            let dim = model.dim();
            let states = slice.vectors("hidden_state", dim)?.chunks_exact(dim);
            states.for_each(|state| model.hidden_states.push(|row| row.copy_from_slice(state)));
        }
        Ok(())
    })?;
    let is_item = |item: &u32| (*item as usize) < n_items;
    let is_sound = |user: &UserHistory| {
        user.recent.iter().all(is_item)
            && user.own.iter().all(is_item)
            && user.memory.iter().all(|remembered| {
                let known = |item: &u32| *item == NO_PREDECESSOR || is_item(item);
                is_item(&remembered.item) && remembered.clock <= user.clock && remembered.predecessors.iter().all(known)
            })
    };
    if ids.len() != histories.len() || !histories.iter().all(is_sound) {
        return Err(damaged(folder, USERS, "users are twice, or refer to items that are not there"));
    }
    Ok(())
}
