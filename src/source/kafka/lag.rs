//! High watermarks of the partitions, so that lag can be told even while the trainer holds the source back.
//!
//! A thread of its own asks the brokers every two seconds; what the consumer last heard would be no use, since it
//! fetches nothing while its queue is full, which is when the lag grows. The thread also notes when partitions were
//! added to the topic.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rdkafka::consumer::Consumer;

use super::client::TopicConsumer;
use super::errors::KafkaSourceError;
use crate::kafka::admin::partitions_of;
use crate::position::Stream;
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
    /// Number of partitions of the topic.
    n_partitions: AtomicUsize,
}

#[derive(Debug)]
struct Mark {
    id: i32,
    stream: Stream,
    high: AtomicU64,
    is_owned: AtomicBool,
    was_ever_owned: AtomicBool,
}

impl HighWatermarks {
    /// Adds the stream of the next index.
    pub(super) fn add(&self, id: i32, stream: Stream, high: u64) {
        let (is_owned, was_ever_owned) = (AtomicBool::new(false), AtomicBool::new(false));
        let mark = Mark { id, stream, high: AtomicU64::new(high), is_owned, was_ever_owned };
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.push(Arc::new(mark));
        self.n_partitions.fetch_max(marks.len(), Ordering::Relaxed);
    }

    fn marks(&self) -> Vec<Arc<Mark>> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a record was read: the stream reaches at least that far.
    pub(super) fn raise(&self, stream: usize, high: u64) {
        self.marks.read().unwrap_or_else(PoisonError::into_inner)[stream].high.fetch_max(high, Ordering::Relaxed);
    }

    /// Notes whether this worker reads a stream.
    pub(super) fn set_owned(&self, stream: usize, is_owned: bool) {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks[stream].is_owned.store(is_owned, Ordering::Relaxed);
        marks[stream].was_ever_owned.fetch_or(is_owned, Ordering::Relaxed);
    }

    /// The number of partitions that the topic was last seen to have.
    pub(super) fn n_partitions(&self) -> usize {
        self.n_partitions.load(Ordering::Relaxed)
    }
}

impl LagProbe for HighWatermarks {
    fn high_watermarks(&self) -> Vec<(Stream, Option<u64>)> {
        let known = self.marks().into_iter().filter(|mark| mark.was_ever_owned.load(Ordering::Relaxed));
        let high = |mark: &Mark| mark.is_owned.load(Ordering::Relaxed).then(|| mark.high.load(Ordering::Relaxed));
        known.map(|mark| (mark.stream.clone(), high(&mark))).collect()
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
        topic: String,
        watermarks: Arc<HighWatermarks>,
    ) -> Result<Self, KafkaSourceError> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || poll_watermarks(&consumer, &topic, &watermarks, &stopped))
            .map_err(|source| KafkaSourceError::Thread { name: THREAD, source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Tells the thread to stop, without waiting for it; the handle waits until the thread has released the consumer.
    pub(super) fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.stop = None;
        self.thread.take()
    }
}

fn poll_watermarks(consumer: &TopicConsumer, topic: &str, watermarks: &HighWatermarks, stopped: &Receiver<()>) {
    let mut n_polls: u64 = 0;
    while stopped.recv_timeout(POLL_EVERY) == Err(RecvTimeoutError::Timeout) {
        for mark in watermarks.marks() {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            if !mark.is_owned.load(Ordering::Relaxed) {
                continue;
            }
            match consumer.fetch_watermarks(topic, mark.id, REQUEST_TIMEOUT) {
                Ok((_, high)) => mark.high.store(u64::try_from(high).unwrap_or_default(), Ordering::Relaxed),
                // The source itself logs that the brokers are away.
                Err(_) => break,
            }
        }
        n_polls += 1;
        if n_polls.is_multiple_of(POLLS_PER_METADATA)
            && let Ok(metadata) = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            && let Ok(Some(now)) = partitions_of(&metadata, topic)
        {
            watermarks.n_partitions.fetch_max(now.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_probe_lists_streams_that_were_ever_owned() {
        let watermarks = HighWatermarks::default();
        let stream = |name: &str| Stream { name: name.to_owned(), label: name.to_owned() };
        for (id, name) in [(0, "a"), (1, "b"), (2, "c")] {
            watermarks.add(id, stream(name), 10);
        }
        watermarks.set_owned(0, true);
        watermarks.set_owned(1, true);
        watermarks.raise(0, 12);
        watermarks.raise(0, 11);
        watermarks.set_owned(1, false);
        assert_eq!(watermarks.high_watermarks(), [(stream("a"), Some(12)), (stream("b"), None)]);
        assert_eq!(watermarks.n_partitions(), 3);
    }
}
