//! Dead letters under fire: the breaker, a topic that is away, duplicates and absurd times.

use std::time::{Duration, Instant};

use negstream::kafka::admin;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::group::{Group, PATIENCE, event, events, producer};
use crate::kafka_harness::Broker;
use crate::support::{run, set};

fn raw(group: &Group, payloads: impl Iterator<Item = Vec<u8>>) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &group.kafka().brokers).create().unwrap();
    for payload in payloads {
        let mut record = BaseRecord::<[u8], [u8]>::to(&group.kafka().topic).payload(&payload);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(50));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// Number of records in a topic of one partition.
fn length(group: &Group, topic: &str) -> u64 {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &group.kafka().brokers).create().unwrap();
    consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap().1 as u64
}

#[test]
fn broken_producer_stops_the_worker_instead_of_filling_the_dead_letters() {
    let Some(broker) = Broker::shared() else { return };
    let letters = "kafka.dead_letter_topic=poisoned.dead";
    let mut group = Group::new(&broker, "poisoned", 1).with(&[letters, "checkpoint.every_events=200"]);
    admin::ensure_topic(group.kafka(), &group.kafka().brokers, "poisoned.dead").unwrap();
    group.produce(500);
    raw(&group, (0..20_000).map(|number| format!("{{broken {number}").into_bytes()));
    let said = run(&mut group.command("a", &["--until-end"])).ended(3);
    let said = said.names(&["of about the last 1000 records were rejected", "dead_letters.max_share", "unparsable"]);
    assert!(said.err.contains("what was trained is saved"), "{}", said.err);
    let kept = length(&group, "poisoned.dead");
    assert!((500..1_500).contains(&kept), "{kept} dead letters");
    // A supervisor that restarts it again and again does not drain the rest, letter by letter.
    for _ in 0..3 {
        run(&mut group.command("a", &["--until-end"])).ended(3);
    }
    let more = length(&group, "poisoned.dead") - kept;
    assert!(more <= 10, "{more} more dead letters");
    // The operator looked at them, and lets it go on.
    let mut command = group.command("a", &["--until-end", "--json"]);
    set(&mut command, &["dead_letters.max_share=1"]);
    let report = run(&mut command).ended(0).json();
    assert_eq!((events(&report, "used"), events(&report, "rejected")), (500, 20_000));
    // Each has its letter; those since a checkpoint may have two, told by their position.
    assert!(length(&group, "poisoned.dead") >= 20_000);
}

#[test]
fn undeliverable_dead_letters_hold_up_the_offsets_behind_them() {
    let Some(broker) = Broker::start() else { return };
    let letters = ["kafka.dead_letter_topic=held.dead", "checkpoint.every_events=200"];
    let mut group = Group::new(&broker, "held", 1).with(&letters);
    admin::ensure_topic(group.kafka(), &group.kafka().brokers, "held.dead").unwrap();
    group.produce(600);
    let worker = group.start("a", false);
    group.wait_for_committed(400);
    // The poison arrives together with the end of the broker, as far as the worker can see.
    raw(&group, (0..50).map(|number| format!("poison {number}").into_bytes()));
    broker.stop();
    std::thread::sleep(Duration::from_secs(2));
    broker.restart();
    group.produce(600);
    group.wait_for_committed(1_000);
    group.finish(vec![("a", worker)]);
    group.read_to_end(&[("a", false)]);
    let kept = letters_of(&group, "held.dead");
    assert_eq!(kept.len(), 50, "{kept:?}");
}

#[test]
fn stop_ends_in_time_while_dead_letters_are_undeliverable() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("stuck", 1, 1).unwrap();
    cluster.create_topic("stuck.dead", 1, 1).unwrap();
    let settings = ["kafka.dead_letter_topic=stuck.dead", "checkpoint.every_events=200", "kafka.assignment=all"];
    let mut group = Group::of_brokers(&cluster.bootstrap_servers(), "stuck").with(&settings);
    group.produce(600);
    raw(&group, (0..50).map(|number| format!("poison {number}").into_bytes()));
    group.produce(600);
    // From now on nothing can be written.
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    let worker = group.start("a", false);
    group.wait_until_said("a", "dead letters are not delivered yet");
    worker.terminate();
    let begin = Instant::now();
    let ended = worker.end();
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(ended.code, Some(3), "{}", group.said("a"));
    assert!(group.said("a").contains("for topic 'stuck.dead' are not delivered: told to stop"), "{}", group.said("a"));
    assert!(group.committed() <= 600, "no position behind a letter that is not kept");

    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    group.read_to_end(&[("a", false)]);
    assert_eq!(letters_of(&group, "stuck.dead").len(), 50);
    group.assert_each_once(&["a"]);
}

/// Payloads of the dead letters, without repetitions.
fn letters_of(group: &Group, topic: &str) -> std::collections::BTreeSet<Vec<u8>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &group.kafka().brokers)
        .set("group.id", "letters")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let (end, mut found, mut next) = (length(group, topic), std::collections::BTreeSet::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while next < end {
        assert!(Instant::now() < deadline, "only {next} of {end} letters came");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            next = message.offset() as u64 + 1;
            found.insert(message.payload().unwrap_or_default().to_vec());
        }
    }
    found
}

#[test]
fn duplicate_events_count_each_and_timestamps_out_of_range_are_rejected() {
    let Some(broker) = Broker::shared() else { return };
    let letters = ["kafka.dead_letter_topic=odd.dead", "checkpoint.every_events=200"];
    let group = Group::new(&broker, "odd", 1).with(&letters);
    admin::ensure_topic(group.kafka(), &group.kafka().brokers, "odd.dead").unwrap();
    let mut sender = producer(group.kafka());
    // Each event twice, times going back and forth; then far past and far future.
    for number in (0..300).rev().chain(0..300) {
        sender.send(&event(number)).unwrap();
    }
    for timestamp in [-1, i64::MIN, i64::MAX, 7_000_000_000_000_000] {
        sender.send(&negstream::event::Interaction { timestamp, ..event(1) }).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert_eq!((events(&report, "used"), events(&report, "rejected")), (600, 4), "{report}");
    assert!(group.learnt(&["a"]).values().all(|times| *times == 2));
    assert_eq!(letters_of(&group, "odd.dead").len(), 4);
}
