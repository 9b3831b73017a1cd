//! The partitions of the topics, as far as this worker knows them. Every change of a partition is a method of
//! [`Partitions`], which also says what the trainer has to be told of it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, Range};
use std::sync::Arc;

use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::errors::KafkaSourceError;
use super::group::ownership::{Claims, LocalClaim};
use super::lag::HighWatermarks;
use super::startup::{self, StartOffset};
use super::topic_partition::{TopicPartition, list_of};
use super::{ResumeState, Until, noted_cuts};
use crate::position::{OwnershipRecord, Ownerships, Positions, Stream};
use crate::source::{Assigned, NotedCuts, SourceControl};

/// The ownership of a partition, as this worker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// This worker reads the partition.
    Owned,
    /// This worker read it, and may again: the group has not heard of this worker for too long.
    Suspended,
    /// This worker's state claims it from an earlier life; which worker has it now is not known yet.
    Unconfirmed,
    /// Another worker reads it, or none.
    NotOwned,
}

/// One partition of a topic.
#[derive(Debug)]
pub(super) struct Partition {
    name: TopicPartition,
    /// The place of its topic in the configuration.
    topic: usize,
    stream: Stream,
    /// The offset after the last record that was delivered, or that the state holds.
    next: u64,
    /// How the state came to hold what is before `next`; `None` where it holds nothing.
    record: Option<OwnershipRecord>,
    /// The group's history of the partition, where this worker claimed it.
    claims: Claims,
    ownership: Ownership,
    /// Timestamp that the record before `next` must have, until that record was seen.
    expected_timestamp: Option<i64>,
    /// The first offset that is not delivered any more.
    end: Option<u64>,
    done: bool,
}

impl Partition {
    /// The partition called `name`, whose topic is at the place `topic`, and of which the worker's state holds `state`.
    fn new(topic: usize, name: TopicPartition, state: ResumeState<'_>) -> Self {
        let stream = Stream { name: name.stream_name(), label: name.to_string() };
        let position = state.positions.next(&stream.name);
        let known = state.ownerships.of(&stream.name);
        Self {
            name,
            topic,
            next: position.unwrap_or(0),
            record: position.map(|_| known.record),
            expected_timestamp: known.last_timestamp.filter(|_| position.is_some_and(|position| position > 0)),
            claims: Claims::default(),
            ownership: match known.record {
                OwnershipRecord::Claim(_) if position.is_some() => Ownership::Unconfirmed,
                _ => Ownership::NotOwned,
            },
            end: None,
            done: false,
            stream,
        }
    }

    pub(super) fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The place of its topic in the configuration.
    pub(super) fn topic(&self) -> usize {
        self.topic
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn label(&self) -> &str {
        &self.stream.label
    }

    /// The offset after the last record that was delivered, or that the state holds.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether records of the partition are delivered.
    pub(super) fn is_read(&self) -> bool {
        self.ownership == Ownership::Owned
    }

    /// Whether the partition is read, and its declared end not reached.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_read() && !self.done
    }

    /// Whether another worker may have taken over what the state holds of the partition.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.ownership, Ownership::Suspended | Ownership::Unconfirmed)
    }

    /// What the state holds of the partition.
    pub(super) fn local_claim(&self) -> Option<LocalClaim> {
        Some(LocalClaim { position: self.next, record: self.record? })
    }

    /// The first offset that is not delivered any more; 0 without one.
    pub(super) fn declared_end(&self) -> u64 {
        self.end.unwrap_or(0)
    }

    /// Whether nothing more is to be delivered.
    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Whether the record before the position is still to be compared with the one that was read there.
    pub(super) fn is_unverified(&self) -> bool {
        self.expected_timestamp.is_some()
    }

    /// The offset from which the client has to fetch: that of the record to be verified, if any, else the next one.
    fn fetch_offset(&self) -> u64 {
        match self.expected_timestamp {
            Some(_) => self.next.saturating_sub(1),
            None => self.next,
        }
    }

    /// The metadata that is committed beside an offset.
    fn metadata(&self) -> Option<String> {
        matches!(self.record, Some(OwnershipRecord::Claim(_))).then(|| self.claims.to_metadata())
    }

    /// Whether `next`, of a checkpoint, belongs to the partition as it is owned now: a checkpoint from before the partition
    /// came back holds the offset at which it was released.
    fn is_committable(&self, next: u64) -> bool {
        self.is_read() && self.claims.newest().is_none_or(|claim| claim.from <= next)
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The message is the next record.
    Deliver,
    /// The message is no record to be delivered: of a partition that is not read, or one that only had to be verified.
    Ignore,
    /// The message lies at or behind the declared end.
    BehindEnd,
    /// The message lies before the next record, at `expected`.
    Backwards {
        /// The offset of the next record.
        expected: u64,
    },
}

/// A topic, and the index of each of its partitions.
#[derive(Debug)]
struct Topic {
    name: String,
    indices: BTreeMap<i32, usize>,
}

/// All partitions, by the index of their stream; partitions that are added later come last.
#[derive(Debug)]
pub(super) struct Partitions {
    /// The topics, in the order of the configuration.
    topics: Vec<Topic>,
    until: Until,
    all: Vec<Partition>,
    /// How many of the streams the trainer knows.
    n_announced: usize,
    /// How many partitions there were when the source was opened.
    n_at_startup: usize,
    starts: Positions,
    controls: VecDeque<SourceControl>,
    watermarks: Arc<HighWatermarks>,
}

impl Partitions {
    pub(super) fn new<'a>(topics: impl IntoIterator<Item = &'a str>, until: Until) -> Self {
        let topic = |name: &str| Topic { name: name.to_owned(), indices: BTreeMap::new() };
        let topics: Vec<Topic> = topics.into_iter().map(topic).collect();
        Self {
            watermarks: Arc::new(HighWatermarks::new(topics.len())),
            topics,
            until,
            all: Vec::new(),
            n_announced: 0,
            n_at_startup: 0,
            starts: Positions::default(),
            controls: VecDeque::new(),
        }
    }

    /// Adds a partition of the topic at the place `topic` that the trainer knows of from the beginning, and of which the
    /// worker's state holds `state`.
    pub(super) fn add_at_startup(&mut self, topic: usize, state: ResumeState<'_>, watermarks: startup::Watermarks) {
        let name = TopicPartition::new(&self.topics[topic].name, watermarks.id);
        let mut partition = Partition::new(topic, name, state);
        partition.end = (self.until == Until::End).then_some(watermarks.high);
        verify_if_there(&mut partition, watermarks.low);
        self.add(partition, watermarks.high);
        self.n_announced = self.all.len();
        self.n_at_startup = self.all.len();
    }

    /// The index of partition `id` of the topic at the place `topic`, which is added where it is new.
    pub(super) fn index_or_add(&mut self, topic: usize, id: i32) -> usize {
        if let Some(index) = self.topics[topic].indices.get(&id) {
            return *index;
        }
        let nothing = (Positions::default(), Ownerships::default());
        let nothing = ResumeState { positions: &nothing.0, ownerships: &nothing.1 };
        let mut partition = Partition::new(topic, TopicPartition::new(&self.topics[topic].name, id), nothing);
        partition.end = (self.until == Until::End).then_some(0);
        self.add(partition, 0);
        self.all.len() - 1
    }

    fn add(&mut self, partition: Partition, high: u64) {
        self.topics[partition.topic].indices.insert(partition.name.id, self.all.len());
        self.watermarks.add(&partition, high, self.n_of(partition.topic));
        self.all.push(partition);
    }

    /// The place of a topic in the configuration; `None` for one that is not read.
    pub(super) fn topic(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|topic| topic.name == name)
    }

    /// Whether the partition was found after the source was opened: it is new.
    pub(super) fn is_added(&self, index: usize) -> bool {
        index >= self.n_at_startup
    }

    /// The index of partition `id` of `topic`.
    pub(super) fn index(&self, topic: &str, id: i32) -> Option<usize> {
        self.topics.iter().find(|known| known.name == topic)?.indices.get(&id).copied()
    }

    /// The indices of partitions, as far as they are known.
    pub(super) fn indices(&self, names: &[TopicPartition]) -> Vec<usize> {
        names.iter().filter_map(|name| self.index(&name.topic, name.id)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of topics.
    pub(super) fn n_topics(&self) -> usize {
        self.topics.len()
    }

    /// The number of known partitions of the topic at the place `topic`.
    pub(super) fn n_of(&self, topic: usize) -> usize {
        self.topics[topic].indices.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.all.iter()
    }

    /// The offsets at which partitions were begun so far.
    pub(super) fn starts(&self) -> &Positions {
        &self.starts
    }

    pub(super) fn watermarks(&self) -> &Arc<HighWatermarks> {
        &self.watermarks
    }

    /// A partition that another worker may have taken over, if there is any.
    pub(super) fn in_doubt(&self) -> Option<&Partition> {
        self.all.iter().find(|partition| partition.is_in_doubt())
    }

    /// Whether all partitions that are read have reached their declared ends; `None` where none is read.
    pub(super) fn are_done(&self) -> Option<bool> {
        let mut read = self.all.iter().filter(|partition| partition.is_read()).peekable();
        read.peek().is_some().then(|| read.all(|partition| partition.done))
    }

    /// The partitions that `wanted` chooses, for a call of the client.
    pub(super) fn list(&self, wanted: impl Fn(&Partition) -> bool) -> TopicPartitionList {
        list_of(self.all.iter().filter(|partition| wanted(partition)).map(Partition::name))
    }

    /// The partitions that `wanted` chooses, each with the offset to fetch from.
    pub(super) fn assignment(&self, wanted: impl Fn(&Partition) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in self.all.iter().filter(|partition| wanted(partition)) {
            add_to_list(&mut list, &partition.name, partition.fetch_offset(), None);
        }
        list
    }

    /// The commit of `durable`, of all partitions that are read; the claims of streams in `closing` are closed by it, and
    /// `cuts` are noted beside the first offset.
    pub(super) fn commit_list(
        &self,
        durable: &Positions,
        closing: &[u32],
        mut cuts: Option<NotedCuts>,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (index, partition) in self.all.iter().enumerate() {
            let next = durable.next(&partition.stream.name).filter(|next| partition.is_committable(*next));
            let Some(next) = next else { continue };
            let metadata = match closing.contains(&(index as u32)) {
                true => Some(partition.claims.closed(next).to_metadata()),
                false => partition.metadata(),
            };
            let metadata = match cuts.take() {
                Some(cuts) => Some(noted_cuts::beside(metadata.as_deref(), &cuts)),
                None => metadata,
            };
            add_to_list(&mut list, &partition.name, next, metadata);
        }
        list
    }

    /// The oldest message to the trainer that was not taken yet.
    pub(super) fn next_control(&mut self) -> Option<SourceControl> {
        self.controls.pop_front()
    }

    /// Whether there is a message to the trainer.
    pub(super) fn has_controls(&self) -> bool {
        !self.controls.is_empty()
    }

    /// Decides what becomes of the message at `offset` of a partition.
    ///
    /// # Errors
    /// Another record stands where one was read before.
    pub(super) fn admit(
        &mut self,
        index: usize,
        offset: u64,
        timestamp: Option<i64>,
    ) -> Result<Admission, KafkaSourceError> {
        let partition = &mut self.all[index];
        if !partition.is_read() {
            return Ok(Admission::Ignore);
        }
        if let Some(expected) = partition.expected_timestamp.take()
            && offset + 1 == partition.next
        {
            if timestamp != Some(expected) {
                return Err(KafkaSourceError::Recreated { stream: partition.stream.label.clone(), offset });
            }
            return Ok(Admission::Ignore);
        }
        Ok(match partition.end {
            Some(end) if offset >= end => Admission::BehindEnd,
            _ if offset < partition.next => Admission::Backwards { expected: partition.next },
            _ => Admission::Deliver,
        })
    }

    /// Notes that the record at `offset` is delivered; whether the partition's declared end is reached by it.
    pub(super) fn advance(&mut self, index: usize, offset: u64) -> bool {
        let partition = &mut self.all[index];
        partition.next = offset + 1;
        self.watermarks.raise(index, offset + 1);
        partition.end.is_some_and(|end| offset + 1 >= end)
    }

    /// Marks a partition with a declared end as read up to it; whether it was not marked before.
    pub(super) fn finish(&mut self, index: usize) -> bool {
        let partition = &mut self.all[index];
        partition.end.is_some() && !std::mem::replace(&mut partition.done, true)
    }

    /// Begins a partition at `start`; gives what the trainer has to be told of it, for [`Partitions::announce`].
    pub(super) fn begin(&mut self, index: usize, start: StartOffset, record: OwnershipRecord) -> Assigned {
        let partition = &mut self.all[index];
        if partition.record.is_none() || partition.next != start.offset {
            partition.expected_timestamp = None;
        }
        let next = start.lost.as_ref().map_or(start.offset, |lost| lost.start);
        (partition.next, partition.record) = (start.offset, Some(record));
        partition.ownership = Ownership::Owned;
        partition.done = partition.end.is_some_and(|end| start.offset >= end);
        tracing::info!(partition = partition.stream.label, offset = partition.next, end = partition.end, "reading");
        self.watermarks.set_shown(index, true);
        self.starts.advance(&partition.stream.name, partition.next);
        let stream = partition.stream.clone();
        if let Some(lost) = start.lost {
            self.skip(index, lost);
        }
        Assigned { stream, next, record }
    }

    /// Goes on with a partition under the claim in `history`: as before where it was only suspended, else begins it at
    /// `start`. `low` is its oldest offset.
    pub(super) fn begin_claimed(
        &mut self,
        index: usize,
        start: StartOffset,
        (history, claim): (Claims, u64),
        low: u64,
    ) -> Option<Assigned> {
        let partition = &mut self.all[index];
        partition.claims = history;
        verify_if_there(partition, low);
        let goes_on =
            partition.ownership == Ownership::Suspended && partition.next == start.offset && start.lost.is_none();
        if !goes_on {
            return Some(self.begin(index, start, OwnershipRecord::Claim(claim)));
        }
        partition.ownership = Ownership::Owned;
        tracing::info!(partition = partition.stream.label, offset = partition.next, "reading again");
        self.watermarks.set_shown(index, true);
        None
    }

    /// The number of messages to the trainer so far: the place for [`Partitions::announce`].
    pub(super) fn n_controls(&self) -> usize {
        self.controls.len()
    }

    /// Tells the trainer of new streams and of assigned ones: behind the `before` messages that were there already, and
    /// ahead of what was lost in those streams.
    pub(super) fn announce(&mut self, before: usize, assigned: Vec<Assigned>) {
        if !assigned.is_empty() {
            self.controls.insert(before, SourceControl::Assigned(assigned));
        }
        let new: Vec<Stream> =
            self.all.iter().skip(self.n_announced).map(|partition| partition.stream.clone()).collect();
        if !new.is_empty() {
            self.n_announced = self.all.len();
            self.controls.insert(before, SourceControl::Streams(new));
        }
    }

    /// Tells the trainer that there is nothing for this worker to read as yet.
    pub(super) fn announce_none(&mut self) {
        self.controls.push_back(SourceControl::Assigned(Vec::new()));
    }

    /// Skips records that are gone, and has them counted.
    pub(super) fn skip(&mut self, index: usize, lost: Range<u64>) {
        let partition = &mut self.all[index];
        tracing::error!(
            partition = partition.stream.label,
            from = lost.start,
            until = lost.end,
            "records cannot be read any more; they are counted as lost"
        );
        partition.next = lost.end;
        partition.expected_timestamp = None;
        self.controls.push_back(SourceControl::Lost { stream: index as u32, offsets: lost });
    }

    /// Gives up verifying the record before the position, which is gone.
    pub(super) fn skip_verification(&mut self, index: usize) {
        self.all[index].expected_timestamp = None;
    }

    /// Asks the trainer to make what was delivered of partitions durable; `false` where none of them is read.
    pub(super) fn revoke(&mut self, names: &[TopicPartition]) -> bool {
        let indices = self.indices(names).into_iter();
        let read: Vec<u32> = indices.filter(|index| self.all[*index].is_read()).map(|index| index as u32).collect();
        let is_any = !read.is_empty();
        if is_any {
            self.controls.push_back(SourceControl::Revoking(read));
        }
        is_any
    }

    /// Suspends partitions that the group took away without asking.
    pub(super) fn suspend(&mut self, names: &[TopicPartition]) {
        for index in self.indices(names) {
            let partition = &mut self.all[index];
            if partition.ownership == Ownership::Owned {
                partition.ownership = Ownership::Suspended;
                tracing::warn!(
                    partition = partition.stream.label,
                    offset = partition.next,
                    "lost to the group; waiting to get it back"
                );
            }
        }
    }

    /// Hands partitions over that the group took away without asking, where the log of a shared model says what was learnt of them.
    pub(super) fn give_up(&mut self, names: &[TopicPartition]) {
        for index in self.indices(names) {
            let partition = &self.all[index];
            if partition.is_read() {
                tracing::warn!(
                    partition = partition.stream.label,
                    offset = partition.next,
                    "lost to the group; another worker may go on with it"
                );
                self.hand_over(index);
            }
        }
    }

    /// Notes that another worker goes on with a partition where this worker's state stands.
    pub(super) fn hand_over(&mut self, index: usize) {
        let partition = &mut self.all[index];
        (partition.ownership, partition.record) = (Ownership::NotOwned, Some(OwnershipRecord::Released));
        self.watermarks.set_shown(index, false);
        self.controls.push_back(SourceControl::HandedOver(index as u32));
    }

    /// Releases streams at the positions of `durable`; gives the names of their partitions.
    pub(super) fn release(&mut self, streams: &[u32], durable: &Positions) -> Vec<TopicPartition> {
        for index in streams {
            let partition = &mut self.all[*index as usize];
            partition.ownership = Ownership::NotOwned;
            if let Some(next) = durable.next(&partition.stream.name) {
                (partition.next, partition.record) = (next, Some(OwnershipRecord::Released));
                self.controls.push_back(SourceControl::HandedOver(*index));
            }
            partition.expected_timestamp = None;
            tracing::info!(partition = partition.stream.label, offset = partition.next, "let go");
            self.watermarks.set_shown(*index as usize, false);
        }
        streams.iter().map(|index| self.all[*index as usize].name.clone()).collect()
    }
}

impl Index<usize> for Partitions {
    type Output = Partition;

    fn index(&self, index: usize) -> &Partition {
        &self.all[index]
    }
}

/// Gives up verifying the record before the position where that record is gone: `low` is the oldest offset.
fn verify_if_there(partition: &mut Partition, low: u64) {
    partition.expected_timestamp = partition.expected_timestamp.filter(|_| low < partition.next);
}

/// An offset as the client takes it.
pub(super) fn offset_in_list(next: u64) -> Offset {
    Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX))
}

/// The offset of an element of a list, where it has one.
pub(super) fn offset_of(element: &TopicPartitionListElem<'_>) -> Option<u64> {
    u64::try_from(element.offset().to_raw()?).ok()
}

/// Adds a partition to a list, with an offset and the metadata that is committed beside it.
pub(super) fn add_to_list(
    list: &mut TopicPartitionList,
    partition: &TopicPartition,
    next: u64,
    metadata: Option<String>,
) {
    let mut element = list.add_partition(&partition.topic, partition.id);
    if let Err(error) = element.set_offset(offset_in_list(next)) {
        tracing::warn!(%partition, %error, "an offset cannot be given");
    }
    if let Some(metadata) = metadata {
        element.set_metadata(metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(timestamp: Option<i64>, until: Until) -> Partitions {
        let (positions, mut ownerships) = (Positions::from_iter([("kafka/t/0", 5_u64)]), Ownerships::default());
        ownerships.set_last_timestamp("kafka/t/0", timestamp);
        let state = ResumeState { positions: &positions, ownerships: &ownerships };
        let mut partitions = Partitions::new(["t"], until);
        partitions.add_at_startup(0, state, startup::Watermarks { id: 0, low: 0, high: 8 });
        let start = StartOffset { offset: 5, lost: None };
        let assigned = partitions.begin(0, start, OwnershipRecord::Standalone);
        partitions.announce(0, vec![assigned]);
        assert!(matches!(partitions.next_control(), Some(SourceControl::Assigned(_))));
        partitions
    }

    #[test]
    fn admission_compares_the_record_before_the_position_with_the_one_that_was_read() {
        let mut same = partitions(Some(17), Until::Stopped);
        assert_eq!(same.assignment(Partition::is_read).elements()[0].offset(), Offset::Offset(4));
        assert_eq!(same.admit(0, 4, Some(17)).unwrap(), Admission::Ignore);
        assert_eq!(same.admit(0, 5, Some(18)).unwrap(), Admission::Deliver);
        let mut other = partitions(Some(17), Until::Stopped);
        assert!(matches!(other.admit(0, 4, Some(18)), Err(KafkaSourceError::Recreated { offset: 4, .. })));
    }

    #[test]
    fn admission_drops_records_that_come_again_or_lie_behind_the_end() {
        let mut partitions = partitions(None, Until::End);
        assert_eq!(partitions.admit(0, 3, None).unwrap(), Admission::Backwards { expected: 5 });
        assert!(!partitions.advance(0, 6));
        assert!(partitions.advance(0, 7), "the end");
        assert!(partitions.finish(0) && !partitions.finish(0));
        assert_eq!(partitions.admit(0, 8, None).unwrap(), Admission::BehindEnd);
        assert_eq!(partitions.are_done(), Some(true));
    }

    #[test]
    fn partitions_of_one_number_are_told_apart_by_their_topics() {
        let positions = Positions::from_iter([("kafka/buys/0", 5_u64)]);
        let state = ResumeState { positions: &positions, ownerships: &Ownerships::default() };
        let mut partitions = Partitions::new(["views", "buys"], Until::End);
        partitions.add_at_startup(0, state, startup::Watermarks { id: 0, low: 0, high: 8 });
        partitions.add_at_startup(1, state, startup::Watermarks { id: 0, low: 0, high: 9 });
        assert_eq!((partitions.index("views", 0), partitions.index("buys", 0)), (Some(0), Some(1)));
        assert_eq!((partitions.index("clicks", 0), partitions.topic("clicks")), (None, None));
        assert_eq!([0, 1].map(|index| (partitions[index].topic(), partitions[index].next())), [(0, 0), (1, 5)]);
        assert_eq!([0, 1].map(|index| partitions[index].declared_end()), [8, 9]);
        assert_eq!(partitions.index_or_add(0, 1), 2);
        assert_eq!((partitions.index_or_add(0, 1), partitions.n_of(0), partitions.n_of(1)), (2, 2, 1));
        assert_eq!(partitions[2].label(), "views/1");
    }

    #[test]
    fn suspended_partition_is_neither_read_nor_committed() {
        let mut partitions = partitions(None, Until::Stopped);
        let durable = Positions::from_iter([("kafka/t/0", 6_u64)]);
        assert_eq!(partitions.commit_list(&durable, &[], None).count(), 1);
        partitions.suspend(&[TopicPartition::new("t", 0)]);
        assert_eq!(partitions.admit(0, 5, None).unwrap(), Admission::Ignore);
        assert_eq!(partitions.commit_list(&durable, &[], None).count(), 0);
        assert!(partitions.in_doubt().is_some());
        partitions.hand_over(0);
        assert!(partitions.in_doubt().is_none());
        assert_eq!(partitions.next_control(), Some(SourceControl::HandedOver(0)));
    }

    #[test]
    fn released_partition_stands_at_its_durable_position() {
        let mut partitions = partitions(None, Until::Stopped);
        partitions.advance(0, 6);
        let [first, second] = [0, 1].map(|id| TopicPartition::new("t", id));
        assert!(partitions.revoke(std::slice::from_ref(&first)) && !partitions.revoke(&[second]));
        assert_eq!(partitions.next_control(), Some(SourceControl::Revoking(vec![0])));
        assert_eq!(partitions.release(&[0], &Positions::from_iter([("kafka/t/0", 6_u64)])), [first]);
        let claim = LocalClaim { position: 6, record: OwnershipRecord::Released };
        assert_eq!(partitions[0].local_claim(), Some(claim));
        assert_eq!(partitions.next_control(), Some(SourceControl::HandedOver(0)));
    }
}
