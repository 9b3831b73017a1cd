//! Workers that share one model: whoever is killed, stopped, frozen or thrown out of the group, every event is in the model once,
//! and all workers have the same model.

use negstream::checkpoint::Checkpoint;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::crew::{Crew, SESSION, a_while};
use crate::group::{Group, counts};
use crate::kafka_harness::Broker;
use crate::support::{run, set};

const WORKERS: [&str; 4] = ["a", "b", "c", "d"];
/// How far two workers' vectors of an item may be apart, as a share of their length: each has added up the same moves in an
/// order of its own.
const TOLERANCE: f32 = 1e-3;

fn sharing(broker: &Broker, topic: &str, partitions: i32) -> Group {
    let group = Group::new(broker, topic, partitions);
    group.with(&SESSION).with(&[&format!("share.topic=deltas-of-{topic}"), "share.flush_ms=100"])
}

/// The vectors of all items in the newest checkpoint of a worker, in the order of the items' names.
fn vectors(group: &Group, worker: &str) -> Vec<(String, Vec<f32>)> {
    let checkpoint = Checkpoint::open(group.place.path(worker)).expect("a checkpoint");
    let items = checkpoint.items().expect("items").map(|item| item.expect("an item"));
    let mut vectors: Vec<(String, Vec<f32>)> = items.map(|item| (item.id, item.embedding)).collect();
    vectors.sort_by(|(one, _), (other, _)| one.cmp(other));
    vectors
}

/// What `negstream audit` says of the newest checkpoints of `workers`.
#[track_caller]
fn audit(group: &Group, workers: &[&str]) -> Value {
    let mut command = group.audit_command(workers);
    let said = run(&mut command);
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.json()
}

/// Every worker counts every event once, all have one model, and the audit says the same.
#[track_caller]
fn assert_one_model(group: &Group, workers: &[&str]) {
    let first = vectors(group, workers[0]);
    for worker in workers {
        let newest = group.place.checkpoints(worker).pop().expect("a checkpoint").join("items.parquet");
        let counted = counts(&newest);
        let other: Vec<_> = counted.iter().filter(|(_, times)| *times != 1).take(20).collect();
        assert!(other.is_empty(), "{worker} counts not once: {other:?}\n{}", group.all_said(workers));
        assert_eq!(counted.len(), group.produced() as usize, "{worker}\n{}", group.all_said(workers));
        for ((name, one), (_, other)) in first.iter().zip(vectors(group, worker)) {
            let norm = |vector: &[f32]| vector.iter().map(|number| number * number).sum::<f32>().sqrt();
            let apart: Vec<f32> = one.iter().zip(&other).map(|(one, other)| one - other).collect();
            assert!(norm(&apart) <= TOLERANCE * norm(one), "item {name} of {worker}: {one:?}, {other:?}");
        }
    }
    let audit = audit(group, workers);
    assert_eq!(audit["events"].as_u64(), Some(u64::from(group.produced())), "{audit}");
    for checkpoint in audit["checkpoints"].as_array().expect("a list") {
        assert_eq!(checkpoint["counted"].as_u64(), Some(u64::from(group.produced())), "{audit}");
    }
}

/// Lets everybody receive what the last to read has sent.
#[track_caller]
fn receive_all(group: &Group, workers: &[&str]) {
    let each: Vec<(&str, bool)> = workers.iter().map(|worker| (*worker, false)).collect();
    group.read_to_end(&each);
    group.read_to_end(&each);
}

/// Rounds of killing, stopping and starting, of which every `restart_every`th restarts the broker too.
fn storm(broker: &Broker, topic: &str, rounds: u32, restart_every: u32, seed: u64) {
    let mut group = sharing(broker, topic, 12);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    group.produce(3_000);
    let (mut kills, mut restarts) = (0, 0);
    for round in 1..=rounds {
        group.produce(600);
        let mut crew = Crew::new(&group, &WORKERS, false);
        crew.start_all();
        for _ in 0..3 {
            a_while(&mut random, 1_500);
            let worker = random.random_range(0..WORKERS.len());
            match random.random_range(0..3) {
                0 => crew.terminate(worker),
                _ => {
                    kills += 1;
                    crew.kill(worker);
                }
            }
            crew.start_all();
        }
        if round % restart_every == 0 {
            restarts += 1;
            broker.stop();
            broker.restart();
        }
        // All at once.
        (0..WORKERS.len()).for_each(|worker| crew.kill(worker));
        kills += WORKERS.len();
    }
    receive_all(&group, &WORKERS);
    let overtaken: usize = WORKERS.iter().map(|worker| group.said(worker).matches("negstream: fenced").count()).sum();
    println!(
        "measured: {} events, {kills} kills, {restarts} restarts of the broker, {overtaken} times overtaken",
        group.produced()
    );
    assert_one_model(&group, &WORKERS);
}

#[test]
fn workers_that_share_a_model_count_each_event_once_whoever_is_killed() {
    let Some(broker) = Broker::shared() else { return };
    storm(&broker, "shared-storm", 2, 9, 11);
}

#[test]
#[ignore = "long: two hundred kills"]
fn shared_model_survives_two_hundred_kills() {
    let Some(broker) = Broker::start() else { return };
    storm(&broker, "long-shared-storm", 34, 5, 12);
}

#[test]
fn frozen_worker_is_overtaken_and_goes_on_with_what_counts() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = sharing(&broker, "shared-zombie", 4);
    group.produce(4_000);
    let zombie = group.start("a", false);
    group.wait_for_committed(1_000);
    let other = group.start("b", false);
    group.wait_for_reading("b", 1);
    zombie.signal("STOP");
    group.produce(3_000);
    group.wait_for_committed(u64::from(group.produced()) - 200);
    zombie.signal("CONT");
    group.produce(1_000);
    group.wait_for_committed(u64::from(group.produced()) - 200);
    group.finish(vec![("a", zombie), ("b", other)]);
    receive_all(&group, &["a", "b"]);
    assert_one_model(&group, &["a", "b"]);
}

/// A worker without a checkpoint begins with a peer's, and receives what was sent since.
#[test]
fn new_worker_begins_with_the_checkpoint_of_a_peer() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = sharing(&broker, "shared-peers", 4);
    group.produce(2_000);
    group.read_to_end(&[("a", false)]);
    group.produce(500);
    group.read_to_end(&[("a", false)]);
    let peers = format!("share.peers=[\"{}\"]", group.place.path("a").display());
    let mut command = group.command("b", &["--until-end", "--json"]);
    let log = group.place.path("b.log");
    set(&mut command, &[&peers]);
    let said = run(&mut command);
    assert_eq!(said.code, Some(0), "{}", said.err);
    std::fs::write(log, &said.err).expect("a writable folder");
    group.wait_until_said("b", "beginning with the checkpoint of a peer");
    assert_one_model(&group, &["a", "b"]);
    let manifest = group.place.manifest("b");
    assert_eq!((manifest["events"]["used"].as_u64(), manifest["users"].as_u64()), (Some(0), Some(0)), "{manifest}");
    // It takes the partitions over, with the pasts of their users.
    group.produce(500);
    group.read_to_end(&[("b", false)]);
    assert!(group.place.manifest("b")["users"].as_u64() >= Some(90), "{}", group.place.manifest("b"));
    group.read_to_end(&[("a", false)]);
    assert_one_model(&group, &["a", "b"]);
}

/// What the topic of deltas must not be, and what a state must be.
#[test]
fn states_and_topics_of_another_model_are_refused() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = sharing(&broker, "shared-refusals", 2);
    group.produce(300);
    group.read_to_end(&[("a", false)]);
    let refused = |worker: &str, setting: &str| {
        let mut command = group.command(worker, &["--until-end", "--json"]);
        set(&mut command, &[setting]);
        let said = run(&mut command);
        (said.code, said.err)
    };
    let (code, err) = refused("a", "share.topic=another");
    assert!(code == Some(2) && err.contains("was made with topic 'deltas-of-shared-refusals'"), "{code:?} {err}");
    let (code, err) = refused("b", "share.topic=shared-refusals");
    assert!(code == Some(2) && err.contains("must be a topic of its own"), "{code:?} {err}");
    let (code, err) = refused("b", "objective=nce");
    assert!(code == Some(2) && err.contains("'nce'"), "{code:?} {err}");
    let (code, err) = refused("b", "model.dim=8");
    assert!(code == Some(2) && err.contains("another configuration"), "{code:?} {err}");
    let wide = negstream::config::KafkaConfig { partitions: 3, ..group.kafka().clone() };
    negstream::kafka::admin::ensure_topic(&wide, &wide.brokers, "three-partitions").expect("a topic");
    let (code, err) = refused("b", "share.topic=three-partitions");
    assert!(code == Some(2) && err.contains("which has 3 partitions"), "{code:?} {err}");
    let mut alone = group.command("a", &["--until-end", "--json"]);
    set(&mut alone, &["share.topic="]);
    let said = run(&mut alone);
    assert!(said.code != Some(0) && said.err.contains("shares its model"), "{:?} {}", said.code, said.err);
}

/// While one worker is away, the other takes its partitions, and the topic is read from where it left.
#[test]
fn worker_that_was_away_receives_what_others_sent() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = sharing(&broker, "shared-away", 6);
    group.produce(1_500);
    let (first, second) = (group.start("a", false), group.start("b", false));
    group.wait_for_committed(1_000);
    first.kill();
    group.produce(1_500);
    group.wait_for_committed(u64::from(group.produced()) - 300);
    group.finish(vec![("b", second)]);
    receive_all(&group, &["a", "b"]);
    assert_one_model(&group, &["a", "b"]);
}
