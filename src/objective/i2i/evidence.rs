//! Evidence that two items belong together: how much more often they come as a pair than chance would have it, over the
//! whole stream, decayed, in bounded memory.
//!
//! Pairs are unordered. With c(a, b) the decayed count of a pair, m(a) that of the pairs that item a is in, and N that of
//! all pairs, the lift is
//!
//! `p(a,b)/(p(a)·p(b)) = c(a,b)/e(a,b)`, with `e(a,b) = m(a)·m(b)/2N` what c would be by chance
//!
//! (a pair fills two places of 2N, so `p(a) = m(a)/2N` and `p(a,b) = c(a,b)/2N` for each of its two orders). m and N are
//! exact; c is read from a count-min sketch with conservative update (Cormode & Muthukrishnan 2005; Estan & Varghese
//! 2002): a cell in each row, the smallest is read, and only cells below the new count are raised. Collisions can only
//! add to a count: k is what is read, on average, for a pair that never came. To be sure of such pairs, they are those of
//! an item with itself, which are not counted: one for every few pairs is looked up.
//!
//! A ratio of small counts says little, so what a pair counts is not the ratio but how likely it is that the two belong
//! together: that their lift is L and not 1. Counts being Poisson, with mean L·e or e, and π the share of pairs that belong
//! together when nothing is known of them,
//!
//! ```text
//! log odds = log π/(1 − π) + c·log L − (L − 1)·(e + k)        acceptance = σ(log odds)
//! ```
//!
//! (the likelihood ratio of Neyman & Pearson 1933, and Bayes' rule). Where both are rare that is π; with every meeting that
//! chance does not explain it rises, with every one that chance expected and that failed to come it falls; in the long run
//! pairs count that come more than (L − 1)/log L times as often as by chance. A sketch that is too small for the stream
//! accepts less, not more. *Items of the same days* meet more often than those of different ones, whatever they are:
//! chance is that of the last few half-lives, no longer, then, than items live.
//!
//! Decay is as in [`crate::negatives::frequency`]: the weight of a new pair grows, and counts are read relative to it.

use crate::negatives::sketch::{Keys, SketchRows};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// Rescale before sums of weights near the end of what the sketch's single precision holds (3·10³⁸).
const LARGEST_WEIGHT: f64 = 1e18;
/// Half-lives of one batch, at most: beyond, what was before it counts for nothing anyway.
const MOST_HALF_LIVES: f64 = 60.0;
/// When rescaled, a count this faint is none.
const FAINT: f64 = 1e-12;
/// L: the lift of items that belong together. Those that come 2.2 times as often as by chance count in the long run.
const LIFT: f64 = 4.0;
/// π: the share of pairs that belong together.
const SHARE: f64 = 0.1;
/// For so many pairs, one that never came is looked up.
const PAIRS_PER_PROBE: usize = 8;
/// As many of those their moving average looks back.
const PROBES: f64 = 1_024.0;

/// Decayed counts of pairs of items. Memory: `rows·width` numbers of 4 bytes, and 8 bytes for each item.
#[derive(Debug, Clone)]
pub struct Evidence {
    half_life: f64,
    /// Weight of a pair of the newest batch; all sums are on its scale.
    weight: f64,
    /// 2N: sum of `marginals` and `gone`.
    places: f64,
    /// m of all items that are gone.
    gone: f64,
    /// m, by item.
    marginals: Vec<f64>,
    keys: Keys,
    rows: SketchRows,
    /// In single precision: a pair stops growing at 2²⁴ meetings, decayed, which leaves it accepted.
    cells: Vec<f32>,
    /// k as a share of 2N: on average over some time, a share moves less than the count itself.
    blur: f64,
    /// How many pairs that never came were looked up.
    probes: f64,
}

impl Evidence {
    /// Nothing seen yet. Counts halve in `half_life` pairs (∞: never; 1 at least); the sketch has `rows` rows of `width`
    /// cells.
    ///
    /// Four rows serve well, with cells in a row as there are pairs in a half-life or somewhat more; see [`Self::blur`].
    pub fn new(half_life: f64, width: usize, rows: usize) -> Self {
        let rows = SketchRows::new(width, rows);
        Self {
            half_life: if half_life.is_nan() { f64::INFINITY } else { half_life.max(1.0) },
            weight: 1.0,
            places: 0.0,
            gone: 0.0,
            marginals: Vec::new(),
            keys: Keys::default(),
            cells: vec![0.0; rows.cells()],
            rows,
            blur: 0.0,
            probes: 0.0,
        }
    }

    /// Decays by the length of the batch `pairs`, then adds it: rows of items, in either order, below `n_items` (which
    /// never shrinks). A pair of an item with itself tells nothing and is left out, as is one with a row that is not
    /// below `n_items`.
    pub fn observe(&mut self, pairs: &[(u32, u32)], n_items: usize) {
        if n_items > self.marginals.len() {
            self.marginals.resize(n_items, 0.0);
        }
        self.decay(pairs.len());
        for (a, b) in pairs {
            if a != b && (*a.max(b) as usize) < self.marginals.len() {
                self.count(*a, *b);
            }
        }
        (0..pairs.len().div_ceil(PAIRS_PER_PROBE)).for_each(|_| self.probe());
    }

    fn decay(&mut self, pairs: usize) {
        self.weight *= (pairs as f64 / self.half_life).min(MOST_HALF_LIVES).exp2();
        if self.weight > LARGEST_WEIGHT {
            let factor = self.weight.recip();
            self.marginals.iter_mut().for_each(|sum| *sum *= factor);
            for sum in &mut self.cells {
                let rescaled = f64::from(*sum) * factor;
                *sum = if rescaled < FAINT { 0.0 } else { rescaled as f32 };
            }
            self.places *= factor;
            self.gone *= factor;
            self.weight = 1.0;
        }
    }

    fn count(&mut self, a: u32, b: u32) {
        self.marginals[a as usize] += self.weight;
        self.marginals[b as usize] += self.weight;
        self.places += 2.0 * self.weight;
        let sum = (self.sum(a, b) + self.weight) as f32;
        for place in self.rows.places(self.key(a, b)) {
            self.cells[place] = self.cells[place].max(sum);
        }
    }

    /// Looks up a pair that never came, each time another.
    fn probe(&mut self) {
        let item = (self.probes % f64::from(u32::MAX)) as u32;
        self.probes += 1.0;
        if self.places > 0.0 {
            let share = self.read(key(item, item)) / self.places;
            self.blur += (share - self.blur) * self.probes.recip().max(PROBES.recip());
        }
    }

    /// What the sketch has of the pair, on the scale of `weight`.
    fn sum(&self, a: u32, b: u32) -> f64 {
        self.read(self.key(a, b))
    }

    fn read(&self, key: u64) -> f64 {
        f64::from(self.rows.places(key).map(|place| self.cells[place]).fold(f32::INFINITY, f32::min))
    }

    fn key(&self, a: u32, b: u32) -> u64 {
        key(self.keys.of(a), self.keys.of(b))
    }

    /// Keeps what is known of the items that stay. The pairs of those that go were pairs all the same: they stay part of N,
    /// and in the sketch, where nobody finds them, until they have decayed.
    pub fn keep(&mut self, items: &RowRemap) {
        let before: f64 = self.marginals.iter().sum();
        items.keep(&mut self.marginals);
        self.gone += (before - self.marginals.iter().sum::<f64>()).max(0.0);
        self.keys.keep(items);
    }

    /// The decayed count c of the pair: what it is, or more where it shares its cells in all rows.
    pub fn pair_count(&self, a: u32, b: u32) -> f64 {
        if a == b { 0.0 } else { self.sum(a, b) / self.weight }
    }

    /// e: the decayed count that the pair would have by chance.
    pub fn expected_count(&self, a: u32, b: u32) -> f64 {
        let [of_a, of_b] = [a, b].map(|item| self.marginals.get(item as usize).copied().unwrap_or(0.0));
        if self.places > 0.0 { of_a * of_b / self.places / self.weight } else { 0.0 }
    }

    /// k: the count that is read, on average, for a pair that never came. A tenth is nothing; where it nears 1, pairs that
    /// came once can no longer be told, and the sketch should be wider.
    pub fn blur(&self) -> f64 {
        self.blur * self.places / self.weight
    }

    /// The logarithm of the odds that the two belong together, in nats (see the module). Finite; that of an item with itself
    /// is what is known of it: nothing.
    pub fn log_odds(&self, a: u32, b: u32) -> f64 {
        let by_chance = if a == b { 0.0 } else { self.expected_count(a, b) + self.blur() };
        (SHARE / (1.0 - SHARE)).ln() + self.pair_count(a, b) * LIFT.ln() - (LIFT - 1.0) * by_chance
    }

    /// How much the pair should count as a positive: the probability that the two belong together.
    pub fn acceptance(&self, a: u32, b: u32) -> f32 {
        (1.0 + (-self.log_odds(a, b)).exp()).recip() as f32
    }

    /// Puts the counts down.
    pub fn save(&self, out: &mut StateDict) {
        out.put_f64("scale", vec![self.weight, self.places, self.blur, self.probes, self.gone]);
        out.put_f64("marginals", self.marginals.clone());
        out.put_f64("cells", self.cells.iter().map(|sum| f64::from(*sum)).collect());
        self.keys.save(out);
    }

    /// Takes back what [`Self::save`] put down, of at most `n_items` items.
    ///
    /// # Errors
    /// Where something is missing, cannot be, or is of a sketch of another size. Then nothing has changed.
    pub fn restore(&mut self, n_items: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        let sums = |sums: &[f64]| sums.iter().all(|sum| *sum >= 0.0 && sum.is_finite());
        let scale = saved.take_f64("scale")?;
        let [weight, places, blur, probes, gone] = scale[..] else {
            return Err(saved.error("scale", "is not five numbers"));
        };
        // Probes are counted exactly up to 2⁵³.
        let possible =
            (1.0..=LARGEST_WEIGHT).contains(&weight) && blur <= 1.0 && probes.fract() == 0.0 && probes < 1e15;
        if !sums(&scale) || !possible {
            return Err(saved.error("scale", "is not of a stream"));
        }
        let (marginals, cells) = (saved.take_f64("marginals")?, saved.take_f64("cells")?);
        if marginals.len() > n_items {
            return Err(saved.error("marginals", "are of more items than there are"));
        }
        // Room for the rounding of a long stream.
        let sum: f64 = marginals.iter().sum();
        if !sums(&marginals) || (sum + gone - places).abs() > 1e-6 * places {
            return Err(saved.error("marginals", "are not counts with that sum"));
        }
        if cells.len() != self.cells.len() {
            return Err(saved.error("cells", "are of a sketch of another size"));
        }
        let keys = Keys::restore(n_items, saved)?;
        let cells: Vec<_> = cells.into_iter().map(|sum| sum as f32).collect();
        if !cells.iter().all(|sum| *sum >= 0.0 && f64::from(*sum) <= places) {
            return Err(saved.error("cells", "are not counts"));
        }
        (self.weight, self.places, self.blur, self.probes) = (weight, places, blur, probes);
        self.gone = gone;
        (self.marginals, self.cells, self.keys) = (marginals, cells, keys);
        Ok(())
    }
}

/// One number for a pair of keys, in either order.
fn key(a: u32, b: u32) -> u64 {
    u64::from(a.min(b)) << 32 | u64::from(a.max(b))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::state_dict::Array;

    const WIDE: (usize, usize) = (1 << 14, 4);

    /// Of a stream without decay, in a sketch with room.
    fn plain(pairs: &[(u32, u32)], n_items: usize) -> Evidence {
        let mut evidence = Evidence::new(f64::INFINITY, WIDE.0, WIDE.1);
        evidence.observe(pairs, n_items);
        evidence
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// Pairs of items of two equal topics, four fifths within one; of an item with itself too.
    fn topical(random: &mut Pcg64Mcg, pairs: usize, n_items: u32) -> Vec<(u32, u32)> {
        let half = n_items / 2;
        let pair = |_| {
            let a = random.random_range(0..n_items);
            let topic = if random.random_bool(0.8) { a / half } else { 1 - a / half };
            (a, topic * half + random.random_range(0..half))
        };
        (0..pairs).map(pair).collect()
    }

    #[test]
    fn odds_match_closed_form() {
        // c(0,1) = 30, c(0,2) = 10, c(2,3) = 60: N = 100, m = 40, 30, 70, 60.
        let pairs = [vec![(0, 1); 20], vec![(1, 0); 10], vec![(2, 0); 10], vec![(2, 3); 60]].concat();
        let evidence = plain(&pairs, 5);
        for (a, b, count, expected) in [(0, 1, 30.0, 6.0), (0, 2, 10.0, 14.0), (2, 3, 60.0, 21.0), (1, 3, 0.0, 9.0)] {
            for (a, b) in [(a, b), (b, a)] {
                close(evidence.pair_count(a, b), count);
                close(evidence.expected_count(a, b), expected);
                close(evidence.log_odds(a, b), (1.0f64 / 9.0).ln() + count * 4f64.ln() - 3.0 * expected);
            }
        }
        let acceptance = [(0, 1), (0, 2), (1, 3), (2, 3)].map(|(a, b)| evidence.acceptance(a, b));
        assert!(acceptance[0] > 0.999 && acceptance[3] > 0.999 && acceptance[1..3].iter().all(|share| *share < 1e-6));
    }

    /// The odds are those of Bayes' rule for the two Poisson distributions, written out.
    #[test]
    fn odds_equal_ratio_of_poisson_distributions() {
        let log_poisson = |count: f64, mean: f64| {
            count * mean.ln() - mean - (1..=count as u32).map(|k| f64::from(k).ln()).sum::<f64>()
        };
        let evidence = plain(&[vec![(0, 1); 3], vec![(2, 3); 5], vec![(0, 3); 2]].concat(), 4);
        for (a, b) in [(0, 1), (0, 3), (1, 2)] {
            let (count, mean) = (evidence.pair_count(a, b).round(), evidence.expected_count(a, b));
            let ratio = log_poisson(count, LIFT * mean) - log_poisson(count, mean);
            close(evidence.log_odds(a, b), (SHARE / (1.0 - SHARE)).ln() + ratio);
        }
    }

    #[test]
    fn acceptance_is_low_for_accidents_and_zero_without_evidence() {
        let many: Vec<_> = (0..1_000).map(|k| (10 + k % 37, 60 + k % 41)).collect();
        let mut evidence = plain(&many, 200);
        let mut shares = vec![evidence.acceptance(1, 2)];
        for _ in 0..4 {
            evidence.observe(&[(1, 2)], 200);
            shares.push(evidence.acceptance(1, 2));
        }
        // Odds of 1:9, and four times as many with each meeting.
        let expected = [1.0 / 10.0, 4.0 / 13.0, 16.0 / 25.0, 64.0 / 73.0, 256.0 / 265.0];
        assert!(shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.01), "{shares:?}");
        // Pairs that cannot be.
        for (a, b) in [(3, 3), (10, 10), (7, 900), (u32::MAX, u32::MAX)] {
            assert!((evidence.acceptance(a, b) - 0.1).abs() < 1e-6);
        }
        assert!((Evidence::new(100.0, 0, 0).acceptance(0, 1) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn evidence_leaves_out_uninformative_pairs() {
        let mut evidence = plain(&[(0, 1), (1, 2)], 3);
        let before = (evidence.log_odds(0, 1), evidence.places);
        evidence.observe(&[(1, 1), (0, 3), (u32::MAX, 0), (u32::MAX, u32::MAX)], 3);
        assert_eq!((evidence.log_odds(0, 1), evidence.places), before);
        // Items that came later are there from then on; a smaller number of them is no reason to forget.
        evidence.observe(&[(0, 3)], 4);
        evidence.observe(&[(0, 3)], 2);
        close(evidence.pair_count(0, 3), 2.0);
    }

    #[test]
    fn counts_halve_and_rescaling_leaves_readings_unchanged() {
        let mut evidence = Evidence::new(1_000.0, WIDE.0, WIDE.1);
        evidence.observe(&[(0, 1); 8], 60);
        let other: Vec<_> = (0..500).map(|k| (10 + k % 20, 40 + k % 20)).collect();
        (0..4).for_each(|_| evidence.observe(&other, 60));
        assert!((evidence.pair_count(0, 1) - 2.0).abs() < 1e-6);
        close(evidence.marginals[0] / evidence.weight, 2.0);
        // A stream that always does the same has constant counts, however often it is rescaled.
        let mut rescaled = 0;
        let mut settled = 0.0;
        for batch in 0..1_000 {
            let weight = evidence.weight;
            evidence.observe(&other, 60);
            rescaled += u32::from(evidence.weight < weight);
            let count = evidence.pair_count(10, 40);
            if batch == 100 {
                settled = count;
            }
            assert!(batch < 100 || (count / settled - 1.0).abs() < 1e-4, "{batch}: {count} {settled}");
        }
        assert!(rescaled >= 5, "{rescaled}");
        // Each batch brings 25 of these, and the one before counts 2^-½.
        assert!((settled * (1.0 - 0.5f64.sqrt()) / 25.0 - 1.0).abs() < 1e-4, "{settled}");
        assert!(evidence.pair_count(0, 1) < 1e-6);
        let sum: f64 = evidence.marginals.iter().sum();
        assert!((sum / evidence.places - 1.0).abs() < 1e-9);
    }

    #[test]
    fn evidence_follows_a_change() {
        let mut evidence = Evidence::new(2_000.0, WIDE.0, WIDE.1);
        let around =
            |with: u32| -> Vec<_> { (0..100).map(|k| if k < 10 { (0, with) } else { (k, 100 + k) }).collect() };
        (0..100).for_each(|_| evidence.observe(&around(1), 300));
        // Of a pair that never came, nothing is known; of one that no longer comes, no more in the end.
        assert!(evidence.acceptance(0, 1) > 0.999 && evidence.acceptance(0, 2) < 0.101);
        (0..400).for_each(|_| evidence.observe(&around(2), 300));
        assert!(evidence.acceptance(0, 2) > 0.999 && evidence.acceptance(0, 1) < 0.101);
    }

    /// In a sketch far too small counts are never below the truth, and what never came is accepted no more than
    /// what nothing is known of.
    #[test]
    fn collisions_add_to_counts_but_not_to_acceptance() {
        for (width, rows) in [(1, 1), (16, 2), (500, 4), (5_000, 2)] {
            let mut random = Pcg64Mcg::seed_from_u64(5);
            let mut evidence = Evidence::new(f64::INFINITY, width, rows);
            let mut truth: HashMap<u64, f64> = HashMap::new();
            for _ in 0..200 {
                let pairs = topical(&mut random, 100, 400);
                evidence.observe(&pairs, 400);
                pairs.iter().filter(|(a, b)| a != b).for_each(|(a, b)| *truth.entry(key(*a, *b)).or_default() += 1.0);
            }
            let (mut absent, mut accepted) = (0u32, 0.0);
            for a in 0..400 {
                for b in a + 1..400 {
                    let count = truth.get(&key(a, b)).copied().unwrap_or(0.0);
                    assert!(evidence.pair_count(a, b) >= count * (1.0 - 1e-6), "{width}×{rows}: {a} {b}");
                    if count == 0.0 {
                        absent += 1;
                        accepted += evidence.acceptance(a, b);
                    }
                }
            }
            let mean = accepted / absent as f32;
            assert!(mean < 0.101, "{width}×{rows}, blur {}: {mean} of what never came", evidence.blur());
        }
    }

    #[test]
    fn blur_equals_reading_of_absent_pairs() {
        let mut random = Pcg64Mcg::seed_from_u64(6);
        let mut evidence = Evidence::new(10_000.0, 4_000, 4);
        (0..300).for_each(|_| evidence.observe(&topical(&mut random, 1_000, 1_000), 1_500));
        let absent = (1_000..1_500).flat_map(|a| (0..20).map(move |b| (a, b * 7)));
        let absent: Vec<_> = absent.map(|(a, b)| evidence.pair_count(a, b)).collect();
        let mean = absent.iter().sum::<f64>() / absent.len() as f64;
        assert!((evidence.blur() / mean - 1.0).abs() < 0.1 && mean > 0.2, "{} {mean}", evidence.blur());
    }

    #[test]
    fn evidence_memory_is_sketch_plus_one_number_per_item() {
        let mut evidence = Evidence::new(1e4, 1_000, 4);
        let mut random = Pcg64Mcg::seed_from_u64(7);
        for _ in 0..100 {
            evidence.observe(&topical(&mut random, 1_000, 10_000), 10_000);
        }
        assert_eq!((evidence.cells.len(), evidence.cells.capacity()), (4_000, 4_000));
        assert_eq!(evidence.marginals.len(), 10_000);
    }

    fn again(evidence: &Evidence, n_items: usize, (half_life, width, rows): (f64, usize, usize)) -> Evidence {
        let mut saved = StateDict::default();
        evidence.save(&mut saved);
        let mut again = Evidence::new(half_life, width, rows);
        again.restore(n_items, &mut saved).unwrap();
        assert_eq!(saved.arrays().count(), 0);
        again
    }

    #[test]
    fn evidence_restores_to_the_same_state() {
        let settings = (3_000.0, 2_000, 3);
        let mut evidence = Evidence::new(settings.0, settings.1, settings.2);
        let mut random = Pcg64Mcg::seed_from_u64(8);
        (0..700).for_each(|_| evidence.observe(&topical(&mut random, 333, 200), 200));
        let mut other = again(&evidence, 200, settings);
        for _ in 0..20 {
            for (a, b) in (0..200).flat_map(|a| (0..20).map(move |b| (a, b * 9))) {
                let [this, that] = [&evidence, &other].map(|evidence| evidence.log_odds(a, b).to_bits());
                assert_eq!(this, that);
            }
            let pairs = topical(&mut random, 333, 240);
            evidence.observe(&pairs, 240);
            other.observe(&pairs, 240);
        }
    }

    #[test]
    fn keep_preserves_evidence_of_remaining_items() {
        let settings = (3_000.0, 1 << 14, 4);
        let mut evidence = Evidence::new(settings.0, settings.1, settings.2);
        let mut random = Pcg64Mcg::seed_from_u64(10);
        (0..200).for_each(|_| evidence.observe(&topical(&mut random, 333, 200), 200));
        let before = evidence.clone();
        let rows = RowRemap::of_rows(200, |row| row % 3 != 1);
        evidence.keep(&rows);
        let n_kept = rows.n_kept() as u32;
        let kept: Vec<(u32, u32)> = rows.kept().map(|(old, new)| (old as u32, new as u32)).collect();
        for ((old, new), (old_other, new_other)) in
            kept.iter().flat_map(|one| kept.iter().map(move |other| (*one, *other)))
        {
            assert_eq!(evidence.log_odds(new, new_other), before.log_odds(old, old_other));
        }
        // Whoever comes next gets a row that somebody had, but nothing of what was known of them.
        evidence.observe(&[], 200);
        assert_eq!(evidence.expected_count(n_kept, 0), 0.0);
        let read = |evidence: &Evidence, item| (0..n_kept).map(|other| evidence.pair_count(item, other)).sum::<f64>();
        let (gone, new) = (read(&before, 1), read(&evidence, n_kept));
        assert!(new < 0.2 * gone, "{new} of {gone}");
        let mut other = again(&evidence, 200, settings);
        let pairs = topical(&mut random, 333, 150);
        evidence.observe(&pairs, 200);
        other.observe(&pairs, 200);
        assert!((0..150).all(|item| evidence.log_odds(item, 7).to_bits() == other.log_odds(item, 7).to_bits()));
    }

    proptest! {
        #[test]
        fn evidence_accepts_any_stream(
            batches in proptest::collection::vec(
                proptest::collection::vec((prop_oneof![0u32..30, any::<u32>()], 0u32..30), 0..40), 0..30),
            half_life in prop_oneof![
                Just(f64::INFINITY), Just(f64::NAN), Just(0.0), Just(-3.0), 1e-3f64..10.0, 1.0f64..1e6],
            (width, rows) in (0usize..60, 0usize..5),
        ) {
            let mut evidence = Evidence::new(half_life, width, rows);
            for (n_items, pairs) in (0..).zip(&batches) {
                evidence.observe(pairs, n_items);
                for (a, b) in (0..35).flat_map(|a| [(a, 0), (a, a), (3, a), (u32::MAX, a)]) {
                    let (odds, acceptance) = (evidence.log_odds(a, b), evidence.acceptance(a, b));
                    prop_assert!(odds.is_finite() && (0.0..=1.0).contains(&acceptance), "{odds} {acceptance}");
                    prop_assert_eq!(odds.to_bits(), evidence.log_odds(b, a).to_bits());
                }
                again(&evidence, n_items, (half_life, width, rows));
            }
        }

        #[test]
        fn evidence_restore_refuses_nonsense(
            which in 0usize..3, place in 0usize..1_000, cut in any::<bool>(),
            number in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(-1.0), Just(1e300), 0.0f64..1e4],
        ) {
            let mut evidence = Evidence::new(500.0, 50, 3);
            let mut random = Pcg64Mcg::seed_from_u64(9);
            (0..20).for_each(|_| evidence.observe(&topical(&mut random, 100, 60), 60));
            let mut saved = StateDict::default();
            evidence.save(&mut saved);
            let mut arrays: Vec<_> = saved.arrays().map(|(name, array)| (name.to_owned(), array.clone())).collect();
            // Of the cells, the marginals or the scale; keys are between.
            let Array::F64(numbers) = &mut arrays[[0, 2, 3][which]].1 else { panic!("all are real") };
            if cut {
                numbers.pop();
            } else {
                let length = numbers.len();
                numbers[place % length] = number;
            }
            let mut other = Evidence::new(500.0, 50, 3);
            let result = other.restore(60, &mut StateDict::from_arrays(arrays));
            prop_assert!(!cut || result.is_err());
            prop_assert!((0.0..1e300).contains(&number) || result.is_err());
            for (a, b) in (0..60).map(|a| (a, 7)) {
                prop_assert!(other.log_odds(a, b).is_finite());
            }
            if result.is_err() {
                prop_assert_eq!(other.places, 0.0);
            } else {
                other.observe(&[(0, 1)], 60);
                prop_assert!(other.log_odds(0, 1).is_finite());
            }
        }
    }

    #[test]
    fn evidence_restore_refuses_fewer_items_than_counted() {
        let evidence = plain(&[(0, 9)], 10);
        let mut saved = StateDict::default();
        evidence.save(&mut saved);
        assert!(Evidence::new(f64::INFINITY, WIDE.0, WIDE.1).restore(9, &mut saved).is_err());
    }
}
