//! The objects of a bucket: one by its key, or all below a prefix.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::client::RemoteClient;
use super::error::RemoteError;
use super::file::{FileOrigin, RemoteFile};
use super::stores::StoreKind;

/// A bucket whose objects are read.
#[derive(Debug, Clone)]
pub struct ObjectBucket {
    client: Arc<RemoteClient>,
    store: Arc<dyn ObjectStore>,
    kind: StoreKind,
}

/// An object of a bucket, as it was when it was found.
#[derive(Debug, Clone)]
pub struct Object(ObjectMeta);

impl Object {
    /// The key, as the store has it.
    pub fn key(&self) -> &str {
        self.0.location.as_ref()
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.0.size
    }
}

impl ObjectBucket {
    /// The bucket that `store`, which is of that kind, is a client of.
    pub fn new(client: Arc<RemoteClient>, store: Arc<dyn ObjectStore>, kind: StoreKind) -> Self {
        Self { client, store, kind }
    }

    /// The object of that key; `None` where there is none.
    ///
    /// # Errors
    /// What the store says, after all attempts.
    pub fn find(&self, key: &str) -> Result<Option<Object>, RemoteError> {
        let (key, retry) = (parse(key)?, self.client.retry);
        let head = retry.with_retries(async || retry.with_timeout(self.store.head(&key)).await);
        Ok(self.client.runtime.wait(head).map_err(|error| self.failed(&error))?.map(Object))
    }

    /// The objects below `prefix`, which ends where a name ends, at any depth.
    ///
    /// # Errors
    /// What the store says, after all attempts; [`RemoteError::Missing`] where there is no such bucket.
    pub fn list(&self, prefix: &str) -> Result<Vec<Object>, RemoteError> {
        let (prefix, retry) = (parse(prefix)?, self.client.retry);
        let list = async || {
            let mut objects = Vec::new();
            let mut stream = self.store.list(Some(&prefix));
            while let Some(object) = retry.with_timeout(stream.try_next()).await? {
                objects.push(Object(object));
            }
            Ok(objects)
        };
        let listed = self.client.runtime.wait(retry.with_retries(list)).map_err(|error| self.failed(&error))?;
        listed.ok_or_else(|| RemoteError::Missing { said: "there is no such bucket".to_owned() })
    }

    /// The object as a file that is read by ranges.
    pub fn open(&self, object: Object) -> RemoteFile {
        let Object(ObjectMeta { location, size, e_tag, .. }) = object;
        let origin = FileOrigin::Object { store: Arc::clone(&self.store), kind: self.kind, location, e_tag };
        RemoteFile::new(Arc::clone(&self.client), origin, size)
    }

    /// Puts an object where nothing is yet; whether nothing was. An error does not tell whether the put took effect.
    ///
    /// # Errors
    /// What the store says.
    pub fn create(&self, key: &str, bytes: Bytes) -> Result<bool, RemoteError> {
        let (key, retry) = (parse(key)?, self.client.retry);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = retry.with_timeout(self.store.put_opts(&key, PutPayload::from(bytes), options));
        match self.client.runtime.wait(put) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// All of an object; `None` where there is none.
    ///
    /// # Errors
    /// What the store says, after all attempts.
    pub fn fetch(&self, key: &str) -> Result<Option<Bytes>, RemoteError> {
        let (key, retry) = (parse(key)?, self.client.retry);
        let fetch = retry.with_retries(async || {
            let found = retry.with_timeout(self.store.get(&key)).await?;
            retry.with_timeout(found.bytes()).await
        });
        self.client.runtime.wait(fetch).map_err(|error| self.failed(&error))
    }

    /// Removes an object; one that is not there is no fault.
    ///
    /// # Errors
    /// What the store says, after all attempts.
    pub fn delete(&self, key: &str) -> Result<(), RemoteError> {
        let (key, retry) = (parse(key)?, self.client.retry);
        let delete = retry.with_retries(async || retry.with_timeout(self.store.delete(&key)).await);
        self.client.runtime.wait(delete).map(drop).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> RemoteError {
        RemoteError::of_store(error, self.kind)
    }
}

fn parse(key: &str) -> Result<Key, RemoteError> {
    Key::parse(key).map_err(|error| RemoteError::Refused { said: format!("no object has such a key: {error}") })
}
