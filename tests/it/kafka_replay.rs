//! The whole path over a real broker: `produce`, `run`, kills in between, and the same bytes as a replay of the log.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use negstream::config::KafkaConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::kafka_harness::Broker;
use crate::kafka_source::{PATIENCE, producer};
use crate::support::{self, Background, Place, checkpoint_events, run, set, write_log};

/// A topic of a real broker, and a worker that reads it.
struct Topic {
    broker: Arc<Broker>,
    name: &'static str,
    place: Place,
}

impl Topic {
    fn new(name: &'static str) -> Option<Self> {
        Some(Self { broker: Broker::shared()?, name, place: Place::new() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.negstream(arguments);
        let kafka = [("brokers", self.broker.bootstrap()), ("topic", self.name), ("group", self.name)];
        let settings = kafka.map(|(key, value)| format!("kafka.{key}={value}"));
        set(&mut command, &settings.each_ref().map(String::as_str));
        set(&mut command, &["checkpoint.every_events=5000"]);
        command
    }

    fn produce(&self, log: &str) {
        let said = run(&mut self.command(&["produce", log])).ended(0);
        assert!(said.out.ends_with("0 rows left out\n"), "{}", said.out);
    }

    fn run_until_end(&self, settings: &[&str]) -> serde_json::Value {
        let mut command = self.command(&["run", "--until-end", "--json"]);
        set(&mut command, settings);
        run(&mut command).ended(0).json()
    }

    fn config(&self) -> KafkaConfig {
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = self.broker.bootstrap().to_owned();
        config.topic = self.name.to_owned();
        config
    }

    fn consumer(&self) -> BaseConsumer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.broker.bootstrap()).set("group.id", self.name);
        client.create().unwrap()
    }

    /// The offset that the group committed for the only partition.
    fn committed(&self) -> Offset {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(self.name, 0);
        let committed = self.consumer().committed_offsets(asked, PATIENCE).unwrap();
        committed.find_partition(self.name, 0).unwrap().offset()
    }

    fn position(&self) -> i64 {
        let manifest = self.place.manifest("checkpoints");
        manifest["positions"][format!("kafka/{}/0", self.name)].as_i64().expect("a position in the topic")
    }
}

#[test]
fn topic_gives_the_same_bytes_as_its_log() {
    let Some(log) = support::data("ml-100k") else { return };
    let Some(topic) = Topic::new("films") else { return };
    let log = log.to_str().unwrap();
    topic.produce(log);
    let report = topic.run_until_end(&[]);
    assert_eq!(report["events"]["read"], 100_000);
    topic.place.replay_in("replayed", &[log], &[]);
    assert!(topic.place.items("checkpoints") == topic.place.items("replayed"), "items.parquet differs");
}

#[test]
fn run_killed_and_stopped_ends_like_an_undisturbed_one() {
    let Some(topic) = Topic::new("killed") else { return };
    write_log(&topic.place.path("log.parquet"), &support::events(60_000, 5));
    topic.produce("log.parquet");
    for (events, by_force) in [(5_000, true), (15_000, false), (30_000, true), (40_000, false)] {
        let mut worker = Background::start(&mut topic.command(&["run"]));
        worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events)).unwrap();
        if by_force {
            assert!(worker.kill());
        } else {
            worker.terminate();
            worker.end().ended(0).names(&["stopped by a signal"]);
            assert_eq!(topic.position() % 256, 0, "only a declared end closes a short batch");
        }
    }
    let report = topic.run_until_end(&[]);
    assert_eq!((&report["events"]["read"], &report["events"]["used"]), (&60_000.into(), &60_000.into()));
    topic.place.replay_in("replayed", &["log.parquet"], &[]);
    assert!(topic.place.items("checkpoints") == topic.place.items("replayed"), "items.parquet differs");
    assert_eq!((topic.position(), topic.committed()), (60_000, Offset::Offset(60_000)));
}

#[test]
fn worker_that_begins_with_imported_vectors_ends_like_a_replay_though_it_is_killed() {
    let Some(topic) = Topic::new("imported") else { return };
    let events = support::events(40_000, 73);
    let place = &topic.place;
    write_log(&place.path("first.parquet"), &events[..10_000]);
    write_log(&place.path("second.parquet"), &events[10_000..]);
    place.replay_in("nightly", &["first.parquet"], &[]);
    let vectors = place.newest("nightly").join("items.parquet");
    for checkpoints in ["checkpoints", "replayed"] {
        run(&mut place.negstream_in(checkpoints, &["import", vectors.to_str().unwrap()])).ended(0);
    }
    topic.produce("second.parquet");
    for events in [5_000, 15_000] {
        let mut worker = Background::start(&mut topic.command(&["run"]));
        worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events)).unwrap();
        assert!(worker.kill());
    }
    assert_eq!(topic.run_until_end(&[])["events"]["read"], 30_000);
    place.replay_in("replayed", &["second.parquet"], &[]);
    assert!(place.items("checkpoints") == place.items("replayed"), "items.parquet differs");
}

/// Asks `address` for `path`: the status and the body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

#[test]
fn run_answers_http_while_it_trains() {
    let Some(topic) = Topic::new("answers") else { return };
    write_log(&topic.place.path("log.parquet"), &support::events(5_000, 6));
    topic.produce("log.parquet");
    let mut command = topic.command(&["run"]);
    set(&mut command, &["http.listen=127.0.0.1:0"]);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    assert_eq!(get(&address, "/livez").0, 200);
    let deadline = Instant::now() + PATIENCE;
    let until = |path: &str, enough: &dyn Fn(u16, &str) -> bool| loop {
        let (status, body) = get(&address, path);
        if enough(status, &body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{path}: {status} {body}");
    };
    until("/readyz", &|status, _| status == 200);
    // Of 5,000 events the first 19 batches can be trained; the rest waits for more.
    let metrics = until("/metrics", &|status, body| {
        let has = |wanted: &str| body.lines().any(|line| line == wanted);
        status == 200 && has("negstream_events_read_total 5000") && has("negstream_events_used_total 4864")
    });
    assert!(metrics.contains("# TYPE negstream_"), "{metrics}");
    assert_eq!(get(&address, "/livez").0, 200);
    worker.terminate();
    worker.end().ended(0);
    assert_eq!((topic.position(), topic.committed()), (4_864, Offset::Offset(4_864)));
}

#[test]
fn run_sends_poison_to_dead_letters_and_trains_on_the_rest() {
    let Some(topic) = Topic::new("poison") else { return };
    let poison: [&[u8]; 4] = [
        b"{nonsense",
        br#"{"user_id":"u","timestamp":1700000000000}"#,
        br#"{"user_id":"u","item_id":7.5,"timestamp":1700000000000}"#,
        b"",
    ];
    let events = support::events(6_000, 7);
    for (part, events) in events.chunks(1_500).enumerate() {
        write_log(&topic.place.path("part.parquet"), events);
        topic.produce("part.parquet");
        let mut producer = producer(&topic.config());
        producer.send_bytes(b"key", poison[part]).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    let letters = "poison.letters";
    negstream::kafka::admin::ensure_topic(&topic.config(), topic.broker.bootstrap(), letters).unwrap();
    let report = topic.run_until_end(&[&format!("kafka.dead_letter_topic={letters}")]);
    let events_of = |name: &str| report["events"][name].as_u64().unwrap();
    assert_eq!((events_of("read"), events_of("used"), events_of("rejected")), (6_004, 6_000, 4));
    let reasons = &report["events"]["rejected_by_reason"];
    assert_eq!(
        (&reasons["unparsable"], &reasons["missing_field"], &reasons["wrong_type"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((topic.position(), topic.committed()), (6_004, Offset::Offset(6_004)));

    write_log(&topic.place.path("good.parquet"), &events);
    topic.place.replay_in("replayed", &["good.parquet"], &[]);
    assert!(topic.place.items("checkpoints") == topic.place.items("replayed"), "items.parquet differs");

    let consumer = topic.consumer();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(letters, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while found.len() < poison.len() {
        assert!(Instant::now() < deadline, "only {} letters came", found.len());
        let message = consumer.poll(Duration::from_millis(100)).map(|message| message.unwrap().detach());
        found.extend(message.map(|message| message.payload().unwrap_or_default().to_vec()));
    }
    assert_eq!(found, poison);
    assert_eq!(consumer.fetch_watermarks(letters, 0, PATIENCE).unwrap(), (0, 4), "each once");
}
