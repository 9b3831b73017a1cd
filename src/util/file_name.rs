//! Names of files in their folders.

use std::fs::File;
use std::io;
use std::path::Path;

/// The folder that holds `path`: of a mere name, the current one.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of the file at `path` durable. It lives in the folder: without this a power cut could take it back.
///
/// # Errors
/// Where the folder cannot be opened or flushed.
pub fn sync_name(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
