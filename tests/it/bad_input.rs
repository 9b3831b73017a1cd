//! Bad input: what cannot be a log is refused with its place before anything is touched; a row that cannot be an event
//! is counted and kept, and never stops the rest.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use negstream::event::Interaction;
use serde_json::Value;

use crate::support::{
    self, Background, Place, Said, checkpoint_events, read, run, set, text, times, write_columns, write_log,
};

/// A believable time.
const BEGIN: i64 = 1_700_000_000_000;

/// The columns of some sound events, by name.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let names = |prefix: &'static str| text((0..600).map(move |row| Some(format!("{prefix}{}", row % 40))));
    vec![("user_id", names("u")), ("item_id", names("i")), ("timestamp", times((0..600).map(|row| Some(BEGIN + row))))]
}

/// A log that is refused names these words, with exit status 3, and no checkpoint appears.
#[track_caller]
fn refused(place: &Place, log: &str, words: &[&str]) -> Said {
    let said = run(&mut place.negstream(&["replay", log])).ended(3).names(words);
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
    said
}

#[test]
fn replay_refuses_files_that_are_not_parquet() {
    let place = Place::new();
    std::fs::write(place.path("empty.parquet"), b"").unwrap();
    refused(&place, "empty.parquet", &["empty.parquet", "empty (0 bytes)"]);
    std::fs::write(place.path("text.parquet"), b"user_id,item_id,timestamp\nu,i,1\n").unwrap();
    refused(&place, "text.parquet", &["cannot read text.parquet", "Parquet"]);

    write_columns(&place.path("whole.parquet"), columns());
    let whole = read(&place.path("whole.parquet"));
    for length in [3, 8, whole.len() / 2, whole.len() - 1] {
        std::fs::write(place.path("part.parquet"), &whole[..length]).unwrap();
        refused(&place, "part.parquet", &["cannot read part.parquet"]);
        // A sound log beside it is not begun either.
        let mut command = place.negstream(&["replay", "whole.parquet", "part.parquet"]);
        run(&mut command).ended(3).names(&["part.parquet"]);
        assert!(!place.path("checkpoints").exists());
    }
}

#[test]
fn log_without_rows_gives_an_empty_model() {
    let place = Place::new();
    write_log(&place.path("none.parquet"), &[]);
    let report = place.replay("none.parquet", &[]);
    assert_eq!((&report["events"]["read"], &report["items"]), (&0.into(), &0.into()));
    assert_eq!(report["evaluation"]["hr@20"], Value::Null);
    run(&mut place.negstream(&["inspect", "checkpoints"])).ended(0);

    // Nothing was learnt, so what follows is learnt as if it were the first.
    let events = support::events(1_000, 9);
    write_log(&place.path("some.parquet"), &events);
    place.replay("some.parquet", &[]);
    place.replay_in("alone", &["some.parquet"], &[]);
    assert!(place.items("checkpoints") == place.items("alone"), "items.parquet differs");
}

#[test]
fn damaged_page_is_named_and_rows_before_it_are_kept() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(20_000, 10));
    let mut bytes = read(&place.path("log.parquet"));
    let half = bytes.len() / 2;
    bytes[half..half + 20_000].fill(0xff);
    std::fs::write(place.path("log.parquet"), bytes).unwrap();
    let said = run(&mut place.negstream(&["replay", "log.parquet"])).ended(3).names(&["log.parquet", "after row "]);
    let row: u64 =
        said.err.rsplit("after row ").next().and_then(|rest| rest.split(':').next()?.parse().ok()).expect("a row");
    let manifest = place.manifest("checkpoints");
    let read = manifest["events"]["read"].as_u64().unwrap();
    assert!((4_096..=10_000).contains(&row) && read == row / 256 * 256, "{read} of the {row} rows before it");
}

#[test]
fn missing_or_mistyped_column_is_named() {
    let place = Place::new();
    for (position, name) in ["user_id", "item_id", "timestamp"].into_iter().enumerate() {
        let mut missing = columns();
        missing.remove(position);
        write_columns(&place.path("missing.parquet"), missing);
        let said = refused(&place, "missing.parquet", &["missing.parquet", &format!("'{name}' is missing")]);
        assert!(said.err.contains("source.fields"), "{}", said.err);
    }
    let moments = || times((0..600).map(|row| Some(BEGIN + row)));
    let wrong: [(&str, ArrayRef, &str); 4] = [
        ("user_id", moments(), "timestamps"),
        ("item_id", Arc::new(BooleanArray::from(vec![true; 600])), "truth values"),
        ("timestamp", Arc::new(BooleanArray::from(vec![true; 600])), "truth values"),
        ("event_type", moments(), "timestamps"),
    ];
    for (name, column, found) in wrong {
        let mut columns = columns();
        columns.retain(|(other, _)| *other != name);
        columns.push((name, column));
        write_columns(&place.path("wrong.parquet"), columns);
        refused(&place, "wrong.parquet", &["wrong.parquet", &format!("'{name}' must be"), found]);
    }
    // A mapping that names no column is a wrong configuration as much as a wrong log: the column is named.
    write_columns(&place.path("log.parquet"), columns());
    let mut command = place.negstream(&["replay", "log.parquet", "--set", "source.fields.item_id=sku"]);
    run(&mut command).ended(3).names(&["'sku' is missing", "there are user_id, item_id, timestamp"]);
}

/// Sound events, and every so often a row that is none; the numbers of those rows.
fn mixed(path: &Path, n: usize) -> Vec<u64> {
    let mut users: Vec<Option<String>> = Vec::new();
    let mut items: Vec<Option<String>> = Vec::new();
    let mut moments: Vec<Option<i64>> = Vec::new();
    let mut bad = Vec::new();
    for (row, event) in support::events(n, 11).into_iter().enumerate() {
        let (mut user, mut item, mut moment) =
            (Some(event.user.to_string()), Some(event.item.to_string()), Some(event.timestamp));
        let fault = row % 91;
        match fault {
            3 => user = None,
            17 => item = None,
            29 => moment = None,
            31 => user = Some(String::new()),
            43 => item = Some("x".repeat(1 << 16)),
            57 => moment = Some(-1),
            71 => moment = Some(i64::MAX),
            _ => {}
        }
        if [3, 17, 29, 31, 43, 57, 71].contains(&fault) {
            bad.push(row as u64);
        }
        users.push(user);
        items.push(item);
        moments.push(moment);
    }
    write_columns(path, vec![("user_id", text(users)), ("item_id", text(items)), ("timestamp", times(moments))]);
    bad
}

fn letters(path: &Path) -> Vec<Value> {
    let file = String::from_utf8(read(path)).unwrap();
    file.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn rows_of(letters: &[Value]) -> Vec<u64> {
    letters.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect()
}

const LETTERS: &str = "dead_letters.file=letters.jsonl";

#[test]
fn invalid_rows_are_counted_by_reason_and_kept() {
    let place = Place::new();
    let bad = mixed(&place.path("log.parquet"), 9_100);
    assert_eq!(bad.len(), 700);
    let report = place.replay("log.parquet", &[LETTERS]);
    let events = &report["events"];
    assert_eq!((&events["read"], &events["rejected"], &events["used"]), (&9_100.into(), &700.into(), &8_400.into()));
    let by_reason = &events["rejected_by_reason"];
    for (reason, count) in
        [("missing_field", 300), ("empty_id", 100), ("id_too_long", 100), ("timestamp_out_of_range", 200)]
    {
        assert_eq!(by_reason[reason], count, "{reason}");
    }
    let letters = letters(&place.path("letters.jsonl"));
    assert_eq!(rows_of(&letters), bad);
    assert_eq!((&letters[0]["reason"], &letters[0]["detail"]), (&"missing_field".into(), &"user_id: null".into()));
    assert_eq!(letters[0]["stream"], "log.parquet");
    let payload: Value = serde_json::from_str(letters[4]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["item_id"].as_str().unwrap().len(), 1 << 16, "the row is kept as it came");

    // The bad rows took no part: without them the model is the same.
    let sound: Vec<Interaction> = support::events(9_100, 11)
        .into_iter()
        .zip(0..)
        .filter(|(_, row)| !bad.contains(row))
        .map(|(event, _)| event)
        .collect();
    write_log(&place.path("sound.parquet"), &sound);
    place.replay_in("sound", &["sound.parquet"], &[]);
    assert!(place.items("checkpoints") == place.items("sound"), "items.parquet differs");
}

#[test]
fn dead_letters_are_written_once_across_kills() {
    let place = Place::new();
    let bad = mixed(&place.path("log.parquet"), 60_000);
    let start = |every: &str| {
        let mut command = place.negstream(&["replay", "--json", "log.parquet"]);
        set(&mut command, &[LETTERS, &format!("checkpoint.every_events={every}")]);
        command
    };
    // Before the first checkpoint, once there are letters: they come again.
    let worker = Background::start(&mut start("1000000"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !std::fs::metadata(place.path("letters.jsonl")).is_ok_and(|file| file.len() > 0) {
        assert!(std::time::Instant::now() < deadline, "no letter was written");
        std::thread::yield_now();
    }
    assert!(worker.kill(), "it had ended before");
    for events in [10_000, 20_000, 35_000] {
        let mut worker = Background::start(&mut start("5000"));
        worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events)).unwrap();
        assert!(worker.kill(), "it had ended before");
    }
    let report = run(&mut start("5000")).ended(0).json();
    assert_eq!(report["events"]["rejected"].as_u64().unwrap(), bad.len() as u64);
    // Thousands: not shown.
    assert!(rows_of(&letters(&place.path("letters.jsonl"))) == bad, "letters are missing, or twice");
}

#[test]
fn dead_letter_file_that_lost_lines_is_refused() {
    let place = Place::new();
    mixed(&place.path("log.parquet"), 1_000);
    place.replay("log.parquet", &[LETTERS]);
    std::fs::write(place.path("letters.jsonl"), b"").unwrap();
    let mut command = place.negstream(&["replay", "log.parquet", "--set", LETTERS]);
    run(&mut command).ended(3).names(&["letters.jsonl", "lines were lost"]);
}

#[test]
fn hostile_identifiers_are_only_data() {
    let place = Place::new();
    let hostile = [
        "../../../etc/passwd",
        "<script>alert(1)</script>",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "line\nbreak\r\ttab\0nul",
        "🦀👩‍👩‍👧‍👦",
        "\u{202e}gnirts",
        "'; DROP TABLE items; --",
        "{\"a\":1}",
        " ",
        "NaN",
        "/dev/null",
        "%s%n${HOME}",
    ];
    let events: Vec<Interaction> = (0..2_400)
        .map(|number| Interaction {
            user: hostile[number / 7 % hostile.len()].into(),
            item: hostile[number * 5 % hostile.len()].into(),
            kind: hostile[number % hostile.len()].into(),
            timestamp: BEGIN + number as i64,
            session: None,
            value: None,
            features: Vec::new(),
        })
        .collect();
    write_log(&place.path("log.parquet"), &events);
    let mut command = place.negstream(&["replay", "--json", "log.parquet"]);
    set(&mut command, &["log.level=trace", "checkpoint.every_events=500"]);
    let said = run(&mut command).ended(0);
    let report = said.json();
    assert_eq!((&report["items"], &report["users"]), (&hostile.len().into(), &hostile.len().into()));
    let harmless = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n');
    assert!(harmless(&said.err), "{:?}", said.err);

    for item in hostile.into_iter().filter(|item| !item.contains('\0')) {
        let neighbors = |options: &[&str]| {
            let arguments = [&["neighbors", "checkpoints", item, "-k", "20"], options].concat();
            run(&mut place.negstream(&arguments)).ended(0)
        };
        let said = neighbors(&[]);
        assert!(harmless(&said.out) && said.out.lines().count() == hostile.len(), "{:?}", said.out);
        let found = neighbors(&["--json"]).json();
        let names: BTreeSet<&str> =
            found["neighbors"].as_array().unwrap().iter().map(|found| found["item_id"].as_str().unwrap()).collect();
        assert_eq!(names, hostile.into_iter().filter(|other| *other != item).collect(), "as they came");
    }
    let files: BTreeSet<_> =
        std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["checkpoints".into(), "log.parquet".into()].into());
}
