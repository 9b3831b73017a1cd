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
mod options;
mod qdrant;
mod read;
mod state_record;
mod topics;
mod update;

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message as _, OwnedHeaders};

use super::{SinkError, SinkOptions, Update, UpdateKind, Version};
use crate::kafka::committed::CommittedReader;
use crate::kafka::transactions::{PartitionEnd, TransactionError, TransactionalProducer};
use crate::kafka::{ClientError, KafkaConfig};
use crate::registry::RegistryConfig;
use crate::util::credentials::may_hold_credentials;

use avro::SchemaIds;
use layout::RecordLayout;
pub use layout::VectorEncoding;
pub use options::KafkaSinkOptions;
use state_record::StateRecord;

const NAME: &str = "kafka";

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
            layout: RecordLayout::new(own.encoding, prefix),
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
            let replaces = self.replace && update.kind == UpdateKind::Full;
            let problem = held.refusal(update, self.layout.encoding).filter(|_| !replaces);
            if let Some(problem) = problem {
                return Err(self.refused(problem));
            }
            if update.version <= held.version() {
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
            self.layout.ids = registered
                .map_err(|error| if error.is_refusal { self.refused(error) } else { SinkError::away(NAME, error) })?;
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
