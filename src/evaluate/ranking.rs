//! The rank of each event's item, under the model and under the baselines, as things stood just before the event: exact among the
//! first [`K`], beyond which no figure asks for it.

use std::ops::Range;

use rayon::prelude::*;

use super::K;
use super::exclusions::{CountingOrder, ExcludedItem, TileExclusions};
use super::history::{BatchHistory, Frame, NEVER};
use super::popularity::PopularityOrder;
use super::single_items::{PlainScores, SingleItems, SingleItemsByThread};
use crate::context::Batch;
use crate::context::users::UserHistories;
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{
    Comparer, ItemTile, LaneMask, PackedQueries, RankCounts, Targets, TouchedRows, count_touched,
};
use crate::kernel::rows::dot;
use crate::kernel::{Kernel, LANES};
use crate::model::Model;
use crate::model::encoder::Encoded;
use crate::negatives::frequency::Frequencies;
use crate::table::rows::CHUNK;

/// Weight of popularity beside a user's own history, as a share: it decides between items that the user had equally often,
/// and among all others.
const OWN_HISTORY_POPULARITY: f64 = 1e-3;

/// More than a product of two rows is off by, as a share of the product of their lengths; and than a sum is of its parts.
const ROUNDING: f32 = 1e-3;

/// Up to which part of the table (one in so many chunks) queries are compared, before those that are settled leave.
const SHARES_OF_TABLE: [usize; 3] = [16, 4, 1];

/// How one event fared; the ranks are `None` where its item was never seen before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The event's number on the stream, counting positives from 0.
    pub number: u64,
    /// Its rank under the model, from 0; ties count half. Exact below [`K`]; what is certain to be beyond is infinite.
    pub model: Option<f64>,
    /// Its rank under decayed popularity, likewise.
    pub popularity: Option<f64>,
    /// Its rank under the user's own history, where items may recur.
    pub own_history: Option<f64>,
    /// How often its item came before.
    pub occurrences: u64,
}

impl Ranked {
    /// Event `number`, whose item was never seen before, or has no row.
    pub fn missed(number: u64) -> Self {
        Self { number, model: None, popularity: None, own_history: None, occurrences: 0 }
    }
}

/// What ranking reads of the worker's state.
#[derive(Debug, Clone, Copy)]
pub struct ModelView<'a> {
    /// The model as it stands before the batch.
    pub model: &'a Model,
    /// What the batch's events change for one another.
    pub history: &'a BatchHistory,
    /// The frequencies after the batch.
    pub frequencies: &'a Frequencies,
    /// The order of popularity before the batch.
    pub popularity: &'a PopularityOrder,
    /// The users' histories, for their own items.
    pub histories: &'a UserHistories,
    /// Items may recur.
    pub repeat: bool,
    /// Items carry ρ and κ.
    pub history_terms: bool,
}

impl<'a> ModelView<'a> {
    /// The items that leave the ranking of query `query` of `batch`, some perhaps several times; but for its target, which may be among
    /// them.
    pub(super) fn excluded(&self, batch: &Batch, query: usize) -> &'a [u32] {
        if self.repeat { &[] } else { self.histories.own(batch, query) }
    }
}

/// Buffers of a batch's ranking: what is as long as the table is kept from batch to batch.
#[derive(Debug, Default)]
pub struct Ranking {
    /// By item: factor of the dot product.
    scale: Vec<f32>,
    /// By chunk of the table: whether its items are compared by products in bfloat16 where these can tell.
    is_screened: Vec<bool>,
    /// In which order the chunks are counted.
    order: CountingOrder,
    /// By frame: the rows that its events touched.
    touched: Vec<TouchedRows>,
    singles: SingleItemsByThread,
}

/// A query that is ranked.
#[derive(Debug)]
struct Asked {
    query: usize,
    /// Its event in the batch.
    event: u32,
    /// The place of the event's frame.
    frame: usize,
    /// The target's score, with its terms; `None` where it was never seen before the event.
    target: Option<f32>,
    /// What popularity term an item needs at least for a plain score as high as the target's, however like the query it is; −∞
    /// where that cannot be told.
    least_bias: f32,
    /// How far from the true score the one by products in bfloat16 may be.
    margin: f32,
    /// How many items have a score below their plain one, and the target, at most.
    n_lowered: usize,
}

impl Asked {
    /// Whether the target is certain to be beyond the first [`K`], where `above` items were counted.
    fn is_beyond(&self, above: i64) -> bool {
        above - self.n_lowered as i64 >= K as i64
    }
}

impl Ranking {
    /// Ranks the queries `chosen` of `batch`, in order; query `i` is row `i` of `encoded`.
    pub fn rank(
        &mut self,
        kernel: Kernel,
        view: ModelView<'_>,
        batch: &Batch,
        chosen: &[usize],
        encoded: &Encoded,
    ) -> Vec<Ranked> {
        if chosen.is_empty() {
            return Vec::new();
        }
        let Self { scale, is_screened, order, touched, singles } = self;
        singles.begin(rayon::current_num_threads());
        let inverse_temperature = view.model.inverse_temperature();
        scale.resize(view.model.inverse_norms.len(), 0.0);
        is_screened.resize(scale.len().div_ceil(CHUNK), false);
        let screens = kernel.multiplies_bf16() && view.model.is_cosine() && view.model.dim().is_multiple_of(2);
        scale.par_chunks_mut(CHUNK).zip(is_screened.par_iter_mut()).enumerate().for_each(
            |(chunk, (scale, is_screened))| {
                let norms = &view.model.inverse_norms[chunk * CHUNK..];
                scale.iter_mut().zip(norms).for_each(|(scale, norm)| *scale = norm * inverse_temperature);
                let limit = Comparer::LARGEST_SCALE * inverse_temperature;
                *is_screened = screens && scale.iter().all(|scale| *scale <= limit);
            },
        );
        let frames: Vec<_> = view.history.frames().collect();
        let screens_any = is_screened.contains(&true);
        let touches = view.history.touches();
        let that_touched = view.history.touched(0, touches.len() as u32);
        let of_batch = that_touched.map(|event| touches[event as usize].item);
        order.set(chunks_by_popularity(&frames), scale.len(), of_batch);
        let pass =
            RankingPass { kernel, view, batch, encoded, scale, is_screened, screens_any, order, frames: &frames };
        let asked: Vec<Asked> =
            chosen.par_iter().map_init(Default::default, |scratch, query| pass.ask(*query, scratch)).collect();
        touched.resize_with(touched.len().max(frames.len()), TouchedRows::default);
        touched.par_iter_mut().zip(&frames).for_each(|(touched, frame)| pass.touch(frame, touched));
        let counts = pass.count(&asked, touched);
        let places = (0..asked.len()).into_par_iter();
        places.map(|place| pass.rank(&asked[place], counts[place], &mut singles.of_thread())).collect()
    }
}

/// What the ranking of a batch reads.
#[derive(Debug, Clone, Copy)]
struct RankingPass<'a> {
    kernel: Kernel,
    view: ModelView<'a>,
    batch: &'a Batch,
    encoded: &'a Encoded,
    /// By item: factor of the dot product.
    scale: &'a [f32],
    /// By chunk of the table: whether its items are compared by products in bfloat16 first.
    is_screened: &'a [bool],
    /// Whether any chunk is, so that queries have to be rounded.
    screens_any: bool,
    order: &'a CountingOrder,
    /// The frames of which any event is ranked, each with its events.
    frames: &'a [(&'a Frame, Range<u32>)],
}

impl<'a> RankingPass<'a> {
    fn vector(&self, query: usize) -> &'a [f32] {
        &self.encoded.scored_row(query)[..self.view.model.dim()]
    }

    fn plain_scores(&self, query: usize, frame: usize) -> PlainScores<'a> {
        let Self { kernel, view: ModelView { model, history, .. }, batch, scale, frames, .. } = *self;
        let event = batch.with_context[query];
        PlainScores { kernel, model, history, frame: frames[frame].0, scale, event, query: self.vector(query) }
    }

    fn ask(&self, query: usize, scratch: &mut (PackedQueries, Vec<f32>)) -> Asked {
        let Self { view, batch, frames, .. } = *self;
        let event = batch.with_context[query];
        let frame = frames.partition_point(|(_, events)| events.end <= event);
        let target = view.history.touches()[event as usize].is_known.then(|| {
            self.plain_scores(query, frame).of(&[batch.positive(query)], &mut scratch.0, &mut scratch.1);
            scratch.1[0] + target_term(view, batch, query)
        });
        let similarity = self.largest_similarity(query);
        let least_bias = target.map_or(f32::INFINITY, |target| target - similarity);
        let margin = self.margin(similarity, target.unwrap_or(0.0));
        // The target itself may be one.
        let n_lowered = 1 + self.n_negative_terms(query);
        Asked { query, event, frame, target, least_bias, margin, n_lowered }
    }

    /// Of the queries at `places` of `asked`, the items that leave their rankings, and their targets.
    fn excluded(&self, asked: &[Asked], places: &[usize]) -> impl Iterator<Item = (&'a [u32], u32)> {
        let queries = places.iter().map(|place| asked[*place].query);
        queries.map(|query| (self.view.excluded(self.batch, query), self.batch.positive(query)))
    }

    /// How many ρ and κ of a query are below 0, or no number.
    fn n_negative_terms(&self, query: usize) -> usize {
        let Self { view: ModelView { model, repeat, history_terms, .. }, batch, .. } = *self;
        if !history_terms {
            return 0;
        }
        let related = batch.related(query).iter().map(|related| model.cooccurrence.term(related.buckets));
        let own = batch.own(query).iter().map(|own| model.repetition.term(own.buckets));
        let is_negative = |term: &f32| *term < 0.0 || term.is_nan();
        related.filter(is_negative).count() + if repeat { own.filter(is_negative).count() } else { 0 }
    }

    /// What similarity adds to a score at most: items have vectors of length 1 at most, but for rounding.
    fn largest_similarity(&self, query: usize) -> f32 {
        let model = self.view.model;
        if !model.is_cosine() {
            return f32::INFINITY;
        }
        let vector = self.vector(query);
        dot(vector, vector).sqrt() * model.inverse_temperature() * (1.0 + ROUNDING)
    }

    /// How far a score near `target` may be from the one by products in bfloat16, where similarity is `similarity` at most: the error
    /// of the product, for queries of length 0 too, and what adding the popularity term rounds.
    fn margin(&self, similarity: f32, target: f32) -> f32 {
        let model = self.view.model;
        let least = model.inverse_temperature() / Comparer::LARGEST_SCALE;
        let of_product = (similarity + least) * Comparer::error(model.dim());
        (of_product + 4.0 * f32::EPSILON * (target.abs() + of_product)) * (1.0 + ROUNDING)
    }

    /// Lists what the events of a frame touched: before a later one, it is not as it was when the frame's terms were computed.
    fn touch(&self, (frame, events): &(&Frame, Range<u32>), touched: &mut TouchedRows) {
        let Self { view: ModelView { model, history, .. }, scale, .. } = *self;
        let vectors = model.vectors();
        touched.clear(model.dim(), events.start);
        for event in history.touched(events.start, events.end) {
            let touch = &history.touches()[event as usize];
            let row = touch.item as usize;
            let is_first_of_frame = touch.previous == NEVER || touch.previous < frame.first_event;
            if is_first_of_frame && row < frame.n_known {
                touched.push_outdated(vectors.row(row), scale[row], frame.bias[row], (event, NEVER));
            }
            touched.push_current(vectors.row(row), scale[row], touch.bias, (event, touch.next));
        }
    }

    /// Of each query, how many known items of its ranking have a plain score above the target's, and how many the same: of all items, or
    /// of so many that it is certain to be beyond the first [`K`].
    fn count(&self, asked: &[Asked], touched: &[TouchedRows]) -> Vec<(i64, i64)> {
        let chunks = self.order.chunks();
        let mut ends = SHARES_OF_TABLE.map(|share| chunks.len().div_ceil(share)).to_vec();
        ends.dedup();
        let mut open: Vec<usize> = (0..asked.len()).filter(|place| asked[*place].target.is_some()).collect();
        let mut counts = vec![(0, 0); asked.len()];
        let mut begin = 0;
        for (round, end) in ends.into_iter().enumerate() {
            // Whoever needs about the same is in one tile, which passes over what none of them needs.
            open.sort_by(|a, b| {
                let (a, b) = (&asked[*a], &asked[*b]);
                a.frame.cmp(&b.frame).then(a.least_bias.total_cmp(&b.least_bias))
            });
            let of_frames = open.chunk_by(|a, b| asked[*a].frame == asked[*b].frame);
            let places: Vec<&[usize]> = of_frames.flat_map(|places| places.chunks(LANES)).collect();
            let tile = |found: &mut Vec<ExcludedItem>, places: &&[usize]| self.tile(asked, places, begin..end, found);
            let tiles: Vec<Tile> = places.par_iter().map_init(Vec::new, tile).collect();
            let none = || vec![RankCounts::default(); tiles.len()];
            let fold = |(mut counts, mut scratch): (Vec<RankCounts>, ChunkScratch), (place, chunk): (usize, &u32)| {
                self.count_chunk((place, *chunk as usize), &tiles, &mut counts, &mut scratch);
                (counts, scratch)
            };
            let add = |mut a: Vec<RankCounts>, b: Vec<RankCounts>| {
                a.iter_mut().zip(&b).for_each(|(a, b)| a.add(b));
                a
            };
            let of_chunks = chunks[begin..end].par_iter().enumerate().fold(|| (none(), ChunkScratch::default()), fold);
            let mut found = of_chunks.map(|(counts, _)| counts).reduce(none, add);
            if round == 0 {
                let of_tiles = tiles.par_iter().zip(&places).zip(&mut found);
                of_tiles.for_each_init(Vec::new, |own, ((tile, places), counts)| {
                    let Tile { frame, queries, events, targets, .. } = tile;
                    let of_frame = self.frames[*frame].1.clone();
                    let touches = |item: u32| self.view.history.touches_of(item);
                    let excluded = self.order.masks_of_touched(of_frame, touches, self.excluded(asked, places), own);
                    count_touched(self.kernel, queries, &touched[*frame], &excluded, events, &targets.scores, counts);
                });
            }
            for (places, found) in places.iter().zip(&found) {
                for (lane, place) in places.iter().enumerate() {
                    let (above, equal) = &mut counts[*place];
                    *above += i64::from(found.above[lane]);
                    *equal += i64::from(found.equal[lane]);
                }
            }
            // Most are settled by the most popular items, and have no need of the others.
            open.retain(|place| !asked[*place].is_beyond(counts[*place].0));
            if open.is_empty() {
                break;
            }
            begin = end;
        }
        counts
    }

    /// The queries at `places` of `asked`, which are of one frame, to be compared with `chunks` in their order. `found` is a buffer.
    fn tile(&self, asked: &[Asked], places: &[usize], chunks: Range<usize>, found: &mut Vec<ExcludedItem>) -> Tile {
        let least_bias = places.iter().map(|place| asked[*place].least_bias).fold(f32::INFINITY, f32::min);
        let least_bias = least_bias - ROUNDING * (1.0 + least_bias.abs());
        let frame = asked[places[0]].frame;
        let targets = Targets { least_bias, ..Targets::default() };
        let exclusions = TileExclusions::of(self.order, chunks, self.excluded(asked, places), found);
        let mut tile = Tile { frame, targets, exclusions, ..Tile::default() };
        tile.queries.pack(places.iter().map(|place| self.vector(asked[*place].query)), self.view.model.dim());
        for (lane, place) in places.iter().enumerate() {
            let Asked { event, target, margin, .. } = &asked[*place];
            tile.events[lane] = *event;
            tile.targets.scores[lane] = target.unwrap_or(f32::INFINITY);
            tile.targets.margins[lane] = *margin;
        }
        if self.screens_any {
            tile.queries.round(self.kernel);
        }
        tile
    }

    /// Compares a chunk of the table, the one at `place` of those that are counted, with all tiles: with 64 dimensions it fills a
    /// quarter of a small second-level cache.
    fn count_chunk(
        &self,
        (place, chunk): (usize, usize),
        tiles: &[Tile],
        counts: &mut [RankCounts],
        scratch: &mut ChunkScratch,
    ) {
        let Self { kernel, view: ModelView { model, .. }, scale, is_screened, frames, .. } = *self;
        let ChunkScratch { rows, comparer, masks } = scratch;
        let (first, rows) = (chunk * CHUNK, model.vectors().chunk(chunk, rows));
        comparer.begin();
        for (tile, counts) in tiles.iter().zip(counts) {
            let frame = frames[tile.frame].0;
            if frame.largest_bias.get(chunk).is_none_or(|largest| *largest < tile.targets.least_bias) {
                continue;
            }
            let n_items = (rows.len() / model.dim()).min(frame.n_known - first);
            let items = ItemTile {
                rows: &rows[..n_items * model.dim()],
                scale: &scale[first..first + n_items],
                bias: &frame.bias[first..first + n_items],
            };
            if is_screened[chunk] {
                comparer.round(kernel, rows, model.dim());
            }
            tile.exclusions.in_chunk(place, masks, |excluded| {
                comparer.count(kernel, &tile.queries, items, excluded, &tile.targets, counts);
            });
        }
    }

    /// How a query fared, of which [`Self::count`] has counted the items.
    fn rank(&self, asked: &Asked, (above, equal): (i64, i64), single: &mut SingleItems) -> Ranked {
        let Self { view, batch, .. } = *self;
        let Asked { query, event, frame, target, .. } = *asked;
        let (number, touch) = (batch.numbers[event as usize], &view.history.touches()[event as usize]);
        let Some(target) = target else { return Ranked::missed(number) };
        let of_model = match target.is_nan() || asked.is_beyond(above) {
            // Nothing compares with a number that is none: no rank is better than that.
            true => f64::INFINITY,
            false => single.rank(view, batch, query, self.plain_scores(query, frame), target, (above, equal)),
        };
        Ranked {
            number,
            model: Some(of_model),
            popularity: Some(popularity_rank(view, single, batch, query, event)),
            own_history: view.repeat.then(|| own_history_rank(view, batch, query, event)),
            occurrences: touch.occurrences,
        }
    }
}

/// Up to [`LANES`] queries of one frame.
#[derive(Debug, Default)]
struct Tile {
    /// The place of the frame.
    frame: usize,
    queries: PackedQueries,
    targets: Targets,
    events: [u32; LANES],
    exclusions: TileExclusions,
}

/// What a thread works with while it compares chunks of the table.
#[derive(Debug)]
struct ChunkScratch {
    /// The rows of a chunk, where they do not lie side by side.
    rows: Aligned<f32>,
    comparer: Comparer,
    /// By item of a chunk: the queries of a tile whose ranking it leaves.
    masks: [LaneMask; CHUNK],
}

impl Default for ChunkScratch {
    fn default() -> Self {
        Self { rows: Aligned::default(), comparer: Comparer::default(), masks: [0; CHUNK] }
    }
}

/// The chunks of the table that hold the items known in `frames`, those with the most popular ones first.
fn chunks_by_popularity(frames: &[(&Frame, Range<u32>)]) -> Vec<u32> {
    // Of frames, the last one has the most items.
    let Some((Frame { largest_bias, .. }, _)) = frames.last() else { return Vec::new() };
    let mut chunks: Vec<u32> = (0..largest_bias.len() as u32).collect();
    chunks.sort_by(|a, b| largest_bias[*b as usize].total_cmp(&largest_bias[*a as usize]));
    chunks
}

/// The terms ρ and κ of the target of query `query`.
fn target_term(view: ModelView<'_>, batch: &Batch, query: usize) -> f32 {
    if !view.history_terms {
        return 0.0;
    }
    let positive = batch.positive(query);
    let own = batch.own(query).iter().find(|own| view.repeat && own.item == positive);
    let related = batch.related(query).iter().find(|related| related.item == positive);
    let repetition = own.map_or(0.0, |own| view.model.repetition.term(own.buckets));
    repetition + related.map_or(0.0, |related| view.model.cooccurrence.term(related.buckets))
}

/// The rank under decayed popularity: of all known items, without the user's own where those leave the ranking.
fn popularity_rank(view: ModelView<'_>, single: &mut SingleItems, batch: &Batch, query: usize, event: u32) -> f64 {
    let ModelView { model, history, frequencies, popularity, .. } = view;
    let counts = frequencies.popularity().relative();
    let target = history.touches()[event as usize].count_before;
    let (mut above, mut equal) = history.compare(popularity, event, target);
    equal -= 1;
    let excluded = view.excluded(batch, query);
    let mut is_first = single.firsts(model.inverse_norms.len());
    for (passed, item) in excluded.iter().enumerate() {
        // However many of the others leave, the target stays beyond the first `K`.
        if above - (excluded.len() - passed) as i64 >= K as i64 {
            return f64::INFINITY;
        }
        if *item != batch.positive(query) && is_first(*item) {
            let count = history.count(counts, *item, event);
            above -= i64::from(count > target);
            equal -= i64::from(count == target);
        }
    }
    above as f64 + equal as f64 / 2.0
}

/// The rank under the user's own history: how often the user had an item, decayed, plus [`OWN_HISTORY_POPULARITY`] times its
/// share of decayed popularity.
fn own_history_rank(view: ModelView<'_>, batch: &Batch, query: usize, event: u32) -> f64 {
    let ModelView { history, frequencies, popularity, .. } = view;
    let counts = frequencies.popularity().relative();
    let touch = &history.touches()[event as usize];
    // In units of the popularity: one comparison is of counts alone, and exact.
    let unit = touch.total_before / OWN_HISTORY_POPULARITY;
    let own = batch.own(query);
    let positive = batch.positive(query);
    let of_positive = own.iter().find(|own| own.item == positive).map_or(0.0, |own| own.count * unit);
    let target = of_positive + touch.count_before;
    let (mut above, mut equal) = history.compare(popularity, event, target);
    if of_positive == 0.0 {
        // The target itself; with a history of its own, it is above its count.
        equal -= 1;
    }
    for own in own.iter().filter(|own| own.item != positive) {
        let count = history.count(counts, own.item, event);
        let score = own.count * unit + count;
        above += i64::from(score > target) - i64::from(count > target);
        equal += i64::from(score == target) - i64::from(count == target);
    }
    above as f64 + equal as f64 / 2.0
}
