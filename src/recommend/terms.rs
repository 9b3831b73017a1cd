//! What makes scores of inner products: for each item a factor, and its popularity.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use rayon::prelude::*;

use super::index::SearchIndex;
use crate::kernel::Kernel;
use crate::model::Model;
use crate::negatives::frequency::Frequencies;
use crate::table::rows::CHUNK;

/// Up to so many items, all of them are looked at anew for each view.
const MOST_LOOKED_AT: usize = 1 << 16;
/// Of more items, one in so many is looked at again in each view, in turn.
const TURNS: usize = 16;

/// Touched items whose memory is asked for together.
const ASKED_TOGETHER: usize = 32;

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
            Some(_) => {
                let of_items = (0..self.n_rows()).into_par_iter().with_min_len(CHUNK).map(|item| self.model.bias(item));
                of_items.reduce(|| f32::NEG_INFINITY, f32::max)
            }
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
/// since, those that came within the last [`TURNS`] views, and the rest in turn: of an item that no event named log q̂ may be so many views
/// old. It falls slowly then, since whatever decays fast was named of late, or is new and loses what it is given for its age.
#[derive(Debug, Default)]
pub(super) struct FollowedFrequencies {
    values: Vec<f32>,
    /// Whose turn it is.
    turn: usize,
    /// How many items there were at each of the last [`TURNS`] views.
    lengths: VecDeque<usize>,
}

impl FollowedFrequencies {
    /// By item.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Brings them up to date, and `index`, which had those of the view before. `touched` is of [`Frequencies::take_touched`].
    pub(super) fn follow(
        &mut self,
        kernel: Kernel,
        frequencies: &Frequencies,
        touched: Option<&[u32]>,
        index: Option<&SearchIndex>,
    ) {
        let (n_items, mixture) = (frequencies.len(), frequencies.mixture());
        let known = self.values.len();
        self.values.resize(n_items, 0.0);
        let all = |values: &mut [f32], items: Range<usize>| {
            values[items.clone()].par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
                let first = items.start + chunk * CHUNK;
                mixture.log_frequencies(kernel, first, 1.0, out);
                index.into_iter().for_each(|index| index.note(first, out));
            });
        };
        let Some(touched) = touched.filter(|_| known <= n_items && n_items > MOST_LOOKED_AT) else {
            all(&mut self.values, 0..n_items);
            self.lengths.clear();
            index.into_iter().for_each(|index| index.bound(0..index.n_blocks()));
            return;
        };
        // Rows are in the order in which items came.
        self.lengths.push_back(known);
        all(&mut self.values, self.lengths[0]..n_items);
        self.lengths.drain(..self.lengths.len().saturating_sub(TURNS));
        let in_turn = |n: usize| {
            let width = n.div_ceil(TURNS);
            (self.turn * width).min(n)..((self.turn + 1) * width).min(n)
        };
        let (items, blocks) = (in_turn(n_items), index.map(|index| in_turn(index.n_blocks())));
        all(&mut self.values, items);
        self.turn = (self.turn + 1) % TURNS;
        let look_up = |items: &[u32]| {
            // They lie all over the tables.
            for item in items {
                frequencies.ask_ahead(*item);
                index.into_iter().for_each(|index| index.ask_ahead(*item as usize));
            }
            let value_of = |item: &u32| {
                let mut value = [0.0];
                mixture.log_frequencies(kernel, *item as usize, 1.0, &mut value);
                index.into_iter().for_each(|index| index.note(*item as usize, &value));
                value[0]
            };
            items.iter().map(value_of).collect::<Vec<f32>>()
        };
        let values = touched.par_chunks(ASKED_TOGETHER).with_min_len(CHUNK / ASKED_TOGETHER).flat_map_iter(look_up);
        let values: Vec<f32> = values.collect();
        touched.iter().zip(values).for_each(|(item, value)| self.values[*item as usize] = value);
        if let (Some(index), Some(blocks)) = (index, blocks) {
            index.bound(blocks);
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
        let follow = |followed: &mut FollowedFrequencies, frequencies: &mut Frequencies| {
            let touched = frequencies.take_touched();
            followed.follow(kernel, frequencies, touched.as_deref(), None);
            touched
        };
        follow(&mut followed, &mut frequencies);
        assert_eq!(followed.values(), expected(&frequencies), "at first, all");
        for round in 0..3 {
            let named = batch(700);
            frequencies.add(&named);
            frequencies.grow(n_items + 40 * (round + 1));
            let touched = follow(&mut followed, &mut frequencies);
            assert!(touched.is_some_and(|touched| touched == named));
            let exact = expected(&frequencies);
            assert_eq!(followed.values().len(), exact.len());
            for item in named.into_iter().map(|item| item as usize).chain(n_items + 40 * round..exact.len()) {
                assert_eq!(followed.values()[item], exact[item], "item {item}");
            }
        }
        // Of the others each had its turn after so many views.
        for _ in 0..TURNS {
            follow(&mut followed, &mut frequencies);
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
            let touched = frequencies.take_touched();
            followed.follow(Kernel::detect(), &frequencies, touched.as_deref(), None);
            assert_eq!(followed.values(), expected(&frequencies));
        }
    }
}
