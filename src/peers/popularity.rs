//! How often items came, decayed, and the known items in that order.

/// Exponents may grow so far before the counts are put on another scale.
const LARGEST_EXPONENT: f64 = 500.0;

/// Decayed counts of one half-life.
///
/// A count is kept as its logarithm on a scale that grows with time, so that an event moves its own item only.
#[derive(Debug)]
pub(super) struct DecayedPopularity {
    /// In events; infinite: nothing decays.
    half_life: f64,
    /// By item: the count itself where nothing decays, otherwise its binary logarithm as of event 0; −∞: never seen.
    keys: Vec<f64>,
    /// By item: the count, on a scale of 2^`exponent`.
    counts: Vec<f64>,
    exponent: f64,
    /// The keys of the known items, ascending.
    sorted: Vec<f64>,
}

impl DecayedPopularity {
    pub(super) fn new(half_life: f64, n_items: usize) -> Self {
        Self {
            half_life,
            keys: vec![f64::NEG_INFINITY; n_items],
            counts: vec![0.0; n_items],
            exponent: 0.0,
            sorted: Vec::new(),
        }
    }

    /// The count of an item, to be multiplied by [`Self::peak`] or [`Self::share`].
    pub(super) fn count(&self, item: u32) -> f64 {
        self.counts[item as usize]
    }

    /// The order of items is that of their keys.
    pub(super) fn key(&self, item: u32) -> f64 {
        self.keys[item as usize]
    }

    /// The key that an item with this count would have.
    pub(super) fn key_of(&self, count: f64) -> f64 {
        if self.half_life.is_infinite() { count } else { count.log2() + self.exponent }
    }

    /// How many known items have a greater key, and how many this one.
    pub(super) fn compare(&self, key: f64) -> (usize, usize) {
        let up_to = self.sorted.partition_point(|other| *other <= key);
        (self.sorted.len() - up_to, up_to - self.sorted.partition_point(|other| *other < key))
    }

    /// The factor by which the most popular item counts 1; at least one item is known.
    pub(super) fn peak(&self) -> f64 {
        let most = self.sorted[self.sorted.len() - 1];
        if self.half_life.is_infinite() { most.recip() } else { (self.exponent - most).exp2() }
    }

    /// The factor by which counts become shares of the weight of all `events` so far.
    pub(super) fn share(&self, events: u32) -> f64 {
        let (events, half_life) = (f64::from(events), self.half_life);
        if half_life.is_infinite() {
            return events.recip();
        }
        let newest = (self.exponent - (events - 1.0) / half_life).exp2();
        newest * (1.0 - (-half_life.recip()).exp2()) / (1.0 - (-events / half_life).exp2())
    }

    /// Event number `event` has this item.
    pub(super) fn push(&mut self, event: u32, item: u32) {
        let old = self.keys[item as usize];
        let new = if self.half_life.is_infinite() {
            old.max(0.0) + 1.0
        } else {
            let now = f64::from(event) / self.half_life;
            if now - self.exponent > LARGEST_EXPONENT {
                self.exponent += LARGEST_EXPONENT;
                self.counts.iter_mut().for_each(|count| *count *= (-LARGEST_EXPONENT).exp2());
            }
            old.max(now) + (1.0 + (-(old - now).abs()).exp2()).log2()
        };
        self.rise(old, new);
        self.keys[item as usize] = new;
        self.counts[item as usize] = if self.half_life.is_infinite() { new } else { (new - self.exponent).exp2() };
    }

    /// Moves one key up; one of −∞ is new.
    fn rise(&mut self, old: f64, new: f64) {
        let to = self.sorted.partition_point(|other| *other < new);
        if old == f64::NEG_INFINITY {
            return self.sorted.insert(to, new);
        }
        let from = self.sorted.partition_point(|other| *other < old);
        self.sorted.copy_within(from + 1..to, from);
        self.sorted[to - 1] = new;
    }
}
