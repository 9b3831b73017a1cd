//! A mixture of Gaussians with diagonal covariances, estimated on the codes as they come.
//!
//! ```text
//! p(x) = Σ_k π_k Π_j N(x_j; μ_kj, exp v_kj)              π = softmax(a)
//! ```
//!
//! μ, v and a climb the gradient of the batch's mean log-likelihood: with the responsibilities
//! `γ_k(x) = π_k N(x; μ_k, v_k) / p(x)` (Dempster et al. 1977; as a gradient: Xu & Jordan 1996)
//!
//! ```text
//! ∂/∂μ_kj = mean γ_k (x_j − μ_kj)/exp v_kj      ∂/∂v_kj = mean γ_k ½((x_j − μ_kj)²/exp v_kj − 1)      ∂/∂a_k = mean γ_k − π_k
//! ```
//!
//! Adagrad's steps shrink with what it has seen, so that it follows a drift, but a sudden change only over hundreds of
//! steps. The first batch begins it: centres by k-means++ (Arthur & Vassilvitskii 2007) and a few of Lloyd's iterations.

use crate::kernel::Kernel;
use crate::table::adagrad::Parameters;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Iterations of Lloyd's on the first batch: a start, not a fit.
const ITERATIONS: usize = 10;
/// A component begins as if it had seen so many codes more, spread like all of the batch: few codes say little.
const PSEUDO_CODES: f64 = 4.0;
/// No variance falls below this share of 1/dim, the variance of each number of rows of norm 1: a component that closed
/// upon a single code would have a density without bound.
const SMALLEST_VARIANCE: f32 = 1e-4;

/// The mixture. Buffers are kept from step to step.
#[derive(Debug, Clone)]
pub(super) struct GaussianMixture {
    /// components × dim: μ.
    pub means: Parameters,
    /// components × dim: v.
    pub log_variances: Parameters,
    /// components: a.
    pub logits: Parameters,
    /// One number: 0 before the first batch, 1 after it.
    pub begun: Parameters,
    dim: usize,
    /// components: π, and γ of one code.
    shares: Vec<f64>,
    responsibilities: Vec<f64>,
    /// components × dim: 1/exp v.
    precisions: Vec<f32>,
    /// components: ln π_k − ½ Σ_j v_kj − ½ dim ln 2π.
    constants: Vec<f64>,
    of_means: Vec<f32>,
    of_log_variances: Vec<f32>,
    of_logits: Vec<f32>,
}

impl GaussianMixture {
    /// Of `components` that are all N(0, I/dim) until the first batch.
    pub fn new(components: usize, dim: usize) -> Self {
        Self {
            means: Parameters::new(vec![0.0; components * dim]),
            log_variances: Parameters::new(vec![-(dim as f32).ln(); components * dim]),
            logits: Parameters::new(vec![0.0; components]),
            begun: Parameters::new(vec![0.0]),
            dim,
            shares: Vec::new(),
            responsibilities: Vec::new(),
            precisions: Vec::new(),
            constants: Vec::new(),
            of_means: Vec::new(),
            of_log_variances: Vec::new(),
            of_logits: Vec::new(),
        }
    }

    /// Learns from `codes` (n × dim, n ≥ 1): one step, or on the first batch the start and one step. Gives the mean
    /// log-likelihood of the codes before the step, in nats.
    ///
    /// Means take steps of `learning_rate`/√dim, so that one moves by about `learning_rate` when all its numbers move.
    pub fn step(&mut self, kernel: Kernel, codes: &[f32], random: &mut Pcg64Mcg, learning_rate: f32) -> f64 {
        if self.begun.values[0] == 0.0 {
            self.begin(codes, random);
        }
        let log_likelihood = self.find_gradients(codes);
        self.means.step(kernel, &self.of_means, learning_rate / (self.dim as f32).sqrt());
        self.log_variances.step(kernel, &self.of_log_variances, learning_rate);
        self.logits.step(kernel, &self.of_logits, learning_rate);
        let lowest = (SMALLEST_VARIANCE / self.dim as f32).ln();
        for number in &mut self.log_variances.values {
            // Not `max`, which would hide that a number is none.
            if *number < lowest {
                *number = lowest;
            }
        }
        log_likelihood
    }

    /// Appends `n` samples to `out`.
    pub fn draw(&mut self, n: usize, random: &mut Pcg64Mcg, out: &mut Vec<f32>) {
        self.update_shares();
        for _ in 0..n {
            let component = pick(&self.shares, random);
            let numbers = component * self.dim..(component + 1) * self.dim;
            let log_variances = &self.log_variances.values[numbers.clone()];
            out.extend(self.means.values[numbers].iter().zip(log_variances).map(|(mean, log_variance)| {
                let normal: f32 = StandardNormal.sample(random);
                mean + (0.5 * log_variance).exp() * normal
            }));
        }
    }

    fn update_shares(&mut self) {
        let largest = self.logits.values.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        self.shares.clear();
        self.shares.extend(self.logits.values.iter().map(|logit| f64::from(logit - largest).exp()));
        let sum: f64 = self.shares.iter().sum();
        self.shares.iter_mut().for_each(|share| *share /= sum);
    }

    /// The mean log-likelihood, and the gradients of minus that, in `of_means`, `of_log_variances` and `of_logits`.
    fn find_gradients(&mut self, codes: &[f32]) -> f64 {
        self.update_shares();
        let Self { means, log_variances, dim, shares, responsibilities, precisions, constants, .. } = self;
        let Self { of_means, of_log_variances, of_logits, .. } = self;
        precisions.clear();
        precisions.extend(log_variances.values.iter().map(|log_variance| (-log_variance).exp()));
        let all = *dim as f64 * std::f64::consts::TAU.ln();
        constants.clear();
        constants.extend(shares.iter().zip(log_variances.values.chunks_exact(*dim)).map(|(share, log_variances)| {
            share.ln() - 0.5 * (all + log_variances.iter().map(|number| f64::from(*number)).sum::<f64>())
        }));
        let n = (codes.len() / *dim) as f64;
        for gradients in [&mut *of_means, of_log_variances] {
            gradients.clear();
            gradients.resize(means.values.len(), 0.0);
        }
        of_logits.clear();
        of_logits.extend(shares.iter().map(|share| *share as f32));
        let mut log_likelihood = 0.0;
        for code in codes.chunks_exact(*dim) {
            responsibilities.clear();
            let components = means.values.chunks_exact(*dim).zip(precisions.chunks_exact(*dim)).zip(&*constants);
            responsibilities.extend(components.map(|((mean, precision), constant)| {
                let numbers = code.iter().zip(mean).zip(precision);
                let square: f32 = numbers.map(|((x, mean), precision)| (x - mean) * (x - mean) * precision).sum();
                constant - 0.5 * f64::from(square)
            }));
            let largest = responsibilities.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let sum: f64 = responsibilities.iter().map(|log| (log - largest).exp()).sum();
            log_likelihood += (largest + sum.ln()) / n;
            for (component, log) in responsibilities.iter().enumerate() {
                let share = ((log - largest).exp() / sum / n) as f32;
                of_logits[component] -= share;
                let place = component * *dim;
                let (mean, precision) = (&means.values[place..][..*dim], &precisions[place..][..*dim]);
                let of_mean = &mut of_means[place..][..*dim];
                let of_log_variance = &mut of_log_variances[place..][..*dim];
                for k in 0..*dim {
                    let pull = (code[k] - mean[k]) * precision[k];
                    of_mean[k] -= share * pull;
                    of_log_variance[k] -= share * 0.5 * (pull * (code[k] - mean[k]) - 1.0);
                }
            }
        }
        log_likelihood
    }

    /// Centres, variances and shares of the clusters of `codes`.
    fn begin(&mut self, codes: &[f32], random: &mut Pcg64Mcg) {
        let dim = self.dim;
        let n_components = self.logits.values.len();
        let n_codes = codes.len() / dim;
        let all = Moments::new(codes.chunks_exact(dim), dim);
        // As if one code more had come, at the distance of a row of norm 1: never 0, whatever the batch.
        let spread: Vec<f64> = all.squares.iter().map(|sum| (sum + 1.0 / dim as f64) / (n_codes + 1) as f64).collect();
        let mut centres: Vec<Vec<f64>> = Vec::with_capacity(n_components);
        let mut distances = vec![f64::INFINITY; n_codes];
        for component in 0..n_components {
            let total: f64 = distances.iter().sum();
            let centre = if component == 0 {
                row(codes, random.random_range(0..n_codes), dim)
            } else if total > 0.0 {
                row(codes, pick(&distances, random), dim)
            } else {
                // Fewer different codes than components: two in one place would stay together for ever.
                let normals = all.mean.iter().zip(&spread);
                normals.map(|(mean, square)| mean + square.sqrt() * normal(random)).collect()
            };
            for (code, nearest) in codes.chunks_exact(dim).zip(&mut distances) {
                *nearest = nearest.min(distance(code, &centre));
            }
            centres.push(centre);
        }
        let mut owners = vec![0; n_codes];
        let mut clusters = Vec::new();
        for _ in 0..ITERATIONS {
            for (code, owner) in codes.chunks_exact(dim).zip(&mut owners) {
                let mut nearest = (f64::INFINITY, 0);
                for (component, centre) in centres.iter().enumerate() {
                    let distance = distance(code, centre);
                    if distance < nearest.0 {
                        nearest = (distance, component);
                    }
                }
                *owner = nearest.1;
            }
            clusters.clear();
            clusters.extend((0..n_components).map(|component| {
                let own = codes.chunks_exact(dim).zip(&owners).filter(|(_, owner)| **owner == component);
                Moments::new(own.map(|(code, _)| code), dim)
            }));
            for (centre, cluster) in centres.iter_mut().zip(&clusters) {
                if cluster.count > 0 {
                    centre.clone_from(&cluster.mean);
                }
            }
        }
        for (component, (centre, cluster)) in centres.iter().zip(&clusters).enumerate() {
            self.logits.values[component] = ((cluster.count + 1) as f64 / (n_codes + n_components) as f64).ln() as f32;
            for k in 0..dim {
                let squares = cluster.squares[k] + PSEUDO_CODES * spread[k];
                self.means.values[component * dim + k] = centre[k] as f32;
                self.log_variances.values[component * dim + k] =
                    (squares / (cluster.count as f64 + PSEUDO_CODES)).ln() as f32;
            }
        }
        self.begun.values[0] = 1.0;
    }
}

/// Of some codes.
struct Moments {
    count: usize,
    /// dim; 0 where there are no codes.
    mean: Vec<f64>,
    /// dim: sums of the squared distances from the mean.
    squares: Vec<f64>,
}

impl Moments {
    fn new<'a>(codes: impl Iterator<Item = &'a [f32]>, dim: usize) -> Self {
        let mut moments = Self { count: 0, mean: vec![0.0; dim], squares: vec![0.0; dim] };
        // One code at a time (Welford 1962), so that nothing cancels.
        for code in codes {
            moments.count += 1;
            for ((x, mean), squares) in code.iter().zip(&mut moments.mean).zip(&mut moments.squares) {
                let before = f64::from(*x) - *mean;
                *mean += before / moments.count as f64;
                *squares += before * (f64::from(*x) - *mean);
            }
        }
        moments
    }
}

/// Draws an index in proportion to `weights`, which are none below 0 and not all 0.
fn pick(weights: &[f64], random: &mut Pcg64Mcg) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    let mut last = 0;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = index;
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

fn normal(random: &mut Pcg64Mcg) -> f64 {
    StandardNormal.sample(random)
}

fn row(codes: &[f32], index: usize, dim: usize) -> Vec<f64> {
    codes[index * dim..][..dim].iter().map(|number| f64::from(*number)).collect()
}

/// Squared.
fn distance(code: &[f32], centre: &[f64]) -> f64 {
    code.iter().zip(centre).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const STEP: f64 = 1e-6;

    fn normals(n: usize, random: &mut Pcg64Mcg) -> Vec<f32> {
        (0..n).map(|_| StandardNormal.sample(random)).collect()
    }

    /// The mean log-likelihood by the book; `numbers` are means, log-variances and logits.
    fn reference(numbers: &[f64], components: usize, dim: usize, codes: &[f32]) -> f64 {
        let (means, rest) = numbers.split_at(components * dim);
        let (log_variances, logits) = rest.split_at(components * dim);
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let logs = codes.chunks_exact(dim).map(|code| {
            let densities = (0..components).map(|component| {
                let share = logits[component].exp() / sum;
                let log: f64 = (0..dim)
                    .map(|k| {
                        let variance = log_variances[component * dim + k].exp();
                        let square = (f64::from(code[k]) - means[component * dim + k]).powi(2);
                        -0.5 * (square / variance + variance.ln() + std::f64::consts::TAU.ln())
                    })
                    .sum();
                share * log.exp()
            });
            densities.sum::<f64>().ln()
        });
        logs.sum::<f64>() / (codes.len() / dim) as f64
    }

    #[test]
    fn mixture_gradients_equal_finite_differences() {
        for (components, dim, n) in [(1, 1, 1), (1, 3, 5), (3, 2, 20), (4, 7, 15)] {
            let mut random = Pcg64Mcg::seed_from_u64(1);
            let codes = normals(n * dim, &mut random);
            let mut mixture = GaussianMixture::new(components, dim);
            mixture.means.values = normals(components * dim, &mut random);
            mixture.log_variances.values = normals(components * dim, &mut random);
            mixture.logits.values = normals(components, &mut random);
            let log_likelihood = mixture.find_gradients(&codes);
            let numbers = [&mixture.means, &mixture.log_variances, &mixture.logits];
            let numbers: Vec<f64> = numbers.iter().flat_map(|some| &some.values).map(|x| f64::from(*x)).collect();
            let truth = reference(&numbers, components, dim, &codes);
            assert!((log_likelihood - truth).abs() < 1e-5 * truth.abs().max(1.0), "{log_likelihood} is not {truth}");
            let gradients = [&mixture.of_means, &mixture.of_log_variances, &mixture.of_logits];
            for (k, found) in gradients.into_iter().flatten().enumerate() {
                let moved = |by: f64| {
                    let mut moved = numbers.clone();
                    moved[k] += by;
                    reference(&moved, components, dim, &codes)
                };
                // The product code descends minus the likelihood.
                let truth = -(moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let allowed = 1e-4 * truth.abs() + 1e-6;
                assert!((f64::from(*found) - truth).abs() < allowed, "number {k}: {found}, not {truth}");
            }
        }
    }

    #[test]
    fn mixture_begins_at_clusters_of_first_batch() {
        let mut random = Pcg64Mcg::seed_from_u64(2);
        let mut codes = normals(300 * 2, &mut random);
        codes.iter_mut().for_each(|number| *number *= 0.1);
        for (row, code) in codes.chunks_exact_mut(2).enumerate() {
            // A sixth, a third, a half.
            code[0] += [0.0, 3.0, 3.0, -3.0, -3.0, -3.0][row % 6];
        }
        let mut mixture = GaussianMixture::new(3, 2);
        mixture.begin(&codes, &mut random);
        mixture.update_shares();
        let mut found: Vec<(f32, f64)> =
            (0..3).map(|component| (mixture.means.values[component * 2], mixture.shares[component])).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        for ((mean, share), truth) in found.into_iter().zip([(-3.0, 1.0 / 2.0), (0.0, 1.0 / 6.0), (3.0, 1.0 / 3.0)]) {
            assert!((mean - truth.0).abs() < 0.1 && (share - truth.1).abs() < 0.02, "{mean} {share}, not {truth:?}");
        }
    }

    #[test]
    fn mixture_begins_with_any_first_batch() {
        for codes in [vec![0.5; 2], vec![0.5; 12], vec![0.0, 1.0, 0.0, 1.0, 2.0, 2.0], vec![0.0; 2]] {
            let mut random = Pcg64Mcg::seed_from_u64(3);
            let mut mixture = GaussianMixture::new(4, 2);
            for _ in 0..50 {
                assert!(mixture.step(Kernel::detect(), &codes, &mut random, 0.1).is_finite());
            }
            let mut samples = Vec::new();
            mixture.draw(20, &mut random, &mut samples);
            assert!(samples.iter().chain(&mixture.log_variances.values).all(|number| number.is_finite()));
            let means = &mixture.means.values;
            assert!((1..4).all(|other| means[..2] != means[other * 2..][..2]), "no two may be the same: {means:?}");
        }
    }
}
