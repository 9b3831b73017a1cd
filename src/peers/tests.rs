//! Ranks that follow from sparse terms, against a ranking of every known item by scores computed anew from the whole past.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::interactions::Interactions;
use super::mix::{Mix, PopularityUnit, grid};
use super::pass::{Pass, Related};
use super::vstan::VstanOptions;
use crate::evaluate::rank_code::RankCode;

const HALF_LIVES: [f64; 2] = [f64::INFINITY, 7.0];
const OWN_HALF_LIFE: f64 = 50.0;

/// A log of events (user, item), one a millisecond.
fn log(events: &[(u32, u32)]) -> Interactions {
    let mut log = Interactions::default();
    for (time, (user, item)) in (0..).zip(events) {
        log.push(&user.to_string(), &item.to_string(), time);
    }
    log
}

/// Everything before event number `event` of a log.
struct Past<'a> {
    log: &'a Interactions,
    event: usize,
}

impl Past<'_> {
    /// The user's items, oldest first.
    fn of(&self, user: u32) -> Vec<u32> {
        (0..self.event).filter(|event| self.log.users[*event] == user).map(|event| self.log.items[event]).collect()
    }

    fn count(&self, item: u32) -> f64 {
        self.log.items[..self.event].iter().filter(|other| **other == item).count() as f64
    }

    fn norm(&self, item: u32, damping: f64) -> f64 {
        (self.count(item) + 10.0).powf(-damping)
    }

    fn popularity(&self, item: u32, half_life: f64) -> f64 {
        let came = (0..self.event).filter(|event| self.log.items[*event] == item);
        came.map(|event| (-((self.event - 1 - event) as f64) / half_life).exp2()).sum()
    }

    fn item_knn(&self, user: u32, item: u32) -> f64 {
        // What each event of the log added to the table, from its user's five items before.
        let mut of_pairs = std::collections::HashMap::new();
        for event in 0..self.event {
            let before = Past { log: self.log, event }.of(self.log.users[event]);
            for (back, other) in (0..).zip(before.iter().rev().take(5)) {
                *of_pairs.entry((*other, self.log.items[event])).or_insert(0.0) += 0.9f64.powi(back);
                *of_pairs.entry((self.log.items[event], *other)).or_insert(0.0) += 0.5 * 0.9f64.powi(back);
            }
        }
        let newest = self.of(user);
        let terms = (0..).zip(newest.iter().rev().take(5)).map(|(back, other)| {
            let weight = of_pairs.get(&(*other, item)).copied().unwrap_or(0.0);
            weight * self.norm(*other, 0.5) * self.norm(item, 0.5) * 0.8f64.powi(back)
        });
        terms.sum()
    }

    fn vstan(&self, user: u32, item: u32, options: &VstanOptions) -> f64 {
        let mine = self.of(user);
        let newest: Vec<u32> = mine.iter().rev().take(10).copied().collect();
        let reach = 50.min((4.0 * options.distance) as usize + 1);
        let mut score = 0.0;
        for other in 0..self.log.n_users() as u32 {
            let theirs = self.of(other);
            let (mut weight, mut matched) = (0.0, None);
            for (back, asked) in newest.iter().enumerate() {
                if newest[..back].contains(asked) {
                    continue;
                }
                // All but the ten newest of the user's own events may match.
                let own = if other == user { 10 } else { 0 };
                let end = theirs.len().saturating_sub(own);
                let Some(place) = theirs[..end].iter().rposition(|item| item == asked) else { continue };
                if theirs.len() - place > 50 {
                    continue;
                }
                matched = matched.or(Some(place));
                weight += (-(back as f64) / options.recency).exp() * self.norm(*asked, options.damping);
            }
            let Some(at) = matched else { continue };
            let events: Vec<usize> = (0..self.event).filter(|event| self.log.users[*event] == other).collect();
            weight *= (-((self.event - events[at]) as f64) / options.age).exp() / (theirs.len().min(50) as f64).sqrt();
            for (place, found) in theirs.iter().enumerate() {
                let distance = place.abs_diff(at);
                if *found == item && distance > 0 && distance <= reach && theirs.len() - place <= 50 {
                    let fading = (-(distance as f64) / options.distance).exp() * if place > at { 1.0 } else { 0.5 };
                    score += weight * self.norm(item, options.damping) * fading;
                }
            }
        }
        score
    }

    fn own_history(&self, user: u32, item: u32) -> f64 {
        let mine = self.of(user);
        let had = mine.iter().rev().enumerate().filter(|(_, other)| **other == item);
        had.map(|(ago, _)| (-(ago as f64) / OWN_HALF_LIFE).exp2()).sum()
    }

    fn own_transitions(&self, user: u32, item: u32) -> f64 {
        let mine: Vec<u32> = self.of(user).into_iter().rev().collect();
        let steps = (1..mine.len()).filter(|ago| mine[*ago] == mine[0] && mine[*ago - 1] == item);
        steps.map(|ago| (-(ago as f64) / OWN_HALF_LIFE).exp2()).sum()
    }
}

/// The ranks that event number `event` may have under one mix, and how far from a tie its nearest rival is; `None` where the item
/// is new. Sums in another order differ in their last digits, so what is nearly a tie may be one or not.
fn possible_ranks(
    log: &Interactions,
    event: usize,
    pass: &Pass,
    mix: &Mix,
    repeat: bool,
) -> Option<(RangeInclusive<f64>, f64)> {
    let past = Past { log, event };
    let (user, target) = (log.users[event], log.items[event]);
    let mine = past.of(user);
    let known: Vec<u32> = (0..log.n_items() as u32).filter(|item| past.count(*item) > 0.0).collect();
    if !known.contains(&target) {
        return None;
    }
    let candidates: Vec<u32> =
        known.iter().copied().filter(|item| repeat || *item == target || !mine.contains(item)).collect();
    let related = |item: u32| match &pass.related {
        Related::None => 0.0,
        Related::ItemKnn => past.item_knn(user, item),
        Related::Vstan(options) => past.vstan(user, item, options),
    };
    let half_life = pass.half_lives[mix.half_life];
    let popularity = |item: u32| past.popularity(item, half_life);
    let most = candidates.iter().map(|item| related(*item)).fold(0.0, f64::max);
    let whole: f64 = match mix.unit {
        PopularityUnit::Share => known.iter().map(|item| popularity(*item)).sum(),
        PopularityUnit::Peak => known.iter().map(|item| popularity(*item)).fold(0.0, f64::max),
    };
    let score = |item: u32| {
        let related = if most > 0.0 { related(item) / most } else { 0.0 };
        let (own, transitions) =
            if repeat { (past.own_history(user, item), past.own_transitions(user, item)) } else { (0.0, 0.0) };
        mix.related * related
            + mix.own * own
            + mix.transitions * transitions
            + mix.popularity * popularity(item) / whole
    };
    let mine = score(target);
    let others: Vec<f64> = candidates.iter().filter(|item| **item != target).map(|item| score(*item) - mine).collect();
    let slack = 1e-12 * mine.abs().max(1e-6);
    let equal = others.iter().filter(|difference| difference.abs() <= slack).count();
    let above = others.iter().filter(|difference| **difference > slack).count();
    let nearest = others.iter().map(|difference| difference.abs()).filter(|d| *d > slack).fold(f64::INFINITY, f64::min);
    Some((above as f64..=(above + equal) as f64, nearest))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn sparse_ranks_are_those_of_a_dense_ranking(
        events in proptest::collection::vec((0u32..4, 0u32..12), 20..80),
        repeat in any::<bool>(),
        related in 0usize..3,
        decays in 0usize..2,
    ) {
        let log = log(&events);
        let options = [
            VstanOptions { recency: 1.5, age: 30.0, distance: 1.5, damping: 0.5 },
            VstanOptions { recency: 5.0, age: 1e12, distance: 6.0, damping: 0.0 },
        ];
        let mut mixes = grid(HALF_LIVES.len(), repeat, true);
        mixes.truncate(40);
        mixes.extend([Mix::popularity(1), Mix::weights(0.0, 1.0, 2.0, 1e-3, 0), Mix::weights(1.0, 0.0, 0.0, 0.0, 0)]);
        let related = [Related::None, Related::ItemKnn, Related::Vstan(options[decays])][related];
        let pass = Pass { related, half_lives: HALF_LIVES.to_vec(), mixes };
        let judged: Vec<u32> = (events.len() as u32 / 2..events.len() as u32).collect();
        let ranks = pass.rank(&log, &judged, repeat);
        for (mix, ranks) in pass.mixes.iter().zip(&ranks) {
            for (event, code) in judged.iter().zip(ranks) {
                let expected = possible_ranks(&log, *event as usize, &pass, mix, repeat);
                let is_right = match &expected {
                    None => *code == RankCode::MISS,
                    // The table of item-kNN has single precision.
                    Some((_, nearest)) if *nearest < 1e-5 => true,
                    Some((ranks, _)) => {
                        (RankCode::new(Some(*ranks.start()))..=RankCode::new(Some(*ranks.end()))).contains(code)
                    }
                };
                prop_assert!(is_right, "event {event}: {code:?} for {expected:?}, {mix:?}");
            }
        }
        let counted = pass.count(&log, &judged, repeat).figures();
        for (ranks, (hit_rate, _)) in ranks.iter().zip(counted) {
            let hits = ranks.iter().filter(|code| code.is_hit()).count();
            prop_assert!((hit_rate - hits as f64 / judged.len() as f64).abs() < 1e-12);
        }
    }
}

#[test]
fn ranks_are_the_same_in_shares() {
    // Enough events that several threads share them.
    let events: Vec<(u32, u32)> = (0..30_000u32).map(|n| (n * n % 97, (n / 7 * n) % 53)).collect();
    let log = log(&events);
    let judged: Vec<u32> = (0..30_000).filter(|event| event % 10 != 3).collect();
    let mixes = vec![Mix::weights(1.0, 0.3, 0.6, 0.1, 0)];
    let pass = Pass { related: Related::ItemKnn, half_lives: vec![500.0], mixes };
    let on_threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| pass.rank(&log, &judged, true))
    };
    assert_eq!(on_threads(1), on_threads(3));
}
