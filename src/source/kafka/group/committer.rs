//! Commits to the group, one at a time, on a thread of their own: brokers that do not answer hold up neither records nor
//! the group's other business.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;

use crate::kafka::{LogThrottle, describe};
use crate::position::Positions;
use crate::source::CommitTracker;
use crate::source::kafka::client::TopicConsumer;
use crate::source::kafka::errors::KafkaSourceError;
use crate::source::kafka::partitions::Partitions;

/// Pause after a commit that failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Name of the thread.
const THREAD: &str = "kafka-commit";

/// The purpose of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitKind {
    /// Offsets of what became durable.
    Durable,
    /// Claims on partitions that this worker begins.
    Claims,
    /// Offsets of what became durable, with the claims on some partitions closed.
    Closing,
}

/// The commits of this source: sends them one at a time, and keeps the [`CommitTracker`] up to date.
#[derive(Debug)]
pub(in crate::source::kafka) struct Committer {
    tracker: CommitTracker,
    lists: Option<Sender<TopicPartitionList>>,
    results: Receiver<KafkaResult<()>>,
    in_flight: Option<(CommitKind, TopicPartitionList)>,
    /// The last commit of durable offsets that the group confirmed.
    confirmed: Option<TopicPartitionList>,
    failed_at: Option<Instant>,
    failure_log: LogThrottle,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub(in crate::source::kafka) fn start(consumer: Arc<TopicConsumer>) -> Result<Self, KafkaSourceError> {
        let (lists, to_do) = bounded::<TopicPartitionList>(1);
        let (done, results) = bounded(1);
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                for list in to_do {
                    if done.send(consumer.commit(&list, CommitMode::Sync)).is_err() {
                        break;
                    }
                }
            })
            .map_err(|source| KafkaSourceError::Thread { name: THREAD, source })?;
        Ok(Self {
            tracker: CommitTracker::default(),
            lists: Some(lists),
            results,
            in_flight: None,
            confirmed: None,
            failed_at: None,
            failure_log: LogThrottle::default(),
            thread: Some(thread),
        })
    }

    /// The tracker of durable positions.
    pub(in crate::source::kafka) fn tracker(&self) -> &CommitTracker {
        &self.tracker
    }

    /// Whether a commit is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the last commit failed a moment ago.
    pub(super) fn is_backing_off(&self) -> bool {
        self.failed_at.is_some_and(|failed_at| failed_at.elapsed() < RETRY_AFTER)
    }

    /// Sends a commit; nothing else may be in flight.
    pub(super) fn send(&mut self, kind: CommitKind, list: TopicPartitionList) {
        if self.lists.as_ref().is_some_and(|lists| lists.send(list.clone()).is_ok()) {
            self.in_flight = Some((kind, list));
        }
    }

    /// Sends the requested offsets, unless something is in flight or the group is `is_rebalancing`.
    pub(in crate::source::kafka) fn commit_durable(&mut self, partitions: &Partitions, is_rebalancing: bool) {
        if self.in_flight.as_ref().is_some_and(|(kind, _)| *kind != CommitKind::Durable) {
            // The membership sent that one, and waits for its answer.
            return;
        }
        self.poll_answer();
        // Offsets of partitions that another worker may have taken over are not this worker's to commit, and the rest not
        // without them: a checkpoint's offsets are committed together, so that whichever worker goes back finds a
        // checkpoint that fits them all.
        let in_doubt = partitions.in_doubt().is_some();
        if self.is_busy() || in_doubt || is_rebalancing || self.is_backing_off() {
            return;
        }
        let Some(durable) = self.tracker.next_commit() else { return };
        let list = partitions.commit_list(&durable, &[], self.tracker.noted_cuts());
        if list.count() == 0 || self.confirmed.as_ref() == Some(&list) {
            self.tracker.confirm();
        } else {
            self.send(CommitKind::Durable, list);
        }
    }

    /// The answer to the commit in flight, if there is one yet.
    pub(super) fn poll_answer(&mut self) -> Option<(CommitKind, KafkaResult<()>)> {
        self.wait_for_answer(Duration::ZERO)
    }

    /// The answer to the commit in flight, waited for.
    pub(super) fn wait_for_answer(&mut self, timeout: Duration) -> Option<(CommitKind, KafkaResult<()>)> {
        if !self.is_busy() {
            return None;
        }
        let result = self.results.recv_timeout(timeout).ok()?;
        let (kind, list) = self.in_flight.take()?;
        match &result {
            Ok(()) => {
                self.failed_at = None;
                if kind == CommitKind::Durable {
                    self.tracker.confirm();
                    self.confirmed = Some(list);
                }
            }
            // Even where the group refuses this worker, an earlier try of the same commit may have taken effect: it stays in
            // flight for the tracker, and is repeated if the worker gets back into the group.
            Err(error) => {
                self.failed_at = Some(Instant::now());
                if self.failure_log.due() {
                    tracing::warn!(cause = describe(error), "offsets were not committed to the group; trying again");
                }
            }
        }
        Some((kind, result))
    }

    /// Notes that the group has confirmed `durable` by a commit that closed claims.
    pub(super) fn confirm_closing(&self, durable: &Positions) {
        self.tracker.confirm_external(durable);
    }

    /// The commit for the end of the worker: the newest durable offsets, and where the worker leaves the group for good, its
    /// claims closed.
    pub(in crate::source::kafka) fn last_commit(
        &self,
        partitions: &Partitions,
        leaves_group: bool,
    ) -> Option<TopicPartitionList> {
        let durable = self.tracker.newest()?;
        if partitions.in_doubt().is_some() {
            return None;
        }
        let closing: Vec<u32> = if leaves_group { (0..partitions.len() as u32).collect() } else { Vec::new() };
        let list = partitions.commit_list(&durable, &closing, self.tracker.noted_cuts());
        (list.count() > 0 && self.confirmed.as_ref() != Some(&list)).then_some(list)
    }

    /// Tells the thread to stop once the commit in flight is answered, without waiting for it; the handle waits until the
    /// thread has released the consumer.
    pub(in crate::source::kafka) fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.lists = None;
        self.thread.take()
    }
}
