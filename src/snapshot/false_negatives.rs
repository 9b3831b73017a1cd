//! `false_negatives.json`: the negatives that are being watched, and those that turned out false.

use std::io::Write as _;
use std::path::Path;

use super::damaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::file::read_bounded;
use crate::checkpoint::store::Draft;
use crate::config::Config;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::trainer::state::State;

const FALSE_NEGATIVES: &str = "false_negatives.json";

/// Writes the tracker as JSON.
pub(super) fn write(draft: &mut Draft, tracker: &FalseNegativeTracker) -> Result<(), CheckpointError> {
    draft.file(FALSE_NEGATIVES, |file| Ok(file.write_all(&serde_json::to_vec(tracker)?)?))
}

/// Reads the tracker into `state`, whose items, users and event counts are read.
pub(super) fn read(folder: &Path, config: &Config, state: &mut State) -> Result<(), CheckpointError> {
    let damaged = |problem: &str| damaged(folder, FALSE_NEGATIVES, problem);
    let text = read_bounded(&folder.join(FALSE_NEGATIVES), u64::MAX - 1)?;
    let tracker: FalseNegativeTracker = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
    let n_rows = (state.items.ids.len(), state.users.ids.len());
    let restored = tracker.restored(config.negatives.false_negative_window, n_rows, state.progress.events.used);
    state.negatives.false_negatives =
        restored.ok_or_else(|| damaged("it refers to items or users that are not there"))?;
    Ok(())
}
