//! A log in Parquet: its metadata, its columns, and how they are compressed.

use std::sync::Arc;

use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;

use super::bytes::LogBytes;
use super::{BLOCK, Cause, LogOptions, LogProblem};
use crate::decode::arrow_rows::{ArrowRows, ColumnProblem, LogColumns, PartitionValue, with_wide_times};
use crate::util::cargo_feature::CargoFeature;
use crate::util::catch_panic::catch_panic;

/// An opened log in Parquet.
#[derive(Debug, Clone)]
pub(super) struct ColumnarLog {
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) columns: LogColumns,
}

impl ColumnarLog {
    /// Opens a log, and finds its columns; with what a person should know of them. `None` for a log without rows whose columns
    /// are not what they should be: nothing is read of it, and there is nothing to know them by.
    pub(super) fn open(
        bytes: &LogBytes,
        options: &LogOptions,
        partitions: &[PartitionValue],
    ) -> Result<Option<(Self, Vec<ColumnProblem>)>, LogProblem> {
        let metadata = metadata(bytes).map_err(LogProblem::of_cause)?;
        let found =
            LogColumns::find(metadata.schema(), metadata.parquet_schema(), &options.rules, options.columns, partitions);
        let (columns, told) = match found {
            Ok(found) => found,
            Err(_) if metadata.metadata().file_metadata().num_rows() <= 0 => return Ok(None),
            Err(problem) => return Err(LogProblem::Column(problem)),
        };
        check_compression(&metadata, &columns).map_err(LogProblem::of_words)?;
        Ok(Some((Self { metadata, columns }, told)))
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// A reader of `columns` that goes on at the row `first`.
    pub(super) fn read(
        &self,
        bytes: LogBytes,
        first: u64,
        columns: &LogColumns,
    ) -> Result<ParquetRecordBatchReader, Cause> {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.metadata.clone())
            .with_projection(columns.mask(self.metadata.parquet_schema()))
            .with_batch_size(BLOCK)
            .with_offset(first as usize);
        Ok(catch_panic(|| reader.build())??)
    }

    /// How many rows are of one of `kinds`.
    pub(super) fn count(&self, bytes: LogBytes, kinds: &[String], options: &LogOptions) -> Result<u64, Cause> {
        let is_wanted = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
        let Some(columns) = self.columns.kinds_alone() else {
            let kind = self.columns.constant_kind().unwrap_or_default();
            return Ok(if is_wanted(kind) { self.rows() } else { 0 });
        };
        let mut count = 0;
        let mut reader = self.read(bytes, 0, &columns)?;
        while let Some(batch) = catch_panic(|| reader.next())? {
            let batch = batch?;
            let rows = ArrowRows::new(&batch, &columns, &options.rules, options.limits);
            let kinds_there = (0..batch.num_rows()).filter_map(|row| rows.kind(row));
            count += kinds_there.filter(|kind| is_wanted(kind)).count() as u64;
        }
        Ok(count)
    }
}

/// The metadata of an opened file.
pub(super) fn metadata(bytes: &LogBytes) -> Result<ArrowReaderMetadata, Cause> {
    // The writer's Arrow types (large, dictionary-encoded or view text) are storage details: the Parquet types are few and
    // always the same.
    let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = catch_panic(|| ArrowReaderMetadata::load(bytes, reading))??;
    let wide = with_wide_times(metadata.schema(), metadata.parquet_schema());
    let Some(schema) = wide else { return Ok(metadata) };
    let reading = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    Ok(catch_panic(|| ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), reading))??)
}

/// Checks that the columns that are read are compressed in a way that can be undone.
fn check_compression(metadata: &ArrowReaderMetadata, columns: &LogColumns) -> Result<(), String> {
    let leaves = columns.leaves(metadata.parquet_schema());
    for group in metadata.metadata().row_groups() {
        for leaf in &leaves {
            let Some(chunk) = group.columns().get(*leaf) else { continue };
            let (codec, why) = match chunk.compression() {
                Compression::BROTLI(_) if !CargoFeature::Brotli.is_built_in() => {
                    ("Brotli", CargoFeature::Brotli.missing())
                }
                Compression::LZO => ("LZO", "is not known here".to_owned()),
                _ => continue,
            };
            let column = chunk.column_path().string();
            return Err(format!(
                "column '{column}' is compressed by {codec}, which {why}; or write the log anew, with DuckDB for instance: \
                 copy 'IN.parquet' to 'OUT.parquet' (compression zstd)"
            ));
        }
    }
    Ok(())
}
