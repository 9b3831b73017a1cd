//! The two matrix products of a chunk of weights: with the candidates, and with the queries.

use super::{LANES, Lanes, multiply_add};

/// `sums[k][lane] += Σ_j weights[j][lane] · rows[j][k]`, for the rows of a chunk.
#[inline(always)]
pub(super) fn add_columns<const FMA: bool, const ROWS: usize>(
    weights: &[Lanes],
    rows: &[f32],
    stride: usize,
    sums: &mut [Lanes],
) {
    // The block begins at zero and is added at the end: begun at the sums, it would not stay in registers.
    #[inline(always)]
    fn columns<const FMA: bool, const COLUMNS: usize>(
        weights: &[Lanes],
        rows: &[f32],
        stride: usize,
        k: usize,
        sums: &mut [Lanes],
    ) {
        let mut block = [[0.0; LANES]; COLUMNS];
        for (weight, row) in weights.iter().zip(rows.chunks_exact(stride)) {
            let numbers: &[f32; COLUMNS] = row[k..k + COLUMNS].try_into().expect("COLUMNS numbers");
            for column in 0..COLUMNS {
                for lane in 0..LANES {
                    block[column][lane] = multiply_add::<FMA>(numbers[column], weight[lane], block[column][lane]);
                }
            }
        }
        for column in 0..COLUMNS {
            let sum = &mut sums[k + column];
            for lane in 0..LANES {
                sum[lane] += block[column][lane];
            }
        }
    }
    let mut k = 0;
    while k + ROWS <= stride {
        columns::<FMA, ROWS>(weights, rows, stride, k, sums);
        k += ROWS;
    }
    while k + 4 <= stride {
        columns::<FMA, 4>(weights, rows, stride, k, sums);
        k += 4;
    }
    while k + 2 <= stride {
        columns::<FMA, 2>(weights, rows, stride, k, sums);
        k += 2;
    }
    assert_eq!(k, stride, "whole blocks are even");
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
        for (weights, queries) in weights.chunks_exact(n_rows).zip(slab.chunks_exact(LANES)) {
            let weights: &[Lanes; ROWS] = weights[first..first + ROWS].try_into().expect("ROWS rows");
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
            let sums: &mut Lanes = (&mut sums[row * stride..][..LANES]).try_into().expect("a block");
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
        while row < n_rows {
            let sums = &mut sums[row * stride + slab * LANES..];
            rows::<FMA, 1>(weights, n_rows, row, queries, sums, stride, fresh);
            row += 1;
        }
    }
}
