//! The log of deltas: a topic of one partition, in which the workers of a group send each other what they have learnt.
//!
//! A thread reads it, puts deltas together and unpacks them, and hands them over by a bounded channel: a worker that is far behind
//! holds a few of them, and the rest stays with the brokers. Sending is by an idempotent producer, so that a delta is in the log
//! once and the deltas of a worker are in their order; whether one counts is the [ledger](super::ledger)'s to say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::error::RecordFault;
use super::parts::{Assembly, WholeDelta, split};
use super::{Delta, MovePrecision, ReceivedRecord, ShareConfig, ShareError};
use crate::kafka::admin::{ensure_topic_with, partitions};
use crate::kafka::outbox::Outbox;
use crate::kafka::topic_id::identify;
use crate::kafka::{
    ClientCallbacks, ClientError, ClientFailure, KafkaConfig, LogThrottle, consumer_properties, create, describe,
    is_refusal, lock, producer_properties,
};
use crate::position::{Positions, TopicIdentity};

/// Most deltas that wait to be merged.
const WAITING: usize = 16;
/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one look for records takes.
const LOOK: Duration = Duration::from_millis(100);
/// How long the thread waits for room before it looks whether it is to end.
const ROOM: Duration = Duration::from_millis(50);
/// Name of the thread.
const THREAD: &str = "share-log";

/// What is known by now of the log, for whoever decides where streams begin.
#[derive(Debug, Default)]
pub struct LogView(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    covered: Positions,
}

impl LogView {
    /// Notes that the log is part of the state up to `next`, by which `covered` is what deltas cover.
    pub fn note(&self, next: u64, covered: &Positions) {
        let mut seen = self.seen();
        seen.next = next;
        if seen.covered != *covered {
            seen.covered.clone_from(covered);
        }
    }

    /// The first offset of the log that is not part of the state.
    pub fn next(&self) -> u64 {
        self.seen().next
    }

    /// The first record of `stream` that no delta covers; `None` where none covers any of it.
    pub fn covered(&self, stream: &str) -> Option<u64> {
        self.seen().covered.next(stream)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.0)
    }
}

/// The topic of deltas, before anything of it is read.
#[derive(Debug)]
pub struct LogTopic {
    kafka: KafkaConfig,
    brokers: String,
    name: String,
    identity: TopicIdentity,
    /// The oldest offset, and the end as it was when the topic was opened.
    watermarks: (u64, u64),
}

impl LogTopic {
    /// Looks the topic up that `share` names, and makes it where there is none.
    ///
    /// # Errors
    /// Brokers that do not answer or refuse, or a topic of several partitions.
    pub fn open(share: &ShareConfig, kafka: &KafkaConfig, brokers: &str) -> Result<Self, ShareError> {
        let name = share.topic.clone();
        let retention = (share.retention_hours * 3_600_000).to_string();
        let properties = [("cleanup.policy", "delete"), ("retention.ms", retention.as_str())];
        ensure_topic_with(kafka, brokers, &name, 1, &properties)?;
        let n = partitions(kafka, brokers, &name)?.map_or(0, |partitions| partitions.len());
        if n != 1 {
            return Err(ShareError::Partitions { topic: name, n });
        }
        let consumer = consumer(kafka, brokers)?;
        let identity = identify(consumer.client(), &name, PATIENCE);
        let watermarks = watermarks(&consumer, brokers, &name)?;
        Ok(Self { kafka: kafka.clone(), brokers: brokers.to_owned(), name, identity, watermarks })
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells the topic from another of its name, as far as the brokers tell it.
    pub fn identity(&self) -> &TopicIdentity {
        &self.identity
    }

    /// The oldest offset that the topic holds.
    pub fn low(&self) -> u64 {
        self.watermarks.0
    }

    /// The end of the topic as it was when it was opened.
    pub fn end(&self) -> u64 {
        self.watermarks.1
    }

    /// A name for the model that is learnt by this topic: letters and digits, the same for all its workers.
    pub fn lineage(&self) -> String {
        let TopicIdentity { cluster, topic } = &self.identity;
        let whole =
            [Some(&self.name), cluster.as_ref(), topic.as_ref()].map(|part| part.map_or("", |part| part.as_str()));
        let mut digest = crate::util::encoding::sha256(whole.join("\n").as_bytes());
        digest.truncate(32);
        digest
    }

    /// Begins to read the log, from offset `from` on.
    ///
    /// # Errors
    /// The log does not reach back to there, or a client or thread cannot be made.
    pub fn read_from(self, from: u64) -> Result<DeltaLog, ShareError> {
        let Self { kafka, brokers, name, watermarks: (low, end), .. } = self;
        if from < low {
            return Err(ShareError::Gone { topic: name, low, next: from });
        }
        let consumer = consumer(&kafka, &brokers)?;
        let mut place = TopicPartitionList::new();
        let failed =
            |error: KafkaError| ClientError::failed(&brokers, "the log cannot be read", ClientFailure::from(error));
        place.add_partition_offset(&name, 0, Offset::Offset(from as i64)).map_err(failed)?;
        consumer.assign(&place).map_err(failed)?;
        let mut properties = producer_properties(&kafka, &brokers)?;
        // A delta is a record or more of its own, and compressed.
        properties.set("linger.ms", "0").set("compression.type", "none");
        let outbox = Outbox::open(&properties, &brokers, &name, false)?;
        let (sender, received) = bounded(WAITING);
        let (own, stop) = (Arc::<OwnDeltas>::default(), Arc::new(AtomicBool::new(false)));
        let reader = DeltaLogReader {
            consumer,
            brokers,
            topic: name.clone(),
            own: Arc::clone(&own),
            sender,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || reader.run())
            .map_err(ShareError::Thread)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the operating system has randomness");
        Ok(DeltaLog {
            topic: name,
            end,
            outbox,
            own,
            received: Some(received),
            stop,
            thread: Some(thread),
            incarnation: u64::from_le_bytes(seed),
            view: Arc::default(),
        })
    }
}

fn consumer(kafka: &KafkaConfig, brokers: &str) -> Result<BaseConsumer<ClientCallbacks>, ClientError> {
    let mut properties = consumer_properties(kafka, brokers)?;
    // What others learnt is merged soon after it was sent.
    properties.set("fetch.wait.max.ms", "50");
    properties.set("fetch.message.max.bytes", "4194304");
    // No member of the group: nobody gives this client partitions.
    properties.remove("group.instance.id");
    create(brokers, properties.create_with_context(ClientCallbacks::default()))
}

fn watermarks(consumer: &BaseConsumer<ClientCallbacks>, brokers: &str, topic: &str) -> Result<(u64, u64), ClientError> {
    let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).map_err(|error| {
        ClientError::failed(
            brokers,
            format!("the ends of topic '{topic}' cannot be looked up"),
            ClientFailure::from(error),
        )
    })?;
    Ok((low.try_into().unwrap_or_default(), high.try_into().unwrap_or_default()))
}

/// What this process has sent and not received again yet, without what its state holds already: to unpack that would be work for
/// nothing. By the delta's number in the log.
#[derive(Debug, Default)]
struct OwnDeltas(Mutex<BTreeMap<u64, Delta>>);

impl OwnDeltas {
    fn add(&self, number: u64, delta: &Delta) {
        let Delta { worker, incarnation, configuration, sequence, sources, .. } = delta;
        let (worker, sources) = (worker.clone(), sources.clone());
        let (incarnation, configuration, sequence) = (*incarnation, *configuration, *sequence);
        let head = Delta { worker, incarnation, configuration, sequence, sources, ..Delta::default() };
        lock(&self.0).insert(number, head);
    }

    fn take(&self, number: u64) -> Option<Delta> {
        lock(&self.0).remove(&number)
    }
}

/// The log of deltas, at work; dropping it ends its thread.
#[derive(Debug)]
pub struct DeltaLog {
    topic: String,
    end: u64,
    outbox: Outbox,
    own: Arc<OwnDeltas>,
    received: Option<Receiver<Result<ReceivedRecord, ShareError>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    incarnation: u64,
    view: Arc<LogView>,
}

impl DeltaLog {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The end of the log as it was when it was opened.
    pub fn end_at_start(&self) -> u64 {
        self.end
    }

    /// The number of this process in what it sends.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What is part of the state, for others.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// The next record, waiting for it for so long; `None` where none came.
    ///
    /// # Errors
    /// The log cannot be read any further.
    pub fn next(&self, patience: Duration) -> Result<Option<ReceivedRecord>, ShareError> {
        let Some(received) = &self.received else { return Ok(None) };
        // A wait for no time at all would yield to other threads several times before it gives up.
        let received = match patience.is_zero() {
            true => received.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
            false => received.recv_timeout(patience),
        };
        match received {
            Ok(record) => record.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ShareError::Panicked),
        }
    }

    /// Sends a delta; gives the bytes of its records. They are on their way when this returns, in their order.
    ///
    /// # Errors
    /// This delta, or one before it, cannot be delivered.
    pub fn send(&mut self, delta: &Delta, precision: MovePrecision) -> Result<usize, ShareError> {
        let (key, mut bytes) = (delta.worker.as_bytes(), 0);
        let number = self.incarnation.wrapping_add(delta.sequence);
        self.own.add(number, delta);
        for record in split(number, &delta.encode(precision)) {
            bytes += record.len();
            self.outbox.send(Some(key), Some(&record), None)?;
        }
        Ok(bytes)
    }

    /// Looks after what is on its way.
    ///
    /// # Errors
    /// A delta cannot be delivered.
    pub fn check(&self) -> Result<(), ShareError> {
        self.outbox.is_settled()?;
        Ok(())
    }
}

impl Drop for DeltaLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.received = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread that reads the log.
struct DeltaLogReader {
    consumer: BaseConsumer<ClientCallbacks>,
    brokers: String,
    topic: String,
    own: Arc<OwnDeltas>,
    sender: Sender<Result<ReceivedRecord, ShareError>>,
    stop: Arc<AtomicBool>,
}

impl DeltaLogReader {
    fn run(self) {
        let (mut assembly, mut trouble) = (Assembly::default(), LogThrottle::default());
        while !self.stop.load(Ordering::Relaxed) {
            let record = match self.consumer.poll(LOOK) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or_default();
                    let payload = message.payload().unwrap_or_default();
                    read(&mut assembly, &self.own, offset, payload, message.timestamp().to_millis())
                        .map_err(|fault| ShareError::foreign(&self.topic, offset, fault))
                }
                Some(Err(error)) => match self.failure(&error) {
                    Some(failure) => Err(failure),
                    None => {
                        if trouble.due() {
                            tracing::warn!(brokers = self.brokers, topic = self.topic, "waiting: {}", describe(&error));
                        }
                        continue;
                    }
                },
            };
            let is_end = record.is_err();
            if !self.hand_over(record) || is_end {
                return;
            }
        }
    }

    /// What an error of the client's means, where waiting does not help.
    fn failure(&self, error: &KafkaError) -> Option<ShareError> {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let is_final = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || is_refusal(code)
            || matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
            || code == RDKafkaErrorCode::UnknownTopicOrPartition;
        is_final.then(|| {
            let doing = format!("topic '{}' cannot be read any further", self.topic);
            ShareError::Kafka(ClientError::failed(&self.brokers, doing, ClientFailure::from(error.clone())))
        })
    }

    /// Hands a record over, waiting for room; `false` where nobody takes it any more.
    fn hand_over(&self, mut record: Result<ReceivedRecord, ShareError>) -> bool {
        loop {
            match self.sender.send_timeout(record, ROOM) {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(again)) => record = again,
                Err(SendTimeoutError::Disconnected(_)) => return false,
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
        }
    }
}

fn read(
    assembly: &mut Assembly,
    own: &OwnDeltas,
    offset: u64,
    payload: &[u8],
    sent_at: Option<i64>,
) -> Result<ReceivedRecord, RecordFault> {
    let delta = match assembly.take(offset, payload)? {
        None => None,
        Some(WholeDelta { number, bytes }) => Some(match own.take(number) {
            Some(delta) => delta,
            None => Delta::decode(&bytes)?,
        }),
    };
    let (next, delta) = (offset + 1, delta.map(Box::new));
    Ok(ReceivedRecord { next, resume_at: assembly.resume_at(next), sent_at, bytes: payload.len(), delta })
}
