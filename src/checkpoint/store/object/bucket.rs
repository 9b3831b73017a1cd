//! A client for the objects below a prefix of an object store: every request with a timeout, and repeated where repeating
//! it is harmless.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};
use sha2::{Digest, Sha256};

use super::log::Listing;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::{FileEntry, LONGEST_MANIFEST};
use crate::checkpoint::reader::check_sum;
use crate::remote::retry::{RetryPolicy, is_transient};
use crate::remote::runtime::BlockingRuntime;

/// A client for the objects below a prefix.
#[derive(Debug)]
pub(in super::super) struct BucketClient {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: String,
    /// URL of the prefix.
    address: PathBuf,
    pub(super) retry: RetryPolicy,
    pub(super) runtime: BlockingRuntime,
}

/// What came of a put that must not replace anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PutOutcome {
    /// The object is there.
    Created,
    /// Somebody else put this first.
    Existing(Bytes),
}

impl BucketClient {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        address: PathBuf,
        retry: RetryPolicy,
    ) -> Result<Self, CheckpointError> {
        let runtime = BlockingRuntime::start().map_err(CheckpointError::io(&address, "start a thread for"))?;
        Ok(Self { store, prefix: prefix.to_owned(), address, retry, runtime })
    }

    /// URL of the prefix.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// The full key of the object that is called `key` below the prefix.
    pub fn key(&self, key: &str) -> Key {
        Key::from(format!("{}/{key}", self.prefix))
    }

    /// Does `work`, which may hang, within the timeout.
    pub async fn with_timeout<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.retry.with_timeout(work).await
    }

    /// Does `work`, which is harmless to repeat, until the store answers; `None` where there is no such object.
    pub async fn with_retries<T>(&self, work: impl AsyncFn() -> Result<T, Error>) -> Result<Option<T>, Error> {
        self.retry.with_retries(work).await
    }

    /// The error that a request about `key` ends with, after all attempts.
    pub fn failed(&self, key: &str, action: &'static str) -> impl FnOnce(Error) -> CheckpointError {
        let path = self.address.join(key);
        move |error| CheckpointError::ObjectStore { path, action, source: Box::new(error) }
    }

    /// Lists everything below the prefix.
    pub(super) fn list(&self) -> Result<Listing, CheckpointError> {
        let prefix = Key::from(self.prefix.as_str());
        let skipped = prefix.as_ref().len() + usize::from(!self.prefix.is_empty());
        let list = async || {
            let mut keys = Vec::new();
            let mut stream = self.store.list(Some(&prefix));
            while let Some(object) = self.with_timeout(stream.try_next()).await? {
                keys.extend(object.location.as_ref().get(skipped..).map(str::to_owned));
            }
            keys.sort_unstable();
            Ok(keys)
        };
        let keys = self.runtime.wait(self.with_retries(list)).map_err(self.failed("", "list"))?;
        Ok(Listing { keys: keys.unwrap_or_default() })
    }

    /// Reads a small object and its version; `None` where there is no such object.
    pub async fn read(&self, key: &str) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let key = self.key(key);
        self.with_retries(async || {
            let found = self.with_timeout(self.store.get(&key)).await?;
            if found.meta.size > LONGEST_MANIFEST {
                let source = format!("it has {} bytes, more than any such object", found.meta.size).into();
                return Err(Error::NotSupported { source });
            }
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((self.with_timeout(found.bytes()).await?, version))
        })
        .await
    }

    /// Attempts once to put a small object, as `mode` says. An error does not tell whether the put took effect.
    pub async fn put_once(&self, key: &str, text: &str, mode: PutMode) -> Result<UpdateVersion, Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let object = self.key(key);
        let put = self.store.put_opts(&object, PutPayload::from(text.to_owned()), options);
        self.with_timeout(put).await.map(UpdateVersion::from)
    }

    /// Puts an object whose key nobody else uses.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        let object = self.key(key);
        let put = async || {
            let put = self.store.put_opts(&object, PutPayload::from(bytes.clone()), PutOptions::default());
            match self.with_timeout(put).await {
                // Nobody else uses the key: whatever was in the way does not stay.
                Err(error) if is_conflict(&error) => {
                    Err(Error::Generic { store: "object store", source: Box::new(error) })
                }
                outcome => outcome.map(drop),
            }
        };
        let put = self.runtime.wait(self.with_retries(put)).and_then(|done| done.ok_or_else(|| no_such_bucket(key)));
        put.map_err(self.failed(key, "put"))
    }

    /// Puts `text`, which contains `id`, where nothing is yet.
    ///
    /// An answer that was lost, a conflict and a refusal look alike from here: what stands there afterwards decides.
    pub(super) fn put_if_absent(&self, key: &str, text: &str, id: &str) -> Result<PutOutcome, CheckpointError> {
        let work = async {
            let mut again = 0;
            loop {
                let error = match self.put_once(key, text, PutMode::Create).await {
                    Ok(_) => return Ok(PutOutcome::Created),
                    Err(error) => error,
                };
                match self.read(key).await? {
                    Some((bytes, _)) if contains(&bytes, id) => return Ok(PutOutcome::Created),
                    Some((bytes, _)) => return Ok(PutOutcome::Existing(bytes)),
                    None => {}
                }
                again += 1;
                if again >= self.retry.attempts || !(is_transient(&error) || is_conflict(&error)) {
                    return Err(error);
                }
                self.retry.back_off(again - 1).await;
            }
        };
        self.runtime.wait(work).map_err(self.failed(key, "put"))
    }

    /// Removes objects; a key without an object is no fault.
    pub fn remove(&self, keys: impl IntoIterator<Item = String>) -> Result<(), CheckpointError> {
        for key in keys {
            let object = self.key(&key);
            let removed =
                self.runtime.wait(self.with_retries(async || self.with_timeout(self.store.delete(&object)).await));
            removed.map_err(self.failed(&key, "remove"))?;
        }
        Ok(())
    }

    /// Downloads the object of `entry` to the file `copy`, and compares size and hash.
    pub fn download(&self, key: &str, entry: &FileEntry, copy: &Path) -> Result<(), CheckpointError> {
        let address = self.address.join(key);
        let object = self.key(key);
        let fetch = async || {
            let mut stream = self.with_timeout(self.store.get(&object)).await?.into_stream();
            let mut file = File::create(copy).map_err(on_disk)?;
            let (mut hash, mut bytes) = (Sha256::new(), 0);
            while let Some(chunk) = self.with_timeout(stream.try_next()).await? {
                file.write_all(&chunk).map_err(on_disk)?;
                hash.update(&chunk);
                bytes += chunk.len() as u64;
                if bytes > entry.bytes {
                    break;
                }
            }
            Ok((bytes, hash))
        };
        let fetched = self.runtime.wait(self.with_retries(fetch)).map_err(self.failed(key, "fetch"))?;
        let (bytes, hash) = fetched.ok_or_else(|| CheckpointError::damaged(&address, "it is not there"))?;
        check_sum(&address, entry, bytes, hash)
    }
}

fn on_disk(error: io::Error) -> Error {
    Error::Generic { store: "folder for fetched files", source: Box::new(error) }
}

pub(super) fn no_such_bucket(key: &str) -> Error {
    Error::NotFound { path: key.to_owned(), source: "the bucket is not there".into() }
}

/// Whether `text` contains `id`.
fn contains(text: &[u8], id: &str) -> bool {
    text.windows(id.len()).any(|part| part == id.as_bytes())
}

/// Whether another request was in the way. The object that a put would have replaced tells more.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
}
