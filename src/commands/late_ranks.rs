//! `compare --publish-delay`: which delays, and what older states found.

use std::collections::HashMap;

use crate::compare::staleness::StaleRanks;
use crate::config::Config;
use crate::context::EncoderKind;
use crate::evaluate::rank_code::RankCode;
use crate::event::Evicted;
use crate::exit::UsageError;
use crate::trainer::stale::{StalePart, StaleRank};
use crate::util::escape::escape_for_terminal;

/// What may be old, in the order in which it is shown.
const PARTS: [(StalePart, &str); 3] =
    [(StalePart::Vectors, "vectors"), (StalePart::Histories, "histories"), (StalePart::Everything, "everything")];
/// Units of time, milliseconds; `ms` before `m` and `s`.
const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A delay as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublishDelay {
    name: String,
    ms: i64,
}

/// The delays that `--publish-delay` lists, shortest first.
pub(super) fn publish_delays(texts: &[String]) -> Result<Vec<PublishDelay>, UsageError> {
    let parse = |text: &String| {
        let text = text.trim();
        let unit = UNITS.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
        let ms = unit.and_then(|(number, ms)| Some(i64::from(number.trim().parse::<u32>().ok()?) * ms));
        ms.map(|ms| PublishDelay { name: text.to_owned(), ms }).ok_or_else(|| {
            UsageError(format!(
                "--publish-delay: '{}' is no length of time; expected whole numbers with a unit (ms, s, m, h, d), such as 1m,1h,1d",
                escape_for_terminal(text)
            ))
        })
    };
    let mut delays = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    delays.sort_by_key(|delay| delay.ms);
    delays.dedup_by_key(|delay| delay.ms);
    Ok(delays)
}

/// Checks that the model can be served late.
pub(super) fn check_publishes(config: &Config, delays: &[PublishDelay]) -> Result<(), UsageError> {
    let refuse = |key: &str| {
        Err(UsageError(format!(
            "--publish-delay: not with {key}, whose rankings depend on more than a published state; leave one of them out"
        )))
    };
    match delays.is_empty() {
        true => Ok(()),
        false if config.context.encoder == EncoderKind::Gru => refuse("context.encoder=\"gru\""),
        false if config.evaluate.last_item => refuse("evaluate.last_item=true"),
        false if config.evaluate.index_only => refuse("evaluate.index_only=true"),
        false => Ok(()),
    }
}

/// Checks that the rows of a model were never given to others: what older states found would be of other items.
pub(super) fn check_kept(evicted: Evicted) -> Result<(), UsageError> {
    if evicted == Evicted::default() {
        return Ok(());
    }
    Err(UsageError(
        "--publish-delay: rows of items or users were evicted, so that older states cannot be held against the log; raise \
         memory.items.cap and memory.users.cap, and set expire_events to 0"
            .to_owned(),
    ))
}

/// What older states found, a byte for each event, delay and part.
#[derive(Debug)]
pub(super) struct LateRanks {
    delays: Vec<PublishDelay>,
    /// By delay, then by part.
    found: Vec<LateFindings>,
}

#[derive(Debug, Default)]
struct LateFindings {
    ranks: HashMap<u32, RankCode>,
    /// Milliseconds.
    ages: Vec<f32>,
}

impl LateRanks {
    pub(super) fn new(delays: &[PublishDelay]) -> Self {
        Self {
            delays: delays.to_vec(),
            found: (0..delays.len() * PARTS.len()).map(|_| LateFindings::default()).collect(),
        }
    }

    /// Milliseconds.
    pub(super) fn delays(&self) -> Vec<i64> {
        self.delays.iter().map(|delay| delay.ms).collect()
    }

    pub(super) fn note(&mut self, rank: &StaleRank) {
        let part = PARTS.iter().position(|(part, _)| *part == rank.part).unwrap_or_default();
        let found = &mut self.found[rank.delay * PARTS.len() + part];
        found.ranks.insert(rank.number as u32, RankCode::new(rank.rank));
        found.ages.extend(rank.age_ms.map(|age| age as f32));
    }

    /// The ranks of the events of these numbers. What could not be ranked, live or late, was missed.
    pub(super) fn of(&self, numbers: &[u32]) -> Vec<StaleRanks> {
        let findings = self.found.iter().enumerate().map(|(place, found)| {
            let delay = &self.delays[place / PARTS.len()];
            let mut ages = found.ages.clone();
            ages.sort_unstable_by(f32::total_cmp);
            StaleRanks {
                delay: delay.name.clone(),
                delay_ms: delay.ms,
                stale: PARTS[place % PARTS.len()].1,
                ranks: numbers
                    .iter()
                    .map(|number| found.ranks.get(number).copied().unwrap_or(RankCode::MISS))
                    .collect(),
                age_ms: ages.get(ages.len() / 2).copied().map(f64::from),
            }
        });
        findings.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read_with_their_units() {
        let parse = |text: &str| publish_delays(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let delays = parse("1d, 5ms,1s,2m,24h,0s").expect("lengths of time");
        assert_eq!(delays.iter().map(|delay| delay.ms).collect::<Vec<_>>(), [0, 5, 1000, 120_000, 86_400_000]);
        for wrong in ["1", "h", "-1h", "1 week", "", "1.5h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
