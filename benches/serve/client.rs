//! Who asks: an open loop of requests at a fixed rate, whatever comes back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use negstream::table::rows::split_mix;
use serde_json::json;

use crate::stream::USERS;

/// Connections of the client.
const CONNECTIONS: usize = 32;

/// What came of a phase.
#[derive(Default)]
pub struct Measured {
    /// Of those that were answered, ascending.
    pub latencies: Vec<f64>,
    /// Status of those that were not; 0 where the connection ended.
    pub failed: Vec<u16>,
    /// How old what was known was, milliseconds, ascending.
    ages: Vec<u64>,
}

impl Measured {
    /// Adds what came of another one.
    pub fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed.extend(other.failed);
        self.ages.extend(other.ages);
        self.latencies.sort_by(f64::total_cmp);
        self.ages.sort_unstable();
    }

    pub fn line(&self, phase: &str, items: u64, rate: u64, address: SocketAddr) -> serde_json::Value {
        let at = |share: f64| {
            let place = ((self.latencies.len() as f64 - 1.0) * share).max(0.0) as usize;
            self.latencies.get(place).map(|seconds| (seconds * 1e5).round() / 1e2)
        };
        let age = |share: f64| self.ages.get(((self.ages.len() as f64 - 1.0) * share).max(0.0) as usize).copied();
        let mut failures = self.failed.clone();
        failures.sort_unstable();
        failures.dedup();
        // The mean time that training stood still for a view, of all views so far.
        let of_pauses = |what: &str| gauge(address, &format!("negstream_view_pause_seconds_{what}"));
        let pause = of_pauses("sum").zip(of_pauses("count")).map(|(sum, count)| (sum / count * 1e5).round() / 1e2);
        json!({
            "bench": "serve", "phase": phase, "items": items, "rate": rate, "answered": self.latencies.len(),
            "failed": self.failed.len(), "failures": failures, "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
            "age_p50_ms": age(0.5), "age_p99_ms": age(0.99),
            "view_pause_ms": pause, "recall": gauge(address, "negstream_index_recall"), "looked_at": gauge(address, "negstream_index_items_looked_at"),
            "reach": gauge(address, "negstream_index_reach"),
            "builds": gauge(address, "negstream_index_build_seconds_count"), "build_seconds": gauge(address, "negstream_index_build_seconds_sum"),
        })
    }
}

/// Sends `rate` requests a second for `span`, whatever comes back.
pub fn load(address: SocketAddr, rate: u64, span: Duration) -> Measured {
    let next = AtomicUsize::new(0);
    let total = (rate as f64 * span.as_secs_f64()) as usize;
    let began = Instant::now();
    let client = || {
        let mut measured = Measured::default();
        // Made when there is something to ask, as pools do, and kept.
        let mut kept = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return measured;
            }
            let due = began + Duration::from_secs_f64(number as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let user = split_mix(number as u64) % USERS;
            let connect = || TcpStream::connect(address).map(BufReader::new).expect("it listens");
            let connection = kept.get_or_insert_with(connect);
            match ask(connection, &json!({ "user": format!("user-{user}") }).to_string()) {
                Some((200, body)) => {
                    measured.latencies.push(due.elapsed().as_secs_f64());
                    measured.ages.extend(age(&body));
                }
                Some((status, _)) => measured.failed.push(status),
                None => {
                    measured.failed.push(0);
                    kept = None;
                }
            }
        }
    };
    let mut all = Measured::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        for client in clients {
            all.add(client.join().expect("a client ends"));
        }
    });
    all
}

/// How old what an answer knew was; found without reading the rest, which would take from the machine that is measured.
fn age(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("\"age_ms\":")?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

/// What the worker measures of itself.
pub fn gauge(address: SocketAddr, name: &str) -> Option<f64> {
    let mut connection = BufReader::new(TcpStream::connect(address).ok()?);
    connection.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    connection.read_to_string(&mut page).ok()?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some((value.trim().parse::<f64>().ok()? * 1e5).round() / 1e5)
}

/// Status and body of one answer of `/v1/recommend`; `None` where the connection ended.
fn ask(connection: &mut BufReader<TcpStream>, body: &str) -> Option<(u16, Vec<u8>)> {
    exchange(connection, &recommend(body))
}

/// A request to `/v1/recommend`.
pub fn recommend(body: &str) -> String {
    format!(
        "POST /v1/recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request for what is at a path.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// Status and body of the answer to a request; `None` where the connection ended.
pub fn exchange(connection: &mut BufReader<TcpStream>, request: &str) -> Option<(u16, Vec<u8>)> {
    connection.get_mut().write_all(request.as_bytes()).ok()?;
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
