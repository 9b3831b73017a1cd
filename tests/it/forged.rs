//! Forged checkpoints: every sum fits, but one number, name or row is not what a reader expects. Whoever can write to the folder
//! can make one, and so can a program with a fault. It is an error that names the file, or a state that trains; never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, ListArray, PrimitiveArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, TimeUnit};
use negstream::checkpoint::manifest::{MANIFEST, Manifest};
use negstream::checkpoint::store::Store;
use negstream::checkpoint::{Checkpoint, CheckpointError};
use negstream::config::{Config, layers};
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::position::Stream;
use negstream::snapshot;
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::replay::SETTINGS;
use crate::support::{Place, copy, events, run, set, topic, tree, write_log};

const SMALL: [&str; 5] =
    ["train.batch=32", "model.dim=8", "negatives.bank=128", "threads=1", "negatives.live_events=600"];

fn configuration(settings: &[&str]) -> Config {
    let flags: Vec<String> = SMALL.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

fn train(trainer: &mut Trainer, events: &[Interaction]) {
    trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
    for (offset, event) in events.iter().enumerate() {
        let outcome = Ok(event.clone());
        trainer.ingest(Record { stream: 0, offset: offset as u64, outcome, broker_timestamp: None });
    }
}

fn write_checkpoint(config: &Config, events: &[Interaction], folder: &Path) {
    let mut trainer = Trainer::new(config, State::new(config, Kernel::detect())).unwrap();
    train(&mut trainer, events);
    let mut place = config.checkpoint.clone();
    place.dir = folder.to_owned();
    let store = Store::open(&place).unwrap();
    snapshot::save(config, &trainer.freeze(), None, store.draft().unwrap()).unwrap();
}

/// One of the numbers that nobody expects, or one that is only wrong.
fn strange(random: &mut Pcg64Mcg) -> f64 {
    const NUMBERS: [f64; 12] =
        [0.0, -0.0, 1.0, -1.0, 3.0, 1e9, 4_294_967_295.0, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    NUMBERS[random.random_range(0..NUMBERS.len())]
}

fn forge_numbers<T: ArrowPrimitiveType>(
    column: &dyn Array,
    random: &mut Pcg64Mcg,
    number: impl Fn(f64) -> T::Native,
) -> ArrayRef {
    let column = column.as_primitive::<T>();
    let mut numbers = column.values().to_vec();
    if !numbers.is_empty() {
        let place = random.random_range(0..numbers.len());
        numbers[place] = number(strange(random));
    }
    Arc::new(PrimitiveArray::<T>::from_iter_values(numbers).with_data_type(column.data_type().clone()))
}

/// The column with one number or name forged.
fn forge_column(column: &dyn Array, random: &mut Pcg64Mcg) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => forge_numbers::<Float32Type>(column, random, |number| number as f32),
        DataType::Float64 => forge_numbers::<Float64Type>(column, random, |number| number),
        DataType::UInt32 => forge_numbers::<UInt32Type>(column, random, |number| number as u32),
        DataType::UInt64 => forge_numbers::<UInt64Type>(column, random, |number| number as u64),
        DataType::Int64 => forge_numbers::<Int64Type>(column, random, |number| number as i64),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            forge_numbers::<TimestampMillisecondType>(column, random, |number| number as i64)
        }
        DataType::Utf8 => {
            let names = column.as_string::<i32>();
            let place = random.random_range(0..names.len().max(1));
            let mut forged = StringBuilder::new();
            for (row, name) in names.iter().enumerate() {
                forged.append_value(if row == place { "" } else { name.unwrap() });
            }
            Arc::new(forged.finish())
        }
        DataType::FixedSizeList(field, length) => {
            let values = forge_column(column.as_fixed_size_list().values(), random);
            Arc::new(FixedSizeListArray::new(Arc::clone(field), *length, values, None))
        }
        DataType::List(field) => {
            let lists = column.as_list::<i32>();
            let values = forge_column(lists.values(), random);
            Arc::new(ListArray::new(Arc::clone(field), lists.offsets().clone(), values, None))
        }
        other => panic!("a column of {other}"),
    }
}

/// All rows of a Parquet file.
fn read_parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    // These models are so small that it is one batch.
    let mut batches = reader.with_batch_size(1 << 20).build().unwrap();
    let whole = batches.next().map_or_else(|| RecordBatch::new_empty(schema), Result::unwrap);
    assert!(batches.next().is_none());
    whole
}

/// Writes a Parquet file anew.
fn write_parquet(path: &Path, batches: &[RecordBatch]) {
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

/// Makes the manifest's sum of the file `name` fit.
fn fit_sum(manifest: &mut Manifest, folder: &Path, name: &str) {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let entry = manifest.files.iter_mut().find(|entry| entry.name == name).unwrap();
    (entry.bytes, entry.sha256) = (bytes.len() as u64, negstream::util::encoding::sha256(&bytes));
}

/// Forges one thing in a Parquet file; what it was.
fn forge_parquet(path: &Path, random: &mut Pcg64Mcg) -> String {
    let whole = read_parquet(path);
    let (schema, rows) = (whole.schema(), whole.num_rows());
    let (forged, what) = match random.random_range(0..8) {
        0 if rows > 0 => (vec![whole.slice(0, rows - 1)], "the last row is missing".to_owned()),
        1 if rows > 0 => {
            let row = whole.slice(random.random_range(0..rows), 1);
            (vec![whole, row], "a row is twice".to_owned())
        }
        2 => {
            let place = random.random_range(0..whole.num_columns());
            let name = schema.field(place).name().clone();
            let others = (0..whole.num_columns()).filter(|column| *column != place).collect::<Vec<_>>();
            (vec![whole.project(&others).unwrap()], format!("{name} is missing"))
        }
        _ => {
            let place = random.random_range(0..whole.num_columns());
            let mut columns = whole.columns().to_vec();
            columns[place] = forge_column(&columns[place], random);
            let field: &Field = schema.field(place);
            (
                vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()],
                format!("something in {}", field.name()),
            )
        }
    };
    write_parquet(path, &forged);
    what
}

/// The numbers of a JSON document, in their order.
fn numbers<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| numbers(value, found)),
        Value::Object(values) => values.values_mut().for_each(|value| numbers(value, found)),
        Value::Number(_) => found.push(value),
        _ => {}
    }
}

fn forge_json(value: &mut Value, random: &mut Pcg64Mcg) {
    let number = strange(random);
    let mut found = Vec::new();
    numbers(value, &mut found);
    if !found.is_empty() {
        let place = random.random_range(0..found.len());
        *found[place] = if number.fract() == 0.0 && number.abs() < 1e18 && random.random() {
            Value::from(number as i64)
        } else {
            Value::from(number)
        };
    }
}

/// Forges one thing in the checkpoint in `folder`, and makes all sums fit.
fn forge(folder: &Path, random: &mut Pcg64Mcg) -> String {
    let mut names: Vec<String> = tree(folder)
        .into_keys()
        .map(|name| name.to_str().unwrap().to_owned())
        .filter(|name| name != "lineage")
        .collect();
    names.sort();
    let name = names.swap_remove(random.random_range(0..names.len()));
    let path = folder.join(&name);
    let manifest_path = folder.join(MANIFEST);
    let mut manifest = Manifest::from_text(&std::fs::read(&manifest_path).unwrap()).unwrap();
    let what = if name == MANIFEST {
        let mut value = serde_json::to_value(&manifest).unwrap();
        for key in ["step", "events", "items", "users", "evicted", "beta", "temperature", "dim", "seed"] {
            if random.random_bool(0.2) {
                forge_json(&mut value[key], random);
            }
        }
        match serde_json::from_value(value) {
            Ok(forged) => manifest = forged,
            Err(_) => return "nothing that is a manifest".to_owned(),
        }
        "numbers".to_owned()
    } else {
        let what = if name.ends_with(".parquet") {
            forge_parquet(&path, random)
        } else {
            let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            forge_json(&mut value, random);
            std::fs::write(&path, value.to_string()).unwrap();
            "a number".to_owned()
        };
        fit_sum(&mut manifest, folder, &name);
        what
    };
    std::fs::write(&manifest_path, manifest.to_text()).unwrap();
    format!("{name}: {what}")
}

/// Loads the checkpoint and trains on; `false` where it is refused.
fn go_on(config: &Config, folder: &Path, events: &[Interaction]) -> bool {
    let checkpoint = Checkpoint::open_folder(folder).expect("its sums fit");
    let state = match snapshot::load(config, Kernel::detect(), &checkpoint) {
        Ok(state) => state,
        Err(error) => {
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(&*folder.to_string_lossy()), "{error}");
            return false;
        }
    };
    train(&mut Trainer::new(config, state).unwrap(), events);
    true
}

#[test]
fn forged_state_is_an_error_or_a_state_that_trains() {
    let rounds: u64 = std::env::var("NEGSTREAM_FORGED").map_or(6, |rounds| rounds.parse().unwrap());
    let mut all = events(1_600, 41);
    all.iter_mut().for_each(|event| event.features = vec![topic(&event.item).into()]);
    let (before, after) = all.split_at(1_200);
    let (mut refused, mut panics) = (0, Vec::new());
    for (number, settings) in SETTINGS.iter().enumerate() {
        let config = configuration(settings);
        let place = tempfile::tempdir().unwrap();
        write_checkpoint(&config, before, &place.path().join("sound"));
        for round in 0..rounds {
            let mut random = Pcg64Mcg::seed_from_u64(round << 16 | number as u64);
            let forged = place.path().join(format!("forged {round}"));
            copy(&place.path().join("sound/0000000001"), &forged);
            let what = forge(&forged, &mut random);
            match catch_unwind(AssertUnwindSafe(|| go_on(&config, &forged, after))) {
                Ok(trains) => refused += u64::from(!trains),
                Err(_) => panics.push(format!("{settings:?} round {round}: {what}")),
            }
        }
    }
    assert!(panics.is_empty(), "{} panics:\n{}", panics.len(), panics.join("\n"));
    assert!(refused > rounds, "only {refused} were refused");
}

/// The lists with another one in the place of the first.
fn with_first_list<T: ArrowPrimitiveType>(lists: &dyn Array, first: &[T::Native]) -> ArrayRef {
    let lists = lists.as_list::<i32>();
    let DataType::List(field) = lists.data_type() else { panic!("a column of {}", lists.data_type()) };
    let others: Vec<ArrayRef> = (1..lists.len()).map(|row| lists.value(row)).collect();
    let lengths = std::iter::once(first.len()).chain(others.iter().map(|list| list.len()));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let others = others.iter().flat_map(|list| list.as_primitive::<T>().values().iter().copied());
    let values = PrimitiveArray::<T>::from_iter_values(first.iter().copied().chain(others));
    Arc::new(ListArray::new(Arc::clone(field), offsets, Arc::new(values), None))
}

/// Each neighbour of an item is work for every event after it: a list that is longer than any that is counted is refused, and
/// one that is as long as they come is not.
#[test]
fn list_of_more_neighbors_than_are_counted_is_refused() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(1_200, 43));
    let settings = ["model.dim=8", "train.batch=32", "cooccurrence.neighbors=4"];
    place.replay("log.parquet", &settings);
    let [folder] = &place.checkpoints("checkpoints")[..] else { panic!("one checkpoint") };
    for (n_neighbors, code) in [(4, 0), (5, 4)] {
        let path = folder.join("cooccurrence.parquet");
        let sound = read_parquet(&path);
        let mut columns = sound.columns().to_vec();
        for (place, field) in sound.schema().fields().iter().enumerate() {
            match field.name().as_str() {
                "neighbors" => {
                    let neighbors: Vec<u32> = (1..=n_neighbors).collect();
                    columns[place] = with_first_list::<UInt32Type>(&columns[place], &neighbors);
                }
                "weights" => {
                    let weights = vec![1.0; n_neighbors as usize];
                    columns[place] = with_first_list::<Float32Type>(&columns[place], &weights);
                }
                _ => {}
            }
        }
        write_parquet(&path, &[RecordBatch::try_new(sound.schema(), columns).unwrap()]);
        let mut manifest = Manifest::from_text(&std::fs::read(folder.join(MANIFEST)).unwrap()).unwrap();
        fit_sum(&mut manifest, folder, "cooccurrence.parquet");
        std::fs::write(folder.join(MANIFEST), manifest.to_text()).unwrap();
        let mut command = place.negstream(&["replay", "log.parquet"]);
        set(&mut command, &settings);
        let said = run(&mut command).ended(code);
        if code != 0 {
            said.names(&["cooccurrence.parquet", "too many"]);
        }
    }
}
