//! Known mutual information (the standard test of Poole et al. 2019): correlated Gaussians, and what the InfoNCE bound says.
//!
//! x and y have 20 dimensions, each pair of numbers the correlation ρ, so that `I = −10·log(1 − ρ²)`. The critic is bilinear
//! in (x, x², 1) and (y, y², 1), which holds the best one there is, and its matrix is learned as CPC learns W: the query is
//! W times the features of x, the kernel gives the gradient of the query, and that goes back to W.

use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use crate::kernel::contrast::{Gradients, Pairs, Problem, info_nce};
use crate::kernel::{Kernel, LANES};

const DIM: usize = 20;
const FEATURES: usize = 2 * DIM + 1;

/// The features of `n` pairs.
fn draw(n: usize, correlation: f64, random: &mut Pcg64Mcg) -> (Array2<f32>, Array2<f32>) {
    let stride = FEATURES.next_multiple_of(LANES);
    let (mut x, mut y) = (Array2::zeros((n, stride)), Array2::zeros((n, stride)));
    for (mut x, mut y) in x.rows_mut().into_iter().zip(y.rows_mut()) {
        for k in 0..DIM {
            let (a, b): (f64, f64) = (StandardNormal.sample(random), StandardNormal.sample(random));
            let (a, b) = (a, correlation * a + (1.0 - correlation * correlation).sqrt() * b);
            // Squares less their mean, at the scale of the others: the same functions, and better conditioned.
            for (row, number) in [(&mut x, a), (&mut y, b)] {
                row[k] = number as f32;
                row[DIM + k] = ((number * number - 1.0) / 2.0f64.sqrt()) as f32;
            }
        }
        (x[2 * DIM], y[2 * DIM]) = (1.0, 1.0);
    }
    (x, y)
}

/// InfoNCE of each x with its y, all y being candidates; gives the bound, and the gradients.
fn contrast(kernel: Kernel, queries: &Array2<f32>, candidates: &Array2<f32>, gradients: &mut Gradients) -> f64 {
    let (n_queries, n) = (queries.nrows(), candidates.nrows());
    let zeros = vec![0.0; n];
    let positives: Vec<u32> = (0..n_queries as u32).collect();
    let starts: Vec<u32> = (0..=n_queries as u32).collect();
    let problem = Problem {
        queries: queries.view(),
        query_inverse_norms: &[],
        query_scales: &[],
        candidates: candidates.view(),
        inverse_temperature: 1.0,
        bias: &zeros,
        slope: &zeros,
        positives: &positives,
        pairs: Pairs { starts: &starts, columns: &positives, terms: &zeros[..n_queries] },
        scale: 1.0 / n_queries as f32,
        weights: &[],
    };
    info_nce(kernel, &problem, gradients);
    (n as f64).ln() - gradients.loss / n_queries as f64
}

/// The matrix of a bilinear critic, learned by Adam (Kingma & Ba 2015) at a falling rate, each step on fresh pairs.
fn learn(kernel: Kernel, correlation: f64, random: &mut Pcg64Mcg) -> Array2<f32> {
    const STEPS: i32 = 200;
    let stride = FEATURES.next_multiple_of(LANES);
    let mut matrix = Array2::zeros((stride, stride));
    let (mut mean, mut square) = (Array2::<f32>::zeros((stride, stride)), Array2::<f32>::zeros((stride, stride)));
    let mut gradients = Gradients::default();
    for step in 0..STEPS {
        let (x, y) = draw(1024, correlation, random);
        contrast(kernel, &x.dot(&matrix), &y, &mut gradients);
        let of_queries = Array2::from_shape_vec(x.dim(), gradients.queries.to_vec()).unwrap();
        let gradient = x.t().dot(&of_queries);
        let rate = 0.05 * (1.0 - step as f32 / STEPS as f32);
        let (first, second) = (1.0 - 0.9f32.powi(step + 1), 1.0 - 0.999f32.powi(step + 1));
        ndarray::Zip::from(&mut matrix).and(&mut mean).and(&mut square).and(&gradient).for_each(
            |number, mean, square, gradient| {
                *mean = 0.9 * *mean + 0.1 * gradient;
                *square = 0.999 * *square + 0.001 * gradient * gradient;
                *number -= rate * (*mean / first) / ((*square / second).sqrt() + 1e-8);
            },
        );
    }
    matrix
}

/// The best critic, the logarithm of the density ratio but for what depends on x alone: `(ρxy − ρ²y²/2)/(1 − ρ²)`.
fn best(correlation: f64) -> Array2<f32> {
    let stride = FEATURES.next_multiple_of(LANES);
    let mut matrix = Array2::zeros((stride, stride));
    let left = 1.0 - correlation * correlation;
    for k in 0..DIM {
        matrix[[k, k]] = (correlation / left) as f32;
        matrix[[2 * DIM, DIM + k]] = (-correlation * correlation / left / 2.0f64.sqrt()) as f32;
    }
    matrix
}

#[test]
fn information_bound_holds_and_is_tight() {
    const N: usize = 4096;
    const BATCHES: usize = 4;
    let kernel = Kernel::detect();
    let mut random = Pcg64Mcg::seed_from_u64(20);
    println!(
        "| true information | ceiling log N | bound, learned critic | bound, best critic | share of min(truth, log N) |"
    );
    for truth in [2.0, 4.0, 6.0, 8.0] {
        let correlation = (1.0 - (-2.0 * truth / DIM as f64).exp()).sqrt();
        let critics = [learn(kernel, correlation, &mut random), best(correlation)];
        let mut bounds = [0.0; 2];
        for _ in 0..BATCHES {
            let (x, y) = draw(N, correlation, &mut random);
            for (bound, critic) in bounds.iter_mut().zip(&critics) {
                *bound += contrast(kernel, &x.dot(critic), &y, &mut Gradients::default()) / BATCHES as f64;
            }
        }
        let ceiling = (N as f64).ln();
        let share = bounds[0] / f64::min(truth, ceiling);
        println!("| {truth} | {ceiling:.3} | {:.3} | {:.3} | {:.1} % |", bounds[0], bounds[1], 100.0 * share);
        // The log-ratio of a pair deviates by √20·ρ from its mean, the information.
        let noise = 4.0 * (DIM as f64).sqrt() * correlation / ((N * BATCHES) as f64).sqrt();
        for bound in bounds {
            assert!(bound <= truth + noise && bound <= ceiling, "{bound} is no bound of {truth}");
        }
        assert!(truth > 4.0 || share >= 0.95, "{share}");
        // Above, it is the bound itself that falls short, with so many candidates: no critic can do much better.
        assert!(bounds[0] > 0.97 * bounds[1] - noise, "{bounds:?}");
    }
}
