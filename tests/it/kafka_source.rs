//! The Kafka source, the producer and the dead letters, against the broker inside the process and against a real one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use negstream::config::{Assignment, Format, KafkaConfig, StartingOffsets};
use negstream::dead_letters::DeadLetters;
use negstream::dead_letters::topic::DeadLetterTopic;
use negstream::decode::{EventDecoder, EventEncoder};
use negstream::event::{Interaction, Reason, Record};
use negstream::kafka::embedded::EmbeddedBroker;
use negstream::kafka::producer::EventProducer;
use negstream::kafka::{ClientError, admin};
use negstream::position::{Ownerships, Positions};
use negstream::signals::Stop;
use negstream::source::kafka::{KafkaSource, ResumeState, TopicConnection, Until};
use negstream::source::{EventSource, KafkaSourceError, PollStatus, SourceError, SourceMessage, spawn};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka_harness::{Broker, committed_offsets};

/// Long enough for any machine; a test that waits that long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) enum Cluster {
    Embedded(EmbeddedBroker),
    Real(Arc<Broker>),
}

impl Cluster {
    pub(crate) fn embedded() -> Self {
        Self::Embedded(EmbeddedBroker::start("unused", 1).unwrap())
    }

    pub(crate) fn real() -> Option<Self> {
        Broker::shared().map(Self::Real)
    }

    fn bootstrap(&self) -> &str {
        match self {
            Self::Embedded(broker) => broker.bootstrap(),
            Self::Real(broker) => broker.bootstrap(),
        }
    }

    /// The configuration of a new topic.
    pub(crate) fn topic(&self, topic: &str, partitions: i32) -> KafkaConfig {
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = self.bootstrap().to_owned();
        config.assignment = Assignment::All;
        config.topic = topic.to_owned();
        config.group = format!("group-of-{topic}");
        config.partitions = partitions;
        match self {
            Self::Embedded(broker) => broker.create_topic(topic, partitions).unwrap(),
            Self::Real(_) => {
                // Where the broker was slow the client asked twice, and the second answer is that it is there.
                admin::ensure_topic(&config, &config.brokers, topic).unwrap();
                assert_eq!(
                    admin::ensure_topic(&config, &config.brokers, topic).unwrap(),
                    admin::TopicCreation::Existed
                );
            }
        }
        let found = admin::partitions(&config, &config.brokers, topic).unwrap();
        assert_eq!(found, Some((0..partitions).collect()));
        config
    }
}

pub(crate) fn event(number: u32) -> Interaction {
    Interaction {
        user: format!("user {}", number % 7).into(),
        item: format!("item {number}").into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_000 + i64::from(number),
        session: None,
        value: Some(f64::from(number) / 3.0),
        features: Vec::new(),
    }
}

pub(crate) fn decoder() -> EventDecoder {
    negstream::registry::decoder(&negstream::config::Config::default().source).unwrap()
}

pub(crate) fn encoder() -> EventEncoder {
    negstream::registry::encoder(&negstream::config::Config::default().source, "any").unwrap()
}

pub(crate) fn producer(config: &KafkaConfig) -> EventProducer {
    EventProducer::open(config, &config.brokers, encoder()).unwrap()
}

pub(crate) fn produce(config: &KafkaConfig, numbers: std::ops::Range<u32>) {
    let mut producer = producer(config);
    for number in numbers {
        producer.send(&event(number)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(producer.in_flight(), 0);
}

pub(crate) fn open(config: &KafkaConfig, positions: &Positions, until: Until) -> Result<KafkaSource, SourceError> {
    let known = ResumeState { positions, ownerships: &Ownerships::default() };
    TopicConnection::open(config, &config.brokers, &AtomicBool::new(false))?.into_source(decoder(), known, until)
}

/// Polls until `enough` or the end.
pub(crate) fn read_until(
    source: &mut KafkaSource,
    enough: impl Fn(&[Record]) -> bool,
) -> Result<(Vec<Record>, PollStatus), SourceError> {
    let (mut records, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        let status = source.poll(&mut records)?;
        if status == PollStatus::End || enough(&records) {
            return Ok((records, status));
        }
        assert!(Instant::now() < deadline, "only {} records came in time", records.len());
    }
}

pub(crate) fn read_to_end(source: &mut KafkaSource) -> Vec<Record> {
    let (records, status) = read_until(source, |_| false).unwrap();
    assert_eq!(status, PollStatus::End);
    records
}

pub(crate) fn next_of(records: &[Record], source: &KafkaSource) -> Positions {
    let mut positions = source.starts().clone();
    let streams = source.streams();
    for record in records {
        positions.advance(&streams[record.stream as usize].name, record.offset + 1);
    }
    positions
}

pub(crate) fn items(records: &[Record]) -> Vec<String> {
    let mut items: Vec<String> =
        records.iter().map(|record| record.outcome.as_ref().unwrap().item.to_string()).collect();
    items.sort_unstable();
    items
}

pub(crate) fn expected_items(numbers: std::ops::Range<u32>) -> Vec<String> {
    let mut items: Vec<String> = numbers.map(|number| format!("item {number}")).collect();
    items.sort_unstable();
    items
}

/// Offsets of each stream go up by one, and the events of a user are in order.
fn assert_in_order(records: &[Record], starts: &Positions, source: &KafkaSource) {
    let mut next = starts.clone();
    let mut last = std::collections::HashMap::new();
    let streams = source.streams();
    for record in records {
        let name = &streams[record.stream as usize].name;
        assert_eq!(Some(record.offset), next.next(name), "{name}");
        next.advance(name, record.offset + 1);
        if let Ok(event) = &record.outcome {
            assert!(last.insert(event.user.clone(), event.timestamp) < Some(event.timestamp));
        }
    }
}

fn source_delivers_each_record_once_and_in_order(cluster: &Cluster) {
    let config = cluster.topic("everything", 3);
    produce(&config, 0..5_000);
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    assert_eq!(source.streams()[2].label, "everything/2");
    let records = read_to_end(&mut source);
    assert_in_order(&records, source.starts(), &source);
    assert_eq!(items(&records), expected_items(0..5_000));
    let decoded = records.iter().find(|record| record.outcome.as_ref().unwrap().item == "item 17").unwrap();
    assert_eq!(decoded.outcome.as_ref().unwrap(), &event(17));
    assert_eq!(source.lag_probe().high_watermarks().into_iter().map(|(_, high)| high).sum::<u64>(), 5_000);
    assert_eq!(source.poll(&mut Vec::new()).unwrap(), PollStatus::End);
}

fn source_resumes_at_its_positions(cluster: &Cluster) {
    let config = cluster.topic("resume", 2);
    produce(&config, 0..3_000);
    let mut source = open(&config, &Positions::default(), Until::Stopped).unwrap();
    let (mut records, _) = read_until(&mut source, |records| records.len() >= 1_000).unwrap();
    records.truncate(1_000);
    let positions = next_of(&records, &source);
    drop(source);

    let feed = spawn(Box::new(open(&config, &positions, Until::End).unwrap())).unwrap();
    for message in &feed.messages {
        match message {
            SourceMessage::Records(block, _) => records.extend(block),
            SourceMessage::Idle | SourceMessage::Control(..) => {}
            SourceMessage::End => break,
            SourceMessage::Failed(error) => panic!("{error}"),
        }
    }
    feed.close();
    assert_eq!(items(&records), expected_items(0..3_000));
}

fn source_stops_at_the_ends_it_saw_when_opened(cluster: &Cluster) {
    let config = cluster.topic("ends", 2);
    let mut empty = open(&config, &Positions::default(), Until::End).unwrap();
    produce(&config, 0..500);
    assert_eq!(items(&read_to_end(&mut empty)), expected_items(0..0));
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    produce(&config, 500..1_000);
    let records = read_to_end(&mut source);
    assert_eq!(items(&records), expected_items(0..500));
    let mut source = open(&config, &next_of(&records, &source), Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(500..1_000));
}

/// A source that ends after a number of records is a whole source: what is durable of them is committed, and what lies
/// behind them is left to the next one.
fn source_with_a_limit_ends_there_and_commits(cluster: &Cluster) {
    let config = cluster.topic("limit", 1);
    produce(&config, 0..100);
    let mut source = open(&config, &Positions::default(), Until::Records(60)).unwrap();
    let records = read_to_end(&mut source);
    assert_eq!(items(&records), expected_items(0..60));
    assert_eq!(source.poll(&mut Vec::new()).unwrap(), PollStatus::End);
    let positions = next_of(&records, &source);
    source.commit_tracker().unwrap().request(positions.clone());
    let deadline = Instant::now() + PATIENCE;
    while committed(&config, 0) != Offset::Offset(60) {
        assert!(Instant::now() < deadline, "keep_alive commits nothing");
        source.keep_alive();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut source = open(&config, &positions, Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(60..100));
}

/// The group's offset of a partition.
fn committed(config: &KafkaConfig, partition: i32) -> Offset {
    let committed = committed_offsets(config, [partition], PATIENCE).unwrap();
    committed.find_partition(&config.topic, partition).unwrap().offset()
}

fn source_starts_as_configured(cluster: &Cluster) {
    let mut config = cluster.topic("latest", 2);
    config.starting_offsets = StartingOffsets::Latest;
    produce(&config, 0..100);
    let mut source = open(&config, &Positions::default(), Until::Stopped).unwrap();
    let starts = source.starts().clone();
    produce(&config, 100..150);
    let (records, _) = read_until(&mut source, |records| records.len() >= 50).unwrap();
    assert_eq!(items(&records), expected_items(100..150));

    // With the beginnings in the checkpoint nothing older is read later either.
    let mut source = open(&config, &starts, Until::End).unwrap();
    assert_eq!(items(&read_to_end(&mut source)), expected_items(100..150));

    // A partition of which nothing is known is new.
    let mut one = Positions::default();
    one.advance("kafka/latest/0", starts.next("kafka/latest/0").unwrap());
    let source = open(&config, &one, Until::End).unwrap();
    assert_eq!(source.starts().next("kafka/latest/1"), Some(0));
}

fn position_beyond_the_end_is_lost(cluster: &Cluster) {
    let config = cluster.topic("beyond", 1);
    produce(&config, 0..10);
    let mut positions = Positions::default();
    positions.advance("kafka/beyond/0", 11);
    let error = open(&config, &positions, Until::Stopped).err().unwrap();
    assert!(
        matches!(error, SourceError::Kafka(KafkaSourceError::PositionLost { position: 11, low: 0, high: 10, .. })),
        "{error}"
    );
    assert!(error.to_string().contains("position 11 of beyond/0 is not there: it holds 0..10; "), "{error}");
}

fn missing_topic_is_named(cluster: &Cluster) {
    let mut config = negstream::config::Config::default().kafka;
    config.brokers = cluster.bootstrap().to_owned();
    config.topic = "nowhere".to_owned();
    let error = open(&config, &Positions::default(), Until::Stopped).err().unwrap().to_string();
    let expected =
        format!("kafka ({}): no topic 'nowhere'; create it, or let `negstream produce` do so", config.brokers);
    assert_eq!(error, expected);
    config.dead_letter_topic = "nowhere".to_owned();
    let error = DeadLetterTopic::open(&config, &config.brokers, Format::Json, Stop::new()).err().unwrap();
    assert!(matches!(error, ClientError::NoTopic { .. }), "{error}");
}

fn poison_is_delivered_as_rejections(cluster: &Cluster) {
    let config = cluster.topic("poison-handed-over", 1);
    let mut producer = producer(&config);
    for number in 0..300 {
        match number % 3 {
            0 => producer.send_bytes(b"key", b"{\"user_id\": \xff").unwrap(),
            1 => producer.send_bytes(b"", b"").unwrap(),
            _ => producer.send(&event(number)).unwrap(),
        }
    }
    producer.flush(PATIENCE).unwrap();
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    let records = read_to_end(&mut source);
    assert_in_order(&records, source.starts(), &source);
    assert_eq!(records.len(), 300);
    for (number, record) in (0..300).zip(&records) {
        match (number % 3, &record.outcome) {
            (0, Err(rejection)) => {
                assert_eq!(rejection.payload, b"{\"user_id\": \xff");
                assert_eq!((rejection.reason, rejection.key.as_deref()), (Reason::Unparsable, Some(&b"key"[..])));
            }
            (1, Err(rejection)) => assert_eq!(rejection.detail, "empty record"),
            (2, Ok(decoded)) => assert_eq!(decoded, &event(number)),
            (_, other) => panic!("{other:?}"),
        }
    }
}

fn durable_positions_are_committed(cluster: &Cluster) {
    let config = cluster.topic("commits", 2);
    produce(&config, 0..100);
    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    let positions = next_of(&read_to_end(&mut source), &source);
    source.commit_tracker().unwrap().request(positions.clone());
    drop(source);

    let committed = committed_offsets(&config, [0, 1], PATIENCE).unwrap();
    for (name, next) in positions.iter() {
        let partition = name.rsplit_once('/').unwrap().1.parse().unwrap();
        let found = committed.find_partition(&config.topic, partition).unwrap().offset();
        assert_eq!(found, Offset::Offset(i64::try_from(next).unwrap()), "{name}");
    }
}

fn dead_letters_carry_their_origin(cluster: &Cluster) {
    let mut config = cluster.topic("letters", 1);
    let mut producer = producer(&config);
    producer.send_bytes(b"k\xff", b"nonsense \xff").unwrap();
    producer.flush(PATIENCE).unwrap();
    cluster.topic("letters.dead", 1);
    config.dead_letter_topic = "letters.dead".to_owned();

    let mut source = open(&config, &Positions::default(), Until::End).unwrap();
    let records = read_to_end(&mut source);
    let mut letters =
        DeadLetters::Topic(DeadLetterTopic::open(&config, &config.brokers, Format::Json, Stop::new()).unwrap());
    let (label, rejection) = (&source.streams()[0].label, records[0].outcome.as_ref().unwrap_err());
    assert!(letters.offer(label, records[0].offset, rejection).unwrap());
    while !letters.settle().unwrap() {
        std::thread::yield_now();
    }

    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).set("group.id", "letters").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset("letters.dead", 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let letter = loop {
        assert!(Instant::now() < deadline, "no letter came");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            break message.unwrap().detach();
        }
    };
    assert_eq!((letter.key(), letter.payload()), (Some(&b"k\xff"[..]), Some(&b"nonsense \xff"[..])));
    let headers: Vec<(String, String)> = letter
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
        .collect();
    let expected = [
        ("topic", "letters"),
        ("partition", "0"),
        ("offset", "0"),
        ("connector.name", "negstream"),
        ("task.id", "0"),
        ("stage", "VALUE_CONVERTER"),
        ("class.name", "negstream::decode::json"),
        ("exception.class.name", "unparsable"),
        ("exception.message", "not UTF-8 at byte 9"),
    ];
    let expected = expected.map(|(name, value)| (format!("__connect.errors.{name}"), value.to_owned()));
    assert_eq!(headers, expected);
}

macro_rules! on_both_brokers {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $test() {
                super::$test(&super::Cluster::embedded());
            })*
        }
        mod real {
            $(#[test]
            fn $test() {
                if let Some(cluster) = super::Cluster::real() {
                    super::$test(&cluster);
                }
            })*
        }
    };
}

on_both_brokers!(
    source_delivers_each_record_once_and_in_order,
    source_resumes_at_its_positions,
    source_stops_at_the_ends_it_saw_when_opened,
    source_with_a_limit_ends_there_and_commits,
    source_starts_as_configured,
    position_beyond_the_end_is_lost,
    missing_topic_is_named,
    poison_is_delivered_as_rejections,
    durable_positions_are_committed,
    dead_letters_carry_their_origin,
);
