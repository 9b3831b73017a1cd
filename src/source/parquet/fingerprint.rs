//! What a log file is known by: its content, so that a moved file is known again and one that changed is another.
//!
//! All of a file counts up to [`WHOLE`] bytes. Of a longer one the beginning of each [`STRIDE`] counts, and the end, where
//! Parquet has its metadata: two logs that differ in a stretch of that length differ in what is looked at.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use crate::util::encoding::hexadecimal;

/// Longest file that is looked at as a whole.
const WHOLE: u64 = 64 << 20;
/// Distance of the places that are looked at in a longer one.
const STRIDE: u64 = 1 << 20;
/// How much is looked at in each place.
const PIECE: u64 = 64 << 10;

/// The names of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprints {
    /// The name of the content.
    pub(super) content: String,
    /// The name that checkpoints of earlier versions know it by, which only the first and the last [`PIECE`] make.
    pub(super) edges: String,
}

/// Reads the fingerprints of a file, and goes back to its beginning.
pub(super) fn fingerprints(file: &mut File) -> io::Result<Fingerprints> {
    let length = file.seek(SeekFrom::End(0))?;
    let last = length.saturating_sub(PIECE);
    let edges = hash(file, length, [0, last].into_iter(), PIECE)?;
    let content = if length <= WHOLE {
        hash(file, length, std::iter::once(0), length)?
    } else {
        hash(file, length, (0..length).step_by(STRIDE as usize).chain([last]), PIECE)?
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(Fingerprints { content, edges })
}

/// The beginning of the SHA-256 of the length and of so many bytes at each of the places.
fn hash(file: &mut File, length: u64, places: impl Iterator<Item = u64>, bytes: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut buffer = vec![0; PIECE as usize];
    for place in places {
        file.seek(SeekFrom::Start(place))?;
        let mut piece = file.by_ref().take(bytes);
        loop {
            match piece.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
    }
    Ok(hexadecimal(&hash.finalize()[..16]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of(bytes: &[u8]) -> Fingerprints {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        fingerprints(&mut file).unwrap()
    }

    #[test]
    fn files_of_the_same_edges_differ() {
        let mut bytes = vec![7_u8; 300_000];
        let before = of(&bytes);
        assert_eq!(of(&bytes), before);
        bytes[150_000] = 8;
        let after = of(&bytes);
        assert_eq!(after.edges, before.edges);
        assert_ne!(after.content, before.content);
    }

    #[test]
    fn long_files_differ_by_stretches() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(WHOLE + 5).unwrap();
        let before = fingerprints(&mut file).unwrap();
        file.seek(SeekFrom::Start(WHOLE / 2 - 10)).unwrap();
        file.write_all(&vec![1; STRIDE as usize]).unwrap();
        let after = fingerprints(&mut file).unwrap();
        assert_eq!(after.edges, before.edges);
        assert_ne!(after.content, before.content);
    }
}
