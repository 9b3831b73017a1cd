//! A connection to the topics, before it is decided where reading begins: which partitions there are, what they hold, and
//! what the group knows of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{REQUEST_TIMEOUT, TopicClient, TopicConsumer, name_topics};
use super::decoders::TopicDecoders;
use super::errors::KafkaSourceError;
use super::group::committer::Committer;
use super::group::membership::{Membership, conflict_error};
use super::group::ownership::{Claims, LocalClaim};
use super::group::rebalance::ConsumerCallbacks;
use super::group::shared_starts::SharedStarts;
use super::identity::{KnownWorkers, check_topic, is_member_called};
use super::lag::WatermarkPoller;
use super::partitions::{Partitions, offset_of};
use super::reader::Reader;
use super::startup::{self, Watermarks};
use super::topic_partition::{TopicPartition, list_of};
use super::{KafkaSource, ResumeState, Until, noted_cuts};
use crate::kafka::admin::partitions_of;
use crate::kafka::topic_id::identify;
use crate::kafka::{Assignment, ClientFailure, KafkaConfig, LogThrottle, describe, is_refusal};
use crate::position::{OwnershipRecord, Ownerships, Positions, TopicIdentity};
use crate::source::{NotedCuts, SourceError};

/// A place in every partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPlace {
    /// Its oldest record.
    Earliest,
    /// Behind its newest record.
    Latest,
    /// Where the state stands: offsets are the same there.
    Same,
    /// Where the group stands.
    Group,
    /// The first record that was produced at this time or later, in milliseconds since 1970.
    Since(i64),
}

/// A partition that was found.
#[derive(Debug)]
struct FoundPartition {
    name: TopicPartition,
    watermarks: Watermarks,
    /// The group's history of the partition; empty outside of a group.
    history: Claims,
}

/// A topic that was found.
#[derive(Debug)]
struct FoundTopic {
    name: String,
    identity: TopicIdentity,
    partitions: Vec<FoundPartition>,
}

/// A connection to the topics of a configuration; reads nothing yet.
pub struct TopicConnection {
    client: TopicClient,
    /// The topics, in the order of the configuration.
    topics: Vec<FoundTopic>,
    /// Cuts that are noted beside the offsets of the group.
    noted_cuts: Vec<NotedCuts>,
    /// Ids of the group's members; empty outside of a group.
    members: Vec<String>,
    /// Present where the workers of the group share a model.
    shared: Option<SharedStarts>,
}

impl TopicConnection {
    /// Connects to the topics of `config`. Waits for brokers that are away until `stop` is set.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: a topic that does not exist, a property that is refused, brokers that refuse this worker, or a
    /// request to stop.
    pub fn open(config: &KafkaConfig, brokers: &str, stop: &AtomicBool) -> Result<Self, SourceError> {
        Ok(Self::connect(config, brokers, stop)?)
    }

    fn connect(config: &KafkaConfig, brokers: &str, stop: &AtomicBool) -> Result<Self, KafkaSourceError> {
        let consumer = consumer(config, brokers)?;
        let doing = name_topics(config);
        let mut query = PatientQuery { consumer: &consumer, brokers, doing: &doing, stop, log: LogThrottle::default() };
        let mut topics = Vec::new();
        for name in config.topic_names() {
            topics.push(FoundTopic {
                name: name.to_owned(),
                identity: TopicIdentity::default(),
                partitions: query.partitions(name)?,
            });
        }
        let partitions = || list_of(topics.iter().flat_map(|topic| &topic.partitions).map(|partition| &partition.name));
        let noted = |committed: &TopicPartitionList| {
            committed.elements().iter().filter_map(|element| noted_cuts::parse(element.metadata())).collect()
        };
        let (committed, noted_cuts) = match config.assignment {
            Assignment::All => {
                // Commits of this worker would wipe out what the workers of a group tell each other by theirs. Where nobody
                // answers, the name is no group's.
                let committed = consumer.committed_offsets(partitions(), REQUEST_TIMEOUT).unwrap_or_default();
                let claimant = |metadata: &str| Claims::parse(metadata).newest().map(|newest| newest.by.clone());
                for element in committed.elements() {
                    let Some(by) = claimant(element.metadata()) else { continue };
                    let problem = format!(
                        "the group '{}' shares topic '{}' out among workers, '{by}' for one: read all of it as another \
                         kafka.group",
                        config.group,
                        element.topic()
                    );
                    return Err(KafkaSourceError::Refused { brokers: brokers.to_owned(), problem });
                }
                (None, noted(&committed))
            }
            Assignment::Group => {
                let committed = query.repeat(|| consumer.committed_offsets(partitions(), REQUEST_TIMEOUT))?;
                let noted_cuts = noted(&committed);
                (Some(committed), noted_cuts)
            }
        };
        let members = match config.assignment {
            Assignment::All => Vec::new(),
            Assignment::Group => query.members(&config.group)?,
        };
        for topic in &mut topics {
            topic.identity = identify(consumer.client(), &topic.name, REQUEST_TIMEOUT);
            for partition in &mut topic.partitions {
                let element = committed.as_ref().and_then(|committed| partition.name.find_in(committed));
                partition.history = element.map(|element| Claims::parse(element.metadata())).unwrap_or_default();
            }
        }
        let client = TopicClient::new(consumer, config.clone(), brokers.to_owned());
        Ok(Self { client, topics, noted_cuts, members, shared: None })
    }

    /// Begins partitions by the log of deltas of a shared model, from now on.
    pub fn share(&mut self, shared: SharedStarts) {
        self.shared = Some(shared);
    }

    /// The identity of each topic by its name, as far as the brokers tell it.
    pub fn identities(&self) -> impl Iterator<Item = (&str, &TopicIdentity)> {
        self.topics.iter().map(|topic| (topic.name.as_str(), &topic.identity))
    }

    fn partitions(&self) -> impl Iterator<Item = &FoundPartition> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Where the worker called `name` cut batches behind `read` records, before it died: behind its newest checkpoint, which
    /// had read so many.
    pub fn cuts_since(&self, name: &str, read: u64) -> Vec<u64> {
        let own = self.noted_cuts.iter().filter(|noted| noted.by == name && noted.cuts.begin() <= read);
        own.flat_map(|noted| noted.cuts.places()).filter(|place| *place > read).collect()
    }

    /// Checks that the topics are those that a state knows, and that the state may be that of a worker called `name`.
    ///
    /// # Errors
    /// [`KafkaSourceError::OtherTopic`], [`KafkaSourceError::OtherWorker`].
    pub fn verify_identity(&self, ownerships: &Ownerships, name: &str) -> Result<(), SourceError> {
        for (topic, is) in self.identities() {
            if let Some(was) = ownerships.topic(topic) {
                check_topic(topic, was, is)?;
            }
        }
        if self.client.config.assignment == Assignment::Group {
            let histories = self.partitions().map(|partition| &partition.history).collect();
            let group = KnownWorkers { histories, members: &self.members };
            group.check(&ownerships.worker, name)?;
        }
        Ok(())
    }

    /// The position of each partition for a state whose `positions` mean nothing in these topics, or mean the same.
    ///
    /// # Errors
    /// The group's workers have positions of their own, a place that does not hold for a partition, or brokers that do not
    /// answer.
    pub fn positions_at(&self, place: StartPlace, positions: &Positions) -> Result<Positions, SourceError> {
        Ok(self.find_positions(place, positions)?)
    }

    fn find_positions(&self, place: StartPlace, positions: &Positions) -> Result<Positions, KafkaSourceError> {
        let TopicClient { consumer, config, brokers, .. } = &self.client;
        let refused = |problem: String| KafkaSourceError::Refused { brokers: brokers.clone(), problem };
        for FoundPartition { name, history, .. } in self.partitions() {
            let Some(claim) = history.newest() else { continue };
            return Err(refused(format!(
                "worker '{}' of the group '{}' has read of topic '{}': name another kafka.group for the worker that goes on \
                 there",
                claim.by, config.group, name.topic
            )));
        }
        let mut asked = list_of(self.partitions().map(|partition| &partition.name));
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            |error| KafkaSourceError::Client { brokers: brokers.clone(), doing, source: ClientFailure::from(error) }
        };
        let found = match place {
            StartPlace::Earliest | StartPlace::Latest | StartPlace::Same => asked,
            StartPlace::Group => {
                consumer.committed_offsets(asked, REQUEST_TIMEOUT).map_err(failed("the group's offsets"))?
            }
            StartPlace::Since(time) => {
                asked.set_all_offsets(Offset::Offset(time)).map_err(failed("the offsets of a time"))?;
                consumer.offsets_for_times(asked, REQUEST_TIMEOUT).map_err(failed("the offsets of a time"))?
            }
        };
        let position = |partition: &FoundPartition| {
            let FoundPartition { name: partition, watermarks: Watermarks { low, high, .. }, .. } = partition;
            let (name, low, high) = (partition.stream_name(), *low, *high);
            let answer = partition.find_in(&found).and_then(|element| offset_of(&element));
            let next = match place {
                StartPlace::Earliest => low,
                StartPlace::Latest => high,
                // No record is as new as that.
                StartPlace::Since(_) => answer.unwrap_or(high),
                StartPlace::Group => answer
                    .ok_or_else(|| refused(format!("the group '{}' stands nowhere in {partition}", config.group)))?,
                StartPlace::Same => positions.next(&name).unwrap_or(low),
            };
            if !(low..=high).contains(&next) {
                return Err(refused(format!(
                    "{next} is no position of {partition}, which holds {low}..{high}: name another place"
                )));
            }
            Ok((name, next))
        };
        self.partitions().map(position).collect()
    }

    /// Checks that a state is its worker's own: that no other worker of the group reads what is in it, be it of a topic that
    /// this one does not read any more. For a state that was
    /// `fallen_back` to, since newer ones are damaged, checks also that it has all records that this worker will not get to
    /// read again.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: what is wrong with the first partition that does not fit.
    pub fn verify_ownership(&self, state: ResumeState<'_>, fallen_back: bool) -> Result<(), SourceError> {
        let me = &state.ownerships.worker;
        let left = self.left_partitions(state);
        for FoundPartition { name: partition, history, .. } in self.partitions().chain(&left) {
            let (name, label) = (partition.stream_name(), partition.to_string());
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

    /// The partitions that a state holds by a claim, of topics that are not in the configuration any more, with what the
    /// group knows of them; without those of which it says nothing.
    fn left_partitions(&self, state: ResumeState<'_>) -> Vec<FoundPartition> {
        let is_claimed = |stream: &str| matches!(state.ownerships.of(stream).record, OwnershipRecord::Claim(_));
        let claimed = state.positions.iter().map(|(stream, _)| stream).filter(|stream| is_claimed(stream));
        let left: Vec<TopicPartition> = claimed
            .filter_map(TopicPartition::of_stream)
            .filter(|partition| self.topics.iter().all(|topic| topic.name != partition.topic))
            .collect();
        if left.is_empty() || self.client.config.assignment == Assignment::All {
            return Vec::new();
        }
        let Ok(committed) = self.client.consumer.committed_offsets(list_of(&left), REQUEST_TIMEOUT) else {
            return Vec::new();
        };
        let found = |name: TopicPartition| {
            let history = Claims::parse(name.find_in(&committed)?.metadata());
            Some(FoundPartition { watermarks: Watermarks::new(name.id, 0, 0), name, history })
        };
        left.into_iter().filter_map(found).collect()
    }

    /// Has a state hold all that this worker has read and does not have any more, because it has gone back to an older
    /// checkpoint, or one was brought back: at the offset from which it reads that again. `is_older` says that the state is
    /// known not to be the newest.
    pub fn go_back(&self, positions: &mut Positions, ownerships: &mut Ownerships, is_older: bool) {
        for FoundPartition { name: partition, history, .. } in self.partitions() {
            let name = partition.stream_name();
            let record = ownerships.of(&name).record;
            let own = positions.next(&name).map(|position| LocalClaim { position, record });
            if let Some(back) = history.gone_back(&ownerships.worker, own).filter(|_| is_older || own.is_some()) {
                if own.is_none_or(|own| own.position != back.position) {
                    ownerships.set_last_timestamp(&name, None);
                }
                positions.advance(&name, back.position);
                ownerships.set_record(&name, back.record);
            }
        }
    }

    /// Begins to read, from where `state` stands; `decoders` are those of the topics, in the order of the configuration.
    ///
    /// # Errors
    /// [`KafkaSourceError`]: a position that is lost, or a thread that does not start.
    pub fn into_source(
        self,
        decoders: impl Into<TopicDecoders>,
        state: ResumeState<'_>,
        until: Until,
    ) -> Result<KafkaSource, SourceError> {
        Ok(self.begin(decoders.into(), state, until)?)
    }

    fn begin(
        self,
        decoders: TopicDecoders,
        state: ResumeState<'_>,
        until: Until,
    ) -> Result<KafkaSource, KafkaSourceError> {
        let Self { mut client, topics, noted_cuts: _, members, shared } = self;
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        let membership = match client.config.assignment {
            Assignment::All => None,
            Assignment::Group => {
                let (worker, config) = (&state.ownerships.worker, &client.config);
                // A place that the group still keeps is taken up again; a run with an end leaves none behind.
                let keeps_place = until == Until::Stopped || members.iter().any(|id| is_member_called(worker, id));
                if config.group_instance_id.is_empty() && config.static_membership && keeps_place {
                    // The name is that of its state, so that it is known only now.
                    client.config.group_instance_id.clone_from(worker);
                    client.consumer = consumer(&client.config, &client.brokers)?;
                }
                let is_static = !client.config.group_instance_id.is_empty();
                Some(Membership::new(state, &names, is_static).shared(shared))
            }
        };
        let (config, consumer) = (&client.config, &client.consumer);
        let mut partitions = Partitions::new(names.iter().copied(), until);
        let mut starts = Vec::new();
        for (place, FoundTopic { name, partitions: found, .. }) in topics.iter().enumerate() {
            let watermarks: Vec<Watermarks> = found.iter().map(|partition| partition.watermarks).collect();
            match membership {
                None => starts.extend(startup::start_offsets(config, name, state.positions, &watermarks)?),
                Some(_) => drop(startup::check_partitions_exist(name, state.positions, &watermarks)?),
            }
            for watermarks in watermarks {
                partitions.add_at_startup(place, state, watermarks);
            }
        }
        let identities = topics.iter().map(|topic| (topic.name.clone(), topic.identity.clone())).collect();
        let poller = WatermarkPoller::start(Arc::clone(consumer), identities, Arc::clone(partitions.watermarks()))?;
        let committer = Committer::start(Arc::clone(consumer))?;
        if membership.is_some() {
            let subscribed = consumer.subscribe(&names);
            subscribed.map_err(|error| client.error("no subscription", error))?;
        } else {
            super::assign_all(&client, &mut partitions, starts.into_iter().enumerate())?;
        }
        Ok(KafkaSource {
            client: Some(client),
            partitions,
            reader: Reader::new(decoders, until),
            committer,
            membership,
            poller,
            told_producers: None,
            failed: None,
        })
    }
}

impl std::fmt::Debug for TopicConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, topics, noted_cuts, members, shared } = self;
        formatter
            .debug_struct("TopicConnection")
            .field("brokers", &client.brokers)
            .field("topics", topics)
            .field("noted_cuts", noted_cuts)
            .field("members", members)
            .field("shared", shared)
            .finish()
    }
}

/// A consumer as `config` says.
fn consumer(config: &KafkaConfig, brokers: &str) -> Result<Arc<TopicConsumer>, KafkaSourceError> {
    let properties = crate::kafka::consumer_properties(config, brokers)?;
    let consumer = crate::kafka::create(brokers, properties.create_with_context(ConsumerCallbacks::default()))?;
    Ok(Arc::new(consumer))
}

/// Longest wait for one answer; how soon a request to stop is noticed while brokers are away.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Questions to brokers that may be away: repeated until there is an answer.
struct PatientQuery<'a> {
    consumer: &'a TopicConsumer,
    brokers: &'a str,
    /// What the questions are about, for a message.
    doing: &'a str,
    stop: &'a AtomicBool,
    log: LogThrottle,
}

impl PatientQuery<'_> {
    /// The partitions of `topic` by number, with what they hold; the group was not asked about them.
    fn partitions(&mut self, topic: &str) -> Result<Vec<FoundPartition>, KafkaSourceError> {
        let consumer = self.consumer;
        let ids = self.repeat(|| {
            let metadata = consumer.fetch_metadata(Some(topic), QUERY_TIMEOUT)?;
            partitions_of(&metadata, topic).map_err(KafkaError::MetadataFetch)
        })?;
        let Some(ids) = ids else {
            return Err(self.refused(format!("no topic '{topic}'; create it, or let `negstream produce` do so")));
        };
        let mut partitions = Vec::with_capacity(ids.len());
        for id in ids {
            let (low, high) = self.repeat(|| consumer.fetch_watermarks(topic, id, QUERY_TIMEOUT))?;
            let (name, watermarks) = (TopicPartition::new(topic, id), Watermarks::new(id, low, high));
            partitions.push(FoundPartition { name, watermarks, history: Claims::default() });
        }
        Ok(partitions)
    }

    /// Ids of the group's members.
    ///
    /// # Errors
    /// The group is at work under another protocol: it is another program's.
    fn members(&self, group: &str) -> Result<Vec<String>, KafkaSourceError> {
        // Whoever may not ask finds out when joining.
        let Ok(found) = self.consumer.fetch_group_list(Some(group), REQUEST_TIMEOUT) else { return Ok(Vec::new()) };
        let Some(found) = found.groups().iter().find(|found| found.name() == group && !found.members().is_empty())
        else {
            return Ok(Vec::new());
        };
        match foreign_protocol(found) {
            Some(protocol) => Err(self.refused(group_is_foreign(group, &protocol))),
            None => Ok(found.members().iter().map(|member| member.id().to_owned()).collect()),
        }
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
                    doing: self.doing.to_owned(),
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

/// The protocol by which a group's members share their partitions, where it is not the one of workers.
fn foreign_protocol(group: &GroupInfo) -> Option<String> {
    let (kind, protocol) = (group.protocol_type(), group.protocol());
    // While a group rebalances, its protocol is not chosen yet.
    let is_foreign =
        (!kind.is_empty() && kind != "consumer") || (!protocol.is_empty() && protocol != crate::kafka::ASSIGNOR);
    is_foreign.then(|| if kind == "consumer" { protocol.to_owned() } else { kind.to_owned() })
}

/// What is wrong with a group that is another program's.
pub(super) fn group_is_foreign(group: &str, protocol: &str) -> String {
    format!(
        "the group '{group}' is at work under another protocol ('{protocol}'; workers share partitions by '{}'): it is another \
         program's; stop that, or name another kafka.group",
        crate::kafka::ASSIGNOR
    )
}

/// True for questions that no broker will ever answer otherwise.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::InvalidTopic | Code::InvalidArgument | Code::UnknownGroup | Code::Fatal)
}
