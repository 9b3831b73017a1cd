//! `/v1` on a running worker: what it answers, and to whom.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Background, Place, events, python, run, set, write_log};

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
