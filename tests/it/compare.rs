//! `compare`: configurations and peers side by side over one log.

use negstream::event::Interaction;
use serde_json::Value;

use crate::support::{Place, alone, data, events, read, run, set, write_log};

fn contestant<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["contestants"].as_array().expect("contestants");
    all.iter().find(|contestant| contestant["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Figures of the protocol's own program (`eval/prequential_exact.py` of the shared folder: `--peer pop recent cooc vstan mix`) for
/// MovieLens 100K.
#[test]
fn peers_find_what_the_protocols_own_program_finds() {
    let Some(log) = data("ml-100k") else { return };
    let _alone = alone();
    let place = Place::new();
    // Peers owe nothing to the model: a small one is as good.
    let mut compare =
        place.negstream(&["compare", log.to_str().unwrap(), "--peers", "popularity,recent,item-knn,vstan,mix"]);
    set(&mut compare, &["model.dim=8", "negatives.bank=16", "context.length=2"]);
    let report = run(compare.args(["--json", "--dir"]).arg(place.path("models"))).ended(0).json();
    assert_eq!(report["log"]["judged"], 49_548);
    for (name, hit_rate, ndcg, tail, head) in [
        ("popularity", 0.1233, 0.0477, 0.0, 0.3714),
        ("recent (HR)", 0.1255, 0.0493, 0.0, 0.3750),
        ("recent (NDCG)", 0.1233, 0.0496, 0.0046, 0.3439),
        ("item-knn", 0.3049, 0.1308, 0.1312, 0.4997),
        ("vstan (HR)", 0.2922, 0.1261, 0.0663, 0.5695),
        ("mix", 0.3134, 0.1352, 0.1199, 0.5401),
    ] {
        let found = contestant(&report, name);
        let band = |name: &str| {
            let place = report["bands"].as_array().unwrap().iter().position(|band| band["name"] == name).unwrap();
            found["bands"][place].as_f64().unwrap()
        };
        let ours = [&found["metrics"]["hr@20"], &found["metrics"]["ndcg@20"]].map(|figure| figure.as_f64().unwrap());
        for (ours, theirs) in ours.into_iter().chain([band("tail"), band("head")]).zip([hit_rate, ndcg, tail, head]) {
            assert!((ours - theirs).abs() < 0.5001e-4, "{name}: {ours} for {theirs}, {found}");
        }
    }
}

#[test]
fn comparison_ranks_as_replay_does_and_tells_it_three_ways() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(6_000, 5));
    let settings = ["evaluate.repeat=true", "model.dim=16"];
    let [html, json, models] = ["page.html", "report.json", "models"].map(|name| place.path(name));
    let mut compare = place.negstream(&["compare", log.to_str().unwrap(), "--peers", "recent,own-history,mix"]);
    compare.args(["--variant", "small <8>: model.dim=8; model.gate=false", "--variant", "train.batch=64"]);
    set(&mut compare, &settings);
    compare.arg("--html").arg(&html).arg("--report").arg(&json).arg("--dir").arg(&models);
    let said = run(&mut compare).ended(0).out;
    for word in ["small <8>", "model.dim=8", "train.batch=64", "page.html"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let report: Value = serde_json::from_slice(&read(&json)).unwrap();

    let replayed = place.replay(&log, &settings);
    let first = contestant(&report, "negstream");
    assert_eq!(report["log"]["judged"], replayed["evaluation"]["events"]);
    for figure in ["hr@20", "ndcg@20", "mrr@20"] {
        let (ours, theirs) =
            (first["metrics"][figure].as_f64().unwrap(), replayed["evaluation"][figure].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-9, "{figure}: {ours} for {theirs}");
    }
    assert_eq!(contestant(&report, "small <8>")["setting"], "model.dim=8; model.gate=false");
    assert_eq!(contestant(&report, "small <8>")["training"]["configuration"]["model"]["dim"], 8);
    // Each configuration's model is left where it was told to be.
    assert!(models.join("1-small--8-").is_dir(), "{:?}", crate::support::tree(&models).keys());
    for found in report["contestants"].as_array().unwrap() {
        let interval = &found["intervals"]["hr@20"];
        let rate = found["metrics"]["hr@20"].as_f64().unwrap();
        assert!(interval["low"].as_f64().unwrap() <= rate && rate <= interval["high"].as_f64().unwrap(), "{found}");
        assert_eq!(found["curve"].as_array().unwrap().len(), report["stretches_from"].as_array().unwrap().len());
    }
    assert_eq!(first["intervals"]["hr@20_difference"]["high"], 0.0);

    let page = String::from_utf8(read(&html)).unwrap();
    assert!(page.contains("small &lt;8&gt;") && !page.contains("<8>"), "names are escaped");
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"), "nothing is loaded");
    assert!(page.matches("<svg").count() == 4 && page.contains("</html>"), "four drawings");
}

#[test]
fn comparison_that_cannot_be_is_refused() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(400, 5));
    let log = log.to_str().unwrap().to_owned();
    let refused = |arguments: &[&str], words: &[&str]| {
        let mut compare = place.negstream(&[&["compare", &log], arguments].concat());
        run(compare.arg("--dir").arg(place.path("models"))).ended(2).names(words);
        assert!(!place.path("models").exists(), "nothing is trained before everything is checked");
    };
    refused(&["--peers", "item-kn"], &["--peers", "item-kn", "did you mean 'item-knn'", "mix-vstan"]);
    refused(&["--variant", "wide:"], &["--variant", "KEY=VALUE"]);
    refused(&["--variant", "model.dimm=8"], &["model.dimm", "model.dim"]);
    refused(&["--variant", "same: seed=1"], &["'same'", "does not differ"]);
    refused(&["--variant", "a: model.dim=8", "--variant", "a: model.dim=16"], &["'a'", "name of another"]);
    refused(&["--variant", "evaluate.repeat=true"], &["section 'evaluate'", "--set"]);
    refused(&["--html", "no/such/folder.html"], &["--html", "no/such/folder.html"]);
    let mut compare = place.negstream(&["compare", &log]);
    set(&mut compare, &[r#"positives.kinds=["bought"]"#]);
    run(compare.arg("--dir").arg(place.path("models"))).ended(2).names(&["positives.kinds", "400 rows"]);
}

/// A log of 800 events a second apart: each of 400 users takes one of ten items, and then, in the second half, the same new one.
fn log_with_a_new_item(place: &Place) -> String {
    let model = events(1, 5).remove(0);
    let event = |number: usize| Interaction {
        user: format!("u{}", number % 400).into(),
        item: if number < 400 { format!("i{}", number % 10) } else { "new".to_owned() }.into(),
        timestamp: 1_700_000_000_000 + 1000 * number as i64,
        ..model.clone()
    };
    let path = place.path("new.parquet");
    write_log(&path, &(0..800).map(event).collect::<Vec<_>>());
    path.to_str().unwrap().to_owned()
}

#[test]
fn item_is_served_when_its_first_event_is_as_old_as_the_delay() {
    let place = Place::new();
    let log = log_with_a_new_item(&place);
    let html = place.path("page.html");
    let mut compare =
        place.negstream(&["compare", &log, "--peers", "none", "--publish-delay", "100s,0s,300s", "--json"]);
    set(&mut compare, &["evaluate.repeat=true", "model.dim=8", "train.batch=8"]);
    compare.arg("--html").arg(&html).arg("--dir").arg(place.path("models"));
    let report = run(&mut compare).ended(0).json();
    let rows = report["staleness"]["rows"].as_array().unwrap();
    // The catalogue is shorter than the list: a target is found as soon as it can be served at all.
    let hits = |row: &Value| (row["metrics"]["hr@20"].as_f64().unwrap() * 400.0).round() as i64;
    let asked: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["delay"].as_str().unwrap(), row["stale"].as_str().unwrap())).collect();
    assert_eq!(asked[..4], [("live", "nothing"), ("0s", "vectors"), ("0s", "histories"), ("0s", "everything")]);
    assert_eq!(hits(&rows[0]), 399);
    for row in rows {
        let delay = row["delay_ms"].as_i64().unwrap() / 1000;
        let (missed, what) = (400 - hits(row), format!("{} {}", row["delay"], row["stale"]));
        if delay == 0 {
            assert_eq!(missed, 1, "{what}");
            continue;
        }
        // A quarter of the delay until the next state is published, and two batches: of what is published, and of what is asked.
        assert!((delay..=delay + delay / 4 + 16).contains(&missed), "{what}: {missed} of 400 were missed");
        let age = row["age_ms"].as_f64().unwrap() / 1000.0;
        assert!((delay as f64..(delay + delay / 4 + 16) as f64).contains(&age), "{what}: {age}");
        let young = row["by_age"][0].as_f64().unwrap();
        assert!((young - row["metrics"]["hr@20"].as_f64().unwrap()).abs() < 1e-9, "all items are younger than an hour");
    }
    let page = String::from_utf8(read(&html)).unwrap();
    assert!(page.contains("Hit rate against delay") && page.contains("300s"), "{page}");
}

#[test]
fn nothing_is_lost_without_a_delay() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &events(6_000, 5));
    for repeat in ["evaluate.repeat=true", "evaluate.repeat=false"] {
        let mut compare = place.negstream(&["compare", log.to_str().unwrap(), "--peers", "none", "--json"]);
        set(&mut compare, &[repeat, "model.dim=16"]);
        compare.args(["--publish-delay", "0s,1h"]).arg("--dir").arg(place.path("models"));
        let report = run(&mut compare).ended(0).json();
        let rows = report["staleness"]["rows"].as_array().unwrap();
        for row in &rows[1..4] {
            assert_eq!(row["metrics"], rows[0]["metrics"], "{repeat}, {}", row["stale"]);
            assert_eq!(row["by_age"], rows[0]["by_age"]);
        }
        let of_hour = rows[6]["metrics"]["hr@20"].as_f64().unwrap();
        assert!(
            of_hour < rows[0]["metrics"]["hr@20"].as_f64().unwrap(),
            "an hour of a log of few hours costs something"
        );
    }
    let refused = |settings: &[&str], delay: &str, words: &[&str]| {
        let mut compare = place.negstream(&["compare", log.to_str().unwrap(), "--publish-delay", delay]);
        set(&mut compare, settings);
        run(compare.arg("--dir").arg(place.path("none"))).ended(2).names(words);
        assert!(!place.path("none").exists());
    };
    refused(&[], "1h,soon", &["--publish-delay", "'soon'", "1m,1h,1d"]);
    refused(&["evaluate.last_item=true"], "1h", &["--publish-delay", "evaluate.last_item"]);
    refused(&[r#"context.encoder="gru""#], "1h", &["--publish-delay", "context.encoder"]);
}
