//! The three products of a tile of queries with a chunk of candidates.
//!
//! Each number is a sum in one order, whatever the instruction set and wherever the number stands in its block: the logits
//! over the dimensions, the query gradients over the candidates of the chunk, the candidate gradients over the queries of
//! the tile. A block of sums begins at zero and is added to what was there at the end.

use super::Vector;
use crate::kernel::Isa;
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

/// Compiles `$body` for each instruction set: of its vectors, as blocks of sums that fill its registers but for what they are
/// made of. The numbers are rows and vectors of a block of logits, and of a block of gradients.
macro_rules! for_each_vector {
    ($(#[$meta:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "enters functions compiled for a detected instruction set")
        )]
        pub(in crate::kernel) fn $name(isa: Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($argument: $type),*) {
                    $body::<super::Widest, 6, 4, 8, 2>($($argument),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    $body::<super::Wide, 6, 2, 6, 2>($($argument),*);
                }
                match isa {
                    // SAFETY: `Kernel::available` offers the variant only where the features were detected.
                    Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    Isa::Neon | Isa::Plain => {}
                }
            }
            if cfg!(target_arch = "aarch64") && isa == Isa::Neon {
                $body::<super::Portable<true>, 6, 1, 6, 1>($($argument),*);
            } else {
                $body::<super::Portable<false>, 2, 1, 2, 1>($($argument),*);
            }
        }
    };
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
    /// `sums[j] += Σ_i weights[j][i] · queries[i]`, both × `stride`, for whole blocks of queries. `fresh`: instead of adding,
    /// begin with zero.
    add_to_candidates =
        add_to_candidates_body(weights: &[PerQuery], queries: &[f32], stride: usize, sums: &mut [f32], fresh: bool)
);

#[inline(always)]
fn logits_body<V: Vector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    let mut row = 0;
    while row + R <= out.len() {
        logits_rows::<V, R, V1>(packed, n_lanes, rows, row, to_logits, out);
        row += R;
    }
    while row + 2 <= out.len() {
        logits_rows::<V, 2, V1>(packed, n_lanes, rows, row, to_logits, out);
        row += 2;
    }
    if row < out.len() {
        logits_rows::<V, 1, V1>(packed, n_lanes, rows, row, to_logits, out);
    }
}

#[inline(always)]
fn logits_rows<V: Vector, const ROWS: usize, const VECTORS: usize>(
    packed: &[PerQuery],
    n_lanes: usize,
    rows: &[f32],
    row: usize,
    to_logits: ToLogits<'_>,
    out: &mut [PerQuery],
) {
    let mut lane = 0;
    while lane + VECTORS * V::WIDTH <= n_lanes {
        logits_block::<V, ROWS, VECTORS>(packed, lane, rows, row, to_logits, out);
        lane += VECTORS * V::WIDTH;
    }
    while lane < n_lanes {
        logits_block::<V, ROWS, 1>(packed, lane, rows, row, to_logits, out);
        lane += V::WIDTH;
    }
}

#[inline(always)]
fn logits_block<V: Vector, const ROWS: usize, const VECTORS: usize>(
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
                sums[r][v] = sums[r][v].add_product(number, queries[v]);
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
fn change_of_scale<V: Vector>(before: V, after: V) -> V {
    let lowest = V::splat(f32::MIN);
    // −∞ − (−∞) is no number; −∞ less anything else is −∞, whose exponential is 0.
    before.minus(lowest.or_larger(after)).exp()
}

#[inline(always)]
fn weigh_body<V: Vector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
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
fn rescale_body<V: Vector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
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
fn add_to_queries_body<V: Vector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
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
            queries_rows::<V, G, V2>(weights, rows, stride, query, sums);
            query += G;
        } else {
            queries_rows::<V, 4, V2>(weights, rows, stride, query, sums);
            query += 4;
        }
    }
}

#[inline(always)]
fn queries_rows<V: Vector, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    rows: &[f32],
    stride: usize,
    query: usize,
    sums: &mut [f32],
) {
    let mut k = 0;
    while k + VECTORS * V::WIDTH <= stride {
        queries_block::<V, ROWS, VECTORS>(weights, rows, stride, query, k, sums);
        k += VECTORS * V::WIDTH;
    }
    while k < stride {
        queries_block::<V, ROWS, 1>(weights, rows, stride, query, k, sums);
        k += V::WIDTH;
    }
}

#[inline(always)]
fn queries_block<V: Vector, const ROWS: usize, const VECTORS: usize>(
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
                block[r][v] = block[r][v].add_product(weight, numbers[v]);
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
fn add_to_candidates_body<V: Vector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    sums: &mut [f32],
    fresh: bool,
) {
    let mut row = 0;
    while row + G <= weights.len() {
        candidates_rows::<V, G, V2>(weights, queries, stride, row, sums, fresh);
        row += G;
    }
    while row + 2 <= weights.len() {
        candidates_rows::<V, 2, V2>(weights, queries, stride, row, sums, fresh);
        row += 2;
    }
    if row < weights.len() {
        candidates_rows::<V, 1, V2>(weights, queries, stride, row, sums, fresh);
    }
}

#[inline(always)]
fn candidates_rows<V: Vector, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    row: usize,
    sums: &mut [f32],
    fresh: bool,
) {
    let mut k = 0;
    while k + VECTORS * V::WIDTH <= stride {
        candidates_block::<V, ROWS, VECTORS>(weights, queries, stride, row, k, sums, fresh);
        k += VECTORS * V::WIDTH;
    }
    while k < stride {
        candidates_block::<V, ROWS, 1>(weights, queries, stride, row, k, sums, fresh);
        k += V::WIDTH;
    }
}

#[inline(always)]
fn candidates_block<V: Vector, const ROWS: usize, const VECTORS: usize>(
    weights: &[PerQuery],
    queries: &[f32],
    stride: usize,
    row: usize,
    k: usize,
    sums: &mut [f32],
    fresh: bool,
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
                block[r][v] = block[r][v].add_product(weight, numbers[v]);
            }
        }
    }
    for r in 0..ROWS {
        for v in 0..VECTORS {
            let sums = &mut sums[(row + r) * stride + k + v * V::WIDTH..];
            let sum = if fresh { block[r][v] } else { V::load(sums).plus(block[r][v]) };
            sum.store(sums);
        }
    }
}
