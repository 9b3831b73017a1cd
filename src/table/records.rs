//! A growing table of records, each of which may own memory: names, users' pasts. It can be frozen: see [`super::chunks`].

use compact_str::CompactString;

use super::chunks::{Block, CHUNK, Chunks};
use super::row_remap::RowRemap;
use crate::kernel::rows::{prefetch, prefetch_one};

/// Memory is asked for what a record owns when the record so many places before it is copied, and for itself at twice the distance.
const OWNED_AHEAD: usize = 8;
/// Bytes of a list that are asked for where it will be copied. The L1 data cache has room for as much of both lists, the one that is
/// copied and the one that is overwritten, of [`OWNED_AHEAD`] records.
const BEGINNING: usize = 1_024;

/// Asks memory for a list that a record owns, which will be read soon.
#[inline]
pub fn prefetch_list<T>(list: &[T]) {
    prefetch(list);
}

/// The same for the beginning of a list that will be copied; the processor fetches what lies behind that by itself.
#[inline]
pub fn prefetch_beginning<T>(list: &[T]) {
    prefetch(&list[..list.len().min(const { BEGINNING / size_of::<T>() })]);
}

/// What a table may be made of: something that may own memory elsewhere.
pub trait TableRecord: Clone + Default + Send + Sync {
    /// Asks memory for what it owns, which will be read soon.
    fn prefetch_owned(&self) {}
}

impl TableRecord for CompactString {}
impl<T: Clone + Send + Sync> TableRecord for Box<[T]> where Self: Default {}

/// A growing table of records that can be frozen.
#[derive(Debug, Clone)]
pub struct Records<T>(Chunks<Vec<T>>);

impl<T: TableRecord> Block for Vec<T> {
    type Row = T;

    fn n_rows(&self, _width: usize) -> usize {
        self.len()
    }

    #[inline]
    fn row(&self, row: usize, _width: usize) -> &T {
        &self[row]
    }

    #[inline]
    fn row_mut(&mut self, row: usize, _width: usize) -> &mut T {
        &mut self[row]
    }

    #[inline]
    fn rows_mut(&mut self, _width: usize) -> impl Iterator<Item = &mut T> {
        self.iter_mut()
    }

    fn copy_all(pairs: &mut [(&T, &mut T)]) {
        let ask = |(from, to): &(&T, &mut T)| {
            prefetch_one(*from);
            prefetch_one(&**to);
        };
        // What a record owns is asked for once the record is there, which says where that is.
        let ask_owned = |(from, to): &(&T, &mut T)| {
            from.prefetch_owned();
            to.prefetch_owned();
        };
        pairs.iter().take(2 * OWNED_AHEAD).for_each(ask);
        pairs.iter().take(OWNED_AHEAD).for_each(ask_owned);
        for place in 0..pairs.len() {
            pairs.get(place + 2 * OWNED_AHEAD).into_iter().for_each(ask);
            pairs.get(place + OWNED_AHEAD).into_iter().for_each(ask_owned);
            let (from, to) = &mut pairs[place];
            to.clone_from(from);
        }
    }

    fn put_copy(&mut self, place: usize, row: &T, _width: usize) {
        match self.get_mut(place) {
            Some(old) => old.clone_from(row),
            None => self.push(row.clone()),
        }
    }

    fn take_back(&mut self, row: usize, other: &mut Self, from: usize, _width: usize) {
        match self.get_mut(row) {
            // What stood here is of use to the other for its memory alone.
            Some(old) => std::mem::swap(old, &mut other[from]),
            None => self.push(std::mem::take(&mut other[from])),
        }
    }

    fn move_up(&mut self, from: usize, to: usize, _width: usize) {
        self.swap(from, to);
    }

    fn truncate(&mut self, n_rows: usize, _width: usize) {
        Self::truncate(self, n_rows);
    }

    fn recycle(&mut self, _width: usize) {
        // Each may own memory for its successor.
    }
}

impl<T: TableRecord> Default for Records<T> {
    fn default() -> Self {
        Self(Chunks::new(1))
    }
}

impl<T: TableRecord> Records<T> {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.0.n_rows()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a record behind the last one.
    pub fn push(&mut self, record: T) {
        self.0.push(|| Vec::with_capacity(CHUNK), |records| records.push(record));
    }

    /// Record `row`.
    ///
    /// # Panics
    /// If there is no such record.
    #[inline]
    pub fn get(&self, row: usize) -> &T {
        self.0.row(row)
    }

    /// Asks memory for record `row`, which will be read soon.
    ///
    /// # Panics
    /// If there is no such record.
    #[inline]
    pub fn prefetch(&self, row: usize) {
        prefetch_one(self.get(row));
    }

    /// Record `row`, to be changed.
    ///
    /// # Panics
    /// If there is no such record.
    #[inline]
    pub fn get_mut(&mut self, row: usize) -> &mut T {
        self.0.row_mut(row)
    }

    /// All records, in the order of their rows.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Remaps records after eviction.
    pub fn keep(&mut self, rows: &RowRemap) {
        self.0.keep(rows, || Vec::with_capacity(CHUNK));
    }

    /// A frozen copy of the records: [`super::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        Self(self.0.freeze())
    }

    /// Whether no frozen copy shares any of them.
    pub fn is_own(&self) -> bool {
        self.0.is_own()
    }

    /// Makes `copy`, which followed before or is new, the same records as these: [`Chunks::follow`].
    pub fn follow(&mut self, copy: &mut Self) {
        self.0.follow(&mut copy.0, || Vec::with_capacity(CHUNK));
    }

    /// Takes back records that frozen copies which are gone had shared: [`Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.0.thaw(budget)
    }
}
