//! Verifying: what a sink holds against what it should hold, row by row, in as many passes as the memory allowed needs.
//!
//! Each pass reads both sides whole and compares the rows of one [`RowPart`], so that neither side is ever held whole.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::full_update::TableRow;
use super::{EmbeddingSink, RowPart, SinkError, SinkState, StoredRow};

/// Bytes that a row takes beside its embedding: its identifier, twice, and the places in tables.
const BYTES_BESIDE: u64 = 200;

/// Differences of one kind: how many, and the items of the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// How many there are.
    pub count: u64,
    /// Items of some of them, the first in the order of their identifiers.
    pub items: BTreeSet<String>,
}

impl Differences {
    /// Notes one more, and names `shown` at most.
    fn note(&mut self, item_id: String, shown: usize) {
        self.count += 1;
        self.items.insert(item_id);
        if self.items.len() > shown {
            self.items.pop_last();
        }
    }
}

/// What a sink should hold.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedTable<'a> {
    /// The space of its embeddings.
    pub model_id: &'a str,
    /// Numbers in an embedding.
    pub dim: usize,
    /// How many rows it has.
    pub rows: u64,
}

/// How a sink is verified.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Whether log-frequencies are compared too.
    pub frequencies: bool,
    /// Items that are named of each kind of difference.
    pub shown: usize,
    /// Bytes that the rows of one pass may take, those of both sides together.
    pub memory: u64,
}

impl VerifyOptions {
    /// How many passes a table takes.
    fn n_passes(&self, table: &ExpectedTable<'_>) -> u32 {
        let bytes = 2 * table.rows * (4 * table.dim as u64 + BYTES_BESIDE);
        u32::try_from(bytes.div_ceil(self.memory.max(1))).unwrap_or(u32::MAX).max(1)
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

impl Verification {
    fn new(model_id: &str) -> Self {
        Self {
            equal: false,
            rows: 0,
            held_rows: 0,
            model_id: model_id.to_owned(),
            held_model_id: None,
            held_version: None,
            missing: Differences::default(),
            extra: Differences::default(),
            other_embedding: Differences::default(),
            largest_difference: 0.0,
            other_frequency: Differences::default(),
        }
    }

    /// Compares a row of the sink with the one of the same item that waits for it.
    fn compare(&mut self, held: StoredRow, waiting: &mut HashMap<String, TableRow>, options: VerifyOptions) {
        let VerifyOptions { frequencies, shown, .. } = options;
        self.held_rows += 1;
        let Some(row) = waiting.remove(&held.item_id) else { return self.extra.note(held.item_id, shown) };
        let same_bits =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same_bits(&row.embedding, &held.embedding) {
            let differences = row.embedding.iter().zip(&held.embedding).map(|(a, b)| (a - b).abs());
            self.largest_difference = differences.fold(self.largest_difference, f32::max);
            self.other_embedding.note(held.item_id.clone(), shown);
        }
        if frequencies && row.log_frequency.to_bits() != held.log_frequency.to_bits() {
            self.other_frequency.note(held.item_id, shown);
        }
    }
}

/// Compares what `sink` holds with `table`, whose rows `rows` gives from the first on each time that it is called. Embeddings are
/// compared as the sink rounds them, to the bit.
///
/// # Errors
/// Where either side cannot be read, or the sink is written to between two passes.
pub fn verify<E: From<SinkError>, I: Iterator<Item = Result<TableRow, E>>>(
    sink: &mut dyn EmbeddingSink,
    table: ExpectedTable<'_>,
    mut rows: impl FnMut() -> Result<I, E>,
    options: VerifyOptions,
) -> Result<Verification, E> {
    let mut found = Verification::new(table.model_id);
    let mut states: Option<Option<SinkState>> = None;
    for part in RowPart::all(options.n_passes(&table)) {
        let mut waiting: HashMap<String, TableRow> = HashMap::new();
        for row in rows()? {
            let mut row = row?;
            if part.holds(row.item_id.as_bytes()) {
                sink.round(&mut row.embedding);
                waiting.insert(row.item_id.clone(), row);
            }
        }
        found.rows += waiting.len() as u64;
        let state = sink.read_part(part, &mut |held| found.compare(held, &mut waiting, options))?;
        if *states.get_or_insert_with(|| state.clone()) != state {
            return Err(SinkError::away(sink.name(), "it was written to while it was read; verify it again").into());
        }
        waiting.into_keys().for_each(|item_id| found.missing.note(item_id, options.shown));
    }
    let state = states.flatten();
    let kinds = [&found.missing, &found.extra, &found.other_embedding, &found.other_frequency];
    let is_model = state.as_ref().is_some_and(|state| state.model_id == table.model_id);
    found.equal = is_model && kinds.iter().all(|kind| kind.count == 0);
    found.held_version = state.as_ref().map(|state| (state.version.epoch, state.version.step));
    found.held_model_id = state.map(|state| state.model_id);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::full_update::{TableHead, publish_table};
    use super::*;
    use crate::publish::{ItemRow, MemorySink, Update, Version};

    const ALL: VerifyOptions = VerifyOptions { frequencies: true, shown: 5, memory: u64::MAX };

    fn row(item_id: &str, number: f32) -> TableRow {
        TableRow { item_id: item_id.to_owned(), embedding: vec![number, 0.0], log_frequency: -number }
    }

    fn compare(
        sink: &mut dyn EmbeddingSink,
        model_id: &str,
        rows: &[TableRow],
        options: VerifyOptions,
    ) -> Verification {
        let table = ExpectedTable { model_id, dim: 2, rows: rows.len() as u64 };
        verify(sink, table, || Ok(rows.iter().cloned().map(Ok::<_, SinkError>)), options).unwrap()
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let mut sink = MemorySink::new();
        let empty = compare(&mut sink, "a", &[row("x", 1.0)], ALL);
        assert!(!empty.equal && empty.held_model_id.is_none() && empty.missing.items.iter().eq(["x"]));
        let head = TableHead { model_id: "a", dim: 2, step: 7, replace: false, rows_per_second: None };
        let rows = [row("x", 1.0), row("y", 2.0), row("z", 3.0)];
        publish_table(&mut sink, head, rows.clone().into_iter().map(Ok::<_, SinkError>), |_| {}).unwrap();
        let same = compare(&mut sink, "a", &rows, ALL);
        assert!(same.equal && same.held_version == Some((1, 7)) && (same.rows, same.held_rows) == (3, 3));
        assert!(!compare(&mut sink, "b", &rows, ALL).equal, "another model");
        let other = [row("w", 0.0), row("v", 0.0), row("x", 1.5), TableRow { log_frequency: 0.0, ..row("y", 2.0) }];
        // In one pass, and in as many as there are.
        for memory in [u64::MAX, 300] {
            let found = compare(&mut sink, "a", &other, VerifyOptions { shown: 1, memory, ..ALL });
            assert_eq!((found.rows, found.held_rows), (4, 3));
            assert!(found.missing.count == 2 && found.missing.items.iter().eq(["v"]));
            assert!(found.extra.count == 1 && found.extra.items.iter().eq(["z"]));
            assert_eq!((found.other_embedding.count, found.largest_difference), (1, 0.5));
            assert_eq!(found.other_frequency.count, 2);
        }
        assert_eq!(
            compare(&mut sink, "a", &other, VerifyOptions { frequencies: false, ..ALL }).other_frequency.count,
            0
        );
    }

    /// A sink of as many rows as one likes, none of which it holds.
    #[derive(Debug)]
    struct ComputedSink {
        rows: u64,
        /// Rows shown in each pass.
        shown: Vec<u64>,
    }

    /// Row `i`; every hundred thousandth is another one in the sink.
    fn computed(i: u64, is_held: bool) -> TableRow {
        let number = if is_held && i % 100_000 == 7 { 2.5 } else { 2.0 };
        TableRow { item_id: format!("item-{i}"), embedding: vec![number, i as f32], log_frequency: -1.0 }
    }

    impl EmbeddingSink for ComputedSink {
        fn name(&self) -> &str {
            "computed"
        }

        fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
            let version = Version { epoch: 1, step: 1 };
            for row in (1..=self.rows).map(|i| computed(i, true)) {
                let TableRow { item_id, embedding, log_frequency } = row;
                visit(StoredRow { item_id, embedding, log_frequency, version });
            }
            Ok(Some(SinkState { model_id: "a".to_owned(), version, dim: 2 }))
        }

        fn read_part(
            &mut self,
            part: RowPart,
            visit: &mut dyn FnMut(StoredRow),
        ) -> Result<Option<SinkState>, SinkError> {
            let mut shown = 0;
            let state = self.read(&mut |row| {
                if part.holds(row.item_id.as_bytes()) {
                    shown += 1;
                    visit(row);
                }
            })?;
            self.shown.push(shown);
            Ok(state)
        }

        fn begin(&mut self, _: &Update<'_>) -> Result<(), SinkError> {
            Ok(())
        }

        fn remove(&mut self, _: &[&str]) -> Result<(), SinkError> {
            Ok(())
        }

        fn upsert(&mut self, _: &[ItemRow<'_>]) -> Result<(), SinkError> {
            Ok(())
        }

        fn set_popularity(&mut self, _: &[(&str, f32)]) -> Result<(), SinkError> {
            Ok(())
        }

        fn commit(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    fn compare_a_million(memory: u64) -> (Verification, Vec<u64>) {
        const ROWS: u64 = 1_000_000;
        let mut sink = ComputedSink { rows: ROWS, shown: Vec::new() };
        let table = ExpectedTable { model_id: "a", dim: 2, rows: ROWS };
        // Row 0 is expected alone, the last one is in the sink alone.
        let rows = || Ok((0..ROWS).map(|i| Ok::<_, SinkError>(computed(i, false))));
        let found = verify(&mut sink, table, rows, VerifyOptions { memory, ..ALL }).unwrap();
        (found, sink.shown)
    }

    #[test]
    fn a_million_rows_are_compared_within_the_memory_allowed_and_no_difference_is_lost() {
        let memory = 80 << 20;
        let (found, shown) = compare_a_million(memory);
        assert_eq!((found.rows, found.held_rows, found.missing.count, found.extra.count), (1_000_000, 1_000_000, 1, 1));
        assert!(found.missing.items.iter().eq(["item-0"]) && found.extra.items.iter().eq(["item-1000000"]));
        assert_eq!((found.other_embedding.count, found.largest_difference), (10, 0.5));
        assert_eq!(shown.len(), 5);
        // Parts are alike, so that what one of them takes is what was counted on.
        let most = shown.iter().max().copied().unwrap_or_default();
        assert!(2 * most * (8 + BYTES_BESIDE) <= memory * 102 / 100, "{shown:?}");
    }

    /// By itself in a process, it prints what that took (docs/publishing.md).
    #[test]
    #[ignore = "measures the process: cargo test --release --lib peak_of_a_million -- --ignored --nocapture"]
    fn peak_of_a_million_rows_is_printed() {
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown").to_owned()
        };
        println!("before: {}", peak());
        for memory in [20 << 20, 80 << 20, u64::MAX] {
            let (_, shown) = compare_a_million(memory);
            println!("{memory} bytes allowed, {} passes: {}", shown.len(), peak());
        }
    }
}
