//! What a table is made of: chunks of [`CHUNK`] rows that can be frozen where they stand, while the table goes on.
//!
//! A frozen table is a second table with the same rows. Both share each chunk; whichever of them writes a row first takes
//! a copy of that row alone, beside the chunk, and reads it there from then on. So freezing costs a pointer for each
//! chunk, and a step on a few thousand rows spread over all chunks copies a few thousand rows, not pages around them.
//!
//! When the frozen table is gone, the rows beside a chunk go back into it, some at a time: [`Chunks::thaw`]. A table that
//! is shared with none has no rows beside its chunks, is written without a thought, and allocates nothing.
//!
//! Where the table is wanted again and again as it is, that costs two copies of each row that was written meanwhile, and whoever
//! writes has to look beside chunks all the time. A second table that follows ([`Chunks::follow`]) costs one, of the rows that were
//! written since it followed last; and the memory of a second table.

use std::sync::Arc;

use rayon::prelude::*;

use super::row_remap::RowRemap;
use crate::kernel::rows::prefetch_one;

/// Rows in a chunk: few enough that threads which move different chunks share the work evenly.
pub const CHUNK: usize = 256;
/// A row that is not beside its chunk.
const NONE: u16 = u16::MAX;
/// The most rows beside a chunk whose room is kept for the next ones.
const MOST_SPARE: usize = CHUNK / 8;
/// Rows of which one number tells the written ones.
const MARKED_TOGETHER: usize = u64::BITS as usize;
/// Fewer chunks are not worth a second thread.
const CHUNKS_PER_THREAD: usize = 128;
/// Neighbouring chunks that a thread copies in one go.
const RUN: usize = 16;
const OURS: &str = "nobody else has it";

/// Some rows, one behind the other. A row is `width` numbers, or one record.
pub trait Block: Clone + Default + Send + Sync {
    /// A row.
    type Row: ?Sized;
    /// How many there are.
    fn n_rows(&self, width: usize) -> usize;
    /// Row `row`.
    fn row(&self, row: usize, width: usize) -> &Self::Row;
    /// Row `row`, to be changed.
    fn row_mut(&mut self, row: usize, width: usize) -> &mut Self::Row;
    /// The rows in order, to be changed.
    fn rows_mut(&mut self, width: usize) -> impl Iterator<Item = &mut Self::Row>;
    /// Makes the second row of each pair, whose memory it may take, the same as the first. The rows lie all over memory, and nobody
    /// reads the copies soon.
    fn copy_all(pairs: &mut [(&Self::Row, &mut Self::Row)]);
    /// Puts a copy of `row` in the place of row `place`, whose memory it may take; behind the last one where that is the place.
    fn put_copy(&mut self, place: usize, row: &Self::Row, width: usize);
    /// Puts row `from` of `other`, which has no use for it any more, in the place of row `row`; behind the last one where
    /// that is the place.
    fn take_back(&mut self, row: usize, other: &mut Self, from: usize, width: usize);
    /// Puts row `from` in the place of row `to`, which nobody has a use for any more.
    fn move_up(&mut self, from: usize, to: usize, width: usize);
    /// Keeps the first `n_rows` rows.
    fn truncate(&mut self, n_rows: usize, width: usize);
    /// Has no use for its rows any more, but for the memory that they own.
    fn recycle(&mut self, width: usize);
}

/// Neighbouring rows of a table.
#[derive(Debug)]
pub struct Chunk<B> {
    block: Arc<B>,
    /// Whether frozen tables may share the block: then it is as it was when the newest of them was made.
    is_shared: bool,
    /// Rows of a shared block that have moved on.
    moved: Option<Box<MovedRows<B>>>,
    /// An empty one, for the next rows that move on: so that a table which is frozen again and again allocates nothing for it.
    spare: Option<Box<MovedRows<B>>>,
    /// A bit for each row: whether it was written since another table followed.
    written: [u64; CHUNK / MARKED_TOGETHER],
}

/// Rows of a shared block that have moved on since, or are new.
#[derive(Debug, Clone)]
pub struct MovedRows<B> {
    /// In the order in which they came; behind them, records of no use but for their memory.
    fresh: B,
    /// Which rows these are.
    rows: Vec<u8>,
    /// By row: which of these it is, or `NONE`.
    places: [u16; CHUNK],
}

impl<B: Default> Default for MovedRows<B> {
    fn default() -> Self {
        Self { fresh: B::default(), rows: Vec::new(), places: [NONE; CHUNK] }
    }
}

impl<B: Clone> Clone for Chunk<B> {
    /// A chunk of its own.
    fn clone(&self) -> Self {
        let Self { block, is_shared, moved, spare: _, written } = self;
        let block = Arc::new((**block).clone());
        Self { block, is_shared: *is_shared, moved: moved.clone(), spare: None, written: *written }
    }
}

/// The rows that have a bit in `marks`, of the first `n_rows`, in order.
#[derive(Debug)]
struct MarkedRows {
    marks: [u64; CHUNK / MARKED_TOGETHER],
    n_rows: usize,
}

impl Iterator for MarkedRows {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let number = self.marks.iter().position(|marks| *marks != 0)?;
        let marks = &mut self.marks[number];
        let row = number * MARKED_TOGETHER + marks.trailing_zeros() as usize;
        *marks &= *marks - 1;
        (row < self.n_rows).then_some(row)
    }
}

impl<B: Block> Chunk<B> {
    fn new(block: B) -> Self {
        Self::of_block(Arc::new(block), false)
    }

    fn of_block(block: Arc<B>, is_shared: bool) -> Self {
        Self { block, is_shared, moved: None, spare: None, written: [0; CHUNK / MARKED_TOGETHER] }
    }

    /// The block, where all rows stand in it.
    pub fn whole(&self) -> Option<&B> {
        self.moved.is_none().then_some(&*self.block)
    }

    /// The block, where nobody shares it.
    #[inline]
    pub fn own(&mut self) -> Option<&mut B> {
        if self.is_shared { None } else { Arc::get_mut(&mut self.block) }
    }

    /// Row `row`.
    #[inline]
    pub fn row(&self, row: usize, width: usize) -> &B::Row {
        match &self.moved {
            None => self.block.row(row, width),
            Some(moved) => match moved.places[row] {
                NONE => self.block.row(row, width),
                place => moved.fresh.row(usize::from(place), width),
            },
        }
    }

    /// Row `row`, to be changed.
    #[inline]
    pub fn row_mut(&mut self, row: usize, width: usize) -> &mut B::Row {
        self.mark(row);
        if self.part() {
            let Self { block, moved, .. } = self;
            return moved.as_mut().expect("it has just parted").row_mut(block, row, width);
        }
        self.own().expect(OURS).row_mut(row, width)
    }

    #[inline]
    fn mark(&mut self, row: usize) {
        self.written[row / MARKED_TOGETHER] |= 1 << (row % MARKED_TOGETHER);
    }

    /// Makes `copy` as long as this chunk, of `n_rows` rows. Adds to `pairs` the rows that were written since the last time, or all where
    /// `is_new`, each with the one of `copy` that is to be the same.
    fn pair_written<'a>(
        &'a mut self,
        copy: &'a mut Self,
        (n_rows, width): (usize, usize),
        is_new: bool,
        pairs: &mut Vec<(&'a B::Row, &'a mut B::Row)>,
    ) {
        let written = std::mem::take(&mut self.written);
        let (chunk, block) = (&*self, copy.own().expect("a table that follows is shared with nobody"));
        let n_known = block.n_rows(width).min(n_rows);
        block.truncate(n_known, width);
        (n_known..n_rows).for_each(|row| block.put_copy(row, chunk.row(row, width), width));
        let marks = if is_new { [u64::MAX; _] } else { written };
        let (mut copies, mut next) = (block.rows_mut(width), 0);
        for row in (MarkedRows { marks, n_rows: n_known }) {
            pairs.push((chunk.row(row, width), copies.nth(row - next).expect("the copy has as many rows")));
            next = row + 1;
        }
    }

    /// Makes room for rows that move on, where the block is shared; whether it is.
    #[inline]
    fn part(&mut self) -> bool {
        if self.is_shared && self.moved.is_none() {
            // Whoever shared it may be gone.
            match Arc::get_mut(&mut self.block) {
                Some(_) => self.is_shared = false,
                None => self.moved = Some(self.spare.take().unwrap_or_default()),
            }
        }
        self.is_shared
    }

    /// Adds what `push` adds to a block, as row `row`.
    fn push(&mut self, row: usize, width: usize, push: impl FnOnce(&mut B)) {
        self.mark(row);
        if !self.part() {
            return push(self.own().expect(OURS));
        }
        let MovedRows { fresh, rows, places } = &mut **self.moved.as_mut().expect("it has just parted");
        fresh.truncate(rows.len(), width);
        places[row] = rows.len() as u16;
        rows.push(row as u8);
        push(fresh);
    }

    /// One that has parted from an earlier frozen table takes its rows back where that table is gone. Otherwise all rows are copied
    /// into a block that is shared anew. So what many frozen tables take is in proportion to the chunks that were written between
    /// them, in blocks of one size.
    fn freeze(&mut self, width: usize) -> Self {
        if let Some(moved) = self.moved.take() {
            // As many rows will move on from the next frozen table as from the last.
            self.spare = Some(self.give_back(moved, width));
        }
        self.is_shared = true;
        Self::of_block(Arc::clone(&self.block), true)
    }

    /// Makes the chunk ours again, unless it is still shared; gives the number of rows that this moved.
    fn thaw(&mut self, width: usize) -> Option<usize> {
        if !self.is_shared {
            return Some(0);
        }
        Arc::get_mut(&mut self.block)?;
        self.is_shared = false;
        let Some(moved) = self.moved.take() else {
            self.spare = None;
            return Some(0);
        };
        let n_rows = moved.rows.len();
        let spare = self.give_back(moved, width);
        // What a frozen table left that lasted long, as one does while a checkpoint is written, would be kept for nothing.
        self.spare = (n_rows <= MOST_SPARE).then_some(spare);
        Some(n_rows)
    }

    /// Puts rows that have moved on into the block, or a copy of it; gives their memory.
    fn give_back(&mut self, mut moved: Box<MovedRows<B>>, width: usize) -> Box<MovedRows<B>> {
        let block = Arc::make_mut(&mut self.block);
        let MovedRows { fresh, rows, places } = &mut *moved;
        for (place, row) in rows.iter().enumerate() {
            block.take_back(usize::from(*row), fresh, place, width);
            places[usize::from(*row)] = NONE;
        }
        fresh.recycle(width);
        rows.clear();
        moved
    }
}

impl<B: Block> MovedRows<B> {
    fn row_mut<'a>(&'a mut self, block: &'a mut Arc<B>, row: usize, width: usize) -> &'a mut B::Row {
        let Self { fresh, rows, places } = self;
        if places[row] == NONE {
            // Whoever shared it may be gone.
            if Arc::get_mut(block).is_some() {
                return Arc::get_mut(block).expect(OURS).row_mut(row, width);
            }
            let place = rows.len();
            places[row] = place as u16;
            rows.push(row as u8);
            fresh.put_copy(place, block.row(row, width), width);
        }
        fresh.row_mut(usize::from(places[row]), width)
    }
}

/// A growing table.
#[derive(Debug, Clone)]
pub struct Chunks<B> {
    width: usize,
    len: usize,
    chunks: Vec<Chunk<B>>,
    /// The first so many chunks are ours.
    n_own: usize,
    /// Blocks without rows, for the next chunks. (An allocator that was given one back might not find it again: there
    /// are others beside it by then.)
    spare: Vec<B>,
    /// How often a table has followed this one, or this one another; all rows of another number are others.
    followed: u64,
}

impl<B: Block> Chunks<B> {
    /// No rows yet.
    pub fn new(width: usize) -> Self {
        Self { width, len: 0, chunks: Vec::new(), n_own: 0, spare: Vec::new(), followed: 0 }
    }

    /// Numbers in a row; of no account where a row is a record.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.len
    }

    /// Adds the row that `push` adds to a block; `new` makes an empty one.
    pub fn push(&mut self, new: impl FnOnce() -> B, push: impl FnOnce(&mut B)) {
        let row = self.len % CHUNK;
        if row == 0 {
            self.chunks.push(Chunk::new(self.spare.pop().unwrap_or_else(new)));
        }
        self.chunks.last_mut().expect("a chunk with room").push(row, self.width, push);
        self.len += 1;
    }

    /// Row `row`.
    #[inline]
    pub fn row(&self, row: usize) -> &B::Row {
        assert!(row < self.len, "row {row} of {}", self.len);
        self.chunks[row / CHUNK].row(row % CHUNK, self.width)
    }

    /// Row `row`, to be changed.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut B::Row {
        assert!(row < self.len, "row {row} of {}", self.len);
        self.chunks[row / CHUNK].row_mut(row % CHUNK, self.width)
    }

    /// The chunks in order; all but the last hold [`CHUNK`] rows.
    pub fn chunks(&self) -> &[Chunk<B>] {
        &self.chunks
    }

    /// The chunks in order, to be changed by threads that share them out.
    pub fn chunks_mut(&mut self) -> &mut [Chunk<B>] {
        &mut self.chunks
    }

    /// The table as it is, whatever becomes of this one; threads share in it.
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        let (width, len) = (self.width, self.len);
        let chunks =
            self.chunks.par_iter_mut().with_min_len(CHUNKS_PER_THREAD).map(|chunk| chunk.freeze(width)).collect();
        self.n_own = 0;
        Self { width, len, chunks, n_own: 0, spare: Vec::new(), followed: 0 }
    }

    /// Whether no frozen table shares any chunk, as far as is known: [`Self::thaw`].
    pub fn is_own(&self) -> bool {
        self.n_own == self.chunks.len()
    }

    /// Makes `copy` the same table as this one. Where it is the one that followed last, only the rows that were written since are
    /// copied; threads share in it. `new` makes an empty block.
    pub fn follow(&mut self, copy: &mut Self, new: impl Fn() -> B) {
        let (width, len) = (self.width, self.len);
        let is_new = copy.followed != self.followed || self.followed == 0;
        self.followed += 1;
        copy.chunks.truncate(self.chunks.len());
        copy.chunks.resize_with(self.chunks.len(), || Chunk::new(new()));
        (copy.width, copy.len, copy.n_own, copy.followed) = (width, len, self.chunks.len(), self.followed);
        let runs = self.chunks.par_chunks_mut(RUN).zip(copy.chunks.par_chunks_mut(RUN)).enumerate();
        runs.with_min_len(CHUNKS_PER_THREAD / RUN).for_each(|(run, (chunks, copies))| {
            // Headers of blocks lie all over memory, too: all are asked for before the first is read.
            for (chunk, copy) in chunks.iter().zip(&*copies) {
                prefetch_one(&*chunk.block);
                prefetch_one(&*copy.block);
            }
            let n_written: u32 = chunks.iter().flat_map(|chunk| chunk.written).map(u64::count_ones).sum();
            let mut pairs = Vec::with_capacity(n_written as usize);
            for (place, (chunk, copy)) in chunks.iter_mut().zip(copies).enumerate() {
                let n_rows = (len - (run * RUN + place) * CHUNK).min(CHUNK);
                chunk.pair_written(copy, (n_rows, width), is_new, &mut pairs);
            }
            B::copy_all(&mut pairs);
        });
    }

    /// Keeps the rows that stay. They move up where they are, unless the table is still shared: then they are copied. `new`
    /// makes an empty block.
    pub fn keep(&mut self, rows: &RowRemap, new: impl Fn() -> B) {
        let width = self.width;
        if !self.chunks.iter_mut().all(|chunk| chunk.thaw(width).is_some()) {
            return self.keep_copies(rows, new);
        }
        for (old, place) in rows.kept().filter(|(old, new)| old != new) {
            let (below, from) = self.chunks.split_at_mut(old / CHUNK);
            let from = from[0].own().expect(OURS);
            match below.get_mut(place / CHUNK) {
                Some(to) => to.own().expect(OURS).take_back(place % CHUNK, from, old % CHUNK, width),
                None => from.move_up(old % CHUNK, place % CHUNK, width),
            }
        }
        self.len = rows.n_kept();
        let n_chunks = self.len.div_ceil(CHUNK);
        for chunk in self.chunks.drain(n_chunks..) {
            if let Some(mut block) = Arc::into_inner(chunk.block) {
                block.truncate(0, width);
                self.spare.push(block);
            }
        }
        if let Some(last) = self.chunks.last_mut() {
            last.own().expect(OURS).truncate((self.len - 1) % CHUNK + 1, width);
        }
        self.n_own = n_chunks;
        self.chunks.iter_mut().for_each(|chunk| chunk.written.fill(u64::MAX));
    }

    fn keep_copies(&mut self, rows: &RowRemap, new: impl Fn() -> B) {
        let old = std::mem::take(&mut self.chunks);
        let (len, width) = (std::mem::take(&mut self.len), self.width);
        self.n_own = 0;
        for (number, mut chunk) in old.into_iter().enumerate() {
            let first = number * CHUNK;
            let n_rows = (len - first).min(CHUNK);
            for row in (0..n_rows).filter(|row| rows.get((first + row) as u32).is_some()) {
                match chunk.own() {
                    Some(own) => self.push(&new, |block| block.take_back(block.n_rows(width), own, row, width)),
                    None => self.push(&new, |block| block.put_copy(block.n_rows(width), chunk.row(row, width), width)),
                }
            }
        }
    }

    /// Takes chunks back that are shared with nobody any more, until `budget`, which counts down, has no rows left;
    /// whether all of them are ours.
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        while let Some(chunk) = self.chunks.get_mut(self.n_own) {
            if *budget == 0 {
                return false;
            }
            let Some(moved) = chunk.thaw(self.width) else { return false };
            *budget = budget.saturating_sub(moved);
            self.n_own += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RUN;
    use crate::kernel::aligned::Aligned;
    use crate::table::records::{Records, TableRecord};
    use crate::table::row_remap::RowRemap;
    use crate::table::rows::{CHUNK, Rows};

    impl TableRecord for String {}

    /// What is done to a table of records and one of rows, and to plain copies of both.
    #[derive(Debug, Clone)]
    enum Act {
        Push(u8),
        Write(usize, u8),
        Freeze,
        /// Lets go of one of the frozen tables.
        Drop(usize),
        /// Lets the table that follows have the rows as they are.
        Follow,
        Thaw(usize),
        /// Lets every so-manieth row go.
        Keep(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => any::<u8>().prop_map(Act::Push),
            12 => (any::<usize>(), any::<u8>()).prop_map(|(row, number)| Act::Write(row, number)),
            2 => Just(Act::Freeze),
            2 => Just(Act::Follow),
            2 => any::<usize>().prop_map(Act::Drop),
            2 => (0..40usize).prop_map(Act::Thaw),
            1 => (1..9usize).prop_map(Act::Keep),
        ];
        proptest::collection::vec(act, 0..300)
    }

    fn contents(records: &Records<String>, rows: &Rows) -> (Vec<String>, Vec<f32>) {
        let mut scratch = Aligned::default();
        let by_row: Vec<f32> = (0..rows.len()).flat_map(|row| rows.row(row)).copied().collect();
        let by_chunk: Vec<f32> =
            (0..rows.n_chunks()).flat_map(|chunk| rows.chunk(chunk, &mut scratch).to_vec()).collect();
        assert_eq!(by_row, by_chunk);
        (records.iter().cloned().collect(), by_row)
    }

    proptest! {
        /// Whatever is written, frozen tables stay as they were, and tables are what they would be without any.
        #[test]
        fn frozen_chunks_stay_as_they_were(n_first in 0..3 * CHUNK, acts in acts()) {
            let (mut records, mut rows) = (Records::default(), Rows::new(3));
            let (mut plain_records, mut plain_rows) = (Vec::new(), Vec::new());
            let mut frozen = Vec::new();
            let mut following = (Records::default(), Rows::new(3));
            let first = (0..n_first).map(|number| Act::Push(number as u8));
            for act in first.chain(acts) {
                match act {
                    Act::Push(number) => {
                        records.push(number.to_string());
                        plain_records.push(number.to_string());
                        rows.push(|row| row.fill(f32::from(number)));
                        plain_rows.extend([f32::from(number); 3]);
                    }
                    Act::Write(row, number) if !plain_records.is_empty() => {
                        let row = row % plain_records.len();
                        records.get_mut(row).push_str(&number.to_string());
                        plain_records[row].push_str(&number.to_string());
                        rows.row_mut(row)[1] = f32::from(number);
                        plain_rows[row * 3 + 1] = f32::from(number);
                    }
                    Act::Write(..) => {}
                    Act::Freeze => {
                        let both = (records.freeze(), rows.freeze());
                        frozen.push((both, (plain_records.clone(), plain_rows.clone())));
                    }
                    Act::Follow => {
                        records.follow(&mut following.0);
                        rows.follow(&mut following.1);
                        prop_assert_eq!(contents(&following.0, &following.1), (plain_records.clone(), plain_rows.clone()));
                    }
                    Act::Drop(which) if !frozen.is_empty() => drop(frozen.swap_remove(which % frozen.len())),
                    Act::Drop(_) => {}
                    Act::Thaw(mut budget) => {
                        rows.thaw(&mut budget.clone());
                        records.thaw(&mut budget);
                    }
                    Act::Keep(every) => {
                        let kept = RowRemap::of_rows(plain_records.len(), |row| row as usize % every != 1);
                        rows.keep(&kept);
                        records.keep(&kept);
                        plain_rows = kept.kept().flat_map(|(row, _)| plain_rows[row * 3..][..3].to_vec()).collect();
                        kept.keep(&mut plain_records);
                    }
                }
            }
            for ((records, rows), expected) in &frozen {
                prop_assert_eq!(&contents(records, rows), expected);
            }
            prop_assert_eq!(contents(&records, &rows), (plain_records.clone(), plain_rows.clone()));
            frozen.clear();
            prop_assert!(rows.thaw(&mut usize::MAX.clone()) && records.thaw(&mut usize::MAX.clone()));
            prop_assert_eq!(contents(&records, &rows), (plain_records, plain_rows));
        }
    }

    #[test]
    fn tables_of_many_runs_are_followed() {
        let n_rows = RUN * CHUNK * 9 + 1;
        let (mut records, mut rows) = (Records::default(), Rows::new(3));
        let push = |records: &mut Records<String>, rows: &mut Rows, number: usize| {
            records.push(number.to_string());
            rows.push(|row| row.fill(number as f32));
        };
        (0..n_rows).for_each(|number| push(&mut records, &mut rows, number));
        let mut following = (Records::default(), Rows::new(3));
        for first in [1, 100] {
            records.follow(&mut following.0);
            rows.follow(&mut following.1);
            assert_eq!(contents(&following.0, &following.1), contents(&records, &rows));
            // The first and the last rows of runs, the last one of all, and some between.
            let ends = (0..n_rows).filter(|row| [0, RUN * CHUNK - 1].contains(&(row % (RUN * CHUNK))));
            for row in ends.chain([n_rows - 1]).chain((first..n_rows).step_by(97)) {
                records.get_mut(row).push('+');
                rows.row_mut(row)[2] += 0.5;
            }
            (0..first).for_each(|number| push(&mut records, &mut rows, number));
        }
        records.follow(&mut following.0);
        rows.follow(&mut following.1);
        assert_eq!(contents(&following.0, &following.1), contents(&records, &rows));
    }

    #[test]
    fn thaw_stops_at_its_budget() {
        let mut rows = Rows::new(1);
        (0..4 * CHUNK).for_each(|number| rows.push(|row| row.fill(number as f32)));
        let frozen = rows.freeze();
        (0..4 * CHUNK).step_by(2).for_each(|row| rows.row_mut(row)[0] = -1.0);
        assert!(!rows.thaw(&mut 1_000), "it is shared");
        drop(frozen);
        let mut times = 1;
        // A chunk at a time: half of its rows have moved.
        while !rows.thaw(&mut 1) {
            times += 1;
        }
        assert_eq!(times, 4);
        assert!((0..4 * CHUNK).all(|row| rows.row(row)[0] == if row % 2 == 0 { -1.0 } else { row as f32 }));
    }
}
