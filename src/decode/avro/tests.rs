//! The walk along a schema, against bytes that another implementation wrote (the crate apache-avro 0.23), and against
//! bytes that nobody should write.

use proptest::prelude::*;

use super::*;
use crate::decode::tests::{bytes, interaction, named, names, own_event};

const OWN: &str = include_str!("../../../schemas/interaction.avsc");

/// Every type there is, in an order that makes the walk pass over most of it.
const OTHER: &str = r#"{"type":"record","name":"Click","namespace":"shop","fields":[
    {"name":"extra","type":{"type":"map","values":{"type":"array","items":["null","double","bytes"]}}},
    {"name":"visitor","type":"long"},
    {"name":"inner","type":{"type":"record","name":"Inner","fields":[
        {"name":"item_id","type":"string"},
        {"name":"next","type":["null","Inner"]},
        {"name":"digest","type":{"type":"fixed","name":"D","size":3}}]}},
    {"name":"item_id","type":"int"},
    {"name":"event_type","type":{"type":"enum","name":"Kind","symbols":["view","buy"]}},
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"again","type":["null","shop.Kind"]},
    {"name":"value","type":"float"},
    {"name":"flag","type":"boolean"},
    {"name":"features","type":["null",{"type":"array","items":"Kind"}]}]}"#;

fn schema(text: &str) -> AvroSchema {
    AvroSchema::parse(text, &[], &names()).unwrap()
}

/// A record whose field `user_id` is of that type, and nothing else.
fn user_of(of: &str) -> AvroSchema {
    schema(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"user_id","type":{of}}}]}}"#))
}

fn fault(of: &str, payload: &[u8]) -> Fault {
    decode(payload, &user_of(of), &names()).unwrap_err()
}

#[test]
fn golden_bytes_of_other_writers_are_read() {
    let own = bytes("0a752231c3a908f09fa680020a636c69636bf6a1abfef96202000200000000000004c0040261023700");
    assert_eq!(decode(&own, &schema(OWN), &names()), Ok(own_event()));
    assert_eq!(encode(&own_event(), &schema(OWN), &names()), Ok(own));

    let other = bytes(concat!(
        "02026b060002000000000000f03f0404010200009901046e6f02046e6f00090909090909f2c0010202808981828389850602000000003f",
        "010204000200"
    ));
    let names = named(&[("user_id", "visitor"), ("timestamp", "at")]);
    let event = decode(&other, &AvroSchema::parse(OTHER, &[], &names).unwrap(), &names).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str(), event.kind.as_str()), ("-77", "12345", "buy"));
    assert_eq!((event.timestamp, event.session, event.value), (1_700_000_000_123, None, Some(0.5)));
    assert_eq!(event.features, ["view", "buy"]);
}

#[test]
fn truncated_datum_is_unparsable() {
    let own = encode(&own_event(), &schema(OWN), &names()).unwrap();
    for end in 0..own.len() {
        let (reason, detail) = decode(&own[..end], &schema(OWN), &names()).unwrap_err();
        assert_eq!(reason, Reason::Unparsable, "{detail}");
    }
    let (reason, detail) = decode(&[&own[..], &[0, 0]].concat(), &schema(OWN), &names()).unwrap_err();
    assert_eq!(reason, Reason::Unparsable);
    assert_eq!(detail, format!("2 bytes too many for the schema at byte {}", own.len()));
}

#[test]
fn faults_name_the_field_and_what_was_found() {
    use Reason::{MissingField, Unparsable, WrongType};
    for (of, payload, reason, detail) in [
        (r#""null""#, &b""[..], MissingField, "user_id: null"),
        (r#"["null","string"]"#, b"\x00", MissingField, "user_id: null"),
        (r#"["null","string"]"#, b"\x04", Unparsable, "a union has no branch 2 at byte 1"),
        (r#"["null","string"]"#, b"\x01", Unparsable, "a union has no branch -1 at byte 1"),
        (r#""boolean""#, b"\x01", WrongType, "user_id: expected a string or an integer, found true"),
        (r#""boolean""#, b"\x02", Unparsable, "2 is no boolean at byte 1"),
        (
            r#""bytes""#,
            b"\x02\xff",
            WrongType,
            "user_id: expected a string or an integer, found bytes that are not UTF-8",
        ),
        (r#""string""#, b"\x02\xff", Unparsable, "not UTF-8 at byte 1"),
        (r#""string""#, b"\x01", Unparsable, "-1 is no length at byte 1"),
        (
            r#""string""#,
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Unparsable,
            "9223372036854775807 bytes are announced, 0 are left at byte 10",
        ),
        (r#""int""#, b"\x80\x80\x80\x80\x20", Unparsable, "an int of more than 32 bits at byte 5"),
        (
            r#"{"type":"int","logicalType":"date"}"#,
            b"\x02",
            WrongType,
            "user_id: expected a string or an integer, found a date or a local time",
        ),
        (r#"{"type":"enum","name":"E","symbols":["a"]}"#, b"\x02", Unparsable, "an enum has no symbol 1 at byte 1"),
        (
            r#"{"type":"map","values":"int"}"#,
            b"\x00",
            WrongType,
            "user_id: expected a string or an integer, found an object",
        ),
        (
            r#"{"type":"array","items":"int"}"#,
            b"\x02\x02\x00",
            WrongType,
            "user_id: expected a string or an integer, found a list",
        ),
    ] {
        assert_eq!(fault(of, payload), (reason, detail.to_owned()), "{of}");
    }
}

#[test]
fn decimals_uuids_and_local_times() {
    let of = r#"{"type":"record","name":"R","fields":[
        {"name":"user_id","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":0}},
        {"name":"item_id","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}},
        {"name":"timestamp","type":{"type":"long","logicalType":"local-timestamp-micros"}},
        {"name":"value","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}}]}"#;
    let mut time = Vec::new();
    crate::decode::cursor::put_varint(crate::decode::cursor::zigzag(1_767_225_600_000_000), &mut time);
    let payload = [&[4, 0x01, 0x00][..], &[0; 15], &[6], &time, &[4, 0xfc, 0x19]].concat();
    let (reason, detail) = decode(&payload, &schema(of), &names()).unwrap_err();
    assert!(reason == Reason::WrongType && detail.contains("source.timezone"), "{detail}");
    let mut source = crate::config::Config::default().source;
    source.timezone = "UTC".to_owned();
    let event = decode(&payload, &schema(of), &FieldRules::new(&source)).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str()), ("256", "00000000-0000-0000-0000-000000000006"));
    assert_eq!((event.timestamp, event.value), (1_767_225_600_000, Some(-9.99)));
}

#[test]
fn sized_blocks_are_read_and_skipped() {
    let of = r#"{"type":"record","name":"R","fields":[
        {"name":"skipped","type":{"type":"array","items":"long"}},
        {"name":"map","type":{"type":"map","values":"long"}},
        {"name":"user_id","type":"int"},{"name":"item_id","type":"int"},{"name":"timestamp","type":"long"},
        {"name":"features","type":{"type":"array","items":"int"}}]}"#;
    let payload = [
        // Two items in three bytes, then one without a size.
        &[3, 6, 2, 0x80, 2, 2, 9, 0][..],
        &[1, 6, 2, b'k', 4, 0],
        &[2, 4, 6],
        &[3, 4, 2, 4, 2, 6, 0],
    ]
    .concat();
    let event = decode(&payload, &schema(of), &names()).unwrap();
    assert_eq!((event.user.as_str(), event.item.as_str(), event.timestamp), ("1", "2", 3));
    assert_eq!(event.features, ["1", "2", "3"]);
}

#[test]
fn arrays_of_empty_values_cost_nothing() {
    // 2⁶² items of a type that takes no bytes; and a record that would unfold to 2⁴⁰ of them.
    let many = [&[0xfe][..], &[0xff; 7], &[0x7f, 0]].concat();
    for items in [r#""null""#, r#"{"type":"record","name":"E","fields":[]}"#, r#"{"type":"fixed","name":"F","size":0}"#]
    {
        assert!(fault(&format!(r#"{{"type":"array","items":{items}}}"#), &many).1.contains("user_id"));
        let skipped = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{{"type":"array","items":{items}}}}}]}}"#
        );
        assert!(decode(&many, &schema(&skipped), &names()).unwrap_err().1.starts_with("user_id: missing"));
    }
    let mut nested = r#""null""#.to_owned();
    for depth in 0..20 {
        let again = format!("\"T{depth}\"");
        nested = format!(
            r#"{{"type":"record","name":"T{depth}x","fields":[{{"name":"a","type":{{"type":"record","name":"T{depth}","fields":[{{"name":"i","type":{nested}}}]}}}},{{"name":"b","type":{again}}}]}}"#
        );
    }
    assert!(decode(b"", &schema(&nested), &names()).unwrap_err().1.starts_with("user_id: missing"));
}

#[test]
fn deep_nesting_does_not_overflow() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let payload = [vec![2_u8; 1_000_000], vec![0]].concat();
    let outer = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{list}}}]}}"#);
    assert!(decode(&payload, &schema(&outer), &names()).unwrap_err().1.starts_with("values are nested deeper than 64"));
    let endless = r#"{"type":"record","name":"L","fields":[{"name":"user_id","type":"L"}]}"#;
    assert!(decode(b"", &schema(endless), &names()).unwrap_err().1.starts_with("values are nested deeper than 64"));
    // JSON itself is nested too deep to be parsed.
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
    assert!(AvroSchema::parse(&deep, &[], &names()).unwrap_err().contains("recursion limit"));
}

#[test]
fn list_length_is_bounded() {
    let of = r#"{"type":"record","name":"R","fields":[{"name":"user_id","type":"int"},
        {"name":"item_id","type":"int"},{"name":"timestamp","type":"long"},
        {"name":"features","type":{"type":"array","items":"string"}}]}"#;
    let payload = [&[2, 2, 2, 0x80, 0x89, 0x7a][..], &[0; 1_000_000], &[0]].concat();
    let (reason, detail) = decode(&payload, &schema(of), &names()).unwrap_err();
    assert_eq!(reason, Reason::WrongType);
    assert!(detail.ends_with("found a list with more than 65536 elements"), "{detail}");
}

#[test]
fn invalid_schemas_are_refused() {
    for (text, problem) in [
        ("{", "it is not JSON"),
        (r#""string""#, "it describes no record"),
        (r#"["null","string"]"#, "it describes no record"),
        (r#"{"type":"record","name":"R"}"#, "\"record\" lacks \"fields\""),
        (r#"{"type":"record","fields":[]}"#, "a named type has no name"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"S"}]}"#, "there is no type \"S\""),
        (r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#, "a field has no name"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "field \"a\" has no type"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":7}]}"#, "7 is no type"),
        (
            r#"[{"type":"record","name":"R","fields":[]},{"type":"record","name":"R","fields":[]}]"#,
            "\"R\" is described twice",
        ),
    ] {
        let found = AvroSchema::parse(text, &[], &names()).unwrap_err();
        assert!(found.starts_with(problem), "{text}: {found}");
    }
}

#[test]
fn names_resolve_in_namespaces_and_references() {
    let reference = r#"{"type":"enum","name":"Kind","namespace":"shop.types","symbols":["view","buy"]}"#;
    for kind in ["shop.types.Kind", "types.Kind"] {
        let text = format!(
            r#"{{"type":"record","name":"shop.R","fields":[{{"name":"event_type","type":"{kind}"}},
                {{"name":"user_id","type":"int"}},{{"name":"item_id","type":"int"}},{{"name":"timestamp","type":"long"}}]}}"#
        );
        let parsed = AvroSchema::parse(&text, &[reference], &names());
        match kind {
            "shop.types.Kind" => {
                assert_eq!(decode(&[2, 2, 2, 2], &parsed.unwrap(), &names()).unwrap().kind, "buy");
            }
            _ => assert_eq!(parsed.unwrap_err(), "there is no type \"types.Kind\""),
        }
    }
    // Several kinds of events in one topic: the branch tells which.
    let union = r#"["null",{"type":"record","name":"A","fields":[{"name":"user_id","type":"int"}]},"int"]"#;
    assert_eq!(
        decode(&[2, 2], &schema(union), &names()).unwrap_err().1,
        "item_id: missing; there are \"user_id\" (source.fields.item_id)"
    );
    assert_eq!(decode(&[4, 2], &schema(union), &names()).unwrap_err().0, Reason::WrongType);
}

#[test]
fn encode_refuses_what_the_schema_has_no_room_for() {
    let lacking = r#"{"type":"record","name":"R","fields":[{"name":"user_id","type":"int"}]}"#;
    assert_eq!(check(&schema(lacking), &names()).unwrap_err(), "it has no field for source.fields.item_id");
    let whole = |more: &str| {
        schema(&format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"user_id","type":"long"}},{{"name":"item_id","type":"string"}},
                {{"name":"timestamp","type":["null","string"]}}{more}]}}"#
        ))
    };
    let error = check(&whole(r#",{"name":"shop","type":"string"}"#), &names()).unwrap_err();
    assert_eq!(error, "nothing can be written into its field \"shop\", which may not be null");
    let roomy = whole(r#",{"name":"shop","type":["string","null"]},{"name":"x","type":{"type":"map","values":"int"}}"#);
    assert_eq!(check(&roomy, &names()), Ok(()));
    let event = Interaction {
        user: "17".into(),
        kind: "".into(),
        session: None,
        value: None,
        features: Vec::new(),
        ..own_event()
    };
    assert_eq!(decode(&encode(&event, &roomy, &names()).unwrap(), &roomy, &names()), Ok(event));
    let (reason, detail) = encode(&own_event(), &roomy, &names()).unwrap_err();
    assert_eq!((reason, detail.as_str()), (Reason::WrongType, "user_id: the schema has no room for Text(\"u\\\"1é\")"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for text in [OWN, OTHER] {
            let _ = decode(&bytes, &schema(text), &names());
        }
    }

    #[test]
    fn damaged_records_never_panic(event in interaction(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let schema = schema(OWN);
        let mut bytes = encode(&event, &schema, &names()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes, &schema, &names());
    }
}
