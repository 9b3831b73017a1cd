//! Every alert of `deploy/alerts.yaml` is made to fire by a worker: the real program, in the trouble that the alert is about,
//! whose `/metrics` is scraped and put to the alert's own expression.
//!
//! The scraper's clock is the test's: one scrape follows the other at once, and counts as some time later. `for:` is checked
//! as a duration, and not waited for. Where Prometheus itself is at hand (on the path, or in the folder that
//! `NEGSTREAM_PROMETHEUS` names), its own tools are held to the rules too, `for:` included, and it scrapes a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use negstream::config::KafkaConfig;
use negstream::event::Interaction;

use crate::kafka_source::{Cluster, producer};
use crate::promql::{Database, parse_duration};
use crate::support::{Background, Place, Said, events, left_out, run, set};

/// Long enough for any machine; a test that waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(240);
/// Seconds between two scrapes by the scraper's clock.
const SCRAPE_INTERVAL: f64 = 15.0;

/// An alert rule: its expression, and how long it has to hold.
struct Alert {
    expression: String,
    hold: Option<String>,
}

/// The rules of `deploy/alerts.yaml`, by name.
fn alerts() -> BTreeMap<String, Alert> {
    let text = include_str!("../../deploy/alerts.yaml");
    let mut alerts = BTreeMap::new();
    for rule in text.split("- alert:").skip(1) {
        let (name, fields) = rule.split_once('\n').expect("a rule has fields");
        let (mut expression, mut hold, mut folded) = (String::new(), None, false);
        for line in fields.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(value) = line.strip_prefix("expr:") {
                folded = value.trim() == ">-";
                expression = value.trim().trim_start_matches(">-").to_owned();
            } else if let Some(value) = line.strip_prefix("for:") {
                hold = Some(value.trim().to_owned());
            } else if line.contains(": ") || line.ends_with(':') {
                folded = false;
            } else if folded {
                expression.push(' ');
                expression.push_str(line);
            }
            if line.starts_with("for:") || line.starts_with("labels:") {
                folded = false;
            }
        }
        alerts.insert(name.trim().to_owned(), Alert { expression, hold });
    }
    assert!(alerts.len() > 8, "only {} rules were found", alerts.len());
    alerts
}

/// A worker of the real program on a topic of its own, and a scraper beside it.
struct Watched {
    place: Place,
    cluster: Cluster,
    kafka: KafkaConfig,
    worker: Background,
    address: String,
    database: Database,
    time: f64,
    interval: f64,
}

impl Watched {
    /// Starts a worker with `settings` on a topic of so many partitions.
    fn start(topic: &str, partitions: i32, settings: &[&str]) -> Self {
        let (place, cluster) = (Place::new(), Cluster::embedded());
        let kafka = cluster.topic(topic, partitions);
        let mut command = place.negstream(&["run"]);
        set(&mut command, &["http.listen=127.0.0.1:0", "kafka.assignment=all", "threads=1", "model.dim=8"]);
        set(&mut command, &["negatives.bank=64", "http.linger_seconds=600"]);
        set(&mut command, &[&format!("kafka.brokers={}", kafka.brokers), &format!("kafka.topic={topic}")]);
        set(&mut command, settings);
        let mut worker = Background::start(&mut command);
        let address = worker.address();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let database = Database::default();
        Self { place, cluster, kafka, worker, address, database, time, interval: SCRAPE_INTERVAL }
    }

    /// Sends events to the topic.
    fn produce(&self, events: &[Interaction]) {
        let mut producer = producer(&self.kafka);
        events.iter().for_each(|event| producer.send(event).expect("there is room"));
        producer.flush(PATIENCE).expect("the broker takes them");
    }

    /// Scrapes the worker once; the scraper's clock moves on.
    fn scrape(&mut self) -> Option<String> {
        self.time += self.interval;
        let exposition = get(&self.address, "/metrics");
        self.database.scrape(self.time, &self.address, exposition.as_deref());
        exposition
    }

    fn is_firing(&self, alert: &str) -> bool {
        let expression = &alerts()[alert].expression;
        let firing = self.database.query(expression, self.time).unwrap_or_else(|error| panic!("{alert}: {error}"));
        firing.iter().any(|(labels, _)| labels.get("instance") == Some(&self.address))
    }

    /// Waits, without a scrape, until the worker shows `metric` at `least` or more.
    #[track_caller]
    fn wait_until_at_least(&self, metric: &str, least: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let exposition = get(&self.address, "/metrics").unwrap_or_default();
            let shown = exposition.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok());
            if shown.is_some_and(|shown| shown >= least) {
                return;
            }
            assert!(Instant::now() < deadline, "{metric} does not reach {least}:\n{exposition}");
        }
    }

    /// Scrapes until the worker shows `line`.
    #[track_caller]
    fn scrape_until_shown(&mut self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let exposition = self.scrape().unwrap_or_default();
            if exposition.lines().any(|shown| shown == line) {
                return;
            }
            assert!(Instant::now() < deadline, "'{line}' is not shown:\n{exposition}");
        }
    }

    /// Scrapes until `alert` fires, which it did not before.
    #[track_caller]
    fn scrape_until_firing(&mut self, alert: &'static str) -> &'static str {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_firing(alert) {
            let exposition = self.scrape();
            assert!(Instant::now() < deadline, "{alert} does not fire:\n{}", exposition.unwrap_or_default());
        }
        alert
    }

    fn end(self) -> Said {
        self.worker.end()
    }
}

/// The body that `address` serves at `path`; `None` where nobody answers.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Alerts that a scenario has made fire.
type Fired = Vec<&'static str>;

/// A model that diverges: the worker fails, says why until it is scraped, and is gone.
fn diverged_model() -> Fired {
    let mut watched = Watched::start("diverges", 1, &["train.learning_rate=1e37"]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamFailed") && !watched.is_firing("NegstreamDiverged"));
    watched.produce(&events(2_000, 1));
    let mut fired = vec![watched.scrape_until_firing("NegstreamDiverged")];
    assert!(watched.is_firing("NegstreamFailed"), "one scrape shows both");
    fired.push("NegstreamFailed");
    let shown = watched.database.query("negstream_loss_nats != negstream_loss_nats", watched.time).expect("a query");
    assert_eq!(shown.len(), 1, "the loss is not a number");
    // Seen by one scrape, the failure need not be shown any longer.
    fired.push(watched.scrape_until_firing("NegstreamDown"));
    assert!(watched.is_firing("NegstreamDiverged"), "an alert outlasts the worker");
    watched.end().ended(7).names(&["the model diverged"]);
    fired
}

/// A topic of dead letters that is gone: the worker fails before it trains.
fn dead_letter_topic_gone() -> Fired {
    let mut watched = Watched::start("no-letters", 1, &["kafka.dead_letter_topic=gone"]);
    let fired = vec![watched.scrape_until_firing("NegstreamFailed")];
    let failure = watched.database.query("negstream_failure{reason=\"source\"} == 1", watched.time).expect("a query");
    assert_eq!(failure.len(), 1, "the reason is shown");
    assert!(!watched.is_firing("NegstreamDiverged"));
    watched.end().ended(3).names(&["no topic 'gone'"]);
    fired
}

/// Steps too slow for what comes in.
fn slow_steps() -> Fired {
    let settings = ["model.dim=512", "negatives.bank=60000", "train.batch=2048"];
    let mut watched = Watched::start("slow", 16, &settings);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    // However many scrapes it takes, the quarter of an hour that the alert looks back over begins before the backlog.
    watched.interval = 0.01;
    watched.scrape();
    assert!(!watched.is_firing("NegstreamFallsBehind"));
    // Twice to three times what the alert asks for, while the worker stands still: a fast one would be done with the first records
    // before the last ones are there. The broker keeps about 40,000 events of each partition.
    let backlog = events(30_000, 2);
    watched.worker.signal("STOP");
    watched.worker.wait_until_stopped();
    (0..8).for_each(|_| watched.produce(&backlog));
    watched.worker.signal("CONT");
    vec![watched.scrape_until_firing("NegstreamFallsBehind")]
}

/// Records that are there, and a worker that does not get to train on them: they are less than its batch.
fn no_steps() -> Fired {
    let mut watched = Watched::start("still", 1, &["train.batch=65536"]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    watched.scrape();
    assert!(!watched.is_firing("NegstreamStandsStill"));
    watched.produce(&events(15_000, 3));
    vec![watched.scrape_until_firing("NegstreamStandsStill")]
}

/// Checkpoints that are due faster than they are written, and then a folder that cannot be written.
fn checkpoints_in_trouble() -> Fired {
    let mut watched = Watched::start("unsaved", 1, &["checkpoint.every_events=256"]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamCheckpointsSkipped") && !watched.is_firing("NegstreamCheckpointsFail"));
    watched.produce(&events(20_000, 4));
    let mut fired = vec![watched.scrape_until_firing("NegstreamCheckpointsSkipped")];
    watched.scrape_until_shown("negstream_events_read_total 20000");
    // A file stands in the folder's place, as on a disk that was mounted elsewhere.
    let folder = watched.place.path("checkpoints");
    std::fs::rename(&folder, watched.place.path("aside")).expect("the folder can be moved");
    std::fs::write(&folder, b"").expect("a writable folder");
    watched.produce(&events(10_000, 5));
    fired.push(watched.scrape_until_firing("NegstreamCheckpointsFail"));
    fired
}

/// Training that goes on for hours without a checkpoint.
fn old_checkpoint() -> Fired {
    let mut watched = Watched::start("unsafe", 1, &["checkpoint.every_events=1000000"]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamCheckpointOld") && !watched.is_firing("NegstreamStale"));
    // From here on half an hour passes between two scrapes.
    watched.interval = 1_700.0;
    for part in 1..=4 {
        watched.produce(&events(1_000, 5 + part));
        watched.scrape();
    }
    vec![watched.scrape_until_firing("NegstreamCheckpointOld"), watched.scrape_until_firing("NegstreamStale")]
}

/// A producer whose records are wrong, one in ten.
fn bad_records() -> Fired {
    let mut watched = Watched::start("rejects", 1, &[]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamRejectsMuch"));
    watched.produce(&events(2_000, 11));
    let mut producer = producer(&watched.kafka);
    (0..200).for_each(|_| producer.send_bytes(b"key", b"{nonsense").expect("there is room"));
    producer.flush(PATIENCE).expect("the broker takes them");
    vec![watched.scrape_until_firing("NegstreamRejectsMuch")]
}

/// Brokers that are away.
fn brokers_away() -> Fired {
    let mut watched = Watched::start("away", 1, &[]);
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamSourceTrouble"));
    let Cluster::Embedded(broker) = &watched.cluster else { unreachable!("an embedded cluster") };
    broker.go_down().expect("the broker obeys");
    // What takes minutes by the worker's clock is one interval of the scraper's.
    watched.wait_until_at_least("negstream_source_errors_total", 12.0);
    vec![watched.scrape_until_firing("NegstreamSourceTrouble")]
}

/// A sink that nobody listens for.
fn sink_away() -> Fired {
    let mut watched = Watched::start("sink", 1, &["publish=[{sink=\"redis\",target=\"redis://127.0.0.1:1/0\"}]"]);
    let errors = "negstream_sink_errors_total{sink=\"redis\"}";
    watched.wait_until_at_least(errors, 1.0);
    watched.scrape();
    assert!(!watched.is_firing("NegstreamSinkTrouble"));
    // What takes minutes by the worker's clock is one interval of the scraper's.
    watched.wait_until_at_least(errors, 6.0);
    watched.scrape_until_shown("negstream_sink_condition{sink=\"redis\",condition=\"away\"} 1");
    vec![watched.scrape_until_firing("NegstreamSinkTrouble")]
}

/// A model that learns nothing.
fn useless_model() -> Fired {
    let mut watched = Watched::start(
        "useless",
        1,
        &["train.learning_rate=1e-9", "model.learn_popularity=false", "model.popularity_init=0"],
    );
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    assert!(!watched.is_firing("NegstreamWorseThanPopularity"));
    watched.produce(&events(10_000, 12));
    vec![watched.scrape_until_firing("NegstreamWorseThanPopularity")]
}

#[test]
fn every_alert_fires_for_a_worker_in_that_trouble() {
    let scenarios = [
        diverged_model,
        dead_letter_topic_gone,
        slow_steps,
        no_steps,
        checkpoints_in_trouble,
        old_checkpoint,
        bad_records,
        brokers_away,
        sink_away,
        useless_model,
    ];
    let fired: BTreeSet<&str> = scenarios.into_iter().flat_map(|scenario| scenario()).collect();
    let alerts = alerts();
    let all: BTreeSet<&str> = alerts.keys().map(String::as_str).collect();
    assert_eq!(fired, all, "each alert needs a scenario that makes it fire");
}

#[test]
fn alert_rules_are_understood_and_quiet_without_a_worker() {
    for (name, Alert { expression, hold }) in alerts() {
        assert_eq!(Database::default().query(&expression, 0.0), Ok(Vec::new()), "{name}: {expression}");
        assert!(hold.iter().all(|hold| parse_duration(hold).is_ok()), "{name}: for: {hold:?}");
    }
}

#[test]
fn healthy_worker_fires_no_alert() {
    let mut watched = Watched::start("healthy", 1, &["model.dim=32", "negatives.bank=1024"]);
    // However many scrapes it takes, no hour passes.
    watched.interval = 0.01;
    watched.scrape_until_shown("negstream_phase{phase=\"waiting\"} 1");
    for part in 0..4 {
        watched.produce(&events(5_120, 20 + part));
        watched.scrape_until_shown(&format!("negstream_events_used_total {}", (part + 1) * 5_120));
        for alert in alerts().keys().filter(|alert| *alert != "NegstreamWorseThanPopularity") {
            assert!(!watched.is_firing(alert), "{alert}");
        }
    }
    watched.worker.terminate();
    watched.end().ended(0);
}

#[cfg(feature = "full")]
#[test]
fn live_worker_shows_how_fresh_its_sink_is_and_leaves_it_whole() {
    let Some(server) = crate::sink_servers::redis() else { return };
    let target = crate::sink_servers::redis_url(&server);
    let sink = format!("publish=[{{sink=\"redis\",target=\"{target}\",name=\"fresh\",recall=0.9}}]");
    let watched = Watched::start("fresh", 1, &[&sink, "train.linger_ms=100"]);
    watched.wait_until_at_least("negstream_sink_full_updates_total{sink=\"redis\"}", 1.0);
    for part in 0..3 {
        watched.produce(&events(2_000, 71 + part));
        let all = f64::from(2_000 * (part as u32 + 1));
        for from in ["read", "event"] {
            let count = format!("negstream_sink_freshness_seconds_count{{sink=\"redis\",from=\"{from}\"}}");
            watched.wait_until_at_least(&count, all);
        }
    }
    watched.wait_until_at_least("negstream_sink_condition{sink=\"redis\",condition=\"settled\"}", 1.0);
    watched.wait_until_at_least("negstream_sink_recall{sink=\"redis\"}", 0.5);
    watched.worker.terminate();
    let Watched { place, worker, .. } = watched;
    let report = worker.end().ended(0);
    assert!(report.out.contains("sink         redis settled"), "{}", report.out);
    let newest = place.newest("checkpoints").display().to_string();
    let verify = ["publish", "verify", &newest, "--sink", "redis", "--target", &target, "--name", "fresh"];
    run(&mut place.negstream(&verify)).ended(0);
}

/// A program of Prometheus, where it is at hand.
fn prometheus(program: &str) -> Option<Command> {
    let folder = std::env::var_os("NEGSTREAM_PROMETHEUS").map(PathBuf::from).unwrap_or_default();
    let path = if folder.as_os_str().is_empty() { PathBuf::from(program) } else { folder.join(program) };
    match Command::new(&path).arg("--version").output() {
        Ok(output) if output.status.success() => Some(Command::new(path)),
        _ => left_out("prometheus", &format!("there is no {}", path.display())),
    }
}

#[test]
fn prometheus_itself_understands_the_rules_and_fires_them_in_time() {
    let Some(mut promtool) = prometheus("promtool") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(promtool.current_dir(root).args(["test", "rules", "tests/prometheus/alerts.yaml"])).ended(0);
    let Some(mut promtool) = prometheus("promtool") else { return };
    run(promtool.current_dir(root).args(["check", "rules", "deploy/alerts.yaml"])).ended(0);
    let tested = std::fs::read_to_string(root.join("tests/prometheus/alerts.yaml")).expect("it is there");
    for alert in alerts().keys() {
        let fires =
            tested.split("alertname: ").any(|case| case.starts_with(alert) && case[alert.len()..].starts_with("\n"));
        assert!(fires, "{alert} is not made to fire in tests/prometheus/alerts.yaml");
    }
}

#[test]
fn prometheus_itself_scrapes_a_worker_whose_alerts_fire() {
    let Some(mut prometheus) = prometheus("prometheus") else { return };
    let mut watched = Watched::start("scraped", 1, &["train.learning_rate=1e37"]);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/alerts.yaml");
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
         rule_files: [{:?}]\n\
         scrape_configs: [{{ job_name: negstream, static_configs: [{{ targets: [{:?}] }}] }}]\n",
        rules.display().to_string(),
        watched.address
    );
    let place = Place::new();
    std::fs::write(place.path("prometheus.yml"), config).expect("a writable folder");
    prometheus.current_dir(place.path("")).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
    let mut server = Background::start(prometheus.arg("--web.listen-address=127.0.0.1:0"));
    let listening = |line: &str| {
        let address = line.split_once("Listening on")?.1.split("address=").nth(1)?;
        Some(address.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let address = server.wait_for(listening).expect("it listens");
    let wait_for = |path: &str, words: &[&str]| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = get(&address, path).unwrap_or_default();
            if words.iter().all(|word| said.contains(word)) {
                return said;
            }
            assert!(Instant::now() < deadline, "{path} does not show {words:?}: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for("/api/v1/targets", &["\"health\":\"up\""]);
    let quiet = wait_for("/api/v1/alerts", &["\"status\":\"success\""]);
    assert!(!quiet.contains("\"firing\""), "{quiet}");
    watched.produce(&events(2_000, 61));
    wait_for("/api/v1/alerts", &["\"firing\"", "NegstreamDiverged", "NegstreamFailed"]);
    // It was scraped, so it need not stay.
    watched.worker.wait_for(|_| None::<()>);
    watched.end().ended(7);
}
