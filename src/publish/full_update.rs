//! The update that brings a whole table: which epoch it has, and how a table that lies on a disk is published once.

use std::time::{Duration, Instant};

use super::{EmbeddingSink, ItemRow, SinkError, Update, UpdateKind, Version};

/// Rows that a sink is given at a time.
pub(crate) const ROWS_PER_CALL: usize = 4_096;

/// A row of a table that is published once.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// The item's identifier.
    pub item_id: String,
    /// Its embedding.
    pub embedding: Vec<f32>,
    /// Natural logarithm of its share among the stream's events.
    pub log_frequency: f32,
}

/// The table that is published once.
#[derive(Debug, Clone, Copy)]
pub struct TableHead<'a> {
    /// The space of its embeddings.
    pub model_id: &'a str,
    /// Numbers in an embedding.
    pub dim: usize,
    /// Training steps taken.
    pub step: u64,
    /// Whether embeddings of another model in the sink are replaced.
    pub replace: bool,
    /// Most rows a second; `None` for as many as the sink takes.
    pub rows_per_second: Option<u64>,
}

/// The epoch of a full update of the model `model_id`: the one above what the sink holds.
///
/// # Errors
/// Where the sink cannot be asked, or holds embeddings of another model or of another dimension that are not to be replaced.
pub fn next_epoch(sink: &mut dyn EmbeddingSink, model_id: &str, dim: usize, replace: bool) -> Result<u64, SinkError> {
    let Some(held) = sink.state()? else { return Ok(1) };
    if held.model_id != model_id && !replace {
        let message = format!(
            "holds embeddings of another model ({}, and this one is {model_id}); set replace = true to have them replaced, or another \
             name",
            held.model_id
        );
        return Err(SinkError::refused(sink.name(), message));
    }
    if held.dim != dim && !replace {
        let message = format!("holds embeddings of {} numbers, and this model's have {dim}", held.dim);
        return Err(SinkError::refused(sink.name(), message));
    }
    Ok(held.version.epoch + 1)
}

/// Publishes `rows` as the whole table, and tells `progress` after each call how many were sent. Gives the version.
///
/// # Errors
/// Those of the sink, and those with which `rows` end early: nothing is committed then.
pub fn publish_table<E: From<SinkError>>(
    sink: &mut dyn EmbeddingSink,
    head: TableHead<'_>,
    rows: impl Iterator<Item = Result<TableRow, E>>,
    mut progress: impl FnMut(u64),
) -> Result<Version, E> {
    let TableHead { model_id, dim, step, replace, rows_per_second } = head;
    let version = Version { epoch: next_epoch(sink, model_id, dim, replace)?, step };
    sink.begin(&Update { kind: UpdateKind::Full, version, dim, model_id })?;
    let rows_per_call = rows_per_second.map_or(ROWS_PER_CALL, |rate| (rate as usize / 4).clamp(1, ROWS_PER_CALL));
    let (begin, mut n_sent) = (Instant::now(), 0);
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let part: Vec<TableRow> = rows.by_ref().take(rows_per_call).collect::<Result<_, E>>()?;
        let of_part = part.iter().map(|row| ItemRow {
            item_id: &row.item_id,
            embedding: &row.embedding,
            log_frequency: row.log_frequency,
        });
        sink.upsert(&of_part.collect::<Vec<_>>())?;
        n_sent += part.len() as u64;
        progress(n_sent);
        if let Some(rate) = rows_per_second {
            let until = Duration::from_secs_f64(n_sent as f64 / rate as f64);
            std::thread::sleep(until.saturating_sub(begin.elapsed()));
        }
    }
    sink.commit()?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::MemorySink;

    fn rows(n: usize) -> impl Iterator<Item = Result<TableRow, SinkError>> {
        (0..n).map(|row| Ok(TableRow { item_id: row.to_string(), embedding: vec![row as f32], log_frequency: -1.0 }))
    }

    #[test]
    fn table_is_published_whole_under_a_new_epoch_or_not_at_all() {
        let mut sink = MemorySink::new();
        let head = TableHead { model_id: "a", dim: 1, step: 7, replace: false, rows_per_second: None };
        let mut told = Vec::new();
        let version = publish_table(&mut sink, head, rows(5_000), |sent| told.push(sent)).unwrap();
        assert_eq!((version, told), (Version { epoch: 1, step: 7 }, vec![4_096, 5_000]));
        let fast = TableHead { rows_per_second: Some(1_000_000), ..head };
        assert_eq!(publish_table(&mut sink, fast, rows(3), |_| {}).unwrap().epoch, 2);
        assert_eq!(sink.rows().len(), 3);
        let broken = rows(4_100).chain([Err(SinkError::away("a file", "cut off"))]);
        assert!(publish_table(&mut sink, head, broken, |_| {}).is_err());
        assert_eq!(sink.rows().len(), 3, "nothing of it is visible");
        for (other, word) in
            [(TableHead { model_id: "b", ..head }, "another model"), (TableHead { dim: 2, ..head }, "1 numbers")]
        {
            let said = publish_table(&mut sink, other, rows(1), |_| {}).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
        let replacing = TableHead { model_id: "b", replace: true, ..head };
        assert_eq!(publish_table(&mut sink, replacing, rows(1), |_| {}).unwrap().epoch, 3);
    }
}
