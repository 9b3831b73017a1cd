//! How files of Parquet are laid out that other programs read.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

/// The name of a list's inner field, as the Parquet format recommends.
pub const ELEMENT: &str = "element";

/// What all tables of vectors have in common: no dictionaries and no statistics, which say nothing of numbers like these.
pub fn vector_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by("negstream".to_owned())
}

/// The same for other programs: the plain encoding, which every reader of Parquet knows, compressed by zstd.
///
/// Vectors whose bytes are split by significance are a tenth smaller, and unreadable to Spark 3 and fastparquet.
pub fn published_properties() -> WriterPropertiesBuilder {
    vector_properties()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a known level")))
        .set_encoding(Encoding::PLAIN)
}
