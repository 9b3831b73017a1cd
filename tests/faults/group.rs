//! A group of real workers on a real Kafka, and the ledger: every record is in exactly one worker's durable state.
//!
//! Each record's item is its own number, so that the embeddings themselves tell who learnt what: the union of all
//! workers' newest `items.parquet` must hold each number once, with a count of one. That is the test's own oracle;
//! `negstream audit` must come to the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use negstream::config::KafkaConfig;
use negstream::event::Interaction;
use negstream::kafka::admin;
use negstream::kafka::producer::EventProducer;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::kafka_harness::{Broker, committed_offsets};
use crate::support::{Background, Place, run, set};

/// Long enough for any machine; a test that waits that long has failed.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A topic, what was produced to it, and the workers of one group.
pub struct Group {
    /// Where the workers live.
    pub place: Place,
    config: KafkaConfig,
    produced: u32,
    settings: Vec<String>,
}

/// The model is as small as it gets: what is tested here is who learns what.
const SMALL: [&str; 10] = [
    // Those that stop make room at once; names that last are given where a test asks for them.
    "kafka.static_membership=false",
    "model.dim=4",
    "train.batch=32",
    "context.length=2",
    "context.context_rows=false",
    "negatives.bank=64",
    "negatives.half_life=1000",
    "evaluate.share=0",
    "checkpoint.audit=true",
    "threads=1",
];

/// A producer of a topic.
pub fn producer(config: &KafkaConfig) -> EventProducer {
    let source = negstream::config::Config::default().source;
    let encoder = negstream::registry::encoder(&source, &config.topic).unwrap();
    EventProducer::open(config, &config.brokers, encoder).unwrap()
}

/// The event of a number.
pub fn event(number: u32) -> Interaction {
    Interaction {
        user: format!("user {}", number % 97).into(),
        item: number.to_string().into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_000 + i64::from(number),
        session: None,
        value: None,
        features: Vec::new(),
    }
}

impl Group {
    /// A new topic of `broker`.
    pub fn new(broker: &Broker, topic: &str, partitions: i32) -> Self {
        Self::configured(broker, topic, partitions, |_| {})
    }

    /// The same, with a configuration that `change` changes.
    pub fn configured(broker: &Broker, topic: &str, partitions: i32, change: impl FnOnce(&mut KafkaConfig)) -> Self {
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = broker.bootstrap().to_owned();
        config.topic = topic.to_owned();
        config.group = format!("group-of-{topic}");
        config.partitions = partitions;
        change(&mut config);
        admin::ensure_topic(&config, &config.brokers, topic).unwrap();
        Self { place: Place::new(), config, produced: 0, settings: Vec::new() }
    }

    /// Several new topics of `broker`, which the events go to in turn.
    pub fn of_topics(broker: &Broker, names: &[&str], partitions: i32) -> Self {
        let topics: Vec<String> = names.iter().map(|name| format!("{{ name = \"{name}\" }}")).collect();
        let topics = format!("kafka.topics=[{}]", topics.join(", "));
        let several = negstream::config::Config::with_settings(&[topics]).unwrap().kafka.topics;
        let group = Self::configured(broker, names[0], partitions, |config| config.topics = several);
        for name in &names[1..] {
            admin::ensure_topic(&group.config, &group.config.brokers, name).unwrap();
        }
        group
    }

    /// A topic that is there already, at brokers that are no real ones.
    pub fn of_brokers(brokers: &str, topic: &str) -> Self {
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = brokers.to_owned();
        config.topic = topic.to_owned();
        config.group = format!("group-of-{topic}");
        Self { place: Place::new(), config, produced: 0, settings: Vec::new() }
    }

    /// Waits until the checkpoints of `worker` hold so many events.
    #[track_caller]
    pub fn wait_for_learnt(&self, worker: &str, events: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let learnt = match self.place.checkpoints(worker).pop() {
                Some(_) => self.place.manifest(worker)["events"]["used"].as_u64().unwrap_or(0),
                None => 0,
            };
            if learnt >= events {
                return;
            }
            assert!(Instant::now() < deadline, "{learnt} of {events}\n{}", self.said(worker));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Another group of the same topic.
    pub fn of_another_group(&self, group: &str) -> Self {
        let config = KafkaConfig { group: group.to_owned(), ..self.config.clone() };
        Self { place: Place::new(), config, produced: self.produced, settings: self.settings.clone() }
    }

    /// Further settings of every worker.
    pub fn with(mut self, settings: &[&str]) -> Self {
        self.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        self
    }

    /// The topic's configuration.
    pub fn kafka(&self) -> &KafkaConfig {
        &self.config
    }

    /// Produces `n` more events.
    pub fn produce(&mut self, n: u32) {
        let mut producers: Vec<EventProducer> =
            self.config.topic_names().iter().map(|topic| producer(&self.config.for_topic(topic))).collect();
        for number in self.produced..self.produced + n {
            let topic = number as usize % producers.len();
            producers[topic].send(&event(number)).unwrap();
        }
        producers.iter_mut().for_each(|producer| producer.flush(PATIENCE).unwrap());
        self.produced += n;
    }

    /// How many were produced.
    pub fn produced(&self) -> u32 {
        self.produced
    }

    /// The worker of a name: its checkpoints are in the folder of that name.
    pub fn command(&self, worker: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.negstream_in(worker, &["run"]);
        command.args(arguments);
        let KafkaConfig { brokers, topic, topics, group, .. } = &self.config;
        let topics: Vec<String> = topics.iter().map(|topic| format!("{{ name = \"{}\" }}", topic.name)).collect();
        let read = match topics.is_empty() {
            true => format!("kafka.topic={topic}"),
            false => format!("kafka.topics=[{}]", topics.join(", ")),
        };
        let kafka = [format!("kafka.brokers={brokers}"), format!("kafka.group={group}"), read];
        set(&mut command, &kafka.iter().map(String::as_str).collect::<Vec<_>>());
        set(&mut command, &SMALL);
        set(&mut command, &self.settings.iter().map(String::as_str).collect::<Vec<_>>());
        command
    }

    /// Starts a worker, of a lasting name where `member` says so.
    pub fn start(&self, worker: &str, member: bool) -> Background {
        let mut command = self.command(worker, &[]);
        if member {
            set(&mut command, &[&format!("kafka.group_instance_id={worker}")]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.place.path(&format!("{worker}.log")));
        Background::start_logging(&mut command, log.expect("a writable folder"))
    }

    /// What `worker` has said in all its lives.
    pub fn said(&self, worker: &str) -> String {
        std::fs::read_to_string(self.place.path(&format!("{worker}.log"))).unwrap_or_default()
    }

    /// How many records the group has committed, over all partitions.
    pub fn committed(&self) -> u64 {
        self.config.topic_names().iter().map(|topic| self.committed_of(&self.config.for_topic(topic))).sum()
    }

    fn committed_of(&self, config: &KafkaConfig) -> u64 {
        let partitions = admin::partitions(config, &config.brokers, &config.topic).unwrap();
        let patience = Duration::from_secs(10);
        let Ok(committed) = committed_offsets(config, partitions.unwrap_or_default(), patience) else { return 0 };
        let offsets = committed.elements();
        offsets.iter().filter_map(|element| u64::try_from(element.offset().to_raw()?).ok()).sum()
    }

    /// Waits until at least so many are committed.
    #[track_caller]
    pub fn wait_for_committed(&self, records: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.committed() < records {
            assert!(Instant::now() < deadline, "only {} of {records} are committed", self.committed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `worker` has said of so many partitions that it reads them.
    #[track_caller]
    pub fn wait_for_reading(&self, worker: &str, partitions: usize) {
        self.wait_until_said_times(worker, "reading partition=", partitions);
    }

    /// Waits until `worker` has said something.
    #[track_caller]
    pub fn wait_until_said(&self, worker: &str, what: &str) {
        self.wait_until_said_times(worker, what, 1);
    }

    #[track_caller]
    fn wait_until_said_times(&self, worker: &str, what: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.said(worker).matches(what).count() < times {
            assert!(Instant::now() < deadline, "not '{what}' {times} times, but {}", self.said(worker));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Who learnt what: by number, how often, over the newest checkpoints of `workers`.
    pub fn learnt(&self, workers: &[&str]) -> BTreeMap<u32, u64> {
        let mut learnt = BTreeMap::new();
        for worker in workers {
            if let Some(newest) = self.place.checkpoints(worker).pop() {
                for (item, count) in counts(&newest.join("items.parquet")) {
                    *learnt.entry(item.parse().expect("items are numbers")).or_insert(0) += count;
                }
            }
        }
        learnt
    }

    /// The ledger is exact: each event is in exactly one state, once; the audits say the same.
    #[track_caller]
    pub fn assert_each_once(&self, workers: &[&str]) {
        let audits = self.assert_learnt_once(workers);
        assert_eq!((audited(&audits, "twice"), audited(&audits, "missing")), (0, 0));
    }

    /// The same, where the log also holds records that are skipped, and gaps.
    #[track_caller]
    pub fn assert_each_once_but(&self, workers: &[&str], skipped: u64) {
        let audits = self.assert_learnt_once(workers);
        assert_eq!((audited(&audits, "twice"), audited(&audits, "skipped")), (0, skipped));
    }

    /// Each event is in exactly one state, once; what the audits say.
    #[track_caller]
    fn assert_learnt_once(&self, workers: &[&str]) -> Value {
        let learnt = self.learnt(workers);
        let twice: Vec<_> = learnt.iter().filter(|(_, times)| **times != 1).take(20).collect();
        assert!(twice.is_empty(), "not once: {twice:?}\n{}", self.all_said(workers));
        let missing: Vec<u32> = (0..self.produced).filter(|number| !learnt.contains_key(number)).take(20).collect();
        assert!(missing.is_empty(), "missing: {missing:?}\n{}", self.all_said(workers));
        assert_eq!(learnt.len(), self.produced as usize);

        let audit = self.audit(workers);
        assert_eq!(audited(&audit, "trained"), u64::from(self.produced), "{audit}");
        audit
    }

    /// What `negstream audit` says of the newest checkpoints of `workers`.
    #[track_caller]
    pub fn audit(&self, workers: &[&str]) -> Value {
        run(&mut self.audit_command(workers)).json()
    }

    /// `negstream audit` of the newest checkpoints of `workers`.
    pub fn audit_command(&self, workers: &[&str]) -> Command {
        let mut command = crate::support::negstream();
        command.current_dir(self.place.path("")).args(["audit", "--json"]);
        command.args(workers.iter().filter(|worker| !self.place.checkpoints(worker).is_empty()));
        // The topic in which workers that share a model tell each other what they learn is read too.
        set(&mut command, &[&format!("kafka.brokers={}", self.config.brokers)]);
        command
    }

    /// The last lines of what each has said.
    pub fn all_said(&self, workers: &[&str]) -> String {
        let tail = |worker: &&str| {
            let said = self.said(worker);
            let lines: Vec<&str> = said.lines().collect();
            format!("--- {worker}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        workers.iter().map(tail).collect()
    }

    /// Lets the group finish what was produced, with these workers at work, and stops them in good order.
    #[track_caller]
    pub fn finish(&self, workers: Vec<(&str, Background)>) {
        // Only whole batches are learnt while it runs; the rest is by a worker that reads to the end.
        let deadline = Instant::now() + PATIENCE;
        let mut before = (0, Instant::now());
        loop {
            let committed = self.committed();
            if committed >= u64::from(self.produced) || before.1.elapsed() > Duration::from_secs(8) {
                break;
            }
            if committed != before.0 {
                before = (committed, Instant::now());
            }
            assert!(Instant::now() < deadline, "{committed} committed\n{}", self.all_said(&["a", "b", "c"]));
            std::thread::sleep(Duration::from_millis(100));
        }
        for (worker, running) in workers {
            running.terminate();
            let ended = running.end();
            assert!(matches!(ended.code, Some(0 | 6)), "{worker}: {:?}\n{}", ended.code, self.said(worker));
        }
    }

    /// One worker after the other reads its share to the end, until all is read.
    #[track_caller]
    pub fn read_to_end(&self, workers: &[(&str, bool)]) {
        for (worker, member) in workers {
            let mut command = self.command(worker, &["--until-end", "--json"]);
            if *member {
                set(&mut command, &[&format!("kafka.group_instance_id={worker}")]);
            }
            // One that finds itself overtaken is started again, as by a supervisor.
            let lives = (0..5).map(|_| run(&mut command)).find(|said| said.code != Some(6));
            let said = lives.expect("it is not fenced again and again");
            assert_eq!(said.code, Some(0), "{worker}: {}", said.err);
        }
    }
}

/// What an audit says under `key`, over all streams.
pub fn audited(audit: &Value, key: &str) -> u64 {
    audit.as_object().unwrap().values().map(|stream| stream[key].as_u64().unwrap()).sum()
}

/// Items and how often each came, in an `items.parquet`.
pub fn counts(path: &Path) -> Vec<(String, u64)> {
    let file = std::fs::File::open(path).unwrap();
    let mut counts = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let items = batch.column_by_name("item_id").unwrap().as_string::<i32>();
        let times = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
        let times = times.values().iter().map(|times| u64::try_from(*times).unwrap());
        counts.extend(items.iter().map(|item| item.unwrap().to_owned()).zip(times));
    }
    counts
}

/// What a report says of events.
pub fn events(report: &Value, key: &str) -> u64 {
    report["events"][key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}
