//! A place for checkpoints in memory, each of whose methods fails when it is told to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::checkpoint::manifest::{FileEntry, MANIFEST, Manifest};
use crate::checkpoint::store::LINEAGE;
use crate::checkpoint::store::backend::{Backend, DraftFile, DraftId, WritableBackend};
use crate::checkpoint::store::retention::{Pinned, expired};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What every handle on the place shares.
#[derive(Debug, Default)]
pub struct MemoryState {
    /// Checkpoints by number; each has its manifest among its files.
    checkpoints: BTreeMap<u64, Files>,
    /// Finished files of drafts, by the draft's folder.
    drafts: BTreeMap<String, Files>,
    latest: Option<u64>,
    is_owned: bool,
    drafts_begun: u64,
    /// The method whose next call fails.
    pub failing: Option<&'static str>,
}

/// The place, to be read.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend {
    pub state: Arc<Mutex<MemoryState>>,
}

/// The place, owned until this is dropped.
#[derive(Debug)]
struct OwnedMemory {
    place: MemoryBackend,
}

const ADDRESS: &str = "memory:";

impl MemoryBackend {
    /// Fails if the next call of `method` is to fail.
    fn check(&self, method: &'static str) -> Result<(), CheckpointError> {
        let mut state = self.state.lock().unwrap();
        if state.failing == Some(method) {
            state.failing = None;
            return Err(CheckpointError::io(ADDRESS, method)(io::Error::other("told to fail")));
        }
        Ok(())
    }

    /// Files of drafts that are neither committed nor discarded.
    pub fn n_drafts(&self) -> usize {
        self.state.lock().unwrap().drafts.len()
    }
}

impl Backend for MemoryBackend {
    fn address(&self) -> &Path {
        Path::new(ADDRESS)
    }

    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        self.check("numbers")?;
        Ok(self.state.lock().unwrap().checkpoints.keys().copied().collect())
    }

    fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError> {
        self.check("manifest")?;
        let state = self.state.lock().unwrap();
        let text = state.checkpoints.get(&number).and_then(|files| files.get(MANIFEST));
        let text = text.ok_or_else(|| CheckpointError::damaged(ADDRESS, "it is not there"))?;
        crate::checkpoint::reader::manifest_from(text, Path::new(ADDRESS))
    }

    fn lineage_marker(&self, number: u64) -> Option<String> {
        let state = self.state.lock().unwrap();
        let text = state.checkpoints.get(&number)?.get(LINEAGE)?;
        Some(String::from_utf8(text.clone()).ok()?.trim_end().to_owned())
    }

    fn fetch(&self, number: u64) -> Result<Checkpoint, CheckpointError> {
        self.check("fetch")?;
        let folder = tempfile::tempdir().unwrap();
        let files = self.state.lock().unwrap().checkpoints.get(&number).cloned().unwrap_or_default();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let verified = Checkpoint::open_folder(folder.path())?;
        let path = self.address().join(format!("{number:010}"));
        let copy = folder.path().to_owned();
        Ok(Checkpoint::verified(path, copy, verified.manifest().clone(), Some(Arc::new(folder))))
    }

    fn latest(&self) -> Result<Option<u64>, CheckpointError> {
        self.check("latest")?;
        Ok(self.state.lock().unwrap().latest)
    }

    fn acquire(self: Box<Self>) -> Result<Box<dyn WritableBackend>, CheckpointError> {
        self.check("acquire")?;
        let mut state = self.state.lock().unwrap();
        if std::mem::replace(&mut state.is_owned, true) {
            return Err(CheckpointError::Locked { dir: ADDRESS.into() });
        }
        state.drafts.clear();
        drop(state);
        Ok(Box::new(OwnedMemory { place: *self }))
    }
}

impl WritableBackend for OwnedMemory {
    fn reader(&self) -> &dyn Backend {
        &self.place
    }

    fn ensure_owned(&self) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn next_number(&self) -> Result<u64, CheckpointError> {
        Ok(self.place.numbers()?.last().map_or(1, |last| last + 1))
    }

    fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError> {
        Ok(!self.place.numbers()?.is_empty())
    }

    fn claim(&self, _number: u64, _restored: &Manifest) -> Result<bool, CheckpointError> {
        self.place.check("claim").map(|()| true)
    }

    fn begin(&self) -> Result<DraftId, CheckpointError> {
        self.place.check("begin")?;
        let number = self.next_number()?;
        let mut state = self.place.state.lock().unwrap();
        state.drafts_begun += 1;
        let folder = format!("draft-{}", state.drafts_begun);
        state.drafts.insert(folder.clone(), Files::new());
        Ok(DraftId { number, folder })
    }

    fn create(&self, draft: &DraftId, name: &str) -> Result<Box<dyn DraftFile>, CheckpointError> {
        self.place.check("create")?;
        let (place, folder, name) = (self.place.clone(), draft.folder.clone(), name.to_owned());
        Ok(Box::new(MemoryFile { place, folder, name, content: Vec::new() }))
    }

    fn commit(&self, draft: &DraftId, manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        let failure = self.place.check("commit");
        let mut state = self.place.state.lock().unwrap();
        let mut files = state.drafts.remove(&draft.folder).unwrap_or_default();
        failure?;
        files.insert(MANIFEST.to_owned(), manifest.to_text().into_bytes());
        if state.checkpoints.contains_key(&draft.number) {
            return Err(CheckpointError::NumberTaken { path: ADDRESS.into() });
        }
        state.checkpoints.insert(draft.number, files);
        Ok(self.place.address().join(format!("{:010}", draft.number)))
    }

    fn discard(&self, draft: &DraftId, _files: &[FileEntry]) {
        self.place.state.lock().unwrap().drafts.remove(&draft.folder);
    }

    fn point_latest(&self, number: u64) -> Result<(), CheckpointError> {
        self.place.check("point_latest")?;
        self.place.state.lock().unwrap().latest = Some(number);
        Ok(())
    }

    fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError> {
        self.place.check("prune")?;
        let mut state = self.place.state.lock().unwrap();
        let numbers: Vec<u64> = state.checkpoints.keys().copied().collect();
        for number in expired(numbers.into_iter().map(|number| (number, None::<()>)), keep, pinned) {
            state.checkpoints.remove(&number);
        }
        Ok(())
    }
}

impl Drop for OwnedMemory {
    fn drop(&mut self) {
        self.place.state.lock().unwrap().is_owned = false;
    }
}

/// A file of a draft in memory.
#[derive(Debug)]
struct MemoryFile {
    place: MemoryBackend,
    folder: String,
    name: String,
    content: Vec<u8>,
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.place.check("write").map_err(io::Error::other)?;
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DraftFile for MemoryFile {
    fn finish(self: Box<Self>) -> Result<Option<String>, CheckpointError> {
        self.place.check("finish")?;
        let mut state = self.place.state.lock().unwrap();
        let draft = state.drafts.get_mut(&self.folder).expect("a draft that is begun and not over");
        draft.insert(self.name, self.content);
        Ok(None)
    }
}
