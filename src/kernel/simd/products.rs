//! The three products of a tile of queries with a chunk of candidates.
//!
//! Each number is a sum in one order, whatever the instruction set and wherever the number stands in its block: the logits
//! over the dimensions, the query gradients over the candidates of the chunk, the candidate gradients over the queries of
//! the tile. A block of sums begins at zero and is added to what was there at the end.

use super::{SimdVector, for_each_vector};
use crate::kernel::LANES;
use crate::kernel::contrast::TILE;

/// Numbers of a tile, one for each query.
pub(in crate::kernel) type PerQuery = [f32; TILE];

/// What is made of the products of a query with a candidate: `inverse_temperature · product + bias`.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct ToLogits<'a> {
    /// 1/τ.
    pub(in crate::kernel) inverse_temperature: f32,
    /// One for each candidate.
    pub(in crate::kernel) bias: &'a [f32],
}

/// How sums of products are added to what is there.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct AddedTo {
    /// What they are multiplied by.
    pub(in crate::kernel) factor: f32,
    /// Whether instead of adding, they begin with zero.
    pub(in crate::kernel) fresh: bool,
}

/// What is known of each query of a tile, as far as its candidates were looked at.
#[derive(Debug, Clone)]
pub(in crate::kernel) struct Normaliser {
    /// The largest logit.
    pub(in crate::kernel) largest: PerQuery,
    /// Sum of the weights, which are relative to it.
    pub(in crate::kernel) sums: PerQuery,
    /// Sum of the weights, each times the candidate's slope.
    pub(in crate::kernel) slopes: PerQuery,
    /// What the last chunk changed the scale of the weights by, where it did.
    pub(in crate::kernel) change: Option<PerQuery>,
}

impl Default for Normaliser {
    fn default() -> Self {
        Self { largest: [f32::NEG_INFINITY; TILE], sums: [0.0; TILE], slopes: [0.0; TILE], change: None }
    }
}

for_each_vector!(
    /// The logits of `rows` (candidates × `stride`) for the queries that are packed in the lanes of `packed` (`stride` of
    /// them), the first `n_lanes` of which are in use: `out[candidate][query]`.
    logits = logits_body(
        packed: &[PerQuery],
        n_lanes: usize,
        rows: &[f32],
        to_logits: ToLogits<'_>,
        out: &mut [PerQuery],
    )
);
for_each_vector!(
    /// Turns the logits of a chunk into weights: e^(logit − largest so far). The first `n_lanes` of each are in use.
    weigh = weigh_body(weights: &mut [PerQuery], n_lanes: usize, slope: &[f32], normaliser: &mut Normaliser)
);
for_each_vector!(
    /// Puts weights that are relative to `before` on the scale of those that are relative to `largest`.
    rescale = rescale_body(weights: &mut [PerQuery], n_lanes: usize, before: &PerQuery, largest: &PerQuery)
);
for_each_vector!(
    /// `sums[query] += Σ_j weights[j][query] · rows[j]`; `sums` is queries × `stride`, whole blocks of queries.
    add_to_queries = add_to_queries_body(weights: &[PerQuery], rows: &[f32], stride: usize, sums: &mut [f32])
);
for_each_vector!(
    /// `sums[j] += factor · Σ_i weights[j][i] · queries[i]`, both × `stride`, for whole blocks of queries.
    add_to_candidates =
        add_to_candidates_body(weights: &[PerQuery], queries: &[f32], stride: usize, sums: &mut [f32], into: AddedTo)
);

for_each_vector!(
    /// [`logits`], of pairs: those of `packed` and of the rows are pairs of numbers in bfloat16.
    logits_of_pairs = logits_of_pairs_body(
        packed: &[PerQuery],
        n_lanes: usize,
        rows: &[f32],
        to_logits: ToLogits<'_>,
        out: &mut [PerQuery],
    )
);
for_each_vector!(
    /// [`add_to_queries`], of pairs of neighbouring candidates in bfloat16.
    add_pairs_to_queries =
        add_pairs_to_queries_body(weights: &[PerQuery], rows: &[f32], stride: usize, sums: &mut [f32])
);
for_each_vector!(
    /// [`add_to_candidates`], of pairs of queries in bfloat16.
    add_pairs_to_candidates = add_pairs_to_candidates_body(
        weights: &[PerQuery],
        queries: &[f32],
        stride: usize,
        sums: &mut [f32],
        into: AddedTo,
    )
);
for_each_vector!(
    /// Pairs the numbers of `low` with those of `high`, in bfloat16.
    pair = pair_body(low: &[f32], high: &[f32], out: &mut [f32])
);
for_each_vector!(
    /// Pairs the weights of each candidate with those of the next one: `out[j]` of the candidates 2j and 2j + 1. The last one's
    /// neighbour, if it has none, weighs nothing.
    pair_candidates = pair_candidates_body(weights: &[PerQuery], n_lanes: usize, out: &mut [PerQuery])
);
for_each_vector!(
    /// Pairs the weights of queries that are [`LANES`] apart: of every two blocks of each candidate one of pairs.
    pair_queries = pair_queries_body(weights: &[PerQuery], n_lanes: usize, out: &mut [PerQuery])
);

/// `sum + a·b`, or that of pairs.
#[inline(always)]
pub(super) fn add<V: SimdVector, const PAIRS: bool>(sum: V, a: V, b: V) -> V {
    if PAIRS { sum.add_pairs(a, b) } else { sum.add_product(a, b) }
}

#[inline(always)]
fn logits_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    logits_of::<V, false, R, V1>(packed, n_lanes, rows, to_logits, out);
}

#[inline(always)]
fn logits_of_pairs_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    logits_of::<V, true, R, V1>(packed, n_lanes, rows, to_logits, out);
}

#[inline(always)]
fn add_to_queries_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    add_to_queries_of::<V, false, G, V2>(weights, rows, stride, sums);
}

#[inline(always)]
fn add_pairs_to_queries_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    add_to_queries_of::<V, true, G, V2>(weights, rows, stride, sums);
}

#[inline(always)]
fn add_to_candidates_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    sums: &mut [f32],
    into: AddedTo,
) {
    add_to_candidates_of::<V, false, G, V2>(weights, queries, stride, sums, into);
}

#[inline(always)]
fn add_pairs_to_candidates_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    sums: &mut [f32],
    into: AddedTo,
) {
    add_to_candidates_of::<V, true, G, V2>(weights, queries, stride, sums, into);
}

#[inline(always)]
pub(super) fn pair_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    low: &[f32],
    high: &[f32],
    out: &mut [f32],
) {
    let (low, high) = (&low[..out.len()], &high[..out.len()]);
    let mut k = 0;
    while k + V::WIDTH <= out.len() {
        V::pairs(V::load(&low[k..]), V::load(&high[k..])).store(&mut out[k..]);
        k += V::WIDTH;
    }
    let rest = out.len() - k;
    if rest > 0 {
        let mut buffers = [[0.0; LANES]; 3];
        buffers[0][..rest].copy_from_slice(&low[k..]);
        buffers[1][..rest].copy_from_slice(&high[k..]);
        V::pairs(V::load(&buffers[0]), V::load(&buffers[1])).store(&mut buffers[2]);
        out[k..].copy_from_slice(&buffers[2][..rest]);
    }
}

#[inline(always)]
fn pair_candidates_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    n_lanes: usize,
    out: &mut [PerQuery],
) {
    for row in 0..weights.len().div_ceil(2) {
        for lane in (0..n_lanes).step_by(V::WIDTH) {
            let low = V::load(&weights[2 * row][lane..]);
            let high = match 2 * row + 1 < weights.len() {
                true => V::load(&weights[2 * row + 1][lane..]),
                false => V::splat(0.0),
            };
            V::pairs(low, high).store(&mut out[row][lane..]);
        }
    }
}

#[inline(always)]
fn pair_queries_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    n_lanes: usize,
    out: &mut [PerQuery],
) {
    let out = &mut out[..weights.len()];
    for row in 0..weights.len() {
        for block in (0..n_lanes).step_by(2 * LANES) {
            for lane in (0..LANES).step_by(V::WIDTH) {
                let low = V::load(&weights[row][block + lane..]);
                let high = V::load(&weights[row][block + LANES + lane..]);
                V::pairs(low, high).store(&mut out[row][block / 2 + lane..]);
            }
        }
    }
}

#[inline(always)]
fn logits_of<V: SimdVector, const PAIRS: bool, const R: usize, const V1: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    let mut row = 0;
    while row + R <= out.len() {
        logits_rows::<V, PAIRS, R, V1>(packed, n_lanes, rows, row, to_logits, out);
        row += R;
    }
    while row + 2 <= out.len() {
        logits_rows::<V, PAIRS, 2, V1>(packed, n_lanes, rows, row, to_logits, out);
        row += 2;
    }
    if row < out.len() {
        logits_rows::<V, PAIRS, 1, V1>(packed, n_lanes, rows, row, to_logits, out);
    }
}

#[inline(always)]
fn logits_rows<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    row: usize,
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    let mut lane = 0;
    while lane + VECTORS * V::WIDTH <= n_lanes {
        logits_block::<V, PAIRS, ROWS, VECTORS>(packed, lane, rows, row, to_logits, out);
        lane += VECTORS * V::WIDTH;
    }
    while lane < n_lanes {
        logits_block::<V, PAIRS, ROWS, 1>(packed, lane, rows, row, to_logits, out);
        lane += V::WIDTH;
    }
}

#[inline(always)]
fn logits_block<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    packed: &[PerQuery],
    lane: usize,
    rows: &[f32],
    row: usize,
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    let dim = packed.len();
    let mut each: [&[f32]; ROWS] = [&[]; ROWS];
    for r in 0..ROWS {
        each[r] = &rows[(row + r) * dim..][..dim];
    }
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    for k in 0..dim {
        let mut queries = [V::splat(0.0); VECTORS];
        for v in 0..VECTORS {
            queries[v] = V::load(&packed[k][lane + v * V::WIDTH..]);
        }
        for r in 0..ROWS {
            let number = V::splat(each[r][k]);
            for v in 0..VECTORS {
                sums[r][v] = add::<V, PAIRS>(sums[r][v], number, queries[v]);
            }
        }
    }
    let factor = V::splat(to_logits.inverse_temperature);
    for r in 0..ROWS {
        let bias = V::splat(to_logits.bias[row + r]);
        for v in 0..VECTORS {
            bias.add_product(factor, sums[r][v]).store(&mut out[row + r][lane + v * V::WIDTH..]);
        }
    }
}

/// What weights that are relative to `before` are multiplied by to be relative to `after`, which is no smaller: 0 where
/// everything so far is masked, as there is nothing to put on a new scale.
#[inline(always)]
fn change_of_scale<V: SimdVector>(before: V, after: V) -> V {
    let lowest = V::splat(f32::MIN);
    // −∞ − (−∞) is no number; −∞ less anything else is −∞, whose exponential is 0.
    before.minus(lowest.or_larger(after)).exp()
}

#[inline(always)]
fn weigh_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &mut [PerQuery],
    n_lanes: usize,
    slope: &[f32],
    normaliser: &mut Normaliser,
) {
    let slope = &slope[..weights.len()];
    normaliser.change = None;
    for lane in (0..n_lanes).step_by(V::WIDTH) {
        let before = V::load(&normaliser.largest[lane..]);
        let mut largest = before;
        for row in 0..weights.len() {
            largest = V::load(&weights[row][lane..]).or_larger(largest);
        }
        let mut sum = V::load(&normaliser.sums[lane..]);
        let mut slopes = V::load(&normaliser.slopes[lane..]);
        if largest.differs(before) {
            let factor = change_of_scale(before, largest);
            sum = sum.times(factor);
            slopes = slopes.times(factor);
            largest.store(&mut normaliser.largest[lane..]);
            factor.store(&mut normaliser.change.get_or_insert([1.0; TILE])[lane..]);
        }
        let shift = V::splat(f32::MIN).or_larger(largest);
        for row in 0..weights.len() {
            let numbers = &mut weights[row][lane..];
            let weight = V::load(numbers).minus(shift).exp();
            weight.store(numbers);
            sum = sum.plus(weight);
            slopes = slopes.add_product(weight, V::splat(slope[row]));
        }
        sum.store(&mut normaliser.sums[lane..]);
        slopes.store(&mut normaliser.slopes[lane..]);
    }
}

#[inline(always)]
fn rescale_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &mut [PerQuery],
    n_lanes: usize,
    before: &PerQuery,
    largest: &PerQuery,
) {
    for lane in (0..n_lanes).step_by(V::WIDTH) {
        let (before, largest) = (V::load(&before[lane..]), V::load(&largest[lane..]));
        if largest.differs(before) {
            let scale = change_of_scale(before, largest);
            for row in 0..weights.len() {
                let numbers = &mut weights[row][lane..];
                V::load(numbers).times(scale).store(numbers);
            }
        }
    }
}

#[inline(always)]
fn add_to_queries_of<V: SimdVector, const PAIRS: bool, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    let n_queries = sums.len() / stride;
    let mut query = 0;
    while query < n_queries {
        // Whole blocks of queries are a sum of fours and, unless two are left, of any even number.
        let rest = n_queries - query;
        if rest >= G && rest != G + 2 {
            queries_rows::<V, PAIRS, G, V2>(weights, rows, stride, query, sums);
            query += G;
        } else {
            queries_rows::<V, PAIRS, 4, V2>(weights, rows, stride, query, sums);
            query += 4;
        }
    }
}

#[inline(always)]
fn queries_rows<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    query: usize,
    sums: &mut [f32],
) {
    let mut k = 0;
    while k + VECTORS * V::WIDTH <= stride {
        queries_block::<V, PAIRS, ROWS, VECTORS>(weights, rows, stride, query, k, sums);
        k += VECTORS * V::WIDTH;
    }
    while k < stride {
        queries_block::<V, PAIRS, ROWS, 1>(weights, rows, stride, query, k, sums);
        k += V::WIDTH;
    }
}

#[inline(always)]
fn queries_block<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    query: usize,
    k: usize,
    sums: &mut [f32],
) {
    let mut block = [[V::splat(0.0); VECTORS]; ROWS];
    let rows = &rows[..weights.len() * stride];
    for row in 0..weights.len() {
        let weights: &[f32; ROWS] = weights[row][query..].first_chunk().expect("whole blocks");
        let row = &rows[row * stride + k..][..VECTORS * V::WIDTH];
        let mut numbers = [V::splat(0.0); VECTORS];
        for v in 0..VECTORS {
            numbers[v] = V::load(&row[v * V::WIDTH..]);
        }
        for r in 0..ROWS {
            let weight = V::splat(weights[r]);
            for v in 0..VECTORS {
                block[r][v] = add::<V, PAIRS>(block[r][v], weight, numbers[v]);
            }
        }
    }
    for r in 0..ROWS {
        for v in 0..VECTORS {
            let sums = &mut sums[(query + r) * stride + k + v * V::WIDTH..];
            V::load(sums).plus(block[r][v]).store(sums);
        }
    }
}

#[inline(always)]
fn add_to_candidates_of<V: SimdVector, const PAIRS: bool, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    sums: &mut [f32],
    into: AddedTo,
) {
    let mut row = 0;
    while row + G <= weights.len() {
        candidates_rows::<V, PAIRS, G, V2>(weights, queries, stride, row, sums, into);
        row += G;
    }
    while row + 2 <= weights.len() {
        candidates_rows::<V, PAIRS, 2, V2>(weights, queries, stride, row, sums, into);
        row += 2;
    }
    if row < weights.len() {
        candidates_rows::<V, PAIRS, 1, V2>(weights, queries, stride, row, sums, into);
    }
}

#[inline(always)]
fn candidates_rows<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    row: usize,
    sums: &mut [f32],
    into: AddedTo,
) {
    let mut k = 0;
    while k + VECTORS * V::WIDTH <= stride {
        candidates_block::<V, PAIRS, ROWS, VECTORS>(weights, queries, stride, row, k, sums, into);
        k += VECTORS * V::WIDTH;
    }
    while k < stride {
        candidates_block::<V, PAIRS, ROWS, 1>(weights, queries, stride, row, k, sums, into);
        k += V::WIDTH;
    }
}

#[inline(always)]
fn candidates_block<V: SimdVector, const PAIRS: bool, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    row: usize,
    k: usize,
    sums: &mut [f32],
    into: AddedTo,
) {
    let mut block = [[V::splat(0.0); VECTORS]; ROWS];
    let weights: &[PerQuery; ROWS] = weights[row..].first_chunk().expect("whole blocks");
    for place in 0..(queries.len() / stride).min(TILE) {
        let query = &queries[place * stride + k..][..VECTORS * V::WIDTH];
        let mut numbers = [V::splat(0.0); VECTORS];
        for v in 0..VECTORS {
            numbers[v] = V::load(&query[v * V::WIDTH..]);
        }
        for r in 0..ROWS {
            let weight = V::splat(weights[r][place]);
            for v in 0..VECTORS {
                block[r][v] = add::<V, PAIRS>(block[r][v], weight, numbers[v]);
            }
        }
    }
    let factor = V::splat(into.factor);
    for r in 0..ROWS {
        for v in 0..VECTORS {
            let sums = &mut sums[(row + r) * stride + k + v * V::WIDTH..];
            let before = if into.fresh { V::splat(0.0) } else { V::load(sums) };
            before.add_product(block[r][v], factor).store(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::kernel::bf16::{from_bf16, to_bf16};
    use crate::kernel::simd::SMALLEST;
    use crate::kernel::{Isa, Kernel};

    /// The instruction is compared, where this machine has it, with what it is documented to do (Intel's manual of instructions,
    /// VDPBF16PS), and so is what stands for it elsewhere: bit by bit.
    #[test]
    fn products_of_pairs_are_those_of_the_instruction() {
        let isas: Vec<Isa> = Kernel::available().into_iter().map(Kernel::isa).collect();
        if !isas.contains(&Isa::Avx512Bf16) {
            eprintln!(
                "*** LEFT OUT: this machine has no AVX512-BF16; what stands for its products was tested, on {isas:?}"
            );
        }
        let mut random = Pcg64Mcg::seed_from_u64(7);
        for n_pairs in [1, 2, 7, 64] {
            // Of all sizes, so that they round, cancel and vanish.
            let mut number = || {
                let size = random.random_range(-48.0..20.0f32).exp2();
                let signed = if random.random::<bool>() { size } else { -size };
                from_bf16(to_bf16(if random.random_range(0..9) == 0 { 0.0 } else { signed }))
            };
            let queries: Vec<[[f32; 2]; TILE]> =
                (0..n_pairs).map(|_| std::array::from_fn(|_| [number(), number()])).collect();
            let row: Vec<[f32; 2]> = (0..n_pairs).map(|_| [number(), number()]).collect();
            let bits = |[low, high]: [f32; 2]| f32::from_bits(u32::from(to_bf16(low)) | u32::from(to_bf16(high)) << 16);
            let packed: Vec<PerQuery> = queries.iter().map(|pairs| pairs.map(bits)).collect();
            let rows: Vec<f32> = row.iter().map(|pair| bits(*pair)).collect();
            for isa in &isas {
                let mut found = [[0.0; TILE]];
                let to_logits = ToLogits { inverse_temperature: 1.0, bias: &[0.0] };
                logits_of_pairs(*isa, &packed, TILE, &rows, to_logits, &mut found);
                for lane in 0..TILE {
                    let mut truth = 0.0f32;
                    for (queries, row) in queries.iter().zip(&row) {
                        truth = row[1].mul_add(queries[lane][1], truth);
                        truth = row[0].mul_add(queries[lane][0], truth);
                    }
                    // Adding the bias makes −0 of nothing 0.
                    assert_eq!(found[0][lane].to_bits(), (truth + 0.0).to_bits(), "{isa:?}, {n_pairs} pairs");
                }
            }
        }
    }

    #[test]
    fn pairs_are_rounded_alike_everywhere() {
        let mut random = Pcg64Mcg::seed_from_u64(8);
        let mut low: Vec<f32> = (0..1000).map(|_| f32::from_bits(random.random())).collect();
        low[..8].copy_from_slice(&[0.0, -0.0, SMALLEST, -SMALLEST / 2.0, f32::INFINITY, f32::NAN, 1.0, f32::MAX]);
        let high: Vec<f32> = low.iter().rev().copied().collect();
        let rounded = |number: f32| u32::from(if number.abs() < SMALLEST { 0 } else { to_bf16(number) });
        let truth: Vec<u32> = low.iter().zip(&high).map(|(low, high)| rounded(*low) | rounded(*high) << 16).collect();
        for kernel in Kernel::available() {
            let mut found = vec![0.0; low.len()];
            pair(kernel.isa(), &low, &high, &mut found);
            let found: Vec<u32> = found.iter().map(|number| number.to_bits()).collect();
            assert!(found == truth, "{kernel:?}");
        }
    }
}
