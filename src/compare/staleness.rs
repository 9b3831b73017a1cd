//! The price of staleness: what is found by rankings that are served from a state that is some time old.

use serde::Serialize;

use super::bootstrap::{ConfidenceInterval, certainties};
use super::figures::of_ranks;
use super::judged::JudgedEvents;
use crate::evaluate::metrics::RankMetrics;
use crate::evaluate::rank_code::RankCode;
use crate::peers::interactions::Interactions;

/// Ages of items at which bands end, milliseconds, and what the bands are called.
const AGES: [(i64, &str); 4] =
    [(3_600_000, "under an hour"), (86_400_000, "under a day"), (604_800_000, "under a week"), (i64::MAX, "older")];

/// The ranks of one delay and one stale part.
#[derive(Debug, Clone)]
pub struct StaleRanks {
    /// The delay as it was asked for.
    pub delay: String,
    /// The same in milliseconds.
    pub delay_ms: i64,
    /// What was that old: `vectors`, `histories` or `everything`.
    pub stale: &'static str,
    /// The rank of each judged event.
    pub ranks: Vec<RankCode>,
    /// Median age of what was served, milliseconds; `None` where nothing was.
    pub age_ms: Option<f64>,
}

/// How much is lost by serving late, of one configuration.
#[derive(Debug, Clone, Serialize)]
pub struct Staleness {
    /// The configuration.
    pub contestant: String,
    /// Parts of the judged events by how long ago their item came first.
    pub ages: Vec<AgeBand>,
    /// Live serving first, then every delay, three times.
    pub rows: Vec<StalenessRow>,
}

/// Judged events whose items are about as old.
#[derive(Debug, Clone, Serialize)]
pub struct AgeBand {
    /// How old their items were.
    pub name: &'static str,
    /// Events.
    pub events: u64,
}

/// What one delay costs.
#[derive(Debug, Clone, Serialize)]
pub struct StalenessRow {
    /// The delay as it was asked for; `live`.
    pub delay: String,
    /// The same in milliseconds.
    pub delay_ms: i64,
    /// What was that old: `vectors`, `histories`, `everything`; `nothing`.
    pub stale: &'static str,
    /// Median age of the state that was served, milliseconds from its newest event; `None` where nothing was, and for live serving.
    pub age_ms: Option<f64>,
    /// Metrics over all judged events.
    pub metrics: RankMetrics,
    /// 95 % interval of what its hit rate is above that of live serving, by the paired bootstrap over users.
    #[serde(rename = "hr@20_difference")]
    pub difference: ConfidenceInterval,
    /// Hit rate by age of the item, in the order of `ages`; `None` where there are no such events.
    pub by_age: Vec<Option<f64>>,
}

impl Staleness {
    /// Of a contestant with the ranks `live`, and what older states found on the same events of `log`.
    pub fn new(
        contestant: &str,
        log: &Interactions,
        judged: &JudgedEvents,
        live: &[RankCode],
        stale: &[StaleRanks],
        seed: u64,
    ) -> Self {
        let ages = age_bands(log, judged);
        let all: Vec<&[RankCode]> = std::iter::once(live).chain(stale.iter().map(|stale| &*stale.ranks)).collect();
        let certainties = certainties(judged, &all, seed);
        let rows = all.iter().zip(certainties).enumerate().map(|(place, (ranks, certainty))| {
            let of = place.checked_sub(1).map(|place| &stale[place]);
            StalenessRow {
                delay: of.map_or_else(|| "live".to_owned(), |of| of.delay.clone()),
                delay_ms: of.map_or(0, |of| of.delay_ms),
                stale: of.map_or("nothing", |of| of.stale),
                age_ms: of.and_then(|of| of.age_ms),
                metrics: of_ranks(ranks),
                difference: certainty.hit_rate_difference,
                by_age: (0..AGES.len()).map(|age| hit_rate(ranks, &ages, age)).collect(),
            }
        });
        let count = |age: usize| ages.iter().filter(|other| usize::from(**other) == age).count() as u64;
        let bands = AGES.iter().enumerate().map(|(age, (_, name))| AgeBand { name, events: count(age) });
        Self { contestant: contestant.to_owned(), ages: bands.collect(), rows: rows.collect() }
    }

    /// The rows in which `stale` is old, in the order of the delays.
    pub fn of(&self, stale: &str) -> impl Iterator<Item = &StalenessRow> {
        self.rows.iter().filter(move |row| row.stale == stale)
    }
}

/// By judged event, the band of its item's age. An item that comes for the first time is younger than all.
fn age_bands(log: &Interactions, judged: &JudgedEvents) -> Vec<u8> {
    let mut first: Vec<Option<i64>> = vec![None; log.n_items()];
    let mut next = judged.numbers.iter().peekable();
    let mut bands = Vec::with_capacity(judged.len());
    for (event, (item, time)) in log.items.iter().zip(&log.timestamps).enumerate() {
        let first = &mut first[*item as usize];
        if next.next_if(|number| **number as usize == event).is_some() {
            let age = time.saturating_sub(first.unwrap_or(*time));
            bands.push(AGES.iter().take_while(|(end, _)| age >= *end).count() as u8);
        }
        *first = Some(first.map_or(*time, |first| first.min(*time)));
    }
    bands
}

fn hit_rate(ranks: &[RankCode], ages: &[u8], age: usize) -> Option<f64> {
    let inside = ranks.iter().zip(ages).filter(|(_, of_event)| usize::from(**of_event) == age);
    let (hits, n) = inside.fold((0u64, 0u64), |(hits, n), (rank, _)| (hits + u64::from(rank.is_hit()), n + 1));
    (n > 0).then(|| hits as f64 / n as f64)
}

/// A length of time in the largest unit that it fills.
pub fn length_of_time(ms: f64) -> String {
    let units = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min"), (1000.0, "s")];
    let (length, unit) = units.into_iter().find(|(length, _)| ms >= *length).unwrap_or((1.0, "ms"));
    format!("{:.1} {unit}", ms / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_as_old_as_their_first_event_is_past() {
        let (hour, day) = (3_600_000, 86_400_000);
        let mut log = Interactions::default();
        for (item, time) in [("a", 0), ("a", hour - 1), ("b", hour), ("a", hour), ("b", hour + day), ("a", 9 * day)] {
            log.push("u", item, time);
        }
        let judged = JudgedEvents::new(&log, vec![1, 2, 3, 4, 5], true);
        assert_eq!(age_bands(&log, &judged), [0, 0, 1, 2, 3]);
        let (hit, miss) = (RankCode::new(Some(0.0)), RankCode::MISS);
        let live = [hit, hit, hit, miss, miss];
        let stale = StaleRanks {
            delay: "1h".to_owned(),
            delay_ms: hour,
            stale: "everything",
            ranks: vec![hit, miss, miss, miss, miss],
            age_ms: Some(4e6),
        };
        let found = Staleness::new("c", &log, &judged, &live, &[stale], 1);
        assert_eq!(found.ages.iter().map(|age| age.events).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(found.rows[1].by_age, [Some(0.5), Some(0.0), Some(0.0), Some(0.0)]);
        assert_eq!((found.rows[0].metrics.hit_rate, found.rows[1].metrics.hit_rate), (0.6, 0.2));
        assert_eq!(length_of_time(5.4e6), "1.5 h");
    }
}
