//! `doctor`: what works and what does not, with what to do, and the exit status that a worker would end with.

#[cfg(feature = "registry")]
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{Place, run, set};

/// The findings of a configuration, and the exit status.
#[track_caller]
fn findings(place: &Place, settings: &[&str], code: i32) -> Vec<Value> {
    let mut command = place.negstream(&["doctor", "--json"]);
    set(&mut command, settings);
    let found = run(&mut command).ended(code).json();
    assert_eq!(found["healthy"], json!(code == 0), "{found}");
    found["findings"].as_array().unwrap().clone()
}

#[track_caller]
fn of<'a>(findings: &'a [Value], part: &str) -> Vec<&'a Value> {
    let found: Vec<&Value> = findings.iter().filter(|finding| finding["part"] == part).collect();
    assert!(!found.is_empty(), "{part}: {findings:?}");
    found
}

#[test]
fn plain_configuration_is_healthy() {
    let place = Place::new();
    let found = findings(&place, &["http.listen=127.0.0.1:0"], 0);
    for part in ["processor", "memory", "open files", "clock", "temporary", "checkpoints", "disk"] {
        assert!(of(&found, part).iter().all(|finding| finding["health"] != "failed"), "{part}");
    }
    for part in ["brokers", "registry", "sinks"] {
        assert_eq!(of(&found, part)[0]["health"], "unused", "{part}");
    }
    assert_eq!(of(&found, "address")[0]["health"], "ok");
    assert!(!place.path("checkpoints").exists(), "nothing is made");
    let text = run(&mut place.negstream(&["doctor"])).ended(0).out;
    assert!(text.contains("ok       processor") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn folder_that_cannot_be_one_is_told() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    let found = findings(&place, &["checkpoint.dir=file"], 4);
    assert_eq!(of(&found, "checkpoints")[0]["health"], "failed");
    run(&mut place.negstream(&["doctor", "--set", "model.dmi=3"])).ended(2);
}

#[test]
fn broker_that_is_away_is_told_with_the_place() {
    let place = Place::new();
    // A port that nobody listens on: it was free a moment ago, and nobody else is given it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let found = findings(&place, &[&format!("kafka.brokers={address}")], 3);
    let broker = of(&found, "brokers")[0];
    assert!(broker["health"] == "failed" && broker["said"].as_str().unwrap().contains(&address), "{broker}");
    assert!(broker["remedy"].as_str().unwrap().contains("kafka.brokers"), "{broker}");
}

#[test]
#[cfg(feature = "registry")]
fn registry_that_refuses_or_has_another_clock_is_told() {
    let place = Place::new();
    for (status, code, health) in
        [("200 OK", 0, "ok"), ("401 Unauthorized", 3, "failed"), ("404 Not Found", 0, "warning")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let length = connection.read(&mut asked).unwrap();
            let answer = format!("HTTP/1.0 {status}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n[]");
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let url = format!("source.registry.url=http://{address}");
        let found = findings(&place, &[&url, "source.registry.user=ada", "source.registry.password=S3CR3T"], code);
        assert_eq!(of(&found, "registry")[0]["health"], health, "{found:?}");
        assert!(of(&found, "clock").iter().any(|finding| finding["health"] == "warning"), "{found:?}");
        assert!(!Value::from(found).to_string().contains("S3CR3T"));
        assert!(server.join().unwrap().starts_with("GET /subjects HTTP/1.0"));
    }
}
