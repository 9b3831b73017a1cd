//! The evaluator against the protocol's own program, event by event: given the same baselines, both must find the same.
//!
//! Popularity and users' own history are the rankers that both have. Where their figures agree to four decimals, so do the
//! choice of events, what is known and counted just before each event, ties, bands and the order of ranking and learning, on
//! which the model's figures rest too.

use std::path::Path;

use serde_json::Value;

use crate::support::{Place, alone, data, python, run, shared};

const OWN_HISTORY: &str = "own history";

/// Runs the two baselines of the protocol's own program, in the same order of events, and nothing else of it.
const PEERS: &str = r#"
import json, os, sys
folder, log, kinds, repeat, out = sys.argv[1:]
sys.path.insert(0, folder)
import prequential_exact as protocol
user, item, ts, users, items = protocol.load(log, kinds.split())
streams = protocol.Streams(user, item, users, items, repeat == "repeat")
peers = [("100", 0, 0, 0, 1, 0, 0), ("5000", 0, 0, 0, 1, 1, 0)]
if streams.repeat:
    peers.append(("own history", 0, 1, 0, 1e-3, 1, 1))
json.dump(streams.go([100, 5000], peers), open(out, "w"))
"#;

fn agrees(log: &Path, kinds: &str, settings: &[&str]) {
    let program = shared("eval/prequential_exact.py");
    let Some((mut python, program)) = python(&["numpy", "pandas", "pyarrow", "numba"]).zip(program) else { return };
    let _alone = alone();
    let place = Place::new();
    let repeat = if settings.contains(&"evaluate.repeat=true") { "repeat" } else { "once" };
    python.env("NUMBA_CACHE_DIR", std::env::temp_dir().join("negstream-numba"));
    python.args(["-c", PEERS]).arg(program.parent().expect("a folder")).arg(log).args([kinds, repeat]);
    run(python.arg(place.path("peers.json"))).ended(0);
    let peers: Vec<Value> = serde_json::from_slice(&crate::support::read(&place.path("peers.json"))).unwrap();
    let peer = |name: &str| peers.iter().find(|peer| peer["peer"] == name);

    // Baselines owe nothing to the model: a small one is as good. Every own item is remembered, as in the protocol.
    let small = ["model.dim=8", "negatives.bank=16", "context.length=2", "repetition.items=65536"];
    for half_life in ["100", "5000"] {
        let popularity = format!("evaluate.popularity_half_life={half_life}");
        let settings = [&small[..], settings, &[&popularity]].concat();
        let report = place.replay_in(half_life, &[log.to_str().unwrap()], &settings);
        let ours = &report["evaluation"];
        agree(ours, &ours["popularity"], peer(half_life).expect("it has this half-life"), half_life);
        match (peer(OWN_HISTORY), half_life) {
            (Some(peer), "5000") => agree(ours, &ours["own_history"], peer, OWN_HISTORY),
            (None, _) => assert!(ours["own_history"].is_null(), "{ours}"),
            _ => {}
        }
    }
}

#[track_caller]
fn agree(evaluation: &Value, ours: &Value, peer: &Value, name: &str) {
    assert_eq!(evaluation["events"], peer["events"], "{name}");
    let figures =
        [("hr@20", "hr"), ("ndcg@20", "ndcg"), ("mrr@20", "mrr"), ("tail_hr@20", "tail"), ("head_hr@20", "head")];
    for (our_name, their_name) in figures {
        let (ours, theirs) = (ours[our_name].as_f64().unwrap(), peer[their_name].as_f64().unwrap());
        assert!((ours - theirs).abs() < 5e-5, "{name}: {our_name} is {ours}, not {theirs}");
    }
}

fn agrees_on(log: &str, kinds: &str, settings: &[&str]) {
    if let Some(log) = data(log) {
        agrees(&log, kinds, settings);
    }
}

/// A log most of whose items are new, bought again by some and looked at by many at once.
fn mostly_new(place: &Place) -> Option<std::path::PathBuf> {
    let path = place.path("new.parquet");
    let program = r#"
import sys, numpy, pandas
random = numpy.random.default_rng(7)
n = 12_000
item = numpy.where(random.random(n) < 0.6, numpy.arange(n), 0)
for event in range(1, n):
    if item[event] == 0:
        item[event] = item[max(0, event - 1 - int(random.exponential(30)))]
frame = pandas.DataFrame({
    "user_id": [f"u{user}" for user in random.integers(0, 400, n)],
    "item_id": [f"i{item}" for item in item],
    "event_type": "click",
    "timestamp": pandas.to_datetime(1_600_000_000_000 + numpy.arange(n) * 60_000, unit="ms", utc=True),
})
frame["timestamp"] = frame["timestamp"].astype("datetime64[ms, UTC]")
frame.to_parquet(sys.argv[1])
"#;
    let mut python = python(&["numpy", "pandas", "pyarrow"])?;
    run(python.args(["-c", program]).arg(&path)).ended(0);
    Some(path)
}

#[test]
fn evaluator_agrees_with_the_protocol_where_own_items_leave_the_ranking() {
    agrees_on("ml-100k", "", &[]);
}

#[test]
fn evaluator_agrees_with_the_protocol_where_items_recur() {
    let settings = ["evaluate.repeat=true", r#"positives.kinds=["purchase"]"#];
    agrees_on("online-retail-ii-y1", "purchase", &settings);
}

#[test]
fn evaluator_agrees_with_the_protocol_where_most_items_are_new() {
    let place = Place::new();
    let Some(log) = mostly_new(&place) else { return };
    agrees(&log, "", &[]);
    agrees(&log, "", &["evaluate.repeat=true"]);
    // Whatever a batch has of its own events is known within it.
    agrees(&log, "", &["evaluate.repeat=true", "train.batch=2"]);
    agrees(&log, "", &["evaluate.repeat=true", "train.batch=5000"]);
    agrees(&log, "", &["train.batch=2"]);
    agrees(&log, "", &["train.batch=5000"]);
}

/// The other logs take minutes each.
#[test]
#[ignore = "a quarter of an hour"]
fn evaluator_agrees_with_the_protocol_on_long_logs() {
    agrees_on("ml-latest-small", "", &[]);
    agrees_on("complete-journey", "", &["evaluate.repeat=true"]);
    agrees_on("globo-clicks", "", &[]);
}
