//! `neighbors`: the items nearest to one, from a checkpoint.

use std::fmt::Write;

use serde::Serialize;

use super::{checkpoint, nearest, print};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cli::{Layers, NeighborsArgs};
use crate::exit::UsageError;
use crate::kernel::rows::{dot, inverse_norm};
use crate::table::ids::Ids;
use crate::util::escape::escape_for_terminal;

/// The published items of a checkpoint, searched by brute force.
pub(super) struct NeighborIndex {
    ids: Ids,
    counts: Vec<u64>,
    dim: usize,
    /// Of norm 1.
    vectors: Vec<f32>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Neighbor {
    pub item_id: String,
    pub cosine: f32,
    pub count: u64,
}

impl NeighborIndex {
    /// Reads the items of `checkpoint`.
    pub(super) fn read(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
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
    pub(super) fn nearest(&self, item: &str, k: usize) -> Option<Vec<Neighbor>> {
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

    /// The items with the most events, most first.
    pub(super) fn most_frequent(&self) -> Vec<&str> {
        let mut rows: Vec<u32> = (0..self.counts.len() as u32).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(self.counts[*row as usize]), *row));
        rows.into_iter().map(|row| self.ids.name(row)).collect()
    }
}

pub(super) fn neighbors(layers: &Layers, options: NeighborsArgs) -> anyhow::Result<()> {
    let intact = checkpoint(layers, &options.checkpoint)?;
    let index = NeighborIndex::read(&intact)?;
    let Some(neighbors) = index.nearest(&options.item, options.k as usize) else {
        let like = nearest(index.ids.iter(), &options.item)
            .map(|name| format!("; the nearest name is '{}'", escape_for_terminal(name)));
        let item = escape_for_terminal(&options.item);
        let path = intact.path().display();
        return Err(UsageError(format!("no item '{item}' in {path}{}", like.unwrap_or_default())).into());
    };
    if options.json {
        let value = serde_json::json!({ "item_id": options.item, "neighbors": neighbors });
        print(&format!("{value}\n"));
        return Ok(());
    }
    print(&table(&neighbors));
    Ok(())
}

/// For people.
pub(super) fn table(neighbors: &[Neighbor]) -> String {
    let names: Vec<String> = neighbors.iter().map(|neighbor| escape_for_terminal(&neighbor.item_id)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  cosine     count\n", "item");
    for (name, neighbor) in names.iter().zip(neighbors) {
        writeln!(text, "{name:<width$}  {:>6.3}  {:>8}", neighbor.cosine, neighbor.count).expect("text grows");
    }
    text
}
