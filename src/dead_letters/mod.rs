//! Dead letters: records that could not be taken, kept with their position and the reason.
//!
//! | kept in | durable once [`DeadLetters::settle`] says so | after a crash and a resume |
//! | --- | --- | --- |
//! | nothing | – | – |
//! | a topic ([`crate::dead_letters::topic`]) | yes | those since the last checkpoint come again |
//! | a file, JSON lines | yes | each once: the file is cut back to the length that the checkpoint recorded |
//!
//! Call [`DeadLetters::settle`] before a checkpoint: a position must never be durable before the letters that lie behind
//! it. A line of the file: `{"stream", "offset", "reason", "detail", "key_base64"?, "payload" | "payload_base64"}`; the
//! payload is text where it is UTF-8.

mod config;
pub mod topic;

pub use config::DeadLettersConfig;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::event::Rejection;
use crate::kafka::ClientError;
use crate::util::encoding::base64;
use topic::DeadLetterTopic;

/// What can be wrong with dead letters. Never ignored: a record is either learnt from or kept.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topic.
    #[error(transparent)]
    Topic(#[from] ClientError),
    /// The file cannot be opened or written.
    #[error("dead letters {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold what the checkpoint says.
    #[error("dead letters {}: {length} bytes, but the checkpoint recorded {recorded}; lines were lost", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// The length in the checkpoint.
        recorded: u64,
    },
}

/// Where dead letters go.
#[derive(Debug)]
pub enum DeadLetters {
    /// Nowhere; they are only counted.
    None,
    /// Into a topic.
    Topic(DeadLetterTopic),
    /// Into a file.
    File(DeadLetterFile),
}

impl DeadLetters {
    /// Keeps a record that was not taken, without waiting; `false` where there is no room for it yet.
    ///
    /// # Errors
    /// If this or an earlier one cannot be kept.
    pub fn offer(&mut self, stream_label: &str, offset: u64, rejection: &Rejection) -> Result<bool, DeadLetterError> {
        match self {
            Self::None => Ok(true),
            Self::Topic(topic) => Ok(topic.offer(stream_label, offset, rejection)?),
            Self::File(file) => file.write(stream_label, offset, rejection).map(|()| true),
        }
    }

    /// Whether all are durable; a file is made so, brokers are not waited for.
    ///
    /// # Errors
    /// If one cannot be kept.
    pub fn settle(&mut self) -> Result<bool, DeadLetterError> {
        match self {
            Self::None => Ok(true),
            Self::Topic(topic) => Ok(topic.settle()?),
            Self::File(file) => file.flush().map(|()| true),
        }
    }

    /// The length to record in the checkpoint, where they go into a file.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::File(file) => Some(file.len()),
            Self::None | Self::Topic(_) => None,
        }
    }
}

/// A file of dead letters, one JSON object a line.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    dirty: bool,
}

#[derive(Serialize)]
struct Line<'a> {
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
        let line = Line {
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

    /// Its length in bytes, with the lines that are not flushed yet.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True while there is no line in it.
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
    use crate::event::Reason;

    fn rejection(payload: &[u8]) -> Rejection {
        let detail = "it \"says\" no".to_owned();
        Rejection { reason: Reason::Unparsable, detail, key: None, payload: payload.to_vec() }
    }

    #[test]
    fn lines_hold_text_or_base64() {
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
    fn resume_cuts_back_to_the_recorded_length() {
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
    fn a_file_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetterFile::open(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
