//! Kafka: the partitions of one topic or several, all of them or a group's share.
//!
//! | question | answer |
//! | --- | --- |
//! | which worker reads a partition | the workers of `kafka.group` share them, each partition is one worker's (`membership`); with `kafka.assignment = "all"` this one reads every one |
//! | where does a partition begin | at its position in the state; at the group's where another worker read it last (`ownership`); where the topic was never read, at `kafka.starting_offsets`; a new partition of a known topic begins at its oldest record (`startup`) |
//! | a position that is not there | [`KafkaSourceError::PositionLost`], at open and at run time; never a jump, unless `kafka.on_data_loss` allows it, and then counted |
//! | a topic that was created anew, or of another cluster | [`KafkaSourceError::OtherTopic`], by its id (`identity`); where brokers have none, the record before the position has another timestamp: [`KafkaSourceError::Recreated`] |
//! | brokers away | waited for, and logged every few seconds |
//! | records that arrive damaged | the end: librdkafka would skip them |
//! | a batch that cannot be unpacked | [`KafkaSourceError::Unreadable`], with its place; passed over, and counted as lost, where `kafka.on_data_loss` allows it (`unreadable`) |
//! | gaps in the offsets (transactions, compaction) | are no records; [`Until::End`] does not wait for them |
//! | a record at an offset that was passed already | dropped and logged, never delivered twice |
//! | partitions are added | they are read, from their oldest record, within a minute |
//! | a record whose schema is not known yet | nothing more is read, and the client is kept in touch with the group, until the registry answers |
//! | the trainer has no room | the client is kept in touch with the group meanwhile; what was fetched is bounded |
//!
//! | part | owns |
//! | --- | --- |
//! | `client` | the consumer, when it was last polled, and the log of its trouble |
//! | `partitions` | every partition, every change of one, and what the trainer has to be told of it |
//! | `reader` | the decoders, and what came and is not delivered yet |
//! | `committer` | the commit in flight, and which offsets the group has confirmed |
//! | `membership` | the rebalance that is being carried out |
//! | `shared_starts` | where partitions begin for workers that share a model |
//! | `noted_cuts` | where batches were cut since the newest checkpoint, in the metadata of a commit |
//! | `lag` | the high watermarks, and the thread that asks for them |
//!
//! Offsets are committed after the state that holds them is durable. A worker's own positions are never read back from
//! them; in a group they tell where others stopped. What the source deliberately does not do: take the timestamps of
//! messages for the times of events.

mod client;
mod connection;
mod decoders;
mod errors;
mod group;
mod identity;
mod lag;
mod noted_cuts;
mod partitions;
mod reader;
mod shutdown;
mod startup;
pub(crate) mod topic_partition;
mod unreadable;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};

use super::{CommitTracker, EventSource, LagProbe, PollStatus, SourceError};
use crate::event::Record;
use crate::position::{OwnershipRecord, Ownerships, Positions, Stream};
use client::TopicClient;
pub use connection::{StartPlace, TopicConnection};
pub use decoders::TopicDecoders;
pub use errors::KafkaSourceError;
use group::committer::Committer;
use group::membership::{self, Membership, Parts};
pub use group::shared_starts::SharedStarts;
use lag::WatermarkPoller;
use partitions::{Partition, Partitions};
use reader::Reader;
use startup::StartOffset;

/// Most records of a block.
const BLOCK_RECORDS: usize = 4096;
/// Most bytes of payload of a block, give or take one record.
const BLOCK_BYTES: usize = 8 << 20;
/// Longest wait for the first record of a block.
const BLOCK_WAIT: Duration = Duration::from_millis(100);

/// Time between two commits that tell producers how far was read.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// How far the topics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For ever: there is always more to come.
    Stopped,
    /// Until so many records were delivered.
    Records(u64),
    /// Up to the ends that the partitions had when the source was opened; nothing beyond is delivered. In a group: until
    /// this worker's share is read, or all is, by others.
    End,
}

/// What a worker's state holds of the topics: where reading is resumed.
#[derive(Debug, Clone, Copy)]
pub struct ResumeState<'a> {
    /// The positions of the state.
    pub positions: &'a Positions,
    /// How the worker came to own them.
    pub ownerships: &'a Ownerships,
}

/// The records of the topics; opened by [`TopicConnection::into_source`].
pub struct KafkaSource {
    /// Present until the source is dropped.
    client: Option<TopicClient>,
    partitions: Partitions,
    reader: Reader,
    committer: Committer,
    /// Present in a group.
    membership: Option<Membership>,
    poller: WatermarkPoller,
    /// Present where producers are told how far was read: when they were told last.
    told_producers: Option<Instant>,
    /// An error of [`EventSource::keep_alive`], for the next poll.
    failed: Option<KafkaSourceError>,
}

impl KafkaSource {
    /// The offsets at which the partitions were begun that were assigned so far.
    pub fn starts(&self) -> &Positions {
        self.partitions.starts()
    }

    /// The high watermarks of the partitions, kept up to date while the source lives.
    pub fn lag_probe(&self) -> Arc<dyn LagProbe> {
        Arc::clone(self.partitions.watermarks()) as Arc<dyn LagProbe>
    }

    /// Tells producers into an embedded broker from now on how far was read, by the group's offsets: nobody else goes by
    /// these, since the records end with the process.
    pub fn tell_producers(&mut self) {
        self.told_producers = Some(Instant::now());
    }

    fn tell_producers_if_due(&mut self) {
        let (Some(told), Some(client)) = (&mut self.told_producers, &self.client) else { return };
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let read = self.partitions.assignment(Partition::is_read);
            if let Err(error) = client.consumer.commit(&read, CommitMode::Async) {
                tracing::debug!(%error, "producers were not told how far was read");
            }
        }
    }

    fn commit_durable(&mut self) {
        let is_rebalancing = self.membership.as_ref().is_some_and(Membership::is_rebalancing);
        self.committer.commit_durable(&self.partitions, is_rebalancing);
    }

    /// Carries out a rebalance, or looks for added partitions outside of a group.
    fn follow_assignment(&mut self) -> Result<(), KafkaSourceError> {
        let Self { client: Some(client), partitions, reader, committer, membership, .. } = self else { return Ok(()) };
        match membership {
            Some(membership) => membership.turn(&mut Parts { client, partitions, reader, committer }),
            None => assign_added(client, partitions, reader.until()),
        }
    }

    /// Fills a block.
    fn read(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, KafkaSourceError> {
        let Self { client: Some(client), partitions, reader, membership, .. } = self else {
            return Ok(PollStatus::End);
        };
        let deadline = Instant::now() + BLOCK_WAIT;
        let (first, mut bytes) = (block.len(), 0);
        reader.deliver_pending(block);
        let is_decoding = reader.decode_backlog(client, partitions, block)?;
        while is_decoding
            && !shutdown::is_over(reader, membership.as_mut(), client, partitions)
            && block.len() - first < BLOCK_RECORDS
            && bytes < BLOCK_BYTES
        {
            // Waits for the first record only: those that are there already must not grow old.
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if block.len() > first { Duration::ZERO } else { left };
            let before = block.len();
            bytes += reader.poll(client, partitions, wait, block)?;
            let nothing_came = block.len() == before;
            if client.callbacks().has_rebalances()
                || reader.is_held_up()
                || partitions.has_controls()
                || left.is_zero()
                || (nothing_came && wait.is_zero())
            {
                break;
            }
        }
        Ok(match () {
            () if block.len() > first => PollStatus::More,
            () if client.callbacks().has_rebalances() || partitions.has_controls() => PollStatus::More,
            () if is_decoding && shutdown::is_over(reader, membership.as_mut(), client, partitions) => PollStatus::End,
            () => PollStatus::Idle,
        })
    }
}

impl EventSource for KafkaSource {
    fn streams(&self) -> Vec<Stream> {
        self.partitions.iter().map(|partition| partition.stream().clone()).collect()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        self.commit_durable();
        self.tell_producers_if_due();
        if let Some(error) = self.failed.take().or_else(|| self.partitions.watermarks().take_replaced()) {
            return Err(error.into());
        }
        if let Some(client) = &mut self.client {
            self.reader.retry(client, &mut self.partitions)?;
        }
        if !self.reader.has_pending() {
            self.follow_assignment()?;
            if let Some(control) = self.partitions.next_control() {
                return Ok(PollStatus::Control(control));
            }
        }
        Ok(self.read(block)?)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        Some(self.committer.tracker().clone())
    }

    fn release(&mut self, streams: &[u32], durable: &Positions) -> Result<Poll<()>, SourceError> {
        let Self { client: Some(client), partitions, reader, committer, .. } = self else {
            return Ok(Poll::Ready(()));
        };
        Ok(membership::release(streams, durable, &mut Parts { client, partitions, reader, committer })?)
    }

    fn keep_alive(&mut self) {
        self.commit_durable();
        let Some(client) = self.client.as_mut().filter(|client| client.is_poll_due()) else { return };
        if let Err(error) = self.reader.keep_alive(client, &mut self.partitions) {
            self.failed.get_or_insert(error);
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let leaves_group = self.membership.as_ref().is_some_and(Membership::leaves_when_dropped);
        let last_commit = self.committer.last_commit(&self.partitions, leaves_group);
        shutdown::close(client, last_commit, (self.committer.stop(), self.poller.stop()));
    }
}

/// Outside of a group: begins partitions that were added to the topics.
fn assign_added(client: &TopicClient, partitions: &mut Partitions, until: Until) -> Result<(), KafkaSourceError> {
    if until == Until::End {
        return Ok(());
    }
    let mut starts = Vec::new();
    for topic in 0..partitions.n_topics() {
        for id in partitions.n_of(topic)..partitions.watermarks().n_partitions(topic) {
            let index = partitions.index_or_add(topic, id as i32);
            // The partition is new: where the brokers do not answer, nothing of it can be gone.
            let offset = client.watermarks(partitions[index].name()).map_or(0, |watermarks| watermarks.low);
            starts.push((index, StartOffset { offset, lost: None }));
        }
    }
    match starts.is_empty() {
        true => Ok(()),
        false => assign_all(client, partitions, starts),
    }
}

/// Outside of a group: begins partitions at the given offsets, and has all fetched that are read, each from where it stands.
fn assign_all(
    client: &TopicClient,
    partitions: &mut Partitions,
    starts: impl IntoIterator<Item = (usize, StartOffset)>,
) -> Result<(), KafkaSourceError> {
    let before = partitions.n_controls();
    let mut assigned = Vec::new();
    for (index, start) in starts {
        assigned.push(partitions.begin(index, start, OwnershipRecord::Standalone));
    }
    client.assign(&partitions.assignment(Partition::is_unfinished))?;
    partitions.announce(before, assigned);
    Ok(())
}
