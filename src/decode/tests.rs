//! All formats side by side: what one takes the others take, and every fault keeps the record's bytes.

use compact_str::CompactString;
use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn decoder() -> EventDecoder {
    let source = Config::default().source;
    EventDecoder::new(&source, &SchemaText::built_in(source.format), None).unwrap()
}

/// How fields are read.
pub(super) fn names() -> FieldRules {
    FieldRules::new(&Config::default().source)
}

/// The same, with other names for some fields, by their keys.
pub(super) fn named(others: &[(&str, &str)]) -> FieldRules {
    let mut source = Config::default().source;
    let mut fields = serde_json::to_value(&source.fields).unwrap();
    for (key, name) in others {
        fields[key] = serde_json::Value::from(*name);
    }
    source.fields = serde_json::from_value(fields).unwrap();
    FieldRules::new(&source)
}

/// Bytes by their digits.
pub(super) fn bytes(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len()).step_by(2).map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap()).collect()
}

/// The event in the golden bytes.
pub(super) fn own_event() -> Interaction {
    Interaction {
        user: "u\"1é".into(),
        item: "🦀".into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_123,
        session: Some("".into()),
        value: Some(-2.5),
        features: vec!["a".into(), "7".into()],
    }
}

#[test]
fn limits_end_with_the_latest_year() {
    let mut source = Config::default().source;
    assert_eq!(limits(&source).start_of_time, 365 * 86_400_000);
    source.latest_year = 1970;
    assert_eq!(limits(&source).end_of_time, 365 * 86_400_000);
    source.latest_year = u16::MAX;
    assert!(limits(&source).end_of_time > 0);
}

#[test]
fn rejection_carries_key_and_bytes() {
    let rejection = decoder().decode(Some(b"k\xff"), Some(b"{nonsense")).unwrap().unwrap_err();
    assert_eq!(rejection.reason, Reason::Unparsable);
    assert_eq!(rejection.key.as_deref(), Some(&b"k\xff"[..]));
    assert_eq!(rejection.payload, b"{nonsense");
}

#[test]
fn null_and_empty_payloads_are_unparsable() {
    for payload in [None, Some(&b""[..])] {
        let rejection = decoder().decode(None, payload).unwrap().unwrap_err();
        assert_eq!((rejection.reason, rejection.detail.as_str()), (Reason::Unparsable, "empty record"));
        assert_eq!(rejection.key, None);
    }
}

#[test]
fn limits_are_checked() {
    let long = "x".repeat(1025);
    for (record, reason) in [
        (r#"{"user_id":"","item_id":"i","timestamp":1}"#.to_owned(), Reason::EmptyId),
        (format!(r#"{{"user_id":"{long}","item_id":"i","timestamp":1}}"#), Reason::IdTooLong),
        (r#"{"user_id":"u","item_id":"i","timestamp":1}"#.to_owned(), Reason::TimestampOutOfRange),
        (r#"{"user_id":"u","item_id":"i","timestamp":-1}"#.to_owned(), Reason::TimestampOutOfRange),
        (r#"{"user_id":"u","item_id":"i","timestamp":"9999-01-01T00:00:00Z"}"#.to_owned(), Reason::TimestampOutOfRange),
        (r#"{"user_id":"u","item_id":"i","timestamp":18446744073709551615}"#.to_owned(), Reason::TimestampOutOfRange),
    ] {
        assert_eq!(decoder().decode(None, Some(record.as_bytes())).unwrap().unwrap_err().reason, reason, "{record}");
    }
}

/// Texts of every kind.
fn text() -> impl Strategy<Value = CompactString> {
    prop_oneof![
        any::<String>(),
        "[\u{0}-\u{1f}\"\\\\/\u{7f}-\u{9f}]{1,12}",
        "(🦀|é|\u{202e}|\u{feff}|\u{2028}|</script>|\\{|:){1,6}",
        Just("null".to_owned()),
    ]
    .prop_map(CompactString::from)
}

/// Any interaction, whether or not it keeps the bounds.
pub(super) fn interaction() -> impl Strategy<Value = Interaction> {
    (
        text(),
        text(),
        text(),
        any::<i64>(),
        proptest::option::of(text()),
        proptest::option::of(any::<f64>().prop_filter("finite", |value| value.is_finite())),
        proptest::collection::vec(text(), 0..4),
    )
        .prop_map(|(user, item, kind, timestamp, session, value, features)| Interaction {
            user,
            item,
            kind,
            timestamp,
            session,
            value,
            features,
        })
}

/// The default with another format.
fn source(format: Format) -> SourceConfig {
    let Config { mut source, .. } = Config::default();
    source.format = format;
    source
}

/// A registry with one schema for each number below 3, that answers only every other time.
#[derive(Debug)]
struct Stub(Format, bool);

impl SchemaResolver for Stub {
    fn schema(&mut self, id: SchemaId) -> SchemaLookup {
        self.1 = !self.1;
        match id {
            _ if self.1 => SchemaLookup::NotYet,
            0..3 => SchemaLookup::Found(SchemaText::built_in(self.0)),
            3 => SchemaLookup::Found(SchemaText { text: "{]".to_owned(), ..SchemaText::built_in(self.0) }),
            _ => SchemaLookup::Unknown("never heard of it".to_owned()),
        }
    }
}

const FORMATS: &[Format] = if cfg!(feature = "protobuf") {
    &[Format::Json, Format::Avro, Format::Protobuf]
} else {
    &[Format::Json, Format::Avro]
};

#[test]
fn configured_event_type_is_that_of_every_event_whatever_its_record_says() {
    for &format in FORMATS {
        let (records, schema) = (source(format), SchemaText::built_in(format));
        let views = SourceConfig { event_type: "view".to_owned(), ..records.clone() };
        let decoder = |source: &SourceConfig| EventDecoder::new(source, &schema, None).unwrap();
        let (mut plain, mut typed) = (decoder(&records), decoder(&views));
        for kind in ["click", ""] {
            let event = Interaction { kind: kind.into(), ..own_event() };
            let bytes = EventEncoder::new(&records, &schema, None).unwrap().encode(&event).unwrap();
            let kind_by = |decoder: &mut EventDecoder| decoder.decode(None, Some(&bytes)).unwrap().unwrap().kind;
            assert_eq!((kind_by(&mut plain).as_str(), kind_by(&mut typed).as_str()), (kind, "view"), "{format:?}");
        }
    }
    let views = SourceConfig { event_type: "view".to_owned(), ..source(Format::Json) };
    let mut decoder = EventDecoder::new(&views, &SchemaText::built_in(Format::Json), None).unwrap();
    let record = br#"{"user_id":"u","item_id":"i","event_type":["no","text"],"timestamp":1700000000000}"#;
    assert_eq!(decoder.decode(None, Some(record)).unwrap().unwrap().kind, "view");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn event_is_the_same_in_every_format_plain_and_framed(event in interaction()) {
        for &format in FORMATS {
            let (source, schema) = (source(format), SchemaText::built_in(format));
            // The bounds are not what is tested here.
            let within = limits(&source).check(&event).is_ok();
            let mut plain = EventDecoder::new(&source, &schema, None).unwrap();
            let bytes = EventEncoder::new(&source, &schema, None).unwrap().encode(&event).unwrap();
            let outcome = plain.decode(None, Some(&bytes)).unwrap();
            prop_assert_eq!(outcome.is_ok(), within, "{:?}", outcome);
            let mut framed = EventDecoder::new(&source, &schema, Some(Box::new(Stub(format, true)))).unwrap();
            let framed_bytes = EventEncoder::new(&source, &schema, Some(2)).unwrap().encode(&event).unwrap();
            let again = framed.decode(None, Some(&framed_bytes)).unwrap();
            match (outcome, again) {
                (Ok(plain), Ok(framed)) => prop_assert!(plain == event && framed == event),
                (Err(plain), Err(framed)) => {
                    prop_assert_eq!((plain.reason, plain.detail), (framed.reason, framed.detail));
                    prop_assert_eq!((plain.payload, framed.payload), (bytes, framed_bytes));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

/// A record of these texts in their order, as each format writes it.
fn record_of_texts(format: Format, fields: [(&str, &str); 3]) -> Vec<u8> {
    match format {
        Format::Json => fields.into_iter().collect::<serde_json::Value>().to_string().into_bytes(),
        Format::Avro => {
            fields.iter().flat_map(|(_, text)| [&[text.len() as u8 * 2], text.as_bytes()].concat()).collect()
        }
        Format::Protobuf => {
            let field = |(number, (_, text)): (u8, &(&str, &str))| {
                [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat()
            };
            (1..).zip(&fields).flat_map(field).collect()
        }
    }
}

#[test]
fn times_without_a_zone_are_those_of_the_configured_one_in_every_format() {
    let text_of = |format| match format {
        Format::Json => String::new(),
        Format::Avro => r#"{"type":"record","name":"R","fields":[{"name":"user_id","type":"string"},
            {"name":"item_id","type":"string"},{"name":"timestamp","type":"string"}]}"#
            .to_owned(),
        Format::Protobuf => {
            "syntax = \"proto3\"; message M { string user_id = 1; string item_id = 2; string timestamp = 3; }"
                .to_owned()
        }
    };
    // Summer, the hour that comes twice, winter, the hour that is left out, and a date.
    for (time, moment) in [
        ("2026-07-01T12:00:00", 1_782_900_000_000),
        ("2026-10-25T02:30:00", 1_792_888_200_000),
        ("2026-10-25T03:30:00", 1_792_895_400_000),
        ("2026-03-29T02:30:00", 1_774_747_800_000),
        ("2026-01-01", 1_767_222_000_000),
    ] {
        for &format in FORMATS {
            let source = SourceConfig { timezone: "Europe/Berlin".to_owned(), ..source(format) };
            let schema = SchemaText { text: text_of(format), ..SchemaText::built_in(format) };
            let record = record_of_texts(format, [("user_id", "u"), ("item_id", "i"), ("timestamp", time)]);
            let event =
                EventDecoder::new(&source, &schema, None).unwrap().decode(None, Some(&record)).unwrap().unwrap();
            assert_eq!(event.timestamp, moment, "{time} in {format:?}");
        }
    }
}

#[test]
fn decoder_looks_up_a_pending_schema_again() {
    for &format in FORMATS.iter().filter(|format| **format != Format::Json) {
        let schema = SchemaText::built_in(format);
        let mut decoder = EventDecoder::new(&source(format), &schema, Some(Box::new(Stub(format, false)))).unwrap();
        let encoder = EventEncoder::new(&source(format), &schema, Some(1)).unwrap();
        let json = br#"{"user_id":"u","item_id":"i","timestamp":1700000000000}"#;
        let event = self::decoder().decode(None, Some(json)).unwrap().unwrap();
        let record = encoder.encode(&event).unwrap();
        assert_eq!(decoder.decode(None, Some(&record)), None);
        assert_eq!(decoder.decode(None, Some(&record)), Some(Ok(event.clone())));
        // From now on it is at hand.
        assert_eq!(decoder.decode(None, Some(&record)), Some(Ok(event)));
    }
}

#[test]
fn unknown_schemas_and_invalid_frames_are_rejected() {
    for &format in FORMATS {
        let schema = SchemaText::built_in(format);
        let decode = |record: &[u8]| {
            let mut decoder = EventDecoder::new(&source(format), &schema, Some(Box::new(Stub(format, true)))).unwrap();
            let rejection = decoder.decode(Some(b"k"), Some(record)).unwrap().unwrap_err();
            assert_eq!((rejection.key.as_deref(), &rejection.payload[..]), (Some(&b"k"[..]), record));
            (rejection.reason, rejection.detail)
        };
        assert_eq!(decode(b"{}").0, Reason::InvalidFrame);
        assert_eq!(decode(b"\x00\x00\x00").0, Reason::InvalidFrame);
        if format != Format::Json {
            let (reason, detail) = decode(b"\x00\x00\x00\x00\x09\x00");
            assert_eq!((reason, detail.as_str()), (Reason::UnknownSchema, "schema 9: never heard of it"));
            let (reason, detail) = decode(b"\x00\x00\x00\x00\x03\x00");
            assert!(reason == Reason::UnknownSchema && detail.starts_with("schema 3: "), "{detail}");
        }
    }
}

#[test]
#[cfg(feature = "protobuf")]
fn protobuf_frame_must_name_a_message_of_the_schema() {
    let framed = |record: &[u8]| {
        let (source, schema) = (source(Format::Protobuf), SchemaText::built_in(Format::Protobuf));
        let mut decoder = EventDecoder::new(&source, &schema, Some(Box::new(Stub(Format::Protobuf, true)))).unwrap();
        decoder.decode(None, Some(record)).unwrap().unwrap_err()
    };
    let rejection = framed(b"\x00\x00\x00\x00\x01\x02\x02");
    assert_eq!(rejection.reason, Reason::UnknownSchema);
    assert_eq!(rejection.detail, "the schema has no message at the places [1]");
    assert_eq!(framed(b"\x00\x00\x00\x00\x01\x04").reason, Reason::InvalidFrame);
}

#[test]
fn times_in_another_unit_are_named() {
    let told = |timestamp: &str, unit: &str| {
        let mut source = source(Format::Json);
        source.timestamp_unit = serde_json::from_value(unit.into()).unwrap();
        let mut decoder = EventDecoder::new(&source, &SchemaText::built_in(Format::Json), None).unwrap();
        let record = format!(r#"{{"user_id":"u","item_id":"i","timestamp":{timestamp}}}"#);
        decoder.decode(None, Some(record.as_bytes())).unwrap().map_err(|rejection| {
            assert_eq!(rejection.reason, Reason::TimestampOutOfRange);
            rejection.detail
        })
    };
    for (timestamp, unit, hint) in [
        ("1767225600", "ms", "a number of seconds would be 2026-01-01: source.timestamp_unit = \"s\"?"),
        ("1767225600.25", "ms", "a number of seconds would be 2026-01-01"),
        ("20454", "ms", "a number of days would be 2026-01-01: source.timestamp_unit = \"days\"?"),
        ("1767225600000000", "ms", "a number of microseconds would be 2026-01-01"),
        ("1767225600000000000", "ms", "a number of nanoseconds would be 2026-01-01"),
        ("1767225600000", "s", "a number of milliseconds would be 2026-01-01"),
        ("17", "ms", "(1970-01-01) is outside the believable range (source.earliest_year)"),
    ] {
        let detail = told(timestamp, unit).unwrap_err();
        assert!(detail.contains(hint), "{detail}");
    }
    for (timestamp, unit) in
        [("1767225600", "s"), ("20454", "days"), ("1767225600000000", "us"), ("1767225600", "auto")]
    {
        assert_eq!(told(timestamp, unit).unwrap().timestamp, 1_767_225_600_000, "{timestamp} {unit}");
    }
}

/// The same envelope in every format, by the same paths.
#[test]
fn fields_are_found_at_the_end_of_paths_in_every_format() {
    let paths =
        [("user_id", "payload.after.user_id"), ("item_id", "payload.after.item_id"), ("timestamp", "payload.ts_ms")];
    let rules = named(&paths);
    let json = br#"{"schema":{},"payload":{"before":null,"after":{"user_id":"u","item_id":7},"op":"c","ts_ms":1700000000000}}"#;
    let expected = json::decode(json, &rules).unwrap();
    assert_eq!((expected.user.as_str(), expected.item.as_str(), expected.timestamp), ("u", "7", 1_700_000_000_000));
    // One path is enough where all lies in the same record.
    let one = named(&[("user_id", "payload.after.user_id")]);
    let record = br#"{"payload":{"after":{"user_id":"u","item_id":7,"timestamp":1700000000000,"event_type":"buy"}}}"#;
    let event = json::decode(record, &one).unwrap();
    assert_eq!((event.item.as_str(), event.timestamp, event.kind.as_str()), ("7", 1_700_000_000_000, "buy"));
    // A deletion has nothing behind it.
    let deleted = br#"{"payload":{"before":{"user_id":"u"},"after":null,"ts_ms":1}}"#;
    assert_eq!(json::decode(deleted, &rules).unwrap_err().0, Reason::MissingField);
    // What has the whole path as its name wins over what the path leads to, wherever it stands.
    for record in [
        r#"{"payload.after.user_id":"whole","payload":{"after":{"user_id":"u","item_id":"i"},"ts_ms":1700000000000}}"#,
        r#"{"payload":{"after":{"user_id":"u","item_id":"i"},"ts_ms":1700000000000},"payload.after.user_id":"whole"}"#,
    ] {
        assert_eq!(json::decode(record.as_bytes(), &rules).unwrap().user, "whole", "{record}");
    }

    let avsc = r#"{"type":"record","name":"Envelope","fields":[{"name":"payload","type":["null",{"type":"record","name":"P","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Row","fields":[
            {"name":"user_id","type":"string"},{"name":"item_id","type":"long"}]}]},
        {"name":"after","type":["null","Row"]},{"name":"ts_ms","type":"long"}]}]}]}"#;
    let avro = avro::AvroSchema::parse(avsc, &[], &rules).unwrap();
    assert_eq!(avro::check(&avro, &rules), Ok(()));
    let bytes = avro::encode(&expected, &avro, &rules).unwrap();
    assert_eq!(avro::decode(&bytes, &avro, &rules), Ok(expected.clone()));
    #[cfg(feature = "protobuf")]
    {
        let proto = r#"syntax = "proto3"; message Envelope { P payload = 1; }
            message P { Row before = 1; Row after = 2; int64 ts_ms = 3; } message Row { string user_id = 1; int64 item_id = 2; }"#;
        let schema = protobuf::ProtobufSchema::parse(proto, &[], &rules).unwrap();
        let message = schema.at(&[0]).unwrap();
        assert_eq!(protobuf::check(message), Ok(()));
        let bytes = protobuf::encode(&expected, &schema, message).unwrap();
        assert_eq!(protobuf::decode(&bytes, &schema, message, &rules), Ok(expected));
    }
}

#[test]
fn missing_fields_are_looked_for_where_they_may_be() {
    let told = |record: &str| json::decode(record.as_bytes(), &names()).unwrap_err().1;
    let debezium = told(r#"{"payload":{"after":{"user_id":"u","item_id":"i","timestamp":1}}}"#);
    assert_eq!(
        debezium,
        r#"user_id: missing; there is "payload.after.user_id" (source.fields.user_id = "payload.after.user_id")"#
    );
    let other = told(r#"{"userId":"u","item_id":"i"}"#);
    assert_eq!(other, r#"user_id: missing; there are "userId", "item_id" (source.fields.user_id)"#);
}

#[test]
fn plain_records_in_frames_name_the_registry() {
    let json = b"\0\0\0\0\x07{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":1700000000000}";
    for (format, record) in
        [(Format::Json, &json[..]), (Format::Avro, b"\0\0\0\0\x07\x02u\x02i\x00\x02\x00\x00\x00\x00")]
    {
        let mut decoder = EventDecoder::new(&source(format), &SchemaText::built_in(format), None).unwrap();
        let detail = decoder.decode(None, Some(record)).unwrap().unwrap_err().detail;
        assert!(detail.contains("a schema registry's frame? (source.registry.url)"), "{detail}");
    }
}

#[test]
fn schema_cache_is_bounded() {
    #[derive(Debug)]
    struct Every;
    impl SchemaResolver for Every {
        fn schema(&mut self, _: SchemaId) -> SchemaLookup {
            SchemaLookup::Found(SchemaText::built_in(Format::Avro))
        }
    }
    let names = FieldRules::new(&source(Format::Avro));
    let mut cache = SchemaCache::default();
    for id in 0..1_000 {
        assert!(cache.schema(id, Format::Avro, &names, &mut Every).unwrap().is_ok());
        assert!(cache.schema(7, Format::Avro, &names, &mut Every).unwrap().is_ok());
    }
    assert!(cache.ids().len() == 256 && cache.ids()[..3] == [7, 999, 998], "{:?}", cache.ids());
}
