//! What the source has to say besides records, and records that are none.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use super::{OBSERVE_EVERY, Observer, WorkError, Worker, WorkerEvent};
use crate::checkpoint::CheckpointError;
use crate::config::{Assignment, DeadLettersConfig};
use crate::dead_letters::DeadLetterError;
use crate::event::Rejection;
use crate::position::{Hold, Positions};
use crate::source::{Assigned, SourceControl};

impl Worker {
    /// What the source has to say besides records.
    pub(super) fn notice(
        &mut self,
        notice: SourceControl,
        reply: &Sender<Positions>,
        observer: &mut Observer<'_>,
    ) -> Result<(), WorkError> {
        match notice {
            SourceControl::Streams(new) => {
                self.streams.extend(new);
                self.trainer.follow(&self.streams);
            }
            SourceControl::Assigned(gained) => {
                let mut begins = false;
                for Assigned { stream, next, hold } in gained {
                    let state = &mut self.trainer.state;
                    let stood = state.positions.next(&stream.name);
                    begins |= stood.is_none();
                    state.positions.advance(&stream.name, next);
                    state.holdings.hold(&stream.name, hold);
                    if stood != Some(next) {
                        // Another worker read the record before it: when that was produced is not known here.
                        state.holdings.stamp(&stream.name, None);
                    }
                }
                if begins && (self.config.kafka.assignment == Assignment::All || self.saved_at.is_none()) {
                    // From here on the positions are ours, and only ours: a restart finds them, whatever the broker says.
                    self.save_shown(observer)?;
                }
            }
            SourceControl::Revoking(_) => {
                // Another worker goes on where this state ends.
                self.close_batch(observer)?;
                self.save_shown(observer)?;
                // A source that has failed meanwhile has no use for it.
                let _ = reply.send(self.trainer.state.positions.clone());
            }
            SourceControl::HandedOver(stream) => {
                self.trainer.state.holdings.hold(&self.streams[stream as usize].name, Hold::LetGo);
            }
            SourceControl::Lost { stream, offsets } => self.trainer.lose(stream, offsets),
        }
        Ok(())
    }

    /// Keeps a record that was not taken, and says so: the first of them, and ever fewer of the rest. Waits for room;
    /// `false` where it was told to stop before there was any.
    pub(super) fn reject(
        &mut self,
        record: (u32, u64),
        rejection: &Rejection,
        stop: &AtomicBool,
        observer: &mut Observer<'_>,
    ) -> Result<bool, DeadLetterError> {
        let (stream, offset) = record;
        let stream = &self.streams[stream as usize].label;
        while !self.dead_letters.offer(stream, offset, rejection)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(OBSERVE_EVERY);
            observer(&self.trainer, WorkerEvent::Tick);
        }
        self.rejected += 1;
        if self.rejected.is_power_of_two() {
            tracing::warn!(
                place = stream,
                offset,
                reason = rejection.reason.name(),
                detail = %rejection.detail,
                so_far = self.rejected,
                "record rejected"
            );
        }
        Ok(true)
    }

    /// Whether so many of the newest records were rejected that whoever produces them must be broken.
    pub(super) fn check_rejections(&self, newest: &Rejection) -> Result<(), WorkError> {
        let DeadLettersConfig { max_share, window, .. } = self.config.dead_letters;
        match self.trainer.rejected_share() {
            share if share > max_share => {
                let (reason, detail) = (newest.reason.name(), newest.detail.clone());
                Err(WorkError::TooManyRejected { share, window, max_share, reason, detail })
            }
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint that must succeed.
    pub(super) fn save_shown(&mut self, observer: &mut Observer<'_>) -> Result<(), CheckpointError> {
        // What is durable by that one is by this one too.
        self.wait_for_checkpoint(observer);
        observer(&self.trainer, WorkerEvent::CheckpointBegins);
        self.save_meanwhile(&mut |trainer| observer(trainer, WorkerEvent::Tick))?;
        if let Some(last) = &self.last {
            observer(&self.trainer, WorkerEvent::Checkpoint(last));
        }
        Ok(())
    }
}
