//! `progress.json`: how training does, and the scales of the decayed counts. How far it is (steps, event counts) is in the
//! manifest.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::damaged;
use super::item_state::ItemCounts;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::file::read_bounded;
use crate::checkpoint::store::Draft;
use crate::config::Config;
use crate::evaluate::metrics::EvalMetrics;
use crate::negatives::frequency::{DecayedCounts, Frequencies, Newcomers};
use crate::objective::step::ObjectiveLoss;
use crate::trainer::state::{OthersEvents, Progress};

const PROGRESS: &str = "progress.json";

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct ProgressFile {
    /// By half-life: weight of an event, and total.
    frequency_scales: Vec<[f64; 2]>,
    /// By half-life: the evidence that decides between them.
    frequency_evidence: Vec<f64>,
    /// Time of the newest event that was counted, milliseconds since 1970 UTC.
    frequency_newest: Option<i64>,
    /// Of the long memory that short ones may overrule: the sum of its shares, and events until it is taken anew.
    frequency_overruled: [f64; 2],
    /// Events so far, by which it is noted when items came first.
    frequency_clock: f64,
    /// By half-life: events of new items, and new items, of late.
    frequency_newcomers: Vec<[f64; 2]>,
    /// Loss and bound on information of the newest step that trained, in nats.
    last_loss: (f64, f64),
    /// How each part of the objectives did in that step.
    last_parts: Vec<ObjectiveLoss>,
    /// Share of the newest records that was rejected, an exponential moving average.
    rejected_share: f64,
    /// What test-then-train evaluation measured.
    evaluation: EvalMetrics,
    /// Events of other workers, where workers share a model.
    #[serde(default, skip_serializing_if = "is_none")]
    others: OthersEvents,
}

/// Whether there are no events of others.
fn is_none(others: &OthersEvents) -> bool {
    *others == OthersEvents::default()
}

/// Writes `progress`, apart from what is in the manifest, and the scales of `frequencies`.
pub(super) fn write(draft: &mut Draft, progress: &Progress, frequencies: &Frequencies) -> Result<(), CheckpointError> {
    let Progress { steps: _, events: _, others, last_loss, last_parts, evaluation, rejected_share } = progress;
    let content = ProgressFile {
        frequency_scales: frequencies.memories().iter().map(DecayedCounts::scale_parts).collect(),
        frequency_evidence: frequencies.evidence().to_vec(),
        frequency_newest: frequencies.newest(),
        frequency_overruled: frequencies.overruled(),
        frequency_clock: frequencies.newcomers().clock(),
        frequency_newcomers: frequencies.newcomers().seen().to_vec(),
        last_loss: *last_loss,
        last_parts: last_parts.clone(),
        rejected_share: *rejected_share,
        evaluation: evaluation.clone(),
        others: *others,
    };
    draft.file(PROGRESS, |file| Ok(file.write_all(serde_json::to_string(&content)?.as_bytes())?))
}

/// Reads what [`write`] has written into `progress`, and returns the frequencies of what is counted of the items.
pub(super) fn read(
    folder: &Path,
    config: &Config,
    ItemCounts { counts, arrivals }: ItemCounts,
    progress: &mut Progress,
) -> Result<Frequencies, CheckpointError> {
    let damaged = |problem: &str| damaged(folder, PROGRESS, problem);
    let text = read_bounded(&folder.join(PROGRESS), u64::MAX - 1)?;
    let content: ProgressFile = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
    // Named one by one, so that a field which is not restored does not compile.
    let ProgressFile {
        frequency_scales,
        frequency_evidence,
        frequency_newest,
        frequency_overruled,
        frequency_clock,
        frequency_newcomers,
        last_loss,
        last_parts,
        rejected_share,
        evaluation,
        others,
    } = content;
    let empty = Frequencies::configured(&config.negatives, config.evaluate.popularity_half_life);
    let newcomers = Newcomers::restored(frequency_clock, arrivals, frequency_newcomers);
    let (evidence, newest) = (&frequency_evidence, frequency_newest);
    let frequencies = empty.restored(&frequency_scales, counts, evidence, newest, frequency_overruled, newcomers);
    let Progress { steps, events, .. } = *progress;
    *progress = Progress { steps, events, others, last_loss, last_parts, evaluation, rejected_share };
    frequencies.ok_or_else(|| damaged("its numbers are not those of these half-lives and items"))
}
