//! Checkpoints in an object store: the real worker, a server that speaks S3, and what can happen between them.

use std::path::Path;
use std::process::Command;

use axum::http::Method;

use crate::s3::{RegistryError, S3};
use crate::support::{self, Background, Place, run, set, write_log};

const URL: &str = "s3://models/shop/a";
const PREFIX: &str = "shop/a";
const VARIABLE: &str = "NEGSTREAM_FAILPOINT";
/// A small model, whose quality does not matter here; a worker is taken for dead after a second and a half.
const SETTINGS: [&str; 6] = [
    "checkpoint.every_events=800",
    "model.dim=16",
    "negatives.bank=256",
    "evaluate.share=0",
    "checkpoint.lease_ms=1000",
    "checkpoint.request_timeout_ms=700",
];

/// A log, and what the model is after it.
struct Scene {
    place: Place,
    items: Vec<u8>,
    s3: S3,
}

impl Scene {
    fn new(events: usize) -> Self {
        let place = Place::new();
        write_log(&place.path("log.parquet"), &support::events(events, 5));
        place.replay_in("local", &["log.parquet"], &SETTINGS[..4]);
        let items = place.items("local");
        Self { place, items, s3: S3::start() }
    }

    /// The program at work on the store.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.negstream_in(URL, arguments);
        set(&mut command, &SETTINGS);
        self.s3.known_to(&mut command);
        command
    }

    fn replay(&self) -> Command {
        self.command(&["replay", "--json", "log.parquet"])
    }

    /// What a reader of the newest checkpoint finds.
    #[track_caller]
    fn ends_like_the_local_run(&self) {
        assert!(self.s3.newest(PREFIX, "items.parquet") == self.items, "items.parquet differs from the local run's");
    }
}

/// It is killed as soon as its `number`-th checkpoint is durable.
fn killed_after(command: &mut Command, number: u64) {
    let said = run(command.env(VARIABLE, format!("published@{number}=kill")));
    assert_eq!(said.code, None, "it was to die: {}", said.err);
}

#[test]
fn a_replay_into_a_store_is_killed_resumed_and_ends_like_a_local_one() {
    let scene = Scene::new(8_000);
    // The first is of a model that knows nothing yet; one that is due while another is written is skipped.
    for number in [2, 1] {
        killed_after(&mut scene.replay(), number);
    }
    let said = run(&mut scene.replay()).ended(0).names(&["going on from checkpoint", "s3://models/shop/a/00000000"]);
    scene.ends_like_the_local_run();
    let newest = *scene.s3.checkpoints(PREFIX).last().unwrap();
    assert_eq!(said.json()["checkpoint"], format!("{URL}/{newest:010}"));
    // Nothing of dead attempts stays, and what stays is what manifests refer to: lease, manifests, their files.
    let manifest = scene.s3.manifest(PREFIX, newest);
    let kept = scene.s3.checkpoints(PREFIX).len();
    assert!(kept <= 3, "checkpoint.keep");
    assert_eq!(scene.s3.keys().len(), 1 + kept * (1 + manifest["files"].as_array().unwrap().len()));

    // Commands that look at a checkpoint take the URL too.
    let of_one = format!("{URL}/{newest:010}");
    for url in [URL, &of_one] {
        let inspect = |command: &mut Command| {
            run(scene.s3.known_to(command.args(["--set", "checkpoint.request_timeout_ms=700"])))
        };
        let mut command = support::negstream();
        let said = inspect(command.args(["inspect", url, "--json"])).ended(0).json();
        assert_eq!((said["path"].as_str(), said["intact"].as_bool()), (Some(of_one.as_str()), Some(true)));
        let item = support::events(1, 5)[0].item.to_string();
        inspect(support::negstream().args(["neighbors", url, &item, "--json"])).ended(0);
        inspect(support::negstream().args(["negatives", url, "--draws", "100", "--json"])).ended(0);
    }
    // A start that finds the log read to its end is the same model.
    run(&mut scene.replay()).ended(0);
    scene.ends_like_the_local_run();
}

#[test]
fn large_files_go_up_in_parts() {
    let scene = Scene::new(700);
    // Two tables of some 150 items with so many dimensions, and as much for the optimizer, are more than 8 MiB.
    let settings = ["model.dim=4096", "context.length=2", "checkpoint.every_events=400"];
    let mut local = scene.place.negstream_in("wide", &["replay", "log.parquet"]);
    set(&mut local, &SETTINGS);
    set(&mut local, &settings);
    run(&mut local).ended(0);
    let mut remote = scene.replay();
    set(&mut remote, &settings);
    scene.s3.trouble(Method::PUT, "item_state.parquet", 2, RegistryError::Unavailable);
    run(&mut remote).ended(0);
    assert!(scene.s3.newest(PREFIX, "items.parquet") == scene.place.items("wide"));
    let parts = scene.s3.count(&Method::PUT, "item_state.parquet", 200);
    let begun = scene.s3.count(&Method::POST, "item_state.parquet", 200);
    assert!(begun >= 2 && parts > 0, "{begun} requests to begin or end an upload in parts, {parts} parts");
}

#[test]
fn errors_stalls_conflicts_and_lost_answers_pass() {
    let scene = Scene::new(4_000);
    let troubles = [
        // 14: unavailable, broken, slow.
        (Method::PUT, "items.parquet", 3, RegistryError::Unavailable),
        (Method::PUT, "users.parquet", 2, RegistryError::Broken),
        (Method::PUT, "bank.parquet", 1, RegistryError::Stall),
        // 15: what was put is there, but nobody said so; a manifest, the lease, data.
        (Method::PUT, "manifest.json", 2, RegistryError::Silence),
        (Method::PUT, "lease.json", 1, RegistryError::Silence),
        (Method::PUT, "worker.json", 1, RegistryError::Silence),
        // 16: 409 is no lost race.
        (Method::PUT, "manifest.json", 2, RegistryError::Conflict),
        (Method::PUT, "lease.json", 1, RegistryError::Conflict),
        (Method::DELETE, "", 2, RegistryError::Unavailable),
        (Method::GET, "", 2, RegistryError::Unavailable),
    ];
    for (method, part, times, trouble) in &troubles {
        scene.s3.trouble(method.clone(), part, *times, *trouble);
    }
    let said = run(&mut scene.replay()).ended(0);
    assert!(!said.err.contains("fenced"), "{}", said.err);
    scene.ends_like_the_local_run();
    assert_eq!(scene.s3.count(&Method::PUT, "manifest.json", 409), 2);
    assert!(scene.s3.count(&Method::PUT, "", 503) >= 3 && scene.s3.count(&Method::PUT, "", 0) >= 4);
}

#[test]
fn a_store_that_is_down_for_a_while_costs_a_checkpoint_and_not_the_run() {
    let scene = Scene::new(4_000);
    // As often as one file is asked for before its checkpoint counts as failed: the second one does, after that of a
    // model that knows nothing yet.
    scene.s3.trouble_after(1, Method::PUT, "noise.parquet", 15, RegistryError::Unavailable);
    let said = run(&mut scene.replay()).ended(0).names(&[
        "checkpoint failed, training goes on",
        "noise.parquet",
        "cannot put",
    ]);
    assert!(!said.err.contains("tester-secret"), "{}", said.err);
    assert_eq!(scene.s3.count(&Method::PUT, "noise.parquet", 503), 15);
    scene.ends_like_the_local_run();
}

#[test]
fn a_damaged_object_is_named_and_the_checkpoint_before_used() {
    let scene = Scene::new(4_000);
    run(&mut scene.replay()).ended(0);
    let newest = *scene.s3.checkpoints(PREFIX).last().unwrap();
    let key = scene.s3.key_of(PREFIX, "item_state.parquet");
    let mut bytes = scene.s3.object(&key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    scene.s3.replace(&key, bytes);
    let before = format!("{URL}/{:010}", newest - 1);
    let said = run(&mut scene.replay()).ended(0);
    said.names(&["checkpoint passed over", "item_state.parquet", "its checksum is", &before]);
    scene.ends_like_the_local_run();

    // Every one of them: refuse.
    for key in scene.s3.keys().iter().filter(|key| key.ends_with("users.parquet")) {
        scene.s3.remove(key);
    }
    run(&mut scene.replay()).ended(4).names(&["none of the", "users.parquet", "it is not there"]);
}

#[test]
fn of_two_workers_one_works() {
    let scene = Scene::new(4_000);
    let mut command = scene.replay();
    set(&mut command, &["checkpoint.request_timeout_ms=600000"]);
    scene.s3.trouble_after(1, Method::PUT, "manifest.json", 1, RegistryError::Stall);
    let first = Background::start(&mut command);
    scene.s3.wait_for_silence(&Method::PUT, "manifest.json", 1);
    let second = run(&mut scene.replay());
    second.ended(6).names(&["in use by another worker", URL]);
    scene.s3.release();
    first.end().ended(0);
    scene.ends_like_the_local_run();

    // A lease that nobody gives back: of those that find it at the same time, one takes it.
    killed_after(&mut scene.command(&["replay", "--fresh", "log.parquet"]), 1);
    let started: Vec<Background> = (0..3).map(|_| Background::start(&mut scene.replay())).collect();
    let mut codes: Vec<Option<i32>> = started.into_iter().map(|worker| worker.end().code).collect();
    codes.sort_unstable();
    assert!(
        codes == [Some(0), Some(6), Some(6)] || codes == [Some(0), Some(0), Some(6)] || codes == [Some(0); 3],
        "{codes:?}: whoever ends in order came after the one before had"
    );
    scene.ends_like_the_local_run();
}

/// A worker that is stopped at `step` of its third checkpoint, taken for dead, and goes on after another one took over
/// (and, where `until_end`, was done).
fn zombie(step: &str, until_end: bool) {
    let scene = Scene::new(8_000);
    let mut command = scene.replay();
    command.env(VARIABLE, format!("{step}@3=stop"));
    let zombie = Background::start(&mut command);
    zombie.wait_until_stopped();
    if until_end {
        run(&mut scene.replay()).ended(0);
    } else {
        killed_after(&mut scene.replay(), 1);
    }
    let after = scene.s3.checkpoints(PREFIX);
    zombie.signal("CONT");
    zombie.end().ended(6).names(&["fenced", "another worker took it over", URL]);
    assert_eq!(scene.s3.checkpoints(PREFIX), after, "it left no checkpoint");
    run(&mut scene.replay()).ended(0);
    scene.ends_like_the_local_run();
}

#[test]
fn a_worker_stopped_while_it_writes_does_not_commit_after_another_took_over() {
    zombie("manifest", true);
}

#[test]
fn not_even_one_stopped_between_its_lease_and_its_put() {
    zombie("commit", false);
    zombie("commit", true);
}

#[test]
fn clocks_that_jump_change_nothing() {
    let scene = Scene::new(4_000);
    run(&mut scene.replay()).ended(0);
    // No wall clock is in what the workers tell each other: what another machine's clock says cannot matter.
    let lease: serde_json::Value = serde_json::from_slice(&scene.s3.object("shop/a/lease.json").unwrap()).unwrap();
    let mut keys: Vec<&str> = lease.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["beat", "epoch", "owner", "released", "time_to_live_ms"]);
    assert_eq!(lease["released"], true, "a worker that ends in order gives it back");
}

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_touched() {
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
