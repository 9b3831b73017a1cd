//! One tile of queries against all candidates, candidates taken in chunks that fit the first-level cache.
//!
//! The first pass goes once over the candidates. For each chunk it makes the logits, turns them into weights relative to
//! the largest logit so far, and adds the chunk to the query gradients, which are put on a new scale where a chunk brings
//! a larger logit (the streaming normaliser of Milakov & Gimelshein 2018). Only then is the sum of each query's weights
//! known. The second pass puts the weights on one scale and adds them, times the queries divided by those sums, to the
//! candidate gradients.

use super::Problem;
use crate::kernel::aligned::Aligned;
use crate::kernel::dots::{Consumer, for_rows, pack};
use crate::kernel::exp::exp;
use crate::kernel::products::{add_columns, add_rows};
use crate::kernel::rows::{prefetch_second_level, prefetch_to_write};
use crate::kernel::{Kernel, LANES, Lanes, for_each_isa, multiply_add};

/// Blocks of queries in a tile. More of them go over the candidate gradients less often, but hold more weights.
const BLOCKS: usize = 2;
/// Queries in a tile.
pub(super) const TILE: usize = BLOCKS * LANES;
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
    /// Blocks × stride: the queries, a lane each.
    packed: Aligned<Lanes>,
    /// stride/LANES × queries: the queries, each as it is, by slabs of LANES dimensions, and times what their weights and
    /// 1/τ come to.
    slabs: Aligned<Lanes>,
    /// N × BLOCKS: by chunk, in it by block, in that by candidate.
    pub(super) weights: Aligned<Lanes>,
    /// N: sums of the weights of each candidate, by [`super::any`].
    pub(super) columns: Vec<f32>,
    /// Chunks × BLOCKS: what the weights of a chunk are relative to.
    largest: Vec<Lanes>,
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
        self.weights.resize(n_candidates * BLOCKS, [0.0; LANES]);
        self.largest.resize(n_candidates.div_ceil(CHUNK) * BLOCKS, [0.0; LANES]);
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
        run_tile(kernel.isa, problem, queries, self, query_gradients);
    }
}

for_each_isa!(run_tile = tile(
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
));

/// Turns products into logits.
struct TileColumns<'a, const FMA: bool> {
    bias: &'a [f32],
    inverse_temperature: f32,
    logits: &'a mut [Lanes],
}

impl<const FMA: bool> Consumer for TileColumns<'_, FMA> {
    #[inline(always)]
    fn take(&mut self, row: usize, products: &Lanes) {
        let (bias, logits) = (self.bias[row], &mut self.logits[row]);
        for lane in 0..LANES {
            logits[lane] = multiply_add::<FMA>(self.inverse_temperature, products[lane], bias);
        }
    }
}

/// What a tile finds for each of its queries.
struct TileSums {
    largest: [Lanes; BLOCKS],
    sums: [Lanes; BLOCKS],
    slopes: [Lanes; BLOCKS],
    positive_logits: [Lanes; BLOCKS],
}

#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize>(
    problem: &Problem<'_>,
    queries: std::ops::Range<usize>,
    group: &mut Workspace,
    query_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    let n_blocks = queries.len().div_ceil(LANES);
    group.packed.resize(n_blocks * stride, [0.0; LANES]);
    for (block, rows) in query_rows.chunks(LANES * stride).enumerate() {
        pack(rows.chunks_exact(stride), &mut group.packed[block * stride..][..stride]);
    }
    let found = first_pass::<FMA, ROWS>(problem, &queries, n_blocks, group);

    // Loss, and what each query's weights are divided by.
    let mut factors = [[0.0; LANES]; BLOCKS];
    for (place, query) in queries.clone().enumerate() {
        let (block, lane) = (place / LANES, place % LANES);
        let sum = found.sums[block][lane];
        let slope = problem.slope[problem.positives[query] as usize];
        let above = f64::from(found.largest[block][lane]) - f64::from(found.positive_logits[block][lane]);
        group.losses.push(above + f64::from(sum).ln());
        let slope = f64::from(found.slopes[block][lane] / sum) - f64::from(slope);
        group.slopes.push(f64::from(problem.weight(query)) * slope);
        factors[block][lane] = problem.weight(query) / sum;
    }
    finish_queries(problem, &queries, &factors, group, query_gradients);
    second_pass::<FMA, ROWS>(problem, &queries, n_blocks, &found, &factors, group);
}

/// Logits, weights, their sums, and the query gradients without their divisors.
#[inline(always)]
fn first_pass<const FMA: bool, const ROWS: usize>(
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_blocks: usize,
    group: &mut Workspace,
) -> TileSums {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    group.sums.clear();
    group.sums.resize(n_blocks * LANES * stride, 0.0);
    let mut found = TileSums {
        largest: [[f32::NEG_INFINITY; LANES]; BLOCKS],
        sums: [[0.0; LANES]; BLOCKS],
        slopes: [[0.0; LANES]; BLOCKS],
        positive_logits: [[0.0; LANES]; BLOCKS],
    };
    for (chunk, rows) in candidates.chunks(CHUNK * stride).enumerate() {
        let first = chunk * CHUNK;
        let n_rows = rows.len() / stride;
        prefetch_second_level(&candidates[next(candidates.len(), first, stride)]);
        let soon = next(group.weights.len() * LANES, first, TILE);
        prefetch_to_write(&mut group.weights.as_flattened_mut()[soon]);
        let weights = &mut group.weights[first * BLOCKS..][..n_rows * n_blocks];
        for (block, logits) in weights.chunks_exact_mut(n_rows).enumerate() {
            let mut columns = TileColumns::<FMA> {
                bias: &problem.bias[first..first + n_rows],
                inverse_temperature: problem.inverse_temperature,
                logits,
            };
            for_rows::<FMA, ROWS>(&group.packed[block * stride..][..stride], rows, stride, &mut columns);
        }
        group.pairs.of_chunk(chunk, |pair, query| {
            let column = problem.pairs.columns[tile_pair + pair];
            let (block, lane) = (query / LANES, query % LANES);
            let logit = &mut weights[block * n_rows + column as usize - first][lane];
            *logit += problem.pairs.terms[tile_pair + pair];
            if column == problem.positives[queries.start + query] {
                found.positive_logits[block][lane] = *logit;
            }
        });
        for (block, weights) in weights.chunks_exact_mut(n_rows).enumerate() {
            let sums = &mut group.sums[block * LANES * stride..][..LANES * stride];
            let mut largest = found.largest[block];
            for logits in weights.iter() {
                for lane in 0..LANES {
                    largest[lane] = if logits[lane] > largest[lane] { logits[lane] } else { largest[lane] };
                }
            }
            if largest != found.largest[block] {
                // Where everything so far is masked there is nothing to put on a new scale.
                let mut change = [f32::NEG_INFINITY; LANES];
                for lane in 0..LANES {
                    if found.largest[block][lane] > f32::NEG_INFINITY {
                        change[lane] = found.largest[block][lane] - largest[lane];
                    }
                }
                let factor = exp::<FMA>(change);
                for lane in 0..LANES {
                    found.sums[block][lane] *= factor[lane];
                    found.slopes[block][lane] *= factor[lane];
                    sums[lane * stride..][..stride].iter_mut().for_each(|number| *number *= factor[lane]);
                }
                found.largest[block] = largest;
            }
            group.largest[chunk * BLOCKS + block] = largest;
            let mut shift = largest;
            for lane in 0..LANES {
                shift[lane] = if shift[lane] > f32::NEG_INFINITY { shift[lane] } else { 0.0 };
            }
            let (mut total, mut slopes) = (found.sums[block], found.slopes[block]);
            let slope = &problem.slope[first..][..weights.len()];
            for row in 0..weights.len() {
                let weight = &mut weights[row];
                let mut shifted = [0.0; LANES];
                for lane in 0..LANES {
                    shifted[lane] = weight[lane] - shift[lane];
                }
                *weight = exp::<FMA>(shifted);
                for lane in 0..LANES {
                    total[lane] += weight[lane];
                    slopes[lane] = multiply_add::<FMA>(weight[lane], slope[row], slopes[lane]);
                }
            }
            (found.sums[block], found.slopes[block]) = (total, slopes);
            add_columns::<FMA, ROWS>(weights, rows, stride, sums);
        }
    }
    found
}

/// Where the rows of the chunk after the one that begins with row `first` lie, among `length` numbers. They are asked for
/// while this chunk is worked on, so that they come from afar together.
#[inline(always)]
fn next(length: usize, first: usize, stride: usize) -> std::ops::Range<usize> {
    let begin = ((first + CHUNK) * stride).min(length);
    begin..(begin + CHUNK * stride).min(length)
}

/// Divides the query gradients, takes the positive's share off, and brings them back to the queries' own vectors.
#[inline(always)]
fn finish_queries(
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    factors: &[Lanes; BLOCKS],
    group: &mut Workspace,
    query_gradients: &mut [f32],
) {
    let stride = problem.queries.ncols();
    let candidates = problem.candidates.as_slice().expect("standard layout");
    for (place, gradient) in query_gradients.chunks_exact_mut(stride).enumerate() {
        let (block, lane) = (place / LANES, place % LANES);
        let positive = &candidates[problem.positives[queries.start + place] as usize * stride..][..stride];
        let sums = &group.sums[place * stride..][..stride];
        let (factor, weight) = (factors[block][lane], problem.weight(queries.start + place));
        for k in 0..stride {
            gradient[k] = sums[k] * factor - weight * positive[k];
        }
        group.inverse_temperatures.push(problem.back_to_vector(queries.start + place, gradient));
    }
}

/// Puts the weights on one scale, reads off the gradients of pairs, and adds to the candidate gradients. What the weights
/// have to be multiplied by is in the queries that they are multiplied with.
#[inline(always)]
fn second_pass<const FMA: bool, const ROWS: usize>(
    problem: &Problem<'_>,
    queries: &std::ops::Range<usize>,
    n_blocks: usize,
    found: &TileSums,
    factors: &[Lanes; BLOCKS],
    group: &mut Workspace,
) {
    let stride = problem.queries.ncols();
    let query_rows =
        &problem.queries.as_slice().expect("standard layout")[queries.start * stride..queries.end * stride];
    let n_queries = n_blocks * LANES;
    group.slabs.clear();
    group.slabs.resize(stride / LANES * n_queries, [0.0; LANES]);
    for (query, row) in query_rows.chunks_exact(stride).enumerate() {
        let factor = factors[query / LANES][query % LANES] * problem.inverse_temperature;
        for (slab, numbers) in row.as_chunks::<LANES>().0.iter().enumerate() {
            let scaled = &mut group.slabs[slab * n_queries + query];
            for lane in 0..LANES {
                scaled[lane] = numbers[lane] * factor;
            }
        }
    }
    let tile_pair = problem.pairs.starts[queries.start] as usize;
    let own_pair = tile_pair - group.first_pair;
    let n_candidates = problem.bias.len();
    for chunk in 0..n_candidates.div_ceil(CHUNK) {
        let first = chunk * CHUNK;
        let n_rows = CHUNK.min(n_candidates - first);
        let soon = next(group.candidate_gradients.len(), first, stride);
        prefetch_to_write(&mut group.candidate_gradients[soon]);
        prefetch_second_level(&group.weights.as_flattened()[next(group.weights.len() * LANES, first, TILE)]);
        let weights = &mut group.weights[first * BLOCKS..][..n_rows * n_blocks];
        for (block, weights) in weights.chunks_exact_mut(n_rows).enumerate() {
            let relative = &group.largest[chunk * BLOCKS + block];
            if *relative == found.largest[block] {
                continue;
            }
            let mut change = [f32::NEG_INFINITY; LANES];
            for lane in 0..LANES {
                if relative[lane] > f32::NEG_INFINITY {
                    change[lane] = relative[lane] - found.largest[block][lane];
                }
            }
            let scale = exp::<FMA>(change);
            for weight in weights {
                for lane in 0..LANES {
                    weight[lane] *= scale[lane];
                }
            }
        }
        group.pairs.of_chunk(chunk, |pair, query| {
            let column = problem.pairs.columns[tile_pair + pair];
            let (block, lane) = (query / LANES, query % LANES);
            let weight = &mut weights[block * n_rows + column as usize - first][lane];
            if column == problem.positives[queries.start + query] {
                // `scale`, before it is multiplied by the factor.
                *weight -= found.sums[block][lane];
            }
            group.pair_gradients[own_pair + pair] = *weight * factors[block][lane];
        });
        let gradients = &mut group.candidate_gradients[first * stride..][..n_rows * stride];
        add_rows::<FMA, ROWS>(weights, &group.slabs, gradients, stride, group.stale);
    }
}
