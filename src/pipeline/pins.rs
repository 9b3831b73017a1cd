//! Pins on checkpoints that a consumer group may yet send the worker back to.
//!
//! A worker that takes a partition over begins at the committed offset. From then on a checkpoint that holds more of the
//! partition is not this worker's any more, and the newest one that holds no more has to be there: it outlasts
//! `checkpoint.keep`, however far the commits lag behind. At any moment it is one of three at most, as
//! [`crate::source::CommitTracker`] explains.

use std::path::{Path, PathBuf};

use crate::checkpoint::store::Pinned;
use crate::position::Positions;
use crate::source::{CommitTracker, RestorePoints};

/// The checkpoints of this process, and which of them are pinned.
#[derive(Debug, Default)]
pub(super) struct CheckpointPins {
    /// Commits of the source; `None` where the source commits nothing.
    commits: Option<CommitTracker>,
    /// Whether the source is known, so that `commits` means something.
    is_tracking: bool,
    /// The checkpoint that was restored, until the group has confirmed a newer one. Until then any older one may be what the
    /// group has committed.
    restored: Option<PathBuf>,
    /// Checkpoints that are pinned, and the newest ones, oldest first, with their positions in claimed streams.
    written: Vec<(PathBuf, Positions)>,
}

impl CheckpointPins {
    /// The pins after a start from the checkpoint `restored`.
    pub(super) fn new(restored: Option<&Path>) -> Self {
        Self { restored: restored.map(Path::to_owned), ..Self::default() }
    }

    /// Follows the commits of the source from now on.
    pub(super) fn track_commits(&mut self, commits: Option<CommitTracker>) {
        (self.commits, self.is_tracking) = (commits, true);
    }

    /// Adds a durable checkpoint; `claimed` are its positions in streams owned through a group claim.
    pub(super) fn add(&mut self, path: &Path, claimed: Positions) {
        self.written.push((path.to_owned(), claimed));
    }

    /// The checkpoints that have to outlast retention, which keeps the `keep` newest ones.
    pub(super) fn pinned(&mut self, keep: usize) -> Pinned {
        let Some(commits) = &self.commits else {
            // Before the source is known, a group may send the worker back to the restored checkpoint, or an older one.
            let up_to = self.restored.clone().filter(|_| !self.is_tracking);
            return Pinned { checkpoints: Vec::new(), up_to };
        };
        let RestorePoints { confirmed, unconfirmed } =
            commits.restore_points(self.written.iter().map(|(_, claimed)| claimed));
        if confirmed.is_some() {
            self.restored = None;
        }
        let back: Vec<usize> = confirmed.into_iter().chain(unconfirmed).collect();
        let pinned = Pinned {
            checkpoints: back.iter().map(|index| self.written[*index].0.clone()).collect(),
            up_to: self.restored.clone(),
        };
        // Retention removes the rest, so it is forgotten here as well.
        let newest = self.written.len().saturating_sub(keep);
        let mut index = 0..;
        self.written.retain(|_| index.next().is_some_and(|index| index >= newest || back.contains(&index)));
        pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: u64) -> Positions {
        Positions::from_iter([("kafka/t/0", next)])
    }

    #[test]
    fn pins_hold_checkpoints_that_a_group_may_send_back_to() {
        let commits = CommitTracker::default();
        let mut pins = CheckpointPins::new(Some(Path::new("3")));
        assert_eq!(pins.pinned(2), Pinned { checkpoints: vec![], up_to: Some("3".into()) }, "who knows");
        pins.track_commits(None);
        assert_eq!(pins.pinned(2), Pinned::default(), "without a group");
        pins.track_commits(Some(commits.clone()));
        let write = |pins: &mut CheckpointPins, number: u64| {
            pins.add(Path::new(&number.to_string()), at(number * 10));
            commits.request(at(number * 10));
        };
        write(&mut pins, 4);
        commits.next_commit();
        let mut pinned = pins.pinned(2);
        assert_eq!(
            pinned,
            Pinned { checkpoints: vec!["4".into()], up_to: Some("3".into()) },
            "nothing is confirmed yet"
        );
        for number in 5..10 {
            write(&mut pins, number);
            pinned = pins.pinned(2);
            let these = vec!["4".into(), number.to_string().into()];
            assert_eq!(pinned, Pinned { checkpoints: these, up_to: Some("3".into()) }, "on its way, and wanted");
        }
        commits.confirm();
        pinned = pins.pinned(2);
        assert_eq!(pinned, Pinned { checkpoints: vec!["4".into(), "9".into()], up_to: None });
        commits.next_commit();
        commits.confirm();
        assert_eq!(pins.pinned(2), Pinned { checkpoints: vec!["9".into()], up_to: None });
    }
}
