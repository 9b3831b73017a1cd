//! Files without a name: nothing of them is left behind, whatever happens.

use std::fs::{File, OpenOptions};
use std::io;

use super::encoding::random_id;

/// Opens a file of this process alone, in the folder for temporary files.
///
/// # Errors
/// What the operating system says.
pub fn nameless_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!(".negstream-{}", random_id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
