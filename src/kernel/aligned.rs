//! Arrays that begin with a cache line, so that no block of a row of [`super::LANES`] numbers lies across two.

use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

const LINE: usize = 64;

/// As a vector, of which it has what is needed here.
#[derive(Debug, Clone, PartialEq)]
pub struct Aligned<T>(AVec<T, ConstAlign<LINE>>);

impl<T: Copy> Aligned<T> {
    /// Empty, with room for `capacity` elements.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(AVec::with_capacity(LINE, capacity))
    }

    /// Cuts, or fills up with `value`.
    #[inline]
    pub fn resize(&mut self, len: usize, value: T) {
        self.0.resize(len, value);
    }

    /// Adds copies of `elements`.
    #[inline]
    pub fn extend_from_slice(&mut self, elements: &[T]) {
        self.0.extend_from_slice(elements);
    }

    /// Forgets all elements.
    #[inline]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: Copy> Default for Aligned<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
