//! The wire format and .proto files, against bytes that another implementation wrote (the crates protox 0.10 and
//! prost-reflect 0.16), and against bytes and files that nobody should write.

use proptest::prelude::*;

use super::*;
use crate::decode::tests::{bytes, interaction, named, names, own_event};

const OWN: &str = include_str!("../../../schemas/interaction.proto");

const OTHER: &str = include_str!("../../../tests/corpus/protobuf-schema/other.proto");

fn schema(text: &str) -> ProtobufSchema {
    ProtobufSchema::parse(text, &[], &names()).unwrap()
}

/// Decodes as the first message of `text`.
fn first(text: &str, payload: &[u8]) -> Result<Interaction, Fault> {
    let schema = schema(text);
    decode(payload, &schema, schema.at(&[0]).unwrap(), &names())
}

/// Decodes as a message with `user_id` as described, and nothing else.
fn user_of(described: &str, payload: &[u8]) -> Fault {
    first(&format!("syntax = \"proto3\"; message M {{ {described} }}"), payload).unwrap_err()
}

#[test]
fn golden_bytes_of_other_writers_are_read() {
    let own = bytes("0a05752231c3a91204f09fa6801a05636c69636b20fbd095ffbc312a003100000000000004c03a01613a0137");
    assert_eq!(first(OWN, &own), Ok(own_event()));
    let parsed = schema(OWN);
    assert_eq!(encode(&own_event(), &parsed, parsed.at(&[0]).unwrap()), Ok(own));

    let other = bytes(
        "0a080a016b12030a01781099011d3930000020012a0b0880e2cfaa0610959aef3a32040a0273393a00420301d804a21f030a0178",
    );
    let names = named(&[("user_id", "visitor"), ("timestamp", "at")]);
    let parsed = ProtobufSchema::parse(OTHER, &[], &names).unwrap();
    assert_eq!(parsed.path("Click"), Some(vec![0, 1]));
    assert_eq!(parsed.path("shop.v1.Outer.Click"), Some(vec![0, 1]));
    assert_eq!((parsed.path("ick"), parsed.path("")), (None, Some(vec![0])));
    let event = decode(&other, &parsed, parsed.at(&[0, 1]).unwrap(), &names).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str(), event.kind.as_str()), ("-77", "12345", "BUY"));
    assert_eq!((event.timestamp, event.session.as_deref(), event.value), (1_700_000_000_123, Some("s9"), Some(0.0)));
    assert_eq!(event.features, ["-1", "300"]);
    assert_eq!(
        encode(&event, &parsed, parsed.at(&[0, 1]).unwrap())
            .and_then(|bytes| { decode(&bytes, &parsed, parsed.at(&[0, 1]).unwrap(), &names) }),
        Ok(event)
    );
}

#[test]
fn unsent_field_is_absent_or_its_default() {
    let implicit = r#"syntax = "proto3"; enum K { view = 0; }
        message M { string user_id = 1; int32 item_id = 2; int64 timestamp = 3; K event_type = 4; string session_id = 5;
                    double value = 6; repeated string features = 7; }"#;
    assert_eq!(
        first(implicit, b"\x0a\x01u").unwrap(),
        Interaction {
            user: "u".into(),
            item: "0".into(),
            kind: "view".into(),
            timestamp: 0,
            session: None,
            value: Some(0.0),
            features: Vec::new(),
        }
    );
    for explicit in [
        ["string user_id", "int32 item_id", "int64 timestamp", "K event_type", "string session_id", "double value"]
            .iter()
            .fold(implicit.replace("proto3", "proto2"), |text, line| text.replace(line, &format!("optional {line}"))),
        implicit.replace("string user_id", "optional string user_id"),
        implicit.replace("string user_id = 1;", "oneof who { string user_id = 1; }"),
    ] {
        assert_eq!(first(&explicit, b"\x10\x01").unwrap_err(), (Reason::MissingField, "user_id: missing".to_owned()));
    }
    // The last one counts.
    assert_eq!(first(implicit, b"\x0a\x01u\x0a\x01v").unwrap().user, "v");
}

#[test]
fn integers_of_every_kind() {
    for (of, payload, text) in [
        ("int32", &b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], "-1"),
        ("int64", b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "-9223372036854775808"),
        ("uint64", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "18446744073709551615"),
        ("sint32", b"\x08\x01", "-1"),
        ("fixed32", b"\x0d\xff\xff\xff\xff", "4294967295"),
        ("sfixed32", b"\x0d\xff\xff\xff\xff", "-1"),
        ("fixed64", b"\x09\x01\x00\x00\x00\x00\x00\x00\x00", "1"),
        ("sfixed64", b"\x09\xff\xff\xff\xff\xff\xff\xff\xff", "-1"),
        ("google.protobuf.Int32Value", b"\x0a\x02\x08\x07", "7"),
        ("google.protobuf.Int64Value", b"\x0a\x00", "0"),
    ] {
        let text_of =
            format!("syntax=\"proto3\"; message M {{ {of} user_id = 1; string item_id = 2; int64 timestamp = 3; }}");
        assert_eq!(first(&text_of, payload).unwrap().user, text, "{of}");
    }
}

#[test]
fn faults_name_the_field_and_what_was_found() {
    use Reason::{MissingField, Unparsable, WrongType};
    for (described, payload, reason, detail) in [
        ("optional string user_id = 1;", &b"\x10\x01"[..], MissingField, "user_id: missing"),
        ("bool user_id = 1;", b"\x08\x01", WrongType, "user_id: expected a string or an integer, found true"),
        (
            "bytes user_id = 1;",
            b"\x0a\x01\xff",
            WrongType,
            "user_id: expected a string or an integer, found bytes that are not UTF-8",
        ),
        ("M user_id = 1;", b"\x0a\x00", WrongType, "user_id: expected a string or an integer, found an object"),
        (
            "map<string, int32> user_id = 1;",
            b"\x0a\x00",
            WrongType,
            "user_id: expected a string or an integer, found a list with an object",
        ),
        (
            "enum E { A = 0; } E user_id = 1;",
            b"\x08\x05",
            WrongType,
            "user_id: expected a string or an integer, found a number that its enum does not name",
        ),
        (
            "elsewhere.E user_id = 1;",
            b"\x08\x05",
            WrongType,
            "user_id: expected a string or an integer, found a value of a type that the schema does not describe",
        ),
        (
            "repeated string user_id = 1;",
            b"\x0a\x01x",
            WrongType,
            "user_id: expected a string or an integer, found a list",
        ),
        ("string user_id = 1;", b"\x0a\x01\xff", Unparsable, "not UTF-8 at byte 2"),
        ("string user_id = 1;", b"\x0a\x05x", Unparsable, "5 bytes are announced, 1 are left at byte 2"),
        (
            "string user_id = 1;",
            b"\x08\x05",
            Unparsable,
            "field 1 is of another type than in the schema (wire type 0) at byte 1",
        ),
        ("string user_id = 1;", b"\x00\x05", Unparsable, "a field of the number 0 at byte 1"),
        ("string user_id = 1;", b"\x17", Unparsable, "field 2 has wire type 7, which does not belong there at byte 1"),
        ("string user_id = 1;", b"\x14", Unparsable, "field 2 has wire type 4, which does not belong there at byte 1"),
        ("string user_id = 1;", b"\x13\x08\x01", Unparsable, "the bytes end in a number at byte 3"),
    ] {
        assert_eq!(user_of(described, payload), (reason, detail.to_owned()), "{described}");
    }
    let absurd = "syntax=\"proto3\"; message M { google.protobuf.Timestamp timestamp = 1; }";
    let seconds = [&b"\x0a\x0b\x08"[..], &[0xff; 8], &[0x7f, 0, 0]].concat();
    assert_eq!(first(absurd, &seconds[..13]).unwrap_err().0, Unparsable);
    assert_eq!(
        first(absurd, &[&b"\x0a\x0a\x08"[..], &[0xff; 8], &[0x7f]].concat()).unwrap_err().0,
        Reason::TimestampOutOfRange
    );
}

#[test]
fn deep_nesting_does_not_overflow() {
    let groups = vec![0x13; 1_000_000];
    assert!(user_of("string user_id = 1;", &groups).1.starts_with("groups are nested deeper than 64"));
    let passed = [&[0x13; 60][..], &[0x14; 60], b"\x0a\x01u"].concat();
    assert_eq!(user_of("string user_id = 1;", &passed).1, "item_id: missing");
    for (open, close) in [("message M {", "}"), ("message M { optional group G = 1 {", "}}")] {
        let deep = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        let problem = ProtobufSchema::parse(&deep, &[], &names()).unwrap_err();
        assert!(problem.contains("maximum recursion limit"), "{problem}");
    }
    let deep = format!("message M {{ {} }}", "optional group G = 1 {".repeat(10_000));
    assert!(ProtobufSchema::parse(&deep, &[], &names()).unwrap_err().contains("maximum recursion limit"));
}

#[test]
fn edition_is_read_as_fields_with_presence() {
    let text =
        "// A comment.\nedition = \"2023\";\npackage a.b;\nmessage M { string user_id = 1; int64 timestamp = 3; }";
    assert_eq!(first(text, b"").unwrap_err(), (Reason::MissingField, "user_id: missing".to_owned()));
    let problem = ProtobufSchema::parse(&text.replace("timestamp", ""), &[], &names()).unwrap_err();
    assert!(problem.starts_with("line 4: "), "{problem}");
}

#[test]
fn malformed_files_are_refused_with_the_line() {
    for (text, problem) in [
        ("", "it describes no message"),
        ("syntax = \"proto3\";", "it describes no message"),
        ("message", "expected an identifier, but reached end of file"),
        ("message M {", "expected a message field, "),
        ("message M {\n string = 1; }", "line 2: expected an identifier, but found '='"),
        ("message M {\n string a = 1; }", "line 2: fields must have a label with proto2 syntax"),
        ("message M { optional string a = 0; }", "line 1: message numbers must be between 1 and 536870911"),
        ("message M { optional string a = x; }", "line 1: expected an integer, but found 'x'"),
        ("message M { optional string a = 99999999999999999999; }", "line 1: integer is too large"),
        ("message M { optional string a = 1 }", "line 1: expected ';' or '[', but found '}'"),
        ("massage M {}", "line 1: expected 'enum', "),
        ("/* ", "expected comment terminator, but reached end of file"),
        ("\n\"abc\ndef\"", "line 2: unterminated string"),
        ("option x = { ", "expected '}', but reached end of file"),
    ] {
        let found = ProtobufSchema::parse(text, &[], &names()).unwrap_err();
        assert!(found.starts_with(problem), "{text}: {found}");
    }
}

#[test]
fn types_resolve_in_scopes_and_references() {
    let reference = "package shop.types; enum Kind { VIEW = 0; BUY = 1; }";
    for (of, kind) in [("types.Kind", "BUY"), (".shop.types.Kind", "BUY"), ("Kind", "INNER")] {
        let text = format!(
            "package shop.v1; message M {{ enum Kind {{ X = 0; INNER = 1; }} optional {of} event_type = 1; optional string \
             user_id = 2; optional string item_id = 3; optional int64 timestamp = 4; }}"
        );
        let schema = ProtobufSchema::parse(&text, &[reference], &names()).unwrap();
        let payload = b"\x08\x01\x12\x01u\x1a\x01i\x20\x01";
        assert_eq!(decode(payload, &schema, schema.at(&[0]).unwrap(), &names()).unwrap().kind, kind, "{of}");
    }
}

#[test]
fn encode_refuses_what_the_message_has_no_room_for() {
    let checked = |text: &str| check(schema(text).at(&[0]).unwrap());
    assert_eq!(
        checked("message M { optional string user_id = 1; }").unwrap_err(),
        "message \"M\" has no field for source.fields.item_id"
    );
    let text = "message M { required int32 user_id = 1; required string item_id = 2; required int64 timestamp = 3; }";
    assert_eq!(checked(text), Ok(()));
    let error = checked(&text.replace(" }", " required string shop = 4; }")).unwrap_err();
    assert_eq!(error, "nothing can be written into the field \"shop\" of \"M\", which is required");
    let schema = schema(text);
    let (reason, detail) = encode(&own_event(), &schema, schema.at(&[0]).unwrap()).unwrap_err();
    assert_eq!(reason, Reason::WrongType);
    assert!(detail.contains("source.fields.user_id"), "{detail}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = first(OWN, &bytes);
        let schema = schema(OTHER);
        let _ = decode(&bytes, &schema, schema.at(&[0, 1]).unwrap(), &names());
    }

    #[test]
    fn damaged_records_never_panic(event in interaction(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let schema = schema(OWN);
        let message = schema.at(&[0]).unwrap();
        let mut bytes = encode(&event, &schema, message).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes, &schema, message, &names());
    }

    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), length in 0_usize..20, with in "[ -~]{0,4}") {
        let at = at.index(OTHER.len());
        let mut text = OTHER.to_owned();
        text.replace_range(at..(at + length).min(OTHER.len()), &with);
        let _ = ProtobufSchema::parse(&text, &[], &names());
    }
}
