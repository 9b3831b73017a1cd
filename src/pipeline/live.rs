//! What the clock decides on a live stream: when a batch is cut, and when a checkpoint is looked after.
//!
//! A cut of the clock's is the only thing by which time reaches the model, so it is written down: with the next checkpoint,
//! and until that is durable beside the committed offsets. A worker that comes back after a crash makes the same cuts again,
//! behind the same records ([`crate::position::cuts`]).

use std::time::{Duration, Instant};

use super::exit_path::ExitPath;
use super::{Observer, Pipeline};
use crate::source::{SourceHandle, SourceMessage};

/// The longest time that the clock waits for records which were there before a crash, and are to be cut off behind.
const PLAN_PATIENCE: Duration = Duration::from_secs(10);
/// The longest time that is spent, after a stop was requested, on what the source has delivered.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of cuts since the newest durable checkpoint; where there are more, one is begun, since what is committed beside an
/// offset has little room.
const MOST_BYTES_OF_CUTS: usize = 240;

/// When the clock cuts the batch in progress.
#[derive(Debug)]
pub(super) struct ClockCuts {
    /// How long an event may wait for its batch; `None` where batches are cut by the log alone.
    linger: Option<Duration>,
    waiting: Option<Waiting>,
    /// When a request to stop was seen.
    stopping_since: Option<Instant>,
}

/// The batch in progress.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// When its oldest record was read.
    read_at: Instant,
    /// When its oldest record was ingested.
    begun_at: Instant,
}

/// What the clock says of the batch in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// There is none, or it has time.
    Wait,
    /// It is cut where no further record is there.
    CutIfQuiet,
    /// It is cut: there is always a further record, and yet it does not fill.
    Cut,
}

impl ClockCuts {
    /// Cuts after `linger`; none without it.
    pub(super) fn new(linger: Option<Duration>) -> Self {
        Self { linger, waiting: None, stopping_since: None }
    }

    /// Whether the clock cuts batches at all.
    pub(super) fn is_followed(&self) -> bool {
        self.linger.is_some()
    }

    /// Notes that a record was ingested that was read at `read_at`; whether a step was taken by it, and everything is part of
    /// the state now.
    pub(super) fn note(&mut self, is_settled: bool, is_step: bool, read_at: Instant) {
        if self.linger.is_none() {
            return;
        }
        match self.waiting {
            _ if is_settled => self.waiting = None,
            Some(_) if !is_step => {}
            _ => self.waiting = Some(Waiting { read_at, begun_at: Instant::now() }),
        }
    }

    /// Whether a run that was asked to stop does so behind the newest step: at once where the log alone cuts batches; else when what
    /// was delivered takes too long to be trained on.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let since = *self.stopping_since.get_or_insert(now);
        self.linger.is_none() || now.saturating_duration_since(since) >= DRAIN_PATIENCE
    }

    /// Notes that the batch in progress was cut.
    pub(super) fn note_cut(&mut self) {
        self.waiting = None;
    }

    /// The time until the batch in progress may be cut, `most` at most.
    pub(super) fn wait(&self, most: Duration) -> Duration {
        match (self.linger, self.waiting) {
            (Some(linger), Some(Waiting { read_at, .. })) => match linger.saturating_sub(read_at.elapsed()) {
                // Not cut, though it might be: for what else it waits is looked at now and then.
                Duration::ZERO => most / 8,
                left => left.min(most),
            },
            _ => most,
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let (Some(linger), Some(Waiting { read_at, begun_at })) = (self.linger, self.waiting) else {
            return Verdict::Wait;
        };
        match () {
            () if now.saturating_duration_since(begun_at) >= 2 * linger => Verdict::Cut,
            () if now.saturating_duration_since(read_at) >= linger => Verdict::CutIfQuiet,
            () => Verdict::Wait,
        }
    }

    /// Whether the batch in progress has waited for longer than for records which are there.
    fn is_out_of_patience(&self) -> bool {
        self.waiting.is_some_and(|waiting| waiting.begun_at.elapsed() >= PLAN_PATIENCE)
    }
}

impl Pipeline {
    /// Cuts the batch in progress where it is time, and serves those who ask for a checkpoint.
    pub(super) fn follow_clock(&mut self, source: &SourceHandle, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        if self.checkpoints.is_asked_for() {
            if self.probation.has_only_rejected() {
                self.checkpoints.refuse_requests("every record so far was rejected; nothing is saved");
            } else {
                if self.clock.is_followed() {
                    // Whoever asks wants what was read.
                    self.cut(source, observer)?;
                }
                self.checkpoints.serve_requests(&mut self.trainer, observer)?;
            }
        }
        let is_due = match self.clock.verdict(Instant::now()) {
            Verdict::Wait => false,
            Verdict::CutIfQuiet => source.messages.is_empty(),
            Verdict::Cut => true,
        };
        if !is_due {
            return Ok(());
        }
        if self.trainer.records_to_planned_cut().is_some_and(|records| records > 0) {
            // These records were there before a crash, and come again.
            if !self.clock.is_out_of_patience() {
                return Ok(());
            }
            tracing::warn!("records that were read before are not there any more; batches are cut by the clock again");
            self.trainer.forget_planned_cuts();
        }
        self.checkpoints.freshness.note_clock_cut();
        self.cut(source, observer)
    }

    /// Cuts the batch in progress, has that noted, and does what is due after a step.
    fn cut(&mut self, source: &SourceHandle, observer: &mut Observer<'_>) -> Result<(), ExitPath> {
        if !self.close_batch(observer)? {
            return Ok(());
        }
        let cuts = self.trainer.cuts();
        if cuts.to_bytes(2 * MOST_BYTES_OF_CUTS).len() > MOST_BYTES_OF_CUTS {
            self.checkpoints.hasten();
        }
        source.note_cuts(&self.trainer.state.sources.ownerships.worker, cuts);
        self.poll_checkpoints(source, observer)?;
        if !self.probation.has_only_rejected() {
            self.checkpoints.begin_if_due(&mut self.trainer, observer)?;
        }
        Ok(())
    }

    /// Notes when an event was read that was admitted, and when it `happened`; whether a step was taken by it.
    pub(super) fn note_arrival(&mut self, read_at: Instant, happened: Option<i64>, is_step: bool) {
        if let Some(happened) = happened {
            self.checkpoints.freshness.note_arrival(read_at, happened);
        }
        if is_step {
            self.checkpoints.freshness.note_trained(self.trainer.n_waiting());
        }
    }

    /// At a stop: trains on what the source delivered until then, where the clock may cut the batch in the end. What it did not
    /// deliver is read again.
    pub(super) fn train_on_what_was_delivered(
        &mut self,
        source: &SourceHandle,
        observer: &mut Observer<'_>,
    ) -> Result<(), ExitPath> {
        if !self.clock.is_followed() {
            return Ok(());
        }
        source.stop_reading();
        for _ in 0..source.messages.len() {
            match source.messages.try_recv() {
                Ok(SourceMessage::Records(records, read_at)) => {
                    records.into_iter().try_for_each(|record| self.train(record, read_at, source, observer))?;
                }
                Ok(SourceMessage::Idle) => {}
                // What comes behind it is read again.
                _ => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(500);

    #[test]
    fn batch_is_cut_once_its_oldest_record_is_old_enough() {
        let mut clock = ClockCuts::new(Some(LINGER));
        let began = Instant::now();
        assert_eq!(clock.verdict(began + LINGER), Verdict::Wait, "nothing waits");
        clock.note(false, false, began);
        clock.note(false, false, began + LINGER / 2);
        assert!(clock.wait(Duration::from_secs(9)) <= LINGER);
        assert_eq!(clock.verdict(began + LINGER / 2), Verdict::Wait);
        assert_eq!(clock.verdict(began + LINGER), Verdict::CutIfQuiet, "by its oldest record");
        assert_eq!(clock.verdict(Instant::now() + 2 * LINGER), Verdict::Cut, "however many records follow");
        clock.note(false, true, began + LINGER);
        assert_eq!(clock.verdict(began + LINGER), Verdict::Wait, "a step took the older ones");
        clock.note(true, true, began + LINGER);
        assert_eq!(clock.verdict(began + 9 * LINGER), Verdict::Wait, "nothing waits");
        assert!(
            !clock.is_over(began)
                && !clock.is_over(began + DRAIN_PATIENCE / 2)
                && clock.is_over(began + DRAIN_PATIENCE)
        );
    }

    #[test]
    fn batch_is_not_cut_without_a_clock() {
        let mut clock = ClockCuts::new(None);
        let began = Instant::now();
        clock.note(false, false, began);
        assert_eq!(clock.verdict(began + 9 * LINGER), Verdict::Wait);
        assert_eq!(clock.wait(LINGER), LINGER);
        assert!(!clock.is_followed() && clock.is_over(began));
    }
}
