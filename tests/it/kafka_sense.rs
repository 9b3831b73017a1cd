//! What people and clusters get wrong, against a real broker: nothing is lost by it, nothing is read twice, and the program
//! says what it is. One test for each such thing.

use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use negstream::config::KafkaConfig;
use negstream::kafka::admin;
use negstream::kafka::producer::EventProducer;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::kafka_harness::{Broker, admin_client, admin_options, runtime};
use crate::kafka_replay::get;
use crate::kafka_source::{PATIENCE, encoder, event};
use crate::support::{self, Background, Place, Said, run, set, write_log};

/// A topic, a group of the same name, and a place for workers.
struct Stage {
    /// Stops with the last test that holds it.
    _broker: Arc<Broker>,
    config: KafkaConfig,
    place: Place,
}

impl Stage {
    fn new(topic: &str, partitions: i32) -> Option<Self> {
        let broker = Broker::shared()?;
        let mut config = negstream::config::Config::default().kafka;
        config.brokers = broker.bootstrap().to_owned();
        (config.topic, config.group, config.partitions) = (topic.to_owned(), topic.to_owned(), partitions);
        admin::ensure_topic(&config, &config.brokers, topic).unwrap();
        Some(Self { _broker: broker, config, place: Place::new() })
    }

    fn command(&self, checkpoints: &str, arguments: &[&str], settings: &[&str]) -> Command {
        let mut command = self.place.negstream_in(checkpoints, arguments);
        let KafkaConfig { brokers, topic, group, .. } = &self.config;
        for (key, value) in [("brokers", brokers), ("topic", topic), ("group", group)] {
            set(&mut command, &[&format!("kafka.{key}={value}")]);
        }
        set(&mut command, &["model.dim=8", "train.batch=32", "evaluate.share=0"]);
        set(&mut command, settings);
        command
    }

    /// Runs a worker to the end of the topic.
    fn run(&self, settings: &[&str]) -> Said {
        self.run_in("checkpoints", &[], settings)
    }

    fn run_in(&self, checkpoints: &str, arguments: &[&str], settings: &[&str]) -> Said {
        run(&mut self.command(checkpoints, &[&["run", "--until-end", "--json"], arguments].concat(), settings))
    }

    /// Produces records as they are, by a producer with further properties.
    fn produce(&self, records: impl IntoIterator<Item = String>, properties: &[(&str, &str)]) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.config.brokers);
        for (key, value) in properties {
            client.set(*key, *value);
        }
        let producer: BaseProducer = client.create().unwrap();
        for payload in records {
            let mut record =
                BaseRecord::<[u8], [u8]>::to(&self.config.topic).payload(payload.as_bytes()).timestamp(*HOUR);
            while let Err((_, again)) = producer.send(record) {
                record = again;
                producer.poll(Duration::from_millis(20));
            }
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn produce_events(&self, numbers: std::ops::Range<u32>) {
        let mut producer = EventProducer::open(&self.config, &self.config.brokers, encoder()).unwrap();
        numbers.for_each(|number| producer.send(&event(number)).unwrap());
        producer.flush(PATIENCE).unwrap();
    }

    /// Deletes the topic, and makes it anew.
    fn recreate(&self) {
        let (name, admin) = (self.config.topic.as_str(), admin_client(&self.config.brokers));
        runtime().block_on(admin.delete_topics(&[name], &admin_options())).unwrap().remove(0).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It is gone once another of its name can be made.
            let anew = NewTopic::new(name, self.config.partitions, TopicReplication::Fixed(1));
            if runtime().block_on(admin.create_topics([&anew], &admin_options())).unwrap().remove(0).is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "the topic is never gone");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn consumer(&self, group: &str, properties: &[(&str, &str)]) -> BaseConsumer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.config.brokers).set("group.id", group);
        client.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        for (key, value) in properties {
            client.set(*key, *value);
        }
        client.create().unwrap()
    }

    fn length(&self, topic: &str) -> i64 {
        self.consumer("lengths", &[]).fetch_watermarks(topic, 0, PATIENCE).unwrap().1
    }
}

/// One time for all records of a batch job: an hour ago, so that brokers keep them.
static HOUR: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    i64::try_from(now.as_millis()).expect("a time") - 3_600_000
});

/// A sound record, whose user is called `user`.
fn record(number: u32, user: &str) -> String {
    let mut record = json!({ "item_id": format!("i{}", number % 11), "event_type": "click", "timestamp": *HOUR + i64::from(number) });
    record[user] = json!(format!("u{}", number % 7));
    record.to_string()
}

fn records(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|number| record(number, "user_id"))
}

fn count(report: &Value, name: &str) -> u64 {
    report["events"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// More records than the share of rejected ones needs to stop a worker, and fewer.
#[test]
fn configuration_that_is_at_fault_for_every_rejection_loses_no_record() {
    for (topic, n) in [("misnamed-few", 300), ("misnamed-many", 3_000)] {
        let Some(stage) = Stage::new(topic, 1) else { return };
        let letters = format!("{topic}.letters");
        admin::ensure_topic(&stage.config, &stage.config.brokers, &letters).unwrap();
        stage.produce((0..n).map(|number| record(number, "visitor")), &[]);
        let letters_to = format!("kafka.dead_letter_topic={letters}");
        for settings in [&[][..], &[letters_to.as_str()]] {
            let said = stage.run(settings).ended(3);
            said.names(&["none of the", "missing_field", "user_id", "nothing is saved", "source.fields"]);
        }
        assert_eq!(stage.length(&letters), 0, "what is read again is no dead letter");
        let report = stage.run(&["source.fields.user_id=visitor", &letters_to]).ended(0).json();
        assert_eq!((count(&report, "read"), count(&report, "used")), (u64::from(n), u64::from(n)));
        assert_eq!(stage.length(&letters), 0);
    }
}

/// Poison in front of the first good record is poison all the same.
#[test]
fn poison_before_the_first_good_record_becomes_dead_letters() {
    let Some(stage) = Stage::new("poison-first", 1) else { return };
    admin::ensure_topic(&stage.config, &stage.config.brokers, "poison-first.letters").unwrap();
    stage.produce((0..40).map(|number| format!("poison {number}")).chain(records(0..60)), &[]);
    let report = stage.run(&["kafka.dead_letter_topic=poison-first.letters"]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "used"), count(&report, "rejected")), (100, 60, 40));
    assert_eq!(stage.length("poison-first.letters"), 40);
}

#[test]
fn model_begun_anew_reads_the_topic_again_or_says_what_it_leaves_out() {
    let Some(stage) = Stage::new("begun-anew", 1) else { return };
    stage.produce(records(0..500), &[]);
    assert_eq!(count(&stage.run(&[]).ended(0).json(), "read"), 500);
    let said = stage.run(&["model.dim=4"]).ended(2);
    said.names(&["model.dim = 8 there, 4 here", "--fresh", "another kafka.group"]);
    // The same worker, which reads its own again.
    let report = stage.run_in("checkpoints", &["--fresh"], &["model.dim=4"]).ended(0).json();
    assert_eq!(count(&report, "read"), 500);
    // Another worker of the group goes on behind the first one.
    let said = stage.run_in("elsewhere", &[], &[]).ended(0);
    assert_eq!(count(&said.json(), "read"), 0);
    said.names(&["stands at 500 of begun-anew/0", "500 records", "another kafka.group"]);
    let said = stage.run_in("again", &[], &["kafka.group=begun-anew-again"]).ended(0);
    assert_eq!(count(&said.json(), "read"), 500);

    // Offsets that another program left.
    let consumer = stage.consumer("begun-anew-foreign", &[]);
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("begun-anew", 0, Offset::Offset(200)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    let said = stage.run_in("foreign", &[], &["kafka.group=begun-anew-foreign"]).ended(0);
    assert_eq!(count(&said.json(), "read"), 300);
    said.names(&["stands at 200 of begun-anew/0", "another program committed that", "200 records"]);
}

#[test]
fn topic_made_anew_is_refused_by_its_id_and_migrate_keeps_the_model() {
    let Some(stage) = Stage::new("anew-by-id", 1) else { return };
    stage.produce(records(0..500), &[]);
    assert_eq!(count(&stage.run(&[]).ended(0).json(), "read"), 500);
    // Longer than before, and with the same time of the record before the position.
    stage.recreate();
    stage.produce(records(0..800), &[]);
    stage.run(&[]).ended(3).names(&[
        "topic 'anew-by-id' is not the one that was read",
        "created anew",
        "negstream migrate",
    ]);

    let migrate =
        |place: &str, settings: &[&str]| run(&mut stage.command("checkpoints", &["migrate", "--to", place], settings));
    migrate("somewhere", &[]).ended(2).names(&["--to somewhere", "earliest"]);
    let said = migrate("earliest", &[]).ended(0);
    assert!(
        said.out.contains("kafka/anew-by-id/0: 500 → 0") && said.out.contains("model of 500 events"),
        "{}",
        said.out
    );
    let report = stage.run(&[]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "used")), (1_300, 1_300), "the model is kept");
    // Its workers have positions of their own now.
    migrate("latest", &[]).ended(3).names(&["has read of topic 'anew-by-id'", "another kafka.group"]);
    let said = migrate("2020-01-01T00:00:00Z", &["kafka.group=anew-by-id-again"]).ended(0);
    assert!(said.out.contains("800 → 0"), "{}", said.out);
    let said = migrate("2100-01-01T00:00:00Z", &["kafka.group=anew-by-id-again"]).ended(0);
    assert!(said.out.contains("0 → 800"), "{}", said.out);
}

/// Two members, and the folder of one for both.
#[test]
fn folder_of_another_worker_is_refused() {
    let Some(stage) = Stage::new("swapped", 2) else { return };
    let member = |name: &str| format!("kafka.group_instance_id={name}");
    let share = |checkpoints: &str, name: &str| stage.run_in(checkpoints, &[], &[&member(name), QUICK]);
    stage.produce_events(0..500);
    let mut first = Background::start(&mut stage.command("a", &["run"], &[&member("m0"), QUICK]));
    first.wait_for(|line| line.contains("reading partition=").then_some(())).unwrap();
    let mut second = Background::start(&mut stage.command("b", &["run"], &[&member("m1"), QUICK]));
    second.wait_for(|line| line.contains("reading partition=").then_some(())).unwrap();
    for worker in [first, second] {
        worker.terminate();
        worker.end().ended(0);
    }
    share("b", "m0").ended(3).names(&[
        "are those of worker 'm1'",
        "'m0' has records of its own",
        "folders were exchanged",
    ]);
    share("a", "m1").ended(3).names(&["are those of worker 'm0'", "'m1' has records of its own"]);
    // A copy under a new name, while the group still keeps the place of the first.
    support::copy(&stage.place.path("a"), &stage.place.path("copy"));
    share("copy", "m2")
        .ended(3)
        .names(&["are those of worker 'm0'", "'m0' is at work in the group, or was a moment ago"]);
    let report = share("a", "m0").ended(0).json();
    assert!(count(&report, "read") > 0, "its own folder is its own: {report}");
}

/// Short enough for a test, long enough for any machine.
const QUICK: &str = "kafka.properties={\"session.timeout.ms\"=\"20000\",\"heartbeat.interval.ms\"=\"500\"}";

#[test]
fn killed_worker_is_back_at_once() {
    let Some(stage) = Stage::new("back-at-once", 1) else { return };
    stage.produce_events(0..2_000);
    let settings = ["checkpoint.every_events=100", "http.listen=127.0.0.1:0"];
    let mut worker = Background::start(&mut stage.command("checkpoints", &["run"], &settings));
    worker.wait_for(|line| support::checkpoint_events(line).filter(|events| *events > 100)).unwrap();
    assert!(worker.kill());
    // Far less than a session, after which the group would give the place to anybody.
    let begun = Instant::now();
    let mut worker = Background::start(&mut stage.command("checkpoints", &["run"], &settings));
    worker.wait_for(|line| line.contains("reading partition=").then_some(())).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    worker.terminate();
    worker.end().ended(0);
}

#[test]
fn group_of_another_program_is_refused() {
    let Some(stage) = Stage::new("foreign-group", 1) else { return };
    stage.produce(records(0..10), &[]);
    let other = stage.consumer("foreign-group", &[("partition.assignment.strategy", "range")]);
    other.subscribe(&["foreign-group"]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while other.assignment().unwrap().count() == 0 {
        assert!(Instant::now() < deadline, "the other program is never a member");
        let _ = other.poll(Duration::from_millis(50));
    }
    let said = stage.run(&[]).ended(3);
    said.names(&["the group 'foreign-group' is at work under another protocol ('range'", "another kafka.group"]);
}

#[test]
fn batch_that_cannot_be_unpacked_is_named_and_can_be_passed_over() {
    let Some(stage) = Stage::new("bomb", 1) else { return };
    stage.produce(records(0..100), &[]);
    // A few kilobytes on their way, three megabytes unpacked.
    let large =
        |number| record(number, "user_id").replacen('{', &format!("{{\"blob\":\"{}\",", "x".repeat(100_000)), 1);
    let zstd = [
        ("compression.type", "zstd"),
        ("linger.ms", "2000"),
        ("batch.size", "100000000"),
        ("message.max.bytes", "100000000"),
    ];
    stage.produce((0..30).map(large), &zstd);
    stage.produce(records(100..150), &[]);
    let small = "kafka.properties={\"receive.message.max.bytes\"=\"1000512\",\"fetch.max.bytes\"=\"1000000\",\"fetch.message.max.bytes\"=\"100000\"}";
    for _ in 0..2 {
        let said = stage.run(&[small]).ended(3);
        said.names(&[
            "compressed batch at offset 100 of bomb/0",
            "receive.message.max.bytes",
            "1000512",
            "on_data_loss",
        ]);
    }
    let report = stage.run(&[small, "kafka.on_data_loss=skip"]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "lost")), (150, 30));
    let report = stage.run_in("whole", &[], &["kafka.group=bomb-whole"]).ended(0).json();
    assert_eq!((count(&report, "read"), count(&report, "lost")), (180, 0));
}

#[test]
fn audit_passes_over_what_transactions_leave_behind() {
    let Some(stage) = Stage::new("audited-transactions", 1) else { return };
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &stage.config.brokers).set("transactional.id", "audited");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for transaction in 0..3_u32 {
        producer.begin_transaction().unwrap();
        for record in records(transaction * 50..transaction * 50 + 50) {
            producer.send(BaseRecord::<[u8], [u8]>::to("audited-transactions").payload(record.as_bytes())).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match transaction {
            1 => producer.abort_transaction(PATIENCE).unwrap(),
            _ => producer.commit_transaction(PATIENCE).unwrap(),
        }
    }
    assert_eq!(count(&stage.run(&["checkpoint.audit=true"]).ended(0).json(), "read"), 100);
    let audit = run(&mut stage.command("checkpoints", &["audit", "--json", "checkpoints"], &[])).ended(0).json();
    let stream = &audit["kafka/audited-transactions/0"];
    // 50 aborted records, and the marker on either side of them.
    assert_eq!(
        (&stream["trained"], &stream["passed"], &stream["missing"]),
        (&json!(100), &json!(52), &json!(0)),
        "{stream}"
    );
}

/// Records with far more features than a model uses cost no memory beyond what is read ahead, which is bounded in bytes.
/// Prints the figure of docs/memory.md.
#[test]
fn features_without_number_do_not_fill_memory() {
    let Some(stage) = Stage::new("featured", 1) else { return };
    let features = vec!["f"; 60_000];
    let record = |number: u32| {
        let mut record: Value = serde_json::from_str(&record(number, "user_id")).unwrap();
        record["features"] = json!(features);
        record.to_string()
    };
    stage.produce((0..300).map(record), &[("compression.type", "lz4")]);
    let settings = ["train.batch=2048", "http.listen=127.0.0.1:0"];
    let mut worker = Background::start(&mut stage.command("checkpoints", &["run"], &settings));
    let address = worker.address();
    wait_for_read(&address, 300);
    let peak = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let peak =
        peak.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    worker.terminate();
    worker.end().ended(0);
    let peak = peak.expect("the kernel tells it");
    eprintln!("records of {} KB: {} MB of memory at most", record(0).len() / 1_000, peak / 1_000);
    // Kept whole, the batch alone would be more than 400 MB.
    assert!(peak < 350 << 10, "{peak} KiB");
}

#[test]
fn embedded_broker_keeps_all_that_is_produced_into_it() {
    let place = Place::new();
    // Several times what an embedded broker keeps.
    write_log(&place.path("log.parquet"), &support::events(120_000, 9));
    let settings = ["model.dim=4", "evaluate.share=0", "kafka.brokers=embedded"];
    let mut command = place.negstream(&["run", "--json"]);
    set(&mut command, &settings);
    set(&mut command, &["http.listen=127.0.0.1:0"]);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    let bootstrap =
        worker.wait_for(|line| Some(line.split("bootstrap=").nth(1)?.split(' ').next()?.to_owned())).unwrap();
    let mut command = place.negstream(&["produce", "log.parquet"]);
    set(&mut command, &[&format!("kafka.brokers={bootstrap}")]);
    let said = run(&mut command).ended(0);
    assert!(said.out.contains("120000 events sent"), "{}", said.out);
    wait_for_read(&address, 120_000);
    worker.terminate();
    worker.end().ended(0);
}

/// Waits until the worker at `address` has read so many records.
fn wait_for_read(address: &str, records: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: Value = serde_json::from_str(&get(address, "/status").1).expect("the status is JSON");
        if status["events"]["read"].as_u64() == Some(records) {
            return;
        }
        assert!(Instant::now() < deadline, "they are never read: {status}");
        std::thread::yield_now();
    }
}
