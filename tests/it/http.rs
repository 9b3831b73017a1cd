//! The address under siege: requests that are never ended cost a worker neither file descriptors nor checkpoints, keep
//! nobody out, and do not hold up its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Background, Place, checkpoint_events, events, run, set, write_log};

/// Few enough that the connections alone would take them all.
const FILES: u32 = 256;

fn status_of(address: &str, path: &str, host: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

#[test]
fn half_open_requests_cost_neither_checkpoints_nor_the_drain() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(20_000, 51));
    let limited = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.current_dir(place.path("")).args(["-c", &limited, env!("CARGO_BIN_EXE_negstream"), "run"]);
    set(&mut command, &["kafka.brokers=embedded", "http.listen=127.0.0.1:0", "checkpoint.dir=checkpoints"]);
    set(&mut command, &["checkpoint.every_events=2000", "model.dim=8", "threads=1"]);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    let brokers = worker.wait_for(|line| Some(line.split("bootstrap=").nth(1)?.split_whitespace().next()?.to_owned()));
    let brokers = format!("kafka.brokers={}", brokers.expect("it names its broker"));

    let siege: Vec<TcpStream> = (0..2 * FILES)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("it listens");
            let _ = stream.write_all(b"GET /status HTTP/1.1\r\nX: ");
            stream
        })
        .collect();
    assert_eq!(status_of(&address, "/livez", "localhost"), 200);
    run(&mut place.negstream(&["produce", "log.parquet", "--set", &brokers])).ended(0);
    let written = worker.wait_for(|line| {
        assert!(!line.contains("checkpoint failed"), "{line}");
        checkpoint_events(line).filter(|events| line.contains("checkpoint written") && *events > 10_000)
    });
    assert!(written.is_some(), "checkpoints are written meanwhile");
    assert_eq!(status_of(&address, "/metrics", &address), 200);
    assert_eq!(status_of(&address, "/metrics", "attacker.example"), 421);
    let began = Instant::now();
    worker.terminate();
    worker.end().ended(0);
    assert!(began.elapsed() < Duration::from_secs(60), "the end waits for nobody");
    drop(siege);
}
