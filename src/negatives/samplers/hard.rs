//! `hard`: the candidates at hand that the model scores highest.
//!
//! A bounded number of the batch's queries, evenly spaced, the probes, score the other candidates: the distinct live
//! items among the batch's positives and the bank, by the model's own score `s(x, j) = x·v_j/τ + β·log q̂_j`. Each
//! probe's best items are put together in a set H, and draws are uniform over it:
//!
//! `q(j) = 1/|H|` for `j` in H, else 0.
//!
//! This is a proposal of partial support, whose probabilities are exact: H is settled before anything is drawn. It only
//! ever adds to what the other proposals bring, whose expected numbers its own are added to. (Hard negatives from the
//! batch by the model's own scores: cf. Schroff et al. 2015; and from a queue of what came before: Xiong et al. 2021.)
//!
//! Nobody is kept out of H for being a positive: a probe's own positive is usually among its best, and those of other
//! queries may be. An accidental hit, a negative that is the query's own positive, is masked where the loss is computed.
//!
//! The cost is at most probes × distinct candidates × d; each candidate's vector is read once.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::adaptive::evenly_spaced;
use super::centres::dot;
use super::registry::{Needs, Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

/// The usual number of probes.
pub const PROBES: usize = 32;

config_section! {
    /// The options of `hard`.
    pub struct HardOptions {
        /// The largest share of a batch's candidates that the sampler may bring; in a mixture, its weight.
        cap: f64 = 0.2 => [within(0.0..=1.0)];
        /// Items in the set of the best-scored.
        size: usize = 256 => [within(1..=65_536)];
        /// Queries of the batch that choose the set.
        probes: usize = 32 => [within(1..=4096)];
    }
}

impl Component for HardOptions {
    const NAME: &'static str = "hard";
    const SUMMARY: &'static str = "The top-scored of the batch and the bank.";
}

impl SamplerOptions for HardOptions {
    const FULL_SUPPORT: bool = false;
    const NEEDS: Needs = Needs::Query;
    const ORIGIN: Origin = Origin::State(1);
    const TESTED: &'static [&'static str] = &["size = 20\nprobes = 5"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Hard::new(self.size, self.probes))
    }

    fn cap(&self) -> f64 {
        self.cap
    }
}

/// Draws the top-scored of the other candidates. What is drawn from lives from [`NoiseSampler::set_queries`] until the next
/// batch; there is nothing to save.
#[derive(Debug)]
pub struct Hard {
    size: usize,
    probes: usize,
    /// H, ascending.
    set: Vec<u32>,
    /// The distinct candidates, ascending; their vectors, and what their score is without any query.
    items: Vec<u32>,
    vectors: Vec<f32>,
    biases: Vec<f32>,
    /// Whether each candidate is among the best of some probe.
    chosen: Vec<bool>,
    /// Score and place of each candidate, for one probe.
    scores: Vec<(f32, u32)>,
}

impl Hard {
    /// `size` items at most, the best of up to `probes` queries: `size / probes` of each, or more where there are fewer
    /// queries.
    pub fn new(size: usize, probes: usize) -> Self {
        Self {
            size,
            probes: probes.max(1),
            set: Vec::new(),
            items: Vec::new(),
            vectors: Vec::new(),
            biases: Vec::new(),
            chosen: Vec::new(),
            scores: Vec::new(),
        }
    }
}

impl NoiseSampler for Hard {
    fn observe(&mut self, _view: StreamView<'_>, _observed: BatchObservation<'_>) {
        // Some of them may have died.
        self.set.clear();
    }

    fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        self.set.clear();
        let dim = view.vectors.dim();
        // One item each at least.
        let n_probes = evenly_spaced(asking, dim, self.probes.min(self.size)).count();
        if n_probes == 0 {
            return;
        }
        self.items.clear();
        self.items.extend(asking.others.iter().filter(|item| view.live.contains(**item)));
        self.items.sort_unstable();
        self.items.dedup();
        let best = (self.size / n_probes).min(self.items.len());
        if best == 0 {
            return;
        }
        self.vectors.resize(self.items.len() * dim, 0.0);
        self.biases.clear();
        let (beta, inverse_temperature) = (view.vectors.beta(), view.vectors.inverse_temperature());
        for (index, item) in self.items.iter().enumerate() {
            view.vectors.vector(*item, &mut self.vectors[index * dim..][..dim]);
            self.biases.push(beta * view.frequencies.log_frequency(*item));
        }
        self.chosen.clear();
        self.chosen.resize(self.items.len(), false);
        for query in evenly_spaced(asking, dim, n_probes) {
            self.scores.clear();
            self.scores.extend(self.biases.iter().enumerate().map(|(index, bias)| {
                let score = dot(query, &self.vectors[index * dim..][..dim]) * inverse_temperature + bias;
                // Out of bounds is no reason to be among the best.
                (if score.is_nan() { f32::NEG_INFINITY } else { score }, index as u32)
            }));
            // Places ascend as items do: of equals the one of the lower number.
            self.scores.select_nth_unstable_by(best - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            self.scores[..best].iter().for_each(|(_, index)| self.chosen[*index as usize] = true);
        }
        self.set.extend(self.items.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen).map(|(item, _)| *item));
    }

    fn depends_on_queries(&self) -> bool {
        true
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.set.is_empty()
    }

    fn draw(&self, _view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if !self.set.is_empty() {
            out.extend((0..draws).map(|_| self.set[random.random_range(0..self.set.len())]));
        }
    }

    fn probability(&self, _view: StreamView<'_>, item: u32) -> f64 {
        if self.set.binary_search(&item).is_ok() { (self.set.len() as f64).recip() } else { 0.0 }
    }

    fn keep_items(&mut self, _items: &RowRemap) {
        self.set.clear();
    }

    fn save(&self, _out: &mut StateDict) {}

    fn restore(&mut self, _view: StreamView<'_>, _saved: &mut StateDict) -> Result<(), StateDictError> {
        self.set.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Vectors;
    use super::*;
    use crate::negatives::frequency::Frequencies;
    use crate::negatives::live::LiveItems;
    use proptest::prelude::*;
    use rand::SeedableRng;

    const DIM: usize = 8;

    /// Items of a group point about the same way.
    #[derive(Debug)]
    struct Planted;

    impl Vectors for Planted {
        fn dim(&self) -> usize {
            DIM
        }

        fn vector(&self, item: u32, out: &mut [f32]) {
            let mut random = Pcg64Mcg::seed_from_u64(item.into());
            out.iter_mut().for_each(|number| *number = (random.random::<f32>() - 0.5) * 0.4);
            out[item as usize % DIM] += 1.0;
            let norm = dot(out, out).sqrt();
            out.iter_mut().for_each(|number| *number /= norm);
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
        random: Pcg64Mcg,
        sampler: Hard,
    }

    impl World {
        fn new(horizon: u64, sampler: Hard) -> Self {
            let (frequencies, random) = (Frequencies::new(Some(1000.0)), Pcg64Mcg::seed_from_u64(3));
            Self { frequencies, live: LiveItems::new(horizon), random, sampler }
        }

        fn view(&self) -> StreamView<'_> {
            StreamView { frequencies: &self.frequencies, live: &self.live, vectors: &Planted }
        }

        fn observe(&mut self, items: &[u32]) {
            self.frequencies.grow(items.iter().max().map_or(0, |most| *most as usize + 1));
            self.frequencies.add(items);
            self.live.observe(items);
            let view = StreamView { frequencies: &self.frequencies, live: &self.live, vectors: &Planted };
            self.sampler.observe(view, BatchObservation { items, ..BatchObservation::default() });
        }

        /// Zipf over 200 items that move on by `drift` from batch to batch. The items of the last 20 batches.
        fn run(&mut self, batches: u32, drift: u32) -> Vec<u32> {
            let mut others = Vec::new();
            for batch in 0..batches {
                let item = |random: &mut Pcg64Mcg| batch * drift + (200f64.powf(random.random()) - 1.0) as u32;
                let items: Vec<u32> = (0..50).map(|_| item(&mut self.random)).collect();
                self.observe(&items);
                if batch + 20 >= batches {
                    others.extend(items);
                }
            }
            others
        }

        fn ask(&mut self, queries: &[f32], others: &[u32]) {
            let view = StreamView { frequencies: &self.frequencies, live: &self.live, vectors: &Planted };
            self.sampler.set_queries(view, QueryContext { queries, stride: DIM, others, ..QueryContext::default() });
        }

        fn draws(&self, draws: usize) -> Vec<u32> {
            let mut out = Vec::new();
            self.sampler.draw(self.view(), draws, &mut Pcg64Mcg::seed_from_u64(8), &mut out);
            out
        }

        fn probabilities(&self) -> Vec<f64> {
            let items = 0..self.frequencies.len() as u32 + 3;
            items.map(|item| self.sampler.probability(self.view(), item)).collect()
        }

        fn check(&self) {
            let probabilities = self.probabilities();
            for (item, probability) in probabilities.iter().enumerate() {
                assert!(*probability >= 0.0 && (self.live.contains(item as u32) || *probability == 0.0));
            }
            let expected = if self.sampler.is_empty(self.view()) { 0.0 } else { 1.0 };
            assert!((probabilities.iter().sum::<f64>() - expected).abs() < 1e-9);
        }
    }

    fn queries(items: &[u32]) -> Vec<f32> {
        let mut queries = vec![0.0; items.len() * DIM];
        queries.chunks_exact_mut(DIM).zip(items).for_each(|(row, item)| Planted.vector(*item, row));
        queries
    }

    /// Static where all live for ever, and drifting where items die.
    const STREAMS: [(u64, u32); 2] = [(u64::MAX, 0), (400, 3)];

    #[test]
    fn hard_draws_follow_stated_probabilities_after_restore_too() {
        for (horizon, drift) in STREAMS {
            let mut world = World::new(horizon, Hard::new(64, 8));
            let others = world.run(300, drift);
            world.check();
            assert!(world.draws(3).is_empty());
            let queries = queries(&others[900..]);
            world.ask(&queries, &others);
            world.check();
            let mut counts = vec![0.0; world.frequencies.len()];
            world.draws(1_000_000).into_iter().for_each(|item| counts[item as usize] += 1.0);
            let (mut statistic, mut freedom) = (0.0f64, -1.0f64);
            for (count, probability) in counts.into_iter().zip(world.probabilities()) {
                assert!(probability > 0.0 || count == 0.0);
                if probability > 0.0 {
                    statistic += (count - probability * 1e6).powi(2) / (probability * 1e6);
                    freedom += 1.0;
                }
            }
            assert!((10.0..64.0).contains(&freedom) && statistic < freedom + 5.0 * (2.0 * freedom).sqrt());

            let before = (world.probabilities(), world.draws(100));
            let mut saved = StateDict::default();
            world.sampler.save(&mut saved);
            let mut again = Hard::new(64, 8);
            again.restore(world.view(), &mut saved).unwrap();
            assert!(again.is_empty(world.view()));
            world.sampler = again;
            world.ask(&queries, &others);
            assert_eq!(before, (world.probabilities(), world.draws(100)));
        }
    }

    #[test]
    fn hard_set_holds_the_best_of_each_probe() {
        for (horizon, drift) in STREAMS {
            let mut world = World::new(horizon, Hard::new(40, 4));
            let others = world.run(300, drift);
            let asked = [&others[970..973], &others[995..996]].concat();
            world.ask(&queries(&asked), &others);
            for probe in &asked {
                let score = |item: u32| {
                    let product = dot(&queries(&[*probe]), &queries(&[item]));
                    product * 8.0 + 0.75 * world.frequencies.log_frequency(item)
                };
                let alive = others.iter().copied().filter(|item| world.live.contains(*item));
                let mut ranked: Vec<u32> = alive.collect();
                ranked.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
                ranked.dedup();
                assert!(ranked[..10].iter().all(|item| world.sampler.probability(world.view(), *item) > 0.0));
            }
            assert!(world.sampler.set.len() <= 40 && world.sampler.set.is_sorted());
        }
    }

    #[test]
    fn hard_set_breaks_ties_by_lower_row() {
        let mut world = World::new(u64::MAX, Hard::new(3, 1));
        world.frequencies = Frequencies::new(Some(f64::INFINITY));
        world.observe(&[9, 5, 7, 2, 8]);
        // The product is the same 0 with all of them.
        world.ask(&[0.0; DIM], &[9, 8, 7, 5, 9, 2]);
        assert_eq!(world.sampler.set, [2, 5, 7]);
        world.ask(&[], &[9, 8]);
        assert!(world.sampler.is_empty(world.view()));
        world.ask(&[0.0; DIM], &[]);
        assert!(world.sampler.is_empty(world.view()));
    }

    proptest! {
        #[test]
        fn hard_accepts_any_stream(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..60, 0..40), 0..30),
            queries in proptest::collection::vec(proptest::num::f32::ANY, 0..60),
            others in proptest::collection::vec(0u32..80, 0..60),
            (size, probes, horizon) in (0usize..30, 0usize..8, 1u64..150),
        ) {
            let mut world = World::new(horizon, Hard::new(size, probes));
            for items in batches {
                world.observe(&items);
                world.check();
                world.ask(&queries, &others);
                world.check();
                prop_assert!(world.sampler.set.len() <= size);
                let draws = world.draws(30);
                prop_assert!(draws.iter().all(|item| world.live.contains(*item) && others.contains(item)));
                let possible = size > 0 && queries.len() >= DIM && others.iter().any(|item| world.live.contains(*item));
                prop_assert_eq!(draws.is_empty(), !possible);
            }
        }
    }
}
