//! What a source says besides records: streams that are new, assigned, revoked, handed over, or have lost records.

use crossbeam_channel::Sender;

use super::exit_path::ExitPath;
use super::{Observer, Pipeline, PipelineEvent};
use crate::kafka::Assignment;
use crate::position::{OwnershipRecord, Positions};
use crate::source::{Assigned, SourceControl, SourceError};

impl Pipeline {
    /// Acts on a message of the source's; `reply` awaits the durable positions where streams are being revoked.
    pub(super) fn handle_control(
        &mut self,
        control: SourceControl,
        reply: &Sender<Positions>,
        observer: &mut Observer<'_>,
    ) -> Result<(), ExitPath> {
        match control {
            SourceControl::Streams(new) => {
                self.streams.extend(new);
                self.trainer.set_streams(&self.streams);
            }
            SourceControl::Assigned(assigned) => {
                let mut any_is_new = false;
                for Assigned { stream, next, record } in assigned {
                    if self.checkpoints.sharing.is_some() {
                        self.trainer.begin_shared(&stream.name, next)?;
                        self.trainer.state.sources.ownerships.set_record(&stream.name, record);
                        if self.turn.is_decided_by(&stream.name) {
                            self.publisher = self.turn.begin().map_err(|error| SourceError::Other(error.into()))?;
                        }
                        continue;
                    }
                    let state = &mut self.trainer.state;
                    let stood = state.sources.positions.next(&stream.name);
                    any_is_new |= stood.is_none();
                    state.sources.positions.advance(&stream.name, next);
                    state.sources.ownerships.set_record(&stream.name, record);
                    if stood != Some(next) {
                        // Another worker read the record before `next`: its time is not known here.
                        state.sources.ownerships.set_last_timestamp(&stream.name, None);
                    }
                }
                let alone = self.config.kafka.assignment == Assignment::All;
                if any_is_new && (alone || !self.checkpoints.any_is_durable()) {
                    self.send_held_letters(observer)?;
                    // From here on these positions are this worker's alone: a restart finds them, whatever the broker says.
                    self.checkpoints.save(&mut self.trainer, observer)?;
                }
                observer(&self.trainer, PipelineEvent::Assigned);
            }
            SourceControl::Revoking(_) => {
                // Another worker goes on where this state ends.
                self.send_held_letters(observer)?;
                self.close_batch(observer)?;
                match &mut self.checkpoints.sharing {
                    // What is told outlasts this worker, and the next one hears it before it begins.
                    Some(sharing) => sharing.settle(&mut self.trainer)?,
                    None => self.checkpoints.save(&mut self.trainer, observer)?,
                }
                // A source that has failed meanwhile has no use for the answer.
                let _ = reply.send(self.trainer.state.sources.positions.clone());
            }
            SourceControl::HandedOver(stream) => {
                if self.turn.is_decided_by(&self.streams[stream as usize].name) {
                    self.publisher = self.turn.end().map_err(|error| SourceError::Other(error.into()))?;
                }
                self.trainer
                    .state
                    .sources
                    .ownerships
                    .set_record(&self.streams[stream as usize].name, OwnershipRecord::Released);
            }
            SourceControl::Lost { stream, offsets } => {
                let position = self.trainer.state.sources.positions.next(&self.streams[stream as usize].name);
                // Records that would have been read again for the pasts of users alone are no loss to the shared model.
                if self.checkpoints.sharing.is_none() || position.is_none_or(|position| position < offsets.end) {
                    self.trainer.skip_lost(stream, offsets);
                }
            }
        }
        Ok(())
    }
}
