//! One tile of queries against all candidates, candidates taken in chunks that fit the first-level cache.
//!
//! The first pass goes once over the candidates. For each chunk it makes the logits, turns them into weights relative to
//! the largest logit so far, and adds the chunk to the query gradients, which are put on a new scale where a chunk brings
//! a larger logit (the streaming normaliser of Milakov & Gimelshein 2018). Only then is the sum of each query's weights
//! known. The second pass puts the weights on one scale and adds them, times the queries divided by those sums, to the
//! candidate gradients.

use super::Problem;
use crate::kernel::aligned::Aligned;
use crate::kernel::simd::products::{
    Normaliser, PerQuery, ToLogits, add_to_candidates, add_to_queries, logits, rescale, weigh,
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

    /// Takes one tile: `queries` against all candidates; their gradients go to `query_gradients`.
    pub(super) fn run(
        &mut self,
        kernel: Kernel,
        problem: &Problem<'_>,
        queries: std::ops::Range<usize>,
        query_gradients: &mut [f32],
    ) {
        self.pairs.gather(problem, queries.clone(), problem.bias.len().div_ceil(CHUNK));
        run_tile(kernel.isa, kernel.isa, problem, queries, self, query_gradients);
    }
}

for_each_isa!(run_tile = tile(
    isa: Isa,
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
));

#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize>(
    isa: Isa,
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    let n_blocks = queries.len().div_ceil(LANES);
    group.packed.resize(stride, [0.0; TILE]);
    group.packed.fill([0.0; TILE]);
    for (lane, row) in query_rows.chunks_exact(stride).enumerate() {
        for k in 0..stride {
            group.packed[k][lane] = row[k];
        }
    }
    let (found, positive_logits) = first_pass(isa, problem, &queries, n_blocks, group);

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
    second_pass(isa, problem, &queries, n_blocks, &found, &factors, group);
}

/// Logits, weights, their sums, and the query gradients without their divisors.
#[inline(always)]
fn first_pass(
    isa: Isa,
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_blocks: usize,
    group: &mut Workspace,
) -> (Normaliser, PerQuery) {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    group.sums.resize(n_blocks * LANES * stride, 0.0);
    group.sums.fill(0.0);
    let (mut found, mut positive_logits) = (Normaliser::default(), [0.0; TILE]);
    for (chunk, rows) in candidates.chunks(CHUNK * stride).enumerate() {
        let first = chunk * CHUNK;
        let n_rows = rows.len() / stride;
        let weights = &mut group.weights[first..][..n_rows];
        let to_logits =
            ToLogits { inverse_temperature: problem.inverse_temperature, bias: &problem.bias[first..][..n_rows] };
        logits(isa, &group.packed, n_blocks * LANES, rows, to_logits, weights);
        group.pairs.of_chunk(chunk, |pair, query| {
            let column = problem.pairs.columns[tile_pair + pair];
            let logit = &mut weights[column as usize - first][query];
            *logit += problem.pairs.terms[tile_pair + pair];
            if column == problem.positives[queries.start + query] {
                positive_logits[query] = *logit;
            }
        });
        weigh(isa, weights, n_blocks * LANES, &problem.slope[first..][..n_rows], &mut found);
        if let Some(change) = &found.change {
            for (place, sums) in group.sums.chunks_exact_mut(stride).enumerate() {
                let factor = change[place];
                for k in 0..stride {
                    sums[k] *= factor;
                }
            }
        }
        group.largest[chunk] = found.largest;
        add_to_queries(isa, weights, rows, stride, &mut group.sums);
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
    isa: Isa,
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_blocks: usize,
    found: &Normaliser,
    factors: &PerQuery,
    group: &mut Workspace,
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    group.scaled.resize(n_blocks * LANES * stride, 0.0);
    group.scaled.fill(0.0);
    for (query, row) in query_rows.chunks_exact(stride).enumerate() {
        let factor = factors[query] * problem.inverse_temperature;
        let scaled = &mut group.scaled[query * stride..][..stride];
        for k in 0..stride {
            scaled[k] = row[k] * factor;
        }
    }
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    let own_pair = tile_pair - group.first_pair;
    let n_candidates = problem.bias.len();
    for chunk in 0..n_candidates.div_ceil(CHUNK) {
        let first = chunk * CHUNK;
        let n_rows = CHUNK.min(n_candidates - first);
        let weights = &mut group.weights[first..][..n_rows];
        rescale(isa, weights, n_blocks * LANES, &group.largest[chunk], &found.largest);
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
        add_to_candidates(isa, weights, &group.scaled, stride, gradients, group.stale);
    }
}
