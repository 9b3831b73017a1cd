//! The best items of a pass over a table, by score.

use std::cmp::Ordering;

use crate::kernel::LANES;

/// An item by its score. The order of lists is total, so that no order of threads is seen in them.
pub(super) type Scored = (f32, u32);

/// The best items seen so far, and some more.
#[derive(Debug, Clone)]
pub(super) struct Shortlist {
    k: usize,
    items: Vec<Scored>,
    /// What is below it is not among the best.
    least: f32,
}

impl Shortlist {
    /// A list of the `k` best items, of which none was seen yet.
    pub(super) fn new(k: usize) -> Self {
        Self { k, items: Vec::new(), least: f32::NEG_INFINITY }
    }

    /// Whether an item with this score may be among the best. What is no number never is.
    #[inline]
    pub(super) fn takes(&self, score: f32) -> bool {
        score >= self.least
    }

    /// The score below which no item is among the best.
    #[inline]
    pub(super) fn least(&self) -> f32 {
        self.least
    }

    /// Forgets what is not among the best, and gives the score below which no item is any more.
    pub(super) fn settle(&mut self) -> f32 {
        self.cut();
        if self.k > 0 && self.items.len() == self.k {
            // A list that is just full was not cut.
            self.least = self.items.iter().fold(f32::INFINITY, |least, (score, _)| least.min(*score));
        }
        self.least
    }

    /// Adds an item that may be among the best ([`Self::takes`]).
    pub(super) fn push(&mut self, score: f32, item: u32) {
        self.items.push((score, item));
        // Some slack, so that it is not cut at every item.
        if self.items.len() >= 2 * self.k + LANES {
            self.cut();
        }
    }

    /// Adds an item if it may be among the best.
    #[inline]
    pub(super) fn offer(&mut self, score: f32, item: u32) {
        if self.takes(score) {
            self.push(score, item);
        }
    }

    fn cut(&mut self) {
        if self.items.len() > self.k {
            let (_, last, _) = self.items.select_nth_unstable_by(self.k - 1, order);
            self.least = last.0;
            self.items.truncate(self.k);
        }
    }

    /// The best of both lists.
    pub(super) fn merge(mut self, other: Self) -> Self {
        other.items.into_iter().for_each(|(score, item)| self.offer(score, item));
        self
    }

    /// The `k` best items, in no order.
    pub(super) fn into_best(mut self) -> Vec<Scored> {
        self.cut();
        self.items
    }
}

/// Best first, equal ones by their rows.
pub(super) fn order(a: &Scored, b: &Scored) -> Ordering {
    // Zero is zero, whatever its sign: the evaluator sees a tie there.
    (b.0 + 0.0).total_cmp(&(a.0 + 0.0)).then(a.1.cmp(&b.1))
}
