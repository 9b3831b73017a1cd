//! What `checkpoint.dir` names: a folder, or a prefix in an object store.

use std::path::{Path, PathBuf};

use super::number_in;
use crate::checkpoint::CheckpointError;

/// A place for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket(Address),
}

/// A prefix in an object store: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub bucket: String,
    /// Without slashes at its ends.
    pub prefix: String,
}

impl Address {
    /// As in the configuration.
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }

    /// The place, and the number of the checkpoint in it that is meant, where one is.
    pub fn without_number(self) -> (Self, Option<u64>) {
        let (rest, last) = self.prefix.rsplit_once('/').unwrap_or(("", &self.prefix));
        match number_in(last) {
            Some(number) => (Self { bucket: self.bucket.clone(), prefix: rest.to_owned() }, Some(number)),
            None => (self, None),
        }
    }
}

impl Place {
    pub fn parse(dir: &Path) -> Result<Self, CheckpointError> {
        let Some((scheme, rest)) = dir.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(Self::Folder(dir.to_owned()));
        };
        // The message must not repeat what may be a password.
        let refuse = |problem: &str| {
            let dir = PathBuf::from(format!("{scheme}://…"));
            Err(CheckpointError::Place { dir, problem: problem.to_owned() })
        };
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::Folder(PathBuf::from(rest))),
            "file" => refuse("a file URL has three slashes and an absolute path: file:///var/lib/…"),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
                if bucket.contains('@') {
                    return refuse("credentials have no place in it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
                }
                if bucket.is_empty() || rest.contains(['?', '#', '%']) || prefix.contains(&"..") {
                    return refuse("must be s3://BUCKET/PREFIX");
                }
                Ok(Self::Bucket(Address { bucket: bucket.to_owned(), prefix: prefix.join("/") }))
            }
            _ => refuse("this scheme is not known; a path, file:// or s3:// are"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(bucket: &str, prefix: &str) -> Place {
        Place::Bucket(Address { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    #[test]
    fn places() {
        let parse = |text: &str| Place::parse(Path::new(text));
        assert_eq!(parse("a/b").unwrap(), Place::Folder("a/b".into()));
        assert_eq!(parse("file:///a/b").unwrap(), Place::Folder("/a/b".into()));
        assert_eq!(parse("s3://b").unwrap(), bucket("b", ""));
        assert_eq!(parse("s3://b//c/d/").unwrap(), bucket("b", "c/d"));
        for wrong in ["file://a", "s3://", "s3:///c", "s3://b/c?x=y", "s3://b/../c", "gs://b/c"] {
            assert!(matches!(parse(wrong), Err(CheckpointError::Place { .. })), "{wrong}");
        }
        assert!(!parse("s3://key:secret@b/c").unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn one_checkpoint_of_a_bucket() {
        let Place::Bucket(address) = Place::parse(Path::new("s3://b/c/0000000042")).unwrap() else { panic!() };
        assert_eq!(address.url(), "s3://b/c/0000000042");
        let (address, number) = address.without_number();
        assert_eq!((address.url().as_str(), number), ("s3://b/c", Some(42)));
        assert_eq!(address.without_number().1, None);
    }
}
