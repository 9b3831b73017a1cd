//! The exact rank of each event's item, under the model and under the baselines, as things stood just before the event.

use rayon::prelude::*;

use super::history::{BatchHistory, Frame, NEVER};
use super::popularity::PopularityOrder;
use crate::context::Batch;
use crate::context::users::UserHistories;
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{
    ItemTile, PackedQueries, RankCounts, TouchedRows, count_above, count_touched, score_items,
};
use crate::kernel::{Kernel, LANES};
use crate::model::Model;
use crate::model::encoder::Encoded;
use crate::negatives::frequency::Frequencies;
use crate::table::rows::CHUNK;

/// Weight of popularity beside a user's own history, as a share: it decides between items that the user had equally often,
/// and among all others.
const OWN_HISTORY_POPULARITY: f64 = 1e-3;

/// How one event fared; the ranks are `None` where its item was never seen before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The event's number on the stream, counting positives from 0.
    pub number: u64,
    /// Its rank under the model, from 0; ties count half.
    pub model: Option<f64>,
    /// Its rank under decayed popularity.
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
    /// Own items carry ρ.
    pub repetition: bool,
}

/// Buffers of a batch's ranking: what is as long as the table is kept from batch to batch.
#[derive(Debug, Default)]
pub struct Ranking {
    /// By item: factor of the dot product.
    scale: Vec<f32>,
    touched: TouchedRows,
}

/// A query that is ranked.
#[derive(Debug)]
struct Asked {
    query: usize,
    /// Its event in the batch.
    event: u32,
    own: OwnItems,
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
        let Self { scale, touched } = self;
        let inverse_temperature = view.model.inverse_temperature();
        scale.resize(view.model.inverse_norms.len(), 0.0);
        scale.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, scale)| {
            let norms = &view.model.inverse_norms[chunk * CHUNK..];
            scale.iter_mut().zip(norms).for_each(|(scale, norm)| *scale = norm * inverse_temperature);
        });
        let mut chosen = chosen.iter().copied().peekable();
        let mut ranked = Vec::with_capacity(batch.n_queries());
        for (frame, events) in view.history.frames() {
            let in_frame = std::iter::from_fn(|| chosen.next_if(|query| events.contains(&batch.with_context[*query])));
            let queries: Vec<usize> = in_frame.collect();
            if !queries.is_empty() {
                rank_frame(kernel, view, batch, frame, &queries, encoded, (scale, touched), &mut ranked);
            }
        }
        ranked
    }
}

/// Ranks queries whose events are all of one frame.
#[expect(clippy::too_many_arguments, reason = "the parts of one computation, each of another owner")]
fn rank_frame(
    kernel: Kernel,
    view: ModelView<'_>,
    batch: &Batch,
    frame: &Frame,
    queries: &[usize],
    encoded: &Encoded,
    (scale, touched): (&[f32], &mut TouchedRows),
    ranked: &mut Vec<Ranked>,
) {
    let ModelView { model, history, .. } = view;
    let dim = model.dim();
    let vector = |query: usize| &encoded.normalized.row(query)[..dim];

    // The targets' own scores, with ρ where it applies, and what has to be taken back from the plain count.
    let ask = |scratch: &mut (PackedQueries, Vec<f32>), query: &usize| {
        let event = batch.with_context[*query];
        let mut own = OwnItems::default();
        if history.touches()[event as usize].is_known {
            own = OwnItems::of(view, batch, *query);
            let single = |item: &u32| {
                (model.vectors().row(*item as usize), scale[*item as usize], history.bias(frame, *item, event))
            };
            score_items(kernel, vector(*query), own.items.iter().map(single), &mut scratch.0, &mut scratch.1);
            own.scores.clone_from(&scratch.1);
            own.target = own.scores[0] + own.terms[0];
        }
        Asked { query: *query, event, own }
    };
    let asked: Vec<Asked> = queries.par_iter().map_init(<(PackedQueries, Vec<f32>)>::default, ask).collect();
    let tiles: Vec<Tile> = asked
        .par_chunks(LANES)
        .map(|asked| {
            let mut tile = Tile::default();
            tile.queries.pack(asked.iter().map(|asked| vector(asked.query)), dim);
            tile.targets = [f32::INFINITY; LANES];
            for (lane, Asked { event, own, .. }) in asked.iter().enumerate() {
                tile.events[lane] = *event;
                if own.is_known() {
                    tile.targets[lane] = own.target;
                }
            }
            tile
        })
        .collect();

    // A chunk of the table at a time: with 64 dimensions it fills a quarter of a small second-level cache.
    let vectors = model.vectors();
    let none = || vec![RankCounts::default(); tiles.len()];
    let with_scratch = || (none(), Aligned::default());
    let mut counts = (0..frame.n_known.div_ceil(CHUNK))
        .into_par_iter()
        .fold(with_scratch, |(mut counts, mut scratch), chunk| {
            let (first, rows) = (chunk * CHUNK, vectors.chunk(chunk, &mut scratch));
            let n_items = (rows.len() / dim).min(frame.n_known - first);
            let items = ItemTile {
                rows: &rows[..n_items * dim],
                scale: &scale[first..first + n_items],
                bias: &frame.bias[first..first + n_items],
            };
            for (tile, counts) in tiles.iter().zip(&mut counts) {
                count_above(kernel, &tile.queries, items, &tile.targets, counts);
            }
            (counts, scratch)
        })
        .map(|(counts, _)| counts)
        .reduce(none, |mut a, b| {
            a.iter_mut().zip(&b).for_each(|(a, b)| a.add(b));
            a
        });

    // What was touched within the frame before an event is not as it was when the frame began.
    touched.clear(dim);
    let until = asked.last().map_or(0, |asked| asked.event);
    for (event, touch) in (frame.first_event..until).zip(&history.touches()[frame.first_event as usize..]) {
        let row = touch.item as usize;
        let is_first_of_frame = touch.previous == NEVER || touch.previous < frame.first_event;
        if is_first_of_frame && row < frame.n_known {
            touched.push_outdated(vectors.row(row), scale[row], frame.bias[row], (event, NEVER));
        }
        touched.push_current(vectors.row(row), scale[row], touch.bias, (event, touch.next));
    }
    let touched = &*touched;
    tiles.par_iter().zip(&mut counts).for_each(|(tile, counts)| {
        count_touched(kernel, &tile.queries, touched, &tile.events, &tile.targets, counts);
    });

    ranked.extend(asked.iter().enumerate().map(|(place, Asked { query, event, own })| {
        let (number, touch) = (batch.numbers[*event as usize], &history.touches()[*event as usize]);
        if !own.is_known() {
            return Ranked::missed(number);
        }
        let (counts, lane) = (&counts[place / LANES], place % LANES);
        Ranked {
            number,
            model: Some(own.rank(counts.above[lane], counts.equal[lane], view.repeat)),
            popularity: Some(popularity_rank(view, own, *event)),
            own_history: view.repeat.then(|| own_history_rank(view, batch, *query, *event)),
            occurrences: touch.occurrences,
        }
    }));
}

/// Up to [`LANES`] queries.
#[derive(Debug, Default)]
struct Tile {
    queries: PackedQueries,
    targets: [f32; LANES],
    events: [u32; LANES],
}

/// The target and the user's own known items, each once: what the plain count of all items gets wrong.
#[derive(Debug, Default)]
struct OwnItems {
    /// The target's score, ρ included.
    target: f32,
    /// The target first.
    items: Vec<u32>,
    /// ρ of each.
    terms: Vec<f32>,
    /// Score of each without ρ.
    scores: Vec<f32>,
}

impl OwnItems {
    /// Whether the target was ever seen before the event.
    fn is_known(&self) -> bool {
        !self.items.is_empty()
    }

    fn of(view: ModelView<'_>, batch: &Batch, query: usize) -> Self {
        let positive = batch.positive(query);
        let mut own = Self { target: 0.0, items: vec![positive], terms: vec![0.0], scores: Vec::new() };
        if view.repeat {
            for remembered in batch.own(query) {
                let rho = view.repetition;
                let term = if rho { view.model.repetition.term(remembered.buckets) } else { 0.0 };
                if remembered.item == positive {
                    own.terms[0] = term;
                } else {
                    own.items.push(remembered.item);
                    own.terms.push(term);
                }
            }
        } else {
            let mut all = view.histories.own(batch, query).to_vec();
            all.sort_unstable();
            all.dedup();
            own.items.reserve(all.len());
            for item in all {
                if item != positive {
                    own.items.push(item);
                }
            }
            own.terms.resize(own.items.len(), 0.0);
        }
        own
    }

    /// The rank, from the counts over all known items.
    fn rank(&self, above: i32, equal: i32, repeat: bool) -> f64 {
        if self.target.is_nan() {
            // Nothing compares with it: no rank is better than none.
            return f64::INFINITY;
        }
        let (mut above, mut equal) = (i64::from(above), i64::from(equal));
        for (place, (score, term)) in self.scores.iter().zip(&self.terms).enumerate() {
            above -= i64::from(*score > self.target);
            equal -= i64::from(*score == self.target);
            if repeat && place > 0 {
                above += i64::from(score + term > self.target);
                equal += i64::from(score + term == self.target);
            }
        }
        above as f64 + equal as f64 / 2.0
    }
}

/// The rank under decayed popularity: of all known items, without the user's own where those leave the ranking.
fn popularity_rank(view: ModelView<'_>, own: &OwnItems, event: u32) -> f64 {
    let ModelView { history, frequencies, popularity, repeat, .. } = view;
    let counts = frequencies.popularity().relative();
    let target = history.touches()[event as usize].count_before;
    let (mut above, mut equal) = history.compare(popularity, event, target);
    equal -= 1;
    if !repeat {
        for item in &own.items[1..] {
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
