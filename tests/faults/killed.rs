//! A worker that is killed again and again ends byte for byte like one that was left alone.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::group::{Group, PATIENCE};
use crate::kafka_harness::Broker;
use crate::support::{Background, run};

/// Reads the topic to its end, killed `kills` times on the way at moments that fall anywhere.
fn killed(topic: &str, kills: u32, events: u32, seed: u64) {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, topic, 1).with(&["checkpoint.every_events=500"]);
    group.produce(events);
    // Another group reads the same topic, and nothing happens to it.
    let whole = group.of_another_group(&format!("{topic}-left-alone"));
    whole.read_to_end(&[("whole", false)]);
    let report = run(&mut whole.command("whole", &["--until-end", "--json"])).ended(0).json();

    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let (mut done, mut lives) = (0, 0);
    let deadline = Instant::now() + PATIENCE * (1 + kills / 20);
    while done < kills {
        assert!(Instant::now() < deadline, "only {done} kills in {lives} lives\n{}", group.said("a"));
        let mut worker = group.start("a", true);
        lives += 1;
        // From before it reads its checkpoint to well into training.
        std::thread::sleep(Duration::from_millis(random.random_range(20..600)));
        if !worker.has_ended() && worker.kill() {
            done += 1;
        }
        if group.committed() + 1_000 > u64::from(events) {
            // Nearly over: the rest of the kills meet it at the end of the topic.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let said = run(&mut group.command("a", &["--until-end", "--json", "--set", "kafka.group_instance_id=a"])).ended(0);
    println!("measured: {events} events, killed {done} times in {lives} lives");
    assert!(group.place.items("a") == whole.place.items("whole"), "items.parquet differs after {done} kills");
    for key in ["events", "steps", "items", "users", "loss", "beta", "evaluation"] {
        assert_eq!(said.json()[key], report[key], "{key}");
    }
    group.assert_each_once(&["a"]);
}

#[test]
fn worker_killed_twelve_times_ends_identical() {
    killed("killed", 12, 12_000, 1);
}

#[test]
#[ignore = "long: two hundred kills"]
fn worker_killed_two_hundred_times_ends_identical() {
    killed("long-killed", 200, 150_000, 2);
}

#[test]
fn sigterm_under_load_saves_everything_and_ends_in_time() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "terminated", 3).with(&["checkpoint.every_events=1000000"]);
    group.produce(20_000);
    for life in 1..4 {
        let worker = group.start("a", false);
        group.wait_for_reading("a", 3 * life);
        let begun = Instant::now();
        worker.terminate();
        let ended = worker.end();
        println!("measured: under load, ended {:.1?} after it was told to", begun.elapsed());
        assert_eq!(ended.code, Some(0), "{}", group.said("a"));
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a"]);
}

#[test]
fn sigterm_without_brokers_ends_in_time() {
    let Some(broker) = Broker::start() else { return };
    let mut group = Group::new(&broker, "gone", 2).with(&["checkpoint.every_events=300"]);
    group.produce(2_000);
    let worker = group.start("a", false);
    group.wait_for_committed(1_200);
    broker.stop();
    let begun = Instant::now();
    worker.terminate();
    let ended = worker.end();
    println!("measured: without brokers, ended {:.1?} after it was told to", begun.elapsed());
    assert_eq!(ended.code, Some(0), "{}", group.said("a"));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    broker.restart();
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a"]);
}

#[test]
fn second_signal_ends_the_worker_at_once_without_loss() {
    let Some(broker) = Broker::start() else { return };
    let mut group = Group::new(&broker, "impatient", 2).with(&["checkpoint.every_events=300"]);
    group.produce(3_000);
    let worker = group.start("a", false);
    group.wait_for_committed(900);
    broker.stop();
    worker.terminate();
    worker.terminate();
    drop::<Background>(worker);
    broker.restart();
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a"]);
}
