//! `tune`: a search by successive halving, its report, and how it goes on after a kill.

use serde_json::Value;

use crate::support::{Background, Place, events, read, run, set, write_log};

/// Searches of these tests: eight settings, the best four of them on twice as much of the log, and so on.
const SEARCH: [&str; 8] =
    ["--range", "train.learning_rate=0.01..0.3:log", "--choice", "model.dim=8,16", "--trials", "8", "--eta", "2"];

fn figures(report: &Value) -> Vec<Value> {
    let contestants = report["comparison"]["contestants"].as_array().expect("contestants");
    contestants
        .iter()
        .map(|one| [&one["name"], &one["setting"], &one["metrics"], &one["intervals"]].map(Value::clone).into())
        .collect()
}

#[test]
fn search_that_was_killed_goes_on_and_ends_in_the_same_result() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(12_000, 5));
    let tune = |folder: &str| {
        let mut tune = place.negstream(&[&["tune", log.to_str().unwrap(), "--json"][..], &SEARCH].concat());
        set(&mut tune, &["evaluate.repeat=true"]);
        tune.arg("--dir").arg(place.path(folder));
        tune
    };
    let whole = run(&mut tune("whole")).ended(0).json();
    let rungs = whole["tuning"]["rungs"].as_array().unwrap();
    let sizes: Vec<usize> = rungs.iter().map(|rung| rung["trials"].as_array().unwrap().len()).collect();
    assert_eq!(sizes[0], 8);
    assert!(sizes.iter().zip([8, 4, 2]).all(|(size, places)| (places..=places + 1).contains(size)), "{sizes:?}");
    // The first configuration is never left out, and whoever is best is not worse than it where it is chosen.
    let last = rungs[2]["trials"].as_array().unwrap();
    assert_eq!(last[0]["name"], "negstream");
    let by_name = |name: &Value| last.iter().find(|trial| trial["name"] == *name).expect("a finalist");
    let rate = |trial: &Value| trial["hr@20"].as_f64().unwrap();
    assert!(rate(by_name(&whole["tuning"]["winner"])) >= rate(&last[0]));
    let rows: Vec<u64> = rungs.iter().map(|rung| rung["rows"].as_u64().unwrap()).collect();
    assert_eq!(rows, [2400, 4800, 12_000]);
    // The report is of the last fifth, on which nothing was chosen.
    assert!(whole["comparison"]["log"]["judged"].as_u64().unwrap() <= 2400);
    assert!(whole["tuning"]["how"].as_str().unwrap().contains("nothing was chosen"));
    let toml = String::from_utf8(read(&place.path("whole/best.toml"))).unwrap();
    assert_eq!(toml, whole["tuning"]["toml"].as_str().unwrap());
    let mut check = place.negstream(&["config", "check"]);
    run(check.arg("--config").arg(place.path("whole/best.toml"))).ended(0);

    let file = place.path("killed/tune.json");
    let mut killed = Background::start(&mut tune("killed"));
    let n_trials = || {
        let text = std::fs::read(&file).ok()?;
        let state: Value = serde_json::from_slice(&text).expect("whole, or not there");
        Some(state["trials"].as_array()?.len())
    };
    while n_trials().is_none_or(|n| n < 3) {
        assert!(!killed.has_ended(), "the search ended before it was killed");
        std::thread::yield_now();
    }
    killed.kill();
    let before = n_trials().expect("a state");
    assert!((3..14).contains(&before), "{before} trials were over");
    let resumed = run(&mut tune("killed")).ended(0).json();
    assert_eq!(resumed["tuning"], whole["tuning"]);
    assert_eq!(figures(&resumed), figures(&whole));
    // A search that is over only tells its result; one of another plan does not go on from it.
    let again = run(&mut tune("killed")).ended(0).json();
    assert_eq!(again["tuning"], whole["tuning"]);
    run(tune("killed").args(["--holdout", "0"])).ended(2).names(&["tune.json", "'holdout'", "--fresh"]);
}

#[test]
fn chosen_on_what_is_reported_is_said_so() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(3_000, 5));
    let space = place.path("space.toml");
    std::fs::write(&space, "[choice]\n'model.dim' = [8]\n[range]\n'context.length' = { low = 2, high = 3 }\n").unwrap();
    let html = place.path("page.html");
    let mut tune =
        place.negstream(&["tune", log.to_str().unwrap(), "--trials", "2", "--holdout", "0", "--peers", "recent"]);
    tune.arg("--space").arg(&space).arg("--html").arg(&html).arg("--dir").arg(place.path("tune"));
    let said = run(&mut tune).ended(0).out;
    for words in ["Rung 1 of 1: 3000 rows", "on the very events that are reported", "best.toml", "recent"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert!(String::from_utf8(read(&html)).unwrap().contains("trial 1"));
}

#[test]
fn search_that_cannot_be_is_refused_before_anything_runs() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(400, 5));
    let refused = |arguments: &[&str], words: &[&str]| {
        let mut tune = place.negstream(&[&["tune", log.to_str().unwrap()], arguments].concat());
        run(tune.arg("--dir").arg(place.path("tune"))).ended(2).names(words);
        assert!(!place.path("tune").exists(), "nothing is trained before everything is checked");
    };
    refused(&[], &["nothing to search", "--range"]);
    refused(&["--range", "model.dimm=8..16"], &["model.dimm", "did you mean 'model.dim'"]);
    refused(&["--choice", "model.dim=8,-1"], &["model.dim"]);
    refused(&["--range", "model.dim=16..8"], &["--range", "below"]);
    refused(&["--choice", "evaluate.repeat=true,false"], &["evaluate.repeat", "cannot be searched"]);
    refused(&["--choice", "checkpoint.keep=1,2"], &["checkpoint.keep", "cannot be searched"]);
    refused(&["--space", "none.toml"], &["--space", "none.toml"]);
    refused(&["--choice", "model.dim=8,16", "--holdout", "1"], &["--holdout"]);
    refused(&["--choice", "model.dim=8,16", "--peers", "item-kn"], &["did you mean 'item-knn'"]);
}
