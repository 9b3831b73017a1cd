//! The items that leave rankings, as whoever counts all items passes over them: a bit for each query of a tile.
//!
//! A customer may have had hundreds of items, and a batch has a thousand queries; a tile compares them with some chunks of the
//! table. So what leaves is sorted by chunk once for each tile, and of a chunk only what is in it is looked at.

use std::ops::Range;

use crate::kernel::ranking::LaneMask;
use crate::table::generation_map::GenerationMap;
use crate::table::rows::CHUNK;

/// The place of a chunk that is not counted.
const NOWHERE: u32 = u32::MAX;

/// Where the items of the table are counted for a batch.
#[derive(Debug, Default)]
pub(super) struct CountingOrder {
    /// The chunks, in the order in which they are counted.
    chunks: Vec<u32>,
    /// By chunk: its place in that order.
    places: Vec<u32>,
    touched: TouchedNumbers,
}

/// The items that a batch touched, which are counted before the chunks, as they are before each event.
#[derive(Debug, Default)]
struct TouchedNumbers {
    /// By item: a bit, which few of the others share a cache line with.
    is_touched: Vec<u64>,
    /// By item: its number among those that were touched.
    numbers: GenerationMap,
    len: usize,
}

impl TouchedNumbers {
    /// Puts those of the `own` items that were touched into `found`.
    fn find(&self, own: &[u32], found: &mut Vec<u32>) {
        let mut n = 0;
        found.resize(own.len(), 0);
        // Without a branch, which could not be foretold.
        for &own in own {
            let bits = self.is_touched.get(own as usize / 64).copied().unwrap_or(0);
            found[n] = own;
            n += (bits >> (own % 64) & 1) as usize;
        }
        found.truncate(n);
    }
}

impl CountingOrder {
    /// Counts `chunks` in this order, of a table of `n_rows` rows, and first the `touched` items.
    pub(super) fn set(&mut self, chunks: Vec<u32>, n_rows: usize, touched: impl Iterator<Item = u32>) {
        self.places.clear();
        self.places.resize(n_rows.div_ceil(CHUNK), NOWHERE);
        for (place, chunk) in chunks.iter().enumerate() {
            self.places[*chunk as usize] = place as u32;
        }
        self.chunks = chunks;
        let TouchedNumbers { is_touched, numbers, len } = &mut self.touched;
        is_touched.clear();
        is_touched.resize(n_rows.div_ceil(64), 0);
        numbers.begin(n_rows);
        *len = 0;
        // An item that the table does not have is never compared.
        for item in touched.filter(|item| (*item as usize) < n_rows) {
            if numbers.get(item).is_none() {
                numbers.set(item, *len as u32);
                is_touched[item as usize / 64] |= 1 << (item % 64);
                *len += 1;
            }
        }
    }

    /// The chunks, in the order in which they are counted.
    pub(super) fn chunks(&self) -> &[u32] {
        &self.chunks
    }

    /// Adds to `found` those of the `own` items of the query of `lane`, but for its `target`, that are in the chunks at `places`.
    fn find(&self, places: Range<usize>, (own, target): (&[u32], u32), lane: u8, found: &mut Vec<ExcludedItem>) {
        let mut n = found.len();
        found.resize(n + own.len(), ExcludedItem::default());
        // Without a branch, as above.
        for &own in own {
            let place =
                self.places.get(own as usize / CHUNK).copied().unwrap_or(NOWHERE).wrapping_sub(places.start as u32);
            found[n] = ExcludedItem { place, item: (own as usize % CHUNK) as u8, lane };
            n += usize::from((place as usize) < places.len() && own != target);
        }
        found.truncate(n);
    }

    /// The number of `item` among those that the batch touched.
    pub(super) fn touched_number(&self, item: u32) -> Option<u32> {
        self.touched.numbers.get(item)
    }
}

/// Buffers of [`TileExclusions::of`].
#[derive(Debug, Default)]
pub(super) struct ExclusionScratch {
    found: Vec<ExcludedItem>,
    touched_own: Vec<u32>,
}

/// An item that leaves the ranking of a query.
#[derive(Debug, Clone, Copy, Default)]
struct ExcludedItem {
    /// The place of its chunk among those that are counted.
    place: u32,
    /// Its place in the chunk.
    item: u8,
    lane: u8,
}

const _: () = assert!(CHUNK == 1 << u8::BITS);

/// The items that leave the rankings of a tile's queries, in some chunks that are counted one after the other.
#[derive(Debug, Default)]
pub(super) struct TileExclusions {
    /// By place among these chunks: where its entries begin.
    starts: Vec<u32>,
    /// Place in the chunk and lane.
    entries: Vec<(u8, u8)>,
    /// By number of a touched item: the queries whose ranking it leaves.
    touched: Vec<LaneMask>,
}

impl TileExclusions {
    /// What leaves among the chunks at `places` of `order`, and, with the first of them, among what the batch touched: of each query, in
    /// the order of their lanes, the items that its user had, some perhaps several times, and its target, which never leaves.
    pub(super) fn of<'a>(
        order: &CountingOrder,
        places: Range<usize>,
        queries: impl Iterator<Item = (&'a [u32], u32)>,
        scratch: &mut ExclusionScratch,
    ) -> Self {
        let ExclusionScratch { found, touched_own } = scratch;
        let mut touched = vec![0; if places.start == 0 { order.touched.len } else { 0 }];
        found.clear();
        for (lane, (own, target)) in queries.enumerate() {
            order.find(places.clone(), (own, target), lane as u8, found);
            if touched.is_empty() {
                continue;
            }
            order.touched.find(own, touched_own);
            for number in
                touched_own.iter().filter(|item| **item != target).filter_map(|item| order.touched_number(*item))
            {
                touched[number as usize] |= 1 << lane;
            }
        }
        if found.is_empty() {
            return Self { touched, ..Self::default() };
        }
        let mut starts = vec![0; places.len() + 1];
        found.iter().for_each(|entry| starts[entry.place as usize + 1] += 1);
        for place in 0..places.len() {
            starts[place + 1] += starts[place];
        }
        let (mut entries, mut next) = (vec![(0, 0); found.len()], starts.clone());
        for entry in &*found {
            let at = &mut next[entry.place as usize];
            entries[*at as usize] = (entry.item, entry.lane);
            *at += 1;
        }
        Self { starts, entries, touched }
    }

    /// By number of a touched item: the queries whose ranking it leaves.
    pub(super) fn of_touched(&self) -> &[LaneMask] {
        &self.touched
    }

    /// Has `use_masks` look at the items of the chunk at `place`: of each, the queries whose ranking it leaves. `masks` are 0, and
    /// are so again.
    pub(super) fn in_chunk(&self, place: usize, masks: &mut [LaneMask; CHUNK], use_masks: impl FnOnce(&[LaneMask])) {
        let entries = match self.starts.get(place..place + 2) {
            Some(span) => &self.entries[span[0] as usize..span[1] as usize],
            None => &[],
        };
        entries.iter().for_each(|(item, lane)| masks[usize::from(*item)] |= 1 << lane);
        use_masks(masks);
        entries.iter().for_each(|(item, _)| masks[usize::from(*item)] = 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::LANES;

    const N_CHUNKS: u32 = 5;
    const N_ROWS: u32 = N_CHUNKS * CHUNK as u32 - 30;

    /// Of each query, items that its user had, and its target, often one of them; few chunks have most of the items.
    fn queries() -> impl Strategy<Value = Vec<(Vec<u32>, u32)>> {
        let item = (0..N_ROWS, any::<bool>()).prop_map(|(item, is_common)| if is_common { item % 40 } else { item });
        prop::collection::vec((prop::collection::vec(item.clone(), 0..60), item), 0..=LANES)
    }

    proptest! {
        #[test]
        fn exclusions_are_those_of_each_query_wherever_they_are_counted(
            queries in queries(),
            chunks in Just((0..N_CHUNKS).collect::<Vec<u32>>()).prop_shuffle(),
            (begin, end) in (0..=N_CHUNKS as usize, 0..=N_CHUNKS as usize),
            touched in prop::collection::vec(0..N_ROWS + 50, 0..30),
        ) {
            let places = begin.min(end)..begin.max(end);
            let mut order = CountingOrder::default();
            // An earlier batch leaves nothing behind.
            order.set(vec![0], N_ROWS as usize, [3, 4].into_iter());
            order.set(chunks.clone(), N_ROWS as usize, touched.iter().copied());
            let leaves = |lane: usize, item: u32| {
                queries.get(lane).is_some_and(|(own, target)| own.contains(&item) && *target != item)
            };
            let mask = |item: u32| (0..LANES).fold(0, |mask, lane| mask | LaneMask::from(leaves(lane, item)) << lane);
            let exclusions = TileExclusions::of(
                &order,
                places.clone(),
                queries.iter().map(|(own, target)| (&own[..], *target)),
                &mut ExclusionScratch::default(),
            );
            let mut masks = [0; CHUNK];
            for (place, chunk) in order.chunks()[places.clone()].iter().enumerate() {
                let first = chunk * CHUNK as u32;
                exclusions.in_chunk(place, &mut masks, |masks| {
                    for (item, found) in (first..).zip(masks) {
                        assert_eq!(*found, mask(item), "item {item}");
                    }
                });
                prop_assert_eq!(masks, [0; CHUNK]);
            }
            let known = touched.iter().filter(|item| **item < N_ROWS);
            for item in known.filter(|_| places.start == 0) {
                let number = order.touched_number(*item).expect("it was touched");
                prop_assert_eq!(exclusions.of_touched()[number as usize], mask(*item));
            }
            for item in (0..N_ROWS).filter(|item| !touched.contains(item)) {
                prop_assert_eq!(order.touched_number(item), None);
            }
        }
    }
}
