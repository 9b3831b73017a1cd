//! Growing arrays of plain numbers, one for each item: pages that a copy of the array shares until they are written.
//!
//! A copy costs a pointer for each page, and the first write to a page after it the numbers of that page. (Rows are too
//! long for that: [`super::chunks`].)

use std::ops::{Index, Range};
use std::sync::Arc;

use super::row_remap::RowRemap;

/// Numbers in a page; whole chunks of a table.
pub const PAGE: usize = 512;

/// A growing array of plain numbers whose pages are shared with its copies until they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T> {
    len: usize,
    pages: Vec<Arc<[T; PAGE]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { len: 0, pages: Vec::new() }
    }
}

impl<T: Copy + Default> Paged<T> {
    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a number.
    pub fn push(&mut self, number: T) {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Arc::new([T::default(); PAGE]));
        }
        self.len += 1;
        *self.get_mut(self.len - 1) = number;
    }

    /// Adds `n_more` times the default.
    pub fn grow(&mut self, n_more: usize) {
        self.len += n_more;
        // What is behind the last number of a page is the default.
        self.pages.resize_with(self.len.div_ceil(PAGE), || Arc::new([T::default(); PAGE]));
    }

    /// Number `place`, to be changed.
    ///
    /// # Panics
    /// If there is no such number.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> &mut T {
        assert!(place < self.len, "number {place} of {}", self.len);
        &mut Arc::make_mut(&mut self.pages[place / PAGE])[place % PAGE]
    }

    /// Remaps numbers after eviction of rows.
    pub fn keep(&mut self, rows: &RowRemap) {
        for (old, new) in rows.kept().filter(|(old, new)| old != new) {
            *self.get_mut(new) = self[old];
        }
        self.len = rows.n_kept();
        self.pages.truncate(self.len.div_ceil(PAGE));
        if let Some(last) = self.pages.last_mut() {
            let n_rows = (self.len - 1) % PAGE + 1;
            Arc::make_mut(last)[n_rows..].fill(T::default());
        }
    }

    /// All numbers in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flat_map(|page| Arc::make_mut(page).iter_mut()).take(self.len)
    }

    /// All numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }

    /// The numbers of `range`, in runs.
    ///
    /// # Panics
    /// Beyond the last number.
    pub fn runs(&self, range: Range<usize>) -> impl Iterator<Item = &[T]> {
        assert!(range.end <= self.len, "number {} of {}", range.end, self.len);
        let mut begin = range.start;
        std::iter::from_fn(move || {
            let run = self.run(begin..range.end);
            begin += run.len();
            (!run.is_empty()).then_some(run)
        })
    }

    /// As many of the numbers of `range` as lie one behind the other, from the first.
    #[inline]
    pub fn run(&self, range: Range<usize>) -> &[T] {
        let (page, first) = (range.start / PAGE, range.start % PAGE);
        let last = first + range.len().min(PAGE - first);
        self.pages.get(page).map_or(&[], |page| &page[first..last])
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        assert!(place < self.len, "number {place} of {}", self.len);
        &self.pages[place / PAGE][place % PAGE]
    }
}

impl<T: Copy + Default> Extend<T> for Paged<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|number| self.push(number));
    }
}

impl<T: Copy + Default> FromIterator<T> for Paged<T> {
    fn from_iter<I: IntoIterator<Item = T>>(numbers: I) -> Self {
        let mut paged = Self::default();
        paged.extend(numbers);
        paged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A copy stays as it was, and the array is what a plain one would be.
        #[test]
        fn paged_copies_stay_as_they_were(
            n_first in 0..3 * PAGE,
            writes in proptest::collection::vec((any::<usize>(), any::<u32>()), 1..50),
            n_more in 0..2 * PAGE,
        ) {
            let mut plain: Vec<u32> = (0..n_first as u32).collect();
            let mut paged: Paged<u32> = plain.iter().copied().collect();
            let (copy, before) = (paged.clone(), plain.clone());
            for (place, number) in writes {
                if place % 8 == 0 || plain.is_empty() {
                    paged.push(number);
                    plain.push(number);
                } else {
                    let place = place % plain.len();
                    *paged.get_mut(place) = number;
                    plain[place] = number;
                }
            }
            let rows = RowRemap::of_rows(plain.len(), |row| !(row as usize + n_more).is_multiple_of(3));
            if n_more % 2 == 0 {
                paged.keep(&rows);
                rows.keep(&mut plain);
            }
            paged.grow(n_more);
            plain.resize(plain.len() + n_more, 0);
            paged.iter_mut().step_by(7).for_each(|number| *number /= 2);
            plain.iter_mut().step_by(7).for_each(|number| *number /= 2);
            prop_assert_eq!(copy.iter().copied().collect::<Vec<_>>(), before);
            prop_assert_eq!(paged.iter().copied().collect::<Vec<_>>(), plain.clone());
            for range in [0..plain.len(), plain.len() / 3..plain.len() / 2, plain.len()..plain.len()] {
                let runs: Vec<u32> = paged.runs(range.clone()).flatten().copied().collect();
                prop_assert_eq!(&runs, &plain[range]);
            }
        }
    }
}
