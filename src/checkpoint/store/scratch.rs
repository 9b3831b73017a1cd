//! A folder for what is fetched from an object store, gone once it is not needed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

/// A folder of this process alone, below `TMPDIR`; removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("negstream-{}", super::unique()));
        // What is in a model is nobody else's business.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
