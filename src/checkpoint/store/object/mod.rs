//! A prefix of an object store as a place for checkpoints; everything that needs the crate `object_store` is in this
//! module, behind [`open`].
//!
//! Manifests are a log (`log`): the commit of the next number is a put if absent, and a worker that finds its next number
//! taken by a later epoch is fenced. A worker that takes over takes the next number at once, by a manifest of the state that
//! it goes on from, so that nobody who was taken for dead can commit afterwards: not even a worker that was stopped
//! between the look at its lease and the put.
//!
//! Every request may fail, take effect and lose its answer, or be answered late. So each one is either harmless to
//! repeat (data has keys of its own) or looked at afterwards (a manifest says who put it).

pub(super) mod bucket;
mod download;
pub(super) mod lease;
mod log;
mod s3;
mod upload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::{PutMode, UpdateVersion};

use self::bucket::{BucketClient, PutOutcome, is_conflict};
use self::download::DownloadFolder;
use self::lease::Lease;
use self::log::{Listing, NumberConflict, ReferencedFiles, manifest_key, new_attempt, plan_removal, resolve_conflict};
use self::upload::Upload;
use super::backend::{Backend, DraftFile, DraftId, WritableBackend};
use super::location::invalid_url;
use super::retention::Pinned;
use super::{LATEST, LINEAGE, is_lineage, latest_in, point_to};
use crate::checkpoint::CheckpointConfig;
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{FileEntry, Manifest, Provenance};
use crate::checkpoint::reader::{check_name, manifest_from};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::util::encoding::{random_id, sha256};

/// How many numbers in a row may be found taken by workers that are gone.
const MAX_PASSED: usize = 64;

/// The backend at `s3://LOCATION`, where `location` is `BUCKET/PREFIX`. The store is not asked yet.
///
/// # Errors
/// [`CheckpointError::InvalidLocation`] where `location` or an option in `config` cannot be.
pub(super) fn open(location: &str, config: &CheckpointConfig) -> Result<Box<dyn Backend>, CheckpointError> {
    let (bucket, prefix) = parse_location(location)?;
    let bucket = s3::connect(bucket, &prefix, config)?;
    Ok(Box::new(ObjectBackend::new(bucket, Duration::from_millis(config.lease_ms))))
}

/// The bucket and the prefix, without slashes at its ends, of `BUCKET/PREFIX`.
fn parse_location(location: &str) -> Result<(&str, String), CheckpointError> {
    let refuse = |problem| Err(invalid_url(Path::new("s3://"), problem));
    let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
    let prefix: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    if bucket.contains('@') {
        return refuse("credentials have no place in it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    if bucket.is_empty() || location.contains(['?', '#', '%']) || prefix.contains(&"..") {
        return refuse("must be s3://BUCKET/PREFIX");
    }
    Ok((bucket, prefix.join("/")))
}

/// A prefix of an object store, to be read.
#[derive(Debug)]
pub(super) struct ObjectBackend {
    bucket: Arc<BucketClient>,
    /// Time to live of the lease that a writer takes.
    lease: Duration,
}

impl ObjectBackend {
    pub fn new(bucket: BucketClient, lease: Duration) -> Self {
        Self { bucket: Arc::new(bucket), lease }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.bucket.address().join(format!("{number:010}"))
    }

    /// The number that the pointer has, if it can be read, and its version; `None` where there is no pointer.
    fn pointer(&self) -> Result<Option<(Option<u64>, UpdateVersion)>, CheckpointError> {
        let found = self.bucket.runtime.wait(self.bucket.read(LATEST)).map_err(self.bucket.failed(LATEST, "read"))?;
        Ok(found.map(|(text, version)| (str::from_utf8(&text).ok().and_then(latest_in), version)))
    }
}

impl Backend for ObjectBackend {
    fn address(&self) -> &Path {
        self.bucket.address()
    }

    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        Ok(self.bucket.list()?.checkpoints())
    }

    fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError> {
        let key = manifest_key(number);
        let text = self.bucket.runtime.wait(self.bucket.read(&key)).map_err(self.bucket.failed(&key, "read"))?;
        let missing = || CheckpointError::damaged(self.bucket.address().join(&key), "it is not there");
        let (text, _) = text.ok_or_else(missing)?;
        manifest_from(&text, &self.path(number))
    }

    fn lineage_marker(&self, number: u64) -> Option<String> {
        let begin = format!("{number:010}/");
        let listing = self.bucket.list().ok()?;
        let is_marker = |key: &&String| key.starts_with(&begin) && key.ends_with(&format!("/{LINEAGE}"));
        let mut lineages = Vec::new();
        for key in listing.keys.iter().filter(is_marker) {
            let (text, _) = self.bucket.runtime.wait(self.bucket.read(key)).ok()??;
            let text = str::from_utf8(&text).ok()?.trim_end().to_owned();
            lineages.push(Some(text).filter(|text| is_lineage(text))?);
        }
        // Attempts that came to nothing may be of other runs.
        lineages.dedup();
        if lineages.len() == 1 { lineages.pop() } else { None }
    }

    fn fetch(&self, number: u64) -> Result<Checkpoint, CheckpointError> {
        let manifest = self.manifest(number)?;
        let path = self.path(number);
        let download = DownloadFolder::new().map_err(CheckpointError::io(&path, "prepare to fetch files of"))?;
        for entry in &manifest.files {
            let key = entry.key.clone().unwrap_or_else(|| format!("{number:010}/{}", entry.name));
            check_name(entry, &self.bucket.address().join(&key))?;
            self.bucket.download(&key, entry, &download.0.join(&entry.name))?;
        }
        let folder = download.0.clone();
        Ok(Checkpoint::verified(path, folder, manifest, Some(Arc::new(download))))
    }

    fn latest(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(self.pointer()?.and_then(|(number, _)| number))
    }

    fn acquire(self: Box<Self>) -> Result<Box<dyn WritableBackend>, CheckpointError> {
        // A restart would need it: better that the first start says so.
        DownloadFolder::new().map_err(CheckpointError::io(self.bucket.address(), "prepare to fetch files of"))?;
        let lease = Lease::acquire(&self.bucket, self.lease)?;
        Ok(Box::new(LeasedObjectBackend { lease, store: *self, log: Mutex::default() }))
    }
}

/// A prefix of an object store whose lease this worker has.
#[derive(Debug)]
struct LeasedObjectBackend {
    // Dropped first: the lease is given back through the store's client.
    lease: Lease,
    store: ObjectBackend,
    log: Mutex<WriterState>,
}

/// What the owner knows of the log without asking.
#[derive(Debug, Default)]
struct WriterState {
    /// The number of the next checkpoint; `None` until the store was asked.
    next: Option<u64>,
    /// Attempts that are being written.
    live: BTreeSet<String>,
    /// The files that the manifests refer to.
    references: ReferencedFiles,
}

impl LeasedObjectBackend {
    fn log(&self) -> MutexGuard<'_, WriterState> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number, as far as is known without asking, or else as the store lists it.
    fn cached_next(&self) -> Result<u64, CheckpointError> {
        let next = self.log().next;
        next.map_or_else(|| self.next_number(), Ok)
    }

    /// Puts `manifest`, which is of this epoch, under `number`; `false` where that is taken by a worker that is gone.
    fn commit_as(&self, number: u64, manifest: &Manifest) -> Result<bool, CheckpointError> {
        let bucket = &self.store.bucket;
        self.lease.confirm()?;
        let path = self.store.path(number);
        let provenance = &manifest.provenance;
        failpoint::reach("commit").map_err(CheckpointError::io(&path, "put the manifest of"))?;
        let put = bucket.put_if_absent(&manifest_key(number), &manifest.to_text(), &provenance.id)?;
        failpoint::reach("committed").map_err(CheckpointError::io(&path, "confirm"))?;
        if let PutOutcome::Existing(existing) = put {
            let existing = Manifest::from_text(&existing).ok().map(|manifest| manifest.provenance);
            return match resolve_conflict(provenance.epoch, existing.as_ref()) {
                NumberConflict::Fenced(epoch) => Err(self.lease.mark_lost(epoch)),
                NumberConflict::Passed => Ok(false),
            };
        }
        if let Err(error) = self.lease.confirm_if_late() {
            if error.is_fenced() {
                // Numbers long before the newest are free again; what was put there is not the new owner's.
                let _ = bucket.remove([manifest_key(number)]);
            }
            return Err(error);
        }
        let mut log = self.log();
        log.next = Some(number + 1);
        log.references.insert(number, Some(manifest.files.clone()));
        Ok(true)
    }

    /// Puts `manifest` under the next number that is free.
    fn append(&self, mut manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        manifest.provenance.epoch = self.lease.epoch();
        for _ in 0..MAX_PASSED {
            let number = self.cached_next()?;
            if self.commit_as(number, &manifest)? {
                return Ok(self.store.path(number));
            }
            self.log().next = Some(number + 1);
        }
        Err(CheckpointError::NumberTaken { path: self.store.path(self.cached_next()?) })
    }

    /// Puts a manifest of this epoch for the state of `restored`, whose run is written down anew in `attempt`.
    fn claim_in(&self, attempt: &str, number: u64, restored: &Manifest) -> Result<bool, CheckpointError> {
        let lineage = restored.provenance.lineage.clone();
        let text = format!("{lineage}\n");
        let key = format!("{attempt}/{LINEAGE}");
        self.store.bucket.put(&key, text.clone().into())?;
        let entry = FileEntry {
            name: LINEAGE.to_owned(),
            bytes: text.len() as u64,
            sha256: sha256(text.as_bytes()),
            key: Some(key),
        };
        let mut manifest = restored.clone();
        manifest.files.retain(|file| file.name != LINEAGE);
        manifest.files.insert(0, entry);
        manifest.provenance = Provenance { lineage, epoch: self.lease.epoch(), id: random_id() };
        self.commit_as(number, &manifest)
    }

    /// The files that the manifests of `listing` refer to; those of manifests that are known are not read again.
    fn references(&self, listing: &Listing) -> Result<ReferencedFiles, CheckpointError> {
        let numbers = listing.checkpoints();
        let mut references = std::mem::take(&mut self.log().references);
        references.retain(|number, _| numbers.contains(number));
        for number in numbers {
            if let std::collections::btree_map::Entry::Vacant(entry) = references.entry(number) {
                match self.store.manifest(number) {
                    Ok(manifest) => drop(entry.insert(Some(manifest.files))),
                    Err(error) if matches!(error, CheckpointError::ObjectStore { .. }) => return Err(error),
                    Err(_) => drop(entry.insert(None)),
                }
            }
        }
        Ok(references)
    }
}

impl WritableBackend for LeasedObjectBackend {
    fn reader(&self) -> &dyn Backend {
        &self.store
    }

    fn ensure_owned(&self) -> Result<(), CheckpointError> {
        self.lease.ensure_owned()
    }

    fn next_number(&self) -> Result<u64, CheckpointError> {
        let next = self.store.numbers()?.last().map_or(1, |last| last + 1);
        Ok(*self.log().next.insert(next))
    }

    fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError> {
        Ok(true)
    }

    fn claim(&self, number: u64, restored: &Manifest) -> Result<bool, CheckpointError> {
        let attempt = self.begin()?;
        let claimed = self.claim_in(&attempt.folder, number, restored);
        self.log().live.remove(&attempt.folder);
        claimed
    }

    fn begin(&self) -> Result<DraftId, CheckpointError> {
        self.ensure_owned()?;
        let number = self.cached_next()?;
        let folder = new_attempt(number, self.lease.epoch());
        self.log().live.insert(folder.clone());
        Ok(DraftId { number, folder })
    }

    fn create(&self, draft: &DraftId, name: &str) -> Result<Box<dyn DraftFile>, CheckpointError> {
        Ok(Box::new(Upload::new(self.store.bucket.clone(), &format!("{}/{name}", draft.folder))))
    }

    fn commit(&self, draft: &DraftId, manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        // Even where an error says otherwise the manifest may be there: nothing that it refers to may go.
        let committed = self.append(manifest);
        self.log().live.remove(&draft.folder);
        committed
    }

    fn discard(&self, draft: &DraftId, files: &[FileEntry]) {
        // What stays is removed after the next checkpoint.
        let _ = self.store.bucket.remove(files.iter().filter_map(|file| file.key.clone()));
        self.log().live.remove(&draft.folder);
    }

    fn point_latest(&self, number: u64) -> Result<(), CheckpointError> {
        self.ensure_owned()?;
        let (store, bucket) = (&self.store, &self.store.bucket);
        let mode = match store.pointer()? {
            None => PutMode::Create,
            // A worker that was paused here is late: whoever took over has pointed further. A number without a checkpoint is
            // left over from a place that was emptied.
            Some((Some(there), _)) if there >= number && store.manifest(there).is_ok() => return Ok(()),
            Some((None, _)) => {
                let problem = "its object 'latest' is somebody else's: left alone".to_owned();
                return Err(CheckpointError::InvalidLocation { dir: bucket.address().to_owned(), problem });
            }
            Some((_, version)) => PutMode::Update(version),
        };
        let text = format!("{}\n", point_to(number));
        match bucket.runtime.wait(bucket.put_once(LATEST, &text, mode)) {
            Err(error) if !is_conflict(&error) => Err(bucket.failed(LATEST, "put")(error)),
            // Whoever was in the way is newer, or an answer was lost.
            _ => Ok(()),
        }
    }

    fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError> {
        self.ensure_owned()?;
        let bucket = &self.store.bucket;
        let listing = bucket.list()?;
        let mut references = self.references(&listing)?;
        let live = self.log().live.clone();
        let plan = plan_removal(&listing, &references, keep, pinned, self.lease.epoch(), &live);
        references.retain(|number, _| !plan.checkpoints.contains(number));
        self.log().references = references;
        bucket.remove(plan.checkpoints.iter().map(|number| manifest_key(*number)))?;
        failpoint::reach("prune").map_err(CheckpointError::io(bucket.address(), "sweep"))?;
        bucket.remove(plan.objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_bucket_and_prefix() {
        let parse = |text| parse_location(text);
        assert_eq!(parse("b").unwrap(), ("b", String::new()));
        assert_eq!(parse("b//c/d/").unwrap(), ("b", "c/d".to_owned()));
        for invalid in ["", "/c", "b/c?x=y", "b/../c"] {
            assert!(matches!(parse(invalid), Err(CheckpointError::InvalidLocation { .. })), "{invalid}");
        }
        assert!(!parse("key:secret@b/c").unwrap_err().to_string().contains("secret"));
    }
}
