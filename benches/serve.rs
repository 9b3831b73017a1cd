//! How long requests to `/v1/recommend` take, and what they cost training: an open loop of requests at a fixed rate, whatever comes
//! back. One JSON line for each phase.
//!
//! `cargo bench --bench serve -- [--items N] [--rate N] [--seconds N] [--alike SHARE] [--set KEY=VALUE]… [--freshness EVENTS_A_SECOND]`
//!
//! With `--freshness` it measures that instead: how long after a record was read an answer reflects it (`serve/freshness.rs`).
//!
//! Each request has a time at which it is due; its latency counts from then on, also where the client was still busy, so that a
//! stall is seen by all requests that fall into it (no coordinated omission). Clients, answers and training share the machine.
//! Phases: training alone; requests alone; both, where requests ask for what is learnt at that moment. Events are drawn from a
//! million items (or `--items`), half of them by popularity; they are ranked by nobody (`evaluate.share = 0`). Each item is of one of
//! [`KINDS`] kinds, and of each user's events the share `--alike` (.8) is of a few kinds. What a stream of hundreds of millions of events
//! would have taught is there from the beginning: the vectors of a kind lie around one direction, with a cosine of about .7 to it, in a
//! space of [`INTRINSIC`] dimensions. (Of two logs' own vectors, 92,000 items of groceries and 46,000 of news, those with at least five
//! events have an intrinsic dimension of 27 and 14 around them, by the estimate of Levina & Bickel 2004 with 20 neighbours.) With
//! `--alike 0` no item is like any other, and vectors begin as in a new model.

#[path = "serve/freshness.rs"]
mod freshness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use negstream::Config;
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::pipeline::CheckpointRequests;
use negstream::position::Stream;
use negstream::recommend::slot::{ViewSlot, ViewWriter};
use negstream::serve::Api;
use negstream::table::rows::{GOLDEN, split_mix};
use negstream::telemetry::{Telemetry, http};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use serde_json::json;

/// Connections of the client.
const CONNECTIONS: usize = 32;
const USERS: u64 = 20_000;
/// Kinds of items.
const KINDS: u64 = 2_000;
/// Kinds that a user likes.
const KINDS_OF_USER: u64 = 4;
/// Dimensions that the vectors of alike items lie in.
const INTRINSIC: usize = 20;
/// How long a few requests are sent at most before what is measured: an index over the items is made when somebody asks.
const WARM_UP: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let values = |flag: &str| -> Vec<&String> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let number = |flag: &str, default: u64| -> anyhow::Result<u64> {
        Ok(values(flag).first().map_or(Ok(default), |value| value.parse())?)
    };
    let (items, rate, seconds) = (number("--items", 1_000_000)?, number("--rate", 500)?, number("--seconds", 20)?);
    let further: Vec<String> = values("--set").into_iter().cloned().collect();
    if !values("--freshness").is_empty() {
        let measured = freshness::measure(number("--freshness", 0)?, Duration::from_secs(seconds), &further)?;
        println!("{measured}");
        return Ok(());
    }
    let mut settings = vec![
        "model.dim=64".to_owned(),
        "memory.items.cap=0".to_owned(),
        "evaluate.share=0.0".to_owned(),
        "http.listen=127.0.0.1:0".to_owned(),
    ];
    settings.extend(further);
    let config = Config::with_settings(&settings)?;
    let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect()))?;
    trainer.set_streams(&[Stream { name: "bench".to_owned(), label: "bench".to_owned() }]);
    let alike = values("--alike").first().map_or(Ok(0.8), |value| value.parse::<f64>())?;
    for item in 0..items {
        trainer.state.add_item(&format!("item-{item}"));
    }
    if alike > 0.0 {
        gather_by_kind(&mut trainer.state, items);
    }
    let mut events = Events { items, alike: (alike * 1e3) as u64, n: 0 };
    // So that users have something to be asked by.
    for _ in 0..5 * USERS {
        trainer.ingest(events.next_record());
    }

    let (slot, telemetry) = (ViewSlot::default(), Telemetry::new(Instant::now()));
    let api = Api::start(&config.serve, ("", "item_id"), slot.clone(), telemetry.serving())?;
    let server = http::serve(&config.http, telemetry, CheckpointRequests::default(), Some(&api))?;
    let mut views = ViewWriter::new(slot, "bench");
    views.follow(&mut trainer, true);
    let span = Duration::from_secs(seconds);

    let alone = train(&mut trainer, &mut events, None, span, &AtomicBool::new(false));
    println!(
        "{}",
        json!({ "bench": "serve", "phase": "training alone", "items": items, "events_per_second": alone.round() })
    );
    views.take_away();
    views.follow(&mut trainer, true);
    let warming = Instant::now();
    let is_without_index = || gauge(server.address(), "negstream_index_build_seconds_count") == Some(0.0);
    while items >= config.serve.index_from as u64 && is_without_index() && warming.elapsed() < WARM_UP {
        load(server.address(), 10, Duration::from_secs(1));
    }
    let quiet = load(server.address(), rate, span);
    println!("{}", quiet.line("requests alone", items, rate, server.address()));
    let is_over = AtomicBool::new(false);
    let (busy, trained) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let measured = load(server.address(), rate, span);
            is_over.store(true, Ordering::Release);
            measured
        });
        let trained = train(&mut trainer, &mut events, Some(&mut views), span * 10, &is_over);
        (loading.join().expect("the client ends"), trained)
    });
    let mut line = busy.line("requests while training", items, rate, server.address());
    line["events_per_second"] = trained.round().into();
    line["share_of_speed"] = ((trained / alone * 1e3).round() / 1e3).into();
    println!("{line}");
    Ok(())
}

/// Puts the vectors of each kind around a direction of their own, in a space of [`INTRINSIC`] dimensions.
fn gather_by_kind(state: &mut State, items: u64) {
    let dim = state.model.dim();
    let number = |of: u64, place: usize| {
        (split_mix(split_mix(of) ^ (place as u64).wrapping_mul(GOLDEN)) >> 11) as f32 / (1_u64 << 52) as f32 - 1.0
    };
    let axes: Vec<Vec<f32>> =
        (0..INTRINSIC).map(|axis| (0..dim).map(|place| number(axis as u64, place)).collect()).collect();
    for item in 0..items {
        let row = state.model.items.values.row_mut(item as usize);
        row.fill(0.0);
        for (axis, direction) in axes.iter().enumerate() {
            let along = number(KINDS + item % KINDS, axis) + number(3 * KINDS + item, axis);
            row.iter_mut().zip(direction).for_each(|(value, number)| *value += along * number);
        }
    }
    state.model.refresh_all_norms();
}

/// Events without end.
struct Events {
    items: u64,
    /// Thousandths of the events whose item is of a kind that the user likes.
    alike: u64,
    n: u64,
}

impl Events {
    fn next_record(&mut self) -> Record {
        let n = self.n;
        self.n += 1;
        let draw = |what: u64| split_mix((8 * n + what).wrapping_mul(GOLDEN));
        // Half of them by popularity, as 1/rank; half evenly.
        let even = draw(0) % self.items;
        let skewed = (self.items as f64).powf((draw(1) >> 11) as f64 / (1_u64 << 53) as f64) as u64 % self.items;
        let item = if draw(2).is_multiple_of(2) { even } else { skewed };
        let user = draw(3) % USERS;
        let kind = split_mix(user * KINDS_OF_USER + draw(5) % KINDS_OF_USER) % KINDS;
        // Items of a kind have the same number modulo that of kinds.
        let item = if draw(6) % 1_000 < self.alike { (item - item % KINDS + kind) % self.items } else { item };
        let event = Interaction {
            user: format!("user-{user}").into(),
            item: format!("item-{item}").into(),
            kind: "click".into(),
            timestamp: 1_700_000_000_000 + n as i64,
            session: None,
            value: None,
            features: Vec::new(),
        };
        Record { stream: 0, offset: n, broker_timestamp: None, outcome: Ok(event) }
    }
}

/// Trains for `span`, or until `is_over`; leaves views where there are any. Gives events a second.
fn train(
    trainer: &mut Trainer,
    events: &mut Events,
    mut views: Option<&mut ViewWriter>,
    span: Duration,
    is_over: &AtomicBool,
) -> f64 {
    let (began, first) = (Instant::now(), events.n);
    while began.elapsed() < span && !is_over.load(Ordering::Acquire) {
        let is_step = trainer.ingest(events.next_record()).is_some();
        if let Some(views) = views.as_mut().filter(|_| is_step) {
            views.follow(trainer, false);
        }
    }
    (events.n - first) as f64 / began.elapsed().as_secs_f64()
}

/// What came of a phase.
struct Measured {
    /// Of those that were answered, ascending.
    latencies: Vec<f64>,
    /// Status of those that were not; 0 where the connection ended.
    failed: Vec<u16>,
    /// How old what was known was, milliseconds, ascending.
    ages: Vec<u64>,
}

impl Measured {
    fn line(&self, phase: &str, items: u64, rate: u64, address: SocketAddr) -> serde_json::Value {
        let at = |share: f64| {
            let place = ((self.latencies.len() as f64 - 1.0) * share).max(0.0) as usize;
            self.latencies.get(place).map(|seconds| (seconds * 1e5).round() / 1e2)
        };
        let age = |share: f64| self.ages.get(((self.ages.len() as f64 - 1.0) * share).max(0.0) as usize).copied();
        let mut failures = self.failed.clone();
        failures.sort_unstable();
        failures.dedup();
        json!({
            "bench": "serve", "phase": phase, "items": items, "rate": rate, "answered": self.latencies.len(),
            "failed": self.failed.len(), "failures": failures, "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
            "age_p50_ms": age(0.5), "age_p99_ms": age(0.99),
            "recall": gauge(address, "negstream_index_recall"), "looked_at": gauge(address, "negstream_index_items_looked_at"),
            "reach": gauge(address, "negstream_index_reach"),
            "builds": gauge(address, "negstream_index_build_seconds_count"), "build_seconds": gauge(address, "negstream_index_build_seconds_sum"),
        })
    }
}

/// Sends `rate` requests a second for `span`, whatever comes back.
fn load(address: SocketAddr, rate: u64, span: Duration) -> Measured {
    let next = AtomicUsize::new(0);
    let total = (rate as f64 * span.as_secs_f64()) as usize;
    let began = Instant::now();
    let client = || {
        let mut measured = Measured { latencies: Vec::new(), failed: Vec::new(), ages: Vec::new() };
        let mut connection = TcpStream::connect(address).map(BufReader::new).expect("it listens");
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return measured;
            }
            let due = began + Duration::from_secs_f64(number as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let user = split_mix(number as u64) % USERS;
            match ask(&mut connection, &json!({ "user": format!("user-{user}") }).to_string()) {
                Some((200, body)) => {
                    measured.latencies.push(due.elapsed().as_secs_f64());
                    let body: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
                    measured.ages.extend(body["model"]["age_ms"].as_u64());
                }
                Some((status, _)) => measured.failed.push(status),
                None => {
                    measured.failed.push(0);
                    connection = TcpStream::connect(address).map(BufReader::new).expect("it listens");
                }
            }
        }
    };
    let mut all = Measured { latencies: Vec::new(), failed: Vec::new(), ages: Vec::new() };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        for client in clients {
            let measured = client.join().expect("a client ends");
            all.latencies.extend(measured.latencies);
            all.failed.extend(measured.failed);
            all.ages.extend(measured.ages);
        }
    });
    all.latencies.sort_by(f64::total_cmp);
    all.ages.sort_unstable();
    all
}

/// What the worker measures of itself.
fn gauge(address: SocketAddr, name: &str) -> Option<f64> {
    let mut connection = BufReader::new(TcpStream::connect(address).ok()?);
    connection.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    connection.read_to_string(&mut page).ok()?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some((value.trim().parse::<f64>().ok()? * 1e5).round() / 1e5)
}

/// Status and body of one answer; `None` where the connection ended.
fn ask(connection: &mut BufReader<TcpStream>, body: &str) -> Option<(u16, Vec<u8>)> {
    let head = format!(
        "POST /v1/recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.get_mut().write_all(format!("{head}{body}").as_bytes()).ok()?;
    let (mut status, mut length) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if number == 0 {
            status = line.split(' ').nth(1)?.parse().ok()?;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).ok()?;
    Some((status, body))
}
