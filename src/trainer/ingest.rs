//! Records on their way in: which are trained on, and when they, and their positions, become part of the state.

use super::{MISSED, OTHERS_PER_EVENT, StepReport, Trainer, is_chosen};
use crate::event::{EventCounts, Interaction, Record};
use crate::position::Stream;
use crate::snapshot::audit::{Fate, Stretch};
use crate::trainer::pending::{PendingBatch, PendingEvent};
use crate::trainer::state::State;

impl Trainer {
    /// Names the streams that records refer to from now on, by their index; more may be added at any time.
    ///
    /// # Panics
    /// Where streams that are known are left out.
    pub fn follow(&mut self, streams: &[Stream]) {
        assert!(streams.len() >= self.streams.len(), "streams are only added");
        self.streams = streams.to_vec();
        self.waiting.next.resize(streams.len(), None);
    }

    /// Takes note of records that are gone for good.
    ///
    /// # Panics
    /// If the stream was not named.
    pub fn lose(&mut self, stream: u32, offsets: std::ops::Range<u64>) {
        self.waiting.counts.lost += offsets.end - offsets.start;
        if self.state.audit.is_some() {
            let stretch = Stretch { from: offsets.start, until: offsets.end, fate: Fate::Lost };
            self.waiting.fates.push((stream, stretch));
        }
        self.waiting.next[stream as usize] = Some((offsets.end, None));
        if self.waiting.is_empty() {
            self.settle();
        }
    }

    /// Takes a record; a step where it fills a batch.
    ///
    /// # Panics
    /// If the record's stream was not named.
    pub fn take(&mut self, record: Record) -> Option<StepReport> {
        let event = match record.outcome {
            Ok(event) if self.exposure_kinds.iter().any(|kind| *kind == event.kind) => {
                self.waiting.shown.push((self.waiting.events.len(), event));
                None
            }
            Ok(event) if self.kinds.is_empty() || self.kinds.iter().any(|kind| *kind == event.kind) => Some(Ok(event)),
            Ok(_) => None,
            Err(rejection) => Some(Err(rejection.reason)),
        };
        let is_fault = matches!(&event, Some(Err(reason)) if reason.is_fault());
        let cut = match (&event, self.waiting.events.first()) {
            (Some(Ok(event)), Some(first)) if self.batch_span_ms > 0 => {
                event.timestamp.saturating_sub(first.event.timestamp) >= self.batch_span_ms as i64
            }
            _ => false,
        };
        // A batch that ends before this event ends before its position too.
        let early = cut.then(|| self.step());
        let share = &mut self.waiting.rejected_share;
        *share += (f64::from(u8::from(is_fault)) - *share) / self.rejections_window as f64;
        self.waiting.counts.read += 1;
        let fate = match event {
            None => {
                self.waiting.counts.ignored += 1;
                Fate::Skipped
            }
            Some(Ok(event)) => self.admit(event),
            Some(Err(reason)) => {
                self.waiting.counts.rejected.add(reason, 1);
                if reason.is_fault() { Fate::Rejected } else { Fate::Skipped }
            }
        };
        self.waiting.next[record.stream as usize] = Some((record.offset + 1, record.broker_timestamp));
        if self.state.audit.is_some() {
            let stretch = Stretch { from: record.offset, until: record.offset + 1, fate };
            self.waiting.fates.push((record.stream, stretch));
        }
        let PendingBatch { events, shown, deferred, .. } = &self.waiting;
        let others = shown.len().max(deferred.len());
        if events.len() == self.batch_size || others >= self.batch_size * OTHERS_PER_EVENT {
            return Some(self.step());
        }
        if self.waiting.is_empty() {
            // No batch is begun: what is not trained on need not wait for one.
            self.pass_over(record.stream as usize);
        }
        early
    }

    /// Takes an event into the batch, where its item has a row or may be given one. Of its user that is not asked: what the
    /// item gains by it can be learnt all the same.
    fn admit(&mut self, event: Interaction) -> Fate {
        let Self { state: State { tenure, items, users, .. }, waiting, .. } = self;
        let has_item = tenure.items.admits(items, &mut waiting.items, &event.item);
        let has_user = tenure.users.admits(&users.ids, &mut waiting.users, &event.user);
        if has_item {
            waiting.counts.used += 1;
            waiting.events.push(PendingEvent { event, has_user });
            Fate::Trained
        } else {
            waiting.counts.deferred += 1;
            waiting.deferred.push((waiting.events.len(), event.user));
            Fate::Deferred
        }
    }

    /// Makes a record part of the state that no batch waits for.
    fn pass_over(&mut self, stream: usize) {
        let Self { state, waiting, seed, share, .. } = self;
        state.events += std::mem::take(&mut waiting.counts);
        state.take_in(waiting);
        let (now, number) = (state.events.positives(), state.events.deferred);
        for (_, user) in waiting.deferred.drain(..) {
            if state.defer(&user, now) && is_chosen(*seed, "deferred", number, *share) {
                state.tally.add(now - 1, &[MISSED]);
            }
        }
        self.settle_records();
        self.settle_stream(stream);
    }

    /// The declared end: closes a short batch, and takes in what came after the last event.
    pub fn finish(&mut self) -> Option<StepReport> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(self.step())
    }

    /// Whether everything that was taken is part of the state.
    pub fn is_settled(&self) -> bool {
        self.waiting.counts == EventCounts::default()
    }

    /// Makes what was read part of the state.
    pub(super) fn settle(&mut self) {
        self.settle_records();
        (0..self.streams.len()).for_each(|stream| self.settle_stream(stream));
    }

    fn settle_records(&mut self) {
        let Self { state, waiting, streams, .. } = self;
        state.events += std::mem::take(&mut waiting.counts);
        state.rejected_share = waiting.rejected_share;
        if let Some(audit) = &mut state.audit {
            for (stream, stretch) in waiting.fates.drain(..) {
                audit.note(&streams[stream as usize].name, stretch);
            }
        }
    }

    fn settle_stream(&mut self, stream: usize) {
        let Some((next, timestamp)) = self.waiting.next[stream].take() else { return };
        let (State { positions, ownerships, .. }, name) = (&mut self.state, &self.streams[stream].name);
        positions.advance(name, next);
        if timestamp.is_some() || ownerships.of(name).last_timestamp.is_some() {
            ownerships.set_last_timestamp(name, timestamp);
        }
    }
}
