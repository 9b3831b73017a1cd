//! What `checkpoint.dir` names: a folder, or a prefix in an object store.

use std::path::{Path, PathBuf};

use super::backend::Backend;
use super::local::LocalBackend;
use super::number_in;
#[cfg(feature = "s3")]
use super::object;
use crate::checkpoint::CheckpointConfig;
use crate::checkpoint::CheckpointError;
#[cfg(not(feature = "s3"))]
use crate::util::cargo_feature::CargoFeature;

/// The backend at `dir`: a path, `file:///…` or `s3://BUCKET/PREFIX`. Nothing is asked or created yet.
///
/// # Errors
/// [`CheckpointError::InvalidLocation`] where `dir` or an option in `config` cannot be.
#[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "the options are those of object stores"))]
pub(super) fn backend_at(dir: &Path, config: &CheckpointConfig) -> Result<Box<dyn Backend>, CheckpointError> {
    match split_url(dir) {
        #[cfg(feature = "s3")]
        Some(("s3", rest)) => object::open(rest, config),
        #[cfg(not(feature = "s3"))]
        Some(("s3", _)) => Err(invalid_url(dir, &CargoFeature::S3.missing())),
        _ => match local_path(dir)? {
            Some(dir) => Ok(Box::new(LocalBackend { dir })),
            None => Err(invalid_url(dir, "this scheme is not known; a path, file:// or s3:// are")),
        },
    }
}

/// The path on this machine that `path` names; `None` for a URL of something else.
pub(super) fn local_path(path: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    match split_url(path) {
        None => Ok(Some(path.to_owned())),
        Some(("file", rest)) if rest.starts_with('/') => Ok(Some(PathBuf::from(rest))),
        Some(("file", _)) => {
            Err(invalid_url(path, "a file URL has three slashes and an absolute path: file:///var/lib/…"))
        }
        Some(_) => Ok(None),
    }
}

/// A URL of one checkpoint as the URL of the place that it is in, and its number; any other URL as it is.
pub(super) fn split_number(url: &Path) -> (&Path, Option<u64>) {
    let number = url.file_name().and_then(|name| number_in(name.to_str()?));
    match (url.parent(), number) {
        // A bucket may have a name of ten digits.
        (Some(place), Some(number)) if is_url(place) => (place, Some(number)),
        _ => (url, None),
    }
}

/// Whether `path` is a URL rather than a path of the file system.
pub fn is_url(path: &Path) -> bool {
    split_url(path).is_some()
}

fn split_url(path: &Path) -> Option<(&str, &str)> {
    path.to_str().and_then(|text| text.split_once("://"))
}

/// An error that names the scheme of `url` alone: the rest may be a password.
pub(super) fn invalid_url(url: &Path, problem: &str) -> CheckpointError {
    let scheme = split_url(url).map_or("", |(scheme, _)| scheme);
    CheckpointError::InvalidLocation { dir: PathBuf::from(format!("{scheme}://…")), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_path_reads_paths_and_file_urls() {
        let local = |text: &str| local_path(Path::new(text));
        assert_eq!(local("a/b").unwrap(), Some("a/b".into()));
        assert_eq!(local("file:///a/b").unwrap(), Some("/a/b".into()));
        assert_eq!(local("s3://b/c").unwrap(), None);
        assert!(matches!(local("file://a"), Err(CheckpointError::InvalidLocation { .. })));
    }

    #[test]
    fn backend_at_refuses_unknown_scheme() {
        let config = crate::config::Config::default().checkpoint;
        let error = backend_at(Path::new("gs://key:secret@b/c"), &config).unwrap_err();
        assert!(matches!(error, CheckpointError::InvalidLocation { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn split_number_finds_one_checkpoint_of_a_bucket() {
        let split = |text| split_number(Path::new(text));
        assert_eq!(split("s3://b/c/0000000042"), (Path::new("s3://b/c"), Some(42)));
        assert_eq!(split("s3://b/0000000042"), (Path::new("s3://b"), Some(42)));
        assert_eq!(split("s3://b/c"), (Path::new("s3://b/c"), None));
        assert_eq!(split("s3://0000000042"), (Path::new("s3://0000000042"), None));
    }
}
