//! From an event to where it is seen: how long until a sink of a real server holds the row of an item that an event brought.
//!
//! `cargo bench --bench freshness [-- --quick] [--rate N] [--seconds N] [--only SINK]… [--json FILE]`
//!
//! For each sink a worker of its own takes events at the rate (10,000 a second), from a clock rather than as fast as it can. Two
//! hundred times a second one of them is the first of an item that nobody had before. How long it takes from that event to
//! the end of the commit that brings the item's row, when readers of the sink see it, is what is told. Before, as many events as fill the table
//! were learnt, and the sink holds all of it. Servers are those of the tests; one that does not start is said so, and left out.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/kafka_harness.rs"]
mod kafka_harness;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/sink_servers.rs"]
mod sink_servers;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support.rs"]
mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use negstream::event::{Interaction, Record};
use negstream::position::{Positions, Stream};
use negstream::publish::{
    self, EmbeddingSink, ItemRow, SinkConfig, SinkError, SinkState, StoredRow, Update, UserQuery, VectorPrecision,
};
use negstream::source::{CommitTracker, PollStatus, SourceError};
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::{Config, EventSource, Pipeline};
use serde_json::{Value, json};

/// New items a second.
const PROBES_PER_SECOND: u64 = 200;
/// How an item begins that is looked for.
const PROBE: &str = "probe ";

/// When each item was told of that is looked for, and how long it took until it was seen.
#[derive(Debug, Default)]
struct Sightings {
    told: HashMap<String, Instant>,
    seconds: Vec<f64>,
    n_rows: u64,
    n_updates: u64,
}

type SharedSightings = Arc<Mutex<Sightings>>;

fn lock(sightings: &SharedSightings) -> std::sync::MutexGuard<'_, Sightings> {
    sightings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink that notes when it has what is looked for.
#[derive(Debug)]
struct WatchedSink {
    inner: Box<dyn EmbeddingSink>,
    sightings: SharedSightings,
    brought: Vec<String>,
    n_rows: u64,
}

impl EmbeddingSink for WatchedSink {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        self.inner.state()
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.inner.read(visit)
    }

    fn precision(&self) -> VectorPrecision {
        self.inner.precision()
    }

    fn takes_queries(&self) -> bool {
        self.inner.takes_queries()
    }

    fn set_queries(&mut self, queries: &[UserQuery<'_>]) -> Result<(), SinkError> {
        self.inner.set_queries(queries)
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        self.brought.clear();
        self.n_rows = 0;
        self.inner.begin(update)
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        self.inner.remove(item_ids)
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        self.n_rows += rows.len() as u64;
        self.brought.extend(rows.iter().filter(|row| row.item_id.starts_with(PROBE)).map(|row| row.item_id.to_owned()));
        self.inner.upsert(rows)
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        self.inner.set_popularity(popularity)
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        self.inner.commit()?;
        let now = Instant::now();
        let mut sightings = lock(&self.sightings);
        sightings.n_updates += 1;
        sightings.n_rows += self.n_rows;
        for item in self.brought.drain(..) {
            if let Some(told) = sightings.told.remove(&item) {
                sightings.seconds.push((now - told).as_secs_f64());
            }
        }
        Ok(())
    }
}

/// Events by the clock, after as many as fill the table.
struct PacedSource {
    generator: EventGenerator,
    sightings: SharedSightings,
    n_before: u64,
    rate: u64,
    n_paced: u64,
    next: u64,
    begun: Option<Instant>,
}

impl PacedSource {
    fn record(&mut self) -> Record {
        let mut event: Interaction = self.generator.next().expect("it has no end");
        if self.next >= self.n_before && self.next.is_multiple_of((self.rate / PROBES_PER_SECOND).max(1)) {
            event.item = format!("{PROBE}{}", self.next).into();
            lock(&self.sightings).told.insert(event.item.to_string(), Instant::now());
        }
        let record = Record { stream: 0, offset: self.next, outcome: Ok(event), broker_timestamp: None };
        self.next += 1;
        record
    }
}

impl EventSource for PacedSource {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "clock".to_owned(), label: "the clock".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        if self.next < self.n_before {
            for _ in 0..1_024.min(self.n_before - self.next) {
                let record = self.record();
                block.push(record);
            }
            return Ok(PollStatus::More);
        }
        // What waits in channels is trained on, and the table is on its way, before the clock begins.
        let begun = *self.begun.get_or_insert_with(|| Instant::now() + Duration::from_secs(5));
        std::thread::sleep(begun.saturating_duration_since(Instant::now()).max(Duration::from_millis(2)));
        let due = (begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
        while self.next - self.n_before < due.min(self.n_paced) {
            let record = self.record();
            block.push(record);
        }
        Ok(match self.next - self.n_before >= self.n_paced {
            true => PollStatus::End,
            false if block.is_empty() => PollStatus::Idle,
            false => PollStatus::More,
        })
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// What is measured, and how much of it.
struct Plan {
    rate: u64,
    seconds: u64,
    n_before: u64,
    n_items: usize,
    only: Vec<String>,
    json: Option<String>,
}

impl Plan {
    fn of_arguments() -> Self {
        let mut plan =
            Self { rate: 10_000, seconds: 30, n_before: 400_000, n_items: 20_000, only: Vec::new(), json: None };
        let mut arguments = std::env::args().skip(1);
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).expect("a number");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (plan.seconds, plan.n_before, plan.n_items) = (3, 20_000, 2_000),
                "--rate" => plan.rate = number(arguments.next()),
                "--seconds" => plan.seconds = number(arguments.next()),
                "--only" => plan.only.extend(arguments.next()),
                "--json" => plan.json = arguments.next(),
                // What cargo adds.
                "--bench" => {}
                other => panic!("{other} is no option"),
            }
        }
        plan
    }
}

fn main() {
    let plan = Plan::of_arguments();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let is_wanted = |sink: &str| plan.only.is_empty() || plan.only.iter().any(|only| only == sink);
    println!(
        "{} events a second for {} s, after {} events; {} new items a second are looked for\n",
        plan.rate, plan.seconds, plan.n_before, PROBES_PER_SECOND
    );
    println!("| sink | new items seen | p50, s | p99, s | most, s | rows/s | updates/s | cores |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut measured = Vec::new();
    // A server ends before the next begins.
    if is_wanted("memory") {
        measured.extend(measure(&plan, "memory", "freshness", &[]));
    }
    if is_wanted("parquet") {
        measured.extend(measure(&plan, "parquet", &folder.path().display().to_string(), &[]));
    }
    if let Some(server) = is_wanted("redis").then(sink_servers::redis).flatten() {
        let target = sink_servers::redis_url(&server);
        measured.extend(measure(&plan, "redis", &target, &[]));
        measured.extend(measure(&plan, "redis", &target, &[("exploration", "50"), ("name", "fast")]));
        measured.extend(measure(&plan, "redis", &target, &[("links", "8"), ("name", "few")]));
        measured.extend(measure(&plan, "redis", &target, &[("layout", "hash"), ("name", "hash")]));
    }
    if let Some(server) = is_wanted("postgres").then(sink_servers::postgres).flatten() {
        measured.extend(measure(&plan, "postgres", &sink_servers::postgres_url(&server), &[]));
    }
    if let Some(broker) = is_wanted("kafka").then(kafka_harness::Broker::start).flatten() {
        let target = format!("kafka://{}", broker.bootstrap());
        measured.extend(measure(&plan, "kafka", &target, &[]));
        measured.extend(measure(&plan, "kafka", &target, &[("users", "true"), ("name", "users")]));
    }
    if let Some(server) = is_wanted("opensearch").then(sink_servers::opensearch).flatten() {
        measured.extend(measure(&plan, "opensearch", server.url(), &[]));
    }
    let value =
        json!({ "rate": plan.rate, "seconds": plan.seconds, "events_before": plan.n_before, "sinks": measured });
    match &plan.json {
        Some(path) => std::fs::write(path, format!("{value:#}\n")).expect("a writable file"),
        None => println!("\n{value}"),
    }
}

/// Seconds that this process has computed, on all its threads; not a number where that cannot be seen. Servers are processes of their own.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets; the 12th and 13th field there, in hundredths of a second.
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(f64::NAN))
        .collect();
    fields.get(11).zip(fields.get(12)).map_or(f64::NAN, |(user, system)| (user + system) / 100.0)
}

/// One worker, one sink; `None` where this build has no such sink.
fn measure(plan: &Plan, sink: &str, target: &str, options: &[(&str, &str)]) -> Option<Value> {
    let table = [("sink", sink), ("target", target)].into_iter().chain(options.iter().copied());
    let typed = |value: &str| match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) => toml::Value::from(number),
        (_, Ok(truth)) => toml::Value::from(truth),
        _ => toml::Value::from(value),
    };
    let table = table.map(|(key, value)| (key.to_owned(), typed(value))).collect();
    let opened =
        SinkConfig::from_table(table).and_then(|config| publish::open(&config).map_err(|error| error.to_string()));
    let shown = options
        .iter()
        .find(|(key, _)| *key != "name")
        .map_or(sink.to_owned(), |(key, value)| format!("{sink}, {key} = {value}"));
    let inner = match opened {
        Ok(inner) => inner,
        Err(error) => {
            eprintln!("*** LEFT OUT: {error}");
            return None;
        }
    };
    let checkpoints = tempfile::tempdir().expect("a temporary folder");
    let dir = format!("checkpoint.dir={}", checkpoints.path().display());
    let config = Config::with_settings(&["evaluate.share=0.01", &dir]).expect("settings");
    let sightings = SharedSightings::default();
    let watched = WatchedSink { inner, sightings: Arc::clone(&sightings), brought: Vec::new(), n_rows: 0 };
    let synth = SynthConfig { seed: 7, users: 100_000, items: plan.n_items, ..SynthConfig::default() };
    let source = PacedSource {
        generator: EventGenerator::new(synth),
        sightings: Arc::clone(&sightings),
        n_before: plan.n_before,
        rate: plan.rate,
        n_paced: plan.rate * plan.seconds,
        next: 0,
        begun: None,
    };
    let mut pipeline = Pipeline::builder(&config).sink(watched).build().expect("a pipeline");
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    pipeline.run(source).expect("a run");
    let (took, mut found) = (begun.elapsed().as_secs_f64(), lock(&sightings));
    let cores = (cpu_seconds() - cpu) / took;
    let unseen = found.told.len();
    found.seconds.sort_by(f64::total_cmp);
    let n = found.seconds.len();
    let at = |share: f64| found.seconds.get(((n as f64 * share) as usize).min(n.saturating_sub(1))).copied();
    let [p50, p99, most] = [at(0.5), at(0.99), at(1.0)].map(|seconds| seconds.unwrap_or(f64::NAN));
    let (rows, updates) = (found.n_rows as f64 / took, found.n_updates as f64 / took);
    let seen = if unseen > 0 { format!("{n} of {}", n + unseen) } else { n.to_string() };
    println!("| {shown} | {seen} | {p50:.3} | {p99:.3} | {most:.3} | {rows:.0} | {updates:.1} | {cores:.2} |");
    Some(json!({
        "sink": shown, "seen": n, "unseen": unseen, "p50_seconds": p50, "p99_seconds": p99, "most_seconds": most,
        "rows_per_second": rows, "updates_per_second": updates, "cores": cores,
    }))
}
