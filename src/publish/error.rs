//! What can go wrong with a sink, and whether waiting may mend it.

use std::error::Error;

/// An error of a sink. Its text names the sink, and holds no secret: what a library says of an address goes through
/// [`hide_credentials`](crate::util::credentials::hide_credentials) here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No sink has the name.
    #[error("no sink is called '{name}'; there are: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The sink cannot be reached, or not now: the same update may succeed later.
    #[error("sink {sink} is away: {reason}")]
    Away {
        /// The name of the sink.
        sink: String,
        /// What was said, without secrets.
        reason: String,
    },
    /// The sink refused an update, or its target: credentials, another dimension, another model. Somebody has to do something.
    #[error("sink {sink}: {reason}")]
    Refused {
        /// The name of the sink.
        sink: String,
        /// The refusal, without secrets.
        reason: String,
    },
}

/// Sinks do not hold what they should.
#[derive(Debug, thiserror::Error)]
#[error("not equal to the checkpoint: {sinks}")]
pub struct SinkDiffers {
    /// Their names.
    pub sinks: String,
}

impl SinkError {
    /// `sink` is away, for the reason `source`.
    pub fn away(sink: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Away { sink: sink.to_owned(), reason: told(source) }
    }

    /// A refusal by `sink`, for the reason `source`.
    pub fn refused(sink: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused { sink: sink.to_owned(), reason: told(source) }
    }

    /// Whether the same may succeed later, without anybody's help.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// An error in the words of all its sources, with the credentials of URLs hidden.
fn told(error: impl Into<Box<dyn Error + Send + Sync>>) -> String {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    crate::util::credentials::hide_credentials(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_sink_and_hide_credentials() {
        let error = SinkError::away("redis", "no answer from redis://me:S3CR3T@localhost:1/");
        assert!(error.is_away() && !SinkError::refused("redis", "no").is_away());
        let said = error.to_string();
        assert!(said.contains("redis is away") && !said.contains("S3CR3T"), "{said}");
    }
}
