//! Functions of a whole row of logits, for losses that the fused kernel does not know.

use super::exp::{exp, ln};
use super::{Kernel, LANES, Lanes, for_each_isa};

/// The largest of the numbers; −∞ where there are none.
pub fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Puts `exp(factor · x − shift)` in the place of each number, and gives their sum.
pub fn exponentials(kernel: Kernel, numbers: &mut [f32], factor: f32, shift: f32) -> f64 {
    run_exponentials(kernel.isa, numbers, factor, shift)
}

/// Puts `m·σ(x)` in the place of each number x that counts m times, and gives `Σ m·log(1 + exp x)`.
///
/// # Panics
/// If the lengths differ.
pub fn logistic(kernel: Kernel, numbers: &mut [f32], counts: &[f32]) -> f64 {
    assert_eq!(numbers.len(), counts.len());
    run_logistic(kernel.isa, numbers, counts)
}

/// `log(1 + exp x)`, without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

for_each_isa!(run_exponentials = exponentials_body(numbers: &mut [f32], factor: f32, shift: f32) -> f64);
for_each_isa!(run_logistic = logistic_body(numbers: &mut [f32], counts: &[f32]) -> f64);

#[inline(always)]
fn exponentials_body<const FMA: bool, const ROWS: usize>(numbers: &mut [f32], factor: f32, shift: f32) -> f64 {
    let mut sums = [0.0; LANES];
    for block in numbers.chunks_mut(LANES) {
        let mut x = [f32::NEG_INFINITY; LANES];
        for k in 0..block.len().min(LANES) {
            x[k] = factor * block[k] - shift;
        }
        let powers = exp::<FMA>(x);
        for lane in 0..LANES {
            sums[lane] += powers[lane];
        }
        block.copy_from_slice(&powers[..block.len()]);
    }
    total(&sums)
}

#[inline(always)]
fn logistic_body<const FMA: bool, const ROWS: usize>(numbers: &mut [f32], counts: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    for (first, block) in numbers.chunks_mut(LANES).enumerate() {
        let counts = &counts[first * LANES..][..block.len()];
        let (mut x, mut count) = ([f32::NEG_INFINITY; LANES], [0.0; LANES]);
        x[..block.len()].copy_from_slice(block);
        count[..counts.len()].copy_from_slice(counts);
        let mut negative = [0.0; LANES];
        for lane in 0..LANES {
            negative[lane] = -x[lane].abs();
        }
        // The sign decides which of the two forms overflows nowhere.
        let power = exp::<FMA>(negative);
        let mut one_more = [0.0; LANES];
        for lane in 0..LANES {
            one_more[lane] = 1.0 + power[lane];
        }
        let log = ln::<FMA>(one_more);
        let mut weights = [0.0; LANES];
        for lane in 0..LANES {
            let (positive, share) = if x[lane] > 0.0 { (x[lane], 1.0) } else { (0.0, power[lane]) };
            sums[lane] += count[lane] * (positive + log[lane]);
            weights[lane] = count[lane] * share / one_more[lane];
        }
        block.copy_from_slice(&weights[..block.len()]);
    }
    total(&sums)
}

fn total(sums: &Lanes) -> f64 {
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adagrad_variants_agree_with_double_precision() {
        let numbers: Vec<f32> = (0..77).map(|k| (k as f32 * 0.7).sin() * 30.0).chain([f32::NEG_INFINITY]).collect();
        let counts: Vec<f32> = (0..78).map(|k| (k % 4) as f32).collect();
        for kernel in Kernel::available() {
            let mut found = numbers.clone();
            let sum = exponentials(kernel, &mut found, 1.5, 46.0);
            let truth: Vec<f64> = numbers.iter().map(|x| (1.5 * f64::from(*x) - 46.0).exp()).collect();
            let near = |a: f64, b: f64| (a - b).abs() < 2e-5 * b.abs() + 1e-30;
            assert!(near(sum, truth.iter().sum()), "{kernel:?}: {sum}");
            // What is below e^−87 counts as nothing.
            assert!(found.iter().zip(&truth).all(|(a, b)| near(f64::from(*a), *b) || *b < 2e-38), "{kernel:?}");

            let mut found = numbers.clone();
            let sum = logistic(kernel, &mut found, &counts);
            let truth = numbers.iter().zip(&counts).map(|(x, m)| f64::from(*m) * softplus(f64::from(*x)));
            assert!((sum - truth.sum::<f64>()).abs() < 1e-3, "{kernel:?}: {sum}");
            for ((x, m), found) in numbers.iter().zip(&counts).zip(&found) {
                let truth = f64::from(*m) / (1.0 + (-f64::from(*x)).exp());
                assert!((f64::from(*found) - truth).abs() < 1e-6, "{kernel:?}: {x}: {found}, not {truth}");
            }
        }
    }
}
