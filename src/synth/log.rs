//! Writer of a synthetic log as Parquet, in the schema of logs. Streamed: no more than one row group is in memory. The
//! file appears whole or not at all.
//!
//! It deliberately does not read logs (that is the source's), nor write columns that a synthetic event does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, TimestampMillisecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::EventGenerator;
use crate::event::Interaction;
use crate::util::output_file::OutputFile;

/// Rows of a row group.
const ROW_GROUP: usize = 131_072;
/// Rows handed to the writer at a time.
const BATCH: u64 = 8_192;

/// Errors of writing a log.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The Parquet writer failed, for instance because the disk is full.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
}

/// The Arrow schema of a synthetic log.
pub fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("item_id", DataType::Utf8, false),
        Field::new("event_type", DataType::Utf8, false),
        Field::new("timestamp", time, false),
        Field::new("session_id", DataType::Utf8, true),
    ]))
}

/// Writes the next `events` events of `synth` to `path`, which is replaced if it is there. `progress` is told how many
/// are written, every few thousand and at the end.
///
/// # Errors
/// Where the file cannot be written; then nothing is at `path` that was not there before.
pub fn write_parquet(
    synth: &mut EventGenerator,
    events: u64,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), WriteError> {
    let file_error = |source| WriteError::File { path: path.to_owned(), source };
    let parquet_error = |source| WriteError::Parquet { path: path.to_owned(), source };
    let mut output = OutputFile::create(path).map_err(file_error)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_created_by(concat!("negstream ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(&*output.file(), schema(), Some(properties)).map_err(parquet_error)?;
    let mut columns = SyntheticColumns::default();
    let mut written = 0;
    while written < events {
        let rows = BATCH.min(events - written);
        for _ in 0..rows {
            columns.push(&synth.next_event());
        }
        writer.write(&columns.finish()).map_err(parquet_error)?;
        written += rows;
        progress(written);
    }
    writer.close().map_err(parquet_error)?;
    output.finish().map_err(file_error)
}

#[derive(Default)]
struct SyntheticColumns {
    users: StringBuilder,
    items: StringBuilder,
    kinds: StringBuilder,
    times: TimestampMillisecondBuilder,
    sessions: StringBuilder,
}

impl SyntheticColumns {
    fn push(&mut self, event: &Interaction) {
        self.users.append_value(&event.user);
        self.items.append_value(&event.item);
        self.kinds.append_value(&event.kind);
        self.times.append_value(event.timestamp);
        self.sessions.append_option(event.session.as_ref());
    }

    fn finish(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.users.finish()),
            Arc::new(self.items.finish()),
            Arc::new(self.kinds.finish()),
            Arc::new(self.times.finish().with_timezone("UTC")),
            Arc::new(self.sessions.finish()),
        ];
        RecordBatch::try_new(schema(), columns).expect("the columns are built for this schema, in step")
    }
}
