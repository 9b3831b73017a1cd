//! q̂: how often each item comes, decayed so that it follows the stream, at a rate that the stream itself chooses.
//!
//! Each [`DecayedCounts`] counts with one half-life. Before a batch of B events is added, every count is multiplied by
//! 2^(−B/half-life). Instead of touching them all, the weight of a new event grows by the inverse, and counts are read
//! relative to it: `q̂(j) = (n_j + ½) / Σ n`.
//!
//! With several half-lives side by side, each batch is predicted by all of them before it is counted, and
//! `q̂(j) = Σ_h s_h·n_jh/Σn_h + ½/Σn_b`, with the shares `s_h ∝ exp(discounted log-likelihood of h)`: a Bayesian mixture
//! that forgets (cf. Raftery, Kárný & Ettler 2010). News end up with a short memory, films with a long one. The half is
//! that of the baseline b whichever half-life counts: how much an item is given that has hardly been seen is another
//! question than how long to remember, and a long memory must not take it away.
//!
//! Popularity, as a baseline of the evaluation and as a rank, goes by one half-life whatever the others are
//! ([`POPULARITY`]): what to beat must not move with what is tried.
//!
//! One item of many may leave its rate while the stream as a whole keeps its own: the mixture, which the whole stream
//! chooses, notices late. So each memory that is shorter than the chosen half-life may object, for each item by itself. Of
//! an item with the share q, a memory of N decayed events expects λ = q·N; its decayed count n varies by λ/2 (weights that
//! halve in a half-life have a sum of squares half as large as their sum). Where `(n − λ)² > 4²·(λ/2 + 1)`, q becomes
//! n/N. Memories are asked from the longest to the shortest, each against what was settled so far, as in the choice of a
//! bandwidth: the largest that no smaller one contradicts (Lepski 1991). So an item that jumps to ten times its rate is
//! followed within one half-life, if enough events of it came to tell. What is as common as before is left alone: four
//! standard deviations are rare, and of an item that hardly comes, the 1 asks for five events at least. A fixed half-life
//! has a memory of a quarter of it beside, only to object.
//!
//! Where somebody objected, q̂ no longer sums to what it did. It need not. In the score only ratios count, and as the
//! probability with which the stream proposes an item it is an estimate, which is to be right for the item that is asked
//! for; taking from all others what one has gained would move each of them by next to nothing. What has to sum to 1 does:
//! [`Frequencies::share`], and the samplers' own probabilities, which come from the weights that they draw by.

use std::ops::Range;

use crate::kernel::Kernel;
use crate::kernel::frequency::{self, Contradiction, ScaledCounts};
use crate::table::paged::{PAGE, Paged};
use crate::table::row_remap::RowRemap;

/// Rescale before the fourth power of a count (the largest that a sampler takes) nears the end of what a double holds.
const LARGEST_WEIGHT: f64 = 1e60;
/// The half-lives that `auto` sets side by side, in events.
pub const AUTO: [f64; 5] = [500.0, 2_000.0, 5_000.0, 20_000.0, 100_000.0];
/// The place in [`AUTO`] of the half-life whose half an event every item is given.
const AUTO_BASELINE: usize = 2;
/// The half-life that the popularity baseline and popularity ranks go by, in events.
pub const POPULARITY: f64 = AUTO[AUTO_BASELINE];
/// Weight of the uniform distribution in a half-life's predictions, in events.
const NOVELTY: f64 = 200.0;
/// Half-life of what a half-life's predictions count in its share, in events.
const MEMORY: f64 = 20_000.0;
/// The half-life of the memory beside a fixed half-life, as a share of it.
const COMPANION: f64 = 0.25;
/// The shortest half-life of a memory beside a fixed one, in events: fewer events contradict nothing.
const SHORTEST: f64 = 50.0;
/// Standard deviations of a decayed count that are a contradiction.
const DEVIATIONS: f64 = 4.0;
/// Variance of a decayed count that is expected to be 0.
const LEAST_VARIANCE: f64 = 1.0;

/// Decayed counts of all items, with one half-life.
#[derive(Debug, Clone, PartialEq)]
pub struct DecayedCounts {
    half_life: f64,
    /// Weight of an event of the newest batch.
    weight: f64,
    /// Sum of the weights of all events.
    total: f64,
    /// Sum of the weights of each item's events.
    counts: Paged<f64>,
    rescaled: Option<f64>,
}

impl DecayedCounts {
    /// Counts before the first event, which halve in `half_life` events (∞: never).
    fn new(half_life: f64) -> Self {
        Self { half_life, weight: 1.0, total: 0.0, counts: Paged::default(), rescaled: None }
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
            *self.counts.get_mut(*item as usize) += self.weight;
        }
        self.total += self.weight * items.len() as f64;
    }

    /// The half-life, in events.
    pub fn half_life(&self) -> f64 {
        self.half_life
    }

    /// The factor by which the newest batch changed the scale of [`Self::relative`], if it did.
    pub fn rescaled(&self) -> Option<f64> {
        self.rescaled
    }

    /// All counts on one scale, which only serves to compare items with each other.
    pub fn relative(&self) -> &Paged<f64> {
        &self.counts
    }

    /// The decayed count n_j.
    pub fn count(&self, item: u32) -> f64 {
        self.counts[item as usize] / self.weight
    }

    /// The weight of an event and the total, which complete [`Self::relative`] in a checkpoint.
    pub fn scale_parts(&self) -> [f64; 2] {
        [self.weight, self.total]
    }

    /// The factor with which the counts of [`Self::relative`] sum to 1.
    pub fn inverse_total(&self) -> f64 {
        (self.total + 1e-9 * self.weight).recip()
    }

    fn scaled(&self, items: Range<usize>, factor: f64) -> ScaledCounts<'_> {
        ScaledCounts { counts: self.counts.run(items), factor }
    }

    /// The condition under which these counts contradict a longer memory, in shares: `(n − λ)² > d²·(λ/2 + v)`, divided by N².
    fn contradiction(&self) -> Contradiction {
        // Before the first event nothing does.
        let events = (self.total / self.weight).max(1.0);
        let slope = DEVIATIONS * DEVIATIONS / (2.0 * events);
        Contradiction { slope, offset: slope * 2.0 * LEAST_VARIANCE / events }
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

/// The decayed frequencies q̂ of all items: a mixture of half-lives, corrected where shorter memories contradict it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Counts by half-life: first the memory beside a fixed half-life, then the mixed ones, ascending; at last that of
    /// [`POPULARITY`], where it is none of these.
    memories: Vec<DecayedCounts>,
    /// The place of the first mixed half-life in `memories`.
    first: usize,
    /// The place of the baseline in `memories`.
    baseline: usize,
    /// The place of the counts of [`POPULARITY`] in `memories`.
    popularity: usize,
    /// The discounted log-likelihood of each mixed half-life, in nats.
    evidence: Vec<f64>,
    /// The weight of each mixed half-life; weights sum to 1.
    shares: Vec<f64>,
    /// The factors of the mixed half-lives' counts, with which they all together sum to 1.
    factors: Vec<f64>,
    /// For each memory that is shorter than the chosen half-life: the factor with which its counts sum to 1, and the
    /// condition under which they overrule longer memories.
    objections: Vec<(f64, Contradiction)>,
}

impl Frequencies {
    /// Frequencies before the first event, with one half-life, or with [`AUTO`] where it is `None`.
    pub fn new(half_life: Option<f64>) -> Self {
        let mut half_lives = half_life.map_or(AUTO.to_vec(), |half_life| vec![half_life]);
        let n_mixed = half_lives.len();
        let companion = half_lives[0] * COMPANION;
        if half_life.is_some_and(|half_life| (SHORTEST..half_life).contains(&companion)) {
            half_lives.insert(0, companion);
        }
        let first = half_lives.len() - n_mixed;
        let mixed = first..half_lives.len();
        let popularity = mixed.clone().find(|place| half_lives[*place] == POPULARITY).unwrap_or(mixed.end);
        if popularity == mixed.end {
            half_lives.push(POPULARITY);
        }
        let mut frequencies = Self {
            memories: half_lives.into_iter().map(DecayedCounts::new).collect(),
            first,
            baseline: if half_life.is_some() { first } else { AUTO_BASELINE },
            popularity,
            evidence: vec![0.0; n_mixed],
            shares: vec![1.0; n_mixed],
            factors: Vec::new(),
            objections: Vec::new(),
        };
        frequencies.refresh();
        frequencies
    }

    /// The frequencies with saved [`Self::memories`] and [`Self::evidence`]: weight and total of each memory, its counts,
    /// and the evidence; `None` where the numbers of memories do not match.
    pub fn from_parts(
        half_life: Option<f64>,
        scales: &[[f64; 2]],
        mut counts: Vec<Paged<f64>>,
        evidence: &[f64],
    ) -> Option<Self> {
        let mut frequencies = Self::new(half_life);
        let n = frequencies.memories.len();
        let mut scales = scales.to_vec();
        if scales.len() + 1 == n && frequencies.has_extra_memory() && counts.len() == n {
            // Popularity had no memory of its own once: it goes on from what it went by then.
            scales.push(*scales.get(frequencies.first)?);
            counts[n - 1] = counts[frequencies.first].clone();
        }
        if [scales.len(), counts.len(), evidence.len()] != [n, n, frequencies.evidence.len()] {
            return None;
        }
        for ((memory, [weight, total]), counts) in frequencies.memories.iter_mut().zip(&scales).zip(counts) {
            (memory.weight, memory.total, memory.counts) = (*weight, *total, counts);
        }
        frequencies.evidence.copy_from_slice(evidence);
        frequencies.refresh();
        Some(frequencies)
    }

    /// Makes room for `n_items` items; new ones have a count of 0.
    pub fn grow(&mut self, n_items: usize) {
        let n_more = n_items.saturating_sub(self.len());
        self.memories.iter_mut().for_each(|memory| memory.counts.grow(n_more));
    }

    /// Remaps item rows after an eviction; shares are among the remaining items from now on.
    pub fn keep(&mut self, items: &RowRemap) {
        for memory in &mut self.memories {
            memory.counts.keep(items);
            memory.total = memory.counts.iter().sum();
        }
        self.refresh();
    }

    /// Lets every half-life predict the batch, then decays by its length and adds it.
    pub fn add(&mut self, items: &[u32]) {
        if self.shares.len() > 1 {
            let discount = (-(items.len() as f64) / MEMORY).exp2();
            for (evidence, memory) in self.evidence.iter_mut().zip(&self.memories[self.first..]) {
                *evidence = *evidence * discount + memory.log_likelihood(items);
            }
        }
        self.memories.iter_mut().for_each(|memory| memory.add(items));
        self.refresh();
    }

    /// Computes the shares from the evidence, and the factors from shares and scales.
    fn refresh(&mut self) {
        let best = self.evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.shares.iter_mut().zip(&self.evidence).for_each(|(share, evidence)| *share = (evidence - best).exp());
        let sum: f64 = self.shares.iter().sum();
        self.shares.iter_mut().for_each(|share| *share /= sum);
        self.factors.clear();
        let mixed = self.memories[self.first..].iter().zip(&self.shares);
        self.factors.extend(mixed.map(|(memory, share)| share * memory.inverse_total()));
        let half_life = self.half_life();
        self.objections.clear();
        let asked = self.memories.iter().take(self.first + self.evidence.len());
        let shorter = asked.take_while(|memory| memory.half_life < half_life);
        self.objections.extend(shorter.map(|memory| (memory.inverse_total(), memory.contradiction())));
    }

    /// All counts: the memory beside a fixed half-life, if there is one, then the mixed ones, then that of popularity, if it is
    /// none of them.
    pub fn memories(&self) -> &[DecayedCounts] {
        &self.memories
    }

    /// The counts that are mixed, one for each half-life, ascending.
    pub fn mixed(&self) -> &[DecayedCounts] {
        &self.memories[self.first..self.first + self.evidence.len()]
    }

    /// Whether the last of [`Self::memories`] is there for popularity alone.
    pub fn has_extra_memory(&self) -> bool {
        self.popularity == self.first + self.evidence.len()
    }

    /// Discounted log-likelihood of each half-life, in nats.
    pub fn evidence(&self) -> &[f64] {
        &self.evidence
    }

    /// The weights s_h of the mixed half-lives.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// exp Σ_h s_h·log h: the half-life that the stream has chosen, in events.
    pub fn half_life(&self) -> f64 {
        let logs = self.mixed().iter().zip(&self.shares).filter(|(_, share)| **share > 0.0);
        let half_life = logs.map(|(memory, share)| share * memory.half_life.ln()).sum::<f64>().exp();
        // Thousandths of an event are rounding.
        (half_life * 1e3).round() / 1e3
    }

    /// The counts that the popularity baseline and popularity ranks go by.
    pub fn popularity(&self) -> &DecayedCounts {
        &self.memories[self.popularity]
    }

    /// The counts of which every item is given half an event: those of the fixed half-life, or of the middle one.
    pub fn baseline(&self) -> &DecayedCounts {
        &self.memories[self.baseline]
    }

    /// The number of items, seen or not.
    pub fn len(&self) -> usize {
        self.memories[0].counts.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Share of item `item` in the decayed events: q̂ without the half, and whatever shorter memories say; it sums to 1.
    pub fn share(&self, item: u32) -> f64 {
        let both = self.mixed().iter().zip(&self.factors);
        both.map(|(memory, factor)| memory.counts[item as usize] * factor).sum()
    }

    /// Half an event of the baseline, which every item is given besides its count.
    pub fn floor(&self) -> f64 {
        let baseline = self.baseline();
        0.5 * baseline.weight * baseline.inverse_total()
    }

    /// The memories that may contradict the mixture, longest first.
    fn shorter(&self) -> impl Iterator<Item = (&DecayedCounts, (f64, Contradiction))> {
        self.memories[..self.objections.len()].iter().zip(self.objections.iter().copied()).rev()
    }

    /// q̂ of item `item`.
    pub fn frequency(&self, item: u32) -> f64 {
        let settled = self.shorter().fold(self.share(item), |longer, (memory, (factor, contradiction))| {
            contradiction.settle(longer, memory.counts[item as usize] * factor)
        });
        settled + self.floor()
    }

    /// log q̂ of item `item`.
    pub fn log_frequency(&self, item: u32) -> f32 {
        self.frequency(item).ln() as f32
    }

    /// `out[k] = factor · log q̂` of item `first + k`.
    pub fn log_frequencies(&self, kernel: Kernel, first: usize, factor: f32, out: &mut [f32]) {
        // A page of the counts at a time.
        let (out, beyond) = out.split_at_mut(out.len().min(PAGE - first % PAGE));
        if !beyond.is_empty() {
            self.log_frequencies(kernel, first + out.len(), factor, beyond);
        }
        let items = first..first + out.len();
        // Half-lives that count for nothing cost nothing.
        let counting = self.mixed().iter().zip(&self.factors).zip(&self.shares).filter(|(_, share)| **share > 1e-9);
        let mixed: Vec<_> = counting.map(|((memory, factor), _)| memory.scaled(items.clone(), *factor)).collect();
        let shorter: Vec<_> = self
            .shorter()
            .map(|(memory, (factor, contradiction))| (memory.scaled(items.clone(), factor), contradiction))
            .collect();
        frequency::log_frequencies(kernel, &mixed, &shorter, self.floor(), factor, out);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn count_halves_in_a_half_life() {
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
    fn popularity_does_not_move_with_the_half_life() {
        let mut random = Pcg64Mcg::seed_from_u64(6);
        let mut all = [None, Some(100.0), Some(1_234.567_8), Some(POPULARITY), Some(20_000.0), Some(f64::INFINITY)]
            .map(Frequencies::new);
        all.iter_mut().for_each(|frequencies| frequencies.grow(50));
        for _ in 0..80 {
            let batch: [u32; 64] = std::array::from_fn(|_| random.random_range(0..50));
            all.iter_mut().for_each(|frequencies| frequencies.add(&batch));
        }
        for frequencies in &all {
            assert_eq!(frequencies.popularity(), all[0].popularity());
            // The memory for popularity alone has no say in q̂.
            let half_lives: Vec<f64> = frequencies.mixed().iter().map(DecayedCounts::half_life).collect();
            assert!(half_lives == AUTO || half_lives.len() == 1, "{half_lives:?}");
            let objecting = frequencies.shorter().map(|(memory, _)| memory.half_life());
            assert!(objecting.fold(0.0, f64::max) < frequencies.half_life().max(1e-3));
            // What was saved before there was such a memory can be gone on from.
            let scales: Vec<[f64; 2]> = frequencies.memories().iter().map(DecayedCounts::scale_parts).collect();
            let mut counts: Vec<Paged<f64>> =
                frequencies.memories().iter().map(|memory| memory.counts.clone()).collect();
            let half_life = if half_lives.len() == 1 { Some(half_lives[0]) } else { None };
            let restore = |scales: &[[f64; 2]], counts| {
                Frequencies::from_parts(half_life, scales, counts, frequencies.evidence())
            };
            assert!(
                restore(&scales, counts.clone()).is_some_and(|restored| restored.memories() == frequencies.memories())
            );
            if let (true, Some(last)) = (frequencies.has_extra_memory(), counts.last_mut()) {
                *last = Paged::default();
                let restored = restore(&scales[..scales.len() - 1], counts).expect("an older state");
                assert_eq!(restored.popularity().relative(), frequencies.mixed()[0].relative());
                assert_eq!(restored.log_frequency(3), frequencies.log_frequency(3));
            }
        }
    }

    #[test]
    fn keep_preserves_counts_and_renormalizes_shares() {
        let mut random = Pcg64Mcg::seed_from_u64(4);
        for half_life in [None, Some(100.0), Some(f64::INFINITY)] {
            let mut frequencies = Frequencies::new(half_life);
            frequencies.grow(60);
            (0..40).for_each(|_| frequencies.add(&[0; 25].map(|_| random.random_range(0..60))));
            let before = frequencies.clone();
            let rows = RowRemap::of_rows(60, |row| row % 4 != 2);
            frequencies.keep(&rows);
            for (old, new) in rows.kept() {
                let count = |frequencies: &Frequencies, item| frequencies.baseline().count(item);
                assert_eq!(count(&frequencies, new as u32), count(&before, old as u32));
            }
            let sum: f64 = (0..rows.n_kept() as u32).map(|item| frequencies.share(item)).sum();
            assert!((sum - 1.0).abs() < 1e-8, "{sum}");
            frequencies.grow(60);
            frequencies.add(&[59; 30]);
            assert!((frequencies.baseline().count(59) - 30.0).abs() < 1e-9);
        }
    }

    #[test]
    fn infinite_half_life_never_decays() {
        let mut frequencies = Frequencies::new(Some(f64::INFINITY));
        frequencies.grow(3);
        for _ in 0..1000 {
            frequencies.add(&[0, 1, 1]);
        }
        assert_eq!([0, 1, 2].map(|item| frequencies.baseline().count(item)), [1000.0, 2000.0, 0.0]);
    }

    #[test]
    fn rescaling_leaves_readings_unchanged() {
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

    #[test]
    fn repeated_items_of_a_batch_are_each_counted() {
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
        // Twenty times in each batch of a hundred.
        run(&mut frequencies, 5_000, 5);
        // Exact: half of the old rate and half of the new one…
        assert!((frequencies.share(0) / 0.11 - 1.0).abs() < 0.05, "{}", frequencies.share(0));
        // …and with a quarter of the half-life 2⁻⁴ of the old one.
        assert!((frequencies.frequency(0) / 0.18875 - 1.0).abs() < 0.01, "{}", frequencies.frequency(0));
        run(&mut frequencies, 20_000, 5);
        assert!((frequencies.frequency(0) / 0.2 - 1.0).abs() < 0.05, "{}", frequencies.frequency(0));
    }

    /// Adds `n` events of items 0…999, of which item 0 has the share `rate` and the others the rest in equal parts.
    fn stream(frequencies: &mut Frequencies, n: f64, rate: f64, random: &mut Pcg64Mcg) {
        for _ in 0..(n / 200.0).ceil() as usize {
            let item = |random: &mut Pcg64Mcg| {
                if random.random::<f64>() < rate { 0 } else { random.random_range(1..1000) }
            };
            let batch: Vec<u32> = (0..200).map(|_| item(random)).collect();
            frequencies.add(&batch);
        }
    }

    /// The item after a jump from the share `before` to `after` and one half-life, relative to `after`: q̂, and the mixture
    /// that no memory contradicts.
    fn after_a_jump(half_life: Option<f64>, before: f64, after: f64, seed: u64) -> [f64; 2] {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(1_000);
        stream(&mut frequencies, 400_000.0, before, &mut random);
        let chosen = frequencies.half_life();
        stream(&mut frequencies, chosen, after, &mut random);
        [frequencies.frequency(0), frequencies.share(0)].map(|found| found / after)
    }

    #[test]
    fn frequency_follows_jump_of_one_item_within_a_half_life() {
        for (half_life, seed) in [None, Some(20_000.0)].into_iter().flat_map(|h| (1..=4).map(move |seed| (h, seed))) {
            let [up, mixed_up] = after_a_jump(half_life, 0.003, 0.03, seed);
            let [down, mixed_down] = after_a_jump(half_life, 0.03, 0.003, seed);
            assert!((up - 1.0).abs() < 0.2 && down < 1.8, "{half_life:?}: {up}, {down}");
            // (With several, the stream as a whole may have noticed.)
            assert!(half_life.is_none() || mixed_up < 0.6 && mixed_down > 4.5, "{mixed_up}, {mixed_down}");
        }
    }

    /// With 5,000 events' half-life there are 150 events to tell by; their number alone varies by a twelfth.
    #[test]
    fn frequency_follows_jump_on_average_with_few_events() {
        let found: Vec<f64> = (0..20).map(|seed| after_a_jump(Some(5_000.0), 0.003, 0.03, seed)[0]).collect();
        let mean = found.iter().sum::<f64>() / 20.0;
        assert!((mean - 1.0).abs() < 0.12, "{mean}");
        assert!(found.iter().filter(|found| (**found - 1.0).abs() < 0.2).count() >= 15, "{found:?}");
    }

    #[test]
    fn contradiction_ignores_chance() {
        for (half_life, n_items) in [(None, 1_000), (None, 30_000), (Some(20_000.0), 1_000), (Some(20_000.0), 30_000)] {
            let mut random = Pcg64Mcg::seed_from_u64(n_items);
            let mut frequencies = Frequencies::new(half_life);
            frequencies.grow(n_items as usize);
            let ends: Vec<f64> = (1..=n_items)
                .scan(0.0, |sum, rank| {
                    *sum += 1.0 / rank as f64;
                    Some(*sum)
                })
                .collect();
            let sum = ends[ends.len() - 1];
            let divergence = |q: &dyn Fn(u32) -> f64| {
                let total: f64 = (0..n_items as u32).map(q).sum();
                let term = |item: u32| {
                    (1.0 / (f64::from(item + 1) * sum)) * -(f64::from(item + 1) * sum * q(item) / total).ln()
                };
                (0..n_items as u32).map(term).sum::<f64>()
            };
            let (mut settled, mut mixed) = (0.0, 0.0);
            for batch in 0..2_000 {
                let item = |random: &mut Pcg64Mcg| {
                    let point = random.random::<f64>() * sum;
                    ends.partition_point(|end| *end <= point) as u32
                };
                let items: Vec<u32> = (0..200).map(|_| item(&mut random)).collect();
                frequencies.add(&items);
                if batch % 200 == 199 {
                    settled += divergence(&|item| frequencies.frequency(item));
                    mixed += divergence(&|item| frequencies.share(item) + frequencies.floor());
                }
            }
            assert!((settled / mixed - 1.0).abs() < 0.01, "{half_life:?}, {n_items}: {settled} against {mixed}");
        }
    }

    /// Items of which some have just jumped, under every kind of half-life.
    fn jumped() -> Vec<Frequencies> {
        [None, Some(3.0), Some(20_000.0), Some(f64::INFINITY)]
            .map(|half_life| {
                let mut frequencies = Frequencies::new(half_life);
                frequencies.grow(1_000);
                let mut random = Pcg64Mcg::seed_from_u64(5);
                stream(&mut frequencies, 100_000.0, 0.003, &mut random);
                stream(&mut frequencies, 4_000.0, 0.03, &mut random);
                frequencies.add(&[7; 60]);
                frequencies
            })
            .into()
    }

    #[test]
    fn scale_leaves_readings_unchanged() {
        for frequencies in jumped() {
            let mut other = frequencies.clone();
            for memory in &mut other.memories {
                memory.counts.iter_mut().for_each(|count| *count *= 1e-30);
                (memory.weight, memory.total) = (memory.weight * 1e-30, memory.total * 1e-30);
            }
            other.refresh();
            let all = 0..frequencies.len() as u32;
            all.for_each(|item| {
                assert!((other.frequency(item) / frequencies.frequency(item) - 1.0).abs() < 1e-12);
            });
        }
    }

    #[test]
    fn log_frequencies_equal_single_lookups() {
        let mut contradicted = 0;
        for frequencies in jumped() {
            for (kernel, (first, n)) in Kernel::available()
                .into_iter()
                .flat_map(|kernel| [(0, 1000), (3, 33), (999, 1)].map(|run| (kernel, run)))
            {
                let mut found = vec![0.0; n];
                frequencies.log_frequencies(kernel, first, 0.5, &mut found);
                for (item, found) in (first as u32..).zip(&found) {
                    let one = 0.5 * frequencies.log_frequency(item);
                    assert!((found - one).abs() < 2e-6, "{found} is not {one}");
                    contradicted +=
                        usize::from(frequencies.frequency(item) != frequencies.share(item) + frequencies.floor());
                }
            }
        }
        assert!(contradicted > 4);
    }

    #[test]
    fn auto_half_life_follows_the_stream() {
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
