//! q̂: how often each item comes, decayed so that it follows the stream.
//!
//! Before a batch of B events is added, every count is multiplied by 2^(−B/half-life). Instead of touching them all,
//! the weight of a new event grows by the inverse, and counts are read relative to it. Frequencies are
//! `q̂(j) = (n_j + ½) / Σ n`.

/// Rescale before the fourth power of a count (the largest that a sampler takes) nears the end of what a double holds.
const LARGEST_WEIGHT: f64 = 1e60;

/// Decayed counts of all items.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    half_life: f64,
    /// Weight of an event of the newest batch.
    weight: f64,
    /// Sum of the weights of all events.
    total: f64,
    /// Sum of the weights of each item's events.
    counts: Vec<f64>,
    rescaled: bool,
}

impl Frequencies {
    /// Nothing seen yet; counts halve in `half_life` events (∞: never).
    pub fn new(half_life: f64) -> Self {
        Self { half_life, weight: 1.0, total: 0.0, counts: Vec::new(), rescaled: false }
    }

    /// As [`Self::parts`] gave it.
    pub fn from_parts(half_life: f64, weight: f64, total: f64, counts: Vec<f64>) -> Self {
        Self { half_life, weight, total, counts, rescaled: false }
    }

    /// Weight of an event, total, and the items' sums: everything that changes.
    pub fn parts(&self) -> (f64, f64, &[f64]) {
        (self.weight, self.total, &self.counts)
    }

    /// Makes room for items up to `n_items`, never seen so far.
    pub fn grow(&mut self, n_items: usize) {
        self.counts.resize(n_items.max(self.counts.len()), 0.0);
    }

    /// Decays by the length of the batch and adds it.
    pub fn add(&mut self, items: &[u32]) {
        self.weight *= (items.len() as f64 / self.half_life).exp2();
        self.rescaled = self.weight > LARGEST_WEIGHT;
        if self.rescaled {
            let factor = self.weight.recip();
            self.counts.iter_mut().for_each(|count| *count *= factor);
            self.total *= factor;
            self.weight = 1.0;
        }
        for item in items {
            self.counts[*item as usize] += self.weight;
        }
        self.total += self.weight * items.len() as f64;
    }

    /// Whether the newest [`Self::add`] changed the scale of [`Self::relative`].
    pub fn rescaled(&self) -> bool {
        self.rescaled
    }

    /// Number of items, seen or not.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Counts on a common scale of their own, for comparing items.
    pub fn relative(&self) -> &[f64] {
        &self.counts
    }

    /// The decayed count n_j.
    pub fn count(&self, item: u32) -> f64 {
        self.counts[item as usize] / self.weight
    }

    /// log q̂ of item `item`.
    pub fn log_frequency(&self, item: u32) -> f32 {
        let (half, inverse_total) = self.scale();
        ((self.counts[item as usize] + half) * inverse_total).ln() as f32
    }

    /// (a, b) with q̂ = (count + a)·b for the counts of [`Self::relative`].
    pub fn scale(&self) -> (f64, f64) {
        (0.5 * self.weight, (self.total + 1e-9 * self.weight).recip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decays_by_half_in_a_half_life() {
        let mut frequencies = Frequencies::new(100.0);
        frequencies.grow(2);
        frequencies.add(&[0; 10]);
        frequencies.add(&[1; 100]);
        assert!((frequencies.count(0) - 5.0).abs() < 1e-12);
        assert!((frequencies.count(1) - 100.0).abs() < 1e-12);
        let expected = ((5.0f64 + 0.5) / 105.0).ln() as f32;
        assert!((frequencies.log_frequency(0) - expected).abs() < 1e-6);
    }

    #[test]
    fn counts_for_ever_when_told_so() {
        let mut frequencies = Frequencies::new(f64::INFINITY);
        frequencies.grow(3);
        for _ in 0..1000 {
            frequencies.add(&[0, 1, 1]);
        }
        assert_eq!([0, 1, 2].map(|item| frequencies.count(item)), [1000.0, 2000.0, 0.0]);
    }

    #[test]
    fn rescaling_changes_nothing_that_is_read() {
        let mut frequencies = Frequencies::new(1.0);
        frequencies.grow(2);
        let mut rescaled = 0;
        for step in 0..5000 {
            frequencies.add(&[step % 2]);
            rescaled += u32::from(frequencies.rescaled());
        }
        assert!(rescaled > 5);
        // The newest event weighs 1, the one before ½, …: 1 + ¼ + … = 4/3 and ½ + ⅛ + … = 2/3.
        assert!((frequencies.count(1) - 4.0 / 3.0).abs() < 1e-9);
        assert!((frequencies.count(0) - 2.0 / 3.0).abs() < 1e-9);
    }
}
