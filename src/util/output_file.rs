//! Files that somebody names for the output of a command: `--report`, `-o`.
//!
//! | what is at the path | what becomes of it |
//! | --- | --- |
//! | nothing, or a file | the new file takes its place once it is whole; until then, and if the work fails, it stays as it was |
//! | a symbolic link | stays; the same for the file that it leads to |
//! | a device, a pipe, a socket, `/dev/stdout` and its like | is written through, and never replaced: whoever runs as root would take the device from the whole machine |
//! | a folder | refused |
//!
//! Until it is whole a file has a hidden name beside its place, which no other file has.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::encoding::random_id;
use super::file_name::{folder_of, sync_name};

/// An output file in the making. Dropped before [`OutputFile::finish`], it leaves what was at its path as it was.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    /// The hidden name and the final one; `None` where the output is written through.
    unfinished: Option<(PathBuf, PathBuf)>,
}

impl OutputFile {
    /// Begins the output at `path`.
    ///
    /// # Errors
    /// Where a folder is there, or nothing can be made or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let place = match Place::of(path)? {
            Place::Through => {
                let file = OpenOptions::new().append(true).open(path)?;
                return Ok(Self { file, unfinished: None });
            }
            Place::File(place) => place,
        };
        let unfinished = hidden_name(&place)?;
        let file = File::create_new(&unfinished)?;
        if let Ok(before) = fs::metadata(&place) {
            // Whoever could read what was there can read what comes.
            let _ = file.set_permissions(before.permissions());
        }
        Ok(Self { file, unfinished: Some((unfinished, place)) })
    }

    /// Finds out whether [`OutputFile::create`] would succeed, and leaves everything as it was.
    ///
    /// # Errors
    /// Those of [`OutputFile::create`].
    pub fn check(path: &Path) -> io::Result<()> {
        match Place::of(path)? {
            // Opening a pipe would be an event for whoever reads it.
            Place::Through => Ok(()),
            Place::File(_) => Self::create(path).map(drop),
        }
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the file durable, and puts it in its place.
    ///
    /// # Errors
    /// Where the disk refuses; then what was at the path is as it was.
    pub fn finish(mut self) -> io::Result<()> {
        let Some((unfinished, place)) = self.unfinished.take() else { return Ok(()) };
        let done = self.file.sync_all().and_then(|()| fs::rename(&unfinished, &place));
        done.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        sync_name(&place)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((unfinished, _)) = &self.unfinished {
            // Nothing is lost if it cannot be removed: it is hidden and says that it is unfinished.
            let _ = fs::remove_file(unfinished);
        }
    }
}

/// Where output goes.
enum Place {
    /// To a file at this path, which is no link.
    File(PathBuf),
    /// Through whatever is there.
    Through,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        // `/dev/stdout` may lead to a file that a shell has opened, and goes on writing to.
        let is_of_the_system = ["/dev", "/proc", "/sys"].iter().any(|system| path.starts_with(system));
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")),
            Ok(there) if !there.is_file() || is_of_the_system => Ok(Self::Through),
            Ok(_) => Ok(Self::File(fs::canonicalize(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::File(end_of_links(path))),
            Err(error) => Err(error),
        }
    }
}

/// The path that a link to nothing leads to; any other path as it is.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

fn hidden_name(place: &Path) -> io::Result<PathBuf> {
    let name = place.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.unfinished", &random_id()[..8]));
    Ok(place.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let mut output = OutputFile::create(path)?;
        output.file().write_all(text.as_bytes())?;
        output.finish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn file_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        fs::write(folder.path().join("r.unfinished"), "a neighbour's").unwrap();
        OutputFile::check(&path).unwrap();
        write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut second = OutputFile::create(&path).unwrap();
        second.file().write_all(b"half").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(folder.path()), ["r.json", "r.unfinished"]);
        assert_eq!(fs::read_to_string(folder.path().join("r.unfinished")).unwrap(), "a neighbour's");
    }

    #[test]
    fn links_are_followed_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        for (name, target) in [("link", "other/there"), ("dangling", "other/missing")] {
            let link = folder.path().join(name);
            symlink(target, &link).unwrap();
            if name == "link" {
                fs::write(other.join("there"), "old").unwrap();
            }
            write(&link, name).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{name}");
            assert_eq!(fs::read_to_string(folder.path().join(target)).unwrap(), name);
        }
        assert_eq!(names(&other), ["missing", "there"]);
    }

    #[test]
    fn what_is_no_file_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            OutputFile::check(path).unwrap();
            write(path, "gone").unwrap();
        }
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let full = write(Path::new("/dev/full"), "too much").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(write(folder.path(), "text").is_err(), "a folder");
        assert!(write(&folder.path().join("missing/r"), "text").is_err(), "no such folder");
        assert_eq!(names(folder.path()), ["null"]);
    }
}
