//! Receiving: what comes out of the log of deltas, judged by the ledger and made part of the state.
//!
//! | a delta that | is |
//! | --- | --- |
//! | counts, and this process has sent | part of the state already: entered |
//! | counts, of another worker, or of this one before it was started again | entered and merged; where this worker has read records that it covers, this worker was overtaken |
//! | was entered before | passed over; it cannot be this process's own |
//! | is void | passed over; where it is this process's own, this worker was overtaken |
//!
//! A worker that was overtaken must not save what it has learnt: the error says so, and the next start goes on from the newest
//! checkpoint and the log.

use std::collections::BTreeSet;

use compact_str::CompactString;

use crate::context::Batch;
use crate::event::Record;
use crate::share::{
    Delta, DeltaConflict, DeltaVerdict, MovePrecision, ReceivedRecord, ShareError, SharedProgress, SourceSpan,
};
use crate::trainer::Trainer;
use crate::trainer::state::State;

/// Records that are read again between two looks at what histories are to be kept.
const REREAD_BATCH: usize = 256;

/// What was received in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeCounts {
    /// Deltas of others that were merged.
    pub merged: u64,
    /// Their events.
    pub events: u64,
    /// Deltas of others that are void.
    pub void: Vec<VoidDelta>,
    /// Deltas of this process that were found to count.
    pub confirmed: u64,
}

/// A delta of another worker that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidDelta {
    /// The worker.
    pub worker: CompactString,
    /// The delta's number among the worker's.
    pub sequence: u64,
    /// Why.
    pub conflict: DeltaConflict,
}

/// Records that are read again for the pasts of their users alone.
#[derive(Debug, Default)]
pub(in crate::trainer) struct RereadBuffer {
    batch: Batch,
    /// Streams of which others have read something that is not read again here.
    others: BTreeSet<String>,
}

impl Trainer {
    /// Shares the state from now on by the log that [`SharedProgress`] in it tells of, as the process with the number `incarnation`, whose
    /// configuration has the number `configuration`.
    ///
    /// # Panics
    /// Where the state tells of no log.
    pub fn join(&mut self, incarnation: u64, configuration: u64, precision: MovePrecision) {
        let worker = self.state.sources.ownerships.worker.clone();
        self.share(&worker, precision, 1.0);
        let sequence = self.shared().ledger.next_sequence(&worker);
        let recorder = self.recorder.as_mut().expect("it was just made");
        (recorder.incarnation, recorder.configuration, recorder.sequence) = (incarnation, configuration, sequence);
    }

    fn shared(&mut self) -> &mut SharedProgress {
        self.state.sources.shared.as_mut().expect("the state tells of a log")
    }

    /// Makes what was received of the log part of the state.
    ///
    /// # Errors
    /// This worker was overtaken.
    ///
    /// # Panics
    /// Where the state is not shared by a log.
    pub fn receive(&mut self, received: impl IntoIterator<Item = ReceivedRecord>) -> Result<MergeCounts, ShareError> {
        let (mut counts, mut others) = (MergeCounts::default(), Vec::new());
        for ReceivedRecord { delta, resume_at, .. } in received {
            if let Some(delta) = delta
                && self.enter(&delta, &mut counts)?
            {
                counts.merged += 1;
                counts.events += delta.events.len() as u64;
                others.push(delta);
            }
            self.shared().ledger.next = resume_at;
        }
        if !others.is_empty() {
            let deltas: Vec<&Delta> = others.iter().map(|delta| &**delta).collect();
            self.merge(&deltas);
        }
        Ok(counts)
    }

    /// Enters `delta` into the ledger where it counts; gives whether it is to be merged.
    fn enter(&mut self, delta: &Delta, counts: &mut MergeCounts) -> Result<bool, ShareError> {
        let recorder = self.recorder.as_ref().expect("the state is shared");
        let has_name = recorder.worker == delta.worker;
        let is_own = has_name && recorder.incarnation == delta.incarnation;
        let has_unconfirmed = recorder.unconfirmed > 0;
        let shared = self.shared();
        let (topic, expected) = (shared.topic.clone(), shared.ledger.next_sequence(&delta.worker));
        let overtaken =
            |conflict| ShareError::Overtaken { worker: delta.worker.to_string(), topic: topic.clone(), conflict };
        match shared.ledger.judge(delta) {
            DeltaVerdict::Known if is_own => {
                Err(overtaken(DeltaConflict::Sequence { found: delta.sequence, expected }))
            }
            DeltaVerdict::Void(conflict) if is_own => Err(overtaken(conflict)),
            DeltaVerdict::Known => Ok(false),
            DeltaVerdict::Void(conflict) => {
                let (worker, sequence) = (delta.worker.clone(), delta.sequence);
                counts.void.push(VoidDelta { worker, sequence, conflict });
                Ok(false)
            }
            DeltaVerdict::Counts if is_own => {
                shared.ledger.enter(delta);
                self.recorder.as_mut().expect("the state is shared").unconfirmed -= 1;
                counts.confirmed += 1;
                Ok(false)
            }
            DeltaVerdict::Counts if has_name && has_unconfirmed => {
                Err(ShareError::Impostor { worker: delta.worker.to_string() })
            }
            DeltaVerdict::Counts => {
                if let Some(SourceSpan { stream, from, .. }) =
                    delta.sources.iter().find(|span| self.has_unsent(&span.stream))
                {
                    let (stream, from, by) = (stream.clone(), *from, delta.worker.to_string());
                    return Err(ShareError::TakenOver { stream, from, by, topic });
                }
                self.shared().ledger.enter(delta);
                if has_name {
                    // What was on its way when the process before this one died.
                    self.recorder.as_mut().expect("the state is shared").sequence = delta.sequence + 1;
                }
                Ok(true)
            }
        }
    }

    /// Whether records of `stream` were read that were not sent.
    fn has_unsent(&self, stream: &str) -> bool {
        let is_pending =
            self.streams.iter().zip(&self.pending.next).any(|(known, next)| known.name == stream && next.is_some());
        let sent = self.recorder.as_ref().and_then(|recorder| recorder.positions.next(stream));
        is_pending || self.state.sources.positions.next(stream) > sent
    }

    /// Whether everything that is part of the state was sent, and is known to count.
    pub fn is_sent(&self) -> bool {
        let Some(recorder) = &self.recorder else { return true };
        let progress = &self.state.progress;
        recorder.unconfirmed == 0
            && recorder.events.is_empty()
            && recorder.evicted.is_empty()
            && recorder.positives == progress.events.positives()
            && recorder.positions == self.state.sources.positions
    }

    /// Other workers whose deltas are part of the state.
    pub fn others_known(&self) -> usize {
        let Some(recorder) = &self.recorder else { return 0 };
        let shared = self.state.sources.shared.as_ref();
        shared.map_or(0, |shared| shared.ledger.workers().filter(|(name, _)| *name != recorder.worker).count())
    }

    /// Takes note that this worker reads `stream` from offset `next` on: before what the shared model holds of it, records are
    /// read again for the pasts of their users.
    ///
    /// # Errors
    /// The shared model lacks records before `next`.
    ///
    /// # Panics
    /// Where the state is not shared by a log.
    pub fn begin_shared(&mut self, stream: &str, next: u64) -> Result<(), ShareError> {
        let Self { state: State { sources, .. }, recorder: Some(recorder), reread, .. } = self else {
            panic!("the state is not shared")
        };
        let shared = sources.shared.as_mut().expect("the state tells of a log");
        match sources.positions.next(stream) {
            None => {
                for positions in [&mut sources.positions, &mut recorder.positions, &mut shared.histories] {
                    positions.advance(stream, next);
                }
            }
            Some(covered) if next > covered => {
                return Err(ShareError::Gap { stream: stream.to_owned(), next, covered });
            }
            Some(_) if shared.histories.next(stream).is_none_or(|known| known < next) => {
                shared.histories.advance(stream, next);
                reread.others.insert(stream.to_owned());
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether `record` is part of the shared model already, and is read again for the past of its user at most.
    pub fn is_read_again(&self, record: &Record) -> bool {
        self.recorder.is_some()
            && self
                .state
                .sources
                .positions
                .next(&self.streams[record.stream as usize].name)
                .is_some_and(|position| record.offset < position)
    }

    /// Whether `record`, which is read again, was read by this worker before, as far as it knows.
    pub fn had_read(&self, record: &Record) -> bool {
        let stream = &self.streams[record.stream as usize].name;
        let shared = self.state.sources.shared.as_ref();
        let known = shared.and_then(|shared| shared.histories.next(stream));
        !self.reread.others.contains(stream) && known.is_some_and(|known| known <= record.offset)
    }

    /// Takes a record that is part of the shared model already into the past of its user, where it is not yet. Users get a row
    /// as long as there is room; hidden states of a recurrent encoder begin anew with the first event that is trained on.
    pub fn read_again(&mut self, record: Record) {
        let Self { state, streams, settings, reread, .. } = self;
        let stream = &streams[record.stream as usize].name;
        let State { sources, items, .. } = state;
        let shared = sources.shared.as_mut().expect("the state tells of a log");
        if shared.histories.next(stream).is_some_and(|known| record.offset < known) {
            return;
        }
        shared.histories.advance(stream, record.offset + 1);
        let Ok(event) = record.outcome else { return };
        let is_positive = !settings.is_exposure(&event.kind) && settings.is_positive(&event.kind);
        let Some(item) = items.ids.get(&event.item).filter(|_| is_positive) else { return };
        let Some(user) = state.user_where_there_is_room(&event.user, 0) else { return };
        let now = state.progress.group_positives();
        state.users.lifecycle.touch(user, now);
        state.users.histories.capture(&mut reread.batch, user, item, event.timestamp);
        if reread.batch.len() >= REREAD_BATCH {
            state.users.histories.trim(&reread.batch);
            reread.batch.clear(0);
        }
    }
}
