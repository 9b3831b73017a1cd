//! The model's numbers, and the query made of a context.
//!
//! ```text
//! raw query = Σ_k w_k·(item row + context row of the k-th newest item) / Σ_k w_k  (+ the user's row)
//! ```
//!
//! With the cosine as likeness, the query and the items are divided by their norms.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::repetition::Repetition;
use crate::config::{Config, Likeness, OptimizerKind};
use crate::context::Batch;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::{add_scaled, inverse_norm, prefetch};
use crate::kernel::{Kernel, LANES};
use crate::negatives::Vectors;
use crate::table::adagrad::{Optimizer, Parameters, TrainedRows};
use crate::table::rows::start;

/// Below this the weights of a context do not count as a sum to divide by.
const SMALLEST_WEIGHT_SUM: f32 = 1e-3;

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

impl Vectors for Model {
    fn dim(&self) -> usize {
        self.dim()
    }

    fn vector(&self, item: u32, out: &mut [f32]) {
        self.served(item as usize, out);
    }

    fn inverse_temperature(&self) -> f32 {
        self.inverse_temperature()
    }

    fn beta(&self) -> f32 {
        self.beta()
    }
}

impl Model {
    /// No rows yet; the few other numbers at their starting values.
    pub fn new(config: &Config) -> Self {
        let dim = config.model.dim;
        let optimizer = match config.train.optimizer {
            OptimizerKind::Adagrad => Optimizer::Adagrad,
            OptimizerKind::RowwiseAdagrad => Optimizer::RowwiseAdagrad,
        };
        let rows = |wanted: bool| wanted.then(|| TrainedRows::new(dim, optimizer));
        Self {
            items: TrainedRows::new(dim, optimizer),
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

    /// Whether the likeness is the cosine.
    pub fn is_cosine(&self) -> bool {
        self.likeness == Likeness::Cosine
    }

    fn refresh_norm(&mut self, item: usize) {
        if self.is_cosine() {
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
    pub fn queries(&self, kernel: Kernel, batch: &Batch, queries: &mut Queries) {
        let (n_queries, dim, stride) = (batch.n_queries(), self.dim(), self.stride());
        queries.position_weights.clear();
        queries.position_weights.extend(self.position_weights.values.iter().map(|log| log.exp()));
        queries.unit.resize_to(n_queries, stride);
        queries.inverse_norms.resize(n_queries, 1.0);
        queries.weight_sums.resize(n_queries, 0.0);
        let weights = &queries.position_weights;
        let prefetch_context = |query: usize| {
            if query < n_queries {
                for item in batch.context(query) {
                    prefetch(self.items.values.row(*item as usize));
                    prefetch(self.items.sums.row(*item as usize));
                    if let Some(contexts) = &self.contexts {
                        prefetch(contexts.values.row(*item as usize));
                    }
                }
            }
        };
        let unit = queries.unit.rows_mut();
        (unit, &mut queries.inverse_norms, &mut queries.weight_sums)
            .into_par_iter()
            .with_min_len(32)
            .enumerate()
            .for_each(|(query, (unit, inverse, weight_sum))| {
                prefetch_context(query + 1);
                let context = batch.context(query);
                *weight_sum = weights[..context.len()].iter().sum::<f32>().max(SMALLEST_WEIGHT_SUM);
                unit.fill(0.0);
                let raw = &mut unit[..dim];
                for (item, weight) in context.iter().zip(weights) {
                    let share = weight / *weight_sum;
                    add_scaled(kernel, raw, self.items.values.row(*item as usize), share);
                    if let Some(contexts) = &self.contexts {
                        add_scaled(kernel, raw, contexts.values.row(*item as usize), share);
                    }
                }
                if let Some(users) = &self.users {
                    add_scaled(kernel, raw, users.values.row(batch.user(query) as usize), 1.0);
                }
                if self.is_cosine() {
                    *inverse = inverse_norm(raw);
                    raw.iter_mut().for_each(|number| *number *= *inverse);
                } else {
                    *inverse = 1.0;
                }
            });
    }
}

/// The queries of a batch.
#[derive(Debug, Default)]
pub struct Queries {
    /// As scored, queries × stride.
    pub unit: Padded,
    /// 1/norm of each as it was summed up (1 where the likeness is the dot product).
    pub inverse_norms: Vec<f32>,
    /// Sum of the position weights of each context.
    pub weight_sums: Vec<f32>,
    /// Weight of the k-th newest item of a context.
    pub position_weights: Vec<f32>,
}

/// A matrix whose rows are filled up with zeros to whole blocks; keeps its memory from batch to batch.
#[derive(Debug, Default)]
pub struct Padded {
    numbers: Aligned<f32>,
    stride: usize,
}

impl Padded {
    /// `rows` × `stride`; the numbers are whatever they were.
    pub fn resize_to(&mut self, rows: usize, stride: usize) {
        self.numbers.resize(rows * stride, 0.0);
        self.stride = stride;
    }

    /// The rows, for writing in parallel.
    pub fn rows_mut(&mut self) -> rayon::slice::ChunksExactMut<'_, f32> {
        self.numbers.par_chunks_exact_mut(self.stride)
    }

    /// Row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.stride..][..self.stride]
    }

    /// The matrix.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        let rows = self.numbers.len() / self.stride.max(1);
        ArrayView2::from_shape((rows, self.stride), &self.numbers).expect("whole rows")
    }
}
