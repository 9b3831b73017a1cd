//! Exact ranking: how many items score above each query's target, without storing a single score.
//!
//! `score = item_scale · query·row + item_bias`, computed by the same sequence of operations for a whole chunk of the
//! table ([`count_above`]) and for single items ([`score_items`]), so that equal scores are equal to the bit.

use super::aligned::Aligned;
use super::dots::{Consumer, block, for_rows, pack};
use super::{Kernel, LANES, Lanes, for_each_isa, multiply_add};

/// Up to [`LANES`] queries, packed.
#[derive(Debug, Default)]
pub struct PackedQueries(Aligned<Lanes>);

impl PackedQueries {
    /// Packs the queries; lanes left over are 0.
    pub fn pack<'a>(&mut self, queries: impl Iterator<Item = &'a [f32]>, dim: usize) {
        self.0.resize(dim, [0.0; LANES]);
        pack(queries, &mut self.0);
    }
}

/// What is counted for each lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankCounts {
    /// Items that score above the target.
    pub above: [u32; LANES],
    /// Items that score the same.
    pub equal: [u32; LANES],
}

/// A run of items as they lie in the table.
#[derive(Debug, Clone, Copy)]
pub struct ItemTile<'a> {
    /// n × dim.
    pub rows: &'a [f32],
    /// n: factor of the dot product.
    pub scale: &'a [f32],
    /// n: what is added.
    pub bias: &'a [f32],
}

/// Adds to `counts` how the items of `items` compare with the `targets`.
pub fn count_above(
    kernel: Kernel,
    queries: &PackedQueries,
    items: ItemTile<'_>,
    targets: &Lanes,
    counts: &mut RankCounts,
) {
    run_count(kernel.isa, &queries.0, items, targets, counts);
}

/// The scores of `items[..]` (table rows, with their scale and bias) for one query, into `scores`.
pub fn score_items<'a>(
    kernel: Kernel,
    query: &[f32],
    items: impl Iterator<Item = (&'a [f32], f32, f32)>,
    scratch: &mut PackedQueries,
    scores: &mut Vec<f32>,
) {
    scores.clear();
    let mut items = items.peekable();
    while items.peek().is_some() {
        let (mut rows, mut scale, mut bias) = ([&[][..]; LANES], [0.0; LANES], [0.0; LANES]);
        let mut n_items = 0;
        for (row, item_scale, item_bias) in items.by_ref().take(LANES) {
            (rows[n_items], scale[n_items], bias[n_items]) = (row, item_scale, item_bias);
            n_items += 1;
        }
        scratch.pack(rows[..n_items].iter().copied(), query.len());
        let block = run_score(kernel.isa, &scratch.0, query, &scale, &bias);
        scores.extend_from_slice(&block[..n_items]);
    }
}

for_each_isa!(run_count = count(packed: &[Lanes], items: ItemTile<'_>, targets: &Lanes, counts: &mut RankCounts));
for_each_isa!(run_score = score(packed: &[Lanes], query: &[f32], scale: &Lanes, bias: &Lanes) -> Lanes);

/// Compares scores with the targets as they come.
struct Comparison<'a, const FMA: bool> {
    items: ItemTile<'a>,
    targets: &'a Lanes,
    counts: RankCounts,
}

impl<const FMA: bool> Consumer for Comparison<'_, FMA> {
    #[inline(always)]
    fn take(&mut self, row: usize, products: &Lanes) {
        let (scale, bias) = (self.items.scale[row], self.items.bias[row]);
        for lane in 0..LANES {
            let score = multiply_add::<FMA>(products[lane], scale, bias);
            self.counts.above[lane] += u32::from(score > self.targets[lane]);
            self.counts.equal[lane] += u32::from(score == self.targets[lane]);
        }
    }
}

#[inline(always)]
fn count<const FMA: bool, const ROWS: usize>(
    packed: &[Lanes],
    items: ItemTile<'_>,
    targets: &Lanes,
    counts: &mut RankCounts,
) {
    let mut comparison = Comparison::<FMA> { items, targets, counts: *counts };
    for_rows::<FMA, ROWS>(packed, items.rows, packed.len(), &mut comparison);
    *counts = comparison.counts;
}

#[inline(always)]
fn score<const FMA: bool, const ROWS: usize>(packed: &[Lanes], query: &[f32], scale: &Lanes, bias: &Lanes) -> Lanes {
    let [products] = block::<FMA, 1>(packed, query, query.len());
    let mut scores = [0.0; LANES];
    for lane in 0..LANES {
        scores[lane] = multiply_add::<FMA>(products[lane], scale[lane], bias[lane]);
    }
    scores
}
