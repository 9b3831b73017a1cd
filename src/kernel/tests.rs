//! Every instruction set against double precision, over shapes that fit no block, and against itself.

use ndarray::Array2;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::info_nce::{Gradients, Pairs, Problem, gradients};
use super::ranking::{Counts, Items, PackedQueries, count_above, score_items};
use super::reference::{self, Truth};
use super::{Kernel, LANES};

/// A batch with everything in it: duplicate candidates merged, masks, terms of pairs, padding.
#[derive(Debug, Clone)]
struct Case {
    queries: Array2<f32>,
    candidates: Array2<f32>,
    inverse_temperature: f32,
    bias: Vec<f32>,
    slope: Vec<f32>,
    positives: Vec<u32>,
    starts: Vec<u32>,
    columns: Vec<u32>,
    terms: Vec<f32>,
}

impl Case {
    fn new(n_queries: usize, n_candidates: usize, dim: usize, spread: f32, masks: f64, seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let stride = dim.next_multiple_of(LANES);
        let mut matrix = |rows: usize| {
            Array2::from_shape_fn((rows, stride), |(_, k)| {
                let number = random.random_range(-1.0..1.0f32);
                if k < dim { number / (dim as f32).sqrt() } else { 0.0 }
            })
        };
        let (queries, candidates) = (matrix(n_queries), matrix(n_candidates));
        let mut numbers =
            |scale: f32| (0..n_candidates).map(|_| random.random_range(-scale..=scale)).collect::<Vec<_>>();
        let (bias, slope) = (numbers(spread), numbers(8.0));
        let (mut positives, mut starts, mut columns, mut terms) = (Vec::new(), vec![0], Vec::new(), Vec::new());
        for _ in 0..n_queries {
            let positive = random.random_range(0..n_candidates as u32);
            positives.push(positive);
            columns.push(positive);
            terms.push(random.random_range(-3.0..1.0));
            for column in (0..n_candidates as u32).filter(|column| *column != positive) {
                if random.random::<f64>() < masks {
                    columns.push(column);
                    terms.push(if random.random::<bool>() {
                        f32::NEG_INFINITY
                    } else {
                        random.random_range(-2.0..2.0)
                    });
                }
            }
            starts.push(columns.len() as u32);
        }
        Self { queries, candidates, inverse_temperature: 1.0 / 0.15, bias, slope, positives, starts, columns, terms }
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            queries: self.queries.view(),
            query_inverse_norms: &[],
            candidates: self.candidates.view(),
            inverse_temperature: self.inverse_temperature,
            bias: &self.bias,
            slope: &self.slope,
            positives: &self.positives,
            pairs: Pairs { starts: &self.starts, columns: &self.columns, terms: &self.terms },
            scale: 1.0 / self.positives.len() as f32,
        }
    }
}

/// All candidate gradients, one behind the other.
fn candidate_gradients(found: &Gradients, case: &Case) -> Vec<f32> {
    (0..case.candidates.nrows()).flat_map(|column| found.candidate(column)).collect()
}

/// The largest difference, relative to the largest number of the truth.
fn apart(found: &[f32], truth: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = truth.clone().fold(1e-6, |largest: f64, number| largest.max(number.abs()));
    found.iter().zip(truth).map(|(found, truth)| (f64::from(*found) - truth).abs()).fold(0.0, f64::max) / largest
}

fn check(kernel: Kernel, case: &Case) {
    let Truth { loss, queries, candidates, pairs, slope, inverse_temperature } = reference::info_nce(&case.problem());
    let mut found = Gradients::default();
    gradients(kernel, &case.problem(), &mut found);
    let context =
        format!("{kernel:?}, {} × {} × {}", case.queries.nrows(), case.candidates.nrows(), case.queries.ncols());
    let close = |a: f64, b: f64, what: &str| {
        assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{context}: {what} is {a}, not {b}");
    };
    close(found.loss, loss, "loss");
    close(found.slope, slope, "slope");
    close(found.inverse_temperature, inverse_temperature, "gradient of 1/τ");
    for (name, apart) in [
        ("queries", apart(&found.queries, queries.iter().copied())),
        ("candidates", apart(&candidate_gradients(&found, case), candidates.iter().copied())),
        ("pairs", apart(&found.pairs, pairs.iter().copied())),
    ] {
        assert!(apart < 5e-5, "{context}: gradients of {name} are {apart} apart");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_instruction_set_agrees_with_double_precision(
        n_queries in 1usize..70,
        n_candidates in 1usize..140,
        dim in 1usize..70,
        spread in prop_oneof![Just(0.0f32), Just(3.0), Just(40.0)],
        masks in prop_oneof![Just(0.0), Just(0.1), Just(1.0)],
        seed: u64,
    ) {
        let case = Case::new(n_queries, n_candidates, dim, spread, masks, seed);
        for kernel in Kernel::available() {
            check(kernel, &case);
        }
    }

    #[test]
    fn ranking_counts_what_a_plain_loop_counts(n_items in 1usize..100, dim in 1usize..40, seed: u64) {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut numbers = |n: usize| (0..n).map(|_| random.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
        let mut rows = numbers(n_items * dim);
        let (scale, mut bias) = (numbers(n_items), numbers(n_items));
        let queries = numbers(LANES * dim);
        // Some items are equal to the bit, so that ties count.
        if n_items > 3 {
            rows.copy_within(..dim, dim);
            bias[1] = bias[0];
        }
        let mut scale = scale;
        if n_items > 3 {
            scale[1] = scale[0];
        }
        for kernel in Kernel::available() {
            let (mut packed, mut scratch) = (PackedQueries::default(), PackedQueries::default());
            packed.pack(queries.chunks_exact(dim), dim);
            let mut targets = [0.0; LANES];
            let mut all = Vec::new();
            for (lane, query) in queries.chunks_exact(dim).enumerate() {
                let items = (0..n_items).map(|item| (&rows[item * dim..][..dim], scale[item], bias[item]));
                let mut scores = Vec::new();
                score_items(kernel, query, items, &mut scratch, &mut scores);
                targets[lane] = scores[0];
                all.push(scores);
            }
            let mut counts = Counts::default();
            count_above(kernel, &packed, Items { rows: &rows, scale: &scale, bias: &bias }, &targets, &mut counts);
            for lane in 0..LANES {
                let above = all[lane].iter().filter(|score| **score > targets[lane]).count() as u32;
                let equal = all[lane].iter().filter(|score| **score == targets[lane]).count() as u32;
                prop_assert_eq!((counts.above[lane], counts.equal[lane]), (above, equal));
                prop_assert!(n_items <= 3 || equal >= 2);
            }
        }
    }
}

#[test]
fn the_reference_agrees_with_finite_differences() {
    let case = Case::new(3, 7, 5, 1.0, 0.3, 11);
    let truth = reference::info_nce(&case.problem());
    let step = 1e-2f32;
    let loss_of = |change: &dyn Fn(&mut Case, f32), by: f32| {
        let mut changed = case.clone();
        change(&mut changed, by);
        reference::info_nce(&changed.problem()).loss / 3.0
    };
    // The fifth-order stencil: single-precision inputs allow no small step.
    let difference = |change: &dyn Fn(&mut Case, f32)| {
        let at = |by: f32| loss_of(change, by);
        (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * f64::from(step))
    };
    let close = |found: f64, expected: f64, what: &str| {
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(0.1), "{what}: {found}, not {expected}");
    };
    for (row, k) in [(0, 0), (1, 3), (2, 4)] {
        close(truth.queries[[row, k]], difference(&|case, by| case.queries[[row, k]] += by), "query");
        close(truth.candidates[[row, k]], difference(&|case, by| case.candidates[[row, k]] += by), "candidate");
    }
    for pair in (0..case.terms.len()).filter(|pair| case.terms[*pair].is_finite()) {
        close(truth.pairs[pair], difference(&|case, by| case.terms[pair] += by), "pair");
    }
    close(truth.inverse_temperature, difference(&|case, by| case.inverse_temperature += by), "1/τ");
    let along = |case: &mut Case, by: f32| {
        let slope = case.slope.clone();
        case.bias.iter_mut().zip(&slope).for_each(|(bias, slope)| *bias += by / 8.0 * slope);
    };
    close(truth.slope / 8.0, difference(&along), "β");
}

#[test]
fn masked_pairs_weigh_nothing_and_lone_positives_cost_nothing() {
    let mut case = Case::new(5, 9, 8, 1.0, 1.0, 3);
    for (pair, term) in case.terms.iter_mut().enumerate() {
        *term = if case.starts.contains(&(pair as u32)) { 0.0 } else { f32::NEG_INFINITY };
    }
    for kernel in Kernel::available() {
        let mut found = Gradients::default();
        gradients(kernel, &case.problem(), &mut found);
        assert!(found.loss.abs() < 1e-6, "{kernel:?}: {}", found.loss);
        assert!(found.queries.iter().chain(&candidate_gradients(&found, &case)).all(|gradient| gradient.abs() < 1e-6));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = Case::new(200, 333, 48, 2.0, 0.05, 5);
    for kernel in Kernel::available() {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut found = Gradients::default();
            pool.install(|| gradients(kernel, &case.problem(), &mut found));
            let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            (found.loss.to_bits(), bits(&found.queries), bits(&candidate_gradients(&found, &case)), bits(&found.pairs))
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(7));
    }
}
