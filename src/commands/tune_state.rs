//! Where a search stands, in a file of its folder: written whole after each trial, so that a search that was stopped or killed goes
//! on and ends in the same result.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::output::write_whole;
use crate::compare::contestant::Training;
use crate::evaluate::rank_code::{N_CODES, RankCode};
use crate::exit::UsageError;

/// In the place of a rank where there is none.
const NOT_RANKED: &str = "--";

/// All that was found so far.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TuneState {
    /// What is searched, over what: a search of another plan does not go on from here.
    pub(super) plan: Json,
    /// Trials that ended, in the order in which they did.
    pub(super) trials: Vec<TrialResult>,
}

/// How one trial did in one rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TrialResult {
    pub(super) rung: usize,
    pub(super) trial: usize,
    /// Events that it was judged by.
    pub(super) events: u64,
    #[serde(rename = "hr@20")]
    pub(super) hit_rate: f64,
    #[serde(rename = "ndcg@20")]
    pub(super) ndcg: f64,
    /// Of the last rung.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<LastRung>,
}

/// What the report needs of a trial of the last rung.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LastRung {
    /// Two characters for each positive event from the first judged one on: its rank's code in hexadecimal, or [`NOT_RANKED`].
    codes: String,
    pub(super) seconds: f64,
    pub(super) training: Training,
}

impl PartialEq for LastRung {
    fn eq(&self, other: &Self) -> bool {
        self.codes == other.codes
    }
}

impl LastRung {
    /// Of the ranks by number of event, of the events from `from` to before `end`.
    pub(super) fn new(
        ranks: &HashMap<u32, RankCode>,
        (from, end): (u64, u64),
        seconds: f64,
        training: Training,
    ) -> Self {
        let code = |number: u64| match ranks.get(&(number as u32)) {
            Some(rank) => format!("{:02x}", rank.index()),
            None => NOT_RANKED.to_owned(),
        };
        Self { codes: (from..end).map(code).collect(), seconds, training }
    }

    /// The ranks, by number of event; `None` where the text is none of ours.
    pub(super) fn ranks(&self, from: u64) -> Option<HashMap<u32, RankCode>> {
        let mut ranks = HashMap::new();
        for (number, code) in (from..).zip(self.codes.as_bytes().chunks(2)) {
            let code = std::str::from_utf8(code).ok()?;
            if code != NOT_RANKED {
                let index = usize::from_str_radix(code, 16).ok().filter(|index| *index < N_CODES)?;
                ranks.insert(number as u32, RankCode::from_index(index));
            }
        }
        Some(ranks)
    }
}

impl TuneState {
    fn path(folder: &Path) -> PathBuf {
        folder.join("tune.json")
    }

    /// Where the search of this plan stands in `folder`; at its beginning where nothing is there, or (`fresh`) whatever is.
    ///
    /// # Errors
    /// Where another search stands there, or the file cannot be read.
    pub(super) fn open(folder: &Path, plan: Json, fresh: bool) -> anyhow::Result<Self> {
        let path = Self::path(folder);
        let new = |plan| Self { plan, trials: Vec::new() };
        if fresh || !path.exists() {
            return Ok(new(plan));
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let refuse = |why: String| Err(UsageError(format!("{}: {why}; --fresh begins anew", path.display())).into());
        let state: Self = match serde_json::from_str(&text) {
            Ok(state) => state,
            Err(error) => return refuse(format!("not where a search stands: {error}")),
        };
        if state.plan == plan {
            return Ok(state);
        }
        let differs = plan.as_object().into_iter().flatten().find(|(name, value)| state.plan.get(name) != Some(*value));
        let what = differs.map_or("plan", |(name, _)| name.as_str());
        refuse(format!(
            "another search stands here, with another '{what}'; give it a --dir of its own, or go on as it began"
        ))
    }

    /// Writes it.
    pub(super) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        write_whole(&Self::path(folder), &format!("{}\n", serde_json::to_string(self)?))
    }

    /// How a trial did in a rung, where it has ended.
    pub(super) fn result(&self, rung: usize, trial: usize) -> Option<&TrialResult> {
        self.trials.iter().find(|result| (result.rung, result.trial) == (rung, trial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_back_as_they_were_written() {
        let training = Training {
            report: Json::Null,
            configuration: Json::Null,
            configuration_digest: String::new(),
            loss: vec![None, Some(0.5)],
            mi_bound: Vec::new(),
            events_per_second: 1.0,
        };
        let ranks = HashMap::from([(5, RankCode::new(Some(0.5))), (7, RankCode::MISS), (8, RankCode::new(Some(19.5)))]);
        let last = LastRung::new(&ranks, (4, 10), 1.0, training);
        let text = serde_json::to_string(&last).expect("a state is JSON");
        let read: LastRung = serde_json::from_str(&text).expect("as written");
        assert_eq!(read.ranks(4), Some(ranks));
        assert_eq!(LastRung { codes: "zz".to_owned(), ..read }.ranks(4), None);
    }
}
