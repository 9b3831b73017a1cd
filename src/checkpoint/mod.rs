//! \[7\] Checkpoints: durable state, in folders that appear whole or not at all.
//!
//! ```text
//! DIR/0000000042/manifest.json    what it is, where the sources stand, sizes and checksums of the other files
//! DIR/0000000042/items.parquet    the embeddings, for everybody
//! DIR/0000000042/…                whatever else is needed to go on as if never stopped
//! ```
//!
//! | step | what makes it durable |
//! | --- | --- |
//! | data files are written under a temporary name of the folder | each is flushed to the disk |
//! | the manifest is written, the last file of the folder | it and the folder are flushed |
//! | the folder gets its number | renaming fails where that number is taken; the parent folder is flushed |
//!
//! In an object store the same holds with other means (`store`); docs/checkpoints.md has both side by side.
//!
//! So a folder with a number holds a complete checkpoint, and whatever dies before leaves only a temporary name, which
//! the next start sweeps away. Reading verifies every size and checksum over the bytes before anything is parsed:
//! Parquet itself would hand out altered pages without a word.

pub mod columns;
mod config;
mod error;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub(crate) mod file;
#[cfg(not(feature = "failpoints"))]
mod failpoint {
    //! Without the feature `failpoints` no step of a checkpoint fails on request.

    /// A worker is at a step of a checkpoint.
    #[expect(clippy::unnecessary_wraps, reason = "with the feature `failpoints` the step may be refused")]
    pub(super) fn reach(_step: &str) -> std::io::Result<()> {
        Ok(())
    }
}
pub mod manifest;
pub mod reader;
pub mod store;

pub use config::{CheckpointConfig, EmbeddingType};
pub use error::CheckpointError;
pub use reader::{Checkpoint, ItemEmbedding};
