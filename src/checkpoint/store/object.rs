//! A prefix of an object store.
//!
//! ```text
//! PREFIX/lease.json                              who may write (see `lease`)
//! PREFIX/0000000042/manifest.json                put if absent, after everything else: the commit
//! PREFIX/0000000042/e7-5f3a…/items.parquet       data, under a name that no other attempt has
//! ```
//!
//! Every request may fail, take effect and lose its answer, or be answered late. So each one is either harmless to
//! repeat (data has keys of its own) or looked at afterwards (a manifest says whose it is).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};
use sha2::{Digest, Sha256};

use super::runtime::Runtime;
use super::scratch::Scratch;
use super::{LINEAGE, VerifiedCheckpoint, check_name, check_sum, is_lineage, manifest_from, number_in};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::{FileEntry, MANIFEST, Manifest};

/// How long a store is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Times that a request is made before it counts as failed.
    pub tries: u32,
    /// Before it is made for the second time; twice as long before each further one.
    pub pause: Duration,
    /// For an answer.
    pub answer: Duration,
}

/// A prefix of an object store.
#[derive(Debug)]
pub(super) struct Bucket {
    pub store: Arc<dyn ObjectStore>,
    prefix: String,
    /// As people call it.
    address: PathBuf,
    pub patience: Patience,
    pub runtime: Runtime,
}

/// What stands at a key after a put that must not replace anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// Ours.
    Ours,
    /// Somebody else's, who came first.
    Theirs(Bytes),
}

/// What is below the prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Keys below the prefix, in order.
    pub keys: Vec<String>,
}

impl Listing {
    /// Numbers of the checkpoints, ascending.
    pub fn manifests(&self) -> Vec<u64> {
        let number = |key: &String| number_in(key.strip_suffix(MANIFEST)?.strip_suffix('/')?);
        let mut numbers: Vec<u64> = self.keys.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The latest epoch in which anything was written.
    pub fn latest_epoch(&self) -> u64 {
        self.keys.iter().filter_map(|key| Some(attempt_of(key)?.1)).max().unwrap_or(0)
    }
}

/// What the keys of an attempt begin with.
pub(super) fn attempt(number: u64, epoch: u64) -> String {
    format!("{number:010}/e{epoch}-{}", super::unique())
}

/// The attempt that a key of data belongs to, and its epoch; `None` for any other key.
pub(super) fn attempt_of(key: &str) -> Option<(&str, u64)> {
    let (attempt, name) = key.rsplit_once('/')?;
    let (number, who) = attempt.split_once('/')?;
    let (epoch, id) = who.strip_prefix('e')?.split_once('-')?;
    let fine = !name.is_empty() && number_in(number).is_some() && is_lineage(id);
    if fine { Some((attempt, epoch.parse().ok()?)) } else { None }
}

pub(super) fn manifest_key(number: u64) -> String {
    format!("{number:010}/{MANIFEST}")
}

impl Bucket {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        address: PathBuf,
        patience: Patience,
    ) -> Result<Self, CheckpointError> {
        let runtime = Runtime::start().map_err(CheckpointError::io(&address, "start a thread for"))?;
        Ok(Self { store, prefix: prefix.to_owned(), address, patience, runtime })
    }

    /// As people call it.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// What people call the checkpoint `number`.
    pub fn path(&self, number: u64) -> PathBuf {
        self.address.join(format!("{number:010}"))
    }

    /// The key of what is called `key` below the prefix.
    pub fn key(&self, key: &str) -> Key {
        Key::from(format!("{}/{key}", self.prefix))
    }

    /// `work`, which may hang.
    pub async fn timely<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Error::Generic { store: "object store", source: "no answer in time".into() };
        tokio::time::timeout(self.patience.answer, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// Waits before the `again`-th repetition of a request.
    pub async fn pause(&self, again: u32) {
        tokio::time::sleep(self.patience.pause * 2_u32.saturating_pow(again.min(6))).await;
    }

    /// Does `work`, which is harmless to repeat, until the store answers; `None` where there is no such object.
    pub async fn asked<T>(&self, work: impl AsyncFn() -> Result<T, Error>) -> Result<Option<T>, Error> {
        let mut again = 0;
        loop {
            match work().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => {
                    again += 1;
                    if again >= self.patience.tries || !may_pass(&error) {
                        return Err(error);
                    }
                    tracing::debug!(%error, again, "asking the object store again");
                    self.pause(again - 1).await;
                }
            }
        }
    }

    pub fn failed(&self, key: &str, action: &'static str) -> impl FnOnce(Error) -> CheckpointError {
        let path = self.address.join(key);
        move |error| CheckpointError::Store { path, action, source: Box::new(error) }
    }

    /// Everything below the prefix.
    pub fn list(&self) -> Result<Listing, CheckpointError> {
        let prefix = Key::from(self.prefix.as_str());
        let skipped = prefix.as_ref().len() + usize::from(!self.prefix.is_empty());
        let list = async || {
            let mut keys = Vec::new();
            let mut stream = self.store.list(Some(&prefix));
            while let Some(object) = self.timely(stream.try_next()).await? {
                keys.extend(object.location.as_ref().get(skipped..).map(str::to_owned));
            }
            keys.sort_unstable();
            Ok(keys)
        };
        let keys = self.runtime.wait(self.asked(list)).map_err(self.failed("", "list"))?;
        Ok(Listing { keys: keys.unwrap_or_default() })
    }

    /// A small object, and its version; `None` where there is none.
    pub async fn read(&self, key: &str) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let key = self.key(key);
        self.asked(async || {
            let found = self.timely(self.store.get(&key)).await?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((self.timely(found.bytes()).await?, version))
        })
        .await
    }

    /// One attempt at putting a small object, as `mode` says; whoever calls this must be ready for any outcome.
    pub async fn put_once(&self, key: &str, text: &str, mode: PutMode) -> Result<UpdateVersion, Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let object = self.key(key);
        let put = self.store.put_opts(&object, PutPayload::from(text.to_owned()), options);
        self.timely(put).await.map(UpdateVersion::from)
    }

    /// Puts an object that nobody else has a name for.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        let object = self.key(key);
        let put = async || {
            let put = self.store.put_opts(&object, PutPayload::from(bytes.clone()), PutOptions::default());
            match self.timely(put).await {
                // Nobody else has the name: what was in the way is nothing that stays.
                Err(error) if is_conflict(&error) => {
                    Err(Error::Generic { store: "object store", source: Box::new(error) })
                }
                outcome => outcome.map(drop),
            }
        };
        let put = self.runtime.wait(self.asked(put)).and_then(|done| done.ok_or_else(|| nothing_there(key)));
        put.map_err(self.failed(key, "put"))
    }

    /// Puts `text`, in which `id` tells whose it is, where nothing is yet.
    ///
    /// An answer that was lost, a conflict and a refusal look alike from here: what stands there afterwards decides.
    pub fn create(&self, key: &str, text: &str, id: &str) -> Result<Created, CheckpointError> {
        let work = async {
            let mut again = 0;
            loop {
                let error = match self.put_once(key, text, PutMode::Create).await {
                    Ok(_) => return Ok(Created::Ours),
                    Err(error) => error,
                };
                match self.read(key).await? {
                    Some((bytes, _)) if holds(&bytes, id) => return Ok(Created::Ours),
                    Some((bytes, _)) => return Ok(Created::Theirs(bytes)),
                    None => {}
                }
                again += 1;
                if again >= self.patience.tries || !(may_pass(&error) || is_conflict(&error)) {
                    return Err(error);
                }
                self.pause(again - 1).await;
            }
        };
        self.runtime.wait(work).map_err(self.failed(key, "put"))
    }

    /// Removes objects; one that is not there is no fault.
    pub fn remove(&self, keys: impl IntoIterator<Item = String>) -> Result<(), CheckpointError> {
        for key in keys {
            let object = self.key(&key);
            let removed = self.runtime.wait(self.asked(async || self.timely(self.store.delete(&object)).await));
            removed.map_err(self.failed(&key, "remove"))?;
        }
        Ok(())
    }

    /// The manifest of the checkpoint `number`.
    pub fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError> {
        let key = manifest_key(number);
        let text = self.runtime.wait(self.read(&key)).map_err(self.failed(&key, "read"))?;
        let (text, _) = text.ok_or_else(|| CheckpointError::damaged(self.address.join(&key), "it is not there"))?;
        manifest_from(&text, &self.path(number))
    }

    /// The run that the checkpoint `number` belongs to, as the object for that purpose tells.
    pub fn lineage(&self, number: u64) -> Option<String> {
        let begin = format!("{number:010}/");
        let listing = self.list().ok()?;
        let of_this = |key: &&String| key.starts_with(&begin) && key.ends_with(&format!("/{LINEAGE}"));
        let mut told = Vec::new();
        for key in listing.keys.iter().filter(of_this) {
            let (text, _) = self.runtime.wait(self.read(key)).ok()??;
            let text = str::from_utf8(&text).ok()?.trim_end().to_owned();
            told.push(Some(text).filter(|text| is_lineage(text))?);
        }
        // Attempts that came to nothing may be of other runs.
        told.dedup();
        if told.len() == 1 { told.pop() } else { None }
    }

    /// Fetches the checkpoint `number`, and verifies what came.
    pub fn fetch(&self, number: u64) -> Result<VerifiedCheckpoint, CheckpointError> {
        let manifest = self.manifest(number)?;
        let path = self.path(number);
        let scratch = Scratch::new().map_err(CheckpointError::io(&path, "make a folder below TMPDIR for"))?;
        for entry in &manifest.files {
            self.fetch_file(number, entry, &scratch)?;
        }
        let folder = scratch.0.clone();
        Ok(VerifiedCheckpoint { path, folder, manifest, _scratch: Some(Arc::new(scratch)) })
    }

    fn fetch_file(&self, number: u64, entry: &FileEntry, scratch: &Scratch) -> Result<(), CheckpointError> {
        let beside = || format!("{number:010}/{}", entry.name);
        let key = entry.key.clone().unwrap_or_else(beside);
        let shown = self.address.join(&key);
        check_name(entry, &shown)?;
        let copy = scratch.0.join(&entry.name);
        let object = self.key(&key);
        let fetch = async || {
            let mut stream = self.timely(self.store.get(&object)).await?.into_stream();
            let mut file = File::create(&copy).map_err(on_disk)?;
            let (mut hash, mut bytes) = (Sha256::new(), 0);
            while let Some(chunk) = self.timely(stream.try_next()).await? {
                file.write_all(&chunk).map_err(on_disk)?;
                hash.update(&chunk);
                bytes += chunk.len() as u64;
                if bytes > entry.bytes {
                    break;
                }
            }
            Ok((bytes, hash))
        };
        let fetched = self.runtime.wait(self.asked(fetch)).map_err(self.failed(&key, "fetch"))?;
        let (bytes, hash) = fetched.ok_or_else(|| CheckpointError::damaged(&shown, "it is not there"))?;
        check_sum(&shown, entry, bytes, hash)
    }
}

fn on_disk(error: io::Error) -> Error {
    Error::Generic { store: "folder for fetched files", source: Box::new(error) }
}

pub(super) fn nothing_there(key: &str) -> Error {
    Error::NotFound { path: key.to_owned(), source: "the bucket is not there".into() }
}

/// Whether a manifest or lease is the one with this identifier.
pub(super) fn holds(text: &[u8], id: &str) -> bool {
    text.windows(id.len()).any(|part| part == id.as_bytes())
}

/// Whether the same request may succeed later.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}

/// Whether another request was in the way. What a put would have replaced tells more.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
}

/// What the manifests of some checkpoints refer to: `None` where one cannot be read.
pub(super) type References = BTreeMap<u64, Option<Vec<FileEntry>>>;
