//! What can go wrong with a file on another machine: each cause in words, with what to do about it. Where the file is, is said
//! by whoever asked for it, without what may be secret in its address.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use object_store::client::{HttpError, HttpErrorKind};

use super::stores::StoreKind;

/// Longest text of a server that is repeated.
const LONGEST: usize = 300;
/// What object_store says before the status of an answer.
const STATUS: &str = "Server returned non-2xx status code: ";
/// Addresses at which machines of a cloud are told their credentials; asked where no others are set.
const CREDENTIAL_SERVERS: [&str; 3] = ["169.254.169.254", "169.254.170.2", "metadata.google.internal"];

/// Why a file on another machine cannot be read, after all attempts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There is no such file, bucket or host.
    #[error("it is not there ({said}); is its name right, to the case of each letter?")]
    Missing {
        /// The answer.
        said: String,
    },
    /// The server knows no such user, or the user may not read it.
    #[error("access is refused ({said}); credentials: {}", kind.credentials())]
    Denied {
        /// The answer.
        said: String,
        /// Whose credentials they are.
        kind: StoreKind,
    },
    /// Nothing says who asks.
    #[error("no credentials are set, and this machine is given none; set {}", kind.credentials())]
    NoCredentials {
        /// Whose credentials they would be.
        kind: StoreKind,
    },
    /// No connection, or no answer in time.
    #[error(
        "no answer ({said}); check {}, and that this machine can reach it: the same command goes on from the newest checkpoint",
        kind.endpoint()
    )]
    Unreachable {
        /// What the connection says.
        said: String,
        /// What kind of server it is.
        kind: StoreKind,
    },
    /// An answer that ends before it should.
    #[error(
        "answers end early ({said}), however often it is asked; the same command goes on from the newest checkpoint"
    )]
    Cut {
        /// Where it ended.
        said: String,
    },
    /// The server has trouble of its own.
    #[error("the server is in trouble ({said}); try again later: the same command goes on from the newest checkpoint")]
    Busy {
        /// The answer.
        said: String,
    },
    /// Another file stands in the place of the one that was opened.
    #[error("it was changed while it was read; run the command again once it stays as it is")]
    Changed,
    /// An answer that cannot be made use of.
    #[error("the server answers what cannot be made use of: {said}")]
    Refused {
        /// The answer.
        said: String,
    },
    /// A copy that cannot be kept.
    #[error(
        "the server does not answer ranges, and a copy of the file cannot be kept in {}: {source} (TMPDIR names another \
         folder)", folder.display()
    )]
    NoCopy {
        /// The folder for temporary files.
        folder: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl RemoteError {
    /// What an object store of some kind says.
    pub fn of_store(error: &object_store::Error, kind: StoreKind) -> Self {
        let whole = error.to_string();
        let (mut innermost, mut connection) = (whole.clone(), None);
        let mut cause = error.source();
        while let Some(error) = cause {
            innermost = error.to_string();
            connection = error.downcast_ref::<HttpError>().map(HttpError::kind).or(connection);
            cause = error.source();
        }
        let said = concise(&innermost);
        let status = innermost.strip_prefix(STATUS).unwrap_or_default();
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { said },
            _ if CREDENTIAL_SERVERS.iter().any(|server| whole.contains(server)) => Self::NoCredentials { kind },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { said, kind }
            }
            object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => Self::Changed,
            // Of a list, the status is all that tells.
            object_store::Error::Generic { .. } => match connection {
                Some(connection) => Self::of_connection(connection, said, kind),
                None if status.starts_with("404") => Self::Missing { said },
                None if status.starts_with("401") || status.starts_with("403") => Self::Denied { said, kind },
                None if status.starts_with('5') || status.starts_with("429") => Self::Busy { said },
                None => Self::Refused { said },
            },
            _ => Self::Refused { said },
        }
    }

    /// What a connection to a server of some kind says.
    pub(super) fn of_connection(connection: HttpErrorKind, said: String, kind: StoreKind) -> Self {
        match connection {
            HttpErrorKind::Connect | HttpErrorKind::Timeout => Self::Unreachable { said, kind },
            _ => Self::Cut { said },
        }
    }
}

/// The text of an answer: status, code and message of a page of XML, on one line that is no longer than it need be.
pub(super) fn concise(text: &str) -> String {
    let text = text.strip_prefix(STATUS).unwrap_or(text);
    let within = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once('<')?.0.trim())
    };
    let text = match (text.split_once(": "), within("Code"), within("Message")) {
        (Some((status, _)), Some(code), Some(message)) => format!("{status}, {code}: {message}"),
        (Some((status, _)), Some(code), None) => format!("{status}, {code}"),
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let text = text.trim_end_matches([':', ' ']);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_short() {
        let page = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>AccessDenied\
                    </Code><Message>Access Denied</Message></Error>";
        assert_eq!(concise(page), "403 Forbidden, AccessDenied: Access Denied");
        assert_eq!(concise("Server returned non-2xx status code: 404 Not Found: "), "404 Not Found");
        assert_eq!(concise("Connection refused\n (os error 111)"), "Connection refused (os error 111)");
        assert_eq!(concise(&"x".repeat(400)).chars().count(), LONGEST + 1);
    }
}
