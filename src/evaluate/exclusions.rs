//! The items that leave rankings, as bit masks: of each item, the queries of a tile whose ranking it leaves. Whoever counts all items
//! passes over it for these queries.
//!
//! A user may have had hundreds of items, and a batch has a thousand queries, which are compared with the table chunk by chunk. So the
//! items that leave are sorted by chunk once for each tile, and masks are made for one chunk at a time.

use std::ops::Range;

use crate::kernel::ranking::LaneMask;
use crate::table::rows::CHUNK;

/// The place of a chunk that is not counted.
const UNCOUNTED: u32 = u32::MAX;

const _: () = assert!(CHUNK == 1 << u8::BITS, "a place in a chunk is a byte");

/// In which order the items of the table are counted for a batch.
#[derive(Debug, Default)]
pub(super) struct CountingOrder {
    /// The chunks, in the order in which they are counted.
    chunks: Vec<u32>,
    /// By chunk: its place in that order, or [`UNCOUNTED`].
    places: Vec<u32>,
    /// By item: a bit, set where the batch touched it. Of most tables, all bits stay in a small cache.
    is_touched: Vec<u64>,
}

impl CountingOrder {
    /// Counts `chunks` in this order, of a table of `n_rows` rows, of which the batch touched the `touched` ones.
    pub(super) fn set(&mut self, chunks: Vec<u32>, n_rows: usize, touched: impl Iterator<Item = u32>) {
        let Self { chunks: in_order, places, is_touched } = self;
        places.clear();
        places.resize(n_rows.div_ceil(CHUNK), UNCOUNTED);
        for (place, chunk) in chunks.iter().enumerate() {
            places[*chunk as usize] = place as u32;
        }
        *in_order = chunks;
        is_touched.clear();
        is_touched.resize(n_rows.div_ceil(64), 0);
        for item in touched {
            is_touched[item as usize / 64] |= 1 << (item % 64);
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
        // Compacted without a branch, which would often be mispredicted.
        for &own in own {
            let place = self.places.get(own as usize / CHUNK).copied().unwrap_or(UNCOUNTED);
            let place = place.wrapping_sub(places.start as u32);
            found[n] = ExcludedItem { place, in_chunk: (own as usize % CHUNK) as u8, lane };
            n += usize::from((place as usize) < places.len() && own != target);
        }
        found.truncate(n);
    }

    /// Puts those of the `own` items that the batch touched into `found`.
    fn find_touched(&self, own: &[u32], found: &mut Vec<u32>) {
        let mut n = 0;
        found.resize(own.len(), 0);
        // Compacted without a branch, as above.
        for &own in own {
            let bits = self.is_touched.get(own as usize / 64).copied().unwrap_or(0);
            found[n] = own;
            n += (bits >> (own % 64) & 1) as usize;
        }
        found.truncate(n);
    }

    /// By event of the frame that has the events `events`: the queries of a tile whose ranking the event's item leaves. `touches` says of
    /// an item which events touched it; the queries are as in [`TileExclusions::of`].
    pub(super) fn masks_of_touched<'a, T: Iterator<Item = u32>>(
        &self,
        events: Range<u32>,
        touches: impl Fn(u32) -> T,
        queries: impl Iterator<Item = (&'a [u32], u32)>,
        found: &mut Vec<u32>,
    ) -> Vec<LaneMask> {
        let mut masks = vec![0; events.len()];
        for (lane, (own, target)) in queries.enumerate() {
            self.find_touched(own, found);
            for item in found.iter().filter(|item| **item != target) {
                for event in touches(*item).filter(|event| events.contains(event)) {
                    masks[(event - events.start) as usize] |= 1 << lane;
                }
            }
        }
        masks
    }
}

/// An item that leaves the ranking of a query.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExcludedItem {
    /// The place of its chunk among those that a tile is compared with.
    place: u32,
    /// Its place in the chunk.
    in_chunk: u8,
    lane: u8,
}

/// The items that leave the rankings of a tile's queries, in some chunks that are counted one after the other.
#[derive(Debug, Default)]
pub(super) struct TileExclusions {
    /// So many chunks, as a power of two, have their items in one run: there are no more runs than items, however large the table.
    shift: u32,
    /// By run: where it begins; and where the last one ends.
    starts: Vec<u32>,
    items: Vec<ExcludedItem>,
}

impl TileExclusions {
    /// What leaves in the chunks at `places` of `order`: of each query, in the order of their lanes, the items that its user had, some
    /// perhaps several times, and its target, which never leaves. `found` is a buffer.
    pub(super) fn of<'a>(
        order: &CountingOrder,
        places: Range<usize>,
        queries: impl Iterator<Item = (&'a [u32], u32)>,
        found: &mut Vec<ExcludedItem>,
    ) -> Self {
        found.clear();
        for (lane, query) in queries.enumerate() {
            order.find(places.clone(), query, lane as u8, found);
        }
        if found.is_empty() {
            return Self::default();
        }
        let shift = (places.len() / found.len()).checked_ilog2().map_or(0, |log| log + 1);
        let run = |item: &ExcludedItem| (item.place >> shift) as usize;
        let mut starts = vec![0; (places.len() >> shift) + 2];
        found.iter().for_each(|item| starts[run(item) + 1] += 1);
        for run in 1..starts.len() {
            starts[run] += starts[run - 1];
        }
        let (mut items, mut next) = (vec![ExcludedItem::default(); found.len()], starts.clone());
        for item in &*found {
            let at = &mut next[run(item)];
            items[*at as usize] = *item;
            *at += 1;
        }
        Self { shift, starts, items }
    }

    /// Has `use_masks` look at the items of the chunk at `place` among those that the tile is compared with: of each, the queries whose
    /// ranking it leaves. `masks` are 0, and are so again.
    pub(super) fn in_chunk(&self, place: usize, masks: &mut [LaneMask; CHUNK], use_masks: impl FnOnce(&[LaneMask])) {
        let run = place >> self.shift;
        let items = match self.starts.get(run..run + 2) {
            Some(span) => &self.items[span[0] as usize..span[1] as usize],
            None => &[],
        };
        let of_chunk = || items.iter().filter(|item| item.place as usize == place);
        of_chunk().for_each(|item| masks[usize::from(item.in_chunk)] |= 1 << item.lane);
        use_masks(masks);
        of_chunk().for_each(|item| masks[usize::from(item.in_chunk)] = 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::LANES;

    const N_CHUNKS: u32 = 6;
    const N_ROWS: u32 = N_CHUNKS * CHUNK as u32 - 30;

    /// Of each query, items that its user had, some of which the table does not have, and its target, often one of them.
    fn queries() -> impl Strategy<Value = Vec<(Vec<u32>, u32)>> {
        let item =
            (0..N_ROWS + 300, any::<bool>()).prop_map(|(item, is_common)| if is_common { item % 40 } else { item });
        let own = prop_oneof![prop::collection::vec(item.clone(), 0..60), prop::collection::vec(item.clone(), 0..2)];
        prop::collection::vec((own, item), 0..=LANES)
    }

    proptest! {
        #[test]
        fn exclusions_are_those_of_each_query_wherever_they_are_counted(
            queries in queries(),
            chunks in Just((0..N_CHUNKS).collect::<Vec<u32>>()).prop_shuffle(),
            n_counted in 0..=N_CHUNKS as usize,
            (begin, end) in (0.0..=1.0, 0.0..=1.0),
            touched in prop::collection::vec(prop_oneof![0..40_u32, 0..N_ROWS], 0..50),
            first_event in 0_usize..50,
        ) {
            let [begin, end] = [begin, end].map(|share: f64| (share * n_counted as f64).round() as usize);
            let places = begin.min(end)..begin.max(end);
            let mut order = CountingOrder::default();
            // An earlier batch leaves nothing behind.
            order.set(vec![0], N_ROWS as usize, [3, 4].into_iter());
            order.set(chunks[..n_counted].to_vec(), N_ROWS as usize, touched.iter().copied());
            let leaves = |lane: usize, item: u32| {
                queries.get(lane).is_some_and(|(own, target)| own.contains(&item) && *target != item)
            };
            let mask = |item: u32| (0..LANES).fold(0, |mask, lane| mask | LaneMask::from(leaves(lane, item)) << lane);
            let of_queries = || queries.iter().map(|(own, target)| (&own[..], *target));
            let exclusions = TileExclusions::of(&order, places.clone(), of_queries(), &mut Vec::new());
            prop_assert!(exclusions.starts.len() <= exclusions.items.len() + 2);
            let mut masks = [0; CHUNK];
            for (place, chunk) in order.chunks()[places].iter().enumerate() {
                let first = chunk * CHUNK as u32;
                exclusions.in_chunk(place, &mut masks, |masks| {
                    for (item, found) in (first..).zip(masks) {
                        assert_eq!(*found, mask(item), "item {item}");
                    }
                });
                prop_assert_eq!(masks, [0; CHUNK]);
            }
            let events = first_event.min(touched.len())..touched.len();
            let touches = |item: u32| {
                let touched = &touched;
                (0..touched.len() as u32).filter(move |event| touched[*event as usize] == item)
            };
            let in_frame = events.start as u32..events.end as u32;
            let found = order.masks_of_touched(in_frame, touches, of_queries(), &mut Vec::new());
            prop_assert_eq!(found, touched[events].iter().map(|item| mask(*item)).collect::<Vec<_>>());
        }
    }
}
