//! What all files that a command reads from other machines share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cache::BlockCache;
use super::retry::RetryPolicy;
use super::runtime::BlockingRuntime;
#[cfg(feature = "http")]
use super::web::Connections;

/// What all files that a command reads from other machines share.
#[derive(Debug)]
pub struct RemoteClient {
    pub(super) runtime: BlockingRuntime,
    pub(super) retry: RetryPolicy,
    pub(super) cache: Mutex<BlockCache>,
    #[cfg(feature = "http")]
    pub(super) connections: Connections,
    /// The number of the next file.
    next: AtomicU64,
}

impl RemoteClient {
    /// Starts the thread for requests, which give up after `timeout`; none is made yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(timeout: Duration) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            runtime: BlockingRuntime::start()?,
            retry: RetryPolicy::over_client(timeout),
            cache: Mutex::default(),
            #[cfg(feature = "http")]
            connections: Connections::new(timeout),
            next: AtomicU64::new(0),
        }))
    }

    /// A number that no other file has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
