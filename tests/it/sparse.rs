//! Logs on which there is little to learn: what is simple is hard to beat there, and must not be lost. Each is made here, from a
//! seed.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use negstream::event::Interaction;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Distribution, Exp1, LogNormal, Poisson, Zipf};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::support::{self, Place, write_log};

const SECOND: i64 = 1000;
const DAY: i64 = 24 * 3600 * SECOND;
/// When each log begins.
const BEGIN: i64 = 1_600_000_000 * SECOND;

fn click(user: u32, item: u32, timestamp: i64) -> Interaction {
    support::click(user, item, BEGIN + timestamp)
}

/// A few events a day, over items that are new that day or the day before.
fn few_events_over_new_items(random: &mut Pcg64Mcg) -> Vec<Interaction> {
    let mut times: Vec<i64> = (0..6000).map(|_| random.random_range(0..300 * DAY)).collect();
    times.sort_unstable();
    let mut exponential = |mean: f64| (mean * Distribution::<f64>::sample(&Exp1, random)) as i64;
    let items: Vec<i64> = times
        .iter()
        .map(|time| {
            let day = time / DAY;
            (day - exponential(0.7).min(day)) * 10 + exponential(2.0).min(9)
        })
        .collect();
    times.iter().zip(items).map(|(time, item)| click(random.random_range(0..300), item as u32, *time)).collect()
}

/// A catalogue ten times as large as the log, of users who share no taste.
fn huge_catalogue(random: &mut Pcg64Mcg) -> Vec<Interaction> {
    let items = Zipf::new(400_000.0, 0.7).expect("a distribution");
    (0..40_000)
        .map(|event| click(random.random_range(0..3000), items.sample(random) as u32, event * 30 * SECOND))
        .collect()
}

/// Users who look at the same item again and again, and then at another one.
fn users_who_view_again(random: &mut Pcg64Mcg) -> Vec<Interaction> {
    let items = Zipf::new(8000.0, 0.8).expect("a distribution");
    let mut active: Vec<(u32, Option<u32>)> = (0..40).map(|_| (random.random_range(0..3000), None)).collect();
    let mut event = |event: i64| {
        let place = random.random_range(0..active.len());
        let (user, before) = active[place];
        let again = before.filter(|_| random.random_range(0..10) < 6);
        let item = again.unwrap_or_else(|| items.sample(random) as u32);
        active[place] = match random.random_range(0..10) {
            0 => (random.random_range(0..3000), None),
            _ => (user, Some(item)),
        };
        click(user, item, event * 20 * SECOND)
    };
    (0..60_000).map(&mut event).collect()
}

/// News by day and night: thirty articles an hour, each of which interests half as many after an hour and a half; up to 900
/// readers an hour at noon, and two by night.
fn night_and_day(random: &mut Pcg64Mcg) -> Vec<Interaction> {
    const HOURS: f64 = 10.0 * 24.0;
    let mut articles: Vec<(f64, f64)> = (0..(30.0 * HOURS) as usize)
        .map(|_| (random.random_range(0.0..HOURS), LogNormal::new(0.0, 1.0).expect("a distribution").sample(random)))
        .collect();
    articles.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut log = Vec::new();
    for minute in 0..(HOURS * 60.0) as i64 {
        let hour = minute as f64 / 60.0;
        let height = ((hour % 24.0 - 6.0) / 12.0 * PI).sin().max(0.0);
        let readers = Poisson::new((900.0 * height * height + 2.0) / 60.0).expect("a distribution").sample(random);
        let recent = articles.partition_point(|(born, _)| *born < hour - 30.0)
            ..articles.partition_point(|(born, _)| *born < hour);
        let interest = |(born, weight): &(f64, f64)| {
            let age = hour - born;
            weight * (-age / 1.5).exp2() * (1.0 - (-age / 0.3).exp2())
        };
        let Ok(choice) = WeightedIndex::new(articles[recent.clone()].iter().map(interest)) else { continue };
        for _ in 0..readers as usize {
            let article = recent.start + choice.sample(random);
            log.push(click(random.random_range(0..2000), article as u32, minute * 60 * SECOND));
        }
    }
    log
}

/// HR@20 and NDCG@20 of the model and of both baselines.
fn figures(log: &[Interaction], settings: &[&str]) -> BTreeMap<&'static str, [f64; 2]> {
    let place = Place::new();
    write_log(&place.path("log.parquet"), log);
    let report = place.replay_in("checkpoints", &["log.parquet"], settings);
    let evaluation = &report["evaluation"];
    let of = |ranker: &Value| ["hr@20", "ndcg@20"].map(|name| ranker[name].as_f64().unwrap_or(0.0));
    [
        ("model", of(evaluation)),
        ("popularity", of(&evaluation["popularity"])),
        ("own history", of(&evaluation["own_history"])),
    ]
    .into()
}

/// Whether the model has both figures of `peer`, times `share`, at least.
#[track_caller]
fn has(found: &BTreeMap<&str, [f64; 2]>, share: f64, peer: &str) {
    let (model, peer) = (found["model"], found[peer]);
    assert!(model[0] >= share * peer[0] && model[1] >= share * peer[1], "{found:?}");
}

#[test]
fn recent_popularity_among_few_events() {
    let log = few_events_over_new_items(&mut Pcg64Mcg::seed_from_u64(1));
    // One of 25 events is better still, .697 against .666: in so few events the weights of the score do not settle.
    for half_life in ["50", "100"] {
        let found = figures(&log, &[&format!("evaluate.popularity_half_life={half_life}")]);
        has(&found, 1.0, "popularity");
    }
}

#[test]
fn popularity_in_a_huge_catalogue() {
    let found = figures(&huge_catalogue(&mut Pcg64Mcg::seed_from_u64(2)), &["evaluate.popularity_half_life=inf"]);
    // There is nothing else to be learnt, and to find that out costs the difference.
    has(&found, 0.99, "popularity");
}

#[test]
fn half_life_by_night_and_day_is_as_good_as_the_best_fixed_one() {
    let log = night_and_day(&mut Pcg64Mcg::seed_from_u64(4));
    let model = |half_life: &str| figures(&log, &[&format!("negatives.half_life=\"{half_life}\"")])["model"];
    let auto = model("auto");
    for half_life in ["100", "250", "500", "10m", "30m", "1h", "2h"] {
        let fixed = model(half_life);
        let is_as_good = auto.iter().zip(fixed).all(|(auto, fixed)| *auto >= 0.99 * fixed);
        assert!(is_as_good, "auto {auto:?}, {half_life} {fixed:?}");
    }
}

#[test]
fn own_history_of_users_who_view_again() {
    let found = figures(&users_who_view_again(&mut Pcg64Mcg::seed_from_u64(3)), &["evaluate.repeat=true"]);
    has(&found, 1.0, "own history");
}
