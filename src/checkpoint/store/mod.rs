//! Where checkpoints are kept: one face for a folder on a disk (`local`) and for a prefix of an object store
//! (`object`).
//!
//! Whoever may write holds a [`Store`]: nobody else holds the same place meanwhile. Everybody may read ([`find`]).

mod disk;
mod draft;
mod lease;
mod local;
mod object;
mod owned;
mod place;
mod restore;
mod runtime;
mod s3;
mod scratch;
mod sweep;
#[cfg(test)]
mod tests;
mod upload;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use draft::{Draft, HashingFile, Published};

use self::local::{Folder, Local};
use self::object::Bucket;
use self::owned::Owned;
use self::place::Place;
use self::scratch::Scratch;
use super::CheckpointError;
use super::manifest::{FORMAT, FileEntry, MANIFEST, Manifest, ManifestFault};
use crate::config::CheckpointConfig;
use crate::util::encoding::{hexadecimal, unique};

/// The file that tells which run a checkpoint belongs to, should its manifest no longer do so.
const LINEAGE: &str = "lineage";
/// The run of checkpoints that do not tell: those of versions before there were any.
const UNTOLD: &str = "untold";

/// A place for checkpoints, held by this worker alone. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hold: Hold,
    /// Of the run that this worker carries on; `None` until it is known.
    lineage: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Hold {
    Local(Local),
    Object(Owned),
}

impl Store {
    /// Takes hold of `checkpoint.dir`, making it where it is missing.
    ///
    /// # Errors
    /// Where another worker holds it, or disk or object store refuse.
    pub fn open(config: &CheckpointConfig) -> Result<Self, CheckpointError> {
        let hold = match Place::parse(&config.dir)? {
            Place::Folder(dir) => Hold::Local(Local::open(&dir)?),
            Place::Bucket(address) => {
                let bucket = s3::open(&address, config)?;
                Hold::Object(Owned::open(bucket, Duration::from_millis(config.lease_ms))?)
            }
        };
        Ok(Self::of(hold))
    }

    fn of(hold: Hold) -> Self {
        Self(Arc::new(Shared { hold, lineage: Mutex::new(None) }))
    }

    /// Whether a run that begins anew has to say so at once by a checkpoint: beside older ones, lest a restart go on from
    /// those; in an object store always, so that a worker that was taken for dead finds its next number taken.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn begins_with_a_checkpoint(&self) -> Result<bool, CheckpointError> {
        match &self.0.hold {
            Hold::Local(local) => Ok(!local.folder.numbers()?.is_empty()),
            Hold::Object(_) => Ok(true),
        }
    }

    /// Whether this worker still holds the place, as far as is known without asking.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] where another one took over.
    pub fn still_held(&self) -> Result<(), CheckpointError> {
        match &self.0.hold {
            Hold::Local(_) => Ok(()),
            Hold::Object(owned) => owned.still_held(),
        }
    }

    /// Begins a checkpoint.
    ///
    /// # Errors
    /// Where disk or store refuse.
    pub fn draft(&self) -> Result<Draft, CheckpointError> {
        let lineage = self.lineage().get_or_insert_with(unique).clone();
        Draft::begin(self.clone(), lineage)
    }

    /// Removes all but the `keep` newest checkpoints and those `spared`, and what unfinished ones left behind.
    ///
    /// # Errors
    /// Where disk or store refuse.
    pub fn prune(&self, keep: usize, spared: &Pinned) -> Result<(), CheckpointError> {
        match &self.0.hold {
            Hold::Local(local) => local.prune(keep, spared),
            Hold::Object(owned) => owned.prune(keep, spared),
        }
    }

    /// The newest intact checkpoint, with what `restore` makes of it; `None` where there is none at all. Each damaged
    /// one that is passed over is handed to `passed_over`. From then on this worker carries on that checkpoint's run.
    ///
    /// # Errors
    /// Where there are checkpoints but none is intact, the newest intact one cannot be gone on from, or it is of
    /// another run than the damaged ones after it.
    pub fn newest_intact<T>(
        &self,
        restore: impl Fn(&VerifiedCheckpoint) -> Result<T, CheckpointError>,
        mut passed_over: impl FnMut(&CheckpointError),
    ) -> Result<Option<(VerifiedCheckpoint, T)>, CheckpointError> {
        let found = match &self.0.hold {
            Hold::Local(local) => {
                restore::newest_intact(&Reader::Folder(local.folder.clone()), &restore, &mut passed_over)?
            }
            Hold::Object(owned) => {
                owned.carry_on(|reader| restore::newest_intact(reader, &restore, &mut passed_over))?
            }
        };
        if let Some((intact, _)) = &found {
            *self.lineage() = Some(lineage_of(&intact.manifest).to_owned());
        }
        Ok(found)
    }

    fn lineage(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.lineage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checkpoints that are not removed, however many newer ones there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Those of these paths.
    pub these: Vec<PathBuf>,
    /// The one of this path, and all before it.
    pub up_to: Option<PathBuf>,
}

impl Pinned {
    /// Whether the checkpoint `number` is among them.
    fn has(&self, number: u64) -> bool {
        let of = |path: &PathBuf| path.file_name().and_then(|name| number_in(name.to_str()?));
        self.these.iter().any(|path| of(path) == Some(number))
            || self.up_to.as_ref().and_then(of).is_some_and(|last| number <= last)
    }
}

/// A checkpoint whose every file is what its manifest says.
#[derive(Debug, Clone)]
pub struct VerifiedCheckpoint {
    /// Its folder, or its address in an object store: what people call it.
    pub path: PathBuf,
    /// Where its files can be read.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// What was fetched goes once nobody reads it any more.
    _scratch: Option<Arc<Scratch>>,
}

impl VerifiedCheckpoint {
    /// `error`, which may name a fetched copy, as people know the file.
    fn as_called(&self, error: CheckpointError) -> CheckpointError {
        match error {
            CheckpointError::Damaged { path, problem } => match path.strip_prefix(&self.folder) {
                Ok(inner) => CheckpointError::Damaged { path: self.path.join(inner), problem },
                Err(_) => CheckpointError::Damaged { path, problem },
            },
            error => error,
        }
    }
}

/// A place for checkpoints, to be read.
#[derive(Debug)]
enum Reader {
    Folder(Folder),
    Bucket(Arc<Bucket>),
}

impl Reader {
    /// Numbers of the checkpoints, ascending.
    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        match self {
            Self::Folder(folder) => folder.numbers(),
            Self::Bucket(bucket) => Ok(bucket.list()?.manifests()),
        }
    }

    /// What people call the checkpoint `number`.
    fn path(&self, number: u64) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.path(number),
            Self::Bucket(bucket) => bucket.path(number),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Folder(folder) => &folder.dir,
            Self::Bucket(bucket) => bucket.address(),
        }
    }

    /// The run that a checkpoint belongs to, where its manifest or the file for that purpose tell.
    fn lineage(&self, number: u64) -> Option<String> {
        let manifest = match self {
            Self::Folder(folder) => local::manifest(&folder.path(number)),
            Self::Bucket(bucket) => bucket.manifest(number),
        };
        match (manifest, self) {
            (Ok(manifest), _) => Some(lineage_of(&manifest).to_owned()),
            (Err(_), Self::Folder(folder)) => folder.lineage(number),
            (Err(_), Self::Bucket(bucket)) => bucket.lineage(number),
        }
    }

    /// The checkpoint `number`, every file of it verified.
    fn verify(&self, number: u64) -> Result<VerifiedCheckpoint, CheckpointError> {
        match self {
            Self::Folder(folder) => verify(&folder.path(number)),
            Self::Bucket(bucket) => bucket.fetch(number),
        }
    }
}

/// The checkpoint at `path` (a folder, or a URL as in `checkpoint.dir`): either one itself, or a place for them, whose
/// newest is taken. `config` has the options of object stores.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn find(path: &Path, config: &CheckpointConfig) -> Result<VerifiedCheckpoint, CheckpointError> {
    let missing = || CheckpointError::Missing { path: path.to_owned() };
    let (reader, number) = match Place::parse(path)? {
        Place::Folder(dir) if dir.join(MANIFEST).exists() => return verify(&dir),
        Place::Folder(dir) if dir.is_dir() => (Reader::Folder(Folder { dir }), None),
        Place::Folder(_) => return Err(missing()),
        Place::Bucket(address) => {
            let (address, number) = address.without_number();
            (Reader::Bucket(Arc::new(s3::open(&address, config)?)), number)
        }
    };
    let numbers = reader.numbers()?;
    let number = number.map_or(numbers.last().copied(), |number| numbers.contains(&number).then_some(number));
    reader.verify(number.ok_or_else(missing)?)
}

/// Whether `path` names an object store rather than a folder.
pub fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

/// Reads the manifest of the checkpoint in the folder `path` and verifies every file against it.
///
/// # Errors
/// The first file that is not what it should be.
pub fn verify(path: &Path) -> Result<VerifiedCheckpoint, CheckpointError> {
    let manifest = local::verify(path)?;
    Ok(VerifiedCheckpoint { path: path.to_owned(), folder: path.to_owned(), manifest, _scratch: None })
}

/// The manifest of the checkpoint at `path`, from its text.
fn manifest_from(text: &[u8], path: &Path) -> Result<Manifest, CheckpointError> {
    Manifest::from_text(text).map_err(|fault| match fault {
        ManifestFault::Damaged(problem) => CheckpointError::damaged(path.join(MANIFEST), problem),
        ManifestFault::Newer(found) => CheckpointError::Newer { path: path.to_owned(), found, known: FORMAT },
    })
}

/// A name from a manifest is data: it must not lead out of the folder.
fn check_name(entry: &FileEntry, path: &Path) -> Result<(), CheckpointError> {
    if Path::new(&entry.name).components().count() != 1 || entry.name.starts_with('.') {
        return Err(CheckpointError::damaged(path, "the manifest names a file outside the folder"));
    }
    Ok(())
}

fn verify_file(path: &Path, entry: &FileEntry) -> Result<(), CheckpointError> {
    check_name(entry, path)?;
    let mut file = File::open(path).map_err(|error| CheckpointError::damaged(path, error))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(|error| CheckpointError::damaged(path, error))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    check_sum(path, entry, bytes, hash)
}

/// Whether what was read is what the manifest says.
fn check_sum(path: &Path, entry: &FileEntry, bytes: u64, hash: Sha256) -> Result<(), CheckpointError> {
    if bytes != entry.bytes {
        return Err(CheckpointError::damaged(path, format!("it has {bytes} bytes, not {}", entry.bytes)));
    }
    let found = hexadecimal(&hash.finalize());
    if found != entry.sha256 {
        return Err(CheckpointError::damaged(path, format!("its checksum is {found}, not {}", entry.sha256)));
    }
    Ok(())
}

/// The number that a folder of this name has, where it is a checkpoint's.
fn number_in(name: &str) -> Option<u64> {
    let digits = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

fn lineage_of(manifest: &Manifest) -> &str {
    match manifest.provenance.lineage.as_str() {
        "" => UNTOLD,
        lineage => lineage,
    }
}

/// Whether a text can name a run.
fn is_lineage(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
