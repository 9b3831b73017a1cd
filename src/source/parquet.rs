//! Historical logs from Parquet: files, folders and patterns, read in the order given (a folder's or a pattern's files
//! by name), a few thousand rows at a time.
//!
//! A file is known by its content (length, beginning and end), not by its path: one that was read to its end is not
//! read again under another name, and one that grew or changed is another file. All files are opened and their columns
//! checked before the first row is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use arrow_array::cast::AsArray;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use sha2::{Digest, Sha256};

use super::{CommitTracker, EventSource, PollStatus, SourceError};
use crate::decode::arrow_rows::{ArrowRows, check_schema};
use crate::decode::{FieldNames, SourceConfig};
use crate::event::{EventLimits, Record};
use crate::position::{Positions, Stream};
use crate::util::catch_panic::catch_panic;
use crate::util::encoding::hexadecimal;

/// ArrowRows handed over at a time.
const BLOCK: usize = 4096;
/// How much of a file's beginning and end makes its fingerprint.
const EDGE: u64 = 64 * 1024;

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnSelection {
    /// Those that the model is made of.
    Model,
    /// And the features of items.
    ModelWithFeatures,
    /// All of the event.
    All,
}

/// How logs are read.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// What the columns are called.
    pub fields: FieldNames,
    /// What every event must keep.
    pub limits: EventLimits,
    /// Which columns are read.
    pub columns: ColumnSelection,
}

impl LogOptions {
    /// The options for logs as `source` says, with the columns that a model needs; those of features `with_features`.
    pub fn new(source: &SourceConfig, with_features: bool) -> Self {
        let columns = if with_features { ColumnSelection::ModelWithFeatures } else { ColumnSelection::Model };
        Self { fields: source.fields.clone(), limits: crate::decode::limits(source), columns }
    }
}

/// An opened log file.
#[derive(Debug, Clone)]
struct LogFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
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
    #[error("no such log: {pattern}")]
    NotFound {
        /// The pattern as the user gave it.
        pattern: String,
    },
    /// A file that cannot be opened or read, or is not Parquet.
    #[error("cannot read {}: {}{source}", path.display(), place(*after_row))]
    Unreadable {
        /// The file.
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
        Ok(Self::open_files(patterns, options, positions)?)
    }

    fn open_files(patterns: &[String], options: LogOptions, positions: &Positions) -> Result<Self, ParquetLogError> {
        let mut logs: Vec<LogFile> = Vec::new();
        let mut streams: Vec<Stream> = Vec::new();
        for path in expand(patterns)? {
            let unreadable = |cause| unreadable(&path, cause);
            let mut file = File::open(&path).map_err(|error| unreadable(error.into()))?;
            if file.metadata().map_err(|error| unreadable(error.into()))?.len() == 0 {
                return Err(unreadable("the file is empty (0 bytes), not Parquet".into()));
            }
            let name = format!("parquet/{}", fingerprint(&mut file).map_err(|error| unreadable(error.into()))?);
            if streams.iter().any(|stream| stream.name == name) {
                tracing::warn!(path = %path.display(), "log named twice, read once");
                continue;
            }
            // The writer's Arrow types (large, dictionary-encoded or view text) are storage details: the Parquet types
            // are few and always the same.
            let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata =
                catch_panic(|| ArrowReaderMetadata::load(&file, reading)).map_err(|panic| unreadable(panic.into()))?;
            let metadata = metadata.map_err(|error| unreadable(error.into()))?;
            check_schema(metadata.schema(), &options.fields).map_err(|(column, problem)| ParquetLogError::Column {
                path: path.clone(),
                column,
                problem,
            })?;
            let rows = metadata.metadata().file_metadata().num_rows().max(0) as u64;
            let next = positions.next(&name).unwrap_or(0);
            if next > rows {
                return Err(unreadable(format!("it has {rows} rows, but {next} were read from it before").into()));
            }
            streams.push(Stream { name, label: path.display().to_string() });
            logs.push(LogFile { path, metadata, rows, next });
        }
        Ok(Self { options: Arc::new(options), logs, streams, current: 0, reader: None })
    }

    /// ArrowRows of all the logs, and how many of them were read before.
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
        let name = &self.options.fields.event_type;
        let mut count = 0;
        for log in &self.logs {
            if kinds.is_empty() {
                count += log.rows;
            } else if log.metadata.schema().field_with_name(name).is_ok() {
                let mut reader = log.read(0, &[name])?;
                while let Some(batch) =
                    catch_panic(|| reader.next()).map_err(|panic| unreadable(&log.path, panic.into()))?
                {
                    let batch = batch.map_err(|error| unreadable(&log.path, error.into()))?;
                    let kinds_there = batch.column(0).as_string::<i32>();
                    count += kinds_there.iter().flatten().filter(|kind| kinds.iter().any(|known| known == kind)).count()
                        as u64;
                }
            } else {
                count += if kinds.iter().any(String::is_empty) { log.rows } else { 0 };
            }
        }
        Ok(count)
    }

    fn columns(&self) -> Vec<&String> {
        let FieldNames { user_id, item_id, event_type, timestamp, session_id, value, features } = &self.options.fields;
        match self.options.columns {
            ColumnSelection::Model => vec![user_id, item_id, event_type, timestamp],
            ColumnSelection::ModelWithFeatures => vec![user_id, item_id, event_type, timestamp, features],
            ColumnSelection::All => vec![user_id, item_id, event_type, timestamp, session_id, value, features],
        }
    }
}

impl LogFile {
    fn unreadable_after_row(&self, source: Cause) -> ParquetLogError {
        ParquetLogError::Unreadable { path: self.path.clone(), after_row: Some(self.next), source }
    }

    fn read(&self, first_row: u64, columns: &[&String]) -> Result<ParquetRecordBatchReader, ParquetLogError> {
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, error.into()))?;
        let schema = self.metadata.parquet_schema();
        let wanted = self
            .metadata
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| columns.contains(&field.name()))
            .map(|(root, _)| root);
        let mask = ProjectionMask::roots(schema, wanted);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(BLOCK)
            .with_offset(first_row as usize);
        catch_panic(|| reader.build())
            .map_err(|panic| unreadable(&self.path, panic.into()))?
            .map_err(|error| unreadable(&self.path, error.into()))
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
                None => log.read(log.next, &self.columns())?,
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
            let rows = ArrowRows::new(&batch, &self.options.fields, self.options.limits);
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

/// The files that `patterns` name: a file itself, a folder's `*.parquet` at any depth, or what a pattern matches.
fn expand(patterns: &[String]) -> Result<Vec<PathBuf>, ParquetLogError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let path = Path::new(pattern);
        let not_found = || ParquetLogError::NotFound { pattern: pattern.clone() };
        let before = files.len();
        if path.is_file() {
            files.push(path.to_owned());
        } else {
            let pattern = if path.is_dir() {
                format!("{}/**/*.parquet", glob::Pattern::escape(pattern))
            } else {
                pattern.clone()
            };
            let matches = glob::glob(&pattern).map_err(|_| not_found())?;
            for found in matches {
                // A folder that cannot be looked into is no reason to leave its files out in silence.
                let found = found.map_err(|error| unreadable(error.path(), error.error().to_string().into()))?;
                if found.is_file() {
                    files.push(found);
                }
            }
        }
        if files.len() == before {
            return Err(not_found());
        }
    }
    Ok(files)
}

/// What a file is known by: the beginning of the SHA-256 of its length, its first and its last [`EDGE`] bytes.
fn fingerprint(file: &mut File) -> std::io::Result<String> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    for begin in [0, length.saturating_sub(EDGE)] {
        file.seek(SeekFrom::Start(begin))?;
        let mut edge = Vec::new();
        file.by_ref().take(EDGE).read_to_end(&mut edge)?;
        hash.update(&edge);
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(hexadecimal(&hash.finalize()[..16]))
}
