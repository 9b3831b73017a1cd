//! What a source says besides records: streams that are new, assigned, revoked, handed over, or have lost records.

use crossbeam_channel::Sender;

use super::exit_path::ExitPath;
use super::{Observer, Pipeline, PipelineEvent};
use crate::kafka::Assignment;
use crate::position::{OwnershipRecord, Positions};
use crate::source::{Assigned, SourceControl};

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
                self.checkpoints.save(&mut self.trainer, observer)?;
                // A source that has failed meanwhile has no use for the answer.
                let _ = reply.send(self.trainer.state.sources.positions.clone());
            }
            SourceControl::HandedOver(stream) => {
                self.trainer
                    .state
                    .sources
                    .ownerships
                    .set_record(&self.streams[stream as usize].name, OwnershipRecord::Released);
            }
            SourceControl::Lost { stream, offsets } => self.trainer.skip_lost(stream, offsets),
        }
        Ok(())
    }
}
