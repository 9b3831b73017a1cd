//! Features of items: rows that items share, so that one never seen before is placed by what is known of it.
//!
//! ```text
//! v = own row + s·Σ_f row(f)        s = 2/√n, of the item's n features
//! ```
//!
//! v takes the place of the item's row wherever its vector is used: as candidate, in sequences, in rankings, and as it is
//! served. Features are hashed to buckets (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"),
//! which bounds their memory; a bucket gets its row when a feature first falls into it.
//!
//! The vectors are kept beside the rows that they are made of, and are only as new as their last refresh: a step moves few
//! rows of features, but with them the vectors of many items, of which the next step needs some.

mod config;

pub use config::FeaturesConfig;

use rayon::prelude::*;

use crate::kernel::Kernel;
use crate::kernel::rows::add_scaled;
use crate::table::adagrad::{Optimizer, TrainedRows};
use crate::table::paged::Paged;
use crate::table::records::Records;
use crate::table::row_remap::RowRemap;
use crate::table::rows::{CHUNK, Rows};

/// An item's further features are left out.
pub const MOST: usize = 64;
/// How long the features of an item are together, in rows of a single feature. At twice their length they learn twice as
/// fast as own rows do, which new items gain by (docs/features.md).
const LENGTH: f32 = 2.0;
/// How long the own row of a new item is that has features, beside one that has none: so short that the features place it.
pub(crate) const OWN_START: f32 = 0.25;
/// A bucket that has no row.
const NONE: u32 = u32::MAX;

/// The features of the items, and the items' vectors that are made with them.
#[derive(Debug, Clone)]
pub struct Features {
    /// Rows of the buckets that have one, in the order in which they came; a row starts at 0.
    pub rows: TrainedRows,
    /// The bucket of each row.
    buckets: Paged<u32>,
    /// By bucket: its row, or `NONE`.
    places: Vec<u32>,
    /// Rows of each item's features.
    of_items: Records<Box<[u32]>>,
    /// v of each item, as of its last refresh.
    vectors: Rows,
}

impl Features {
    /// For features hashed to `buckets`; no items yet.
    pub fn new(dim: usize, optimizer: Optimizer, buckets: usize) -> Self {
        Self {
            rows: TrainedRows::new(dim, optimizer),
            buckets: Paged::default(),
            places: vec![NONE; buckets],
            of_items: Records::default(),
            vectors: Rows::new(dim),
        }
    }

    /// Adds the next item, whose features fall into `buckets`: each counts once, and no more than [`MOST`] of them.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn push(&mut self, buckets: &[u32]) {
        let mut of_item = Vec::with_capacity(buckets.len().min(MOST));
        for bucket in buckets {
            if of_item.len() == MOST {
                break;
            }
            let row = self.row_of(*bucket);
            if !of_item.contains(&row) {
                of_item.push(row);
            }
        }
        self.push_rows(of_item.into());
    }

    fn push_rows(&mut self, of_item: Box<[u32]>) {
        self.of_items.push(of_item);
        self.vectors.push(|row| row.fill(0.0));
    }

    /// Says that the rows, which were read back, are those of `buckets`; `None` where that cannot be.
    pub fn restore(&mut self, buckets: Vec<u32>) -> Option<()> {
        for (row, bucket) in buckets.iter().enumerate() {
            let place = self.places.get_mut(*bucket as usize).filter(|place| **place == NONE)?;
            *place = row as u32;
        }
        let whole = buckets.len() == self.rows.values.len();
        self.buckets = buckets.into_iter().collect();
        whole.then_some(())
    }

    /// Adds the next item, whose features have the rows `rows`; `None` where that cannot be.
    pub fn restore_item(&mut self, rows: &[u32]) -> Option<()> {
        let fits = rows.len() <= MOST && rows.iter().all(|row| (*row as usize) < self.buckets.len());
        self.push_rows(rows.into());
        fits.then_some(())
    }

    /// Keeps copies of the rows of the features of `items`, which are about to move.
    pub(super) fn keep_copies(&mut self, items: &[u32]) {
        let Self { rows, of_items, .. } = self;
        rows.keep_copies(items.iter().flat_map(|item| of_items.get(*item as usize).iter().copied()));
    }

    /// How many buckets there are, with rows or without.
    pub fn n_buckets(&self) -> usize {
        self.places.len()
    }

    /// The row of `bucket`, a new one where it had none.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn row_of(&mut self, bucket: u32) -> u32 {
        let place = &mut self.places[bucket as usize];
        if *place == NONE {
            *place = self.buckets.len() as u32;
            self.buckets.push(bucket);
            self.rows.push(|row| row.fill(0.0));
        }
        *place
    }

    /// Keeps the items that stay. Rows of features stay as they are, whoever has them: there are no more than buckets.
    pub fn keep_items(&mut self, items: &RowRemap) {
        self.of_items.keep(items);
        self.vectors.keep(items);
    }

    /// The buckets that have rows, in the order of these.
    pub fn buckets(&self) -> &Paged<u32> {
        &self.buckets
    }

    /// Rows of the features of `item`.
    pub fn of(&self, item: usize) -> &[u32] {
        self.of_items.get(item)
    }

    /// Number of items.
    pub fn n_items(&self) -> usize {
        self.vectors.len()
    }

    /// v of all items, each as of its last refresh.
    pub fn vectors(&self) -> &Rows {
        &self.vectors
    }

    /// Writes v of `item`, whose own row is `own`, to `out`, as it is now.
    pub fn compose(&self, kernel: Kernel, item: usize, own: &[f32], out: &mut [f32]) {
        compose(kernel, (&self.rows.values, self.of(item)), own, out);
    }

    /// Makes v of `item` anew, whose own row is `own`.
    pub fn refresh(&mut self, kernel: Kernel, item: usize, own: &[f32]) -> &[f32] {
        compose(kernel, (&self.rows.values, self.of_items.get(item)), own, self.vectors.row_mut(item));
        self.vectors.row(item)
    }

    /// Makes v of all items anew, whose own rows are `own`, and of each the number that `norm` gives.
    pub fn refresh_all(&mut self, kernel: Kernel, own: &Rows, norms: &mut [f32], norm: impl Fn(&[f32]) -> f32 + Sync) {
        let Self { rows, of_items, vectors, .. } = self;
        let dim = vectors.dim();
        let chunks = (vectors.chunks_to_share(), norms.par_chunks_mut(CHUNK)).into_par_iter().enumerate();
        chunks.for_each(|(chunk, (vectors, norms))| {
            for (place, out_norm) in norms.iter_mut().enumerate() {
                let (item, out) = (chunk * CHUNK + place, vectors.row_mut(place, dim));
                compose(kernel, (&rows.values, of_items.get(item)), own.row(item), out);
                *out_norm = norm(out);
            }
        });
    }

    /// What a checkpoint holds of them, as it is; see [`crate::table::chunks`]. It can compose, and nothing else.
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        Self {
            rows: self.rows.freeze(),
            buckets: self.buckets.clone(),
            places: Vec::new(),
            of_items: self.of_items.freeze(),
            vectors: Rows::new(self.vectors.dim()),
        }
    }

    /// What readers need of them, as it is: it can compose, and has the vectors as of their last refresh.
    #[must_use]
    pub fn freeze_to_read(&mut self) -> Self {
        Self {
            rows: self.rows.freeze_values(),
            buckets: self.buckets.clone(),
            places: Vec::new(),
            of_items: self.of_items.freeze(),
            vectors: self.vectors.freeze(),
        }
    }

    /// Takes back rows that frozen copies which are gone had shared: [`crate::table::chunks::Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.rows.thaw(budget) & self.of_items.thaw(budget) & self.vectors.thaw(budget)
    }
}

/// The factor s of an item with `n_features` features.
fn share(n_features: usize) -> f32 {
    LENGTH / (n_features as f32).sqrt()
}

fn compose(kernel: Kernel, (rows, of_item): (&Rows, &[u32]), own: &[f32], out: &mut [f32]) {
    out.copy_from_slice(own);
    let share = share(of_item.len());
    of_item.iter().for_each(|row| add_scaled(kernel, out, rows.row(*row as usize), share));
}

/// Gradients of items on their way to the features that they share. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct FeatureGradients {
    /// Gradients of v of each touched item, touched items × dim.
    pub(crate) of_items: Vec<f32>,
    /// (row of a feature, place of a touched item that has it), in order.
    pairs: Vec<(u32, u32)>,
    sum: Vec<f32>,
}

impl FeatureGradients {
    /// Moves each feature of the touched `items` once, by the sum over those that have it; whether all are still finite.
    pub(crate) fn move_rows(&mut self, kernel: Kernel, features: &mut Features, items: &[u32], rate: f32) -> bool {
        let Self { of_items, pairs, sum } = self;
        let dim = features.vectors.dim();
        pairs.clear();
        for (place, item) in items.iter().enumerate() {
            pairs.extend(features.of(*item as usize).iter().map(|row| (*row, place as u32)));
        }
        pairs.par_sort_unstable();
        sum.resize(dim, 0.0);
        let mut finite = true;
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            sum.fill(0.0);
            for (_, place) in group {
                let n_features = features.of(items[*place as usize] as usize).len();
                add_scaled(kernel, sum, &of_items[*place as usize * dim..][..dim], share(n_features));
            }
            finite &= !features.rows.step(kernel, group[0].0 as usize, sum, rate).is_nan();
        }
        finite
    }
}

#[cfg(test)]
mod tests;
