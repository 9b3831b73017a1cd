//! InfoNCE with all its gradients, one tile of [`LANES`] queries at a time.
//!
//! A tile's logits (candidates × lanes) stay in cache: they are made, turned into weights, and used for both
//! gradients before the next tile begins, so the full matrix of queries by candidates never exists. Tiles belong to a
//! fixed number of groups; a group's tiles run in order and add to the group's own candidate gradients, and the groups
//! are summed in order, so the result does not depend on the number of threads.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::dots::{Consumer, for_rows, pack};
use super::exp::exp;
use super::{Kernel, LANES, Lanes, for_each_isa, multiply_add};

/// How many partial sums the candidate gradients have; also the most threads that a step can use.
const GROUPS: usize = 4;

/// Terms of single (query, candidate) pairs, added to their logits; −∞ masks the pair. Compressed rows.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// Pairs of query `i` are `starts[i]..starts[i + 1]`.
    pub starts: &'a [u32],
    /// Column of each pair; within a query each at most once.
    pub columns: &'a [u32],
    /// What is added to the logit.
    pub terms: &'a [f32],
}

/// One batch: `logit[i][j] = inverse_temperature · queries[i]·candidates[j] + bias[j] + pair terms`.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// B × stride, the stride a multiple of [`LANES`], filled up with zeros.
    pub queries: ArrayView2<'a, f32>,
    /// N × stride.
    pub candidates: ArrayView2<'a, f32>,
    /// 1/τ.
    pub inverse_temperature: f32,
    /// N: everything that is added to a column.
    pub bias: &'a [f32],
    /// N: ∂bias/∂β.
    pub slope: &'a [f32],
    /// B: the column of each query's positive.
    pub positives: &'a [u32],
    /// Sparse terms; every query must have its positive among them (with 0 if nothing else).
    pub pairs: Pairs<'a>,
    /// What each query's loss counts in the gradients (1/B for the mean).
    pub scale: f32,
}

/// Loss and gradients of a batch. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Sum of the queries' losses, in nats.
    pub loss: f64,
    /// B × stride.
    pub queries: Vec<f32>,
    /// N × stride.
    pub candidates: Vec<f32>,
    /// One for each pair term.
    pub pairs: Vec<f32>,
    /// ∂/∂β.
    pub slope: f64,
    /// ∂/∂(1/τ).
    pub inverse_temperature: f64,
    groups: Vec<Group>,
}

/// Scratch and partial sums of one group of tiles.
#[derive(Debug, Default)]
struct Group {
    packed: Vec<Lanes>,
    logits: Vec<Lanes>,
    query_gradients: Vec<Lanes>,
    candidate_gradients: Vec<f32>,
    loss: f64,
    slope: f64,
    inverse_temperature: f64,
}

/// Computes loss and gradients of `problem` into `out`.
///
/// # Panics
/// If the shapes disagree or a matrix is not in standard layout.
pub fn gradients(kernel: Kernel, problem: &Problem<'_>, out: &mut Gradients) {
    let (n_queries, stride) = problem.queries.dim();
    let n_candidates = problem.candidates.nrows();
    assert_eq!(stride % LANES, 0, "rows are padded to whole blocks");
    assert_eq!(problem.candidates.ncols(), stride, "queries and candidates have one dimension");
    assert!([problem.bias, problem.slope].iter().all(|column| column.len() == n_candidates));
    assert_eq!(problem.positives.len(), n_queries);
    assert_eq!(problem.pairs.starts.len(), n_queries + 1);

    out.queries.clear();
    out.queries.resize(n_queries * stride, 0.0);
    out.pairs.clear();
    out.pairs.resize(problem.pairs.columns.len(), 0.0);
    out.groups.resize_with(GROUPS, Group::default);

    // Each group gets its run of tiles, and the slices of the outputs that belong to them.
    let n_tiles = n_queries.div_ceil(LANES);
    let mut work = Vec::with_capacity(GROUPS);
    let (mut queries, mut pairs) = (out.queries.as_mut_slice(), out.pairs.as_mut_slice());
    let mut begin = 0;
    for (index, group) in out.groups.iter_mut().enumerate() {
        let end = (n_tiles * (index + 1) / GROUPS * LANES).min(n_queries);
        let pair = |query: usize| problem.pairs.starts[query] as usize;
        let (own_queries, rest) = queries.split_at_mut((end - begin) * stride);
        let (own_pairs, other) = pairs.split_at_mut(pair(end) - pair(begin));
        (queries, pairs) = (rest, other);
        work.push((begin..end, group, own_queries, own_pairs));
        begin = end;
    }
    work.into_par_iter().for_each(|(range, group, query_gradients, pair_gradients)| {
        group.candidate_gradients.clear();
        group.candidate_gradients.resize(n_candidates * stride, 0.0);
        (group.loss, group.slope, group.inverse_temperature) = (0.0, 0.0, 0.0);
        let first_pair = problem.pairs.starts[range.start] as usize;
        for first in range.clone().step_by(LANES) {
            let queries = first..(first + LANES).min(range.end);
            let pairs = problem.pairs.starts[queries.start] as usize - first_pair
                ..problem.pairs.starts[queries.end] as usize - first_pair;
            let rows = (queries.start - range.start) * stride..(queries.end - range.start) * stride;
            run_tile(kernel.isa, problem, queries, group, &mut query_gradients[rows], &mut pair_gradients[pairs]);
        }
    });

    out.candidates.clear();
    out.candidates.resize(n_candidates * stride, 0.0);
    let groups = &out.groups;
    out.candidates.par_chunks_mut(64 * stride).enumerate().for_each(|(chunk, sums)| {
        for group in groups {
            let begin = chunk * 64 * stride;
            let parts = &group.candidate_gradients[begin..begin + sums.len()];
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
    });
    out.loss = groups.iter().map(|group| group.loss).sum();
    out.slope = groups.iter().map(|group| group.slope).sum();
    out.inverse_temperature = groups.iter().map(|group| group.inverse_temperature).sum();
}

for_each_isa!(run_tile = tile(
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Group,
    query_gradients: &mut [f32],
    pair_gradients: &mut [f32],
));

/// Turns products into logits.
struct Columns<'a, const FMA: bool> {
    bias: &'a [f32],
    inverse_temperature: f32,
    logits: &'a mut [Lanes],
}

impl<const FMA: bool> Consumer for Columns<'_, FMA> {
    #[inline(always)]
    fn take(&mut self, row: usize, products: &Lanes) {
        for lane in 0..LANES {
            self.logits[row][lane] = multiply_add::<FMA>(self.inverse_temperature, products[lane], self.bias[row]);
        }
    }
}

/// One tile: queries `queries` against all candidates.
#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize>(
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Group,
    query_gradients: &mut [f32],
    pair_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    let first_pair = problem.pairs.starts[queries.start] as usize;
    pack(query_rows.chunks_exact(stride), &mut group.packed, stride);

    // Logits, and the largest of each lane.
    let logits = &mut group.logits;
    logits.resize(problem.bias.len(), [0.0; LANES]);
    let inverse_temperature = problem.inverse_temperature;
    let mut columns = Columns::<FMA> { bias: problem.bias, inverse_temperature, logits };
    for_rows::<FMA, ROWS>(&group.packed, candidates, stride, &mut columns);
    let pairs_of = |query: usize| problem.pairs.starts[query] as usize..problem.pairs.starts[query + 1] as usize;
    for (lane, query) in queries.clone().enumerate() {
        for pair in pairs_of(query) {
            logits[problem.pairs.columns[pair] as usize][lane] += problem.pairs.terms[pair];
        }
    }
    let mut largest = [f32::NEG_INFINITY; LANES];
    for row in logits.iter() {
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(row[lane]);
        }
    }

    // Weights (not yet divided by their sum), their sums, and the loss.
    let mut positive_logits = [0.0; LANES];
    for (lane, query) in queries.clone().enumerate() {
        positive_logits[lane] = logits[problem.positives[query] as usize][lane];
    }
    let (mut sums, mut slopes) = ([0.0; LANES], [0.0; LANES]);
    for (column, row) in logits.iter_mut().enumerate() {
        let mut shifted = [0.0; LANES];
        for lane in 0..LANES {
            shifted[lane] = row[lane] - largest[lane];
        }
        *row = exp::<FMA>(shifted);
        for lane in 0..LANES {
            sums[lane] += row[lane];
            slopes[lane] = multiply_add::<FMA>(row[lane], problem.slope[column], slopes[lane]);
        }
    }
    let mut factors = [0.0; LANES];
    for (lane, query) in queries.clone().enumerate() {
        let positive = problem.positives[query] as usize;
        let above = f64::from(largest[lane]) - f64::from(positive_logits[lane]);
        group.loss += above + f64::from(sums[lane]).ln();
        group.slope +=
            f64::from(problem.scale) * (f64::from(slopes[lane] / sums[lane]) - f64::from(problem.slope[positive]));
        factors[lane] = problem.scale / sums[lane];
    }
    for row in logits.iter_mut() {
        for lane in 0..LANES {
            row[lane] *= factors[lane];
        }
    }
    for (lane, query) in queries.clone().enumerate() {
        logits[problem.positives[query] as usize][lane] -= problem.scale;
        for pair in pairs_of(query) {
            pair_gradients[pair - first_pair] = logits[problem.pairs.columns[pair] as usize][lane];
        }
    }

    add_query_gradients::<FMA, ROWS>(logits, candidates, stride, &mut group.query_gradients);
    for (lane, row) in query_gradients.chunks_exact_mut(stride).enumerate() {
        let mut product = 0.0;
        for (k, gradient) in row.iter_mut().enumerate() {
            let sum = group.query_gradients[k][lane];
            product += f64::from(sum) * f64::from(group.packed[k][lane]);
            *gradient = sum * problem.inverse_temperature;
        }
        group.inverse_temperature += product;
    }
    // The gradient of a logit with respect to its product is 1/τ.
    for row in logits.iter_mut() {
        for lane in 0..LANES {
            row[lane] *= problem.inverse_temperature;
        }
    }
    add_candidate_gradients::<FMA, ROWS>(logits, query_rows, stride, &mut group.candidate_gradients);
}

/// `sums[k][lane] = Σ_j weights[j][lane] · candidates[j][k]`.
#[inline(always)]
fn add_query_gradients<const FMA: bool, const ROWS: usize>(
    weights: &[Lanes],
    candidates: &[f32],
    stride: usize,
    sums: &mut Vec<Lanes>,
) {
    #[inline(always)]
    fn columns<const FMA: bool, const ROWS: usize>(
        weights: &[Lanes],
        candidates: &[f32],
        stride: usize,
        k: usize,
    ) -> [Lanes; ROWS] {
        let mut sums = [[0.0; LANES]; ROWS];
        for (weight, row) in weights.iter().zip(candidates.chunks_exact(stride)) {
            let numbers: &[f32; ROWS] = row[k..k + ROWS].try_into().expect("ROWS numbers");
            for column in 0..ROWS {
                for lane in 0..LANES {
                    sums[column][lane] = multiply_add::<FMA>(numbers[column], weight[lane], sums[column][lane]);
                }
            }
        }
        sums
    }
    sums.resize(stride, [0.0; LANES]);
    let mut k = 0;
    while k + ROWS <= stride {
        sums[k..k + ROWS].copy_from_slice(&columns::<FMA, ROWS>(weights, candidates, stride, k));
        k += ROWS;
    }
    while k + 4 <= stride {
        sums[k..k + 4].copy_from_slice(&columns::<FMA, 4>(weights, candidates, stride, k));
        k += 4;
    }
    while k + 2 <= stride {
        sums[k..k + 2].copy_from_slice(&columns::<FMA, 2>(weights, candidates, stride, k));
        k += 2;
    }
    assert_eq!(k, stride, "whole blocks are even");
}

/// `sums[j][k] += Σ_lane weights[j][lane] · queries[lane][k]`.
#[inline(always)]
fn add_candidate_gradients<const FMA: bool, const ROWS: usize>(
    weights: &[Lanes],
    queries: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    #[inline(always)]
    fn rows<const FMA: bool, const ROWS: usize>(weights: &[Lanes], queries: &[f32], stride: usize, sums: &mut [f32]) {
        let weights: &[Lanes; ROWS] = weights[..ROWS].try_into().expect("ROWS rows");
        for k in (0..stride).step_by(LANES) {
            let mut block = [[0.0; LANES]; ROWS];
            for row in 0..ROWS {
                block[row].copy_from_slice(&sums[row * stride + k..][..LANES]);
            }
            for (lane, query) in queries.chunks_exact(stride).enumerate() {
                let numbers: &Lanes = query[k..k + LANES].try_into().expect("a block");
                for row in 0..ROWS {
                    let weight = weights[row][lane & (LANES - 1)];
                    for number in 0..LANES {
                        block[row][number] = multiply_add::<FMA>(weight, numbers[number], block[row][number]);
                    }
                }
            }
            for row in 0..ROWS {
                sums[row * stride + k..][..LANES].copy_from_slice(&block[row]);
            }
        }
    }
    let mut row = 0;
    while row + ROWS <= weights.len() {
        rows::<FMA, ROWS>(&weights[row..], queries, stride, &mut sums[row * stride..]);
        row += ROWS;
    }
    while row < weights.len() {
        rows::<FMA, 1>(&weights[row..], queries, stride, &mut sums[row * stride..]);
        row += 1;
    }
}
