//! What waits for a sink, and how the sink is: shared by training, which hands over, and the sink's thread, which takes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::change_set::ChangeSet;
use super::super::freshness::EventAges;
use super::super::sink_figures::{SinkCondition, SinkFigures};
use super::RETRY;
use crate::publish::{UpdateKind, VectorPrecision};

/// What a sink is to be given next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) enum Wants {
    /// The whole table.
    Everything,
    /// What changes.
    Changes,
    /// Nothing: it failed a moment ago, or what waited for it was dropped.
    Nothing,
}

/// What waits for a sink, and how the sink is.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) sets: VecDeque<Arc<ChangeSet>>,
    pub(super) n_rows: usize,
    pub(super) wants: Wants,
    pub(super) is_busy: bool,
    /// Whether changes were dropped that did not fit.
    pub(super) is_dropped: bool,
    /// Whether the newest update was refused.
    pub(super) is_refused: bool,
    /// Whether the newest update failed.
    pub(super) is_failed: bool,
    /// Of events whose update was dropped, or failed: they are visible by the next full one.
    pub(super) lost: EventAges,
    pub(super) figures: SinkFigures,
    /// Whether the run is at its end: no long waits any more.
    pub(super) is_ending: bool,
    pub(super) is_closed: bool,
    /// Of the sink.
    precision: VectorPrecision,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) queue: Mutex<Queue>,
    pub(super) changed: Condvar,
}

impl Queue {
    /// An empty one, of a sink that wants the whole table first.
    pub(super) fn new(label: String, precision: VectorPrecision) -> Self {
        Self {
            sets: VecDeque::new(),
            n_rows: 0,
            wants: Wants::Everything,
            is_busy: false,
            is_dropped: false,
            is_refused: false,
            is_failed: false,
            lost: EventAges::none(),
            figures: SinkFigures::new(label),
            is_ending: false,
            is_closed: false,
            precision,
        }
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        for set in std::mem::take(&mut self.sets) {
            self.lost.merge(set.ages.clone());
        }
        self.n_rows = 0;
    }

    pub(super) fn condition(&self) -> SinkCondition {
        match () {
            () if self.is_refused => SinkCondition::Refused,
            () if self.is_failed => SinkCondition::Away,
            () if self.is_dropped => SinkCondition::Behind,
            () if self.is_settled() => SinkCondition::Settled,
            () => SinkCondition::Sending,
        }
    }

    /// Whether the sink holds everything that it was given.
    pub(super) fn is_settled(&self) -> bool {
        self.wants == Wants::Changes && self.sets.is_empty() && !self.is_busy
    }

    /// Notes that the sink took an update.
    pub(super) fn note_taken(&mut self, set: &ChangeSet) {
        let bytes = set.n_bytes(self.precision) as u64;
        let figures = &mut self.figures;
        if !set.is_empty() {
            (self.is_refused, self.is_failed) = (false, false);
            figures.rows += (set.names.len() + set.removed.len()) as u64;
            figures.popularity_rows += set.popularity.len() as u64;
            figures.bytes += bytes;
            figures.updates += 1;
        }
        let mut ages = set.ages.clone();
        if set.kind == UpdateKind::Full {
            figures.full_updates += 1;
            ages = std::mem::replace(&mut self.lost, EventAges::none());
            ages.merge(set.ages.clone());
        }
        ages.observe_into(&mut figures.read_to_visible, &mut figures.event_to_visible);
    }
}

impl Mailbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, most: Duration) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The next changes to be sent; `None` once nothing is wanted any more.
    pub(super) fn take(&self) -> Option<Arc<ChangeSet>> {
        let mut queue = self.lock();
        queue.is_busy = false;
        loop {
            if queue.is_closed {
                return None;
            }
            if std::mem::take(&mut queue.is_dropped) {
                queue.wants = Wants::Everything;
            }
            self.changed.notify_all();
            if let Some(first) = queue.sets.pop_front() {
                let mut taken = vec![first];
                // A sink that is slow is sent what follows at once, each row as it is by now.
                let is_delta = |set: Option<&Arc<ChangeSet>>| set.is_some_and(|set| set.kind == UpdateKind::Delta);
                while is_delta(taken.first()) && is_delta(queue.sets.front()) {
                    taken.extend(queue.sets.pop_front());
                }
                queue.n_rows -= taken.iter().map(|set| set.n_rows()).sum::<usize>();
                queue.is_busy = true;
                drop(queue);
                self.changed.notify_all();
                return ChangeSet::merged(&taken);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that an update failed, and drops what waits.
    pub(super) fn note_failed(&self, set: &ChangeSet, is_refused: bool) {
        let mut queue = self.lock();
        (queue.wants, queue.is_busy, queue.is_refused) = (Wants::Nothing, false, is_refused);
        queue.is_failed = true;
        queue.figures.errors += 1;
        queue.lost.merge(set.ages.clone());
        queue.clear();
    }

    /// Asks for the whole table after `delay`, or soon where the run is at its end.
    pub(super) fn wait_for_retry(&self, delay: Duration) {
        let since = Instant::now();
        let mut queue = self.lock();
        loop {
            let delay = if queue.is_ending { delay.min(RETRY[0]) } else { delay };
            let left = delay.saturating_sub(since.elapsed());
            if left.is_zero() || queue.is_closed {
                break;
            }
            queue = self.wait(queue, left);
        }
        (queue.wants, queue.is_dropped) = (Wants::Everything, false);
        self.changed.notify_all();
    }
}
