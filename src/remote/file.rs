//! A file on another machine that is read by ranges: through a cache with what was read ahead, or past it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as Key;
use object_store::{Error, GetOptions, GetRange, ObjectStore};

use super::cache::BLOCK;
use super::client::RemoteClient;
use super::error::RemoteError;
use super::stores::StoreKind;
#[cfg(feature = "http")]
use super::web::WebFile;

/// Ranges that are asked for at the same time where many are needed.
const AT_ONCE: usize = 8;

/// A file on another machine. Clones are the same file.
#[derive(Debug, Clone)]
pub struct RemoteFile(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    client: Arc<RemoteClient>,
    origin: FileOrigin,
    length: u64,
    /// Its number in the cache.
    number: u64,
    /// The last error, for whoever is told of it by way of a library that keeps its text alone.
    failure: Mutex<Option<RemoteError>>,
}

/// Where a file lies.
#[derive(Debug)]
pub(super) enum FileOrigin {
    /// In a bucket.
    Object {
        store: Arc<dyn ObjectStore>,
        kind: StoreKind,
        location: Key,
        /// What tells it from another object of this key.
        e_tag: Option<String>,
    },
    /// On a web server.
    #[cfg(feature = "http")]
    Web(WebFile),
}

impl RemoteFile {
    pub(super) fn new(client: Arc<RemoteClient>, origin: FileOrigin, length: u64) -> Self {
        let number = client.number();
        Self(Arc::new(Opened { client, origin, length, number, failure: Mutex::default() }))
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.0.length
    }

    /// The error that a read ended with, once; `None` where none did.
    pub fn take_failure(&self) -> Option<RemoteError> {
        self.failure().take()
    }

    /// Fetches a range, which must lie within the file, past the cache.
    ///
    /// # Errors
    /// A [`RemoteError`].
    pub fn fetch(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.0.client.runtime.wait(self.0.get(range)).map_err(|error| self.note(error))
    }

    /// Fetches ranges, some at the same time, and hands them over in their order.
    ///
    /// # Errors
    /// A [`RemoteError`].
    pub fn fetch_each(&self, ranges: impl Iterator<Item = Range<u64>>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let all = async {
            let mut pieces = futures_util::stream::iter(ranges).map(|range| self.0.get(range)).buffered(AT_ONCE);
            while let Some(piece) = pieces.try_next().await? {
                take(&piece);
            }
            Ok(())
        };
        self.0.client.runtime.wait(all).map_err(|error| self.note(error))
    }

    /// Reads some bytes from `offset` on, through the cache; none at the end of the file.
    ///
    /// # Errors
    /// A [`RemoteError`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.length() || buffer.is_empty() {
            return Ok(0);
        }
        let block = self.block(offset / BLOCK)?;
        let rest = &block[(offset % BLOCK) as usize..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    /// A block of the file, and with it some that follow where the one before was read.
    fn block(&self, block: u64) -> io::Result<Bytes> {
        let (client, number) = (&self.0.client, self.0.number);
        // Logs are read one after the other: nobody else waits.
        let mut cache = client.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(number, block) {
            return Ok(bytes);
        }
        let end = ((block + cache.ahead(number, block)) * BLOCK).min(self.length());
        let bytes = self.fetch(block * BLOCK..end)?;
        cache.put(number, block, &bytes);
        Ok(bytes.slice(..bytes.len().min(BLOCK as usize)))
    }

    fn failure(&self) -> MutexGuard<'_, Option<RemoteError>> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: RemoteError) -> io::Error {
        let said = error.to_string();
        *self.failure() = Some(error);
        io::Error::other(said)
    }
}

impl Opened {
    async fn get(&self, range: Range<u64>) -> Result<Bytes, RemoteError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        match &self.origin {
            FileOrigin::Object { store, kind, location, e_tag } => {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(range.clone())),
                    if_match: e_tag.clone(),
                    ..GetOptions::default()
                };
                let found = self.get_object(store, location, options, range.end - range.start).await;
                let found = found.map_err(|error| RemoteError::of_store(&error, *kind))?;
                found.ok_or_else(|| RemoteError::Missing { said: "it was there before".to_owned() })
            }
            #[cfg(feature = "http")]
            FileOrigin::Web(file) => file.get(&self.client, range, self.length).await,
        }
    }

    /// Fetches `expected` bytes of an object; `None` where it is not there any more.
    async fn get_object(
        &self,
        store: &Arc<dyn ObjectStore>,
        location: &Key,
        options: GetOptions,
        expected: u64,
    ) -> Result<Option<Bytes>, Error> {
        let retry = self.client.retry;
        let fetch = async || {
            let found = retry.with_timeout(store.get_opts(location, options.clone())).await?;
            if found.meta.size != self.length {
                let source = format!("it has {} bytes now", found.meta.size).into();
                return Err(Error::Precondition { path: location.to_string(), source });
            }
            let mut stream = found.into_stream();
            let mut bytes = BytesMut::with_capacity(expected as usize);
            while let Some(piece) = retry.with_timeout(stream.try_next()).await? {
                bytes.extend_from_slice(&piece);
            }
            if bytes.len() as u64 != expected {
                let cut = io::Error::other(format!("{} bytes of {expected}", bytes.len()));
                let source = Box::new(HttpError::new(HttpErrorKind::Interrupted, cut));
                return Err(Error::Generic { store: "object store", source });
            }
            Ok(bytes.freeze())
        };
        retry.with_retries(fetch).await
    }
}
