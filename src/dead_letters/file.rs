//! Dead letters in a file, one JSON object a line:
//! `{"stream", "offset", "reason", "detail", "key_base64"?, "payload" | "payload_base64"}`. The payload is text where it is
//! UTF-8.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::DeadLetterError;
use crate::event::Rejection;
use crate::util::encoding::base64;

/// A file of dead letters, one JSON object a line.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    dirty: bool,
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
    /// Opens or creates a file. With the length that a checkpoint recorded, cuts off the lines that were written after
    /// it; without one, goes on behind what is there.
    ///
    /// # Errors
    /// If the file cannot be opened, or is shorter than recorded.
    pub fn open(path: &Path, recorded: Option<u64>) -> Result<Self, DeadLetterError> {
        let fail = |source| DeadLetterError::File { path: path.to_owned(), source };
        let existed = path.exists();
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut length = file.metadata().map_err(fail)?.len();
        if let Some(recorded) = recorded {
            if length < recorded {
                return Err(DeadLetterError::Shorter { path: path.to_owned(), length, recorded });
            }
            file.set_len(recorded).map_err(fail)?;
            length = recorded;
        }
        file.seek(SeekFrom::Start(length)).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        if !existed {
            sync_folder(path).map_err(fail)?;
        }
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), length, dirty: false })
    }

    /// A file whose lines can be buffered, but never written: for tests of what follows.
    #[cfg(test)]
    pub(crate) fn unwritable(path: &Path) -> Self {
        std::fs::write(path, b"").expect("a writable folder");
        let file = BufWriter::new(File::open(path).expect("the file was just made"));
        Self { path: path.to_owned(), file, length: 0, dirty: false }
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
            self.file.flush().and_then(|()| self.file.get_ref().sync_data()).map_err(|error| self.failed(error))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// The file's length in bytes, with the lines that are not flushed yet.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file holds no line.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn failed(&self, source: io::Error) -> DeadLetterError {
        DeadLetterError::File { path: self.path.clone(), source }
    }
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
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
        assert_eq!(file.len(), written.len() as u64);
    }

    #[test]
    fn open_cuts_back_to_the_recorded_length() {
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
        file.write("t/0", 2, &rejection(b"b")).unwrap();
        file.flush().unwrap();
        let offsets: Vec<u64> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(offsets, [1, 2]);

        let error = DeadLetterFile::open(&path, Some(file.len() + 1)).unwrap_err().to_string();
        assert!(error.contains("but the checkpoint recorded"), "{error}");
        // Without a record of it, what is there stays.
        assert_eq!(DeadLetterFile::open(&path, None).unwrap().len(), file.len());
    }

    #[test]
    fn open_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetterFile::open(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
