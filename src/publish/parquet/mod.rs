//! A sink in files of Parquet: a folder, or a prefix of an object store, of which one line of SQL makes the table.
//!
//! Every update is a file with the rows that it brings, those that went among them, under the next number. A full update begins
//! a new epoch, and rows of older epochs count no more, whether their files are gone yet or not. So that there are never many
//! files, neighbouring ones are merged into one under a new number; the old ones are removed, oldest first, so that at
//! every moment the newest row of each item is among what is there.

mod file;
mod merge;
mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
#[cfg(feature = "s3")]
use std::time::Duration;

use self::file::{FileHead, FileRow, FileWriter};
use self::place::{FilePlace, HiddenFile};
use super::{
    EmbeddingSink, ItemRow, OwnOptions, RowPart, SinkConfig, SinkError, SinkOptions, SinkState, StoredRow, Update,
    UpdateKind, Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;
use crate::util::encoding::random_id;
use crate::util::storage_options::{redact_options, validate_options};

const NAME: &str = "parquet";
config_section! {
    /// What only `parquet` knows.
    pub struct ParquetOptions {
        /// How many files there may be before neighbouring ones are merged.
        files: usize = 32 => [within(2..=10_000)];
        /// Milliseconds until an object store must begin to answer.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
        /// Options of the object store, over those of the environment.
        storage_options: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_options), check(|options, _| validate_options(options))];
    }
}

impl Component for ParquetOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Files of Parquet that one line of SQL merges; its target is a folder or s3://BUCKET/PREFIX, its name a folder in it.";
}

impl OwnOptions for ParquetOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(ParquetSink::open(&config.common, &self)?))
    }
}

/// A file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShownFile {
    number: u64,
    n_rows: usize,
}

/// The update that is under way.
#[derive(Debug)]
struct ParquetUpdate {
    kind: UpdateKind,
    version: Version,
    number: u64,
    writer: FileWriter,
    hidden: HiddenFile,
    /// Files that a full update makes obsolete.
    obsolete: Vec<u64>,
}

/// The sink.
#[derive(Debug)]
pub struct ParquetSink {
    place: FilePlace,
    replace: bool,
    most_files: usize,
    /// Begins the names of this writer's files, which nobody else's have.
    writer: String,
    n_written: u64,
    committed: Option<FileHead>,
    /// The files of the committed epoch, ascending.
    files: Vec<ShownFile>,
    /// Files whose rows are in newer ones, or of an older epoch, and that are still to be deleted, ascending. Until they are, nothing
    /// is merged: the removal of an item could be forgotten, and an older row of it come back.
    obsolete: Vec<u64>,
    update: Option<ParquetUpdate>,
}

impl ParquetSink {
    /// A sink as it is configured; nothing is read or made yet.
    ///
    /// # Errors
    /// Where its target is no folder and no object store that is known, or an option is refused.
    pub fn open(common: &SinkOptions, own: &ParquetOptions) -> Result<Self, SinkError> {
        let name = common.name_or("vectors");
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_/".contains(c);
        if !name.chars().all(is_name) || name.split('/').any(|part| ["", ".", ".."].contains(&part)) {
            return Err(SinkError::refused(
                NAME,
                "its name is a folder in its target: letters, digits, '-', '_' and '.'",
            ));
        }
        let place = match common.target.split_once("://") {
            None if common.target.is_empty() => {
                return Err(SinkError::refused(NAME, "it has no target: a folder, or s3://BUCKET/PREFIX"));
            }
            None => FilePlace::Folder(PathBuf::from(&common.target).join(name)),
            Some(("file", path)) if path.starts_with('/') => FilePlace::Folder(PathBuf::from(path).join(name)),
            Some(("s3", location)) => bucket(location, name, own)?,
            Some(_) => {
                return Err(SinkError::refused(
                    NAME,
                    "its target must be a folder, file:///FOLDER or s3://BUCKET/PREFIX",
                ));
            }
        };
        Ok(Self {
            place,
            replace: common.replace,
            most_files: own.files,
            writer: random_id(),
            n_written: 0,
            committed: None,
            files: Vec::new(),
            obsolete: Vec::new(),
            update: None,
        })
    }

    fn refused(&self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SinkError {
        SinkError::refused(NAME, reason)
    }

    /// The newest file's head, and the numbers of all files.
    fn held(&self) -> Result<(Option<FileHead>, Vec<u64>), SinkError> {
        loop {
            let numbers = self.place.numbers()?;
            let Some(newest) = numbers.last() else { return Ok((None, numbers)) };
            // One that was listed may have been merged into another since.
            if let Some((head, ..)) = self.place.open(*newest)? {
                return Ok((Some(head), numbers));
            }
        }
    }

    fn check(&self, update: &Update<'_>, held: Option<&FileHead>) -> Result<(), SinkError> {
        let Some(held) = held else { return Ok(()) };
        let Update { kind, version, dim, model_id } = *update;
        let elsewhere = "set replace = true, or choose another name";
        if !(self.replace && kind == UpdateKind::Full) {
            if held.model_id != model_id {
                let held = &held.model_id;
                let problem = format!("it holds vectors of another model, {held}, not of {model_id}; {elsewhere}");
                return Err(self.refused(problem));
            }
            if held.dim != dim {
                let problem = format!("it holds vectors of dimension {}, not {dim}; {elsewhere}", held.dim);
                return Err(self.refused(problem));
            }
        }
        // Of two full updates in one epoch, readers could not tell the rows apart.
        if version <= held.version() || kind == UpdateKind::Full && version.epoch == held.epoch {
            return Err(self.refused(format!("it holds a version that is not older: {}", held.version())));
        }
        Ok(())
    }

    /// A file that is not seen yet, with the name that nobody else's has.
    fn begin_file(&mut self, mut head: FileHead) -> Result<(HiddenFile, FileWriter), SinkError> {
        self.n_written += 1;
        head.writer = format!("{}-{}", self.writer, self.n_written);
        let hidden = self.place.hidden()?;
        let file = hidden.file.try_clone().map_err(|error| SinkError::away(NAME, error))?;
        let writer = FileWriter::begin(file, head).map_err(sink_error)?;
        Ok((hidden, writer))
    }

    /// Ends a file, and shows it.
    fn show(&self, hidden: HiddenFile, writer: FileWriter, number: u64) -> Result<(FileHead, ShownFile), SinkError> {
        let (_, head, n_rows) = writer.finish().map_err(sink_error)?;
        if self.place.show(hidden, number, &head.writer)? {
            return Ok((head, ShownFile { number, n_rows }));
        }
        let (held, _) = self.held()?;
        let version = held.map(|held| held.version()).unwrap_or_default();
        Err(self.refused(format!("another worker has written since: it holds a version that is not older: {version}")))
    }

    fn write(&mut self, rows: Vec<FileRow>) -> Result<(), SinkError> {
        let Some(update) = &mut self.update else { return Err(self.refused("no update was begun")) };
        let written = update.writer.write(&rows).map_err(sink_error);
        if written.is_err() {
            self.update = None;
        }
        written
    }

    fn version(&self) -> Result<Version, SinkError> {
        self.update.as_ref().map(|update| update.version).ok_or_else(|| self.refused("no update was begun"))
    }
}

#[cfg(feature = "s3")]
fn bucket(location: &str, name: &str, own: &ParquetOptions) -> Result<FilePlace, SinkError> {
    use crate::remote::bucket::ObjectBucket;
    use crate::remote::client::RemoteClient;
    use crate::remote::stores::{self, StoreKind};

    let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
    if crate::util::credentials::may_hold_credentials(location) || bucket.is_empty() {
        let message =
            "its target must be s3://BUCKET/PREFIX; credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        return Err(SinkError::refused(NAME, message));
    }
    let timeout = Duration::from_millis(own.timeout_ms);
    let store = stores::s3(bucket, &own.storage_options, timeout).map_err(|error| SinkError::refused(NAME, error))?;
    let client = RemoteClient::start(timeout).map_err(|error| SinkError::refused(NAME, error))?;
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { format!("{name}/") } else { format!("{prefix}/{name}/") };
    Ok(FilePlace::Bucket(ObjectBucket::new(client, store, StoreKind::S3), prefix))
}

#[cfg(not(feature = "s3"))]
fn bucket(_: &str, _: &str, _: &ParquetOptions) -> Result<FilePlace, SinkError> {
    Err(SinkError::refused(NAME, crate::util::cargo_feature::CargoFeature::S3.missing()))
}

/// An error of a file, as one of the sink: its disk may be full, for one.
fn sink_error(error: parquet::errors::ParquetError) -> SinkError {
    match error {
        parquet::errors::ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(error) => place::on_disk(&std::env::temp_dir())(*error),
            Err(cause) => SinkError::away(NAME, cause),
        },
        error => SinkError::away(NAME, error),
    }
}

impl EmbeddingSink for ParquetSink {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        let (held, _) = self.held()?;
        Ok(held.map(|held| SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read_part(RowPart::WHOLE, visit)
    }

    fn read_part(&mut self, part: RowPart, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        let (Some(held), numbers) = self.held()? else { return Ok(None) };
        let mut rows: BTreeMap<String, FileRow> = BTreeMap::new();
        for number in numbers {
            let Some((head, _, of_file)) = self.place.open(number)? else {
                return Err(SinkError::away(NAME, "files were merged while they were read; read again"));
            };
            if head.epoch != held.epoch {
                continue;
            }
            for row in of_file {
                for row in row.map_err(sink_error)? {
                    if !part.holds(row.item_id.as_bytes()) {
                        continue;
                    }
                    let row = match rows.remove(&row.item_id) {
                        Some(older) if older.version > row.version => older,
                        Some(older) => row.over(older),
                        None => row,
                    };
                    rows.insert(row.item_id.clone(), row);
                }
            }
        }
        for FileRow { item_id, embedding, log_frequency, version } in rows.into_values() {
            if let (Some(embedding), Some(log_frequency)) = (embedding, log_frequency) {
                visit(StoredRow { item_id, embedding, log_frequency, version });
            }
        }
        Ok(Some(SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        self.update = None;
        let numbers = self.place.numbers()?;
        let is_mine = numbers.last().copied() == self.files.last().map(|file| file.number);
        let (held, numbers) = match self.committed.clone() {
            Some(head) if is_mine => (Some(head), numbers),
            _ => self.held()?,
        };
        self.check(update, held.as_ref())?;
        if update.kind == UpdateKind::Delta && !(is_mine && held.is_some()) {
            return Err(SinkError::away(
                NAME,
                "it does not hold the update before this one; a full update makes it whole",
            ));
        }
        let Update { kind, version, dim, model_id } = *update;
        let head = FileHead {
            model_id: model_id.to_owned(),
            dim,
            epoch: version.epoch,
            step: version.step,
            whole: kind == UpdateKind::Full,
            writer: String::new(),
        };
        let (hidden, writer) = self.begin_file(head)?;
        let number = numbers.last().map_or(0, |newest| newest + 1);
        let obsolete = if kind == UpdateKind::Full { numbers } else { Vec::new() };
        self.update = Some(ParquetUpdate { kind, version, number, writer, hidden, obsolete });
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let version = self.version()?;
        let gone =
            |item_id: &&str| FileRow { item_id: (*item_id).to_owned(), embedding: None, log_frequency: None, version };
        self.write(item_ids.iter().map(gone).collect())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let version = self.version()?;
        let row = |row: &ItemRow<'_>| FileRow {
            item_id: row.item_id.to_owned(),
            embedding: Some(row.embedding.to_vec()),
            log_frequency: Some(row.log_frequency),
            version,
        };
        self.write(rows.iter().map(row).collect())
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let version = self.version()?;
        let moved = |(item_id, log_frequency): &(&str, f32)| FileRow {
            item_id: (*item_id).to_owned(),
            embedding: None,
            log_frequency: Some(*log_frequency),
            version,
        };
        self.write(popularity.iter().map(moved).collect())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let update = self.update.take().ok_or_else(|| self.refused("no update was begun"))?;
        let ParquetUpdate { kind, number, writer, hidden, obsolete, .. } = update;
        let (head, file) = self.show(hidden, writer, number)?;
        self.committed = Some(head);
        if kind == UpdateKind::Full {
            self.files.clear();
        }
        self.files.push(file);
        // The update is seen; what is tidied afterwards can be tidied the next time.
        if kind == UpdateKind::Full {
            self.obsolete = obsolete;
        }
        let mut tidied = self.remove_obsolete();
        if tidied.is_ok() && self.files.len() > self.most_files {
            tidied = self.merge();
        }
        if let Err(error) = tidied {
            tracing::warn!(%error, "files of a sink are tidied up later");
        }
        Ok(())
    }
}
