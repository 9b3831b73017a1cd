//! The candidate set of a batch: every proposal's draws, equal items merged into one column.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::NoiseSampler;
use super::bank::Bank;
use super::frequency::Frequencies;
use super::uniform::Uniform;
use super::unigram::Unigram;
use crate::config::{NoiseTerm, SamplerKind};

/// Noise samplers with their number of draws per batch.
#[derive(Debug)]
pub struct NoiseMix {
    samplers: Vec<(usize, Box<dyn NoiseSampler>)>,
    drawn: Vec<u32>,
}

impl NoiseMix {
    /// As configured.
    pub fn new(terms: &[NoiseTerm]) -> Self {
        let sampler = |term: &NoiseTerm| -> Option<(usize, Box<dyn NoiseSampler>)> {
            match term.sampler {
                SamplerKind::None => None,
                SamplerKind::Uniform => Some((term.draws, Box::new(Uniform::default()))),
                SamplerKind::Unigram => Some((term.draws, Box::new(Unigram::new(term.power)))),
            }
        };
        Self { samplers: terms.iter().filter_map(sampler).collect(), drawn: Vec::new() }
    }

    /// Takes note of a batch that was added to `frequencies`.
    pub fn observe(&mut self, frequencies: &Frequencies, items: &[u32]) {
        self.samplers.iter_mut().for_each(|(_, sampler)| sampler.observe(frequencies, items));
    }

    /// Makes the samplers' state anew.
    pub fn rebuild(&mut self, frequencies: &Frequencies) {
        self.samplers.iter_mut().for_each(|(_, sampler)| sampler.rebuild(frequencies));
    }
}

/// The columns of a batch.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Item of each column, each once, in the order in which they first came.
    pub items: Vec<u32>,
    /// How many draws each column stands for.
    pub multiplicity: Vec<u32>,
    /// log E_j: how many times the proposals together are expected to bring the item.
    pub log_expected: Vec<f32>,
    /// log q̂ of each column.
    pub log_frequency: Vec<f32>,
    /// Number of draws before merging.
    pub n_draws: usize,
    /// By item: the batch in which it last was a candidate, and its column there.
    places: Vec<(u32, u32)>,
    batch: u32,
}

impl Candidates {
    /// Gathers the candidates of a batch: its `positives`, the bank, and noise drawn from the generator that belongs to
    /// `(seed, step)` alone.
    pub fn gather(
        &mut self,
        positives: impl ExactSizeIterator<Item = u32>,
        bank: &Bank,
        noise: &mut NoiseMix,
        frequencies: &Frequencies,
        (seed, step): (u64, u64),
    ) {
        if self.batch == u32::MAX {
            self.places.fill((0, 0));
            self.batch = 0;
        }
        self.batch += 1;
        self.places.resize(frequencies.len(), (0, 0));
        self.items.clear();
        self.multiplicity.clear();
        let from_stream = positives.len() + bank.iter().len();
        self.n_draws = from_stream;
        positives.chain(bank.iter()).for_each(|item| self.add(item));
        for (index, (draws, sampler)) in noise.samplers.iter().enumerate() {
            let mut random = Pcg64Mcg::seed_from_u64(mix(seed, step, index as u64));
            noise.drawn.clear();
            sampler.draw(*draws, &mut random, &mut noise.drawn);
            self.n_draws += noise.drawn.len();
            noise.drawn.iter().for_each(|item| self.add(*item));
        }

        self.log_frequency.clear();
        self.log_frequency.extend(self.items.iter().map(|item| frequencies.log_frequency(*item)));
        self.log_expected.clear();
        if noise.samplers.is_empty() {
            let log_draws = (from_stream as f64).ln() as f32;
            self.log_expected.extend(self.log_frequency.iter().map(|log_frequency| log_draws + log_frequency));
            return;
        }
        for (item, log_frequency) in self.items.iter().zip(&self.log_frequency) {
            let noise_expected: f64 =
                noise.samplers.iter().map(|(draws, sampler)| *draws as f64 * sampler.probability(*item)).sum();
            let expected = from_stream as f64 * f64::from(*log_frequency).exp() + noise_expected;
            self.log_expected.push(expected.ln() as f32);
        }
    }

    /// The column of `item`, where it is a candidate.
    pub fn column(&self, item: u32) -> Option<u32> {
        match self.places.get(item as usize) {
            Some((batch, column)) if *batch == self.batch => Some(*column),
            _ => None,
        }
    }

    fn add(&mut self, item: u32) {
        match self.column(item) {
            Some(column) => self.multiplicity[column as usize] += 1,
            None => {
                self.places[item as usize] = (self.batch, self.items.len() as u32);
                self.items.push(item);
                self.multiplicity.push(1);
            }
        }
    }
}

/// One number of three (SplitMix64's finisher, Steele et al. 2014, after each).
fn mix(seed: u64, step: u64, stream: u64) -> u64 {
    [seed, step, stream].into_iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, part| {
        let mut x = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frequencies(counts: &[usize]) -> Frequencies {
        let mut frequencies = Frequencies::new(f64::INFINITY);
        frequencies.grow(counts.len());
        for (item, count) in counts.iter().enumerate() {
            frequencies.add(&vec![item as u32; *count]);
        }
        frequencies
    }

    fn term(sampler: SamplerKind, draws: usize, power: f64) -> NoiseTerm {
        NoiseTerm { sampler, draws, power }
    }

    #[test]
    fn equal_candidates_are_merged() {
        let frequencies = frequencies(&[3, 2, 1, 0]);
        let mut bank = Bank::new(10);
        bank.push(&[0, 0, 2]);
        let mut candidates = Candidates::default();
        candidates.gather([1, 0, 1].into_iter(), &bank, &mut NoiseMix::new(&[]), &frequencies, (1, 0));
        assert_eq!(candidates.items, [1, 0, 2]);
        assert_eq!(candidates.multiplicity, [2, 3, 1]);
        assert_eq!((candidates.n_draws, candidates.column(2), candidates.column(3)), (6, Some(2), None));
        let expected = (6.0 * 2.5f64 / 6.0).ln() as f32;
        assert!((candidates.log_expected[0] - expected).abs() < 1e-5);
    }

    #[test]
    fn the_correction_is_of_the_whole_mixture() {
        let frequencies = frequencies(&[8, 2, 0]);
        let mut noise = NoiseMix::new(&[term(SamplerKind::Uniform, 30, 1.0), term(SamplerKind::Unigram, 100, 0.5)]);
        noise.rebuild(&frequencies);
        let mut candidates = Candidates::default();
        candidates.gather([0, 1].into_iter(), &Bank::new(0), &mut noise, &frequencies, (1, 0));
        let unigram = 8.0f64.sqrt() / (8.0f64.sqrt() + 2.0f64.sqrt());
        let expected = (2.0 * 8.5 / 10.0 + 30.0 / 3.0 + 100.0 * unigram).ln();
        assert!((f64::from(candidates.log_expected[0]) - expected).abs() < 1e-5);
        assert_eq!(candidates.n_draws, 132);
    }

    /// Pearson's statistic of draws against the stated probabilities.
    fn chi_square(sampler: &dyn NoiseSampler, n_items: u32, draws: usize) -> (f64, usize) {
        let mut drawn = Vec::new();
        sampler.draw(draws, &mut Pcg64Mcg::seed_from_u64(7), &mut drawn);
        let mut counts = vec![0.0; n_items as usize];
        drawn.iter().for_each(|item| counts[*item as usize] += 1.0);
        let (mut statistic, mut cells) = (0.0, 0);
        for item in 0..n_items {
            let expected = sampler.probability(item) * draws as f64;
            if expected == 0.0 {
                assert_eq!(counts[item as usize], 0.0, "item {item} cannot be drawn");
            } else {
                statistic += (counts[item as usize] - expected).powi(2) / expected;
                cells += 1;
            }
        }
        (statistic, cells - 1)
    }

    #[test]
    fn draws_follow_the_stated_probabilities() {
        let counts: Vec<usize> = (0..200).map(|item| if item % 7 == 3 { 0 } else { 2000 / (item + 1) + 20 }).collect();
        let mut frequencies = frequencies(&counts);
        for step in 0..300 {
            frequencies.add(&[step % 200]);
        }
        for term in [
            term(SamplerKind::Uniform, 1, 1.0),
            term(SamplerKind::Unigram, 1, 1.0),
            term(SamplerKind::Unigram, 1, 0.75),
            term(SamplerKind::Unigram, 1, 0.0),
        ] {
            let mut mix = NoiseMix::new(std::slice::from_ref(&term));
            mix.rebuild(&frequencies);
            let sampler = &*mix.samplers[0].1;
            let sum: f64 = (0..200).map(|item| sampler.probability(item)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{term:?}: probabilities sum to {sum}");
            let (statistic, freedom) = chi_square(sampler, 200, 1_000_000);
            // Mean plus five standard deviations: a chance of about 1e-6.
            let limit = freedom as f64 + 5.0 * (2.0 * freedom as f64).sqrt();
            assert!(statistic < limit, "{term:?}: chi-square {statistic:.1} with {freedom} degrees of freedom");
        }
    }

    proptest! {
        /// A sampler that watched the stream and one made anew from the frequencies draw the same.
        #[test]
        fn rebuilt_samplers_draw_the_same(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..50, 1..20), 1..40),
            half_life in 0.05f64..100.0,
            power in 0.0f64..4.0,
        ) {
            let mut frequencies = Frequencies::new(half_life);
            let (mut watching, mut anew) = (Unigram::new(power), Unigram::new(power));
            for batch in &batches {
                frequencies.grow(batch.iter().max().map_or(0, |item| *item as usize + 1));
                frequencies.add(batch);
                watching.observe(&frequencies, batch);
            }
            anew.rebuild(&frequencies);
            let (mut first, mut second) = (Vec::new(), Vec::new());
            watching.draw(500, &mut Pcg64Mcg::seed_from_u64(3), &mut first);
            anew.draw(500, &mut Pcg64Mcg::seed_from_u64(3), &mut second);
            prop_assert_eq!(&first, &second);
            prop_assert_eq!(first.len(), 500);
            let sum: f64 = (0..frequencies.len() as u32).map(|item| watching.probability(item)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
            prop_assert!(first.iter().all(|item| frequencies.count(*item) > 0.0));
        }
    }
}
