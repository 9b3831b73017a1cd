//! Logs with one planted effect each: the term of the score that is there for it finds it, and the other terms do no harm.
//!
//! Each log is made here, from a seed, beside the hit rate of a ranking that knows how it was made. What a term finds is told as a
//! share of what that ranking gains over one without the effect.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use negstream::event::Interaction;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Distribution, LogNormal, Zipf};
use rand_pcg::Pcg64Mcg;

use crate::support::{Place, click, write_log};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// When each log begins, at midnight.
const BEGIN: i64 = 1_600_041_600 * SECOND;
/// The length of the lists that are judged.
const K: usize = 20;

/// A log, and what is known of how it was made.
#[derive(Default)]
struct Planted {
    log: Vec<Interaction>,
    /// For each event, whether its item was among the [`K`] likeliest.
    is_hit: Vec<bool>,
}

impl Planted {
    fn push(&mut self, user: u32, item: u32, timestamp: i64, is_hit: bool) {
        self.log.push(click(user, item, BEGIN + timestamp));
        self.is_hit.push(is_hit);
    }

    /// The best hit rate over the last half.
    fn best(&self) -> f64 {
        let judged = &self.is_hit[self.is_hit.len() / 2..];
        judged.iter().filter(|is_hit| **is_hit).count() as f64 / judged.len() as f64
    }

    /// The hit rates of the model and of popularity over the last half.
    fn found(&self, settings: &[&str]) -> [f64; 2] {
        let place = Place::new();
        write_log(&place.path("log.parquet"), &self.log);
        let settings: Vec<&str> = ["evaluate.repeat=true"].iter().chain(settings).copied().collect();
        let evaluation = &place.replay_in("checkpoints", &["log.parquet"], &settings)["evaluation"];
        [evaluation, &evaluation["popularity"]].map(|of| of["hr@20"].as_f64().expect("a hit rate"))
    }

    /// The defaults find `least` of what the best ranking gains over `without`, the settings that leave the effect's term out;
    /// and hardly less than `alone`, which leave the other terms out.
    #[track_caller]
    fn is_found(&self, least: f64, without: &[&str], alone: &[&str]) {
        let best = self.best();
        let [model, popularity] = self.found(&[]);
        let ([without, _], [alone, _]) = (self.found(without), self.found(alone));
        let share = (model - without.min(popularity)) / (best - without.min(popularity));
        let figures = format!(
            "best {best:.4}, model {model:.4}, without the term {without:.4}, popularity {popularity:.4}, the term alone {alone:.4}"
        );
        println!("{share:.3}: {figures}");
        assert!(share >= least, "{share:.3} of the gain: {figures}");
        assert!(model >= 0.97 * alone, "the other terms are not silent: {figures}");
    }
}

/// Twenty items of each hour of the day; one in five events is of another hour's.
fn hour_of_day(random: &mut Pcg64Mcg) -> Planted {
    let mut planted = Planted::default();
    for event in 0..30_000 {
        // So seldom that popularity cannot follow the hours.
        let time = event * 13 * MINUTE;
        let hour = (time % DAY / HOUR) as u32;
        let item =
            if random.random_bool(0.8) { hour * 20 + random.random_range(0..20) } else { random.random_range(0..480) };
        planted.push(random.random_range(0..300), item, time, item / 20 == hour);
    }
    planted
}

/// Users with an order of their own among a hundred items of theirs, which they keep to most of the time.
fn own_transitions(random: &mut Pcg64Mcg) -> Planted {
    let mut catalogue: Vec<u32> = (0..3000).collect();
    let mut users: Vec<(Vec<u32>, usize)> = (0..50)
        .map(|_| {
            catalogue.shuffle(random);
            (catalogue[..100].to_vec(), 0)
        })
        .collect();
    let mut planted = Planted::default();
    for event in 0..60_000 {
        let user = random.random_range(0..users.len());
        let (items, place) = &mut users[user];
        let next = (*place + 1) % items.len();
        *place = if random.random_bool(0.85) { next } else { random.random_range(0..items.len()) };
        // The next one, and nineteen others.
        let is_hit = *place == next || random.random_bool(19.0 / 99.0);
        planted.push(user as u32, items[*place], event * MINUTE, is_hit);
    }
    planted
}

/// Users who come back to each of sixty items of theirs at an interval of its own, more or less. The best ranking knows that, but
/// tells an item's interval from how it came back so far.
fn due(random: &mut Pcg64Mcg) -> Planted {
    const SPREAD: f64 = 0.2;
    const MEAN_DAYS: f64 = 30.0;
    struct Returning {
        days: f64,
        last: i64,
        /// Sum and number of the intervals so far.
        seen: (f64, f64),
    }
    let jitter = LogNormal::new(0.0, SPREAD).expect("a distribution");
    let n_items = 60;
    let mut users: Vec<Vec<Returning>> = Vec::new();
    let mut events = BinaryHeap::new();
    for user in 0..40usize {
        let days: Vec<f64> = (0..n_items).map(|_| random.random_range(10.0..50.0)).collect();
        for (item, days) in days.iter().enumerate() {
            events.push(Reverse(((random.random_range(0.0..*days) * DAY as f64) as i64, user, item)));
        }
        users.push(days.into_iter().map(|days| Returning { days, last: i64::MIN, seen: (0.0, 0.0) }).collect());
    }
    let mut planted = Planted::default();
    while let Some(Reverse((time, user, item))) = events.pop().filter(|_| planted.log.len() < 50_000) {
        let since = |of: &Returning| time.saturating_sub(of.last) as f64 / DAY as f64;
        // How likely each comes now, which has waited so long: the hazard of a log-normal interval.
        let hazard = |of: &Returning| {
            let days = (of.seen.0 + MEAN_DAYS * 0.2) / (of.seen.1 + 0.2);
            let z = (since(of) / days).ln() / SPREAD;
            let density = (-z * z / 2.0).exp() / (since(of) * SPREAD * (2.0 * std::f64::consts::PI).sqrt());
            density / (1.0 - normal_cdf(z)).max(1e-12)
        };
        let of_item = hazard(&users[user][item]);
        let above = users[user].iter().filter(|other| hazard(other) > of_item).count();
        planted.push(user as u32, (user * n_items + item) as u32, time, above < K);
        let of = &mut users[user][item];
        if of.last > i64::MIN {
            of.seen = (of.seen.0 + (time - of.last) as f64 / DAY as f64, of.seen.1 + 1.0);
        }
        of.last = time;
        events.push(Reverse((time + (of.days * jitter.sample(random) * DAY as f64) as i64, user, item)));
    }
    planted
}

/// The share of a normal distribution below `z` (Abramowitz and Stegun 1964, 26.2.17: to 7.5e-8).
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let tail = poly.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t) * (-z * z / 2.0).exp()
        / (2.0 * std::f64::consts::PI).sqrt();
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// Items of which each is followed by another, whoever comes.
fn co_occurrence(random: &mut Pcg64Mcg) -> Planted {
    const ITEMS: u32 = 1000;
    let mut follower: Vec<u32> = (0..ITEMS).collect();
    follower.shuffle(random);
    let mut newest = vec![0; 400];
    let mut planted = Planted::default();
    for event in 0..60_000 {
        let user = random.random_range(0..newest.len());
        let next = follower[newest[user] as usize];
        let item = if random.random_bool(0.7) { next } else { random.random_range(0..ITEMS) };
        planted.push(user as u32, item, event * MINUTE, item == next || item < K as u32 - 1);
        newest[user] = item;
    }
    planted
}

/// Items that come and go: each interests half as many after three days, and thirty new ones come a day. The best ranking knows that,
/// but tells how much an item interests from how often it came.
fn trend(random: &mut Pcg64Mcg) -> Planted {
    const HALF_LIFE: f64 = 3.0;
    struct Alive {
        item: u32,
        weight: f64,
        born: i64,
        count: f64,
    }
    let weights = LogNormal::new(0.0, 1.0).expect("a distribution");
    let mean_weight = 0.5f64.exp();
    let mut alive: VecDeque<Alive> = VecDeque::new();
    let (mut planted, mut n_items) = (Planted::default(), 0);
    for event in 0..50_000i64 {
        let time = event * 4 * MINUTE;
        while i64::from(n_items) * DAY / 30 <= time {
            alive.push_back(Alive { item: n_items, weight: weights.sample(random), born: time, count: 0.0 });
            n_items += 1;
        }
        while alive.front().is_some_and(|oldest| time - oldest.born > 20 * DAY) {
            alive.pop_front();
        }
        let left = |of: &Alive| (-((time - of.born) as f64) / DAY as f64 / HALF_LIFE).exp2();
        let interest: Vec<f64> = alive.iter().map(|of| of.weight * left(of)).collect();
        let total: f64 = interest.iter().sum();
        let chosen = WeightedIndex::new(&interest).expect("weights").sample(random);
        // Events so far over those that a weight of one would have had; prior: one event of an item of the mean weight.
        let per_interest = 360.0 * HALF_LIFE / std::f64::consts::LN_2 / total;
        let guess = |of: &Alive| left(of) * (of.count + 1.0) / (per_interest * (1.0 - left(of)) + 1.0 / mean_weight);
        let of_chosen = guess(&alive[chosen]);
        let above = alive.iter().filter(|other| guess(other) > of_chosen).count();
        planted.push(random.random_range(0..2000), alive[chosen].item, time, above < K);
        alive[chosen].count += 1.0;
    }
    planted
}

/// Now and then one item takes half of the events for a while. The best ranking knows that once it has come.
fn burst(random: &mut Pcg64Mcg) -> Planted {
    let items = Zipf::new(3000.0, 0.6).expect("a distribution");
    let (mut planted, mut bursting, mut has_come) = (Planted::default(), 0, false);
    for event in 0..50_000i64 {
        if event % 400 == 0 {
            (bursting, has_come) = (random.random_range(500..3000), false);
        }
        let item = if random.random_bool(0.5) { bursting } else { items.sample(random) as u32 };
        let is_hit = (item == bursting && has_come) || item < K as u32;
        has_come = has_come || item == bursting;
        planted.push(random.random_range(0..2000), item, event * MINUTE, is_hit);
    }
    planted
}

/// Users who half of the time take one of their three newest items again.
fn re_views(random: &mut Pcg64Mcg) -> Planted {
    let mut newest: Vec<VecDeque<u32>> = vec![VecDeque::new(); 1000];
    let mut planted = Planted::default();
    for event in 0..50_000i64 {
        let user = random.random_range(0..newest.len());
        let had = &mut newest[user];
        let again = !had.is_empty() && random.random_bool(0.5);
        let item = if again { had[random.random_range(0..had.len())] } else { random.random_range(0..3000) };
        let is_hit = had.contains(&item) || item < 17;
        planted.push(user as u32, item, event * MINUTE, is_hit);
        had.retain(|other| *other != item);
        had.push_front(item);
        had.truncate(3);
    }
    planted
}

/// Users of twenty tastes, with twenty items each.
fn taste_clusters(random: &mut Pcg64Mcg) -> Planted {
    let mut planted = Planted::default();
    for event in 0..50_000 {
        let user: u32 = random.random_range(0..1000);
        let taste = user % 20;
        let item =
            if random.random_bool(0.8) { taste * 20 + random.random_range(0..20) } else { random.random_range(0..400) };
        planted.push(user, item, event * MINUTE, item / 20 == taste);
    }
    planted
}

const NO_RHO: [&str; 3] = ["repetition.due=false", "repetition.transitions=false", "repetition.user=false"];
const NO_KAPPA: &str = "cooccurrence.neighbors=0";
const NO_SITUATION: &str = "context.situation=false";
const NO_GATE: &str = "model.gate=false";

/// Though popularity chooses a half-life of three events, which finds a little of the hours by itself: what the bank holds is
/// told by another.
#[test]
fn hour_of_day_is_found_by_the_situation() {
    let planted = hour_of_day(&mut Pcg64Mcg::seed_from_u64(1));
    planted.is_found(0.9, &[NO_SITUATION], &[NO_KAPPA, NO_GATE]);
}

#[test]
fn own_transitions_are_found_by_repetition() {
    let planted = own_transitions(&mut Pcg64Mcg::seed_from_u64(2));
    planted.is_found(
        0.9,
        &["repetition.transitions=false"],
        &["repetition.due=false", "repetition.user=false", NO_KAPPA, NO_SITUATION, NO_GATE],
    );
}

#[test]
fn what_is_due_is_found_by_repetition() {
    let planted = due(&mut Pcg64Mcg::seed_from_u64(3));
    planted.is_found(
        0.9,
        &["repetition.due=false"],
        &["repetition.transitions=false", "repetition.user=false", NO_KAPPA, NO_SITUATION, NO_GATE],
    );
}

#[test]
fn what_follows_is_found_by_co_occurrence() {
    let planted = co_occurrence(&mut Pcg64Mcg::seed_from_u64(4));
    planted.is_found(0.9, &[NO_KAPPA], &[&NO_RHO[..], &[NO_SITUATION, NO_GATE]].concat());
}

/// Of which an item that came first a short while ago was counted for as long only.
#[test]
fn a_trend_is_found_by_popularity() {
    let planted = trend(&mut Pcg64Mcg::seed_from_u64(5));
    planted.is_found(0.9, &["negatives.half_life=100000"], &[&NO_RHO[..], &[NO_KAPPA, NO_SITUATION, NO_GATE]].concat());
}

/// Though no half-life follows a burst and remembers what is popular for good: a long memory does, which short ones overrule.
#[test]
fn a_burst_is_found_by_popularity() {
    let planted = burst(&mut Pcg64Mcg::seed_from_u64(6));
    planted.is_found(0.9, &["negatives.half_life=100000"], &[&NO_RHO[..], &[NO_KAPPA, NO_SITUATION, NO_GATE]].concat());
}

#[test]
fn re_views_are_found_by_repetition() {
    let planted = re_views(&mut Pcg64Mcg::seed_from_u64(7));
    planted.is_found(0.9, &["evaluate.repeat=false"], &[&NO_RHO[..], &[NO_KAPPA, NO_SITUATION, NO_GATE]].concat());
}

#[test]
fn tastes_are_found_by_similarity() {
    let planted = taste_clusters(&mut Pcg64Mcg::seed_from_u64(8));
    planted.is_found(
        0.9,
        &["model.temperature=10.0", "context.length=1"],
        &[&NO_RHO[..], &[NO_KAPPA, NO_SITUATION, NO_GATE]].concat(),
    );
}
