//! High watermarks of the partitions, so that lag can be told even while the trainer holds the source back.
//!
//! A thread of its own asks the brokers every two seconds; what the consumer last heard would be no use, since it
//! fetches nothing while its queue is full, which is when the lag grows. The thread also notes when partitions were
//! added to the topics.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rdkafka::consumer::Consumer;

use super::client::TopicConsumer;
use super::errors::KafkaSourceError;
use super::identity::check_topic;
use super::partitions::Partition;
use super::topic_partition::TopicPartition;
use crate::kafka::admin::partitions_of;
use crate::kafka::topic_id::identify;
use crate::position::{Stream, TopicIdentity};
use crate::source::LagProbe;

/// Time between two requests for the watermarks.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// Requests for the watermarks between two requests for the number of partitions.
const POLLS_PER_METADATA: u64 = 5;
/// Longest wait for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Name of the thread.
const THREAD: &str = "kafka-watermarks";

/// One past the newest offset of each stream, by the stream's index.
#[derive(Debug, Default)]
pub(super) struct HighWatermarks {
    marks: RwLock<Vec<Arc<Mark>>>,
    /// Number of partitions of each topic, in the order of the configuration.
    n_partitions: Vec<AtomicUsize>,
    /// Present once a topic was found to be another one of the same name, until it is taken.
    replaced: Mutex<Option<KafkaSourceError>>,
}

#[derive(Debug)]
struct Mark {
    partition: TopicPartition,
    stream: Stream,
    high: AtomicU64,
    /// Whether how far the worker is behind is this one's to tell: of what it reads, and of what its state holds as long as
    /// it is not known that another worker reads that.
    is_shown: AtomicBool,
}

impl Mark {
    fn is_shown(&self) -> bool {
        self.is_shown.load(Ordering::Relaxed)
    }
}

impl HighWatermarks {
    /// The watermarks of so many topics, of none of which a partition is known.
    pub(super) fn new(n_topics: usize) -> Self {
        let n_partitions = std::iter::repeat_with(AtomicUsize::default).take(n_topics).collect();
        Self { n_partitions, ..Self::default() }
    }

    /// Adds the stream of the next index, whose topic has `n_partitions` with it.
    pub(super) fn add(&self, partition: &Partition, high: u64, n_partitions: usize) {
        let mark = Mark {
            partition: partition.name().clone(),
            stream: partition.stream().clone(),
            high: AtomicU64::new(high),
            is_shown: AtomicBool::new(partition.is_in_doubt()),
        };
        self.marks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(mark));
        self.n_partitions[partition.topic()].fetch_max(n_partitions, Ordering::Relaxed);
    }

    fn marks(&self) -> Vec<Arc<Mark>> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a record was read: the stream reaches at least that far.
    pub(super) fn raise(&self, stream: usize, high: u64) {
        self.marks.read().unwrap_or_else(PoisonError::into_inner)[stream].high.fetch_max(high, Ordering::Relaxed);
    }

    /// Notes whether the lag of a stream is this worker's to show.
    pub(super) fn set_shown(&self, stream: usize, is_shown: bool) {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks[stream].is_shown.store(is_shown, Ordering::Relaxed);
    }

    /// The error for a topic that was made anew while it was read, once.
    pub(super) fn take_replaced(&self) -> Option<KafkaSourceError> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The number of partitions that the topic at the place `topic` was last seen to have.
    pub(super) fn n_partitions(&self, topic: usize) -> usize {
        self.n_partitions[topic].load(Ordering::Relaxed)
    }
}

impl LagProbe for HighWatermarks {
    fn high_watermarks(&self) -> Vec<(Stream, u64)> {
        let shown = self.marks().into_iter().filter(|mark| mark.is_shown());
        shown.map(|mark| (mark.stream.clone(), mark.high.load(Ordering::Relaxed))).collect()
    }
}

/// The thread that keeps the high watermarks up to date.
#[derive(Debug)]
pub(super) struct WatermarkPoller {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WatermarkPoller {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub(super) fn start(
        consumer: Arc<TopicConsumer>,
        topics: Vec<(String, TopicIdentity)>,
        watermarks: Arc<HighWatermarks>,
    ) -> Result<Self, KafkaSourceError> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || poll_watermarks(&consumer, &topics, &watermarks, &stopped))
            .map_err(|source| KafkaSourceError::Thread { name: THREAD, source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Tells the thread to stop, without waiting for it; the handle waits until the thread has released the consumer.
    pub(super) fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.stop = None;
        self.thread.take()
    }
}

fn poll_watermarks(
    consumer: &TopicConsumer,
    topics: &[(String, TopicIdentity)],
    watermarks: &HighWatermarks,
    stopped: &Receiver<()>,
) {
    let mut n_polls: u64 = 0;
    while stopped.recv_timeout(POLL_EVERY) == Err(RecvTimeoutError::Timeout) {
        for mark in watermarks.marks() {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            if !mark.is_shown() {
                continue;
            }
            match consumer.fetch_watermarks(&mark.partition.topic, mark.partition.id, REQUEST_TIMEOUT) {
                Ok((_, high)) => mark.high.store(u64::try_from(high).unwrap_or_default(), Ordering::Relaxed),
                // The source itself logs that the brokers are away.
                Err(_) => break,
            }
        }
        n_polls += 1;
        if !n_polls.is_multiple_of(POLLS_PER_METADATA) {
            continue;
        }
        for ((topic, identity), n_partitions) in topics.iter().zip(&watermarks.n_partitions) {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            if let Ok(metadata) = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)
                && let Ok(Some(now)) = partitions_of(&metadata, topic)
            {
                n_partitions.fetch_max(now.len(), Ordering::Relaxed);
                let now = identify(consumer.client(), topic, REQUEST_TIMEOUT);
                if let Err(error) = check_topic(topic, identity, &now) {
                    *watermarks.replaced.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{OwnershipRecord, Ownerships, Positions};
    use crate::source::kafka::partitions::Partitions;
    use crate::source::kafka::startup::Watermarks;
    use crate::source::kafka::{ResumeState, Until};

    #[test]
    fn lag_probe_lists_what_is_this_workers_to_show() {
        // What the state holds by a claim is shown from the beginning, since nobody else may read it.
        let (positions, mut ownerships) = (Positions::from_iter([("kafka/b/0", 1_u64)]), Ownerships::default());
        ownerships.set_record("kafka/b/0", OwnershipRecord::Claim(1));
        let state = ResumeState { positions: &positions, ownerships: &ownerships };
        let mut partitions = Partitions::new(["a", "b"], Until::Stopped);
        for (topic, id) in [(0, 0), (0, 1), (1, 0)] {
            partitions.add_at_startup(topic, state, Watermarks { id, low: 0, high: 10 });
        }
        let watermarks = Arc::clone(partitions.watermarks());
        let shown = || -> Vec<(String, u64)> {
            watermarks.high_watermarks().into_iter().map(|(stream, high)| (stream.label, high)).collect()
        };
        let at = |label: &str, high: u64| (label.to_owned(), high);
        assert_eq!(shown(), [at("b/0", 10)]);
        watermarks.set_shown(0, true);
        watermarks.set_shown(1, true);
        watermarks.raise(0, 12);
        watermarks.raise(0, 11);
        watermarks.set_shown(1, false);
        assert_eq!(shown(), [at("a/0", 12), at("b/0", 10)]);
        assert_eq!((watermarks.n_partitions(0), watermarks.n_partitions(1)), (2, 1));
    }
}
