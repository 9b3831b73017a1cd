//! Logs in CSV and JSON lines, however they are written and compressed: the same events make the same model as from Parquet,
//! byte for byte, also where the worker was killed; what cannot be read is told with its line.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use negstream::event::Interaction;
use serde_json::{Value, json};

use crate::support::{Background, Place, checkpoint_events, click, read, run, set, write_log};

fn events(rows: u32) -> Vec<Interaction> {
    (0..rows)
        .map(|row| click(row * 7 % 40, (row * row + row / 9) % 30, 1_767_225_600_000 + i64::from(row) * 60_000))
        .collect()
}

/// The events as CSV without a header: user, item, type, time.
fn csv(events: &[Interaction], delimiter: &str, end: &str) -> String {
    events
        .iter()
        .map(|event| [&*event.user, &*event.item, &*event.kind, &event.timestamp.to_string()].join(delimiter) + end)
        .collect()
}

fn json_lines(events: &[Interaction]) -> String {
    let line = |event: &Interaction| {
        let row = json!({"user_id": *event.user, "item_id": *event.item, "event_type": *event.kind, "timestamp": event.timestamp, "x": {"y": [1]}});
        format!("{row}\n")
    };
    events.iter().map(line).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn lz4(text: &str) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const HEADER: &str = "user_id,item_id,event_type,timestamp\n";
const COLUMNS: &str = r#"source.csv.columns=["user_id","item_id","event_type","timestamp"]"#;

#[test]
fn text_makes_the_same_model_as_parquet() {
    let place = Place::new();
    let events = events(600);
    write_log(&place.path("plain.parquet"), &events);
    place.replay_in("plain", &["plain.parquet"], &[]);
    let bare = csv(&events, ",", "\n");
    let quoted: String = format!("\u{feff}{HEADER}").replace('\n', "\r\n")
        + &events
            .iter()
            .map(|event| {
                format!("\"{}\",\"{}\",{},\"{}\"\r\n\r\n", event.user, event.item, event.kind, event.timestamp)
            })
            .collect::<String>();
    let two_members = [gzip(HEADER), gzip(&bare)].concat();
    let logs: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("header.csv", format!("{HEADER}{bare}").into(), &[]),
        ("quoted.csv", quoted.into(), &[]),
        ("bare.dat", bare.clone().into(), &[COLUMNS]),
        (
            "numbers.csv",
            bare.clone().into(),
            &[
                "source.fields.user_id=\"1\"",
                "source.fields.item_id=\"2\"",
                "source.fields.event_type=\"3\"",
                "source.fields.timestamp=\"4\"",
            ],
        ),
        ("semicolons.txt", csv(&events, ";", "\n").into(), &[COLUMNS]),
        ("tabs.tsv", csv(&events, "\t", "\r\n").into(), &[COLUMNS]),
        ("colons.dat", csv(&events, "::", "\n").into(), &[COLUMNS]),
        ("bars", csv(&events, "|", "\n").into(), &[COLUMNS]),
        ("members.csv.gz", two_members, &[]),
        ("bare.csv.zst", zstd::encode_all(bare.as_bytes(), 1).unwrap(), &[COLUMNS]),
        ("bare.csv.lz4", lz4(&bare), &[COLUMNS]),
        ("lines.jsonl", json_lines(&events).into(), &[]),
        ("lines.json.gz", gzip(&json_lines(&events)), &[]),
        // The end of the last line may be missing.
        ("cut.jsonl", json_lines(&events).trim_end().to_owned().into(), &[]),
    ];
    for (name, bytes, settings) in logs {
        fs::write(place.path(name), bytes).unwrap();
        let checkpoints = format!("of-{name}");
        let report = place.replay_in(&checkpoints, &[name], settings);
        assert_eq!((&report["events"]["read"], &report["events"]["used"]), (&json!(600), &json!(600)), "{name}");
        assert!(place.items(&checkpoints) == place.items("plain"), "{name}");
    }
}

#[test]
fn logs_of_several_formats_are_merged_by_time() {
    let place = Place::new();
    let events = events(900);
    let part = |of: usize| -> Vec<Interaction> { events.iter().skip(of).step_by(3).cloned().collect() };
    write_log(&place.path("all.parquet"), &events);
    write_log(&place.path("a.parquet"), &part(0));
    fs::write(place.path("b.csv"), format!("{HEADER}{}", csv(&part(1), ",", "\n"))).unwrap();
    fs::create_dir_all(place.path("logs/event_type=click")).unwrap();
    fs::write(
        place.path("logs/event_type=click/c.jsonl.gz"),
        gzip(&json_lines(&part(2)).replace("event_type", "other")),
    )
    .unwrap();
    place.replay_in("all", &["all.parquet"], &[]);
    place.replay_in("merged", &["a.parquet", "b.csv", "logs", "--sort"], &[]);
    assert!(place.items("merged") == place.items("all"));
    let positions = place.manifest("merged")["positions"].clone();
    assert_eq!(
        positions.as_object().unwrap().values().collect::<Vec<_>>(),
        [&json!(900)],
        "one stream in the order of time"
    );
}

#[test]
fn kinds_of_text_are_counted_as_those_of_parquet() {
    let place = Place::new();
    let events: Vec<Interaction> = events(600)
        .into_iter()
        .zip(0..)
        .map(|(event, row)| Interaction { kind: if row % 3 == 0 { "buy".into() } else { "view".into() }, ..event })
        .collect();
    write_log(&place.path("a.parquet"), &events);
    fs::write(place.path("b.csv"), format!("{HEADER}{}", csv(&events, ",", "\n"))).unwrap();
    fs::write(place.path("c.jsonl"), json_lines(&events)).unwrap();
    let kinds = [r#"positives.kinds=["buy"]"#];
    let reports =
        ["a.parquet", "b.csv", "c.jsonl"].map(|log| place.replay_in(log.split('.').next().unwrap(), &[log], &kinds));
    assert_eq!(reports[0]["events"]["used"], 200);
    for report in &reports[1..] {
        assert_eq!((&report["events"], &report["evaluation"]), (&reports[0]["events"], &reports[0]["evaluation"]));
    }
}

#[test]
fn killed_in_the_middle_of_text_goes_on_to_the_same_end() {
    let place = Place::new();
    let events = events(30_000);
    write_log(&place.path("plain.parquet"), &events);
    place.replay_in("plain", &["plain.parquet"], &[]);
    let quoted: String = events
        .iter()
        .map(|event| {
            format!(
                "{},{},{},{},\"a \"\"title\"\"\nof two lines\"\n",
                event.user, event.item, event.kind, event.timestamp
            )
        })
        .collect();
    fs::write(place.path("log.csv.gz"), gzip(&format!("{}{quoted}", HEADER.replace('\n', ",title\n")))).unwrap();
    fs::write(place.path("log.jsonl"), json_lines(&events)).unwrap();
    for log in ["log.csv.gz", "log.jsonl"] {
        let checkpoints = format!("of-{log}");
        let command = || {
            let mut command = place.negstream_in(&checkpoints, &["replay", "--json", log]);
            set(&mut command, &["checkpoint.every_events=2000"]);
            command
        };
        for reached in [2_000, 12_000] {
            let mut worker = Background::start(&mut command());
            let there = worker.wait_for(|line| checkpoint_events(line).filter(|events| *events >= reached));
            assert!(there.is_some() && worker.kill(), "{log}: it had ended before {reached} events");
        }
        let report = run(&mut command()).ended(0).json();
        assert_eq!(report["events"]["read"], 30_000, "{log}");
        assert!(place.items(&checkpoints) == place.items("plain"), "{log}");
        let positions = place.manifest(&checkpoints)["positions"].clone();
        assert_eq!(
            positions.as_object().unwrap().values().collect::<Vec<_>>(),
            [&json!(30_000)],
            "rows, as in Parquet"
        );
    }
}

/// Replays a log that is refused before anything is touched.
#[track_caller]
fn refused(name: &str, bytes: &[u8], settings: &[&str], words: &[&str]) {
    let place = Place::new();
    fs::write(place.path(name), bytes).unwrap();
    let mut command = place.negstream(&["replay", name]);
    set(&mut command, settings);
    run(&mut command).ended(3).names(words);
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
}

#[test]
fn columns_that_are_missing_are_told_with_those_that_are_there() {
    refused(
        "ratings.csv",
        b"userId,movieId,rating,timestamp\n1,2,3.5,1000000000\n",
        &[],
        &[
            "ratings.csv: column 'user_id' is missing",
            "userId, movieId, rating, timestamp",
            "--set source.fields.user_id=userId --set source.fields.item_id=movieId",
        ],
    );
    refused(
        "u.data",
        b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        &[],
        &["there are 1, 2, 3, 4", "source.csv.columns=[\"user_id\", \"item_id\", \"value\", \"timestamp\"]"],
    );
    refused(
        "log.jsonl",
        b"{\"userId\":\"a\",\"item_id\":\"b\",\"timestamp\":1}\n",
        &[],
        &["log.jsonl: column 'user_id' is missing", "\"userId\""],
    );
    refused("log.csv", b"a,b,c\n1,2,3\n", &["source.csv.columns=[\"user_id\"]"], &["names 1 columns", "3 cells"]);
    refused("log.csv", b"user_id~item_id~timestamp\nu~i~1767225600000\n", &[], &["source.csv.delimiter"]);
}

#[test]
fn contestants_are_compared_in_the_order_of_time() {
    let place = Place::new();
    let events = events(3_000);
    write_log(&place.path("sorted.parquet"), &events);
    // By user, as MovieLens has it.
    let mut shuffled = events;
    shuffled.sort_by(|a, b| a.user.cmp(&b.user));
    fs::write(place.path("by-user.csv"), format!("{HEADER}{}", csv(&shuffled, ",", "\n"))).unwrap();
    let compared = |arguments: &[&str]| {
        let mut command = place.negstream(&["compare", "--peers", "none", "--json"]);
        let report = run(command.args(arguments)).ended(0).json();
        let mut first = report["contestants"][0].as_object().unwrap().clone();
        for timed in ["seconds", "training"] {
            assert!(first.remove(timed).is_some(), "{timed} is not reported");
        }
        (report["log"]["judged"].as_u64().unwrap(), first)
    };
    let sorted = compared(&["sorted.parquet"]);
    assert!(sorted.0 > 1_000, "{sorted:?}");
    assert_eq!(compared(&["by-user.csv", "--sort"]), sorted);
}

#[test]
fn parts_without_rows_are_passed_over() {
    let place = Place::new();
    fs::create_dir(place.path("parts")).unwrap();
    fs::write(place.path("parts/0.csv.gz"), gzip("")).unwrap();
    fs::write(place.path("parts/1.csv.gz"), gzip(&format!("{HEADER}{}", csv(&events(50), ",", "\n")))).unwrap();
    fs::write(place.path("parts/2.csv"), HEADER).unwrap();
    fs::write(place.path("parts/3.csv"), "").unwrap();
    assert_eq!(place.replay_in("checkpoints", &["parts"], &[])["events"]["read"], 50);
}

#[test]
fn damaged_text_is_refused_with_its_place() {
    let rows = csv(&events(600), ",", "\n");
    let open = format!("{HEADER}u1,\"i1,click,1767225600000\n{rows}");
    refused("log.csv", open.as_bytes(), &[], &["log.csv", "line 2: a quote begins", "source.csv.quote"]);
    let whole = gzip(&format!("{HEADER}{rows}"));
    refused("log.csv.gz", &whole[..whole.len() - 100], &[], &["log.csv.gz", "cut short"]);
    let mut tar = vec![0; 512];
    tar[..5].copy_from_slice(b"a.csv");
    tar[257..262].copy_from_slice(b"ustar");
    refused("log.tar.gz", &gzip(&String::from_utf8(tar).unwrap()), &[], &["tar archive"]);
    refused("log.csv", b"\xff\xfeu\0s\0", &[], &["UTF-16", "iconv"]);
    refused("log.zip", b"PK\x03\x04", &[], &["zip archive", "unzip"]);
}

#[test]
fn rows_that_cannot_be_read_are_rejected_with_their_line() {
    let place = Place::new();
    let mut rows = csv(&events(100), ",", "\n");
    rows += "u1,i1,click\nu1,,click,1767225600000\nu1,i1,click,yesterday\nu1,i1,click,5\nu1,\"i\n1\",click,1767225600000,more\n";
    fs::write(place.path("log.csv"), format!("{HEADER}{rows}").as_bytes()).unwrap();
    let lines = json_lines(&events(100)) + "{\"user_id\":\n" + "nonsense\n";
    fs::write(place.path("log.jsonl"), lines).unwrap();
    let letters = |log: &str| -> (Value, Vec<Value>) {
        let file = format!("{log}.letters");
        let report = place.replay_in(&format!("of-{log}"), &[log], &[&format!("dead_letters.file={file}")]);
        let text = String::from_utf8(read(&place.path(&file))).unwrap();
        (report["events"]["rejected"].clone(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let (rejected, found) = letters("log.csv");
    assert_eq!((rejected, found.len()), (json!(5), 5));
    for (letter, words) in found.iter().zip([
        &["3 cells, where there are 4 columns", "line 102"][..],
        &["item_id: null", "line 103"],
        &["\\\"yesterday\\\"", "line 104"],
        &["source.earliest_year", "line 105"],
        &["5 cells", "line 106"],
    ]) {
        let letter = letter.to_string();
        assert!(words.iter().all(|word| letter.contains(word)), "{words:?}: {letter}");
    }
    let (rejected, found) = letters("log.jsonl");
    assert_eq!((rejected, found.len()), (json!(2), 2));
    assert!(found[1].to_string().contains("line 102"), "{}", found[1]);
}
