//! Logs in text: CSV and JSON lines, compressed as a whole or not, read in bounded memory.
//!
//! A row is a line of JSON, or a record of CSV, which may be several lines; rows are counted from 0 on, without a header and
//! without empty lines, so that a position means what it means in Parquet. To go on in the middle, what lies before is split
//! into rows once more, but not read. Every log is split to its end before its first row is read: its rows have to be known
//! for the share of it that is evaluated, and what is damaged is told before anything is learnt.
//!
//! | module | holds |
//! | --- | --- |
//! | `compression` | what is undone around the text |
//! | `lines` | lines of bounded length |
//! | `dialect` | delimiter, quotes and header of CSV |
//! | `records` | the rows of CSV |

mod compression;
mod dialect;
mod lines;
mod records;

use std::io::{self, Read as _};

pub(super) use compression::TextCompression;
pub use dialect::CsvDialect;
use lines::{LONGEST, Lines};
use records::CsvRecords;

use super::bytes::LogBytes;
use super::files::TextKind;
use super::{LogOptions, LogProblem, files};
use crate::decode::arrow_rows::{ColumnProblem, ColumnSelection, PartitionValue};
use crate::decode::csv_rows::CsvColumns;
use crate::decode::{Fault, FolderValues, json};
use crate::event::{Interaction, Reason, Record, Rejection};

/// How much of a log is looked at to find out how it is written.
const HEAD: usize = 64 << 10;
/// Rows of JSON that are looked at to find out whether its fields are called otherwise.
const MOST_TRIED: usize = 100;
/// How much of a row that is too long is kept for the dead letters.
const KEPT: usize = 64 << 10;

/// An opened log in text.
#[derive(Debug, Clone)]
pub(super) struct TextLog {
    compression: TextCompression,
    layout: TextLayout,
    rows: u64,
}

/// What a log in text is made of.
#[derive(Debug, Clone)]
enum TextLayout {
    Csv { dialect: CsvDialect, columns: Box<CsvColumns> },
    Json { folders: FolderValues },
}

/// The beginning of a log in text, before its columns are looked for.
#[derive(Debug)]
pub(super) struct TextHead {
    pub(super) compression: TextCompression,
    pub(super) shape: TextShape,
}

/// What the beginning of a log tells.
#[derive(Debug)]
pub(super) enum TextShape {
    /// CSV, with the names of its columns.
    Csv { dialect: CsvDialect, names: Vec<String> },
    /// JSON lines.
    Json,
}

impl TextHead {
    /// Looks at the beginning of a log.
    pub(super) fn read(bytes: &LogBytes, options: &LogOptions) -> Result<Self, LogProblem> {
        let begin = bytes.read(0..bytes.length().min(8)).map_err(LogProblem::of_read)?;
        let compression = TextCompression::of(&begin);
        let mut head = Vec::new();
        let opened = compression.open(bytes).map_err(LogProblem::of_read)?;
        opened.take(HEAD as u64).read_to_end(&mut head).map_err(LogProblem::of_read)?;
        let shape = match files::text_kind(&head) {
            Err(problem) if compression == TextCompression::None => return Err(LogProblem::of_words(problem)),
            Err(problem) => {
                return Err(LogProblem::of_words(format!("in it, compressed by {}: {problem}", compression.name())));
            }
            Ok(TextKind::JsonLines) => TextShape::Json,
            Ok(TextKind::Csv) => {
                let text = String::from_utf8_lossy(&head);
                let text = text.trim_start_matches('\u{feff}');
                // The last line may be cut.
                let whole = if head.len() == HEAD { text.rfind('\n').map_or(text, |end| &text[..end]) } else { text };
                Self::csv(whole, options)?
            }
        };
        Ok(Self { compression, shape })
    }

    /// A reader that stands before the first row.
    pub(super) fn reader(&self, bytes: &LogBytes) -> io::Result<TextReader> {
        let dialect = match &self.shape {
            TextShape::Csv { dialect, .. } => Some(dialect),
            TextShape::Json => None,
        };
        TextReader::open(self.compression, dialect, bytes)
    }

    fn csv(head: &str, options: &LogOptions) -> Result<TextShape, LogProblem> {
        let mut dialect = CsvDialect::guess(head, &options.csv);
        let lines = Lines::new(Box::new(io::Cursor::new(head.as_bytes().to_vec()))).map_err(LogProblem::of_read)?;
        let mut records = CsvRecords::new(lines, &dialect);
        records.next().map_err(LogProblem::of_read)?;
        let cells = records.cells();
        let first: Vec<String> = cells.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        dialect.note_first_row(&first, &options.csv);
        let configured = &options.csv.columns;
        if !configured.is_empty() && configured.len() != first.len() {
            return Err(LogProblem::of_words(format!(
                "source.csv.columns names {} columns, but its first row has {} cells with {:?} between them: {}",
                configured.len(),
                first.len(),
                dialect.delimiter,
                first.join(&dialect.delimiter)
            )));
        }
        let names = match (configured.is_empty(), dialect.has_header) {
            (false, _) => configured.clone(),
            (true, true) => first,
            (true, false) => (1..=first.len()).map(|number| number.to_string()).collect(),
        };
        Ok(TextShape::Csv { dialect, names })
    }
}

impl TextLog {
    /// Opens a log, and finds its columns; with what a person should know of them.
    pub(super) fn open(
        bytes: &LogBytes,
        options: &LogOptions,
        partitions: &[PartitionValue],
    ) -> Result<(Self, Vec<ColumnProblem>), LogProblem> {
        let TextHead { compression, shape } = TextHead::read(bytes, options)?;
        let folders = FolderValues::new(partitions, &options.rules);
        let (layout, told) = match shape {
            TextShape::Json => (TextLayout::Json { folders }, Vec::new()),
            TextShape::Csv { dialect, names } => {
                let list = &options.csv.list_delimiter;
                let found = CsvColumns::find(&names, &options.rules, options.columns, folders, list);
                let (columns, told) = found.map_err(|problem| {
                    let (column, problem) = problem;
                    let hint = headless(&dialect, &names, options);
                    LogProblem::Column((column, problem + &hint))
                })?;
                (TextLayout::Csv { dialect, columns: Box::new(columns) }, told)
            }
        };
        let mut log = Self { compression, layout, rows: 0 };
        if matches!(log.layout, TextLayout::Json { .. }) {
            log.try_rows(bytes, options)?;
        }
        let mut reader = log.read(bytes, 0).map_err(LogProblem::of_read)?;
        while reader.next().map_err(|error| LogProblem::of_read_after(log.rows, error))?.is_some() {
            log.rows += 1;
        }
        Ok((log, told))
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The format, as the names of streams have it.
    pub(super) fn format(&self) -> &'static str {
        match self.layout {
            TextLayout::Csv { .. } => "csv",
            TextLayout::Json { .. } => "json",
        }
    }

    /// Checks that not all of the first rows lack the same field: then it is called otherwise.
    fn try_rows(&self, bytes: &LogBytes, options: &LogOptions) -> Result<(), LogProblem> {
        let mut reader = self.read(bytes, 0).map_err(LogProblem::of_read)?;
        let mut first = None;
        for _ in 0..MOST_TRIED {
            if reader.next().map_err(LogProblem::of_read)?.is_none() {
                break;
            }
            match self.decode(&reader, options) {
                Err((Reason::MissingField, detail)) => drop(first.get_or_insert(detail)),
                _ => return Ok(()),
            }
        }
        let Some(detail) = first else { return Ok(()) };
        let (column, problem) = detail.split_once(": ").unwrap_or(("", &detail));
        Err(LogProblem::Column((column.to_owned(), format!("is {problem}"))))
    }

    /// A reader that goes on at the row `first`.
    pub(super) fn read(&self, bytes: &LogBytes, first: u64) -> io::Result<TextReader> {
        let dialect = match &self.layout {
            TextLayout::Csv { dialect, .. } => Some(dialect),
            TextLayout::Json { .. } => None,
        };
        let mut reader = TextReader::open(self.compression, dialect, bytes)?;
        for _ in 0..first {
            if reader.next()?.is_none() {
                break;
            }
        }
        Ok(reader)
    }

    /// How many rows are of one of `kinds`.
    pub(super) fn count(&self, bytes: &LogBytes, kinds: &[String], options: &LogOptions) -> Result<u64, LogProblem> {
        let mut reader = self.read(bytes, 0).map_err(LogProblem::of_read)?;
        let mut count = 0;
        let is_wanted = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
        while reader.next().map_err(LogProblem::of_read)?.is_some() {
            let is_counted = match (&self.layout, &reader) {
                (TextLayout::Csv { columns, .. }, TextReader::Csv(records)) => {
                    columns.kind(records.cells()).is_some_and(|kind| is_wanted(&kind))
                }
                _ => self.decode(&reader, options).is_ok_and(|event| is_wanted(&event.kind)),
            };
            count += u64::from(is_counted);
        }
        Ok(count)
    }

    /// Appends up to `most` rows to `block`, the first of which is the row `next` of `stream`; how many there were.
    pub(super) fn fill(
        &self,
        reader: &mut TextReader,
        options: &LogOptions,
        (stream, next): (u32, u64),
        (block, most): (&mut Vec<Record>, usize),
    ) -> io::Result<usize> {
        for row in 0..most {
            let outcome = match reader.next()? {
                None => return Ok(row),
                Some(true) => self.decode(reader, options),
                Some(false) => Err((Reason::Unparsable, format!("longer than {LONGEST} bytes"))),
            };
            let outcome = outcome.map_err(|(reason, detail)| {
                let raw = reader.raw();
                let detail = format!("{detail} (line {})", reader.line());
                Rejection { reason, detail, key: None, payload: raw[..raw.len().min(KEPT)].to_vec() }
            });
            block.push(Record { stream, offset: next + row as u64, broker_timestamp: None, outcome });
        }
        Ok(most)
    }

    fn decode(&self, reader: &TextReader, options: &LogOptions) -> Result<Interaction, Fault> {
        match (&self.layout, reader) {
            (TextLayout::Csv { columns, .. }, TextReader::Csv(records)) => {
                columns.decode(records.cells(), &options.rules, options.limits)
            }
            (TextLayout::Json { folders }, _) => {
                let mut event = json::decode_among(reader.raw(), &options.rules, folders)?;
                options.limits.check(&event)?;
                if options.columns == ColumnSelection::Model {
                    event.features = Vec::new();
                }
                Ok(event)
            }
            (TextLayout::Csv { .. }, TextReader::Json { .. }) => unreachable!("a log is read as it was opened"),
        }
    }
}

/// What may be wrong where a column is missing in a log that seems to have no names for them.
fn headless(dialect: &CsvDialect, names: &[String], options: &LogOptions) -> String {
    if names.len() < 3 {
        return format!("; with {:?} between cells: source.csv.delimiter sets another", dialect.delimiter);
    }
    if dialect.has_header || !options.csv.columns.is_empty() {
        return String::new();
    }
    let example: Vec<String> = ["user_id", "item_id", "value", "timestamp"]
        .into_iter()
        .take(names.len())
        .map(str::to_owned)
        .chain((4..names.len()).map(|place| (place + 1).to_string()))
        .map(|name| format!("{name:?}"))
        .collect();
    format!(
        "; its first row does not name its columns: source.csv.columns does (source.csv.columns=[{}], say), or \
         source.csv.header = \"yes\"",
        example.join(", ")
    )
}

/// The rows of a log in text, one at a time.
#[derive(Debug)]
pub(super) enum TextReader {
    Csv(CsvRecords),
    Json { lines: Lines, line: Vec<u8> },
}

impl TextReader {
    /// A reader that stands before the first row of a log in CSV of that dialect, or in JSON lines.
    fn open(compression: TextCompression, dialect: Option<&CsvDialect>, bytes: &LogBytes) -> io::Result<Self> {
        let lines = Lines::new(compression.open(bytes)?)?;
        let Some(dialect) = dialect else { return Ok(Self::Json { lines, line: Vec::new() }) };
        let mut records = CsvRecords::new(lines, dialect);
        if dialect.has_header {
            records.next()?;
        }
        Ok(Self::Csv(records))
    }

    /// Goes to the next row; `None` behind the last one, `Some(false)` for one that is too long.
    pub(super) fn next(&mut self) -> io::Result<Option<bool>> {
        match self {
            Self::Csv(records) => records.next(),
            Self::Json { lines, line } => loop {
                line.clear();
                match lines.read(line)? {
                    Some(true) if line.iter().all(u8::is_ascii_whitespace) => {}
                    read => return Ok(read),
                }
            },
        }
    }

    /// The row as it stands in the file.
    pub(super) fn raw(&self) -> &[u8] {
        match self {
            Self::Csv(records) => records.raw(),
            Self::Json { line, .. } => line,
        }
    }

    /// The line that the row begins with, from 1 on.
    fn line(&self) -> u64 {
        match self {
            Self::Csv(records) => records.line(),
            Self::Json { lines, .. } => lines.count(),
        }
    }

    /// The cells of a row of CSV, as text; empty for others.
    pub(super) fn cells(&self) -> Vec<String> {
        match self {
            Self::Csv(records) => {
                records.cells().iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect()
            }
            Self::Json { .. } => Vec::new(),
        }
    }
}
