//! All formats side by side: what one takes the others take, and every fault keeps the record's bytes.

use compact_str::CompactString;
use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn decoder() -> EventDecoder {
    let source = Config::default().source;
    EventDecoder::new(&source, &SchemaText::built_in(source.format), None).unwrap()
}

/// What fields are called.
pub(super) fn names() -> FieldNames {
    Config::default().source.fields
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

#[test]
fn decoder_looks_up_a_pending_schema_again() {
    for &format in FORMATS.iter().filter(|format| **format != Format::Json) {
        let schema = SchemaText::built_in(format);
        let mut decoder = EventDecoder::new(&source(format), &schema, Some(Box::new(Stub(format, false)))).unwrap();
        let encoder = EventEncoder::new(&source(format), &schema, Some(1)).unwrap();
        let json = br#"{"user_id":"u","item_id":"i","timestamp":1}"#;
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
fn schema_cache_is_bounded() {
    #[derive(Debug)]
    struct Every;
    impl SchemaResolver for Every {
        fn schema(&mut self, _: SchemaId) -> SchemaLookup {
            SchemaLookup::Found(SchemaText::built_in(Format::Avro))
        }
    }
    let names = source(Format::Avro).fields;
    let mut cache = SchemaCache::default();
    for id in 0..1_000 {
        assert!(cache.schema(id, Format::Avro, &names, &mut Every).unwrap().is_ok());
        assert!(cache.schema(7, Format::Avro, &names, &mut Every).unwrap().is_ok());
    }
    assert!(cache.ids().len() == 256 && cache.ids()[..3] == [7, 999, 998], "{:?}", cache.ids());
}
