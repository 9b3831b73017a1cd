//! The folder of checkpoints on a local disk: drafts, publication, restoring, sweeping.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::CheckpointError;
use super::manifest::{FORMAT, FileEntry, MANIFEST, Manifest, ManifestFault};
use crate::digest::hexadecimal;

const LOCK: &str = ".lock";
const DRAFT_PREFIX: &str = ".draft-";

/// A folder of checkpoints, held by this worker alone.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    // Held for as long as the store lives; the operating system lets go of it when the process dies.
    _lock: File,
}

impl Store {
    /// Opens `dir`, making it where it is missing, and sweeps away what an earlier worker left unfinished.
    ///
    /// # Errors
    /// Where another worker holds it, or the disk refuses.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(dir).map_err(CheckpointError::io(dir, "create the folder"))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(CheckpointError::io(&path, "open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(CheckpointError::io(&path, "lock")(source)),
        }
        for entry in fs::read_dir(dir).map_err(CheckpointError::io(dir, "list"))? {
            let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT_PREFIX) {
                fs::remove_dir_all(entry.path()).map_err(CheckpointError::io(entry.path(), "remove"))?;
            }
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Whether there is any checkpoint, intact or not.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn is_empty(&self) -> Result<bool, CheckpointError> {
        Ok(numbers(&self.dir)?.is_empty())
    }

    /// Begins a checkpoint.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn draft(&self) -> Result<Draft<'_>, CheckpointError> {
        let number = numbers(&self.dir)?.last().map_or(1, |last| last + 1);
        let path = self.dir.join(format!("{DRAFT_PREFIX}{number:010}"));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(CheckpointError::io(&path, "remove"))?;
        }
        fs::create_dir(&path).map_err(CheckpointError::io(&path, "create the folder"))?;
        Ok(Draft { store: self, number, path, files: Vec::new(), published: false })
    }

    /// Removes all but the `keep` newest checkpoints.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn prune(&self, keep: usize) -> Result<(), CheckpointError> {
        let numbers = numbers(&self.dir)?;
        for number in &numbers[..numbers.len().saturating_sub(keep)] {
            // Renamed first, so that one which dies halfway is no checkpoint any more.
            let path = folder(&self.dir, *number);
            let doomed = self.dir.join(format!("{DRAFT_PREFIX}old-{number:010}"));
            fs::rename(&path, &doomed).map_err(CheckpointError::io(&path, "rename"))?;
            fs::remove_dir_all(&doomed).map_err(CheckpointError::io(&doomed, "remove"))?;
        }
        Ok(())
    }
}

/// A checkpoint in the making; removed again unless published.
#[derive(Debug)]
pub struct Draft<'a> {
    store: &'a Store,
    number: u64,
    path: PathBuf,
    files: Vec<FileEntry>,
    published: bool,
}

impl Draft<'_> {
    /// Writes one file, through `write`, and flushes it to the disk.
    ///
    /// # Errors
    /// What `write` or the disk say.
    pub fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut HashingFile) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), CheckpointError> {
        let path = self.path.join(name);
        let file = File::create_new(&path).map_err(CheckpointError::io(&path, "create"))?;
        let mut file = HashingFile { file: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
        write(&mut file)
            .map_err(|error| CheckpointError::io(&path, "write")(std::io::Error::other(error.to_string())))?;
        let HashingFile { file, hash, bytes } = file;
        let file = file.into_inner().map_err(|error| CheckpointError::io(&path, "write")(error.into_error()))?;
        file.sync_all().map_err(CheckpointError::io(&path, "flush"))?;
        self.files.push(FileEntry { name: name.to_owned(), bytes, sha256: hexadecimal(&hash.finalize()) });
        Ok(())
    }

    /// Writes the manifest, made by `manifest` from the list of files, and gives the folder its number.
    ///
    /// # Errors
    /// What the disk says, or that the number is taken.
    pub fn publish(mut self, manifest: impl FnOnce(Vec<FileEntry>) -> Manifest) -> Result<Published, CheckpointError> {
        let manifest = manifest(std::mem::take(&mut self.files));
        let bytes = manifest.files.iter().map(|file| file.bytes).sum();
        self.file(MANIFEST, |file| Ok(file.write_all(manifest.to_text().as_bytes())?))?;
        flush_folder(&self.path)?;
        let path = folder(&self.store.dir, self.number);
        match fs::rename(&self.path, &path) {
            Ok(()) => self.published = true,
            Err(_) if path.exists() => return Err(CheckpointError::Taken { path }),
            Err(source) => return Err(CheckpointError::io(&path, "rename")(source)),
        }
        flush_folder(&self.store.dir)?;
        Ok(Published { path, bytes })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What stays is swept away at the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A checkpoint that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its data files.
    pub bytes: u64,
}

/// A file that is summed up as it is written.
#[derive(Debug)]
pub struct HashingFile {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A checkpoint whose every file is what its manifest says.
#[derive(Debug, Clone)]
pub struct Intact {
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The newest intact checkpoint in `dir`, with what `restore` makes of it; `None` where there is none at all. Each
/// damaged one that is passed over is handed to `passed_over`.
///
/// # Errors
/// Where there are checkpoints but none is intact, or the newest intact one cannot be gone on from.
pub fn newest_intact<T>(
    dir: &Path,
    restore: impl Fn(&Intact) -> Result<T, CheckpointError>,
    mut passed_over: impl FnMut(&CheckpointError),
) -> Result<Option<(Intact, T)>, CheckpointError> {
    let numbers = numbers(dir)?;
    let mut newest = None;
    for number in numbers.iter().rev() {
        let restored = verify(&folder(dir, *number)).and_then(|intact| {
            let restored = restore(&intact)?;
            Ok((intact, restored))
        });
        match restored {
            Ok(found) => return Ok(Some(found)),
            Err(error @ (CheckpointError::Newer { .. } | CheckpointError::OtherConfiguration { .. })) => {
                return Err(error);
            }
            Err(error) => {
                passed_over(&error);
                newest.get_or_insert(error);
            }
        }
    }
    match newest {
        None => Ok(None),
        Some(error) => {
            Err(CheckpointError::NoneIntact { dir: dir.to_owned(), count: numbers.len(), newest: Box::new(error) })
        }
    }
}

/// The checkpoint at `path`: either one itself, or a folder of them, whose newest is taken.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn find(path: &Path) -> Result<Intact, CheckpointError> {
    if path.join(MANIFEST).exists() {
        return verify(path);
    }
    let number = if path.is_dir() { numbers(path)?.last().copied() } else { None };
    match number {
        Some(number) => verify(&folder(path, number)),
        None => Err(CheckpointError::Missing { path: path.to_owned() }),
    }
}

/// Reads the manifest of the checkpoint at `path` and verifies every file against it.
///
/// # Errors
/// The first file that is not what it should be.
pub fn verify(path: &Path) -> Result<Intact, CheckpointError> {
    let manifest_path = path.join(MANIFEST);
    let text = fs::read(&manifest_path).map_err(|error| CheckpointError::damaged(&manifest_path, error))?;
    let manifest = Manifest::from_text(&text).map_err(|fault| match fault {
        ManifestFault::Damaged(problem) => CheckpointError::damaged(&manifest_path, problem),
        ManifestFault::Newer(found) => CheckpointError::Newer { path: path.to_owned(), found, known: FORMAT },
    })?;
    for file in &manifest.files {
        verify_file(&path.join(&file.name), file)?;
    }
    Ok(Intact { path: path.to_owned(), manifest })
}

fn verify_file(path: &Path, entry: &FileEntry) -> Result<(), CheckpointError> {
    // A name from a manifest is data: it must not lead out of the folder.
    if Path::new(&entry.name).components().count() != 1 || entry.name.starts_with('.') {
        return Err(CheckpointError::damaged(path, "the manifest names a file outside the folder"));
    }
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
    if bytes != entry.bytes {
        return Err(CheckpointError::damaged(path, format!("it has {bytes} bytes, not {}", entry.bytes)));
    }
    let found = hexadecimal(&hash.finalize());
    if found != entry.sha256 {
        return Err(CheckpointError::damaged(path, format!("its checksum is {found}, not {}", entry.sha256)));
    }
    Ok(())
}

/// Numbers of the checkpoints in `dir`, ascending; none where there is no such folder.
fn numbers(dir: &Path) -> Result<Vec<u64>, CheckpointError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CheckpointError::io(dir, "list")(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CheckpointError::io(dir, "list"))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            numbers.extend(name.parse::<u64>());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn folder(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}"))
}

fn flush_folder(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(CheckpointError::io(path, "flush the folder"))
}
