//! The partitions of the topic, as far as this worker knows them.

use std::ops::{Index, IndexMut};

use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use crate::position::{OwnershipRecord, Stream};
use crate::source::kafka::group::ownership::{Claims, LocalClaim};

/// Whose a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// This worker's.
    Owned,
    /// It was, and may be again: the group has not heard of this worker for too long.
    Suspended,
    /// It was this worker's in an earlier life, by what its state holds; who has it now is not known yet.
    Unconfirmed,
    /// Another's, or nobody's.
    NotOwned,
}

/// What is known of a partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: i32,
    pub(super) stream: Stream,
    /// The offset after the last record that was delivered, or that the state holds.
    pub(super) next: u64,
    /// How the state came to hold what is before `next`; `None` where it holds nothing.
    pub(super) record: Option<OwnershipRecord>,
    /// The group's history of it, where this worker claimed it.
    pub(super) claims: Claims,
    pub(super) ownership: Ownership,
    /// When the record before `next` must have been produced, until one was seen.
    pub(super) verify: Option<i64>,
    /// The first offset that is not delivered any more.
    pub(super) end: Option<u64>,
    pub(super) done: bool,
}

impl Partition {
    /// Whether records of it are delivered.
    pub(super) fn is_read(&self) -> bool {
        self.ownership == Ownership::Owned
    }

    /// Whether another worker may have taken over what the state holds of it.
    pub(super) fn is_unsure(&self) -> bool {
        matches!(self.ownership, Ownership::Suspended | Ownership::Unconfirmed)
    }

    /// What this worker has of it.
    pub(super) fn own(&self) -> Option<LocalClaim> {
        Some(LocalClaim { position: self.next, record: self.record? })
    }

    /// Where the client has to begin so that `next` comes, and before it the record to be verified, if any.
    pub(super) fn entry(&self) -> u64 {
        match self.verify {
            Some(_) => self.next.saturating_sub(1),
            None => self.next,
        }
    }

    /// The record before the position cannot be looked at where it is gone: `low` is the oldest that is there.
    pub(super) fn verify_if_there(&mut self, low: u64) {
        self.verify = self.verify.filter(|_| low < self.next);
    }

    /// What is committed beside an offset.
    pub(super) fn metadata(&self) -> Option<String> {
        matches!(self.record, Some(OwnershipRecord::Claim(_))).then(|| self.claims.text())
    }

    /// What is committed beside the offset at which it is let go of.
    pub(super) fn closed(&self, next: u64) -> String {
        self.claims.closed(next).text()
    }
}

/// By the index of their stream; partitions that are added later come last.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    all: Vec<Partition>,
}

impl Partitions {
    pub(super) fn push(&mut self, partition: Partition) {
        self.all.push(partition);
    }

    /// The index of partition `id`.
    pub(super) fn index(&self, id: i32) -> Option<usize> {
        // Their numbers are their places, but for topics that were listed with gaps.
        match self.all.get(usize::try_from(id).ok()?) {
            Some(partition) if partition.id == id => Some(id as usize),
            _ => self.all.iter().position(|partition| partition.id == id),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.all.iter()
    }

    /// One that another worker may have taken over, if there is any.
    pub(super) fn unsure(&self) -> Option<&Partition> {
        self.all.iter().find(|partition| partition.is_unsure())
    }

    /// Those that `wanted` chooses, for a call of the client.
    pub(super) fn list(&self, topic: &str, wanted: impl Fn(&Partition) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in self.all.iter().filter(|partition| wanted(partition)) {
            list.add_partition(topic, partition.id);
        }
        list
    }
}

impl Index<usize> for Partitions {
    type Output = Partition;

    fn index(&self, index: usize) -> &Partition {
        &self.all[index]
    }
}

impl IndexMut<usize> for Partitions {
    fn index_mut(&mut self, index: usize) -> &mut Partition {
        &mut self.all[index]
    }
}

/// An offset as the client takes it.
pub(super) fn offset(next: u64) -> Offset {
    Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX))
}

/// The offset of an entry, where it has one.
pub(super) fn offset_of(entry: &TopicPartitionListElem<'_>) -> Option<u64> {
    u64::try_from(entry.offset().to_raw()?).ok()
}

/// Adds a partition with an offset, and what is committed beside it.
pub(super) fn add(list: &mut TopicPartitionList, topic: &str, id: i32, next: u64, metadata: Option<String>) {
    let mut entry = list.add_partition(topic, id);
    if let Err(error) = entry.set_offset(offset(next)) {
        tracing::warn!(topic, id, %error, "an offset cannot be given");
    }
    if let Some(metadata) = metadata {
        entry.set_metadata(metadata);
    }
}
