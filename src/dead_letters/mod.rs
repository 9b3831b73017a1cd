//! Dead letters: records that could not be taken, kept with their position and the reason.
//!
//! | kept in | durable once [`DeadLetters::settle`] says so | after a crash and a resume |
//! | --- | --- | --- |
//! | nothing | – | – |
//! | a topic ([`crate::dead_letters::topic`]) | yes | letters since the last checkpoint come again |
//! | a file ([`file`]), JSON lines | yes | each once: lines behind the length that the checkpoint recorded are not written again |
//!
//! Call [`DeadLetters::settle`] before a checkpoint: a position must never be durable before the letters that lie behind
//! it.

mod config;
pub mod file;
pub mod topic;

use std::io;
use std::path::PathBuf;

use crate::event::Rejection;
use crate::kafka::ClientError;
pub use config::DeadLettersConfig;
pub use file::DeadLetterFile;
use topic::DeadLetterTopic;

/// A dead letter that cannot be kept. Never ignored: a record is either learnt from or kept.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topic does not take letters.
    #[error(transparent)]
    Topic(#[from] ClientError),
    /// The file cannot be opened or written.
    #[error("dead letters {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system.
        source: io::Error,
    },
    /// Another run writes to the file.
    #[error("dead letters {}: another run is writing to it; give each a dead_letters.file of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold what the checkpoint says.
    #[error("dead letters {}: {length} bytes, but the checkpoint recorded {recorded}; lines were lost", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// The file's length.
        length: u64,
        /// The length in the checkpoint.
        recorded: u64,
    },
}

/// The destination of dead letters.
#[derive(Debug)]
pub enum DeadLetters {
    /// No destination: rejected records are only counted.
    None,
    /// A topic.
    Topic(DeadLetterTopic),
    /// A file.
    File(DeadLetterFile),
}

impl DeadLetters {
    /// Keeps a record that was not taken, without waiting; `false` where there is no room for it yet.
    ///
    /// # Errors
    /// If this or an earlier letter cannot be kept.
    pub fn offer(&mut self, stream_label: &str, offset: u64, rejection: &Rejection) -> Result<bool, DeadLetterError> {
        match self {
            Self::None => Ok(true),
            Self::Topic(topic) => Ok(topic.offer(stream_label, offset, rejection)?),
            Self::File(file) => file.write(stream_label, offset, rejection).map(|()| true),
        }
    }

    /// Whether all letters are durable. A file is made durable by the call; brokers are not waited for.
    ///
    /// # Errors
    /// If a letter cannot be kept.
    pub fn settle(&mut self) -> Result<bool, DeadLetterError> {
        match self {
            Self::None => Ok(true),
            Self::Topic(topic) => Ok(topic.settle()?),
            Self::File(file) => file.flush().map(|()| true),
        }
    }

    /// The length of the file to record in the checkpoint, where letters go into a file.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::File(file) => file.length(),
            Self::None | Self::Topic(_) => None,
        }
    }
}
