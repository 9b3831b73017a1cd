//! SchemaResolver from files and from a registry in every mood, and that no record is lost for its sake.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use negstream::config::{Config, Format, layers};
use negstream::decode::{EventDecoder, EventEncoder};
use negstream::event::{Interaction, Reason, Rejection};
use negstream::kafka::producer::EventProducer;
use negstream::position::{Ownerships, Positions};
use negstream::registry::{self, RegistrySetupError};
use negstream::source::kafka::{ResumeState, TopicConnection, Until};
use negstream::source::{EventSource, PollStatus};

use crate::kafka_source::{Cluster, PATIENCE, event, read_to_end};
use crate::stub_registry::{Mood, StubRegistry};
use crate::support::{Place, negstream, run};

const AVRO: &str = include_str!("../../schemas/interaction.avsc");
const PROTOBUF: &str = include_str!("../../schemas/interaction.proto");

fn configured(registry: &StubRegistry, more: &[&str]) -> Config {
    let mut flags: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
    flags.push(format!("source.registry.url={}", registry.url()));
    flags.push("source.registry.timeout_ms=300".to_owned());
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

/// Decodes as soon as that is possible.
fn decode(decoder: &mut EventDecoder, record: &[u8]) -> Result<Interaction, Rejection> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(outcome) = decoder.decode(Some(b"k"), Some(record)) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "it is never decoded");
    }
}

/// What the producer of `config` writes.
fn encoder(config: &Config) -> EventEncoder {
    registry::encoder(&config.source, "clicks").unwrap()
}

#[test]
fn decoder_waits_for_a_registry_in_trouble() {
    for format in ["avro", "protobuf"] {
        let registry = StubRegistry::start();
        let config = configured(&registry, &[&format!("source.format={format}")]);
        let record = encoder(&config).encode(&event(1)).unwrap();
        for mood in [
            Mood::Down,
            Mood::Silent,
            Mood::Says(500, r#"{"error_code":50001,"message":"store"}"#),
            Mood::Says(404, "<html>some other server</html>"),
            Mood::Says(404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
            Mood::Says(401, "who are you?"),
            Mood::Says(429, "later"),
            Mood::Says(200, "<html>log in</html>"),
            Mood::Says(200, "{}"),
        ] {
            let mut decoder = registry::decoder(&config.source).unwrap();
            registry.mood(mood.clone());
            let before = registry.requests().len();
            for _ in 0..4 {
                assert_eq!(decoder.decode(None, Some(&record)), None, "{mood:?}");
            }
            let asked = registry.requests().len() - before;
            // It is asked again, but not as often as we would like to know.
            assert!((1..=4).contains(&asked), "{mood:?}: {asked}");
            registry.mood(Mood::Well);
            assert_eq!(decode(&mut decoder, &record), Ok(event(1)), "{mood:?}");
            let asked = registry.requests().len();
            assert_eq!(decode(&mut decoder, &record), Ok(event(1)));
            assert_eq!(registry.requests().len(), asked, "from now on it is at hand");
        }
    }
}

#[test]
fn decoder_waits_for_an_unreachable_registry() {
    let registry = StubRegistry::start();
    let mut config = configured(&registry, &["source.format=avro"]);
    let record = encoder(&config).encode(&event(1)).unwrap();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.source.registry.url = format!("http://{free}");
    let mut decoder = registry::decoder(&config.source).unwrap();
    for _ in 0..3 {
        assert_eq!(decoder.decode(None, Some(&record)), None);
    }
    let error = registry::encoder(&config.source, "clicks").unwrap_err();
    assert!(matches!(error, RegistrySetupError::Register { .. }), "{error}");
}

#[test]
fn unknown_schema_is_rejected() {
    let registry = StubRegistry::start();
    registry.add(1, "", AVRO, &[]);
    registry.add(2, "PROTOBUF", PROTOBUF, &[]);
    registry.add(3, "", "{]", &[]);
    registry.add(4, "", AVRO, &["nowhere"]);
    let mut decoder = registry::decoder(&configured(&registry, &["source.format=avro"]).source).unwrap();
    for (id, detail) in [
        (2_u32, "schema 2: it is of the type \"PROTOBUF\", not AVRO"),
        (3, "schema 3: it is not JSON: "),
        (4, "schema 4: it refers to version 1 of \"nowhere\", which the registry does not have"),
        (5, "schema 5: the registry has none of that number"),
        (u32::MAX, "schema 4294967295: no registry has a number as high"),
    ] {
        let record = [&[0][..], &id.to_be_bytes(), b"rest"].concat();
        for _ in 0..3 {
            let rejection = decode(&mut decoder, &record).unwrap_err();
            assert!(rejection.detail.starts_with(detail), "{}", rejection.detail);
            assert_eq!((rejection.reason, &rejection.payload), (Reason::UnknownSchema, &record));
        }
    }
    let asked: Vec<String> = registry.requests();
    let once = ["GET /schemas/ids/2", "GET /schemas/ids/3", "GET /schemas/ids/4", "GET /subjects/nowhere/versions/1"];
    assert_eq!(asked, [&once[..], &["GET /schemas/ids/5"]].concat(), "each is asked for once");
}

#[test]
fn schema_references_are_fetched() {
    let registry = StubRegistry::start();
    let kind = r#"{"type":"enum","name":"shop.Kind","symbols":["view","buy"]}"#;
    let wrapped = r#"{"type":"record","name":"shop.Wrapped","fields":[{"name":"kind","type":"shop.Kind"}]}"#;
    registry.add_version("kind", "", kind, &[]);
    registry.add_version("wrapped", "", wrapped, &["kind"]);
    let fields =
        r#"{"name":"user_id","type":"int"},{"name":"item_id","type":"int"},{"name":"timestamp","type":"long"}"#;
    let schema = format!(
        r#"{{"type":"record","name":"shop.R","fields":[{fields},{{"name":"x","type":"Wrapped"}},{{"name":"event_type","type":"Kind"}}]}}"#
    );
    registry.add(8, "AVRO", &schema, &["wrapped", "kind"]);
    let config = configured(&registry, &["source.format=avro", "source.earliest_year=1970"]);
    let mut decoder = registry::decoder(&config.source).unwrap();
    let event = decode(&mut decoder, &[0, 0, 0, 0, 8, 2, 4, 6, 0, 2]).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str(), event.timestamp, event.kind.as_str()), ("1", "2", 3, "buy"));
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.requests());

    registry.add_version("kind", "PROTOBUF", "package shop; enum Kind { VIEW = 0; BUY = 1; }", &[]);
    let message = r#"syntax = "proto3"; package shop.v1; import "kind";
        message Other {} message R { int32 user_id = 1; int32 item_id = 2; int64 timestamp = 3; Kind event_type = 4; }"#;
    registry.add(9, "PROTOBUF", message, &["kind"]);
    let config = configured(&registry, &["source.format=protobuf", "source.earliest_year=1970"]);
    let mut decoder = registry::decoder(&config.source).unwrap();
    let event = decode(&mut decoder, &[0, 0, 0, 0, 9, 2, 2, 8, 1, 16, 2, 24, 3, 32, 1]).unwrap();
    assert_eq!((event.user.as_str(), event.kind.as_str()), ("1", "BUY"));
}

#[test]
fn registry_credentials_are_sent_and_not_shown() {
    let registry = StubRegistry::start();
    let flags = ["source.format=protobuf", "source.registry.user=ada", "source.registry.password=hunter2"];
    let config = configured(&registry, &flags);
    let record = encoder(&config).encode(&event(1)).unwrap();
    let mut decoder = registry::decoder(&config.source).unwrap();
    assert_eq!(decode(&mut decoder, &record), Ok(event(1)));
    let basic = "Basic YWRhOmh1bnRlcjI=";
    let expected = [format!("POST /subjects/clicks-value/versions {basic}"), format!("GET /schemas/ids/1 {basic}")];
    assert_eq!(registry.requests(), expected);
    assert!(!format!("{config:?}").contains("hunter2"));

    let mut command = negstream();
    command.args(["config", "check", "--set", "source.registry.url=http://r:1", "--set", "source.registry.user=ada"]);
    let said = run(command.env("NEGSTREAM__SOURCE__REGISTRY__PASSWORD", "hunter2")).ended(0);
    assert!(said.out.contains("password = \"(not shown)\"") && !(said.out + &said.err).contains("hunter2"));
    let place = Place::new();
    std::fs::write(place.path("worker.toml"), "source.registry.password = 314159\n").unwrap();
    let said = run(negstream().args(["config", "check", "-c"]).arg(place.path("worker.toml"))).ended(2);
    assert!(!said.names(&["source.registry.password", "must be text"]).err.contains("314159"));
    let said =
        run(negstream().args(["config", "check", "--set", "source.registry.url=http://ada:hunter2@r:1"])).ended(2);
    assert!(!said.names(&["source.registry.url"]).err.contains("hunter2"));
}

#[test]
fn source_loses_nothing_while_the_registry_is_away() {
    for (format, topic) in [("avro", "registry-avro"), ("protobuf", "registry-protobuf"), ("json", "registry-json")] {
        let cluster = Cluster::embedded();
        let kafka = cluster.topic(topic, 2);
        let registry = StubRegistry::start();
        let config = configured(&registry, &[&format!("source.format={format}")]);
        let encoder = registry::encoder(&config.source, topic).unwrap();
        let mut producer = EventProducer::open(&kafka, &kafka.brokers, encoder).unwrap();
        for number in 0..500 {
            if number % 100 == 50 {
                // A schema that nobody knows, and a record in no frame.
                producer.send_bytes(b"k", b"\x00\x00\x00\x00\x63rest").unwrap();
                producer.send_bytes(b"k", b"{}").unwrap();
            }
            producer.send(&event(number)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();

        let decoder = registry::decoder(&config.source).unwrap();
        let connection = TopicConnection::open(&kafka, &kafka.brokers, &AtomicBool::new(false)).unwrap();
        let known = ResumeState { positions: &Positions::default(), ownerships: &Ownerships::default() };
        let mut source = connection.into_source(decoder, known, Until::End).unwrap();
        let mut records = Vec::new();
        if config.source.format != Format::Json {
            registry.mood(Mood::Down);
            let asked = registry.requests().len();
            while registry.requests().len() < asked + 4 {
                // What needs no schema goes its way.
                assert_ne!(source.poll(&mut records).unwrap(), PollStatus::End);
                assert!(records.iter().all(|record| record.outcome.is_err()));
            }
            registry.mood(Mood::Well);
        }
        records.extend(read_to_end(&mut source));
        let mut items: Vec<_> = records.iter().filter_map(|record| record.outcome.as_ref().ok()).collect();
        items.sort_by_key(|event| event.timestamp);
        let expected: Vec<_> = (0..500).map(event).collect();
        assert!(items.into_iter().eq(expected.iter()), "{format}: every event once");
        let rejected = |reason| {
            let rejections = records.iter().filter_map(|record| record.outcome.as_ref().err());
            rejections.filter(|rejection| rejection.reason == reason).count()
        };
        let unknown = if config.source.format == Format::Json { Reason::Unparsable } else { Reason::UnknownSchema };
        assert_eq!((rejected(unknown), rejected(Reason::InvalidFrame)), (5, 5), "{format}");
        for partition in 0..2_u32 {
            let offsets = records.iter().filter(|record| record.stream == partition).map(|record| record.offset);
            assert!(offsets.enumerate().all(|(expected, offset)| offset == expected as u64), "{format}: in order");
        }
    }
}

#[test]
fn schema_file_is_read_and_its_faults_named() {
    let place = Place::new();
    std::fs::write(place.path("own.avsc"), AVRO).unwrap();
    std::fs::write(place.path("own.proto"), PROTOBUF).unwrap();
    std::fs::write(place.path("none.proto"), "message {").unwrap();
    let at = |file: &str, format: &str| {
        let schema = format!("source.schema={}", place.path(file).display());
        layers::load(None, std::iter::empty(), &[schema, format!("source.format={format}")]).unwrap().source
    };
    for (file, format) in [("own.avsc", "avro"), ("own.proto", "protobuf")] {
        let source = at(file, format);
        let record = registry::encoder(&source, "any").unwrap().encode(&event(3)).unwrap();
        assert_eq!(registry::decoder(&source).unwrap().decode(None, Some(&record)), Some(Ok(event(3))));
    }
    for (file, format, words) in [
        ("nowhere.avsc", "avro", "cannot read 'source.schema' "),
        ("own.proto", "avro", "own.proto: it is not JSON: "),
        ("none.proto", "protobuf", "none.proto: line 1: expected an identifier, but found '{'"),
    ] {
        let error = registry::decoder(&at(file, format)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let mut command =
            place.negstream(&["run", "--set", "kafka.brokers=embedded", "--set", &format!("source.format={format}")]);
        run(command.args(["--set", &format!("source.schema={file}")])).ended(2).names(&[words]);
    }
    let mut source = at("own.proto", "protobuf");
    source.message = "Purchase".to_owned();
    let error = registry::decoder(&source).unwrap_err().to_string();
    assert!(error.ends_with("own.proto: there is no message \"Purchase\" (source.message)"), "{error}");
}
