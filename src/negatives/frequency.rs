//! q̂: how often each item comes, decayed so that it follows the stream, at a rate that the stream itself chooses.
//!
//! Each [`DecayedCounts`] counts with one half-life, in events or in time: before an event is added, every count is multiplied
//! by 2^(−1/half-life), or by 2^(−elapsed/half-life). Instead of touching them all, the weight of a new event grows by the
//! inverse, and counts are read relative to it: `q̂(j) = (n_j + ½) / Σ n`.
//!
//! With several half-lives side by side, each event is predicted by all of them before it is counted, and
//! `q̂(j) = Σ_h s_h·n_jh/Σn_h + ½/Σn_b`, with the shares `s_h ∝ exp(discounted log-likelihood of h)`: a Bayesian mixture
//! that forgets (cf. Raftery, Kárný & Ettler 2010). News end up with a short memory, films with a long one; where nights are
//! quiet and noons busy, a half-life in time predicts better than any in events. Two kinds of events are counted, but tell
//! half-lives nothing. A user who comes back to an item says nothing of what others will choose. And an item that never came
//! before is predicted best by whoever remembers least, which is no merit. The half is that of the baseline b whichever
//! half-life counts: how much an item is given that has hardly been seen is another question than how long to remember, and
//! a long memory must not take it away.
//!
//! Popularity, as a baseline of the evaluation and as a rank, goes by one half-life whatever the others are
//! ([`POPULARITY`], or `evaluate.popularity_half_life`): what to beat must not move with what is tried.
//!
//! **Frames.** Counts move with every event; shares and scales, which all items have in common, move when
//! [`Frequencies::refresh`] says so, at the latest at the end of a batch. In between, in one *frame*, each mixture is read by
//! the scales of the frame's beginning: an item that is not touched keeps its q̂ to the bit, so that only the few that were
//! touched have to be looked at again. Counts of one half-life all decay alike, which changes no order. But the half that every
//! item is given seems to shrink as the weight of an event grows, and of several half-lives the shares of the short ones seem
//! to grow; a frame is full ([`Frequencies::frame_is_full`]) before that comes to much.
//!
//! One item of many may leave its rate while the stream as a whole keeps its own: the mixture, which the whole stream
//! chooses, notices late. So memories that are shorter than the chosen half-life may object, for each item by itself: the
//! three longest of them. Of an item with the share q, a memory of N decayed events expects λ = q·N; its decayed
//! count n varies by λ/2 (weights that halve in a half-life have a sum of squares half as large as their sum). Where
//! `(n − λ)² > 4²·(λ/2 + 1)`, q becomes n/N. Memories are asked from the longest to the shortest, each against what was
//! settled so far, as in the choice of a bandwidth: the largest that no smaller one contradicts (Lepski 1991). So an item
//! that jumps to ten times its rate is followed within one half-life, if enough events of it came to tell. What is as common
//! as before is left alone: four standard deviations are rare, and of an item that hardly comes, the 1 asks for five events
//! at least. A fixed half-life has a memory of a quarter of it beside, only to object.
//!
//! Where somebody objected, q̂ no longer sums to what it did. It need not. In the score only ratios count, and as the
//! probability with which the stream proposes an item it is an estimate, which is to be right for the item that is asked
//! for; taking from all others what one has gained would move each of them by next to nothing. What has to sum to 1 does:
//! [`Frequencies::share`], and the samplers' own probabilities, which come from the weights that they draw by.

use std::ops::Range;

use super::HalfLife;
use crate::kernel::Kernel;
use crate::kernel::frequency::{self, Contradiction, ScaledCounts};
use crate::table::paged::{PAGE, Paged};
use crate::table::row_remap::RowRemap;

/// Rescale before the fourth power of a count (the largest that a sampler takes) nears the end of what a double holds.
const LARGEST_WEIGHT: f64 = 1e60;
/// A frame that has not been refreshed ends before a weight comes near the end of what a double holds.
const OVERFLOWING_WEIGHT: f64 = 1e150;
/// A pause counts as so many half-lives at most: a count may fade, but all of them must not vanish at once.
const LONGEST_PAUSE: f64 = 64.0;
const MINUTE: f64 = 60e3;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;
/// The half-lives that `auto` sets side by side: in events, ascending, then in time.
pub const AUTO: [HalfLife; 15] = [
    HalfLife::Events(25.0),
    HalfLife::Events(50.0),
    HalfLife::Events(100.0),
    HalfLife::Events(250.0),
    HalfLife::Events(500.0),
    HalfLife::Events(1_000.0),
    HalfLife::Events(2_000.0),
    HalfLife::Events(5_000.0),
    HalfLife::Events(20_000.0),
    HalfLife::Events(100_000.0),
    HalfLife::Millis(10.0 * MINUTE),
    HalfLife::Millis(HOUR),
    HalfLife::Millis(6.0 * HOUR),
    HalfLife::Millis(DAY),
    HalfLife::Millis(7.0 * DAY),
];
/// The place in [`AUTO`] of the half-life whose half an event every item is given.
const AUTO_BASELINE: usize = 7;
/// The half-life that the popularity baseline and popularity ranks go by unless another is configured, in events.
pub const POPULARITY: f64 = 5_000.0;
/// Weight of the uniform distribution in a half-life's predictions, in events.
const NOVELTY: f64 = 200.0;
/// Half-life of what a half-life's predictions count in its share, in events.
const MEMORY: f64 = 20_000.0;
/// The half-life of the memory beside a fixed half-life, as a share of it.
const COMPANION: f64 = 0.25;
/// The shortest half-life of a memory beside a fixed one, in events: fewer events contradict nothing.
const SHORTEST: f64 = 50.0;
/// How many memories may object to the mixture.
const OBJECTORS: usize = 3;
/// Standard deviations of a decayed count that are a contradiction.
const DEVIATIONS: f64 = 4.0;
/// Variance of a decayed count that is expected to be 0.
const LEAST_VARIANCE: f64 = 1.0;
/// A frame is full when the weight of an event has grown by this factor in a memory that counts.
const LARGEST_TILT: f64 = 1.25;
/// Likewise in a memory that may object: what it objected to when the frame began is half forgotten.
const LARGEST_TILT_OF_OBJECTOR: f64 = 2.0;
/// A memory counts from this share on.
const COUNTING_SHARE: f64 = 0.01;

/// Decayed counts of all items, with one half-life.
#[derive(Debug, Clone, PartialEq)]
pub struct DecayedCounts {
    half_life: HalfLife,
    /// The factor by which an event's weight grows from one event to the next, where the half-life is one of events.
    growth: f64,
    /// Weight of the newest event.
    weight: f64,
    /// Sum of the weights of all events.
    total: f64,
    /// Sum of the weights of each item's events.
    counts: Paged<f64>,
    rescaled: Option<f64>,
}

impl DecayedCounts {
    /// Counts before the first event.
    fn new(half_life: HalfLife) -> Self {
        let growth = match half_life {
            HalfLife::Events(events) => events.recip().exp2(),
            HalfLife::Millis(_) | HalfLife::Auto => 1.0,
        };
        Self { half_life, growth, weight: 1.0, total: 0.0, counts: Paged::default(), rescaled: None }
    }

    /// Lets the counts decay by an event that comes `elapsed` milliseconds after the one before.
    fn decay(&mut self, elapsed: f64) {
        self.weight *= match self.half_life {
            HalfLife::Millis(half_life) if elapsed > 0.0 => (elapsed / half_life).min(LONGEST_PAUSE).exp2(),
            _ => self.growth,
        };
    }

    fn add(&mut self, item: u32) {
        *self.counts.get_mut(item as usize) += self.weight;
        self.total += self.weight;
    }

    /// Brings weights that grew large back to about 1, by a power of two: no count is rounded.
    fn rescale(&mut self) {
        if self.weight <= LARGEST_WEIGHT {
            return;
        }
        let factor = (-self.weight.log2().floor()).exp2();
        self.counts.iter_mut().for_each(|count| *count *= factor);
        self.total *= factor;
        self.weight *= factor;
        self.rescaled = Some(self.rescaled.unwrap_or(1.0) * factor);
    }

    /// The half-life.
    pub fn half_life(&self) -> HalfLife {
        self.half_life
    }

    /// The half-life in events: for one in time, as many as came in it of late.
    fn events(&self) -> f64 {
        match self.half_life {
            HalfLife::Events(events) => events,
            _ => (self.total / self.weight * std::f64::consts::LN_2).max(1.0),
        }
    }

    /// Sum of all counts, on the scale of [`Self::relative`].
    pub fn relative_total(&self) -> f64 {
        self.total
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

    /// Half an event, as a share of all events.
    fn half_an_event(&self) -> f64 {
        0.5 * self.weight * self.inverse_total()
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

    /// log of the probability that the next event is `item`, one of `n_known`, in nats, where [`NOVELTY`] events of items that may be any were
    /// seen besides. Half an event for every item, as in q̂, would drown a short memory among many items.
    fn log_likelihood(&self, item: u32, n_known: usize) -> f64 {
        let novelty = NOVELTY * self.weight;
        let each = novelty / n_known as f64;
        ((self.counts[item as usize] + each) / (self.total + novelty)).ln()
    }
}

/// The decayed frequencies q̂ of all items: a mixture of half-lives, corrected where shorter memories contradict it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Counts by half-life: first the memory beside a fixed half-life, then the mixed ones, as in [`AUTO`]; at last that of
    /// popularity, where it is none of these.
    memories: Vec<DecayedCounts>,
    /// The place of the first mixed half-life in `memories`.
    first: usize,
    /// The place of the baseline in `memories`.
    baseline: usize,
    /// The place of the counts of popularity in `memories`.
    popularity: usize,
    /// Time of the newest event, milliseconds since 1970 UTC; `None` before the first.
    newest: Option<i64>,
    /// The discounted log-likelihood of each mixed half-life, in nats.
    evidence: Vec<f64>,
    /// The weight of each mixed half-life; weights sum to 1.
    shares: Vec<f64>,
    /// The factors of the mixed half-lives' counts, with which they all together sum to 1.
    factors: Vec<f64>,
    /// Half an event of the baseline, which every item is given besides its count.
    floor: f64,
    /// The memories that may object, longest first.
    objections: Vec<Objection>,
    /// By memory: the weight of an event when the frame began, and the inverse of the total.
    frame: Vec<(f64, f64)>,
}

/// A memory that is shorter than the chosen half-life and may contradict it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Objection {
    /// Its place among the memories.
    memory: usize,
    /// The factor with which its counts sum to 1.
    factor: f64,
    /// The condition under which they overrule longer memories.
    contradiction: Contradiction,
}

impl Frequencies {
    /// Frequencies before the first event, with one half-life or with [`AUTO`], and popularity by [`POPULARITY`].
    pub fn new(half_life: impl Into<HalfLife>) -> Self {
        Self::with_popularity(half_life.into(), POPULARITY)
    }

    /// Frequencies before the first event, with one half-life or with [`AUTO`], and popularity by a half-life of `popularity`
    /// events.
    pub fn with_popularity(half_life: HalfLife, popularity: f64) -> Self {
        let mut half_lives = if half_life == HalfLife::Auto { AUTO.to_vec() } else { vec![half_life] };
        let n_mixed = half_lives.len();
        let companion = match half_life {
            HalfLife::Events(events) if (SHORTEST..events).contains(&(events * COMPANION)) => {
                Some(HalfLife::Events(events * COMPANION))
            }
            HalfLife::Millis(millis) => Some(HalfLife::Millis(millis * COMPANION)),
            _ => None,
        };
        if let Some(companion) = companion {
            half_lives.insert(0, companion);
        }
        let first = half_lives.len() - n_mixed;
        let mixed = first..half_lives.len();
        let by_popularity = HalfLife::Events(popularity);
        let popularity = mixed.clone().find(|place| half_lives[*place] == by_popularity).unwrap_or(mixed.end);
        if popularity == mixed.end {
            half_lives.push(by_popularity);
        }
        let mut frequencies = Self {
            memories: half_lives.into_iter().map(DecayedCounts::new).collect(),
            first,
            baseline: if half_life == HalfLife::Auto { AUTO_BASELINE } else { first },
            popularity,
            newest: None,
            evidence: vec![0.0; n_mixed],
            shares: vec![1.0; n_mixed],
            factors: Vec::new(),
            floor: 0.0,
            objections: Vec::new(),
            frame: Vec::new(),
        };
        frequencies.refresh();
        frequencies
    }

    /// These frequencies with what was saved of others: the weight and total of each memory, its counts, the evidence, and
    /// the time of the newest event; `None` where the numbers of memories do not match.
    pub fn restored(
        mut self,
        scales: &[[f64; 2]],
        counts: Vec<Paged<f64>>,
        evidence: &[f64],
        newest: Option<i64>,
    ) -> Option<Self> {
        let n = self.memories.len();
        if [scales.len(), counts.len(), evidence.len()] != [n, n, self.evidence.len()] {
            return None;
        }
        // Counting never comes to other numbers than these, with which no half-life might have a share.
        let is_sound =
            |[weight, total]: &[f64; 2]| *weight > 0.0 && weight.is_finite() && *total >= 0.0 && total.is_finite();
        if !scales.iter().all(is_sound) || !evidence.iter().all(|evidence| evidence.is_finite()) {
            return None;
        }
        for ((memory, [weight, total]), counts) in self.memories.iter_mut().zip(scales).zip(counts) {
            (memory.weight, memory.total, memory.counts) = (*weight, *total, counts);
        }
        self.evidence.copy_from_slice(evidence);
        self.newest = newest;
        self.refresh();
        Some(self)
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

    /// Begins a batch, at the end of which there are `n_items` items: from now on [`DecayedCounts::rescaled`] is of this batch.
    pub fn begin_batch(&mut self, n_items: usize) {
        self.memories.iter_mut().for_each(|memory| memory.rescaled = None);
        self.grow(n_items);
    }

    /// Lets all counts decay, every half-life predict the event, and counts it. Where the event tells half-lives apart (its item
    /// came before, and its user comes to it for the first time), `evidence` is the number of items that it might have been.
    pub fn observe(&mut self, item: u32, timestamp: i64, evidence: Option<usize>) {
        let elapsed = self.newest.map_or(0, |newest| timestamp.saturating_sub(newest).max(0)) as f64;
        self.newest = Some(self.newest.map_or(timestamp, |newest| newest.max(timestamp)));
        self.memories.iter_mut().for_each(|memory| memory.decay(elapsed));
        if let Some(n_known) = evidence.filter(|_| self.evidence.len() > 1) {
            let discount = (-1.0 / MEMORY).exp2();
            for (evidence, memory) in self.evidence.iter_mut().zip(&self.memories[self.first..]) {
                *evidence = *evidence * discount + memory.log_likelihood(item, n_known);
            }
        }
        self.memories.iter_mut().for_each(|memory| memory.add(item));
    }

    /// Counts a batch of `items` that came all at one time, none of them a repeat.
    pub fn add(&mut self, items: &[u32]) {
        self.begin_batch(self.len());
        items
            .iter()
            .for_each(|item| self.observe(*item, 0, (self.popularity().count(*item) > 0.0).then_some(self.len())));
        self.refresh();
    }

    /// Whether the frame should end: the weight of an event has grown by a quarter in a memory that counts, or has doubled
    /// in one that may object.
    pub fn frame_is_full(&self) -> bool {
        let mixed = self.first..self.first + self.evidence.len();
        let mut tilted = mixed.zip(&self.shares).filter(|(_, share)| **share > COUNTING_SHARE);
        tilted.any(|(place, _)| self.tilt(place) > LARGEST_TILT)
            || self.objections.iter().any(|objection| self.tilt(objection.memory) > LARGEST_TILT_OF_OBJECTOR)
    }

    /// Whether the frame has to end, since the weights grow too large.
    pub fn frame_overflows(&self) -> bool {
        self.memories.iter().any(|memory| memory.weight > OVERFLOWING_WEIGHT)
    }

    fn tilt(&self, place: usize) -> f64 {
        self.memories[place].weight / self.frame[place].0
    }

    /// Begins a frame: shares, scales and objections become those of the counts as they are.
    pub fn refresh(&mut self) {
        self.memories.iter_mut().for_each(DecayedCounts::rescale);
        let best = self.evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.shares.iter_mut().zip(&self.evidence).for_each(|(share, evidence)| *share = (evidence - best).exp());
        let sum: f64 = self.shares.iter().sum();
        self.shares.iter_mut().for_each(|share| *share /= sum);
        self.factors.clear();
        let mixed = self.memories[self.first..].iter().zip(&self.shares);
        self.factors.extend(mixed.map(|(memory, share)| share * memory.inverse_total()));
        self.floor = self.baseline().half_an_event();
        let half_life = self.half_life();
        let asked = self.memories.iter().take(self.first + self.evidence.len()).enumerate();
        let objects = |(place, memory): &(usize, &DecayedCounts)| {
            *place < self.first || matches!(memory.half_life, HalfLife::Events(events) if events < half_life)
        };
        let mut shorter: Vec<_> = asked.filter(objects).collect();
        shorter.sort_by(|(_, a), (_, b)| b.events().total_cmp(&a.events()));
        self.objections.clear();
        self.objections.extend(shorter.into_iter().take(OBJECTORS).map(|(place, memory)| Objection {
            memory: place,
            factor: memory.inverse_total(),
            contradiction: memory.contradiction(),
        }));
        self.frame.clear();
        self.frame.extend(self.memories.iter().map(|memory| (memory.weight, memory.inverse_total())));
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

    /// Discounted log-likelihood of each half-life, in nats.
    pub fn evidence(&self) -> &[f64] {
        &self.evidence
    }

    /// The weights s_h of the mixed half-lives.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// Time of the newest event, milliseconds since 1970 UTC; `None` before the first.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// exp Σ_h s_h·log h: the half-life that the stream has chosen, in events. One in time counts as so many events as came in
    /// it of late.
    pub fn half_life(&self) -> f64 {
        let logs = self.mixed().iter().zip(&self.shares).filter(|(_, share)| **share > 0.0);
        let half_life = logs.map(|(memory, share)| share * memory.events().ln()).sum::<f64>().exp();
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
        self.floor
    }

    /// The memories that may contradict the mixture, longest first.
    fn shorter(&self) -> impl Iterator<Item = (&DecayedCounts, (f64, Contradiction))> {
        self.objections
            .iter()
            .map(|objection| (&self.memories[objection.memory], (objection.factor, objection.contradiction)))
    }

    /// q̂ of item `item`.
    pub fn frequency(&self, item: u32) -> f64 {
        self.settled(item, self.share(item), |_, of_frame| of_frame) + self.floor()
    }

    /// The share of item `item` when the memories that may object were asked, where the mixture says `share`. The factor with which
    /// a memory's counts sum to 1 is that of `factor`, which is told the one of the frame.
    fn settled(&self, item: u32, share: f64, factor: impl Fn(&DecayedCounts, f64) -> f64) -> f64 {
        self.shorter().fold(share, |longer, (memory, (of_frame, contradiction))| {
            contradiction.settle(longer, memory.counts[item as usize] * factor(memory, of_frame))
        })
    }

    /// log q̂ of item `item`, which was touched within the frame, on the scale of the frame: q̂ by all counts as they are now, times
    /// the factor by which the totals have grown since the frame began, as those of items that were not touched stand as they did.
    pub fn log_frequency_of_touched(&self, item: u32) -> f32 {
        let (mut share, mut growth) = (0.0, 0.0);
        for (place, weight) in (self.first..).zip(&self.shares).filter(|(_, weight)| **weight > 0.0) {
            let now = self.memories[place].inverse_total();
            share += weight * self.memories[place].counts[item as usize] * now;
            growth += weight * self.frame[place].1 / now;
        }
        let settled = self.settled(item, share, |memory, _| memory.inverse_total());
        ((settled + self.baseline().half_an_event()) * growth).ln() as f32
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
        let before = frequencies.baseline().count(0);
        frequencies.add(&[1; 100]);
        let [first, second] = [0, 1].map(|item| frequencies.baseline().count(item));
        assert!((first - before / 2.0).abs() < 1e-12);
        // 1 + r + r² + … + r⁹⁹, of which r¹⁰⁰ is a half.
        assert!((second - 0.5 / (1.0 - (-0.01f64).exp2())).abs() < 1e-9);
        let expected = ((first + 0.5) / (first + second)).ln() as f32;
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
            let half_lives: Vec<HalfLife> = frequencies.mixed().iter().map(DecayedCounts::half_life).collect();
            assert!(half_lives == AUTO || half_lives.len() == 1, "{half_lives:?}");
            let objecting = frequencies.shorter().map(|(memory, _)| memory.events());
            assert!(objecting.fold(0.0, f64::max) < frequencies.half_life().max(1e-3));
        }
    }

    #[test]
    fn frequencies_go_on_from_what_was_saved() {
        let mut random = Pcg64Mcg::seed_from_u64(6);
        for half_life in
            [HalfLife::Auto, HalfLife::Events(100.0), HalfLife::Millis(1e6), HalfLife::Events(f64::INFINITY)]
        {
            let mut frequencies = Frequencies::new(half_life);
            let step = |frequencies: &mut Frequencies, random: &mut Pcg64Mcg, from: i64| {
                frequencies.begin_batch(50);
                (from..from + 64).for_each(|event| {
                    frequencies.observe(random.random_range(0..50), event * 60_000, (event > 10).then_some(50));
                });
                frequencies.refresh();
            };
            (0..40).for_each(|batch| step(&mut frequencies, &mut random, batch * 64));
            let scales: Vec<[f64; 2]> = frequencies.memories().iter().map(DecayedCounts::scale_parts).collect();
            let counts: Vec<Paged<f64>> = frequencies.memories().iter().map(|memory| memory.counts.clone()).collect();
            let restore = |scales: &[[f64; 2]]| {
                let (evidence, newest) = (frequencies.evidence(), frequencies.newest());
                Frequencies::new(half_life).restored(scales, counts.clone(), evidence, newest)
            };
            assert!(restore(&scales[1..]).is_none());
            let mut restored = restore(&scales).expect("all of it");
            let mut same = random.clone();
            step(&mut frequencies, &mut random, 2560);
            step(&mut restored, &mut same, 2560);
            assert_eq!(restored, frequencies);
        }
    }

    #[test]
    fn half_life_in_time_follows_the_clock() {
        let mut frequencies = Frequencies::new(HalfLife::Millis(3.6e6));
        frequencies.begin_batch(2);
        for minute in 0..60 {
            frequencies.observe(0, minute * 60_000, Some(2));
        }
        // An hour without an event halves what there was; a step back in time is none.
        for time in [119, 100, 119] {
            frequencies.observe(1, time * 60_000, Some(2));
        }
        frequencies.refresh();
        let expected: f64 = (60..120).map(|ago| (-f64::from(ago) / 60.0).exp2()).sum();
        assert!((frequencies.baseline().count(0) - expected).abs() < 1e-9);
        assert!((frequencies.baseline().count(1) - 3.0).abs() < 1e-12);
        // A year of silence leaves who was more common the more common one.
        frequencies.begin_batch(3);
        frequencies.observe(2, 525_600 * 60_000, Some(3));
        frequencies.refresh();
        let [first, second, third] = [0, 1, 2].map(|item| frequencies.baseline().count(item));
        assert!(first > second && second > 0.0 && third == 1.0, "{first} {second}");
    }

    #[test]
    fn half_life_of_night_and_day_is_one_in_time() {
        let mut random = Pcg64Mcg::seed_from_u64(12);
        let mut frequencies = Frequencies::new(HalfLife::Auto);
        let mut seconds = 0.0;
        let mut seen = vec![false; 4_000];
        for _ in 0..200 {
            frequencies.begin_batch(seen.len());
            for _ in 0..100 {
                let is_day = seconds % 86_400.0 > 40_000.0;
                seconds += random.random_range(0.0..if is_day { 20.0 } else { 1_000.0 });
                // Every six hours other items are asked for.
                let item = (seconds / 21_600.0) as usize * 20 % 4_000 + random.random_range(0..20);
                frequencies.observe(item as u32, (seconds * 1e3) as i64, seen[item].then_some(4_000));
                seen[item] = true;
            }
            frequencies.refresh();
        }
        let in_time = frequencies.mixed().iter().zip(frequencies.shares());
        let in_time = in_time.filter(|(memory, _)| matches!(memory.half_life(), HalfLife::Millis(_)));
        let share: f64 = in_time.map(|(_, share)| share).sum();
        assert!(share > 0.9, "{:?}", frequencies.shares());
    }

    #[test]
    fn frame_keeps_frequency_of_untouched_item_to_the_bit() {
        let mut random = Pcg64Mcg::seed_from_u64(13);
        let mut frequencies = Frequencies::new(HalfLife::Auto);
        frequencies.begin_batch(40);
        (0..4_000)
            .for_each(|event| frequencies.observe(random.random_range(0..20), event, (event > 100).then_some(20)));
        frequencies.refresh();
        let before: Vec<u64> = (0..40).map(|item| frequencies.frequency(item).to_bits()).collect();
        frequencies.begin_batch(40);
        (0..50).for_each(|event| frequencies.observe(20 + event % 5, 4_000 + i64::from(event), Some(40)));
        for (item, before) in before.iter().enumerate() {
            let is_same = frequencies.frequency(item as u32).to_bits() == *before;
            assert_eq!(is_same, !(20..25).contains(&item), "{item}");
        }
        frequencies.refresh();
        let sum: f64 = (0..40).map(|item| frequencies.share(item)).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
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
            let rate = match frequencies.baseline().half_life() {
                HalfLife::Events(events) => (-1.0 / events).exp2(),
                other => unreachable!("{other}"),
            };
            let expected: f64 = (0..30).map(|ago| rate.powi(ago)).sum();
            assert!((frequencies.baseline().count(59) - expected).abs() < 1e-9);
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
