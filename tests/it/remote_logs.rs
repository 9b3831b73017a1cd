//! Logs on other machines: what is read from a bucket or a web server makes the model that the same files make from a folder,
//! byte for byte, with the same positions; what cannot be read is told by address, cause and remedy, and without secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::http::Method;
use serde_json::Value;

use crate::s3::{BUCKET, S3, S3Fault};
use crate::support::{Place, Said, copy, events, read, run, set, tree, write_log};
use crate::web_server::{WebFault, WebServer};

/// A small model, whose quality does not matter here.
const SETTINGS: [&str; 4] = ["model.dim=8", "negatives.bank=128", "evaluate.share=0", "source.request_timeout_ms=5000"];

/// A replay of `logs` into `checkpoints`.
fn replay(place: &Place, checkpoints: &str, logs: &[&str]) -> Command {
    let mut command = place.negstream_in(checkpoints, &["replay", "--json"]);
    command.args(logs);
    set(&mut command, &SETTINGS);
    command
}

/// A replay whose logs are in a bucket.
fn replay_of(s3: &S3, place: &Place, checkpoints: &str, logs: &[&str]) -> Command {
    let mut command = replay(place, checkpoints, logs);
    s3.known_to(&mut command);
    command
}

/// Every file of the newest checkpoint but what tells runs apart, and the positions.
fn state(place: &Place, checkpoints: &str) -> (BTreeMap<PathBuf, Vec<u8>>, Value) {
    let mut files = tree(&place.newest(checkpoints));
    files.retain(|name, _| !["manifest.json", "progress.json", "lineage"].iter().any(|other| name.ends_with(other)));
    (files, place.manifest(checkpoints)["positions"].clone())
}

#[track_caller]
fn same_state(place: &Place, left: &str, right: &str) {
    let (left_files, left_positions) = state(place, left);
    let (right_files, right_positions) = state(place, right);
    assert_eq!(left_positions, right_positions, "positions of {left} and {right}");
    assert!(left_positions.as_object().is_some_and(|positions| !positions.is_empty()));
    for (name, bytes) in &left_files {
        assert!(right_files.get(name) == Some(bytes), "{} differs between {left} and {right}", name.display());
    }
    assert_eq!(left_files.len(), right_files.len());
}

/// Writes a folder of logs as programs leave it, of 6,000 events in parts that are to be read in the order of numbers, and puts
/// the same into a bucket.
fn bucket_of(place: &Place) -> S3 {
    let s3 = S3::start();
    let folders = ["event_type=click/day=1", "event_type=click/day=2", "event_type=add%20to cart/day=10"];
    for (place_in_order, part) in events(6_000, 31).chunks(1_000).enumerate() {
        let name = format!("logs/{}/part-{}.parquet", folders[place_in_order / 2], 9 + place_in_order % 2);
        std::fs::create_dir_all(place.path(&name).parent().unwrap()).unwrap();
        write_log(&place.path(&name), part);
    }
    for (name, bytes) in [
        ("logs/_SUCCESS", &b""[..]),
        ("logs/notes.txt", b"not a log"),
        ("logs/more.csv", b"user_id,item_id\n"),
        ("logs/day=3.parquet.tmp", b"PAR1"),
        ("logs/_temporary/0/part-0.parquet", b"not finished"),
        ("logs/_delta_log/0.json", b"{}"),
    ] {
        std::fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        std::fs::write(place.path(name), bytes).unwrap();
    }
    // Without an ending, it is a log by its bytes.
    copy(&place.path("logs/event_type=click/day=1"), &place.path("logs/hive"));
    std::fs::rename(place.path("logs/hive/part-9.parquet"), place.path("logs/hive/000000_0")).unwrap();
    std::fs::remove_file(place.path("logs/event_type=click/day=1/part-9.parquet")).unwrap();
    std::fs::remove_file(place.path("logs/hive/part-10.parquet")).unwrap();
    for (name, bytes) in tree(&place.path("logs")) {
        s3.replace(&format!("logs/{}", name.display()), bytes);
    }
    // Not below the prefix, however alike.
    s3.replace("logs2/part-0.parquet", b"not a log".to_vec());
    s3
}

#[test]
fn logs_of_a_bucket_are_those_of_a_folder() {
    let place = Place::new();
    let s3 = bucket_of(&place);
    for (checkpoints, local, remote) in [
        ("folder", &["logs"][..], &["s3://models/logs"][..]),
        ("slash", &["logs/"], &["s3a://models/logs/"]),
        ("pattern", &["logs/*/*/part-*.parquet"], &["s3://models/logs/*/*/part-*.parquet"]),
        ("folders", &["logs/event_type=c*"], &["s3://models/logs/event_type=c*"]),
        ("deep", &["logs/**/*.parquet"], &["s3://models/logs/**/*.parquet"]),
        ("file", &["logs/hive/000000_0"], &["s3://models/logs/hive/000000_0"]),
        ("sorted", &["--sort", "logs"], &["--sort", "s3://models/logs"]),
    ] {
        let away = format!("{checkpoints}-away");
        let here = run(&mut replay(&place, checkpoints, local)).ended(0);
        let there = run(&mut replay_of(&s3, &place, &away, remote)).ended(0);
        assert_eq!(here.json()["events"], there.json()["events"], "{checkpoints}");
        same_state(&place, checkpoints, &away);
    }
    let said = run(&mut replay_of(&s3, &place, "folder-away", &["s3://models/logs"])).ended(0);
    said.names(&[
        "read to their end before",
        "s3://models/logs/more.csv",
        "day=3.parquet.tmp",
        "s3://models/logs is a Delta table",
    ]);
    // A log is known by its content, wherever it lies.
    run(&mut replay_of(&s3, &place, "folder", &["s3://models/logs"])).ended(0).names(&["read to their end before"]);
}

#[test]
fn replay_of_a_bucket_that_is_killed_goes_on_where_it_was() {
    let place = Place::new();
    let s3 = S3::start();
    // Longer than the blocks that are fetched.
    write_log(&place.path("log.parquet"), &events(60_000, 32));
    s3.replace("log.parquet", read(&place.path("log.parquet")));
    run(&mut replay(&place, "here", &["log.parquet"])).ended(0);
    let there = || {
        let mut command = replay_of(&s3, &place, "there", &["s3://models/log.parquet"]);
        set(&mut command, &["checkpoint.every_events=10000"]);
        command
    };
    if cfg!(feature = "failpoints") {
        let said = run(there().env("NEGSTREAM_FAILPOINT", "published@2=kill"));
        assert_eq!(said.code, None, "it was to die: {}", said.err);
        assert!(place.manifest("there")["events"]["read"].as_u64().unwrap() < 60_000);
    }
    // The server falls over now and then.
    s3.fail(Method::GET, "log.parquet", 3, S3Fault::Unavailable);
    run(&mut there()).ended(0);
    same_state(&place, "here", "there");
}

#[test]
fn logs_of_a_web_server_are_those_of_a_folder_with_ranges_and_without() {
    let place = Place::new();
    write_log(&place.path("a.parquet"), &events(30_000, 33));
    write_log(&place.path("b.parquet"), &events(3_000, 34));
    run(&mut replay(&place, "here", &["a.parquet", "b.parquet"])).ended(0);
    for ranges in [true, false] {
        let server = WebServer::start(ranges);
        server.put("/logs/a.parquet", read(&place.path("a.parquet")));
        server.put("/logs/b.parquet", read(&place.path("b.parquet")));
        server.redirect("/moved/a", server.url("/logs/a.parquet"));
        server.fail_after(2, 2, WebFault::Status(503));
        server.fail_after(5, 1, WebFault::Cut);
        let (first, second) = (server.url("/moved/a"), server.url("/logs/b.parquet"));
        let checkpoints = format!("ranges-{ranges}");
        let said = run(&mut replay(&place, &checkpoints, &[&first, &second])).ended(0);
        assert_eq!(said.err.contains("does not answer ranges"), !ranges, "{}", said.err);
        same_state(&place, "here", &checkpoints);
        let sorted = run(&mut replay(&place, &format!("{checkpoints}-sorted"), &["--sort", &first, &second])).ended(0);
        assert_eq!(sorted.json()["events"]["read"], 33_000);
    }
}

/// What is said of a replay that ends with status 3.
#[track_caller]
fn refused(command: &mut Command, words: &[&str]) -> Said {
    run(command).ended(3).names(words)
}

#[test]
fn faults_of_a_bucket_are_told_by_address_cause_and_remedy() {
    let place = Place::new();
    let s3 = bucket_of(&place);
    let log = "s3://models/logs/hive/000000_0";
    refused(
        &mut replay_of(&s3, &place, "none", &["s3://models/nothing"]),
        &["s3://models/nothing", "nothing is there"],
    );
    refused(&mut replay_of(&s3, &place, "none", &["s3://models/logs/*.zip"]), &["s3://models/logs/*.zip"]);
    refused(&mut replay_of(&s3, &place, "none", &["s3://other/logs"]), &["s3://other/logs", "not there", "right"]);
    s3.fail(Method::HEAD, "hive", 100, S3Fault::Denied);
    refused(&mut replay_of(&s3, &place, "none", &[log]), &[log, "403 Forbidden", "AWS_ACCESS_KEY_ID"]);
    // What is no log by its name, and cannot be looked into, is not left out in silence.
    s3.fail(Method::GET, "000000_0", 1_000, S3Fault::Broken);
    refused(&mut replay_of(&s3, &place, "none", &["s3://models/logs"]), &[log, "500 Internal Server Error"]);
    drop(s3);
    let s3 = S3::start();
    s3.replace("cut.parquet", read(&place.path("logs/hive/000000_0"))[..5_000].to_vec());
    let words = ["s3://models/cut.parquet", "cut short"];
    refused(&mut replay_of(&s3, &place, "none", &["s3://models/cut.parquet"]), &words);
    s3.replace("log.parquet", read(&place.path("logs/hive/000000_0")));
    s3.fail(Method::GET, "log.parquet", 1_000, S3Fault::Broken);
    let words = ["s3://models/log.parquet", "500 Internal Server Error", "try again later"];
    refused(&mut replay_of(&s3, &place, "none", &["s3://models/log.parquet"]), &words);
    let mut unreachable = replay_of(&s3, &place, "none", &["s3://models/log.parquet"]);
    // Nobody listens at port 1.
    unreachable.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    refused(&mut unreachable, &["s3://models/log.parquet", "Connection refused", "AWS_ENDPOINT_URL"]);
    assert!(!place.path("none").exists(), "nothing may be touched");
    assert_eq!(BUCKET, "models");
}

#[test]
fn faults_of_a_web_server_are_told_by_address_cause_and_remedy() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(30_000, 35));
    let bytes = read(&place.path("log.parquet"));
    for ranges in [true, false] {
        let server = WebServer::start(ranges);
        server.put("/log.parquet", bytes.clone());
        server.put("/empty.parquet", Vec::new());
        server.put("/page.parquet", b"<html>Sign in</html>".to_vec());
        server.redirect("/round", server.url("/round"));
        server.redirect("/file", "file:///etc/passwd".to_owned());
        let refused = |path: &str, words: &[&str]| {
            let url = server.url(path);
            refused(&mut replay(&place, "none", &[&url]), &[&[url.as_str()][..], words].concat());
        };
        refused("/nothing.parquet", &["404", "is its name right"]);
        refused("/empty.parquet", &["0 bytes"]);
        refused("/page.parquet", &["web page"]);
        refused("/round", &["sent the request on"]);
        refused("/file", &["an address of file"]);
        server.fail_after(0, 1, WebFault::Status(403));
        refused("/log.parquet", &["403", "a signature expires"]);
        server.fail_after(0, 5, WebFault::Status(503));
        refused("/log.parquet", &["503", "try again later"]);
        if !ranges {
            server.fail_after(0, 5, WebFault::Cut);
            refused("/log.parquet", &["answers end early", "goes on from the newest checkpoint"]);
        }
    }
    refused(&mut replay(&place, "none", &["http://127.0.0.1:1/log.parquet"]), &["Connection refused", "127.0.0.1:1"]);
    let pattern = "http://127.0.0.1:1/*.parquet";
    run(&mut replay(&place, "none", &[pattern])).ended(2).names(&[pattern, "name each of them"]);
    assert!(!place.path("none").exists(), "nothing may be touched");
}

#[test]
fn log_that_goes_away_in_the_middle_ends_the_replay_and_loses_nothing() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(60_000, 36));
    let server = WebServer::start(true);
    server.put("/log.parquet", read(&place.path("log.parquet")));
    let url = server.url("/log.parquet");
    run(&mut replay(&place, "count", &[&url])).ended(0);
    let needed = server.requests().len();
    // The requests of the first replay again, but for the last ones, which are of rows.
    server.fail_after(needed - 1, usize::MAX, WebFault::Status(404));
    let said = run(&mut replay(&place, "cut-off", &[&url])).ended(3);
    let said = said.names(&[&url, "after row", "404"]);
    assert!(!said.err.contains("External"), "{}", said.err);
    // What was read before is kept, and gone on from.
    assert!(place.manifest("cut-off")["events"]["read"].as_u64().unwrap() > 0);
    let again = WebServer::start(true);
    again.put("/other-name", read(&place.path("log.parquet")));
    run(&mut replay(&place, "cut-off", &[&again.url("/other-name")])).ended(0);
    same_state(&place, "count", "cut-off");
}

#[test]
fn log_that_is_replaced_in_the_middle_ends_the_replay() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(60_000, 39));
    let bytes = read(&place.path("log.parquet"));
    let server = WebServer::start(true);
    server.put("/log.parquet", bytes.clone());
    let url = server.url("/log.parquet");
    run(&mut replay(&place, "whole", &[&url])).ended(0);
    // Of the same length, at the last request: the entity tag alone tells.
    server.replace_after(server.requests().len() - 1, "/log.parquet", bytes);
    run(&mut replay(&place, "cut-off", &[&url])).ended(3).names(&[&url, "after row", "changed while it was read"]);
}

const CANARY: &str = "C4nary-in-the-net";

#[test]
fn secrets_of_addresses_reach_their_server_and_nothing_else() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(3_000, 37));
    let (server, elsewhere) = (WebServer::start(true), WebServer::start(true));
    elsewhere.put("/log.parquet", read(&place.path("log.parquet")));
    server.redirect("/log.parquet", elsewhere.url("/log.parquet"));
    server.put("/page.parquet", b"<html>".to_vec());
    let url = |path: &str| format!("http://me:{CANARY}@{}{path}?sig={CANARY}", server.address);
    let (log, page, none) = (url("/log.parquet"), url("/page.parquet"), url("/none.parquet"));
    let bucket = format!("s3://AK:{CANARY}@bucket/log.parquet");
    let account = format!("abfss://c:{CANARY}@account.dfs.core.windows.net/log.parquet");
    let option = format!("source.storage_options.secret_access_key={CANARY}");
    for (address, code) in [(&log, 0), (&page, 3), (&none, 3), (&bucket, 2), (&account, 2)] {
        for format in ["text", "json"] {
            let mut command = replay(&place, "checkpoints", &[address, "--report", "report.json"]);
            set(&mut command, &["log.level=trace", &format!("log.format={format}"), &option]);
            let said = run(&mut command).ended(code);
            assert!(!said.out.contains(CANARY) && !said.err.contains(CANARY), "{address}: {}{}", said.out, said.err);
        }
    }
    for (name, bytes) in tree(&place.path("")) {
        let holds = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(!holds, "{} holds a secret", name.display());
    }
    assert!(tree(&place.path("")).contains_key(Path::new("report.json")));
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.target.contains(CANARY) && request.authorization.is_some()));
    // Whom the request was sent on to is told neither.
    let sent_on = elsewhere.requests();
    assert!(!sent_on.is_empty() && sent_on.iter().all(|request| request.authorization.is_none()));
    assert!(sent_on.iter().all(|request| !request.target.contains(CANARY) && request.sent > 0));
}

#[test]
fn options_of_stores_are_those_of_the_configuration_and_of_their_kind() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(3_000, 38));
    let s3 = S3::start();
    s3.replace("log.parquet", read(&place.path("log.parquet")));
    let replay = |setting: &str| {
        let mut command = replay_of(&s3, &place, "checkpoints", &["s3://models/log.parquet"]);
        let endpoint = format!("http://{}", s3.address());
        command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        set(&mut command, &[&format!("source.storage_options.aws_endpoint={endpoint}"), setting]);
        run(&mut command)
    };
    // An option of another kind of store is no fault here.
    replay("source.storage_options.google_service_account=nobody.json").ended(0);
    let said = replay("source.storage_options.regoin=x").ended(2);
    said.names(&["s3://models/log.parquet", "source.storage_options has no option 'regoin'"]);
}
