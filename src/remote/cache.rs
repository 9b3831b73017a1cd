//! What was read of files on other machines, in blocks of one length: so much of it that every column of a log finds what
//! follows on what it read last.

use std::collections::HashMap;

use bytes::Bytes;

/// Length of a block.
pub const BLOCK: u64 = 256 << 10;
/// Blocks that are fetched at once where a reader goes on to the next block; elsewhere a single one is.
const AHEAD: u64 = 16;
/// Most blocks that are kept: 64 MiB.
const MOST: usize = 256;

/// Which block of which file.
type BlockPlace = (u64, u64);

/// The blocks that were used last.
#[derive(Debug, Default)]
pub struct BlockCache {
    /// Each block, and when it was used last.
    blocks: HashMap<BlockPlace, (Bytes, u64)>,
    clock: u64,
}

impl BlockCache {
    /// The block, where it is kept.
    pub fn get(&mut self, file: u64, block: u64) -> Option<Bytes> {
        self.clock += 1;
        let (bytes, used) = self.blocks.get_mut(&(file, block))?;
        *used = self.clock;
        Some(bytes.clone())
    }

    /// How many blocks are worth fetching from `block` on, which is not kept.
    pub fn ahead(&self, file: u64, block: u64) -> u64 {
        let goes_on = block > 0 && self.blocks.contains_key(&(file, block - 1));
        if goes_on { AHEAD } else { 1 }
    }

    /// Keeps the blocks of `bytes`, the first of which is `block`, in place of those that were not used for longest.
    pub fn put(&mut self, file: u64, block: u64, bytes: &[u8]) {
        self.clock += 1;
        for (place, piece) in (block..).zip(bytes.chunks(BLOCK as usize)) {
            // A piece of its own memory: a slice would keep all that was fetched with it.
            self.blocks.insert((file, place), (Bytes::copy_from_slice(piece), self.clock));
        }
        while self.blocks.len() > MOST {
            let oldest = self.blocks.iter().min_by_key(|(_, (_, used))| *used).map(|(place, _)| *place);
            oldest.and_then(|place| self.blocks.remove(&place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_blocks_are_kept_and_readers_that_go_on_read_ahead() {
        let mut cache = BlockCache::default();
        assert_eq!((cache.ahead(1, 0), cache.get(1, 0)), (1, None));
        cache.put(1, 0, &vec![7; BLOCK as usize + 5]);
        assert_eq!(cache.get(1, 1).map(|block| block.len()), Some(5));
        assert_eq!((cache.ahead(1, 2), cache.ahead(1, 4), cache.ahead(2, 1)), (AHEAD, 1, 1));
        for block in 2..MOST as u64 + 2 {
            assert!(cache.get(1, 0).is_some(), "what is used stays");
            cache.put(1, block, &[0]);
        }
        assert_eq!(cache.blocks.len(), MOST);
        assert!(cache.get(1, 0).is_some() && cache.get(1, 1).is_none() && cache.get(1, MOST as u64 + 1).is_some());
    }
}
