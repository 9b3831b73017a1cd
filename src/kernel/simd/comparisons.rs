//! How the scores of rows compare with the targets of [`LANES`] queries.
//!
//! Every product is summed over the dimensions in their order, one multiply-add each, as those of [`super::super::dots`] are: so a
//! score is the same to the bit wherever it is computed. Products in bfloat16 only say which scores are not near a target.

use super::{SimdVector, for_each_vector};
use crate::kernel::ranking::{ItemTile, LaneMask, RankCounts};
use crate::kernel::{LANES, Lanes};

/// Between which scores an item may be on either side of each query's target.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Unclear {
    pub(in crate::kernel) from: Lanes,
    pub(in crate::kernel) to: Lanes,
}

/// The items that are compared.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct ChosenItems<'a> {
    /// Their places.
    pub(in crate::kernel) places: &'a [u32],
    /// By place, of all items: the queries with which an item is not compared.
    pub(in crate::kernel) excluded: &'a [LaneMask],
}

for_each_vector!(
    /// Adds to `places` those of the numbers that are not below `least`.
    choose = choose_body(numbers: &[f32], least: f32, places: &mut Vec<u32>)
);
for_each_vector!(
    /// Adds to `counts` how the scores of the `chosen` items compare with the `targets`. There may be 2²⁴ of them, which single
    /// precision counts.
    count = count_body(
        packed: &[Lanes],
        items: ItemTile<'_>,
        chosen: ChosenItems<'_>,
        targets: &Lanes,
        counts: &mut RankCounts,
    )
);
for_each_vector!(
    /// Adds to `n_above` how many of the `chosen` items, whose rows are pairs of numbers in bfloat16, score above what is `unclear`; the
    /// places of those with an unclear score for any query are added to `left`, and counted for none.
    screen = screen_body(
        packed: &[Lanes],
        items: ItemTile<'_>,
        chosen: ChosenItems<'_>,
        unclear: &Unclear,
        n_above: &mut [i32; LANES],
        left: &mut Vec<u32>,
    )
);
for_each_vector!(
    /// Pairs number k of each row with number `dim`/2 + k, in bfloat16.
    pair_halves = pair_halves_body(rows: &[f32], dim: usize, pairs: &mut [f32])
);

#[inline(always)]
fn count_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    packed: &[Lanes],
    items: ItemTile<'_>,
    chosen: ChosenItems<'_>,
    targets: &Lanes,
    counts: &mut RankCounts,
) {
    let ChosenItems { places, excluded } = chosen;
    for lane in (0..LANES).step_by(V::WIDTH) {
        let targets = V::load(&targets[lane..]);
        let (mut above, mut equal) = (V::splat(0.0), V::splat(0.0));
        for first in (0..places.len()).step_by(G * V2) {
            let rows = rows_from::<G, V2>(places, first);
            let scores = block::<V, false, G, V2>(packed, lane, items, &rows);
            for g in 0..G {
                for v in 0..V2 {
                    if first + g * V2 + v >= places.len() {
                        continue;
                    }
                    let mut score = scores[g][v];
                    let mask = excluded[rows[g][v]] >> lane;
                    if mask != 0 {
                        let mut numbers = [0.0; LANES];
                        score.store(&mut numbers);
                        exclude(&mut numbers, mask);
                        score = V::load(&numbers);
                    }
                    above = score.count_above(targets, above);
                    equal = score.count_equal(targets, equal);
                }
            }
        }
        let mut numbers = [[0.0; LANES]; 2];
        above.store(&mut numbers[0][lane..]);
        equal.store(&mut numbers[1][lane..]);
        for lane in lane..lane + V::WIDTH {
            counts.above[lane] += numbers[0][lane] as i32;
            counts.equal[lane] += numbers[1][lane] as i32;
        }
    }
}

#[inline(always)]
fn screen_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    packed: &[Lanes],
    items: ItemTile<'_>,
    chosen: ChosenItems<'_>,
    unclear: &Unclear,
    n_above: &mut [i32; LANES],
    left: &mut Vec<u32>,
) {
    let ChosenItems { places, excluded } = chosen;
    let mut counts = [0.0; LANES];
    let mut scores = [[[0.0; LANES]; V2]; G];
    for first in (0..places.len()).step_by(G * V2) {
        let rows = rows_from::<G, V2>(places, first);
        for lane in (0..LANES).step_by(V::WIDTH) {
            let of_lanes = block::<V, true, G, V2>(packed, lane, items, &rows);
            for g in 0..G {
                for v in 0..V2 {
                    of_lanes[g][v].store(&mut scores[g][v][lane..]);
                }
            }
        }
        for g in 0..G {
            for v in 0..V2 {
                if first + g * V2 + v >= places.len() {
                    continue;
                }
                // Bits of the queries whose target the score is above, and of those for which it is not clear.
                let compared = u32::from(!excluded[rows[g][v]]);
                let (mut is_above, mut is_unclear) = (0, 0);
                for lane in (0..LANES).step_by(V::WIDTH) {
                    let (from, to) = (V::load(&unclear.from[lane..]), V::load(&unclear.to[lane..]));
                    let score = V::load(&scores[g][v][lane..]);
                    let above = score.above(to);
                    is_above |= above << lane;
                    is_unclear |= (score.not_below(from) & !above) << lane;
                }
                if is_unclear & compared != 0 {
                    left.push(rows[g][v] as u32);
                    continue;
                }
                for lane in (0..LANES).step_by(V::WIDTH) {
                    let counts = &mut counts[lane..];
                    V::load(counts).one_more((is_above & compared) >> lane).store(counts);
                }
            }
        }
    }
    for lane in 0..LANES {
        n_above[lane] += counts[lane] as i32;
    }
}

/// Puts NaN in the lanes of `mask`: it compares neither above nor equal, so that nothing is counted there.
#[inline(always)]
fn exclude(scores: &mut Lanes, mask: LaneMask) {
    let mut left = mask;
    while left != 0 {
        scores[left.trailing_zeros() as usize] = f32::NAN;
        left &= left - 1;
    }
}

#[inline(always)]
fn choose_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    numbers: &[f32],
    least: f32,
    places: &mut Vec<u32>,
) {
    let mut place = 0;
    while place + V::WIDTH <= numbers.len() {
        let mut bits = V::load(&numbers[place..]).not_below(V::splat(least));
        if bits.count_ones() as usize == V::WIDTH {
            // Mostly no number of a vector is below, and all are added at once.
            places.extend(place as u32..(place + V::WIDTH) as u32);
            bits = 0;
        }
        while bits != 0 {
            places.push(place as u32 + bits.trailing_zeros());
            bits &= bits - 1;
        }
        place += V::WIDTH;
    }
    for rest in place..numbers.len() {
        let is_below = numbers[rest] < least;
        if !is_below {
            places.push(rest as u32);
        }
    }
}

#[inline(always)]
fn pair_halves_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    rows: &[f32],
    dim: usize,
    pairs: &mut [f32],
) {
    let half = dim / 2;
    for row in 0..rows.len() / dim {
        let (low, high) = rows[row * dim..][..2 * half].split_at(half);
        super::products::pair_body::<V, R, V1, G, V2>(low, high, &mut pairs[row * half..][..half]);
    }
}

/// The rows of a block, from the chosen one at `first` on; the last one again and again, where there are no more.
#[inline(always)]
fn rows_from<const G: usize, const V2: usize>(chosen: &[u32], first: usize) -> [[usize; V2]; G] {
    let mut rows = [[0; V2]; G];
    for g in 0..G {
        for v in 0..V2 {
            let place = first + g * V2 + v;
            rows[g][v] = chosen[if place < chosen.len() { place } else { chosen.len() - 1 }] as usize;
        }
    }
    rows
}

/// The scores of a block of rows for the queries from `lane` on: G × V2 sums, of one vector each, fill the registers.
#[inline(always)]
fn block<V: SimdVector, const PAIRS: bool, const G: usize, const V2: usize>(
    packed: &[Lanes],
    lane: usize,
    items: ItemTile<'_>,
    rows: &[[usize; V2]; G],
) -> [[V; V2]; G] {
    let dim = packed.len();
    let mut each = [[&[][..]; V2]; G];
    for g in 0..G {
        for v in 0..V2 {
            each[g][v] = &items.rows[rows[g][v] * dim..][..dim];
        }
    }
    let mut sums = [[V::splat(0.0); V2]; G];
    for k in 0..dim {
        let queries = V::load(&packed[k][lane..]);
        for g in 0..G {
            for v in 0..V2 {
                let number = V::splat(each[g][v][k]);
                sums[g][v] = super::products::add::<V, PAIRS>(sums[g][v], number, queries);
            }
        }
    }
    for g in 0..G {
        for v in 0..V2 {
            let (scale, bias) = (V::splat(items.scale[rows[g][v]]), V::splat(items.bias[rows[g][v]]));
            sums[g][v] = bias.add_product(sums[g][v], scale);
        }
    }
    sums
}
