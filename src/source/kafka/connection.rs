//! A connection to the topic, before it is decided where reading begins: which partitions there are, what they hold, and
//! what the group knows of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::decode_backlog::DecodeBacklog;
use super::lag::{HighWatermarks, Watcher};
use super::partitions::{self, Ownership, Partition, Partitions};
use super::startup::{self, Entry, Marks, Opening};
use super::{ASKING, Client, KafkaSource, SourceError, Until, kafka, source_error};
use crate::decode::EventDecoder;
use crate::kafka::LogThrottle;
use crate::kafka::{Assignment, KafkaConfig};
use crate::position::{OwnershipRecord, Ownerships, Positions, Stream};
use crate::source::kafka::group::committer::Committer;
use crate::source::kafka::group::membership::Member;
use crate::source::kafka::group::ownership::{Claims, Conflict, LocalClaim};
use crate::source::{Assigned, CommitTracker};

/// What a worker's state knows of the topic.
#[derive(Debug, Clone, Copy)]
pub struct ResumeState<'a> {
    /// Where it stands.
    pub positions: &'a Positions,
    /// How it came to hold that.
    pub ownerships: &'a Ownerships,
}

/// See the module.
pub struct TopicConnection {
    consumer: Arc<Client>,
    config: KafkaConfig,
    brokers: String,
    marks: Vec<Marks>,
    /// By the place in `marks`; all empty outside of a group.
    histories: Vec<Claims>,
}

impl TopicConnection {
    /// Connects to the topic of `config`. Waits for brokers that are away until `stop` is set.
    ///
    /// # Errors
    /// A topic that does not exist, a property that is refused, or brokers that refuse us.
    pub fn open(config: &KafkaConfig, brokers: &str, stop: &AtomicBool) -> Result<Self, SourceError> {
        let client = crate::kafka::consumer_properties(config, brokers)
            .and_then(|client| crate::kafka::create(brokers, client.create_with_context(super::Context::default())))
            .map_err(|error| source_error(brokers, error))?;
        let consumer: Arc<Client> = Arc::new(client);
        let mut opening = Opening::new(&consumer, brokers, &config.topic, stop);
        let marks = opening.watermarks()?;
        let asked = || {
            let mut asked = TopicPartitionList::new();
            for marks in &marks {
                asked.add_partition(&config.topic, marks.id);
            }
            asked
        };
        let histories = match config.assignment {
            Assignment::All => {
                // Our commits would wipe out what the workers of a group tell each other by theirs. Where nobody answers, it
                // is no group's.
                let committed = consumer.committed_offsets(asked(), ASKING).unwrap_or_default();
                if let Some(by) = committed.elements().iter().find_map(|element| Claims::parse(element.metadata()).by())
                {
                    let cause = format!(
                        "the group '{}' shares topic '{}' out among workers, '{by}' for one: read all of it as another \
                         kafka.group",
                        config.group, config.topic
                    );
                    return Err(SourceError::Kafka { brokers: brokers.to_owned(), cause });
                }
                vec![Claims::default(); marks.len()]
            }
            Assignment::Group => {
                let committed = opening.ask(|| consumer.committed_offsets(asked(), ASKING))?;
                let history = |marks: &Marks| {
                    let found = committed.find_partition(&config.topic, marks.id);
                    found.map_or_else(Claims::default, |element| Claims::parse(element.metadata()))
                };
                marks.iter().map(history).collect()
            }
        };
        Ok(Self { consumer, config: config.clone(), brokers: brokers.to_owned(), marks, histories })
    }

    /// Whether a state is its worker's own: no other worker of the group reads what is in it. Of one that was `fallen_back`
    /// to, since newer ones are damaged, also whether it has all that this worker will not get to read again.
    ///
    /// # Errors
    /// What is wrong with it, for the first such partition.
    pub fn verify_ownership(&self, known: ResumeState<'_>, fallen_back: bool) -> Result<(), SourceError> {
        let me = &known.ownerships.worker;
        for (marks, claims) in self.marks.iter().zip(&self.histories) {
            let name = startup::stream_name(&self.config.topic, marks.id);
            let label = format!("{}/{}", self.config.topic, marks.id);
            let reached = known.positions.next(&name);
            if fallen_back {
                let whole = claims.check_whole(me, reached);
                whole.map_err(|conflict| fenced(&label, reached.unwrap_or(0), conflict))?;
            }
            let Some(position) = reached else { continue };
            let own = LocalClaim { position, record: known.ownerships.of(&name).record };
            claims.check(me, own).map_err(|conflict| fenced(&label, position, conflict))?;
        }
        Ok(())
    }

    /// Begins to read, from where `known` stands.
    ///
    /// # Errors
    /// A position that is lost.
    pub fn into_source(
        self,
        decoder: EventDecoder,
        known: ResumeState<'_>,
        until: Until,
    ) -> Result<KafkaSource, SourceError> {
        let Self { consumer, config, brokers, marks, .. } = self;
        let member = match config.assignment {
            Assignment::All => None,
            Assignment::Group => {
                Some(Member::new(known.ownerships.worker.clone(), !config.group_instance_id.is_empty()))
            }
        };
        let entries = match member {
            None => startup::starts(&config, known.positions, &marks)?,
            Some(_) => {
                startup::all_there(&config.topic, known.positions, &marks)?;
                marks.iter().map(|_| Entry { offset: 0, lost: None }).collect()
            }
        };
        let watermarks = Arc::new(HighWatermarks::default());
        let mut partitions = Partitions::default();
        for marks in &marks {
            let mut partition = new_partition(&config.topic, marks.id, known);
            partition.end = (until == Until::End).then_some(marks.high);
            partition.verify_if_there(marks.low);
            watermarks.add(marks.id, partition.stream.clone(), marks.high);
            partitions.push(partition);
        }
        let watcher = Watcher::start(Arc::clone(&consumer), config.topic.clone(), Arc::clone(&watermarks));
        let patience = super::patience(&config);
        let streams_told = partitions.len();
        let mut source = KafkaSource {
            consumer: Some(Arc::clone(&consumer)),
            brokers: brokers.clone(),
            config,
            until,
            decoder,
            undecoded: DecodeBacklog::default(),
            partitions,
            streams_told,
            member,
            starts: Positions::default(),
            pending: Vec::new(),
            failed: None,
            is_behind: false,
            notices: VecDeque::new(),
            watermarks,
            watcher,
            commits: CommitTracker::default(),
            committer: Committer::start(Arc::clone(&consumer)),
            trouble: None,
            backward: LogThrottle::default(),
            called: std::time::Instant::now(),
            patience,
        };
        let topic = source.config.topic.clone();
        match source.member {
            Some(_) => consumer.subscribe(&[&topic]).map_err(|error| kafka(&brokers, "no subscription", &error))?,
            None => {
                source.read_all(&consumer, entries)?;
            }
        }
        Ok(source)
    }
}

impl std::fmt::Debug for TopicConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TopicConnection").field("brokers", &self.brokers).field("marks", &self.marks).finish()
    }
}

/// A partition of which `known` is what the state holds.
pub(super) fn new_partition(topic: &str, id: i32, known: ResumeState<'_>) -> Partition {
    let stream = Stream { name: startup::stream_name(topic, id), label: format!("{topic}/{id}") };
    let position = known.positions.next(&stream.name);
    let holding = known.ownerships.of(&stream.name);
    Partition {
        id,
        next: position.unwrap_or(0),
        record: position.map(|_| holding.record),
        verify: holding.last_timestamp.filter(|_| position.is_some_and(|position| position > 0)),
        claims: Claims::default(),
        ownership: match holding.record {
            OwnershipRecord::Claim(_) if position.is_some() => Ownership::Unconfirmed,
            _ => Ownership::NotOwned,
        },
        end: None,
        done: false,
        stream,
    }
}

/// The error for a state that is not its worker's own.
pub(super) fn fenced(label: &str, position: u64, conflict: Conflict) -> SourceError {
    match conflict {
        Conflict::Overtaken { from } => SourceError::Fenced { stream: label.to_owned(), from, position },
        Conflict::Short { from } => SourceError::Estranged {
            stream: label.to_owned(),
            position,
            why: format!(
                "another worker goes on at {from}, and what lies between is in nobody's state: a newer checkpoint of this \
                 worker was lost; bring it back, or begin anew with an empty checkpoint.dir"
            ),
        },
        Conflict::Forgotten => SourceError::Estranged {
            stream: label.to_owned(),
            position,
            why: "the group's offsets were deleted or set by hand, or so many workers have read it since that nobody knows \
                  whether this state is its own; begin anew with an empty checkpoint.dir"
                .to_owned(),
        },
    }
}

impl KafkaSource {
    /// Outside of a group: all partitions, from the given entries on.
    fn read_all(&mut self, consumer: &Client, entries: Vec<Entry>) -> Result<(), SourceError> {
        let (before, mut gained) = (self.notices.len(), Vec::new());
        for (index, entry) in entries.into_iter().enumerate() {
            let record = OwnershipRecord::Standalone;
            gained.push(self.begin(index, entry, record));
        }
        self.assign_all(consumer)?;
        self.tell_gained(before, gained);
        Ok(())
    }

    /// Notes where a partition begins; what has to be said of it.
    pub(super) fn begin(&mut self, index: usize, entry: Entry, record: OwnershipRecord) -> Assigned {
        let partition = &mut self.partitions[index];
        let known = partition.record.is_some() && partition.next == entry.offset;
        if !known {
            partition.verify = None;
        }
        let next = entry.lost.as_ref().map_or(entry.offset, |lost| lost.start);
        (partition.next, partition.record, partition.ownership) = (entry.offset, Some(record), Ownership::Owned);
        partition.done = partition.end.is_some_and(|end| entry.offset >= end);
        tracing::info!(partition = partition.stream.label, offset = partition.next, end = partition.end, "reading");
        self.watermarks.own(index, true);
        self.starts.advance(&partition.stream.name, partition.next);
        let stream = partition.stream.clone();
        if let Some(lost) = entry.lost {
            self.pass_over(index, lost);
        }
        Assigned { stream, next, record }
    }

    /// Outside of a group: hands all partitions to the client, each where it stands.
    pub(super) fn assign_all(&self, consumer: &Client) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        for partition in self.partitions.iter().filter(|partition| partition.is_read() && !partition.done) {
            partitions::add(&mut list, &self.config.topic, partition.id, partition.entry(), None);
        }
        if list.count() == 0 {
            return Ok(());
        }
        consumer.assign(&list).map_err(|error| kafka(&self.brokers, "no assignment", &error))
    }
}
