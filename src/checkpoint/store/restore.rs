//! Which checkpoint to go on from: the newest intact one, and never one of another run than the damaged ones after it.

use super::backend::Backend;
use crate::checkpoint::failpoint;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// The newest intact checkpoint of `backend`, with what `restore` makes of it.
pub(super) fn newest_intact<T>(
    backend: &dyn Backend,
    restore: &impl Fn(&Checkpoint) -> Result<T, CheckpointError>,
    on_skipped: &mut impl FnMut(&CheckpointError),
) -> Result<Option<(Checkpoint, T)>, CheckpointError> {
    let numbers = backend.numbers()?;
    let address = |number: u64| backend.address().join(format!("{number:010}"));
    // What is wrong with the newest, the number of the last one that was skipped, and the run of those skipped.
    let mut newest: Option<CheckpointError> = None;
    let mut intact: Option<Box<CheckpointError>> = None;
    let mut skipped = 0;
    let mut skipped_run = None;
    for &number in numbers.iter().rev() {
        let run = lineage(backend, number);
        if let Some(newest) = newest.take_if(|_| is_other_run(skipped_run.as_deref(), run.as_deref())) {
            let (path, older) = (address(skipped), address(number));
            return Err(CheckpointError::OtherRun { path, older, newest: Box::new(newest) });
        }
        let restored = backend.fetch(number).and_then(|checkpoint| {
            failpoint::reach("restore").map_err(CheckpointError::io(checkpoint.path(), "read"))?;
            let restored = restore(&checkpoint).map_err(|error| checkpoint.with_public_path(error))?;
            Ok((checkpoint, restored))
        });
        match restored {
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.permits_fallback() => {
                on_skipped(&error);
                match error {
                    CheckpointError::Overtaken { .. } if newest.is_some() && intact.is_none() => {
                        intact = Some(Box::new(error));
                    }
                    error => drop(newest.get_or_insert(error)),
                }
                skipped = number;
                skipped_run = run.or(skipped_run);
            }
            Err(error) => return Err(error),
        }
    }
    let dir = backend.address().to_owned();
    newest.map_or(Ok(None), |error| {
        Err(CheckpointError::NoneIntact { dir, count: numbers.len(), newest: Box::new(error), older: intact })
    })
}

/// The run that the checkpoint `number` belongs to, where its manifest or the file beside it tell.
fn lineage(backend: &dyn Backend, number: u64) -> Option<String> {
    match backend.manifest(number) {
        Ok(manifest) => Some(manifest.provenance.lineage),
        Err(_) => backend.lineage_marker(number),
    }
}

/// Whether a checkpoint of the run `older` must not be restored in place of damaged ones of the run `damaged`; either may
/// be unknown.
fn is_other_run(damaged: Option<&str>, older: Option<&str>) -> bool {
    match (damaged, older) {
        (Some(damaged), Some(older)) => damaged != older,
        // Damage that tells of no run may be of any.
        (None, Some(_)) => true,
        // Its manifest cannot be read, so it is not restored anyway.
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_other_run_keeps_runs_apart() {
        assert!(!is_other_run(Some("a"), Some("a")));
        assert!(is_other_run(Some("b"), Some("a")));
        assert!(is_other_run(None, Some("a")));
        assert!(!is_other_run(Some("a"), None));
    }
}
