//! A checkpoint in the making: files are summed up as they are written, then the manifest makes them one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::upload::Upload;
use super::{Hold, LINEAGE, Store, local, unique};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{FileEntry, MANIFEST, Manifest, Provenance};
use crate::util::encoding::hexadecimal;

/// A checkpoint in the making; removed again unless published. It may be finished on another thread.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    lineage: String,
    place: Location,
    files: Vec<FileEntry>,
    /// Published, or nobody knows: then what was written has to stay.
    settled: bool,
}

#[derive(Debug)]
enum Location {
    /// A hidden folder, and the number that it is to get.
    Folder { path: PathBuf, number: u64 },
    /// What the keys of its objects begin with.
    Keys { attempt: String },
}

impl Draft {
    pub(super) fn begin(store: Store, lineage: String) -> Result<Self, CheckpointError> {
        let place = match &store.0.hold {
            Hold::Local(local) => {
                let (number, path) = local.begin()?;
                Location::Folder { path, number }
            }
            Hold::Object(owned) => Location::Keys { attempt: owned.begin()? },
        };
        let mut draft = Self { store, lineage, place, files: Vec::new(), settled: false };
        failpoint::reach("draft").map_err(CheckpointError::io(draft.shown(""), "begin"))?;
        let text = format!("{}\n", draft.lineage);
        draft.file(LINEAGE, |file| Ok(file.write_all(text.as_bytes())?))?;
        Ok(draft)
    }

    /// A file of the draft, as an error may name it.
    fn shown(&self, name: &str) -> PathBuf {
        match (&self.place, &self.store.0.hold) {
            (Location::Folder { path, .. }, _) => path.join(name),
            (Location::Keys { attempt }, Hold::Object(owned)) => owned.bucket.address().join(attempt).join(name),
            (Location::Keys { attempt }, Hold::Local(_)) => PathBuf::from(attempt).join(name),
        }
    }

    /// Writes one file, through `write`, and makes it durable.
    ///
    /// # Errors
    /// What `write`, the disk or the store say.
    pub fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut HashingFile) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), CheckpointError> {
        let path = self.shown(name);
        let (sink, key) = match (&self.place, &self.store.0.hold) {
            (Location::Keys { attempt }, Hold::Object(owned)) => {
                let key = format!("{attempt}/{name}");
                (Sink::Object(Upload::new(owned.bucket.clone(), &key)), Some(key))
            }
            _ => (Sink::Disk(local::create(&path)?), None),
        };
        let mut file = HashingFile { sink, hash: Sha256::new(), bytes: 0, refused: None };
        let written = write(&mut file).and_then(|()| Ok(failpoint::reach("file")?));
        if let Err(error) = written {
            let kind = file.refused.or_else(|| Some(error.downcast_ref::<io::Error>()?.kind()));
            let source = io::Error::new(kind.unwrap_or(io::ErrorKind::Other), error.to_string());
            return Err(CheckpointError::io(path, "write")(source));
        }
        let HashingFile { sink, hash, bytes, .. } = file;
        match sink {
            Sink::Disk(file) => local::finish(file, &path)?,
            Sink::Object(upload) => upload.finish()?,
        }
        failpoint::reach("flushed").map_err(CheckpointError::io(path, "flush"))?;
        self.files.push(FileEntry { name: name.to_owned(), bytes, sha256: hexadecimal(&hash.finalize()), key });
        Ok(())
    }

    /// Makes it a checkpoint, with the manifest that `manifest` makes from the list of files.
    ///
    /// # Errors
    /// What disk or store say; that the number is taken, or that another worker took over.
    pub fn publish(mut self, manifest: impl FnOnce(Vec<FileEntry>) -> Manifest) -> Result<Published, CheckpointError> {
        failpoint::reach("manifest").map_err(CheckpointError::io(self.shown(MANIFEST), "create"))?;
        let mut manifest = manifest(self.files.clone());
        let bytes = manifest.files.iter().map(|file| file.bytes).sum();
        manifest.provenance = Provenance { lineage: self.lineage.clone(), epoch: 0, id: unique() };
        let store = self.store.clone();
        let path = match (&store.0.hold, &self.place) {
            (Hold::Local(local), Location::Folder { path, number }) => {
                let (path, number) = (path.clone(), *number);
                self.file(MANIFEST, |file| Ok(file.write_all(manifest.to_text().as_bytes())?))?;
                local.commit(&path, number)?
            }
            (Hold::Object(owned), _) => {
                // From here on the manifest may be there even where an error says otherwise.
                self.settled = true;
                owned.commit(manifest)?
            }
            (Hold::Local(_), Location::Keys { .. }) => unreachable!("a draft is where its store is"),
        };
        self.settled = true;
        failpoint::reach("published").map_err(CheckpointError::io(&path, "report"))?;
        Ok(Published { path, bytes })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        match (&self.place, &self.store.0.hold) {
            // What stays is swept away at the next start.
            (Location::Folder { path, .. }, _) if !self.settled => drop(super::disk::remove_folder(path)),
            (Location::Keys { attempt }, Hold::Object(owned)) => {
                let keys = self.files.iter().filter_map(|file| file.key.as_deref()).filter(|_| !self.settled);
                owned.end(attempt, keys);
            }
            _ => {}
        }
    }
}

/// A checkpoint that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its folder, or its address in an object store.
    pub path: PathBuf,
    /// Bytes of its data files.
    pub bytes: u64,
}

/// A file that is summed up as it is written.
#[derive(Debug)]
pub struct HashingFile {
    sink: Sink,
    hash: Sha256,
    bytes: u64,
    /// The first refusal: writers of formats wrap it until it cannot be told from a fault of theirs.
    refused: Option<io::ErrorKind>,
}

#[derive(Debug)]
enum Sink {
    Disk(BufWriter<File>),
    Object(Upload),
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::Disk(file) => file.write(buffer),
            Sink::Object(upload) => upload.write(buffer),
        };
        let written = written.inspect_err(|error| {
            self.refused.get_or_insert(error.kind());
        })?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Disk(file) => file.flush(),
            // Nothing of an object is there before all of it is.
            Sink::Object(_) => Ok(()),
        }
    }
}
