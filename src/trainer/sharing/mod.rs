//! Sharing: one model of many workers. What a worker's state has moved by becomes a [`Delta`], and the deltas of others
//! become part of the state.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `recorder` | what happened since the last flush, and the delta that is made of it |
//! | `merge` | deltas of others, added to the state |
//! | `adopt` | a new worker's state, made of another's |
//! | `receiving` | what comes out of the log: which deltas are merged, and whether this worker was overtaken |
//!
//! Both happen between steps, so that a step sees a model that stands still. A worker shares what depends on no user: rows of
//! items, learned numbers, counts, the bank. Users' histories, rows and hidden states are those of one worker at a time, as
//! the partitions are that their events come in. What depends on single draws (the watched negatives, how objectives and samplers
//! stand beside their parameters) is each worker's own.

mod adopt;
mod merge;
mod receiving;
mod recorder;
#[cfg(test)]
mod tests;

pub(super) use receiving::RereadBuffer;
pub use receiving::{MergeCounts, VoidDelta};
pub(super) use recorder::DeltaRecorder;

use super::Trainer;
use crate::share::{Delta, GroupClock, MovePrecision};

/// What part of all events may be unsent. (docs/scale-out.md has what larger ones cost.)
const MOST_UNSENT: f64 = 0.005;
/// How many of the group's events may be unsent, in half-lives of what the noise follows.
const MOST_UNSENT_HALF_LIVES: f64 = 0.5;

impl Trainer {
    /// From now on, what the state moves by can be taken as deltas ([`Self::take_delta`]), and those of others can be merged
    /// ([`Self::merge`]). `worker` is the name of this worker in its group; rows' moves are sent in numbers of `precision`. `pace` is
    /// how many events of the group there are likely to be for each of the worker's own: all partitions, divided by its own.
    pub fn share(&mut self, worker: &str, precision: MovePrecision, pace: f64) {
        self.recorder = Some(DeltaRecorder::new(&mut self.state, worker, precision, pace));
    }

    /// What the state has moved by since the last call, or since [`Self::share`]; the state moves by what rounding has left of it.
    /// Events that wait for their batch are in the next one. `None` where nothing was read, and where nothing is shared.
    pub fn take_delta(&mut self) -> Option<Delta> {
        self.recorder.as_mut()?.take(&mut self.state)
    }

    /// Whether a delta should be taken before it is time: so much has not been sent yet that what workers learn meanwhile would not
    /// fit together, or would come when interest has gone elsewhere. That is so where the model is young, by all that it was
    /// ever sent; and where interest fades fast, by the half-life that was found for the noise.
    pub fn is_delta_due(&self) -> bool {
        let half_life = || self.state.negatives.frequencies.half_life();
        self.group_clock().is_some_and(|clock| {
            clock.unsent_share() > MOST_UNSENT || clock.unsent() > MOST_UNSENT_HALF_LIVES * half_life()
        })
    }

    /// Adds what others' states have moved by to this one. Deltas are given in the order in which the group knows them.
    ///
    /// # Panics
    /// Where nothing is shared.
    pub fn merge(&mut self, deltas: &[&Delta]) {
        let Self { state, recorder: Some(recorder), popularity, .. } = self else { panic!("the state is not shared") };
        recorder.merge(state, popularity, deltas);
    }

    /// The clock of the group, where the state is shared.
    pub fn group_clock(&self) -> Option<&GroupClock> {
        self.recorder.as_ref().map(DeltaRecorder::clock)
    }

    /// Bytes that are kept of what moved since the last delta; 0 where nothing is shared.
    pub fn unshared_bytes(&mut self) -> usize {
        self.recorder.as_ref().map_or(0, |recorder| recorder.bytes(&mut self.state))
    }
}
