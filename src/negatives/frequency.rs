//! q̂: how often each item comes, decayed so that it follows the stream, at a rate that the stream itself chooses.
//!
//! Each [`Fading`] counts with one half-life. Before a batch of B events is added, every count is multiplied by
//! 2^(−B/half-life). Instead of touching them all, the weight of a new event grows by the inverse, and counts are read
//! relative to it: `q̂(j) = (n_j + ½) / Σ n`.
//!
//! With several half-lives side by side, each batch is predicted by all of them before it is counted, and
//! `q̂(j) = Σ_h s_h·n_jh/Σn_h + ½/Σn_b`, with the shares `s_h ∝ exp(discounted log-likelihood of h)`: a Bayesian mixture
//! that forgets (cf. Raftery, Kárný & Ettler 2010). News end up with a short memory, films with a long one. The half is
//! that of the baseline b whichever half-life counts: how much an item is given that has hardly been seen is another
//! question than how long to remember, and a long memory must not take it away.

/// Rescale before the fourth power of a count (the largest that a sampler takes) nears the end of what a double holds.
const LARGEST_WEIGHT: f64 = 1e60;
/// The half-lives that `auto` sets side by side, in events.
pub const AUTO: [f64; 5] = [500.0, 2_000.0, 5_000.0, 20_000.0, 100_000.0];
/// The one of [`AUTO`] that the popularity baseline and popularity ranks go by.
const AUTO_BASELINE: usize = 2;
/// Weight of the uniform distribution in a half-life's predictions, in events.
const NOVELTY: f64 = 200.0;
/// Half-life of what a half-life's predictions count in its share, in events.
const MEMORY: f64 = 20_000.0;

/// Decayed counts of all items, with one half-life.
#[derive(Debug, Clone, PartialEq)]
pub struct Fading {
    half_life: f64,
    /// Weight of an event of the newest batch.
    weight: f64,
    /// Sum of the weights of all events.
    total: f64,
    /// Sum of the weights of each item's events.
    counts: Vec<f64>,
    rescaled: Option<f64>,
}

impl Fading {
    /// Nothing seen yet; counts halve in `half_life` events (∞: never).
    fn new(half_life: f64) -> Self {
        Self { half_life, weight: 1.0, total: 0.0, counts: Vec::new(), rescaled: None }
    }

    fn add(&mut self, items: &[u32]) {
        self.weight *= (items.len() as f64 / self.half_life).exp2();
        self.rescaled = (self.weight > LARGEST_WEIGHT).then(|| self.weight.recip());
        if let Some(factor) = self.rescaled {
            self.counts.iter_mut().for_each(|count| *count *= factor);
            self.total *= factor;
            self.weight = 1.0;
        }
        for item in items {
            self.counts[*item as usize] += self.weight;
        }
        self.total += self.weight * items.len() as f64;
    }

    /// In events.
    pub fn half_life(&self) -> f64 {
        self.half_life
    }

    /// The factor by which the newest batch changed the scale of [`Self::relative`], if it did.
    pub fn rescaled(&self) -> Option<f64> {
        self.rescaled
    }

    /// Counts on a common scale of their own, for comparing items.
    pub fn relative(&self) -> &[f64] {
        &self.counts
    }

    /// The decayed count n_j.
    pub fn count(&self, item: u32) -> f64 {
        self.counts[item as usize] / self.weight
    }

    /// Weight of an event, and total: what is not in [`Self::relative`].
    pub fn scale_parts(&self) -> [f64; 2] {
        [self.weight, self.total]
    }

    /// Factor of the counts of [`Self::relative`]: then they sum to 1.
    pub fn inverse_total(&self) -> f64 {
        (self.total + 1e-9 * self.weight).recip()
    }

    /// log of the probability that the next events are `items`, in nats, where [`NOVELTY`] events of items that may be
    /// any were seen besides. Half an event for every item, as in q̂, would drown a short memory among many items.
    fn log_likelihood(&self, items: &[u32]) -> f64 {
        let novelty = NOVELTY * self.weight;
        let (each, factor) = (novelty / self.counts.len() as f64, (self.total + novelty).recip());
        // The logarithm of a product of some: none is below 1e-18.
        let product = |items: &[u32]| -> f64 {
            items.iter().map(|item| (self.counts[*item as usize] + each) * factor).product::<f64>().ln()
        };
        items.chunks(16).map(product).sum()
    }
}

/// q̂ of all items.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    fadings: Vec<Fading>,
    baseline: usize,
    /// Discounted log-likelihood of each.
    evidence: Vec<f64>,
    shares: Vec<f64>,
}

impl Frequencies {
    /// Nothing seen yet; one half-life, or [`AUTO`] where it is `None`.
    pub fn new(half_life: Option<f64>) -> Self {
        let fadings: Vec<_> = match half_life {
            Some(half_life) => vec![Fading::new(half_life)],
            None => AUTO.into_iter().map(Fading::new).collect(),
        };
        let n = fadings.len();
        let baseline = if n == 1 { 0 } else { AUTO_BASELINE };
        Self { fadings, baseline, evidence: vec![0.0; n], shares: vec![1.0 / n as f64; n] }
    }

    /// As [`Self::fadings`] and [`Self::evidence`] gave it: for each half-life weight and total, the items' sums, and the
    /// evidence; `None` where they are not as many.
    pub fn from_parts(
        half_life: Option<f64>,
        scales: &[[f64; 2]],
        counts: Vec<Vec<f64>>,
        evidence: &[f64],
    ) -> Option<Self> {
        let mut frequencies = Self::new(half_life);
        if [scales.len(), counts.len(), evidence.len()] != [frequencies.fadings.len(); 3] {
            return None;
        }
        for ((fading, [weight, total]), counts) in frequencies.fadings.iter_mut().zip(scales).zip(counts) {
            (fading.weight, fading.total, fading.counts) = (*weight, *total, counts);
        }
        frequencies.evidence.copy_from_slice(evidence);
        frequencies.share_out();
        Some(frequencies)
    }

    /// Makes room for items up to `n_items`, never seen so far.
    pub fn grow(&mut self, n_items: usize) {
        let n_items = n_items.max(self.len());
        self.fadings.iter_mut().for_each(|fading| fading.counts.resize(n_items, 0.0));
    }

    /// Lets every half-life predict the batch, then decays by its length and adds it.
    pub fn add(&mut self, items: &[u32]) {
        if self.fadings.len() > 1 {
            let discount = (-(items.len() as f64) / MEMORY).exp2();
            for (evidence, fading) in self.evidence.iter_mut().zip(&self.fadings) {
                *evidence = *evidence * discount + fading.log_likelihood(items);
            }
            self.share_out();
        }
        self.fadings.iter_mut().for_each(|fading| fading.add(items));
    }

    fn share_out(&mut self) {
        let best = self.evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.shares.iter_mut().zip(&self.evidence).for_each(|(share, evidence)| *share = (evidence - best).exp());
        let sum: f64 = self.shares.iter().sum();
        self.shares.iter_mut().for_each(|share| *share /= sum);
    }

    /// The counts, one for each half-life, ascending.
    pub fn fadings(&self) -> &[Fading] {
        &self.fadings
    }

    /// Discounted log-likelihood of each half-life, in nats.
    pub fn evidence(&self) -> &[f64] {
        &self.evidence
    }

    /// s_h: what each half-life counts.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// exp Σ_h s_h·log h: the half-life that the stream has chosen, in events.
    pub fn half_life(&self) -> f64 {
        let logs = self.fadings.iter().zip(&self.shares).filter(|(_, share)| **share > 0.0);
        let half_life = logs.map(|(fading, share)| share * fading.half_life.ln()).sum::<f64>().exp();
        // Thousandths of an event are rounding.
        (half_life * 1e3).round() / 1e3
    }

    /// The one that popularity as a baseline, and ranks by popularity, go by.
    pub fn baseline(&self) -> &Fading {
        &self.fadings[self.baseline]
    }

    /// Number of items, seen or not.
    pub fn len(&self) -> usize {
        self.fadings[0].counts.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Share of item `item` in the decayed events: q̂ without the half, which sums to 1.
    pub fn share(&self, item: u32) -> f64 {
        let of = |(fading, share): (&Fading, &f64)| share * fading.counts[item as usize] * fading.inverse_total();
        self.fadings.iter().zip(&self.shares).map(of).sum()
    }

    /// Half an event of the baseline: what every item has besides.
    pub fn floor(&self) -> f64 {
        let baseline = self.baseline();
        0.5 * baseline.weight * baseline.inverse_total()
    }

    /// q̂ of item `item`.
    pub fn frequency(&self, item: u32) -> f64 {
        self.share(item) + self.floor()
    }

    /// log q̂ of item `item`.
    pub fn log_frequency(&self, item: u32) -> f32 {
        self.frequency(item).ln() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decays_by_half_in_a_half_life() {
        let mut frequencies = Frequencies::new(Some(100.0));
        frequencies.grow(2);
        frequencies.add(&[0; 10]);
        frequencies.add(&[1; 100]);
        assert!((frequencies.baseline().count(0) - 5.0).abs() < 1e-12);
        assert!((frequencies.baseline().count(1) - 100.0).abs() < 1e-12);
        let expected = ((5.0f64 + 0.5) / 105.0).ln() as f32;
        assert!((frequencies.log_frequency(0) - expected).abs() < 1e-6);
    }

    #[test]
    fn counts_for_ever_when_told_so() {
        let mut frequencies = Frequencies::new(Some(f64::INFINITY));
        frequencies.grow(3);
        for _ in 0..1000 {
            frequencies.add(&[0, 1, 1]);
        }
        assert_eq!([0, 1, 2].map(|item| frequencies.baseline().count(item)), [1000.0, 2000.0, 0.0]);
    }

    #[test]
    fn rescaling_changes_nothing_that_is_read() {
        let mut frequencies = Frequencies::new(Some(1.0));
        frequencies.grow(2);
        let mut rescaled = 0;
        for step in 0..5000 {
            frequencies.add(&[step % 2]);
            rescaled += u32::from(frequencies.baseline().rescaled().is_some());
        }
        assert!(rescaled > 5);
        // The newest event weighs 1, the one before ½, …: 1 + ¼ + … = 4/3 and ½ + ⅛ + … = 2/3.
        assert!((frequencies.baseline().count(1) - 4.0 / 3.0).abs() < 1e-9);
        assert!((frequencies.baseline().count(0) - 2.0 / 3.0).abs() < 1e-9);
    }

    /// Item 0 comes at a tenth of the rate of the others together, then jumps to ten times its rate.
    #[test]
    fn a_jump_is_followed_within_a_half_life() {
        let half_life = 5_000.0;
        let mut frequencies = Frequencies::new(Some(half_life));
        frequencies.grow(1_000);
        let mut event = 0u32;
        let mut run = |frequencies: &mut Frequencies, events: usize, every: u32| {
            for _ in 0..events / 100 {
                let batch: Vec<u32> = (0..100)
                    .map(|_| {
                        event += 1;
                        if event.is_multiple_of(every) { 0 } else { 1 + event * 7919 % 999 }
                    })
                    .collect();
                frequencies.add(&batch);
            }
        };
        run(&mut frequencies, 100_000, 50);
        assert!((frequencies.frequency(0) / 0.02 - 1.0).abs() < 0.05);
        // Twenty times in each batch of a hundred: counted each time, not once.
        run(&mut frequencies, 5_000, 5);
        // Exact: half of the old rate and half of the new one.
        assert!((frequencies.frequency(0) / 0.11 - 1.0).abs() < 0.05, "{}", frequencies.frequency(0));
        run(&mut frequencies, 10_000, 5);
        assert!((frequencies.frequency(0) / 0.2 - 1.0).abs() < 0.2, "{}", frequencies.frequency(0));
    }

    #[test]
    fn the_stream_chooses_its_half_life() {
        let run = |lifetime: u32| {
            let mut frequencies = Frequencies::new(None);
            let mut state = 1u64;
            for batch in 0..400u32 {
                let items: Vec<u32> = (0..256)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        // Thirty items are asked for at a time, each for `lifetime` events.
                        batch * 256 / lifetime * 30 + (state >> 40) as u32 % 30
                    })
                    .collect();
                frequencies.grow(*items.iter().max().unwrap() as usize + 1);
                frequencies.add(&items);
            }
            frequencies.half_life()
        };
        let (short, long) = (run(1_500), run(u32::MAX));
        assert!(short < 1_000.0, "{short}");
        assert!(long > 50_000.0, "{long}");
    }
}
