//! `neighbors`: the items nearest to one, from a checkpoint.

use std::fmt::Write;

use super::{checkpoint, print};
use crate::cli::{Layers, NeighborsArgs};
use crate::exit::UsageError;
use crate::neighbors::{Neighbor, NeighborIndex};
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

pub(super) fn neighbors(layers: &Layers, options: NeighborsArgs) -> anyhow::Result<()> {
    let checkpoint = checkpoint(layers, &options.checkpoint)?;
    let index = NeighborIndex::read(&checkpoint)?;
    let Some(neighbors) = index.nearest(&options.item, options.k as usize) else {
        let similar = nearest(index.item_ids(), &options.item)
            .map(|(name, _)| format!("; the nearest name is '{}'", escape_for_terminal(name)));
        let item = escape_for_terminal(&options.item);
        let path = checkpoint.path().display();
        return Err(UsageError(format!("no item '{item}' in {path}{}", similar.unwrap_or_default())).into());
    };
    if options.json {
        let value = serde_json::json!({ "item_id": options.item, "neighbors": neighbors });
        print(&format!("{value}\n"));
        return Ok(());
    }
    print(&table(&neighbors));
    Ok(())
}

/// A table of neighbours, for people.
pub(super) fn table(neighbors: &[Neighbor]) -> String {
    let names: Vec<String> = neighbors.iter().map(|neighbor| escape_for_terminal(&neighbor.item_id)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  cosine     count\n", "item");
    for (name, neighbor) in names.iter().zip(neighbors) {
        writeln!(text, "{name:<width$}  {:>6.3}  {:>8}", neighbor.cosine, neighbor.count).expect("text grows");
    }
    text
}
