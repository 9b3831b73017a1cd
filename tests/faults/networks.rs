//! The way to the brokers in trouble: leaders that move, connections that are cut, a trainer that takes its time.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use negstream::position::{Ownerships, Positions};
use negstream::source::kafka::{ResumeState, TopicConnection, Until};
use negstream::source::{SourceControl, SourceMessage, spawn};
use rdkafka::mocking::MockCluster;

use crate::group::{Group, PATIENCE, event, producer};
use crate::kafka_harness::Broker;
use crate::proxy::Proxy;

const EVERY: &str = "checkpoint.every_events=300";

#[test]
fn worker_follows_a_leader_that_moves() {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("moving", 3, 3).unwrap();
    let mut group = Group::of_brokers(&cluster.bootstrap_servers(), "moving").with(&[EVERY, "kafka.assignment=all"]);
    group.produce(1_000);
    let worker = group.start("a", false);
    group.wait_for_reading("a", 3);
    for turn in 0..6 {
        for partition in 0..3 {
            cluster.partition_leader("moving", partition, Some((partition + turn) % 3 + 1)).unwrap();
        }
        // One broker goes, and comes back with the next turn.
        let down = turn % 3 + 1;
        for partition in (0..3).filter(|partition| (partition + turn) % 3 + 1 == down) {
            cluster.partition_leader("moving", partition, Some(down % 3 + 1)).unwrap();
        }
        cluster.broker_down(down).unwrap();
        group.produce(500);
        cluster.broker_up(down).unwrap();
    }
    group.wait_for_learnt("a", 3_300);
    worker.terminate();
    assert_eq!(worker.end().code, Some(0), "{}", group.said("a"));
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a"]);
}

#[test]
fn worker_reconnects_after_cut_connections() {
    let proxy = Proxy::start();
    let Some(broker) = Broker::start_with(&format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}\n", proxy.port()))
    else {
        return;
    };
    let (_, port) = broker.bootstrap().rsplit_once(':').unwrap();
    proxy.lead_to(port.parse().unwrap());
    let mut group = Group::new(&broker, "cut", 4).with(&[EVERY]);
    group.produce(2_000);
    let (a, b) = (group.start("a", false), group.start("b", false));
    for _ in 0..20 {
        // Anywhere in a fetch: the moment of a fault is the one place for a timer.
        std::thread::sleep(Duration::from_millis(150));
        proxy.cut();
    }
    group.produce(1_000);
    group.finish(vec![("a", a), ("b", b)]);
    group.read_to_end(&[("a", false), ("b", false)]);
    group.assert_each_once(&["a", "b"]);
}

#[test]
fn slow_trainer_keeps_its_partitions() {
    let Some(broker) = Broker::shared() else { return };
    let interval = ("max.poll.interval.ms".to_owned(), "7000".to_owned());
    let session = ("session.timeout.ms".to_owned(), "6000".to_owned());
    let group = Group::configured(&broker, "slow", 2, |config| config.properties.extend([interval, session]));
    let mut sender = producer(group.kafka());
    const EVENTS: u32 = 60_000;
    (0..EVENTS).for_each(|number| sender.send(&event(number)).unwrap());
    sender.flush(PATIENCE).unwrap();
    let decoder = negstream::registry::decoder(&negstream::config::Config::default().source).unwrap();
    let mut ownerships = Ownerships::default();
    ownerships.worker = "slow".to_owned();
    let known = ResumeState { positions: &Positions::default(), ownerships: &ownerships };
    let connection = TopicConnection::open(group.kafka(), &group.kafka().brokers, &AtomicBool::new(false)).unwrap();
    let feed = spawn(Box::new(connection.into_source(decoder, known, Until::End).unwrap())).unwrap();

    let (mut gained, mut offsets, mut paused) = (0, vec![Vec::new(), Vec::new()], false);
    for message in &feed.messages {
        match message {
            SourceMessage::Records(records, _) => {
                records.into_iter().for_each(|record| offsets[record.stream as usize].push(record.offset));
                if !std::mem::replace(&mut paused, true) {
                    // Twice as long as the group would wait for a client that is not called.
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_secs(14) {
                        std::thread::park_timeout(Duration::from_secs(1));
                    }
                }
            }
            SourceMessage::Control(SourceControl::Assigned(streams), _) => gained += streams.len(),
            SourceMessage::Control(notice, _) => panic!("{notice:?}"),
            SourceMessage::Idle => {}
            SourceMessage::End => break,
            SourceMessage::Failed(error) => panic!("{error}"),
        }
    }
    feed.close();
    assert_eq!(gained, 2, "each partition once");
    assert_eq!(offsets.iter().map(Vec::len).sum::<usize>(), EVENTS as usize);
    for of_partition in offsets {
        assert!(of_partition.iter().enumerate().all(|(place, offset)| place as u64 == *offset), "in order, each once");
    }
}
