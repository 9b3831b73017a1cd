//! Membership of a group: partitions come and go, and each record ends in exactly one worker's durable state.
//!
//! | the coordinator says | this worker |
//! | --- | --- |
//! | yours | asks the group for its history ([`crate::source::kafka::group::ownership`]), claims the partition, then reads it |
//! | somebody else's, once you let go | delivers what it has read of it, waits until that is durable, commits with its claim closed, lets go |
//! | lost: you were not heard of | suspends it; gets it back with its claim untouched and goes on, or finds it claimed by another before where it stands and ends, *fenced*, without saving |
//! | nothing yet, and the state holds it by a claim of an earlier life | awaits it: another worker may take it over, and the checkpoint with it |
//!
//! While a partition is suspended or awaited, nothing is committed: a checkpoint's offsets take effect together, or not at all.
//!
//! Whatever does not work at once (a coordinator that moves, brokers away) is tried again at the next turn; the client
//! waits with the rebalance until then.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use crate::kafka::{LogThrottle, words};
use crate::position::{OwnershipRecord, Ownerships, Positions, Stream};
use crate::source::kafka::connection::ResumeState;
use crate::source::kafka::connection::{fenced, new_partition};
use crate::source::kafka::group::committer::What;
use crate::source::kafka::group::ownership::{Begin, Claims};
use crate::source::kafka::group::rebalance::{Rebalance, is_out};
use crate::source::kafka::partitions::{self, Ownership};
use crate::source::kafka::startup::{self, Entry, Marks};
use crate::source::kafka::{ASKING, Client, KafkaSource, SourceError, Until};
use crate::source::{Assigned, SourceControl};

/// How often the group is asked about what may be another's, or whether others have read all.
const LOOK: Duration = Duration::from_secs(2);

/// This worker, as a member of its group.
#[derive(Debug)]
pub(in crate::source::kafka) struct Member {
    /// What it calls itself in claims.
    name: String,
    /// Whether the group keeps its place while it is away.
    pub(in crate::source::kafka) is_static: bool,
    /// A rebalance that was not carried out yet.
    pub(in crate::source::kafka) waiting: Option<Rebalance>,
    looked: Option<Instant>,
    /// That it is not known whose partitions are, once that lasts.
    reminder: LogThrottle,
    pub(in crate::source::kafka) others_are_done: bool,
}

impl Member {
    pub(in crate::source::kafka) fn new(name: String, is_static: bool) -> Self {
        Self { name, is_static, waiting: None, looked: None, reminder: LogThrottle::default(), others_are_done: false }
    }

    pub(in crate::source::kafka) fn look_is_due(&mut self) -> bool {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if due {
            self.looked = Some(Instant::now());
        }
        due
    }
}

/// What became of a try.
pub(in crate::source::kafka) enum Tried<T> {
    Done(T),
    Later,
}

impl KafkaSource {
    /// Carries out what the coordinator said, or looks for new partitions where there is none.
    pub(in crate::source::kafka) fn carry_out(&mut self, consumer: &Client) -> Result<(), SourceError> {
        let Some(member) = &mut self.member else { return self.look_for_more(consumer) };
        let Some(rebalance) = member.waiting.take().or_else(|| consumer.context().next()) else {
            return self.look_after_unsure(consumer);
        };
        let done = match &rebalance {
            Rebalance::Assigned(ids) => self.gain(consumer, ids)?,
            Rebalance::Revoked(ids) => {
                let indices = ids.iter().filter_map(|id| self.partitions.index(*id));
                let losing: Vec<u32> =
                    indices.filter(|index| self.partitions[*index].is_read()).map(|index| index as u32).collect();
                if losing.is_empty() {
                    self.unassign(consumer, ids);
                } else {
                    self.notices.push_back(SourceControl::Revoking(losing));
                }
                Tried::Done(())
            }
            Rebalance::Lost(ids) => {
                self.suspend(consumer, ids);
                Tried::Done(())
            }
        };
        if let (Tried::Later, Some(member)) = (done, &mut self.member) {
            member.waiting = Some(rebalance);
        }
        Ok(())
    }

    /// Outside of a group: partitions that were added to the topic.
    fn look_for_more(&mut self, consumer: &Client) -> Result<(), SourceError> {
        if self.until == Until::End || self.watermarks.partitions() <= self.partitions.len() {
            return Ok(());
        }
        let (before, mut gained) = (self.notices.len(), Vec::new());
        for id in self.partitions.len()..self.watermarks.partitions() {
            let index = self.partition(id as i32);
            let low = match consumer.fetch_watermarks(&self.config.topic, id as i32, ASKING) {
                Ok((low, _)) => u64::try_from(low).unwrap_or_default(),
                // It is new: nothing of it can be gone.
                Err(_) => 0,
            };
            gained.push(self.begin(index, Entry { offset: low, lost: None }, OwnershipRecord::Standalone));
        }
        self.assign_all(consumer)?;
        self.tell_gained(before, gained);
        Ok(())
    }

    /// Tells what was gained, and of partitions that the trainer does not know yet: behind the `before` notices that were
    /// there already, and ahead of what was lost in them.
    pub(in crate::source::kafka) fn tell_gained(&mut self, before: usize, gained: Vec<Assigned>) {
        if !gained.is_empty() {
            self.notices.insert(before, SourceControl::Assigned(gained));
        }
        let new = self.partitions.iter().skip(self.streams_told);
        let new: Vec<Stream> = new.map(|partition| partition.stream.clone()).collect();
        if !new.is_empty() {
            self.streams_told = self.partitions.len();
            self.notices.insert(before, SourceControl::Streams(new));
        }
    }

    /// The index of partition `id`, which is noted where it is new.
    fn partition(&mut self, id: i32) -> usize {
        self.partitions.index(id).unwrap_or_else(|| {
            let nothing = (Positions::default(), Ownerships::default());
            let known = ResumeState { positions: &nothing.0, ownerships: &nothing.1 };
            let mut partition = new_partition(&self.config.topic, id, known);
            partition.end = (self.until == Until::End).then_some(0);
            self.watermarks.add(id, partition.stream.clone(), 0);
            self.partitions.push(partition);
            self.partitions.len() - 1
        })
    }

    /// What the group knows of all partitions: offset and history.
    pub(in crate::source::kafka) fn group(&mut self, consumer: &Client) -> Tried<Vec<(Option<u64>, Claims)>> {
        let asked = self.partitions.list(&self.config.topic, |_| true);
        match consumer.committed_offsets(asked, ASKING) {
            Err(error) => self.later(&error),
            Ok(committed) => {
                let of = |id| {
                    let element = committed.find_partition(&self.config.topic, id)?;
                    Some((partitions::offset_of(&element), Claims::parse(element.metadata())))
                };
                Tried::Done(self.partitions.iter().map(|partition| of(partition.id).unwrap_or_default()).collect())
            }
        }
    }

    fn later<T>(&mut self, error: &KafkaError) -> Tried<T> {
        self.in_trouble(&words(error));
        Tried::Later
    }

    fn gain(&mut self, consumer: &Client, ids: &[i32]) -> Result<Tried<()>, SourceError> {
        if self.committer.is_busy() && self.take_answer().is_none() {
            // Commits take effect in their order.
            return Ok(Tried::Later);
        }
        let indices: Vec<usize> = ids.iter().map(|id| self.partition(*id)).collect();
        let Tried::Done(group) = self.group(consumer) else { return Ok(Tried::Later) };
        let known = group.iter().any(|(offset, _)| offset.is_some())
            || self.partitions.iter().any(|partition| partition.record.is_some());
        // Of a topic that the group begins with, partitions are no additions to it, whoever is the first to ask.
        let began_with = group.iter().filter_map(|(_, claims)| claims.of()).max();
        let me = self.member.as_ref().map(|member| member.name.clone()).unwrap_or_default();

        let mut plan = Vec::with_capacity(indices.len());
        let mut claims = TopicPartitionList::new();
        for index in indices {
            let partition = &self.partitions[index];
            let (label, own) = (&partition.stream.label, partition.own());
            let marks = match consumer.fetch_watermarks(&self.config.topic, partition.id, ASKING) {
                Ok((low, high)) => Marks::new(partition.id, low, high),
                Err(error) => return Ok(self.later(&error)),
            };
            let (committed, history) = &group[index];
            let begin = history.begin(&me, own, *committed);
            let begin = begin.map_err(|conflict| fenced(label, partition.next, conflict))?;
            let (from, claim, new) = match begin {
                Begin::At { offset, claim, new } => (offset, claim, new),
                Begin::Fresh { claim } => {
                    let known = began_with.map_or(known, |of| partition.id as u32 >= of);
                    (startup::first(self.config.starting_offsets, known, marks), claim, true)
                }
            };
            // Claimed is what lies before a gap too: whoever reads on counts what was lost there.
            let entry = startup::entry(label, from, marks, self.config.on_data_loss)?;
            let of = began_with.unwrap_or(self.partitions.len() as u32);
            let history = if new { history.claimed(&me, claim, from, of) } else { history.clone() };
            if new {
                partitions::add(&mut claims, &self.config.topic, partition.id, from, Some(history.text()));
            }
            plan.push((index, entry, claim, history, marks));
        }
        if claims.count() > 0 {
            self.committer.begin(What::Claims, claims);
            match self.take_answer_within(ASKING) {
                Some((_, Ok(()))) => {}
                Some((_, Err(error))) if error.rdkafka_error_code().is_some_and(is_out) => {
                    // The group has moved on without us, and will say so: until then these are nobody's.
                    self.assign_nothing(consumer, ids);
                    return Ok(Tried::Done(()));
                }
                Some((_, Err(error))) => return Ok(self.later(&error)),
                None => return Ok(Tried::Later),
            }
        }
        let (before, mut gained) = (self.notices.len(), Vec::new());
        for (index, entry, claim, history, marks) in plan {
            let partition = &mut self.partitions[index];
            partition.claims = history;
            partition.verify_if_there(marks.low);
            let goes_on =
                partition.ownership == Ownership::Suspended && partition.next == entry.offset && entry.lost.is_none();
            if goes_on {
                partition.ownership = Ownership::Owned;
                self.watermarks.own(index, true);
                tracing::info!(partition = partition.stream.label, offset = partition.next, "reading again");
            } else {
                gained.push(self.begin(index, entry, OwnershipRecord::Claim(claim)));
            }
        }
        let mut list = TopicPartitionList::new();
        for partition in ids.iter().filter_map(|id| self.partitions.index(*id)).map(|index| &self.partitions[index]) {
            partitions::add(&mut list, &self.config.topic, partition.id, partition.entry(), None);
        }
        if let Err(error) = consumer.incremental_assign(&list) {
            return Err(crate::source::kafka::kafka(&self.brokers, "no assignment", &error));
        }
        let paused = self.partitions.list(&self.config.topic, |partition| partition.is_read() && partition.done);
        if paused.count() > 0 {
            // Only spares the network: what is beyond the end is not delivered.
            let _ = consumer.pause(&paused);
        }
        if self.trouble.take().is_some() {
            tracing::info!("kafka answers again");
        }
        if let Some(member) = &mut self.member {
            member.reminder = LogThrottle::begun();
        }
        self.tell_gained(before, gained);
        Ok(Tried::Done(()))
    }

    fn assign_nothing(&mut self, consumer: &Client, ids: &[i32]) {
        let mut list = TopicPartitionList::new();
        for id in ids {
            let mut entry = list.add_partition(&self.config.topic, *id);
            let _ = entry.set_offset(rdkafka::Offset::End);
        }
        if let Err(error) = consumer.incremental_assign(&list) {
            tracing::debug!(%error, "no assignment");
        }
    }

    fn unassign(&mut self, consumer: &Client, ids: &[i32]) {
        let mut list = TopicPartitionList::new();
        for id in ids {
            list.add_partition(&self.config.topic, *id);
        }
        if let Err(error) = consumer.incremental_unassign(&list) {
            tracing::warn!(cause = words(&error), "partitions were not let go of");
        }
    }

    /// The group took them away without asking.
    fn suspend(&mut self, consumer: &Client, ids: &[i32]) {
        for id in ids {
            let Some(index) = self.partitions.index(*id) else { continue };
            let partition = &mut self.partitions[index];
            if partition.ownership == Ownership::Owned {
                partition.ownership = Ownership::Suspended;
                self.watermarks.own(index, false);
                tracing::warn!(
                    partition = partition.stream.label,
                    offset = partition.next,
                    "lost to the group; waiting to get it back"
                );
            }
        }
        if let Some(member) = &mut self.member {
            member.reminder = LogThrottle::begun();
        }
        self.undecoded.forget(ids);
        self.unassign(consumer, ids);
    }

    /// Finds out whether another worker took over what may be this one's.
    fn look_after_unsure(&mut self, consumer: &Client) -> Result<(), SourceError> {
        let Some(member) = &mut self.member else { return Ok(()) };
        if self.partitions.unsure().is_none() || !member.look_is_due() {
            return Ok(());
        }
        let me = member.name.clone();
        let Tried::Done(group) = self.group(consumer) else { return Ok(()) };
        for (index, (_, claims)) in group.iter().enumerate() {
            let partition = &mut self.partitions[index];
            let Some(own) = partition.own().filter(|_| partition.is_unsure()) else { continue };
            claims.check(&me, own).map_err(|conflict| fenced(&partition.stream.label, own.position, conflict))?;
            let goes_on_elsewhere = claims.newest().is_some_and(|newest| {
                OwnershipRecord::Claim(newest.number) != own.record || newest.until == Some(own.position)
            });
            if goes_on_elsewhere {
                (partition.ownership, partition.record) = (Ownership::NotOwned, Some(OwnershipRecord::Released));
                self.notices.push_back(SourceControl::HandedOver(index as u32));
            } else if let Some(member) = &mut self.member
                && member.reminder.due()
            {
                tracing::warn!(
                    partition = partition.stream.label,
                    "not read by anybody who says so; no offset is committed until some worker of the group has it"
                );
            }
        }
        Ok(())
    }

    /// Lets go of streams in good order: what is durable is committed, and their claims closed there; `false` while the
    /// group has not taken that yet.
    pub(in crate::source::kafka) fn let_go(
        &mut self,
        streams: &[u32],
        durable: &Positions,
    ) -> Result<bool, SourceError> {
        let Some(consumer) = self.consumer.clone() else { return Ok(true) };
        if self.committer.is_busy() {
            match self.take_answer() {
                None => return Ok(false),
                Some((What::Closing, Ok(()))) => {
                    self.commits.confirm_external(durable);
                    self.forget(&consumer, streams, durable);
                    return Ok(true);
                }
                Some((What::Closing, Err(error))) if error.rdkafka_error_code().is_some_and(is_out) => {
                    let why = "the group did not take its last offset, which it asked for";
                    let partition = &self.partitions[streams[0] as usize];
                    return Err(SourceError::Unsure { stream: partition.stream.label.clone(), why });
                }
                Some(_) => {}
            }
        }
        if let Some(unsure) = self.partitions.unsure() {
            // Whether the checkpoint is ours is not known: the next start finds out.
            let why = "the group asks for partitions before it is known whose this one is";
            return Err(SourceError::Unsure { stream: unsure.stream.label.clone(), why });
        }
        if self.committer.rests() {
            return Ok(false);
        }
        let list = self.to_commit(durable, streams);
        if list.count() == 0 {
            self.forget(&consumer, streams, durable);
            return Ok(true);
        }
        self.committer.begin(What::Closing, list);
        Ok(false)
    }

    /// What was let go of is another's to read.
    fn forget(&mut self, consumer: &Client, streams: &[u32], durable: &Positions) {
        let ids: Vec<i32> = streams.iter().map(|index| self.partitions[*index as usize].id).collect();
        for index in streams {
            let partition = &mut self.partitions[*index as usize];
            partition.ownership = Ownership::NotOwned;
            if let Some(next) = durable.next(&partition.stream.name) {
                (partition.next, partition.record) = (next, Some(OwnershipRecord::Released));
                self.notices.push_back(SourceControl::HandedOver(*index));
            }
            partition.verify = None;
            tracing::info!(partition = partition.stream.label, offset = partition.next, "let go");
            self.watermarks.own(*index as usize, false);
        }
        self.pending.retain(|record| !streams.contains(&record.stream));
        self.undecoded.forget(&ids);
        self.unassign(consumer, &ids);
    }
}
