//! `publish` and `publish verify`: a checkpoint into real servers, and each kind of difference told with its own words.

use std::process::Command;

use crate::sink_servers;
use crate::support::{Place, events, run, set, write_described_log};

/// A worker's checkpoints `older` (of half of a log) and `newest`, and one of another model.
fn learn() -> Place {
    let place = Place::new();
    let settings = ["model.dim=8", "train.batch=64", "threads=1", "negatives.bank=64", "memory.items.cap=160"];
    let all = events(6_000, 31);
    for (name, part) in [("half", &all[..3_000]), ("rest", &all[3_000..])] {
        write_described_log(&place.path(name), part);
    }
    let (half, rest) = (place.path("half"), place.path("rest"));
    place.replay_in("older", &[half.to_str().unwrap()], &settings);
    crate::support::copy(&place.path("older"), &place.path("newer"));
    place.replay_in("newer", &[half.to_str().unwrap(), rest.to_str().unwrap()], &settings);
    place.replay_in("other", &[half.to_str().unwrap()], &settings);
    place
}

/// `publish`, or `publish verify`, of the newest checkpoint in `checkpoints`.
fn publish(place: &Place, words: &[&str], checkpoints: &str, sink: &[&str]) -> Command {
    let checkpoint = place.newest(checkpoints).display().to_string();
    let words: Vec<&str> = words.iter().copied().chain([checkpoint.as_str()]).chain(sink.iter().copied()).collect();
    let mut command = place.negstream(&words);
    set(&mut command, &["log.level=warn"]);
    command
}

#[test]
fn published_checkpoint_is_verified_row_by_row_and_differences_are_told() {
    let (redis, postgres) = (sink_servers::redis(), sink_servers::postgres());
    let mut sinks = Vec::new();
    sinks.extend(redis.as_ref().map(|server| ("redis", sink_servers::redis_url(server))));
    sinks.extend(postgres.as_ref().map(|server| ("postgres", sink_servers::postgres_url(server))));
    let place = learn();
    for (sink, target) in &sinks {
        let at = ["--sink", sink, "--target", target, "--name", "commands"];
        let at_json: Vec<&str> = at.iter().copied().chain(["--json"]).collect();
        let nothing = run(&mut publish(&place, &["publish", "verify"], "older", &at)).ended(8);
        assert!(nothing.out.contains("nothing was ever committed"), "{}", nothing.out);
        let told = run(&mut publish(&place, &["publish"], "older", &at_json)).ended(0).json();
        assert!(told[0]["rows"].as_u64() > Some(20) && told[0]["epoch"] == 1, "{told}");
        let equal = run(&mut publish(&place, &["publish", "verify"], "older", &at_json)).ended(0).json();
        assert!(equal[0]["equal"] == true && equal[0]["rows"] == told[0]["rows"], "{equal}");
        // The same worker, later.
        let later = run(&mut publish(&place, &["publish", "verify"], "newer", &at)).ended(8);
        let said = later.names(&["not equal to the checkpoint", sink]).out;
        for word in ["differs", "missing", "extra", "other embedding", "other frequency"] {
            assert!(said.contains(word), "{sink}: '{word}' is missing: {said}");
        }
        let with_limit: Vec<&str> = at.iter().copied().chain(["--rows-per-second", "100000"]).collect();
        run(&mut publish(&place, &["publish"], "newer", &with_limit)).ended(0);
        run(&mut publish(&place, &["publish", "verify"], "newer", &at)).ended(0);
        // Another model.
        let other = run(&mut publish(&place, &["publish"], "other", &at)).ended(8);
        other.names(&[sink, "another model"]);
        let other = run(&mut publish(&place, &["publish", "verify"], "other", &at)).ended(8);
        assert!(other.out.contains("wrong model"), "{}", other.out);
        let replacing: Vec<&str> = at.iter().copied().chain(["--option", "replace=true"]).collect();
        run(&mut publish(&place, &["publish"], "other", &replacing)).ended(0);
        run(&mut publish(&place, &["publish", "verify"], "other", &at)).ended(0);
        // By the configuration.
        let mut command = publish(&place, &["publish", "verify"], "other", &[]);
        set(&mut command, &[&format!("publish=[{{sink=\"{sink}\",target=\"{target}\",name=\"commands\"}}]")]);
        run(&mut command).ended(0);
    }
}

#[test]
fn publish_refuses_wrong_usage_and_names_sinks_that_are_away() {
    let place = Place::new();
    write_described_log(&place.path("log"), &events(500, 33));
    place.replay_in("one", &[place.path("log").to_str().unwrap()], &["model.dim=8", "negatives.bank=64"]);
    for (sink, words) in [
        (&[][..], &["no sink is named", "--sink"][..]),
        (&["--sink", "rediss"], &["rediss", "did you mean 'redis'"]),
        (&["--sink", "redis", "--target", "nowhere"], &["redis", "://"]),
        (&["--sink", "redis", "--option", "patince=1"], &["patince", "patience"]),
        (&["--sink", "redis", "--option", "patience"], &["--option", "KEY=VALUE"]),
    ] {
        let said = run(&mut publish(&place, &["publish"], "one", sink)).names(words);
        assert!([Some(2), Some(8)].contains(&said.code), "{sink:?}: {:?}", said.code);
    }
    let away = ["--sink", "redis", "--target", "redis://:canary@127.0.0.1:1/0"];
    for words in [&["publish"][..], &["publish", "verify"]] {
        let said = run(&mut publish(&place, words, "one", &away)).ended(8).names(&["redis is away"]);
        assert!(!said.err.contains("canary"), "{}", said.err);
    }
}
