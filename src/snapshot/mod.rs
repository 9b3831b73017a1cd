//! State to checkpoint files and back.
//!
//! | file | holds |
//! | --- | --- |
//! | `items.parquet` | for everybody: names, embeddings as served, log q̂, occurrences, time of the last event |
//! | `item_state.parquet` | rows as trained, optimizer sums, relative frequencies; in the order of `items.parquet` |
//! | `features.parquet` | rows of what items share, where items have features |
//! | `users.parquet` | the users' pasts; items by their row in `items.parquet` |
//! | `numbers.parquet` | the learned numbers that belong to no row |
//! | `bank.parquet` | the bank, oldest first |
//! | `noise.parquet` | the live items, what each sampler keeps, and who keeps a row |
//! | `ledger.json` | the negatives that are being watched, and those that turned out false |
//! | `audit.parquet` | which records are part of the state, where that is kept |
//! | `worker.json` | what is left: scale of the frequencies, evaluation, last loss |

pub mod audit;
pub mod frozen;
pub(crate) mod negatives;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::checkpoint::columns::{self, Layout, list_field, lists, numbers, text, vector_field, vectors};
use crate::checkpoint::manifest::{DeadLetterMark, FORMAT, Manifest, Provenance, digest};
use crate::checkpoint::reader::ITEMS;
use crate::checkpoint::store::{Draft, PublishedCheckpoint};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::context::repeat_memory::RememberedItem;
use crate::context::users::UserHistory;
use crate::evaluate::metrics::EvalMetrics;
use crate::kernel::Kernel;
use crate::model::{Model, Similarity};
use crate::negatives::frequency::{Fading, Frequencies};
use crate::objective::step::ObjectiveLoss;
use crate::table::adagrad::{Parameters, TrainedRows};
use crate::table::paged::Paged;
use crate::trainer::features;
use crate::trainer::state::{FrozenItems, FrozenUsers, Progress, SourceProgress, State};
use audit::Audit;
use frozen::Frozen;
use rows::{read_rows, slice_of};

const ITEM_STATE: &str = "item_state.parquet";
const USERS: &str = "users.parquet";
const NUMBERS: &str = "numbers.parquet";
const WORKER: &str = "worker.json";

#[derive(Serialize, Deserialize)]
struct Worker {
    /// By half-life: weight of an event, and total.
    frequency_scales: Vec<[f64; 2]>,
    frequency_evidence: Vec<f64>,
    last_loss: (f64, f64),
    #[serde(default)]
    last_parts: Vec<ObjectiveLoss>,
    #[serde(default)]
    rejected_share: f64,
    evaluation: EvalMetrics,
}

/// Writes `frozen` as the checkpoint `draft`.
///
/// # Errors
/// What the disk says.
pub fn save(
    config: &Config,
    frozen: &Frozen,
    dead_letters: Option<DeadLetterMark>,
    mut draft: Draft,
) -> Result<PublishedCheckpoint, CheckpointError> {
    // Named one by one, so that a field which is not saved does not compile.
    let Frozen {
        items: _,
        users: _,
        model,
        parameters,
        arrays: _,
        frequencies,
        bank: _,
        false_negatives: _,
        progress: Progress { steps, events, last_loss, last_parts, evaluation, rejected_share },
        sources: SourceProgress { positions, ownerships, audit },
    } = frozen;
    save_items(&mut draft, frozen)?;
    save_item_state(&mut draft, model, frequencies)?;
    features::save(&mut draft, model)?;
    save_users(&mut draft, frozen)?;
    save_numbers(&mut draft, parameters)?;
    negatives::save(&mut draft, frozen)?;
    if let Some(audit) = audit {
        audit.save(&mut draft)?;
    }
    let worker = Worker {
        frequency_scales: frequencies.memories().iter().map(Fading::scale_parts).collect(),
        frequency_evidence: frequencies.evidence().to_vec(),
        last_loss: *last_loss,
        last_parts: last_parts.clone(),
        rejected_share: *rejected_share,
        evaluation: evaluation.clone(),
    };
    draft.file(WORKER, |file| Ok(file.write_all(serde_json::to_string(&worker)?.as_bytes())?))?;

    let configuration = config.state_relevant();
    draft.publish(|files| Manifest {
        format: FORMAT,
        negstream: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_digest: digest(&configuration),
        configuration,
        seed: config.seed,
        step: *steps,
        events: *events,
        items: frozen.items.names.len() as u64,
        users: frozen.users.histories.len() as u64,
        evicted: frozen.evicted(),
        dim: config.model.dim,
        similarity: match config.model.similarity {
            Similarity::Cosine => "cosine".to_owned(),
            Similarity::Dot => "dot".to_owned(),
        },
        beta: model.beta(),
        temperature: model.inverse_temperature().recip(),
        positions: positions.clone(),
        ownerships: ownerships.clone(),
        dead_letters,
        provenance: Provenance::default(),
        files,
    })
}

fn save_items(draft: &mut Draft, frozen: &Frozen) -> Result<(), CheckpointError> {
    let Frozen { items, model, frequencies, .. } = frozen;
    let FrozenItems { names, occurrences, last_event, lifecycle: _ } = items;
    let dim = model.dim();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("item_id", DataType::Utf8, false),
        vector_field("embedding", dim),
        Field::new("log_frequency", DataType::Float32, false),
        Field::new("count", DataType::UInt64, false),
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
            text(range.clone().map(|item| names.get(item).as_str())),
            vectors(embeddings, dim),
            numbers::<Float32Type>(range.clone().map(|item| frequencies.log_frequency(item as u32))),
            numbers::<UInt64Type>(occurrences.runs(range.clone()).flatten().copied()),
            Arc::new(times),
        ];
        if model.biases.is_some() {
            columns.push(numbers::<Float32Type>(range.map(|item| model.bias(item))));
        }
        columns
    })
}

/// The counts of the `index`-th half-life.
fn frequency_column(index: usize) -> String {
    format!("frequency_{index}")
}

fn save_item_state(draft: &mut Draft, model: &Model, frequencies: &Frequencies) -> Result<(), CheckpointError> {
    let all = [("item", Some(&model.items)), ("context", model.contexts.as_ref()), ("bias", model.biases.as_ref())];
    let tables: Vec<(&str, &TrainedRows)> =
        all.into_iter().filter_map(|(name, table)| table.map(|table| (name, table))).collect();
    let counts = frequencies.memories();
    let mut fields: Vec<Field> =
        (0..counts.len()).map(|index| Field::new(frequency_column(index), DataType::Float64, false)).collect();
    for (name, table) in &tables {
        fields.push(vector_field(name, table.values.dim()));
        fields.push(vector_field(&format!("{name}_sums"), table.sums.dim()));
    }
    if model.features.is_some() {
        fields.push(list_field::<UInt32Type>("features"));
    }
    columns::write(draft, ITEM_STATE, fields, frequencies.len(), Layout::Internal, |range| {
        let column = |counts: &Fading| numbers::<Float64Type>(counts.relative().runs(range.clone()).flatten().copied());
        let mut columns: Vec<ArrayRef> = counts.iter().map(column).collect();
        for (_, table) in &tables {
            columns.push(slice_of(&table.values, range.clone()));
            columns.push(slice_of(&table.sums, range.clone()));
        }
        if let Some(features) = &model.features {
            columns.push(lists::<UInt32Type, _>(range.map(|item| features.of(item).iter().copied())));
        }
        columns
    })
}

fn save_users(draft: &mut Draft, frozen: &Frozen) -> Result<(), CheckpointError> {
    let Frozen { users: FrozenUsers { names, histories, lifecycle: _ }, model, .. } = frozen;
    let mut fields = vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("clock", DataType::UInt32, false),
        list_field::<UInt32Type>("recent"),
        list_field::<UInt32Type>("memory_item"),
        list_field::<UInt32Type>("memory_at"),
        list_field::<Float64Type>("memory_count"),
        list_field::<Int64Type>("memory_when"),
        list_field::<UInt32Type>("own"),
    ];
    if let Some(table) = &model.users {
        fields.extend([vector_field("user", table.values.dim()), vector_field("user_sums", table.sums.dim())]);
    }
    if model.gru.is_some() {
        fields.push(vector_field("state", model.dim()));
    }
    columns::write(draft, USERS, fields, histories.len(), Layout::Internal, |range| {
        let rows = || range.clone().map(|user| histories.get(user));
        let mut columns = vec![
            text(range.clone().map(|user| names.get(user).as_str())),
            numbers::<UInt32Type>(rows().map(|user| user.clock)),
            lists::<UInt32Type, _>(rows().map(|user| user.recent.iter().copied())),
            lists::<UInt32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.item))),
            lists::<UInt32Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.clock))),
            lists::<Float64Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.count))),
            lists::<Int64Type, _>(rows().map(|user| user.memory.iter().map(|remembered| remembered.timestamp))),
            lists::<UInt32Type, _>(rows().map(|user| user.own.iter().copied())),
        ];
        if let Some(table) = &model.users {
            columns.extend([slice_of(&table.values, range.clone()), slice_of(&table.sums, range.clone())]);
        }
        if model.gru.is_some() {
            columns.push(slice_of(&model.hidden_states, range));
        }
        columns
    })
}

fn save_numbers(draft: &mut Draft, named: &[(String, Parameters)]) -> Result<(), CheckpointError> {
    let fields = vec![
        Field::new("name", DataType::Utf8, false),
        list_field::<Float32Type>("values"),
        list_field::<Float32Type>("sums"),
    ];
    columns::write(draft, NUMBERS, fields, named.len(), Layout::Internal, |range| {
        vec![
            text(named[range.clone()].iter().map(|(name, _)| name.as_str())),
            lists::<Float32Type, _>(named[range.clone()].iter().map(|(_, numbers)| numbers.values.iter().copied())),
            lists::<Float32Type, _>(named[range].iter().map(|(_, numbers)| numbers.sums.iter().copied())),
        ]
    })
}

/// Reads the state back; it computes with `kernel`.
///
/// # Errors
/// Where a file does not hold what it must.
pub fn load(config: &Config, kernel: Kernel, intact: &Checkpoint) -> Result<State, CheckpointError> {
    let path = intact.folder();
    let manifest = intact.manifest();
    let damaged =
        |file: &str, problem: &str| CheckpointError::Damaged { path: path.join(file), problem: problem.to_owned() };

    let mut state = State::new(config, kernel);
    columns::read(path, ITEMS, |slice| {
        let names = slice.text("item_id")?;
        (0..slice.len()).for_each(|row| {
            state.items.ids.intern(names.value(row));
        });
        state.items.occurrences.extend(slice.numbers::<UInt64Type>("count")?.iter().copied());
        state.items.last_event.extend(slice.numbers::<TimestampMillisecondType>("last_event")?.iter().copied());
        Ok(())
    })?;
    let n_items = state.items.occurrences.len();
    if state.items.ids.len() != n_items || n_items as u64 != manifest.items {
        return Err(damaged(ITEMS, "items are missing or twice"));
    }

    features::load(path, &mut state.model)?;
    let mut counts = vec![Paged::default(); state.negatives.frequencies.memories().len()];
    let Model { items, features, contexts, biases, .. } = &mut state.model;
    let mut sound = true;
    let mut tables = [("item", Some(items)), ("context", contexts.as_mut()), ("bias", biases.as_mut())];
    columns::read(path, ITEM_STATE, |slice| {
        for (index, counts) in counts.iter_mut().enumerate() {
            counts.extend(slice.numbers::<Float64Type>(&frequency_column(index))?.iter().copied());
        }
        for (name, table) in &mut tables {
            if let Some(table) = table {
                read_rows(slice, name, table)?;
            }
        }
        if let Some(features) = features {
            let of_items = slice.lists::<UInt32Type>("features")?;
            sound &= (0..slice.len()).all(|row| features.restore_item(of_items.row(row)).is_some());
        }
        Ok(())
    })?;
    if !sound {
        return Err(damaged(ITEM_STATE, "it refers to features that are not there"));
    }
    if counts.iter().any(|counts| counts.len() != n_items) {
        return Err(damaged(ITEM_STATE, "it does not have a row for each item"));
    }
    state.model.refresh_all_norms();

    columns::read(path, USERS, |slice| {
        let names = slice.text("user_id")?;
        let clocks = slice.numbers::<UInt32Type>("clock")?;
        let (recent, own) = (slice.lists::<UInt32Type>("recent")?, slice.lists::<UInt32Type>("own")?);
        let (item, at) = (slice.lists::<UInt32Type>("memory_item")?, slice.lists::<UInt32Type>("memory_at")?);
        let (count, when) = (slice.lists::<Float64Type>("memory_count")?, slice.lists::<Int64Type>("memory_when")?);
        for (row, clock) in clocks.iter().enumerate() {
            state.users.ids.intern(names.value(row));
            let memory = (item.row(row).iter().zip(at.row(row))).zip(count.row(row).iter().zip(when.row(row)));
            state.users.histories.restore(UserHistory {
                clock: *clock,
                recent: recent.row(row).to_vec(),
                memory: memory
                    .map(|((item, at), (count, when))| RememberedItem {
                        item: *item,
                        clock: *at,
                        count: *count,
                        timestamp: *when,
                    })
                    .collect(),
                own: own.row(row).to_vec(),
            });
        }
        if let Some(table) = &mut state.model.users {
            read_rows(slice, "user", table)?;
        }
        if state.model.gru.is_some() {
            let dim = state.model.dim();
            let states = slice.vectors("state", dim)?.chunks_exact(dim);
            states.for_each(|numbers| state.model.hidden_states.push(|row| row.copy_from_slice(numbers)));
        }
        Ok(())
    })?;
    let within = |item: &u32| (*item as usize) < n_items;
    let sound = |user: &UserHistory| {
        user.recent.iter().all(within)
            && user.own.iter().all(within)
            && user.memory.iter().all(|remembered| within(&remembered.item) && remembered.clock <= user.clock)
    };
    if state.users.ids.len() != state.users.histories.len() || !state.users.histories.iter().all(sound) {
        return Err(damaged(USERS, "users are twice, or refer to items that are not there"));
    }

    let mut named: BTreeMap<String, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    columns::read(path, NUMBERS, |slice| {
        let names = slice.text("name")?;
        let (values, sums) = (slice.lists::<Float32Type>("values")?, slice.lists::<Float32Type>("sums")?);
        for row in 0..slice.len() {
            named.insert(names.value(row).to_owned(), (values.row(row).to_vec(), sums.row(row).to_vec()));
        }
        Ok(())
    })?;
    let State { model, objectives, .. } = &mut state;
    let of_model = model.parameters_mut().map(|(name, parameters)| (name.into_owned(), parameters));
    for (name, parameters) in of_model.chain(objectives.parameters_mut()) {
        let (values, sums) = named.remove(&name).ok_or_else(|| damaged(NUMBERS, &format!("'{name}' is missing")))?;
        if [values.len(), sums.len()] != [parameters.values.len(); 2] {
            return Err(damaged(NUMBERS, &format!("'{name}' is of another length")));
        }
        *parameters = Parameters { values, sums };
    }

    let text = std::fs::read(path.join(WORKER)).map_err(|error| damaged(WORKER, &error.to_string()))?;
    let worker: Worker = serde_json::from_slice(&text).map_err(|error| damaged(WORKER, &error.to_string()))?;

    let Worker {
        frequency_scales: scales,
        frequency_evidence: evidence,
        last_loss,
        last_parts,
        rejected_share,
        evaluation,
    } = worker;
    let frequencies = Frequencies::from_parts(config.negatives.half_life.events(), &scales, counts, &evidence);
    state.negatives.frequencies =
        frequencies.ok_or_else(|| damaged(WORKER, "it does not have a scale for each half-life"))?;
    let Manifest { step: steps, events, .. } = *manifest;
    state.progress = Progress { steps, events, last_loss, last_parts, evaluation, rejected_share };
    state.sources.positions = manifest.positions.clone();
    state.sources.ownerships = manifest.ownerships.clone();
    if config.checkpoint.audit {
        // One that is begun later knows nothing of what was before.
        state.sources.audit = Some(Audit::load(intact)?.unwrap_or_default());
    }
    negatives::load(config, path, &mut state)?;
    Ok(state)
}
