//! Membership of a group: partitions come and go, and each record ends in exactly one worker's durable state.
//!
//! | the coordinator says | this worker |
//! | --- | --- |
//! | assigned | asks the group for its history ([`ownership`](super::ownership)), claims the partition, then reads it |
//! | revoked, once released | delivers what it has read of the partition, waits until that is durable, commits with its claim closed, releases it |
//! | lost: the worker was not heard of | suspends the partition; gets it back with its claim untouched and goes on, or finds it claimed by another worker before where it stands and ends, *fenced*, without saving |
//! | nothing yet, and the state holds it by a claim of an earlier life | leaves it unconfirmed: another worker may take it over, and the checkpoint with it |
//!
//! Where workers share a model, the log of their deltas says what is part of it ([`super::shared_starts`]): there are no claims, what is lost
//! is handed over at once, and which of two workers that read a record counts is decided by the log.
//!
//! While a partition is suspended or unconfirmed, nothing is committed: a checkpoint's offsets take effect together, or not
//! at all.
//!
//! Whatever does not work at once (a coordinator that moves, brokers away) is [`Poll::Pending`], and tried again at the
//! next turn; the client waits with the rebalance until then.

use std::task::Poll;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::committer::{CommitKind, Committer};
use super::ownership::{Begin, Claims, Conflict};
use super::rebalance::Rebalance;
use super::shared_starts::SharedStarts;
use crate::kafka::{LogThrottle, describe};
use crate::position::{OwnershipRecord, Positions};
use crate::source::kafka::ResumeState;
use crate::source::kafka::client::{REQUEST_TIMEOUT, TopicClient};
use crate::source::kafka::errors::{KafkaSourceError, is_fenced};
use crate::source::kafka::partitions::{self, Partition, Partitions};
use crate::source::kafka::reader::Reader;
use crate::source::kafka::startup::{self, StartOffset, Watermarks};
use crate::source::kafka::topic_partition::TopicPartition;

/// Time between two questions to the group about partitions in doubt, or about what other workers have read.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);

/// The parts of the source that a change of the membership concerns.
pub(in crate::source::kafka) struct Parts<'a> {
    pub(in crate::source::kafka) client: &'a mut TopicClient,
    pub(in crate::source::kafka) partitions: &'a mut Partitions,
    pub(in crate::source::kafka) reader: &'a mut Reader,
    pub(in crate::source::kafka) committer: &'a mut Committer,
}

/// This worker, as a member of its group.
#[derive(Debug)]
pub(in crate::source::kafka) struct Membership {
    /// The worker's name in claims.
    name: String,
    /// The name in its claims from before it had that one.
    formerly: Option<String>,
    /// Whether the worker's state holds nothing of any of the topics, and no partition was begun yet.
    is_new: bool,
    /// Whether the group keeps the member's place while it is away.
    is_static: bool,
    /// A rebalance that was begun and not carried out yet.
    unfinished: Option<Rebalance>,
    looked_up: Option<Instant>,
    /// Log of partitions that stay in doubt.
    doubt_log: LogThrottle,
    others_are_done: bool,
    /// Present where the workers of the group share a model.
    shared: Option<SharedStarts>,
    /// The end of the log of deltas that is waited for, before partitions are begun.
    awaited: Option<u64>,
}

/// What the group knows of a partition.
#[derive(Debug, Default)]
struct GroupView {
    committed: Option<u64>,
    history: Claims,
}

/// What is known of a topic before partitions of it are begun.
#[derive(Debug, Clone, Copy)]
struct TopicView {
    /// Whether anything of it was ever read, by this worker or by the group.
    was_read: bool,
    /// The number of partitions at the group's first claim: those are not treated as newly added, whichever worker asks
    /// first.
    n_at_first_claim: Option<u32>,
}

impl TopicView {
    /// What the `group` and the worker's state know of the topic at the place `topic`.
    fn of(topic: usize, group: &[GroupView], partitions: &Partitions) -> Self {
        let its = || partitions.iter().zip(group).filter(|(partition, _)| partition.topic() == topic);
        Self {
            was_read: its().any(|(partition, view)| view.committed.is_some() || partition.local_claim().is_some()),
            n_at_first_claim: its().filter_map(|(_, view)| view.history.n_partitions()).max(),
        }
    }
}

/// A partition that is about to be begun.
struct Begun {
    index: usize,
    start: StartOffset,
    /// Number of this worker's claim.
    claim: u64,
    /// The group's history with that claim.
    history: Claims,
    /// The offset at which the claim has to be committed first, where the group does not know it yet.
    new_claim_at: Option<u64>,
    watermarks: Watermarks,
    /// Records of the partition that lie before the start, and in nothing that this worker has.
    left_out: Option<LeftOut>,
}

/// Records of a partition that a new worker does not read.
struct LeftOut {
    partition: String,
    /// Where the group stands.
    offset: u64,
    records: u64,
    /// The worker of the group that read them; `None` where the offset is no worker's.
    by: Option<String>,
}

impl LeftOut {
    /// What a worker that begins at `offset` leaves out of a partition whose oldest offset is `low`, where the group stands
    /// there and the worker's state holds nothing of it.
    fn of(partition: &Partition, view: &GroupView, offset: u64, low: u64) -> Option<Self> {
        let GroupView { committed, history } = view;
        let is_left_out = committed.is_some() && partition.local_claim().is_none() && offset > low;
        is_left_out.then(|| Self {
            partition: partition.label().to_owned(),
            offset,
            records: offset - low,
            by: history.newest().map(|newest| newest.by.clone()),
        })
    }
}

impl Membership {
    /// The membership of the worker of a state, which keeps its place in the group while it is away where it
    /// `is_static`.
    pub(in crate::source::kafka) fn new(state: ResumeState<'_>, topics: &[&str], is_static: bool) -> Self {
        Self {
            name: state.ownerships.worker.clone(),
            formerly: state.ownerships.formerly.clone(),
            is_new: !topics.iter().any(|topic| startup::knows_topic(topic, state.positions)),
            is_static,
            unfinished: None,
            looked_up: None,
            doubt_log: LogThrottle::begun(),
            others_are_done: false,
            shared: None,
            awaited: None,
        }
    }

    /// Begins partitions by the log of deltas of a shared model.
    #[must_use]
    pub(in crate::source::kafka) fn shared(self, shared: Option<SharedStarts>) -> Self {
        Self { shared, ..self }
    }

    /// Whether the group gives this worker's place to others as soon as the source is dropped.
    pub(in crate::source::kafka) fn leaves_when_dropped(&self) -> bool {
        !self.is_static
    }

    /// Whether a rebalance was begun and not carried out yet.
    pub(in crate::source::kafka) fn is_rebalancing(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Carries out the oldest rebalance; without one, looks after partitions in doubt.
    ///
    /// # Errors
    /// The state does not fit the group's history, or a position is lost.
    pub(in crate::source::kafka) fn turn(&mut self, parts: &mut Parts<'_>) -> Result<(), KafkaSourceError> {
        let next = self.unfinished.take().or_else(|| parts.client.callbacks().next_rebalance());
        let Some(rebalance) = next else { return self.resolve_doubts(parts) };
        match &rebalance {
            Rebalance::Assigned(names) => {
                if self.begin(names, parts)?.is_pending() {
                    self.unfinished = Some(rebalance);
                }
            }
            Rebalance::Revoked(names) => {
                if !parts.partitions.revoke(names) {
                    parts.client.unassign(names);
                }
            }
            Rebalance::Lost(names) => {
                match self.shared {
                    Some(_) => parts.partitions.give_up(names),
                    None => parts.partitions.suspend(names),
                }
                self.doubt_log = LogThrottle::begun();
                parts.reader.forget_backlog(names);
                parts.client.unassign(names);
            }
        }
        Ok(())
    }

    /// Claims and begins partitions that were assigned.
    fn begin(&mut self, names: &[TopicPartition], parts: &mut Parts<'_>) -> Result<Poll<()>, KafkaSourceError> {
        let Parts { client, partitions, committer, .. } = parts;
        if committer.is_busy() && committer.poll_answer().is_none() {
            // Commits take effect in their order.
            return Ok(Poll::Pending);
        }
        // A worker with other topics may have shared them out; what this one does not read, it is not given to read.
        let place = |name: &TopicPartition| Some((partitions.topic(&name.topic)?, name.id));
        let places: Vec<(usize, i32)> = names.iter().filter_map(place).collect();
        let indices: Vec<usize> = places.into_iter().map(|(topic, id)| partitions.index_or_add(topic, id)).collect();
        let begun = match &self.shared {
            None => match look_up(client, partitions) {
                Poll::Ready(group) => self.plan(&indices, &group, client, partitions)?,
                Poll::Pending => Poll::Pending,
            },
            Some(shared) => plan_shared(shared, &mut self.awaited, &indices, client, partitions)?,
        };
        let Poll::Ready(begun) = begun else { return Ok(Poll::Pending) };
        let mut claims = TopicPartitionList::new();
        for Begun { index, new_claim_at, history, .. } in &begun {
            if let Some(offset) = new_claim_at {
                let name = partitions[*index].name();
                partitions::add_to_list(&mut claims, name, *offset, Some(history.to_metadata()));
            }
        }
        if claims.count() > 0 {
            committer.send(CommitKind::Claims, claims);
            match committer.wait_for_answer(REQUEST_TIMEOUT) {
                Some((_, Ok(()))) => {}
                Some((_, Err(error))) if error.rdkafka_error_code().is_some_and(is_fenced) => {
                    // The group has moved on without this worker, and will say so.
                    client.assign_without_fetching(names);
                    return Ok(Poll::Ready(()));
                }
                Some((_, Err(error))) => {
                    client.note_trouble(&describe(&error));
                    return Ok(Poll::Pending);
                }
                None => return Ok(Poll::Pending),
            }
        }
        if indices.is_empty() {
            partitions.announce_none();
        } else if std::mem::take(&mut self.is_new) {
            warn_of_left_out(&client.config.group, begun.iter().filter_map(|begun| begun.left_out.as_ref()));
        }
        let before = partitions.n_controls();
        let mut assigned = Vec::new();
        for Begun { index, start, claim, history, watermarks, new_claim_at: _, left_out: _ } in begun {
            match self.shared {
                Some(_) => assigned.push(partitions.begin(index, start, OwnershipRecord::Standalone)),
                None => assigned.extend(partitions.begin_claimed(index, start, (history, claim), watermarks.low)),
            }
        }
        client.assign_more(&partitions.assignment(|partition| names.contains(partition.name())))?;
        client.pause(&partitions.list(|partition| partition.is_read() && !partition.is_unfinished()));
        client.note_answer();
        self.doubt_log = LogThrottle::begun();
        partitions.announce(before, assigned);
        Ok(Poll::Ready(()))
    }

    /// Decides where each partition is begun, and under which claim.
    fn plan(
        &self,
        indices: &[usize],
        group: &[GroupView],
        client: &mut TopicClient,
        partitions: &Partitions,
    ) -> Result<Poll<Vec<Begun>>, KafkaSourceError> {
        let topics: Vec<TopicView> =
            (0..partitions.n_topics()).map(|topic| TopicView::of(topic, group, partitions)).collect();
        let mut begun = Vec::with_capacity(indices.len());
        for &index in indices {
            let partition = &partitions[index];
            let TopicView { was_read, n_at_first_claim } = topics[partition.topic()];
            let Poll::Ready(watermarks) = watermarks(client, partition) else { return Ok(Poll::Pending) };
            let GroupView { committed, history } = &group[index];
            let begin = history.begin(&self.name, partition.local_claim(), *committed);
            let begin = begin.map_err(|conflict| conflict_error(partition.label(), partition.next(), conflict))?;
            let (from, claim, is_new) = match begin {
                Begin::At { offset, claim, new } => (offset, claim, new),
                Begin::Fresh { claim } => {
                    let is_added = n_at_first_claim.map_or(was_read, |n| partition.name().id as u32 >= n);
                    (startup::first_offset(client.config.starting_offsets, is_added, watermarks), claim, true)
                }
            };
            if let Some(committed) =
                committed.filter(|committed| from < *committed && partition.local_claim().is_some())
            {
                tracing::warn!(
                    partition = partition.label(),
                    from,
                    up_to = committed,
                    "going back: this worker's newest state is lost or damaged, and nobody else has read on: it reads again"
                );
            }
            // The claim begins before a gap, so that the next owner counts the lost records.
            let start = startup::resume_offset(partition.label(), from, watermarks, client.config.on_data_loss)?;
            let n_partitions = n_at_first_claim.unwrap_or(partitions.n_of(partition.topic()) as u32);
            let newest = history.newest();
            let was = self.formerly.as_deref().filter(|was| newest.is_some_and(|newest| newest.by == *was));
            let left_out = LeftOut::of(partition, &group[index], from, watermarks.low);
            let history = match is_new {
                true => history.claimed(&self.name, claim, from, n_partitions).renamed_from(was),
                false => history.clone(),
            };
            let new_claim_at = is_new.then_some(from);
            begun.push(Begun { index, start, claim, history, new_claim_at, watermarks, left_out });
        }
        Ok(Poll::Ready(begun))
    }

    /// Finds out whether another worker took over a partition in doubt.
    fn resolve_doubts(&mut self, parts: &mut Parts<'_>) -> Result<(), KafkaSourceError> {
        let Parts { client, partitions, .. } = parts;
        if partitions.in_doubt().is_none() || !self.is_look_up_due() {
            return Ok(());
        }
        let Poll::Ready(group) = look_up(client, partitions) else { return Ok(()) };
        for (index, GroupView { history, .. }) in group.iter().enumerate() {
            let partition = &partitions[index];
            let Some(local) = partition.local_claim().filter(|_| partition.is_in_doubt()) else { continue };
            history
                .check(&self.name, local)
                .map_err(|conflict| conflict_error(partition.label(), local.position, conflict))?;
            let goes_on_elsewhere = history.newest().is_some_and(|newest| {
                OwnershipRecord::Claim(newest.number) != local.record || newest.until == Some(local.position)
            });
            if goes_on_elsewhere {
                partitions.hand_over(index);
            } else if self.doubt_log.due() {
                tracing::warn!(
                    partition = partition.label(),
                    "not read by anybody who says so; no offset is committed until some worker of the group has it"
                );
            }
        }
        Ok(())
    }

    /// Whether the other workers have read all partitions to their declared ends.
    pub(in crate::source::kafka) fn others_are_done(
        &mut self,
        client: &mut TopicClient,
        partitions: &Partitions,
    ) -> bool {
        if !self.others_are_done && self.is_look_up_due() {
            let Poll::Ready(group) = look_up(client, partitions) else { return false };
            // What this worker read itself, and its state does not hold, is its own to read again.
            let is_own = |partition: &Partition, view: &GroupView| {
                partition.local_claim().is_none() && view.history.newest().is_some_and(|newest| newest.by == self.name)
            };
            self.others_are_done = partitions.iter().zip(&group).all(|(partition, view)| {
                partition.declared_end() <= view.committed.unwrap_or(0) && !is_own(partition, view)
            });
            if self.others_are_done && std::mem::take(&mut self.is_new) {
                let all: Vec<LeftOut> = partitions
                    .iter()
                    .zip(&group)
                    .filter_map(|(partition, view)| {
                        let low = client.watermarks(partition.name()).ok()?.low;
                        LeftOut::of(partition, view, view.committed?, low)
                    })
                    .collect();
                warn_of_left_out(&client.config.group, &all);
            }
        }
        self.others_are_done
    }

    fn is_look_up_due(&mut self) -> bool {
        let is_due = self.looked_up.is_none_or(|looked_up| looked_up.elapsed() >= LOOK_UP_EVERY);
        if is_due {
            self.looked_up = Some(Instant::now());
        }
        is_due
    }
}

/// Decides where each partition is begun by the log of deltas, once what it holds now is part of the state.
fn plan_shared(
    shared: &SharedStarts,
    awaited: &mut Option<u64>,
    indices: &[usize],
    client: &mut TopicClient,
    partitions: &Partitions,
) -> Result<Poll<Vec<Begun>>, KafkaSourceError> {
    let end = match *awaited {
        Some(end) => end,
        None => match shared.end(client) {
            Poll::Ready(end) => *awaited.insert(end),
            Poll::Pending => return Ok(Poll::Pending),
        },
    };
    if shared.view.next() < end {
        return Ok(Poll::Pending);
    }
    let mut begun = Vec::with_capacity(indices.len());
    for &index in indices {
        let partition = &partitions[index];
        let Poll::Ready(watermarks) = watermarks(client, partition) else { return Ok(Poll::Pending) };
        let known = partition.local_claim().map(|local| local.position);
        let from = match shared.view.covered(&partition.stream().name) {
            Some(covered) => shared.first_read(covered, known, watermarks.low),
            None => known.unwrap_or_else(|| {
                startup::first_offset(client.config.starting_offsets, partitions.is_added(index), watermarks)
            }),
        };
        let start = startup::resume_offset(partition.label(), from, watermarks, client.config.on_data_loss)?;
        begun.push(Begun {
            index,
            start,
            claim: 0,
            history: Claims::default(),
            new_claim_at: None,
            watermarks,
            left_out: None,
        });
    }
    *awaited = None;
    Ok(Poll::Ready(begun))
}

/// Says which records a worker with an empty model does not read, since the group stands behind them.
fn warn_of_left_out<'a>(group: &str, left_out: impl IntoIterator<Item = &'a LeftOut>) {
    let left_out: Vec<&LeftOut> = left_out.into_iter().collect();
    let Some(LeftOut { partition, offset, by, .. }) = left_out.first() else { return };
    let whose = match by {
        Some(by) => format!("worker '{by}' read them"),
        None => "another program committed that, or a person".to_owned(),
    };
    let records: u64 = left_out.iter().map(|left_out| left_out.records).sum();
    tracing::warn!(
        "the model is empty, but the group '{group}' stands at {offset} of {partition} ({whose}): nothing before that is read, \
         {records} records in all; another kafka.group reads from kafka.starting_offsets"
    );
}

/// Releases revoked streams: commits their durable positions with the claims closed there. Pending while the group has not
/// confirmed that.
///
/// # Errors
/// The group refuses the commit, or it is not known which worker owns a partition of the same checkpoint.
pub(in crate::source::kafka) fn release(
    streams: &[u32],
    durable: &Positions,
    parts: &mut Parts<'_>,
) -> Result<Poll<()>, KafkaSourceError> {
    let Parts { client, partitions, reader, committer } = parts;
    let mut is_confirmed = false;
    if committer.is_busy() {
        match committer.poll_answer() {
            None => return Ok(Poll::Pending),
            Some((CommitKind::Closing, Ok(()))) => {
                committer.confirm_closing(durable);
                is_confirmed = true;
            }
            Some((CommitKind::Closing, Err(error))) if error.rdkafka_error_code().is_some_and(is_fenced) => {
                let why = "the group did not take its last offset, which it asked for";
                let stream = partitions[streams[0] as usize].label().to_owned();
                return Err(KafkaSourceError::OwnershipUnknown { stream, why });
            }
            Some(_) => {}
        }
    }
    if !is_confirmed {
        if let Some(partition) = partitions.in_doubt() {
            // Whether the checkpoint is this worker's is not known: the next start finds out.
            let why = "the group asks for partitions before it is known whose this one is";
            return Err(KafkaSourceError::OwnershipUnknown { stream: partition.label().to_owned(), why });
        }
        if committer.is_backing_off() {
            return Ok(Poll::Pending);
        }
        let list = partitions.commit_list(durable, streams, committer.tracker().noted_cuts());
        if list.count() > 0 {
            committer.send(CommitKind::Closing, list);
            return Ok(Poll::Pending);
        }
    }
    let names = partitions.release(streams, durable);
    reader.forget(&names, partitions);
    client.unassign(&names);
    Ok(Poll::Ready(()))
}

/// What a partition holds; pending while the brokers do not say.
fn watermarks(client: &mut TopicClient, partition: &Partition) -> Poll<Watermarks> {
    match client.watermarks(partition.name()) {
        Ok(watermarks) => Poll::Ready(watermarks),
        Err(error) => {
            client.note_trouble(&describe(&error));
            Poll::Pending
        }
    }
}

/// What the group knows of all partitions, by their index.
fn look_up(client: &mut TopicClient, partitions: &Partitions) -> Poll<Vec<GroupView>> {
    let asked = partitions.list(|_| true);
    match client.consumer.committed_offsets(asked, REQUEST_TIMEOUT) {
        Err(error) => {
            client.note_trouble(&describe(&error));
            Poll::Pending
        }
        Ok(committed) => {
            let view = |partition: &Partition| {
                let element = partition.name().find_in(&committed)?;
                let committed = partitions::offset_of(&element);
                Some(GroupView { committed, history: Claims::parse(element.metadata()) })
            };
            Poll::Ready(partitions.iter().map(|partition| view(partition).unwrap_or_default()).collect())
        }
    }
}

/// The error for a state that does not fit the group's history of the stream called `label`.
pub(in crate::source::kafka) fn conflict_error(label: &str, position: u64, conflict: Conflict) -> KafkaSourceError {
    match conflict {
        Conflict::Overtaken { from } => KafkaSourceError::Fenced { stream: label.to_owned(), from, position },
        Conflict::Short { from } => KafkaSourceError::HistoryMismatch {
            stream: label.to_owned(),
            position,
            why: format!(
                "another worker of the group goes on at {from}, so offsets {position} to {from} are in nobody's state: only a \
                 newer checkpoint of this worker, which is lost or damaged, holds them; bring that one back from a copy, or \
                 begin anew with an empty checkpoint.dir"
            ),
        },
        Conflict::Forgotten => KafkaSourceError::HistoryMismatch {
            stream: label.to_owned(),
            position,
            why: "the group's offsets were deleted or set by hand, or so many workers have read it since that nobody knows \
                  whether this state is its own; begin anew with an empty checkpoint.dir"
                .to_owned(),
        },
    }
}
