//! What each sampler costs, alone on one thread, among 1,000,000 live items.
//!
//! The stream: every item once, then as many events by Zipf's law, in batches of 256; popular items lie anywhere in
//! memory. In this steady state, and with counts still going on:
//!
//! * `observe`: one batch, per event: the mean over a stretch that has the rare dear batches in it (counts on a common
//!   scale must be brought down once in 200 half-lives), and that of the median batch. Counting itself,
//!   `Frequencies::add` and `LiveItems::observe`, is not in it and has lines of its own.
//! * `ask`: 256 queries of 64 dimensions with 2,304 other candidates, per query; and a single query.
//! * draws: 512 at a time, as by default; `probability` of the items drawn, as where they are corrected.
//!
//! Each is the best of several repetitions, but for `observe`.

use std::time::Instant;

use negstream::negatives::Vectors;
use negstream::negatives::frequency::Frequencies;
use negstream::negatives::live::LiveItems;
use negstream::negatives::samplers::{BatchObservation, NoiseSampler, QueryContext, Shown, StreamView};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use crate::report::{Report, rounded};
use crate::{Kind, Options};

const BATCH: usize = 256;
const DIM: usize = 64;
const DRAWS: usize = 512;
const OTHERS: usize = 2_304;
const USERS: u32 = 50_000;
/// Spreads ranks over the items; it has no divisor in common with their number.
const STEP: u64 = 7_368_787;
const REPETITIONS: usize = 7;
/// One that stands for all half-lives that are set, in events.
const HALF_LIFE: f64 = 5_000.0;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    items: u32,
    measured_batches: usize,
    calls: usize,
}

/// As long as the counts of the two shortest of the automatic half-lives take to be brought down at least once.
const FULL: Scale = Scale { items: 1_000_000, measured_batches: 4_000, calls: 400 };
const QUICK: Scale = Scale { items: 20_000, measured_batches: 60, calls: 10 };

/// Unit vectors in groups.
#[derive(Debug)]
struct Planted(Vec<f32>);

impl Planted {
    fn new(items: u32) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        let mut numbers = Vec::with_capacity(items as usize * DIM);
        for item in 0..items {
            let first = numbers.len();
            // Sixteen bits make a number.
            numbers.extend((0..DIM / 4).flat_map(|_| {
                let bits = random.random::<u64>();
                [0, 16, 32, 48].map(|shift| f32::from((bits >> shift) as u16) / 65_536.0 - 0.5)
            }));
            numbers[first + item as usize % DIM] += 2.0;
            let norm = numbers[first..].iter().map(|number| number * number).sum::<f32>().sqrt();
            numbers[first..].iter_mut().for_each(|number| *number /= norm);
        }
        Self(numbers)
    }
}

impl Vectors for Planted {
    fn dim(&self) -> usize {
        DIM
    }

    fn vector(&self, item: u32, out: &mut [f32]) {
        out.copy_from_slice(&self.0[item as usize * DIM..][..DIM]);
    }

    fn inverse_temperature(&self) -> f32 {
        6.0
    }

    fn beta(&self) -> f32 {
        0.5
    }
}

/// A stream, and what is counted of it.
struct World<'a> {
    frequencies: Frequencies,
    live: LiveItems,
    vectors: &'a Planted,
    random: Pcg64Mcg,
    n_items: u32,
    last: Vec<u32>,
    items: Vec<u32>,
    pairs: Vec<(u32, u32)>,
    shown: Vec<Shown>,
}

impl<'a> World<'a> {
    fn new(half_life: Option<f64>, scale: Scale, vectors: &'a Planted) -> Self {
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(scale.items as usize);
        Self {
            frequencies,
            live: LiveItems::new(u64::MAX),
            vectors,
            random: Pcg64Mcg::seed_from_u64(5),
            n_items: scale.items,
            last: vec![0; USERS as usize],
            items: Vec::new(),
            pairs: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn at_rank(&self, rank: u32) -> u32 {
        (u64::from(rank) * STEP % u64::from(self.n_items)) as u32
    }

    fn zipf(&mut self) -> u32 {
        let rank = (f64::from(self.n_items).powf(self.random.random::<f64>()) - 1.0) as u32;
        self.at_rank(rank.min(self.n_items - 1))
    }

    /// The next batch, of items of these ranks or by Zipf's law.
    fn next(&mut self, ranks: Option<std::ops::Range<u32>>) {
        let items: Vec<u32> = match ranks {
            Some(ranks) => ranks.map(|rank| self.at_rank(rank)).collect(),
            None => (0..BATCH).map(|_| self.zipf()).collect(),
        };
        self.pairs.clear();
        self.shown.clear();
        for item in &items {
            let (user, other) = (self.random.random_range(0..USERS), self.zipf());
            self.shown.push(Shown { user, item: other, chosen: false });
            self.shown.push(Shown { user, item: *item, chosen: true });
            self.pairs.push((std::mem::replace(&mut self.last[user as usize], *item), *item));
        }
        self.items = items;
    }

    fn count(&mut self) {
        self.frequencies.add(&self.items);
        self.live.observe(&self.items);
    }

    fn seen(&self) -> (StreamView<'_>, BatchObservation<'_>) {
        let view = StreamView { frequencies: &self.frequencies, live: &self.live, vectors: self.vectors };
        (view, BatchObservation { items: &self.items, pairs: &self.pairs, shown: &self.shown })
    }

    /// Plays the whole stream, for `observer` to see each batch.
    fn play(&mut self, mut observer: impl FnMut(&Self)) {
        let mut batch = |world: &mut Self, ranks| {
            world.next(ranks);
            world.count();
            observer(world);
        };
        for first in (0..self.n_items).step_by(BATCH) {
            batch(self, Some(first..(first + BATCH as u32).min(self.n_items)));
        }
        (0..self.n_items as usize / BATCH).for_each(|_| batch(self, None));
    }
}

/// Nanoseconds per event over batches that took `seconds` each: all, and the median batch.
fn per_event(mut seconds: Vec<f64>) -> (f64, f64) {
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    seconds.sort_unstable_by(f64::total_cmp);
    let each = |seconds: f64| rounded(seconds / BATCH as f64 * 1e9, 1);
    (each(mean), each(seconds[seconds.len() / 2]))
}

/// The best of several times that `work` took, in seconds.
fn best(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_secs_f64()
    };
    (0..REPETITIONS).map(once).fold(f64::INFINITY, f64::min)
}

/// Measures, and reports.
pub fn run(options: &Options, report: &mut Report) {
    let scale = if options.quick { QUICK } else { FULL };
    let vectors = Planted::new(scale.items);
    for half_life in [Some(HALF_LIFE), None] {
        counting(half_life, scale, &vectors, report);
    }
    let plain = |kind: &Kind| !["hard+unigram", "exposure+unigram"].contains(&kind.name);
    for kind in options.kinds().into_iter().filter(plain) {
        sampler(&kind, Some(HALF_LIFE), scale, &vectors, report);
        // Those that have one set of counts for each half-life.
        if kind.name.contains("unigram") {
            sampler(&kind, None, scale, &vectors, report);
        }
    }
}

fn name(half_life: Option<f64>) -> String {
    half_life.map_or("auto".to_owned(), |events| events.to_string())
}

fn counting(half_life: Option<f64>, scale: Scale, vectors: &Planted, report: &mut Report) {
    let mut world = World::new(half_life, scale, vectors);
    world.play(|_| ());
    let mut seconds = Vec::new();
    for _ in 0..scale.measured_batches {
        world.next(None);
        let begin = Instant::now();
        world.count();
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let (mean, median) = per_event(seconds);
    report.line(json!({
        "measure": "speed", "sampler": "(counting)", "half_life": name(half_life), "live": world.live.items().len(),
        "observe_ns": mean, "observe_median_ns": median,
    }));
}

fn sampler(kind: &Kind, half_life: Option<f64>, scale: Scale, vectors: &Planted, report: &mut Report) {
    let mut sampler = kind.sampler();
    let mut world = World::new(half_life, scale, vectors);
    world.play(|world| {
        let (view, seen) = world.seen();
        sampler.observe(view, seen);
    });
    let mut seconds = Vec::new();
    for _ in 0..scale.measured_batches {
        world.next(None);
        world.count();
        let (view, seen) = world.seen();
        let begin = Instant::now();
        sampler.observe(view, seen);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let (mean, median) = per_event(seconds);
    let others: Vec<u32> = (0..OTHERS).map(|_| world.zipf()).collect();
    let last_items: Vec<u32> = (0..BATCH).map(|_| world.zipf()).collect();
    let users: Vec<u32> = (0..BATCH).map(|_| world.random.random_range(0..USERS)).collect();
    let mut queries = vec![0.0; BATCH * DIM];
    last_items.iter().zip(queries.chunks_exact_mut(DIM)).for_each(|(item, query)| vectors.vector(*item, query));
    let (view, _) = world.seen();
    let ask = |n: usize, sampler: &mut Box<dyn NoiseSampler>| {
        let (last_items, users, queries) = (&last_items[..n], &users[..n], &queries[..n * DIM]);
        sampler.set_queries(view, QueryContext { last_items, users, queries, stride: DIM, others: &others });
    };
    let (alone, together) = match sampler.depends_on_queries() {
        true => (Some(best(|| ask(1, &mut sampler))), Some(best(|| ask(BATCH, &mut sampler)))),
        false => (None, None),
    };
    let mut random = Pcg64Mcg::seed_from_u64(9);
    let mut drawn = Vec::with_capacity(DRAWS * scale.calls);
    let draws = best(|| {
        drawn.clear();
        (0..scale.calls).for_each(|_| sampler.draw(view, DRAWS, &mut random, &mut drawn));
        std::hint::black_box(&drawn);
    });
    assert_eq!(drawn.len(), DRAWS * scale.calls, "{} has too little to draw from", kind.name);
    let probabilities = best(|| {
        std::hint::black_box(drawn.iter().map(|item| sampler.probability(view, *item)).sum::<f64>());
    });
    let n = drawn.len() as f64;
    report.line(json!({
        "measure": "speed", "sampler": kind.name, "half_life": name(half_life), "live": world.live.items().len(),
        "draws_per_second": (n / draws).round() as u64, "probability_ns": rounded(probabilities / n * 1e9, 1),
        "observe_ns": mean, "observe_median_ns": median,
        "ask_ns": together.map(|seconds| rounded(seconds / BATCH as f64 * 1e9, 1)),
        "ask_alone_ns": alone.map(|seconds| rounded(seconds * 1e9, 0)),
    }));
}
