//! Dead letters in a file, one JSON object a line:
//! `{"stream", "offset", "reason", "detail", "key_base64"?, "payload" | "payload_base64"}`. The payload is text where it is
//! UTF-8.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::DeadLetterError;
use crate::event::Rejection;
use crate::util::encoding::base64;
use crate::util::file_name::sync_name;

/// A file of dead letters, one JSON object a line.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    dirty: bool,
    /// Lines behind the recorded length.
    tail: Tail,
    /// Whether it is a regular file, rather than a pipe or a device, which has no length to go back to.
    is_regular: bool,
}

/// The lines that stood behind the length that a checkpoint recorded. A run that was killed writes them once more; those of another
/// run are not its own to remove.
#[derive(Debug, Default)]
struct Tail {
    /// Whether each line was written again, and where it ends, in their order.
    lines: Vec<(bool, u64)>,
    /// Indices of the lines, by their hash.
    by_hash: HashMap<[u8; 16], usize>,
    /// The first line that was not written again.
    next: usize,
    /// Where the lines begin.
    recorded: u64,
}

impl Tail {
    /// Reads the lines of `file` behind `from`; returns where the last whole one ends.
    fn read(file: &File, from: u64) -> io::Result<(Self, u64)> {
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(from))?;
        let mut tail = Self { recorded: from, ..Self::default() };
        let (mut end, mut line) = (from, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok((tail, end));
            }
            end += read as u64;
            tail.by_hash.insert(hash(&line), tail.lines.len());
            tail.lines.push((false, end));
        }
    }

    /// Whether `line` is there already. It is not taken for another one that is alike.
    fn take(&mut self, line: &[u8]) -> bool {
        if self.by_hash.is_empty() {
            return false;
        }
        let Some(index) = self.by_hash.remove(&hash(line)) else { return false };
        self.lines[index].0 = true;
        while self.lines.get(self.next).is_some_and(|(is_written, _)| *is_written) {
            self.next += 1;
        }
        true
    }

    /// The length of the file before the first line that was not written again; `None` where there is none.
    fn settled(&self) -> Option<u64> {
        let ends = || self.next.checked_sub(1).map_or(self.recorded, |last| self.lines[last].1);
        (self.next < self.lines.len()).then(ends)
    }
}

fn hash(line: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(line).into();
    std::array::from_fn(|index| digest[index])
}

#[derive(Serialize)]
struct LetterLine<'a> {
    stream: &'a str,
    offset: u64,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl DeadLetterFile {
    /// Opens or creates a file, which no other run has open, and goes on behind what is there.
    ///
    /// Lines behind the length that a checkpoint recorded were written by this run after it, which writes them again: they are not
    /// doubled. Or another run has gone on with the same file since: they stay.
    ///
    /// # Errors
    /// If the file cannot be opened, is another run's at the moment, or is shorter than recorded.
    pub fn open(path: &Path, recorded: Option<u64>) -> Result<Self, DeadLetterError> {
        let fail = |source| DeadLetterError::File { path: path.to_owned(), source };
        let there = std::fs::metadata(path);
        if there.as_ref().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
            let tail = Tail::default();
            let file = BufWriter::new(file);
            return Ok(Self { path: path.to_owned(), file, length: 0, dirty: false, tail, is_regular: false });
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(DeadLetterError::InUse { path: path.to_owned() });
        }
        let mut length = file.metadata().map_err(fail)?.len();
        let mut tail = Tail::default();
        if let Some(recorded) = recorded {
            if length < recorded {
                return Err(DeadLetterError::Shorter { path: path.to_owned(), length, recorded });
            }
            (tail, length) = Tail::read(&file, recorded).map_err(fail)?;
            // A line that a crash cut off.
            file.set_len(length).map_err(fail)?;
        }
        file.seek(SeekFrom::Start(length)).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        if there.is_err() {
            sync_name(path).map_err(fail)?;
        }
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), length, dirty: false, tail, is_regular: true })
    }

    /// A file whose lines can be buffered, but never written: for tests of what follows.
    #[cfg(test)]
    pub(crate) fn unwritable(path: &Path) -> Self {
        std::fs::write(path, b"").expect("a writable folder");
        let file = BufWriter::new(File::open(path).expect("the file was just made"));
        Self { path: path.to_owned(), file, length: 0, dirty: false, tail: Tail::default(), is_regular: true }
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, stream_label: &str, offset: u64, rejection: &Rejection) -> Result<(), DeadLetterError> {
        let text = std::str::from_utf8(&rejection.payload);
        let line = LetterLine {
            stream: stream_label,
            offset,
            reason: rejection.reason.name(),
            detail: &rejection.detail,
            key_base64: rejection.key.as_deref().map(base64),
            payload: text.ok(),
            payload_base64: text.is_err().then(|| base64(&rejection.payload)),
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| self.failed(error.into()))?;
        bytes.push(b'\n');
        if self.tail.take(&bytes) {
            return Ok(());
        }
        self.dirty = true;
        self.file.write_all(&bytes).map_err(|error| self.failed(error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Returns once all lines are on the disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<(), DeadLetterError> {
        if self.dirty {
            self.file.flush().map_err(|error| self.failed(error))?;
            if self.is_regular {
                self.file.get_ref().sync_data().map_err(|error| self.failed(error))?;
            }
            self.dirty = false;
        }
        Ok(())
    }

    /// The length to record in a checkpoint, with the lines that are not flushed yet: whatever is behind it may have to be written
    /// again. `None` for what is no regular file.
    pub fn length(&self) -> Option<u64> {
        self.is_regular.then(|| self.tail.settled().unwrap_or(self.length))
    }

    fn failed(&self, source: io::Error) -> DeadLetterError {
        DeadLetterError::File { path: self.path.clone(), source }
    }
}

impl Drop for DeadLetterFile {
    fn drop(&mut self) {
        if self.is_regular {
            // To close the file is not enough: a process that is being started holds a copy of it until its program is there.
            let _ = self.file.flush();
            let _ = self.file.get_ref().unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::DeadLetters;
    use crate::event::Reason;

    fn rejection(payload: &[u8]) -> Rejection {
        let detail = "it \"says\" no".to_owned();
        Rejection { reason: Reason::Unparsable, detail, key: None, payload: payload.to_vec() }
    }

    #[test]
    fn line_holds_text_or_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let mut file = DeadLetterFile::open(&path, None).unwrap();
        file.write("t/0", 7, &rejection("{\"a\nb\"".as_bytes())).unwrap();
        let keyed = Rejection { key: Some(b"foo".to_vec()), ..rejection(b"\xff\x00") };
        file.write("t/1", u64::MAX, &keyed).unwrap();
        file.flush().unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        let expected = concat!(
            r#"{"stream":"t/0","offset":7,"reason":"unparsable","detail":"it \"says\" no","payload":"{\"a\nb\""}"#,
            "\n",
            r#"{"stream":"t/1","offset":18446744073709551615,"reason":"unparsable","detail":"it \"says\" no","#,
            r#""key_base64":"Zm9v","payload_base64":"/wA="}"#,
            "\n"
        );
        assert_eq!(written, expected);
        assert_eq!(file.length(), Some(written.len() as u64));
    }

    #[test]
    fn open_doubles_no_line_behind_the_recorded_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let mut letters = DeadLetters::File(DeadLetterFile::open(&path, Some(0)).unwrap());
        assert!(letters.offer("t/0", 1, &rejection(b"a")).unwrap());
        assert!(letters.settle().unwrap());
        let recorded = letters.length().unwrap();
        assert!(letters.offer("t/0", 2, &rejection(b"b")).unwrap());
        assert!(letters.settle().unwrap());
        drop(letters);

        let mut file = DeadLetterFile::open(&path, Some(recorded)).unwrap();
        assert_eq!(file.length(), Some(recorded), "the second may have to be written again");
        file.write("t/0", 2, &rejection(b"b")).unwrap();
        file.flush().unwrap();
        let whole = file.length().unwrap();
        assert!(whole > recorded);
        assert!(matches!(DeadLetterFile::open(&path, None), Err(DeadLetterError::InUse { .. })));
        drop(file);
        let offsets: Vec<u64> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(offsets, [1, 2]);

        let error = DeadLetterFile::open(&path, Some(whole + 1)).unwrap_err().to_string();
        assert!(error.contains("but the checkpoint recorded"), "{error}");
        // Without a record of it, what is there stays.
        assert_eq!(DeadLetterFile::open(&path, None).unwrap().length(), Some(whole));
    }

    fn lines(path: &Path) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(path).unwrap();
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            (line["stream"].as_str().unwrap().to_owned(), line["offset"].as_u64().unwrap())
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn lines_of_another_run_stay_and_own_ones_are_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let write = |file: &mut DeadLetterFile, stream: &str, offsets: std::ops::Range<u64>| {
            offsets.for_each(|offset| file.write(stream, offset, &rejection(b"x")).unwrap());
            file.flush().unwrap();
            file.length().unwrap()
        };
        let recorded = write(&mut DeadLetterFile::open(&path, None).unwrap(), "one", 0..3);
        write(&mut DeadLetterFile::open(&path, None).unwrap(), "two", 0..2);
        // The first goes on, and is killed before its next checkpoint.
        let killed = write(&mut DeadLetterFile::open(&path, Some(recorded)).unwrap(), "one", 3..5);
        assert_eq!(killed, recorded, "the other's line may be its own, for all it knows");
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&torn[..], b"{\"stream\":\"o"].concat()).unwrap();
        write(&mut DeadLetterFile::open(&path, Some(recorded)).unwrap(), "one", 3..6);
        let all = [("one", 0..3), ("two", 0..2), ("one", 3..6)];
        let expected: Vec<(String, u64)> =
            all.into_iter().flat_map(|(run, of)| of.map(move |offset| (run.to_owned(), offset))).collect();
        assert_eq!(lines(&path), expected);
    }

    #[test]
    fn what_is_no_file_is_written_through() {
        let mut file = DeadLetterFile::open(Path::new("/dev/null"), Some(7)).unwrap();
        file.write("t/0", 1, &rejection(b"a")).unwrap();
        file.flush().unwrap();
        assert_eq!(file.length(), None);
    }

    #[test]
    fn open_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetterFile::open(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
