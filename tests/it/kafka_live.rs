//! A quiet stream, over a real broker: what the clock decides, that it is written down, and that a worker which dies decides the
//! same again. No test asserts how long anything takes; each waits for what has to come without any further record.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use negstream::config::KafkaConfig;
use negstream::event::Interaction;
use negstream::kafka::producer::EventProducer;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::kafka_harness::{Broker, committed_offsets};
use crate::kafka_replay::get;
use crate::kafka_source::{PATIENCE, producer};
use crate::support::{self, Background, Place, checkpoint_events, run, set, write_log};

/// Longer than any test: what waits for it waits for ever.
const NEVER: &str = "train.linger_ms=3600000";
/// The token of those who ask for checkpoints.
const TOKEN: &str = "0123456789abcdef";

/// A topic of one partition of a real broker, and a worker that reads it.
struct Quiet {
    _broker: Arc<Broker>,
    config: KafkaConfig,
    place: Place,
    producer: EventProducer,
    events: Vec<Interaction>,
    produced: usize,
}

impl Quiet {
    fn new(topic: &str) -> Option<Self> {
        let broker = Broker::shared()?;
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = broker.bootstrap().to_owned();
        (config.topic, config.group, config.partitions) = (topic.to_owned(), topic.to_owned(), 1);
        negstream::kafka::admin::ensure_topic(&config, &config.brokers, topic).unwrap();
        let (producer, events) = (producer(&config), support::events(2_000, 71));
        Some(Self { _broker: broker, config, place: Place::new(), producer, events, produced: 0 })
    }

    fn command(&self, settings: &[&str]) -> Command {
        let mut command = self.place.negstream(&["run", "--json"]);
        let KafkaConfig { brokers, topic, group, .. } = &self.config;
        for (key, value) in [("brokers", brokers), ("topic", topic), ("group", group)] {
            set(&mut command, &[&format!("kafka.{key}={value}")]);
        }
        set(&mut command, &["model.dim=8", "negatives.bank=256", "threads=1", "http.listen=127.0.0.1:0"]);
        set(&mut command, &["train.linger_ms=50", "checkpoint.keep=100000"]);
        set(&mut command, settings);
        command
    }

    /// Sends so many more events.
    fn produce(&mut self, n: usize) {
        for event in &self.events[self.produced..self.produced + n] {
            self.producer.send(event).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
        self.produced += n;
    }

    /// The metadata that the group has committed for the only partition.
    fn metadata(&self) -> String {
        let committed = committed_offsets(&self.config, [0], PATIENCE).unwrap();
        committed.find_partition(&self.config.topic, 0).unwrap().metadata().to_owned()
    }

    /// Where batches were cut, by all checkpoints.
    fn cuts(&self) -> Vec<u64> {
        let cuts = |folder: &std::path::PathBuf| {
            let manifest: Value = serde_json::from_slice(&support::read(&folder.join("manifest.json"))).unwrap();
            let cuts = manifest["cuts"]["at"].as_array().cloned().unwrap();
            cuts.iter().map(|place| place.as_u64().unwrap()).collect::<Vec<u64>>()
        };
        self.place.checkpoints("checkpoints").iter().flat_map(cuts).collect()
    }

    /// Replays what was produced, with the cuts of the worker, and compares what was learnt.
    #[track_caller]
    fn assert_replay_is_the_same(&self) {
        write_log(&self.place.path("log.parquet"), &self.events[..self.produced]);
        let mut command = self.place.negstream_in("replayed", &["replay", "log.parquet", "--cuts", "checkpoints"]);
        set(&mut command, &["model.dim=8", "negatives.bank=256", "threads=1"]);
        run(&mut command).ended(0);
        assert!(self.place.items("checkpoints") == self.place.items("replayed"), "items.parquet differs");
    }
}

/// Waits until a metric of the worker at `address` is at `least` or more.
#[track_caller]
fn wait_for(address: &str, metric: &str, least: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = get(address, "/metrics").1;
        let value = shown.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok());
        if value.is_some_and(|value| value >= least) {
            return;
        }
        assert!(Instant::now() < deadline, "{metric} does not reach {least}:\n{shown}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for a checkpoint, with these lines in the head.
fn ask(address: &str, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("POST /checkpoint HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

#[test]
fn lone_events_are_trained_on_and_saved_without_any_further_record() {
    let Some(mut quiet) = Quiet::new("lone") else { return };
    let mut worker = Background::start(&mut quiet.command(&["checkpoint.every_seconds=1"]));
    let address = worker.address();
    for number in 1..=4 {
        quiet.produce(1);
        wait_for(&address, "negstream_events_used_total", f64::from(number));
    }
    wait_for(&address, "negstream_clock_cuts_total", 4.0);
    wait_for(&address, "negstream_freshness_seconds_count{from=\"read\",to=\"checkpoint\"}", 4.0);
    let written = quiet.place.manifest("checkpoints");
    assert_eq!(written["events"]["read"], 4, "{written}");
    let newest = quiet.events[3].item.to_string();
    let said = run(&mut quiet.place.negstream(&["neighbors", "checkpoints", &newest, "--json"])).ended(0);
    assert!(said.json().to_string().len() > 10, "{}", said.out);
    worker.terminate();
    let report = worker.end().ended(0).json();
    for taken in ["event_to_weights", "read_to_weights", "event_to_checkpoint", "read_to_checkpoint"] {
        assert_eq!(report["freshness"][taken]["count"], 4, "{taken}: {report}");
    }
    assert_eq!(quiet.cuts(), [1, 2, 3, 4]);
    quiet.assert_replay_is_the_same();
}

/// Events of the past amid new ones: a backfill into a topic that is read live.
#[test]
fn late_events_are_counted_told_and_reported() {
    let Some(mut quiet) = Quiet::new("late") else { return };
    const HOUR: i64 = 3_600_000;
    // Half an hour is what buffers bring about; the rest is not.
    for (number, behind) in [(3, HOUR / 2), (5, 2 * HOUR), (7, 90 * 24 * HOUR)] {
        quiet.events[number].timestamp = quiet.events[number - 1].timestamp - behind;
    }
    let mut worker = Background::start(&mut quiet.command(&[]));
    let address = worker.address();
    quiet.produce(8);
    wait_for(&address, "negstream_events_late_total", 2.0);
    wait_for(&address, "negstream_events_used_total", 8.0);
    worker.terminate();
    let said = worker.end().ended(0).names(&["time goes back by 2 hours", "place=late/0", "offset=5", "docs/kafka.md"]);
    let report = said.json();
    let disorder = &report["disorder"];
    assert_eq!((&disorder["events"], &disorder["late"]), (&Value::from(8), &Value::from(2)), "{report}");
    assert_eq!((&disorder["first"]["stream"], &disorder["first"]["offset"]), (&"late/0".into(), &5.into()), "{report}");
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("2 of 8 events (25.0 %)") && warning.contains("by 90 days at most"), "{warning}");
}

#[test]
fn cuts_of_a_worker_that_dies_are_made_again() {
    let Some(mut quiet) = Quiet::new("again") else { return };
    let mut worker = Background::start(&mut quiet.command(&[]));
    let address = worker.address();
    for number in 1..=3 {
        quiet.produce(1);
        wait_for(&address, "negstream_events_used_total", f64::from(number));
    }
    // Behind the first, the second and the third record: a distance of one each, in base64.
    let deadline = Instant::now() + PATIENCE;
    while !quiet.metadata().contains("\"at\":\"AQEB\"") {
        assert!(Instant::now() < deadline, "the cuts are not noted: {}", quiet.metadata());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(worker.kill());
    assert_eq!(quiet.place.manifest("checkpoints")["events"]["read"], 0, "nothing of it is in a checkpoint");

    // Its clock would cut nothing.
    let mut worker = Background::start(&mut quiet.command(&[NEVER]));
    let address = worker.address();
    wait_for(&address, "negstream_events_used_total", 3.0);
    assert!(quiet.metadata().contains("\"at\":\"AQEB\""), "still noted: {}", quiet.metadata());
    worker.terminate();
    worker.end().ended(0);
    assert_eq!(quiet.cuts(), [1, 2, 3]);
    assert!(!quiet.metadata().contains("negstream_cuts"), "{}", quiet.metadata());
    quiet.assert_replay_is_the_same();
}

#[test]
fn stop_trains_on_everything_that_was_read() {
    let Some(mut quiet) = Quiet::new("stopped-live") else { return };
    let mut worker = Background::start(&mut quiet.command(&[NEVER]));
    let address = worker.address();
    quiet.produce(5);
    wait_for(&address, "negstream_events_read_total", 5.0);
    worker.terminate();
    let report = worker.end().ended(0).names(&["stopped by a signal"]).json();
    assert_eq!((&report["events"]["used"], &report["steps"]), (&5.into(), &1.into()), "{report}");
    assert_eq!(quiet.cuts(), [5]);
    quiet.assert_replay_is_the_same();
}

#[test]
fn checkpoint_is_written_on_a_signal_and_for_who_has_the_token() {
    let Some(mut quiet) = Quiet::new("asked") else { return };
    let mut worker = Background::start(&mut quiet.command(&[NEVER, &format!("http.token={TOKEN}")]));
    let address = worker.address();
    quiet.produce(3);
    wait_for(&address, "negstream_events_read_total", 3.0);
    worker.signal("USR1");
    let written = worker.wait_for(|line| checkpoint_events(line).filter(|_| line.contains("checkpoint written")));
    let written = if written == Some(0) {
        // That of the beginning.
        worker.wait_for(|line| checkpoint_events(line).filter(|_| line.contains("checkpoint written")))
    } else {
        written
    };
    assert_eq!(written, Some(3), "everything that was read is in it");

    quiet.produce(4);
    wait_for(&address, "negstream_events_read_total", 7.0);
    assert_eq!(ask(&address, "").0, 401);
    assert_eq!(ask(&address, "Authorization: Bearer 0123456789abcdeg\r\n").0, 401);
    assert_eq!(quiet.place.manifest("checkpoints")["events"]["read"], 3, "nobody else is served");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, answer) = ask(&address, &bearer);
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{status} {answer}"));
    let newest = quiet.place.newest("checkpoints");
    assert_eq!((status, &answer["events"]), (200, &7.into()), "{answer}");
    assert_eq!(answer["checkpoint"].as_str(), newest.file_name().and_then(|name| name.to_str()));
    // Nothing was read since: the same one is told.
    let (status, again) = ask(&address, &bearer);
    assert_eq!((status, serde_json::from_str::<Value>(&again).ok()), (200, Some(answer)));
    assert_eq!(quiet.place.newest("checkpoints"), newest);
    worker.terminate();
    worker.end().ended(0);
    assert_eq!(quiet.cuts(), [3, 7]);
}

#[test]
fn nobody_may_ask_for_a_checkpoint_without_a_token() {
    let place = Place::new();
    let mut command = place.negstream(&["run"]);
    set(&mut command, &["kafka.brokers=embedded", "http.listen=127.0.0.1:0", "model.dim=8"]);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    let (status, why) = ask(&address, "Authorization: Bearer \r\n");
    assert!(status == 403 && why.contains("http.token"), "{status} {why}");
    worker.terminate();
    worker.end().ended(0);
    let mut command = place.negstream(&["run"]);
    set(&mut command, &["kafka.brokers=embedded", "http.token=short"]);
    run(&mut command).ended(2).names(&["http.token", "16 characters"]);
}

/// A stream of single events, and a worker on it that is killed `kills` times at moments that fall anywhere.
fn killed_on_a_quiet_stream(topic: &str, kills: u32, seed: u64) {
    let Some(mut quiet) = Quiet::new(topic) else { return };
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let settings = ["checkpoint.every_seconds=1", "kafka.group_instance_id=w", "http.listen="];
    let deadline = Instant::now() + PATIENCE * (1 + kills / 5);
    let (mut done, mut lives) = (0, 0);
    while done < kills {
        assert!(Instant::now() < deadline, "only {done} kills in {lives} lives");
        let worker = Background::start(&mut quiet.command(&settings));
        lives += 1;
        // Events come one by one while it starts, trains and writes.
        let until = Instant::now() + Duration::from_millis(random.random_range(50..3_000));
        while Instant::now() < until {
            if quiet.produced + 1 < quiet.events.len() && random.random_range(0..4) > 0 {
                quiet.produce(1);
            }
            std::thread::sleep(Duration::from_millis(random.random_range(1..150)));
        }
        done += u32::from(worker.kill());
    }
    quiet.produce(1);
    let mut worker = Background::start(&mut quiet.command(&["kafka.group_instance_id=w"]));
    let address = worker.address();
    wait_for(&address, "negstream_events_used_total", quiet.produced as f64);
    worker.terminate();
    let report = worker.end().ended(0).json();
    assert_eq!(report["events"]["read"], quiet.produced, "each event once");
    let cuts = quiet.cuts();
    println!("measured: {} events, {} cuts, killed {done} times in {lives} lives", quiet.produced, cuts.len());
    assert!(cuts.is_sorted_by(|before, after| before < after), "each cut is in one checkpoint: {cuts:?}");
    assert!(cuts.len() as u32 >= 2, "{cuts:?}");
    quiet.assert_replay_is_the_same();
}

#[test]
fn worker_killed_five_times_on_a_quiet_stream_ends_identical() {
    killed_on_a_quiet_stream("quiet-killed", 5, 1);
}

#[test]
#[ignore = "long: fifty kills"]
fn worker_killed_fifty_times_on_a_quiet_stream_ends_identical() {
    killed_on_a_quiet_stream("quiet-long-killed", 50, 2);
}
