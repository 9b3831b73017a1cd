//! `negstream import`: a checkpoint with the vectors of another model, from which everything goes on.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, Int64Array};
use serde_json::Value;

use crate::support::{self, Place, run, text, tree, write_columns, write_log};

const DIM: &str = "model.dim=8";

/// Writes vectors of eight numbers: items of one letter point the same way, but for a little.
fn write_vectors(path: &Path, items: &[&str], counts: Option<&[i64]>) {
    let vector = |item: &&str| {
        let letter = usize::from(item.as_bytes()[0]) % 8;
        let of = |place: usize| Some(if place == letter { 3.0 } else { 0.01 * (item.len() + place) as f32 });
        Some((0..8).map(of).collect::<Vec<_>>())
    };
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(items.iter().map(vector), 8);
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("item_id", text(items.iter().map(|item| Some(*item)))), ("vector", Arc::new(vectors))];
    columns.extend(counts.map(|counts| ("count", Arc::new(Int64Array::from(counts.to_vec())) as ArrayRef)));
    write_columns(path, columns);
}

/// The half-trained model of a log, its items as another program would have them, and the rest of the log.
fn halves(place: &Place) -> Value {
    let events = support::events(12_000, 71);
    write_log(&place.path("first.parquet"), &events[..6_000]);
    write_log(&place.path("second.parquet"), &events[6_000..]);
    place.replay_in("nightly", &["first.parquet"], &["model.dim=16"]);
    std::fs::copy(place.newest("nightly").join("items.parquet"), place.path("vectors.parquet")).unwrap();
    place.replay_in("cold", &["second.parquet"], &["model.dim=16", "evaluate.from=0"])
}

fn hits(report: &Value) -> f64 {
    report["evaluation"]["hr@20"].as_f64().expect("a share")
}

#[test]
fn imported_vectors_are_inspected_neighbours_and_learnt_on() {
    let place = Place::new();
    let cold = halves(&place);
    let imported =
        run(&mut place.negstream(&["import", "vectors.parquet", "--json", "--set", "model.dim=16"])).ended(0).json();
    let items = imported["items"].as_u64().unwrap();
    assert_eq!((imported["dim"].as_u64(), imported["events"].as_u64()), (Some(16), Some(6_000)));
    assert_eq!(imported["columns"], serde_json::json!(["item_id", "embedding", "count", "last_event"]));

    let manifest = place.manifest("checkpoints");
    assert_eq!((manifest["step"].as_u64(), manifest["items"].as_u64()), (Some(0), Some(items)));
    assert_eq!((manifest["events"]["read"].as_u64(), &manifest["positions"]), (Some(0), &serde_json::json!({})));
    let inspected = run(&mut place.negstream(&["inspect", "checkpoints"])).ended(0).out;
    assert!(
        inspected.contains(&format!("{items} items × 16 dimensions")) && inspected.contains("0 read"),
        "{inspected}"
    );
    // The nightly model's own neighbours.
    let item = support::events(1, 71)[0].item.to_string();
    let neighbors = |from: &str| {
        let said = run(&mut place.negstream(&["neighbors", from, &item, "-k", "5", "--json"])).ended(0).json();
        let rows = said["neighbors"].as_array().unwrap().clone();
        rows.iter().map(|row| row["item_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(neighbors("checkpoints"), neighbors("nightly"));
    let recommended =
        run(&mut place.negstream(&["recommend", "checkpoints", "--item", &item, "--json"])).ended(0).json();
    assert_eq!(recommended["lists"][0]["recommendations"].as_array().unwrap().len(), 20);

    let warm = place.replay("second.parquet", &["model.dim=16", "evaluate.from=0"]);
    assert_eq!(warm["events"]["read"].as_u64(), Some(6_000));
    assert!(hits(&warm) > hits(&cold) + 0.02, "{} and {}", hits(&warm), hits(&cold));
    println!("HR@20 {:.4}, {:.4} from nothing", hits(&warm), hits(&cold));
    // What is imported counts from the same place of the log on as what begins anew.
    let share = |report: &Value| report["evaluation"]["events"].as_u64().unwrap();
    let half = place.replay_in("half", &["second.parquet"], &["model.dim=16"]);
    run(&mut place.negstream_in("again", &["import", "vectors.parquet", "--set", "model.dim=16"])).ended(0);
    let again = place.replay_in("again", &["second.parquet"], &["model.dim=16"]);
    assert!(share(&again).abs_diff(share(&half)) < 100, "{} and {}", share(&again), share(&half));
}

#[test]
fn an_import_is_the_same_bytes_again_whatever_the_order_of_files_columns_and_names() {
    let place = Place::new();
    write_vectors(&place.path("table.parquet"), &["a", "bb", "aaa"], None);
    let import = |into: &str, file: &str, rest: &[&str]| {
        let arguments = [&["import", file, "--set", DIM], rest].concat();
        run(&mut place.negstream_in(into, &arguments)).ended(0).out
    };
    let said = import("one", "table.parquet", &[]);
    assert!(said.starts_with("3 items × 8 dimensions, no counts: popularity begins with the stream: one/"), "{said}");
    import("two", "table.parquet", &["--id", "item_id", "--vector", "vector"]);
    let files = |folder: &str| {
        let mut files = tree(&place.newest(folder));
        // They tell which run it is.
        files.retain(|path, _| !["lineage", "manifest.json"].contains(&path.to_str().unwrap()));
        files
    };
    assert!(files("one") == files("two"));
    // The arrays that `export` writes have popularity as a further number; without it they are the same vectors.
    let export = ["export", "one", "--to", "npy", "out"];
    run(&mut place.negstream_in("one", &export)).ended(0);
    let refused = ["import", "out/items.npy", "--set", DIM];
    run(&mut place.negstream_in("three", &refused)).ended(2).names(&["9 numbers", "model.dim is 8", "items.parquet"]);
}

#[test]
fn what_cannot_be_imported_touches_nothing() {
    let place = Place::new();
    write_vectors(&place.path("vectors.parquet"), &["a", "b"], None);
    write_vectors(&place.path("twice.parquet"), &["a", "a"], None);
    let zeros = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.0); 8])], 8);
    write_columns(&place.path("zeros.parquet"), vec![("item_id", text([Some("z")])), ("vector", Arc::new(zeros))]);
    let refused = |arguments: &[&str], words: &[&str]| {
        run(&mut place.negstream(&[&["import"], arguments].concat())).ended(2).names(words);
        assert!(place.checkpoints("checkpoints").is_empty(), "{arguments:?}");
    };
    refused(&["vectors.parquet"], &["vectors of 8 numbers", "model.dim is 64", "--set model.dim=8"]);
    refused(&["twice.parquet", "--set", DIM], &["row 2, item 'a'", "twice: row 1"]);
    refused(&["zeros.parquet", "--set", DIM], &["row 1, item 'z'", "all numbers are 0"]);
    refused(&["nothing.parquet", "--set", DIM], &["nothing.parquet", "cannot be read"]);
    refused(&["vectors.parquet", "--vector", "factors", "--set", DIM], &["'factors' is missing", "--vector"]);
    let cap = ["--set", "memory.items.cap=1", "--set", "train.batch=2"];
    refused(&[&["vectors.parquet", "--set", DIM], &cap[..]].concat(), &["memory.items.cap"]);
    refused(&["vectors.parquet", "--length", "0", "--set", DIM], &["--length", "above 0"]);
    // A dot product with nothing is a number.
    run(&mut place.negstream(&["import", "zeros.parquet", "--set", DIM, "--set", "model.similarity=dot"])).ended(0);
}

#[test]
fn an_import_never_takes_the_place_of_what_was_learnt_unless_it_is_told_to() {
    let place = Place::new();
    write_vectors(&place.path("vectors.parquet"), &["a", "b"], Some(&[5, 1]));
    write_log(&place.path("log.parquet"), &support::events(2_000, 72));
    place.replay("log.parquet", &[DIM]);
    let before = tree(&place.path("checkpoints"));
    let import = ["import", "vectors.parquet", "--set", DIM];
    run(&mut place.negstream(&import)).ended(2).names(&["holds checkpoints", "--fresh"]);
    assert!(tree(&place.path("checkpoints")) == before);
    run(&mut place.negstream(&[&import[..], &["--fresh"]].concat())).ended(0);
    assert_eq!(place.manifest("checkpoints")["items"], 2);
    // Another configuration than that of the import is refused by name, as for any checkpoint.
    let other = ["replay", "log.parquet", "--set", "model.dim=16"];
    run(&mut place.negstream(&other)).ended(2).names(&["model.dim"]);
    // The log is read from its beginning, although it had been read before.
    assert_eq!(place.replay("log.parquet", &[DIM])["events"]["read"].as_u64(), Some(2_000));
}

#[test]
fn imported_items_suit_every_sampler_objective_and_limit() {
    let place = Place::new();
    let log = support::events(1_500, 74);
    write_log(&place.path("log.parquet"), &log);
    let known = ["a", "bb", "aaa", log[0].item.as_str(), log[1].item.as_str()];
    write_vectors(&place.path("counted.parquet"), &known, Some(&[5, 1, 40, 0, 7]));
    write_vectors(&place.path("uncounted.parquet"), &known, None);
    let samplers =
        "negatives.noise=[{ sampler = \"mixture\", parts = [{ sampler = \"hard\" }, { sampler = \"uniform\" }] }]";
    let each = ["uniform", "unigram", "log_uniform", "interval", "cooccurrence", "adaptive"]
        .map(|name| format!("negatives.noise={name}"));
    let others = [
        samplers,
        "negatives.live_events=3",
        "negatives.half_life=500",
        "negatives.half_life=6h",
        "objective=nce",
        "context.encoder=gru",
        "features.buckets=32",
        "context.context_rows=false",
        "train.optimizer=rowwise_adagrad",
        "model.similarity=dot",
        "cooccurrence.neighbors=0",
    ];
    for setting in each.iter().map(String::as_str).chain(others) {
        for vectors in ["counted.parquet", "uncounted.parquet"] {
            let checkpoints = format!("{vectors} {setting}").replace(['/', ' ', '"', '{', '}', '[', ']'], "_");
            let settings = ["--set", DIM, "--set", setting];
            run(&mut place.negstream_in(&checkpoints, &[&["import", vectors], &settings[..]].concat())).ended(0);
            let report = place.replay_in(&checkpoints, &["log.parquet"], &[DIM, setting]);
            assert_eq!(report["events"]["used"], 1_500, "{vectors}, {setting}");
        }
    }
}
