//! Kafka in trouble: brokers away, records deleted, transactions, letters that are too large.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use negstream::config::{Format, KafkaConfig};
use negstream::dead_letters::topic::DeadLetterTopic;
use negstream::event::{Reason, Rejection};
use negstream::kafka::ClientError;
use negstream::position::{Ownerships, Positions};
use negstream::signals::Stop;
use negstream::source::kafka::{KafkaSource, ResumeState, TopicConnection, Until};
use negstream::source::{EventSource, KafkaSourceError, PollStatus, SourceError};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka_harness::{Broker, admin_client, admin_options, delete_before, runtime};
use crate::kafka_source::{
    Cluster, PATIENCE, decoder, event, expected_items, items, next_of, open, produce, producer, read_to_end, read_until,
};

fn embedded(topic: &str) -> (negstream::kafka::embedded::EmbeddedBroker, KafkaConfig) {
    let cluster = Cluster::embedded();
    let config = cluster.topic(topic, 1);
    match cluster {
        Cluster::Embedded(broker) => (broker, config),
        Cluster::Real(_) => unreachable!("an embedded cluster"),
    }
}

/// Opens with the request to stop made already: returns at once where it would have waited.
fn open_or_stop(config: &KafkaConfig) -> Result<KafkaSource, SourceError> {
    let stop = AtomicBool::new(true);
    let known = ResumeState { positions: &Positions::default(), ownerships: &Ownerships::default() };
    TopicConnection::open(config, &config.brokers, &stop)?.into_source(decoder(), known, Until::End)
}

/// A source that waits for its brokers is idle, not failed.
fn assert_waits(source: &mut KafkaSource) {
    for _ in 0..15 {
        assert_eq!(source.poll(&mut Vec::new()).unwrap(), PollStatus::Idle);
    }
}

#[test]
fn open_waits_for_absent_brokers() {
    let (broker, config) = embedded("away-at-open");
    produce(&config, 0..10);
    broker.go_down().unwrap();
    let error = open_or_stop(&config).err().unwrap().to_string();
    assert!(error.starts_with("stopped while waiting for the brokers"), "{error}");
    broker.come_up().unwrap();
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(0..10));
}

#[test]
fn source_waits_for_brokers_that_go_away() {
    let (broker, config) = embedded("away-while-running");
    produce(&config, 0..10);
    let mut source = open(&config, &Positions::default(), Until::Stopped).unwrap();
    let (mut records, _) = read_until(&mut source, |records| records.len() >= 10).unwrap();
    broker.go_down().unwrap();
    assert_waits(&mut source);
    broker.come_up().unwrap();
    produce(&config, 10..20);
    records.extend(read_until(&mut source, |records| records.len() >= 10).unwrap().0);
    assert_eq!(items(&records), expected_items(0..20));
}

#[test]
fn drop_ends_in_time_without_brokers() {
    let (broker, config) = embedded("away-at-the-end");
    produce(&config, 0..10);
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    let positions = next_of(&read_to_end(&mut source), &source);
    broker.go_down().unwrap();
    source.commit_tracker().unwrap().request(positions.clone());
    let begun = Instant::now();
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn flush_reports_undelivered_records_with_the_first_reason() {
    let mut config = negstream::config::Config::default().kafka;
    // A port that nothing listens on.
    config.brokers = "127.0.0.1:1".to_owned();
    config.properties.insert("message.timeout.ms".to_owned(), "500".to_owned());
    let mut producer = producer(&config);
    producer.send(&event(1)).unwrap();
    let error = producer.flush(PATIENCE).unwrap_err();
    assert!(matches!(&error, ClientError::Undelivered { count: 1, .. }), "{error}");
    assert!(
        error.to_string().contains("1 records for topic 'interactions' were not delivered; the first: "),
        "{error}"
    );
}

#[test]
fn property_that_breaks_the_promises_is_refused() {
    let mut config = negstream::config::Config::default().kafka;
    config.brokers = "127.0.0.1:1".to_owned();
    config.properties.insert("auto.offset.reset".to_owned(), "earliest".to_owned());
    let error = open_or_stop(&config).err().unwrap().to_string();
    assert!(error.contains("'kafka.properties.auto.offset.reset' cannot be set: "), "{error}");
}

#[test]
fn open_does_not_wait_for_brokers_that_refuse() {
    let properties = "\
        listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
        inter.broker.listener.name=PLAINTEXT\n\
        sasl.enabled.mechanisms=PLAIN\n\
        sasl.mechanism.inter.broker.protocol=PLAIN\n\
        listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
        username=\"alice\" password=\"right\" user_alice=\"right\";\n";
    let Some(broker) = Broker::start_with(properties) else { return };
    let mut config = negstream::config::Config::default().kafka;
    config.brokers = broker.bootstrap().to_owned();
    for (name, value) in [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "alice"),
        ("sasl.password", "right"),
    ] {
        config.properties.insert(name.to_owned(), value.to_owned());
    }
    negstream::kafka::admin::ensure_topic(&config, &config.brokers, &config.topic).unwrap();
    produce(&config, 0..10);
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(0..10));

    config.properties.insert("sasl.password".to_owned(), "wr0ng".to_owned());
    let error = open(&config, &Positions::default(), Until::End).err().unwrap().to_string();
    assert!(error.contains("uthentication failed") && !error.contains("wr0ng"), "{error}");
    let error = negstream::kafka::admin::partitions(&config, &config.brokers, "any").unwrap_err().to_string();
    assert!(error.contains("uthentication failed"), "{error}");
    let mut producer = producer(&config);
    producer.send(&event(1)).unwrap();
    let error = producer.flush(PATIENCE).unwrap_err().to_string();
    assert!(error.contains("uthentication failed"), "{error}");
}

#[test]
fn open_fails_where_unread_records_were_deleted() {
    let Some(cluster) = Cluster::real() else { return };
    let config = cluster.topic("deleted", 1);
    produce(&config, 0..100);
    delete_before(&config.brokers, &config.topic, 50);
    let mut positions = Positions::default();
    positions.advance("kafka/deleted/0", 49);
    let error = open(&config, &positions, Until::Stopped).err().unwrap();
    assert!(
        matches!(error, SourceError::Kafka(KafkaSourceError::PositionLost { position: 49, low: 50, high: 100, .. })),
        "{error}"
    );

    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(50..100));
}

#[test]
fn source_fails_where_unread_records_are_deleted() {
    let Some(cluster) = Cluster::real() else { return };
    let mut config = cluster.topic("deleted-meanwhile", 1);
    // Little is fetched ahead, and much is there.
    for (name, value) in [
        ("queued.max.messages.kbytes", "256"),
        ("fetch.message.max.bytes", "65536"),
        ("compression.type", "none"),
        ("batch.size", "65536"),
    ] {
        config.properties.insert(name.to_owned(), value.to_owned());
    }
    let mut sender = producer(&config);
    let number = 20_000;
    for item in 0..number {
        let mut event = event(item);
        event.session = Some("s".repeat(1_000).into());
        sender.send(&event).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    let mut source = open(&config, &Positions::default(), Until::Stopped).unwrap();
    let (records, _) = read_until(&mut source, |records| !records.is_empty()).unwrap();
    delete_before(&config.brokers, &config.topic, i64::from(number));
    let error = read_until(&mut source, |_| false).unwrap_err();
    let SourceError::Kafka(KafkaSourceError::PositionLost { stream, position, low, high, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!((stream.as_str(), *low, *high), ("deleted-meanwhile/0", 20_000, 20_000));
    assert!((records.len() as u64..20_000).contains(position), "{error}");
}

#[test]
fn transaction_gaps_do_not_hold_up_the_end() {
    let Some(cluster) = Cluster::real() else { return };
    let config = cluster.topic("transactions", 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("transactional.id", "transactions")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let send = |numbers: std::ops::Range<u32>| {
        producer.begin_transaction().unwrap();
        for number in numbers {
            let payload = negstream::decode::json::encode(&event(number), &negstream::config::FieldNames::default());
            producer
                .send(BaseRecord::to(&config.topic).key("k").payload(&payload))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    };
    send(0..5);
    producer.commit_transaction(PATIENCE).unwrap();
    send(5..9);
    producer.abort_transaction(PATIENCE).unwrap();

    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    let records = read_to_end(&mut source);
    assert_eq!(items(&records), expected_items(0..5));
    // The position after the last record lies before the gap; going on there ends as well.
    let positions = next_of(&records, &source);
    assert_eq!(positions.next("kafka/transactions/0"), Some(5));
    let mut source = open(&config, &positions, Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(0..0));
}

#[test]
fn source_waits_for_a_broker_that_restarts() {
    let Some(broker) = Broker::start() else { return };
    let broker = Arc::new(broker);
    let config = Cluster::Real(Arc::clone(&broker)).topic("restart", 1);
    produce(&config, 0..100);
    let mut source = open(&config, &Positions::default(), Until::Stopped).unwrap();
    let (mut records, _) = read_until(&mut source, |records| records.len() >= 100).unwrap();
    broker.stop();
    assert_waits(&mut source);
    broker.restart();
    produce(&config, 100..200);
    records.extend(read_until(&mut source, |records| records.len() >= 100).unwrap().0);
    assert_eq!(items(&records), expected_items(0..200));
}

#[test]
fn dead_letter_too_large_for_its_topic_goes_without_payload() {
    let Some(cluster) = Cluster::real() else { return };
    let mut config = cluster.topic("large", 1);
    config.dead_letter_topic = "large.dead".to_owned();
    let topic = NewTopic::new("large.dead", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
    let created = runtime().block_on(admin_client(&config.brokers).create_topics([&topic], &admin_options())).unwrap();
    created.into_iter().next().unwrap().unwrap();
    config.properties.insert("compression.type".to_owned(), "none".to_owned());

    let mut letters = DeadLetterTopic::open(&config, &config.brokers, Format::Json, Stop::new()).unwrap();
    let rejection = |bytes: usize| Rejection {
        reason: Reason::IdTooLong,
        detail: "user_id has many bytes".to_owned(),
        key: Some(b"k".to_vec()),
        payload: vec![b'x'; bytes],
    };
    for (offset, bytes) in [(7, 5_000), (8, 10)] {
        assert!(letters.offer("large/0", offset, &rejection(bytes)).unwrap());
        while !letters.settle().unwrap() {
            std::thread::yield_now();
        }
    }

    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).set("group.id", "large").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset("large.dead", 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while found.len() < 2 {
        assert!(Instant::now() < deadline, "no letters came");
        // A topic that is new is not known to every broker at once: an error passes, or the time is up.
        found.extend(consumer.poll(Duration::from_millis(100)).and_then(Result::ok).map(|message| message.detach()));
    }
    let header = |letter: usize, name: &str| {
        let headers = found[letter].headers().unwrap();
        let header = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8(header.value.unwrap().to_vec()).unwrap())
    };
    assert_eq!((found[0].key(), found[0].payload()), (Some(&b"k"[..]), None));
    assert_eq!(header(0, "__connect.errors.offset").as_deref(), Some("7"));
    assert_eq!(header(0, "negstream.payload.bytes").as_deref(), Some("5000"));
    assert_eq!(found[1].payload(), Some(&b"xxxxxxxxxx"[..]));
    assert_eq!(header(1, "negstream.payload.bytes"), None);
}
