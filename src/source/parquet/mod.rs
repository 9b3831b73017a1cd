//! Historical logs, in Parquet, CSV and JSON lines: files, folders and patterns, on this machine, in object stores and on web
//! servers, read in the order given (a folder's or a pattern's files by name, numbers in names as numbers), a few thousand rows at a time.
//!
//! A file is known by its content, not by its path: one that was read to its end is not read again under another name, and
//! one that grew or changed is another file. All files are opened, and their columns and compression checked, before the
//! first row is read.
//!
//! | module | holds |
//! | --- | --- |
//! | `files` | which files a name stands for, and what is no log |
//! | `bytes` | the bytes of a log, wherever it lies |
//! | `columnar` | a log in Parquet |
//! | `text` | a log in CSV or JSON lines |
//! | `network` | how logs on other machines are reached |
//! | `fingerprint` | what a file is known by |
//! | [`ordered`] | logs as they are stored or by time, as asked for |
//! | [`sample`] | the first rows of a log, before anybody knows what its columns are |
//! | [`sorted`] | the same logs in the order of time |

mod bytes;
mod columnar;
mod files;
mod fingerprint;
mod network;
pub mod ordered;
pub mod sample;
pub mod sorted;
mod text;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::{CommitTracker, EventSource, PollStatus, SourceError};
pub use crate::decode::arrow_rows::ColumnSelection;
use crate::decode::arrow_rows::{ArrowRows, ColumnProblem};
use crate::decode::{CsvConfig, FieldRules, SourceConfig};
use crate::event::{EventLimits, Record};
use crate::position::{Positions, Stream};
use crate::util::catch_panic::catch_panic;
use bytes::{LogBytes, LogPlace};
use columnar::ColumnarLog;
use files::{FoundLog, Storage};
use fingerprint::Fingerprints;
pub use network::NetworkOptions;
pub use text::CsvDialect;
use text::{TextLog, TextReader};

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
    /// How logs in CSV are read.
    pub csv: CsvConfig,
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
        Self { rules, limits, columns, csv: source.csv.clone(), network: NetworkOptions::new(source) }
    }
}

/// An opened log file.
#[derive(Debug, Clone)]
struct LogFile {
    /// The path; of a log on another machine its address, without what may be secret in it.
    path: PathBuf,
    place: LogPlace,
    content: LogContent,
    /// The name of the stream in checkpoints of earlier versions; text was not read then.
    former_name: Option<String>,
    rows: u64,
    /// First row that is still to be read.
    next: u64,
}

/// What a log is made of.
#[derive(Debug, Clone)]
enum LogContent {
    Columnar(Box<ColumnarLog>),
    Text(Box<TextLog>),
}

/// A log that is being read.
#[derive(Debug)]
enum LogReader {
    Columnar(ParquetRecordBatchReader),
    Text(Box<TextReader>),
}

/// What is wrong with a log, before its name is said.
#[derive(Debug)]
enum LogProblem {
    Column(ColumnProblem),
    Read { after_row: Option<u64>, cause: Cause },
}

impl LogProblem {
    fn of_cause(cause: Cause) -> Self {
        Self::Read { after_row: None, cause }
    }

    fn of_words(words: String) -> Self {
        Self::of_cause(words.into())
    }

    fn of_read(error: io::Error) -> Self {
        Self::of_cause(told(error))
    }

    fn of_read_after(row: u64, error: io::Error) -> Self {
        Self::Read { after_row: Some(row), cause: told(error) }
    }

    fn named(self, path: &Path, place: &LogPlace) -> ParquetLogError {
        let path = path.to_owned();
        match self {
            Self::Column((column, problem)) => ParquetLogError::Column { path, column, problem },
            Self::Read { after_row, cause } => {
                ParquetLogError::Unreadable { path, after_row, source: place.cause(cause) }
            }
        }
    }
}

/// What the reader of a text says, in words for a person.
fn told(error: io::Error) -> Cause {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return format!("it is cut short, or still being written ({error})").into();
    }
    error.into()
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
        source: io::Error,
    },
    /// A file that cannot be opened or read, or is no log.
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
        source: io::Error,
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
    reader: Option<LogReader>,
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
            let storage = files::storage(&path, &bytes).map_err(|error| unreadable(error.into()))?;
            let storage = storage.map_err(|problem| unreadable(problem.into()))?;
            let Fingerprints { content: fingerprint, edges } =
                fingerprint::fingerprints(&bytes).map_err(|error| unreadable(error.into()))?;
            if streams.iter().any(|stream| stream.name.ends_with(&format!("/{fingerprint}"))) {
                tracing::warn!(path = %path.display(), "log named twice, read once");
                continue;
            }
            let partitions = files::partitions(&path);
            let (content, remarks, format, former_name) = match storage {
                Storage::Parquet => {
                    let opened = ColumnarLog::open(&bytes, &options, &partitions);
                    let Some((log, remarks)) = opened.map_err(|problem| problem.named(&path, &place))? else {
                        continue;
                    };
                    (LogContent::Columnar(Box::new(log)), remarks, "parquet", Some(format!("parquet/{edges}")))
                }
                Storage::Text => {
                    let opened = TextLog::open(&bytes, &options, &partitions);
                    let (log, remarks) = opened.map_err(|problem| problem.named(&path, &place))?;
                    let format = log.format();
                    (LogContent::Text(Box::new(log)), remarks, format, None)
                }
            };
            for (column, remark) in remarks {
                // Once for all files of a log.
                if told.insert((column.clone(), remark.clone())) {
                    tracing::warn!(path = %path.display(), "column '{column}' {remark}");
                }
            }
            let rows = match &content {
                LogContent::Columnar(log) => log.rows(),
                LogContent::Text(log) => log.rows(),
            };
            if rows == 0 {
                tracing::debug!(path = %path.display(), "log without rows");
            }
            streams.push(Stream { name: format!("{format}/{fingerprint}"), label: path.display().to_string() });
            logs.push(LogFile { path, place, content, former_name, rows, next: 0 });
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
            if let Some(former) = former
                && positions.next(&stream.name).is_none()
                && is_sole
                && positions.next(&former).is_some()
            {
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
        for log in &self.logs {
            if kinds.is_empty() {
                count += log.rows;
                continue;
            }
            let bytes = log.open()?;
            count += match &log.content {
                LogContent::Columnar(content) => {
                    content.count(bytes, kinds, &self.options).map_err(|cause| log.unreadable(cause))?
                }
                LogContent::Text(content) => content
                    .count(&bytes, kinds, &self.options)
                    .map_err(|problem| problem.named(&log.path, &log.place))?,
            };
        }
        Ok(count)
    }
}

impl LogFile {
    fn unreadable(&self, source: Cause) -> ParquetLogError {
        unreadable(&self.path, self.place.cause(source))
    }

    fn unreadable_after_row(&self, source: Cause) -> ParquetLogError {
        let source = self.place.cause(source);
        ParquetLogError::Unreadable { path: self.path.clone(), after_row: Some(self.next), source }
    }

    fn open(&self) -> Result<LogBytes, ParquetLogError> {
        self.place.open(&self.path).map_err(|error| self.unreadable(error.into()))
    }

    /// A reader that goes on where the log stands.
    fn read(&self) -> Result<LogReader, ParquetLogError> {
        let bytes = self.open()?;
        match &self.content {
            LogContent::Columnar(log) => log
                .read(bytes, self.next, &log.columns)
                .map(LogReader::Columnar)
                .map_err(|cause| self.unreadable(cause)),
            LogContent::Text(log) => log
                .read(&bytes, self.next)
                .map(|reader| LogReader::Text(Box::new(reader)))
                .map_err(|error| self.unreadable(told(error))),
        }
    }

    /// Appends the next rows to `block`, as those of `stream`; how many there were.
    fn fill(
        &self,
        reader: &mut LogReader,
        options: &LogOptions,
        stream: u32,
        block: &mut Vec<Record>,
    ) -> Result<usize, ParquetLogError> {
        match (&self.content, reader) {
            (LogContent::Columnar(log), LogReader::Columnar(reader)) => {
                let next = catch_panic(|| reader.next());
                let next = next.map_err(|panic| self.unreadable_after_row(panic.into()))?;
                let Some(batch) = next else { return Ok(0) };
                let batch = batch.map_err(|error| self.unreadable_after_row(error.into()))?;
                let rows = ArrowRows::new(&batch, &log.columns, &options.rules, options.limits);
                block.extend((0..batch.num_rows()).map(|row| Record {
                    stream,
                    offset: self.next + row as u64,
                    broker_timestamp: None,
                    outcome: rows.get(row),
                }));
                Ok(batch.num_rows())
            }
            (LogContent::Text(log), LogReader::Text(reader)) => {
                let most = BLOCK.min((self.rows - self.next) as usize);
                let filled = log.fill(reader, options, (stream, self.next), (block, most));
                let rows = filled.map_err(|error| self.unreadable_after_row(told(error)))?;
                if rows < most {
                    let problem = format!("it had {} rows when it was opened: it was changed since", self.rows);
                    return Err(self.unreadable_after_row(problem.into()));
                }
                Ok(rows)
            }
            _ => unreachable!("a log is read as it was opened"),
        }
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
                None => log.read()?,
            };
            let rows = log.fill(&mut reader, &self.options, self.current as u32, block)?;
            if rows == 0 {
                self.current += 1;
                continue;
            }
            self.reader = Some(reader);
            self.logs[self.current].next += rows as u64;
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
