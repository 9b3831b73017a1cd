//! Workers that come and go, are killed, or are stopped for too long: each event is in exactly one durable state.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::crew::{Crew, SESSION, a_while};
use crate::group::{Group, PATIENCE};
use crate::kafka_harness::Broker;
use crate::support::{Background, run};

const WORKERS: [&str; 3] = ["a", "b", "c"];

fn storm(topics: &[&str], rounds: u32, seed: u64) {
    let Some(broker) = Broker::shared() else { return };
    let mut group = match topics {
        [topic] => Group::new(&broker, topic, 12),
        topics => Group::of_topics(&broker, topics, 6),
    };
    group = group.with(&SESSION);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    group.produce(2_000);
    for _ in 0..rounds {
        group.produce(1_500);
    }
    let mut crew = Crew::new(&group, &WORKERS, false);
    crew.start_all();
    for round in 0..rounds {
        let worker = random.random_range(0..WORKERS.len());
        a_while(&mut random, 2_500);
        match random.random_range(0..3) {
            0 => crew.kill(worker),
            1 => crew.terminate(worker),
            _ => crew.kill((worker + round as usize) % WORKERS.len()),
        }
        a_while(&mut random, 1_500);
        crew.start_all();
    }
    crew.finish();
    println!("measured: {} events, {rounds} rounds, {} times fenced", group.produced(), fenced(&group));
    group.assert_each_once(&WORKERS);
}

/// How often a worker found that another had taken over.
fn fenced(group: &Group) -> usize {
    WORKERS.iter().map(|worker| group.said(worker).matches("negstream: fenced").count()).sum()
}

#[test]
fn group_with_joining_leaving_and_dying_workers_counts_each_event_once() {
    storm(&["storm"], 5, 1);
}

#[test]
fn group_of_two_topics_with_joining_leaving_and_dying_workers_counts_each_event_once() {
    storm(&["storm-views", "storm-buys"], 5, 4);
}

#[test]
#[ignore = "long: the storm, over many rounds"]
fn group_survives_a_hundred_rebalances() {
    storm(&["long-storm"], 100, 2);
}

fn killed_members(topic: &str, kills: u32, seed: u64) {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, topic, 12).with(&SESSION);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    group.produce(2_000 + kills * 800);
    let mut crew = Crew::new(&group, &WORKERS, true);
    crew.start_all();
    for _ in 0..kills {
        a_while(&mut random, 1_500);
        let worker = random.random_range(0..WORKERS.len());
        crew.kill(worker);
        crew.start_all();
    }
    crew.finish();
    println!("measured: {} events, {kills} kills, {} times fenced", group.produced(), fenced(&group));
    group.assert_each_once(&WORKERS);
}

#[test]
fn static_members_return_to_their_own_partitions() {
    killed_members("members", 6, 3);
}

#[test]
#[ignore = "long: hundreds of kills"]
fn static_members_survive_two_hundred_kills() {
    killed_members("long-members", 200, 4);
}

/// What one worker read last in a partition is not what lies before the place from which it reads it the next time, where
/// another read on in between.
#[test]
fn partition_returns_after_another_worker_read_on() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "read-on", 2);
    group.produce(500);
    group.read_to_end(&[("a", false)]);
    group.produce(500);
    group.read_to_end(&[("b", false)]);
    // One record is in one partition: in the other the state stands where it was told to begin.
    group.produce(1);
    group.read_to_end(&[("a", false)]);
    group.produce(500);
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a", "b"]);
}

#[test]
fn worker_stopped_past_its_session_saves_nothing_and_goes_back() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "zombie", 4).with(&SESSION);
    group.produce(6_000);
    let zombie = group.start("a", false);
    group.wait_for_committed(2_000);
    let other = group.start("b", false);
    // Both have a share.
    let deadline = Instant::now() + PATIENCE;
    while group.place.checkpoints("b").is_empty() {
        assert!(Instant::now() < deadline, "{}", group.said("b"));
        group.produce(500);
        std::thread::sleep(Duration::from_millis(200));
    }
    group.produce(2_000);
    zombie.signal("STOP");
    let before = group.place.newest("a");
    // The group gives its share away, and the other reads it.
    group.wait_for_committed(u64::from(group.produced()) - 500);
    let committed = group.committed();
    zombie.signal("CONT");
    let ended = zombie.end();
    assert!(
        ended.code == Some(6) || group.said("a").contains("another worker"),
        "{:?} {}",
        ended.code,
        group.said("a")
    );
    assert!(group.said("a").contains("fenced"), "{}", group.said("a"));
    assert!(group.committed() >= committed, "no offset goes backwards");
    let after = group.place.newest("a");
    assert!(before <= after);
    group.finish(vec![("b", other)]);
    group.read_to_end(&[("b", false), ("a", false)]);
    group.assert_each_once(&["a", "b"]);
}

/// Killed between a checkpoint and its commit: another worker goes on from the commit before, and so has this one to, from a
/// checkpoint that is still there.
#[test]
fn confirmed_checkpoint_outlasts_retention() {
    let Some(broker) = Broker::shared() else { return };
    let mut group =
        Group::new(&broker, "lags", 1).with(&SESSION).with(&["checkpoint.every_events=500", "checkpoint.keep=1"]);
    // None is pruned before the group knows of a newer one.
    let mut command = group.command("a", &[]);
    command.env("NEGSTREAM_FAILPOINT", "prune=kill");
    let mut doomed = Background::start(&mut command);
    let deadline = Instant::now() + PATIENCE;
    while !doomed.has_ended() {
        let committed = group.committed();
        group.produce(600);
        while group.committed() == committed && !doomed.has_ended() {
            assert!(Instant::now() < deadline, "{:?}", group.place.checkpoints("a"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(doomed.end().code, None, "killed");
    assert_eq!(group.place.checkpoints("a").len(), 2, "the newest, and the one that the group knows of");
    let other = group.start("b", false);
    group.finish(vec![("b", other)]);
    let back = run(&mut group.command("a", &["--until-end"]));
    assert_eq!(back.code, Some(0), "{}", back.err);
    assert!(back.err.contains("not this worker's any more"), "{}", back.err);
    group.read_to_end(&[("b", false)]);
    group.assert_each_once(&["a", "b"]);
}

fn flip(checkpoint: &std::path::Path) {
    let path = checkpoint.join("items.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// It ended in good order, so nobody waits for it; the records that only its newest checkpoint held are in the topic still.
#[test]
fn lone_worker_reads_again_what_its_damaged_checkpoint_held() {
    let Some(broker) = Broker::shared() else { return };
    for partitions in [1, 3] {
        let topic = format!("flipped-{partitions}");
        let mut group = Group::new(&broker, &topic, partitions).with(&["checkpoint.every_events=500"]);
        group.produce(1_800);
        group.read_to_end(&[("a", false)]);
        let mut damaged: Vec<std::path::PathBuf> = Vec::new();
        for _ in 0..2 {
            // The newest; then the newest two that are left.
            damaged = group.place.checkpoints("a").into_iter().filter(|path| !damaged.contains(path)).collect();
            let intact = damaged.remove(0);
            for checkpoint in &damaged {
                flip(checkpoint);
            }
            let said = run(&mut group.command("a", &["--until-end"]));
            assert_eq!(said.code, Some(0), "{}", said.err);
            let newest = damaged.last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            for words in ["passed over", &newest, "going back", "going on from checkpoint"] {
                assert!(said.err.contains(words), "no '{words}' in {}", said.err);
            }
            assert!(said.err.contains(&*intact.file_name().unwrap().to_string_lossy()), "{}", said.err);
            group.assert_each_once(&["a"]);
            group.produce(100);
            group.read_to_end(&[("a", false)]);
            group.assert_each_once(&["a"]);
        }
    }
}

/// Another worker has read on from where it let go: nobody can read again what lies before, and it says what can be brought back.
#[test]
fn damaged_checkpoint_that_others_went_on_from_is_refused() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "flipped-and-taken", 1).with(&SESSION).with(&["checkpoint.every_events=500"]);
    group.produce(1_800);
    group.read_to_end(&[("a", false)]);
    group.produce(300);
    group.read_to_end(&[("b", false)]);
    let newest = group.place.newest("a");
    flip(&newest);
    let said = run(&mut group.command("a", &["--until-end"]));
    assert_eq!(said.code, Some(4), "{}", said.err);
    for words in ["items.parquet", "is damaged", "another worker of the group goes on at 1800", "bring that one back"] {
        assert!(said.err.contains(words), "no '{words}' in {}", said.err);
    }
    // Brought back, all is well.
    flip(&newest);
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a", "b"]);
}

#[test]
fn duplicate_member_name_is_fenced() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "namesakes", 2).with(&SESSION);
    group.produce(1_000);
    let first = group.start("a", true);
    group.wait_for_committed(600);
    // The same name, by mistake, from another folder.
    let mut command = group.command("b", &[]);
    command.args(["--set", "kafka.group_instance_id=a"]);
    let second = Background::start(&mut command);
    let ended = first.end();
    assert_eq!(ended.code, Some(6), "{}", group.said("a"));
    assert!(group.said("a").contains("another worker of the group calls itself 'a'"), "{}", group.said("a"));
    second.terminate();
    drop(second.end());
}
