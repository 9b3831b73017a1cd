//! The bytes of a log, wherever it lies: read at a place, without a position that readers would share.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::Cause;
#[cfg(feature = "s3")]
use crate::remote::file::RemoteFile;

/// How much of a log is read at a time where all of it is.
const PIECE: u64 = 4 << 20;
/// How much is read at a time where little is needed, such as the head of a page.
const LITTLE: usize = 8 << 10;

/// Where a log lies.
#[derive(Debug, Clone)]
pub(super) enum LogPlace {
    /// On this machine, under its path.
    Disk,
    /// On this machine, without a name: a copy of what cannot be read by ranges.
    #[cfg(feature = "http")]
    Copy(Arc<File>),
    /// On another machine.
    #[cfg(feature = "s3")]
    Remote(RemoteFile),
}

impl LogPlace {
    /// Opens the log, which has that path if it has one.
    pub(super) fn open(&self, path: &Path) -> io::Result<LogBytes> {
        let of_file = |file: Arc<File>| Ok(LogBytes::File { length: file.metadata()?.len(), file });
        match self {
            Self::Disk => of_file(Arc::new(File::open(path)?)),
            #[cfg(feature = "http")]
            Self::Copy(file) => of_file(Arc::clone(file)),
            #[cfg(feature = "s3")]
            Self::Remote(file) => Ok(LogBytes::Remote(file.clone())),
        }
    }

    /// The cause of an error that `said` tells of, in the words of where it comes from: the reader of Parquet wraps others'.
    pub(super) fn cause(&self, said: Cause) -> Cause {
        match self {
            Self::Disk => said,
            #[cfg(feature = "http")]
            Self::Copy(_) => said,
            #[cfg(feature = "s3")]
            Self::Remote(file) => file.take_failure().map_or(said, Into::into),
        }
    }
}

/// The bytes of a log. Clones are the same log.
#[derive(Debug, Clone)]
pub(super) enum LogBytes {
    /// On this machine.
    File {
        file: Arc<File>,
        /// The length when the file was opened.
        length: u64,
    },
    /// On another machine.
    #[cfg(feature = "s3")]
    Remote(RemoteFile),
}

impl LogBytes {
    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            #[cfg(feature = "s3")]
            Self::Remote(file) => file.length(),
        }
    }

    /// The bytes of a short range.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        At { bytes: self.clone(), place: range.start }.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Hands over the bytes of ranges of any length, in their order, piece by piece.
    pub(super) fn read_each(
        &self,
        ranges: impl Iterator<Item = Range<u64>>,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let pieces = ranges.flat_map(|Range { start, end }| {
            (start..end).step_by(PIECE as usize).map(move |place| place..(place + PIECE).min(end))
        });
        match self {
            Self::File { .. } => {
                for piece in pieces {
                    take(&self.read(piece)?);
                }
                Ok(())
            }
            #[cfg(feature = "s3")]
            Self::Remote(file) => file.fetch_each(pieces, take),
        }
    }

    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.read_at(buffer, place),
            #[cfg(feature = "s3")]
            Self::Remote(file) => file.read_at(place, buffer),
        }
    }
}

/// The bytes of a log from a place on.
#[derive(Debug)]
pub(super) struct At {
    bytes: LogBytes,
    place: u64,
}

impl At {
    /// The bytes from the first one on.
    pub(super) fn beginning(bytes: &LogBytes) -> Self {
        Self { bytes: bytes.clone(), place: 0 }
    }
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(self.place, buffer)?;
        self.place += read as u64;
        Ok(read)
    }
}

impl Length for LogBytes {
    fn len(&self) -> u64 {
        self.length()
    }
}

impl ChunkReader for LogBytes {
    type T = BufReader<At>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::with_capacity(LITTLE, At { bytes: self.clone(), place: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.length());
        // What a damaged file says of itself is no reason to ask for so much memory.
        let end = end.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} reach beyond the end")))?;
        Ok(self.read(start..end)?.into())
    }
}
