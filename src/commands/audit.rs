//! `audit`: whether each record is part of exactly one worker's durable state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{checkpoint, print};
use crate::cli::{AuditArgs, Layers};
use crate::exit::UsageError;
use crate::snapshot::audit::{Audit, Fate, Stretch};
use crate::util::escape::escape_for_terminal;

/// How many gaps and repetitions of a stream are listed.
const LISTED: usize = 20;

/// What the audits of all workers say of one stream together.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Finding {
    /// The first offset that anybody has.
    from: u64,
    /// One past the last.
    until: u64,
    trained: u64,
    deferred: u64,
    skipped: u64,
    rejected: u64,
    lost: u64,
    /// Offsets that are in more than one state, or in one more than once.
    twice: u64,
    /// Offsets in between that are in none. Those of transactions' markers are no records.
    missing: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    twice_at: Vec<(u64, u64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_at: Vec<(u64, u64)>,
}

pub(super) fn audit(layers: &Layers, options: AuditArgs) -> anyhow::Result<()> {
    let mut streams: BTreeMap<String, Vec<Stretch>> = BTreeMap::new();
    for path in &options.checkpoints {
        let Some(audit) = Audit::load(&checkpoint(layers, path)?)? else {
            let path = path.display();
            return Err(UsageError(format!("{path} holds no audit: it is kept where checkpoint.audit is on")).into());
        };
        for (stream, stretches) in audit.streams {
            streams.entry(stream).or_default().extend(stretches);
        }
    }
    let findings: BTreeMap<String, Finding> =
        streams.into_iter().map(|(stream, stretches)| (stream, weigh(stretches))).collect();
    if options.json {
        print(&format!("{}\n", serde_json::to_string(&findings)?));
    } else {
        print(&text(&findings)?);
    }
    let twice: u64 = findings.values().map(|finding| finding.twice).sum();
    let missing: u64 = findings.values().map(|finding| finding.missing).sum();
    anyhow::ensure!(twice + missing == 0, "{twice} records are there twice, {missing} are missing");
    Ok(())
}

/// Lays stretches side by side.
fn weigh(mut stretches: Vec<Stretch>) -> Finding {
    stretches.sort_unstable_by_key(|stretch| (stretch.from, stretch.until));
    let from = stretches.first().map_or(0, |first| first.from);
    let mut finding = Finding { from, until: from, ..Finding::default() };
    for Stretch { from, until, fate } in stretches {
        let records = until - from;
        match fate {
            Fate::Trained => finding.trained += records,
            Fate::Deferred => finding.deferred += records,
            Fate::Skipped => finding.skipped += records,
            Fate::Rejected => finding.rejected += records,
            Fate::Lost => finding.lost += records,
        }
        if from > finding.until {
            finding.missing += from - finding.until;
            finding.missing_at.push((finding.until, from));
        } else if from < finding.until {
            let end = until.min(finding.until);
            finding.twice += end - from;
            finding.twice_at.push((from, end));
        }
        finding.until = finding.until.max(until);
    }
    finding.missing_at.truncate(LISTED);
    finding.twice_at.truncate(LISTED);
    finding
}

fn text(findings: &BTreeMap<String, Finding>) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "{:<32} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7} {:>7} {:>8}\n",
        "stream", "from", "until", "trained", "deferred", "skipped", "rejected", "lost", "twice", "missing"
    );
    for (stream, finding) in findings {
        let Finding { from, until, trained, deferred, skipped, rejected, lost, twice, missing, .. } = finding;
        writeln!(
            text,
            "{:<32} {from:>10} {until:>10} {trained:>10} {deferred:>9} {skipped:>9} {rejected:>9} {lost:>7} {twice:>7} {missing:>8}",
            escape_for_terminal(stream)
        )?;
        for (name, places) in [("twice", &finding.twice_at), ("missing", &finding.missing_at)] {
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
    fn gaps_and_repetitions_are_found() {
        let stretch = |from, until, fate| Stretch { from, until, fate };
        let finding = weigh(vec![
            stretch(12, 15, Fate::Trained),
            stretch(0, 5, Fate::Trained),
            stretch(5, 6, Fate::Rejected),
            stretch(3, 8, Fate::Trained),
            stretch(8, 10, Fate::Lost),
        ]);
        assert_eq!((finding.from, finding.until), (0, 15));
        assert_eq!((finding.trained, finding.rejected, finding.lost), (13, 1, 2));
        assert_eq!((finding.twice, finding.twice_at), (3, vec![(3, 5), (5, 6)]));
        assert_eq!((finding.missing, finding.missing_at), (2, vec![(10, 12)]));
    }
}
