//! What log q̂ is made of: counts by half-life, which are mixed, and shorter ones, which may object.

use std::ops::Range;

use crate::kernel::Kernel;
use crate::kernel::frequency::{self, AgeCorrection, Contradiction, ItemArrivals, ScaledCounts};
use crate::table::paged::{PAGE, Paged};

/// Counts of all items, and the factor that puts them on the common scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaledMemory<'a> {
    pub(super) counts: &'a Paged<f64>,
    pub(super) factor: f64,
}

impl<'a> ScaledMemory<'a> {
    fn of(&self, items: Range<usize>) -> ScaledCounts<'a> {
        ScaledCounts { counts: self.counts.run(items), factor: self.factor }
    }
}

/// The counts that q̂ is made of, as a frame reads them.
#[derive(Debug)]
pub struct FrequencyMixture<'a> {
    /// What is summed, each for the item's age.
    pub(super) mixed: Vec<(ScaledMemory<'a>, AgeCorrection)>,
    /// What may object, longest first.
    pub(super) shorter: Vec<(ScaledMemory<'a>, Contradiction)>,
    /// By item: when it came first, in events.
    pub(super) arrivals: &'a Paged<f64>,
    /// Now, in events.
    pub(super) clock: f64,
    /// Half an event of the baseline.
    pub(super) floor: f64,
}

impl FrequencyMixture<'_> {
    /// `out[k] = factor · log q̂` of item `first + k`.
    pub fn log_frequencies(&self, kernel: Kernel, first: usize, factor: f32, out: &mut [f32]) {
        let (mut mixed, mut shorter) = (Vec::new(), Vec::new());
        let (mut first, mut rest) = (first, out);
        // A page of the counts at a time.
        while !rest.is_empty() {
            let (out, beyond) = rest.split_at_mut(rest.len().min(PAGE - first % PAGE));
            let items = first..first + out.len();
            mixed.clear();
            mixed.extend(self.mixed.iter().map(|(counts, correction)| (counts.of(items.clone()), *correction)));
            shorter.clear();
            shorter
                .extend(self.shorter.iter().map(|(counts, contradiction)| (counts.of(items.clone()), *contradiction)));
            let arrivals = ItemArrivals { of_items: self.arrivals.run(items), clock: self.clock };
            frequency::log_frequencies(kernel, &mixed, &shorter, arrivals, self.floor, factor, out);
            first += out.len();
            rest = beyond;
        }
    }
}
