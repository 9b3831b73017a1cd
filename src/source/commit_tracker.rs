//! What is durable, told to the group that shares a source, and what of it the group has taken note of.
//!
//! Whoever takes a stream over begins at what the group has taken note of, so the worker must be able to go back to the
//! checkpoint that was committed there. Which that is it cannot always know: a commit may have taken effect, and the answer
//! got lost. Therefore one commit at a time is on its way, and is repeated until there is an answer; at any moment the group
//! is at one of three places: what it confirmed, what is on its way, or, sent at any moment from now on, what is wanted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::position::Positions;

/// See the module. Shared between the source and whoever keeps checkpoints.
#[derive(Debug, Clone, Default)]
pub struct CommitTracker(Arc<Mutex<Stages>>);

/// Which states the group may send a worker back to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Back {
    /// The newest that the group has confirmed.
    pub confirmed: Option<usize>,
    /// Those that it may have taken note of meanwhile, or is told of at any moment.
    pub maybe: Vec<usize>,
}

#[derive(Debug, Default)]
struct Stages {
    /// The newest that is durable.
    newest: Option<Positions>,
    /// The same, while it is still to be sent.
    wanted: bool,
    on_its_way: Option<Positions>,
    /// As a whole, also where the commit named only some of its streams: the others are nothing to this worker any more.
    confirmed: Option<Positions>,
}

impl CommitTracker {
    /// The group is to be told that `durable` is durable.
    pub fn want(&self, durable: Positions) {
        let mut stages = self.stages();
        stages.wanted |= stages.newest.as_ref() != Some(&durable);
        stages.newest = Some(durable);
    }

    /// The newest that is durable, as far as it was said.
    pub fn newest(&self) -> Option<Positions> {
        self.stages().newest.clone()
    }

    /// What is to be sent: again what is on its way, or what is wanted.
    pub fn send(&self) -> Option<Positions> {
        let mut stages = self.stages();
        if stages.on_its_way.is_none() && std::mem::take(&mut stages.wanted) {
            stages.on_its_way = stages.newest.clone();
        }
        stages.on_its_way.clone()
    }

    /// The group was told of `durable`, the newest that is, by another way.
    pub fn told(&self, durable: &Positions) {
        let mut stages = self.stages();
        (stages.newest, stages.wanted) = (Some(durable.clone()), false);
        (stages.on_its_way, stages.confirmed) = (None, Some(durable.clone()));
    }

    /// The group has taken what was on its way.
    pub fn taken(&self) {
        let mut stages = self.stages();
        if let Some(taken) = stages.on_its_way.take() {
            stages.confirmed = Some(taken);
        }
    }

    /// Of some states, oldest first, by their positions: those that the group may send the worker back to.
    pub fn back<'a>(&self, states: impl DoubleEndedIterator<Item = &'a Positions> + ExactSizeIterator + Clone) -> Back {
        let stages = self.stages();
        let wanted = stages.newest.as_ref().filter(|_| stages.wanted);
        let newest = |place: &Positions| states.clone().rposition(|state| place.cover(state));
        let maybe = [stages.on_its_way.as_ref(), wanted].into_iter().flatten().filter_map(newest).collect();
        Back { confirmed: stages.confirmed.as_ref().and_then(newest), maybe }
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: u64) -> Positions {
        Positions::from_iter([("t/0", next)])
    }

    #[test]
    fn one_commit_is_on_its_way_until_it_is_answered() {
        let commits = CommitTracker::default();
        assert_eq!(commits.send(), None);
        commits.want(at(10));
        assert_eq!(commits.send(), Some(at(10)));
        commits.want(at(20));
        commits.want(at(30));
        assert_eq!(commits.send(), Some(at(10)), "again, until there is an answer");
        commits.taken();
        assert_eq!((commits.send(), commits.newest()), (Some(at(30)), Some(at(30))));
        commits.taken();
        commits.want(at(30));
        assert_eq!(commits.send(), None, "nothing new");
    }

    #[test]
    fn the_states_are_those_at_each_place_where_the_group_may_be() {
        let commits = CommitTracker::default();
        let states: Vec<Positions> = [5, 10, 20, 30, 40].into_iter().map(at).collect();
        let back = || {
            let Back { confirmed, maybe } = commits.back(states.iter());
            (confirmed, maybe)
        };
        assert_eq!(back(), (None, vec![]), "the group knows of nothing");
        commits.want(at(5));
        commits.send();
        commits.taken();
        commits.want(at(10));
        assert_eq!(back(), (Some(0), vec![1]));
        commits.send();
        commits.want(at(30));
        assert_eq!(back(), (Some(0), vec![1, 3]), "on its way, and wanted");
        commits.taken();
        assert_eq!(back(), (Some(1), vec![3]));
        commits.send();
        commits.taken();
        assert_eq!(back(), (Some(3), vec![]));
        commits.want(at(35));
        commits.told(&at(40));
        assert_eq!((back(), commits.send()), ((Some(4), vec![]), None));
    }
}
