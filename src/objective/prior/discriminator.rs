//! The discriminator: a small perceptron that is trained to tell samples of the prior from codes, and whose gradient
//! says how codes would have to move to be taken for samples.
//!
//! With x a code or a sample and dim its length:
//!
//! ```text
//! l(x) = w · φ(√dim·x·V + b) + c              D(x) = σ(l(x))
//! ```
//!
//! φ is the leaky rectifier (Maas et al. 2013). The factor √dim brings numbers of rows of norm 1 to about 1.
//!
//! The discriminator descends (Goodfellow et al. 2014)
//!
//! ```text
//! − mean ln D(sample) − mean ln(1 − D(code)) + γ/2 · mean ‖∂l/∂(√dim·x)‖² over the samples
//! ```
//!
//! The last term (R1 of Mescheder et al. 2018) damps the two players: once codes are distributed like the prior, a
//! discriminator without it still points somewhere, and codes follow. They arrive without it too, but swing: free codes
//! of 8 numbers had mean norms of 1.17, 1.25, 0.97 and 0.90 at every 250th step on their way to the sphere; with γ = 0.1
//! it was 1.03, 1.06, 0.99 and 0.99, with γ = 1 0.84, 0.94, 0.97 and 0.97.

use crate::kernel::Kernel;
use crate::kernel::activations::softplus;
use crate::table::adagrad::Parameters;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Slope of the rectifier below 0.
const LEAK: f32 = 0.2;

/// How well samples and codes were told apart, before the step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Judgement {
    /// − mean ln D(sample) − mean ln(1 − D(code)), nats, without the penalty; 2·ln 2 where it cannot tell.
    pub loss: f64,
    /// Share of samples and codes that it was right about.
    pub accuracy: f64,
}

/// The perceptron. Buffers are kept from step to step.
#[derive(Debug, Clone)]
pub(super) struct Discriminator {
    /// V (dim × hidden, by rows), b (hidden), w (hidden), c.
    pub parameters: Parameters,
    dim: usize,
    n_hidden: usize,
    penalty: f32,
    /// rows × hidden: what φ is taken of; then the gradients of that.
    hidden: Vec<f32>,
    /// rows.
    logits: Vec<f32>,
    /// rows: ∂loss/∂logit.
    of_logits: Vec<f32>,
    /// Samples × hidden, and samples × dim: ∂l/∂hidden, ∂l/∂(√dim·x).
    slopes: (Vec<f32>, Vec<f32>),
    /// Samples × hidden: the penalty's gradient with respect to ∂l/∂hidden.
    of_slopes: Vec<f32>,
    gradients: Vec<f32>,
}

impl Discriminator {
    /// Starting from `seed`: V and w normal with the variances of He et al. (2015), the rest 0.
    pub fn new(dim: usize, n_hidden: usize, penalty: f32, seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut numbers = vec![0.0; dim * n_hidden + 2 * n_hidden + 1];
        let mut fill = |numbers: &mut [f32], variance: f32| {
            for number in numbers {
                let normal: f32 = StandardNormal.sample(&mut random);
                *number = normal * variance.sqrt();
            }
        };
        fill(&mut numbers[..dim * n_hidden], 2.0 / dim as f32);
        fill(&mut numbers[(dim + 1) * n_hidden..][..n_hidden], 1.0 / n_hidden as f32);
        Self {
            parameters: Parameters::new(numbers),
            dim,
            n_hidden,
            penalty,
            hidden: Vec::new(),
            logits: Vec::new(),
            of_logits: Vec::new(),
            slopes: (Vec::new(), Vec::new()),
            of_slopes: Vec::new(),
            gradients: Vec::new(),
        }
    }

    /// One step against the loss. `rows` are samples and then as many codes, 2·n × dim.
    pub fn step(&mut self, kernel: Kernel, rows: &[f32], learning_rate: f32) -> Judgement {
        let judgement = self.find_gradients(rows);
        self.parameters.step(kernel, &self.gradients, learning_rate);
        judgement
    }

    /// The loss, and its gradients with respect to the parameters, in `gradients`.
    fn find_gradients(&mut self, rows: &[f32]) -> Judgement {
        let Self { parameters, dim, n_hidden, penalty, hidden, logits, of_logits, slopes, of_slopes, gradients } = self;
        let weights = DiscriminatorWeights::new(*dim, *n_hidden, &parameters.values);
        weights.judge(rows, hidden, logits);
        let n = logits.len() / 2;
        let (mut loss, mut n_right) = (0.0, 0);
        of_logits.clear();
        for (row, logit) in logits.iter().enumerate() {
            let is_sample = row < n;
            // − ln D(x) = softplus(−l), − ln(1 − D(x)) = softplus(l).
            let against = if is_sample { -f64::from(*logit) } else { f64::from(*logit) };
            loss += softplus(against) / n as f64;
            n_right += usize::from(against < 0.0);
            let slope = (sigmoid(against) / n as f64) as f32;
            of_logits.push(if is_sample { -slope } else { slope });
        }
        let scale = weights.scale;
        gradients.clear();
        gradients.resize(parameters.values.len(), 0.0);
        let (of_first, rest) = gradients.split_at_mut(*dim * *n_hidden);
        let (of_biases, rest) = rest.split_at_mut(*n_hidden);
        let (of_second, of_last) = rest.split_at_mut(*n_hidden);
        let mut of_first = matrix_mut(of_first, *n_hidden);
        if *penalty > 0.0 {
            // With s = w ⊙ φ' the slope is g = s·Vᵀ; φ' is constant nearly everywhere.
            let (of_hidden, of_input) = slopes;
            of_hidden.clear();
            for row in hidden[..n * *n_hidden].chunks_exact(*n_hidden) {
                of_hidden.extend(row.iter().zip(weights.second).map(|(x, weight)| weight * leak(*x)));
            }
            of_input.resize(n * *dim, 0.0);
            of_slopes.resize(n * *n_hidden, 0.0);
            let mut of_input = matrix_mut(of_input, *dim);
            general_mat_mul(1.0, &matrix(of_hidden, *n_hidden), &weights.first.t(), 0.0, &mut of_input);
            let factor = *penalty / n as f32;
            general_mat_mul(factor, &of_input.t(), &matrix(of_hidden, *n_hidden), 0.0, &mut of_first);
            general_mat_mul(factor, &of_input, &weights.first, 0.0, &mut matrix_mut(of_slopes, *n_hidden));
            for (row, slopes) in hidden.chunks_exact(*n_hidden).zip(of_slopes.chunks_exact(*n_hidden)) {
                let numbers = of_second.iter_mut().zip(row).zip(slopes);
                numbers.for_each(|((of_weight, x), slope)| *of_weight += slope * leak(*x));
            }
        }
        for (row, of_logit) in hidden.chunks_exact_mut(*n_hidden).zip(&*of_logits) {
            of_last[0] += of_logit;
            let numbers = row.iter_mut().zip(&mut *of_biases).zip(&mut *of_second).zip(weights.second);
            for (((x, of_bias), of_weight), weight) in numbers {
                let slope = leak(*x);
                *of_weight += of_logit * slope * *x;
                *x = of_logit * weight * slope;
                *of_bias += *x;
            }
        }
        general_mat_mul(scale, &matrix(rows, *dim).t(), &matrix(hidden, *n_hidden), 1.0, &mut of_first);
        Judgement { loss, accuracy: n_right as f64 / (2 * n) as f64 }
    }

    /// The non-saturating loss of whoever makes the codes, − mean ln D(code) in nats (Goodfellow et al. 2014, §3), and
    /// its gradient with respect to `codes` (n × dim) in place of what is in `gradients`.
    pub fn fool(&mut self, codes: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { parameters, dim, n_hidden, hidden, logits, .. } = self;
        let weights = DiscriminatorWeights::new(*dim, *n_hidden, &parameters.values);
        weights.judge(codes, hidden, logits);
        let n = logits.len() as f64;
        let mut loss = 0.0;
        for (row, logit) in hidden.chunks_exact_mut(*n_hidden).zip(&*logits) {
            let against = -f64::from(*logit);
            loss += softplus(against) / n;
            let of_logit = -(sigmoid(against) / n) as f32;
            row.iter_mut().zip(weights.second).for_each(|(x, weight)| *x = of_logit * weight * leak(*x));
        }
        let mut gradients = matrix_mut(gradients, *dim);
        general_mat_mul(weights.scale, &matrix(hidden, *n_hidden), &weights.first.t(), 0.0, &mut gradients);
        loss
    }
}

/// The parameters, as what they are.
struct DiscriminatorWeights<'a> {
    n_hidden: usize,
    scale: f32,
    first: ArrayView2<'a, f32>,
    biases: &'a [f32],
    second: &'a [f32],
    last: f32,
}

impl<'a> DiscriminatorWeights<'a> {
    fn new(dim: usize, n_hidden: usize, numbers: &'a [f32]) -> Self {
        let (first, rest) = numbers.split_at(dim * n_hidden);
        let (biases, rest) = rest.split_at(n_hidden);
        let (second, last) = rest.split_at(n_hidden);
        let scale = (dim as f32).sqrt();
        Self { n_hidden, scale, first: matrix(first, n_hidden), biases, second, last: last[0] }
    }

    /// The logits of `rows`, and what φ was taken of.
    fn judge(&self, rows: &[f32], hidden: &mut Vec<f32>, logits: &mut Vec<f32>) {
        let dim = self.first.nrows();
        hidden.clear();
        (0..rows.len() / dim).for_each(|_| hidden.extend_from_slice(self.biases));
        general_mat_mul(self.scale, &matrix(rows, dim), &self.first, 1.0, &mut matrix_mut(hidden, self.n_hidden));
        logits.clear();
        logits.extend(hidden.chunks_exact(self.n_hidden).map(|row| {
            let products = row.iter().zip(self.second).map(|(x, weight)| weight * leak(*x) * x);
            self.last + products.sum::<f32>()
        }));
    }
}

/// φ'(x); φ(x) = φ'(x)·x.
fn leak(x: f32) -> f32 {
    if x < 0.0 { LEAK } else { 1.0 }
}

/// 1/(1 + e^-x), of any x without overflow.
fn sigmoid(x: f64) -> f64 {
    let power = (-x.abs()).exp();
    if x < 0.0 { power / (1.0 + power) } else { 1.0 / (1.0 + power) }
}

fn matrix(numbers: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((numbers.len() / width, width), numbers).expect("whole rows")
}

fn matrix_mut(numbers: &mut [f32], width: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((numbers.len() / width, width), numbers).expect("whole rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: f64 = 1e-8;

    fn normals(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        (0..n).map(|_| StandardNormal.sample(&mut random)).collect()
    }

    fn as_double(numbers: &[f32]) -> Vec<f64> {
        numbers.iter().map(|number| f64::from(*number)).collect()
    }

    /// A discriminator whose biases are not 0, and 2·n rows.
    fn case(dim: usize, n_hidden: usize, n: usize, penalty: f32) -> (Discriminator, Vec<f32>) {
        let mut discriminator = Discriminator::new(dim, n_hidden, penalty, 1);
        let numbers = &mut discriminator.parameters.values;
        let noise = normals(numbers.len(), 2);
        numbers.iter_mut().zip(noise).for_each(|(number, noise)| *number += 0.3 * noise);
        (discriminator, normals(2 * n * dim, 3))
    }

    /// The logit of `row` and the squared norm of its slope, by the book.
    fn reference(numbers: &[f64], n_hidden: usize, row: &[f64]) -> (f64, f64) {
        let dim = row.len();
        let (first, rest) = numbers.split_at(dim * n_hidden);
        let (mut logit, mut slope) = (rest[2 * n_hidden], vec![0.0; dim]);
        for unit in 0..n_hidden {
            let products: f64 = (0..dim).map(|k| (dim as f64).sqrt() * row[k] * first[k * n_hidden + unit]).sum();
            let x = products + rest[unit];
            let rectified = if x < 0.0 { f64::from(LEAK) } else { 1.0 };
            logit += rest[n_hidden + unit] * rectified * x;
            (0..dim).for_each(|k| slope[k] += rest[n_hidden + unit] * rectified * first[k * n_hidden + unit]);
        }
        (logit, slope.iter().map(|number| number * number).sum())
    }

    /// Loss and penalty together.
    fn objective(numbers: &[f64], n_hidden: usize, penalty: f64, dim: usize, rows: &[f64]) -> f64 {
        let n = rows.len() / dim / 2;
        let losses = rows.chunks_exact(dim).enumerate().map(|(row, numbers_of_row)| {
            let (logit, square) = reference(numbers, n_hidden, numbers_of_row);
            let share = 1.0 / (1.0 + (-logit).exp());
            if row < n { -share.ln() + 0.5 * penalty * square } else { -(1.0 - share).ln() }
        });
        losses.sum::<f64>() / n as f64
    }

    /// The central difference of `function` at number `k` of `at`.
    fn difference(at: &[f64], k: usize, function: impl Fn(&[f64]) -> f64) -> f64 {
        let moved = |by: f64| {
            let mut moved = at.to_vec();
            moved[k] += by;
            function(&moved)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    }

    fn check(found: &[f32], truth: impl Fn(usize) -> f64) {
        let largest = found.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for (k, found) in found.iter().enumerate() {
            let truth = truth(k);
            let allowed = 1e-4 * truth.abs() + 1e-5 * f64::from(largest) + 1e-7;
            assert!((f64::from(*found) - truth).abs() < allowed, "number {k}: {found}, not {truth}");
        }
    }

    #[test]
    fn discriminator_gradients_equal_finite_differences() {
        for (dim, n_hidden, n, penalty) in [(1, 1, 1, 0.0), (3, 5, 4, 0.0), (3, 5, 4, 2.0), (9, 17, 12, 0.5)] {
            let (mut discriminator, rows) = case(dim, n_hidden, n, penalty);
            let numbers = as_double(&discriminator.parameters.values);
            let double_rows = as_double(&rows);
            let judgement = discriminator.find_gradients(&rows);
            let loss = objective(&numbers, n_hidden, 0.0, dim, &double_rows);
            assert!((judgement.loss - loss).abs() < 1e-5, "{} is not {loss}", judgement.loss);
            check(&discriminator.gradients, |k| {
                difference(&numbers, k, |numbers| objective(numbers, n_hidden, f64::from(penalty), dim, &double_rows))
            });

            let codes = &double_rows[n * dim..];
            let fooled = |codes: &[f64]| {
                let losses = codes.chunks_exact(dim).map(|code| (-reference(&numbers, n_hidden, code).0).exp().ln_1p());
                losses.sum::<f64>() / n as f64
            };
            let mut gradients = vec![f32::NAN; n * dim];
            let loss = discriminator.fool(&rows[n * dim..], &mut gradients);
            assert!((loss - fooled(codes)).abs() < 1e-5);
            check(&gradients, |k| difference(codes, k, fooled));
        }
    }

    #[test]
    fn discriminator_separates_distant_distributions() {
        let (mut discriminator, mut rows) = case(4, 16, 50, 0.0);
        rows[200..].iter_mut().for_each(|number| *number += 3.0);
        let kernel = Kernel::detect();
        let first = discriminator.step(kernel, &rows, 0.05);
        (0..200).for_each(|_| {
            discriminator.step(kernel, &rows, 0.05);
        });
        let last = discriminator.step(kernel, &rows, 0.05);
        assert!(last.loss < 0.2 * first.loss && last.accuracy > 0.95, "{first:?}, then {last:?}");
        // And what is not apart is not: with the same rows on both sides nothing is left but to guess.
        let (samples, codes) = rows.split_at_mut(200);
        codes.copy_from_slice(samples);
        let same = discriminator.find_gradients(&rows);
        assert_eq!(same.accuracy, 0.5);
    }

    #[test]
    fn discriminator_stays_finite_for_unbounded_logits() {
        let (mut discriminator, mut rows) = case(2, 4, 3, 0.5);
        rows.iter_mut().for_each(|number| *number *= 1e6);
        assert!(discriminator.find_gradients(&rows).loss.is_finite());
        let mut gradients = vec![0.0; 6];
        assert!(discriminator.fool(&rows[6..], &mut gradients).is_finite());
        assert!(gradients.iter().chain(&discriminator.gradients).all(|number| number.is_finite()));
    }
}
