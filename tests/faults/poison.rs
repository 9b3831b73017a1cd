//! Poison of every kind in every format, through the real program and the real Kafka (faults 32, 33 and 35).
//!
//! The ledger: every record is either trained, under its own item, or in the dead-letter topic, with the right reason, its
//! position and its bytes. Nothing of it drives a terminal, or reaches the page or the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use arrow_array::cast::AsArray as _;
use negstream::config::{Config, layers};
use negstream::event::{Interaction, Reason};
use negstream::kafka::admin;
use negstream::kafka::producer::EventProducer;
use negstream::registry;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::group::PATIENCE;
use crate::kafka_harness::Broker;
use crate::stub_registry::StubRegistry;
use crate::support::{Background, Place, run, set};

/// Ids that are as good as any other, and that somebody might choke on.
const HOSTILE: [&str; 9] = [
    "\u{1b}[2J\u{7}",
    "line\nbreak\r\0",
    "🦀 é \u{202e}txt",
    "../../etc/passwd",
    "C:\\nul",
    "<script>alert(1)</script>",
    "{{7*7}}${x}\"'`",
    "level=error\tfake=1",
    " ",
];

/// Large enough to be refused by a broker that was not told otherwise.
const LARGE: usize = 10 << 20;

/// A record, and what has to become of it: trained under an item, or rejected.
type Dose = (Vec<u8>, Result<String, Reason>);

fn event(item: &str) -> Interaction {
    Interaction {
        user: "u".into(),
        item: item.into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_000,
        session: None,
        value: None,
        features: Vec::new(),
    }
}

/// What can be wrong in every format.
fn common(encode: &dyn Fn(&Interaction) -> Vec<u8>) -> Vec<Dose> {
    let rejected = |event: Interaction, reason: Reason| (encode(&event), Err(reason));
    let mut doses: Vec<Dose> = HOSTILE.iter().map(|item| (encode(&event(item)), Ok((*item).to_owned()))).collect();
    let long = "x".repeat(64 << 10);
    doses.extend([
        rejected(event(""), Reason::EmptyId),
        rejected(Interaction { user: "".into(), ..event("no user") }, Reason::EmptyId),
        rejected(event(&long), Reason::IdTooLong),
        rejected(Interaction { kind: long.as_str().into(), ..event("long kind") }, Reason::IdTooLong),
        rejected(Interaction { features: vec![long.into()], ..event("long feature") }, Reason::IdTooLong),
        rejected(Interaction { timestamp: -1, ..event("before") }, Reason::TimestampOutOfRange),
        rejected(Interaction { timestamp: i64::MAX, ..event("after") }, Reason::TimestampOutOfRange),
        (vec![b'y'; 1 << 20], Err(Reason::Unparsable)),
        (vec![0x80; LARGE], Err(Reason::Unparsable)),
        (Vec::new(), Err(Reason::Unparsable)),
    ]);
    doses
}

fn json(encode: &dyn Fn(&Interaction) -> Vec<u8>) -> Vec<Dose> {
    use Reason::{MissingField, Unparsable, ValueNotFinite, WrongType};
    let mut doses = common(encode);
    for (record, reason) in [
        (&b"{nonsense"[..], Unparsable),
        (b"{\"user_id\":\"\xff\"}", Unparsable),
        (b"\x00\x00\x00\x00\x01{}", Unparsable),
        (b"[]", Unparsable),
        (b"null", Unparsable),
        (br#"{"user_id":"u","item_id":"i","timestamp":1700000000000,"value":NaN}"#, Unparsable),
        (br#"{"user_id":"u","item_id":"i","timestamp":1700000000000,"value":-1e999}"#, ValueNotFinite),
        (br#"{"user_id":"u","item_id":"i","timestamp":1700000000000,"value":"much"}"#, WrongType),
        (br#"{"user_id":"u","item_id":{"a":"<b>"},"timestamp":1700000000000}"#, WrongType),
        (br#"{"user_id":"u","item_id":"i","timestamp":"\u001b[31mnow\n"}"#, WrongType),
        (br#"{"user_id":"u","item_id":"i"}"#, MissingField),
        (br#"{"item_id":null,"user_id":"u","timestamp":1700000000000}"#, MissingField),
    ] {
        doses.push((record.to_vec(), Err(reason)));
    }
    let padding = " ".repeat(LARGE);
    let large = format!(r#"{{"user_id":"u","item_id":"large","timestamp":1700000000000,"ignored":"{padding}"}}"#);
    doses.push((large.into_bytes(), Ok("large".to_owned())));
    doses.push((format!("{}{}", "[".repeat(LARGE / 2), "]".repeat(LARGE / 2)).into_bytes(), Err(Unparsable)));
    doses
}

/// Avro and Protobuf; `frame` bytes are in front of each record.
fn binary(encode: &dyn Fn(&Interaction) -> Vec<u8>, frame: usize) -> Vec<Dose> {
    let mut doses = common(encode);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        doses.push((encode(&Interaction { value: Some(value), ..event("value") }), Err(Reason::ValueNotFinite)));
    }
    let whole = encode(&Interaction { session: Some("s".into()), features: vec!["f".into()], ..event("cut") });
    // Cut where it cannot be whole: within the first text.
    for end in frame + 1..frame + 3 {
        doses.push((whole[..end].to_vec(), Err(Reason::Unparsable)));
    }
    // Not UTF-8: the user is the first text in both formats.
    let mut broken = whole.clone();
    let user = broken[frame..].iter().position(|byte| *byte == b'u').expect("there is a user") + frame;
    broken[user] = 0xff;
    doses.push((broken, Err(Reason::Unparsable)));
    let large = Interaction { features: vec!["f".into(); 70_000], ..event("many") };
    doses.push((encode(&large), Err(Reason::WrongType)));
    doses
}

fn frames(good: &[u8]) -> Vec<Dose> {
    let with = |front: &[u8]| [front, &good[5..]].concat();
    vec![
        (with(b"\x01\x00\x00\x00\x01"), Err(Reason::InvalidFrame)),
        (with(b"\xff\x00\x00\x00\x01"), Err(Reason::InvalidFrame)),
        (b"{\"user_id\":\"u\"}".to_vec(), Err(Reason::InvalidFrame)),
        (b"\x00\x00\x00".to_vec(), Err(Reason::InvalidFrame)),
        (with(b"\x00\x00\x00\x03\xe7"), Err(Reason::UnknownSchema)),
        (with(b"\x00\xff\xff\xff\xff"), Err(Reason::UnknownSchema)),
        // One that is there, and is none.
        (with(b"\x00\x00\x00\x00\x63"), Err(Reason::UnknownSchema)),
        // One of another format.
        (with(b"\x00\x00\x00\x00\x62"), Err(Reason::UnknownSchema)),
    ]
}

/// What was dealt with, by offset: reason, key, payload, headers.
struct Letter {
    reason: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: BTreeMap<String, String>,
}

fn letters(config: &Config, wanted: usize) -> BTreeMap<u64, Letter> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.kafka.brokers)
        .set("group.id", "letters")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&config.kafka.dead_letter_topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&assignment).expect("an assignment");
    let (mut found, deadline) = (BTreeMap::new(), Instant::now() + PATIENCE);
    while found.len() < wanted {
        assert!(Instant::now() < deadline, "only {} of {wanted} letters came", found.len());
        let Some(message) = consumer.poll(std::time::Duration::from_millis(100)) else { continue };
        let message = message.expect("a letter");
        let headers: BTreeMap<String, String> = message
            .headers()
            .expect("a letter has headers")
            .iter()
            .map(|header| {
                let value = String::from_utf8(header.value.unwrap_or_default().to_vec()).expect("headers are text");
                (header.key.trim_start_matches("__connect.errors.").to_owned(), value)
            })
            .collect();
        let letter = Letter {
            reason: headers["exception.class.name"].clone(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers,
        };
        found.insert(letter.headers["offset"].parse().expect("an offset"), letter);
    }
    found
}

fn get(address: &str, path: &str) -> String {
    let mut response = ureq::get(format!("http://{address}{path}")).call().expect("the worker serves");
    response.body_mut().read_to_string().expect("text")
}

/// Everything of `doses` goes through the program, among good events.
fn swallow(broker: &Broker, topic: &str, settings: &[String], doses: &[Dose], decoder: &str) {
    let mut flags = settings.to_vec();
    flags.extend([
        format!("kafka.brokers={}", broker.bootstrap()),
        format!("kafka.topic={topic}"),
        format!("kafka.group=group-of-{topic}"),
        format!("kafka.dead_letter_topic={topic}.dead"),
        "kafka.properties.message.max.bytes=20000000".to_owned(),
        "dead_letters.max_share=1".to_owned(),
        "model.dim=4".to_owned(),
        "train.batch=8".to_owned(),
        "evaluate.share=0".to_owned(),
        "checkpoint.dir=checkpoints".to_owned(),
    ]);
    let config = layers::load(None, std::iter::empty(), &flags).expect("a configuration");
    for topic in [topic, &config.kafka.dead_letter_topic] {
        admin::ensure_topic(&config.kafka, &config.kafka.brokers, topic).expect("a topic");
    }
    let encoder = registry::encoder(&config.source, topic).expect("an encoder");
    let mut producer = EventProducer::open(&config.kafka, &config.kafka.brokers, encoder).expect("a producer");
    let mut expected_items = BTreeSet::new();
    let mut expected_letters = BTreeMap::new();
    let mut offset = 0_u64;
    for (number, (payload, outcome)) in doses.iter().enumerate() {
        let good = format!("good {number}");
        producer.send(&event(&good)).expect("it is sent");
        producer.send_bytes(b"key\xff", payload).expect("it is sent");
        expected_items.insert(good);
        match outcome {
            Ok(item) => drop(expected_items.insert(item.clone())),
            Err(reason) => drop(expected_letters.insert(offset + 1, (*reason, payload))),
        }
        offset += 2;
    }
    producer.flush(PATIENCE).expect("all is sent");

    let place = Place::new();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut command = place.negstream(&["run"]);
    set(&mut command, &[&flags[..], &["http.listen=127.0.0.1:0"]].concat());
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: Value = serde_json::from_str(&get(&address, "/status")).expect("the status is JSON");
        if status["events"]["read"].as_u64() == Some(offset) {
            break;
        }
        assert!(Instant::now() < deadline, "it is never read: {status}");
        std::thread::yield_now();
    }
    for path in ["/", "/metrics"] {
        let shown = get(&address, path);
        assert!(!shown.contains("alert(1)") && !shown.contains('\u{1b}') && !shown.contains("etc/passwd"), "{path}");
    }
    worker.terminate();
    let said = worker.end().ended(0);
    let drives = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!said.err.contains(drives), "{:?}", said.err);

    // What the signal left unfinished.
    let mut command = place.negstream(&["run", "--until-end", "--json"]);
    set(&mut command, &flags);
    let report = run(&mut command).ended(0).json();
    assert_eq!(report["events"]["read"].as_u64(), Some(offset), "{report}");
    assert_eq!(report["events"]["rejected"].as_u64(), Some(expected_letters.len() as u64), "{report}");

    let file = std::fs::File::open(place.newest("checkpoints").join("items.parquet")).expect("items");
    let mut items = BTreeSet::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()).expect("Parquet") {
        let batch = batch.expect("rows");
        items.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        let vectors = batch.column(1).as_fixed_size_list().values().clone();
        let vectors = vectors.as_primitive::<arrow_array::types::Float32Type>();
        assert!(vectors.values().iter().all(|number| number.is_finite()), "the tables stay finite");
    }
    assert_eq!(items, expected_items);

    let found = letters(&config, expected_letters.len());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected_letters.keys().collect::<Vec<_>>());
    for (offset, (reason, payload)) in expected_letters {
        let letter = &found[&offset];
        let detail = &letter.headers["exception.message"];
        assert_eq!(letter.reason, reason.name(), "{offset}: {detail}");
        assert_eq!(letter.key.as_deref(), Some(&b"key\xff"[..]));
        assert!(letter.payload.as_deref().unwrap_or_default() == payload.as_slice(), "{offset}: the original bytes");
        assert_eq!((letter.headers["topic"].as_str(), letter.headers["partition"].as_str()), (topic, "0"));
        assert_eq!(letter.headers["class.name"], decoder);
        assert!(!detail.contains(char::is_control) && detail.len() < 1_000, "{detail:?}");
    }
}

fn broker() -> Option<Broker> {
    Broker::start_with("message.max.bytes=20000000\nreplica.fetch.max.bytes=20000000\n")
}

/// An encoder of plain records.
fn encoder(format: &str) -> impl Fn(&Interaction) -> Vec<u8> {
    let flags = [format!("source.format={format}")];
    let config = layers::load(None, std::iter::empty(), &flags).expect("a configuration");
    let encoder = registry::encoder(&config.source, "unused").expect("an encoder");
    move |event| encoder.encode(event).expect("there is room for it")
}

#[test]
fn poison_in_every_format_is_dead_lettered_or_trained() {
    let Some(broker) = broker() else { return };
    swallow(&broker, "poison-json", &[], &json(&encoder("json")), "negstream::decode::json");
    for format in ["avro", "protobuf"] {
        let settings = [format!("source.format={format}")];
        let doses = binary(&encoder(format), 0);
        swallow(&broker, &format!("poison-{format}"), &settings, &doses, &format!("negstream::decode::{format}"));
    }
}

#[test]
fn poison_in_frames_is_dead_lettered_or_trained() {
    let Some(broker) = broker() else { return };
    for (format, kind, other) in [("avro", "AVRO", "PROTOBUF"), ("protobuf", "PROTOBUF", "AVRO")] {
        let registry = StubRegistry::start();
        let settings = [format!("source.format={format}"), format!("source.registry.url={}", registry.url())];
        let topic = format!("poison-framed-{format}");
        let config = layers::load(None, std::iter::empty(), &settings).expect("a configuration");
        let encoder = registry::encoder(&config.source, &topic).expect("an encoder");
        registry.add(0x63, kind, "{]", &[]);
        registry.add(0x62, other, "{]", &[]);
        let encode = |event: &Interaction| encoder.encode(event).expect("there is room for it");
        let good = encode(&event("good"));
        let frame = if format == "avro" { 5 } else { 6 };
        // What is in no frame is told apart as such.
        let mut doses: Vec<Dose> = binary(&encode, frame)
            .into_iter()
            .map(|(payload, outcome)| match payload.first() {
                Some(0) | None => (payload, outcome),
                Some(_) => (payload, Err(Reason::InvalidFrame)),
            })
            .collect();
        doses.extend(frames(&good));
        swallow(&broker, &topic, &settings, &doses, &format!("negstream::decode::{format}"));
    }
}
