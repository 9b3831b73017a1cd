//! What is run on changed bytes.

use std::cell::RefCell;

use negstream::checkpoint::manifest::Manifest;
use negstream::config::{Config, Format, SourceConfig, layers};
use negstream::decode::{EventDecoder, EventEncoder, SchemaId, SchemaLookup, SchemaResolver, SchemaText};
use negstream::position::Positions;
use negstream::source::parquet::{ColumnSelection, LogOptions, ParquetLogs};
use negstream::source::{EventSource, PollStatus};
use negstream::util::encoding::sha256;
use serde_json::Value;

const OTHER_AVRO: &str = include_str!("../corpus/avro-schema/other.avsc");
const OTHER_PROTOBUF: &str = include_str!("../corpus/protobuf-schema/other.proto");

fn source(format: Format) -> SourceConfig {
    let Config { mut source, .. } = Config::default();
    source.format = format;
    source
}

fn text(text: &str) -> SchemaText {
    SchemaText { text: text.to_owned(), references: Vec::new(), origin: "here".to_owned() }
}

/// Decodes as each of the decoders does; an event keeps the bounds.
fn decodes(decoders: Vec<EventDecoder>) -> impl Fn(&[u8]) {
    let decoders = RefCell::new(decoders);
    move |record: &[u8]| {
        for decoder in decoders.borrow_mut().iter_mut() {
            let limits = decoder.limits;
            match decoder.decode(None, Some(record)) {
                Some(Ok(event)) => assert_eq!(limits.check(&event), Ok(())),
                Some(Err(rejection)) => {
                    assert_eq!(rejection.payload, record);
                    assert!(!rejection.detail.contains(char::is_control), "{:?}", rejection.detail);
                    assert!(rejection.detail.len() < 2_000, "{}", rejection.detail);
                }
                None => panic!("every schema is known"),
            }
        }
    }
}

/// Knows two schemas.
#[derive(Debug)]
struct Two(Format);

impl SchemaResolver for Two {
    fn schema(&mut self, id: SchemaId) -> SchemaLookup {
        match (id, self.0) {
            (1, format) => SchemaLookup::Found(SchemaText::built_in(format)),
            (2, Format::Avro) => SchemaLookup::Found(text(OTHER_AVRO)),
            (2, _) => SchemaLookup::Found(text(OTHER_PROTOBUF)),
            _ => SchemaLookup::Unknown("no".to_owned()),
        }
    }
}

fn plain(format: Format, other: &str) -> Vec<EventDecoder> {
    let source = source(format);
    let with = |schema: &SchemaText| EventDecoder::new(&source, schema, None).expect("a schema");
    vec![with(&SchemaText::built_in(format)), with(&text(other))]
}

fn framed(format: Format) -> Vec<EventDecoder> {
    let built_in = SchemaText::built_in(format);
    vec![EventDecoder::new(&source(format), &built_in, Some(Box::new(Two(format)))).expect("a schema")]
}

pub fn json() -> impl Fn(&[u8]) {
    decodes(vec![
        EventDecoder::new(&source(Format::Json), &SchemaText::built_in(Format::Json), None).expect("no schema"),
    ])
}

pub fn avro() -> impl Fn(&[u8]) {
    decodes(plain(Format::Avro, OTHER_AVRO))
}

pub fn avro_framed() -> impl Fn(&[u8]) {
    decodes(framed(Format::Avro))
}

pub fn protobuf() -> impl Fn(&[u8]) {
    decodes(plain(Format::Protobuf, OTHER_PROTOBUF))
}

pub fn protobuf_framed() -> impl Fn(&[u8]) {
    decodes(framed(Format::Protobuf))
}

/// Reads a schema; one that can be read by is read by, one that can be written by is written by.
fn schemas(format: Format) -> impl Fn(&[u8]) {
    let source = source(format);
    let whole = SchemaText::built_in(format);
    let writer = EventEncoder::new(&source, &whole, None).expect("a schema");
    let json =
        br#"{"user_id":"17","item_id":"2","timestamp":1700000000003,"event_type":"view","value":1,"features":["4"]}"#;
    let reading = self::source(Format::Json);
    let mut reader = EventDecoder::new(&reading, &SchemaText::built_in(Format::Json), None).expect("no schema");
    let event = reader.decode(None, Some(json)).expect("at once").expect("an event");
    let record = writer.encode(&event).expect("there is room for it");
    move |bytes: &[u8]| {
        let text = text(&String::from_utf8_lossy(bytes));
        if let Ok(mut decoder) = EventDecoder::new(&source, &text, None) {
            for record in [&record[..], &[0; 100], &[2; 100], &[0xff; 100]] {
                assert!(decoder.decode(None, Some(record)).is_some());
            }
            if let Ok(Ok(written)) = EventEncoder::new(&source, &text, None).map(|encoder| encoder.encode(&event)) {
                assert!(decoder.decode(None, Some(&written)).is_some());
            }
        }
    }
}

pub fn avro_schema() -> impl Fn(&[u8]) {
    schemas(Format::Avro)
}

pub fn protobuf_schema() -> impl Fn(&[u8]) {
    schemas(Format::Protobuf)
}

pub fn config() -> impl Fn(&[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    move |bytes: &[u8]| {
        let path = folder.path().join("worker.toml");
        std::fs::write(&path, bytes).expect("a writable folder");
        loaded(layers::load(Some(&path), std::iter::empty(), &[]));
    }
}

/// Each line as a flag, and as a variable of the environment.
pub fn set() -> impl Fn(&[u8]) {
    |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            loaded(layers::load(None, std::iter::empty(), &[line.to_owned()]));
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let name = format!("NEGSTREAM__{}", key.to_uppercase().replace('.', "__"));
            loaded(layers::load(None, [(name, value.to_owned())].into_iter(), &[]));
        }
    }
}

/// A configuration that was taken can be shown, and is taken again.
fn loaded(outcome: Result<Config, layers::ConfigError>) {
    match outcome {
        Ok(config) => {
            assert!(
                layers::to_redacted_toml(&config).expect("a configuration can be shown").parse::<toml::Table>().is_ok()
            )
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A whole log in Parquet, read to its end or its first fault.
pub fn parquet() -> impl Fn(&[u8]) {
    log("log.parquet")
}

/// A whole log in text, whose name says nothing of its format.
pub fn text_log() -> impl Fn(&[u8]) {
    log("log.of-any-kind")
}

fn log(name: &'static str) -> impl Fn(&[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Config { source, .. } = Config::default();
    move |bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a writable folder");
        let options = LogOptions::selecting(&source, ColumnSelection::All);
        let log = path.to_str().expect("a path in Unicode").to_owned();
        let opened = ParquetLogs::open(&[log], options, &Positions::default());
        let named = |error: &dyn std::fmt::Display| assert!(error.to_string().contains(name), "{error}");
        let mut logs = match opened {
            Ok(logs) => logs,
            Err(error) => return named(&error),
        };
        if let Err(error) = logs.count_kinds(&["click".to_owned()]) {
            named(&error);
        }
        let mut block = Vec::new();
        loop {
            match logs.poll(&mut block) {
                Ok(PollStatus::End) => break,
                Ok(_) => block.clear(),
                Err(error) => return named(&error),
            }
        }
    }
}

pub fn manifest() -> impl Fn(&[u8]) {
    |bytes: &[u8]| {
        let taken = Manifest::from_text(bytes);
        // With a checksum that fits, what is in it is looked at too.
        if let (Err(_), Ok(Value::Object(mut changed))) = (taken, serde_json::from_slice::<Value>(bytes)) {
            changed.shift_remove("manifest_sha256");
            let sum = sha256(Value::Object(changed.clone()).to_string().as_bytes());
            changed.insert("manifest_sha256".to_owned(), Value::from(sum));
            let _ = Manifest::from_text(Value::Object(changed).to_string().as_bytes());
        }
    }
}
