//! A checkpoint in the making: each file is hashed as it is written, then the manifest makes them a checkpoint.

use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::backend::{DraftFile, DraftId};
use super::{LINEAGE, Store, number_in, random_id};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{FileEntry, MANIFEST, Manifest, Provenance};
use crate::util::encoding::hexadecimal;

/// A checkpoint in the making. It is removed again unless it is published, and may be finished on another thread.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    lineage: String,
    id: DraftId,
    files: Vec<FileEntry>,
    /// From the commit on, what is left of the draft is the backend's business.
    is_over: bool,
}

impl Draft {
    pub(super) fn begin(store: Store, lineage: String) -> Result<Self, CheckpointError> {
        let id = store.backend().begin()?;
        let mut draft = Self { store, lineage, id, files: Vec::new(), is_over: false };
        failpoint::reach("draft").map_err(CheckpointError::io(draft.address(""), "begin"))?;
        let text = format!("{}\n", draft.lineage);
        draft.file(LINEAGE, |file| Ok(file.write_all(text.as_bytes())?))?;
        Ok(draft)
    }

    /// The address of a file of the draft, for errors.
    fn address(&self, name: &str) -> PathBuf {
        self.store.backend().reader().address().join(&self.id.folder).join(name)
    }

    /// Writes the file `name` through `write`, and makes it durable.
    ///
    /// # Errors
    /// What `write`, the disk or the object store say.
    pub fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut HashingFile) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), CheckpointError> {
        let path = self.address(name);
        let inner = self.store.backend().create(&self.id, name)?;
        let mut file = HashingFile { inner, hash: Sha256::new(), bytes: 0, first_failure: None };
        let written = write(&mut file).and_then(|()| Ok(failpoint::reach("file")?));
        if let Err(error) = written {
            let kind = file.first_failure.or_else(|| Some(error.downcast_ref::<io::Error>()?.kind()));
            let source = io::Error::new(kind.unwrap_or(io::ErrorKind::Other), error.to_string());
            return Err(CheckpointError::io(path, "write")(source));
        }
        let HashingFile { inner, hash, bytes, first_failure: _ } = file;
        let key = inner.finish()?;
        failpoint::reach("flushed").map_err(CheckpointError::io(path, "flush"))?;
        self.files.push(FileEntry { name: name.to_owned(), bytes, sha256: hexadecimal(&hash.finalize()), key });
        Ok(())
    }

    /// Makes the draft a checkpoint, with the manifest that `manifest` makes from the list of files.
    ///
    /// # Errors
    /// What disk or object store say; [`CheckpointError::NumberTaken`] or [`CheckpointError::Fenced`] where another
    /// worker is at work.
    pub fn publish(
        mut self,
        manifest: impl FnOnce(Vec<FileEntry>) -> Manifest,
    ) -> Result<PublishedCheckpoint, CheckpointError> {
        failpoint::reach("manifest").map_err(CheckpointError::io(self.address(MANIFEST), "create"))?;
        let mut manifest = manifest(self.files.clone());
        let bytes = manifest.files.iter().map(|file| file.bytes).sum();
        manifest.provenance = Provenance { lineage: self.lineage.clone(), epoch: 0, id: random_id() };
        self.is_over = true;
        let holds_any_item = manifest.items > 0;
        let path = self.store.backend().commit(&self.id, manifest)?;
        let number = path.file_name().and_then(|name| number_in(name.to_str()?)).filter(|_| holds_any_item);
        if let Some(Err(error)) = number.map(|number| self.store.backend().point_latest(number)) {
            // The checkpoint is durable all the same; the next one tries again.
            tracing::warn!(%error, "the pointer 'latest' stays where it was");
        }
        failpoint::reach("published").map_err(CheckpointError::io(&path, "report"))?;
        Ok(PublishedCheckpoint { path, bytes })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_over {
            self.store.backend().discard(&self.id, &self.files);
        }
    }
}

/// A checkpoint that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// Its folder, or its address in an object store.
    pub path: PathBuf,
    /// Sum of the sizes of its data files, in bytes.
    pub bytes: u64,
}

/// A file that is hashed as it is written.
#[derive(Debug)]
pub struct HashingFile {
    inner: Box<dyn DraftFile>,
    hash: Sha256,
    bytes: u64,
    /// What the disk or object store said first: writers of file formats wrap it beyond recognition.
    first_failure: Option<io::ErrorKind>,
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer).inspect_err(|error| {
            self.first_failure.get_or_insert(error.kind());
        })?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
