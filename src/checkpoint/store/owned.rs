//! A prefix of an object store that this worker may write to.
//!
//! Manifests are a log: the commit of the next number is a put if absent, and a worker that finds its next number taken
//! by a later epoch is fenced. Whoever takes over takes the next number at once, by a manifest of the state that it goes
//! on from, so that nobody who was taken for dead can commit afterwards: not even one that was stopped between the look
//! at its lease and the put.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lease::Lease;
use super::object::{Bucket, Created, References, attempt, manifest_key};
use super::{LINEAGE, Pinned, Reader, VerifiedCheckpoint, lineage_of, sweep, unique};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::failpoint;
use crate::checkpoint::manifest::{FileEntry, Manifest, Provenance};
use crate::util::encoding::sha256;

/// Numbers in a row that may be found taken by workers that are none any more.
const TAKEN: usize = 64;

#[derive(Debug)]
pub(super) struct Owned {
    // Dropped first: it is given back through the bucket.
    lease: Lease,
    pub bucket: Arc<Bucket>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// The number of the next checkpoint; `None` until the bucket was asked.
    next: Option<u64>,
    /// Attempts that are being written.
    live: BTreeSet<String>,
    /// What the manifests refer to.
    references: References,
}

/// What a number that is taken means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody took over.
    Fenced(u64),
    /// It is our own, of an attempt whose outcome was not known, or of a worker before us: the next number is free.
    Past,
}

/// Judges what stands at our next number.
pub(super) fn judge(epoch: u64, theirs: Option<&Provenance>) -> Verdict {
    match theirs {
        Some(theirs) if theirs.epoch > epoch => Verdict::Fenced(theirs.epoch),
        _ => Verdict::Past,
    }
}

impl Owned {
    /// Waits for the lease, and takes it.
    pub fn open(bucket: Bucket, time_to_live: Duration) -> Result<Self, CheckpointError> {
        let bucket = Arc::new(bucket);
        let lease = Lease::acquire(&bucket, time_to_live)?;
        Ok(Self { lease, bucket, log: Mutex::default() })
    }

    /// Whether nobody took over, as far as is known.
    pub fn still_held(&self) -> Result<(), CheckpointError> {
        self.lease.still_held()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Result<u64, CheckpointError> {
        if let Some(next) = self.log().next {
            return Ok(next);
        }
        let next = self.bucket.list()?.manifests().last().map_or(1, |last| last + 1);
        Ok(*self.log().next.insert(next))
    }

    /// Begins a checkpoint: what the keys of its files begin with.
    pub fn begin(&self) -> Result<String, CheckpointError> {
        self.still_held()?;
        let attempt = attempt(self.next()?, self.lease.epoch());
        self.log().live.insert(attempt.clone());
        Ok(attempt)
    }

    /// An attempt is over; `keys` of it are not needed.
    pub fn end<'a>(&self, attempt: &str, keys: impl Iterator<Item = &'a str>) {
        // What stays is swept away after the next checkpoint.
        let _ = self.bucket.remove(keys.map(str::to_owned));
        self.log().live.remove(attempt);
    }

    /// Puts the manifest of a checkpoint whose data is there, under the next number that is free.
    pub fn commit(&self, mut manifest: Manifest) -> Result<PathBuf, CheckpointError> {
        manifest.provenance.epoch = self.lease.epoch();
        for _ in 0..TAKEN {
            let number = self.next()?;
            if self.commit_as(number, &manifest)? {
                return Ok(self.bucket.path(number));
            }
            self.log().next = Some(number + 1);
        }
        Err(CheckpointError::PendingEvent { path: self.bucket.path(self.next()?) })
    }

    /// Puts a manifest of this epoch under `number`; false where that is taken by something that is past.
    fn commit_as(&self, number: u64, manifest: &Manifest) -> Result<bool, CheckpointError> {
        self.lease.confirm()?;
        let path = self.bucket.path(number);
        let provenance = &manifest.provenance;
        failpoint::reach("commit").map_err(CheckpointError::io(&path, "put the manifest of"))?;
        let created = self.bucket.create(&manifest_key(number), &manifest.to_text(), &provenance.id)?;
        failpoint::reach("committed").map_err(CheckpointError::io(&path, "confirm"))?;
        if let Created::Theirs(theirs) = created {
            let theirs = Manifest::from_text(&theirs).ok().map(|manifest| manifest.provenance);
            return match judge(provenance.epoch, theirs.as_ref()) {
                Verdict::Fenced(epoch) => Err(self.lease.lost_to(epoch)),
                Verdict::Past => Ok(false),
            };
        }
        if let Err(error) = self.lease.confirm_if_late() {
            if error.is_fenced() {
                // Numbers long before the newest are free again; what was put there is none of the new owner's.
                let _ = self.bucket.remove([manifest_key(number)]);
            }
            return Err(error);
        }
        let mut log = self.log();
        log.next = Some(number + 1);
        log.references.insert(number, Some(manifest.files.clone()));
        Ok(true)
    }

    /// Finds the state to go on from by `find`, and takes the next number with it.
    pub fn carry_on<T>(
        &self,
        mut find: impl FnMut(&Reader) -> Result<Option<(VerifiedCheckpoint, T)>, CheckpointError>,
    ) -> Result<Option<(VerifiedCheckpoint, T)>, CheckpointError> {
        loop {
            let reader = Reader::Bucket(self.bucket.clone());
            // Before the search: what is committed meanwhile then shows.
            self.log().next = None;
            let next = self.next()?;
            let Some((intact, found)) = find(&reader)? else { return Ok(None) };
            if self.claim(next, &intact.manifest)? {
                return Ok(Some((intact, found)));
            }
            // A worker before us had one under way: that is the newest state.
        }
    }

    /// Puts a manifest of ours for a state that is there, as `number`; false where that is taken.
    fn claim(&self, number: u64, of: &Manifest) -> Result<bool, CheckpointError> {
        let attempt = self.begin()?;
        let claim = || {
            let lineage = lineage_of(of).to_owned();
            let text = format!("{lineage}\n");
            let key = format!("{attempt}/{LINEAGE}");
            self.bucket.put(&key, text.clone().into())?;
            let entry = FileEntry {
                name: LINEAGE.to_owned(),
                bytes: text.len() as u64,
                sha256: sha256(text.as_bytes()),
                key: Some(key),
            };
            let mut manifest = of.clone();
            manifest.files.retain(|file| file.name != LINEAGE);
            manifest.files.insert(0, entry);
            manifest.provenance = Provenance { lineage, epoch: self.lease.epoch(), id: unique() };
            self.commit_as(number, &manifest)
        };
        let claimed = claim();
        self.end(&attempt, std::iter::empty());
        claimed
    }

    /// Removes all but the `keep` newest states and the checkpoints `spared`, and what no checkpoint refers to.
    pub fn prune(&self, keep: usize, spared: &Pinned) -> Result<(), CheckpointError> {
        self.still_held()?;
        let listing = self.bucket.list()?;
        let numbers = listing.manifests();
        let mut references = std::mem::take(&mut self.log().references);
        references.retain(|number, _| numbers.contains(number));
        for number in numbers {
            if let std::collections::btree_map::Entry::Vacant(entry) = references.entry(number) {
                match self.bucket.manifest(number) {
                    Ok(manifest) => drop(entry.insert(Some(manifest.files))),
                    Err(error) if matches!(error, CheckpointError::Store { .. }) => return Err(error),
                    Err(_) => drop(entry.insert(None)),
                }
            }
        }
        let live = self.log().live.clone();
        let sweep = sweep::plan(&listing, &references, keep, spared, self.lease.epoch(), &live);
        references.retain(|number, _| !sweep.checkpoints.contains(number));
        self.log().references = references;
        self.bucket.remove(sweep.checkpoints.iter().map(|number| manifest_key(*number)))?;
        failpoint::reach("prune").map_err(CheckpointError::io(self.bucket.address(), "sweep"))?;
        self.bucket.remove(sweep.objects)
    }
}
