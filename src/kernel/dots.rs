//! Dot products of a packed block of [`LANES`] vectors with rows, the inner loop of everything.
//!
//! Each product is the sum over the dimensions in their order, one multiply-add each, whichever operand is packed and
//! wherever it stands in its tile: that is what makes ties in a ranking exact.

use super::{LANES, Lanes, cut_alike, multiply_add};

/// Packs up to [`LANES`] rows side by side: `packed[k][lane]` = number `k` of row `lane`; lanes left over are 0.
#[inline(always)]
pub(super) fn pack<'a>(rows: impl Iterator<Item = &'a [f32]>, packed: &mut [Lanes]) {
    for block in packed.iter_mut() {
        *block = [0.0; LANES];
    }
    for (lane, row) in rows.take(LANES).enumerate() {
        let (packed, row) = cut_alike(packed, row);
        for k in 0..packed.len() {
            packed[k][lane] = row[k];
        }
    }
}

/// The dot products of `ROWS` rows, the first at `rows[0]` and each `stride` after the one before, with the block.
#[inline(always)]
pub(super) fn block<const FMA: bool, const ROWS: usize>(
    packed: &[Lanes],
    rows: &[f32],
    stride: usize,
) -> [Lanes; ROWS] {
    let dim = packed.len();
    // Cut to length before the loop, so that nothing inside it is checked.
    let mut each: [&[f32]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        each[row] = &rows[row * stride..][..dim];
    }
    let mut sums = [[0.0; LANES]; ROWS];
    for k in 0..dim {
        let numbers = &packed[k];
        for row in 0..ROWS {
            let number = each[row][k];
            for lane in 0..LANES {
                sums[row][lane] = multiply_add::<FMA>(number, numbers[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// What is done with the products of one row. A trait and not a closure: a closure would not be compiled for the
/// instruction set of the function that it is written in.
pub(super) trait Consumer {
    /// Takes the products of row `row` with the packed block.
    fn take(&mut self, row: usize, products: &Lanes);
}

/// Hands the products of every row of `rows` (n × `stride`) to `consumer`, in order.
#[inline(always)]
pub(super) fn for_rows<const FMA: bool, const ROWS: usize>(
    packed: &[Lanes],
    rows: &[f32],
    stride: usize,
    consumer: &mut impl Consumer,
) {
    let n_rows = rows.len() / stride;
    let mut row = 0;
    while row + ROWS <= n_rows {
        let products = block::<FMA, ROWS>(packed, &rows[row * stride..], stride);
        for (offset, product) in products.iter().enumerate() {
            consumer.take(row + offset, product);
        }
        row += ROWS;
    }
    while row + 3 <= n_rows {
        let products = block::<FMA, 3>(packed, &rows[row * stride..], stride);
        for (offset, product) in products.iter().enumerate() {
            consumer.take(row + offset, product);
        }
        row += 3;
    }
    while row < n_rows {
        let [product] = block::<FMA, 1>(packed, &rows[row * stride..], stride);
        consumer.take(row, &product);
        row += 1;
    }
}
