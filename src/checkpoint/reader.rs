//! A checkpoint that is there, for everybody to read: its manifest, and the embeddings of its items.

use std::any::Any;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::types::{Float32Type, TimestampMillisecondType};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use super::columns;
use super::file::open_regular;
use super::manifest::{FORMAT, FileEntry, MANIFEST, Manifest, ManifestFault};
use super::store;
use crate::checkpoint::CheckpointConfig;
use crate::util::encoding::hexadecimal;

/// The file of a checkpoint that holds the embeddings of its items.
pub const ITEMS: &str = "items.parquet";

/// A checkpoint, read-only. Size and SHA-256 of each of its files were compared with its manifest when it was opened.
///
/// ```no_run
/// # fn main() -> Result<(), negstream::checkpoint::CheckpointError> {
/// use negstream::checkpoint::Checkpoint;
///
/// let checkpoint = Checkpoint::open("checkpoints")?;
/// println!("{} items of {} dimensions", checkpoint.manifest().items, checkpoint.manifest().dim);
/// for item in checkpoint.items()? {
///     let item = item?;
///     println!("{} {:?}", item.id, item.embedding);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    folder: PathBuf,
    manifest: Manifest,
    /// A downloaded copy is removed once nobody reads it any more.
    _keep_alive: Option<Arc<dyn Any + Send + Sync>>,
}

/// An item of a checkpoint, as an index serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemEmbedding {
    /// The item's name.
    pub id: String,
    /// The embedding, of [`Manifest::dim`] numbers; of norm 1 where the model compares by cosine.
    pub embedding: Vec<f32>,
    /// Natural logarithm of the item's share in the stream's recent events. An index serves it as one more dimension,
    /// which the score of a query weighs with [`Manifest::beta`].
    pub log_frequency: f32,
    /// Events that named the item.
    pub count: u64,
    /// Time of the last of these events, in milliseconds since 1970 UTC.
    pub last_event_ms: i64,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`, which is either itself one or a place for checkpoints, whose newest is taken: a path,
    /// `file:///…` or `s3://BUCKET/PREFIX`. An object store takes its options from the environment (`AWS_…`).
    ///
    /// # Errors
    /// [`CheckpointError::Missing`] where there is none, [`CheckpointError::Damaged`] where a file is not what the manifest
    /// says, [`CheckpointError::OtherFormat`] where another version wrote it; what disk or object store say.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_with(path, &CheckpointConfig::default())
    }

    /// Opens the checkpoint at `path` as [`Self::open`] does, with `config`'s options of object stores.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_with(path: impl AsRef<Path>, config: &CheckpointConfig) -> Result<Self, CheckpointError> {
        store::find(path.as_ref(), config)
    }

    /// Opens the checkpoint whose manifest is in the folder `path`.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_folder(path: &Path) -> Result<Self, CheckpointError> {
        let manifest = store::manifest_in(path)?;
        for entry in &manifest.files {
            verify_file(&path.join(&entry.name), entry)?;
        }
        Ok(Self::verified(path.to_owned(), path.to_owned(), manifest, None))
    }

    /// A checkpoint that is called `path`, whose files are in `folder` and were compared with `manifest`. `folder` stays
    /// for as long as `keep_alive` does.
    pub fn verified(
        path: PathBuf,
        folder: PathBuf,
        manifest: Manifest,
        keep_alive: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Self {
        Self { path, folder, manifest, _keep_alive: keep_alive }
    }

    /// Its folder, or its address in an object store: what people call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder on this machine in which its files can be read, for as long as this checkpoint is not dropped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its manifest: what the model is, where the sources stood, and the list of files.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The items, in the order of their rows. Memory holds some thousands of them at a time.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] where the file is not Parquet after all or a column is missing, here or at any item.
    pub fn items(
        &self,
    ) -> Result<impl Iterator<Item = Result<ItemEmbedding, CheckpointError>> + use<>, CheckpointError> {
        let dim = self.manifest.dim;
        let slices = columns::ColumnSlices::open(&self.folder, ITEMS)?;
        Ok(slices.flat_map(move |slice| match slice.and_then(|slice| embeddings(&slice, dim)) {
            Ok(items) => items.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }))
    }

    /// The batches of `items.parquet`, with the columns that docs/checkpoints.md lists.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] where the file is not Parquet after all, here or at any batch.
    pub fn item_batches(
        &self,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, CheckpointError>> + use<>, CheckpointError> {
        let slices = columns::ColumnSlices::open(&self.folder, ITEMS)?;
        Ok(slices.map(|slice| slice.map(columns::ColumnSlice::into_batch)))
    }

    /// `error` with the path by which people know the file, where it names a downloaded copy.
    pub(super) fn with_public_path(&self, error: CheckpointError) -> CheckpointError {
        match error {
            CheckpointError::Damaged { path, problem } => match path.strip_prefix(&self.folder) {
                Ok(inner) if inner.as_os_str().is_empty() => {
                    CheckpointError::Damaged { path: self.path.clone(), problem }
                }
                Ok(inner) => CheckpointError::Damaged { path: self.path.join(inner), problem },
                Err(_) => CheckpointError::Damaged { path, problem },
            },
            error => error,
        }
    }
}

fn embeddings(slice: &columns::ColumnSlice, dim: usize) -> Result<Vec<ItemEmbedding>, CheckpointError> {
    let ids = slice.strings("item_id")?;
    let vectors = slice.served_vectors("embedding", dim)?;
    let log_frequencies = slice.primitives::<Float32Type>("log_frequency")?;
    let counts = slice.counts("count")?;
    let times = slice.primitives::<TimestampMillisecondType>("last_event")?;
    let item = |(row, vector): (usize, &[f32])| ItemEmbedding {
        id: ids.value(row).to_owned(),
        embedding: vector.to_vec(),
        log_frequency: log_frequencies[row],
        count: counts[row],
        last_event_ms: times[row],
    };
    Ok(vectors.chunks_exact(dim).enumerate().map(item).collect())
}

/// The manifest of the checkpoint at `path`, from its text.
pub(super) fn manifest_from(text: &[u8], path: &Path) -> Result<Manifest, CheckpointError> {
    Manifest::from_text(text).map_err(|fault| match fault {
        ManifestFault::Damaged(problem) => CheckpointError::damaged(path.join(MANIFEST), problem),
        ManifestFault::OtherFormat(found) => {
            CheckpointError::OtherFormat { path: path.to_owned(), found, known: FORMAT }
        }
    })
}

/// Whether the file of `entry` is in the checkpoint's own folder: a name from a manifest is data, and must not lead out.
pub(super) fn check_name(entry: &FileEntry, path: &Path) -> Result<(), CheckpointError> {
    if Path::new(&entry.name).components().count() != 1 || entry.name.starts_with('.') {
        return Err(CheckpointError::damaged(path, "the manifest names a file outside the folder"));
    }
    Ok(())
}

fn verify_file(path: &Path, entry: &FileEntry) -> Result<(), CheckpointError> {
    check_name(entry, path)?;
    let (file, size) = open_regular(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    if size != entry.bytes {
        return check_sum(path, entry, size, hash);
    }
    // It may grow meanwhile.
    let mut file = file.take(entry.bytes.saturating_add(1));
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| CheckpointError::unreadable(path, error))?,
        };
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    check_sum(path, entry, bytes, hash)
}

/// Whether size and hash of what was read are those of `entry`.
pub(super) fn check_sum(path: &Path, entry: &FileEntry, bytes: u64, hash: Sha256) -> Result<(), CheckpointError> {
    if bytes != entry.bytes {
        return Err(CheckpointError::damaged(path, format!("it has {bytes} bytes, not {}", entry.bytes)));
    }
    let found = hexadecimal(&hash.finalize());
    if found != entry.sha256 {
        return Err(CheckpointError::damaged(path, format!("its checksum is {found}, not {}", entry.sha256)));
    }
    Ok(())
}
