//! `compare`: configurations and peers side by side over one log.

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
