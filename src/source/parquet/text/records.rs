//! The rows of a CSV log, each with its cells and with its bytes as they stand in the file.

use std::io;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::dialect::CsvDialect;
use super::lines::{LONGEST, Lines};
use crate::decode::csv_rows::CsvCells;

/// The rows of a CSV log, one at a time.
#[derive(Debug)]
pub(in super::super) struct CsvRecords {
    lines: Lines,
    splitter: Splitter,
    /// The line that the row began with.
    line: u64,
    /// The row as it stands in the file.
    raw: Vec<u8>,
    /// Its cells, one behind the other, and where each ends.
    cells: Vec<u8>,
    ends: Vec<usize>,
    /// How much of the cells, and of the ends, is this row's.
    filled: (usize, usize),
}

/// What makes cells of a row.
#[derive(Debug)]
enum Splitter {
    /// Between cells stands one character; they may be in quotes.
    Character(Box<Reader>),
    /// Between cells stand several characters.
    Characters(String),
}

impl CsvRecords {
    pub(super) fn new(lines: Lines, dialect: &CsvDialect) -> Self {
        let splitter = match dialect.delimiter.as_bytes() {
            [delimiter] => {
                let mut builder = ReaderBuilder::new();
                builder.delimiter(*delimiter).terminator(Terminator::Any(b'\n'));
                match dialect.quote {
                    Some(quote) => builder.quote(quote),
                    None => builder.quoting(false),
                };
                Splitter::Character(Box::new(builder.build()))
            }
            _ => Splitter::Characters(dialect.delimiter.clone()),
        };
        let (cells, ends) = (vec![0; 256], vec![0; 16]);
        Self { lines, splitter, line: 0, raw: Vec::new(), cells, ends, filled: (0, 0) }
    }

    /// Goes to the next row; `None` behind the last one. `Some(false)` for a row that was too long: it has no cells, and its
    /// bytes are its beginning.
    ///
    /// # Errors
    /// What the file system says, and a quote that begins a cell which does not end.
    pub(super) fn next(&mut self) -> io::Result<Option<bool>> {
        self.raw.clear();
        self.filled = (0, 0);
        loop {
            let begin = self.raw.len();
            let Some(is_whole) = self.lines.read(&mut self.raw)? else {
                return if begin == 0 { Ok(None) } else { Err(self.endless()) };
            };
            if begin == 0 {
                self.line = self.lines.count();
                if self.raw.is_empty() {
                    continue;
                }
                if !is_whole {
                    return Ok(Some(false));
                }
            } else if !is_whole || self.raw.len() > LONGEST {
                return Err(self.endless());
            }
            self.raw.push(b'\n');
            if self.split(begin) {
                self.raw.pop();
                return Ok(Some(true));
            }
        }
    }

    /// The cells of the row.
    pub(super) fn cells(&self) -> CsvCells<'_> {
        CsvCells::new(&self.cells[..self.filled.0], &self.ends[..self.filled.1])
    }

    /// The row as it stands in the file, without the end of its line.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The line that the row began with, from 1 on.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Takes in the row's bytes from `begin` on; whether it is complete.
    fn split(&mut self, begin: usize) -> bool {
        let mut input = &self.raw[begin..];
        match &mut self.splitter {
            Splitter::Character(reader) => loop {
                let (cells, ends) = (&mut self.cells[self.filled.0..], &mut self.ends[self.filled.1..]);
                let (result, read, written, ended) = reader.read_record(input, cells, ends);
                input = &input[read..];
                self.filled = (self.filled.0 + written, self.filled.1 + ended);
                match result {
                    ReadRecordResult::InputEmpty => return false,
                    ReadRecordResult::OutputFull => self.cells.resize(2 * self.cells.len(), 0),
                    ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                    ReadRecordResult::Record | ReadRecordResult::End => return true,
                }
            },
            Splitter::Characters(delimiter) => {
                self.cells.clear();
                self.ends.clear();
                let delimiter = delimiter.as_bytes();
                let mut rest = input.strip_suffix(b"\n").unwrap_or(input);
                while let Some(end) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
                    self.cells.extend(&rest[..end]);
                    self.ends.push(self.cells.len());
                    rest = &rest[end + delimiter.len()..];
                }
                self.cells.extend(rest);
                self.ends.push(self.cells.len());
                self.filled = (self.cells.len(), self.ends.len());
                true
            }
        }
    }

    fn endless(&self) -> io::Error {
        let place = self.line;
        let begin = String::from_utf8_lossy(&self.raw[..self.raw.len().min(80)]);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "line {place}: a quote begins a cell that does not end within {LONGEST} bytes, in {:?}…; source.csv.quote = \
                 \"none\" takes quotes as letters",
                begin.lines().next().unwrap_or_default()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, delimiter: &str, quote: Option<u8>) -> io::Result<Vec<(u64, Vec<String>)>> {
        let dialect = CsvDialect { delimiter: delimiter.to_owned(), quote, has_header: false };
        let lines = Lines::new(Box::new(io::Cursor::new(text.as_bytes().to_vec())))?;
        let mut records = CsvRecords::new(lines, &dialect);
        let mut found = Vec::new();
        while records.next()?.is_some() {
            let cells = records.cells().iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
            found.push((records.line(), cells));
        }
        Ok(found)
    }

    fn row(line: u64, cells: &[&str]) -> (u64, Vec<String>) {
        (line, cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn quotes_hold_delimiters_and_line_ends() {
        let found = rows("a,b\r\n\r\n\"1,\"\"2\",\"x\r\ny\"\n5\" pipe,z\nlast,", ",", Some(b'"')).unwrap();
        let expected =
            [row(1, &["a", "b"]), row(3, &["1,\"2", "x\ny"]), row(5, &["5\" pipe", "z"]), row(6, &["last", ""])];
        assert_eq!(found, expected);
    }

    #[test]
    fn quotes_may_be_letters_and_delimiters_several_characters() {
        assert_eq!(rows("\"a\tb\"\n", "\t", None).unwrap(), [row(1, &["\"a", "b\""])]);
        assert_eq!(rows("1::a:b::\n", "::", None).unwrap(), [row(1, &["1", "a:b", ""])]);
    }

    #[test]
    fn long_rows_and_many_cells_are_whole() {
        let text = format!("{}{}\n", "x,".repeat(1000), "y".repeat(5000));
        let found = rows(&text, ",", Some(b'"')).unwrap();
        assert_eq!((found[0].1.len(), found[0].1[1000].len()), (1001, 5000));
    }

    #[test]
    fn quotes_that_do_not_end_are_told_by_their_line() {
        let error = rows("a,b\n1,\"x\n2,y\n", ",", Some(b'"')).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("source.csv.quote"), "{error}");
    }
}
