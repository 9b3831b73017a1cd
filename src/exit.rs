//! Exit codes: a public contract, kept in this one place and in `negstream --help`.

use std::error::Error;

use crate::catalogue::CatalogueError;
use crate::checkpoint::CheckpointError;
use crate::config::layers::ConfigError;
use crate::dead_letters::DeadLetterError;
use crate::import::ImportError;
use crate::kafka::ClientError;
use crate::pipeline::PipelineError;
use crate::publish::{SinkDiffers, SinkError};
use crate::registry::RegistrySetupError;
use crate::serve::ApiError;
use crate::share::ShareError;
use crate::source::{ParquetLogError, SourceError};
use crate::telemetry::http::HttpError;
use crate::util::credentials::hide_credentials;
use crate::util::escape::escape_for_terminal;

/// The exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The work is done, or was stopped in order by a signal.
    Done = 0,
    /// A fault of this program, or one that has no code of its own.
    Unexpected = 1,
    /// Wrong usage or configuration; nothing was touched.
    Usage = 2,
    /// A log or topic cannot be read or written, or does not hold what it should.
    Source = 3,
    /// No usable checkpoint, or none could be written.
    Checkpoint = 4,
    /// The address of `http.listen` could not be bound.
    Listen = 5,
    /// Another worker holds what this one wants, or took over what was its own; nothing was saved since.
    Fenced = 6,
    /// The model diverged: a loss or a parameter is NaN or infinite; nothing was saved since the last checkpoint.
    Diverged = 7,
    /// A sink of embeddings cannot be reached, refuses, or does not hold what the checkpoint holds.
    Sink = 8,
}

impl Exit {
    /// The name in metrics and `/status`: why a worker has failed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::Source => "source",
            Self::Checkpoint => "checkpoint",
            Self::Listen => "listen",
            Self::Fenced => "fenced",
            Self::Diverged => "diverged",
            Self::Sink => "sink",
        }
    }
}

/// The table of exit codes for `--help`.
pub const TABLE: &str = "\
Exit status:
  0  done, or stopped in order by SIGINT or SIGTERM
  1  unexpected fault
  2  wrong usage or configuration; nothing was touched
  3  a log or topic (of events or of dead letters) cannot be read or written, or does not hold what it should
  4  no usable checkpoint, or none could be written
  5  the address of http.listen is not to be had
  6  fenced: another worker is at work there, or took over; nothing was saved since
  7  diverged: a loss or a parameter is NaN or infinite; nothing was saved since the last checkpoint
  8  a sink of embeddings cannot be reached, refuses, or differs from the checkpoint (`publish`, `publish verify`)
  130, 143  ended at once: by a second SIGINT or SIGTERM; `synth` by the first, leaving nothing half done";

/// Wrong usage that the argument parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Parts of the machine, or of what the configuration names, with which no worker would run.
#[derive(Debug, thiserror::Error)]
#[error("a worker with this configuration would fail: {parts}")]
pub struct Unwell {
    /// The exit code that the worker would end with.
    pub exit: Exit,
    /// The names of the parts.
    pub parts: String,
}

/// A log that cannot be replayed as it is, whatever of what is proposed is set.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LogUnusable(pub String);

/// The exit code that `error` stands for: that of its outermost cause which has one.
pub fn code(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of).unwrap_or(Exit::Unexpected)
}

/// An error with an exit code. Every implementation names each variant, so that a new one does not compile without a code.
trait ExitCode: Error + 'static {
    fn exit(&self) -> Exit;
}

/// The exit code of one cause, where its type has one.
fn exit_of(cause: &(dyn Error + 'static)) -> Option<Exit> {
    fn of<E: ExitCode>(cause: &(dyn Error + 'static)) -> Option<Exit> {
        cause.downcast_ref::<E>().map(E::exit)
    }
    // The registry of errors with codes.
    [
        of::<UsageError>,
        of::<LogUnusable>,
        of::<Unwell>,
        of::<ConfigError>,
        of::<CatalogueError>,
        of::<ImportError>,
        of::<ApiError>,
        of::<PipelineError>,
        of::<SourceError>,
        of::<DeadLetterError>,
        of::<CheckpointError>,
        of::<ClientError>,
        of::<RegistrySetupError>,
        of::<HttpError>,
        of::<SinkError>,
        of::<SinkDiffers>,
    ]
    .into_iter()
    .find_map(|exit| exit(cause))
}

impl ExitCode for UsageError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitCode for LogUnusable {
    fn exit(&self) -> Exit {
        Exit::Source
    }
}

impl ExitCode for Unwell {
    fn exit(&self) -> Exit {
        self.exit
    }
}

impl ExitCode for ConfigError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitCode for ApiError {
    fn exit(&self) -> Exit {
        match self {
            Self::Catalogue(error) => error.exit(),
            Self::Thread(_) => Exit::Unexpected,
        }
    }
}

impl ExitCode for CatalogueError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitCode for ImportError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitCode for PipelineError {
    fn exit(&self) -> Exit {
        match self {
            Self::Source(error) => error.exit(),
            Self::Checkpoint(error) => error.exit(),
            Self::DeadLetters(error) => error.exit(),
            Self::Catalogue(error) => error.exit(),
            Self::Diverged(_) => Exit::Diverged,
            Self::TooManyRejected(_) | Self::NothingTaken(_) => Exit::Source,
            Self::NoneOfKinds(_) => Exit::Usage,
            Self::Sink(_) => Exit::Usage,
            Self::Thread { .. } => Exit::Unexpected,
        }
    }
}

impl ExitCode for SourceError {
    fn exit(&self) -> Exit {
        match self {
            _ if self.is_fenced() => Exit::Fenced,
            Self::Parquet(ParquetLogError::InvalidAddress { .. }) => Exit::Usage,
            Self::Share(
                ShareError::OtherLog { .. }
                | ShareError::OtherConfiguration { .. }
                | ShareError::OthersLeftOut { .. }
                | ShareError::Partitions { .. },
            ) => Exit::Usage,
            Self::Share(ShareError::Kafka(error)) => error.exit(),
            Self::Parquet(_) | Self::Kafka(_) | Self::Share(_) | Self::Panicked | Self::Other(_) => Exit::Source,
            Self::Thread { .. } => Exit::Unexpected,
        }
    }
}

impl ExitCode for DeadLetterError {
    fn exit(&self) -> Exit {
        match self {
            Self::Topic(_) | Self::File { .. } | Self::InUse { .. } | Self::Shorter { .. } => Exit::Source,
        }
    }
}

impl ExitCode for CheckpointError {
    fn exit(&self) -> Exit {
        match self {
            Self::OtherConfiguration { .. } | Self::InvalidLocation { .. } => Exit::Usage,
            Self::Locked { .. } | Self::Fenced { .. } | Self::LockGone { .. } => Exit::Fenced,
            Self::Io { .. }
            | Self::Damaged { .. }
            | Self::NoneIntact { .. }
            | Self::Missing { .. }
            | Self::OtherFormat { .. }
            | Self::OtherRun { .. }
            | Self::NoLocks { .. }
            | Self::ObjectStore { .. }
            | Self::NumberTaken { .. }
            | Self::Overtaken { .. } => Exit::Checkpoint,
        }
    }
}

impl ExitCode for ClientError {
    fn exit(&self) -> Exit {
        match self {
            Self::OwnProperty { .. } | Self::Property { .. } => Exit::Usage,
            Self::NoTopic { .. } | Self::Undelivered { .. } | Self::Failed { .. } => Exit::Source,
        }
    }
}

impl ExitCode for RegistrySetupError {
    fn exit(&self) -> Exit {
        match self {
            Self::File { .. } | Self::Schema(_) | Self::Topics(_) => Exit::Usage,
            Self::OfTopic { source, .. } => source.exit(),
            Self::Register { .. } => Exit::Source,
            Self::Thread(_) => Exit::Unexpected,
        }
    }
}

impl ExitCode for HttpError {
    fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } | Self::Bind { .. } => Exit::Listen,
        }
    }
}

impl ExitCode for SinkError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::Usage,
            Self::Away { .. } | Self::Refused { .. } => Exit::Sink,
        }
    }
}

impl ExitCode for SinkDiffers {
    fn exit(&self) -> Exit {
        Exit::Sink
    }
}

/// The message of `error` for a person: each cause that says something new, without credentials, made harmless for a
/// terminal.
pub fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        if message.is_empty() {
            message = said;
        } else if !message.contains(&said) {
            message = format!("{message}: {said}");
        }
    }
    // Some messages have lines of their own.
    hide_credentials(&message).split('\n').map(escape_for_terminal).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_says_causes_once_and_drives_no_terminal() {
        let cause = std::io::Error::other("no room");
        let error = anyhow::Error::new(cause).context("cannot write a\u{1b}[31mb: no room");
        assert_eq!(message(&error), "cannot write a\\u{1b}[31mb: no room");
        let error = anyhow::anyhow!("no https://me:hunter2@host/?sig=hunter2");
        assert_eq!(message(&error), "no https://(not shown)@host/?sig=(not shown)");
    }

    #[test]
    fn code_is_found_below_contexts_and_is_unexpected_without_one() {
        let fenced = CheckpointError::Fenced { dir: "state".into(), epoch: 3 };
        assert_eq!(code(&anyhow::Error::new(fenced).context("while saving")), Exit::Fenced);
        assert_eq!(code(&anyhow::anyhow!("who knows")), Exit::Unexpected);
    }

    #[test]
    fn code_is_the_same_whichever_error_passes_it_on() {
        let fenced = || CheckpointError::Fenced { dir: "state".into(), epoch: 3 };
        assert_eq!(code(&PipelineError::from(fenced()).into()), code(&fenced().into()));
        let panicked = || SourceError::Panicked;
        assert_eq!(code(&PipelineError::from(panicked()).into()), code(&panicked().into()));
    }
}
