//! How often and how long a store is asked before a request counts as failed.

use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use object_store::{BackoffConfig, Error, RetryConfig};

/// The pause between attempts of a request, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Times that object_store repeats a request where the store says that it did nothing.
const RETRIES: usize = 4;
/// Times that a request is made in all, each with those repetitions.
const ATTEMPTS: u32 = 3;

/// How often and how long a store is asked before a request counts as failed.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Times that a request is made.
    pub attempts: u32,
    /// The pause before the second attempt, which doubles before each further one.
    pub pause: Duration,
    /// How long each attempt may take.
    pub timeout: Duration,
}

impl RetryPolicy {
    /// The policy over a client of object_store that repeats requests by itself as [`repetitions`] says, and whose
    /// connections give up after `timeout`: what hangs is cut off by them; this is for what they do not see, and for the
    /// repetitions in between.
    pub fn over_client(timeout: Duration) -> Self {
        Self { attempts: ATTEMPTS, pause: PAUSE.0, timeout: timeout * (RETRIES as u32 + 2) }
    }

    /// Does `work`, which may hang, within the timeout.
    ///
    /// # Errors
    /// What `work` says, or that there was no answer in time.
    pub async fn with_timeout<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || {
            let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            let source = Box::new(HttpError::new(HttpErrorKind::Timeout, late));
            Error::Generic { store: "object store", source }
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// Waits after `failures` failures of a request, the first counted as 0.
    pub async fn back_off(&self, failures: u32) {
        tokio::time::sleep(self.pause * 2_u32.saturating_pow(failures.min(6))).await;
    }

    /// Does `work`, which is harmless to repeat, until the store answers; `None` where there is no such object.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn with_retries<T>(&self, work: impl AsyncFn() -> Result<T, Error>) -> Result<Option<T>, Error> {
        let mut again = 0;
        loop {
            match work().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => {
                    again += 1;
                    if again >= self.attempts || !is_transient(&error) {
                        return Err(error);
                    }
                    tracing::debug!(%error, again, "asking the object store again");
                    self.back_off(again - 1).await;
                }
            }
        }
    }
}

/// The repetitions of a client of object_store whose connections give up after `timeout`.
pub fn repetitions(timeout: Duration) -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: PAUSE.0, max_backoff: PAUSE.1, base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: timeout * RETRIES as u32 }
}

/// Whether the request may succeed if it is repeated.
pub fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}
