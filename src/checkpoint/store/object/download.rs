//! The folder that a checkpoint is downloaded to, removed once nobody reads it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::util::encoding::random_id;

/// A folder of this process alone, below `TMPDIR`; removed when dropped.
#[derive(Debug)]
pub(super) struct DownloadFolder(pub PathBuf);

impl DownloadFolder {
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("negstream-{}", random_id()));
        // Other users of the machine must not read the model.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for DownloadFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
