//! How far each partition reaches, so that lag can be told even while the trainer holds the source back.
//!
//! A thread of its own asks the brokers every two seconds; what the consumer last heard would be no use, since it
//! fetches nothing while its queue is full, which is when the lag grows. The thread also says when partitions were
//! added to the topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rdkafka::consumer::Consumer;

use super::Client;
use crate::kafka::admin::partitions_of;

/// How often the brokers are asked.
const EVERY: Duration = Duration::from_secs(2);
/// How many of these go by between two looks at the number of partitions.
const TURNS_PER_LOOK: u64 = 15;
/// Longest wait for an answer.
const ASKING: Duration = Duration::from_secs(1);

/// One past the newest offset of each stream, by the stream's index.
#[derive(Debug)]
pub struct HighWatermarks(Vec<AtomicU64>);

impl HighWatermarks {
    pub(super) fn new(marks: impl Iterator<Item = u64>) -> Self {
        Self(marks.map(AtomicU64::new).collect())
    }

    /// The mark of a stream, a few seconds old at most; `None` where there is no such stream.
    pub fn get(&self, stream: usize) -> Option<u64> {
        self.0.get(stream).map(|mark| mark.load(Ordering::Relaxed))
    }

    /// The marks of all streams, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|mark| mark.load(Ordering::Relaxed))
    }

    /// A record was read: it reaches at least that far.
    pub(super) fn raise(&self, stream: usize, mark: u64) {
        self.0[stream].fetch_max(mark, Ordering::Relaxed);
    }
}

/// The thread that keeps the marks up to date.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn start(consumer: Arc<Client>, topic: String, ids: Vec<i32>, marks: Arc<HighWatermarks>) -> Self {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("kafka-watermarks".to_owned())
            .spawn(move || watch(&consumer, &topic, &ids, &marks, &stopped))
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

fn watch(consumer: &Client, topic: &str, ids: &[i32], marks: &HighWatermarks, stopped: &Receiver<()>) {
    let mut told = ids.len();
    let mut turn: u64 = 0;
    while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        for (index, id) in ids.iter().enumerate() {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            match consumer.fetch_watermarks(topic, *id, ASKING) {
                Ok((_, high)) => marks.0[index].store(u64::try_from(high).unwrap_or_default(), Ordering::Relaxed),
                // The source itself tells that the brokers are away.
                Err(_) => break,
            }
        }
        turn += 1;
        if turn.is_multiple_of(TURNS_PER_LOOK)
            && let Ok(metadata) = consumer.fetch_metadata(Some(topic), ASKING)
            && let Ok(Some(now)) = partitions_of(&metadata, topic)
            && now.len() > told
        {
            told = now.len();
            tracing::warn!(
                topic,
                partitions = told,
                read = ids.len(),
                "partitions were added; a restart reads them too"
            );
        }
    }
}
