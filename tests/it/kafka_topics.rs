//! Several topics in one worker: each with its own type of events and its own names of fields, and the same promises as one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use negstream::config::{Assignment, Config, FieldNames};
use negstream::event::{Interaction, Reason, Record};
use negstream::kafka::KafkaConfig;
use negstream::kafka::admin;
use negstream::kafka::embedded::EmbeddedBroker;
use negstream::kafka::producer::EventProducer;
use negstream::position::{Ownerships, Positions};
use negstream::source::kafka::{KafkaSource, ResumeState, TopicConnection, Until};
use negstream::source::{EventSource as _, SourceError};
use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka_harness::{Broker, admin_client, admin_options, runtime};
use crate::kafka_replay::get;
use crate::kafka_source::{PATIENCE, encoder, event, next_of, read_to_end};
use crate::support::{self, Background, Place, Said, run, set, write_log};

/// Two topics at a broker, and the configuration that names them.
struct Topics {
    config: Config,
}

impl Topics {
    /// Topics whose names begin with `name`, at an embedded broker.
    fn embedded(broker: &EmbeddedBroker, name: &str) -> Self {
        let topics = Self::at(broker.bootstrap(), name);
        topics.names().iter().for_each(|topic| broker.create_topic(topic, 1).unwrap());
        topics
    }

    /// The same at a real one.
    fn real(broker: &Broker, name: &str) -> Self {
        let topics = Self::at(broker.bootstrap(), name);
        for topic in topics.names() {
            admin::ensure_topic(&topics.config.kafka, broker.bootstrap(), topic).unwrap();
        }
        topics
    }

    fn at(brokers: &str, name: &str) -> Self {
        let topics = format!(
            "kafka.topics=[{{ name = \"{name}.views\", event_type = \"view\" }}, \
             {{ name = \"{name}.buys\", fields = {{ user_id = \"buyer\", item_id = \"sku\" }} }}]"
        );
        let settings = [format!("kafka.brokers={brokers}"), format!("kafka.group={name}"), topics];
        let mut config = Config::with_settings(&settings).unwrap();
        config.kafka.assignment = Assignment::All;
        Self { config }
    }

    fn names(&self) -> Vec<&str> {
        self.config.kafka.topic_names()
    }

    fn topic(&self, place: usize) -> KafkaConfig {
        self.config.kafka.for_topic(self.names()[place])
    }

    /// Sends bytes as they are to the topic at a place.
    fn send(&self, place: usize, records: &[&str]) {
        let topic = self.topic(place);
        let mut producer = EventProducer::open(&topic, &topic.brokers, encoder()).unwrap();
        records.iter().for_each(|record| producer.send_bytes(b"key", record.as_bytes()).unwrap());
        producer.flush(PATIENCE).unwrap();
    }

    fn open(&self, positions: &Positions, until: Until) -> Result<KafkaSource, SourceError> {
        let kafka = &self.config.kafka;
        let decoders = negstream::registry::decoders(kafka, &self.config.source).unwrap();
        let known = ResumeState { positions, ownerships: &Ownerships::default() };
        TopicConnection::open(kafka, &kafka.brokers, &AtomicBool::new(false))?.into_source(decoders, known, until)
    }
}

/// What was taken of the stream with this label.
fn taken<'a>(records: &'a [Record], source: &KafkaSource, label: &str) -> Vec<&'a Interaction> {
    let stream = source.streams().iter().position(|stream| stream.label == label).expect("the stream is known") as u32;
    records.iter().filter(|record| record.stream == stream).map(|record| record.outcome.as_ref().unwrap()).collect()
}

#[test]
fn each_topic_is_read_by_its_own_settings_and_from_its_own_position() {
    let broker = EmbeddedBroker::start("unused", 1).unwrap();
    let topics = Topics::embedded(&broker, "own");
    let view = r#"{"user_id":"u1","item_id":"i1","event_type":["no","text"],"timestamp":1700000000000}"#;
    let buy = r#"{"buyer":"u2","sku":"i2","event_type":"buy","timestamp":1700000000001,"user_id":"nobody"}"#;
    topics.send(0, &[view; 3]);
    topics.send(1, &[buy; 2]);
    let mut source = topics.open(&Positions::default(), Until::End).unwrap();
    let labels: Vec<String> = source.streams().into_iter().map(|stream| stream.label).collect();
    assert_eq!(labels, ["own.views/0", "own.buys/0"]);
    let records = read_to_end(&mut source);
    let (views, buys) = (taken(&records, &source, "own.views/0"), taken(&records, &source, "own.buys/0"));
    assert_eq!((views.len(), buys.len()), (3, 2));
    assert!(views.iter().all(|event| (&*event.user, &*event.item, &*event.kind) == ("u1", "i1", "view")));
    assert!(buys.iter().all(|event| (&*event.user, &*event.item, &*event.kind) == ("u2", "i2", "buy")));
    let lag = source.lag_probe().high_watermarks();
    assert_eq!(
        lag.into_iter().map(|(stream, high)| (stream.label, high)).collect::<Vec<_>>(),
        [("own.views/0".to_owned(), 3), ("own.buys/0".to_owned(), 2)]
    );

    let positions = next_of(&records, &source);
    assert_eq!(positions, Positions::from_iter([("kafka/own.views/0", 3_u64), ("kafka/own.buys/0", 2)]));
    source.commit_tracker().unwrap().request(positions.clone());
    drop(source);
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).set("group.id", "own").create().unwrap();
    let mut asked = TopicPartitionList::new();
    for topic in topics.names() {
        asked.add_partition(topic, 0);
    }
    let committed = consumer.committed_offsets(asked, PATIENCE).unwrap();
    let offsets: Vec<Offset> = committed.elements().iter().map(|element| element.offset()).collect();
    assert_eq!(offsets, [Offset::Offset(3), Offset::Offset(2)]);

    topics.send(1, &[buy]);
    let mut source = topics.open(&positions, Until::End).unwrap();
    let records = read_to_end(&mut source);
    assert_eq!((records.len(), taken(&records, &source, "own.buys/0").len()), (1, 1));
}

#[test]
fn errors_of_one_topic_among_several_name_it() {
    let broker = EmbeddedBroker::start("unused", 1).unwrap();
    let topics = Topics::at(broker.bootstrap(), "named");
    broker.create_topic("named.views", 1).unwrap();
    let error = topics.open(&Positions::default(), Until::End).err().unwrap().to_string();
    assert!(error.contains("no topic 'named.buys'"), "{error}");
    broker.create_topic("named.buys", 1).unwrap();
    let beyond = Positions::from_iter([("kafka/named.buys/0", 9_u64)]);
    let error = topics.open(&beyond, Until::End).err().unwrap().to_string();
    assert!(error.contains("position 9 of named.buys/0"), "{error}");
    let mut config = topics.config;
    let schema = "kafka.topics=[{ name = \"named.views\" }, { name = \"named.buys\", format = \"avro\", schema = \"gone.avsc\" }]";
    config.kafka.topics = Config::with_settings(&[schema]).unwrap().kafka.topics;
    let error = negstream::registry::decoders(&config.kafka, &config.source).unwrap_err().to_string();
    assert!(error.contains("topic 'named.buys'") && error.contains("gone.avsc"), "{error}");
}

/// The client tells the end of a partition by its number alone, which is the same in both topics.
#[test]
fn transaction_gaps_of_several_topics_do_not_hold_up_the_end() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::real(&broker, "gaps");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", "gaps-of-topics")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let send = |place: usize, numbers: std::ops::Range<u32>, is_kept: bool| {
        producer.begin_transaction().unwrap();
        let names = FieldNames { user_id: "buyer".to_owned(), item_id: "sku".to_owned(), ..FieldNames::default() };
        let names = if place == 0 { &FieldNames::default() } else { &names };
        for number in numbers {
            let payload = negstream::decode::json::encode(&event(number), names);
            let record = BaseRecord::to(topics.names()[place]).key("k").payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match is_kept {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    };
    // One ends in a gap and is short; the other has records behind one, and ends in another.
    send(0, 0..3, true);
    send(0, 3..5, false);
    send(1, 0..400, true);
    send(1, 400..500, false);
    send(1, 500..900, true);
    send(1, 900..905, false);
    let mut source = topics.open(&Positions::default(), Until::End).unwrap();
    let records = read_to_end(&mut source);
    assert_eq!(taken(&records, &source, "gaps.views/0").len(), 3);
    assert_eq!(taken(&records, &source, "gaps.buys/0").len(), 800);
    let mut source = topics.open(&next_of(&records, &source), Until::End).unwrap();
    assert!(read_to_end(&mut source).is_empty(), "going on before the gaps ends as well");
}

/// Two topics of a real broker, a worker's configuration file, and a place for workers.
struct Stage {
    broker: Arc<Broker>,
    name: &'static str,
    place: Place,
}

/// Events of a phase: whole batches, so that the end of a run cuts none.
const PHASE: usize = 64 * 256;

impl Stage {
    fn new(name: &'static str) -> Option<Self> {
        let stage = Self { broker: Broker::shared()?, name, place: Place::new() };
        stage.configure("worker.toml", &["views", "buys"]);
        Some(stage)
    }

    /// Writes a configuration with these of the topics; in that of purchases the user is called otherwise.
    fn configure(&self, file: &str, topics: &[&str]) {
        let mut text = format!("[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\n", self.broker.bootstrap(), self.name);
        for topic in topics {
            text += &format!("[[kafka.topics]]\nname = \"{}.{topic}\"\n", self.name);
            text += match *topic {
                "buys" => "event_type = \"buy\"\nfields.user_id = \"buyer\"\n",
                _ => "event_type = \"view\"\n",
            };
        }
        text += "[checkpoint]\naudit = true\nevery_events = 1000\n[train]\nbatch = 256\n[model]\ndim = 8\n";
        std::fs::write(self.place.path(file), text).unwrap();
    }

    fn command(&self, checkpoints: &str, arguments: &[&str], settings: &[&str]) -> Command {
        let mut command = self.place.negstream_in(checkpoints, arguments);
        if !arguments.contains(&"-c") {
            command.args(["-c", "worker.toml"]);
        }
        set(&mut command, settings);
        command
    }

    /// Sends events by `negstream produce`, each to the topic of its type.
    fn produce(&self, log: &str, events: &[Interaction]) -> Said {
        write_log(&self.place.path(log), events);
        run(&mut self.command("unused", &["produce", log], &[])).ended(0)
    }

    fn run_until_end(&self, checkpoints: &str, arguments: &[&str], settings: &[&str]) -> Said {
        run(&mut self.command(checkpoints, &[&["run", "--until-end", "--json"], arguments].concat(), settings))
    }

    fn position(&self, checkpoints: &str, topic: &str) -> Option<u64> {
        self.place.manifest(checkpoints)["positions"][format!("kafka/{}.{topic}/0", self.name)].as_u64()
    }

    /// The audit of a worker has each record once; gives how many were trained on, by topic.
    fn audit(&self, checkpoints: &str, topics: &[&str]) -> Vec<u64> {
        let audit = run(&mut self.command("unused", &["audit", "--json", checkpoints], &[])).ended(0).json();
        let trained = |topic: &&str| audit[format!("kafka/{}.{topic}/0", self.name)]["trained"].as_u64();
        topics.iter().map(|topic| trained(topic).unwrap_or_else(|| panic!("no {topic} in {audit}"))).collect()
    }
}

/// The first `n` events of a stream, all of one type, as of a time that comes behind that of earlier phases.
fn phase(n: usize, number: u32, kind: &str) -> Vec<Interaction> {
    let events = support::events(n, u64::from(number)).into_iter();
    events
        .map(|event| Interaction {
            kind: kind.into(),
            timestamp: event.timestamp + i64::from(number) * 86_400_000,
            ..event
        })
        .collect()
}

fn count(report: &Value, name: &str) -> u64 {
    report["events"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// While one topic alone has records, their order is that of its partition: whatever is killed, the bytes are the same.
#[test]
fn worker_of_two_topics_that_is_killed_ends_like_one_that_was_not_and_like_a_replay() {
    let Some(stage) = Stage::new("topics-killed") else { return };
    let kinds = ["view", "buy", "view", "buy"];
    let mut logs = Vec::new();
    for (number, kind) in (0..).zip(kinds) {
        let log = format!("{number}.parquet");
        stage.produce(&log, &phase(PHASE, number, kind));
        logs.push(log);
        let read_before = u64::from(number) * PHASE as u64;
        for least in [1_000, 5_000] {
            let mut worker = Background::start(&mut stage.command("killed", &["run"], &["kafka.assignment=all"]));
            let reached = |line: &str| support::checkpoint_events(line).filter(|events| *events >= read_before + least);
            worker.wait_for(reached).expect("a checkpoint on the way");
            assert!(worker.kill());
        }
        for (checkpoints, group) in [("killed", "topics-killed"), ("whole", "topics-killed-whole")] {
            let group = format!("kafka.group={group}");
            stage.run_until_end(checkpoints, &[], &["kafka.assignment=all", &group]).ended(0);
        }
    }
    let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
    let settings = ["model.dim=8", "checkpoint.every_events=1000"];
    stage.place.replay_in("replayed", &logs, &settings);
    assert!(stage.place.items("killed") == stage.place.items("whole"), "items.parquet differs from an undisturbed run");
    assert!(stage.place.items("killed") == stage.place.items("replayed"), "items.parquet differs from a replay");
    let each = 2 * PHASE as u64;
    assert_eq!(
        [("killed", "views"), ("killed", "buys")].map(|(dir, topic)| stage.position(dir, topic)),
        [Some(each); 2]
    );
    assert_eq!(stage.audit("killed", &["views", "buys"]), [each; 2]);
}

/// With records in both, their order is the brokers', and yet each is learnt once, by a member of a group too.
#[test]
fn worker_of_two_topics_that_is_killed_learns_each_record_once() {
    let Some(stage) = Stage::new("topics-once") else { return };
    let n = 12_000;
    let mixed = phase(n, 1, "view").into_iter().zip(phase(n, 2, "buy")).flat_map(|(view, buy)| [view, buy]);
    let said = stage.produce("mixed.parquet", &mixed.collect::<Vec<_>>());
    assert!(
        said.out.contains("12000 events sent to topic 'topics-once.views', 12000 events sent to topic"),
        "{}",
        said.out
    );
    for least in [1_000, 5_000, 9_000] {
        let mut worker = Background::start(&mut stage.command("w", &["run"], &[]));
        worker.wait_for(|line| support::checkpoint_events(line).filter(|events| *events >= least)).unwrap();
        assert!(worker.kill());
    }
    let report = stage.run_until_end("w", &[], &[]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "used")), (24_000, 24_000));
    assert_eq!(stage.audit("w", &["views", "buys"]), [12_000; 2]);
    let mut worker = Background::start(&mut stage.command("w", &["run"], &["http.listen=127.0.0.1:0"]));
    let (address, deadline) = (worker.address(), Instant::now() + PATIENCE);
    let shows_lag_of = |metrics: &str, stream: &str| {
        metrics.lines().any(|line| line.starts_with("negstream_lag_events") && line.contains(stream))
    };
    loop {
        let (_, metrics) = get(&address, "/metrics");
        if ["topics-once.views/0", "topics-once.buys/0"].iter().all(|stream| shows_lag_of(&metrics, stream)) {
            break;
        }
        assert!(Instant::now() < deadline, "the lag is not shown by topic and partition: {metrics}");
    }
    worker.terminate();
    worker.end().ended(0);
}

/// A topic that is added begins as on a first start; one that is left out keeps its position until it is back.
#[test]
fn topic_may_be_added_and_left_out_between_runs() {
    let Some(stage) = Stage::new("topics-changed") else { return };
    stage.configure("views.toml", &["views"]);
    stage.configure("buys.toml", &["buys"]);
    stage.produce("views.parquet", &phase(600, 1, "view"));
    stage.produce("buys.parquet", &phase(300, 2, "buy"));
    let report = stage.run_until_end("w", &["-c", "views.toml"], &[]).ended(0).json();
    assert_eq!((count(&report, "read"), stage.position("w", "buys")), (600, None));
    // The added one from its oldest record, the other from where it stands.
    let report = stage.run_until_end("w", &[], &[]).ended(0).json();
    assert_eq!(count(&report, "read"), 900);
    // Left out: what comes is not read, and the position stays.
    stage.produce("more.parquet", &phase(200, 3, "view"));
    stage.produce("more.parquet", &phase(100, 4, "buy"));
    let report = stage.run_until_end("w", &["-c", "buys.toml"], &[]).ended(0).json();
    assert_eq!((count(&report, "read"), stage.position("w", "views")), (1_000, Some(600)));
    // Back: nothing is lost, and nothing is read twice.
    let report = stage.run_until_end("w", &[], &[]).ended(0).json();
    assert_eq!((count(&report, "read"), stage.position("w", "views")), (1_200, Some(800)));
    assert_eq!(stage.audit("w", &["views", "buys"]), [800, 400]);
    // An added one begins where `kafka.starting_offsets` says, whatever else was read.
    let settings = ["kafka.group=topics-changed-latest", "kafka.starting_offsets=latest"];
    stage.run_until_end("latest", &["-c", "views.toml"], &settings).ended(0);
    stage.run_until_end("latest", &[], &settings).ended(0);
    stage.produce("newest.parquet", &phase(50, 5, "buy"));
    let report = stage.run_until_end("latest", &[], &settings).ended(0).json();
    assert_eq!((count(&report, "read"), stage.position("latest", "buys")), (50, Some(450)));
}

/// A worker is killed before its group has heard of its newest checkpoint, another goes on in a topic that the first one does
/// not read any more: that checkpoint is not its own, and the one before is.
#[test]
fn checkpoint_that_others_overtook_in_a_topic_that_was_left_out_is_passed_over() {
    let Some(stage) = Stage::new("topics-overtaken") else { return };
    stage.configure("views.toml", &["views"]);
    let session = "kafka.properties={\"session.timeout.ms\"=\"6000\",\"heartbeat.interval.ms\"=\"500\"}";
    let worker = |name: &str, arguments: &[&str]| {
        stage.run_until_end(name, arguments, &[session, &format!("kafka.group_instance_id={name}")]).ended(0)
    };
    stage.produce("buys.parquet", &phase(600, 1, "buy"));
    worker("a", &[]);
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stage.broker.bootstrap())
        .set("group.id", "topics-overtaken")
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition("topics-overtaken.buys", 0);
    let heard_of = group.committed_offsets(asked, PATIENCE).unwrap();
    stage.produce("more.parquet", &phase(300, 2, "buy"));
    worker("a", &[]);
    assert_eq!(stage.position("a", "buys"), Some(900));
    // What the group knows is as if the last commit had not come; it takes that from outside once its member is gone.
    let deadline = Instant::now() + PATIENCE;
    while group.commit(&heard_of, CommitMode::Sync).is_err() {
        assert!(Instant::now() < deadline, "the group keeps its member");
    }
    worker("b", &[]);
    assert_eq!(stage.position("b", "buys"), Some(900));
    let said = worker("a", &["-c", "views.toml"]).names(&["is not this worker's any more", "topics-overtaken.buys/0"]);
    assert_eq!((count(&said.json(), "read"), stage.position("a", "buys")), (600, Some(600)));
}

#[test]
fn rejected_records_tell_their_topic() {
    let Some(stage) = Stage::new("topics-rejected") else { return };
    let settings = |topics: &str| format!("kafka.topics={topics}");
    // Nothing of the topic of purchases can be taken under these names.
    stage.produce("buys.parquet", &phase(50, 1, "buy"));
    let unmapped = settings("[{ name = \"topics-rejected.views\" }, { name = \"topics-rejected.buys\" }]");
    stage.run_until_end("w", &[], &[&unmapped]).ended(3).names(&[
        "none of the 50 records",
        "topics-rejected.buys/0 at 0",
        "missing_field",
        "kafka.topics",
    ]);
    stage.produce("views.parquet", &phase(50, 2, "view"));
    let topics = Topics::at(stage.broker.bootstrap(), "topics-rejected");
    topics.send(0, &["{nonsense"]);
    topics.send(1, &[r#"{"user_id":"u","item_id":"i","timestamp":1700000000000}"#]);
    admin::ensure_topic(&topics.config.kafka, stage.broker.bootstrap(), "topics-rejected.letters").unwrap();
    let report = stage.run_until_end("w", &[], &["kafka.dead_letter_topic=topics-rejected.letters"]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "rejected")), (102, 2));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stage.broker.bootstrap())
        .set("group.id", "letters-of-topics")
        .create()
        .unwrap();
    let mut letters = TopicPartitionList::new();
    letters.add_partition_offset("topics-rejected.letters", 0, Offset::Beginning).unwrap();
    consumer.assign(&letters).unwrap();
    let (mut origins, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while origins.len() < 2 {
        assert!(Instant::now() < deadline, "only {origins:?}");
        let Some(letter) = consumer.poll(PATIENCE).map(|letter| letter.unwrap().detach()) else { continue };
        let header = |wanted: &str| {
            let headers = letter.headers().unwrap();
            let found = headers.iter().find(|header| header.key.ends_with(wanted)).unwrap();
            String::from_utf8(found.value.unwrap().to_vec()).unwrap()
        };
        origins.push((header("errors.topic"), header("exception.class.name")));
    }
    origins.sort();
    let origin = |topic: &str, reason: Reason| (format!("topics-rejected.{topic}"), reason.name().to_owned());
    assert_eq!(origins, [origin("buys", Reason::MissingField), origin("views", Reason::Unparsable)]);
    let clash = run(&mut stage.command("w", &["run"], &["kafka.dead_letter_topic=topics-rejected.buys"])).ended(2);
    clash.names(&["kafka.dead_letter_topic", "one of kafka.topics"]);
}

#[test]
fn one_topic_of_several_made_anew_is_named_and_migrated_alone() {
    let Some(stage) = Stage::new("topics-anew") else { return };
    stage.produce("views.parquet", &phase(200, 1, "view"));
    stage.produce("buys.parquet", &phase(100, 2, "buy"));
    let alone = ["kafka.assignment=all"];
    stage.run_until_end("w", &[], &alone).ended(0);
    let admin = admin_client(stage.broker.bootstrap());
    runtime().block_on(admin.delete_topics(&["topics-anew.buys"], &admin_options())).unwrap().remove(0).unwrap();
    let (anew, deadline) =
        (NewTopic::new("topics-anew.buys", 1, TopicReplication::Fixed(1)), Instant::now() + PATIENCE);
    // It is gone once another of its name can be made.
    while runtime().block_on(admin.create_topics([&anew], &admin_options())).unwrap().remove(0).is_err() {
        assert!(Instant::now() < deadline, "the topic is never gone");
    }
    stage.produce("buys.parquet", &phase(100, 2, "buy"));
    let said = stage.run_until_end("w", &[], &alone).ended(3);
    said.names(&["topic 'topics-anew.buys' is not the one that was read", "negstream migrate"]);
    let migrate =
        |topic: &str| run(&mut stage.command("w", &["migrate", "--to", "earliest", "--topic", topic], &alone));
    migrate("clicks").ended(2).names(&["--topic clicks", "topics-anew.views, topics-anew.buys"]);
    let said = migrate("topics-anew.buys").ended(0);
    assert!(said.out.contains("kafka/topics-anew.buys/0: 100 → 0") && !said.out.contains("views"), "{}", said.out);
    let report = stage.run_until_end("w", &[], &alone).ended(0).json();
    assert_eq!((count(&report, "read"), stage.position("w", "views")), (400, Some(200)));
}

#[test]
fn produce_leaves_out_what_no_topic_is_for() {
    let broker = EmbeddedBroker::start("unused", 1).unwrap();
    let place = Place::new();
    ["a", "b"].iter().for_each(|topic| broker.create_topic(topic, 1).unwrap());
    let kinds = ["x", "y", "z"].into_iter().zip(1..).flat_map(|(kind, n)| phase(n, n as u32, kind));
    write_log(&place.path("log.parquet"), &kinds.collect::<Vec<_>>());
    let brokers = format!("kafka.brokers={}", broker.bootstrap());
    let produce = |topics: &str, arguments: &[&str]| {
        let mut command = place.negstream(&[&["produce", "log.parquet"], arguments].concat());
        set(&mut command, &[&brokers, &format!("kafka.topics={topics}")]);
        run(&mut command)
    };
    let typed = "[{ name = \"a\", event_type = \"x\" }, { name = \"b\", event_type = \"y\" }]";
    let said = produce(typed, &[]).ended(0).names(&["is for events of the type", "--topic"]);
    assert_eq!(said.out, "1 events sent to topic 'a', 2 events sent to topic 'b', 3 rows left out\n");
    let rest = "[{ name = \"a\", event_type = \"x\" }, { name = \"b\" }]";
    assert_eq!(
        produce(rest, &[]).ended(0).out,
        "1 events sent to topic 'a', 5 events sent to topic 'b', 0 rows left out\n"
    );
    for topic in ["a", "b"] {
        let all = format!("6 events sent to topic '{topic}', 0 rows left out\n");
        assert_eq!(produce(rest, &["--topic", topic]).ended(0).out, all);
    }
    produce(rest, &["--topic", "c"]).ended(2).names(&["--topic c", "a, b"]);
}
