//! The candidate set of a batch: every proposal's draws, equal items merged into one column.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::bank::Bank;
use super::samplers::mix::NoiseMix;
use super::samplers::{QueryContext, StreamView};
use crate::table::generation_map::GenerationMap;
use crate::table::rows::{GOLDEN, split_mix};

/// How many draws ahead memory is asked for what is known of an item.
const AHEAD: usize = 16;
/// How many columns ahead memory is asked for the counts of an item.
const COLUMNS_AHEAD: usize = 8;
/// A thread takes no fewer columns than these.
const COLUMNS_AT_A_TIME: usize = 256;

/// The columns of a batch: first those of items whose vectors are read live, then those of frozen vectors.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Item of each column; among the live columns, and among the frozen ones, each once, in the order in which they
    /// first came.
    pub items: Vec<u32>,
    /// How many draws each column stands for.
    pub multiplicity: Vec<u32>,
    /// log E_j: how many times the proposals together are expected to bring the item.
    pub log_expected: Vec<f32>,
    /// log q̂ of each column: how common its item is by the half-life that the stream has chosen.
    pub log_frequency: Vec<f32>,
    /// log of the share of each column's item in what is drawn from the stream.
    pub log_stream_share: Vec<f32>,
    /// Slot in the bank of the vector of each frozen column.
    pub frozen: Vec<u32>,
    /// Columns of the batch's positives: the first ones.
    n_positive: usize,
    /// Number of draws before merging.
    pub n_draws: usize,
    /// Draws of the stream: the batch's positives, the bank.
    pub from_stream: [usize; 2],
    /// The live column of each item.
    live: GenerationMap,
    /// The frozen column of each item.
    cold: GenerationMap,
    others: Vec<u32>,
}

impl Candidates {
    /// Gathers the candidates of a batch: its `positives`, the bank, and noise drawn from generators that belong to
    /// `(seed, step)` alone. Samplers must have observed the batch; `asking` says who asks (`others` is filled in here).
    pub fn gather(
        &mut self,
        positives: impl ExactSizeIterator<Item = u32>,
        bank: &Bank,
        noise: &mut NoiseMix,
        view: StreamView<'_>,
        asking: QueryContext<'_>,
        (seed, step): (u64, u64),
    ) {
        let n_items = view.frequencies.len();
        self.live.begin(n_items);
        // Without frozen vectors nobody asks for it.
        self.cold.begin(if bank.is_frozen() { n_items } else { 0 });
        for numbers in [&mut self.items, &mut self.multiplicity, &mut self.frozen] {
            numbers.clear();
        }
        self.from_stream = [positives.len(), bank.entries().len()];
        let mut others = std::mem::take(&mut self.others);
        others.clear();
        others.extend(positives);
        self.add_all(others.len(), |place| others[place]);
        self.n_positive = self.items.len();
        if !bank.is_frozen() {
            let entries = bank.entries();
            self.add_all(entries.len(), |place| entries[place].item);
        }
        self.others = others;
        if noise.depends_on_queries() {
            self.others.clear();
            self.others.extend(&self.items);
            if bank.is_frozen() {
                self.others.extend(bank.entries().iter().map(|entry| entry.item));
            }
            noise.set_queries(view, QueryContext { others: &self.others, ..asking });
        }
        let before_noise: usize = self.from_stream.iter().sum();
        for (index, term) in noise.terms.iter_mut().enumerate() {
            let mut random = noise_generator(seed, step, index as u64);
            term.draw(view, before_noise, &mut random);
            let known = self.items.len();
            term.collisions = term.drawn.len();
            self.add_all(term.drawn.len(), |place| term.drawn[place]);
            term.collisions -= self.items.len() - known;
        }
        self.n_draws = before_noise + noise.terms.iter().map(|term| term.drawn.len()).sum::<usize>();
        if bank.is_frozen() {
            self.add_frozen(bank);
        }
        self.correct(noise, view);
    }

    /// Newest first, so that of an item that is there several times the newest vector stands for all.
    fn add_frozen(&mut self, bank: &Bank) {
        for (slot, entry) in bank.entries().iter().enumerate().rev() {
            match self.cold.get(entry.item) {
                Some(column) => self.multiplicity[column as usize] += 1,
                None => {
                    self.cold.set(entry.item, self.items.len() as u32);
                    self.items.push(entry.item);
                    self.multiplicity.push(1);
                    self.frozen.push(slot as u32);
                }
            }
        }
    }

    fn correct(&mut self, noise: &NoiseMix, view: StreamView<'_>) {
        let from_stream: usize = self.from_stream.iter().sum();
        let Self { items, log_expected, log_frequency, log_stream_share, .. } = self;
        for numbers in [&mut *log_expected, log_frequency, log_stream_share] {
            numbers.resize(items.len(), 0.0);
        }
        let (floor, span) = (view.frequencies.floor(), view.frequencies.counts_over_span(from_stream as f64));
        let (log_draws, is_noisy) = ((from_stream as f64).ln() as f32, !noise.terms.is_empty());
        let columns = (&*items, log_expected, log_frequency, log_stream_share).into_par_iter();
        let columns = columns.with_min_len(COLUMNS_AT_A_TIME).enumerate();
        columns.for_each(|(column, (item, log_expected, log_frequency, log_share))| {
            if let Some(soon) = items.get(column + COLUMNS_AHEAD) {
                view.frequencies.ask_ahead(*soon);
            }
            *log_frequency = view.frequencies.log_frequency(*item);
            let share = match span {
                None => view.frequencies.counted_frequency(*item),
                Some(span) => span.share(*item) + floor,
            };
            *log_share = share.ln() as f32;
            *log_expected = match is_noisy {
                false => log_draws + *log_share,
                true => {
                    let of_stream = from_stream as f64 * f64::from(*log_share).exp();
                    (of_stream + noise.expected(view, *item)).ln() as f32
                }
            };
        });
    }

    /// The proposals that brought each column, as a mask: bit 0 the batch, bit 1 the bank, then the terms of the noise in order (from
    /// the thirty-first on they share a bit).
    pub fn sources(&self, bank: &Bank, noise: &NoiseMix) -> Vec<u32> {
        let mut sources = vec![0; self.items.len()];
        sources[..self.n_positive].fill(1);
        sources[self.n_live()..].fill(2);
        if !bank.is_frozen() {
            for entry in bank.entries() {
                sources[self.live.get(entry.item).expect("it is a candidate") as usize] |= 2;
            }
        }
        for (index, term) in noise.terms.iter().enumerate() {
            for item in &term.drawn {
                sources[self.live.get(*item).expect("it is a candidate") as usize] |= 4 << index.min(29);
            }
        }
        sources
    }

    /// Columns whose vectors are live.
    pub fn n_live(&self) -> usize {
        self.items.len() - self.frozen.len()
    }

    /// The live column of `item`, where it has one.
    pub fn column(&self, item: u32) -> Option<u32> {
        self.live.get(item)
    }

    /// The frozen column of `item`, where it has one.
    pub fn frozen_column(&self, item: u32) -> Option<u32> {
        self.cold.get(item)
    }

    /// Adds `n` draws, of which `of` gives the items.
    fn add_all(&mut self, n: usize, of: impl Fn(usize) -> u32) {
        for place in 0..n {
            if place + AHEAD < n {
                self.live.ask_ahead(of(place + AHEAD));
            }
            self.add(of(place));
        }
    }

    fn add(&mut self, item: u32) {
        match self.live.get(item) {
            Some(column) => self.multiplicity[column as usize] += 1,
            None => {
                self.live.set(item, self.items.len() as u32);
                self.items.push(item);
                self.multiplicity.push(1);
            }
        }
    }
}

/// The generator of the draws of the noise's term number `term` in step `step`: a function of these three alone.
pub fn noise_generator(seed: u64, step: u64, term: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(mix(seed, step, term))
}

/// One number of three (SplitMix64's finisher, Steele et al. 2014, after each).
fn mix(seed: u64, step: u64, stream: u64) -> u64 {
    let parts = [seed, step, stream].into_iter();
    parts.fold(GOLDEN, |state: u64, part| split_mix((state ^ part).wrapping_add(GOLDEN)))
}
