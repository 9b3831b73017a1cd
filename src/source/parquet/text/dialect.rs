//! How a CSV log is written: what stands between cells, what encloses them, and whether the first row names the columns. What
//! the configuration leaves open is told by the first rows.

use crate::decode::{CsvConfig, CsvHeader, CsvQuote, is_number_or_time};

/// What may stand between cells, where that is not configured; of two that fit alike the first counts.
const DELIMITERS: [&str; 5] = ["\t", "::", ",", ";", "|"];
/// Most rows that are looked at.
const MOST_ROWS: usize = 200;

/// How a CSV log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvDialect {
    /// What stands between cells.
    pub delimiter: String,
    /// What encloses cells.
    pub quote: Option<u8>,
    /// Whether the first row names the columns.
    pub has_header: bool,
}

impl CsvDialect {
    /// The delimiter and the quote of a log that begins with `head`; what is said of a header is provisional.
    pub(super) fn guess(head: &str, config: &CsvConfig) -> Self {
        let rows: Vec<&str> = head.lines().filter(|line| !line.trim().is_empty()).take(MOST_ROWS).collect();
        let delimiter = config.delimiter().map_or_else(|| likely_delimiter(&rows), str::to_owned);
        let is_rarely_quoted = delimiter == "\t" || delimiter.len() > 1;
        let begins_quoted = rows.first().is_some_and(|row| row.starts_with('"'));
        let quote = match config.quote {
            CsvQuote::None => None,
            CsvQuote::Single => Some(b'\''),
            CsvQuote::Double => Some(b'"'),
            CsvQuote::Auto => (!is_rarely_quoted || begins_quoted).then_some(b'"'),
        };
        // Between several characters there is nothing that a quote could hide.
        Self { quote: quote.filter(|_| delimiter.len() == 1), delimiter, has_header: false }
    }

    /// Notes whether the first row, with these cells, names the columns.
    pub(super) fn note_first_row(&mut self, cells: &[String], config: &CsvConfig) {
        self.has_header = match config.header {
            CsvHeader::Yes => true,
            CsvHeader::No => false,
            // Every event has a time, and no column is called by one.
            CsvHeader::Auto => !cells.iter().any(|cell| is_number_or_time(cell)),
        };
    }
}

/// The delimiter by which most rows have the same number of cells, and of several such the one with the most cells.
fn likely_delimiter(rows: &[&str]) -> String {
    let fit = |delimiter: &str| {
        let counts: Vec<usize> = rows.iter().map(|row| count_cells(row, delimiter)).collect();
        let alike = |cells: usize| counts.iter().filter(|count| **count == cells).count();
        counts.iter().filter(|cells| **cells > 1).map(|cells| (alike(*cells), *cells)).max().unwrap_or_default()
    };
    let mut best = (",", (0, 0));
    for delimiter in DELIMITERS {
        let fit = fit(delimiter);
        if fit > best.1 {
            best = (delimiter, fit);
        }
    }
    best.0.to_owned()
}

/// How many cells a row has, where delimiters between double quotes do not count, unless quotes are letters by default.
fn count_cells(row: &str, delimiter: &str) -> usize {
    if ["\t", "::"].contains(&delimiter) {
        return 1 + row.matches(delimiter).count();
    }
    let outside = row.split('"').step_by(2);
    1 + outside.map(|part| part.matches(delimiter).count()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(head: &str) -> (String, Option<u8>) {
        let dialect = CsvDialect::guess(head, &CsvConfig::default());
        (dialect.delimiter, dialect.quote)
    }

    #[test]
    fn delimiters_are_those_by_which_rows_are_alike() {
        let comma = (",".to_owned(), Some(b'"'));
        assert_eq!(guess("userId,movieId,rating,timestamp\n1,2,3.5,4\n"), comma);
        assert_eq!(guess("a,\"b; c; d; e\",c\n1,\"x;y;z;w\",3\n"), comma);
        assert_eq!(guess("1;2,5;3\n1;4,5;7\n1;2;3\n"), (";".to_owned(), Some(b'"')));
        assert_eq!(guess("196\t242\t3\t881250949\n"), ("\t".to_owned(), None));
        assert_eq!(guess("u\tDeep, deep, \"Dish\tx\nv\tBjörk\ty\n"), ("\t".to_owned(), None));
        assert_eq!(guess("\"a\"\t\"b\"\n\"1\"\t\"2\"\n"), ("\t".to_owned(), Some(b'"')));
        assert_eq!(guess("1::1193::5::978300760\n1::661::3::978302109\n"), ("::".to_owned(), None));
        assert_eq!(guess("one column\n1\n"), comma);
    }

    #[test]
    fn first_rows_with_a_number_or_a_time_are_no_headers() {
        let header = |row: &str| {
            let mut dialect = CsvDialect::guess(row, &CsvConfig::default());
            let cells: Vec<String> = row.split(',').map(str::to_owned).collect();
            dialect.note_first_row(&cells, &CsvConfig::default());
            dialect.has_header
        };
        assert!(header("userId,movieId,rating,timestamp") && header(",user,item,time"));
        assert!(!header("1,2,3,4") && !header("u,i,2014-04-07T10:51:09.277Z,0") && !header("a,b,1e9"));
    }
}
