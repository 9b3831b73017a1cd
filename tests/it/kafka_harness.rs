//! A real Apache Kafka for tests, by `tests/kafka/broker.sh`.
//!
//! Where java or mvn is missing, tests that need it are left out (see [`crate::support`]). A broker stops when the last test that holds it is done, and also when the test program is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use negstream::config::KafkaConfig;

use crate::support::left_out;

/// Further server properties, in the broker's folder.
const PROPERTIES: &str = "further.properties";

/// Further options of its formatting, one a line, beside them.
const FORMAT: &str = "format.options";

/// What the group of `config` has committed for `partitions` of its topic, asked for so long at most.
pub fn committed_offsets(
    config: &KafkaConfig,
    partitions: impl IntoIterator<Item = i32>,
    patience: Duration,
) -> KafkaResult<TopicPartitionList> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).set("group.id", &config.group).create()?;
    let mut asked = TopicPartitionList::new();
    partitions.into_iter().for_each(|partition| {
        asked.add_partition(&config.topic, partition);
    });
    consumer.committed_offsets(asked, patience)
}

/// A running broker, with a folder of its own.
pub struct Broker {
    folder: tempfile::TempDir,
    bootstrap: String,
}

impl Broker {
    /// Starts a broker; `None` where that is not possible on this machine.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts a broker with further server properties.
    pub fn start_with(properties: &str) -> Option<Self> {
        Self::start_formatted(properties, &[])
    }

    /// The same, whose storage is formatted with further options.
    pub fn start_formatted(properties: &str, format: &[&str]) -> Option<Self> {
        if let Some(missing) = ["java", "mvn"].into_iter().find(|program| !is_there(program)) {
            return left_out("kafka", &format!("{missing} is not installed"));
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(PROPERTIES), properties).expect("a writable folder");
        std::fs::write(folder.path().join(FORMAT), format.join("\n")).expect("a writable folder");
        match launch(folder.path()) {
            Ok(bootstrap) => Some(Self { folder, bootstrap }),
            Err(problem) => left_out("kafka", &problem),
        }
    }

    /// A broker that is shared with the other tests that run at the same time.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// Where clients reach it.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Stops it, keeping its data and its port.
    pub fn stop(&self) {
        let stopped = launcher().arg("stop").arg(self.folder.path()).status();
        assert!(stopped.expect("the launcher runs").success(), "the broker does not stop");
    }

    /// Starts it again where it was.
    pub fn restart(&self) {
        assert_eq!(launch(self.folder.path()).as_deref(), Ok(self.bootstrap.as_str()));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = launcher().arg("stop").arg(self.folder.path()).status();
    }
}

fn launch(folder: &Path) -> Result<String, String> {
    let output = launcher()
        .arg("start")
        .arg(folder)
        .env("PROPERTIES", folder.join(PROPERTIES))
        .env("FORMAT", folder.join(FORMAT))
        .env("OWNER", std::process::id().to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the launcher does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.split_whitespace()
        .find_map(|word| word.strip_prefix("BOOTSTRAP="))
        .filter(|_| output.status.success())
        .map(str::to_owned)
        .ok_or_else(|| format!("kafka does not start: {}", String::from_utf8_lossy(&output.stderr)))
}

fn launcher() -> Command {
    Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker.sh"))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// What asynchronous calls of the admin client run on.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Kafka's admin client.
pub fn admin_client(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// Waits as long as it takes on any machine.
pub fn admin_options() -> AdminOptions {
    let patience = Some(Duration::from_secs(60));
    AdminOptions::new().request_timeout(patience).operation_timeout(patience)
}

/// Deletes the records of a topic's first partition that lie before `offset`, as retention does.
pub fn delete_before(brokers: &str, topic: &str, offset: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    runtime().block_on(admin_client(brokers).delete_records(&offsets, &admin_options())).unwrap();
}
