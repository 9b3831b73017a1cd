//! `uniform`: every live item alike.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::NoiseSampler;
use super::frequency::Frequencies;

/// Draws from all items.
#[derive(Debug, Default)]
pub struct Uniform {
    n_items: u32,
}

impl NoiseSampler for Uniform {
    fn observe(&mut self, frequencies: &Frequencies, _items: &[u32]) {
        self.rebuild(frequencies);
    }

    fn rebuild(&mut self, frequencies: &Frequencies) {
        self.n_items = frequencies.len() as u32;
    }

    fn draw(&self, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.n_items > 0 {
            out.extend((0..draws).map(|_| random.random_range(0..self.n_items)));
        }
    }

    fn probability(&self, item: u32) -> f64 {
        if item < self.n_items { f64::from(self.n_items).recip() } else { 0.0 }
    }
}
