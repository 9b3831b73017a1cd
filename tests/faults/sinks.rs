//! A worker that publishes to Kafka, PostgreSQL and Redis at once and is killed at random, while one of them after the other is away
//! for a while: in the end each holds the final table, row for row, and nothing that left it.
//!
//! `NEGSTREAM_KILLS` says how often it is killed. With 50 and more, sinks are away for 30 seconds at a time; 100 take a quarter of an
//! hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use negstream::synth::{EventGenerator, SynthConfig};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::crew::a_while;
use crate::group::{Group, PATIENCE, producer};
use crate::kafka_harness::Broker;
use crate::proxy::{Proxy, Way};
use crate::sink_servers::SinkServer;
use crate::support::{run, set};

/// Items that have a row at a time: fewer than the stream has, so that they come and go.
const ITEMS: usize = 120;
/// Events a second.
const RATE: u32 = 2_000;
const SINKS: [&str; 3] = ["kafka", "postgres", "redis"];

/// How long the worker lives at most, and how long a sink is away.
struct Times {
    kills: usize,
    life: Duration,
    away: Duration,
}

impl Times {
    fn of_environment() -> Self {
        let kills: usize = std::env::var("NEGSTREAM_KILLS").map_or(8, |kills| kills.parse().expect("a number"));
        let (life, away) = if kills < 50 { (5_000, 2_000) } else { (12_000, 30_000) };
        Self { kills, life: Duration::from_millis(life), away: Duration::from_millis(away) }
    }
}

/// Servers, and the ways to them.
struct Sinks {
    kafka: Broker,
    postgres: SinkServer,
    redis: SinkServer,
    ways: [Proxy; 3],
}

impl Sinks {
    /// `None` where one of them cannot be had here.
    fn start() -> Option<Self> {
        let ways = [(); 3].map(|()| Proxy::start());
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}\n", ways[0].port());
        let kafka = Broker::start_with(&advertised)?;
        let sinks = Self { kafka, postgres: SinkServer::postgres_alone()?, redis: SinkServer::redis_with(&[])?, ways };
        let (_, kafka) = sinks.kafka.bootstrap().rsplit_once(':').unwrap();
        for (way, port) in sinks.ways.iter().zip([kafka.parse().unwrap(), sinks.postgres.port(), sinks.redis.port()]) {
            way.lead_to(port);
        }
        Some(sinks)
    }

    /// The target of a sink in each, through its way.
    fn targets(&self) -> [(&'static str, String); 3] {
        let [kafka, postgres, redis] = self.ways.each_ref().map(Proxy::port);
        [
            (SINKS[0], format!("kafka://127.0.0.1:{kafka}")),
            (SINKS[1], format!("postgres://postgres:secret@127.0.0.1:{postgres}/postgres")),
            (SINKS[2], format!("redis://127.0.0.1:{redis}/0")),
        ]
    }

    /// One sink after the other is away for so long, in one manner or another, until told to stop; how often each was.
    fn trouble(&mut self, away: Duration, stop: &AtomicBool) -> BTreeMap<String, usize> {
        let mut random = Pcg64Mcg::seed_from_u64(54);
        let mut faults = BTreeMap::new();
        while wait(away.mul_f64(random.random_range(0.1..0.7)), stop) {
            let sink = random.random_range(0..SINKS.len());
            let fault = ["refuses", "hangs", "loses everything"][random.random_range(0..3)];
            let is_lost = fault == "loses everything" && SINKS[sink] == "redis";
            let way = if fault == "hangs" { Way::HeldUp } else { Way::Closed };
            self.ways[sink].set(way);
            if is_lost {
                self.redis.kill();
            }
            wait(away, stop);
            if is_lost {
                self.redis.start();
            }
            self.ways[sink].set(Way::Open);
            let told = if is_lost || fault == "hangs" { fault } else { "refuses" };
            *faults.entry(format!("{} {told}", SINKS[sink])).or_insert(0) += 1;
        }
        faults
    }
}

/// Waits for so long; false where it is told to stop before.
fn wait(how_long: Duration, stop: &AtomicBool) -> bool {
    let since = Instant::now();
    while since.elapsed() < how_long && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    !stop.load(Ordering::Relaxed)
}

/// Produces events by the clock, until told to stop; the items of them.
fn pour(group: &Group, stop: &AtomicBool) -> BTreeSet<String> {
    let synth = SynthConfig { seed: 51, users: 200, items: 300, ..SynthConfig::default() };
    let (mut synth, mut producer, mut items) = (EventGenerator::new(synth), producer(group.kafka()), BTreeSet::new());
    while wait(Duration::from_millis(100), stop) {
        for _ in 0..RATE / 10 {
            let event = synth.next_event();
            items.insert(event.item.to_string());
            producer.send(&event).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
    items
}

#[test]
fn sinks_hold_the_final_table_however_often_the_worker_is_killed_and_they_are_away() {
    let times = Times::of_environment();
    let Some(broker) = Broker::shared() else { return };
    let Some(mut sinks) = Sinks::start() else { return };
    let targets = sinks.targets();
    let tables = targets.iter().map(|(sink, target)| {
        format!("{{sink=\"{sink}\",target=\"{target}\",timeout_ms=2000,patience=120,max_age=2}}")
    });
    let publish = format!("publish=[{}]", tables.collect::<Vec<_>>().join(","));
    let cap = format!("memory.items.cap={ITEMS}");
    let settings = ["kafka.assignment=all", "checkpoint.every_events=1000", "log.format=text", &cap, &publish];
    let group = Group::new(&broker, "published", 1).with(&settings);

    let stop = AtomicBool::new(false);
    let deaths = Mutex::new(0);
    let (items, faults) = std::thread::scope(|threads| {
        let pouring = threads.spawn(|| pour(&group, &stop));
        let troubling = threads.spawn(|| sinks.trouble(times.away, &stop));
        let killing = threads.spawn(|| {
            let mut random = Pcg64Mcg::seed_from_u64(52);
            for _ in 0..times.kills {
                let worker = group.start("a", false);
                // Anywhere: the moment of a fault is the one place for a timer.
                a_while(&mut random, times.life.as_millis() as u64);
                assert!(worker.kill(), "it had ended by itself: {}", group.all_said(&["a"]));
                *deaths.lock().unwrap() += 1;
            }
        });
        let killed = killing.join();
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
        (pouring.join().unwrap(), troubling.join().unwrap())
    });
    let deaths = deaths.into_inner().unwrap();
    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert!(items.len() > 2 * ITEMS, "nothing had to go: {} items", items.len());

    let newest = group.place.newest("a").display().to_string();
    let mut told = Vec::new();
    for (sink, target) in &targets {
        let mut verify = group.place.negstream(&["publish", "verify", &newest, "--json"]);
        verify.args(["--sink", sink, "--target", target]);
        set(&mut verify, &["log.level=warn"]);
        let said = run(&mut verify);
        assert_eq!(said.code, Some(0), "after {deaths} deaths: {}{}\n{}", said.out, said.err, report["sinks"]);
        let found = &said.json()[0];
        assert!(found["equal"] == true && found["held_rows"] == found["rows"], "{sink}: {found}");
        // Every life that came so far has begun an epoch of its own.
        told.push(format!("{sink} at epoch {}", found["held_version"][0]));
    }
    let failures = group.said("a").matches("publishing failed").count();
    println!(
        "measured: {} events, {} items, {deaths} deaths, {faults:?}, {failures} updates failed; equal to the final checkpoint: {}",
        report["events"]["read"],
        items.len(),
        told.join(", ")
    );
}
