//! Workers that come and go, are killed, or are stopped for too long: each event is in exactly one durable state.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::group::{Group, PATIENCE};
use crate::kafka_harness::Broker;
use crate::support::Background;

const WORKERS: [&str; 3] = ["a", "b", "c"];

/// What brokers allow at the least, so that a dead member is found out soon.
const SESSION: [&str; 3] = [
    "kafka.properties={\"session.timeout.ms\"=\"6000\",\"heartbeat.interval.ms\"=\"500\"}",
    "checkpoint.every_events=300",
    "log.format=text",
];

/// Workers by name, each alive or not, restarted like by a supervisor where they end by themselves.
struct Crew<'a> {
    group: &'a Group,
    members: bool,
    running: [Option<Background>; WORKERS.len()],
    fenced: u32,
}

impl<'a> Crew<'a> {
    fn new(group: &'a Group, members: bool) -> Self {
        Self { group, members, running: [const { None }; WORKERS.len()], fenced: 0 }
    }

    fn start(&mut self, worker: usize) {
        if self.running[worker].as_mut().is_none_or(Background::has_ended) {
            if let Some(ended) = self.running[worker].take() {
                let ended = ended.end();
                // Fenced, and nothing else, ends a worker that nobody stopped.
                assert_eq!(ended.code, Some(6), "{}", self.group.said(WORKERS[worker]));
                self.fenced += 1;
            }
            self.running[worker] = Some(self.group.start(WORKERS[worker], self.members));
        }
    }

    fn start_all(&mut self) {
        (0..WORKERS.len()).for_each(|worker| self.start(worker));
    }

    fn kill(&mut self, worker: usize) {
        if let Some(running) = self.running[worker].take() {
            running.kill();
        }
    }

    fn terminate(&mut self, worker: usize) {
        if let Some(running) = self.running[worker].take() {
            running.terminate();
            let ended = running.end();
            assert!(matches!(ended.code, Some(0 | 6)), "{:?} {}", ended.code, self.group.said(WORKERS[worker]));
        }
    }

    fn finish(mut self) {
        self.start_all();
        let running = std::mem::take(&mut self.running);
        let running = WORKERS.into_iter().zip(running).filter_map(|(name, running)| Some((name, running?)));
        self.group.finish(running.collect());
        let last: Vec<(&str, bool)> = WORKERS.iter().map(|worker| (*worker, self.members)).collect();
        self.group.read_to_end(&last);
        self.group.assert_each_once(&WORKERS);
    }
}

/// Waits a random while: the moment of a fault is the one place for a timer.
fn a_while(random: &mut Pcg64Mcg, at_most: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(0..at_most)));
}

fn storm(topic: &str, rounds: u32, seed: u64) {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, topic, 12).with(&SESSION);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    group.produce(2_000);
    for _ in 0..rounds {
        group.produce(1_500);
    }
    let mut crew = Crew::new(&group, false);
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
}

#[test]
fn workers_that_join_leave_and_die_lose_nothing_and_count_nothing_twice() {
    storm("storm", 5, 1);
}

#[test]
#[ignore = "long: the storm, over many rounds"]
fn workers_that_join_leave_and_die_a_hundred_times() {
    storm("long-storm", 100, 2);
}

fn killed_members(topic: &str, kills: u32, seed: u64) {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, topic, 12).with(&SESSION);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    group.produce(2_000 + kills * 800);
    let mut crew = Crew::new(&group, true);
    crew.start_all();
    for _ in 0..kills {
        a_while(&mut random, 1_500);
        let worker = random.random_range(0..WORKERS.len());
        crew.kill(worker);
        crew.start_all();
    }
    crew.finish();
}

#[test]
fn killed_members_come_back_to_their_own_partitions() {
    killed_members("members", 6, 3);
}

#[test]
#[ignore = "long: hundreds of kills"]
fn members_killed_two_hundred_times() {
    killed_members("long-members", 200, 4);
}

#[test]
fn a_worker_stopped_past_its_session_saves_nothing_and_goes_back() {
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

#[test]
fn two_workers_of_one_name_are_told_apart() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "namesakes", 2).with(&SESSION);
    group.produce(1_000);
    let first = group.start("a", true);
    group.wait_for_committed(600);
    // The same name, by mistake, from another folder.
    let mut command = group.command("b", &[]);
    command.args(["--set", "kafka.member=a"]);
    let second = Background::start(&mut command);
    let ended = first.end();
    assert_eq!(ended.code, Some(6), "{}", group.said("a"));
    assert!(group.said("a").contains("another worker of the group calls itself 'a'"), "{}", group.said("a"));
    second.terminate();
    drop(second.end());
}
