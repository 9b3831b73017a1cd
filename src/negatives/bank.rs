//! The bank: the newest positives of any user, first events included, reused as negatives across batches.
//!
//! It holds item rows, whose vectors are read live, so nothing in it goes stale.

use std::collections::VecDeque;

/// First in, first out.
#[derive(Debug, Clone, PartialEq)]
pub struct Bank {
    capacity: usize,
    items: VecDeque<u32>,
}

impl Bank {
    /// An empty bank for `capacity` items.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, items: VecDeque::with_capacity(capacity) }
    }

    /// Adds items; the oldest leave beyond the capacity.
    pub fn push(&mut self, items: &[u32]) {
        let newest = &items[items.len().saturating_sub(self.capacity)..];
        let excess = (self.items.len() + newest.len()).saturating_sub(self.capacity);
        self.items.drain(..excess);
        self.items.extend(newest);
    }

    /// The items, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        self.items.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave() {
        let mut bank = Bank::new(3);
        bank.push(&[1, 2]);
        bank.push(&[3, 4]);
        assert_eq!(bank.iter().collect::<Vec<_>>(), [2, 3, 4]);
        bank.push(&[5, 6, 7, 8]);
        assert_eq!(bank.iter().collect::<Vec<_>>(), [6, 7, 8]);
        let mut none = Bank::new(0);
        none.push(&[1]);
        assert_eq!(none.iter().len(), 0);
    }
}
