//! Exit codes: a public contract, kept in this one place and in `negstream --help`.

use crate::catalogue::CatalogueError;
use crate::checkpoint::CheckpointError;
use crate::config::layers::ConfigError;
use crate::dead_letters::DeadLetterError;
use crate::kafka::ClientError;
use crate::pipeline::PipelineError;
use crate::registry::RegistrySetupError;
use crate::source::SourceError;
use crate::telemetry::http::HttpError;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped in order by a signal.
    Done = 0,
    /// A fault of our own, or one that has no code yet.
    Unexpected = 1,
    /// Wrong usage or configuration; nothing was touched.
    Usage = 2,
    /// A log or topic cannot be read, or does not hold what it should.
    Source = 3,
    /// No usable checkpoint, or none could be written.
    Checkpoint = 4,
    /// An address could not be listened on.
    Listen = 5,
    /// Another worker holds what this one wants, or took over what was its own; nothing was saved since.
    Fenced = 6,
}

/// For `--help`.
pub const TABLE: &str = "\
Exit status:
  0  done, or stopped in order by SIGINT or SIGTERM
  1  unexpected fault
  2  wrong usage or configuration; nothing was touched
  3  a log or topic cannot be read, or does not hold what it should
  4  no usable checkpoint, or none could be written
  5  the address of http.listen is not to be had
  6  fenced: another worker is at work there, or took over; nothing was saved since
  130, 143  ended at once: by a second SIGINT or SIGTERM; `synth` by the first, leaving nothing half done";

/// Wrong usage that the argument parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The exit code that `error` stands for: that of the innermost cause which has one.
pub fn code(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<UsageError>() || cause.is::<CatalogueError>() {
            return Exit::Usage;
        }
        // Errors that only pass on what another says are no causes of their own: looked through.
        let source = match cause.downcast_ref() {
            Some(PipelineError::Source(error)) => Some(error),
            Some(PipelineError::TooManyRejected(_) | PipelineError::DeadLetters(_)) => return Exit::Source,
            Some(PipelineError::Checkpoint(error)) => return checkpoint_code(error),
            Some(PipelineError::Catalogue(_)) => return Exit::Usage,
            Some(PipelineError::Diverged(_) | PipelineError::Thread { .. }) | None => {
                cause.downcast_ref::<SourceError>()
            }
        };
        match source {
            Some(SourceError::Fenced { .. } | SourceError::Unsure { .. } | SourceError::SameName { .. }) => {
                return Exit::Fenced;
            }
            Some(_) => return Exit::Source,
            None => {}
        }
        if cause.is::<DeadLetterError>() {
            return Exit::Source;
        }
        if let Some(error) = cause.downcast_ref::<RegistrySetupError>() {
            return match error {
                RegistrySetupError::File { .. } | RegistrySetupError::Schema(_) => Exit::Usage,
                RegistrySetupError::Register { .. } => Exit::Source,
            };
        }
        if cause.is::<HttpError>() {
            return Exit::Listen;
        }
        if let Some(error) = cause.downcast_ref::<ClientError>() {
            return match error {
                ClientError::OwnProperty { .. } | ClientError::Property { .. } => Exit::Usage,
                _ => Exit::Source,
            };
        }
        if let Some(error) = cause.downcast_ref::<CheckpointError>() {
            return checkpoint_code(error);
        }
    }
    Exit::Unexpected
}

fn checkpoint_code(error: &CheckpointError) -> Exit {
    match error {
        CheckpointError::OtherConfiguration { .. } | CheckpointError::Place { .. } => Exit::Usage,
        CheckpointError::Locked { .. } | CheckpointError::Fenced { .. } => Exit::Fenced,
        _ => Exit::Checkpoint,
    }
}

/// What is told of `error`: each cause that says something new, made harmless for a terminal.
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
    message.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// Text from outside, made harmless for a terminal: nothing in it drives one, or reorders what is read.
pub fn shown(text: &str) -> String {
    let harmless = |c: char| !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_and_drive_no_terminal() {
        let cause = std::io::Error::other("no room");
        let error = anyhow::Error::new(cause).context("cannot write a\u{1b}[31mb: no room");
        assert_eq!(message(&error), "cannot write a\\u{1b}[31mb: no room");
    }
}
