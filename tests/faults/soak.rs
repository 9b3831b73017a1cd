//! At full speed, with a fault every few seconds: memory stays flat, nothing is lost, nothing counts twice.
//!
//! Three workers share twelve partitions, with always more to read than they manage. One of them, `a`, lives through all of
//! it: its memory is what is measured. The others are killed, stopped and put to sleep; the broker is restarted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use negstream::event::Interaction;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::crew::{Crew, SESSION, a_while};
use crate::group::{Group, PATIENCE, audited, event, producer};
use crate::kafka_harness::Broker;
use crate::support::{Background, set};

const ITEMS: u32 = 20_000;
const USERS: u32 = 20_000;
/// So many records may lie ahead of the group.
const AHEAD: u64 = 400_000;
/// Records produced between two looks at where the group is.
const AT_A_TIME: u32 = 40_000;
/// One record in so many is poison.
const POISON: u32 = 1_000;
/// The share of a soak at its end over which memory is looked at.
const SETTLED: f64 = 2.0 / 3.0;

/// Users come back all the time: what is remembered of each is full after some minutes, and from then on memory is flat.
const SETTINGS: [&str; 7] = [
    "model.dim=16",
    "train.batch=256",
    "negatives.bank=1024",
    "repetition.items=16",
    "evaluate.own_items=64",
    "checkpoint.every_events=50000",
    "kafka.dead_letter_topic=soak.dead",
];

/// What was produced.
#[derive(Default)]
struct FalseNegativeTracker {
    by_item: BTreeMap<u32, u64>,
    good: u64,
    poison: u64,
}

/// Produces as fast as the group reads, until told to stop.
fn pour(group: &Group, stop: &AtomicBool) -> FalseNegativeTracker {
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let (mut producer, mut ledger) = (producer(group.kafka()), FalseNegativeTracker::default());
    while !stop.load(Ordering::Relaxed) {
        if ledger.good + ledger.poison > group.committed() + AHEAD {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        for _ in 0..AT_A_TIME {
            if random.random_range(0..POISON) == 0 {
                producer.send_bytes(&random.random::<u64>().to_le_bytes(), b"poison").unwrap();
                ledger.poison += 1;
                continue;
            }
            // Most events are of a few items.
            let most = random.random_range(0..ITEMS);
            let item = random.random_range(0..=most);
            let user = format!("user {}", random.random_range(0..USERS));
            producer.send(&Interaction { user: user.into(), ..event(item) }).unwrap();
            *ledger.by_item.entry(item).or_insert(0) += 1;
            ledger.good += 1;
        }
    }
    producer.flush(PATIENCE).unwrap();
    ledger
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Every second, until told to stop.
fn watch(process: u32, stop: &AtomicBool, samples: &Mutex<Vec<u64>>) {
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut samples = samples.lock().unwrap();
        if begin.elapsed().as_secs() >= samples.len() as u64 {
            samples.extend(resident(process));
        }
        drop(samples);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A fault, of any kind that `a` has to live through.
fn fault(random: &mut Pcg64Mcg, crew: &mut Crew<'_>, a: &Background, broker: &Broker) -> &'static str {
    let other = random.random_range(0..2);
    match random.random_range(0..12) {
        0..=3 => {
            crew.kill(other);
            "killed"
        }
        4..=5 => {
            crew.terminate(other);
            "stopped in good order"
        }
        6..=7 => {
            // Past its session, more often than not.
            if let Some(sleeper) = crew.process(other) {
                sleeper.signal("STOP");
                a_while(random, 12_000);
                sleeper.signal("CONT");
            }
            "asleep"
        }
        8..=9 => {
            a.signal("STOP");
            a_while(random, 3_000);
            a.signal("CONT");
            "a asleep"
        }
        10 => {
            crew.kill(0);
            crew.kill(1);
            "both killed"
        }
        _ => {
            broker.stop();
            a_while(random, 3_000);
            broker.restart();
            "broker restarted"
        }
    }
}

/// The ledger is exact; gives the samples of memory.
fn soak(topic: &str, duration: Duration, seed: u64) -> Option<Vec<u64>> {
    let broker = Broker::start()?;
    let group = Group::configured(&broker, topic, 12, |config| config.partitions = 12).with(&SESSION).with(&SETTINGS);
    negstream::kafka::admin::ensure_topic(group.kafka(), broker.bootstrap(), "soak.dead").unwrap();
    let mut command = group.command("a", &[]);
    set(&mut command, &["kafka.group_instance_id=a", "kafka.properties={\"session.timeout.ms\"=\"30000\"}"]);
    let log = std::fs::File::create(group.place.path("a.log")).unwrap();
    let mut a = Background::start_logging(&mut command, log);
    let process = a.id();
    let (stop, samples) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let mut faults = BTreeMap::new();

    let ledger = std::thread::scope(|threads| {
        let pouring = threads.spawn(|| pour(&group, &stop));
        threads.spawn(|| watch(process, &stop, &samples));
        let stopping = Stopping(&stop);
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut crew = Crew::new(&group, &["b", "c"], false);
        let (begin, mut minute) = (Instant::now(), 0);
        while begin.elapsed() < duration {
            crew.start_all();
            a_while(&mut random, 4_000);
            *faults.entry(fault(&mut random, &mut crew, &a, &broker)).or_insert(0) += 1;
            assert!(!a.has_ended(), "{}", group.all_said(&["a"]));
            if begin.elapsed().as_secs() / 60 > minute {
                minute = begin.elapsed().as_secs() / 60;
                let memory = samples.lock().unwrap().last().copied().unwrap_or(0) / 1024;
                println!("minute {minute}: {} records durable, a has {memory} MiB, {faults:?}", group.committed());
            }
        }
        drop(stopping);
        crew.finish();
        pouring.join().unwrap()
    });
    a.terminate();
    let ended = a.end();
    assert_eq!(ended.code, Some(0), "{}", group.all_said(&["a"]));
    group.read_to_end(&[("a", true), ("b", false), ("c", false)]);

    let workers = ["a", "b", "c"];
    let audit = group.audit(&workers);
    let of = |key| audited(&audit, key);
    println!("measured: {} trained on, {} rejected; {faults:?}", of("trained"), of("rejected"));
    assert_eq!((of("trained"), of("rejected")), (ledger.good, ledger.poison), "{audit}");
    assert_eq!((of("twice"), of("missing"), of("lost")), (0, 0, 0), "{audit}");
    assert_eq!(group.learnt(&workers), ledger.by_item);
    Some(samples.into_inner().unwrap())
}

/// Lets the threads end, also where the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// By how much the medians of the minutes in the last part of the samples differ from their middle, as a share of it.
fn unevenness(samples: &[u64]) -> f64 {
    let settled = &samples[samples.len() - (samples.len() as f64 * SETTLED) as usize..];
    let median = |minute: &[u64]| {
        let mut minute = minute.to_vec();
        minute.sort_unstable();
        minute[minute.len() / 2] as f64
    };
    let medians: Vec<f64> = settled.chunks_exact(60).map(median).collect();
    let (low, high) =
        medians.iter().fold((f64::MAX, 0f64), |(low, high), median| (low.min(*median), high.max(*median)));
    println!(
        "measured: memory by the minute (MiB): {:.0?}",
        medians.iter().map(|median| median / 1024.0).collect::<Vec<_>>()
    );
    (high - low) / (high + low)
}

#[test]
fn a_minute_of_faults_at_full_speed() {
    soak("soak-minute", Duration::from_secs(40), 5);
}

#[test]
#[ignore = "long: half an hour"]
fn half_an_hour_of_faults_at_full_speed() {
    let Some(samples) = soak("soak", Duration::from_secs(1_800), 6) else { return };
    let unevenness = unevenness(&samples);
    assert!(unevenness <= 0.05, "memory is flat to {:.1} %", unevenness * 100.0);
}
