//! One pass over a table for many queries at once: a chunk is read once and scored for all of them.

use rayon::prelude::*;

use super::shortlist::Shortlist;
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{ItemTile, PackedQueries, score_tile};
use crate::kernel::{Kernel, LANES, Lanes};
use crate::table::rows::{CHUNK, Rows};

/// Rows, and what makes scores of products with them: `scale · query·row + bias`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScoredTable<'a> {
    pub(super) rows: &'a Rows,
    /// By row; as many are looked at.
    pub(super) scale: &'a [f32],
    pub(super) bias: &'a [f32],
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
    if lengths.iter().all(|k| *k == 0) {
        return none();
    }
    let (dim, n_rows) = (table.rows.dim(), table.scale.len());
    let pack = |queries: &[&[f32]]| {
        let mut packed = PackedQueries::default();
        packed.pack(queries.iter().copied(), dim);
        packed
    };
    let tiles: Vec<PackedQueries> = queries.chunks(LANES).map(pack).collect();
    let begin = || (none(), Aligned::default(), Vec::new());
    let fold = |(mut best, mut scratch, mut scores): (Vec<Shortlist>, Aligned<f32>, Vec<Lanes>), chunk: usize| {
        let first = chunk * CHUNK;
        let rows = table.rows.chunk(chunk, &mut scratch);
        let n_items = (rows.len() / dim).min(n_rows.saturating_sub(first));
        let items = ItemTile {
            rows: &rows[..n_items * dim],
            scale: &table.scale[first..first + n_items],
            bias: &table.bias[first..first + n_items],
        };
        for (tile, (packed, best)) in tiles.iter().zip(best.chunks_mut(LANES)).enumerate() {
            score_tile(kernel, packed, items, &mut scores);
            // What every lane asks for; those without a query ask for nothing.
            let mut least = [f32::INFINITY; LANES];
            least.iter_mut().zip(best.iter()).for_each(|(least, best)| *least = best.least());
            for (item, scores) in (first as u32..).zip(&scores) {
                // All lanes at once, since nearly all items are below all of them.
                if !any_reaches(scores, &least) {
                    continue;
                }
                for (lane, best) in best.iter_mut().enumerate() {
                    if best.takes(scores[lane]) && !skips(tile * LANES + lane, item) {
                        best.push(scores[lane], item);
                        least[lane] = best.least();
                    }
                }
            }
        }
        (best, scratch, scores)
    };
    let merge = |a: Vec<Shortlist>, b: Vec<Shortlist>| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect();
    let of_chunks = (0..n_rows.div_ceil(CHUNK)).into_par_iter().fold(begin, fold);
    of_chunks.map(|(best, _, _)| best).reduce(none, merge)
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
