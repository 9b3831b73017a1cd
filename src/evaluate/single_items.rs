//! What the plain count of all items gets wrong: the items that have ρ or κ besides, and the target itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::K;
use super::history::{BatchHistory, Frame};
use super::ranking::ModelView;
use crate::context::Batch;
use crate::kernel::ranking::{Estimate, PackedQueries, estimate_scores, score_items};
use crate::kernel::{Kernel, LANES};
use crate::model::Model;
use crate::table::generation_map::GenerationMap;

/// The plain scores of one query: without ρ and κ.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainScores<'a> {
    pub(super) kernel: Kernel,
    pub(super) model: &'a Model,
    pub(super) history: &'a BatchHistory,
    /// The frame of the query's event.
    pub(super) frame: &'a Frame,
    /// By item: factor of the dot product.
    pub(super) scale: &'a [f32],
    /// The query's event in the batch.
    pub(super) event: u32,
    /// The query's vector.
    pub(super) query: &'a [f32],
}

impl<'a> PlainScores<'a> {
    /// The row, the factor of the dot product and the popularity term of `item`.
    fn parts(&self, item: u32) -> (&'a [f32], f32, f32) {
        let row = item as usize;
        (self.model.vectors().row(row), self.scale[row], self.history.bias(self.frame, item, self.event))
    }

    /// Estimates the scores of the first of `items`, at most [`LANES`].
    fn estimate(&self, items: impl Iterator<Item = u32>) -> [Estimate; LANES] {
        let (mut rows, mut scale, mut bias) = ([&[][..]; LANES], [0.0; LANES], [0.0; LANES]);
        let mut n = 0;
        for item in items.take(LANES) {
            (rows[n], scale[n], bias[n]) = self.parts(item);
            n += 1;
        }
        estimate_scores(self.kernel, self.query, &rows[..n], &scale, &bias)
    }

    /// The scores of `items`, into `scores`: to the bit those which all items are compared by.
    pub(super) fn of(&self, items: &[u32], scratch: &mut PackedQueries, scores: &mut Vec<f32>) {
        score_items(self.kernel, self.query, items.iter().map(|item| self.parts(*item)), scratch, scores);
    }
}

/// By how much the numbers of items above a target, and of equals of it, change.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Change {
    above: i64,
    equal: i64,
}

impl Change {
    /// Takes an item with the plain score `plain` out, and in again with `term` besides.
    fn move_item(&mut self, plain: f32, term: f32, target: f32) {
        self.above += i64::from(plain + term > target) - i64::from(plain > target);
        self.equal += i64::from(plain + term == target) - i64::from(plain == target);
    }
}

/// The items of a query, other than the target, that do not have the plain score, each once.
#[derive(Debug, Default)]
pub(super) struct SingleItems {
    /// By item: its place among `items`.
    places: GenerationMap,
    items: Vec<u32>,
    /// ρ + κ of each; 0 for an item that left the ranking.
    terms: Vec<f32>,
    /// Of items that an estimate cannot tell from the target: the places, the items, and the scores.
    uncertain: (Vec<u32>, Vec<u32>, Vec<f32>),
    scratch: PackedQueries,
}

impl SingleItems {
    /// Gathers the items of query `query` that have terms.
    fn gather(&mut self, view: ModelView<'_>, batch: &Batch, query: usize) {
        let ModelView { model, repeat, history_terms, .. } = view;
        self.items.clear();
        self.terms.clear();
        if !history_terms {
            return;
        }
        self.places.begin(model.inverse_norms.len());
        let positive = batch.positive(query);
        // An item that has both terms has ρ before κ, as the target has them.
        if repeat {
            batch.own(query).iter().for_each(|own| self.add(positive, own.item, model.repetition.term(own.buckets)));
        }
        let related = batch.related(query).iter();
        related.for_each(|related| self.add(positive, related.item, model.cooccurrence.term(related.buckets)));
        if self.items.is_empty() {
            return;
        }
        for item in view.excluded(batch, query) {
            if let Some(place) = self.places.get(*item) {
                self.terms[place as usize] = 0.0;
            }
        }
    }

    fn add(&mut self, positive: u32, item: u32, term: f32) {
        if item == positive {
            return;
        }
        if let Some(place) = self.places.get(item) {
            self.terms[place as usize] += term;
            return;
        }
        self.places.set(item, self.items.len() as u32);
        self.items.push(item);
        self.terms.push(term);
    }

    /// A function that says of an item, which is below `n_rows`, whether it is asked about it for the first time.
    pub(super) fn firsts(&mut self, n_rows: usize) -> impl FnMut(u32) -> bool {
        let places = &mut self.places;
        places.begin(n_rows);
        |item| {
            let is_first = places.get(item).is_none();
            places.set(item, 0);
            is_first
        }
    }

    /// The rank of a target with the score `target`, from how many known items of the ranking have a plain score above it and how
    /// many the same, the target among them.
    pub(super) fn rank(
        &mut self,
        view: ModelView<'_>,
        batch: &Batch,
        query: usize,
        scores: PlainScores<'_>,
        target: f32,
        (mut above, mut equal): (i64, i64),
    ) -> f64 {
        self.gather(view, batch, query);
        // The target itself may have a plain score above its own.
        let lowered = 1 + self.terms.iter().filter(|term| **term < 0.0).count();
        if above - lowered as i64 >= K as i64 {
            return f64::INFINITY;
        }
        self.items.push(batch.positive(query));
        self.terms.push(f32::NEG_INFINITY);
        // First those that are lowered: whoever is raised cannot bring the target back.
        let lowered = self.change(scores, target, |term| term < 0.0, |change, left| above + change - left >= K as i64);
        above += lowered.above;
        equal += lowered.equal;
        if above < K as i64 {
            let raised = self.change(scores, target, |term| term > 0.0, |change, _| above + change >= K as i64);
            above += raised.above;
            equal += raised.equal;
        }
        self.items.pop();
        self.terms.pop();
        if above >= K as i64 { f64::INFINITY } else { above as f64 + equal as f64 / 2.0 }
    }

    /// What the terms change that are of a kind; or a part of it, as soon as `is_settled` says so of the change in items above
    /// the target, and of the number of items that are left.
    fn change(
        &mut self,
        scores: PlainScores<'_>,
        target: f32,
        is_of_kind: impl Fn(f32) -> bool,
        is_settled: impl Fn(i64, i64) -> bool,
    ) -> Change {
        let Self { items, terms, uncertain: (places, unclear, exact), scratch, .. } = self;
        places.clear();
        unclear.clear();
        let mut change = Change::default();
        let mut left = terms.iter().filter(|term| is_of_kind(**term)).count();
        let mut of_kind = (0..items.len()).filter(|place| is_of_kind(terms[*place])).peekable();
        while of_kind.peek().is_some() {
            let (mut at, mut n) = ([0; LANES], 0);
            let of_tile = of_kind.by_ref().take(LANES).map(|place| {
                at[n] = place;
                n += 1;
                items[place]
            });
            let estimates = scores.estimate(of_tile);
            for (place, estimate) in at[..n].iter().zip(estimates) {
                let term = terms[*place];
                let plain = estimate.score;
                // Adding the term rounds once more; and numbers that are none are never certain.
                let error = estimate.error + f32::EPSILON * (plain.abs() + target.abs()) + f32::MIN_POSITIVE;
                let is_certain = |distance: f32, error: f32| distance.abs() > error;
                let is_clear = is_certain(plain - target, error)
                    && (term == f32::NEG_INFINITY
                        || is_certain(plain + term - target, error + f32::EPSILON * term.abs()));
                if is_clear {
                    change.move_item(plain, term, target);
                } else {
                    places.push(*place as u32);
                    unclear.push(items[*place]);
                }
            }
            left -= n;
            if is_settled(change.above, (left + unclear.len()) as i64) {
                return change;
            }
        }
        scores.of(unclear, scratch, exact);
        for (place, plain) in places.iter().zip(&*exact) {
            change.move_item(*plain, terms[*place as usize], target);
        }
        change
    }
}

/// Buffers as long as the table, one for each thread.
#[derive(Debug, Default)]
pub(super) struct SingleItemsByThread(Vec<Mutex<SingleItems>>);

impl SingleItemsByThread {
    /// Makes room for so many threads.
    pub(super) fn begin(&mut self, n_threads: usize) {
        self.0.resize_with(n_threads, Mutex::default);
    }

    /// That of this thread, which nobody else asks for.
    pub(super) fn of_thread(&self) -> MutexGuard<'_, SingleItems> {
        self.0[rayon::current_thread_index().unwrap_or(0)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
