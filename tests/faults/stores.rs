//! Checkpoints in an object store: a real worker, a server that speaks S3, and faults between them.

use std::path::Path;
use std::process::Command;

use axum::http::Method;

use crate::s3::{S3, S3Fault};
use crate::support::{self, Background, Place, run, set, write_log};

const URL: &str = "s3://models/shop/a";
const PREFIX: &str = "shop/a";
const VARIABLE: &str = "NEGSTREAM_FAILPOINT";
/// A small model, whose quality does not matter here; a worker is taken for dead after a second and a half.
const SETTINGS: [&str; 7] = [
    "checkpoint.every_events=800",
    "model.dim=16",
    "negatives.bank=256",
    "evaluate.share=0",
    "checkpoint.lease_ms=1000",
    "checkpoint.request_timeout_ms=700",
    // A store that fails or stalls takes long, and what is to be seen is every checkpoint that is due.
    "checkpoint.max_share=1",
];

/// A log, the items of a local run over it, and an object store.
struct StoreScenario {
    place: Place,
    items: Vec<u8>,
    s3: S3,
}

impl StoreScenario {
    fn new(events: usize) -> Self {
        let place = Place::new();
        write_log(&place.path("log.parquet"), &support::events(events, 5));
        place.replay_in("local", &["log.parquet"], &SETTINGS[..4]);
        let items = place.items("local");
        Self { place, items, s3: S3::start() }
    }

    /// A command whose checkpoints are in the store.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.negstream_in(URL, arguments);
        set(&mut command, &SETTINGS);
        self.s3.known_to(&mut command);
        command
    }

    fn replay(&self) -> Command {
        self.command(&["replay", "--json", "log.parquet"])
    }

    /// The newest checkpoint holds the items of the local run.
    #[track_caller]
    fn ends_like_the_local_run(&self) {
        assert!(self.s3.newest(PREFIX, "items.parquet") == self.items, "items.parquet differs from the local run's");
    }
}

/// Runs `command`, which is killed as soon as its `number`-th checkpoint is durable.
fn kill_after(command: &mut Command, number: u64) {
    let said = run(command.env(VARIABLE, format!("published@{number}=kill")));
    assert_eq!(said.code, None, "it was to die: {}", said.err);
}

#[test]
fn object_store_run_killed_and_resumed_ends_like_local_run() {
    let scenario = StoreScenario::new(8_000);
    // The first is of a model that knows nothing yet; one that is due while another is written is skipped.
    for number in [2, 1] {
        kill_after(&mut scenario.replay(), number);
    }
    let said = run(&mut scenario.replay()).ended(0).names(&["going on from checkpoint", "s3://models/shop/a/00000000"]);
    scenario.ends_like_the_local_run();
    let newest = *scenario.s3.checkpoints(PREFIX).last().unwrap();
    assert_eq!(said.json()["checkpoint"], format!("{URL}/{newest:010}"));
    // Nothing of dead attempts stays, and what stays is what manifests refer to: lease, pointer, manifests, their files.
    let manifest = scenario.s3.manifest(PREFIX, newest);
    let kept = scenario.s3.checkpoints(PREFIX).len();
    assert!(kept <= 3, "checkpoint.keep");
    assert_eq!(scenario.s3.keys().len(), 2 + kept * (1 + manifest["files"].as_array().unwrap().len()));

    // Commands that look at a checkpoint take the URL too.
    let of_one = format!("{URL}/{newest:010}");
    let latest = format!("{URL}/latest");
    for url in [URL, &of_one, &latest] {
        let inspect = |command: &mut Command| {
            run(scenario.s3.known_to(command.args(["--set", "checkpoint.request_timeout_ms=700"])))
        };
        let mut command = support::negstream();
        let said = inspect(command.args(["inspect", url, "--json"])).ended(0).json();
        assert_eq!((said["path"].as_str(), said["intact"].as_bool()), (Some(of_one.as_str()), Some(true)));
        let item = support::events(1, 5)[0].item.to_string();
        inspect(support::negstream().args(["neighbors", url, &item, "--json"])).ended(0);
        inspect(support::negstream().args(["negatives", url, "--draws", "100", "--json"])).ended(0);
    }
    // A start that finds the log read to its end is the same model.
    run(&mut scenario.replay()).ended(0);
    scenario.ends_like_the_local_run();
}

#[test]
fn large_files_are_uploaded_in_parts() {
    let scenario = StoreScenario::new(700);
    // Two tables of some 150 items with so many dimensions, and as much for the optimizer, are more than 8 MiB.
    let settings = ["model.dim=4096", "context.length=2", "checkpoint.every_events=400"];
    let mut local = scenario.place.negstream_in("wide", &["replay", "log.parquet"]);
    set(&mut local, &SETTINGS);
    set(&mut local, &settings);
    run(&mut local).ended(0);
    let mut remote = scenario.replay();
    set(&mut remote, &settings);
    scenario.s3.fail(Method::PUT, "item_state.parquet", 2, S3Fault::Unavailable);
    run(&mut remote).ended(0);
    assert!(scenario.s3.newest(PREFIX, "items.parquet") == scenario.place.items("wide"));
    let parts = scenario.s3.count(&Method::PUT, "item_state.parquet", 200);
    let begun = scenario.s3.count(&Method::POST, "item_state.parquet", 200);
    assert!(begun >= 2 && parts > 0, "{begun} requests to begin or end an upload in parts, {parts} parts");
}

#[test]
fn object_store_errors_stalls_and_lost_answers_are_survived() {
    let scenario = StoreScenario::new(4_000);
    let faults = [
        // 14: unavailable, broken, slow.
        (Method::PUT, "items.parquet", 3, S3Fault::Unavailable),
        (Method::PUT, "users.parquet", 2, S3Fault::Broken),
        (Method::PUT, "bank.parquet", 1, S3Fault::Stall),
        // 15: what was put is there, but nobody said so; a manifest, the lease, data.
        (Method::PUT, "manifest.json", 2, S3Fault::Silence),
        (Method::PUT, "lease.json", 1, S3Fault::Silence),
        (Method::PUT, "progress.json", 1, S3Fault::Silence),
        // 16: 409 is no lost race.
        (Method::PUT, "manifest.json", 2, S3Fault::Conflict),
        (Method::PUT, "lease.json", 1, S3Fault::Conflict),
        (Method::DELETE, "", 2, S3Fault::Unavailable),
        (Method::GET, "", 2, S3Fault::Unavailable),
    ];
    for (method, part, times, fault) in &faults {
        scenario.s3.fail(method.clone(), part, *times, *fault);
    }
    let said = run(&mut scenario.replay()).ended(0);
    assert!(!said.err.contains("fenced"), "{}", said.err);
    scenario.ends_like_the_local_run();
    assert_eq!(scenario.s3.count(&Method::PUT, "manifest.json", 409), 2);
    assert!(scenario.s3.count(&Method::PUT, "", 503) >= 3 && scenario.s3.count(&Method::PUT, "", 0) >= 4);
}

#[test]
fn object_store_outage_costs_one_checkpoint_only() {
    let scenario = StoreScenario::new(4_000);
    // As often as one file is asked for before its checkpoint counts as failed: the second one does, after that of a
    // model that knows nothing yet.
    scenario.s3.fail_after(1, Method::PUT, "samplers.parquet", 15, S3Fault::Unavailable);
    let said = run(&mut scenario.replay()).ended(0).names(&[
        "checkpoint failed, training goes on",
        "samplers.parquet",
        "cannot put",
    ]);
    assert!(!said.err.contains("tester-secret"), "{}", said.err);
    assert_eq!(scenario.s3.count(&Method::PUT, "samplers.parquet", 503), 15);
    scenario.ends_like_the_local_run();
}

#[test]
fn restore_falls_back_past_damaged_object() {
    let scenario = StoreScenario::new(4_000);
    run(&mut scenario.replay()).ended(0);
    let newest = *scenario.s3.checkpoints(PREFIX).last().unwrap();
    let key = scenario.s3.key_of(PREFIX, "item_state.parquet");
    let mut bytes = scenario.s3.object(&key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    scenario.s3.replace(&key, bytes);
    let before = format!("{URL}/{:010}", newest - 1);
    let said = run(&mut scenario.replay()).ended(0);
    said.names(&["checkpoint passed over", "item_state.parquet", "its checksum is", &before]);
    scenario.ends_like_the_local_run();

    // Every one of them: refuse.
    for key in scenario.s3.keys().iter().filter(|key| key.ends_with("users.parquet")) {
        scenario.s3.remove(key);
    }
    run(&mut scenario.replay()).ended(4).names(&["none of the", "users.parquet", "it is not there"]);
}

#[test]
fn second_worker_on_object_store_is_refused() {
    let scenario = StoreScenario::new(4_000);
    let mut command = scenario.replay();
    set(&mut command, &["checkpoint.request_timeout_ms=600000"]);
    scenario.s3.fail_after(1, Method::PUT, "manifest.json", 1, S3Fault::Stall);
    let first = Background::start(&mut command);
    scenario.s3.wait_for_silence(&Method::PUT, "manifest.json", 1);
    let second = run(&mut scenario.replay());
    second.ended(6).names(&["in use by another worker", URL]);
    scenario.s3.release();
    first.end().ended(0);
    scenario.ends_like_the_local_run();

    // A lease that nobody gives back: of those that find it at the same time, one takes it.
    kill_after(&mut scenario.command(&["replay", "--fresh", "log.parquet"]), 1);
    let started: Vec<Background> = (0..3).map(|_| Background::start(&mut scenario.replay())).collect();
    let mut codes: Vec<Option<i32>> = started.into_iter().map(|worker| worker.end().code).collect();
    codes.sort_unstable();
    assert!(
        codes == [Some(0), Some(6), Some(6)] || codes == [Some(0), Some(0), Some(6)] || codes == [Some(0); 3],
        "{codes:?}: whoever ends in order came after the one before had"
    );
    scenario.ends_like_the_local_run();
}

/// A worker that is stopped at `step` of its third checkpoint, taken for dead, and goes on after another one took over
/// (and, where `until_end`, was done).
fn zombie(step: &str, until_end: bool) {
    let scenario = StoreScenario::new(8_000);
    let mut command = scenario.replay();
    command.env(VARIABLE, format!("{step}@3=stop"));
    let zombie = Background::start(&mut command);
    zombie.wait_until_stopped();
    if until_end {
        run(&mut scenario.replay()).ended(0);
    } else {
        kill_after(&mut scenario.replay(), 1);
    }
    let after = scenario.s3.checkpoints(PREFIX);
    zombie.signal("CONT");
    zombie.end().ended(6).names(&["fenced", "another worker took it over", URL]);
    assert_eq!(scenario.s3.checkpoints(PREFIX), after, "it left no checkpoint");
    run(&mut scenario.replay()).ended(0);
    scenario.ends_like_the_local_run();
}

#[test]
fn worker_stopped_while_writing_is_fenced() {
    zombie("manifest", true);
}

#[test]
fn worker_stopped_between_lease_and_put_is_fenced() {
    zombie("commit", false);
    zombie("commit", true);
}

#[test]
fn lease_contains_no_wall_clock() {
    let scenario = StoreScenario::new(4_000);
    run(&mut scenario.replay()).ended(0);
    // No wall clock is in what the workers tell each other: what another machine's clock says cannot matter.
    let lease: serde_json::Value = serde_json::from_slice(&scenario.s3.object("shop/a/lease.json").unwrap()).unwrap();
    let mut keys: Vec<&str> = lease.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["epoch", "heartbeat", "owner", "released", "time_to_live_ms"]);
    assert_eq!(lease["released"], true, "a worker that ends in order gives it back");
}

#[test]
fn invalid_checkpoint_location_is_refused_before_anything_is_touched() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(100, 5));
    let replay = |dir: &str, more: &[&str]| {
        let mut command = place.negstream_in(dir, &["replay", "log.parquet"]);
        set(&mut command, more);
        run(&mut command)
    };
    replay("gs://bucket/a", &[]).ended(2).names(&["gs://", "s3://"]);
    let said = replay("s3://key:very-secret@bucket/a", &[]).ended(2).names(&["AWS_ACCESS_KEY_ID"]);
    assert!(!said.err.contains("very-secret"));
    replay("s3://bucket/a", &["checkpoint.storage_options.regoin=x"]).ended(2).names(&["no option 'regoin'"]);
    let mut check = place.negstream_in("s3://bucket/a", &["config", "check"]);
    set(
        &mut check,
        &["checkpoint.storage_options.secret_access_key=very-secret", "checkpoint.storage_options.region=eu-test-1"],
    );
    let said = run(&mut check).ended(0);
    assert!(said.out.contains("eu-test-1") && !said.out.contains("very-secret"), "{}", said.out);
    assert!(!Path::new("s3:").exists());
}
