//! Nearest neighbours among the items of a checkpoint, by brute force: for looking at a model, not for serving it.

use serde::Serialize;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::kernel::rows::{dot, inverse_norm};
use crate::table::ids::Ids;

/// The embeddings of a checkpoint's items, searchable by cosine.
#[derive(Debug)]
pub struct NeighborIndex {
    ids: Ids,
    counts: Vec<u64>,
    dim: usize,
    /// One row per item, scaled to norm 1.
    vectors: Vec<f32>,
}

/// An item near to another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbor {
    /// The item's identifier.
    pub item_id: String,
    /// Cosine of both embeddings.
    pub cosine: f32,
    /// Events of the item so far.
    pub count: u64,
}

impl NeighborIndex {
    /// Reads the items of `checkpoint`.
    ///
    /// # Errors
    /// Where `items.parquet` cannot be read.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let dim = checkpoint.manifest().dim;
        let mut index = Self { ids: Ids::default(), counts: Vec::new(), dim, vectors: Vec::new() };
        for item in checkpoint.items()? {
            let item = item?;
            index.ids.intern(&item.id);
            index.counts.push(item.count);
            let scale = inverse_norm(&item.embedding);
            index.vectors.extend(item.embedding.iter().map(|number| number * scale));
        }
        Ok(index)
    }

    fn vector(&self, row: u32) -> &[f32] {
        &self.vectors[row as usize * self.dim..][..self.dim]
    }

    /// The `k` items nearest to `item`, nearest first; equal ones in the order of their rows. `None` where there is no
    /// such item.
    pub fn nearest(&self, item: &str, k: usize) -> Option<Vec<Neighbor>> {
        let row = self.ids.get(item)?;
        let mut scored: Vec<(f32, u32)> = (0..self.counts.len() as u32)
            .filter(|other| *other != row)
            .map(|other| (dot(self.vector(row), self.vector(other)), other))
            .collect();
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if scored.len() > k {
            scored.select_nth_unstable_by(k, order);
            scored.truncate(k);
        }
        scored.sort_unstable_by(order);
        let neighbor = |(cosine, row): (f32, u32)| Neighbor {
            item_id: self.ids.name(row).to_owned(),
            cosine,
            count: self.counts[row as usize],
        };
        Some(scored.into_iter().map(neighbor).collect())
    }

    /// The identifiers of all items, in the order of their rows.
    pub fn item_ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter()
    }

    /// The items with the most events, most first.
    pub fn most_frequent(&self) -> Vec<&str> {
        let mut rows: Vec<u32> = (0..self.counts.len() as u32).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(self.counts[*row as usize]), *row));
        rows.into_iter().map(|row| self.ids.name(row)).collect()
    }
}
