//! What a log file is known by: its content, so that a moved file is known again and one that changed is another.
//!
//! All of a file counts up to [`WHOLE`] bytes. Of a longer one the beginning of each [`STRIDE`] counts, and the end, where
//! Parquet has its metadata: two logs that differ in a stretch of that length differ in what is looked at.

use std::io;

use sha2::{Digest as _, Sha256};

use super::bytes::LogBytes;
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

/// Reads the fingerprints of a file.
pub(super) fn fingerprints(bytes: &LogBytes) -> io::Result<Fingerprints> {
    let length = bytes.length();
    let last = length.saturating_sub(PIECE);
    let piece = |place: u64| place..(place + PIECE).min(length);
    let mut edges = Hash::of(length);
    for range in [piece(0), piece(last)] {
        edges.update(&bytes.read(range)?);
    }
    let mut content = Hash::of(length);
    if length <= WHOLE {
        bytes.read_each(std::iter::once(0..length), |bytes| content.update(bytes))?;
    } else {
        let places = (0..length).step_by(STRIDE as usize).chain([last]);
        bytes.read_each(places.map(piece), |bytes| content.update(bytes))?;
    }
    Ok(Fingerprints { content: content.name(), edges: edges.name() })
}

/// The SHA-256 of the length and of what is looked at.
struct Hash(Sha256);

impl Hash {
    fn of(length: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(length.to_le_bytes());
        Self(hash)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The beginning of it, as a name.
    fn name(self) -> String {
        hexadecimal(&self.0.finalize()[..16])
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::sync::Arc;

    use super::*;

    fn of_file(file: &Arc<File>) -> Fingerprints {
        let length = file.metadata().unwrap().len();
        fingerprints(&LogBytes::File { file: Arc::clone(file), length }).unwrap()
    }

    fn of(bytes: &[u8]) -> Fingerprints {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        of_file(&Arc::new(file))
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

    /// Positions in checkpoints are of these names: they stay what they are.
    #[test]
    fn names_are_those_of_earlier_versions() {
        let hash = |pieces: &[&[u8]]| {
            let mut hash = Sha256::new();
            pieces.iter().for_each(|piece| hash.update(piece));
            hexadecimal(&hash.finalize()[..16])
        };
        let bytes: Vec<u8> = (0..100_000_u32).map(|place| place as u8).collect();
        let length = 100_000_u64.to_le_bytes();
        let (first, last) = (&bytes[..PIECE as usize], &bytes[100_000 - PIECE as usize..]);
        let Fingerprints { content, edges } = of(&bytes);
        assert_eq!((content, edges), (hash(&[&length, &bytes]), hash(&[&length, first, last])));
    }

    #[test]
    fn long_files_differ_by_stretches() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(WHOLE + 5).unwrap();
        let before = of_file(&file);
        (&*file).seek(SeekFrom::Start(WHOLE / 2 - 10)).unwrap();
        (&*file).write_all(&vec![1; STRIDE as usize]).unwrap();
        let after = of_file(&file);
        assert_eq!(after.edges, before.edges);
        assert_ne!(after.content, before.content);
    }
}
