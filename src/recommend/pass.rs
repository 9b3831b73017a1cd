//! One pass over a table for many queries at once: a chunk is read once and scored for all of them, unless none of its rows can be
//! among the best.

use rayon::prelude::*;

use super::shortlist::Shortlist;
use super::terms::{ItemTerms, RowTerms};
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{ItemTile, PackedQueries, score_tile};
use crate::kernel::rows::dot;
use crate::kernel::{Kernel, LANES, Lanes};
use crate::model::Model;
use crate::table::rows::{CHUNK, Rows};

/// Which part of the table is looked at first, for scores that the rest has to reach: one chunk in so many.
const HEAD: usize = 16;
/// More than what is computed of a score's parts is off by, as a share of it, or of 1.
const ROUNDING: f32 = 1e-3;

/// Rows, and what makes scores of products with them: `scale · query·row + bias`.
#[derive(Clone, Copy)]
pub(super) struct ScoredTable<'a> {
    pub(super) rows: &'a Rows,
    /// Of the rows that are looked at.
    pub(super) terms: &'a dyn RowTerms,
    /// Where it is known how long rows are: what may be passed over.
    pub(super) bounds: Option<&'a ScoreBounds>,
}

/// What scores the rows of a chunk can have at most: on a table of millions nearly all items are neither popular nor known well,
/// and their chunks are passed over.
#[derive(Debug)]
pub(super) struct ScoreBounds {
    /// By chunk: the largest bias of its rows.
    largest_bias: Vec<f32>,
    /// By chunk: the largest of `scale · ‖row‖`.
    longest: Vec<f32>,
    /// The chunks, those with the largest bias first.
    order: Vec<u32>,
}

/// How long a row times its factor is, by `1/√(n² + s²)`, n being its length ([`crate::model::shrunk`]): `√(1 − s²/(n² + s²))/τ`. `None`
/// where nothing tells, since similarity is the product.
pub(super) fn lengths_of(model: &Model) -> Option<impl Fn(f32) -> f32 + Sync + use<>> {
    let (inverse_temperature, shrinkage) = (model.inverse_temperature(), model.shrinkage);
    let length = move |norm: f32| inverse_temperature * ((1.0 - shrinkage * norm * norm).max(0.0).sqrt() + ROUNDING);
    model.is_cosine().then_some(length)
}

/// The products of each of `rows`, one behind the other, with up to [`LANES`] vectors of `dim` numbers.
pub(super) fn dense_scores<'a>(
    kernel: Kernel,
    vectors: impl Iterator<Item = &'a [f32]>,
    dim: usize,
    rows: &[f32],
    mut take: impl FnMut(usize, &Lanes),
) {
    let (mut packed, mut scores) = (PackedQueries::default(), Vec::new());
    packed.pack(vectors, dim);
    for (number, rows) in rows.chunks(CHUNK * dim).enumerate() {
        let n_rows = rows.len() / dim;
        let items = ItemTile { rows, scale: &[1.0; CHUNK][..n_rows], bias: &[0.0; CHUNK][..n_rows] };
        score_tile(kernel, &packed, items, &mut scores);
        scores.iter().enumerate().for_each(|(row, scores)| take(number * CHUNK + row, scores));
    }
}

impl ScoreBounds {
    /// Of a model's items with these terms; `None` where it is not known how long their rows are.
    pub(super) fn of(model: &Model, terms: &ItemTerms<'_>) -> Option<Self> {
        let length = lengths_of(model)?;
        let (largest_bias, longest): (Vec<f32>, Vec<f32>) =
            terms.by_chunk().map(|(largest, least)| (largest, length(least))).unzip();
        let mut order: Vec<u32> = (0..largest_bias.len() as u32).collect();
        order.sort_by(|a, b| largest_bias[*b as usize].total_cmp(&largest_bias[*a as usize]));
        Some(Self { largest_bias, longest, order })
    }

    /// Whether no row of `chunk` has a score of `least` with a query of this `length`.
    #[inline]
    fn is_beyond(&self, chunk: usize, length: f32, least: f32) -> bool {
        let (bias, similarity) = (self.largest_bias[chunk], self.longest[chunk] * length);
        bias + similarity + ROUNDING * (1.0 + bias.abs() + similarity) < least
    }
}

/// What a thread works with.
struct PassScratch {
    rows: Aligned<f32>,
    scale: [f32; CHUNK],
    bias: [f32; CHUNK],
    scores: Vec<Lanes>,
    /// The chunk whose terms these are.
    filled: Option<usize>,
}

impl Default for PassScratch {
    fn default() -> Self {
        Self { rows: Aligned::default(), scale: [0.0; CHUNK], bias: [0.0; CHUNK], scores: Vec::new(), filled: None }
    }
}

/// The best rows for each of `queries`, as many as `lengths` says; those that `skips` (place of the query, row) are left out.
pub(super) fn best_of_table(
    kernel: Kernel,
    table: ScoredTable<'_>,
    queries: &[&[f32]],
    lengths: &[usize],
    skips: impl Fn(usize, u32) -> bool + Sync,
) -> Vec<Shortlist> {
    let none = || lengths.iter().map(|k| Shortlist::new(*k)).collect::<Vec<Shortlist>>();
    let mut best = none();
    if lengths.iter().all(|k| *k == 0) {
        return best;
    }
    let (dim, n_rows) = (table.rows.dim(), table.terms.n_rows());
    let in_order: Vec<u32>;
    let chunks: &[u32] = match table.bounds {
        Some(bounds) => &bounds.order,
        None => {
            in_order = (0..n_rows.div_ceil(CHUNK) as u32).collect();
            &in_order
        }
    };
    let merge = |a: Vec<Shortlist>, b: Vec<Shortlist>| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect();
    let tile = |queries: &[&[f32]]| {
        let mut packed = PackedQueries::default();
        packed.pack(queries.iter().copied(), dim);
        (packed, queries.iter().map(|query| dot(query, query).sqrt()).collect::<Vec<f32>>())
    };
    let tiles: Vec<_> = queries.chunks(LANES).map(tile).collect();
    let (head, rest) = chunks.split_at(chunks.len().div_ceil(HEAD));
    for chunks in [head, rest] {
        // What a row of this part needs at least, for each query.
        let floor: Vec<f32> = best.iter_mut().map(Shortlist::settle).collect();
        let begin = || (none(), PassScratch::default());
        let fold = |(mut best, mut scratch): (Vec<Shortlist>, PassScratch), chunk: &u32| {
            let chunk = *chunk as usize;
            let of_tiles = tiles.iter().zip(floor.chunks(LANES)).zip(best.chunks_mut(LANES));
            for (tile, (((packed, norms), floor), best)) in of_tiles.enumerate() {
                // What every lane asks for; those without a query ask for nothing.
                let mut least = [f32::INFINITY; LANES];
                for lane in 0..best.len() {
                    least[lane] = floor[lane].max(best[lane].least());
                }
                let is_beyond = |bounds: &ScoreBounds| {
                    norms.iter().zip(least).all(|(length, least)| bounds.is_beyond(chunk, *length, least))
                };
                if table.bounds.is_some_and(is_beyond) {
                    continue;
                }
                let first = chunk * CHUNK;
                let PassScratch { rows, scale, bias, scores, filled } = &mut scratch;
                let rows = table.rows.chunk(chunk, rows);
                let n_items = (rows.len() / dim).min(n_rows.saturating_sub(first));
                let (scale, bias) = (&mut scale[..n_items], &mut bias[..n_items]);
                if *filled != Some(chunk) {
                    table.terms.fill(first, scale, bias);
                    *filled = Some(chunk);
                }
                score_tile(kernel, packed, ItemTile { rows: &rows[..n_items * dim], scale, bias }, scores);
                for (item, scores) in (first as u32..).zip(&*scores) {
                    // All lanes at once, since nearly all items are below all of them.
                    if !any_reaches(scores, &least) {
                        continue;
                    }
                    for (lane, best) in best.iter_mut().enumerate() {
                        if scores[lane] >= least[lane] && !skips(tile * LANES + lane, item) {
                            best.push(scores[lane], item);
                            least[lane] = floor[lane].max(best.least());
                        }
                    }
                }
            }
            (best, scratch)
        };
        let found = chunks.par_iter().fold(begin, fold).map(|(best, _)| best).reduce(none, merge);
        best = merge(best, found);
    }
    best
}

/// Whether any score is at least what its lane asks for.
#[inline]
fn any_reaches(scores: &Lanes, least: &[f32; LANES]) -> bool {
    let mut any = false;
    for lane in 0..LANES {
        any |= scores[lane] >= least[lane];
    }
    any
}
