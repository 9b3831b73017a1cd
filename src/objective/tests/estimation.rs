//! Known parameters (as Gutmann & Hyvärinen 2010 test it): noise-contrastive estimation of a model that is not normalised.
//!
//! The data are Gaussian in 3 dimensions; the model is `log p(x) = θ·(x₁², x₂², x₃², x₁x₂, x₁x₃, x₂x₃) + c`, with c, which
//! only the true normaliser makes a density, learned like the rest. So θ and c are one query, the features and 1 are the
//! vectors of candidates, and loss and gradients are those of the objective ([`RealOrNoise`], by [`any`]).

use std::array::from_fn;
use std::f64::consts::PI;

use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use crate::kernel::contrast::{Gradients, Pairs, Problem, any};
use crate::kernel::{Kernel, LANES};
use crate::objective::nce::RealOrNoise;

/// θ and c.
const N: usize = 7;

type Vector = [f64; N];

/// N(0, (L·Lᵀ)⁻¹), L a lower triangle.
#[derive(Debug, Clone, Copy)]
struct Gaussian {
    l: [[f64; 3]; 3],
}

const DATA: Gaussian = Gaussian { l: [[1.3, 0.0, 0.0], [-0.5, 0.9, 0.0], [0.4, 0.3, 1.1]] };

impl Gaussian {
    /// The same deviation in all directions.
    fn round(deviation: f64) -> Self {
        Self { l: from_fn(|i| from_fn(|j| if i == j { 1.0 / deviation } else { 0.0 })) }
    }

    /// θ and c.
    fn parameters(&self) -> Vector {
        let precision = |i: usize, j: usize| (0..3).map(|k| self.l[i][k] * self.l[j][k]).sum::<f64>();
        let log_root: f64 = (0..3).map(|i| self.l[i][i].ln()).sum();
        let pairs = [precision(0, 1), precision(0, 2), precision(1, 2)];
        from_fn(|place| match place {
            0..3 => -precision(place, place) / 2.0,
            3..6 => -pairs[place - 3],
            _ => log_root - 1.5 * (2.0 * PI).ln(),
        })
    }

    /// Features of one draw.
    fn draw(&self, random: &mut Pcg64Mcg) -> Vector {
        let z: [f64; 3] = from_fn(|_| StandardNormal.sample(random));
        // Lᵀx = z
        let c = z[2] / self.l[2][2];
        let b = (z[1] - self.l[2][1] * c) / self.l[1][1];
        let a = (z[0] - self.l[1][0] * b - self.l[2][0] * c) / self.l[0][0];
        [a * a, b * b, c * c, a * b, a * c, b * c, 1.0]
    }
}

fn product(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `matrix·x = right`, the matrix being positive definite (Gauss).
fn solve<const M: usize>(mut matrix: [[f64; M]; M], mut right: [f64; M]) -> [f64; M] {
    for k in 0..M {
        for row in k + 1..M {
            let factor = matrix[row][k] / matrix[k][k];
            let above = matrix[k];
            matrix[row].iter_mut().zip(above).for_each(|(number, above)| *number -= factor * above);
            right[row] -= factor * right[k];
        }
    }
    for k in (0..M).rev() {
        let known: f64 = (k + 1..M).map(|column| matrix[k][column] * right[column]).sum();
        right[k] = (right[k] - known) / matrix[k][k];
    }
    right
}

/// Data, and noise of which there is `ratio` times as much.
struct Sample {
    /// Features of all data, then of all noise.
    features: Vec<Vector>,
    n_data: usize,
    /// log(k·q) of each.
    log_noise: Vec<f64>,
    start: Vector,
}

impl Sample {
    fn draw(n_data: usize, ratio: usize, noise: Gaussian, seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut features: Vec<Vector> = (0..n_data).map(|_| DATA.draw(&mut random)).collect();
        features.extend((0..n_data * ratio).map(|_| noise.draw(&mut random)));
        let start = noise.parameters();
        let log_noise = features.iter().map(|one| (ratio as f64).ln() + product(&start, one)).collect();
        Self { features, n_data, log_noise, start }
    }

    /// What maximum likelihood, which knows the normaliser, says: the inverse of the data's covariance.
    fn most_likely(&self) -> Vector {
        let mean: Vector =
            from_fn(|k| self.features[..self.n_data].iter().map(|one| one[k]).sum::<f64>() / self.n_data as f64);
        let covariance = [[mean[0], mean[3], mean[4]], [mean[3], mean[1], mean[5]], [mean[4], mean[5], mean[2]]];
        let inverse: [[f64; 3]; 3] = from_fn(|k| solve(covariance, from_fn(|row| if row == k { 1.0 } else { 0.0 })));
        let [[a, b, c], [_, d, e], [_, _, f]] = covariance;
        let determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d);
        from_fn(|place| match place {
            0..3 => -inverse[place][place] / 2.0,
            3 => -inverse[0][1],
            4 => -inverse[0][2],
            5 => -inverse[1][2],
            _ => -0.5 * determinant.ln() - 1.5 * (2.0 * PI).ln(),
        })
    }

    /// What the loss is least at: Newton's method, steps halved where they do not go down.
    fn estimate(&self, kernel: Kernel) -> Vector {
        let n = self.features.len();
        // A query has one positive; −Σ Δ of all data is linear in the features, so that is what their mean is for, of which
        // there is no draw. What the data and the noise have in common, Σ log(1 + exp Δ), is that of the other columns.
        let share = 1.0 / self.n_data as f32;
        let mean: Vector =
            from_fn(|k| self.features[..self.n_data].iter().map(|one| one[k]).sum::<f64>() / self.n_data as f64);
        let log_mean = self.log_noise[..self.n_data].iter().sum::<f64>() / self.n_data as f64;
        let mut candidates = Array2::zeros((n + 1, LANES));
        for (mut row, one) in candidates.rows_mut().into_iter().zip([mean].iter().chain(&self.features)) {
            row.iter_mut().zip(one).for_each(|(number, feature)| *number = *feature as f32);
        }
        let bias: Vec<f32> = [log_mean].iter().chain(&self.log_noise).map(|log| -*log as f32).collect();
        let counts: Vec<f32> = [0.0].into_iter().chain(std::iter::repeat_n(share, n)).collect();
        let slope = vec![0.0; n + 1];
        let mut gradients = Gradients::default();
        let mut at = |parameters: &Vector| {
            let mut query = Array2::zeros((1, LANES));
            query.iter_mut().zip(parameters).for_each(|(number, parameter)| *number = *parameter as f32);
            let problem = Problem {
                queries: query.view(),
                query_inverse_norms: &[],
                query_scales: &[],
                candidates: candidates.view(),
                inverse_temperature: 1.0,
                bias: &bias,
                slope: &slope,
                positives: &[0],
                pairs: Pairs { starts: &[0, 1], columns: &[0], terms: &[0.0] },
                scale: 1.0,
                weights: &[],
            };
            any(&problem, &RealOrNoise { kernel, counts: &counts, normaliser: 0.0, positives: &[0] }, &mut gradients);
            let gradient: Vector = from_fn(|k| f64::from(gradients.queries[k]));
            // ∂loss/∂bias of a column is its share times σ(Δ); σ·(1 − σ) is the curvature.
            let mut curvature = [[0.0; N]; N];
            for (one, found) in self.features.iter().zip(&gradients.columns[1..]) {
                let sigma = f64::from(found / share);
                let weight = f64::from(share) * sigma * (1.0 - sigma);
                for (row, number) in curvature.iter_mut().zip(one) {
                    row.iter_mut().zip(one).for_each(|(sum, other)| *sum += weight * number * other);
                }
            }
            (gradients.loss, gradient, curvature)
        };
        let mut parameters = self.start;
        let (mut loss, mut gradient, mut curvature) = at(&parameters);
        for _ in 0..30 {
            let whole = solve(curvature, gradient);
            let mut step = 1.0;
            let moved = loop {
                let next: Vector = from_fn(|k| parameters[k] - step * whole[k]);
                let there = at(&next);
                // To the single precision of the sums.
                if there.0 <= loss + 1e-6 * loss.abs() || step < 1e-3 {
                    break (next, there);
                }
                step /= 2.0;
            };
            (parameters, (loss, gradient, curvature)) = moved;
            if step == 1.0 && product(&whole, &whole).sqrt() < 1e-4 {
                break;
            }
        }
        parameters
    }
}

/// Mean squared errors of θ and of c.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    theta: f64,
    normaliser: f64,
}

/// Over `replications` samples, of NCE and of maximum likelihood.
fn errors(n_data: usize, ratio: usize, noise: Gaussian, replications: u64) -> (Errors, Errors) {
    let truth = DATA.parameters();
    let of = |found: Vector| {
        let squares: Vector = from_fn(|k| (found[k] - truth[k]).powi(2));
        Errors { theta: squares[..6].iter().sum(), normaliser: squares[6] }
    };
    let each: Vec<(Errors, Errors)> = (0..replications)
        .into_par_iter()
        .map(|seed| {
            let sample = Sample::draw(n_data, ratio, noise, seed);
            (of(sample.estimate(Kernel::detect())), of(sample.most_likely()))
        })
        .collect();
    let mean = |of: &dyn Fn(&(Errors, Errors)) -> f64| each.iter().map(of).sum::<f64>() / replications as f64;
    (
        Errors { theta: mean(&|one| one.0.theta), normaliser: mean(&|one| one.0.normaliser) },
        Errors { theta: mean(&|one| one.1.theta), normaliser: mean(&|one| one.1.normaliser) },
    )
}

/// The slope of the line through (log x, log y) of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (x, y) = (logs.iter().map(|one| one.0).sum::<f64>() / n, logs.iter().map(|one| one.1).sum::<f64>() / n);
    let above: f64 = logs.iter().map(|one| (one.0 - x) * (one.1 - y)).sum();
    above / logs.iter().map(|one| (one.0 - x).powi(2)).sum::<f64>()
}

#[test]
fn nce_errors_fall_as_one_over_the_sample() {
    println!("| T | θ, squared error | c, squared error | θ, maximum likelihood |");
    let mut points = (Vec::new(), Vec::new());
    for n_data in [512, 1024, 2048, 4096, 8192, 16_384] {
        let (found, best) = errors(n_data, 5, Gaussian::round(1.2), 60);
        println!("| {n_data} | {:.3e} | {:.3e} | {:.3e} |", found.theta, found.normaliser, best.theta);
        points.0.push((n_data as f64, found.theta));
        points.1.push((n_data as f64, found.normaliser));
    }
    let slopes = (slope(&points.0), slope(&points.1));
    println!("log-log slopes: θ {:.3}, c {:.3}", slopes.0, slopes.1);
    for slope in [slopes.0, slopes.1] {
        assert!((-1.25..=-0.75).contains(&slope), "{slopes:?}");
    }
    // Nothing is left over that more data do not take away: all parameters are within a few hundredths.
    assert!(points.0.last().unwrap().1 < 5e-3 && points.1.last().unwrap().1 < 1e-3, "{points:?}");
}

#[test]
fn nce_with_more_noise_approaches_maximum_likelihood() {
    println!("| noise per datum | θ, squared error | c, squared error |");
    let mut all = Vec::new();
    let mut best = Errors::default();
    for ratio in [1, 3, 10, 30] {
        let (found, likely) = errors(1000, ratio, Gaussian::round(1.2), 150);
        println!("| {ratio} | {:.3e} | {:.3e} |", found.theta, found.normaliser);
        all.push(found);
        best = likely;
    }
    println!("| maximum likelihood | {:.3e} | {:.3e} |", best.theta, best.normaliser);
    assert!(all.windows(2).all(|two| two[1].theta < two[0].theta && two[1].normaliser < two[0].normaliser), "{all:?}");
    let last = all.last().unwrap().theta / best.theta;
    assert!((0.95..1.25).contains(&last), "{last} of what is possible");
}

#[test]
fn nce_loses_least_with_noise_like_the_data() {
    println!("| noise | θ, squared error | c, squared error |");
    let mut all = Vec::new();
    for (name, noise) in [
        ("as the data", DATA),
        ("round, deviation 1.2", Gaussian::round(1.2)),
        ("round, deviation 2", Gaussian::round(2.0)),
        ("round, deviation 4", Gaussian::round(4.0)),
    ] {
        let (found, _) = errors(1000, 3, noise, 200);
        println!("| {name} | {:.3e} | {:.3e} |", found.theta, found.normaliser);
        all.push(found);
    }
    // What is nearly as the data may do a little better for θ: the data themselves are not the very best noise (Chehab et
    // al. 2022), only close to it.
    assert!(all.windows(2).all(|two| two[1].normaliser > two[0].normaliser), "{all:?}");
    assert!(all[2].theta > all[0].theta.max(all[1].theta) && all[3].theta > 1.3 * all[2].theta, "{all:?}");
    assert!(all[1].theta > 0.9 * all[0].theta, "{all:?}");
}
