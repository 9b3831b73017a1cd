//! Neighbouring files become one, so that there are never many.

use std::collections::HashMap;

use super::file::{FileHead, FileRow, FileWriter};
use super::{NAME, ParquetSink, ShownFile, sink_error};
use crate::publish::SinkError;

/// Rows that are written at a time.
const ROWS_PER_BATCH: usize = 4_096;

impl ParquetSink {
    /// The first of the files that are to be one: those before it are more than twice as large as all behind them.
    fn first_to_merge(&self) -> usize {
        let (mut first, mut n_rows) = (self.files.len(), 0);
        while first > 0 {
            let file = self.files[first - 1];
            // Two at least, so that there are fewer files afterwards.
            if first + 2 <= self.files.len() && file.n_rows > 2 * n_rows {
                break;
            }
            n_rows += file.n_rows;
            first -= 1;
        }
        first
    }

    /// Merges the newest files into one.
    pub(super) fn merge(&mut self) -> Result<(), SinkError> {
        let Some(head) = self.committed.clone() else { return Ok(()) };
        let first = self.first_to_merge();
        let merged = self.files.split_off(first);
        let whole = first == 0;
        let outcome = self.merge_into_one(&merged, FileHead { whole, ..head });
        match outcome {
            Ok(one) => self.files.push(one),
            Err(error) => {
                self.files.extend(merged);
                return Err(error);
            }
        }
        self.obsolete.extend(merged.iter().map(|file| file.number));
        self.remove_obsolete()
    }

    /// Deletes obsolete files, oldest first.
    pub(super) fn remove_obsolete(&mut self) -> Result<(), SinkError> {
        while let Some(oldest) = self.obsolete.first() {
            self.place.remove(*oldest)?;
            self.obsolete.remove(0);
        }
        Ok(())
    }

    fn merge_into_one(&mut self, files: &[ShownFile], head: FileHead) -> Result<ShownFile, SinkError> {
        let Some((oldest, newer)) = files.split_first() else { return Err(self.refused("there is nothing to merge")) };
        let number = newer.last().unwrap_or(oldest).number + 1;
        let whole = head.whole;
        // The oldest is the largest: it goes by a batch at a time.
        let mut laid_over: HashMap<String, FileRow> = HashMap::new();
        for file in newer {
            self.each_row(file.number, &mut |row| {
                let row = match laid_over.remove(&row.item_id) {
                    Some(older) => row.over(older),
                    None => row,
                };
                laid_over.insert(row.item_id.clone(), row);
                Ok(())
            })?;
        }
        let (hidden, mut writer) = self.begin_file(head)?;
        let mut batch = Vec::new();
        let mut write = |row: FileRow, writer: &mut FileWriter| {
            // What went is told for as long as an older file may hold it.
            if !whole || row.embedding.is_some() {
                batch.push(row);
            }
            if batch.len() >= ROWS_PER_BATCH {
                writer.write(&batch).map_err(sink_error)?;
                batch.clear();
            }
            Ok::<(), SinkError>(())
        };
        self.each_row(oldest.number, &mut |row| {
            let row = match laid_over.remove(&row.item_id) {
                Some(newer) => newer.over(row),
                None => row,
            };
            write(row, &mut writer)
        })?;
        let mut rest: Vec<FileRow> = laid_over.into_values().collect();
        rest.sort_unstable_by(|left, right| left.item_id.cmp(&right.item_id));
        rest.into_iter().try_for_each(|row| write(row, &mut writer))?;
        writer.write(&batch).map_err(sink_error)?;
        self.show(hidden, writer, number).map(|(_, file)| file)
    }

    pub(super) fn each_row(
        &self,
        number: u64,
        visit: &mut dyn FnMut(FileRow) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let missing = || SinkError::away(NAME, format!("file {number} is there no more; a full update makes it whole"));
        let (_, _, rows) = self.place.open(number)?.ok_or_else(missing)?;
        for rows in rows {
            rows.map_err(sink_error)?.into_iter().try_for_each(&mut *visit)?;
        }
        Ok(())
    }
}
