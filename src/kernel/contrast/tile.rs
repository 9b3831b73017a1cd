//! One tile of queries against all candidates, candidates taken in chunks that fit the first-level cache.
//!
//! The first pass goes once over the candidates. For each chunk it makes the logits, turns them into weights relative to
//! the largest logit so far, and adds the chunk to the query gradients, which are put on a new scale where a chunk brings
//! a larger logit (the streaming normaliser of Milakov & Gimelshein 2018). Only then is the sum of each query's weights
//! known. The second pass puts the weights on one scale and adds them, times the queries divided by those sums, to the
//! candidate gradients.

use rayon::prelude::*;

use super::Problem;
use crate::kernel::aligned::Aligned;
use crate::kernel::simd::products::{
    AddedTo, Normaliser, PerQuery, ToLogits, add_pairs_to_candidates, add_pairs_to_queries, add_to_candidates,
    add_to_queries, logits, logits_of_pairs, pair, pair_candidates, pair_queries, rescale, weigh,
};
use crate::kernel::{Isa, Kernel, LANES, for_each_isa};

/// Blocks of queries in a tile. More of them go over the candidate gradients less often, but hold more weights.
const BLOCKS: usize = 4;
/// Queries in a tile.
pub(crate) const TILE: usize = BLOCKS * LANES;
/// Candidates in a chunk: whole runs of the rows that any instruction set works on at once. With 64 dimensions they
/// fill 12 KiB, which leaves room for the queries and the weights.
const CHUNK: usize = 48;
/// No pair.
const NONE: u32 = u32::MAX;

/// Candidates in bfloat16, as pairs.
#[derive(Debug, Default)]
pub(super) struct CandidatePairs {
    /// N × stride/2: number k of each with number stride/2 + k.
    dimensions: Aligned<f32>,
    /// N/2 × stride: each candidate with the next one.
    neighbours: Aligned<f32>,
}

impl CandidatePairs {
    /// Pairs the candidates of `problem`.
    pub(super) fn gather(&mut self, kernel: Kernel, problem: &Problem<'_>) {
        let (n_candidates, stride) = problem.candidates.dim();
        let candidates = problem.candidates.as_slice().expect("standard layout");
        let Self { dimensions, neighbours } = self;
        dimensions.resize(n_candidates * stride / 2, 0.0);
        neighbours.resize(n_candidates.div_ceil(2) * stride, 0.0);
        let dimensions = dimensions.par_chunks_mut(CHUNK * stride / 2);
        let chunks = dimensions.zip(neighbours.par_chunks_mut(CHUNK / 2 * stride));
        chunks.zip(candidates.par_chunks(CHUNK * stride)).for_each(|((dimensions, neighbours), rows)| {
            for (row, pairs) in rows.chunks_exact(stride).zip(dimensions.chunks_exact_mut(stride / 2)) {
                let (low, high) = row.split_at(stride / 2);
                pair(kernel.isa, low, high, pairs);
            }
            pair_neighbours(kernel.isa, rows, stride, neighbours);
        });
    }
}

/// Each row with the next one; with zeros, if there is none.
fn pair_neighbours(isa: Isa, rows: &[f32], stride: usize, neighbours: &mut [f32]) {
    for (rows, pairs) in rows.chunks(2 * stride).zip(neighbours.chunks_exact_mut(stride)) {
        match rows.split_at_checked(stride) {
            Some((low, high)) if !high.is_empty() => pair(isa, low, high, pairs),
            _ => {
                pairs.fill(0.0);
                // With itself, and the upper half taken away.
                pair(isa, rows, rows, pairs);
                pairs.iter_mut().for_each(|number| *number = f32::from_bits(number.to_bits() & 0xffff));
            }
        }
    }
}

/// Scratch and sums of one group of tiles.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// N × stride: the group's part of the candidate gradients.
    pub(super) candidate_gradients: Aligned<f32>,
    /// One for each pair of the group's queries.
    pub(super) pair_gradients: Vec<f32>,
    /// One for each query.
    pub(super) losses: Vec<f64>,
    /// One for each query.
    pub(super) slopes: Vec<f64>,
    /// One for each query.
    pub(super) inverse_temperatures: Vec<f64>,
    pub(super) first_pair: usize,
    /// Whether `candidate_gradients` still holds those of the batch before.
    pub(super) stale: bool,
    /// Stride: the queries, a lane each.
    packed: Aligned<PerQuery>,
    /// Queries (whole blocks) × stride: the queries, each times what its weights and 1/τ come to.
    scaled: Aligned<f32>,
    /// In bfloat16: `packed`, number k with number stride/2 + k; `scaled`, each query with the one [`LANES`] further; and the
    /// weights of a chunk.
    packed_pairs: Aligned<PerQuery>,
    scaled_pairs: Aligned<f32>,
    weight_pairs: Aligned<PerQuery>,
    /// N: the weights of each candidate.
    pub(super) weights: Aligned<PerQuery>,
    /// N: sums of the weights of each candidate, by [`super::any`].
    pub(super) columns: Vec<f32>,
    /// Chunks: what the weights of a chunk are relative to.
    largest: Vec<PerQuery>,
    /// Queries (whole blocks) × stride: their gradients, before they are divided by the sums.
    sums: Aligned<f32>,
    pairs: PairsByChunk,
}

/// The pairs of a tile, to be found by the chunk that their column is in.
#[derive(Debug, Default)]
struct PairsByChunk {
    /// By chunk: one of its pairs.
    heads: Vec<u32>,
    /// By pair of the tile: another one of the same chunk, and the query within the tile.
    links: Vec<(u32, u32)>,
}

impl PairsByChunk {
    fn gather(&mut self, problem: &Problem<'_>, queries: std::ops::Range<usize>, n_chunks: usize) {
        self.heads.clear();
        self.heads.resize(n_chunks, NONE);
        self.links.clear();
        for (place, query) in queries.enumerate() {
            let columns = &problem.pairs.columns[problem.pairs_of(query)];
            assert!(columns.contains(&problem.positives[query]), "every query has its positive among its pairs");
            for pair in problem.pairs_of(query) {
                let head = &mut self.heads[problem.pairs.columns[pair] as usize / CHUNK];
                let link = self.links.len() as u32;
                self.links.push((*head, place as u32));
                *head = link;
            }
        }
    }

    /// Calls `visit` with (pair within the tile, query within the tile) for each pair of `chunk`.
    #[inline(always)]
    fn of_chunk(&self, chunk: usize, mut visit: impl FnMut(usize, usize)) {
        let mut link = self.heads[chunk];
        while link != NONE {
            let (next, query) = self.links[link as usize];
            visit(link as usize, query as usize);
            link = next;
        }
    }
}

impl Workspace {
    /// Makes ready for the tiles of `queries`.
    pub(super) fn begin(&mut self, problem: &Problem<'_>, queries: std::ops::Range<usize>) {
        let (n_candidates, stride) = problem.candidates.dim();
        self.candidate_gradients.resize(n_candidates * stride, 0.0);
        self.stale = true;
        self.first_pair = problem.pairs.starts[queries.start] as usize;
        let n_pairs = problem.pairs.starts[queries.end] as usize - self.first_pair;
        self.pair_gradients.resize(n_pairs, 0.0);
        self.weights.resize(n_candidates, [0.0; TILE]);
        self.largest.resize(n_candidates.div_ceil(CHUNK), [0.0; TILE]);
        self.losses.clear();
        self.inverse_temperatures.clear();
        self.slopes.clear();
    }

    /// Takes one tile: `queries` against all candidates; their gradients go to `query_gradients`. The products are of `pairs`,
    /// where there are any.
    pub(super) fn run(
        &mut self,
        kernel: Kernel,
        problem: &Problem<'_>,
        pairs: Option<&CandidatePairs>,
        queries: std::ops::Range<usize>,
        query_gradients: &mut [f32],
    ) {
        self.pairs.gather(problem, queries.clone(), problem.bias.len().div_ceil(CHUNK));
        run_tile(kernel.isa, kernel.isa, problem, pairs, queries, self, query_gradients);
    }
}

for_each_isa!(run_tile = tile(
    isa: Isa,
    problem: &Problem<'_>,
    candidate_pairs: Option<&CandidatePairs>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
));

#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize>(
    isa: Isa,
    problem: &Problem<'_>,
    candidate_pairs: Option<&CandidatePairs>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    // Pairs are of two blocks.
    let n_blocks = match candidate_pairs {
        None => queries.len().div_ceil(LANES),
        Some(_) => queries.len().div_ceil(2 * LANES) * 2,
    };
    group.packed.resize(stride, [0.0; TILE]);
    group.packed.fill([0.0; TILE]);
    for (lane, row) in query_rows.chunks_exact(stride).enumerate() {
        for k in 0..stride {
            group.packed[k][lane] = row[k];
        }
    }
    let (found, positive_logits) = first_pass((isa, candidate_pairs), problem, &queries, n_blocks * LANES, group);

    // Loss, and what each query's weights are divided by.
    let mut factors = [0.0; TILE];
    for (place, query) in queries.clone().enumerate() {
        let sum = found.sums[place];
        let slope = problem.slope[problem.positives[query] as usize];
        let above = f64::from(found.largest[place]) - f64::from(positive_logits[place]);
        group.losses.push(above + f64::from(sum).ln());
        let slope = f64::from(found.slopes[place] / sum) - f64::from(slope);
        group.slopes.push(f64::from(problem.weight(query)) * slope);
        factors[place] = problem.weight(query) / sum;
    }
    finish_queries(problem, &queries, &factors, group, query_gradients);
    second_pass((isa, candidate_pairs), problem, &queries, n_blocks * LANES, &found, &factors, group);
}

/// Logits, weights, their sums, and the query gradients without their divisors.
#[inline(always)]
fn first_pass(
    (isa, candidate_pairs): (Isa, Option<&CandidatePairs>),
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_lanes: usize,
    group: &mut Workspace,
) -> (Normaliser, PerQuery) {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    group.sums.resize(n_lanes * stride, 0.0);
    group.sums.fill(0.0);
    if candidate_pairs.is_some() {
        let half = stride / 2;
        group.packed_pairs.resize(half, [0.0; TILE]);
        let (low, high) = group.packed.as_flattened().split_at(half * TILE);
        pair(isa, low, high, group.packed_pairs.as_flattened_mut());
        group.weight_pairs.resize(CHUNK, [0.0; TILE]);
    }
    let (mut found, mut positive_logits) = (Normaliser::default(), [0.0; TILE]);
    for (chunk, rows) in candidates.chunks(CHUNK * stride).enumerate() {
        let first = chunk * CHUNK;
        let n_rows = rows.len() / stride;
        let weights = &mut group.weights[first..][..n_rows];
        let to_logits =
            ToLogits { inverse_temperature: problem.inverse_temperature, bias: &problem.bias[first..][..n_rows] };
        match candidate_pairs {
            None => logits(isa, &group.packed, n_lanes, rows, to_logits, weights),
            Some(pairs) => {
                let rows = &pairs.dimensions[first * stride / 2..][..n_rows * stride / 2];
                logits_of_pairs(isa, &group.packed_pairs, n_lanes, rows, to_logits, weights);
            }
        }
        group.pairs.of_chunk(chunk, |pair, query| {
            let column = problem.pairs.columns[tile_pair + pair];
            let logit = &mut weights[column as usize - first][query];
            *logit += problem.pairs.terms[tile_pair + pair];
            if column == problem.positives[queries.start + query] {
                positive_logits[query] = *logit;
            }
        });
        weigh(isa, weights, n_lanes, &problem.slope[first..][..n_rows], &mut found);
        if let Some(change) = &found.change {
            for (place, sums) in group.sums.chunks_exact_mut(stride).enumerate() {
                let factor = change[place];
                for k in 0..stride {
                    sums[k] *= factor;
                }
            }
        }
        group.largest[chunk] = found.largest;
        match candidate_pairs {
            None => add_to_queries(isa, weights, rows, stride, &mut group.sums),
            Some(pairs) => {
                let n_pairs = n_rows.div_ceil(2);
                let rows = &pairs.neighbours[first / 2 * stride..][..n_pairs * stride];
                pair_candidates(isa, weights, n_lanes, &mut group.weight_pairs);
                add_pairs_to_queries(isa, &group.weight_pairs[..n_pairs], rows, stride, &mut group.sums);
            }
        }
    }
    (found, positive_logits)
}

/// Divides the query gradients, takes the positive's share off, and brings them back to the queries' own vectors.
#[inline(always)]
fn finish_queries(
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    factors: &PerQuery,
    group: &mut Workspace,
    query_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    for (place, gradient) in query_gradients.chunks_exact_mut(stride).enumerate() {
        let positive = &candidates[problem.positives[queries.start + place] as usize * stride..][..stride];
        let sums = &group.sums[place * stride..][..stride];
        let (factor, weight) = (factors[place], problem.weight(queries.start + place));
        for k in 0..stride {
            gradient[k] = sums[k] * factor - weight * positive[k];
        }
        group.inverse_temperatures.push(problem.back_to_vector(queries.start + place, gradient));
    }
}

/// Puts the weights on one scale, reads off the gradients of pairs, and adds to the candidate gradients. What the weights
/// have to be multiplied by is in the queries that they are multiplied with.
#[inline(always)]
fn second_pass(
    (isa, candidate_pairs): (Isa, Option<&CandidatePairs>),
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_lanes: usize,
    found: &Normaliser,
    factors: &PerQuery,
    group: &mut Workspace,
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    group.scaled.resize(n_lanes * stride, 0.0);
    group.scaled.fill(0.0);
    // In bfloat16 they must not be too small: times a power of two they are not, which is taken back at the end.
    let unit = match candidate_pairs {
        None => 1.0,
        Some(_) => power_of_two_below(factors[..query_rows.len() / stride].iter().fold(0.0, |a, b| b.max(a))),
    };
    for (query, row) in query_rows.chunks_exact(stride).enumerate() {
        let factor = factors[query] / unit * problem.inverse_temperature;
        let scaled = &mut group.scaled[query * stride..][..stride];
        for k in 0..stride {
            scaled[k] = row[k] * factor;
        }
    }
    if candidate_pairs.is_some() {
        group.scaled_pairs.resize(n_lanes / 2 * stride, 0.0);
        let blocks = group.scaled.chunks_exact(2 * LANES * stride);
        for (queries, pairs) in blocks.zip(group.scaled_pairs.chunks_exact_mut(LANES * stride)) {
            let (low, high) = queries.split_at(LANES * stride);
            pair(isa, low, high, pairs);
        }
    }
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    let own_pair = tile_pair - group.first_pair;
    let n_candidates = problem.bias.len();
    for chunk in 0..n_candidates.div_ceil(CHUNK) {
        let first = chunk * CHUNK;
        let n_rows = CHUNK.min(n_candidates - first);
        let weights = &mut group.weights[first..][..n_rows];
        rescale(isa, weights, n_lanes, &group.largest[chunk], &found.largest);
        group.pairs.of_chunk(chunk, |pair, query| {
            let column = problem.pairs.columns[tile_pair + pair];
            let weight = &mut weights[column as usize - first][query];
            if column == problem.positives[queries.start + query] {
                // `scale`, before it is multiplied by the factor.
                *weight -= found.sums[query];
            }
            group.pair_gradients[own_pair + pair] = *weight * factors[query];
        });
        let gradients = &mut group.candidate_gradients[first * stride..][..n_rows * stride];
        let into = AddedTo { factor: unit, fresh: group.stale };
        match candidate_pairs {
            None => add_to_candidates(isa, weights, &group.scaled, stride, gradients, into),
            Some(_) => {
                pair_queries(isa, weights, n_lanes, &mut group.weight_pairs);
                let pairs = &group.weight_pairs[..n_rows];
                add_pairs_to_candidates(isa, pairs, &group.scaled_pairs, stride, gradients, into);
            }
        }
    }
}

/// The largest power of two that is not above `number`; 1 where there is none.
fn power_of_two_below(number: f32) -> f32 {
    let power = f32::from_bits(number.to_bits() & 0x7f80_0000);
    if power.is_normal() && power > 0.0 { power } else { 1.0 }
}
