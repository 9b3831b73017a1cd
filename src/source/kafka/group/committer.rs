//! Commits to the group, one at a time, on a thread of their own: brokers that do not answer hold up neither records nor
//! the group's other business.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;

use crate::kafka::{LogThrottle, words};
use crate::position::Positions;
use crate::source::kafka::partitions::{self, Partition};
use crate::source::kafka::{Client, KafkaSource};

/// How long a commit that failed waits until it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::kafka) enum What {
    /// What became durable.
    Durable,
    /// That partitions are this worker's.
    Claims,
    /// The same as what is durable, and that it lets go of partitions.
    Closing,
}

/// See the module.
#[derive(Debug)]
pub(in crate::source::kafka) struct Committer {
    lists: Option<Sender<TopicPartitionList>>,
    results: Receiver<KafkaResult<()>>,
    on_its_way: Option<(What, TopicPartitionList)>,
    /// The last that the group took.
    taken: Option<TopicPartitionList>,
    failed: Option<Instant>,
    reminder: LogThrottle,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(in crate::source::kafka) fn start(consumer: Arc<Client>) -> Self {
        let (lists, to_do) = bounded::<TopicPartitionList>(1);
        let (done, results) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("kafka-commit".to_owned())
            .spawn(move || {
                for list in to_do {
                    if done.send(consumer.commit(&list, CommitMode::Sync)).is_err() {
                        break;
                    }
                }
            })
            .expect("the operating system starts a thread");
        Self {
            lists: Some(lists),
            results,
            on_its_way: None,
            taken: None,
            failed: None,
            reminder: LogThrottle::default(),
            thread: Some(thread),
        }
    }

    /// Whether a commit is on its way.
    pub(in crate::source::kafka) fn is_busy(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// Whether the group knows this already.
    pub(in crate::source::kafka) fn has_taken(&self, list: &TopicPartitionList) -> bool {
        self.taken.as_ref() == Some(list)
    }

    /// Whether the last one failed a moment ago.
    pub(in crate::source::kafka) fn rests(&self) -> bool {
        self.failed.is_some_and(|failed| failed.elapsed() < AGAIN)
    }

    /// Sends a commit; nothing else may be on its way.
    pub(in crate::source::kafka) fn begin(&mut self, what: What, list: TopicPartitionList) {
        if self.lists.as_ref().is_some_and(|lists| lists.send(list.clone()).is_ok()) {
            self.on_its_way = Some((what, list));
        }
    }

    /// Lets go of the consumer once what is on its way is answered; [`JoinHandle::join`] waits for that.
    pub(in crate::source::kafka) fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.lists = None;
        self.thread.take()
    }
}

impl KafkaSource {
    /// Sends what is durable, unless something is on its way.
    pub(in crate::source::kafka) fn commit_what_is_durable(&mut self) {
        if self.committer.on_its_way.as_ref().is_some_and(|(what, _)| *what != What::Durable) {
            // Whoever sent it waits for the answer.
            return;
        }
        self.take_answer();
        // What another worker may have taken over is not ours to commit, and the rest not without it: a checkpoint's
        // offsets are committed together, so that whoever goes back finds one that fits them all.
        let unsure = self.partitions.unsure().is_some();
        let rebalancing = self.member.as_ref().is_some_and(|member| member.waiting.is_some());
        if self.committer.is_busy() || unsure || rebalancing || self.committer.rests() {
            return;
        }
        let Some(durable) = self.commits.next_commit() else { return };
        let list = self.to_commit(&durable, &[]);
        if list.count() == 0 || self.committer.has_taken(&list) {
            self.commits.confirm();
        } else {
            self.committer.begin(What::Durable, list);
        }
    }

    /// What became of the commit that was on its way, if that is known.
    pub(in crate::source::kafka) fn take_answer(&mut self) -> Option<(What, KafkaResult<()>)> {
        self.take_answer_within(Duration::ZERO)
    }

    /// The same, waited for.
    pub(in crate::source::kafka) fn take_answer_within(
        &mut self,
        patience: Duration,
    ) -> Option<(What, KafkaResult<()>)> {
        if !self.committer.is_busy() {
            return None;
        }
        let result = self.committer.results.recv_timeout(patience).ok()?;
        let (what, list) = self.committer.on_its_way.take()?;
        match &result {
            Ok(()) => {
                self.committer.failed = None;
                if what == What::Durable {
                    self.commits.confirm();
                    self.committer.taken = Some(list);
                }
            }
            // Even where the group says that we are out, an earlier try of the same may have taken effect: it stays on its
            // way, and is repeated if we get back in.
            Err(error) => {
                self.committer.failed = Some(Instant::now());
                if self.committer.reminder.due() {
                    tracing::warn!(cause = words(error), "offsets were not committed to the group; trying again");
                }
            }
        }
        Some((what, result))
    }

    /// The commit of `durable`, of all partitions that are read; those whose index is in `closing` are let go of.
    pub(in crate::source::kafka) fn to_commit(&self, durable: &Positions, closing: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            let Some(next) = durable.next(&partition.stream.name).filter(|next| has_begun(partition, *next)) else {
                continue;
            };
            let metadata = match closing.contains(&(index as u32)) {
                true => Some(partition.closed(next)),
                false => partition.metadata(),
            };
            partitions::add(&mut list, &self.config.topic, partition.id, next, metadata);
        }
        list
    }
}

/// Whether an offset is of the partition as it is held now: a checkpoint that was begun before it came back tells where it
/// was let go of.
fn has_begun(partition: &Partition, next: u64) -> bool {
    partition.is_read() && partition.claims.newest().is_none_or(|claim| claim.from <= next)
}
