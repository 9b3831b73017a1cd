//! Changes of files: bits, bytes and numbers that hurt, pieces cut out, doubled, and taken from elsewhere.

/// Draws changes; the same for the same seed and target.
pub struct Changes(u64);

/// Numbers at which something ends.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, 1 << 63, u64::MAX];

impl Changes {
    pub fn new(seed: u64, target: &str) -> Self {
        Self(target.bytes().fold(seed, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into())))
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A piece of `bytes`: where it begins and ends.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let begin = self.below(bytes.len() + 1);
        let bound = if self.next().is_multiple_of(4) { bytes.len() + 1 } else { 9 };
        let length = self.below(bound);
        begin..(begin + length).min(bytes.len())
    }

    /// One of the files, changed in a few places.
    pub fn of(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            match self.next() % 9 {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 if !bytes.is_empty() => bytes[at] = EDGES[self.below(5)] as u8,
                3 => {
                    // A number in place, of any width and either end first.
                    let number = EDGES[self.below(EDGES.len())].wrapping_sub(self.next() % 3);
                    let width = 1 << self.below(4);
                    let number =
                        if self.next().is_multiple_of(2) { number.to_le_bytes() } else { number.to_be_bytes() };
                    let end = (at + width).min(bytes.len());
                    bytes[at.min(end)..end].copy_from_slice(&number[..end - at.min(end)]);
                }
                4 => {
                    // A number in groups of seven bits, as both binary formats and Parquet's metadata have them.
                    let mut number = EDGES[self.below(EDGES.len())];
                    let mut varint = Vec::new();
                    while number >= 0x80 {
                        varint.push(number as u8 | 0x80);
                        number >>= 7;
                    }
                    varint.push(number as u8);
                    let end = (at + self.below(3)).min(bytes.len());
                    bytes.splice(at.min(end)..end, varint);
                }
                5 => drop(bytes.drain(self.piece(&bytes.clone()))),
                6 => {
                    let piece = bytes[self.piece(&bytes.clone())].to_vec();
                    bytes.splice(at..at, piece);
                }
                7 => {
                    let other = &corpus[self.below(corpus.len())];
                    let piece = other[self.piece(other)].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    if self.next().is_multiple_of(4) {
                        bytes.truncate(at);
                    }
                }
            }
        }
        bytes
    }
}
