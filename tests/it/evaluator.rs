//! The evaluator against the protocol's own program: given the same popularity baseline, both must find the same.
//!
//! Popularity is the one ranker that both have. Where its figures agree to four decimals, so do the choice of events,
//! what is ranked, ties, items never seen, bands and the order of ranking and learning, on which the model's rest too.

use serde_json::Value;

use crate::support::{Place, alone, data, python, run, shared};

/// The peer that is the baseline of a replay, whatever the half-life of its frequencies.
const PEER: &str = "recent";
const HALF_LIVES: [&str; 2] = ["negatives.half_life=auto", "negatives.half_life=20000"];

fn agrees(log: &str, options: &[&str], settings: &[&str]) {
    let Some(protocol) = shared("eval/prequential.py") else { return };
    let Some(log) = data(log) else { return };
    let Some(mut python) = python(&["numpy", "pandas", "pyarrow"]) else { return };
    let _alone = alone();
    let place = Place::new();
    python.arg(protocol).arg(&log).args(options).args(["--peer", PEER]);
    run(python.arg("--out").arg(place.path("peers.json"))).ended(0);
    let peers: Vec<Value> = serde_json::from_slice(&crate::support::read(&place.path("peers.json"))).unwrap();

    for name in HALF_LIVES {
        let peer = &peers[0];
        let folder = name.replace('=', "-");
        let report =
            place.replay_in(&folder, &[log.to_str().unwrap()], &[&["train.batch=512", name], settings].concat());
        let evaluation = &report["evaluation"];
        assert_eq!(evaluation["events"], peer["events"], "{name}");
        let ours = &evaluation["popularity"];
        let figures =
            [("hr@20", "hr"), ("ndcg@20", "ndcg"), ("mrr@20", "mrr"), ("tail_hr@20", "tail"), ("head_hr@20", "head")];
        for (our_name, their_name) in figures {
            let (ours, theirs) = (ours[our_name].as_f64().unwrap(), peer[their_name].as_f64().unwrap());
            assert!((ours - theirs).abs() < 5e-5, "{name}: {our_name} is {ours}, not {theirs}");
        }
    }
}

#[test]
fn where_own_items_leave_the_ranking() {
    agrees("ml-100k", &[], &[]);
}

#[test]
fn where_items_recur() {
    let settings = ["evaluate.repeat=true", r#"positives.kinds=["purchase"]"#];
    agrees("online-retail-ii-y1", &["--repeat", "--kind", "purchase"], &settings);
}
