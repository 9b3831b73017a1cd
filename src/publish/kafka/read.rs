//! Reading the rows back: of each key, the newest record counts.

use std::collections::BTreeMap;

use rdkafka::message::Message as _;

use super::KafkaSink;
use super::headers::read_headers;
use crate::publish::{RowPart, SinkError, SinkState, StoredRow, Version};

impl KafkaSink {
    /// The rows of `part`, each by the newest of its records.
    pub(super) fn read_rows(
        &mut self,
        part: RowPart,
        visit: &mut dyn FnMut(StoredRow),
    ) -> Result<Option<SinkState>, SinkError> {
        let Some(held) = self.held()? else { return Ok(None) };
        let mut rows: BTreeMap<Vec<u8>, Option<StoredRow>> = BTreeMap::new();
        let mut moved: BTreeMap<Vec<u8>, (Version, f32)> = BTreeMap::new();
        let (mut is_foreign, layout) = (false, self.layout.clone());
        let [items, popularity, ..] = self.topics.clone();
        self.read_topic(&items, &mut |record| {
            let key = record.key().unwrap_or_default();
            if !part.holds(key) {
                return;
            }
            let key = key.to_vec();
            let Some(value) = record.payload() else { return drop(rows.remove(&key)) };
            let row = read_headers(record).and_then(|(version, log_frequency)| {
                let item_id = String::from_utf8(key.clone()).ok()?;
                let embedding = layout.embedding(value)?;
                Some(StoredRow { item_id, embedding, log_frequency: log_frequency?, version })
            });
            // What was written over since may have been anything.
            rows.insert(key, row.filter(|row| row.embedding.len() == held.dim));
        })?;
        self.read_topic(&popularity, &mut |record| {
            let key = record.key().unwrap_or_default();
            if !part.holds(key) {
                return;
            }
            let key = key.to_vec();
            let Some(value) = record.payload() else {
                moved.remove(&key);
                return;
            };
            match read_headers(record).zip(layout.log_frequency(value)) {
                Some(((version, _), log_frequency)) => {
                    moved.insert(key, (version, log_frequency));
                }
                None => is_foreign = true,
            }
        })?;
        if is_foreign || rows.values().any(Option::is_none) {
            let encoding = layout.encoding.name();
            let message =
                format!("'{items}' or '{popularity}' holds a record that negstream has not written as {encoding}");
            return Err(self.refused(message));
        }
        for (key, row) in rows {
            let Some(mut row) = row else { continue };
            // Of the row's and its own, the newer counts.
            if let Some((_, log_frequency)) = moved.get(&key).filter(|(version, _)| *version > row.version) {
                row.log_frequency = *log_frequency;
            }
            visit(row);
        }
        Ok(Some(SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }
}
