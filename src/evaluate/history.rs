//! What the events of a batch change for one another: so that each is ranked by what came before it, though the batch is
//! scored as a whole.
//!
//! Every event touches one item: its decayed counts grow, and it is known from then on. A batch is cut into *frames*
//! ([`crate::negatives::frequency`]); the popularity terms of all known items are computed once in each frame of which any event
//! is ranked, and within a frame an item keeps its term until it is touched. So the state of an item before event `e` is the one that the newest touch
//! before `e` in the frame left behind ([`Touch`]), or that of the frame's beginning.

use rayon::prelude::*;

use super::popularity::PopularityOrder;
use crate::context::Batch;
use crate::kernel::{Kernel, LANES};
use crate::model::Model;
use crate::negatives::frequency::Frequencies;
use crate::table::paged::Paged;
use crate::table::rows::CHUNK;

/// A frame has so many events at most: what its events touched is looked at for every one of them.
const LONGEST_FRAME: usize = 1024;

/// In the place of an event that does not come in the batch.
pub const NEVER: u32 = u32::MAX;

/// What an event did to its item.
#[derive(Debug, Clone, Copy)]
pub struct Touch {
    /// The item's row.
    pub item: u32,
    /// The event of the batch that touched the item before, or [`NEVER`].
    pub previous: u32,
    /// The event of the batch that touches the item next, or [`NEVER`].
    pub next: u32,
    /// Whether the item was known before the event.
    pub is_known: bool,
    /// How often the item came before the event.
    pub occurrences: u64,
    /// The popularity term β·log q̂ + b of the item after the event; 0 where nothing is ranked.
    pub bias: f32,
    /// The item's decayed count of popularity before the event, on the scale of the end of the batch.
    pub count_before: f64,
    /// The same after the event.
    pub count_after: f64,
    /// The sum of all counts of popularity before the event, on that scale.
    pub total_before: f64,
}

/// A run of events that are ranked by the same popularity terms, but for what they touched themselves. There is one where any of
/// its events is ranked.
#[derive(Debug, Default)]
pub struct Frame {
    /// The frame's first event.
    pub first_event: u32,
    /// How many items were known when its terms were computed; they have the first rows.
    pub n_known: usize,
    /// By known item: β·log q̂ + b.
    pub bias: Vec<f32>,
    /// By chunk of the table: the largest of these.
    pub largest_bias: Vec<f32>,
}

/// The touches and frames of a batch.
#[derive(Debug, Default)]
pub struct BatchHistory {
    touches: Vec<Touch>,
    /// By item: the first event of the batch that touched it, or [`NEVER`].
    first_touch: Vec<u32>,
    /// By item: the newest event of the batch that touched it, or [`NEVER`].
    last_touch: Vec<u32>,
    /// How many items had a row before the batch.
    n_known: usize,
    /// The frames, and behind them buffers of earlier batches.
    frames: Vec<Frame>,
    n_frames: usize,
    /// Whether the events change nothing for one another.
    is_frozen: bool,
}

/// The counts that move with every event.
#[derive(Debug)]
pub struct Counts<'a> {
    /// q̂ of all items.
    pub frequencies: &'a mut Frequencies,
    /// The order of their popularity before the batch.
    pub popularity: &'a mut PopularityOrder,
    /// By item: how often it came.
    pub occurrences: &'a mut Paged<u64>,
    /// By item: when it came last, milliseconds since 1970 UTC.
    pub last_event: &'a mut Paged<i64>,
}

impl BatchHistory {
    /// Counts the events of `batch` one by one. Before it `n_known` items had a row; `is_ranked` says by event whether it will be
    /// ranked, with the popularity terms of `model`. The order of popularity stays that before the batch, until [`Self::settle`].
    pub fn observe(
        &mut self,
        kernel: Kernel,
        model: &Model,
        counts: Counts<'_>,
        batch: &Batch,
        n_known: usize,
        is_ranked: &[bool],
    ) {
        let Counts { frequencies, popularity, occurrences, last_event } = counts;
        let n_items = occurrences.len();
        let ranks = is_ranked.contains(&true);
        self.clear(n_items);
        (self.n_known, self.is_frozen) = (n_known, false);
        frequencies.begin_batch(n_items);
        let (mut known, mut first_event, mut has_terms) = (n_known, 0, false);
        for (event, item) in batch.items.iter().copied().enumerate() {
            let in_frame = event - first_event;
            // Where frames end is no matter of what is ranked: a frame moves the scale of the counts, which are saved.
            // Queries of one frame are ranked by tiles, so it ends where a tile does, and before the next one would be too much.
            let ends_tile = in_frame > 0 && in_frame % LANES == 0;
            let stretch = (in_frame + LANES) as f64 / in_frame as f64;
            let is_full = ends_tile && (frequencies.frame_is_full(stretch) || in_frame >= LONGEST_FRAME);
            if is_full || frequencies.frame_overflows() {
                self.refresh(frequencies, popularity);
                (first_event, has_terms) = (event, false);
            }
            if is_ranked[event] && !has_terms {
                // Items that the frame has touched before are corrected by their touches, whichever of their terms these are.
                self.begin_frame(kernel, model, frequencies, first_event as u32, known);
                has_terms = true;
            }
            let row = item as usize;
            let by_popularity = frequencies.popularity();
            let (count_before, total_before) = (by_popularity.relative()[row], by_popularity.relative_total());
            let is_evidence = occurrences[row] > 0 && !batch.repeats[event];
            frequencies.observe(item, batch.timestamps[event], is_evidence.then_some(known));
            let bias = match ranks {
                true => model.beta() * frequencies.log_frequency_of_touched(item) + model.bias(row),
                false => 0.0,
            };
            let previous = std::mem::replace(&mut self.last_touch[row], event as u32);
            if previous == NEVER {
                self.first_touch[row] = event as u32;
            } else {
                self.touches[previous as usize].next = event as u32;
            }
            self.touches.push(Touch {
                item,
                previous,
                next: NEVER,
                is_known: row < known,
                occurrences: occurrences[row],
                bias,
                count_before,
                count_after: frequencies.popularity().relative()[row],
                total_before,
            });
            known = known.max(row + 1);
            *occurrences.get_mut(row) += 1;
            *last_event.get_mut(row) = batch.timestamps[event];
        }
        self.refresh(frequencies, popularity);
    }

    /// Takes the events of `batch` as what changes nothing: each will be ranked by `frequencies` as they are, under which the
    /// first `n_known` items are known, with the popularity terms of `model`.
    pub fn observe_nothing(
        &mut self,
        kernel: Kernel,
        model: &Model,
        frequencies: &Frequencies,
        batch: &Batch,
        n_known: usize,
    ) {
        let counts = frequencies.popularity();
        self.clear(n_known);
        (self.n_known, self.is_frozen) = (n_known, true);
        self.begin_frame(kernel, model, frequencies, 0, n_known);
        self.touches.extend(batch.items.iter().map(|item| {
            let is_known = (*item as usize) < n_known;
            let count = if is_known { counts.relative()[*item as usize] } else { 0.0 };
            Touch {
                item: *item,
                previous: NEVER,
                next: NEVER,
                is_known,
                occurrences: 0,
                bias: 0.0,
                count_before: count,
                count_after: count,
                total_before: counts.relative_total(),
            }
        }));
    }

    /// Takes the items from row `row` on out of the ranking: no popularity makes up for theirs.
    pub fn leave_out(&mut self, row: usize) {
        for frame in &mut self.frames[..self.n_frames] {
            frame.bias.iter_mut().skip(row).for_each(|bias| *bias = f32::NEG_INFINITY);
        }
        for touch in self.touches.iter_mut().filter(|touch| touch.item as usize >= row) {
            touch.bias = f32::NEG_INFINITY;
        }
    }

    /// The events from `begin` to before `end` that change something for those behind them.
    pub fn touched(&self, begin: u32, end: u32) -> std::ops::Range<u32> {
        if self.is_frozen { begin..begin } else { begin..end }
    }

    /// Brings the order of popularity up to date with the batch.
    pub fn settle(&self, popularity: &mut PopularityOrder) {
        let gone = self.touches.iter().filter(|touch| self.left_the_order(touch)).map(|touch| touch.count_before);
        let come = self.touches.iter().filter(|touch| touch.next == NEVER).map(|touch| touch.count_after);
        popularity.update(gone.collect(), come.collect());
    }

    /// Whether it was by `touch` that the count which its item had before the batch became outdated.
    fn left_the_order(&self, touch: &Touch) -> bool {
        touch.previous == NEVER && (touch.item as usize) < self.n_known
    }

    fn clear(&mut self, n_items: usize) {
        for touch in self.touches.drain(..) {
            for of_item in [&mut self.first_touch, &mut self.last_touch] {
                // Rows may have gone since.
                if let Some(event) = of_item.get_mut(touch.item as usize) {
                    *event = NEVER;
                }
            }
        }
        self.first_touch.resize(n_items, NEVER);
        self.last_touch.resize(n_items, NEVER);
        self.n_frames = 0;
    }

    fn begin_frame(
        &mut self,
        kernel: Kernel,
        model: &Model,
        frequencies: &Frequencies,
        first_event: u32,
        n_known: usize,
    ) {
        if self.frames.len() == self.n_frames {
            self.frames.push(Frame::default());
        }
        let frame = &mut self.frames[self.n_frames];
        self.n_frames += 1;
        (frame.first_event, frame.n_known) = (first_event, n_known);
        frame.bias.resize(n_known, 0.0);
        frame.largest_bias.resize(n_known.div_ceil(CHUNK), 0.0);
        let chunks = frame.bias.par_chunks_mut(CHUNK).zip(&mut frame.largest_bias).enumerate();
        chunks.for_each(|(chunk, (bias, largest))| {
            frequencies.log_frequencies(kernel, chunk * CHUNK, model.beta(), bias);
            if model.biases.is_some() {
                bias.iter_mut().enumerate().for_each(|(place, bias)| *bias += model.bias(chunk * CHUNK + place));
            }
            *largest = bias.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        });
    }

    /// Begins a frame of the frequencies; where that changes the scale of popularity, what was noted of it follows.
    fn refresh(&mut self, frequencies: &mut Frequencies, popularity: &mut PopularityOrder) {
        let before = frequencies.popularity().rescaled().unwrap_or(1.0);
        frequencies.refresh();
        let factor = frequencies.popularity().rescaled().unwrap_or(1.0) / before;
        if factor != 1.0 {
            popularity.rescale(factor);
            for touch in &mut self.touches {
                touch.count_before *= factor;
                touch.count_after *= factor;
                touch.total_before *= factor;
            }
        }
    }

    /// The frames, each with the events from its first to that of the next one.
    pub fn frames(&self) -> impl Iterator<Item = (&Frame, std::ops::Range<u32>)> {
        let frames = &self.frames[..self.n_frames];
        frames.iter().enumerate().map(|(place, frame)| {
            let end = frames.get(place + 1).map_or(self.touches.len() as u32, |next| next.first_event);
            (frame, frame.first_event..end)
        })
    }

    /// What the events of the batch did, by event.
    pub fn touches(&self) -> &[Touch] {
        &self.touches
    }

    /// The events of the batch that touched `item`, which has a row, in order.
    pub fn touches_of(&self, item: u32) -> impl Iterator<Item = u32> {
        let some = |event: u32| (event != NEVER).then_some(event);
        let next = move |event: &u32| some(self.touches[*event as usize].next);
        std::iter::successors(some(self.first_touch[item as usize]), next)
    }

    /// The newest touch of `item` before event `event`, if the batch has one.
    pub fn newest_of(&self, item: u32, event: u32) -> Option<(u32, &Touch)> {
        let newest = self.touches_of(item).take_while(|at| *at < event).last()?;
        Some((newest, &self.touches[newest as usize]))
    }

    /// The popularity term of `item`, which is known, before event `event` of `frame`.
    pub fn bias(&self, frame: &Frame, item: u32, event: u32) -> f32 {
        match self.newest_of(item, event) {
            Some((at, touch)) if at >= frame.first_event => touch.bias,
            _ => frame.bias[item as usize],
        }
    }

    /// The decayed count of popularity of `item` before event `event`, where `counts` are those after the batch.
    pub fn count(&self, counts: &Paged<f64>, item: u32, event: u32) -> f64 {
        match (self.newest_of(item, event), self.first_touch[item as usize]) {
            (Some((_, touch)), _) => touch.count_after,
            (None, NEVER) => counts[item as usize],
            (None, first) => self.touches[first as usize].count_before,
        }
    }

    /// How many known items had a decayed count of popularity above `count` before event `event`, and how many the same;
    /// `order` is that before the batch.
    pub fn compare(&self, order: &PopularityOrder, event: u32, count: f64) -> (i64, i64) {
        let (above, equal) = order.compare(count);
        let (mut above, mut equal) = (above as i64, equal as i64);
        let touches = if self.is_frozen { &[] } else { &self.touches[..event as usize] };
        for touch in touches {
            if touch.next >= event {
                above += i64::from(touch.count_after > count);
                equal += i64::from(touch.count_after == count);
            }
            if self.left_the_order(touch) {
                above -= i64::from(touch.count_before > count);
                equal -= i64::from(touch.count_before == count);
            }
        }
        (above, equal)
    }
}
