//! The Kafka side in trouble: brokers away, records expired, topics deleted, made anew or grown, offsets set by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use negstream::kafka::admin;
use rdkafka::admin::NewPartitions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::group::{Group, PATIENCE, events};
use crate::kafka_harness::{Broker, admin_client, admin_options, delete_before, runtime};
use crate::support::{run, set};

const EVERY: &str = "checkpoint.every_events=200";

fn delete_topic(group: &Group) {
    let deleted = runtime()
        .block_on(admin_client(&group.kafka().brokers).delete_topics(&[&group.kafka().topic], &admin_options()))
        .unwrap();
    deleted.into_iter().next().unwrap().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while admin::partitions(group.kafka(), &group.kafka().brokers, &group.kafka().topic).unwrap().is_some() {
        assert!(Instant::now() < deadline, "the topic stays");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn away(topic: &str, for_how_long: Duration) {
    let Some(broker) = Broker::start() else { return };
    let broker = Arc::new(broker);
    let mut group = Group::new(&broker, topic, 3).with(&[EVERY, "http.listen=127.0.0.1:0"]);
    group.produce(3_000);
    let worker = group.start("a", false);
    group.wait_for_committed(2_400);
    broker.stop();
    std::thread::sleep(for_how_long);
    assert!(worker.is_running(), "{}", group.said("a"));
    broker.restart();
    group.produce(3_000);
    group.wait_for_committed(5_400);
    group.finish(vec![("a", worker)]);
    group.read_to_end(&[("a", false)]);
    group.assert_each_once(&["a"]);
    assert!(group.said("a").contains("kafka is in trouble; waiting"), "{}", group.said("a"));
}

#[test]
fn worker_waits_for_a_broker_that_restarts() {
    away("restarted", Duration::from_secs(1));
}

#[test]
#[ignore = "long: the broker is away for a minute"]
fn worker_waits_a_minute_for_a_broker() {
    away("away", Duration::from_secs(60));
}

/// Retention has taken everything that was read, and later everything that was not: nothing is read in between.
#[test]
fn expiry_up_to_the_position_leaves_a_worker_that_can_go_on() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "emptied", 1).with(&[EVERY, "kafka.on_data_loss=skip"]);
    let (brokers, topic) = (group.kafka().brokers.clone(), group.kafka().topic.clone());
    group.produce(1_000);
    group.read_to_end(&[("a", false)]);
    delete_before(&brokers, &topic, 1_000);
    // Exactly at the position: nothing is lost.
    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert_eq!((events(&report, "read"), events(&report, "lost")), (1_000, 0));
    group.produce(300);
    delete_before(&brokers, &topic, 1_300);
    for _ in 0..2 {
        // All that is new is lost; and the next start knows that.
        let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
        assert_eq!((events(&report, "read"), events(&report, "lost")), (1_000, 300));
    }
    group.produce(200);
    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert_eq!((events(&report, "read"), events(&report, "lost")), (1_200, 300));
}

#[test]
fn expiry_of_unread_records_stops_the_worker_or_counts_them_as_lost() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "expired", 1).with(&[EVERY]);
    group.produce(1_000);
    group.read_to_end(&[("a", false)]);
    group.produce(1_000);
    delete_before(&group.kafka().brokers, &group.kafka().topic, 1_500);
    let before = group.place.newest("a");
    let said = run(&mut group.command("a", &["--until-end"])).ended(3);
    said.names(&["position 1000 of expired/0 is not there: it holds 1500..2000", "kafka.on_data_loss"]);
    assert_eq!(group.place.newest("a"), before, "nothing was written");

    let mut command = group.command("a", &["--until-end", "--json"]);
    set(&mut command, &["kafka.on_data_loss=skip"]);
    let report = run(&mut command).ended(0).names(&["counted as lost"]).json();
    assert_eq!((events(&report, "read"), events(&report, "lost")), (1_500, 500));
    let learnt = group.learnt(&["a"]);
    assert!((0..1_000).chain(1_500..2_000).all(|number| learnt.get(&number) == Some(&1)));
    assert_eq!(learnt.len(), 1_500);
    let audit =
        run(crate::support::negstream().current_dir(group.place.path("")).args(["audit", "--json", "a"])).ended(0);
    let audit = audit.json();
    let stream = &audit["kafka/expired/0"];
    assert_eq!((stream["trained"].as_u64(), stream["lost"].as_u64()), (Some(1_500), Some(500)), "{audit}");
    assert_eq!((stream["twice"].as_u64(), stream["missing"].as_u64()), (Some(0), Some(0)), "{audit}");
}

#[test]
fn recreated_topic_is_refused_even_past_the_position() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "anew", 1).with(&[EVERY]);
    group.produce(600);
    group.read_to_end(&[("a", false)]);
    let before = group.place.newest("a");
    delete_topic(&group);
    admin::ensure_topic(group.kafka(), &group.kafka().brokers, "anew").unwrap();
    group.produce(100);
    // Shorter than the position, and then longer.
    run(&mut group.command("a", &["--until-end"])).ended(3).names(&["the topic was created anew"]);
    group.produce(900);
    run(&mut group.command("a", &["--until-end"]))
        .ended(3)
        .names(&["topic 'anew' is not the one that was read", "created anew"]);
    assert_eq!(group.place.newest("a"), before, "nothing was written");
}

#[test]
fn deleted_topic_ends_the_worker_which_saves() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "deleted-topic", 2).with(&[EVERY]);
    group.produce(1_000);
    let worker = group.start("a", false);
    group.wait_for_committed(600);
    delete_topic(&group);
    let ended = worker.end();
    assert_eq!(ended.code, Some(3), "{}", group.said("a"));
    assert!(group.said("a").contains("topic 'deleted-topic'"), "{}", group.said("a"));
    let learnt = group.learnt(&["a"]);
    assert!(learnt.len() >= 600 && learnt.values().all(|times| *times == 1));
}

#[test]
fn added_partitions_are_read_from_their_beginning() {
    let Some(broker) = Broker::shared() else { return };
    for (topic, assignment) in [("grown-group", "group"), ("grown-all", "all")] {
        let settings = [EVERY, &format!("kafka.assignment={assignment}"), "kafka.starting_offsets=latest", SOON];
        let mut group = Group::new(&broker, topic, 2).with(&settings);
        let worker = group.start("a", false);
        // Only what comes after the start is asked for, and yet nothing of the new partitions may be left out.
        group.wait_for_reading("a", 2);
        group.produce(400);
        group.wait_for_committed(200);
        let more = NewPartitions::new(topic, 5);
        let created = runtime()
            .block_on(admin_client(&group.kafka().brokers).create_partitions([&more], &admin_options()))
            .unwrap();
        created.into_iter().next().unwrap().unwrap();
        let partitions = || admin::partitions(group.kafka(), &group.kafka().brokers, topic).unwrap().unwrap().len();
        let deadline = Instant::now() + PATIENCE;
        while partitions() < 5 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(50));
        }
        group.produce(1_000);
        group.wait_for_reading("a", 5);
        group.wait_for_committed(1_200);
        group.finish(vec![("a", worker)]);
        group.read_to_end(&[("a", false)]);
        group.assert_each_once(&["a"]);
    }
}

/// New partitions are looked for often.
const SOON: &str = "kafka.properties={\"topic.metadata.refresh.interval.ms\"=\"1000\"}";

#[test]
fn checkpoint_wins_over_offsets_set_by_hand() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "by-hand", 1).with(&[EVERY]);
    group.produce(500);
    group.read_to_end(&[("a", false)]);
    for offset in [0, 250] {
        let tool: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &group.kafka().brokers)
            .set("group.id", &group.kafka().group)
            .create()
            .unwrap();
        let mut rewound = TopicPartitionList::new();
        rewound.add_partition_offset("by-hand", 0, Offset::Offset(offset)).unwrap();
        tool.commit(&rewound, CommitMode::Sync).unwrap();
        group.produce(200);
        group.read_to_end(&[("a", false)]);
        group.assert_each_once(&["a"]);
    }
}

#[test]
fn lag_reaches_zero_past_gaps_and_deletion_markers() {
    let Some(broker) = Broker::shared() else { return };
    let mut group = Group::new(&broker, "gaps", 1).with(&[EVERY]);
    group.produce(100);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &group.kafka().brokers)
        .set("transactional.id", "gaps")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    // Aborted records are never seen; markers of transactions hold an offset and are no records.
    producer.begin_transaction().unwrap();
    for _ in 0..10 {
        producer.send(BaseRecord::<str, str>::to("gaps").payload("never")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    // A deletion marker, with and without a key, and at the very end another transaction's marker.
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<str, str>::to("gaps").key("gone")).map_err(|(error, _)| error).unwrap();
    producer.send(BaseRecord::<str, str>::to("gaps")).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    producer.commit_transaction(PATIENCE).unwrap();

    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert_eq!((events(&report, "read"), events(&report, "used"), events(&report, "rejected")), (102, 100, 2));
    assert_eq!(report["events"]["rejected_by_reason"]["null_value"], 2);
    group.assert_each_once_but(&["a"], 2);
    // The offset has moved past the markers: nothing is read again.
    let report = run(&mut group.command("a", &["--until-end", "--json"])).ended(0).json();
    assert_eq!(events(&report, "read"), 102);
}
