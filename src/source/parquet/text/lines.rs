//! The lines of a text log, none longer than is bearable: what is longer is cut, and said to be.

use std::fmt;
use std::io::{self, BufRead, Read as _};

/// Longest line, and longest record of several lines, in bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// The lines of a log from its beginning on.
pub(in super::super) struct Lines {
    input: Box<dyn BufRead + Send>,
    /// How many were read.
    count: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lines").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Lines {
    /// The lines of `input`, without the byte order mark that it may begin with.
    pub(super) fn new(mut input: Box<dyn BufRead + Send>) -> io::Result<Self> {
        // Decoders may hand over less than is left, but none so little at the beginning.
        if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(Self { input, count: 0 })
    }

    /// How many lines were read: the number of the last one, from 1 on.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Appends the next line to `line`, without its end. `None` behind the last one; `Some(false)` where it was too long, and
    /// its rest was passed over.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
        let begin = line.len();
        let read = (&mut self.input).take(LONGEST as u64).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(None);
        }
        self.count += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.len() > begin && line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(true));
        }
        if read < LONGEST {
            return Ok(Some(true));
        }
        loop {
            let (passed, is_end) = match self.input.fill_buf()? {
                [] => return Ok(Some(false)),
                rest => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => (end + 1, true),
                    None => (rest.len(), false),
                },
            };
            self.input.consume(passed);
            if is_end {
                return Ok(Some(false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<(usize, bool)> {
        let mut lines = Lines::new(Box::new(io::Cursor::new(text.to_vec()))).unwrap();
        let mut found = Vec::new();
        let mut line = Vec::new();
        while let Some(is_whole) = lines.read(&mut line).unwrap() {
            found.push((line.len(), is_whole));
            line.clear();
        }
        assert_eq!(lines.count(), found.len() as u64);
        found
    }

    #[test]
    fn ends_of_lines_and_marks_are_no_part_of_them() {
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\xef\xbb\xbfab\r\n\r\nc"), [(2, true), (0, true), (1, true)]);
        assert_eq!(lines(b"a\rb\n"), [(3, true)]);
    }

    #[test]
    fn lines_beyond_the_longest_are_cut() {
        for (length, expected) in [(LONGEST - 1, true), (LONGEST, false), (3 * LONGEST, false)] {
            let mut text = vec![b'x'; length];
            text.extend(b"\nnext");
            assert_eq!(lines(&text), [(length.min(LONGEST), expected), (4, true)], "{length}");
        }
    }
}
