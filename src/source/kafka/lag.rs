//! How far each partition reaches, so that lag can be told even while the trainer holds the source back.
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

use super::Client;
use crate::kafka::admin::partitions_of;
use crate::position::Stream;
use crate::source::LagProbe;

/// How often the brokers are asked.
const EVERY: Duration = Duration::from_secs(2);
/// How many of these go by between two looks at the number of partitions.
const TURNS_PER_LOOK: u64 = 5;
/// Longest wait for an answer.
const ASKING: Duration = Duration::from_secs(1);

/// One past the newest offset of each stream, by the stream's index.
#[derive(Debug, Default)]
pub struct HighWatermarks {
    marks: RwLock<Vec<Arc<Mark>>>,
    /// Partitions that the topic has.
    partitions: AtomicUsize,
}

#[derive(Debug)]
struct Mark {
    id: i32,
    stream: Stream,
    high: AtomicU64,
    ours: AtomicBool,
    /// Whether it ever was ours.
    known: AtomicBool,
}

impl HighWatermarks {
    /// Adds the stream of the next index.
    pub(super) fn add(&self, id: i32, stream: Stream, high: u64) {
        let (ours, known) = (AtomicBool::new(false), AtomicBool::new(false));
        let mark = Mark { id, stream, high: AtomicU64::new(high), ours, known };
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.push(Arc::new(mark));
        self.partitions.fetch_max(marks.len(), Ordering::Relaxed);
    }

    fn marks(&self) -> Vec<Arc<Mark>> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A record was read: it reaches at least that far.
    pub(super) fn raise(&self, stream: usize, high: u64) {
        self.marks.read().unwrap_or_else(PoisonError::into_inner)[stream].high.fetch_max(high, Ordering::Relaxed);
    }

    /// Whether a stream is this worker's.
    pub(super) fn own(&self, stream: usize, ours: bool) {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks[stream].ours.store(ours, Ordering::Relaxed);
        marks[stream].known.fetch_or(ours, Ordering::Relaxed);
    }

    /// How many partitions the topic was last seen to have.
    pub(super) fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }
}

impl LagProbe for HighWatermarks {
    fn high_watermarks(&self) -> Vec<(Stream, Option<u64>)> {
        let known = self.marks().into_iter().filter(|mark| mark.known.load(Ordering::Relaxed));
        let high = |mark: &Mark| mark.ours.load(Ordering::Relaxed).then(|| mark.high.load(Ordering::Relaxed));
        known.map(|mark| (mark.stream.clone(), high(&mark))).collect()
    }
}

/// The thread that keeps the marks up to date.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn start(consumer: Arc<Client>, topic: String, marks: Arc<HighWatermarks>) -> Self {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("kafka-watermarks".to_owned())
            .spawn(move || watch(&consumer, &topic, &marks, &stopped))
            .expect("the operating system starts a thread");
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Tells the thread to stop, without waiting for it.
    pub(super) fn stop(&mut self) -> Stopping {
        self.stop = None;
        Stopping(self.thread.take())
    }
}

/// A watcher on its way out.
pub(super) struct Stopping(Option<JoinHandle<()>>);

impl Stopping {
    /// Waits until it has let go of the consumer.
    pub(super) fn join(self) {
        if let Some(thread) = self.0 {
            let _ = thread.join();
        }
    }
}

fn watch(consumer: &Client, topic: &str, marks: &HighWatermarks, stopped: &Receiver<()>) {
    let mut turn: u64 = 0;
    while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        for mark in marks.marks() {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            if !mark.ours.load(Ordering::Relaxed) {
                continue;
            }
            match consumer.fetch_watermarks(topic, mark.id, ASKING) {
                Ok((_, high)) => mark.high.store(u64::try_from(high).unwrap_or_default(), Ordering::Relaxed),
                // The source itself tells that the brokers are away.
                Err(_) => break,
            }
        }
        turn += 1;
        if turn.is_multiple_of(TURNS_PER_LOOK)
            && let Ok(metadata) = consumer.fetch_metadata(Some(topic), ASKING)
            && let Ok(Some(now)) = partitions_of(&metadata, topic)
        {
            marks.partitions.fetch_max(now.len(), Ordering::Relaxed);
        }
    }
}
