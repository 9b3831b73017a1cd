//! Contrastive losses with all their gradients, without ever holding the matrix of queries by candidates.
//!
//! [`info_nce`] is the fused one; [`any()`] takes every other loss that is a function of one query's logits, and is slower.
//!
//! Queries are worked on in tiles (see `tile`): a tile's weights are made, used for both gradients, and forgotten
//! before the next tile begins. Tiles belong to a number of groups that depends on the sizes of the problem alone; a
//! group's tiles run in order and add to the group's own candidate gradients, and whoever reads those sums them in the
//! order of the groups. So the result does not depend on the number of threads.

mod any;
mod tile;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::rows::dot;
use super::{Kernel, LANES};
pub use any::{RowLoss, Softmax, any};
pub(super) use tile::TILE;
use tile::{CandidatePairs, Workspace};

/// Terms of single (query, candidate) pairs, added to their logits; −∞ masks the pair. Compressed rows.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// Pairs of query `i` are `starts[i]..starts[i + 1]`.
    pub starts: &'a [u32],
    /// Column of each pair; within a query each at most once.
    pub columns: &'a [u32],
    /// What is added to the logit.
    pub terms: &'a [f32],
}

/// One batch: `logit[i][j] = inverse_temperature · queries[i]·candidates[j] + bias[j] + pair terms`.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// B × stride, the stride a multiple of [`LANES`], filled up with zeros.
    pub queries: ArrayView2<'a, f32>,
    /// B: 1/norm of the vector that each query is the direction of; gradients are then those of that vector. Empty where
    /// queries are taken as they are.
    pub query_inverse_norms: &'a [f32],
    /// B: what each query was multiplied by besides, a gate; empty where that is 1.
    pub query_scales: &'a [f32],
    /// N × stride.
    pub candidates: ArrayView2<'a, f32>,
    /// 1/τ.
    pub inverse_temperature: f32,
    /// N: everything that is added to a column.
    pub bias: &'a [f32],
    /// N: ∂bias/∂β.
    pub slope: &'a [f32],
    /// B: the column of each query's positive.
    pub positives: &'a [u32],
    /// Sparse terms; every query must have its positive among them (with 0 if nothing else).
    pub pairs: Pairs<'a>,
    /// What each query's loss counts in the gradients (1/B for the mean).
    pub scale: f32,
    /// B: what it counts besides; empty where all count alike.
    pub weights: &'a [f32],
}

impl Problem<'_> {
    /// What the loss of `query` counts in the gradients.
    #[inline(always)]
    fn weight(&self, query: usize) -> f32 {
        self.weights.get(query).map_or(self.scale, |weight| weight * self.scale)
    }

    /// Turns `direction`, ∂loss/∂(query direction) but for 1/τ, into the gradient of the query's own vector; gives its part
    /// of ∂loss/∂(1/τ), which over τ is ∂loss/∂ log(the query's scale).
    #[inline(always)]
    fn back_to_vector(&self, query: usize, direction: &mut [f32]) -> f64 {
        let stride = self.queries.ncols();
        let unit = &self.queries.as_slice().expect("standard layout")[query * stride..][..stride];
        let direction = &mut direction[..stride];
        let along = dot(direction, unit);
        let scale = self.query_scales.get(query).copied().unwrap_or(1.0);
        let (factor, taken) = match self.query_inverse_norms.get(query) {
            // The gradient of a direction is what is left of it across that direction, over the length.
            Some(inverse_norm) => (self.inverse_temperature * scale * inverse_norm, along / scale / scale),
            None => (self.inverse_temperature * scale, 0.0),
        };
        for k in 0..stride {
            direction[k] = (direction[k] - taken * unit[k]) * factor;
        }
        f64::from(along)
    }

    #[inline]
    fn pairs_of(&self, query: usize) -> std::ops::Range<usize> {
        self.pairs.starts[query] as usize..self.pairs.starts[query + 1] as usize
    }
}

/// Loss and gradients of a batch. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Sum of the queries' losses, in nats.
    pub loss: f64,
    /// B: the loss of each.
    pub losses: Vec<f64>,
    /// B × stride.
    pub queries: Aligned<f32>,
    /// One for each pair term.
    pub pairs: Vec<f32>,
    /// ∂/∂β.
    pub slope: f64,
    /// B: the part of each query in it.
    pub slopes: Vec<f64>,
    /// ∂/∂(1/τ).
    pub inverse_temperature: f64,
    /// B: the part of each query in it.
    pub inverse_temperatures: Vec<f64>,
    /// N: ∂/∂bias; by [`any()`] only.
    pub columns: Vec<f32>,
    n_groups: usize,
    stride: usize,
    groups: Vec<Workspace>,
    candidate_pairs: CandidatePairs,
}

impl Gradients {
    /// The parts of the gradient of candidate `column`, `stride` numbers each; they have to be summed in this order.
    pub fn candidate_parts(&self, column: usize) -> impl Iterator<Item = &[f32]> {
        let range = column * self.stride..(column + 1) * self.stride;
        self.groups[..self.n_groups].iter().map(move |group| &group.candidate_gradients[range.clone()])
    }

    /// How many candidates there were.
    pub fn n_candidates(&self) -> usize {
        self.groups[..self.n_groups].first().map_or(0, |group| group.candidate_gradients.len() / self.stride)
    }

    /// The gradient of candidate `column`, summed up.
    pub fn candidate(&self, column: usize) -> Vec<f32> {
        let mut sum = vec![0.0; self.stride];
        for part in self.candidate_parts(column) {
            sum.iter_mut().zip(part).for_each(|(sum, number)| *sum += number);
        }
        sum
    }

    /// Has every tile of `problem` worked on by `tile` (group, queries, their gradients), and adds up what the groups found.
    fn run(&mut self, problem: &Problem<'_>, tile: impl Fn(&mut Workspace, std::ops::Range<usize>, &mut [f32]) + Sync) {
        let (n_queries, stride) = problem.queries.dim();
        let n_candidates = problem.candidates.nrows();
        assert_eq!(stride % LANES, 0, "rows are padded to whole blocks");
        assert_eq!(problem.candidates.ncols(), stride, "queries and candidates have one dimension");
        assert!([problem.bias, problem.slope].iter().all(|column| column.len() == n_candidates));
        assert_eq!(problem.positives.len(), n_queries);
        assert!([0, n_queries].contains(&problem.query_inverse_norms.len()));
        assert!([0, n_queries].contains(&problem.query_scales.len()));
        assert!([0, n_queries].contains(&problem.weights.len()));
        assert_eq!(problem.pairs.starts.len(), n_queries + 1);

        let n_tiles = n_queries.div_ceil(TILE);
        let per_group = n_tiles.div_ceil(n_groups(n_tiles, n_candidates).max(1)).max(1) * TILE;
        self.n_groups = n_queries.div_ceil(per_group);
        self.stride = stride;
        if self.groups.len() < self.n_groups {
            self.groups.resize_with(self.n_groups, Workspace::default);
        }
        // Every number is written below.
        self.queries.resize(n_queries * stride, 0.0);
        let groups = self.groups[..self.n_groups].par_iter_mut();
        groups.zip(self.queries.par_chunks_mut(per_group * stride)).enumerate().for_each(
            |(index, (group, gradients))| {
                let first = index * per_group;
                group.begin(problem, first..(first + per_group).min(n_queries));
                for (place, gradients) in gradients.chunks_mut(TILE * stride).enumerate() {
                    let begin = first + place * TILE;
                    tile(group, begin..(begin + TILE).min(n_queries), gradients);
                    group.stale = false;
                }
            },
        );

        let groups = &self.groups[..self.n_groups];
        self.pairs.clear();
        groups.iter().for_each(|group| self.pairs.extend_from_slice(&group.pair_gradients));
        self.losses.clear();
        groups.iter().for_each(|group| self.losses.extend_from_slice(&group.losses));
        self.loss = self.losses.iter().sum();
        self.slopes.clear();
        groups.iter().for_each(|group| self.slopes.extend_from_slice(&group.slopes));
        self.slope = groups.iter().map(|group| group.slopes.iter().sum::<f64>()).sum();
        self.inverse_temperatures.clear();
        groups.iter().for_each(|group| self.inverse_temperatures.extend_from_slice(&group.inverse_temperatures));
        self.inverse_temperature = groups.iter().map(|group| group.inverse_temperatures.iter().sum::<f64>()).sum();
    }
}

/// How many groups the tiles of a batch belong to, at most; no more threads than that can share them. A few, where
/// there is little to do; more where there is much, and it outweighs that every group has gradients of its own.
fn n_groups(n_tiles: usize, n_candidates: usize) -> usize {
    let few = if n_candidates < 1024 { 2 } else { 4 };
    n_tiles.min((n_tiles / 4).clamp(few, 16))
}

/// Computes loss and gradients of InfoNCE, `−logit_ip + log Σ_j exp logit_ij`, into `out`.
///
/// # Panics
/// If the shapes disagree or a matrix is not in standard layout.
pub fn info_nce(kernel: Kernel, problem: &Problem<'_>, out: &mut Gradients) {
    let mut pairs = std::mem::take(&mut out.candidate_pairs);
    if kernel.has_bf16_products {
        pairs.gather(kernel, problem);
    }
    let of_products = kernel.has_bf16_products.then_some(&pairs);
    out.run(problem, |group, queries, gradients| group.run(kernel, problem, of_products, queries, gradients));
    out.candidate_pairs = pairs;
    out.columns.clear();
}
