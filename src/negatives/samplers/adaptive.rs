//! `adaptive`: the model as its own noise, in two stages.
//!
//! The items are in clusters by their vectors. Given a query x, first a cluster is drawn and then an item of it:
//!
//! `P(g | x) ∝ Z_g·exp(x·c_g/τ)`, `P(j | g) = w_j/Z_g`, with `w_j = n_j^power` and `Z_g = Σ_{j in g} w_j`,
//!
//! with c_g the mean of the cluster's vectors and n_j the decayed count. So `q(j | x) ∝ w_j·exp(x·c_{g(j)}/τ)`: the
//! softmax of the model's own score x·v_j/τ + β·log q̂_j, but for the difference of v_j from its centre, where `power` is
//! the model's β. (A coarse quantiser as proposal, with popularity within its cells: the inverted multi-index of Chen et
//! al. 2022, "Fast variational autoencoder with inverted multi-index for collaborative filtering"; sampling from kernels
//! of the model's own scores: Rawat et al. 2019.)
//!
//! All queries of a batch share what is drawn: the cluster comes from `P̄(g) = mean_i P(g | x_i)`, over no more than
//! [`QUERIES`] evenly spaced ones of the queries, and `q(j) = P̄(g_j)·w_j/Z_{g_j}` holds to rounding whichever they are,
//! and however stale the clusters. Without any query, `P̄(g) ∝ Z_g`, and the sampler is a unigram.
//!
//! The clusters follow the model by online k-means: with each batch its items, and as many others in turn, go to the
//! nearest centre and draw it towards them. That is a cost of O(clusters·d) per event, whatever the number of items.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::centres::{Centres, dot};
use super::classes::{Classes, Places};
use super::registry::{Origin, SamplerOptions};
use super::unigram::UNIFORM;
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::negatives::Vectors;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

/// The usual number of clusters.
pub const CLUSTERS: usize = 64;
/// So many of a batch's queries at most say which clusters are drawn from.
pub const QUERIES: usize = 128;
/// A vector opens a cluster where its squared distance from all centres is this part of its squared norm.
const DISTINCT: f32 = 1e-4;
/// One event of this many has its item's cluster looked for again; the others only change weights.
const EVENTS_PER_VISIT: usize = 8;
/// The cluster of who is in none.
const NONE: u32 = u32::MAX;

config_section! {
    /// The options of `adaptive`.
    pub struct AdaptiveOptions {
        /// Clusters of items.
        clusters: usize = 64 => [within(1..=4096)];
        /// The power of the decayed frequency within clusters.
        power: f64 = 1.0 => [within(0.0..=4.0)];
    }
}

impl Component for AdaptiveOptions {
    const NAME: &'static str = "adaptive";
    const SUMMARY: &'static str = "The model itself, in two stages; one draw in twenty uniform.";
}

impl SamplerOptions for AdaptiveOptions {
    const ORIGIN: Origin = Origin::State(4);
    const TESTED: &'static [&'static str] = &["clusters = 6\npower = 0.5"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Adaptive::new(self.clusters, self.power))
    }
}

/// Draws what the model scores high, about as often as the model would.
#[derive(Debug, Default)]
pub struct Adaptive {
    most: usize,
    power: f64,
    centres: Centres,
    /// The items of each cluster, as many as centres.
    clusters: Vec<Classes>,
    places: Places,
    /// The cluster of each item; only items with a weight are in one.
    cluster_of: Vec<u32>,
    /// Place among the live items of who is visited next without an event.
    cursor: usize,
    /// P̄(g), and its running sums.
    shares: Vec<f64>,
    ends: Vec<f64>,
    vector: Vec<f32>,
}

impl Adaptive {
    /// Of `clusters` clusters, with the given power of the counts: the model's β, or near it. It stays the same while β
    /// is learned, or else all weights would change with every batch.
    pub fn new(clusters: usize, power: f64) -> Self {
        Self { most: clusters.clamp(1, usize::from(u16::MAX)), power, ..Self::default() }
    }

    fn cluster_of(&self, item: u32) -> Option<usize> {
        self.cluster_of.get(item as usize).filter(|cluster| **cluster != NONE).map(|cluster| *cluster as usize)
    }

    fn put(&mut self, item: u32, cluster: Option<usize>, weight: f64) {
        if item as usize >= self.cluster_of.len() {
            self.cluster_of.resize(item as usize + 1, NONE);
        }
        if let Some(old) = self.cluster_of(item).filter(|old| cluster != Some(*old)) {
            self.clusters[old].set(&mut self.places, item, 0.0);
        }
        if let Some(new) = cluster {
            self.clusters[new].set(&mut self.places, item, weight);
        }
        let cluster = cluster.filter(|_| self.places.contains(item));
        self.cluster_of[item as usize] = cluster.map_or(NONE, |cluster| cluster as u32);
    }

    /// Sends `item` to the nearest centre; without `weight` it keeps its own. Its squared distance, where it is worth a
    /// cluster of its own.
    fn visit(&mut self, vectors: &dyn Vectors, item: u32, weight: Option<f64>) -> Option<f32> {
        let old = self.cluster_of(item);
        let weight = weight.or_else(|| Some(self.clusters[old?].weight(&self.places, item))).unwrap_or_default();
        if weight < f64::MIN_POSITIVE {
            // Who was last observed so long ago that nothing is left of the count.
            self.put(item, None, 0.0);
            return None;
        }
        self.look_at(vectors, item);
        let (mut nearest, distance) = self.centres.nearest(&self.vector);
        // Who is alone would leave an empty cluster behind.
        let alone = old.is_some_and(|old| self.clusters[old].len() == 1);
        let distinct = !alone && distance > DISTINCT * dot(&self.vector, &self.vector);
        if self.clusters.is_empty() || distinct && self.clusters.len() < self.most {
            nearest = self.clusters.len();
            self.clusters.push(Classes::small());
            self.centres.open(nearest, &self.vector);
        } else {
            self.centres.attract(nearest, &self.vector);
        }
        self.put(item, Some(nearest), weight);
        distinct.then_some(distance)
    }

    fn look_at(&mut self, vectors: &dyn Vectors, item: u32) {
        self.vector.resize(vectors.dim(), 0.0);
        vectors.vector(item, &mut self.vector);
        if !dot(&self.vector, &self.vector).is_finite() {
            // It would spoil a centre for ever.
            self.vector.fill(0.0);
        }
    }

    /// Draws in proportion to `shares` from now on; they need not add up to 1.
    fn share_out(&mut self) {
        let sum: f64 = self.shares.iter().sum();
        if sum > 0.0 {
            self.shares.iter_mut().for_each(|share| *share /= sum);
        }
        self.run_sums();
    }

    fn run_sums(&mut self) {
        self.ends.clear();
        let mut end = 0.0;
        self.ends.extend(self.shares.iter().map(|share| {
            end += share;
            end
        }));
    }

    fn share_by_weight(&mut self) {
        self.shares.clear();
        self.shares.extend(self.clusters.iter().map(|cluster| cluster.total()));
        self.share_out();
    }
}

impl NoiseSampler for Adaptive {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        let baseline = view.frequencies.baseline();
        if self.clusters.is_empty() {
            self.centres = Centres::new(view.vectors.dim());
        }
        if let Some(factor) = baseline.rescaled() {
            self.clusters.iter_mut().for_each(|cluster| cluster.scale(&mut self.places, factor.powf(self.power)));
            // Who has faded beyond what a number holds is in no cluster.
            for (item, cluster) in self.cluster_of.iter_mut().enumerate() {
                *cluster = if self.places.contains(item as u32) { *cluster } else { NONE };
            }
        }
        view.live.died().iter().for_each(|item| self.put(*item, None, 0.0));
        let mut farthest: Option<(f32, u32)> = None;
        // An item that comes and dies within one batch is not drawn.
        let living = observed.items.iter().copied().filter(|item| view.live.contains(*item));
        for (place, item) in living.enumerate() {
            let weight = baseline.relative()[item as usize].powf(self.power);
            if let Some(cluster) = self.cluster_of(item)
                && !place.is_multiple_of(EVENTS_PER_VISIT)
            {
                self.put(item, Some(cluster), weight);
                continue;
            }
            if let Some(distance) = self.visit(view.vectors, item, Some(weight))
                && farthest.is_none_or(|(most, _)| distance > most)
            {
                farthest = Some((distance, item));
            }
        }
        // Those without events have moved too: by what they have in common with others, and by the centres' moving.
        let live = view.live.items();
        for _ in 0..observed.items.len().div_ceil(EVENTS_PER_VISIT).min(live.len()) {
            self.cursor = if self.cursor < live.len() { self.cursor } else { 0 };
            self.visit(view.vectors, live[self.cursor], None);
            self.cursor += 1;
        }
        // A cluster that all have left starts anew from whom the others fit least; one with each batch.
        if let Some((_, item)) = farthest
            && let Some(empty) = self.clusters.iter().position(|cluster| cluster.is_empty())
            && let Some(old) = self.cluster_of(item).filter(|old| self.clusters[*old].len() > 1)
        {
            let weight = self.clusters[old].weight(&self.places, item);
            self.look_at(view.vectors, item);
            self.centres.open(empty, &self.vector);
            self.put(item, Some(empty), weight);
        }
        self.clusters.iter_mut().for_each(Classes::settle);
        self.share_by_weight();
    }

    fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        let (dim, inverse_temperature) = (view.vectors.dim(), f64::from(view.vectors.inverse_temperature()));
        let logs: Vec<f64> = self.clusters.iter().map(|cluster| cluster.total().ln()).collect();
        let mut scores = vec![0.0; logs.len()];
        self.shares.fill(0.0);
        for query in evenly_spaced(asking, dim, QUERIES) {
            for ((score, product), log) in scores.iter_mut().zip(self.centres.products(query)).zip(&logs) {
                *score = f64::from(product) * inverse_temperature + log;
            }
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            scores.iter_mut().for_each(|score| *score = (*score - best).exp());
            let sum: f64 = scores.iter().sum();
            // Otherwise the query, or the model, is out of bounds.
            if sum.is_finite() {
                self.shares.iter_mut().zip(&scores).for_each(|(share, score)| *share += score / sum);
            }
        }
        if self.shares.iter().any(|share| *share > 0.0) {
            self.share_out();
        } else {
            self.share_by_weight();
        }
    }

    fn depends_on_queries(&self) -> bool {
        true
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.clusters.iter().all(|cluster| cluster.is_empty())
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        // Beyond it, and only by rounding, there is nothing to draw from.
        let Some(last) = self.shares.iter().rposition(|share| *share > 0.0) else { return };
        let (all, live) = (self.ends[last], view.live.items());
        out.extend((0..draws).map(|_| {
            if random.random::<f64>() < UNIFORM {
                return live[random.random_range(0..live.len())];
            }
            let point = random.random::<f64>() * all;
            let cluster = self.ends.partition_point(|end| *end <= point).min(last);
            self.clusters[cluster].draw(random)
        }));
    }

    fn probability(&self, view: StreamView<'_>, item: u32) -> f64 {
        if !view.live.contains(item) || self.is_empty(view) {
            return 0.0;
        }
        let in_cluster = |cluster: usize| {
            let classes = &self.clusters[cluster];
            self.shares[cluster] * (classes.weight(&self.places, item) / classes.total().max(f64::MIN_POSITIVE))
        };
        let by_score = self.cluster_of(item).map_or(0.0, in_cluster);
        UNIFORM / view.live.items().len() as f64 + (1.0 - UNIFORM) * by_score
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.places.keep(items);
        for cluster in &mut self.clusters {
            cluster.keep(&mut self.places, items);
            cluster.settle();
        }
        items.keep(&mut self.cluster_of);
        self.share_by_weight();
    }

    fn save(&self, out: &mut StateDict) {
        self.centres.save(out);
        out.put_f64("shares", self.shares.clone());
        out.put_u32("cursor", vec![self.cursor as u32]);
        for (index, cluster) in self.clusters.iter().enumerate() {
            out.scope(&index.to_string(), |out| cluster.save(out));
        }
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        let n_items = view.frequencies.len();
        let mut new = Self::new(self.most, self.power);
        new.centres = Centres::restore(view.vectors.dim(), self.most, saved)?;
        let cursor = saved.take_u32("cursor")?;
        new.shares = saved.take_f64("shares")?;
        if new.shares.len() != new.centres.len() || cursor.len() != 1 {
            return Err(saved.error("shares", "are of another number of clusters"));
        }
        new.cursor = cursor[0] as usize;
        new.cluster_of.resize(n_items, NONE);
        for index in 0..new.shares.len() {
            let name = index.to_string();
            let part = |saved: &mut StateDict| Classes::small().restored(&mut new.places, view.live, saved);
            let classes = saved.scope(&name, part)?;
            classes.iter().for_each(|(item, _)| new.cluster_of[item as usize] = index as u32);
            let share = new.shares[index];
            if !((0.0..=1.0 + 1e-9).contains(&share) && (share == 0.0 || !classes.is_empty())) {
                return Err(saved.error(&name, "has a share that cannot be"));
            }
            new.clusters.push(classes);
        }
        let (sum, empty) = (new.shares.iter().sum::<f64>(), new.is_empty(view));
        let whole = if empty { sum == 0.0 } else { (sum - 1.0).abs() < 1e-9 };
        if !whole {
            return Err(saved.error("shares", "do not add up"));
        }
        new.run_sums();
        *self = new;
        Ok(())
    }
}

/// No more than `most` of the queries, by equal steps.
pub(super) fn evenly_spaced(asking: QueryContext<'_>, dim: usize, most: usize) -> impl Iterator<Item = &[f32]> {
    let n = asking.queries.len().checked_div(asking.stride).unwrap_or_default();
    let taken = n.min(most);
    (0..taken).filter_map(move |index| asking.queries.get(index * n / taken * asking.stride..)?.get(..dim))
}

#[cfg(test)]
mod tests {
    use super::super::tests::draws_fit;
    use super::super::unigram::Unigram;
    use super::*;
    use crate::negatives::frequency::Frequencies;
    use crate::negatives::live::LiveItems;
    use crate::state_dict::Array;
    use proptest::prelude::*;
    use rand::SeedableRng;

    const DIM: usize = 20;
    const GROUPS: u32 = 8;

    /// Items of a group point about the same way; the way turns.
    #[derive(Default, Debug)]
    struct Planted {
        turn: f32,
        /// Every so many items have no vector that one could work with.
        broken: Option<u32>,
    }

    impl Vectors for Planted {
        fn dim(&self) -> usize {
            DIM
        }

        fn vector(&self, item: u32, out: &mut [f32]) {
            let mut random = Pcg64Mcg::seed_from_u64(item.into());
            out.iter_mut().for_each(|number| *number = (random.random::<f32>() - 0.5) * 0.4);
            let group = (item % GROUPS) as usize;
            out[group] += self.turn.cos();
            out[group + 1] += self.turn.sin();
            let norm = dot(out, out).sqrt();
            out.iter_mut().for_each(|number| *number /= norm);
            match self.broken {
                Some(every) if item.is_multiple_of(every) => out.fill(f32::NAN),
                Some(every) if item % every == 1 => out.fill(3e19),
                Some(every) if item % every == 2 => out.fill(0.0),
                _ => {}
            }
        }

        fn inverse_temperature(&self) -> f32 {
            8.0
        }

        fn beta(&self) -> f32 {
            0.75
        }
    }

    struct World {
        frequencies: Frequencies,
        live: LiveItems,
        vectors: Planted,
        random: Pcg64Mcg,
        sampler: Adaptive,
    }

    impl World {
        fn new(half_life: Option<f64>, horizon: u64, sampler: Adaptive) -> Self {
            let frequencies = Frequencies::new(half_life);
            let random = Pcg64Mcg::seed_from_u64(3);
            Self { frequencies, live: LiveItems::new(horizon), vectors: Planted::default(), random, sampler }
        }

        fn parts(&mut self) -> (StreamView<'_>, &mut Adaptive) {
            let Self { frequencies, live, vectors, sampler, .. } = self;
            (StreamView { frequencies, live, vectors }, sampler)
        }

        fn observe(&mut self, items: &[u32]) {
            self.frequencies.grow(items.iter().max().map_or(0, |most| *most as usize + 1));
            self.frequencies.add(items);
            self.live.observe(items);
            let (view, sampler) = self.parts();
            sampler.observe(view, BatchObservation { items, ..BatchObservation::default() });
        }

        /// Zipf over 200 items from `first` on.
        fn batch(&mut self, first: u32) -> Vec<u32> {
            (0..50).map(|_| first + (200f64.powf(self.random.random()) - 1.0) as u32).collect()
        }

        fn run(&mut self, batches: u32, drift: u32) {
            for batch in 0..batches {
                self.vectors.turn = (batch * drift) as f32 * 0.01;
                let items = self.batch(batch * drift);
                self.observe(&items);
            }
        }

        fn ask(&mut self, queries: &[f32]) {
            let (view, sampler) = self.parts();
            sampler.set_queries(view, QueryContext { queries, stride: DIM, ..QueryContext::default() });
        }

        /// The items' vectors, one after another.
        fn queries(&self, items: &[u32]) -> Vec<f32> {
            let mut queries = vec![0.0; items.len() * DIM];
            let rows = queries.chunks_exact_mut(DIM);
            rows.zip(items).for_each(|(row, item)| self.vectors.vector(*item, row));
            queries
        }

        fn probabilities(&mut self) -> Vec<f64> {
            let (view, sampler) = self.parts();
            (0..view.frequencies.len() as u32 + 3).map(|item| sampler.probability(view, item)).collect()
        }

        fn draws(&mut self, draws: usize) -> Vec<u32> {
            let mut out = Vec::new();
            let (view, sampler) = self.parts();
            sampler.draw(view, draws, &mut Pcg64Mcg::seed_from_u64(8), &mut out);
            out
        }

        fn check(&mut self) {
            let probabilities = self.probabilities();
            for (item, probability) in probabilities.iter().enumerate() {
                assert!(*probability >= 0.0 && (self.live.contains(item as u32) || *probability == 0.0));
            }
            let expected = if self.live.items().is_empty() { 0.0 } else { 1.0 };
            assert!((probabilities.iter().sum::<f64>() - expected).abs() < 1e-9);
        }

        fn check_draws(&mut self) {
            self.check();
            let drawable = self.probabilities().iter().filter(|probability| **probability > 1e-5).count();
            assert!(drawable > 20, "{drawable}");
            let (view, sampler) = self.parts();
            draws_fit(view, sampler, view.frequencies.len() as u32);
        }

        fn saved(&self) -> StateDict {
            let mut saved = StateDict::default();
            self.sampler.save(&mut saved);
            saved
        }

        fn restore(&mut self, saved: &mut StateDict) -> Result<(), StateDictError> {
            let mut new = Adaptive::new(self.sampler.most, self.sampler.power);
            let (view, sampler) = self.parts();
            new.restore(view, saved).map(|()| *sampler = new)
        }
    }

    /// A static stream where all live for ever, and a drifting one where items die.
    fn worlds() -> [World; 2] {
        [(u64::MAX, 0), (400, 3)].map(|(horizon, drift)| {
            let mut world = World::new(Some(1000.0), horizon, Adaptive::new(16, 0.75));
            world.run(300, drift);
            world
        })
    }

    #[test]
    fn adaptive_draws_follow_stated_probabilities() {
        for mut world in worlds() {
            world.check_draws();
            let newest = *world.live.items().iter().max().unwrap();
            world.ask(&world.queries(&[newest - 190, newest - 150, newest - 1]));
            world.check_draws();
        }
    }

    #[test]
    fn adaptive_restores_to_the_same_state() {
        for mut world in worlds() {
            let queries = world.queries(&[1, 2, 3, 5]);
            world.ask(&queries);
            let saved = world.saved();
            let mut run = |restored: bool| {
                world.restore(&mut saved.clone()).unwrap();
                let (frequencies, live) = (world.frequencies.clone(), world.live.clone());
                let mut results = Vec::new();
                for _ in 0..30 {
                    results.push((world.probabilities(), world.draws(100)));
                    if restored {
                        let mut again = world.saved();
                        world.restore(&mut again).unwrap();
                    }
                    world.observe(&(900..950).collect::<Vec<_>>());
                    world.ask(&queries);
                }
                (world.frequencies, world.live) = (frequencies, live);
                (results, world.saved())
            };
            assert_eq!(run(false), run(true));
        }
    }

    #[test]
    fn adaptive_restore_refuses_impossible_state() {
        let [_, mut world] = worlds();
        let saved = world.saved();
        let right: Vec<_> = saved.arrays().map(|(name, array)| (name.to_owned(), array.clone())).collect();
        assert!(world.restore(&mut StateDict::from_arrays(right.clone())).is_ok());
        for (index, (name, array)) in right.iter().enumerate() {
            let wrong = match array {
                Array::U32(numbers) if name == "cursor" => Array::U32([numbers.clone(), numbers.clone()].concat()),
                Array::U32(numbers) => Array::U32(vec![u32::MAX; numbers.len().max(1)]),
                Array::F64(numbers) => Array::F64(vec![f64::NAN; numbers.len().max(1)]),
            };
            let mut arrays = right.clone();
            arrays[index].1 = wrong;
            assert!(world.restore(&mut StateDict::from_arrays(arrays.clone())).is_err(), "{name}");
            arrays.remove(index);
            assert!(world.restore(&mut StateDict::from_arrays(arrays)).is_err(), "{name}");
        }
        world.check();
    }

    #[test]
    fn adaptive_follows_the_model() {
        let [mut world, _] = worlds();
        let query = world.queries(&[3]);
        world.ask(&query);
        let probabilities = world.probabilities();
        let of_group: f64 = probabilities.iter().skip(3).step_by(GROUPS as usize).sum();
        assert!(of_group > 0.9, "{of_group}");

        let mut unigram = Unigram::new(0.75);
        let (view, _) = world.parts();
        unigram.observe(view, BatchObservation { items: view.live.items(), ..BatchObservation::default() });
        let mut vector = [0.0; DIM];
        let scores = view.live.items().iter().map(|item| {
            view.vectors.vector(*item, &mut vector);
            let score = dot(&query, &vector) * view.vectors.inverse_temperature();
            f64::from(score + view.vectors.beta() * view.frequencies.log_frequency(*item)).exp()
        });
        let scores: Vec<f64> = scores.collect();
        let sum: f64 = scores.iter().sum();
        let divergence = |probability: &dyn Fn(u32) -> f64| -> f64 {
            let terms = view.live.items().iter().zip(&scores);
            terms.map(|(item, score)| score / sum * (score / sum / probability(*item)).ln()).sum()
        };
        let ours = divergence(&|item| probabilities[item as usize]);
        let theirs = divergence(&|item| unigram.probability(view, item));
        assert!(4.0 * ours < theirs, "{ours} {theirs}");
    }

    #[test]
    fn adaptive_without_queries_is_unigram() {
        let [mut world, _] = worlds();
        world.ask(&[]);
        let weights: Vec<f64> = world.frequencies.baseline().relative().iter().map(|count| count.powf(0.75)).collect();
        let sum: f64 = weights.iter().sum();
        for (probability, weight) in world.probabilities().into_iter().zip(weights) {
            let expected =
                0.95 * weight / sum + if weight > 0.0 { 0.05 / world.live.items().len() as f64 } else { 0.0 };
            assert!((probability - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn adaptive_restarts_emptied_clusters() {
        let mut world = World::new(Some(1000.0), 400, Adaptive::new(16, 0.75));
        // After every eight batches nobody is left.
        world.run(100, 20);
        let filled = world.sampler.clusters.iter().filter(|cluster| !cluster.is_empty()).count();
        assert!(filled >= 10, "{filled}");
        world.check();
    }

    /// Weights grow by 2 for each event: what has left was heavier by any factor than what stays.
    #[test]
    fn adaptive_totals_stay_exact() {
        let mut world = World::new(Some(5.0), u64::MAX, Adaptive::new(3, 1.0));
        for turn in 0..400 {
            world.vectors.turn = turn as f32;
            let items = world.batch(0);
            world.observe(&items[..20]);
            world.ask(&world.queries(&[turn % 200]));
            world.check();
            for classes in &world.sampler.clusters {
                let sum: f64 = classes.iter().map(|(_, weight)| weight).sum();
                assert!((classes.total() - sum).abs() <= 1e-9 * sum);
            }
        }
    }

    proptest! {
        #[test]
        fn adaptive_accepts_any_stream(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..60, 0..40), 0..30),
            queries in proptest::collection::vec(proptest::num::f32::ANY, 0..60),
            (clusters, power) in (0usize..8, 0f64..4.0),
            (horizon, broken) in (1u64..150, proptest::option::of(3u32..9)),
            half_life in proptest::option::of(10f64..1e4),
        ) {
            let mut world = World::new(half_life, horizon, Adaptive::new(clusters, power));
            world.vectors.broken = broken;
            for (turn, items) in batches.iter().enumerate() {
                world.vectors.turn = turn as f32;
                world.observe(items);
                world.check();
                world.ask(&queries);
                world.check();
                prop_assert!(world.draws(30).iter().all(|item| world.live.contains(*item)));
                prop_assert_eq!(world.draws(1).is_empty(), world.live.items().is_empty());
                let before = (world.probabilities(), world.draws(30));
                let mut saved = world.saved();
                prop_assert_eq!(world.restore(&mut saved), Ok(()));
                prop_assert_eq!(before, (world.probabilities(), world.draws(30)));
            }
        }
    }
}
