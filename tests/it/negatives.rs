//! `negatives`: for every sampler, what is drawn from a checkpoint against the probabilities stated beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use negstream::event::Interaction;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{self, Place, Said, python, read, run, tree, write_log};

const NOISE: &str = "negatives.noise=[{sampler=\"unigram\",power=0.5,draws=32},{sampler=\"uniform\",draws=32},\
     {sampler=\"log_uniform\",draws=32},{sampler=\"interval\",width=1024,draws=32},\
     {sampler=\"cooccurrence\",draws=32},{sampler=\"adaptive\",clusters=8,draws=32},{sampler=\"hard\",size=40,draws=32},\
     {sampler=\"exposure\",draws=32},{sampler=\"unigram\",draws=32},\
     {sampler=\"mixture\",draws=32,parts=[{sampler=\"uniform\"},{sampler=\"unigram\",weight=3.0},{sampler=\"exposure\"}]}]";
const LIVE: usize = 2_000;

/// Clicks, before each of which the user is shown two items that others clicked.
fn clicks_and_impressions() -> Vec<Interaction> {
    let clicks = support::events(6_000, 5);
    let mut events = Vec::new();
    for (place, click) in clicks.iter().enumerate() {
        for back in [3, 11] {
            let item = clicks[place.saturating_sub(back)].item.clone();
            events.push(Interaction { item, kind: "impression".into(), ..click.clone() });
        }
        events.push(click.clone());
    }
    events
}

/// A model of them with every sampler at work, and its clicks.
fn trained() -> (Place, Vec<Interaction>) {
    let place = Place::new();
    let mut events = clicks_and_impressions();
    write_log(&place.path("log.parquet"), &events);
    let live = format!("negatives.live_events={LIVE}");
    let settings = ["negatives.exposure_kinds=[\"impression\"]", NOISE, &live, "train.batch=128", "model.dim=16"];
    place.replay("log.parquet", &settings);
    events.retain(|event| event.kind != "impression");
    (place, events)
}

fn negatives(place: &Place, arguments: &[&str]) -> Said {
    run(support::negstream().current_dir(place.path("")).args(["negatives", "checkpoints"]).args(arguments))
}

/// log q and number of draws by item.
fn table(path: &Path) -> BTreeMap<String, (f64, u64)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut table = BTreeMap::new();
    for batch in reader {
        let batch = batch.unwrap();
        assert_eq!(
            batch.schema().fields().iter().map(|field| field.name()).collect::<Vec<_>>(),
            ["item_id", "log_q", "draws"]
        );
        let (names, logs) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Float64Type>());
        let draws = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let twice = table.insert(names.value(row).to_owned(), (logs.value(row), draws.value(row) as u64));
            assert!(twice.is_none(), "an item has one row");
        }
    }
    table
}

/// Holds the draws against what is stated: probabilities that sum to 1, and chi-square below its mean and five
/// standard deviations, a chance of about 1e-6.
#[track_caller]
fn hold(table: &BTreeMap<String, (f64, u64)>, draws: u64, name: &str) {
    let sum: f64 = table.values().map(|(log, _)| log.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{name}: probabilities sum to {sum}");
    assert_eq!(table.values().map(|(_, draws)| draws).sum::<u64>(), draws, "{name}");
    let (mut statistic, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (log, drawn) in table.values() {
        let (expected, drawn) = (log.exp() * draws as f64, *drawn as f64);
        if expected < 5.0 {
            rare = (rare.0 + expected, rare.1 + drawn);
        } else {
            statistic += (drawn - expected).powi(2) / expected;
            cells += 1;
        }
    }
    if rare.0 > 5.0 {
        statistic += (rare.1 - rare.0).powi(2) / rare.0;
        cells += 1;
    }
    let freedom = f64::from(cells - 1);
    let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
    assert!(statistic <= limit, "{name}: chi-square {statistic:.1} with {freedom} degrees of freedom");
}

#[test]
fn negatives_command_draws_by_stated_probabilities_for_every_sampler() {
    let (place, clicks) = trained();
    let live: BTreeSet<&str> = clicks[clicks.len() - LIVE..].iter().map(|click| click.item.as_str()).collect();
    let seen: BTreeSet<&str> = clicks.iter().map(|click| click.item.as_str()).collect();
    assert!(live.len() < seen.len(), "nobody died");
    let past = &clicks[clicks.len() - 3..];
    let context: Vec<&str> = past.iter().map(|click| click.item.as_str()).collect();
    // Somebody who has not chosen the last thing shown.
    let user = past[2].user.as_str();
    let with_context = [&["--context"], &context[..]].concat();
    let both = [&["--user", user], &with_context[..]].concat();
    for (name, query, all) in [
        ("uniform", &[][..], true),
        ("unigram", &[], true),
        ("unigram-2", &[], true),
        ("log_uniform", &[], true),
        ("interval", &[], true),
        ("cooccurrence", &[], true),
        ("cooccurrence", &with_context, true),
        ("adaptive", &[], true),
        ("adaptive", &with_context, true),
        ("hard", &with_context, false),
        ("exposure", &["--user", user], false),
        ("mixture", &[], true),
        ("mixture", &both, true),
    ] {
        let arguments = [&["--sampler", name, "--draws", "200000", "-o", "draws.parquet", "--json"], query].concat();
        let said = negatives(&place, &arguments).ended(0).json();
        let table = table(&place.path("draws.parquet"));
        hold(&table, 200_000, &format!("{name} {query:?}"));
        let drawable: BTreeSet<&str> = table.keys().map(String::as_str).collect();
        assert!(drawable.is_subset(&live), "{name}: an item that does not live");
        assert!(!all || drawable == live, "{name}: {} of {} live items", drawable.len(), live.len());
        assert_eq!((said["sampler"].as_str(), said["live_items"].as_u64()), (Some(name), Some(live.len() as u64)));
        assert_eq!(said["drawable"].as_u64(), Some(table.len() as u64), "{said}");
        assert!((said["sum"].as_f64().unwrap() - 1.0).abs() < 1e-9 && said["draws_per_step"] == 32, "{said}");
        let first = &said["most_drawn"][0];
        let (log, draws) = table[first["item_id"].as_str().unwrap()];
        assert!((first["log_q"].as_f64(), first["draws"].as_u64()) == (Some(log), Some(draws)), "{said}");
        for share in ["draws", "probability", "data"] {
            let sum: f64 = said["bands"].as_array().unwrap().iter().map(|band| band[share].as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{name}: {share} sums to {sum}");
        }
    }
    // Without a name: the first at work.
    assert_eq!(negatives(&place, &["--draws", "100", "--json"]).ended(0).json()["sampler"], "unigram");
}

#[test]
fn negatives_command_builds_samplers_from_any_checkpoint() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(4_000, 5));
    // Infinities go through the manifest.
    place.replay("log.parquet", &["model.dim=16", "repetition.half_life=inf", "negatives.half_life=inf"]);
    let item = support::events(1, 5)[0].item.to_string();
    let before = tree(&place.path("checkpoints"));
    for (name, all) in
        [("uniform", true), ("unigram", true), ("log_uniform", true), ("adaptive", true), ("hard", false)]
    {
        let arguments = ["--sampler", name, "--draws", "200000", "-o", "draws.parquet", "--context", &item];
        let said = negatives(&place, &arguments).ended(0);
        assert!(said.out.contains("not at work here") && said.out.contains("Σ q"), "{}", said.out);
        let table = table(&place.path("draws.parquet"));
        hold(&table, 200_000, name);
        let items = place.manifest("checkpoints")["items"].as_u64().unwrap() as usize;
        assert!((table.len() == items) == all, "{name}: {} of {items} items", table.len());
    }
    // Nothing at work: the stream's own.
    let said = negatives(&place, &["--draws", "100000"]).ended(0);
    for word in ["unigram, not at work", "most drawn", "degrees of freedom", "share by popularity", "█"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    assert!(said.err.is_empty() && tree(&place.path("checkpoints")) == before, "{}", said.err);
}

#[test]
fn negatives_command_draws_depend_on_seed_alone() {
    let (place, _) = trained();
    let file = |output: &str, options: &[&str]| {
        negatives(&place, &[&["--sampler", "mixture", "--draws", "100000", "-o", output], options].concat()).ended(0);
        read(&place.path(output))
    };
    let first = file("first.parquet", &[]);
    assert!(first == file("again.parquet", &["--seed", "1"]), "the same seed gives the same bytes");
    assert!(first != file("other.parquet", &["--seed", "2"]));
}

#[test]
fn negatives_command_refuses_impossible_requests_and_writes_nothing() {
    let place = Place::new();
    let events = support::events(2_000, 5);
    write_log(&place.path("log.parquet"), &events);
    let settings =
        ["negatives.noise=[{sampler=\"uniform\"},{sampler=\"exposure\"}]", "model.dim=8", "context.user_row=true"];
    place.replay("log.parquet", &[&settings[..], &["negatives.exposure_kinds=[\"impression\"]"]].concat());
    let (item, user) = (events[0].item.as_str(), events[0].user.as_str());
    let (no_item, no_user) = (format!("{item}x\u{1b}"), format!("{user}x"));
    let before = tree(&place.path(""));
    let wrong = |arguments: &[&str], words: &[&str]| {
        let said = negatives(&place, &[&["-o", "draws.parquet"], arguments].concat()).ended(2).names(words);
        assert!(said.out.is_empty(), "{}", said.out);
        assert!(tree(&place.path("")) == before, "wrong usage writes nothing");
    };
    wrong(&["--context", item, &no_item, "--user", user], &["no item", "x\\u{1b}'", "the nearest name is", item]);
    wrong(&["--user", &no_user], &["no user", "the nearest name is", user]);
    wrong(&["--sampler", "unifrom"], &["no sampler 'unifrom'", "'uniform'", "at work: uniform, exposure"]);
    wrong(&["--sampler", "none"], &["no sampler 'none'"]);
    wrong(
        &["--sampler", "interval"],
        &["'interval'", "at work: uniform, exposure", "negatives.noise=[{sampler=\"interval\"}]"],
    );
    wrong(&["--sampler", "mixture"], &["'mixture'", "parts="]);
    wrong(&["--sampler", "hard"], &["'hard'", "give --context"]);
    wrong(&["--sampler", "exposure"], &["'exposure'", "give --user"]);
    wrong(&["--sampler", "exposure", "--user", user], &["'exposure' has nothing to draw from", user]);
    wrong(&["--sampler", "hard", "--context", item], &["a row for each user", "--user"]);
    wrong(&["--draws", "0"], &["--draws"]);
    let said = negatives(&place, &["-o", "no/draws.parquet"]).ended(2);
    said.names(&["--output no/draws.parquet: no such folder"]);
    assert!(tree(&place.path("")) == before);
    negatives(&place, &["--sampler", "hard", "--context", item, "--user", user, "--draws", "10"]).ended(0);
}

#[test]
fn negatives_file_is_readable_from_python() {
    let Some(mut python) = python(&["pyarrow", "numpy"]) else { return };
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(3_000, 5));
    place.replay("log.parquet", &["model.dim=8"]);
    negatives(&place, &["--draws", "50000", "-o", "draws.parquet"]).ended(0);
    let script = "import sys, numpy as np, pyarrow.parquet as pq\n\
                  t = pq.read_table(sys.argv[1])\n\
                  assert str(t.schema.types) == '[DataType(string), DataType(double), DataType(int64)]', t.schema\n\
                  q, n = np.exp(t['log_q'].to_numpy()), t['draws'].to_numpy()\n\
                  assert abs(q.sum() - 1) < 1e-9 and n.sum() == 50000\n\
                  print(t.num_rows)";
    let said = run(python.args(["-c", script]).arg(place.path("draws.parquet"))).ended(0);
    assert_eq!(said.out.trim(), place.manifest("checkpoints")["items"].to_string());
}
