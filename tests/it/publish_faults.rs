//! Workers whose sink is in trouble: training ends with the same bytes as without a sink, log and report name the sink, and once the
//! trouble is over the next start makes the sink whole.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::sink_servers::{self, SinkServer};
use crate::support::{Place, Said, events, run, set, write_described_log};

/// A server that takes connections and answers `answer` to whatever it is asked; nothing at all where that is empty.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if answer.is_empty() {
                held.push(stream);
                continue;
            }
            std::thread::spawn(move || {
                let mut request = [0; 4_096];
                while stream.read(&mut request).is_ok_and(|n| n > 0) && stream.write_all(answer.as_bytes()).is_ok() {}
            });
        }
    });
    address
}

const SETTINGS: [&str; 4] = ["model.dim=64", "negatives.bank=64", "train.batch=64", "threads=1"];

struct Trouble {
    place: Place,
    log: String,
}

impl Trouble {
    fn new() -> Self {
        let place = Place::new();
        let log = place.path("log.parquet").display().to_string();
        write_described_log(log.as_ref(), &events(20_000, 41));
        place.replay_in("quiet", &[&log], &SETTINGS);
        Self { place, log }
    }

    /// A worker that begins anew in the folder `checkpoints` and publishes to the table `sink`.
    fn train(&self, checkpoints: &str, sink: &str) -> Said {
        let mut command = self.place.negstream_in(checkpoints, &["replay", "--json", &self.log]);
        set(&mut command, &SETTINGS);
        set(&mut command, &[&format!("publish=[{{patience=2,{sink}}}]")]);
        run(&mut command).ended(0)
    }

    /// It ends as without a sink, and says in its log and report what is wrong.
    #[track_caller]
    fn is_told(&self, checkpoints: &str, sink: &str, condition: &str, words: &[&str]) -> Value {
        let said = self.train(checkpoints, sink).names(words).names(&["does not hold the final table"]);
        let figures = said.json()["sinks"][0].clone();
        assert_eq!(figures["condition"], condition, "{figures}");
        assert!(figures["errors"].as_u64() > Some(0), "{figures}");
        assert!(!said.err.contains("canary"), "{}", said.err);
        assert!(self.place.items(checkpoints) == self.place.items("quiet"), "a sink in trouble changed the model");
        figures
    }
}

#[test]
fn worker_whose_sink_hangs_or_answers_errors_trains_on_and_tells() {
    let trouble = Trouble::new();
    for (sink, scheme) in [("redis", "redis"), ("postgres", "postgres"), ("opensearch", "http")] {
        let table = |address: &str| format!("sink=\"{sink}\",timeout_ms=200,target=\"{scheme}://me:canary@{address}\"");
        let hangs = trouble.is_told(&format!("{sink}-hangs"), &table(&answering("")), "away", &[sink, "200 ms"]);
        assert_eq!(hangs["rows"], 0);
        let nonsense = "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        let checkpoints = format!("{sink}-errors");
        let said = trouble.train(&checkpoints, &table(&answering(nonsense))).names(&[sink]);
        let figures = &said.json()["sinks"][0];
        assert!(figures["condition"] != "settled" && figures["errors"].as_u64() > Some(0), "{figures}");
        assert!(trouble.place.items(&checkpoints) == trouble.place.items("quiet"));
    }
}

#[test]
fn worker_whose_sink_is_full_refuses_it_or_is_of_another_model_trains_on_and_tells() {
    let (Some(full), Some(closed), Some(redis)) = (
        SinkServer::redis_with(&["--maxmemory", "1mb"]),
        SinkServer::redis_with(&["--requirepass", "another"]),
        SinkServer::redis_with(&[]),
    ) else {
        return;
    };
    let trouble = Trouble::new();
    let table = |target: &str| format!("sink=\"redis\",target=\"{target}\"");
    let target = sink_servers::redis_url(&full);
    trouble.is_told("full", &table(&target), "refused", &["redis", "full", "maxmemory"]);
    let target = format!("redis://:canary@127.0.0.1:{}/0", closed.port());
    trouble.is_told("closed", &table(&target), "refused", &["redis", "password"]);
    // The sink holds another model's vectors, which also have another dimension.
    let target = sink_servers::redis_url(&redis);
    let mut other = trouble.place.negstream_in("other", &["replay", "--json", &trouble.log]);
    set(&mut other, &["model.dim=8", "negatives.bank=64", &format!("publish=[{{{}}}]", table(&target))]);
    let held = run(&mut other).ended(0).json();
    assert_eq!(held["sinks"][0]["condition"], "settled", "{held}");
    trouble.is_told("mixed", &table(&target), "refused", &["redis", "another model", "replace = true"]);
    // Once somebody has decided, the same worker makes the sink whole.
    let replacing = format!("{},replace=true", table(&target));
    let said = trouble.train("mixed", &replacing).json();
    let figures = &said["sinks"][0];
    assert!(figures["condition"] == "settled" && figures["full_updates"] == 1, "{figures}");
    let newest = trouble.place.newest("mixed").display().to_string();
    let mut verify = trouble.place.negstream(&["publish", "verify", &newest, "--sink", "redis", "--target", &target]);
    run(&mut verify).ended(0);
}
