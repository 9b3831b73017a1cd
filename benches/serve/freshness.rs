//! From a record that was read to an answer that reflects it: how long until `/v1` knows a user whose first event was just read.
//!
//! A live worker with the shipped settings takes events by the clock. Ten times a second one of them is the first event of a user; who asks
//! for that user's vector without a pause is answered 404 until the answer reflects the event, so that what is measured has the request in
//! it, and the view that requests are answered from.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use negstream::event::{Interaction, Record};
use negstream::pipeline::CheckpointRequests;
use negstream::position::{Positions, Stream};
use negstream::recommend::slot::ViewSlot;
use negstream::serve::Api;
use negstream::source::{CommitTracker, PollStatus, SourceError};
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::telemetry::{Telemetry, http};
use negstream::{Config, EventSource, Pipeline, Stop};
use serde_json::{Value, json};

/// First events of users a second.
const PROBES_PER_SECOND: u64 = 10;

/// Events by the clock, and who is told of those that are looked for.
struct ClockSource {
    generator: EventGenerator,
    rate: u64,
    next: u64,
    begun: Instant,
    probes: Sender<(String, Instant)>,
}

impl EventSource for ClockSource {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "clock".to_owned(), label: "the clock".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        let due = (self.begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
        if self.next >= due {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(PollStatus::Idle);
        }
        while self.next < due && block.len() < 1_000 {
            let mut event: Interaction = self.generator.next().expect("it has no end");
            if self.next.is_multiple_of((self.rate / PROBES_PER_SECOND).max(1)) {
                event.user = format!("probe-{}", self.next).into();
                let _ = self.probes.send((event.user.to_string(), Instant::now()));
            }
            block.push(Record { stream: 0, offset: self.next, outcome: Ok(event), broker_timestamp: None });
            self.next += 1;
        }
        Ok(PollStatus::More)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _: &[u32], _: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// Measures at `rate` events a second for `span`, with further `settings`.
pub fn measure(rate: u64, span: Duration, settings: &[String]) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let mut all = vec![
        "http.listen=127.0.0.1:0".to_owned(),
        format!("checkpoint.dir={}", folder.path().join("checkpoints").display()),
    ];
    all.extend(settings.iter().cloned());
    let config = Config::with_settings(&all)?;
    let (slot, telemetry, stop) = (ViewSlot::default(), Telemetry::new(Instant::now()), Stop::new());
    let api = Api::start(&config.serve, ("", "item_id"), slot.clone(), telemetry.serving())?;
    let server = http::serve(&config.http, telemetry, CheckpointRequests::default(), Some(&api))?;
    let (probes, sent) = unbounded();
    let generator = EventGenerator::new(SynthConfig { items: 20_000, ..SynthConfig::default() });
    let source = ClockSource { generator, rate, next: 0, begun: Instant::now(), probes };
    let mut pipeline = Pipeline::builder(&config).stop(stop.clone()).live(true).views(slot).build()?;
    let address = server.address();
    let mut seconds = std::thread::scope(|scope| {
        let watching = scope.spawn(move || {
            let seconds = watch(address, &sent, span);
            stop.request();
            seconds
        });
        pipeline.run(source)?;
        anyhow::Ok(watching.join().expect("it ends"))
    })?;
    seconds.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = ((seconds.len() as f64 - 1.0) * share).max(0.0) as usize;
        seconds.get(place).map(|seconds| (seconds * 1e3).round())
    };
    Ok(json!({
        "bench": "serve", "phase": "freshness of an answer", "rate": rate, "linger_ms": config.train.linger_ms,
        "batch": config.train.batch, "probes": seconds.len(), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
    }))
}

/// Asks for each user that is told of, until they are known.
fn watch(address: SocketAddr, sent: &Receiver<(String, Instant)>, span: Duration) -> Vec<f64> {
    let (began, mut seconds) = (Instant::now(), Vec::new());
    let mut connection = TcpStream::connect(address).map(BufReader::new).expect("it listens");
    while began.elapsed() < span {
        let Ok((user, read_at)) = sent.recv_timeout(Duration::from_secs(1)) else { continue };
        // One at a time: those that came while the last was waited for would count that wait as theirs.
        if read_at.elapsed() > Duration::from_millis(20) {
            continue;
        }
        while ask(&mut connection, &user) != 200 {
            std::thread::sleep(Duration::from_millis(2));
        }
        // The first ones are of a worker that begins.
        if began.elapsed() > span / 10 {
            seconds.push(read_at.elapsed().as_secs_f64());
        }
    }
    seconds
}

/// The status of the answer to the question for a user's vector.
fn ask(connection: &mut BufReader<TcpStream>, user: &str) -> u16 {
    let head = format!("GET /v1/users/{user}/vector HTTP/1.1\r\nHost: here\r\n\r\n");
    connection.get_mut().write_all(head.as_bytes()).expect("it listens");
    let (mut status, mut length) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).expect("it answers") > 0, "it ended the connection");
        if number == 0 {
            status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).expect("a body");
    status
}
