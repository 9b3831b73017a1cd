//! q̂ as it was at a moment, for a reader, while events go on being counted.

use super::mixture::{FrequencyMixture, ScaledMemory};
use crate::kernel::Kernel;
use crate::kernel::frequency::Contradiction;
use crate::table::paged::Paged;

/// What log q̂ is made of, as it was at a moment.
#[derive(Debug)]
pub struct FrozenFrequencies {
    /// What is summed, with the factors of the frame.
    mixed: Vec<(Paged<f64>, f64)>,
    /// What may object, longest first.
    shorter: Vec<(Paged<f64>, f64, Contradiction)>,
    floor: f64,
    len: usize,
    touched: Option<Vec<u32>>,
}

impl FrozenFrequencies {
    pub(super) fn of(mixture: &FrequencyMixture<'_>, len: usize, touched: Option<Vec<u32>>) -> Self {
        let FrequencyMixture { mixed, shorter, floor } = mixture;
        let mixed = mixed.iter().map(|ScaledMemory { counts, factor }| ((*counts).clone(), *factor)).collect();
        let shorter = shorter
            .iter()
            .map(|(ScaledMemory { counts, factor }, contradiction)| ((*counts).clone(), *factor, *contradiction))
            .collect();
        Self { mixed, shorter, floor: *floor, len, touched }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items that were counted since the copy before this one, some of them more than once; `None` where these are many, or there was
    /// no such copy, or items have other rows since. Of all others q̂ moved only as all of them do.
    pub fn touched(&self) -> Option<&[u32]> {
        self.touched.as_deref()
    }

    /// What makes log q̂.
    pub fn reader(&self) -> FrequencyReader<'_> {
        let scaled = |counts, factor: &f64| ScaledMemory { counts, factor: *factor };
        FrequencyReader(FrequencyMixture {
            mixed: self.mixed.iter().map(|(counts, factor)| scaled(counts, factor)).collect(),
            shorter: self.shorter.iter().map(|(counts, factor, c)| (scaled(counts, factor), *c)).collect(),
            floor: self.floor,
        })
    }
}

/// Makes log q̂ of the items of a copy.
#[derive(Debug)]
pub struct FrequencyReader<'a>(FrequencyMixture<'a>);

impl FrequencyReader<'_> {
    /// `out[k] = log q̂` of item `first + k`.
    pub fn log_frequencies(&self, kernel: Kernel, first: usize, out: &mut [f32]) {
        self.0.log_frequencies(kernel, first, 1.0, out);
    }
}
