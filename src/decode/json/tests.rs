//! The decoder against records of every kind, and against an encoder and a parser that are not ours.

use proptest::prelude::*;

use super::*;
use crate::decode::tests::{interaction, named, names};

fn fault(record: &str) -> Fault {
    decode(record.as_bytes(), &names()).unwrap_err()
}

#[test]
fn complete_record() {
    let record = r#"{
        "user_id": "u\"1", "item_id": 17, "event_type": "click", "timestamp": 1700000000123, "session_id": -5,
        "value": 3, "features": ["a", 7], "extra": {"deep": [[[1, {"x": null}]]]}
    }"#;
    let event = decode(record.as_bytes(), &names()).unwrap();
    let expected = Interaction {
        user: "u\"1".into(),
        item: "17".into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_123,
        session: Some("-5".into()),
        value: Some(3.0),
        features: vec!["a".into(), "7".into()],
    };
    assert_eq!(event, expected);
}

#[test]
fn optional_fields_may_be_null_or_absent() {
    let absent = decode(br#"{"user_id":"u","item_id":"i","timestamp":1}"#, &names()).unwrap();
    let null = br#"{"user_id":"u","item_id":"i","timestamp":1,"event_type":null,"session_id":null,"value":null,"features":null}"#;
    assert_eq!(decode(null, &names()).unwrap(), absent);
    assert_eq!((absent.kind.as_str(), absent.session, absent.value, absent.features.len()), ("", None, None, 0));
}

#[test]
fn timestamp_may_be_rfc3339() {
    for (text, milliseconds) in [
        ("1970-01-01T00:00:01Z", 1_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        ("1969-12-31T23:59:59Z", -1_000),
    ] {
        let record = format!(r#"{{"user_id":"u","item_id":"i","timestamp":"{text}"}}"#);
        assert_eq!(decode(record.as_bytes(), &names()).unwrap().timestamp, milliseconds, "{text}");
    }
}

#[test]
fn fields_are_found_under_their_own_names() {
    let names = named(&[("user_id", "visitor"), ("timestamp", "at")]);
    let event = decode(br#"{"visitor":"v","item_id":"i","at":9,"user_id":[],"timestamp":{}}"#, &names).unwrap();
    assert_eq!((event.user.as_str(), event.timestamp), ("v", 9));
    let (reason, detail) = decode(br#"{"user_id":"u","item_id":"i","at":9}"#, &names).unwrap_err();
    assert_eq!(
        (reason, detail.as_str()),
        (Reason::MissingField, r#"visitor: missing; there are "user_id", "item_id", "at" (source.fields.user_id)"#)
    );
}

#[test]
fn faults_name_the_field_and_what_was_found() {
    use Reason::{MissingField, TimestampOutOfRange, Unparsable, ValueNotFinite, WrongType};
    for (record, reason, detail) in [
        (
            r#"{"user_id":"u","timestamp":1}"#,
            MissingField,
            r#"item_id: missing; there are "user_id", "timestamp" (source.fields.item_id)"#,
        ),
        (
            r#"{"user_id":null,"item_id":"i","timestamp":1}"#,
            MissingField,
            "user_id: null; there are \"user_id\", \"item_id\", \"timestamp\" (source.fields.user_id)",
        ),
        (
            r#"{"user_id":"u","item_id":"i"}"#,
            MissingField,
            "timestamp: missing; there are \"user_id\", \"item_id\" (source.fields.timestamp)",
        ),
        (r#"{}"#, MissingField, "user_id: missing"),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":"yesterday"}"#,
            WrongType,
            "timestamp: expected a number or RFC 3339, found \"yesterday\"",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":"2026-01-01T00:00:00"}"#,
            WrongType,
            "timestamp: \"2026-01-01T00:00:00\" has no zone (source.timezone says which one is meant)",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":18446744073709551615}"#,
            TimestampOutOfRange,
            "timestamp 18446744073709551615 ms is outside the believable range (source.latest_year)",
        ),
        (
            r#"{"user_id":{"a":1},"item_id":"i","timestamp":1}"#,
            WrongType,
            "user_id: expected a string or an integer, found an object",
        ),
        (
            r#"{"user_id":"u","item_id":1.5,"timestamp":1}"#,
            WrongType,
            "item_id: expected a string or an integer, found 1.5",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":1,"event_type":[true]}"#,
            WrongType,
            "event_type: expected a string or an integer, found a list with true",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":1,"value":"high"}"#,
            WrongType,
            "value: expected a number, found \"high\"",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":1,"features":["a",[["b"]],3]}"#,
            WrongType,
            "features: expected a list of strings or integers, found a list with a list",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":1,"features":"a"}"#,
            WrongType,
            "features: expected a list of strings or integers, found \"a\"",
        ),
        (
            r#"{"user_id":"u","item_id":"i","timestamp":1,"value":1e999}"#,
            ValueNotFinite,
            "number out of range at line 1 column 56",
        ),
        (r#"{"user_id":"u""#, Unparsable, "EOF while parsing an object at line 1 column 14"),
        (r#"[1]"#, Unparsable, "a list: each record must be one event, an object"),
        (r#""{}""#, Unparsable, "a text: an object that was encoded twice?"),
        ("\0\0\0\0\x07{}", Unparsable, "begins with a byte 0: in a schema registry's frame? (source.registry.url)"),
        (r#"null"#, Unparsable, "invalid type: null, expected an object at line 1 column 4"),
        (r#"{"user_id":"u","item_id":"i","timestamp":1} x"#, Unparsable, "trailing characters at line 1 column 45"),
        (
            r#"{"user_id":"u","user_id":"v","item_id":"i","timestamp":1}"#,
            Unparsable,
            "user_id comes twice at line 1 column 24",
        ),
        (r#"{"user_id":null,"user_id":"v"}"#, Unparsable, "user_id comes twice at line 1 column 25"),
        ("{\"user_id\":\"u\",\n\"item_id\":NaN}", Unparsable, "NaN and infinities are no JSON, at line 2 column 11"),
        (r#"{"a":-Infinity}"#, Unparsable, "NaN and infinities are no JSON, at line 1 column 7"),
        (r#"{"user_id":"\ud800"}"#, Unparsable, "unexpected end of hex escape at line 1 column 19"),
    ] {
        assert_eq!(fault(record), (reason, detail.to_owned()), "{record}");
    }
}

#[test]
fn whole_numbers_truth_values_and_marks_are_taken() {
    let record = "\u{feff}{\"user_id\":123.0,\"item_id\":1e3,\"timestamp\":1767225600123.0,\"event_type\":true,\"features\":[\"a\",null]}";
    let event = decode(record.as_bytes(), &names()).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str(), event.kind.as_str()), ("123", "1000", "true"));
    assert_eq!((event.timestamp, event.features), (1_767_225_600_123, vec!["a".into()]));
}

#[test]
fn syntax_comes_before_the_fields() {
    assert_eq!(fault(r#"{"user_id":[],"item_id":{}"#).0, Reason::Unparsable);
}

#[test]
fn bytes_that_are_not_utf8() {
    let record = b"{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":1,\"ignored\":\"\xff\"}";
    let (reason, detail) = decode(record, &names()).unwrap_err();
    assert_eq!((reason, detail.as_str()), (Reason::Unparsable, "not UTF-8 at byte 54"));
}

#[test]
fn long_and_hostile_texts_are_cut_and_escaped_in_messages() {
    let record = format!(r#"{{"user_id":"u","item_id":"i","timestamp":"\u001b[2J{}"}}"#, "é".repeat(5_000));
    let (_, detail) = fault(&record);
    assert!(detail.len() < 250 && detail.ends_with("\"…") && detail.contains(r"\u{1b}[2J"), "{detail}");
}

#[test]
fn deep_nesting_does_not_overflow() {
    for field in ["features", "user_id", "ignored"] {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let record = format!(r#"{{"{field}":{open}{close},"user_id":"u"}}"#);
        assert!(decode(record.as_bytes(), &names()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decode_undoes_encode(event in interaction()) {
        prop_assert_eq!(decode(&encode(&event, &names().names), &names()), Ok(event));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &names());
    }

    #[test]
    fn damaged_records_never_panic(event in interaction(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&event, &names().names);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes, &names());
        let _ = decode(&bytes[..at], &names());
    }
}
