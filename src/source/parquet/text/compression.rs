//! Text logs that are compressed as a whole: known by their first bytes, and undone while they are read.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use zstd::stream::read::Decoder;

use crate::source::parquet::bytes::{At, LogBytes};

/// How much of a log is read at a time, compressed or not.
const BUFFER: usize = 1 << 18;

/// How a text log is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TextCompression {
    None,
    Gzip,
    Zstd,
    Lz4,
}

impl TextCompression {
    /// How a file is compressed that begins so.
    pub(in super::super) fn of(begin: &[u8]) -> Self {
        match begin {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            _ => Self::None,
        }
    }

    /// Its name, in words; empty where there is none.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// What the file holds, from its beginning on, in as many bytes as it had when it was opened.
    pub(super) fn open(self, bytes: &LogBytes) -> io::Result<Box<dyn BufRead + Send>> {
        let raw = BufReader::with_capacity(BUFFER, At::beginning(bytes).take(bytes.length()));
        Ok(match self {
            Self::None => Box::new(raw),
            Self::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))),
            Self::Zstd => Box::new(BufReader::with_capacity(BUFFER, Decoder::with_buffer(raw)?)),
            Self::Lz4 => Box::new(BufReader::with_capacity(BUFFER, FrameDecoder::new(raw))),
        })
    }
}
