//! The model's numbers, and the query made of a context, with its gradient.
//!
//! ```text
//! raw query = Σ_k w_k·(item row + context row of the k-th newest item) / Σ_k w_k  (+ the user's row)
//! ```
//!
//! With the cosine as likeness, the query and the items are divided by their norms.

use ndarray::Array2;
use rayon::prelude::*;

use super::repetition::Repetition;
use crate::config::{Config, Likeness};
use crate::context::Batch;
use crate::kernel::LANES;
use crate::table::adagrad::{Parameters, TrainedRows};
use crate::table::rows::start;

/// Below this the weights of a context do not count as a sum to divide by.
const SMALLEST_WEIGHT_SUM: f32 = 1e-3;
const SMALLEST_NORM: f32 = 1e-12;

/// Every learned number.
#[derive(Debug, Clone)]
pub struct Model {
    /// Rows of the items, as candidates and in the context.
    pub items: TrainedRows,
    /// A second row for an item's role in the context.
    pub contexts: Option<TrainedRows>,
    /// Rows of the users.
    pub users: Option<TrainedRows>,
    /// Logarithm of the weight of the k-th newest item.
    pub position_weights: Parameters,
    /// β.
    pub popularity: Parameters,
    /// log(1/τ).
    pub temperature: Parameters,
    /// ρ.
    pub repetition: Repetition,
    /// 1/norm of each item row (1 where the likeness is the dot product).
    pub inverse_norms: Vec<f32>,
    likeness: Likeness,
    seed: u64,
    start_scale: f32,
}

impl Model {
    /// No rows yet; the few other numbers at their starting values.
    pub fn new(config: &Config) -> Self {
        let dim = config.model.dim;
        let rows = |wanted: bool| wanted.then(|| TrainedRows::new(dim));
        Self {
            items: TrainedRows::new(dim),
            contexts: rows(config.context.context_rows),
            users: rows(config.context.user_row),
            position_weights: Parameters::new((0..config.context.length).map(|k| k as f32 * 0.8f32.ln()).collect()),
            popularity: Parameters::new(vec![config.model.popularity_start as f32]),
            temperature: Parameters::new(vec![-(config.model.temperature.ln() as f32)]),
            repetition: Repetition::default(),
            inverse_norms: Vec::new(),
            likeness: config.model.likeness,
            seed: config.seed,
            start_scale: config.model.start_scale as f32,
        }
    }

    /// Dimensions of an embedding.
    pub fn dim(&self) -> usize {
        self.items.values.dim()
    }

    /// Length of a row in a padded matrix.
    pub fn stride(&self) -> usize {
        self.dim().next_multiple_of(LANES)
    }

    /// β.
    pub fn beta(&self) -> f32 {
        self.popularity.values[0]
    }

    /// 1/τ.
    pub fn inverse_temperature(&self) -> f32 {
        self.temperature.values[0].exp()
    }

    /// Adds the rows of a new item.
    pub fn add_item(&mut self, name: &str) {
        let (seed, scale) = (self.seed, self.start_scale);
        self.items.push(|row| start(row, seed, "item", name, scale));
        if let Some(contexts) = &mut self.contexts {
            contexts.push(|row| start(row, seed, "context", name, scale));
        }
        self.inverse_norms.push(1.0);
        self.refresh_norm(self.items.values.len() - 1);
    }

    /// Adds the row of a new user, where users have rows.
    pub fn add_user(&mut self, name: &str) {
        let (seed, scale) = (self.seed, self.start_scale);
        if let Some(users) = &mut self.users {
            users.push(|row| start(row, seed, "user", name, scale));
        }
    }

    /// Brings [`Self::inverse_norms`] up to date with a changed row.
    pub fn refresh_norm(&mut self, item: usize) {
        if self.likeness == Likeness::Cosine {
            self.inverse_norms[item] = inverse_norm(self.items.values.row(item));
        }
    }

    /// Makes all of [`Self::inverse_norms`] anew.
    pub fn refresh_all_norms(&mut self) {
        self.inverse_norms = vec![1.0; self.items.values.len()];
        (0..self.items.values.len()).for_each(|item| self.refresh_norm(item));
    }

    /// The vector of `item` as an index serves it: divided by its norm where the likeness is the cosine.
    pub fn served(&self, item: usize, out: &mut [f32]) {
        let scale = self.inverse_norms[item];
        out.iter_mut().zip(self.items.values.row(item)).for_each(|(out, number)| *out = number * scale);
    }

    /// The queries of a batch.
    pub fn queries(&self, batch: &Batch, queries: &mut Queries) {
        let (n_queries, dim, stride) = (batch.n_queries(), self.dim(), self.stride());
        let weights: Vec<f32> = self.position_weights.values.iter().map(|log| log.exp()).collect();
        queries.raw.resize_to(n_queries, stride);
        queries.unit.resize_to(n_queries, stride);
        queries.inverse_norms.resize(n_queries, 1.0);
        queries.weight_sums.resize(n_queries, 0.0);
        let raw = queries.raw.rows_mut(stride);
        let unit = queries.unit.rows_mut(stride);
        (raw, unit, &mut queries.inverse_norms, &mut queries.weight_sums).into_par_iter().enumerate().for_each(
            |(query, (raw, unit, inverse, weight_sum))| {
                let context = batch.context(query);
                *weight_sum = weights[..context.len()].iter().sum::<f32>().max(SMALLEST_WEIGHT_SUM);
                for (item, weight) in context.iter().zip(&weights) {
                    let share = weight / *weight_sum;
                    add_scaled(&mut raw[..dim], self.items.values.row(*item as usize), share);
                    if let Some(contexts) = &self.contexts {
                        add_scaled(&mut raw[..dim], contexts.values.row(*item as usize), share);
                    }
                }
                if let Some(users) = &self.users {
                    add_scaled(&mut raw[..dim], users.values.row(batch.user(query) as usize), 1.0);
                }
                *inverse = match self.likeness {
                    Likeness::Cosine => inverse_norm(&raw[..dim]),
                    Likeness::Dot => 1.0,
                };
                unit.iter_mut().zip(raw.iter()).for_each(|(unit, raw)| *unit = raw * *inverse);
            },
        );
    }

    /// Turns the gradient of a unit vector into that of the vector it came from.
    pub fn unnormalise(&self, unit: &[f32], inverse_norm: f32, gradient: &mut [f32]) {
        if self.likeness == Likeness::Cosine {
            let along = dot(unit, gradient);
            for (gradient, unit) in gradient.iter_mut().zip(unit) {
                *gradient = (*gradient - along * unit) * inverse_norm;
            }
        }
    }
}

/// The queries of a batch.
#[derive(Debug, Default)]
pub struct Queries {
    /// As summed up, queries × stride.
    pub raw: Padded,
    /// As scored, queries × stride.
    pub unit: Padded,
    /// 1/norm of each (1 where the likeness is the dot product).
    pub inverse_norms: Vec<f32>,
    /// Sum of the position weights of each context.
    pub weight_sums: Vec<f32>,
}

/// A matrix whose rows are filled up with zeros to whole blocks; keeps its memory from batch to batch.
#[derive(Debug, Default)]
pub struct Padded(Array2<f32>);

impl Padded {
    /// All zeros, `rows` × `stride`.
    pub fn resize_to(&mut self, rows: usize, stride: usize) {
        let (mut numbers, _) = std::mem::take(&mut self.0).into_raw_vec_and_offset();
        numbers.clear();
        numbers.resize(rows * stride, 0.0);
        self.0 = Array2::from_shape_vec((rows, stride), numbers).expect("as many as the shape says");
    }

    /// The rows, for writing in parallel.
    pub fn rows_mut(&mut self, stride: usize) -> rayon::slice::ChunksExactMut<'_, f32> {
        self.0.as_slice_mut().expect("standard layout").par_chunks_exact_mut(stride)
    }

    /// Row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        let stride = self.0.ncols();
        &self.0.as_slice().expect("standard layout")[row * stride..][..stride]
    }

    /// The matrix.
    pub fn view(&self) -> ndarray::ArrayView2<'_, f32> {
        self.0.view()
    }
}

/// 1/‖row‖₂.
pub fn inverse_norm(row: &[f32]) -> f32 {
    dot(row, row).sqrt().max(SMALLEST_NORM).recip()
}

/// The dot product, in sixteen partial sums: one order of operations, which compilers can also run side by side.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// `into += factor · row`.
pub fn add_scaled(into: &mut [f32], row: &[f32], factor: f32) {
    into.iter_mut().zip(row).for_each(|(sum, number)| *sum += factor * number);
}
