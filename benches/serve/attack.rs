//! What pages that are open and hostile requests cost training.
//!
//! A page is what a browser does that shows it: it follows `/page/events`, asks for the neighbours of an item and a user's
//! recommendations every other second while the model moves, for the map every eight, and searches now and then. Hostile requests, [`HOSTILE`] of
//! them in a phase over some connections that go on however they are answered: bodies of noise, JSON that is deep, long, or of the wrong
//! kind, ids of control characters and HTML, a k beyond bounds, wrong methods, paths and heads, searches for anything; and
//! [`IDLE`] connections beside, each of which sends a byte now and then.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use negstream::table::rows::{GOLDEN, split_mix};
use serde_json::json;

use crate::client::{Measured, exchange, get, load, recommend};
use crate::stream::{SpeedsAlone, USERS, Worker, median};

/// Pages that are open.
const PAGES: u64 = 8;
/// Hostile requests in a phase.
const HOSTILE: usize = 10_000;
/// Connections that these come over.
const CONNECTIONS: usize = 16;
/// Connections that never end a request.
const IDLE: usize = 1_000;
/// Kinds of hostile requests, and how many of these, the last ones, are those of clients that do not wait for an answer.
const KINDS: usize = 12;
const RUDE: usize = 2;
/// An honest client meanwhile: requests a second.
const HONEST: u64 = 10;

/// Measures training alone, with an honest client, beside which then pages are open, under attack, and under attack beside the honest
/// client, in turn: whoever asks for lists at all has views made, and what these cost is no attack's.
pub fn measure(worker: &mut Worker, span: Duration, rounds: u64) -> anyhow::Result<()> {
    let address = worker.server.address();
    let (mut honest, mut with_pages, mut attacked, mut both) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let of_honest = |shares: &[f64], honest: &[f64]| {
        median(shares.iter().zip(honest).map(|(share, honest)| share / honest).collect())
    };
    let (mut honest_alone, mut honest_beside_pages, mut honest_under_attack) =
        (Vec::new(), Vec::new(), Measured::default());
    let mut statuses = Vec::new();
    let before = resident();
    let mut alone = SpeedsAlone::start(worker, span);
    for _ in 0..rounds {
        worker.leave_view();
        let (trained, latencies) = worker.train_beside(|| load(address, HONEST, span).latencies);
        honest.push(alone.share_kept(worker, trained));
        honest_alone.extend(latencies);
        worker.leave_view();
        let (trained, latencies) = worker.train_beside(|| open_pages(address, span));
        with_pages.push(alone.share_kept(worker, trained));
        honest_beside_pages.extend(latencies);
        worker.leave_view();
        let (trained, _) = worker.train_beside(|| attack(address, 0, span));
        attacked.push(alone.share_kept(worker, trained));
        worker.leave_view();
        let (trained, (of_honest_client, answers)) = worker.train_beside(|| attack(address, HONEST, span));
        both.push(alone.share_kept(worker, trained));
        honest_under_attack.add(of_honest_client);
        statuses.extend(answers);
    }
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let p99 = |mut latencies: Vec<f64>| {
        latencies.sort_by(f64::total_cmp);
        let place = ((latencies.len() as f64 - 1.0) * 0.99).max(0.0) as usize;
        latencies.get(place).map(|seconds| (seconds * 1e5).round() / 1e2)
    };
    worker.leave_view();
    let is_live = load(address, 10, Duration::from_secs(1)).latencies.len();
    let (pages_of_honest, both_of_honest) = (of_honest(&with_pages, &honest), of_honest(&both, &honest));
    println!(
        "{}",
        json!({
            "bench": "serve", "phase": "honest requests", "rate": HONEST, "events_per_second_alone": alone.median().round(),
            "share_of_speed": rounded(median(honest)), "p99_ms": p99(honest_alone),
        })
    );
    println!(
        "{}",
        json!({
            "bench": "serve", "phase": "pages", "pages": PAGES, "share_of_speed": rounded(median(with_pages)),
            "share_of_what_honest_requests_leave": rounded(pages_of_honest), "p99_ms": p99(honest_beside_pages),
        })
    );
    let by_status = |statuses: Vec<u16>| {
        let mut numbers = BTreeMap::<u16, usize>::new();
        statuses.into_iter().for_each(|status| *numbers.entry(status).or_default() += 1);
        numbers
    };
    let Measured { latencies: honest_under_attack, failed, .. } = honest_under_attack;
    println!(
        "{}",
        json!({
            "bench": "serve", "phase": "attack", "hostile": HOSTILE, "idle_connections": IDLE, "seconds": span.as_secs(),
            "share_of_speed": rounded(median(attacked)), "share_of_speed_beside_honest_requests": rounded(median(both)),
            "share_of_what_honest_requests_leave": rounded(both_of_honest),
            "honest_requests": HONEST * span.as_secs() * rounds, "honest_answered": honest_under_attack.len(),
            "honest_not_answered": by_status(failed),
            "p99_ms_of_honest_requests": p99(honest_under_attack), "statuses": by_status(statuses),
            "resident_mb_before": before, "resident_mb_after": resident(), "answered_of_10_afterwards": is_live,
        })
    );
    Ok(())
}

/// Memory of this process, MB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().split(' ').next()?.parse::<u64>().ok()? / 1024)
}

/// Pages that are open for `span`; gives how long requests of an honest client take meanwhile.
fn open_pages(address: SocketAddr, span: Duration) -> Vec<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for page in 0..PAGES {
            scope.spawn(move || {
                let mut events = TcpStream::connect(address).expect("it listens");
                events.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
                events.write_all(get("/page/events").as_bytes()).expect("it takes requests");
                let mut bytes = vec![0; 1 << 16];
                while began.elapsed() < span {
                    let _ = events.read(&mut bytes);
                }
            });
            scope.spawn(move || {
                let mut connection = TcpStream::connect(address).map(BufReader::new).expect("it listens");
                let mut turn = page;
                while began.elapsed() < span {
                    exchange(&mut connection, &get(&format!("/v1/items/item-{page}/neighbors?k=12")));
                    exchange(
                        &mut connection,
                        &recommend(&json!({ "user": format!("user-{page}"), "k": 12 }).to_string()),
                    );
                    if turn.is_multiple_of(4) {
                        exchange(&mut connection, &get("/v1/map"));
                    }
                    if turn.is_multiple_of(8) {
                        exchange(&mut connection, &get(&format!("/v1/items?k=8&prefix=item-{turn}")));
                    }
                    turn += 1;
                    std::thread::sleep(Duration::from_secs(2));
                }
            });
        }
        load(address, HONEST, span).latencies
    })
}

/// Attacks for `span`; gives what comes of `rate` requests a second of an honest client meanwhile, and what the others were answered (0: not
/// at all).
fn attack(address: SocketAddr, rate: u64, span: Duration) -> (Measured, Vec<u16>) {
    // Made before, so that clients take little from the machine that is measured.
    let requests: Vec<String> = (0..100 * KINDS as u64).map(hostile_request).collect();
    let (next, is_over, began) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
    let hostile = || {
        let connect = || {
            let stream = TcpStream::connect(address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
            Some(BufReader::new(stream))
        };
        let (mut connection, mut answers) = (connect(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= HOSTILE {
                return answers;
            }
            let due = began + span.mul_f64(number as f64 / HOSTILE as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let request = &requests[number % requests.len()];
            if number % KINDS >= KINDS - RUDE {
                // Who sends this does not wait for an answer.
                connection = connect();
                let _ = connection.as_mut().map(|connection| connection.get_mut().write_all(request.as_bytes()));
                continue;
            }
            let answer = connection.as_mut().and_then(|connection| exchange(connection, request));
            answers.push(answer.as_ref().map_or(0, |(status, _)| *status));
            if answer.is_none() {
                connection = connect();
            }
        }
    };
    let idle = || {
        let mut connections: Vec<TcpStream> = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            if connections.len() < IDLE {
                connections.extend((0..IDLE / 10).filter_map(|_| TcpStream::connect(address).ok()));
            }
            // Those that were closed are opened anew.
            connections.retain_mut(|connection| connection.write_all(b"G").is_ok());
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(idle);
        let attackers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(hostile)).collect();
        let honest = load(address, rate, span);
        let answers = attackers.into_iter().flat_map(|attacker| attacker.join().expect("it ends")).collect();
        is_over.store(true, Ordering::Release);
        (honest, answers)
    })
}

/// A request that nobody would send who meant well.
fn hostile_request(number: u64) -> String {
    let draw = |what: u64| split_mix((16 * number + what).wrapping_mul(GOLDEN));
    let noise = |n: u64| -> String { (0..n).map(|place| char::from((draw(100 + place) % 128) as u8)).collect() };
    match number % KINDS as u64 {
        0 => recommend(&noise(draw(1) % 2_000)),
        1 => recommend(&"[".repeat(50_000)),
        2 => recommend(&json!({ "user": format!("user-{}", draw(1) % USERS), "k": u64::MAX }).to_string()),
        3 => recommend(&json!({ "user": "<script>alert(1)</script>\u{0}\u{7}\u{1b}[2J", "k": 20 }).to_string()),
        4 => recommend(&json!({ "items": vec!["item-1"; 20_000] }).to_string()),
        5 => recommend(
            &json!({ "user": format!("user-{}", draw(1) % USERS), "k": 1_u64 << 40, "at": i64::MIN }).to_string(),
        ),
        6 => get("/v1/items/%00%0d%0a%3Cimg%20src=x%3E/neighbors?k=99999999999999999999"),
        7 => get(&format!("/v1/items?k=1000&prefix={}", draw(1) % 1_000)),
        8 => get(&format!("/{}", "../".repeat(400))),
        9 => get(&format!("/v1/items/item-{}/neighbors?k=1000001", draw(1) % 1_000)),
        10 => "POST /v1/recommend HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999\r\n\r\n{".to_owned(),
        _ => format!("{}\r\n\r\n", noise(300).replace('\n', " ")),
    }
}
