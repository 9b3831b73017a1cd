//! What makes scores of inner products: for each item a factor, and its popularity.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::index::SearchIndex;
use crate::kernel::Kernel;
use crate::model::Model;
use crate::negatives::frequency::{Frequencies, FrozenFrequencies};
use crate::table::rows::CHUNK;

/// Up to so many items, all of them are looked at anew for each view.
const MOST_LOOKED_AT: usize = 1 << 16;
/// Of more items, one in so many is looked at again in each view, in turn.
const TURNS: usize = 8;

/// What a row's product with a query is multiplied by, and what is added.
pub(super) trait RowTerms: Sync {
    /// How many rows there are.
    fn n_rows(&self) -> usize;

    /// The factors of the rows from `first` on, and what is added.
    fn fill(&self, first: usize, scale: &mut [f32], bias: &mut [f32]);
}

/// The terms of the score: e^g·s/τ has the factor `1/(τ‖c‖)`, and β·log q̂ + b is added.
#[derive(Debug)]
pub(super) struct ItemTerms<'a> {
    model: &'a Model,
    /// By item.
    log_frequencies: Cow<'a, [f32]>,
    inverse_temperature: f32,
    beta: f32,
}

impl<'a> ItemTerms<'a> {
    pub(super) fn new(model: &'a Model, log_frequencies: Cow<'a, [f32]>) -> Self {
        Self { model, log_frequencies, inverse_temperature: model.inverse_temperature(), beta: model.beta() }
    }

    /// The terms of a state's items as they are.
    pub(super) fn of_state(model: &'a Model, frequencies: &Frequencies) -> Self {
        let mut all = vec![0.0; model.items.values.len()];
        all.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
            frequencies.log_frequencies(model.kernel(), chunk * CHUNK, 1.0, out);
        });
        Self::new(model, Cow::Owned(all))
    }

    /// The factor of an item's product with a query.
    #[inline]
    pub(super) fn scale(&self, item: usize) -> f32 {
        self.model.inverse_norms[item] * self.inverse_temperature
    }

    /// β·log q̂ + b of an item.
    #[inline]
    pub(super) fn popularity(&self, item: usize) -> f32 {
        let popularity = self.beta * self.log_frequencies[item];
        match self.model.biases {
            None => popularity,
            Some(_) => popularity + self.model.bias(item),
        }
    }

    /// The largest b; 0 where there are none.
    pub(super) fn largest_bias(&self) -> f32 {
        match &self.model.biases {
            None => 0.0,
            Some(_) => (0..self.n_rows()).map(|item| self.model.bias(item)).fold(f32::NEG_INFINITY, f32::max),
        }
    }

    /// The largest popularity, and the largest factor's inverse, of the items of each chunk of `CHUNK`: what bounds are made of.
    pub(super) fn by_chunk(&self) -> impl IndexedParallelIterator<Item = (f32, f32)> {
        (0..self.n_rows().div_ceil(CHUNK)).into_par_iter().map(|chunk| {
            let items = chunk * CHUNK..self.n_rows().min((chunk + 1) * CHUNK);
            let largest = items.clone().map(|item| self.popularity(item)).fold(f32::NEG_INFINITY, f32::max);
            let least = self.model.inverse_norms[items].iter().copied().fold(f32::INFINITY, f32::min);
            (largest, least)
        })
    }
}

impl RowTerms for ItemTerms<'_> {
    fn n_rows(&self) -> usize {
        self.log_frequencies.len()
    }

    fn fill(&self, first: usize, scale: &mut [f32], bias: &mut [f32]) {
        for (place, (scale, bias)) in scale.iter_mut().zip(bias).enumerate() {
            (*scale, *bias) = (self.scale(first + place), self.popularity(first + place));
        }
    }
}

/// The terms of the cosine, for queries of length 1.
#[derive(Debug)]
pub(super) struct CosineTerms<'a> {
    /// By item.
    pub(super) inverse_norms: &'a [f32],
}

impl RowTerms for CosineTerms<'_> {
    fn n_rows(&self) -> usize {
        self.inverse_norms.len()
    }

    fn fill(&self, first: usize, scale: &mut [f32], bias: &mut [f32]) {
        scale.copy_from_slice(&self.inverse_norms[first..first + scale.len()]);
        bias.fill(0.0);
    }
}

/// log q̂ of all items, from view to view. Where there are few, all of them are looked at each time. Of many, those are that events named
/// since, those that are new, and the rest in turn: of an item that no event named log q̂ may be [`TURNS`] views old. It falls
/// slowly then, since whatever decays fast was named of late.
#[derive(Debug, Default)]
pub(super) struct FollowedFrequencies {
    values: Vec<f32>,
    /// Whose turn it is.
    turn: usize,
    /// Items that were named before, and not looked at.
    put_off: Vec<u32>,
    /// Whether it is not known which were.
    is_lost: bool,
}

impl FollowedFrequencies {
    /// By item.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Passes over `frequencies`, by which nobody asked.
    pub(super) fn pass_over(&mut self, frequencies: &FrozenFrequencies) {
        match frequencies.touched() {
            Some(touched) if self.put_off.len() < self.values.len() => self.put_off.extend(touched),
            _ => self.is_lost = true,
        }
    }

    /// Brings them up to date, and `index`, which had those of the view before.
    pub(super) fn follow(&mut self, kernel: Kernel, frequencies: &FrozenFrequencies, index: Option<&SearchIndex>) {
        let (n_items, reader) = (frequencies.len(), frequencies.reader());
        let known = self.values.len();
        self.values.resize(n_items, 0.0);
        let all = |values: &mut [f32], items: Range<usize>| {
            values[items.clone()].par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
                reader.log_frequencies(kernel, items.start + chunk * CHUNK, out);
            });
        };
        let mut named = std::mem::take(&mut self.put_off);
        let is_lost = std::mem::take(&mut self.is_lost) || known > n_items || n_items <= MOST_LOOKED_AT;
        match frequencies.touched().filter(|_| !is_lost) {
            None => {
                all(&mut self.values, 0..n_items);
                index.into_iter().for_each(|index| index.note_all(&self.values));
            }
            Some(touched) => {
                all(&mut self.values, known..n_items);
                let width = n_items.div_ceil(TURNS);
                let in_turn = (self.turn * width).min(n_items)..((self.turn + 1) * width).min(n_items);
                all(&mut self.values, in_turn.clone());
                let note =
                    |item: usize, values: &[f32]| index.into_iter().for_each(|index| index.note(item, values[item]));
                in_turn.for_each(|item| note(item, &self.values));
                self.turn = (self.turn + 1) % TURNS;
                named.extend(touched);
                named.sort_unstable();
                named.dedup();
                for item in named {
                    let item = item as usize;
                    reader.log_frequencies(kernel, item, &mut self.values[item..=item]);
                    note(item, &self.values);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::negatives::HalfLife;

    fn expected(frequencies: &Frequencies) -> Vec<f32> {
        let mut all = vec![0.0; frequencies.len()];
        frequencies.log_frequencies(Kernel::detect(), 0, 1.0, &mut all);
        all
    }

    #[test]
    fn many_items_are_followed_where_events_name_them_and_in_turn() {
        let kernel = Kernel::detect();
        let n_items = MOST_LOOKED_AT + 5_000;
        let mut frequencies = Frequencies::new(HalfLife::Auto);
        frequencies.grow(n_items);
        let mut random = Pcg64Mcg::seed_from_u64(8);
        let mut batch = |n: usize| (0..n).map(|_| random.random_range(0..n_items as u32)).collect::<Vec<u32>>();
        frequencies.add(&batch(9_000));
        let mut followed = FollowedFrequencies::default();
        followed.follow(kernel, &frequencies.freeze_to_read(), None);
        assert_eq!(followed.values(), expected(&frequencies), "at first, all");
        for round in 0..3 {
            let named = batch(700);
            frequencies.add(&named);
            frequencies.grow(n_items + 40 * (round + 1));
            let frozen = frequencies.freeze_to_read();
            assert!(frozen.touched().is_some_and(|touched| touched == named));
            if round == 1 {
                // Nobody asked by this one.
                followed.pass_over(&frozen);
                continue;
            }
            followed.follow(kernel, &frozen, None);
            let exact = expected(&frequencies);
            assert_eq!(followed.values().len(), exact.len());
            for item in named.into_iter().map(|item| item as usize).chain(n_items + 40 * round..exact.len()) {
                assert_eq!(followed.values()[item], exact[item], "item {item}");
            }
        }
        // Of the others each had its turn after so many views.
        for _ in 0..TURNS {
            followed.follow(kernel, &frequencies.freeze_to_read(), None);
        }
        assert_eq!(followed.values(), expected(&frequencies));
    }

    #[test]
    fn few_items_are_all_followed_in_each_view() {
        let mut frequencies = Frequencies::new(HalfLife::Auto);
        frequencies.grow(300);
        let mut followed = FollowedFrequencies::default();
        for item in 0..40 {
            frequencies.add(&[item, 7, item]);
            followed.follow(Kernel::detect(), &frequencies.freeze_to_read(), None);
            assert_eq!(followed.values(), expected(&frequencies));
        }
    }
}
