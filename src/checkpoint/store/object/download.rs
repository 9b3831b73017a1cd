//! The folder that a checkpoint is downloaded to, removed once nobody reads it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::util::encoding::random_id;

/// Where a folder is made if `TMPDIR` (or `/tmp`) cannot be written: the root of a container often cannot. The last of these is
/// memory.
const OTHER_PLACES: [&str; 3] = ["/var/tmp", ".", "/dev/shm"];

/// A folder of this process alone, below `TMPDIR`; removed when dropped.
#[derive(Debug)]
pub(super) struct DownloadFolder(pub PathBuf);

impl DownloadFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// Where it can be made nowhere; the error says where it was tried, and what can be done.
    pub fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir(), &OTHER_PLACES)
    }

    fn below(first: &Path, others: &[&str]) -> io::Result<Self> {
        let name = format!("negstream-{}", random_id());
        // Other users of the machine must not read the model.
        let make = |place: &Path| -> io::Result<Self> {
            let path = place.join(&name);
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            Ok(Self(path))
        };
        let refused = match make(first) {
            Ok(made) => return Ok(made),
            Err(refused) => refused,
        };
        for place in others {
            if let Ok(made) = make(Path::new(place)) {
                tracing::debug!(refused = %first.display(), folder = %made.0.display(), "temporary folder elsewhere");
                return Ok(made);
            }
        }
        let message = format!(
            "no temporary folder can be made: {}: {refused}, nor in {}; set TMPDIR to a folder that can be written and has room \
             for one checkpoint",
            first.display(),
            others.join(", ")
        );
        Err(io::Error::new(refused.kind(), message))
    }
}

impl Drop for DownloadFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_made_where_it_can_be_and_the_error_says_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let nowhere = place.path().join("missing");
        let other = place.path().to_str().unwrap();
        let made = DownloadFolder::below(&nowhere, &["/proc/none", other]).unwrap();
        assert_eq!(made.0.parent(), Some(place.path()));
        let path = made.0.clone();
        drop(made);
        assert!(!path.exists());
        let error = DownloadFolder::below(&nowhere, &["/proc/none"]).unwrap_err().to_string();
        assert!(error.contains("set TMPDIR") && error.contains("missing"), "{error}");
    }
}
