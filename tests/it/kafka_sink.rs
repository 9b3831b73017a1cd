//! The sink in Kafka against a real broker: what lies in its topics, who may write, and what is refused.

use std::collections::BTreeMap;

use negstream::publish::{EmbeddingSink, ItemRow, SinkError};
use rdkafka::admin::{NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka_harness::{Broker, admin_client, admin_options, runtime};
use crate::kafka_source::PATIENCE;
use crate::sinks::{
    DELTA, DIM, FULL, SinkPlace, Wanted, hanging, holds_what_was_published_and_nothing_else, open_sink, publish,
    refused, rows, sets_popularity_alone, table, update,
};
use crate::support::{Place, events, read, run, write_described_log};

fn target(broker: &Broker) -> String {
    format!("kafka://{}", broker.bootstrap())
}

pub(crate) fn open(broker: &Broker, name: &str, options: &[(&str, &str)]) -> Box<dyn EmbeddingSink> {
    let options: Vec<(&str, &str)> = options.iter().copied().chain([("name", name)]).collect();
    open_sink("kafka", &target(broker), &options).unwrap()
}

/// A record as a consumer sees it: key, value, and headers.
pub(crate) type Seen = (String, Option<Vec<u8>>, BTreeMap<String, String>);

/// The committed records of a topic, partition by partition.
pub(crate) fn consume(broker: &Broker, topic: &str) -> Vec<Seen> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("group.id", topic).set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.set("isolation.level", "read_committed").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut places = TopicPartitionList::new();
    let partitions = metadata.topics()[0].partitions();
    for partition in partitions {
        places.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&places).unwrap();
    let (mut seen, mut ended) = (Vec::new(), 0);
    while ended < partitions.len() {
        match consumer.poll(PATIENCE).expect("records, or an end") {
            Ok(record) => {
                let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let headers = headers.map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect();
                seen.push((text(record.key().unwrap()), record.payload().map(<[u8]>::to_vec), headers));
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

fn create(broker: &Broker, topic: &str, policy: &str) {
    let wanted = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", policy);
    runtime().block_on(admin_client(broker.bootstrap()).create_topics([&wanted], &admin_options())).unwrap();
}

fn policy(broker: &Broker, topic: &str) -> String {
    let admin = admin_client(broker.bootstrap());
    let asked = ResourceSpecifier::Topic(topic);
    let described = runtime().block_on(admin.describe_configs([&asked], &admin_options())).unwrap();
    described[0].as_ref().unwrap().get("cleanup.policy").unwrap().value.clone().unwrap()
}

#[test]
fn kafka_holds_what_was_published_and_nothing_else() {
    let Some(broker) = Broker::shared() else { return };
    let target = target(&broker);
    let place = SinkPlace { sink: "kafka", target: &target, name: "contract" };
    holds_what_was_published_and_nothing_else(place);
    sets_popularity_alone(SinkPlace { name: "popularity", ..place });
}

#[test]
fn kafka_topics_are_compacted_and_hold_one_record_a_row_and_tombstones_for_what_went() {
    let Some(broker) = Broker::shared() else { return };
    let mut sink = open(&broker, "records", &[("partitions", "3")]);
    let wanted = Wanted::from([
        ("a".to_owned(), (vec![0.5; DIM], -2.5)),
        ("b".to_owned(), (vec![0.25; DIM], -3.0)),
        ("c".to_owned(), (vec![1.0; DIM], -1.0)),
    ]);
    publish(&mut *sink, &update(FULL, 7, 11), &[], &wanted).unwrap();
    for topic in ["records-items", "records-popularity", "records-state"] {
        assert_eq!(policy(&broker, topic), "compact", "{topic}");
    }
    let seen = consume(&broker, "records-items");
    assert_eq!(seen.len(), 3);
    let (_, value, headers) = seen.iter().find(|(key, ..)| key == "a").unwrap();
    let bytes: Vec<u8> = std::iter::repeat_n(0.5_f32.to_le_bytes(), DIM).flatten().collect();
    assert_eq!(value.as_ref().unwrap(), &bytes);
    let expected = [("epoch", "7"), ("log_frequency", "-2.5"), ("model_id", "model-a"), ("step", "11")];
    assert!(headers.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected), "{headers:?}");

    // A change, a removal, and frequencies, none of which is seen before the update is committed.
    sink.begin(&update(DELTA, 7, 12)).unwrap();
    sink.remove(&["b"]).unwrap();
    sink.upsert(&[ItemRow { item_id: "c", embedding: &[2.0; DIM], log_frequency: -1.5 }]).unwrap();
    sink.set_popularity(&[("a", -2.0)]).unwrap();
    assert_eq!(consume(&broker, "records-items").len(), 3);
    sink.commit().unwrap();
    let seen = consume(&broker, "records-items");
    let newest: BTreeMap<&String, &Option<Vec<u8>>> = seen.iter().map(|(key, value, _)| (key, value)).collect();
    assert!(seen.len() == 5 && newest[&"b".to_owned()].is_none() && newest[&"c".to_owned()].is_some());
    let popularity = consume(&broker, "records-popularity");
    let last = popularity.iter().rfind(|(key, ..)| key == "a").unwrap();
    assert_eq!(last.1.as_deref(), Some(&(-2.0_f32).to_le_bytes()[..]));
    assert_eq!((last.2["step"].as_str(), last.2.contains_key("log_frequency")), ("12", false));

    // A full update buries what it does not bring, in both topics: what compaction leaves is the table.
    let less = Wanted::from([("c".to_owned(), (vec![3.0; DIM], -1.0)), ("d".to_owned(), (vec![4.0; DIM], -4.0))]);
    publish(&mut *open(&broker, "records", &[]), &update(FULL, 8, 3), &[], &less).unwrap();
    for (topic, left) in [("records-items", &["c", "d"][..]), ("records-popularity", &[])] {
        let seen = consume(&broker, topic);
        let newest: BTreeMap<&str, &Option<Vec<u8>>> =
            seen.iter().map(|(key, value, _)| (key.as_str(), value)).collect();
        let alive = newest.into_iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key);
        assert!(alive.eq(left.iter().copied()), "{topic}: {seen:?}");
    }
    let state = consume(&broker, "records-state");
    assert!(state.len() == 3 && state.iter().all(|(key, ..)| key == "items"));
}

#[test]
fn kafka_encodings_round_as_they_say() {
    let Some(broker) = Broker::shared() else { return };
    let wanted = table(300, 31);
    for (encoding, bytes) in [("f16", 2 * DIM), ("int8", 4 + DIM), ("json", 0), ("qdrant", 0)] {
        let name = format!("encoding-{encoding}");
        let mut sink = open(&broker, &name, &[("encoding", encoding)]);
        publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
        let mut moved = wanted.clone();
        sink.begin(&update(DELTA, 1, 2)).unwrap();
        sink.set_popularity(&[("item-7", -0.5)]).unwrap();
        sink.commit().unwrap();
        moved.get_mut("item-7").unwrap().1 = -0.5;
        moved.values_mut().for_each(|(embedding, _)| sink.round(embedding));
        let mut held = Wanted::new();
        sink.read(&mut |row| drop(held.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
        assert!(held == moved, "{encoding}");
        let values: Vec<Vec<u8>> =
            consume(&broker, &format!("{name}-items")).into_iter().filter_map(|seen| seen.1).collect();
        assert!(bytes == 0 || values.iter().all(|value| value.len() == bytes), "{encoding}");
        if encoding == "json" {
            let row: serde_json::Value = serde_json::from_slice(&values[0]).unwrap();
            let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["item_id", "embedding", "log_frequency", "model_id", "epoch", "step"]);
        }
        if encoding == "qdrant" {
            let row: serde_json::Value = serde_json::from_slice(&values[0]).unwrap();
            assert_eq!((row["collection_name"].as_str(), row["vector"].as_array().unwrap().len()), (Some(&*name), DIM));
        }
        // Consumers of one layout are not given another.
        let mut other = open(&broker, &name, &[]);
        refused(other.begin(&update(FULL, 2, 1)), &["kafka", encoding, "f32", "another prefix"]);
    }
}

#[test]
fn kafka_holds_the_query_of_a_user_after_their_events_ready_to_be_searched_with() {
    let Some(broker) = Broker::shared() else { return };
    let place = Place::new();
    let log = place.path("log.parquet");
    write_described_log(&log, &events(4_000, 61));
    let sink = format!("publish=[{{sink=\"kafka\",target=\"{}\",name=\"queries\",users=true}}]", target(&broker));
    place.replay(&log, &["model.dim=8", "train.batch=64", "threads=1", "negatives.bank=64", &sink]);
    assert_eq!(policy(&broker, "queries-users"), "compact,delete");
    run(&mut place.negstream(&["export", "checkpoints", "--to", "npy", "out"])).ended(0);
    let export: serde_json::Value = serde_json::from_slice(&read(&place.path("out/export.json"))).unwrap();
    let users: Vec<String> = serde_json::from_slice(&read(&place.path("out/users.json"))).unwrap();
    let numbers = read(&place.path("out/queries.npy"));
    let numbers = &numbers[numbers.len() - users.len() * 9 * 4..];
    let inverse_temperature = 1.0 / export["temperature"].as_f64().unwrap() as f32;

    let seen = consume(&broker, "queries-users");
    let newest: BTreeMap<&String, &Seen> = seen.iter().map(|seen| (&seen.0, seen)).collect();
    let known: Vec<&String> = newest.keys().copied().collect();
    let mut expected: Vec<&String> = users.iter().collect();
    expected.sort_unstable();
    assert_eq!(known, expected, "each user has a query");
    let mut compared = 0;
    for (user, row) in users.iter().zip(numbers.chunks_exact(9 * 4)) {
        let (_, value, headers) = newest[user];
        assert_eq!(headers["model_id"], export["model_id"].as_str().unwrap());
        assert!(value.as_ref().unwrap().len() == 8 * 4 && headers["beta_tau"].parse::<f32>().unwrap().is_finite());
        // Queries of the last moment are those of the final model.
        if headers["step"].parse::<u64>().ok() == export["step"].as_u64() {
            let floats = |bytes: &[u8]| -> Vec<f32> {
                bytes.chunks_exact(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect()
            };
            let (found, wanted) = (floats(value.as_ref().unwrap()), floats(&row[..8 * 4]));
            let is_close = |(a, b): (&f32, &f32)| (a * inverse_temperature - b).abs() < 1e-3 * b.abs().max(1.0);
            assert!(found.iter().zip(&wanted).all(is_close), "{user}: {found:?}, {wanted:?}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no query of the final model");
}

#[test]
fn kafka_that_would_lose_rows_or_holds_something_else_is_named() {
    let Some(broker) = Broker::shared() else { return };
    create(&broker, "expiring-items", "delete");
    let said = refused(open(&broker, "expiring", &[]).begin(&update(FULL, 1, 1)), &["kafka", "'expiring-items'"]);
    assert!(said.contains("cleanup.policy=delete") && said.contains("compact"), "{said}");
    create(&broker, "both-items", "compact,delete");
    refused(open(&broker, "both", &[]).begin(&update(FULL, 1, 1)), &["kafka", "cleanup.policy=compact,delete"]);

    create(&broker, "foreign-items", "compact");
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    producer.send(BaseRecord::to("foreign-items").key("theirs").payload("not ours")).unwrap();
    producer.flush(PATIENCE).unwrap();
    refused(open(&broker, "foreign", &[]).begin(&update(FULL, 1, 1)), &["kafka", "has not written"]);
    assert_eq!(consume(&broker, "foreign-items").len(), 1, "nothing is buried");

    // A topic that was given partitions afterwards.
    publish(&mut *open(&broker, "grown", &[]), &update(FULL, 1, 1), &[], &table(5, 32)).unwrap();
    let more = rdkafka::admin::NewPartitions::new("grown-items", 2);
    runtime().block_on(admin_client(broker.bootstrap()).create_partitions([&more], &admin_options())).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while consumer_partitions(&broker, "grown-items") < 2 {
        assert!(std::time::Instant::now() < deadline);
    }
    refused(open(&broker, "grown", &[]).begin(&update(FULL, 2, 1)), &["kafka", "2 partitions", "another prefix"]);
}

fn consumer_partitions(broker: &Broker, topic: &str) -> usize {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    consumer.fetch_metadata(Some(topic), PATIENCE).unwrap().topics()[0].partitions().len()
}

#[test]
fn kafka_lets_the_newest_worker_alone_write() {
    let Some(broker) = Broker::shared() else { return };
    let target = target(&broker);
    let place = SinkPlace { sink: "kafka", target: &target, name: "fenced" };
    let (mut old, mut new) = (place.open(), place.open());
    old.begin(&update(FULL, 1, 1)).unwrap();
    old.upsert(&rows(&table(100, 33))).unwrap();
    let wanted = table(80, 34);
    publish(&mut *new, &update(FULL, 2, 1), &[], &wanted).unwrap();
    let late = old.upsert(&rows(&table(120, 35))).and_then(|()| old.commit());
    refused(late, &["kafka", "another worker", "epoch 2"]);
    assert!(place.read().1 == wanted);
    // It is refused without fencing the newer one, which goes on.
    refused(old.begin(&update(FULL, 1, 9)), &["kafka", "not older"]);
    publish(&mut *new, &update(DELTA, 2, 2), &[], &Wanted::new()).unwrap();
}

#[test]
fn kafka_that_lost_everything_or_was_away_is_made_whole_by_a_full_update() {
    let Some(broker) = Broker::start() else { return };
    let target = target(&broker);
    let place = SinkPlace { sink: "kafka", target: &target, name: "lost" };
    let mut sink = open_sink("kafka", &target, &[("name", "lost"), ("timeout_ms", "3000")]).unwrap();
    publish(&mut *sink, &update(FULL, 1, 1), &[], &table(500, 36)).unwrap();
    broker.stop();
    refused(publish(&mut *sink, &update(DELTA, 1, 2), &[], &table(10, 37)), &["kafka", "3000 ms"]);
    broker.restart();
    let wanted = table(400, 38);
    let mut sink = place.open();
    publish(&mut *sink, &update(FULL, 2, 4), &[], &wanted).unwrap();
    assert!(place.read().1 == wanted);
    let topics = ["lost-items", "lost-popularity", "lost-state"];
    runtime().block_on(admin_client(broker.bootstrap()).delete_topics(&topics, &admin_options())).unwrap();
    let changed = publish(&mut *sink, &update(DELTA, 2, 5), &[], &table(10, 39));
    assert!(matches!(changed, Err(SinkError::Away { .. })), "{changed:?}");
    // Brokers take a moment to forget a topic.
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(error) = publish(&mut *sink, &update(FULL, 3, 6), &[], &wanted) {
        assert!(std::time::Instant::now() < deadline, "{error}");
    }
    assert!(place.read().1 == wanted);
}

#[test]
fn kafka_that_is_away_or_hangs_and_targets_that_are_none_are_named() {
    let begin = |address: &str| {
        let mut sink = open_sink("kafka", &format!("kafka://{address}"), &[("timeout_ms", "400")]).unwrap();
        sink.begin(&update(FULL, 1, 1))
    };
    refused(begin("127.0.0.1:1"), &["kafka", "efused"]);
    refused(begin(&hanging()), &["kafka", "400 ms"]);
    for (target, words) in [
        ("nowhere canary", &["kafka://"][..]),
        ("kafka://", &["kafka://"]),
        ("kafka://me:canary@host:9092", &["sasl.password"]),
    ] {
        let said = open_sink("kafka", target, &[]).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("canary"), "{said}");
    }
    let said = open_sink("kafka", "kafka://h:1", &[("name", "a/b")]).unwrap_err().to_string();
    assert!(said.contains("prefix of topics"), "{said}");
}
