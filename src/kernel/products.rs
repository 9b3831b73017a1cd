//! The two matrix products of a chunk of weights: with the candidates, and with the queries.
//!
//! Both add ROWS rows of LANES numbers at a time. A block begins at zero and is added at the end: begun at the sums, it
//! would not stay in registers.

use super::{LANES, Lanes, multiply_add};

/// `sums[lane] += Σ_j weights[j][lane] · rows[j]`, for the rows of a chunk; `sums` is LANES × `stride`.
#[inline(always)]
pub(super) fn add_columns<const FMA: bool, const ROWS: usize>(
    weights: &[Lanes],
    rows: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    #[inline(always)]
    fn queries<const FMA: bool, const ROWS: usize>(
        weights: &[Lanes],
        rows: &[f32],
        stride: usize,
        first: usize,
        sums: &mut [f32],
    ) {
        for k in (0..stride).step_by(LANES) {
            let mut block = [[0.0; LANES]; ROWS];
            for row in 0..weights.len().min(rows.len() / stride) {
                let weight = weights[row][first..].first_chunk::<ROWS>().expect("ROWS lanes");
                let numbers = rows[row * stride + k..].first_chunk::<LANES>().expect("a block");
                for query in 0..ROWS {
                    for lane in 0..LANES {
                        block[query][lane] = multiply_add::<FMA>(weight[query], numbers[lane], block[query][lane]);
                    }
                }
            }
            for query in 0..ROWS {
                let sums = sums[(first + query) * stride + k..].first_chunk_mut::<LANES>().expect("a block");
                for lane in 0..LANES {
                    sums[lane] += block[query][lane];
                }
            }
        }
    }
    let mut query = 0;
    while query + ROWS <= LANES {
        queries::<FMA, ROWS>(weights, rows, stride, query, sums);
        query += ROWS;
    }
    while query < LANES {
        // LANES is a whole number of ROWS and fours, whatever ROWS is.
        queries::<FMA, 4>(weights, rows, stride, query, sums);
        query += 4;
    }
}

/// `sums[j] += Σ_i weights[i / LANES][j][i % LANES] · queries[i]` for the n rows of a chunk: the weights in blocks of n,
/// the queries in slabs of [`LANES`] dimensions. `fresh`: instead of adding, begin with zero.
#[inline(always)]
pub(super) fn add_rows<const FMA: bool, const ROWS: usize>(
    weights: &[Lanes],
    slabs: &[Lanes],
    sums: &mut [f32],
    stride: usize,
    fresh: bool,
) {
    #[inline(always)]
    fn rows<const FMA: bool, const ROWS: usize>(
        weights: &[Lanes],
        n_rows: usize,
        first: usize,
        slab: &[Lanes],
        sums: &mut [f32],
        stride: usize,
        fresh: bool,
    ) {
        let mut block = [[0.0; LANES]; ROWS];
        let (slab, _) = slab.as_chunks::<LANES>();
        for queries in 0..slab.len().min(weights.len() / n_rows) {
            let weights = weights[queries * n_rows + first..].first_chunk::<ROWS>().expect("ROWS rows");
            let queries = &slab[queries];
            for query in 0..LANES {
                let numbers = &queries[query];
                for row in 0..ROWS {
                    let weight = weights[row][query];
                    for lane in 0..LANES {
                        block[row][lane] = multiply_add::<FMA>(weight, numbers[lane], block[row][lane]);
                    }
                }
            }
        }
        for row in 0..ROWS {
            let sums = sums[row * stride..].first_chunk_mut::<LANES>().expect("a block");
            for lane in 0..LANES {
                sums[lane] = if fresh { block[row][lane] } else { sums[lane] + block[row][lane] };
            }
        }
    }
    let n_rows = sums.len() / stride;
    let n_queries = weights.len() / n_rows * LANES;
    for (slab, queries) in slabs.chunks_exact(n_queries).enumerate() {
        let mut row = 0;
        while row + ROWS <= n_rows {
            let sums = &mut sums[row * stride + slab * LANES..];
            rows::<FMA, ROWS>(weights, n_rows, row, queries, sums, stride, fresh);
            row += ROWS;
        }
        while row + 3 <= n_rows {
            let sums = &mut sums[row * stride + slab * LANES..];
            rows::<FMA, 3>(weights, n_rows, row, queries, sums, stride, fresh);
            row += 3;
        }
        while row < n_rows {
            let sums = &mut sums[row * stride + slab * LANES..];
            rows::<FMA, 1>(weights, n_rows, row, queries, sums, stride, fresh);
            row += 1;
        }
    }
}
