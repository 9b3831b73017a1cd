//! Logs as other programs write and keep them: types, times, folders, orders. Whatever says the same makes the same model,
//! byte for byte; whatever cannot be read is refused before the first row, with what to do about it.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, StringBuilder, StructBuilder};
use arrow_array::types::Float64Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, NullArray,
    PrimitiveArray, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field};
use negstream::event::Interaction;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use serde_json::Value;

use crate::support::{self, Place, Said, read, run, set, text, times, write_columns, write_compressed, write_log};

/// Rows of each log, and the time of the first one.
const ROWS: i64 = 600;
const BEGIN: i64 = 1_767_225_600_000;

fn users() -> ArrayRef {
    text((0..ROWS).map(|row| Some(format!("u{}", row * 7 % 40))))
}

fn items() -> impl Iterator<Item = i64> {
    (0..ROWS).map(|row| (row * row + row / 9) % 30)
}

fn moments() -> impl Iterator<Item = i64> {
    (0..ROWS).map(|row| BEGIN + row * 60_000)
}

type Columns = Vec<(&'static str, ArrayRef)>;

/// The columns of a plain log.
fn plain() -> Columns {
    vec![
        ("user_id", users()),
        ("item_id", text(items().map(|item| Some(item.to_string())))),
        ("event_type", text((0..ROWS).map(|_| Some("click")))),
        ("timestamp", times(moments().map(Some))),
    ]
}

/// The same with one column in place of another.
fn with(name: &'static str, column: ArrayRef) -> Columns {
    let mut columns = plain();
    columns.retain(|(other, _)| *other != name);
    columns.push((name, column));
    columns
}

fn counts(report: &Value) -> [u64; 4] {
    ["read", "used", "ignored", "rejected"].map(|name| report["events"][name].as_u64().unwrap())
}

/// Replays `columns` and compares the model with that of the plain log.
#[track_caller]
fn same_model(columns: Columns, settings: &[&str]) {
    let place = Place::new();
    write_columns(&place.path("plain.parquet"), plain());
    write_columns(&place.path("other.parquet"), columns);
    place.replay_in("plain", &["plain.parquet"], &[]);
    let report = place.replay_in("other", &["other.parquet"], settings);
    assert_eq!(counts(&report), [600, 600, 0, 0]);
    assert!(place.items("other") == place.items("plain"), "items.parquet differs");
}

/// Replays `columns`, which are refused before anything is touched.
#[track_caller]
fn refused(columns: Columns, settings: &[&str], words: &[&str]) {
    let place = Place::new();
    write_columns(&place.path("log.parquet"), columns);
    let mut command = place.negstream(&["replay", "log.parquet"]);
    set(&mut command, settings);
    run(&mut command).ended(3).names(words);
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
}

fn decimals(values: impl Iterator<Item = i128>, scale: i8) -> ArrayRef {
    let mut decimals = Decimal128Builder::new().with_precision_and_scale(38, scale).expect("a decimal");
    values.for_each(|value| decimals.append_value(value));
    Arc::new(decimals.finish())
}

#[test]
fn ids_of_every_type_are_the_same_ids() {
    let columns: [ArrayRef; 5] = [
        decimals(items().map(i128::from), 0),
        decimals(items().map(|item| i128::from(item) * 100), 2),
        Arc::new(BinaryArray::from_iter_values(items().map(|item| item.to_string()))),
        Arc::new(Int64Array::from_iter_values(items())),
        Arc::new(Float64Array::from_iter_values(items().map(|item| item as f64))),
    ];
    for column in columns {
        same_model(with("item_id", column), &[]);
    }
    let times = times(moments().map(Some));
    refused(with("item_id", times), &[], &["'item_id' must be text or whole numbers, but holds timestamps", "cast it"]);
}

/// What a clock of UTC shows, as text without a zone.
fn without_zone(time: i64) -> String {
    chrono::DateTime::from_timestamp_millis(time).unwrap().naive_utc().to_string()
}

#[test]
fn times_of_every_type_are_the_same_times() {
    let rfc3339 = moments().map(|time| Some(chrono::DateTime::from_timestamp_millis(time).unwrap().to_rfc3339()));
    let seconds = || moments().map(|time| time / 1_000);
    // Winter in Berlin, an hour ahead of UTC.
    let berlin = || moments().map(|time| time + 3_600_000);
    let columns: [(ArrayRef, &[&str]); 10] = [
        (Arc::new(Int64Array::from_iter_values(moments())), &[]),
        (Arc::new(Float64Array::from_iter_values(moments().map(|time| time as f64))), &[]),
        (text(rfc3339), &[]),
        (text(moments().map(|time| Some(time.to_string()))), &[]),
        (Arc::new(TimestampMicrosecondArray::from_iter_values(moments().map(|time| time * 1_000 + 999))), &[]),
        (Arc::new(Int64Array::from_iter_values(seconds())), &["source.timestamp_unit=s"]),
        (Arc::new(Int64Array::from_iter_values(seconds())), &["source.timestamp_unit=auto"]),
        (Arc::new(TimestampMillisecondArray::from_iter_values(berlin())), &["source.timezone=+01:00"]),
        (Arc::new(TimestampMillisecondArray::from_iter_values(berlin())), &["source.timezone=Europe/Berlin"]),
        (text(berlin().map(|time| Some(without_zone(time)))), &["source.timezone=Europe/Berlin"]),
    ];
    for (column, settings) in columns {
        same_model(with("timestamp", column), settings);
    }
}

#[test]
fn dates_are_times_once_a_zone_is_configured() {
    let days =
        || with("timestamp", Arc::new(Date32Array::from_iter_values(moments().map(|time| (time / 86_400_000) as i32))));
    refused(days(), &[], &["'timestamp' must be timestamps, but holds dates", "source.timezone = \"UTC\""]);
    for zone in ["UTC", "America/Sao_Paulo"] {
        let place = Place::new();
        write_columns(&place.path("log.parquet"), days());
        let report = place.replay("log.parquet", &[&format!("source.timezone={zone}")]);
        assert_eq!(counts(&report), [600, 600, 0, 0], "{zone}");
    }
}

#[test]
fn mistyped_zone_is_refused_with_the_one_that_was_meant() {
    let place = Place::new();
    for (zone, words) in [("Europe/Berln", "did you mean 'Europe/Berlin'?"), ("nowhere", "such as Europe/Berlin")] {
        let mut command = place.negstream(&["replay", "log.parquet"]);
        set(&mut command, &[&format!("source.timezone={zone}")]);
        run(&mut command).ended(2).names(&["source.timezone", words]);
    }
}

#[test]
fn seconds_taken_for_milliseconds_are_refused_and_the_unit_named() {
    let place = Place::new();
    write_columns(
        &place.path("log.parquet"),
        with("timestamp", Arc::new(Int64Array::from_iter_values(moments().map(|time| time / 1_000)))),
    );
    let mut command = place.negstream(&["replay", "--json", "log.parquet"]);
    set(&mut command, &["dead_letters.file=letters.jsonl", "dead_letters.max_share=1"]);
    run(&mut command);
    let letters = String::from_utf8(read(&place.path("letters.jsonl"))).unwrap();
    assert_eq!(letters.lines().count(), 600);
    assert!(
        letters.contains("timestamp_out_of_range") && letters.contains("source.timestamp_unit = \\\"s\\\""),
        "{letters}"
    );
}

#[test]
fn columns_that_are_not_read_refuse_no_log() {
    let nulls = || Arc::new(NullArray::new(ROWS as usize)) as ArrayRef;
    let n = ROWS as usize;
    let texts = || Arc::new(StringArray::from(vec!["9.99"; n])) as ArrayRef;
    let structs = || {
        let inner: ArrayRef = Arc::new(StringArray::from(vec!["x"; n]));
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("a", DataType::Utf8, true)), inner)])) as ArrayRef
    };
    let lists = ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>(
        (0..n).map(|_| Some(vec![Some(1), None])),
    );
    let columns: [(&'static str, ArrayRef); 10] = [
        ("session_id", nulls()),
        ("value", nulls()),
        ("features", nulls()),
        ("value", texts()),
        ("value", Arc::new(BooleanArray::from(vec![true; n]))),
        ("value", decimals((0..ROWS).map(i128::from), 2)),
        ("features", structs()),
        ("features", texts()),
        ("features", Arc::new(lists)),
        ("session_id", structs()),
    ];
    for (name, column) in columns {
        same_model(with(name, column), &[]);
    }
    // These are read; the types of events tell them apart, and that is all.
    let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true; n]));
    for column in [nulls(), Arc::new(Int64Array::from(vec![1; n])) as ArrayRef, Arc::clone(&bools)] {
        same_model(with("event_type", column), &[]);
    }
    same_model(with("event_type", bools), &[r#"positives.kinds=["true"]"#]);
    // Where features are asked for, they have to be some.
    refused(with("features", texts()), &["features.buckets=64"], &["'features' must be lists", "but holds text"]);
}

#[test]
fn replay_refuses_the_rows_that_a_live_worker_refuses() {
    let place = Place::new();
    let mut columns = plain();
    let odd = |row: i64| match row % 10 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        _ => 1.0,
    };
    columns.push(("value", Arc::new(PrimitiveArray::<Float64Type>::from_iter_values((0..ROWS).map(odd)))));
    columns.push((
        "session_id",
        text((0..ROWS).map(|row| Some(if row % 10 == 2 { "s".repeat(3_000) } else { "ok".to_owned() }))),
    ));
    write_columns(&place.path("log.parquet"), columns);
    let report = place.replay("log.parquet", &[]);
    assert_eq!(counts(&report), [600, 420, 0, 180]);
    let reasons = &report["events"]["rejected_by_reason"];
    assert_eq!((&reasons["value_not_finite"], &reasons["id_too_long"]), (&120.into(), &60.into()));
}

#[test]
fn fields_within_structs_are_found_by_their_paths() {
    let mut after = StructBuilder::new(
        vec![Field::new("user_id", DataType::Utf8, true), Field::new("sku", DataType::Utf8, true)],
        vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())],
    );
    let users = users();
    let users = users.as_any().downcast_ref::<StringArray>().unwrap();
    for (row, item) in items().enumerate() {
        after.field_builder::<StringBuilder>(0).unwrap().append_value(users.value(row));
        after.field_builder::<StringBuilder>(1).unwrap().append_value(item.to_string());
        after.append(true);
    }
    let after: ArrayRef = Arc::new(after.finish());
    let payload: ArrayRef =
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("after", after.data_type().clone(), true)), after)]));
    let mut columns = plain();
    columns.drain(..2);
    columns.push(("payload", payload));
    same_model(
        columns.clone(),
        &["source.fields.user_id=payload.after.user_id", "source.fields.item_id=payload.after.sku"],
    );
    refused(columns, &[], &["'user_id' is missing", "source.fields.user_id = \"payload.after.user_id\"?"]);
}

#[test]
fn folders_of_other_programs_hold_one_log() {
    let place = Place::new();
    let log = |name: &str, seed: u64| {
        let path = place.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_log(&path, &support::events(600, seed));
    };
    log("spark/part-00000.snappy.parquet", 1);
    log("spark/_temporary/0/_temporary/attempt_1/part-00000.snappy.parquet", 2);
    log("spark/.spark-staging-1/part-00000.snappy.parquet", 3);
    std::fs::write(place.path("spark/_SUCCESS"), b"").unwrap();
    log("delta/part-00000.parquet", 1);
    std::fs::create_dir_all(place.path("delta/_delta_log")).unwrap();
    write_columns(&place.path("delta/_delta_log/00000000000000000010.checkpoint.parquet"), vec![("add", users())]);
    log("mac/part-0.parquet", 1);
    std::fs::write(place.path("mac/._part-0.parquet"), b"\0\x05\x16\x07\0\x02\0\0Mac OS X").unwrap();
    log("hive/000000_0", 1);
    for folder in ["spark", "delta", "mac", "hive"] {
        let report = place.replay_in(&format!("of-{folder}"), &[folder], &[]);
        assert_eq!(report["events"]["read"], 600, "{folder}");
    }
    // What is not told by names is told in words.
    let mut command = place.negstream_in("again", &["replay", "delta"]);
    run(&mut command).ended(0).names(&["delta is a Delta table"]);
}

#[test]
fn names_of_folders_are_columns() {
    let place = Place::new();
    for (kind, seed) in [("click", 4), ("add%20to%20cart", 5)] {
        std::fs::create_dir_all(place.path(&format!("log/event_type={kind}"))).unwrap();
        let mut columns = plain();
        columns.retain(|(name, _)| *name != "event_type");
        columns[1].1 = text((0..ROWS).map(|row| Some((row * seed % 31).to_string())));
        write_columns(&place.path(&format!("log/event_type={kind}/part-0.parquet")), columns);
    }
    let report = place.replay("log", &[r#"positives.kinds=["add to cart"]"#]);
    assert_eq!(counts(&report), [1_200, 600, 600, 0]);
}

/// Writes the parts of a stream under these names.
fn write_parts(place: &Place, names: &[String], events: &[Interaction]) {
    for (name, part) in names.iter().zip(events.chunks(events.len() / names.len())) {
        let path = place.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_log(&path, part);
    }
}

#[test]
fn parts_come_in_the_order_of_their_numbers() {
    let place = Place::new();
    let events = support::events(6_000, 41);
    write_log(&place.path("whole.parquet"), &events);
    let names: Vec<String> = (0..12).map(|part| format!("parts/data_{part}.parquet")).collect();
    write_parts(&place, &names, &events);
    place.replay_in("whole", &["whole.parquet"], &[]);
    for (checkpoints, log) in [("folder", "parts"), ("pattern", "parts/*.parquet")] {
        place.replay_in(checkpoints, &[log], &[]);
        assert!(place.items(checkpoints) == place.items("whole"), "{checkpoints}: items.parquet differs");
    }
}

fn said_of(place: &Place, checkpoints: &str, arguments: &[&str]) -> Said {
    let mut command = place.negstream_in(checkpoints, &[&["replay", "--json"], arguments].concat());
    run(&mut command).ended(0)
}

#[test]
fn logs_out_of_order_are_told_and_can_be_sorted() {
    let place = Place::new();
    let events = support::events(6_000, 42);
    write_log(&place.path("sorted.parquet"), &events);
    let names = ["parts/2.parquet", "parts/3.parquet", "parts/1.parquet"].map(str::to_owned);
    write_parts(&place, &names, &events);
    let said = said_of(&place, "sorted", &["sorted.parquet"]);
    assert!(!said.err.contains("time goes back"), "{}", said.err);

    said_of(&place, "stored", &["parts"]).names(&[
        "time goes back by",
        "parts/2.parquet",
        "out of order: 4000 of 6000 events",
        "--sort",
    ]);
    assert!(place.items("stored") != place.items("sorted"), "the order matters");
    let said = said_of(&place, "ordered", &["--sort", "parts"]);
    assert!(!said.err.contains("out of order"), "{}", said.err);
    assert!(place.items("ordered") == place.items("sorted"), "items.parquet differs");
    // Read to its end, and known as such; not to be read once more in another order.
    said_of(&place, "ordered", &["--sort", "parts"]).names(&["read to their end before"]);
    run(&mut place.negstream_in("ordered", &["replay", "parts"])).ended(3).names(&["go on with --sort"]);
    run(&mut place.negstream_in("stored", &["replay", "--sort", "parts"])).ended(3).names(&["without --sort before"]);
}

#[test]
fn logs_are_read_however_their_columns_are_compressed() {
    let mut compressions = vec![
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ];
    if cfg!(feature = "brotli") {
        compressions.push(Compression::BROTLI(Default::default()));
    }
    let place = Place::new();
    write_columns(&place.path("plain.parquet"), plain());
    place.replay_in("plain", &["plain.parquet"], &[]);
    for compression in compressions {
        write_compressed(&place.path("log.parquet"), plain(), compression);
        let report = place.replay_in(&compression.to_string(), &["log.parquet"], &[]);
        assert_eq!(counts(&report), [600, 600, 0, 0], "{compression}");
        assert!(place.items(&compression.to_string()) == place.items("plain"), "{compression}: items.parquet differs");
    }
}

/// Writes a log without compression, dictionaries and statistics, as short as any other of the same rows.
fn write_bare(path: &Path, day: i64) {
    use arrow_array::RecordBatch;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    let n = 40_000;
    let number = |row: i64| (row * 7_919 + day * row * row) % 2_000;
    let columns = vec![
        ("user_id", text((0..n).map(|row| Some(format!("u{:07}", row % 900))))),
        ("item_id", text((0..n).map(|row| Some(format!("i{:07}", number(row)))))),
        ("timestamp", times((0..n).map(|row| Some(BEGIN + day * 86_400_000 + row * 1_000)))),
        ("event_type", text((0..n).map(|_| Some("click")))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn logs_of_the_same_length_and_edges_are_two() {
    let place = Place::new();
    for day in [0, 1] {
        write_bare(&place.path(&format!("day{day}.parquet")), day);
    }
    let (first, second) = (read(&place.path("day0.parquet")), read(&place.path("day1.parquet")));
    let edge = 1 << 16;
    let edges = |bytes: &[u8]| (bytes[..edge].to_vec(), bytes[bytes.len() - edge..].to_vec());
    assert!(first.len() == second.len() && edges(&first) == edges(&second), "not what is tested here");
    let report = place.replay_in("both", &["day0.parquet", "day1.parquet"], &["evaluate.share=0"]);
    assert_eq!(report["events"]["read"], 80_000);
}

#[test]
fn what_is_no_log_is_told_by_what_it_is() {
    let place = Place::new();
    std::fs::write(place.path("log.csv.parquet"), "user_id,item_id,timestamp\na,b,1\n").unwrap();
    std::fs::write(place.path("gz.parquet"), [&[0x1f, 0x8b, 8, 0][..], &[7; 100]].concat()).unwrap();
    std::fs::write(place.path("log"), b"Obj\x01\x04").unwrap();
    std::fs::write(place.path("log.bz2"), b"BZh91AY&SY").unwrap();
    std::fs::write(place.path("list.json"), "[{\"user_id\":\"a\"}]\n").unwrap();
    std::fs::create_dir(place.path("avro")).unwrap();
    std::fs::write(place.path("avro/a.avro"), b"Obj\x01\x04").unwrap();
    for (log, words) in [
        ("log.csv.parquet", &["not Parquet (no PAR1 at its end), but text (CSV?)", "called .csv"][..]),
        ("gz.parquet", &["compressed by gzip as a whole", "decompress it first"]),
        ("log", &["no log, but an Avro file", "convert it"]),
        ("log.bz2", &["compressed by bzip2 as a whole", "decompress it first"]),
        ("list.json", &["one list", "jq -c"]),
        ("avro", &["there is no log, but an Avro file", "a.avro"]),
        ("hdfs://me:secret@host/logs/", &["@host/logs/", "hdfs dfs -get"]),
    ] {
        let said = run(&mut place.negstream(&["replay", log])).ended(3).names(words);
        assert!(!said.err.contains("secret"), "{}", said.err);
    }
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
}

#[test]
fn missing_optional_column_that_was_named_is_told() {
    let place = Place::new();
    write_columns(&place.path("log.parquet"), plain());
    let mut command = place.negstream(&["replay", "log.parquet", "--set", "source.fields.value=rating"]);
    run(&mut command).ended(0).names(&["column 'rating' is missing", "source.fields.value"]);
}
