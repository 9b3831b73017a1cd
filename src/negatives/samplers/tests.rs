//! Truth tests: what samplers draw against what they say that they draw, on streams that stand still and that drift.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::SAMPLERS;
use super::registry::NoiseTerm;
use super::{BatchObservation, NoiseSampler, QueryContext, Shown, StreamView};
use crate::negatives::Vectors;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::state_dict::{Array, StateDict};
use crate::table::row_remap::RowRemap;

/// Vectors that follow from the item's number alone.
#[derive(Debug)]
pub(in crate::negatives) struct Planted;

impl Vectors for Planted {
    fn dim(&self) -> usize {
        8
    }

    fn vector(&self, item: u32, out: &mut [f32]) {
        // Four groups, and within each a little of everything.
        out.iter_mut().enumerate().for_each(|(k, out)| *out = ((item * 31 + k as u32 * 17) % 13) as f32 / 130.0);
        out[item as usize % 4] += 1.0;
        let norm = out.iter().map(|number| number * number).sum::<f32>().sqrt();
        out.iter_mut().for_each(|out| *out /= norm);
    }

    fn inverse_temperature(&self) -> f32 {
        5.0
    }

    fn beta(&self) -> f32 {
        0.5
    }
}

/// What a sampler sees of a stream.
#[derive(Debug)]
pub(in crate::negatives) struct Stream {
    pub(in crate::negatives) frequencies: Frequencies,
    pub(in crate::negatives) live: LiveItems,
}

impl Stream {
    pub(in crate::negatives) fn new(n_items: usize, horizon: u64, half_life: Option<f64>) -> Self {
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(n_items);
        Self { frequencies, live: LiveItems::new(horizon) }
    }

    pub(in crate::negatives) fn add(&mut self, items: &[u32]) {
        self.frequencies.add(items);
        self.live.observe(items);
    }

    pub(in crate::negatives) fn view(&self) -> StreamView<'_> {
        StreamView { frequencies: &self.frequencies, live: &self.live, vectors: &Planted }
    }
}

/// `n` items from `from` on, the k-th with a probability ∝ 1/k.
pub(in crate::negatives) fn zipf(random: &mut Pcg64Mcg, from: u32, n: usize) -> Vec<u32> {
    let largest = 201f64.ln();
    (0..n).map(|_| from + (random.random::<f64>() * largest).exp() as u32 - 1).collect()
}

/// Probabilities of the items below `n_items`: they sum to 1, and are 0 for who does not live.
pub(in crate::negatives) fn sums_to_one(view: StreamView<'_>, sampler: &dyn NoiseSampler, n_items: u32) {
    let mut sum = 0.0;
    for item in 0..n_items {
        let probability = sampler.probability(view, item);
        assert!(probability >= 0.0);
        assert!(probability == 0.0 || view.live.contains(item), "item {item} is dead or was never observed");
        sum += probability;
    }
    assert!((sum - 1.0).abs() < 1e-9, "probabilities sum to {sum}");
}

/// A million draws against the stated probabilities of the items below `n_items`, by Pearson's chi-square.
pub(in crate::negatives) fn draws_fit(view: StreamView<'_>, sampler: &dyn NoiseSampler, n_items: u32) {
    let mut drawn = Vec::new();
    sampler.draw(view, 1_000_000, &mut Pcg64Mcg::seed_from_u64(7), &mut drawn);
    assert_eq!(drawn.len(), 1_000_000);
    let mut counts = vec![0.0; n_items as usize];
    drawn.iter().for_each(|item| counts[*item as usize] += 1.0);
    // Cells that are expected less than five times are put together, or Pearson's statistic is not chi-square's.
    let (mut statistic, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (item, count) in counts.into_iter().enumerate() {
        let expected = sampler.probability(view, item as u32) * 1e6;
        assert!(expected > 0.0 || count == 0.0, "item {item} was drawn and cannot be");
        if expected < 5.0 {
            rare = (rare.0 + expected, rare.1 + count);
        } else {
            statistic += (count - expected).powi(2) / expected;
            cells += 1;
        }
    }
    if rare.0 > 5.0 {
        statistic += (rare.1 - rare.0).powi(2) / rare.0;
        cells += 1;
    }
    // Mean plus five standard deviations: a chance of about 1e-6.
    let freedom = f64::from(cells - 1);
    let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
    assert!(statistic < limit, "chi-square {statistic:.1} with {freedom} degrees of freedom");
}

/// Damage to one array of a saved state.
#[derive(Debug, Clone)]
pub(in crate::negatives::samplers) struct Damage {
    /// The array that is hit, modulo the number of arrays.
    which: usize,
    /// The number in it that is hit, modulo its length.
    place: usize,
    /// Whether the array's last number is cut off instead.
    cut: bool,
    whole: u32,
    real: f64,
}

/// Any damage to one array of a saved state: its last number is gone, or one of its numbers is another.
pub(in crate::negatives::samplers) fn any_damage() -> impl Strategy<Value = Damage> {
    let whole = prop_oneof![0u32..3, any::<u32>()];
    let real = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(-1.0), 0.0f64..1e4];
    (0usize..20, 0usize..1_000, any::<bool>(), whole, real).prop_map(|(which, place, cut, whole, real)| Damage {
        which,
        place,
        cut,
        whole,
        real,
    })
}

impl Damage {
    /// Whether a number is gone: no sampler may take such a state.
    pub(in crate::negatives::samplers) fn is_cut(&self) -> bool {
        self.cut
    }

    /// The saved state of `sampler`, damaged.
    pub(in crate::negatives::samplers) fn of(&self, sampler: &dyn NoiseSampler) -> StateDict {
        let mut saved = StateDict::default();
        sampler.save(&mut saved);
        let mut arrays: Vec<_> = saved.arrays().map(|(name, array)| (name.to_owned(), array.clone())).collect();
        let which = self.which % arrays.len();
        match &mut arrays[which].1 {
            Array::U32(numbers) if self.cut => drop(numbers.pop()),
            Array::F64(numbers) if self.cut => drop(numbers.pop()),
            Array::U32(numbers) => {
                let length = numbers.len();
                numbers[self.place % length] = self.whole;
            }
            Array::F64(numbers) => {
                let length = numbers.len();
                numbers[self.place % length] = self.real;
            }
        }
        StateDict::from_arrays(arrays)
    }
}

/// A stream with contexts, exposures and queries, drawn from a generator of its own.
struct Story {
    stream: Stream,
    random: Pcg64Mcg,
    event: u64,
    drifts: bool,
    last: Vec<u32>,
    /// By item: its row, where it has one.
    rows: Vec<Option<u32>>,
    n_rows: u32,
}

const N_ITEMS: u32 = 300;
const N_USERS: u32 = 20;

impl Story {
    fn new(drifts: bool, horizon: u64, half_life: Option<f64>) -> Self {
        let stream = Stream::new(N_ITEMS as usize, horizon, half_life);
        let (last, rows) = (vec![0; N_USERS as usize], (0..N_ITEMS).map(Some).collect());
        Self { stream, random: Pcg64Mcg::seed_from_u64(11), event: 0, drifts, last, rows, n_rows: N_ITEMS }
    }

    /// Zipf over the items from number 1 on; where it drifts, who is popular moves on and old items are left behind.
    fn item(&mut self) -> u32 {
        let rank = (f64::from(N_ITEMS / 3).powf(self.random.random::<f64>()) - 1.0) as u32;
        let offset = if self.drifts { (self.event / 40) as u32 } else { 0 };
        let row = &mut self.rows[1 + (rank + offset) as usize % (N_ITEMS as usize - 1)];
        *row.get_or_insert_with(|| {
            self.n_rows += 1;
            self.stream.frequencies.grow(self.n_rows as usize);
            self.n_rows - 1
        })
    }

    /// Lets items and users go, but item 0, which stands for none.
    fn evict(&mut self, samplers: &mut [Box<dyn NoiseSampler>], stays: impl Fn(u32) -> bool) {
        let items = RowRemap::of_rows(self.n_rows as usize, |row| row == 0 || stays(row));
        let users = RowRemap::of_rows(N_USERS as usize, |row| stays(row + 1));
        self.n_rows = items.n_kept() as u32;
        self.rows.iter_mut().for_each(|row| *row = row.and_then(|row| items.get(row)));
        self.last.iter_mut().for_each(|last| *last = items.get(*last).unwrap_or(0));
        users.keep(&mut self.last);
        self.last.resize(N_USERS as usize, 0);
        self.stream.frequencies.keep(&items);
        self.stream.live.keep(&items);
        for sampler in samplers {
            sampler.keep_items(&items);
            sampler.keep_users(&users);
        }
    }

    fn batch(&mut self, samplers: &mut [Box<dyn NoiseSampler>]) {
        let (mut items, mut pairs, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..50 {
            let (user, item, other) = (self.random.random_range(0..N_USERS), self.item(), self.item());
            shown.push(Shown { user, item: other, chosen: false });
            shown.push(Shown { user, item, chosen: true });
            pairs.push((std::mem::replace(&mut self.last[user as usize], item), item));
            items.push(item);
            self.event += 1;
        }
        // Nobody's first item is item 0.
        pairs.retain(|(before, _)| *before > 0);
        self.stream.add(&items);
        let observed = BatchObservation { items: &items, pairs: &pairs, shown: &shown };
        samplers.iter_mut().for_each(|sampler| sampler.observe(self.stream.view(), observed));
    }

    fn ask(&self, samplers: &mut [Box<dyn NoiseSampler>]) {
        let view = self.stream.view();
        let last_items: Vec<u32> = self.last.iter().copied().filter(|item| *item > 0).collect();
        let users: Vec<u32> = (0..last_items.len() as u32).collect();
        let mut queries = vec![0.0; last_items.len() * 16];
        last_items
            .iter()
            .zip(queries.chunks_exact_mut(16))
            .for_each(|(item, query)| Planted.vector(*item, &mut query[..8]));
        let others: Vec<u32> = view.live.items().iter().copied().filter(|item| item % 3 == 0).collect();
        let asking =
            QueryContext { last_items: &last_items, users: &users, queries: &queries, stride: 16, others: &others };
        samplers.iter_mut().for_each(|sampler| sampler.set_queries(view, asking));
    }
}

/// Every sampler of the registry, with each of the options that it names for tests.
fn all() -> Vec<NoiseTerm> {
    let term =
        |name: &str, options: &str| toml::from_str(&format!("sampler = '{name}'\n{options}")).expect("a valid term");
    SAMPLERS.iter().flat_map(|entry| entry.tested.iter().map(|options| term(entry.name, options))).collect()
}

#[test]
fn draws_follow_the_stated_probabilities() {
    for (drifts, horizon, half_life) in
        [(false, u64::MAX, Some(f64::INFINITY)), (false, u64::MAX, None), (true, 600, Some(200.0)), (true, 1_500, None)]
    {
        for term in all() {
            let name = format!("{term:?}, drifts: {drifts}, half-life {half_life:?}");
            let mut samplers = [term.build()];
            let mut story = Story::new(drifts, horizon, half_life);
            (0..80).for_each(|_| story.batch(&mut samplers));
            story.ask(&mut samplers);
            let [sampler] = &samplers;
            let view = story.stream.view();
            assert!(!drifts || view.live.items().len() < 200, "{name}: nobody died");

            println!("{name}");
            sums_to_one(view, &**sampler, N_ITEMS + 10);
            let covered = view.live.items().iter().all(|item| sampler.probability(view, *item) > 0.0);
            assert!(covered || !term.sampler.full_support, "{name}: some live item cannot be drawn");

            draws_fit(view, &**sampler, N_ITEMS);
        }
    }
}

#[test]
fn draws_follow_the_stated_probabilities_after_eviction() {
    for (drifts, horizon, half_life) in [(false, u64::MAX, None), (true, 900, Some(200.0))] {
        for term in all() {
            println!("{term:?}, drifts: {drifts}");
            let mut samplers = [term.build()];
            let mut story = Story::new(drifts, horizon, half_life);
            (0..40).for_each(|_| story.batch(&mut samplers));
            for part in 0..3 {
                story.evict(&mut samplers, |row| row % 3 != part);
                // Both at once, and after the stream has gone on.
                for batches in [0, 10] {
                    (0..batches).for_each(|_| story.batch(&mut samplers));
                    story.ask(&mut samplers);
                    let ([sampler], view) = (&samplers, story.stream.view());
                    if sampler.is_empty(view) {
                        assert!(!term.sampler.full_support && batches == 0);
                        continue;
                    }
                    sums_to_one(view, &**sampler, story.n_rows + 10);
                    let covered = view.live.items().iter().all(|item| sampler.probability(view, *item) > 0.0);
                    assert!(covered || !term.sampler.full_support, "some live item cannot be drawn");
                    if part == 2 {
                        draws_fit(view, &**sampler, story.n_rows);
                    }
                }
            }
        }
    }
}

#[test]
fn restored_sampler_draws_the_same() {
    for term in all() {
        let mut samplers = [term.build(), term.build()];
        let mut story = Story::new(true, 700, None);
        for round in 0..60 {
            story.batch(&mut samplers);
            if round % 13 == 5 {
                story.evict(&mut samplers, |row| (u64::from(row) + round) % 4 != 1);
            }
            if round % 7 == 3 || round % 26 == 5 {
                let mut saved = StateDict::default();
                samplers[1].save(&mut saved);
                samplers[1] = term.build();
                samplers[1]
                    .restore(story.stream.view(), &mut saved)
                    .unwrap_or_else(|error| panic!("{term:?}: {error}"));
            }
            story.ask(&mut samplers);
            let view = story.stream.view();
            let draws = samplers.each_ref().map(|sampler| {
                let mut drawn = Vec::new();
                sampler.draw(view, 200, &mut Pcg64Mcg::seed_from_u64(round), &mut drawn);
                let probabilities: Vec<f64> = drawn.iter().map(|item| sampler.probability(view, *item)).collect();
                (drawn, probabilities)
            });
            assert!(draws[0] == draws[1], "{term:?}: another draw after round {round}");
        }
    }
}

/// A hit that dies leaves far less weight than it had: what is left must still be what is drawn from.
#[test]
fn probabilities_stay_exact_after_heavy_item_dies() {
    let steepest = toml::from_str("sampler = 'unigram'\npower = 4.0").expect("a valid term");
    for term in all().into_iter().chain([steepest]) {
        let mut samplers = [term.build()];
        let mut stream = Stream::new(100, 400, Some(f64::INFINITY));
        let mut batch = |stream: &mut Stream, items: &[u32]| {
            stream.add(items);
            samplers[0].observe(stream.view(), BatchObservation { items, ..BatchObservation::default() });
            let view = stream.view();
            let sum: f64 = view.live.items().iter().map(|item| samplers[0].probability(view, *item)).sum();
            assert!(samplers[0].is_empty(view) || (sum - 1.0).abs() < 1e-9, "{term:?}: {sum}");
            let mut saved = StateDict::default();
            samplers[0].save(&mut saved);
            term.build().restore(view, &mut saved).unwrap_or_else(|error| panic!("{term:?}: {error}"));
        };
        (0..400).for_each(|_| batch(&mut stream, &[7; 100]));
        (0..60).for_each(|round| batch(&mut stream, &[20 + round % 30; 10]));
    }
}

mod closeness;
