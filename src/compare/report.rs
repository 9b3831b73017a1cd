//! All that a comparison found: as JSON it is printed as it stands, and text and page are made of it.

use serde::Serialize;

use super::bootstrap::{Certainty, certainties};
use super::contestant::{Contestant, ContestantKind, Training};
use super::figures::{along_stream, by_band, of_ranks, stretches};
use super::judged::{Band, JudgedEvents};
use super::staleness::Staleness;
use super::{page, text, verdict};
use crate::evaluate::metrics::RankMetrics;
use crate::peers::interactions::Interactions;

/// What was compared, and how each contestant fared.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonReport {
    /// Version of the program.
    pub negstream: String,
    /// What it means, in a sentence or two.
    pub verdict: String,
    /// What was read.
    pub log: LogFacts,
    /// Parts of the judged events.
    pub bands: Vec<Band>,
    /// Times at which the stretches of `curve` begin, milliseconds since 1970 UTC.
    pub stretches_from: Vec<i64>,
    /// The contestants, configurations first.
    pub contestants: Vec<ContestantReport>,
    /// Peers that were left out, and why.
    pub left_out: Vec<String>,
    /// What is lost by serving late, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness: Option<Staleness>,
}

/// What was read.
#[derive(Debug, Clone, Serialize)]
pub struct LogFacts {
    /// The logs as they were named.
    pub logs: Vec<String>,
    /// A digest of each file's content.
    pub digests: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Positive events.
    pub positives: u64,
    /// Their users.
    pub users: u64,
    /// Their items.
    pub items: u64,
    /// Events that contestants are judged by.
    pub judged: u64,
    /// Users of those.
    pub judged_users: u64,
    /// Items may recur.
    pub repeat: bool,
}

impl LogFacts {
    /// What was read of `logs`, files with `digests` that have so many `rows`: the positive events `log`, of which `judged` are judged;
    /// `repeat`: items may recur.
    pub fn new(
        logs: &[String],
        (digests, rows): (Vec<String>, u64),
        (log, judged): (&Interactions, &JudgedEvents),
        repeat: bool,
    ) -> Self {
        Self {
            logs: logs.to_vec(),
            digests,
            rows,
            positives: log.len() as u64,
            users: log.n_users() as u64,
            items: log.n_items() as u64,
            judged: judged.len() as u64,
            judged_users: judged.n_users as u64,
            repeat,
        }
    }
}

/// How one contestant fared.
#[derive(Debug, Clone, Serialize)]
pub struct ContestantReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ContestantKind,
    /// What is special of it.
    pub setting: String,
    /// How many settings were tried on these very events; 1 where none was chosen.
    pub settings_tried: usize,
    /// Metrics over all judged events.
    pub metrics: RankMetrics,
    /// 95 % intervals, by a paired bootstrap over users; differences are those from the first contestant.
    pub intervals: Certainty,
    /// Hit rate by band, in the order of `bands`; `None` where a band is empty.
    pub bands: Vec<Option<f64>>,
    /// Hit rate along the stream.
    pub curve: Vec<f64>,
    /// Seconds that it took.
    pub seconds: f64,
    /// What training gave; `None` for a peer.
    pub training: Option<Training>,
}

impl ComparisonReport {
    /// Of contestants that were judged by the same events; the first is what the others are compared with. `seed` is that of
    /// the bootstrap.
    ///
    /// # Panics
    /// Where a contestant has not as many ranks as there are judged events.
    pub fn new(
        log: LogFacts,
        judged: &JudgedEvents,
        contestants: Vec<Contestant>,
        left_out: Vec<String>,
        seed: u64,
    ) -> Self {
        assert!(contestants.iter().all(|contestant| contestant.ranks.len() == judged.len()), "a rank for each event");
        let ranks: Vec<_> = contestants.iter().map(|contestant| contestant.ranks.as_slice()).collect();
        let certainties = certainties(judged, &ranks, seed);
        let reports: Vec<ContestantReport> = contestants
            .into_iter()
            .zip(certainties)
            .map(|(contestant, intervals)| {
                let Contestant { name, kind, setting, n_tried, ranks, seconds, training } = contestant;
                ContestantReport {
                    name,
                    kind,
                    setting,
                    settings_tried: n_tried,
                    metrics: of_ranks(&ranks),
                    intervals,
                    bands: by_band(judged, &ranks),
                    curve: along_stream(&ranks),
                    seconds,
                    training,
                }
            })
            .collect();
        Self {
            negstream: env!("CARGO_PKG_VERSION").to_owned(),
            verdict: verdict::verdict(&reports),
            log,
            bands: judged.bands().to_vec(),
            stretches_from: stretches(judged.len()).map(|range| judged.timestamps[range.start]).collect(),
            contestants: reports,
            left_out,
            staleness: None,
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// A page for a browser, whole in itself.
    pub fn page(&self) -> String {
        page::page(self)
    }
}
