//! Ingestion: which records are trained on, and when records and their positions become part of the state.

use super::step::{StepReport, is_chosen};
use super::{Trainer, TrainerSettings};
use crate::evaluate::ranking::Ranked;
use crate::event::{EventCounts, Interaction, Record};
use crate::position::Stream;
use crate::position::cuts::Cuts;
use crate::trainer::audit::{OffsetRange, RecordFate};
use crate::trainer::pending::{PendingBatch, PendingEvent};
use crate::trainer::state::{SourceProgress, State};

/// A batch is closed, however few events it has, when so many times its size were shown, or deferred, meanwhile.
const OTHERS_PER_EVENT: usize = 64;

impl Trainer {
    /// Sets the streams that records refer to from now on, by their index; more may be added at any time.
    ///
    /// # Panics
    /// Where streams that are known are left out.
    pub fn set_streams(&mut self, streams: &[Stream]) {
        assert!(streams.len() >= self.streams.len(), "streams are only added");
        self.streams = streams.to_vec();
        self.pending.next.resize(streams.len(), None);
    }

    /// Counts records that are lost for good, and moves the position of their stream past them.
    ///
    /// # Panics
    /// If the stream is not one of [`Self::set_streams`].
    pub fn skip_lost(&mut self, stream: u32, offsets: std::ops::Range<u64>) {
        self.pending.counts.lost += offsets.end - offsets.start;
        if self.state.sources.audit.is_some() {
            let stretch = OffsetRange { from: offsets.start, until: offsets.end, fate: RecordFate::Lost };
            self.pending.fates.push((stream, stretch));
        }
        self.pending.next[stream as usize] = Some((offsets.end, None));
        if self.pending.is_empty() {
            self.settle();
        }
    }

    /// Ingests a record, and steps where it fills a batch.
    ///
    /// # Panics
    /// If the record's stream is not one of [`Self::set_streams`].
    pub fn ingest(&mut self, record: Record) -> Option<StepReport> {
        let settings = &self.settings;
        let event = match record.outcome {
            Ok(event) if settings.is_exposure(&event.kind) => {
                self.pending.shown.push((self.pending.events.len(), event));
                None
            }
            Ok(event) if settings.is_positive(&event.kind) => Some(Ok(event)),
            Ok(event) => {
                self.ignored_kinds.note(&event.kind);
                None
            }
            Err(rejection) => Some(Err(rejection.reason)),
        };
        let is_fault = matches!(&event, Some(Err(reason)) if reason.is_fault());
        let cut = match (&event, self.pending.events.first()) {
            (Some(Ok(event)), Some(first)) if settings.batch_span_ms > 0 => {
                event.timestamp.saturating_sub(first.event.timestamp) >= settings.batch_span_ms as i64
            }
            _ => false,
        };
        // A batch that ends before this event ends before its position too.
        let early = cut.then(|| self.step());
        let share = &mut self.pending.rejected_share;
        *share += (f64::from(u8::from(is_fault)) - *share) / self.settings.rejections_window as f64;
        self.pending.counts.read += 1;
        let fate = match event {
            None => {
                self.pending.counts.ignored += 1;
                RecordFate::Skipped
            }
            Some(Ok(event)) => self.admit(event),
            Some(Err(reason)) => {
                self.pending.counts.rejected.add(reason, 1);
                if reason.is_fault() { RecordFate::Rejected } else { RecordFate::Skipped }
            }
        };
        if self.state.sources.audit.is_some() {
            // The source delivers every record there is, in order: what lies between this one and the one before is none.
            let expected = self.next_offset(record.stream).unwrap_or(record.offset);
            if expected < record.offset {
                let gap = OffsetRange { from: expected, until: record.offset, fate: RecordFate::Passed };
                self.pending.fates.push((record.stream, gap));
            }
            let stretch = OffsetRange { from: record.offset, until: record.offset + 1, fate };
            self.pending.fates.push((record.stream, stretch));
        }
        self.pending.next[record.stream as usize] = Some((record.offset + 1, record.broker_timestamp));
        let PendingBatch { events, shown, deferred, .. } = &self.pending;
        let others = shown.len().max(deferred.len());
        if events.len() == self.settings.batch_size || others >= self.settings.batch_size * OTHERS_PER_EVENT {
            return Some(self.step());
        }
        if self.pending.is_empty() {
            // No batch is begun: what is not trained on need not wait for one.
            self.apply_without_batch(record.stream as usize);
        }
        early
    }

    /// The offset behind the newest record of a stream that was ingested; `None` where none ever was.
    fn next_offset(&self, stream: u32) -> Option<u64> {
        let pending = self.pending.next[stream as usize].map(|(next, _)| next);
        pending.or_else(|| self.state.sources.positions.next(&self.streams[stream as usize].name))
    }

    /// Adds an event to the pending batch, where its item has a row or may be given one. Its user need not have a row: what
    /// the item gains by the event can be learnt all the same.
    fn admit(&mut self, event: Interaction) -> RecordFate {
        let Self { state: State { items, users, .. }, pending, .. } = self;
        let has_item = items.lifecycle.admits(&items.ids, &mut pending.items, &event.item);
        let has_user = users.lifecycle.admits(&users.ids, &mut pending.users, &event.user);
        if has_item {
            pending.counts.used += 1;
            pending.events.push(PendingEvent { event, has_user });
            RecordFate::Trained
        } else {
            pending.counts.deferred += 1;
            pending.deferred.push((pending.events.len(), event.user));
            RecordFate::Deferred
        }
    }

    /// Makes a record part of the state at once, where no batch is begun that it would have to wait for.
    fn apply_without_batch(&mut self, stream: usize) {
        let Self { state, pending, settings: TrainerSettings { seed, ranked_share, .. }, .. } = self;
        state.progress.events += std::mem::take(&mut pending.counts);
        state.count_arrivals(pending);
        let (now, number) = (state.progress.events.positives(), state.progress.events.deferred);
        let time = state.progress.group_positives();
        for (_, user) in pending.deferred.drain(..) {
            if state.touch_deferred(&user, time) && is_chosen(*seed, "deferred", number, *ranked_share) {
                state.progress.evaluation.add(&[Ranked::missed(now - 1)]);
            }
        }
        self.settle_records();
        self.settle_stream(stream);
    }

    /// Steps on what is pending, for a reason that is not in the log: the clock, a signal, a rebalance, the end of a stream.
    /// Where that was is kept with the state, so that the same cut can be made again. `None` where no batch is begun.
    pub fn finish(&mut self) -> Option<StepReport> {
        if self.pending.is_empty() {
            return None;
        }
        let place = self.ingested().read;
        self.state.sources.cuts.add(place);
        Some(self.step())
    }

    /// Has batches cut behind the records of these numbers, counted since the very first start, as they were before.
    pub fn plan_cuts(&mut self, places: impl IntoIterator<Item = u64>) {
        self.pending.planned.extend(places);
    }

    /// Records to be read before the next planned cut: 0 where the batch in progress is to be cut now, `None` where no cut is
    /// planned.
    pub fn records_to_planned_cut(&mut self) -> Option<u64> {
        if self.pending.planned.is_empty() {
            return None;
        }
        let read = self.ingested().read;
        self.pending.planned.next(read).map(|place| place - read)
    }

    /// Gives up the cuts that are still planned.
    pub fn forget_planned_cuts(&mut self) {
        self.pending.planned = Cuts::default();
    }

    /// The cuts since the newest durable checkpoint, made and planned.
    pub fn cuts(&self) -> Cuts {
        let mut cuts = self.state.sources.cuts.clone();
        cuts.extend(self.pending.planned.places());
        cuts
    }

    /// Events that were trained on, or wait for their batch.
    pub fn n_admitted(&self) -> u64 {
        self.state.progress.events.used + self.pending.counts.used
    }

    /// Events that wait for their batch.
    pub fn n_waiting(&self) -> usize {
        self.pending.events.len()
    }

    /// Whether everything that was ingested is part of the state.
    pub fn is_settled(&self) -> bool {
        self.pending.counts == EventCounts::default()
    }

    /// Makes the counts, fates and positions of all records that were ingested part of the state.
    pub(super) fn settle(&mut self) {
        self.settle_records();
        (0..self.streams.len()).for_each(|stream| self.settle_stream(stream));
    }

    fn settle_records(&mut self) {
        let Self { state, pending, streams, .. } = self;
        state.progress.events += std::mem::take(&mut pending.counts);
        state.progress.rejected_share = pending.rejected_share;
        if let Some(audit) = &mut state.sources.audit {
            for (stream, stretch) in pending.fates.drain(..) {
                audit.record(&streams[stream as usize].name, stretch);
            }
        }
    }

    fn settle_stream(&mut self, stream: usize) {
        let Some((next, timestamp)) = self.pending.next[stream].take() else { return };
        let (SourceProgress { positions, ownerships, shared, .. }, name) =
            (&mut self.state.sources, &self.streams[stream].name);
        positions.advance(name, next);
        if let Some(shared) = shared {
            shared.histories.advance(name, next);
        }
        if timestamp.is_some() || ownerships.of(name).last_timestamp.is_some() {
            ownerships.set_last_timestamp(name, timestamp);
        }
    }
}
