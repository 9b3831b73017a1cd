//! An index over the vectors of many items: which of them may be among the best for a query, without a look at all of them.
//!
//! Items are put into blocks of at most 128: by the cluster that their vector belongs to (`clusters`), in a cluster by their
//! popularity. The score of an item c in a block is `f·q·c + p`, and where the cosines between the vectors of a cluster and its
//! direction have the mean m, and q and that direction the cosine t, then q·c has the mean `m·t` and, the vectors being spread
//! evenly around the direction, the deviation `√(1−t²)·s` with `s = √((1 − E m²)/(d − 1))`, in units of both lengths. A block is looked at
//! while
//!
//! ```text
//! largest p + longest·‖q‖·min(1, m·t + reach·√(1−t²)·s)
//! ```
//!
//! is above the least score of the list so far, best blocks first. With an endless reach that is the exact list; a reach of two or three
//! finds nearly all of it in a few blocks. What is found is measured while it serves, and the reach set by it ([`SearchIndex::learn`]).
//!
//! **The index only says which items are worth a look.** It has a copy of the vectors, block by block in bfloat16, so that a look reads
//! memory in order; log q̂ follows the views. The list itself is made of the best of these by the scores of the
//! view that is asked. So an index may be minutes old: an item whose vector moved far is at worst not found. Items that came since are
//! looked at one by one.

mod clusters;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use self::clusters::{ClusterPlace, Clusters};
use super::shortlist::{Scored, Shortlist, order};
use super::terms::ItemTerms;
use crate::kernel::packed::{PackedRows, push_pairs};
use crate::kernel::ranking::estimate_scores;
use crate::kernel::rows::{dot, inverse_norm, prefetch_one};
use crate::kernel::{Kernel, LANES};
use crate::model::Model;

/// Items in a block: so few that most of a block that is looked at had to be.
const BLOCK: usize = 8 * LANES;
/// Items in a cluster, on average.
const PER_CLUSTER: usize = 256;
/// Vectors that clusters are made of, at most.
const SAMPLE: usize = 1 << 16;
/// Blocks that are looked at before any is left out.
const FIRST_BLOCKS: usize = 24;
/// Items beyond the list, at least, whose scores are computed exactly at the end, since estimates are off: vectors have moved, and they
/// and the query are rounded.
const MARGIN: usize = 12;

/// Queries that are kept, to measure by.
const KEPT_QUERIES: usize = 32;
/// The reach before anything is measured: rather too far than too near.
const FIRST_REACH: f32 = 4.0;
/// Between these the reach is set.
const REACHES: std::ops::RangeInclusive<f32> = 0.0..=8.0;
/// How far one measured list moves the reach, for each part of it that is found too much or too little.
const REACH_STEP: f32 = 1.0;

/// Where items are: [`self`].
#[derive(Debug)]
pub struct SearchIndex {
    /// Which numbering of rows it is of: [`crate::table::ids::Ids::remaps`].
    remaps: u64,
    /// All items, block by block.
    items: Vec<u32>,
    blocks: Vec<ItemBlock>,
    /// By block: its cluster, and the longest of its vectors. All of these are read for each query, one after the other.
    cluster_of: Vec<u32>,
    longest: Vec<f32>,
    /// By item: where it is among these.
    place_of: Vec<ItemPlace>,
    /// The directions of the items' vectors; each block begins a group.
    vectors: PackedRows,
    /// By place: the length of its vector times the factor with which it enters the cosine.
    lengths: Vec<f32>,
    /// By place: log q̂, bits of a single.
    log_frequencies: Vec<AtomicU32>,
    /// By block: what is at least its largest log q̂, and at most its least.
    bounds: Vec<FrequencyBounds>,
    clusters: Vec<ClusterSpread>,
    /// The clusters' directions.
    directions: PackedRows,
    /// How far beyond the mean of its cluster an item may be, in deviations; the bits of it.
    reach: AtomicU32,
    /// The newest queries.
    asked: Mutex<VecDeque<Vec<f32>>>,
}

/// Where an item is.
#[derive(Debug, Clone, Copy, Default)]
struct ItemPlace {
    place: u32,
    block: u32,
}

/// Between which two numbers those of a block lie: what [`ordered`] makes of them.
#[derive(Debug)]
struct FrequencyBounds {
    largest: AtomicU32,
    least: AtomicU32,
}

/// A whole number of a single's own order.
#[inline]
fn ordered(number: f32) -> u32 {
    let bits = number.to_bits();
    // Of negative numbers all bits turn, of others the sign.
    bits ^ (((bits.cast_signed() >> 31).cast_unsigned()) | 1 << 31)
}

/// The single that [`ordered`] made this of.
#[inline]
fn from_ordered(bits: u32) -> f32 {
    f32::from_bits(bits ^ (((!bits).cast_signed() >> 31).cast_unsigned() | 1 << 31))
}

impl FrequencyBounds {
    /// Widens them where `number` is beyond.
    #[inline]
    fn widen(&self, number: u32) {
        if number > self.largest.load(Ordering::Relaxed) {
            self.largest.fetch_max(number, Ordering::Relaxed);
        }
        if number < self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(number, Ordering::Relaxed);
        }
    }

    /// The largest number, or the least.
    #[inline]
    fn end(&self, is_largest: bool) -> f32 {
        from_ordered(if is_largest { &self.largest } else { &self.least }.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Clone, Copy)]
struct ItemBlock {
    /// The places of its items.
    begin: u32,
    end: u32,
    /// The first group of their vectors.
    group: u32,
}

impl ItemBlock {
    fn places(&self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }

    fn groups(&self) -> Range<usize> {
        let first = self.group as usize;
        first..first + self.places().len().div_ceil(LANES)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct ClusterSpread {
    /// Mean cosine between its vectors and its direction.
    mean: f32,
    /// Deviation of a vector's part across the direction, in any one dimension.
    deviation: f32,
}

/// What is collected while an index is made.
#[derive(Debug)]
pub struct IndexBuilder {
    remaps: u64,
    dim: usize,
    clusters: Option<Clusters>,
    sample: Vec<f32>,
    places: Vec<ClusterPlace>,
    /// By item: the direction of its vector, in pairs ([`push_pairs`]).
    pairs: Vec<f32>,
    /// By item: the length of its vector, and log q̂.
    lengths: Vec<f32>,
    log_frequencies: Vec<f32>,
    kernel: Kernel,
}

impl IndexBuilder {
    /// An index of items with vectors of `dim` numbers, in the numbering of rows after so many `remaps`.
    pub fn new(kernel: Kernel, dim: usize, remaps: u64) -> Self {
        let (sample, places, pairs) = (Vec::new(), Vec::new(), Vec::new());
        let (lengths, log_frequencies) = (Vec::new(), Vec::new());
        Self { remaps, dim, clusters: None, sample, places, pairs, lengths, log_frequencies, kernel }
    }

    /// The rows, of `n_items`, that the clusters are made of.
    pub fn sampled(n_items: usize) -> impl Iterator<Item = usize> {
        let n = n_items.min(SAMPLE);
        (0..n).map(move |place| place * n_items / n)
    }

    /// Adds a vector to those that clusters are made of.
    pub fn sample(&mut self, vector: &[f32]) {
        let factor = inverse_norm(vector);
        self.sample.extend(vector.iter().map(|number| if factor.is_finite() { number * factor } else { 0.0 }));
    }

    /// Makes the clusters for `n_items`.
    pub fn cluster(&mut self, n_items: usize) {
        let n_clusters = n_items.div_ceil(PER_CLUSTER);
        self.clusters = Some(Clusters::of_sample(self.kernel, &std::mem::take(&mut self.sample), self.dim, n_clusters));
    }

    /// Whether it is of the numbering of rows after so many `remaps`.
    pub(super) fn is_of(&self, remaps: u64) -> bool {
        self.remaps == remaps
    }

    /// Items that were put somewhere; those from here on are next.
    pub fn n_placed(&self) -> usize {
        self.places.len()
    }

    /// Puts the next items into clusters.
    ///
    /// # Panics
    /// If there are no clusters yet.
    pub fn place(&mut self, next: &mut CopiedItems) {
        let CopiedItems { vectors, inverse_norms, log_frequencies } = next;
        for (vector, inverse) in vectors.chunks_exact_mut(self.dim).zip(&*inverse_norms) {
            let factor = inverse_norm(vector);
            let factor = if factor.is_finite() { factor } else { 0.0 };
            vector.iter_mut().for_each(|number| *number *= factor);
            self.lengths.push(if factor > 0.0 { inverse / factor } else { 0.0 });
        }
        let clusters = self.clusters.as_ref().expect("clusters come first");
        self.places.extend(clusters.places(vectors));
        vectors.chunks_exact(self.dim).for_each(|vector| push_pairs(self.kernel, vector, &mut self.pairs));
        self.log_frequencies.extend_from_slice(log_frequencies);
    }

    /// The index of the items that were placed.
    ///
    /// # Panics
    /// If there are no clusters yet.
    pub fn build(self) -> SearchIndex {
        let Self { remaps, dim, clusters, places, pairs, lengths: by_item, log_frequencies, kernel, .. } = self;
        let n_pairs = dim.div_ceil(2);
        let pairs_of = |item: &u32| &pairs[*item as usize * n_pairs..][..n_pairs];
        let made = clusters.expect("clusters come first");
        let n_clusters = made.len();
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); n_clusters];
        let mut clusters = vec![ClusterSpread::default(); n_clusters];
        let mut squares = vec![0.0; n_clusters];
        for (item, ClusterPlace { cluster, cosine }) in places.iter().enumerate() {
            members[*cluster as usize].push(item as u32);
            clusters[*cluster as usize].mean += cosine;
            squares[*cluster as usize] += cosine * cosine;
        }
        let (mut items, mut blocks) = (Vec::with_capacity(places.len()), Vec::new());
        let (mut cluster_of, mut longest) = (Vec::new(), Vec::new());
        let n_groups = members.iter().map(|members| members.len().div_ceil(LANES)).sum();
        let mut vectors = PackedRows::with_capacity(dim, n_groups);
        let mut place_of = vec![ItemPlace::default(); places.len()];
        for (number, mut members) in members.into_iter().enumerate() {
            let n = members.len().max(1) as f32;
            clusters[number].mean /= n;
            clusters[number].deviation = ((1.0 - squares[number] / n).max(0.0) / (dim as f32 - 1.0).max(1.0)).sqrt();
            members.sort_by(|a, b| log_frequencies[*b as usize].total_cmp(&log_frequencies[*a as usize]));
            for members in members.chunks(BLOCK) {
                let begin = items.len() as u32;
                let block = blocks.len() as u32;
                for (item, place) in members.iter().zip(begin..) {
                    place_of[*item as usize] = ItemPlace { place, block };
                }
                items.extend_from_slice(members);
                cluster_of.push(number as u32);
                longest.push(members.iter().map(|item| by_item[*item as usize]).fold(0.0, f32::max));
                let group = vectors.n_groups() as u32;
                members.chunks(LANES).for_each(|group| vectors.push(group.iter().map(pairs_of)));
                blocks.push(ItemBlock { begin, end: items.len() as u32, group });
            }
        }
        let mut of_clusters = Vec::with_capacity(n_clusters * n_pairs);
        made.directions().chunks_exact(dim).for_each(|direction| push_pairs(kernel, direction, &mut of_clusters));
        let mut directions = PackedRows::with_capacity(dim, n_clusters.div_ceil(LANES));
        of_clusters.chunks(LANES * n_pairs).for_each(|group| directions.push(group.chunks_exact(n_pairs)));
        let unbounded = |_: &ItemBlock| FrequencyBounds { largest: u32::MAX.into(), least: 0.into() };
        let index = SearchIndex {
            remaps,
            bounds: blocks.iter().map(unbounded).collect(),
            vectors,
            lengths: items.iter().map(|item| by_item[*item as usize]).collect(),
            log_frequencies: items.iter().map(|item| log_frequencies[*item as usize].to_bits().into()).collect(),
            items,
            blocks,
            cluster_of,
            longest,
            place_of,
            clusters,
            directions,
            reach: AtomicU32::new(FIRST_REACH.to_bits()),
            asked: Mutex::default(),
        };
        index.bound(0..index.n_blocks());
        index
    }
}

impl SearchIndex {
    /// How many items it knows.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Which numbering of rows it is of.
    pub fn remaps(&self) -> u64 {
        self.remaps
    }

    /// Notes log q̂ of the items from `first` on, as it is now.
    pub(super) fn note(&self, first: usize, log_frequencies: &[f32]) {
        let known = self.place_of.len().min(first)..self.place_of.len().min(first + log_frequencies.len());
        for (ItemPlace { place, block }, number) in self.place_of[known].iter().zip(log_frequencies) {
            self.log_frequencies[*place as usize].store(number.to_bits(), Ordering::Relaxed);
            self.bounds[*block as usize].widen(ordered(*number));
        }
    }

    /// Asks memory for where an item is, of which something will be noted soon.
    #[inline]
    pub(super) fn ask_ahead(&self, item: usize) {
        self.place_of.get(item).into_iter().for_each(prefetch_one);
    }

    /// Notes log q̂ of all items.
    pub(super) fn note_all(&self, log_frequencies: &[f32]) {
        self.note(0, log_frequencies);
        self.bound(0..self.n_blocks());
    }

    /// How many blocks there are.
    pub(super) fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bounds log q̂ of the items in `blocks` by what it is: [`Self::note`] only widens bounds. Nobody may note anything meanwhile.
    pub(super) fn bound(&self, blocks: Range<usize>) {
        self.blocks[blocks.clone()].par_iter().zip(&self.bounds[blocks]).with_min_len(BLOCK).for_each(
            |(block, bounds)| {
                let (mut largest, mut least) = (0, u32::MAX);
                for number in &self.log_frequencies[block.places()] {
                    let number = ordered(f32::from_bits(number.load(Ordering::Relaxed)));
                    (largest, least) = (largest.max(number), least.min(number));
                }
                bounds.largest.store(largest, Ordering::Relaxed);
                bounds.least.store(least, Ordering::Relaxed);
            },
        );
    }

    /// By block: what β·log q̂ + b of its items is at most, `largest_bias` being the largest b. It holds until something is noted.
    pub(super) fn largest_popularity(&self, beta: f32, largest_bias: f32) -> Vec<f32> {
        self.bounds.iter().map(|bounds| beta * bounds.end(beta >= 0.0) + largest_bias).collect()
    }

    #[inline]
    fn log_frequency(&self, place: usize) -> f32 {
        f32::from_bits(self.log_frequencies[place].load(Ordering::Relaxed))
    }

    /// How far beyond the mean of its cluster an item may be, in deviations.
    pub fn reach(&self) -> f32 {
        f32::from_bits(self.reach.load(Ordering::Relaxed))
    }

    /// Goes on with the reach and the queries of an index that this one takes the place of.
    pub fn succeed(&self, earlier: &Self) {
        self.reach.store(earlier.reach.load(Ordering::Relaxed), Ordering::Relaxed);
        let asked = earlier.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    /// Moves the reach by a list of which the share `recall` was found, towards one that finds `wanted` on average (Robbins & Monro
    /// 1951). Whether it has come to its end: then the index is too old.
    pub fn learn(&self, recall: f32, wanted: f32) -> bool {
        let reach = self.reach() + REACH_STEP * (wanted - recall);
        self.reach.store(reach.clamp(*REACHES.start(), *REACHES.end()).to_bits(), Ordering::Relaxed);
        reach >= *REACHES.end()
    }

    /// At most `n` queries of late, which are not given again.
    pub(super) fn take_asked(&self, n: usize) -> Vec<Vec<f32>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let first = asked.len().saturating_sub(n);
        asked.drain(first..).collect()
    }

    /// Keeps a query that somebody asked, to measure by.
    pub(super) fn keep_asked(&self, query: &[f32]) {
        // Not worth waiting for.
        if let Ok(mut asked) = self.asked.try_lock() {
            let mut kept = if asked.len() < KEPT_QUERIES { Vec::new() } else { asked.pop_front().unwrap_or_default() };
            kept.clear();
            kept.extend_from_slice(query);
            asked.push_back(kept);
        }
    }
}

/// Vectors of items, one behind the other, with what else an index is made of.
#[derive(Debug, Default)]
pub struct CopiedItems {
    pub(super) vectors: Vec<f32>,
    /// The factors with which they enter the cosine.
    pub(super) inverse_norms: Vec<f32>,
    pub(super) log_frequencies: Vec<f32>,
}

impl CopiedItems {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.log_frequencies.is_empty()
    }
}

/// What is searched for.
#[derive(Clone, Copy)]
pub(super) enum Sought<'a> {
    /// The best items by these terms, of which also the bounds by block are given ([`SearchIndex::largest_popularity`]).
    Best { terms: &'a ItemTerms<'a>, popularity: &'a [f32] },
    /// Those whose vectors' cosine with the query is largest.
    Nearest,
}

/// What a search found.
pub(super) struct Found {
    /// The best items by estimated scores, best first; some more than were asked for.
    pub(super) items: Vec<u32>,
    /// How many were looked at.
    pub(super) n_looked_at: usize,
}

impl SearchIndex {
    /// The items that may be among the best `k` for `query`; those that `skips` names are left out.
    pub(super) fn search(
        &self,
        model: &Model,
        sought: Sought<'_>,
        query: &[f32],
        k: usize,
        skips: impl Fn(u32) -> bool,
    ) -> Found {
        let (kernel, reach) = (model.kernel(), self.reach());
        let length = dot(query, query).sqrt();
        // The score is `likeness · (length of the vector, or 1) · product + beta · log q̂ + b`.
        let (likeness, beta, biases) = match sought {
            Sought::Best { .. } => (model.inverse_temperature(), model.beta(), model.biases.is_some()),
            Sought::Nearest => (1.0, 0.0, false),
        };
        let by_length = matches!(sought, Sought::Best { .. });
        let mut pairs = Vec::new();
        push_pairs(kernel, query, &mut pairs);
        let mut nearest = self.nearest(kernel, &pairs, length, reach);
        nearest.iter_mut().for_each(|cosine| *cosine *= length * likeness);
        let mut bounds: Vec<f32> = self.cluster_of.iter().map(|cluster| nearest[*cluster as usize]).collect();
        if let Sought::Best { popularity, .. } = sought {
            debug_assert_eq!(popularity.len(), bounds.len(), "a bound for each block");
            let of_blocks = popularity.iter().zip(&self.longest);
            bounds.iter_mut().zip(of_blocks).for_each(|(bound, (popularity, longest))| {
                *bound = popularity + longest * *bound;
            });
        }
        let mut best = Shortlist::new(k + MARGIN.max(k / 4));
        let mut products = [[0.0; LANES]; BLOCK / LANES];
        let n_items = model.inverse_norms.len();
        let look_at_new = |best: &mut Shortlist| {
            let mut items = self.len() as u32..n_items as u32;
            let (mut of_tile, mut rows, mut scale, mut bias) =
                ([0; LANES], [&[][..]; LANES], [0.0; LANES], [0.0; LANES]);
            loop {
                let mut n = 0;
                for item in items.by_ref().take(LANES) {
                    let row = item as usize;
                    (of_tile[n], rows[n]) = (item, model.vectors().row(row));
                    (scale[n], bias[n]) = match sought {
                        Sought::Best { terms, .. } => (terms.scale(row), terms.popularity(row)),
                        Sought::Nearest => (inverse_norm(rows[n]), 0.0),
                    };
                    n += 1;
                }
                if n == 0 {
                    return;
                }
                let estimates = estimate_scores(kernel, query, &rows[..n], &scale, &bias);
                for (item, estimate) in of_tile[..n].iter().zip(&estimates) {
                    if best.takes(estimate.score) && !skips(*item) {
                        best.push(estimate.score, *item);
                    }
                }
            }
        };
        // What came since the index was made.
        look_at_new(&mut best);
        let mut n_looked_at = n_items - self.len();
        let mut look_at = |best: &mut Shortlist, blocks: &[Scored]| {
            let mut blocks = blocks.iter().map(|(bound, block)| (*bound, &self.blocks[*block as usize])).peekable();
            while let Some((bound, block)) = blocks.next() {
                if bound < best.settle() {
                    break;
                }
                let (places, groups) = (block.places(), block.groups());
                let next = blocks.peek().map_or(0..0, |(_, next)| next.groups());
                let products = &mut products[..groups.len()];
                self.vectors.products(kernel, &pairs, groups, next, products);
                n_looked_at += places.len();
                for (place, product) in places.zip(products.as_flattened()) {
                    let similarity = *product * if by_length { self.lengths[place] } else { 1.0 } * likeness;
                    let item = self.items[place];
                    let mut score = similarity + beta * self.log_frequency(place);
                    if biases {
                        score += model.bias(item as usize);
                    }
                    if best.takes(score) && !skips(item) {
                        best.push(score, item);
                    }
                }
            }
        };
        // The most promising blocks first; of the others, most fall short of what is found in these, and are never sorted.
        let mut first = Shortlist::new(FIRST_BLOCKS);
        (0..).zip(&bounds).for_each(|(block, bound)| first.offer(*bound, block));
        let mut first = first.into_best();
        first.sort_unstable_by(order);
        look_at(&mut best, &first);
        let (least, seen) = (best.settle(), first.last().copied());
        let is_open = |block: &Scored| block.0 >= least && seen.is_some_and(|seen| order(&seen, block).is_lt());
        let mut open: Vec<Scored> = (0..).zip(&bounds).map(|(block, bound)| (*bound, block)).filter(is_open).collect();
        let mut n_next = 2 * FIRST_BLOCKS;
        while !open.is_empty() {
            let rest = if n_next < open.len() {
                open.select_nth_unstable_by(n_next, order);
                open.split_off(n_next)
            } else {
                Vec::new()
            };
            open.sort_unstable_by(order);
            look_at(&mut best, &open);
            let least = best.settle();
            open = rest;
            open.retain(|(bound, _)| *bound >= least);
            n_next *= 2;
        }
        let mut best = best.into_best();
        best.sort_unstable_by(order);
        Found { items: best.into_iter().map(|(_, item)| item).collect(), n_looked_at }
    }

    /// By cluster: the largest cosine with the query that one of its items is expected to have: m·t + reach·σ·√(1−t²), by the cosine t
    /// between the cluster's direction and the query (its `pairs`, and its length), and the cluster's mean m and deviation σ.
    fn nearest(&self, kernel: Kernel, pairs: &[f32], length: f32, reach: f32) -> Vec<f32> {
        let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
        let mut products = vec![[0.0; LANES]; self.directions.n_groups()];
        self.directions.products(kernel, pairs, 0..products.len(), 0..0, &mut products);
        let mut nearest = products.into_flattened();
        nearest.truncate(self.clusters.len());
        for (ClusterSpread { mean, deviation }, along) in self.clusters.iter().zip(&mut nearest) {
            let cosine = *along * factor;
            let across = (1.0 - cosine * cosine).max(0.0).sqrt();
            *along = (mean * cosine + reach * across * deviation).min(1.0);
        }
        nearest
    }
}
