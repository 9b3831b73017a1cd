//! The store of checkpoints: one face for a folder on a disk (`local`) and for a prefix of an object store (`object`),
//! which both are a [`Backend`].
//!
//! Whoever writes owns a [`Store`], which nobody else owns at the same time. Everybody may read
//! ([`Checkpoint::open`](super::Checkpoint::open)).

pub mod backend;
mod disk;
mod draft;
mod local;
mod location;
#[cfg(feature = "s3")]
mod object;
mod restore;
mod retention;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use backend::{Backend, WritableBackend};
pub use draft::{Draft, HashingFile, PublishedCheckpoint};
pub use location::is_url;
pub use retention::Pinned;

pub(super) use local::manifest_in;

use super::manifest::{MANIFEST, Manifest};
use super::{Checkpoint, CheckpointError};
use crate::checkpoint::CheckpointConfig;
use crate::util::encoding::random_id;

/// The file that tells which run a checkpoint belongs to, should its manifest no longer do so.
pub(super) const LINEAGE: &str = "lineage";

/// Where programs that load what was learnt find the newest checkpoint that holds any item: in a folder a symbolic link to it, in
/// an object store an object with its number.
pub(super) const LATEST: &str = "latest";

/// A place for checkpoints, owned by this worker alone. Clones are the same store; the place is released with the last.
#[derive(Debug, Clone)]
pub struct Store(Arc<SharedStore>);

#[derive(Debug)]
struct SharedStore {
    backend: Box<dyn WritableBackend>,
    /// The run that this worker carries on; `None` until it is known.
    lineage: Mutex<Option<String>>,
}

impl Store {
    /// Becomes the only writer of `checkpoint.dir`, making it where it is missing.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`] where another worker owns it, [`CheckpointError::InvalidLocation`] where it cannot be a
    /// place for checkpoints; what disk or object store say.
    pub fn open(config: &CheckpointConfig) -> Result<Self, CheckpointError> {
        Ok(Self::over(location::backend_at(&config.dir, config)?.acquire()?))
    }

    /// A store over any backend that this worker owns.
    pub fn over(backend: Box<dyn WritableBackend>) -> Self {
        Self(Arc::new(SharedStore { backend, lineage: Mutex::new(None) }))
    }

    fn backend(&self) -> &dyn WritableBackend {
        &*self.0.backend
    }

    /// Whether a run that begins anew has to commit a checkpoint before it trains anything; see
    /// [`WritableBackend::requires_initial_checkpoint`].
    ///
    /// # Errors
    /// Where disk or object store refuse.
    pub fn requires_initial_checkpoint(&self) -> Result<bool, CheckpointError> {
        self.backend().requires_initial_checkpoint()
    }

    /// Whether this worker still owns the place, as far as is known without asking anybody.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] where another worker took over.
    pub fn ensure_owned(&self) -> Result<(), CheckpointError> {
        self.backend().ensure_owned()
    }

    /// Begins a checkpoint. A store that never restored one begins a run of its own with it.
    ///
    /// # Errors
    /// Where disk or object store refuse.
    pub fn draft(&self) -> Result<Draft, CheckpointError> {
        Draft::begin(self.clone(), self.run())
    }

    /// The run that this worker carries on ([`Provenance::lineage`](super::manifest::Provenance)): a new name where nothing was
    /// restored, which outlasts the process once a checkpoint is durable.
    pub fn run(&self) -> String {
        self.lineage().get_or_insert_with(random_id).clone()
    }

    /// Names the run that this worker begins, where it carries on none.
    ///
    /// # Panics
    /// Where `run` is no name of one: it has letters and digits.
    pub fn begin_run(&self, run: &str) {
        assert!(is_lineage(run), "a run is named by letters and digits");
        self.lineage().get_or_insert_with(|| run.to_owned());
    }

    /// Removes all but the `keep` newest checkpoints and the `pinned` ones, and what unfinished drafts left behind.
    ///
    /// # Errors
    /// Where disk or object store refuse.
    pub fn prune(&self, keep: usize, pinned: &Pinned) -> Result<(), CheckpointError> {
        let mut pinned = pinned.clone();
        // Whoever follows the pointer finds what it points to, also while a run that begins anew has learnt nothing yet.
        let latest = self.backend().reader().latest()?;
        pinned.checkpoints.extend(latest.map(|number| self.backend().reader().address().join(point_to(number))));
        self.backend().prune(keep, &pinned)
    }

    /// Restores the newest intact checkpoint through `restore`, and carries on its run from then on; `None` where there
    /// is no checkpoint at all. Each unusable one that is skipped on the way is handed to `on_skipped`.
    ///
    /// # Errors
    /// [`CheckpointError::NoneIntact`] where there are checkpoints but none is intact, [`CheckpointError::OtherRun`] where
    /// the newest intact one is of another run than the damaged ones after it; what `restore` says, unless
    /// [`CheckpointError::permits_fallback`].
    pub fn restore_newest<T>(
        &self,
        restore: impl Fn(&Checkpoint) -> Result<T, CheckpointError>,
        mut on_skipped: impl FnMut(&CheckpointError),
    ) -> Result<Option<(Checkpoint, T)>, CheckpointError> {
        let backend = self.backend();
        loop {
            // Before the search, so that a commit in the meantime shows as a number that is taken.
            let next = backend.next_number()?;
            let found = restore::newest_intact(backend.reader(), &restore, &mut on_skipped)?;
            let Some((checkpoint, restored)) = found else { return Ok(None) };
            if backend.claim(next, checkpoint.manifest())? {
                *self.lineage() = Some(checkpoint.manifest().provenance.lineage.clone());
                return Ok(Some((checkpoint, restored)));
            }
            // An earlier owner had a commit under way: that is the newest state now.
        }
    }

    fn lineage(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lineage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checkpoint at `path`: either itself one, or a place for checkpoints, whose newest is taken.
///
/// # Errors
/// [`CheckpointError::Missing`] where there is none, [`CheckpointError::Damaged`] where it is damaged.
pub(super) fn find(path: &Path, config: &CheckpointConfig) -> Result<Checkpoint, CheckpointError> {
    let missing = || CheckpointError::Missing { path: path.to_owned() };
    let (place, number) = match location::local_path(path)? {
        Some(folder) if folder.join(MANIFEST).exists() => return Checkpoint::open_folder(&folder),
        Some(folder) if !folder.is_dir() => return Err(missing()),
        Some(_) => (path, None),
        None => location::split_number(path),
    };
    if number.is_none()
        && place.file_name().is_some_and(|name| name == LATEST)
        && let Some(parent) = place.parent().filter(|parent| is_url(parent))
    {
        let backend = location::backend_at(parent, config)?;
        return backend.fetch(backend.latest()?.ok_or_else(missing)?);
    }
    let backend = location::backend_at(place, config)?;
    let numbers = backend.numbers()?;
    let number = number.map_or(numbers.last().copied(), |number| numbers.contains(&number).then_some(number));
    backend.fetch(number.ok_or_else(missing)?)
}

/// The number of the newest checkpoint at `place`; `None` where there is none, or no such folder.
///
/// # Errors
/// [`CheckpointError::InvalidLocation`]; what disk or object store say.
pub fn newest_number(place: &Path, config: &CheckpointConfig) -> Result<Option<u64>, CheckpointError> {
    if location::local_path(place)?.is_some_and(|folder| !folder.is_dir()) {
        return Ok(None);
    }
    Ok(location::backend_at(place, config)?.numbers()?.last().copied())
}

/// The manifests of all checkpoints at `place`, oldest first.
///
/// # Errors
/// [`CheckpointError::Damaged`] for the first that cannot be read; what disk or object store say.
pub fn manifests(place: &Path, config: &CheckpointConfig) -> Result<Vec<Manifest>, CheckpointError> {
    let backend = location::backend_at(place, config)?;
    backend.numbers()?.into_iter().map(|number| backend.manifest(number)).collect()
}

/// The number that a folder of this name has, where it is a checkpoint's.
fn number_in(name: &str) -> Option<u64> {
    let is_number = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { name.parse().ok() } else { None }
}

/// The text by which programs are pointed to the checkpoint `number`: the name of its folder.
fn point_to(number: u64) -> String {
    format!("{number:010}")
}

/// The number of the checkpoint that a text points to.
fn latest_in(text: &str) -> Option<u64> {
    number_in(text.trim_end().trim_end_matches('/'))
}

/// Whether a text can name a run.
fn is_lineage(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
