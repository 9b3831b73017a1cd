//! A connection to the topic, before it is decided where reading begins: which partitions there are, what they hold, and
//! what the group knows of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{REQUEST_TIMEOUT, TopicClient, TopicConsumer};
use super::errors::KafkaSourceError;
use super::group::committer::Committer;
use super::group::membership::{Membership, conflict_error};
use super::group::ownership::{Claims, LocalClaim};
use super::group::rebalance::ConsumerCallbacks;
use super::lag::WatermarkPoller;
use super::partitions::{Partition, Partitions};
use super::reader::Reader;
use super::startup::{self, Watermarks};
use super::{KafkaSource, ResumeState, Until};
use crate::decode::EventDecoder;
use crate::kafka::admin::partitions_of;
use crate::kafka::{Assignment, ClientFailure, KafkaConfig, LogThrottle, describe, is_refusal};
use crate::source::SourceError;

/// A connection to the topic of a configuration; reads nothing yet.
pub struct TopicConnection {
    client: TopicClient,
    watermarks: Vec<Watermarks>,
    /// The group's history of each partition, by its place in `watermarks`; all empty outside of a group.
    histories: Vec<Claims>,
}

impl TopicConnection {
    /// Connects to the topic of `config`. Waits for brokers that are away until `stop` is set.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: a topic that does not exist, a property that is refused, brokers that refuse this worker, or a
    /// request to stop.
    pub fn open(config: &KafkaConfig, brokers: &str, stop: &AtomicBool) -> Result<Self, SourceError> {
        Ok(Self::connect(config, brokers, stop)?)
    }

    fn connect(config: &KafkaConfig, brokers: &str, stop: &AtomicBool) -> Result<Self, KafkaSourceError> {
        let properties = crate::kafka::consumer_properties(config, brokers)?;
        let consumer = crate::kafka::create(brokers, properties.create_with_context(ConsumerCallbacks::default()))?;
        let consumer: Arc<TopicConsumer> = Arc::new(consumer);
        let mut query =
            PatientQuery { consumer: &consumer, brokers, topic: &config.topic, stop, log: LogThrottle::default() };
        let watermarks = query.watermarks()?;
        let partitions = || {
            let mut list = TopicPartitionList::new();
            for watermarks in &watermarks {
                list.add_partition(&config.topic, watermarks.id);
            }
            list
        };
        let histories = match config.assignment {
            Assignment::All => {
                // Commits of this worker would wipe out what the workers of a group tell each other by theirs. Where nobody
                // answers, the name is no group's.
                let committed = consumer.committed_offsets(partitions(), REQUEST_TIMEOUT).unwrap_or_default();
                let claimant = |metadata: &str| Claims::parse(metadata).newest().map(|newest| newest.by.clone());
                if let Some(by) = committed.elements().iter().find_map(|element| claimant(element.metadata())) {
                    let problem = format!(
                        "the group '{}' shares topic '{}' out among workers, '{by}' for one: read all of it as another \
                         kafka.group",
                        config.group, config.topic
                    );
                    return Err(KafkaSourceError::Refused { brokers: brokers.to_owned(), problem });
                }
                vec![Claims::default(); watermarks.len()]
            }
            Assignment::Group => {
                let committed = query.repeat(|| consumer.committed_offsets(partitions(), REQUEST_TIMEOUT))?;
                let history = |watermarks: &Watermarks| {
                    let element = committed.find_partition(&config.topic, watermarks.id);
                    element.map_or_else(Claims::default, |element| Claims::parse(element.metadata()))
                };
                watermarks.iter().map(history).collect()
            }
        };
        let client = TopicClient::new(consumer, config.clone(), brokers.to_owned());
        Ok(Self { client, watermarks, histories })
    }

    /// Checks that a state is its worker's own: that no other worker of the group reads what is in it. For a state that was
    /// `fallen_back` to, since newer ones are damaged, checks also that it has all records that this worker will not get to
    /// read again.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: what is wrong with the first partition that does not fit.
    pub fn verify_ownership(&self, state: ResumeState<'_>, fallen_back: bool) -> Result<(), SourceError> {
        let (me, topic) = (&state.ownerships.worker, self.client.topic());
        for (watermarks, history) in self.watermarks.iter().zip(&self.histories) {
            let name = startup::stream_name(topic, watermarks.id);
            let label = format!("{topic}/{}", watermarks.id);
            let reached = state.positions.next(&name);
            if fallen_back {
                let whole = history.check_whole(me, reached);
                whole.map_err(|conflict| conflict_error(&label, reached.unwrap_or(0), conflict))?;
            }
            let Some(position) = reached else { continue };
            let local = LocalClaim { position, record: state.ownerships.of(&name).record };
            history.check(me, local).map_err(|conflict| conflict_error(&label, position, conflict))?;
        }
        Ok(())
    }

    /// Begins to read, from where `state` stands.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: a position that is lost, or a thread that does not start.
    pub fn into_source(
        self,
        decoder: EventDecoder,
        state: ResumeState<'_>,
        until: Until,
    ) -> Result<KafkaSource, SourceError> {
        Ok(self.begin(decoder, state, until)?)
    }

    fn begin(
        self,
        decoder: EventDecoder,
        state: ResumeState<'_>,
        until: Until,
    ) -> Result<KafkaSource, KafkaSourceError> {
        let Self { client, watermarks, histories: _ } = self;
        let (config, consumer) = (&client.config, &client.consumer);
        let membership = match config.assignment {
            Assignment::All => None,
            Assignment::Group => {
                Some(Membership::new(state.ownerships.worker.clone(), !config.group_instance_id.is_empty()))
            }
        };
        let starts = match membership {
            None => startup::start_offsets(config, state.positions, &watermarks)?,
            Some(_) => {
                startup::check_partitions_exist(&config.topic, state.positions, &watermarks)?;
                Vec::new()
            }
        };
        let mut partitions = Partitions::new(&config.topic, until);
        for watermarks in &watermarks {
            partitions.add_at_startup(Partition::new(&config.topic, watermarks.id, state), *watermarks);
        }
        let poller =
            WatermarkPoller::start(Arc::clone(consumer), config.topic.clone(), Arc::clone(partitions.watermarks()))?;
        let committer = Committer::start(Arc::clone(consumer))?;
        if membership.is_some() {
            let subscribed = consumer.subscribe(&[&config.topic]);
            subscribed.map_err(|error| client.error("no subscription", error))?;
        } else {
            super::assign_all(&client, &mut partitions, starts.into_iter().enumerate())?;
        }
        Ok(KafkaSource {
            client: Some(client),
            partitions,
            reader: Reader::new(decoder, until),
            committer,
            membership,
            poller,
            failed: None,
        })
    }
}

impl std::fmt::Debug for TopicConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, watermarks, histories } = self;
        formatter
            .debug_struct("TopicConnection")
            .field("brokers", &client.brokers)
            .field("watermarks", watermarks)
            .field("histories", histories)
            .finish()
    }
}

/// Longest wait for one answer; how soon a request to stop is noticed while brokers are away.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Questions to brokers that may be away: repeated until there is an answer.
struct PatientQuery<'a> {
    consumer: &'a TopicConsumer,
    brokers: &'a str,
    topic: &'a str,
    stop: &'a AtomicBool,
    log: LogThrottle,
}

impl PatientQuery<'_> {
    /// The partitions by number, with what they hold.
    fn watermarks(&mut self) -> Result<Vec<Watermarks>, KafkaSourceError> {
        let (consumer, topic) = (self.consumer, self.topic);
        let ids = self.repeat(|| {
            let metadata = consumer.fetch_metadata(Some(topic), QUERY_TIMEOUT)?;
            partitions_of(&metadata, topic).map_err(KafkaError::MetadataFetch)
        })?;
        let Some(ids) = ids else {
            return Err(self.refused(format!("no topic '{topic}'; create it, or let `negstream produce` do so")));
        };
        let mut watermarks = Vec::with_capacity(ids.len());
        for id in ids {
            let (low, high) = self.repeat(|| consumer.fetch_watermarks(topic, id, QUERY_TIMEOUT))?;
            watermarks.push(Watermarks::new(id, low, high));
        }
        Ok(watermarks)
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// What waiting cannot mend, or a request to stop.
    fn repeat<T>(&mut self, question: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaSourceError> {
        loop {
            let error = match question() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Serves the errors and log lines that came meanwhile; nothing is assigned, so no record can come.
            let polled = self.consumer.poll(Duration::from_millis(200));
            debug_assert!(!matches!(polled, Some(Ok(_))), "records before an assignment");
            if let Some(refusal) = self.consumer.context().reports.refusal() {
                return Err(self.refused(refusal));
            }
            if error.rdkafka_error_code().is_some_and(|code| is_refusal(code) || is_hopeless(code)) {
                return Err(KafkaSourceError::Client {
                    brokers: self.brokers.to_owned(),
                    doing: format!("topic '{}'", self.topic),
                    source: ClientFailure::from(error),
                });
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(KafkaSourceError::Stopped { brokers: self.brokers.to_owned() });
            }
            if self.log.due() {
                tracing::warn!(brokers = self.brokers, cause = describe(&error), "kafka does not answer; waiting");
            }
        }
    }

    fn refused(&self, problem: String) -> KafkaSourceError {
        KafkaSourceError::Refused { brokers: self.brokers.to_owned(), problem }
    }
}

/// True for questions that no broker will ever answer otherwise.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::InvalidTopic | Code::InvalidArgument | Code::UnknownGroup | Code::Fatal)
}
