//! Public data sets, as they are downloaded: small files made anew with the quirks of each, which go in without conversion, by
//! the command of docs/formats.md; and `check`, whose proposal for each of them is accepted and runs.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{Place, Said, read, run, set, write_log};

/// A data set: its file, and how docs/formats.md replays it.
struct PublicLog {
    file: &'static str,
    bytes: Vec<u8>,
    settings: &'static [&'static str],
    rows: u64,
    /// Rows without what an event needs.
    rejected: u64,
    /// Settings that `check` proposes at least.
    proposed: &'static [&'static str],
}

const USERS: u64 = 30;
const EACH: u64 = 20;
const ROWS: u64 = USERS * EACH;

/// Rows by user, and each user's by time: user, item, number among all, and a moment within a year in seconds.
fn by_user() -> impl Iterator<Item = (u64, u64, u64, u64)> {
    (0..ROWS).map(|row| {
        let (user, place) = (row / EACH, row % EACH);
        (user + 1, (user * 7 + place * 2) % 50 + 1, row, 1_100_000_000 + user * 37_000 + place * 1_000_000)
    })
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn iso(seconds: u64, end: &str) -> String {
    let time = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap();
    time.format("%Y-%m-%dT%H:%M:%S").to_string() + end
}

/// MovieLens, `ratings.csv`: with a header, by user, half stars.
fn movielens() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| format!("{user},{item},{}.{},{at}\n", row % 5, row % 2 * 5));
    PublicLog {
        file: "ratings.csv",
        bytes: ("userId,movieId,rating,timestamp\n".to_owned() + &rows.collect::<String>()).into(),
        settings: &[
            "source.fields.user_id=userId",
            "source.fields.item_id=movieId",
            "source.fields.value=rating",
            "source.timestamp_unit=s",
        ],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.fields.user_id", "source.fields.item_id", "source.timestamp_unit"],
    }
}

/// MovieLens 100K, `u.data`: tabs, no header, in no order.
fn movielens_100k() -> PublicLog {
    let mut rows: Vec<String> =
        by_user().map(|(user, item, row, at)| format!("{user}\t{item}\t{}\t{at}\n", row % 5 + 1)).collect();
    rows.sort_by_key(|row| row.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())));
    PublicLog {
        file: "u.data",
        bytes: rows.concat().into(),
        settings: &[r#"source.csv.columns=["user_id","item_id","value","timestamp"]"#, "source.timestamp_unit=s"],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.csv.columns", "source.timestamp_unit"],
    }
}

/// MovieLens 1M, `ratings.dat`: two colons between cells.
fn movielens_1m() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| format!("{user}::{item}::{}::{at}\n", row % 5 + 1));
    PublicLog { file: "ratings.dat", bytes: rows.collect::<String>().into(), ..movielens_100k() }
}

/// RetailRocket, `events.csv`: milliseconds, in no order, transactions that are mostly empty; people come back.
fn retail_rocket() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| {
        let (kind, transaction) = match row % 10 {
            9 => ("transaction", (row + 3_000).to_string()),
            8 => ("addtocart", String::new()),
            _ => ("view", String::new()),
        };
        format!("{}332,{},{kind},{},{transaction}\n", at + 300_000_000, user + 250_000, item % 9)
    });
    PublicLog {
        file: "events.csv",
        bytes: ("timestamp,visitorid,event,itemid,transactionid\n".to_owned() + &rows.collect::<String>()).into(),
        settings: &[
            "source.fields.user_id=visitorid",
            "source.fields.item_id=itemid",
            "source.fields.event_type=event",
            "evaluate.repeat=true",
        ],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.fields.user_id", "source.fields.item_id", "source.fields.event_type", "evaluate.repeat"],
    }
}

/// Last.fm 1K: tabs, no header, the newest first, ids that are empty, quotes in names that do not end.
fn lastfm() -> PublicLog {
    let mut rows: Vec<String> = by_user()
        .map(|(user, item, row, at)| {
            let item = item % 9;
            let artist = if row % 9 == 4 { String::new() } else { format!("f1b1cf71-bd35-4e99-8624-{item:012}") };
            format!("user_{user:06}\t{}\t{artist}\tDeep, \"Dish {item}\t\t\"Round (Midnight {row}\n", iso(at, "Z"))
        })
        .collect();
    rows.reverse();
    PublicLog {
        file: "userid-timestamp-artid-artname-traid-traname.tsv",
        bytes: rows.concat().into(),
        settings: &[
            r#"source.csv.columns=["user_id","timestamp","artist_id","item_id","track_id","track"]"#,
            "evaluate.repeat=true",
        ],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.csv.columns"],
    }
}

/// Yoochoose, `yoochoose-clicks.dat`: no header, sessions for users, times with `Z`, categories that are no numbers.
fn yoochoose() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| {
        let category = ["0", "0", "S", "7", "2088111111"][row as usize % 5];
        format!("{user},{},{},{category}\n", iso(at, ".277Z"), 214_536_500 + item)
    });
    PublicLog {
        file: "yoochoose-clicks.dat",
        bytes: rows.collect::<String>().into(),
        settings: &[r#"source.csv.columns=["user_id","timestamp","item_id","category"]"#],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.csv.columns"],
    }
}

/// Amazon Reviews 2023, the reviews: JSON lines, compressed; texts, lists and records beside what is read.
fn amazon_reviews() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| {
        let row = json!({
            "rating": (row % 5 + 1) as f64, "title": "Five \"Stars\"", "text": "Line\nline, \u{e9}", "images": [{"small": "x"}],
            "asin": format!("B01{item:07}"), "parent_asin": format!("B00{item:07}"), "user_id": format!("AE{user:026}"),
            "timestamp": at * 1000 + 923, "helpful_vote": 0, "verified_purchase": true,
        });
        format!("{row}\n")
    });
    PublicLog {
        file: "All_Beauty.jsonl.gz",
        bytes: gzip(&rows.collect::<String>()),
        settings: &["source.fields.item_id=parent_asin", "source.fields.value=rating"],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.fields.item_id"],
    }
}

/// Amazon Reviews 2023, the ratings alone: CSV with a header, milliseconds, compressed.
fn amazon_ratings() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| format!("AE{user:026},B00{item:07},{}.0,{at}923\n", row % 5 + 1));
    PublicLog {
        file: "All_Beauty.csv.gz",
        bytes: gzip(&("user_id,parent_asin,rating,timestamp\n".to_owned() + &rows.collect::<String>())),
        ..amazon_reviews()
    }
}

/// Amazon Reviews 2018, the ratings alone: no header, the item first.
fn amazon_ratings_2018() -> PublicLog {
    let rows = by_user().map(|(user, item, row, at)| format!("B00{item:07},A{user:013},{}.0,{at}\n", row % 5 + 1));
    PublicLog {
        file: "All_Beauty.csv",
        bytes: rows.collect::<String>().into(),
        settings: &[r#"source.csv.columns=["item_id","user_id","value","timestamp"]"#, "source.timestamp_unit=s"],
        rows: ROWS,
        rejected: 0,
        proposed: &["source.csv.columns", "source.timestamp_unit"],
    }
}

/// Replays a data set by the command of docs/formats.md, and by the one that `check` tells.
#[track_caller]
fn goes_in(log: &PublicLog) {
    let place = Place::new();
    fs::write(place.path(log.file), &log.bytes).unwrap();
    let mut command = place.negstream_in("told", &["replay", log.file, "--sort", "--json"]);
    set(&mut command, log.settings);
    let report = run(&mut command).ended(0).json();
    let counts = |report: &Value| ["read", "used", "rejected"].map(|name| report["events"][name].as_u64().unwrap());
    let expected = [log.rows, log.rows - log.rejected, log.rejected];
    assert_eq!(counts(&report), expected, "{}: {report}", log.file);
    assert_eq!((&report["users"], &report["warnings"]), (&json!(USERS), &json!([])), "{report}");

    // What `check` tells.
    let found = run(&mut place.negstream(&["check", log.file, "--json", "--write", "proposed.toml"])).ended(0).json();
    for key in log.proposed {
        assert!(found["settings"].get(*key).is_some(), "{}: {key} is not proposed: {found}", log.file);
    }
    assert_eq!((&found["rows"], &found["looked_at"]["users"]), (&json!(log.rows), &json!(USERS)), "{found}");
    assert_eq!(found["problems"], json!([]));
    let next: Vec<&str> = found["next"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    assert_eq!(next[..3], ["negstream", "replay", log.file]);
    let mut arguments = next[1..].to_vec();
    arguments.push("--json");
    let report = run(&mut place.negstream_in("proposed", &arguments)).ended(0).json();
    assert_eq!(counts(&report), expected, "{}: {report}", log.file);
    assert!(place.items("proposed") == place.items("told"), "{}: the same model", log.file);

    // The same without a file: the command says it all.
    let found = run(&mut place.negstream(&["check", log.file, "--json"])).ended(0).json();
    let next: Vec<&str> = found["next"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    let mut arguments = next[1..].to_vec();
    arguments.push("--json");
    let report = run(&mut place.negstream_in("flags", &arguments)).ended(0).json();
    assert_eq!(counts(&report), expected, "{}: {report}", log.file);
}

#[test]
fn movielens_goes_in() {
    goes_in(&movielens());
}

#[test]
fn movielens_100k_goes_in() {
    goes_in(&movielens_100k());
}

#[test]
fn movielens_1m_goes_in() {
    goes_in(&movielens_1m());
}

#[test]
fn retail_rocket_goes_in() {
    goes_in(&retail_rocket());
}

#[test]
fn lastfm_goes_in() {
    goes_in(&lastfm());
}

#[test]
fn yoochoose_goes_in() {
    goes_in(&yoochoose());
}

#[test]
fn amazon_goes_in() {
    goes_in(&amazon_reviews());
    goes_in(&amazon_ratings());
    goes_in(&amazon_ratings_2018());
}

fn check(place: &Place, arguments: &[&str]) -> Said {
    run(&mut place.negstream(&[&["check"], arguments].concat()))
}

#[test]
fn check_shows_what_a_person_needs() {
    let place = Place::new();
    let log = movielens();
    fs::write(place.path(log.file), &log.bytes).unwrap();
    let said = check(&place, &["ratings.csv"]).ended(0).out;
    for words in [
        "CSV, \",\" between cells, with a header",
        "userId: whole numbers",
        "source.timestamp_unit = \"s\"",
        "negstream replay ratings.csv --sort",
        "warning",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
    // A log that needs nothing.
    let events = crate::support::events(500, 1);
    write_log(&place.path("plain.parquet"), &events);
    let found = check(&place, &["plain.parquet", "--json"]).ended(0).json();
    assert_eq!((&found["format"], &found["sort"], &found["rows"]), (&json!("Parquet"), &json!(false), &json!(500)));
    let keys: Vec<&String> = found["settings"].as_object().unwrap().keys().collect();
    assert!(keys.iter().all(|key| key.starts_with("evaluate") || key.starts_with("positives")), "{keys:?}");
}

#[test]
fn check_tells_what_makes_a_log_useless() {
    let place = Place::new();
    let write = |name: &str, text: &str| fs::write(place.path(name), text).unwrap();
    write("who.csv", "who,what,when\nu,i,2026-01-01\nv,i,2026-01-01\n");
    check(&place, &["who.csv"]).ended(3).names(&["source.fields.user_id", "who, what, when"]);
    write("us.csv", "Customer ID,StockCode,InvoiceDate\n1,2,12/1/2010 8:26\n");
    let said = check(&place, &["us.csv"]).ended(3).names(&["12/1/2010 8:26", "source.date_order", "month_first"]);
    assert!(said.out.contains("problem"), "{}", said.out);
    let said = check(&place, &["us.csv", "--set", "source.date_order=month_first"]).ended(0);
    assert!(said.out.contains("2010-12-01 08:26"), "{}", said.out);
    write("odd.csv", "Customer ID,StockCode,InvoiceDate\n1,2,the first of May\n");
    check(&place, &["odd.csv"]).ended(3).names(&["the first of May", "not understood"]);
    write("empty.csv", "user_id,item_id,timestamp\n");
    check(&place, &["empty.csv"]).ended(3).names(&["no rows"]);
    write("future.csv", "user_id,item_id,timestamp\nu,a,2099-01-01T00:00:00Z\nu,b,2099-01-01T00:00:00Z\n");
    let said = check(&place, &["future.csv"]).ended(0).out;
    for words in ["later than now", "one user", "the same time"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    check(&place, &["nothing.csv"]).ended(3);
}

#[test]
fn manual_and_completions_follow_the_command_line() {
    let place = Place::new();
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef negstream"), ("fish", "complete -c negstream")] {
        let said = run(&mut place.negstream(&["completions", shell])).ended(0).out;
        assert!(said.contains(words) && said.contains("replay"), "{shell}");
    }
    run(&mut place.negstream(&["man", "pages"])).ended(0);
    let page = |name: &str| String::from_utf8(read(&place.path(&format!("pages/{name}.1")))).unwrap();
    assert!(page("negstream").contains("SUBCOMMANDS") && page("negstream-replay").contains("\\-\\-sort"));
    assert!(Path::new(&place.path("pages/negstream-config-check.1")).exists());
}

/// A shop's export whose columns nobody else calls so: what is missing is asked for by a command, and the file that follows needs no
/// more than itself.
#[test]
fn columns_of_unknown_names_are_asked_for_once() {
    let place = Place::new();
    let mut text = "Kunde;Artikel;Aktion;Datum\n".to_owned();
    for row in 0..600 {
        let kind = if row % 7 == 0 { "return" } else { "purchase" };
        let minute = format!("{:02}.01.2026 {}:{:02}", 1 + row / 30, 8 + row % 60 / 10, row % 60);
        text.push_str(&format!("k{};a{};{kind};{minute}\n", row % 31, row * 7 % 53));
    }
    fs::write(place.path("export.csv"), text).unwrap();
    let said = check(&place, &["export.csv"]).ended(3);
    let next = "negstream check export.csv --set source.fields.user_id=COLUMN --set source.fields.item_id=COLUMN\n";
    assert!(said.out.ends_with(next), "{}", said.out);

    let columns = ["--set", "source.fields.user_id=Kunde", "--set", "source.fields.item_id=Artikel"];
    let said = check(&place, &[&["export.csv", "--write", "shop.toml"], &columns[..]].concat()).ended(0);
    let written = String::from_utf8(read(&place.path("shop.toml"))).unwrap();
    assert!(written.contains("source.date_order = \"day_first\"") && written.contains("\"Kunde\""), "{written}");
    assert!(said.out.contains("'Aktion' has few values (purchase, return)"), "{}", said.out);
    assert!(said.out.contains("negstream replay export.csv --config shop.toml --set"), "{}", said.out);
    assert!(!said.out.split("next:").nth(1).unwrap().contains("source.fields"), "{}", said.out);
    let report =
        run(&mut place.negstream(&["replay", "export.csv", "--config", "shop.toml", "--json"])).ended(0).json();
    assert_eq!(report["events"]["used"], 600);
}
