//! A file on its way to an object store. A large file is sent in parts, so that memory holds a bounded piece of it.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error, ObjectStoreExt as _, WriteMultipart};

use super::bucket::{BucketClient, no_such_bucket};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::store::backend::DraftFile;

/// Bytes of a part. An object has at most 10,000 parts.
const PART: usize = 8 << 20;
/// Parts of a file that are sent at the same time.
const IN_FLIGHT: usize = 3;

/// A file on its way to the store. The first part is kept until there is a second, so that a small file is put at once.
#[derive(Debug)]
pub(super) struct Upload {
    bucket: Arc<BucketClient>,
    key: String,
    buffer: Vec<u8>,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub fn new(bucket: Arc<BucketClient>, key: &str) -> Self {
        Self { bucket, key: key.to_owned(), buffer: Vec::new(), parts: None }
    }

    /// Sends the buffer, which is full, as a part.
    fn send(&mut self) -> Result<(), Error> {
        let Self { bucket, key, buffer, parts } = self;
        let part = Bytes::from(std::mem::take(buffer));
        let object = bucket.key(key);
        bucket.runtime.wait(async {
            let upload = match parts {
                Some(upload) => upload,
                None => {
                    let begun = bucket
                        .with_retries(async || bucket.with_timeout(bucket.store.put_multipart(&object)).await)
                        .await?;
                    let upload = begun.ok_or_else(|| no_such_bucket(key))?;
                    parts.insert(WriteMultipart::new_with_chunk_size(upload, PART))
                }
            };
            // Requests have deadlines of their own; this only bounds what waits in memory.
            upload.wait_for_capacity(IN_FLIGHT).await?;
            upload.put(part);
            Ok(())
        })
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PART {
            self.send().map_err(io::Error::other)?;
        }
        let fitting = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..fitting]);
        Ok(fitting)
    }

    fn flush(&mut self) -> io::Result<()> {
        // An object is not there before all of it is.
        Ok(())
    }
}

impl DraftFile for Upload {
    fn finish(mut self: Box<Self>) -> Result<Option<String>, CheckpointError> {
        let key = self.key.clone();
        let rest = Bytes::from(std::mem::take(&mut self.buffer));
        match self.parts.take() {
            None => self.bucket.put(&key, rest)?,
            Some(mut parts) => {
                let finish = async {
                    parts.put(rest);
                    parts.finish().await.map(drop)
                };
                self.bucket.runtime.wait(finish).map_err(self.bucket.failed(&key, "put"))?;
            }
        }
        Ok(Some(key))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            // Parts that stay are invisible; a rule of the bucket removes them.
            let aborted = self.bucket.runtime.wait(self.bucket.with_timeout(parts.abort()));
            drop(aborted);
        }
    }
}
