//! Logs of every kind of writer against another reader: random types, encodings, nulls, orders, nesting and folders, as
//! `tests/python/writers.py` makes them, must be read as pyarrow reads the same bytes, row by row, event or rejection.
//!
//! | command | cases |
//! | --- | --- |
//! | `cargo test --release --test it writers` | some hundreds, the same ones every time |
//! | `NEGSTREAM_FUZZ=10000 NEGSTREAM_FUZZ_SEED=2 cargo test --release --test it writers -- --ignored` | so many, of that seed |

use std::path::{Path, PathBuf};

use negstream::config::{Config, SourceConfig};
use negstream::event::{Interaction, Record};
use negstream::position::Positions;
use negstream::source::parquet::{ColumnSelection, LogOptions, ParquetLogs};
use negstream::source::{EventSource, PollStatus};
use serde_json::{Value, json};

use crate::support::{Place, python, read, run};

/// Cases that are on the disk at a time.
const TOGETHER: u64 = 500;

#[test]
fn logs_of_random_writers_are_read_as_pyarrow_reads_them() {
    cases(1, 300);
}

#[test]
#[ignore = "as long as NEGSTREAM_FUZZ says"]
fn logs_of_many_random_writers_are_read_as_pyarrow_reads_them() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    cases(number("NEGSTREAM_FUZZ_SEED", 2), number("NEGSTREAM_FUZZ", 10_000));
}

fn cases(seed: u64, cases: u64) {
    let mut events = 0;
    for begin in (0..cases).step_by(TOGETHER as usize) {
        let Some(mut python) = python(&["pyarrow", "numpy"]) else { return };
        let place = Place::new();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/writers.py");
        let count = TOGETHER.min(cases - begin);
        python.arg(script).arg(place.path("cases")).arg(format!("{seed}.{begin}")).arg(count.to_string());
        run(&mut python).ended(0);
        for case in 0..count {
            let folder = place.path("cases").join(format!("{case:06}"));
            match compare(&folder) {
                Ok(found) => events += found,
                Err(problem) => {
                    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("writers-{seed}.{begin}-{case}"));
                    crate::support::copy(&folder, &kept);
                    panic!("{problem}\nkept in {}", kept.display());
                }
            }
        }
    }
    assert!(events as u64 > cases, "{events} events of {cases} logs: hardly anything was compared");
}

/// Reads the log of a case and compares every row; the number of events.
fn compare(folder: &Path) -> Result<usize, String> {
    let case: Value = serde_json::from_slice(&read(&folder.join("case.json"))).expect("it is JSON");
    let told =
        |problem: String| format!("{problem}\n{}\n{}", case["settings"], case["way"]["types"].as_str().unwrap_or(""));
    let mut events = 0;
    let found = records(&folder.join("log"), &settings(&case["settings"])).map_err(told)?;
    let rows = case["rows"].as_array().expect("rows");
    if found.len() != rows.len() {
        return Err(told(format!("{} rows, not {}", found.len(), rows.len())));
    }
    for (row, (record, expected)) in found.iter().zip(rows).enumerate() {
        let (shown, detail) = match &record.outcome {
            Ok(event) => {
                events += 1;
                (shown(event), "")
            }
            Err(rejection) => (json!({ "rejected": rejection.reason.name() }), rejection.detail.as_str()),
        };
        if shown != *expected {
            return Err(told(format!("row {row}: {shown} ({detail}), not {expected}")));
        }
    }
    Ok(events)
}

fn settings(changes: &Value) -> SourceConfig {
    let mut source = serde_json::to_value(Config::default().source).expect("a section");
    for (key, value) in changes.as_object().expect("settings") {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(name, value)| source[key][name] = value.clone()),
            value => source[key] = value.clone(),
        }
    }
    serde_json::from_value(source).expect("a section")
}

fn records(log: &Path, source: &SourceConfig) -> Result<Vec<Record>, String> {
    let options = LogOptions::selecting(source, ColumnSelection::All);
    let mut logs = ParquetLogs::open(&[log.display().to_string()], options, &Positions::default())
        .map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    while logs.poll(&mut records).map_err(|error| error.to_string())? != PollStatus::End {}
    Ok(records)
}

fn shown(event: &Interaction) -> Value {
    let Interaction { user, item, kind, timestamp, session, value, features } = event;
    json!({
        "user": user, "item": item, "timestamp": timestamp, "kind": kind, "session": session, "value": value,
        "features": features,
    })
}
