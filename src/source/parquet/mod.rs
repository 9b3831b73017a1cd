//! Historical logs from Parquet: files, folders and patterns, on this machine, in object stores and on web servers, read in the
//! order given (a folder's or a pattern's files by name, numbers in names as numbers), a few thousand rows at a time.
//!
//! A file is known by its content, not by its path: one that was read to its end is not read again under another name, and
//! one that grew or changed is another file. All files are opened, and their columns and compression checked, before the
//! first row is read.
//!
//! | module | holds |
//! | --- | --- |
//! | `files` | which files a name stands for, and what is no log |
//! | `bytes` | the bytes of a log, wherever it lies |
//! | `network` | how logs on other machines are reached |
//! | `fingerprint` | what a file is known by |
//! | [`sorted`] | the same logs in the order of time |

mod bytes;
mod files;
mod fingerprint;
mod network;
pub mod sorted;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;

use super::{CommitTracker, EventSource, PollStatus, SourceError};
pub use crate::decode::arrow_rows::ColumnSelection;
use crate::decode::arrow_rows::{ArrowRows, LogColumns, with_wide_times};
use crate::decode::{FieldRules, SourceConfig};
use crate::event::{EventLimits, Record};
use crate::position::{Positions, Stream};
use crate::util::cargo_feature::CargoFeature;
use crate::util::catch_panic::catch_panic;
use bytes::{LogBytes, LogPlace};
use files::FoundLog;
use fingerprint::Fingerprints;
pub use network::NetworkOptions;

/// Rows handed over at a time.
const BLOCK: usize = 4096;
/// How logs are read.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// What the columns are called, and how their times are read.
    pub rules: FieldRules,
    /// What every event must keep.
    pub limits: EventLimits,
    /// Which columns are read.
    pub columns: ColumnSelection,
    /// How logs on other machines are reached.
    pub network: NetworkOptions,
}

impl LogOptions {
    /// The options for logs as `source` says, with the columns that a model needs; those of features `with_features`.
    pub fn new(source: &SourceConfig, with_features: bool) -> Self {
        let columns = if with_features { ColumnSelection::ModelWithFeatures } else { ColumnSelection::Model };
        Self::selecting(source, columns)
    }

    /// The options for logs as `source` says, with these columns.
    pub fn selecting(source: &SourceConfig, columns: ColumnSelection) -> Self {
        let (rules, limits) = (FieldRules::new(source), crate::decode::limits(source));
        Self { rules, limits, columns, network: NetworkOptions::new(source) }
    }
}

/// An opened log file.
#[derive(Debug, Clone)]
struct LogFile {
    /// The path; of a log on another machine its address, without what may be secret in it.
    path: PathBuf,
    place: LogPlace,
    metadata: ArrowReaderMetadata,
    columns: LogColumns,
    /// The name of the stream in checkpoints of earlier versions.
    former_name: String,
    rows: u64,
    /// First row that is still to be read.
    next: u64,
}

/// The cause of an error: what the file system, the reader of Parquet or a panic in it says.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetLogError {
    /// A path or pattern that names no file.
    #[error("no such log: {pattern}: {reason}")]
    NotFound {
        /// The pattern as the user gave it; of an address, what may be shown.
        pattern: String,
        /// What is there instead, or why it cannot be.
        reason: String,
    },
    /// An address that cannot be, or that this program was built without.
    #[error("log {address}: {problem}")]
    InvalidAddress {
        /// What may be shown of the address.
        address: String,
        /// What is wrong with it, and what to do about it.
        problem: String,
    },
    /// The thread for requests to other machines.
    #[error("cannot start a thread for requests to other machines: {source}")]
    Network {
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file that cannot be opened or read, or is not Parquet.
    #[error("cannot read {}: {}{source}", path.display(), place(*after_row))]
    Unreadable {
        /// The file; on another machine its address, without what may be secret in it.
        path: PathBuf,
        /// Number of rows that were read before the damaged place, where that is known.
        after_row: Option<u64>,
        /// Why the file cannot be read.
        source: Cause,
    },
    /// A column that is missing or of the wrong type.
    #[error("{}: column '{column}' {problem}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column's name in the file.
        column: String,
        /// What is wrong with the column.
        problem: String,
    },
    /// Logs that cannot be sorted.
    #[error("cannot sort in {}: {source} (TMPDIR names another folder; sorting takes about as much room as the logs do)", folder.display())]
    Sort {
        /// The folder for temporary files.
        folder: PathBuf,
        /// Why they cannot be written or read.
        source: std::io::Error,
    },
    /// Logs that were read in another order before.
    #[error("{problem}")]
    Order {
        /// What was done before, and what can be done now.
        problem: String,
    },
}

fn place(after_row: Option<u64>) -> String {
    after_row.map_or(String::new(), |row| format!("after row {row}: "))
}

/// Historical logs, read one after the other; each file is a stream.
#[derive(Debug)]
pub struct ParquetLogs {
    options: Arc<LogOptions>,
    logs: Vec<LogFile>,
    streams: Vec<Stream>,
    current: usize,
    reader: Option<ParquetRecordBatchReader>,
}

impl ParquetLogs {
    /// Opens the logs that `patterns` name, to be read from `positions`.
    ///
    /// # Errors
    /// [`ParquetLogError`]: the first pattern that names nothing, or file that cannot be read or lacks a column.
    pub fn open(patterns: &[String], options: LogOptions, positions: &Positions) -> Result<Self, SourceError> {
        let mut logs = Self::open_files(patterns, options)?;
        logs.seek(positions)?;
        Ok(logs)
    }

    fn open_files(patterns: &[String], options: LogOptions) -> Result<Self, ParquetLogError> {
        let mut logs: Vec<LogFile> = Vec::new();
        let mut streams: Vec<Stream> = Vec::new();
        let mut told = BTreeSet::new();
        let found = files::expand(patterns, &options.network)?;
        for remark in found.remarks {
            tracing::warn!("{remark}");
        }
        for FoundLog { path, place } in found.logs {
            let unreadable = |cause| unreadable(&path, place.cause(cause));
            let bytes = place.open(&path).map_err(|error| unreadable(error.into()))?;
            let checked = files::check(&bytes).map_err(|error| unreadable(error.into()))?;
            checked.map_err(|problem| unreadable(problem.into()))?;
            let Fingerprints { content, edges } =
                fingerprint::fingerprints(&bytes).map_err(|error| unreadable(error.into()))?;
            let name = format!("parquet/{content}");
            if streams.iter().any(|stream| stream.name == name) {
                tracing::warn!(path = %path.display(), "log named twice, read once");
                continue;
            }
            let metadata = metadata(&bytes).map_err(unreadable)?;
            let rows = metadata.metadata().file_metadata().num_rows().max(0) as u64;
            if rows == 0 {
                // Nothing is read of it, so that its columns need not be what they should: there is nothing to know them by.
                tracing::debug!(path = %path.display(), "log without rows");
            }
            let partitions = files::partitions(&path);
            let found = LogColumns::find(
                metadata.schema(),
                metadata.parquet_schema(),
                &options.rules,
                options.columns,
                &partitions,
            );
            let columns = match found {
                Ok((columns, remarks)) => {
                    for (column, remark) in remarks {
                        // Once for all files of a log.
                        if told.insert((column.clone(), remark.clone())) {
                            tracing::warn!(path = %path.display(), "column '{column}' {remark}");
                        }
                    }
                    columns
                }
                Err(_) if rows == 0 => continue,
                Err((column, problem)) => return Err(ParquetLogError::Column { path, column, problem }),
            };
            check_compression(&metadata, &columns).map_err(|problem| unreadable(problem.into()))?;
            streams.push(Stream { name, label: path.display().to_string() });
            let former_name = format!("parquet/{edges}");
            logs.push(LogFile { path, place, metadata, columns, former_name, rows, next: 0 });
        }
        Ok(Self { options: Arc::new(options), logs, streams, current: 0, reader: None })
    }

    /// Goes to the first row of each log that is still to be read.
    ///
    /// # Errors
    /// A log has fewer rows than were read of it, or was read in another order.
    pub fn seek(&mut self, positions: &Positions) -> Result<(), SourceError> {
        if positions.next(&sorted::stream_name(&self.streams)).is_some() {
            let problem =
                "these logs were read in the order of time before: go on with --sort, or begin anew with --fresh";
            return Err(ParquetLogError::Order { problem: problem.to_owned() }.into());
        }
        for place in 0..self.logs.len() {
            let former = self.logs[place].former_name.clone();
            let is_sole = self.logs.iter().filter(|log| log.former_name == former).count() == 1;
            let stream = &mut self.streams[place];
            if positions.next(&stream.name).is_none() && is_sole && positions.next(&former).is_some() {
                stream.name = former;
            }
            let next = positions.next(&stream.name).unwrap_or(0);
            let log = &mut self.logs[place];
            if next > log.rows {
                let problem = format!("it has {} rows, but {next} were read from it before", log.rows);
                return Err(unreadable(&log.path, problem.into()).into());
            }
            log.next = next;
        }
        Ok(())
    }

    /// Rows of all the logs, and how many of them were read before.
    pub fn rows(&self) -> (u64, u64) {
        (self.logs.iter().map(|log| log.rows).sum(), self.logs.iter().map(|log| log.next).sum())
    }

    /// How many rows, read before or not, are of one of `kinds` (of any where that is empty).
    ///
    /// # Errors
    /// [`ParquetLogError::Unreadable`].
    pub fn count_kinds(&self, kinds: &[String]) -> Result<u64, SourceError> {
        Ok(self.count(kinds)?)
    }

    fn count(&self, kinds: &[String]) -> Result<u64, ParquetLogError> {
        let mut count = 0;
        let is_wanted = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
        for log in &self.logs {
            if kinds.is_empty() {
                count += log.rows;
            } else if let Some(columns) = log.columns.kinds_alone() {
                let mut reader = log.read(0, &columns)?;
                while let Some(batch) = catch_panic(|| reader.next()).map_err(|panic| log.unreadable(panic.into()))? {
                    let batch = batch.map_err(|error| log.unreadable(error.into()))?;
                    let rows = ArrowRows::new(&batch, &columns, &self.options.rules, self.options.limits);
                    let kinds_there = (0..batch.num_rows()).filter_map(|row| rows.kind(row));
                    count += kinds_there.filter(|kind| is_wanted(kind)).count() as u64;
                }
            } else if is_wanted(log.columns.constant_kind().unwrap_or_default()) {
                count += log.rows;
            }
        }
        Ok(count)
    }
}

/// The metadata of an opened file.
fn metadata(bytes: &LogBytes) -> Result<ArrowReaderMetadata, Cause> {
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

impl LogFile {
    fn unreadable(&self, source: Cause) -> ParquetLogError {
        unreadable(&self.path, self.place.cause(source))
    }

    fn unreadable_after_row(&self, source: Cause) -> ParquetLogError {
        let source = self.place.cause(source);
        ParquetLogError::Unreadable { path: self.path.clone(), after_row: Some(self.next), source }
    }

    fn read(&self, first_row: u64, columns: &LogColumns) -> Result<ParquetRecordBatchReader, ParquetLogError> {
        let bytes = self.place.open(&self.path).map_err(|error| self.unreadable(error.into()))?;
        let mask = columns.mask(self.metadata.parquet_schema());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(BLOCK)
            .with_offset(first_row as usize);
        catch_panic(|| reader.build())
            .map_err(|panic| self.unreadable(panic.into()))?
            .map_err(|error| self.unreadable(error.into()))
    }
}

impl EventSource for ParquetLogs {
    fn streams(&self) -> Vec<Stream> {
        self.streams.clone()
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        loop {
            let Some(log) = self.logs.get(self.current) else { return Ok(PollStatus::End) };
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => log.read(log.next, &log.columns)?,
            };
            let next = catch_panic(|| reader.next());
            let next = next.map_err(|panic| log.unreadable_after_row(panic.into()))?;
            let Some(batch) = next else {
                self.current += 1;
                continue;
            };
            let batch = batch.map_err(|error| log.unreadable_after_row(error.into()))?;
            self.reader = Some(reader);
            let stream = self.current as u32;
            let log = &mut self.logs[self.current];
            let rows = ArrowRows::new(&batch, &log.columns, &self.options.rules, self.options.limits);
            block.extend((0..batch.num_rows()).map(|row| Record {
                stream,
                offset: log.next + row as u64,
                broker_timestamp: None,
                outcome: rows.get(row),
            }));
            log.next += batch.num_rows() as u64;
            return Ok(PollStatus::More);
        }
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    /// Files are never revoked: there is nothing to hand over.
    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

fn unreadable(path: &Path, source: Cause) -> ParquetLogError {
    ParquetLogError::Unreadable { path: path.to_owned(), after_row: None, source }
}
