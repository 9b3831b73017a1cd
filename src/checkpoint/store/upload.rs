//! A file on its way to an object store, in parts where it is large: what is in memory of it has a bound.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error, ObjectStoreExt as _, WriteMultipart};

use super::object::{Bucket, nothing_there};
use crate::checkpoint::CheckpointError;

/// Sent at a time of a file that is larger; an object has at most 10,000 parts.
const PART: usize = 8 << 20;
/// Parts of a file that are under way at the same time.
const IN_FLIGHT: usize = 3;

/// A file on its way to the store: the first part is kept until there is a second, so that a small one is put at once.
#[derive(Debug)]
pub(super) struct Upload {
    bucket: Arc<Bucket>,
    key: String,
    buffer: Vec<u8>,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub fn new(bucket: Arc<Bucket>, key: &str) -> Self {
        Self { bucket, key: key.to_owned(), buffer: Vec::new(), parts: None }
    }

    /// Sends the buffer, which is a whole part.
    fn send(&mut self) -> Result<(), Error> {
        let Self { bucket, key, buffer, parts } = self;
        let part = Bytes::from(std::mem::take(buffer));
        let object = bucket.key(key);
        bucket.runtime.wait(async {
            let upload = match parts {
                Some(upload) => upload,
                None => {
                    let begun = bucket.asked(async || bucket.timely(bucket.store.put_multipart(&object)).await).await?;
                    let upload = begun.ok_or_else(|| nothing_there(key))?;
                    parts.insert(WriteMultipart::new_with_chunk_size(upload, PART))
                }
            };
            // Requests have deadlines of their own; this only bounds what waits in memory.
            upload.wait_for_capacity(IN_FLIGHT).await?;
            upload.put(part);
            Ok(())
        })
    }

    /// Sends what is left; the object is there when this returns.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        let buffer = Bytes::from(std::mem::take(&mut self.buffer));
        let Some(mut parts) = self.parts.take() else { return self.bucket.put(&self.key, buffer) };
        let finish = async {
            parts.put(buffer);
            parts.finish().await.map(drop)
        };
        self.bucket.runtime.wait(finish).map_err(self.bucket.failed(&self.key, "put"))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PART {
            self.send().map_err(io::Error::other)?;
        }
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            // What stays is invisible, and for a rule of the bucket to remove.
            let aborted = self.bucket.runtime.wait(self.bucket.timely(parts.abort()));
            drop(aborted);
        }
    }
}
