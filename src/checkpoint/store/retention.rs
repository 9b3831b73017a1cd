//! Which checkpoints are kept: the newest ones, and those that somebody may have to go back to.

use std::path::PathBuf;

use super::number_in;

/// Checkpoints that are not removed, however many newer ones there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Addresses of single checkpoints.
    pub checkpoints: Vec<PathBuf>,
    /// Address of a checkpoint that is kept together with all before it.
    pub up_to: Option<PathBuf>,
}

impl Pinned {
    /// Whether the checkpoint `number` is pinned.
    pub(super) fn contains(&self, number: u64) -> bool {
        let number_of = |path: &PathBuf| path.file_name().and_then(|name| number_in(name.to_str()?));
        self.checkpoints.iter().any(|path| number_of(path) == Some(number))
            || self.up_to.as_ref().and_then(number_of).is_some_and(|last| number <= last)
    }
}

/// The numbers of the checkpoints to remove, ascending.
///
/// `checkpoints` are all there are, ascending, each with what identifies its state where one state may have several
/// numbers. Kept are the `keep` newest states, each under its newest number, and whatever is `pinned`.
pub(super) fn expired<S: PartialEq>(
    checkpoints: impl DoubleEndedIterator<Item = (u64, Option<S>)>,
    keep: usize,
    pinned: &Pinned,
) -> Vec<u64> {
    let mut kept: Vec<Option<S>> = Vec::new();
    let mut expired = Vec::new();
    for (number, state) in checkpoints.rev() {
        let is_repeated = state.is_some() && kept.contains(&state);
        if !pinned.contains(number) && (kept.len() >= keep || is_repeated) {
            expired.push(number);
        } else {
            kept.push(state);
        }
    }
    expired.reverse();
    expired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired_of(states: &[(u64, Option<u8>)], keep: usize, pinned: &Pinned) -> Vec<u64> {
        expired(states.iter().copied(), keep, pinned)
    }

    #[test]
    fn retention_keeps_newest_and_pinned() {
        let numbers = [(1, None), (2, None), (5, None), (7, None), (9, None)];
        assert_eq!(expired_of(&numbers, 2, &Pinned::default()), [1, 2, 5]);
        assert!(expired_of(&numbers, 9, &Pinned::default()).is_empty());
        let pinned = Pinned { checkpoints: vec!["a/0000000005".into()], up_to: Some("a/0000000001".into()) };
        assert_eq!(expired_of(&numbers, 1, &pinned), [2, 7]);
    }

    #[test]
    fn retention_counts_a_repeated_state_once() {
        let numbers = [(1, Some(1)), (2, Some(2)), (3, Some(2)), (4, Some(2)), (5, None)];
        assert_eq!(expired_of(&numbers, 3, &Pinned::default()), [2, 3]);
    }
}
