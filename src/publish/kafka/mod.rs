//! A sink in Kafka: a compacted topic with the newest row of every item, for whoever consumes it.
//!
//! Topics of one prefix, all of them compacted: `PREFIX-items`, keyed by item; `PREFIX-popularity`, keyed the same, with the
//! log-frequencies that moved since the item's row was written; `PREFIX-state`, one partition with one key, the model and the
//! version of what was committed last. Where they are asked for, `PREFIX-users` has the queries of users. An update is one transaction, so that who reads committed records sees whole updates
//! alone; its producer fences the one before it.

mod avro;
mod headers;
mod layout;
mod numbers;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message as _, OwnedHeaders};
use serde::{Deserialize, Serialize};

use super::{
    EmbeddingSink, ItemRow, OwnOptions, RowPart, SinkConfig, SinkError, SinkOptions, SinkState, StoredRow, Update, UpdateKind,
    UserQuery, Version,
};
use crate::kafka::admin;
use crate::kafka::committed::CommittedReader;
use crate::kafka::transactions::{PartitionEnd, TransactionError, TransactionalProducer};
use crate::kafka::{ClientError, KafkaConfig, redact_properties, validate_properties};
use crate::registry::RegistryConfig;
use crate::util::cargo_feature::CargoFeature;
use crate::util::component::Component;
use crate::util::config_section::{Refusal, config_section, require};
use crate::util::credentials::may_hold_credentials;

use avro::SchemaIds;
use headers::{headers, query_headers, read_headers};
pub use layout::VectorEncoding;
use layout::RecordLayout;

const NAME: &str = "kafka";
/// The key of the only record of the topic of state.
const STATE_KEY: &str = "items";
/// The topic of state is compacted in small pieces: every update adds a record.
const STATE_SEGMENT: &str = "4194304";
/// How the topic of queries is cleaned up where it has to be created.
const QUERY_POLICY: &str = "compact,delete";

config_section! {
    /// What only `kafka` knows.
    pub struct KafkaSinkOptions {
        /// How embeddings are written: `f32`, `f16`, `int8` (with a scale), `json`, or `avro` (with a schema registry).
        encoding: VectorEncoding = VectorEncoding::F32 => [check(validate_encoding)];
        /// Whether the queries of users are written too, to `PREFIX-users`: of each user after their events, ready to be searched with.
        users: bool = false;
        /// Partitions of topics that have to be created.
        partitions: i32 = 1 => [within(1..=10_000)];
        /// Milliseconds that brokers may take to answer.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
        /// Seconds that one update may take: brokers end what takes longer, and what a killed worker left open. At most their
        /// `transaction.max.timeout.ms`.
        transaction_timeout_seconds: u64 = 300 => [within(61..=86_400)];
        /// The schema registry (Confluent's API) that `avro` registers its schemas with: `{ url = "http://host:port", user = …,
        /// password = … }`.
        registry: RegistryConfig = RegistryConfig::default();
        /// Further librdkafka properties (`security.protocol`, `sasl.username`, …), passed on as they are.
        properties: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_properties), check(|properties, _| validate_properties(properties))];
    }
}

fn validate_encoding(encoding: &VectorEncoding, options: &KafkaSinkOptions) -> Result<(), Refusal> {
    if *encoding == VectorEncoding::Avro {
        CargoFeature::Registry.require_if(true)?;
        let message = "'avro' needs the address of a schema registry: registry = { url = \"http://host:port\" }";
        require(!options.registry.url.is_empty(), message)?;
    }
    Ok(())
}

impl Component for KafkaSinkOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Compacted topics in Kafka, keyed by item; its target is kafka://HOST:PORT[,HOST:PORT], its name the prefix of its topics.";
}

impl OwnOptions for KafkaSinkOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(KafkaSink::open(&config.common, &self)?))
    }
}

/// What the topic of state holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StateRecord {
    model_id: String,
    dim: usize,
    epoch: u64,
    step: u64,
    encoding: String,
    partitions: usize,
}

impl StateRecord {
    fn version(&self) -> Version {
        Version { epoch: self.epoch, step: self.step }
    }
}

/// The update that is under way.
#[derive(Debug)]
struct KafkaUpdate {
    state: StateRecord,
    /// Keys of the topics of items and of popularity that are not in a full update yet.
    stale: [HashSet<Vec<u8>>; 2],
}

/// The sink. It connects when an update begins, and again after an error.
pub struct KafkaSink {
    brokers: String,
    config: KafkaConfig,
    layout: RecordLayout,
    registry: RegistryConfig,
    timeout: Duration,
    longest: Duration,
    n_partitions: i32,
    replace: bool,
    /// Items, popularity, state, users.
    topics: [String; 4],
    with_users: bool,
    transactional_id: String,
    reader: Option<CommittedReader>,
    producer: Option<TransactionalProducer>,
    /// What this sink committed last, and where the partitions ended that it wrote to.
    committed: Option<(StateRecord, Vec<PartitionEnd>)>,
    update: Option<KafkaUpdate>,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The properties may hold a password.
        f.debug_struct("KafkaSink")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// A sink as it is configured; no broker is asked yet.
    ///
    /// # Errors
    /// Where its target is no list of brokers, which is not repeated, or a property is refused.
    pub fn open(common: &SinkOptions, own: &KafkaSinkOptions) -> Result<Self, SinkError> {
        let brokers = common.target.strip_prefix("kafka://").map(|brokers| brokers.trim_end_matches('/'));
        let brokers = brokers.filter(|brokers| !brokers.is_empty() && !brokers.contains('/'));
        let brokers = brokers.ok_or_else(|| {
            SinkError::refused(NAME, "its target is no list of brokers like kafka://HOST:PORT,HOST:PORT")
        })?;
        if may_hold_credentials(brokers) {
            let message = "its target must be kafka://HOST:PORT,…; user and password are properties, \
                           \"sasl.username\" and \"sasl.password\"";
            return Err(SinkError::refused(NAME, message));
        }
        let prefix = common.name_or("negstream");
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !prefix.chars().all(is_name) || prefix.len() > 200 {
            let message = "its name is the prefix of topics: letters, digits, '.', '-' and '_', at most 200";
            return Err(SinkError::refused(NAME, message));
        }
        let config = KafkaConfig {
            brokers: brokers.to_owned(),
            group: format!("{prefix}-sink"),
            assignment: crate::kafka::Assignment::All,
            properties: own.properties.clone(),
            ..KafkaConfig::default()
        };
        crate::kafka::check_properties(&config).map_err(|error| SinkError::refused(NAME, error))?;
        Ok(Self {
            brokers: brokers.to_owned(),
            config,
            layout: RecordLayout::new(own.encoding),
            registry: own.registry.clone(),
            timeout: Duration::from_millis(own.timeout_ms),
            longest: Duration::from_secs(own.transaction_timeout_seconds),
            n_partitions: own.partitions,
            replace: common.replace,
            topics: ["items", "popularity", "state", "users"].map(|topic| format!("{prefix}-{topic}")),
            with_users: own.users,
            transactional_id: format!("negstream-sink-{prefix}"),
            reader: None,
            producer: None,
            committed: None,
            update: None,
        })
    }

    fn refused(&self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SinkError {
        SinkError::refused(NAME, reason)
    }

    /// The client that reads.
    fn reader(&mut self) -> Result<&CommittedReader, SinkError> {
        match &mut self.reader {
            Some(reader) => Ok(reader),
            none => {
                let reader = CommittedReader::open(&self.config, &self.brokers, self.timeout);
                Ok(none.insert(reader.map_err(|error| SinkError::refused(NAME, error))?))
            }
        }
    }

    /// Asks brokers something by the client that reads, which is given up after an error.
    fn ask<T>(&mut self, ask: impl FnOnce(&CommittedReader) -> Result<T, ClientError>) -> Result<T, SinkError> {
        let reader = self.reader()?;
        let answer = ask(reader);
        answer.map_err(|error| {
            let is_refused = self.reader.take().is_some_and(|reader| reader.is_refused());
            if is_refused { self.refused(error) } else { SinkError::away(NAME, error) }
        })
    }

    /// What the topic of state says; `None` where there is none, or nothing was committed.
    fn held(&mut self) -> Result<Option<StateRecord>, SinkError> {
        let topic = self.topics[2].clone();
        if self.ask(|reader| reader.partitions(&topic))?.is_none() {
            return Ok(None);
        }
        let newest = self.ask(|reader| reader.newest(&topic, 0))?;
        newest.map(|newest| serde_json::from_slice(&newest)).transpose().map_err(|_| {
            self.refused(format!("topic '{topic}' holds what negstream has not written; choose another prefix (name)"))
        })
    }

    /// Whether `update` may come after what is held.
    fn check(&self, update: &Update<'_>, held: Option<&StateRecord>) -> Result<(), SinkError> {
        if let Some(held) = held {
            let elsewhere = "set replace = true, or choose another prefix (name)";
            let Update { model_id, dim, version, .. } = *update;
            let replaces = self.replace && update.kind == UpdateKind::Full;
            let problem = match held {
                _ if replaces => None,
                held if held.model_id != model_id => Some(format!(
                    "it holds vectors of another model, {}, not of {model_id}; {elsewhere}",
                    held.model_id
                )),
                held if held.dim != dim => {
                    Some(format!("it holds vectors of dimension {}, not {dim}; {elsewhere}", held.dim))
                }
                held if held.encoding != self.layout.encoding.name() => Some(format!(
                    "its vectors are written as {}, not {}; {elsewhere}",
                    held.encoding,
                    self.layout.encoding.name()
                )),
                _ => None,
            };
            if let Some(problem) = problem {
                return Err(self.refused(problem));
            }
            if version <= held.version() {
                return Err(self.refused(format!("it holds a version that is not older: {}", held.version())));
            }
        }
        let is_next = self.committed.as_ref().is_some_and(|(state, _)| held == Some(state));
        if update.kind == UpdateKind::Delta && !is_next {
            return Err(SinkError::away(
                NAME,
                "it does not hold the update before this one; a full update makes it whole",
            ));
        }
        Ok(())
    }

    /// Whether the partitions that were written to last still end where they did.
    fn is_untouched(&mut self) -> Result<bool, SinkError> {
        let Some((_, ends)) = self.committed.clone() else { return Ok(false) };
        for (topic, partition, end) in &ends {
            // The state of the last transaction is the last of its records; other partitions may only have grown.
            let found = self.ask(|reader| reader.end(topic, *partition))?;
            let is_state = *topic == self.topics[2];
            // Behind the last record is the mark of its transaction.
            if found < *end || (is_state && found > end + 1) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the topics that are missing, refuses those that would lose rows, and returns how many partitions items have.
    fn ensure_topics(&mut self) -> Result<usize, SinkError> {
        let count = self.n_partitions;
        let all = [
            (&self.topics[0], count, &[("cleanup.policy", "compact")][..]),
            (&self.topics[1], count, &[("cleanup.policy", "compact")]),
            (&self.topics[2], 1, &[("cleanup.policy", "compact"), ("segment.bytes", STATE_SEGMENT)]),
            // Who does nothing for as long as the topic's retention leaves it.
            (&self.topics[3], count, &[("cleanup.policy", QUERY_POLICY)]),
        ];
        for (topic, count, properties) in all.into_iter().take(if self.with_users { 4 } else { 3 }) {
            let made = admin::ensure_topic_with(&self.config, &self.brokers, topic, count, properties);
            made.map_err(|error| self.admin_error(error))?;
            let policy = match admin::topic_property(&self.config, &self.brokers, topic, "cleanup.policy") {
                Ok(policy) => policy,
                Err(error) => {
                    tracing::warn!(%error, topic, "whether the topic of a sink is compacted cannot be seen");
                    continue;
                }
            };
            let is_right =
                |policy: &String| policy == "compact" || *topic == self.topics[3] && policy.contains("compact");
            if let Some(policy) = policy.filter(|policy| !is_right(policy)) {
                return Err(self.refused(format!(
                    "topic '{topic}' has cleanup.policy={policy}, and would lose rows by it: set it to compact, or choose \
                     another prefix (name)"
                )));
            }
        }
        let topic = self.topics[0].clone();
        let partitions = self.ask(|reader| reader.partitions(&topic))?;
        Ok(partitions.map_or(0, |partitions| partitions.len()))
    }

    /// Whether brokers refuse to make a topic, or are away.
    fn admin_error(&self, error: ClientError) -> SinkError {
        use RDKafkaErrorCode as Code;
        let is_refusal = |code: Code| {
            let is_wrong = matches!(
                code,
                Code::PolicyViolation
                    | Code::InvalidTopic
                    | Code::InvalidPartitions
                    | Code::InvalidReplicationFactor
                    | Code::InvalidConfig
            );
            is_wrong || crate::kafka::is_refusal(code)
        };
        let is_refused = !matches!(error, ClientError::Failed { .. }) || error.code().is_some_and(is_refusal);
        if is_refused { self.refused(error) } else { SinkError::away(NAME, error) }
    }

    /// The end of an update that went wrong: nothing of it is seen.
    fn give_up(&mut self, error: TransactionError) -> SinkError {
        self.update = None;
        let producer = self.producer.take();
        match error {
            TransactionError::Fenced => {
                drop(producer);
                let (mine, held) = (self.committed.take().map(|(state, _)| state.version()), self.held());
                match held {
                    Ok(Some(held)) if mine.is_none_or(|mine| held.version() > mine) => self.refused(format!(
                        "another worker has begun an update since: it holds a version that is not older: {}",
                        held.version()
                    )),
                    _ => self.refused(format!(
                        "another worker has begun an update since, or this one took longer than {} seconds \
                         (transaction_timeout_seconds)",
                        self.longest.as_secs()
                    )),
                }
            }
            TransactionError::Refused(error) => {
                if let Some(producer) = producer {
                    producer.abort();
                }
                self.refused(error)
            }
            TransactionError::Away(error) => {
                if let Some(producer) = producer {
                    producer.abort();
                }
                SinkError::away(NAME, error)
            }
        }
    }

    /// Shows `visit` every committed record of `topic`, if there is such a topic.
    fn read_topic(&mut self, topic: &str, visit: &mut dyn FnMut(&BorrowedMessage<'_>)) -> Result<(), SinkError> {
        let Some(partitions) = self.ask(|reader| reader.partitions(topic))? else { return Ok(()) };
        self.ask(|reader| reader.read(topic, &partitions, visit))
    }

    /// The keys that the topics of items and popularity hold.
    fn keys(&mut self) -> Result<[HashSet<Vec<u8>>; 2], SinkError> {
        let mut found = [HashSet::new(), HashSet::new()];
        for (keys, topic) in found.iter_mut().zip(self.topics[..2].to_vec()) {
            self.read_topic(&topic, &mut |record| {
                let key = record.key().unwrap_or_default();
                match record.payload() {
                    Some(_) if !keys.contains(key) => drop(keys.insert(key.to_vec())),
                    Some(_) => {}
                    None => drop(keys.remove(key)),
                }
            })?;
        }
        Ok(found)
    }

    fn send(&mut self, topic: usize, key: &[u8], value: Option<&[u8]>, headers: OwnedHeaders) -> Result<(), SinkError> {
        let Some(producer) = &mut self.producer else { return Err(self.refused("no update was begun")) };
        let sent = producer.send(&self.topics[topic], key, value, headers);
        sent.map_err(|error| self.give_up(error))
    }

    fn open_update(&self) -> Result<(String, Version), SinkError> {
        let update = self.update.as_ref().ok_or_else(|| self.refused("no update was begun"))?;
        Ok((update.state.model_id.clone(), update.state.version()))
    }

    /// Notes that the open update keeps `key`, so that its end leaves no tombstone for it in `topic`.
    fn note_kept(&mut self, topic: usize, key: &[u8]) {
        if let Some(update) = &mut self.update {
            update.stale[topic].remove(key);
        }
    }

    /// The numbers of the schemas, asked for anew: the registry may have lost them.
    fn register_schemas(&mut self) -> Result<(), SinkError> {
        if self.layout.encoding == VectorEncoding::Avro {
            let [items, popularity, _, users] = &self.topics;
            let users = self.with_users.then_some(users.as_str());
            let registered = SchemaIds::register(&self.registry, (items, popularity), users);
            self.layout.ids = registered.map_err(|error| {
                if error.is_refusal { self.refused(error) } else { SinkError::away(NAME, error) }
            })?;
        }
        Ok(())
    }

    /// A full update, or the first of this sink: looks before it fences anybody.
    fn prepare(&mut self, update: &Update<'_>) -> Result<StateRecord, SinkError> {
        let held = self.held()?;
        self.check(update, held.as_ref())?;
        self.register_schemas()?;
        let partitions = self.ensure_topics()?;
        // Always a new one: somebody may have fenced the one before, and then come to nothing.
        self.producer = None;
        let (config, id) = (&self.config, &self.transactional_id);
        let producer = TransactionalProducer::open(config, &self.brokers, id, self.timeout, self.longest);
        self.producer = Some(producer.map_err(|error| self.give_up(error))?);
        // Whoever wrote until now can do so no more.
        let held = self.held()?;
        self.check(update, held.as_ref())?;
        if held.as_ref().is_some_and(|held| held.partitions != partitions) {
            let topic = &self.topics[0];
            return Err(self.refused(format!(
                "topic '{topic}' was given {partitions} partitions, so that keys are no longer where their rows lie; choose \
                 another prefix (name)"
            )));
        }
        Ok(StateRecord {
            model_id: update.model_id.to_owned(),
            dim: update.dim,
            epoch: update.version.epoch,
            step: update.version.step,
            encoding: self.layout.encoding.name().to_owned(),
            partitions,
        })
    }
}

impl EmbeddingSink for KafkaSink {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        let held = self.held()?;
        Ok(held.map(|held| SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read_part(RowPart::WHOLE, visit)
    }

    fn read_part(
        &mut self,
        part: RowPart,
        visit: &mut dyn FnMut(StoredRow),
    ) -> Result<Option<SinkState>, SinkError> {
        let Some(held) = self.held()? else { return Ok(None) };
        let mut rows: BTreeMap<Vec<u8>, Option<StoredRow>> = BTreeMap::new();
        let mut moved: BTreeMap<Vec<u8>, (Version, f32)> = BTreeMap::new();
        let (mut is_foreign, layout) = (false, self.layout);
        let [items, popularity, ..] = self.topics.clone();
        self.read_topic(&items, &mut |record| {
            let key = record.key().unwrap_or_default();
            if !part.holds(key) {
                return;
            }
            let key = key.to_vec();
            let Some(value) = record.payload() else { return drop(rows.remove(&key)) };
            let row = read_headers(record).and_then(|(version, log_frequency)| {
                let item_id = String::from_utf8(key.clone()).ok()?;
                let embedding = layout.embedding(value)?;
                Some(StoredRow { item_id, embedding, log_frequency: log_frequency?, version })
            });
            // What was written over since may have been anything.
            rows.insert(key, row.filter(|row| row.embedding.len() == held.dim));
        })?;
        self.read_topic(&popularity, &mut |record| {
            let key = record.key().unwrap_or_default();
            if !part.holds(key) {
                return;
            }
            let key = key.to_vec();
            let Some(value) = record.payload() else {
                moved.remove(&key);
                return;
            };
            match read_headers(record).zip(layout.log_frequency(value)) {
                Some(((version, _), log_frequency)) => {
                    moved.insert(key, (version, log_frequency));
                }
                None => is_foreign = true,
            }
        })?;
        if is_foreign || rows.values().any(Option::is_none) {
            let encoding = layout.encoding.name();
            let message =
                format!("'{items}' or '{popularity}' holds a record that negstream has not written as {encoding}");
            return Err(self.refused(message));
        }
        for (key, row) in rows {
            let Some(mut row) = row else { continue };
            // Of the row's and its own, the newer counts.
            if let Some((_, log_frequency)) = moved.get(&key).filter(|(version, _)| *version > row.version) {
                row.log_frequency = *log_frequency;
            }
            visit(row);
        }
        Ok(Some(SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }

    fn round(&self, embedding: &mut [f32]) {
        self.layout.round(embedding);
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        if self.update.take().is_some() {
            // The one before was left in its middle.
            if let Some(producer) = self.producer.take() {
                producer.abort();
            }
        }
        let is_next = update.kind == UpdateKind::Delta && self.producer.is_some() && self.is_untouched()?;
        let state = match self.committed.as_ref().filter(|_| is_next) {
            // As nobody wrote since, nothing has to be asked.
            Some((held, _)) => {
                self.check(update, Some(held))?;
                StateRecord { epoch: update.version.epoch, step: update.version.step, ..held.clone() }
            }
            None => self.prepare(update)?,
        };
        let mut stale = [HashSet::new(), HashSet::new()];
        if update.kind == UpdateKind::Full {
            stale = self.keys()?;
            let is_foreign =
                self.committed.is_none() && !self.replace && !stale[0].is_empty() && self.held()?.is_none();
            if is_foreign {
                let topic = &self.topics[0];
                return Err(self.refused(format!(
                    "topic '{topic}' holds records that negstream has not written; choose another prefix (name)"
                )));
            }
        }
        let begun = self.producer.as_mut().map(TransactionalProducer::begin);
        begun.unwrap_or(Ok(())).map_err(|error| self.give_up(error))?;
        self.update = Some(KafkaUpdate { state, stale });
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for item_id in item_ids {
            for topic in [0, 1] {
                self.note_kept(topic, item_id.as_bytes());
                self.send(topic, item_id.as_bytes(), None, headers(&model_id, version, None))?;
            }
        }
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for row in rows {
            let key = row.item_id.as_bytes();
            let value = self.layout.value(row, &model_id, version);
            self.note_kept(0, key);
            self.note_kept(1, key);
            self.send(0, key, Some(&value), headers(&model_id, version, Some(row.log_frequency)))?;
        }
        Ok(())
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for (item_id, log_frequency) in popularity {
            let value = self.layout.popularity(item_id, *log_frequency, &model_id, version);
            self.note_kept(1, item_id.as_bytes());
            self.send(1, item_id.as_bytes(), Some(&value), headers(&model_id, version, None))?;
        }
        Ok(())
    }

    fn takes_queries(&self) -> bool {
        self.with_users
    }

    fn set_queries(&mut self, queries: &[UserQuery<'_>]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for query in queries {
            let value = self.layout.query(query, &model_id, version);
            let headers = query_headers(&model_id, version, query.beta_tau);
            self.send(3, query.user_id.as_bytes(), Some(&value), headers)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        let Some(KafkaUpdate { state, stale }) = self.update.take() else { return Ok(()) };
        for (topic, keys) in stale.into_iter().enumerate() {
            for key in keys {
                self.send(topic, &key, None, headers(&model_id, version, None))?;
            }
        }
        let value = serde_json::to_vec(&state).map_err(|error| self.refused(error))?;
        self.send(2, STATE_KEY.as_bytes(), Some(&value), headers(&model_id, version, None))?;
        let committed = match &mut self.producer {
            Some(producer) => producer.commit(),
            None => return Err(self.refused("no update was begun")),
        };
        let ends = committed.map_err(|error| self.give_up(error))?;
        for (topic, partition, end) in &ends {
            self.ask(|reader| reader.await_end(topic, *partition, *end))?;
        }
        self.committed = Some((state, ends));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::config_section::ConfigValue as _;

    #[test]
    fn passwords_among_the_properties_are_never_shown_and_own_ones_are_refused() {
        let config = |properties: &str| {
            let table = format!("sink = 'kafka'\ntarget = 'kafka://b:1'\nproperties = {{ {properties} }}");
            SinkConfig::from_table(table.parse().unwrap()).unwrap()
        };
        let with_password = config("'sasl.password' = 'S3CR3T', 'sasl.mechanism' = 'PLAIN'");
        let sink = crate::publish::open(&with_password).unwrap();
        let mut shown = vec![with_password.clone()];
        shown.redact();
        let shown = serde_json::to_string(&shown).unwrap();
        for text in [shown, format!("{with_password:?}"), format!("{sink:?}")] {
            assert!(!text.contains("S3CR3T"), "{text}");
        }
        let said = crate::publish::open(&config("'transactional.id' = 'S3CR3T'")).unwrap_err().to_string();
        assert!(said.contains("transactional.id") && !said.contains("S3CR3T"), "{said}");
        let said = crate::publish::open(&config("'sasl.pasword' = 'S3CR3T'")).unwrap_err().to_string();
        assert!(said.contains("knows no such property") && !said.contains("S3CR3T"), "{said}");
    }
}
