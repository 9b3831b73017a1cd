//! `audit.parquet`: which records became part of the state, and what became of each, where `checkpoint.audit` asks for it.

use arrow_array::types::UInt64Type;
use arrow_schema::{DataType, Field};

use super::damaged;
use crate::checkpoint::columns::{self, Layout, primitive_column, string_column};
use crate::checkpoint::store::Draft;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::trainer::audit::{OffsetRange, RecordAudit, RecordFate};

const AUDIT: &str = "audit.parquet";

/// Writes a row for each range of offsets: its `stream`, the records' `fate`, and the offsets `from` (the first) `until` (one
/// past the last).
pub(super) fn write(draft: &mut Draft, audit: &RecordAudit) -> Result<(), CheckpointError> {
    let all = audit.streams.iter().flat_map(|(stream, ranges)| ranges.iter().map(move |range| (stream, range)));
    let rows: Vec<(&String, &OffsetRange)> = all.collect();
    let fields = vec![
        Field::new("stream", DataType::Utf8, false),
        Field::new("fate", DataType::Utf8, false),
        Field::new("from", DataType::UInt64, false),
        Field::new("until", DataType::UInt64, false),
    ];
    columns::write(draft, AUDIT, fields, rows.len(), Layout::Published, |range| {
        let rows = &rows[range];
        vec![
            string_column(rows.iter().map(|(stream, _)| stream.as_str())),
            string_column(rows.iter().map(|(_, range)| range.fate.name())),
            primitive_column::<UInt64Type>(rows.iter().map(|(_, range)| range.from)),
            primitive_column::<UInt64Type>(rows.iter().map(|(_, range)| range.until)),
        ]
    })
}

/// Reads the audit of `checkpoint`; `None` where it has none.
///
/// # Errors
/// [`CheckpointError::Damaged`] where the file does not hold what it must.
pub fn read(checkpoint: &Checkpoint) -> Result<Option<RecordAudit>, CheckpointError> {
    if !checkpoint.manifest().files.iter().any(|file| file.name == AUDIT) {
        return Ok(None);
    }
    let mut audit = RecordAudit::default();
    let mut is_sound = true;
    columns::read(checkpoint.folder(), AUDIT, |slice| {
        let (streams, fates) = (slice.strings("stream")?, slice.strings("fate")?);
        let (from, until) = (slice.primitives::<UInt64Type>("from")?, slice.primitives::<UInt64Type>("until")?);
        for row in 0..slice.len() {
            match RecordFate::ALL.into_iter().find(|fate| fate.name() == fates.value(row)) {
                Some(fate) if from[row] < until[row] => {
                    audit.record(streams.value(row), OffsetRange { from: from[row], until: until[row], fate });
                }
                _ => is_sound = false,
            }
        }
        Ok(())
    })?;
    if is_sound {
        return Ok(Some(audit));
    }
    Err(damaged(checkpoint.path(), AUDIT, "it holds a fate that is not known, or a range without offsets"))
}
