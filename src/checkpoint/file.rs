//! Files of a checkpoint as they lie on a disk: whether they can be read at all, and never more of them than they may have.
//!
//! A folder that anybody can write to may hold anything under the name of a file: a pipe that nobody writes to, a device
//! without an end, a terabyte of nothing. All of these are damage, and are known for it before a byte is read.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::CheckpointError;

/// Opens the file at `path`, which must be a regular one, and tells its size.
///
/// # Errors
/// [`CheckpointError::Damaged`] where it is missing, or no regular file; [`CheckpointError::Io`] where it cannot be read.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), CheckpointError> {
    let unreadable = |error| CheckpointError::unreadable(path, error);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(CheckpointError::damaged(path, "it is no regular file"));
    }
    Ok((File::open(path).map_err(unreadable)?, metadata.len()))
}

/// Reads the file at `path`, which has `most` bytes at most.
///
/// # Errors
/// Those of [`open_regular`], and [`CheckpointError::Damaged`] where the file is longer.
pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, CheckpointError> {
    let (file, size) = open_regular(path)?;
    let mut bytes = Vec::new();
    if size <= most {
        file.take(most + 1).read_to_end(&mut bytes).map_err(|error| CheckpointError::unreadable(path, error))?;
        if bytes.len() as u64 <= most {
            return Ok(bytes);
        }
    }
    Err(CheckpointError::damaged(path, format!("it has {size} bytes, more than any such file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_file_of_that_size_is_damage_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("short"), "1234").unwrap();
        assert_eq!(read_bounded(&path("short"), 4).unwrap(), b"1234");
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("long"), "12345").unwrap();
        for name in ["sparse", "endless", "folder", "long", "missing", "short/inner"] {
            let error = read_bounded(&path(name), 4).unwrap_err();
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn what_the_system_refuses_is_no_damage() {
        for (code, is_damage) in [(2, true), (20, true), (5, false), (13, false), (24, false), (116, false)] {
            let error = CheckpointError::unreadable("a", std::io::Error::from_raw_os_error(code));
            assert_eq!(error.permits_fallback(), is_damage, "{error}");
        }
    }
}
