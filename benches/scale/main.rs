//! One model, many workers, on one machine: logical workers that share a model by the real deltas, over logs that are played at
//! a given rate. One JSON line for each run; with `--svg` a drawing of all of them, or of those whose lines are in files (`--lines`).
//!
//! `cargo bench --bench scale [-- --data DIR] [--log NAME]… [--workers N,N,…] [--flush SECONDS,…] [--rate EVENTS]
//! [--precision f32|bf16] [--delay SECONDS] [--events N] [--apart] [--patient] [--set KEY=VALUE]… [--svg FILE [--lines FILE]…]`
//!
//! DIR (or the variable NEGSTREAM_DATA; otherwise `shared/data` beside the project's folder) holds a folder for each log, with
//! `events.parquet` in it. Users go to partitions as Kafka's producers send them, three partitions to a worker. Time is that of
//! the rate: event n comes at n/rate seconds. A worker steps on 256 of its events, or on what it has after `train.linger_ms`; every
//! `--flush` seconds, or earlier where a delta is due (while the model is young, or interest fades fast), it says what it has learnt, which
//! the others receive `--delay` seconds later. `--apart`: workers send each other nothing. `--patient`: only every `--flush` seconds.

mod cpu;
mod plot;
mod simulation;

use std::path::{Path, PathBuf};

use negstream::Config;
use negstream::EventSource;
use negstream::event::Interaction;
use negstream::position::Positions;
use negstream::share::MovePrecision;
use negstream::source::PollStatus;
use negstream::source::parquet::{LogOptions, ParquetLogs};
use serde_json::{Value, json};
use simulation::{Outcome, Setting, Simulation};

/// A log, and the settings that say what kind of log it is.
struct Log {
    name: &'static str,
    settings: &'static [&'static str],
}

const LOGS: [Log; 3] = [
    Log { name: "ml-100k", settings: &[] },
    Log { name: "online-retail-ii-y1", settings: &["evaluate.repeat=true", r#"positives.kinds=["purchase"]"#] },
    // Every fifth event is judged, as elsewhere.
    Log { name: "globo-clicks", settings: &["evaluate.share=0.2"] },
];

/// What was asked for.
struct Options {
    data: Option<PathBuf>,
    logs: Vec<String>,
    workers: Vec<usize>,
    flush: Vec<f64>,
    rate: f64,
    precision: MovePrecision,
    delay: f64,
    events: usize,
    apart: bool,
    patient: bool,
    settings: Vec<String>,
    svg: Option<PathBuf>,
    lines: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: None,
            logs: Vec::new(),
            workers: vec![1, 2, 4, 8],
            flush: vec![1.0],
            rate: 10_000.0,
            precision: MovePrecision::Bf16,
            delay: 0.05,
            events: usize::MAX,
            apart: false,
            patient: false,
            settings: Vec::new(),
            svg: None,
            lines: Vec::new(),
        }
    }
}

fn main() {
    let options = options();
    let chosen = |name: &str| options.logs.is_empty() || options.logs.iter().any(|other| other == name);
    let data = options.data.clone().or_else(|| std::env::var_os("NEGSTREAM_DATA").map(PathBuf::from));
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let mut drawn: Vec<Value> = Vec::new();
    for file in &options.lines {
        let text = std::fs::read_to_string(file).expect("a file of lines");
        drawn.extend(text.lines().map(|line| serde_json::from_str(line).expect("a line of a run")));
    }
    for log in LOGS.iter().filter(|log| options.lines.is_empty() && chosen(log.name)) {
        let path = data.join(log.name).join("events.parquet");
        if !path.is_file() {
            eprintln!("{}: left out, there is no {}", log.name, path.display());
            continue;
        }
        let mut settings: Vec<String> = log.settings.iter().map(|setting| (*setting).to_owned()).collect();
        settings.extend(options.settings.iter().cloned());
        settings.push("threads=1".to_owned());
        let config = Config::with_settings(&settings).expect("a configuration");
        let events = read(&config, &path, options.events);
        for workers in &options.workers {
            let flushes: &[f64] = if *workers == 1 || options.apart { &[0.0] } else { &options.flush };
            for flush in flushes {
                let setting = Setting {
                    workers: *workers,
                    flush: (*flush > 0.0).then_some(*flush),
                    rate: options.rate,
                    delay: options.delay,
                    precision: options.precision,
                    patient: options.patient,
                };
                let outcome = Simulation::new(&config, setting).run(&events);
                let line = line(log.name, setting, &outcome);
                println!("{line}");
                drawn.push(line);
            }
        }
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, plot::draw(&drawn)).expect("the drawing can be written");
    }
}

fn line(log: &str, setting: Setting, outcome: &Outcome) -> Value {
    json!({
        "log": log,
        "workers": setting.workers,
        "flush_seconds": setting.flush,
        "rate": setting.rate,
        "precision": setting.precision.name(),
        "patient": setting.patient,
        "events": outcome.events,
        "ranked": outcome.ranked,
        "hr@20": outcome.hit_rate(),
        "ndcg@20": outcome.gain(),
        "bytes_per_event": outcome.bytes as f64 / outcome.events as f64,
        "distance": outcome.distance,
        "distance_at_end": outcome.distance_at_end,
        "counted_at_end": outcome.counted,
        "cpu_microseconds_per_event": outcome.seconds / outcome.events as f64 * 1e6,
        "sending_microseconds_per_event": outcome.sending_seconds / outcome.events as f64 * 1e6,
        "receiving_microseconds_per_event": outcome.receiving_seconds / outcome.events as f64 * 1e6,
    })
}

/// The events of a log that count, in its order.
fn read(config: &Config, path: &Path, most: usize) -> Vec<Interaction> {
    let options = LogOptions::new(&config.source, false);
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    let mut logs = ParquetLogs::open(&[path], options, &Positions::default()).expect("a log");
    let (mut events, mut block) = (Vec::new(), Vec::new());
    while logs.poll(&mut block).expect("a log") == PollStatus::More {
        events.extend(block.drain(..).filter_map(|record| record.outcome.ok()));
    }
    events.extend(block.drain(..).filter_map(|record| record.outcome.ok()));
    let kinds = &config.positives.kinds;
    events.retain(|event| kinds.is_empty() || kinds.iter().any(|kind| *kind == event.kind));
    events.truncate(most);
    events
}

fn options() -> Options {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--data" => options.data = Some(value().into()),
            "--log" => {
                let log = value();
                assert!(LOGS.iter().any(|known| known.name == log), "no log '{log}'");
                options.logs.push(log);
            }
            "--workers" => options.workers = list(&value()),
            "--flush" => options.flush = list(&value()),
            "--rate" => options.rate = number(&value()),
            "--delay" => options.delay = number(&value()),
            "--events" => options.events = number(&value()),
            "--precision" => {
                options.precision = match value().as_str() {
                    "f32" => MovePrecision::F32,
                    "bf16" => MovePrecision::Bf16,
                    other => panic!("no precision '{other}'"),
                }
            }
            "--apart" => options.apart = true,
            "--patient" => options.patient = true,
            "--set" => options.settings.push(value()),
            "--svg" => options.svg = Some(value().into()),
            "--lines" => options.lines.push(value().into()),
            other => panic!("no option '{other}'"),
        }
    }
    options
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.trim().parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}

fn list<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split(',').map(number).collect()
}
