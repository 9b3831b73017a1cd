//! Commits of durable positions to the group that shares a source, and which of them the group has confirmed.
//!
//! Whichever worker takes a stream over begins at the group's committed offset, so this worker must be able to go back to
//! the checkpoint that was committed there. Which checkpoint that is cannot always be known: a commit may have taken effect
//! and its answer been lost. Therefore at most one commit is in flight, and it is repeated until there is an answer; at any
//! moment the group stands at one of three places: the confirmed commit, the one in flight, or the requested one, which may
//! be sent at any moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::position::Positions;
use crate::position::cuts::Cuts;

/// The commits of one source: requested by the worker that writes checkpoints, sent and confirmed by the source. A cheap
/// handle; clones share their state.
#[derive(Debug, Clone, Default)]
pub struct CommitTracker(Arc<Mutex<Stages>>);

/// Where a worker cut batches since its newest durable checkpoint, as it is noted beside what it commits: a worker that comes
/// back from a crash makes the same cuts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedCuts {
    /// Name of the worker.
    pub by: String,
    /// The cuts.
    pub cuts: Cuts,
}

/// The states that the group may send a worker back to, as indices into a list of states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePoints {
    /// The newest state that the group has confirmed.
    pub confirmed: Option<usize>,
    /// States whose commit may have taken effect since, or may be sent at any moment.
    pub unconfirmed: Vec<usize>,
}

#[derive(Debug, Default)]
struct Stages {
    /// The newest durable positions.
    newest: Option<Positions>,
    /// Whether `newest` is still to be sent.
    requested: bool,
    in_flight: Option<Positions>,
    /// The confirmed positions as a whole, also where the commit named only some of their streams: the others are another
    /// worker's by then.
    confirmed: Option<Positions>,
    /// What is noted beside the next commit.
    noted: Option<NotedCuts>,
}

impl CommitTracker {
    /// Notes `cuts` beside what is committed from now on; what is durable already is committed again for them.
    pub fn note_cuts(&self, cuts: NotedCuts) {
        let mut stages = self.stages();
        let known = stages.noted.as_ref();
        let is_news = match known {
            Some(known) => !cuts.cuts.is_empty() && known.cuts != cuts.cuts,
            None => !cuts.cuts.is_empty(),
        };
        stages.requested |= is_news && stages.newest.is_some();
        stages.noted = Some(cuts);
    }

    /// What is to be noted beside a commit.
    pub fn noted_cuts(&self) -> Option<NotedCuts> {
        self.stages().noted.clone().filter(|noted| !noted.cuts.is_empty())
    }

    /// Asks for a commit of `durable`; a request that was not sent yet is replaced.
    pub fn request(&self, durable: Positions) {
        let mut stages = self.stages();
        stages.requested |= stages.newest.as_ref() != Some(&durable);
        stages.newest = Some(durable);
    }

    /// The newest durable positions, whether requested, in flight or confirmed.
    pub fn newest(&self) -> Option<Positions> {
        self.stages().newest.clone()
    }

    /// The commit to send: the one in flight again, else the requested one, which is in flight from now on.
    pub fn next_commit(&self) -> Option<Positions> {
        let mut stages = self.stages();
        if stages.in_flight.is_none() && std::mem::take(&mut stages.requested) {
            stages.in_flight = stages.newest.clone();
        }
        stages.in_flight.clone()
    }

    /// Notes that the group has confirmed `durable`, the newest positions, by a commit that was not drawn from
    /// [`CommitTracker::next_commit`].
    pub fn confirm_external(&self, durable: &Positions) {
        let mut stages = self.stages();
        (stages.newest, stages.requested) = (Some(durable.clone()), false);
        (stages.in_flight, stages.confirmed) = (None, Some(durable.clone()));
    }

    /// Notes that the group has confirmed the commit in flight.
    pub fn confirm(&self) {
        let mut stages = self.stages();
        if let Some(confirmed) = stages.in_flight.take() {
            stages.confirmed = Some(confirmed);
        }
    }

    /// The restore points among `states`, which are given oldest first by their positions.
    pub fn restore_points<'a>(
        &self,
        states: impl DoubleEndedIterator<Item = &'a Positions> + ExactSizeIterator + Clone,
    ) -> RestorePoints {
        let stages = self.stages();
        let requested = stages.newest.as_ref().filter(|_| stages.requested);
        let newest = |place: &Positions| states.clone().rposition(|state| place.cover(state));
        let unconfirmed = [stages.in_flight.as_ref(), requested].into_iter().flatten().filter_map(newest).collect();
        RestorePoints { confirmed: stages.confirmed.as_ref().and_then(newest), unconfirmed }
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
    fn next_commit_repeats_the_one_in_flight_until_confirmed() {
        let commits = CommitTracker::default();
        assert_eq!(commits.next_commit(), None);
        commits.request(at(10));
        assert_eq!(commits.next_commit(), Some(at(10)));
        commits.request(at(20));
        commits.request(at(30));
        assert_eq!(commits.next_commit(), Some(at(10)), "again, until there is an answer");
        commits.confirm();
        assert_eq!((commits.next_commit(), commits.newest()), (Some(at(30)), Some(at(30))));
        commits.confirm();
        commits.request(at(30));
        assert_eq!(commits.next_commit(), None, "nothing new");
    }

    #[test]
    fn cuts_are_committed_once_beside_what_is_durable() {
        let commits = CommitTracker::default();
        let note = |places: &[u64]| {
            let mut cuts = Cuts::after(5);
            cuts.extend(places.iter().copied());
            commits.note_cuts(NotedCuts { by: "worker".to_owned(), cuts });
        };
        note(&[7]);
        assert_eq!(commits.next_commit(), None, "nothing is durable yet");
        commits.request(at(10));
        assert_eq!(commits.next_commit(), Some(at(10)));
        commits.confirm();
        note(&[7]);
        assert_eq!(commits.next_commit(), None, "known already");
        note(&[7, 9]);
        assert_eq!(commits.next_commit(), Some(at(10)));
        commits.confirm();
        assert_eq!(commits.noted_cuts().map(|noted| noted.cuts.places().collect::<Vec<_>>()), Some(vec![7, 9]));
        note(&[]);
        assert_eq!((commits.next_commit(), commits.noted_cuts()), (None, None), "gone with the next commit");
    }

    #[test]
    fn restore_points_are_one_for_each_place_where_the_group_may_stand() {
        let commits = CommitTracker::default();
        let states: Vec<Positions> = [5, 10, 20, 30, 40].into_iter().map(at).collect();
        let points = || {
            let RestorePoints { confirmed, unconfirmed } = commits.restore_points(states.iter());
            (confirmed, unconfirmed)
        };
        assert_eq!(points(), (None, vec![]), "the group knows of nothing");
        commits.request(at(5));
        commits.next_commit();
        commits.confirm();
        commits.request(at(10));
        assert_eq!(points(), (Some(0), vec![1]));
        commits.next_commit();
        commits.request(at(30));
        assert_eq!(points(), (Some(0), vec![1, 3]), "in flight, and requested");
        commits.confirm();
        assert_eq!(points(), (Some(1), vec![3]));
        commits.next_commit();
        commits.confirm();
        assert_eq!(points(), (Some(3), vec![]));
        commits.request(at(35));
        commits.confirm_external(&at(40));
        assert_eq!((points(), commits.next_commit()), ((Some(4), vec![]), None));
    }
}
