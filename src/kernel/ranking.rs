//! Exact ranking: how many items score above each query's target, without storing a single score.
//!
//! `score = item_scale · query·row + item_bias`, computed by the same sequence of operations for a whole chunk of the
//! table ([`Comparer`]) and for single items ([`score_items`]), so that equal scores are equal to the bit.

use super::aligned::Aligned;
use super::dots::{Consumer, block, for_rows, pack};
use super::rows::sum;
use super::simd::comparisons::{ChosenItems, Unclear, choose, count, pair_halves, screen};
use super::simd::products::pair;
use super::{Kernel, LANES, Lanes, for_each_isa, multiply_add};

/// Up to [`LANES`] queries, packed.
#[derive(Debug, Default)]
pub struct PackedQueries {
    lanes: Aligned<Lanes>,
    /// The same in bfloat16, number k with number dim/2 + k, where they were rounded.
    pairs: Aligned<Lanes>,
}

impl PackedQueries {
    /// Packs the queries; lanes left over are 0.
    pub fn pack<'a>(&mut self, queries: impl Iterator<Item = &'a [f32]>, dim: usize) {
        self.lanes.resize(dim, [0.0; LANES]);
        pack(queries, &mut self.lanes);
    }

    /// Rounds them, for a [`Comparer`] of rounded items. Their dimensions must be even in number.
    pub fn round(&mut self, kernel: Kernel) {
        let half = self.lanes.len() / 2;
        self.pairs.resize(half, [0.0; LANES]);
        let (low, high) = self.lanes.as_flattened().split_at(half * LANES);
        pair(kernel.isa, low, high, self.pairs.as_flattened_mut());
    }
}

/// A bit for each lane, the first one's the lowest.
pub type LaneMask = u16;

const _: () = assert!(LaneMask::BITS as usize == LANES);

/// What is counted for each lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankCounts {
    /// Items that score above the target.
    pub above: [i32; LANES],
    /// Items that score the same.
    pub equal: [i32; LANES],
}

impl RankCounts {
    /// Adds counts over other items.
    pub fn add(&mut self, other: &Self) {
        for lane in 0..LANES {
            self.above[lane] += other.above[lane];
            self.equal[lane] += other.equal[lane];
        }
    }
}

/// Rows that count for some queries only: for those of the events after one event, up to another.
#[derive(Debug, Default)]
pub struct TouchedRows {
    /// n × dim.
    rows: Vec<f32>,
    dim: usize,
    /// The first event that may touch one.
    first_event: u32,
    scale: Vec<f32>,
    bias: Vec<f32>,
    /// The last event before those that it counts for, and the last that it counts for.
    span: Vec<(u32, u32)>,
    /// 1, or −1 for a row that was counted and must not have been.
    sign: Vec<i32>,
}

impl TouchedRows {
    /// Empties the rows, the next of which have `dim` numbers, and are touched by events from `first_event` on.
    pub fn clear(&mut self, dim: usize, first_event: u32) {
        let Self { rows, dim: of_rows, first_event: first, scale, bias, span, sign } = self;
        (*of_rows, *first) = (dim, first_event);
        for numbers in [rows, scale, bias] {
            numbers.clear();
        }
        span.clear();
        sign.clear();
    }

    /// A row as it is for the events of `span`.
    pub fn push_current(&mut self, row: &[f32], scale: f32, bias: f32, span: (u32, u32)) {
        self.push(row, (scale, bias), span, 1);
    }

    /// A row as it is no longer for the events of `span`.
    pub fn push_outdated(&mut self, row: &[f32], scale: f32, bias: f32, span: (u32, u32)) {
        self.push(row, (scale, bias), span, -1);
    }

    fn push(&mut self, row: &[f32], (scale, bias): (f32, f32), span: (u32, u32), sign: i32) {
        self.rows.extend_from_slice(row);
        self.scale.push(scale);
        self.bias.push(bias);
        self.span.push(span);
        self.sign.push(sign);
    }
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

/// What the scores of items are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Targets {
    /// The score of each query's target.
    pub scores: Lanes,
    /// How far from the true score one by products in bfloat16 may be, where it is near the target.
    pub margins: Lanes,
    /// Items with a lower bias than this have no score as high as any target, so that they need not be looked at.
    pub least_bias: f32,
}

impl Default for Targets {
    /// Above all scores.
    fn default() -> Self {
        Self { scores: [f32::INFINITY; LANES], margins: [0.0; LANES], least_bias: f32::INFINITY }
    }
}

/// Counts how items compare with targets, exactly; where the machine has an instruction for it ([`Kernel::multiplies_bf16`]), by
/// products in bfloat16 first, and again only those items whose score is near a target.
#[derive(Debug, Default)]
pub struct Comparer {
    /// n × dim/2: the items' rows in bfloat16, number k with number dim/2 + k.
    pairs: Aligned<f32>,
    /// Whether they are those of the items that are compared.
    is_rounded: bool,
    /// The places of items that are looked at, and of those that have to be compared again.
    chosen: Vec<u32>,
    left: Vec<u32>,
}

impl Comparer {
    /// Products in bfloat16 must not be used where a factor of the dot product is above this, as a multiple of that of vectors of
    /// length 1: what rounding makes 0 of would not be negligible.
    pub const LARGEST_SCALE: f32 = (1 << 30) as f32;

    /// How far a product of two vectors in bfloat16 may be from the true one, as a share of the product of their lengths. Each number
    /// is off by 2⁻⁸ of itself at most, so a vector by as much of its length, and the product by twice that (Cauchy–Schwarz);
    /// two sums of products are each off by as many roundings as they have (Higham 2002, 3.1).
    pub fn error(dim: usize) -> f32 {
        2.0 * (-8f32).exp2() + (-15f32).exp2() + 2.0 * (dim + LANES) as f32 * f32::EPSILON
    }

    /// Forgets the items that were compared, and makes ready for others.
    pub fn begin(&mut self) {
        self.is_rounded = false;
    }

    /// Rounds the rows (n × `dim`, an even number) of the items that will be compared, unless that was done.
    pub fn round(&mut self, kernel: Kernel, rows: &[f32], dim: usize) {
        if !std::mem::replace(&mut self.is_rounded, true) {
            self.pairs.resize(rows.len() / 2, 0.0);
            pair_halves(kernel.isa, rows, dim, &mut self.pairs);
        }
    }

    /// Adds to `counts` how `items` compare with the `targets`, each for those queries alone that are not in its mask of `excluded`; by
    /// products in bfloat16 first, if they were rounded, which the queries have to be too.
    pub fn count(
        &mut self,
        kernel: Kernel,
        queries: &PackedQueries,
        items: ItemTile<'_>,
        excluded: &[LaneMask],
        targets: &Targets,
        counts: &mut RankCounts,
    ) {
        let Self { pairs, is_rounded, chosen, left } = self;
        let Targets { scores, margins, least_bias } = targets;
        chosen.clear();
        choose(kernel.isa, items.bias, *least_bias, chosen);
        if !*is_rounded {
            count(kernel.isa, &queries.lanes, items, ChosenItems { places: chosen, excluded }, scores, counts);
            return;
        }
        let mut unclear = Unclear { from: [0.0; LANES], to: [0.0; LANES] };
        for lane in 0..LANES {
            unclear.from[lane] = scores[lane] - margins[lane];
            unclear.to[lane] = scores[lane] + margins[lane];
        }
        left.clear();
        let rounded = ItemTile { rows: pairs, ..items };
        let chosen = ChosenItems { places: chosen, excluded };
        screen(kernel.isa, &queries.pairs, rounded, chosen, &unclear, &mut counts.above, left);
        count(kernel.isa, &queries.lanes, items, ChosenItems { places: left, excluded }, scores, counts);
    }
}

/// Adds to `counts` how the `touched` rows compare with the `targets` of the queries, whose events are `events`: each for those queries
/// alone that are not in the mask of the event that touched it; `excluded` are those of the events from the first one on.
pub fn count_touched(
    kernel: Kernel,
    queries: &PackedQueries,
    touched: &TouchedRows,
    excluded: &[LaneMask],
    events: &[u32; LANES],
    targets: &Lanes,
    counts: &mut RankCounts,
) {
    run_count_touched(kernel.isa, &queries.lanes, touched, excluded, events, targets, counts);
}

/// The scores of the items of `items` for every lane of `queries`, into `scores`: as a [`Comparer`] compares them.
pub fn score_tile(kernel: Kernel, queries: &PackedQueries, items: ItemTile<'_>, scores: &mut Vec<Lanes>) {
    scores.clear();
    scores.resize(items.scale.len(), [0.0; LANES]);
    run_score_tile(kernel.isa, &queries.lanes, items, scores);
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
        let block = run_score(kernel.isa, &scratch.lanes, query, &scale, &bias);
        scores.extend_from_slice(&block[..n_items]);
    }
}

/// The score of an item, summed in whichever order is fastest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Near the score.
    pub score: f32,
    /// How far from it the score may be that a [`Comparer`] compares.
    pub error: f32,
}

/// Estimates the scores of up to [`LANES`] `rows` (with the scale and bias of each) for one query: at a quarter of the cost of
/// [`score_items`], and for most comparisons good enough.
pub fn estimate_scores(
    kernel: Kernel,
    query: &[f32],
    rows: &[&[f32]],
    scale: &Lanes,
    bias: &Lanes,
) -> [Estimate; LANES] {
    run_estimate(kernel.isa, query, rows, scale, bias)
}

for_each_isa!(run_score_tile = scores_of_tile(packed: &[Lanes], items: ItemTile<'_>, scores: &mut [Lanes]));
for_each_isa!(run_count_touched = count_touched_rows(
    packed: &[Lanes],
    touched: &TouchedRows,
    excluded: &[LaneMask],
    events: &[u32; LANES],
    targets: &Lanes,
    counts: &mut RankCounts,
));
for_each_isa!(run_estimate = estimate(query: &[f32], rows: &[&[f32]], scale: &Lanes, bias: &Lanes) -> [Estimate; LANES]);
for_each_isa!(run_score = score(packed: &[Lanes], query: &[f32], scale: &Lanes, bias: &Lanes) -> Lanes);

/// Compares the scores of touched rows with the targets, where they count.
struct TouchedComparison<'a, const FMA: bool> {
    touched: &'a TouchedRows,
    excluded: &'a [LaneMask],
    events: &'a [u32; LANES],
    targets: &'a Lanes,
    counts: RankCounts,
}

impl<const FMA: bool> Consumer for TouchedComparison<'_, FMA> {
    #[inline(always)]
    fn take(&mut self, row: usize, products: &Lanes) {
        let (scale, bias, sign) = (self.touched.scale[row], self.touched.bias[row], self.touched.sign[row]);
        let (after, until) = self.touched.span[row];
        let excluded = self.excluded[(after - self.touched.first_event) as usize];
        for lane in 0..LANES {
            let score = multiply_add::<FMA>(products[lane], scale, bias);
            let is_valid = i32::from(self.events[lane] > after) & i32::from(self.events[lane] <= until);
            let counts = is_valid & i32::from(excluded >> lane & 1 == 0);
            self.counts.above[lane] += sign * (counts & i32::from(score > self.targets[lane]));
            self.counts.equal[lane] += sign * (counts & i32::from(score == self.targets[lane]));
        }
    }
}

#[inline(always)]
fn count_touched_rows<const FMA: bool, const ROWS: usize>(
    packed: &[Lanes],
    touched: &TouchedRows,
    excluded: &[LaneMask],
    events: &[u32; LANES],
    targets: &Lanes,
    counts: &mut RankCounts,
) {
    let mut comparison = TouchedComparison::<FMA> { touched, excluded, events, targets, counts: *counts };
    for_rows::<FMA, ROWS>(packed, &touched.rows, touched.dim.max(1), &mut comparison);
    *counts = comparison.counts;
}

/// Writes scores down as they come.
struct ScoreSheet<'a, const FMA: bool> {
    items: ItemTile<'a>,
    scores: &'a mut [Lanes],
}

impl<const FMA: bool> Consumer for ScoreSheet<'_, FMA> {
    #[inline(always)]
    fn take(&mut self, row: usize, products: &Lanes) {
        let (scale, bias) = (self.items.scale[row], self.items.bias[row]);
        for lane in 0..LANES {
            self.scores[row][lane] = multiply_add::<FMA>(products[lane], scale, bias);
        }
    }
}

#[inline(always)]
fn scores_of_tile<const FMA: bool, const ROWS: usize>(packed: &[Lanes], items: ItemTile<'_>, scores: &mut [Lanes]) {
    let mut sheet = ScoreSheet::<FMA> { items, scores };
    for_rows::<FMA, ROWS>(packed, items.rows, packed.len(), &mut sheet);
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

#[inline(always)]
fn estimate<const FMA: bool, const ROWS: usize>(
    query: &[f32],
    rows: &[&[f32]],
    scale: &Lanes,
    bias: &Lanes,
) -> [Estimate; LANES] {
    let mut estimates = [Estimate::default(); LANES];
    let (query_blocks, query_rest) = query.as_chunks::<LANES>();
    for place in 0..rows.len().min(LANES) {
        let (row_blocks, row_rest) = rows[place].as_chunks::<LANES>();
        let (mut sums, mut sizes) = ([0.0; LANES], [0.0; LANES]);
        for block in 0..query_blocks.len().min(row_blocks.len()) {
            for lane in 0..LANES {
                let product: f32 = query_blocks[block][lane] * row_blocks[block][lane];
                sums[lane] += product;
                sizes[lane] += product.abs();
            }
        }
        for k in 0..query_rest.len().min(row_rest.len()) {
            let product = query_rest[k] * row_rest[k];
            sums[k] += product;
            sizes[k] += product.abs();
        }
        // Whatever the order, a sum of n products is off by n roundings of the sum of their sizes at most (Higham 2002, 3.1); here
        // are two such sums, and what the scale and the bias add.
        let roundings = (query.len() + LANES) as f32 * f32::EPSILON;
        estimates[place] = Estimate {
            score: sum(&sums) * scale[place] + bias[place],
            error: roundings * (sum(&sizes) * scale[place]).abs() + 2.0 * f32::EPSILON * bias[place].abs(),
        };
    }
    estimates
}
