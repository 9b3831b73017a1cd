//! Verifying: what a sink holds against what it should hold, row by row.

use std::collections::HashMap;

use serde::Serialize;

use super::full_update::TableRow;
use super::{EmbeddingSink, SinkError, SinkState};

/// Differences of one kind: how many, and the items of the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// How many there are.
    pub count: u64,
    /// Items of some of them, in the order of their identifiers.
    pub items: Vec<String>,
}

impl Differences {
    fn of(mut items: Vec<String>, shown: usize) -> Self {
        let count = items.len() as u64;
        items.sort_unstable();
        items.truncate(shown);
        Self { count, items }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Whether there is no difference.
    pub equal: bool,
    /// Rows that the sink should hold.
    pub rows: u64,
    /// Rows that it holds.
    pub held_rows: u64,
    /// The space of the embeddings that it should hold.
    pub model_id: String,
    /// The space that it names; `None` where nothing was ever committed.
    pub held_model_id: Option<String>,
    /// Epoch and step of what was committed last.
    pub held_version: Option<(u64, u64)>,
    /// Items that are not in the sink.
    pub missing: Differences,
    /// Items that are in the sink alone.
    pub extra: Differences,
    /// Items with another embedding.
    pub other_embedding: Differences,
    /// The largest difference of two numbers in them.
    pub largest_difference: f32,
    /// Items with another log-frequency, where these are compared.
    pub other_frequency: Differences,
}

/// Compares what `sink` holds with `expected`, the rows of the model `model_id`. Embeddings are compared as the sink rounds them, to
/// the bit. `frequencies`: whether log-frequencies are compared too. Of each kind of difference, `shown` items are named.
///
/// # Errors
/// Where the sink cannot be read.
pub fn verify(
    sink: &mut dyn EmbeddingSink,
    model_id: &str,
    expected: impl IntoIterator<Item = TableRow>,
    frequencies: bool,
    shown: usize,
) -> Result<Verification, SinkError> {
    let mut waiting: HashMap<String, TableRow> = HashMap::new();
    for mut row in expected {
        sink.round(&mut row.embedding);
        waiting.insert(row.item_id.clone(), row);
    }
    let rows = waiting.len() as u64;
    let (mut held_rows, mut largest_difference) = (0, 0.0_f32);
    let (mut extra, mut other_embedding, mut other_frequency) = (Vec::new(), Vec::new(), Vec::new());
    let state: Option<SinkState> = sink.read(&mut |held| {
        held_rows += 1;
        let Some(row) = waiting.remove(&held.item_id) else { return extra.push(held.item_id) };
        let same_bits =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same_bits(&row.embedding, &held.embedding) {
            let differences = row.embedding.iter().zip(&held.embedding).map(|(a, b)| (a - b).abs());
            largest_difference = differences.fold(largest_difference, f32::max);
            other_embedding.push(held.item_id.clone());
        }
        if frequencies && row.log_frequency.to_bits() != held.log_frequency.to_bits() {
            other_frequency.push(held.item_id);
        }
    })?;
    let is_model = state.as_ref().is_some_and(|state| state.model_id == model_id);
    let missing: Vec<String> = waiting.into_keys().collect();
    let lists = [&missing, &extra, &other_embedding, &other_frequency];
    Ok(Verification {
        equal: is_model && lists.iter().all(|list| list.is_empty()),
        rows,
        held_rows,
        model_id: model_id.to_owned(),
        held_model_id: state.as_ref().map(|state| state.model_id.clone()),
        held_version: state.map(|state| (state.version.epoch, state.version.step)),
        missing: Differences::of(missing, shown),
        extra: Differences::of(extra, shown),
        other_embedding: Differences::of(other_embedding, shown),
        largest_difference,
        other_frequency: Differences::of(other_frequency, shown),
    })
}

#[cfg(test)]
mod tests {
    use super::super::full_update::{TableHead, publish_table};
    use super::*;
    use crate::publish::MemorySink;

    fn row(item_id: &str, number: f32) -> TableRow {
        TableRow { item_id: item_id.to_owned(), embedding: vec![number, 0.0], log_frequency: -number }
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let mut sink = MemorySink::new();
        let empty = verify(&mut sink, "a", [row("x", 1.0)], true, 5).unwrap();
        assert!(!empty.equal && empty.held_model_id.is_none() && empty.missing.items == ["x"]);
        let head = TableHead { model_id: "a", dim: 2, step: 7, replace: false, rows_per_second: None };
        let rows = [row("x", 1.0), row("y", 2.0), row("z", 3.0)];
        publish_table(&mut sink, head, rows.clone().into_iter().map(Ok::<_, SinkError>), |_| {}).unwrap();
        let same = verify(&mut sink, "a", rows.clone(), true, 5).unwrap();
        assert!(same.equal && same.held_version == Some((1, 7)) && (same.rows, same.held_rows) == (3, 3));
        assert!(!verify(&mut sink, "b", rows, true, 5).unwrap().equal, "another model");
        let other = [row("w", 0.0), row("v", 0.0), row("x", 1.5), TableRow { log_frequency: 0.0, ..row("y", 2.0) }];
        let found = verify(&mut sink, "a", other.clone(), true, 1).unwrap();
        assert_eq!((found.missing.count, found.missing.items), (2, vec!["v".to_owned()]));
        assert_eq!((found.extra.count, found.extra.items), (1, vec!["z".to_owned()]));
        assert_eq!((found.other_embedding.count, found.largest_difference), (1, 0.5));
        assert_eq!(found.other_frequency.count, 2);
        assert_eq!(verify(&mut sink, "a", other, false, 1).unwrap().other_frequency.count, 0);
    }
}
