//! Item-kNN on a stream: how often items came shortly one after the other, for a bounded number of neighbours each.

use super::history::UserPast;

/// So many of a user's newest items count.
pub(super) const WINDOW: usize = 5;
/// Neighbours of an item.
const NEIGHBORS: usize = 512;
/// What the step from one item of the past to the one before it leaves of a co-occurrence.
const FADING: f64 = 0.9;
/// What an item is worth to the one that came after it, where the other way round is worth 1.
const BACKWARDS: f64 = 0.5;
/// What the step from one item of the past to the one before it leaves of its say.
const RECENCY: f64 = 0.8;

/// An item's neighbours, in the order in which they came, each with its weight. Where there is no room, the lightest goes.
#[derive(Debug)]
pub(super) struct CooccurrenceTable {
    neighbors: Vec<Vec<(u32, f32)>>,
    most: usize,
}

impl CooccurrenceTable {
    pub(super) fn new(n_items: usize) -> Self {
        Self { neighbors: vec![Vec::new(); n_items], most: NEIGHBORS.min(n_items) }
    }

    /// The user with this past takes `item`.
    pub(super) fn push(&mut self, past: &UserPast, item: u32) {
        for (back, fading) in (0..WINDOW).zip(fadings(FADING)) {
            let Some(before) = past.newest(back) else { break };
            self.add(before, item, fading);
            self.add(item, before, BACKWARDS * fading);
        }
    }

    fn add(&mut self, item: u32, neighbor: u32, weight: f64) {
        let neighbors = &mut self.neighbors[item as usize];
        if let Some((_, sum)) = neighbors.iter_mut().find(|(known, _)| *known == neighbor) {
            *sum = (f64::from(*sum) + weight) as f32;
        } else if neighbors.len() < self.most {
            neighbors.push((neighbor, weight as f32));
        } else if let Some(lightest) = neighbors.iter_mut().reduce(|a, b| if b.1 < a.1 { b } else { a }) {
            *lightest = (neighbor, weight as f32);
        }
    }

    /// Calls `add` with the neighbours of the newest items of `past`, and what each adds to its score; `norm` damps by
    /// frequency.
    pub(super) fn related(&self, past: &UserPast, norm: impl Fn(u32) -> f64, mut add: impl FnMut(u32, f64)) {
        for (back, recency) in (0..WINDOW).zip(fadings(RECENCY)) {
            let Some(item) = past.newest(back) else { break };
            let of_item = norm(item);
            for (neighbor, weight) in &self.neighbors[item as usize] {
                add(*neighbor, f64::from(*weight) * of_item * norm(*neighbor) * recency);
            }
        }
    }
}

/// Powers of `factor`, from 1 on.
fn fadings(factor: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |power| factor.powi(power))
}
