//! Which checkpoint to go on from: the newest intact one, and never one of another run than the damaged ones after it.

use super::{Reader, UNTOLD, VerifiedCheckpoint};
use crate::checkpoint::CheckpointError;

/// The newest intact checkpoint that `reader` has, with what `restore` makes of it.
pub(super) fn newest_intact<T>(
    reader: &Reader,
    restore: &impl Fn(&VerifiedCheckpoint) -> Result<T, CheckpointError>,
    passed_over: &mut impl FnMut(&CheckpointError),
) -> Result<Option<(VerifiedCheckpoint, T)>, CheckpointError> {
    let numbers = reader.numbers()?;
    // What is wrong with the newest, the number of the last one passed over, and the run that those belong to.
    let mut newest: Option<CheckpointError> = None;
    let mut passed = 0;
    let mut run = None;
    for &number in numbers.iter().rev() {
        let lineage = reader.lineage(number);
        if let Some(newest) = newest.take_if(|_| is_another_run(run.as_deref(), lineage.as_deref())) {
            let (path, older) = (reader.path(passed), reader.path(number));
            return Err(CheckpointError::OtherRun { path, older, newest: Box::new(newest) });
        }
        let restored = reader.verify(number).and_then(|intact| {
            crate::checkpoint::failpoint::reach("restore").map_err(CheckpointError::io(&intact.path, "read"))?;
            let restored = restore(&intact).map_err(|error| intact.as_called(error))?;
            Ok((intact, restored))
        });
        match restored {
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.is_of_the_checkpoint() => {
                passed_over(&error);
                newest.get_or_insert(error);
                passed = number;
                run = lineage.or(run);
            }
            Err(error) => return Err(error),
        }
    }
    let dir = reader.dir().to_owned();
    newest.map_or(Ok(None), |error| {
        Err(CheckpointError::NoneIntact { dir, count: numbers.len(), newest: Box::new(error) })
    })
}

/// Whether a checkpoint of the run `older` is none to fall back to from damaged ones of the run `damaged`; either may
/// be unknown.
fn is_another_run(damaged: Option<&str>, older: Option<&str>) -> bool {
    match (damaged, older) {
        (Some(damaged), Some(older)) => damaged != older,
        // Versions that told of no runs left damage that tells of none; anything else has lost two files.
        (None, Some(older)) => older != UNTOLD,
        // Its manifest cannot be read, so it is not gone on from anyway.
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_not_mixed() {
        assert!(!is_another_run(Some("a"), Some("a")));
        assert!(is_another_run(Some("b"), Some("a")));
        assert!(is_another_run(Some("b"), Some(UNTOLD)));
        assert!(is_another_run(None, Some("a")));
        assert!(!is_another_run(None, Some(UNTOLD)));
        assert!(!is_another_run(Some("a"), None));
    }
}
