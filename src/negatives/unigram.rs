//! `unigram`: in proportion to a power of the decayed count, n_j^α.
//!
//! A tree of sums over the items: an update or a draw costs log₂ n. Decay multiplies all counts alike, so their powers
//! too, and the tree need not hear of it. Each inner node is the sum of its two children, computed anew when one
//! changes; so the tree is a function of its leaves, and one rebuilt from a checkpoint draws the same.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::NoiseSampler;
use super::frequency::Frequencies;

/// Draws by frequency.
#[derive(Debug)]
pub struct Unigram {
    power: f64,
    /// Node `n` has the children `2n` and `2n + 1`; leaves begin in the middle. Node 1 is the sum of all.
    nodes: Vec<f64>,
}

impl Unigram {
    /// For the given power α.
    pub fn new(power: f64) -> Self {
        Self { power, nodes: vec![0.0; 2] }
    }

    fn first_leaf(&self) -> usize {
        self.nodes.len() / 2
    }

    fn leaf(&self, count: f64) -> f64 {
        // 0⁰ would be 1, but an item that never came has no frequency.
        if count > 0.0 { count.powf(self.power) } else { 0.0 }
    }
}

impl NoiseSampler for Unigram {
    fn observe(&mut self, frequencies: &Frequencies, items: &[u32]) {
        if frequencies.rescaled() || frequencies.len() > self.first_leaf() {
            return self.rebuild(frequencies);
        }
        for item in items {
            let mut node = self.first_leaf() + *item as usize;
            self.nodes[node] = self.leaf(frequencies.relative()[*item as usize]);
            while node > 1 {
                node /= 2;
                self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
            }
        }
    }

    fn rebuild(&mut self, frequencies: &Frequencies) {
        let leaves = frequencies.len().next_power_of_two().max(1);
        self.nodes = vec![0.0; 2 * leaves];
        for (item, count) in frequencies.relative().iter().enumerate() {
            self.nodes[leaves + item] = self.leaf(*count);
        }
        for node in (1..leaves).rev() {
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
        }
    }

    fn draw(&self, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        let total = self.nodes[1];
        if total <= 0.0 {
            return;
        }
        for _ in 0..draws {
            let mut rest = random.random::<f64>() * total;
            let mut node = 1;
            while node < self.first_leaf() {
                let left = self.nodes[2 * node];
                // Rounding may leave a rest beyond the last leaf with weight: never step onto an empty side.
                if rest < left || self.nodes[2 * node + 1] <= 0.0 {
                    node *= 2;
                } else {
                    rest -= left;
                    node = 2 * node + 1;
                }
            }
            out.push((node - self.first_leaf()) as u32);
        }
    }

    fn probability(&self, item: u32) -> f64 {
        match self.nodes.get(self.first_leaf() + item as usize) {
            Some(weight) if self.nodes[1] > 0.0 => weight / self.nodes[1],
            _ => 0.0,
        }
    }
}
