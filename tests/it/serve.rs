//! `/v1` on a running worker: what it answers, and to whom.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use negstream::Config;
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::pipeline::CheckpointRequests;
use negstream::position::{Positions, Stream};
use negstream::recommend::slot::{ViewSlot, ViewWriter};
use negstream::serve::Api;
use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::source::{EventSource as _, PollStatus};
use negstream::table::rows::split_mix;
use negstream::telemetry::{Telemetry, http};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use serde_json::{Value, json};

use crate::support::{Background, Place, data, events, python, run, set, write_log};

/// An answer: status, head in lower case, body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// It is a problem of this status and kind.
    #[track_caller]
    fn is_problem(&self, status: u16, kind: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let body = self.json();
        assert_eq!(body["type"], format!("urn:negstream:problem:{kind}"), "{body}");
        assert_eq!(body["status"], status);
        assert!(
            self.head.contains(&format!("x-request-id: {}", body["request_id"].as_str().unwrap())),
            "{}",
            self.head
        );
        self
    }
}

/// Sends `request` as it is, and reads until the end.
pub fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
    // Where it is refused before its end, the rest is lost.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub fn get(address: &str, path: &str, headers: &str) -> Answer {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

pub fn post(address: &str, path: &str, headers: &str, body: &str) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    exchange(address, format!("{head}{body}").as_bytes())
}

/// A worker on an embedded broker that has read `log.parquet` of `place`, and where it listens.
pub fn worker(place: &Place, settings: &[&str]) -> (Background, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_negstream"));
    command.current_dir(place.path("")).arg("run");
    set(&mut command, &["kafka.brokers=embedded", "http.listen=127.0.0.1:0", "checkpoint.dir=checkpoints"]);
    set(&mut command, &["model.dim=16", "train.linger_ms=50", "checkpoint.every_seconds=0"]);
    set(&mut command, settings);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    let brokers = worker.wait_for(|line| Some(line.split("bootstrap=").nth(1)?.split_whitespace().next()?.to_owned()));
    let brokers = format!("kafka.brokers={}", brokers.expect("it names its broker"));
    run(&mut place.negstream(&["produce", "log.parquet", "--set", &brokers])).ended(0);
    (worker, address)
}

/// Asks until the model has read `events` records.
#[track_caller]
pub fn wait_until_read(address: &str, item: &str, events: u64, headers: &str) {
    let path = format!("/v1/items/{item}/vector");
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let answer = get(address, &path, headers);
        if answer.status == 200 && answer.json()["model"]["events"].as_u64() >= Some(events) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{} {}", answer.status, answer.body);
        std::thread::yield_now();
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|row| row["item_id"].as_str().expect("an id")).collect()
}

/// What a running worker answers is what the command prints of its checkpoint, to the last digit.
#[test]
fn answers_of_a_worker_are_those_of_the_command() {
    let place = Place::new();
    let log = events(4_000, 61);
    write_log(&place.path("log.parquet"), &log);
    let (worker, address) = worker(&place, &[]);
    let (user, item) = (log[3_900].user.as_str(), log[3_900].item.as_str());
    wait_until_read(&address, item, 4_000, "");

    let by_user = post(&address, "/v1/recommend", "", &json!({ "user": user, "k": 7 }).to_string()).json();
    let exclude = by_user["recommendations"][0]["item_id"].as_str().unwrap();
    let request = json!({ "items": [item, "never-seen"], "exclude": [exclude] });
    let by_items = post(&address, "/v1/recommend", "", &request.to_string()).json();
    assert_eq!(by_items["unknown_items"], json!(["never-seen"]));
    let near = get(&address, &format!("/v1/items/{item}/neighbors?k=5"), "").json();
    let listed = ids(&by_user["recommendations"]);
    let mut asked = vec!["never-seen", item];
    asked.extend(listed.iter().rev());
    let scores = post(&address, "/v1/score", "", &json!({ "user": user, "items": asked }).to_string()).json();
    let of_user = get(&address, &format!("/v1/users/{user}/vector"), "").json();
    let of_item = get(&address, &format!("/v1/items/{}/vector", listed[0]), "").json();
    let metrics = get(&address, "/metrics", "").body;
    assert!(metrics.contains("negstream_requests_total{endpoint=\"recommend\",answer=\"ok\"} 2"), "{metrics}");
    worker.terminate();
    worker.end().ended(0);

    let command = |arguments: &[&str]| run(&mut place.negstream(arguments)).ended(0).json();
    let expected = command(&["recommend", "checkpoints", "--user", user, "-k", "7", "--json"]);
    let same = |answer: &Value, expected: &Value| {
        assert_eq!(ids(answer), ids(expected));
        for (row, other) in answer.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
            for part in ["score", "similarity", "popularity", "repetition", "cooccurrence"] {
                assert_eq!(row[part].as_f64().unwrap() as f32, other[part].as_f64().unwrap() as f32, "{row} {other}");
            }
        }
    };
    same(&by_user["recommendations"], &expected["lists"][0]["recommendations"]);
    assert_eq!((&by_user["model"]["step"], &by_user["at"]), (&expected["step"], &expected["at"]));
    let expected = command(&["recommend", "checkpoints", "--item", item, "--exclude", exclude, "--json"]);
    same(&by_items["recommendations"], &expected["lists"][0]["recommendations"]);
    let expected = command(&["neighbors", "checkpoints", item, "-k", "5", "--json"]);
    assert_eq!(ids(&near["neighbors"]), ids(&expected["neighbors"]));
    // Scores are those of the list, in the order of the request.
    assert_eq!(scores["unknown_items"], json!(["never-seen"]));
    let scored = ids(&scores["scores"]);
    assert_eq!(scored[scored.len() - 7..], listed.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(scores["scores"].as_array().unwrap().last(), by_user["recommendations"].as_array().unwrap().first());
    // An inner product is the similarity.
    let numbers = |answer: &Value| -> Vec<f64> {
        answer["vector"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let product: f64 = numbers(&of_user).iter().zip(numbers(&of_item)).map(|(a, b)| a * b).sum();
    let similarity = by_user["recommendations"][0]["similarity"].as_f64().unwrap();
    assert!((product - similarity).abs() < 1e-4 * similarity.abs().max(1.0), "{product} {similarity}");
}

#[test]
fn requests_that_cannot_be_answered_say_why() {
    let place = Place::new();
    let log = events(1_500, 62);
    write_log(&place.path("log.parquet"), &log);
    let (worker, address) = worker(&place, &["serve.max_k=50", "serve.max_ids=5", "serve.max_body_bytes=2000"]);
    let item = log[1_400].item.as_str();
    wait_until_read(&address, item, 1_500, "");
    let ask = |body: &str| post(&address, "/v1/recommend", "", body);

    ask(r#"{"user":"nobody-knows"}"#).is_problem(404, "unknown-user");
    ask(r#"{"items":["never-seen"]}"#).is_problem(404, "unknown-item");
    ask("{}").is_problem(400, "invalid-request");
    ask(&json!({ "user": "u", "items": [item] }).to_string()).is_problem(400, "invalid-request");
    for (body, named) in [
        (json!({ "items": [item], "k": 51 }).to_string(), "serve.max_k"),
        (json!({ "items": [item], "k": 0 }).to_string(), "'k'"),
        (json!({ "items": [item], "k": u64::MAX }).to_string(), "'k'"),
        (json!({ "items": vec![item; 6] }).to_string(), "serve.max_ids"),
        (json!({ "items": [item], "kk": 3 }).to_string(), "kk"),
        (json!({ "items": [item, 3] }).to_string(), "items[1]"),
        (json!({ "items": [item], "filter": { "genre": "x" } }).to_string(), "serve.catalogue"),
        ("{\"items\":".to_owned(), "body"),
        (format!("{} 7", json!({ "items": [item] })), "body"),
    ] {
        let answer = ask(&body);
        answer.is_problem(400, "invalid-request");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{body}: {}", answer.body);
    }
    ask(&format!("\"{}\"", "x".repeat(3_000))).is_problem(413, "body-too-long");
    let plain = "POST /v1/recommend HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    exchange(&address, plain.as_bytes()).is_problem(415, "not-json");
    get(&address, "/v1/recommend", "").is_problem(405, "wrong-method");
    get(&address, "/v1/nothing", "").is_problem(404, "no-such-path");
    get(&address, "/v1/items/%FF/vector", "").is_problem(400, "invalid-request");
    get(&address, "/v1/items/x%0d%0a%3Cb%3E/vector", "").is_problem(404, "unknown-item");
    get(&address, &format!("/v1/items/{item}/neighbors?k=0"), "").is_problem(400, "invalid-request");
    get(&address, &format!("/v1/items/{item}/neighbors?n=3"), "").is_problem(400, "invalid-request");
    let named = get(&address, "/v1/users/none/vector", "X-Request-Id: a.b-7\r\n");
    named.is_problem(404, "unknown-user");
    assert_eq!(named.json()["request_id"], "a.b-7");
    let unnamed = get(&address, "/v1/users/none/vector", "X-Request-Id: <script>\r\n");
    assert!(!unnamed.body.contains("<script>") && !unnamed.head.contains("<script>"));
    assert!(!unnamed.head.contains("access-control"), "no page from elsewhere reads it");
    worker.terminate();
    worker.end().ended(0);
}

#[test]
fn a_token_keeps_others_out_and_origins_are_admitted_by_name() {
    const TOKEN: &str = "0123456789abcdef";
    let place = Place::new();
    let log = events(600, 63);
    write_log(&place.path("log.parquet"), &log);
    let token = format!("http.token={TOKEN}");
    let (worker, address) = worker(&place, &[&token, "serve.cors_origins=[\"https://shop.example\"]"]);
    let item = log[500].item.as_str();
    let path = format!("/v1/items/{item}/vector");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    wait_until_read(&address, item, 600, &bearer);
    get(&address, &path, "").is_problem(401, "unauthorized");
    let wrong = get(&address, &path, "Authorization: Bearer 0123456789abcdeF\r\n");
    wrong.is_problem(401, "unauthorized");
    assert!(wrong.head.contains("www-authenticate: bearer") && !wrong.body.contains(TOKEN));
    let origin = format!("{bearer}Origin: https://shop.example\r\n");
    assert!(get(&address, &path, &origin).head.contains("access-control-allow-origin: https://shop.example"));
    let elsewhere = format!("{bearer}Origin: https://elsewhere.example\r\n");
    assert!(!get(&address, &path, &elsewhere).head.contains("access-control-allow-origin"));
    let preflight = "OPTIONS /v1/recommend HTTP/1.1\r\nHost: here\r\nConnection: close\r\nOrigin: https://shop.example\r\n\
                     Access-Control-Request-Method: POST\r\n\r\n";
    let preflight = exchange(&address, preflight.as_bytes());
    assert_eq!(preflight.status, 204);
    assert!(preflight.head.contains("access-control-allow-headers: authorization, content-type"), "{}", preflight.head);
    worker.terminate();
    worker.end().ended(0);
}

#[test]
fn the_api_is_off_where_others_reach_it_without_a_token() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(300, 64));
    let (worker, address) = worker(&place, &["http.listen=0.0.0.0:0"]);
    let here = address.replace("0.0.0.0", "127.0.0.1");
    let refused = get(&here, "/v1/items/x/vector", "");
    refused.is_problem(403, "not-served");
    assert!(refused.body.contains("http.token"), "{}", refused.body);
    assert_eq!(get(&here, "/livez", "").status, 200);
    worker.terminate();
    worker.end().ended(0);
}

/// Compares the checked-in description with the code; with `UPDATE_GENERATED` set, writes it instead. A validator reads it too.
#[test]
fn the_description_of_the_api_is_as_the_code_has_it() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, negstream::serve::openapi::text()).expect("it can be written");
    }
    let text = std::fs::read_to_string(&path).expect("schemas/openapi.json is there");
    assert!(
        text == negstream::serve::openapi::text(),
        "schemas/openapi.json is not what the code has: UPDATE_GENERATED=1 cargo test --test it description_of_the_api"
    );
    let Some(mut python) = python(&["openapi_spec_validator"]) else { return };
    let script = "import json, sys, openapi_spec_validator as v; v.validate(json.load(open(sys.argv[1])))";
    run(python.args(["-c", script]).arg(&path)).ended(0);
}

/// The events of a Parquet log, in order.
fn read_log(path: &std::path::Path) -> Vec<Interaction> {
    let config = Config::default();
    let options = LogOptions::new(&config.source, false);
    let mut source = ParquetLogs::open(&[path.display().to_string()], options, &Positions::default()).unwrap();
    let mut block = Vec::new();
    while !matches!(source.poll(&mut block).unwrap(), PollStatus::End) {}
    block.into_iter().filter_map(|record| record.outcome.ok()).collect()
}

/// Before every so-manieth event: the list that `/v1/recommend` gives its user. After it: the rank that the evaluator gave its item.
/// Returns how many could be compared.
fn lists_agree_with_the_evaluator(events: &[Interaction], every: usize, settings: &[&str]) -> usize {
    const K: f64 = 20.0;
    let settings: Vec<String> = settings.iter().map(|set| (*set).to_owned()).collect();
    let mut config = Config::with_settings(&settings).unwrap();
    config.serve.max_k = 100_000;
    config.http.listen = "127.0.0.1:0".to_owned();
    let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect())).unwrap();
    trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
    let (slot, telemetry) = (ViewSlot::default(), Telemetry::new(std::time::Instant::now()));
    let api = Api::start(&config.serve, ("", "item_id"), slot.clone(), telemetry.serving()).unwrap();
    let server = http::serve(&config.http, telemetry, CheckpointRequests::default(), Some(&api)).unwrap();
    let address = server.address().to_string();
    let mut views = ViewWriter::new(slot, "test");
    let (mut compared, mut hits) = (0, 0);
    for (number, event) in events.iter().enumerate() {
        let record = Record { stream: 0, offset: number as u64, broker_timestamp: None, outcome: Ok(event.clone()) };
        if number == 0 || number % every > 0 {
            trainer.ingest(record);
            continue;
        }
        trainer.finish();
        views.take_away();
        views.follow(&mut trainer, true);
        let request = json!({ "user": event.user.as_str(), "k": 100_000, "at": event.timestamp });
        let answer = post(&address, "/v1/recommend", "", &request.to_string());
        trainer.ingest(record);
        trainer.finish();
        let ranked = trainer.ranked().first().and_then(|ranked| ranked.model);
        if answer.status == 404 {
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = answer.json();
        assert_eq!(body["model"]["events"], number, "{body}");
        let list = body["recommendations"].as_array().unwrap();
        // Where own items leave the ranking, one that comes all the same is in no list.
        let Some(target) = list.iter().find(|row| row["item_id"] == event.item.as_str()) else { continue };
        let score = |row: &Value| row["score"].as_f64().unwrap();
        let above = list.iter().filter(|row| score(row) > score(target)).count() as f64;
        let equal = list.iter().filter(|row| score(row) == score(target)).count() as f64 - 1.0;
        let (rank, expected) = (above + equal / 2.0, ranked.expect("the item is known"));
        assert!(rank == expected || (rank >= K && expected >= K), "event {number}: {rank}, not {expected}");
        compared += 1;
        hits += usize::from(expected < K);
    }
    println!("{compared} lists compared, {hits} with the event's item among the first 20");
    assert!(hits > 0);
    compared
}

#[test]
fn lists_over_http_are_the_evaluators_rankings() {
    for repeat in ["evaluate.repeat=true", "evaluate.repeat=false"] {
        let compared = lists_agree_with_the_evaluator(&events(20_000, 65), 100, &["model.dim=16", repeat]);
        assert!(compared > 50, "{compared}");
    }
}

#[test]
fn lists_over_http_are_the_evaluators_rankings_on_movielens() {
    let Some(log) = data("ml-100k") else { return };
    let events = read_log(&log);
    let compared = lists_agree_with_the_evaluator(&events, events.len() / 1_100, &[]);
    assert!(compared >= 1_000, "{compared} of {}", events.len());
}

/// Most of a large table is never looked at for a query that is settled before; what somebody had is counted above and left out again.
#[test]
fn lists_over_http_are_the_evaluators_rankings_where_customers_had_much_of_many_items() {
    const ITEMS: f64 = 14_000.0;
    const USERS: u64 = 30;
    let event = |number: u64| {
        let draw = |what: u64| split_mix(split_mix(4 * number + what)) as f64 / u64::MAX as f64;
        // Two in three by popularity; the others make the table long.
        let skew = if draw(0) < 0.67 { 4 } else { 1 };
        let item = (ITEMS * draw(1).powi(skew)) as u64;
        let user = split_mix(number) % USERS;
        Interaction {
            user: format!("user-{user}").into(),
            item: format!("item-{item}").into(),
            kind: "click".into(),
            timestamp: 1_700_000_000_000 + number as i64 * 1_000,
            session: None,
            value: None,
            features: Vec::new(),
        }
    };
    let events: Vec<Interaction> = (0..16_000).map(event).collect();
    let compared = lists_agree_with_the_evaluator(&events, 97, &["model.dim=16", "evaluate.repeat=false"]);
    assert!(compared > 50, "{compared}");
}

/// Read replicas of the checkpoints in `dir`: while a worker goes on writing there, every request is answered, and by newer ones as
/// they come. `known` tells programs where an object store is.
fn replica_follows(dir: &str, known: &(dyn Fn(&mut Command) + Sync)) {
    let place = Place::new();
    let log = events(6_000, 66);
    write_log(&place.path("first.parquet"), &log[..3_000]);
    write_log(&place.path("second.parquet"), &log[3_000..]);
    let command = |arguments: &[&str], settings: &[&str]| {
        let mut command = place.negstream_in(dir, arguments);
        set(&mut command, settings);
        known(&mut command);
        run(&mut command).ended(0).json()
    };
    command(&["replay", "first.parquet", "--json"], &["model.dim=16"]);
    let mut serving = Command::new(env!("CARGO_BIN_EXE_negstream"));
    serving.current_dir(place.path("")).args(["serve", dir, "--every-ms", "20", "--set", "http.listen=127.0.0.1:0"]);
    known(&mut serving);
    let mut replica = Background::start(&mut serving);
    let address = replica.address();
    let user = log[2_900].user.as_str();
    let body = json!({ "user": user, "k": 7 }).to_string();
    let first = post(&address, "/v1/recommend", "", &body);
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.json()["model"]["events"], 3_000);
    let printed = || command(&["recommend", dir, "--user", user, "-k", "7", "--json"], &[]);
    assert_eq!(ids(&first.json()["recommendations"]), ids(&printed()["lists"][0]["recommendations"]));

    let is_over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let ask = || {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Acquire) || seen.last() != Some(&6_000) {
                let answer = post(&address, "/v1/recommend", "", &body);
                assert_eq!(answer.status, 200, "{}", answer.body);
                seen.push(answer.json()["model"]["events"].as_u64().unwrap());
            }
            seen
        };
        let asking = scope.spawn(ask);
        let settings = ["model.dim=16", "checkpoint.every_events=1000", "checkpoint.keep=2"];
        command(&["replay", "second.parquet", "--json"], &settings);
        is_over.store(true, Ordering::Release);
        asking.join().expect("every request is answered")
    });
    assert!(seen.is_sorted() && seen.first() == Some(&3_000), "{seen:?}");
    let last = post(&address, "/v1/recommend", "", &body).json();
    assert_eq!(ids(&last["recommendations"]), ids(&printed()["lists"][0]["recommendations"]));
    replica.terminate();
    replica.end().ended(0);
}

#[test]
fn a_replica_follows_checkpoints_without_dropping_a_request() {
    replica_follows("checkpoints", &|_| {});
}

#[test]
#[cfg(feature = "full")]
fn a_replica_follows_an_object_store() {
    let s3 = crate::s3::S3::start();
    replica_follows("s3://models/served", &|command| {
        s3.known_to(command);
    });
}

/// Lists are filtered by what the catalogue says of items, new ones too.
#[test]
fn lists_are_filtered_by_columns_of_the_catalogue() {
    let place = Place::new();
    let log = events(1_500, 67);
    write_log(&place.path("log.parquet"), &log);
    let mut names: Vec<&str> = log.iter().map(|event| event.item.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let genre = |name: &str| if name.len().is_multiple_of(2) { "even" } else { "odd|Strange" };
    let last = |name: &str| name.bytes().last().map(|byte| i64::from(byte % 3)).unwrap_or_default();
    let columns: [(&str, arrow_array::ArrayRef); 3] = [
        ("item_id", std::sync::Arc::new(arrow_array::StringArray::from(names.clone()))),
        (
            "genre",
            std::sync::Arc::new(names.iter().map(|name| Some(genre(name))).collect::<arrow_array::StringArray>()),
        ),
        ("shelf", std::sync::Arc::new(names.iter().map(|name| Some(last(name))).collect::<arrow_array::Int64Array>())),
    ];
    let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(place.path("catalogue.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (worker, address) = worker(&place, &["serve.catalogue=catalogue.parquet"]);
    let item = log[1_400].item.as_str();
    wait_until_read(&address, item, 1_500, "");
    let ask = |rest: Value| {
        let mut body = json!({ "items": [item], "k": 1_000 });
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        post(&address, "/v1/recommend", "", &body.to_string())
    };
    let all = ask(json!({})).json();
    let all = ids(&all["recommendations"]);
    let expect = |filter: Value, is_wanted: &dyn Fn(&str) -> bool| {
        let found = ask(json!({ "filter": filter })).json();
        let expected: Vec<&str> = all.iter().copied().filter(|name| is_wanted(name)).collect();
        assert_eq!(ids(&found["recommendations"]), expected, "{filter}");
        expected.len()
    };
    let odd = |name: &str| name.len() % 2 == 1;
    let n_strange = expect(json!({ "genre": "Strange" }), &odd);
    let n_shelved = expect(json!({ "shelf": 1 }), &|name| last(name) == 1);
    assert!(n_strange + n_shelved > 0);
    expect(json!({ "genre": ["even", "Strange"], "shelf": [0, "2"] }), &|name| last(name) != 1);
    expect(json!({ "genre": "none of them" }), &|_| false);
    expect(json!({}), &|_| true);
    let refused = ask(json!({ "filter": { "colour": "red" } }));
    refused.is_problem(400, "invalid-request");
    assert!(refused.body.contains("genre, shelf"), "{}", refused.body);
    ask(json!({ "filter": { "genre": { "not": "even" } } })).is_problem(400, "invalid-request");
    worker.terminate();
    worker.end().ended(0);
}

/// Requests of all kinds that nobody in their right mind sends, and clients that never finish: the worker lives, answers, and takes no
/// more memory than it is configured to.
#[test]
fn hostile_requests_leave_the_worker_live() {
    const CLIENTS: usize = 4;
    const EACH: usize = 2_500;
    let place = Place::new();
    let log = events(2_000, 68);
    write_log(&place.path("log.parquet"), &log);
    let (worker, address) = worker(&place, &["serve.deadline_ms=500"]);
    let item = log[1_900].item.as_str();
    wait_until_read(&address, item, 2_000, "");
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = memory();
    // A thousand that begin and never go on.
    let slow: Vec<TcpStream> = (0..1_000)
        .filter_map(|number| {
            let mut stream = TcpStream::connect(&address).ok()?;
            let begun = match number % 3 {
                0 => "POST /v1/recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{",
                1 => "GET /v1/items/",
                _ => "POST /v1/score HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
            };
            let _ = stream.write_all(begun.as_bytes());
            Some(stream)
        })
        .collect();
    let sane = json!({ "items": [item], "k": 5, "exclude": ["x"], "candidates": [item] }).to_string();
    let hostile = |seed: usize| {
        let mut state = seed as u64;
        let mut draw = |below: usize| {
            state = split_mix(state.wrapping_add(negstream::table::rows::GOLDEN));
            (state % below as u64) as usize
        };
        for _ in 0..EACH {
            let body = match draw(8) {
                0 => (0..draw(200)).map(|_| char::from(draw(256) as u8)).collect(),
                1 => {
                    let mut bytes = sane.clone().into_bytes();
                    for _ in 0..=draw(4) {
                        let place = draw(bytes.len());
                        bytes[place] = draw(128) as u8;
                    }
                    String::from_utf8(bytes).unwrap()
                }
                2 => "[".repeat(draw(100_000)),
                3 => format!("{{\"items\":[{item:?}],\"k\":{}}}", "9".repeat(1 + draw(400))),
                4 => json!({ "items": ["\u{0}\u{1b}[2J\r\n<script>alert(1)</script>\u{202e}"], "k": 3 }).to_string(),
                5 => json!({ "user": "x".repeat(draw(200_000)) }).to_string(),
                6 => json!({ "items": vec![item; draw(9_000)], "k": 1_000 }).to_string(),
                _ => sane[..draw(sane.len())].to_owned(),
            };
            let answer = match draw(10) {
                0 => get(
                    &address,
                    &format!("/v1/items/{}/neighbors?k={}", "%3C%00%1b".repeat(draw(50)), draw(1 << 40)),
                    "",
                ),
                1 => get(&address, "/v1/items/..%2F..%2Fetc%2Fpasswd/vector", "X-Request-Id: \u{7f}\u{1}\r\n"),
                2 => exchange(&address, body.as_bytes()),
                3 => post(&address, "/v1/score", "", &body),
                _ => post(&address, "/v1/recommend", "", &body),
            };
            // Where a connection had to make room for another, there is no answer.
            assert!(answer.status < 500 || answer.status == 503, "{} {} {:.200}", answer.status, answer.body, body);
            assert!(!answer.body.contains('\u{1b}') && !answer.head.contains("<script>"), "{}", answer.body);
        }
    };
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || hostile(client));
        }
    });
    drop(slow);
    assert_eq!(get(&address, "/livez", "").status, 200);
    let answer = post(&address, "/v1/recommend", "", &json!({ "items": [item], "k": 5 }).to_string());
    assert_eq!(
        (answer.status, answer.json()["recommendations"].as_array().unwrap().len()),
        (200, 5),
        "{}",
        answer.body
    );
    let grown = memory().saturating_sub(before);
    println!("{} requests, memory {before} kB and {grown} kB more", CLIENTS * EACH);
    assert!(grown < 256 << 10, "{grown} kB more");
    worker.terminate();
    worker.end().ended(0);
}
