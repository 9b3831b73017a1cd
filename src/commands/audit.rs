//! `audit`: whether each record is part of exactly one worker's durable state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{audit_shared, checkpoint, print};
use crate::checkpoint::Checkpoint;
use crate::cli::{AuditArgs, Layers};
use crate::exit::UsageError;
use crate::position::Positions;
use crate::snapshot;
use crate::trainer::audit::{OffsetRange, RecordFate};
use crate::util::escape::escape_for_terminal;

/// Most gaps, and most repetitions, that are listed of a stream.
const LISTED: usize = 20;

/// The audits of all workers for one stream, merged.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct StreamAudit {
    /// First offset in any state.
    from: u64,
    /// One past the last offset in any state.
    until: u64,
    trained: u64,
    deferred: u64,
    skipped: u64,
    rejected: u64,
    lost: u64,
    /// Offsets without a record: the source passed them over (transactions, compaction).
    passed: u64,
    /// Offsets that are in more than one state, or in one more than once.
    twice: u64,
    /// Offsets in between, or before a worker's position, that are in no state.
    missing: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    twice_at: Vec<(u64, u64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_at: Vec<(u64, u64)>,
}

pub(super) fn audit(layers: &Layers, options: AuditArgs) -> anyhow::Result<()> {
    let checkpoints =
        options.checkpoints.iter().map(|path| checkpoint(layers, path)).collect::<anyhow::Result<Vec<Checkpoint>>>()?;
    if checkpoints.iter().any(|checkpoint| checkpoint.manifest().shared.is_some()) {
        return audit_shared::audit(layers, &options, checkpoints);
    }
    let mut streams: BTreeMap<String, Vec<OffsetRange>> = BTreeMap::new();
    let mut positions = Positions::default();
    for checkpoint in &checkpoints {
        for (stream, next) in checkpoint.manifest().positions.iter() {
            positions.advance(stream, next.max(positions.next(stream).unwrap_or(0)));
        }
        let Some(audit) = snapshot::audit::read(checkpoint)? else {
            let path = checkpoint.path().display();
            return Err(UsageError(format!("{path} holds no audit: it is kept where checkpoint.audit is on")).into());
        };
        for (stream, ranges) in audit.streams {
            streams.entry(stream).or_default().extend(ranges);
        }
    }
    let audits: BTreeMap<String, StreamAudit> = streams
        .into_iter()
        .map(|(stream, ranges)| (positions.next(&stream), stream, ranges))
        .map(|(position, stream, ranges)| (stream, merge_ranges(ranges, position)))
        .collect();
    if options.json {
        print(&format!("{}\n", serde_json::to_string(&audits)?));
    } else {
        print(&text(&audits)?);
    }
    let twice: u64 = audits.values().map(|audit| audit.twice).sum();
    let missing: u64 = audits.values().map(|audit| audit.missing).sum();
    anyhow::ensure!(twice + missing == 0, "{twice} records are there twice, {missing} are missing");
    Ok(())
}

/// Merges the ranges of one stream from all audits; `position` is the furthest at which one of the workers stands.
fn merge_ranges(mut ranges: Vec<OffsetRange>, position: Option<u64>) -> StreamAudit {
    ranges.sort_unstable_by_key(|range| (range.from, range.until));
    let from = ranges.first().map_or(0, |first| first.from);
    let mut audit = StreamAudit { from, until: from, ..StreamAudit::default() };
    for OffsetRange { from, until, fate } in ranges {
        let records = until - from;
        match fate {
            RecordFate::Trained => audit.trained += records,
            RecordFate::Deferred => audit.deferred += records,
            RecordFate::Skipped => audit.skipped += records,
            RecordFate::Rejected => audit.rejected += records,
            RecordFate::Lost => audit.lost += records,
            RecordFate::Passed => audit.passed += records,
        }
        if from > audit.until {
            audit.missing += from - audit.until;
            audit.missing_at.push((audit.until, from));
        } else if from < audit.until {
            let end = until.min(audit.until);
            audit.twice += end - from;
            audit.twice_at.push((from, end));
        }
        audit.until = audit.until.max(until);
    }
    if let Some(position) = position.filter(|position| *position > audit.until) {
        audit.missing += position - audit.until;
        audit.missing_at.push((audit.until, position));
    }
    audit.missing_at.truncate(LISTED);
    audit.twice_at.truncate(LISTED);
    audit
}

fn text(audits: &BTreeMap<String, StreamAudit>) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "{:<32} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>8}\n",
        "stream", "from", "until", "trained", "deferred", "skipped", "rejected", "lost", "passed", "twice", "missing"
    );
    for (stream, audit) in audits {
        let StreamAudit { from, until, trained, deferred, skipped, rejected, lost, passed, twice, missing, .. } = audit;
        writeln!(
            text,
            "{:<32} {from:>10} {until:>10} {trained:>10} {deferred:>9} {skipped:>9} {rejected:>9} {lost:>7} {passed:>7} {twice:>7} {missing:>8}",
            escape_for_terminal(stream)
        )?;
        for (name, places) in [("twice", &audit.twice_at), ("missing", &audit.missing_at)] {
            for (from, until) in places {
                writeln!(text, "    {name}: {from}..{until}")?;
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_ranges_finds_gaps_and_repetitions() {
        let range = |from, until, fate| OffsetRange { from, until, fate };
        let ranges = vec![
            range(12, 15, RecordFate::Trained),
            range(0, 5, RecordFate::Trained),
            range(5, 6, RecordFate::Rejected),
            range(3, 8, RecordFate::Trained),
            range(8, 10, RecordFate::Lost),
            range(15, 17, RecordFate::Passed),
        ];
        let audit = merge_ranges(ranges.clone(), Some(17));
        assert_eq!((audit.from, audit.until, audit.passed), (0, 17, 2));
        assert_eq!((audit.trained, audit.rejected, audit.lost), (13, 1, 2));
        assert_eq!((audit.twice, audit.twice_at), (3, vec![(3, 5), (5, 6)]));
        assert_eq!((audit.missing, audit.missing_at), (2, vec![(10, 12)]));
        // A worker stands behind what any audit names.
        let audit = merge_ranges(ranges, Some(20));
        assert_eq!((audit.missing, audit.missing_at), (5, vec![(10, 12), (17, 20)]));
    }
}
