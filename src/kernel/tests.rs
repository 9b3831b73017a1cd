//! Every instruction set against double precision, over shapes that fit no block, and against itself.

use ndarray::Array2;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::contrast::{Gradients, Pairs, Problem, Softmax, any, info_nce};
use super::ranking::{
    Comparer, Estimate, ItemTile, LaneMask, PackedQueries, RankCounts, Targets, TouchedRows, count_touched,
    estimate_scores, score_items,
};
use super::reference::{self, Truth};
use super::rows::dot;
use super::{Isa, Kernel, LANES, Lanes};
use crate::table::rows::split_mix;

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
    weights: Vec<f32>,
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
        let weights = (0..n_queries).map(|_| random.random_range(0.0..2.0f32)).collect();
        let inverse_temperature = 1.0 / 0.15;
        Self { queries, candidates, inverse_temperature, bias, slope, positives, starts, columns, terms, weights }
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            queries: self.queries.view(),
            query_inverse_norms: &[],
            query_scales: &[],
            candidates: self.candidates.view(),
            inverse_temperature: self.inverse_temperature,
            bias: &self.bias,
            slope: &self.slope,
            positives: &self.positives,
            pairs: Pairs { starts: &self.starts, columns: &self.columns, terms: &self.terms },
            scale: 1.0 / self.positives.len() as f32,
            weights: &self.weights,
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
    let truth = reference::info_nce(&case.problem());
    let mut fused = Gradients::default();
    info_nce(kernel, &case.problem(), &mut fused);
    let mut open = Gradients::default();
    any(&case.problem(), &Softmax { kernel, positives: &case.positives }, &mut open);
    for (how, found) in [("fused", fused), ("any", open)] {
        agrees(&format!("{kernel:?}, {how}"), &found, case, &truth);
    }
}

fn agrees(how: &str, found: &Gradients, case: &Case, truth: &Truth) {
    let Truth { loss, queries, candidates, pairs, slope, inverse_temperature } = truth;
    let context = format!("{how}, {} × {} × {}", case.queries.nrows(), case.candidates.nrows(), case.queries.ncols());
    let close = |a: f64, b: f64, what: &str| {
        assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{context}: {what} is {a}, not {b}");
    };
    close(found.loss, *loss, "loss");
    close(found.slope, *slope, "slope");
    close(found.inverse_temperature, *inverse_temperature, "gradient of 1/τ");
    for (name, apart) in [
        ("queries", apart(&found.queries, queries.iter().copied())),
        ("candidates", apart(&candidate_gradients(found, case), candidates.iter().copied())),
        ("pairs", apart(&found.pairs, pairs.iter().copied())),
    ] {
        assert!(apart < 5e-5, "{context}: gradients of {name} are {apart} apart");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_instruction_set_agrees_with_double_precision(
        n_queries in 1usize..200,
        n_candidates in 1usize..200,
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
    fn ranking_counts_what_a_plain_loop_counts_with_nan_and_infinities(n_items in 1usize..100, half in 1usize..20, seed: u64) {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let dim = 2 * half;
        let mut numbers = |n: usize| (0..n).map(|_| random.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
        let (rows, scale, mut bias, queries) = (numbers(n_items * dim), numbers(n_items), numbers(n_items), numbers(LANES * dim));
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        bias.iter_mut().step_by(3).zip(special.iter().cycle()).for_each(|(bias, number)| *bias = *number);
        let mut targets: Lanes = std::array::from_fn(|lane| queries[lane]);
        targets[..3].copy_from_slice(&special);
        let of_comparer = Targets { scores: targets, margins: [dim as f32 * Comparer::error(dim); LANES], least_bias: f32::NEG_INFINITY };
        let items = ItemTile { rows: &rows, scale: &scale, bias: &bias };
        for kernel in Kernel::available() {
            let (mut packed, mut scratch, mut comparer) = (PackedQueries::default(), PackedQueries::default(), Comparer::default());
            packed.pack(queries.chunks_exact(dim), dim);
            for is_rounded in [false, true] {
                comparer.begin();
                if is_rounded {
                    comparer.round(kernel, &rows, dim);
                    packed.round(kernel);
                }
                let mut counts = RankCounts::default();
                comparer.count(kernel, &packed, items, &vec![0; n_items], &of_comparer, &mut counts);
                for (lane, query) in queries.chunks_exact(dim).enumerate() {
                    let mut scores = Vec::new();
                    let each = (0..n_items).map(|item| (&rows[item * dim..][..dim], scale[item], bias[item]));
                    score_items(kernel, query, each, &mut scratch, &mut scores);
                    let above = scores.iter().filter(|score| **score > targets[lane]).count() as i32;
                    let equal = scores.iter().filter(|score| **score == targets[lane]).count() as i32;
                    prop_assert_eq!((counts.above[lane], counts.equal[lane]), (above, equal), "{:?} {}", kernel, lane);
                }
            }
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
                score_items(kernel, query, items.clone(), &mut scratch, &mut scores);
                for block in 0..n_items.div_ceil(LANES) {
                    let items: Vec<_> = items.clone().skip(block * LANES).take(LANES).collect();
                    let rows: Vec<&[f32]> = items.iter().map(|(row, ..)| *row).collect();
                    let (mut scale, mut bias) = ([0.0; LANES], [0.0; LANES]);
                    for (place, (_, of_item, of_popularity)) in items.iter().enumerate() {
                        (scale[place], bias[place]) = (*of_item, *of_popularity);
                    }
                    let estimates = estimate_scores(kernel, query, &rows, &scale, &bias);
                    for (score, Estimate { score: estimate, error }) in scores[block * LANES..].iter().zip(estimates) {
                        prop_assert!((score - estimate).abs() <= error, "{} is not {} ± {}", score, estimate, error);
                        prop_assert!(error < 1e-4, "{error}");
                    }
                }
                targets[lane] = scores[0];
                all.push(scores);
            }
            // What the products add at most: so that items of little bias may be passed over, and those in bfloat16 may tell.
            let length = |vector: &[f32]| dot(vector, vector).sqrt();
            let longest = rows.chunks_exact(dim).zip(&scale).map(|(row, scale)| length(row) * scale.abs()).fold(0.0, f32::max);
            let most: Vec<f32> = queries.chunks_exact(dim).map(|query| length(query) * longest * 1.001).collect();
            let least_bias = (0..LANES).map(|lane| targets[lane] - most[lane]).fold(f32::INFINITY, f32::min);
            let margins = std::array::from_fn(|lane| most[lane] * Comparer::error(dim) + 1e-5);
            let of_comparer = Targets { scores: targets, margins, least_bias: least_bias - 1e-3 };
            let items = ItemTile { rows: &rows, scale: &scale, bias: &bias };
            let mut comparer = Comparer::default();
            let none: Vec<LaneMask> = vec![0; n_items];
            let some: Vec<LaneMask> = (0..n_items as u64).map(|item| (split_mix(item) & split_mix(!item)) as LaneMask).collect();
            let stays = |excluded: &[LaneMask], item: usize, lane: usize| excluded[item] >> lane & 1 == 0;
            for is_rounded in [false, true] {
                if is_rounded && dim % 2 == 1 {
                    continue;
                }
                comparer.begin();
                if is_rounded {
                    comparer.round(kernel, &rows, dim);
                    packed.round(kernel);
                }
                for excluded in [&none, &some] {
                    let mut counts = RankCounts::default();
                    comparer.count(kernel, &packed, items, excluded, &of_comparer, &mut counts);
                    for lane in 0..LANES {
                        let scores = || (0..n_items).filter(|item| stays(excluded, *item, lane)).map(|item| all[lane][item]);
                        let above = scores().filter(|score| *score > targets[lane]).count() as i32;
                        let equal = scores().filter(|score| *score == targets[lane]).count() as i32;
                        prop_assert_eq!((counts.above[lane], counts.equal[lane]), (above, equal));
                        prop_assert!(n_items <= 3 || equal >= 2 || *excluded != none);
                    }
                }
            }
            // The same rows as touched ones: each comes at one event and goes at another, if ever.
            let mut touched = TouchedRows::default();
            touched.clear(dim, 0);
            let spans: Vec<(u32, u32)> = (0..n_items as u32)
                .map(|item| (item % 7, if item % 3 == 0 { u32::MAX } else { item % 7 + item % 5 }))
                .collect();
            for item in 0..n_items {
                touched.push_current(&rows[item * dim..][..dim], scale[item], bias[item], spans[item]);
            }
            let mut counts = RankCounts::default();
            let events: [u32; LANES] = std::array::from_fn(|lane| lane as u32 % 13);
            let by_event: Vec<LaneMask> = (0..7).map(|event| split_mix(event) as LaneMask).collect();
            count_touched(kernel, &packed, &touched, &by_event, &events, &targets, &mut counts);
            for lane in 0..LANES {
                let is_valid = |item: usize| spans[item].0 < events[lane] && events[lane] <= spans[item].1;
                let valid = |item: &usize| is_valid(*item) && stays(&by_event, item % 7, lane);
                let scores = || (0..n_items).filter(valid).map(|item| all[lane][item]);
                let above = scores().filter(|score| *score > targets[lane]).count() as i32;
                let equal = scores().filter(|score| *score == targets[lane]).count() as i32;
                prop_assert_eq!((counts.above[lane], counts.equal[lane]), (above, equal));
            }
            // What is taken back leaves nothing.
            touched.clear(dim, 0);
            for item in 0..n_items {
                touched.push_outdated(&rows[item * dim..][..dim], scale[item], bias[item], spans[item]);
            }
            count_touched(kernel, &packed, &touched, &by_event, &events, &targets, &mut counts);
            prop_assert_eq!(counts, RankCounts::default());
        }
    }
}

#[test]
fn the_reference_agrees_with_finite_differences() {
    let mut case = Case::new(3, 7, 5, 1.0, 0.3, 11);
    case.weights.clear();
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

/// The largest logit so far goes from none (all masked) to finite, and up again later, with rivals in every chunk.
#[test]
fn contrast_handles_queries_whose_first_candidates_are_masked() {
    let mut case = Case::new(70, 190, 20, 1.0, 0.0, 4);
    (case.starts, case.columns, case.terms) = (vec![0], Vec::new(), Vec::new());
    for query in 0..70 {
        let positive = 100 + query as u32;
        case.positives[query] = positive;
        let masked = if query % 3 == 0 { 0 } else { 40 + query };
        for column in (0..masked as u32).chain([positive]) {
            case.columns.push(column);
            case.terms.push(if column == positive { 0.5 } else { f32::NEG_INFINITY });
        }
        case.starts.push(case.columns.len() as u32);
    }
    case.bias.iter_mut().enumerate().for_each(|(column, bias)| *bias += column as f32 / 10.0);
    Kernel::available().into_iter().for_each(|kernel| check(kernel, &case));
}

#[test]
fn contrast_buffers_carry_nothing_to_the_next_batch() {
    // Larger and smaller ones in turn, so that every buffer has been longer before.
    let shapes = [(200, 150, 40), (3, 7, 8), (70, 199, 64), (33, 49, 17), (1, 1, 1), (130, 20, 40)];
    for kernel in Kernel::available() {
        let mut kept = Gradients::default();
        for (seed, (n_queries, n_candidates, dim)) in shapes.into_iter().enumerate() {
            let case = Case::new(n_queries, n_candidates, dim, 3.0, 0.1, seed as u64);
            let mut anew = Gradients::default();
            info_nce(kernel, &case.problem(), &mut kept);
            info_nce(kernel, &case.problem(), &mut anew);
            assert_eq!(kept.loss.to_bits(), anew.loss.to_bits());
            assert_eq!((&kept.queries, &kept.pairs), (&anew.queries, &anew.pairs));
            assert_eq!(candidate_gradients(&kept, &case), candidate_gradients(&anew, &case));
        }
    }
}

#[test]
fn gradients_of_directions_become_those_of_the_vectors() {
    let case = Case::new(37, 60, 24, 1.0, 0.1, 8);
    let norms: Vec<f32> = (0..37).map(|query| 0.5 + query as f32 / 20.0).collect();
    let scales: Vec<f32> = (0..37).map(|query| 0.4 + query as f32 / 30.0).collect();
    // Directions times a scale; the vectors that they are the directions of have these norms.
    let mut case = case;
    for (mut row, scale) in case.queries.rows_mut().into_iter().zip(&scales) {
        let norm = row.dot(&row).sqrt();
        row.mapv_inplace(|number| number / norm * scale);
    }
    let inverse_norms: Vec<f32> = norms.iter().map(|norm| norm.recip()).collect();
    let truth = reference::info_nce(&case.problem());
    for kernel in Kernel::available() {
        let mut found = Gradients::default();
        let problem = Problem { query_inverse_norms: &inverse_norms, query_scales: &scales, ..case.problem() };
        info_nce(kernel, &problem, &mut found);
        let stride = case.queries.ncols();
        for (query, (norm, gradient)) in norms.iter().zip(truth.queries.rows()).enumerate() {
            let scale = f64::from(scales[query]);
            let unit = case.queries.row(query).mapv(f64::from) / scale;
            let along = unit.dot(&gradient);
            let expected = (&gradient - &unit * along) * scale / f64::from(*norm);
            let apart = apart(&found.queries[query * stride..][..stride], expected.iter().copied());
            assert!(apart < 1e-4, "{kernel:?}: query {query}: {apart}");
            // ∂/∂ log(scale), two ways.
            let of_scale = found.inverse_temperatures[query] * f64::from(case.inverse_temperature);
            assert!((of_scale - along * scale).abs() < 1e-4, "{kernel:?}: query {query}: {of_scale}");
        }
        assert!((found.inverse_temperature - truth.inverse_temperature).abs() < 1e-4);
    }
}

#[test]
fn masked_pairs_weigh_nothing_and_lone_positives_cost_nothing() {
    // Several chunks of candidates: for some queries the first are masked as a whole, for others the last.
    let mut case = Case::new(40, 200, 8, 1.0, 1.0, 3);
    for (pair, term) in case.terms.iter_mut().enumerate() {
        *term = if case.starts.contains(&(pair as u32)) { 0.0 } else { f32::NEG_INFINITY };
    }
    for kernel in Kernel::available() {
        let mut found = Gradients::default();
        info_nce(kernel, &case.problem(), &mut found);
        assert!(found.loss.abs() < 1e-6, "{kernel:?}: {}", found.loss);
        assert!(found.queries.iter().chain(&candidate_gradients(&found, &case)).all(|gradient| gradient.abs() < 1e-6));
    }
}

/// Wider registers take the same operations in the same order.
#[test]
fn instruction_sets_with_fused_products_give_the_same_bytes() {
    let fused: Vec<_> = Kernel::available().into_iter().filter(|kernel| kernel.isa() != Isa::Plain).collect();
    if fused.len() < 2 {
        eprintln!("*** LEFT OUT: this machine has {fused:?} alone, and nothing to compare it with");
    }
    for (n_queries, n_candidates, dim) in [(200, 333, 48), (130, 101, 64), (17, 50, 100), (1, 3, 16)] {
        let case = Case::new(n_queries, n_candidates, dim, 2.0, 0.05, 9);
        for bf16 in [false, true] {
            let results: Vec<_> =
                fused.iter().map(|kernel| bits_of(kernel.with_bf16_products(bf16), &case, 1)).collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{n_queries} × {n_candidates} × {dim}, {bf16}");
        }
    }
}

/// Of unit vectors in bfloat16, which are off by 2⁻⁹ of themselves each: products of 100 dimensions by 2⁻⁸ at most, logits by
/// that over τ, and with them the weights, and the gradients that these are summed up to.
#[test]
fn products_in_bfloat16_are_near_double_precision() {
    for (n_queries, n_candidates, dim) in [(200, 333, 48), (130, 101, 64), (17, 50, 100), (1, 3, 16)] {
        let mut case = Case::new(n_queries, n_candidates, dim, 2.0, 0.05, 9);
        for matrix in [&mut case.queries, &mut case.candidates] {
            for mut row in matrix.rows_mut() {
                let norm = row.dot(&row).sqrt();
                row.mapv_inplace(|number| number / norm);
            }
        }
        let truth = reference::info_nce(&case.problem());
        for kernel in Kernel::available() {
            let mut found = Gradients::default();
            info_nce(kernel.with_bf16_products(true), &case.problem(), &mut found);
            let context = format!("{kernel:?}, {n_queries} × {n_candidates} × {dim}");
            let loss = (found.loss - truth.loss).abs() / truth.loss;
            assert!(loss < 2e-3, "{context}: loss by {loss}");
            for (name, apart) in [
                ("queries", apart(&found.queries, truth.queries.iter().copied())),
                ("candidates", apart(&candidate_gradients(&found, &case), truth.candidates.iter().copied())),
                ("pairs", apart(&found.pairs, truth.pairs.iter().copied())),
            ] {
                assert!(apart < 0.02, "{context}: {name} by {apart}");
            }
        }
    }
}

/// The bits of everything that the kernel finds for `case` on `threads` threads.
fn bits_of(kernel: Kernel, case: &Case, threads: usize) -> (u64, [Vec<u32>; 3]) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut found = Gradients::default();
    pool.install(|| info_nce(kernel, &case.problem(), &mut found));
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    (found.loss.to_bits(), [bits(&found.queries), bits(&candidate_gradients(&found, case)), bits(&found.pairs)])
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = Case::new(200, 333, 48, 2.0, 0.05, 5);
    for kernel in Kernel::available() {
        for kernel in [kernel, kernel.with_bf16_products(true)] {
            let with = |threads: usize| bits_of(kernel, &case, threads);
            assert_eq!(with(1), with(2));
            assert_eq!(with(1), with(7));
        }
    }
}
