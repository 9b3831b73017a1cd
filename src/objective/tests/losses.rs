//! The losses that the kernel is handed as functions of a row of logits, through [`any`], against double precision: masks,
//! logits far beyond what single-precision exponentials hold, many counts.

use ndarray::{Array1, Array2};
use proptest::prelude::*;
use proptest::sample::select;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::kernel::contrast::{Gradients, Pairs, Problem, any};
use crate::kernel::{Kernel, LANES};
use crate::objective::info_nce::Reweighted;
use crate::objective::nce::RealOrNoise;

const INVERSE_TEMPERATURE: f32 = 6.5;

/// Queries no longer than 1 against candidates no longer than 1.
struct Case {
    queries: Array2<f32>,
    candidates: Array2<f32>,
    /// What a column's score has besides the similarity.
    base: Vec<f32>,
    /// log μ.
    log_measure: Vec<f32>,
    counts: Vec<f32>,
    slope: Vec<f32>,
    positives: Vec<u32>,
    starts: Vec<u32>,
    columns: Vec<u32>,
    /// 0 or −∞; what the positive has is put there by the loss.
    terms: Vec<f32>,
    weights: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    /// With this normaliser.
    RealOrNoise(f32),
    Reweighted {
        debias: f64,
        hardness: f64,
    },
}

impl Case {
    fn new(n_queries: usize, n_candidates: usize, dim: usize, spread: f32, masks: f64, seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut matrix = |rows: usize| {
            Array2::from_shape_fn((rows, dim.next_multiple_of(LANES)), |(_, k)| {
                if k < dim { random.random_range(-1.0..1.0f32) / (dim as f32).sqrt() } else { 0.0 }
            })
        };
        let (queries, candidates) = (matrix(n_queries), matrix(n_candidates));
        let mut numbers =
            |n: usize, scale: f32| (0..n).map(|_| random.random_range(-scale..=scale)).collect::<Vec<f32>>();
        let (base, log_measure, slope) =
            (numbers(n_candidates, spread), numbers(n_candidates, 3.0), numbers(n_candidates, 8.0));
        let weights = numbers(n_queries, 1.0).into_iter().map(|number| number + 1.0).collect();
        let counts = (0..n_candidates).map(|_| random.random_range(1..40) as f32).collect();
        let positives: Vec<u32> = (0..n_queries).map(|_| random.random_range(0..n_candidates as u32)).collect();
        let (mut starts, mut columns, mut terms) = (vec![0], Vec::new(), Vec::new());
        for positive in &positives {
            columns.push(*positive);
            terms.push(0.0);
            for column in (0..n_candidates as u32).filter(|column| column != positive) {
                if random.random::<f64>() < masks {
                    columns.push(column);
                    terms.push(f32::NEG_INFINITY);
                }
            }
            starts.push(columns.len() as u32);
        }
        Self { queries, candidates, base, log_measure, counts, slope, positives, starts, columns, terms, weights }
    }

    /// Bias and pair terms of `loss`: negatives are corrected, and so is the positive of NCE.
    fn logits(&self, loss: Loss) -> (Vec<f32>, Vec<f32>) {
        let bias = self.base.iter().zip(&self.log_measure).map(|(base, log)| base + log).collect();
        let mut terms = self.terms.clone();
        if let Loss::Reweighted { .. } = loss {
            for (query, positive) in self.positives.iter().enumerate() {
                terms[self.starts[query] as usize] = -self.log_measure[*positive as usize];
            }
        }
        (bias, terms)
    }

    fn run(&self, kernel: Kernel, loss: Loss) -> Gradients {
        let (bias, terms) = self.logits(loss);
        let problem = Problem {
            queries: self.queries.view(),
            query_inverse_norms: &[],
            query_scales: &[],
            candidates: self.candidates.view(),
            inverse_temperature: INVERSE_TEMPERATURE,
            bias: &bias,
            slope: &self.slope,
            positives: &self.positives,
            pairs: Pairs { starts: &self.starts, columns: &self.columns, terms: &terms },
            scale: 1.0 / self.positives.len() as f32,
            weights: &self.weights,
        };
        let mut found = Gradients::default();
        match loss {
            Loss::RealOrNoise(normaliser) => {
                let loss = RealOrNoise { kernel, counts: &self.counts, normaliser, positives: &self.positives };
                any(&problem, &loss, &mut found);
            }
            Loss::Reweighted { debias, hardness } => {
                any(&problem, &self.reweighted(kernel, debias, hardness), &mut found)
            }
        }
        found
    }

    fn reweighted(&self, kernel: Kernel, debias: f64, hardness: f64) -> Reweighted<'_> {
        let measure: Vec<f64> = self.log_measure.iter().map(|log| f64::from(*log).exp()).collect();
        let lowest = self.base.iter().map(|base| f64::from(base - INVERSE_TEMPERATURE).exp());
        Reweighted {
            kernel,
            positives: &self.positives,
            log_measure: &self.log_measure,
            debias,
            hardness,
            lowest: lowest.zip(&measure).map(|(lowest, measure)| lowest * measure).collect(),
            measure,
        }
    }

    /// By the formulas; nothing where a debiased query is at the edge of its least.
    fn truth(&self, loss: Loss) -> Option<Truth> {
        let (queries, candidates) = (self.queries.mapv(f64::from), self.candidates.mapv(f64::from));
        let products = queries.dot(&candidates.t());
        let n = self.positives.len();
        let mut weights = Array2::zeros(products.dim());
        let mut losses = Vec::new();
        let mut pairs = Vec::new();
        for query in 0..n {
            let own = self.starts[query] as usize..self.starts[query + 1] as usize;
            let masked: Vec<u32> = self.columns[own.clone()][1..].to_vec();
            let scores: Vec<Option<f64>> = (0..candidates.nrows())
                .map(|column| {
                    let score =
                        f64::from(INVERSE_TEMPERATURE) * products[[query, column]] + f64::from(self.base[column]);
                    (!masked.contains(&(column as u32))).then_some(score)
                })
                .collect();
            let positive = self.positives[query] as usize;
            let (loss, row) = match loss {
                Loss::RealOrNoise(normaliser) => self.real_or_noise(&scores, positive, f64::from(normaliser)),
                Loss::Reweighted { debias, hardness } => self.weighed(&scores, positive, debias, hardness)?,
            };
            losses.push(loss);
            let weight = f64::from(self.weights[query]) / n as f64;
            weights.row_mut(query).assign(&(Array1::from_vec(row) * weight));
            pairs.extend(self.columns[own].iter().map(|column| weights[[query, *column as usize]]));
        }
        let slope = Array1::from_iter(self.slope.iter().map(|slope| f64::from(*slope)));
        Some(Truth {
            losses,
            pairs,
            columns: weights.sum_axis(ndarray::Axis(0)).to_vec(),
            slope: weights.dot(&slope).sum(),
            inverse_temperature: (&weights * &products).sum(),
            queries: weights.dot(&candidates) * f64::from(INVERSE_TEMPERATURE),
            candidates: weights.t().dot(&queries) * f64::from(INVERSE_TEMPERATURE),
        })
    }

    /// One draw of the positive is real; all the others are noise.
    fn real_or_noise(&self, scores: &[Option<f64>], positive: usize, normaliser: f64) -> (f64, Vec<f64>) {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut loss = 0.0;
        let row = scores.iter().enumerate().map(|(column, score)| {
            let Some(score) = score else { return 0.0 };
            let delta = score + f64::from(self.log_measure[column]) + normaliser;
            let real = if column == positive { 1.0 } else { 0.0 };
            let noise = f64::from(self.counts[column]) - real;
            loss += real * softplus(-delta) + noise * softplus(delta);
            noise * sigmoid(delta) - real * sigmoid(-delta)
        });
        let row = row.collect();
        (loss, row)
    }

    /// The derivative of `log(exp f_p + G')` by hand: with P_j ∝ μ_j·exp((1+β)·f_j) and Q_j ∝ μ_j·exp(β·f_j),
    /// `∂G/∂f_j = G·((1+β)·P_j − β·Q_j)`.
    fn weighed(&self, scores: &[Option<f64>], positive: usize, debias: f64, hardness: f64) -> Option<(f64, Vec<f64>)> {
        let measure = |column: usize| f64::from(self.log_measure[column]).exp();
        let own = scores[positive].unwrap().exp();
        let negatives: Vec<(usize, f64)> = scores
            .iter()
            .enumerate()
            .filter(|(column, _)| *column != positive)
            .filter_map(|(column, score)| Some((column, (*score)?)))
            .collect();
        let mut row = vec![0.0; scores.len()];
        if negatives.is_empty() {
            return Some((0.0, row));
        }
        let sum = |of: &dyn Fn(usize, f64) -> f64| negatives.iter().map(|(j, f)| measure(*j) * of(*j, *f)).sum::<f64>();
        let total = sum(&|_, _| 1.0);
        let (hard, mild) = (sum(&|_, f| ((1.0 + hardness) * f).exp()), sum(&|_, f| (hardness * f).exp()));
        let whole = total * hard / mild;
        let corrected = (whole - debias * total * own) / (1.0 - debias);
        let least = sum(&|j, _| f64::from(self.base[j] - INVERSE_TEMPERATURE).exp());
        if (corrected - least).abs() < 1e-3 * whole {
            return None;
        }
        let all = own + corrected.max(least);
        let loss = all.ln() - scores[positive].unwrap();
        row[positive] = own / all - 1.0;
        if corrected > least {
            row[positive] -= debias * total * own / (1.0 - debias) / all;
            for (j, f) in negatives {
                let (p, q) = (((1.0 + hardness) * f).exp() / hard, (hardness * f).exp() / mild);
                row[j] = whole / (1.0 - debias) / all * measure(j) * ((1.0 + hardness) * p - hardness * q);
            }
        }
        Some((loss, row))
    }
}

struct Truth {
    losses: Vec<f64>,
    pairs: Vec<f64>,
    columns: Vec<f64>,
    slope: f64,
    inverse_temperature: f64,
    queries: Array2<f64>,
    candidates: Array2<f64>,
}

/// All candidate gradients, one behind the other.
fn candidate_gradients(found: &Gradients, case: &Case) -> Vec<f32> {
    (0..case.candidates.nrows()).flat_map(|column| found.candidate(column)).collect()
}

fn check(kernel: Kernel, case: &Case, loss: Loss) -> bool {
    let Some(truth) = case.truth(loss) else { return false };
    let found = case.run(kernel, loss);
    // A logit of 80 is rounded by 4e-6, and weights are exponentials of (1 + β) times it.
    let steep = match loss {
        Loss::RealOrNoise(_) => 1.0,
        Loss::Reweighted { hardness, .. } => 1.0 + hardness,
    };
    for (found, truth) in found.losses.iter().zip(&truth.losses) {
        assert!(
            (found - truth).abs() < 5e-5 * steep * truth.abs().max(1.0),
            "{kernel:?}, {loss:?}: {found}, not {truth}"
        );
    }
    // Sums over all pairs: relative to what they are sums of.
    let total: f64 = truth.columns.iter().map(|number| number.abs()).sum::<f64>().max(1e-3);
    let close = |name: &str, a: f64, b: f64, size: f64| {
        assert!((a - b).abs() < 5e-5 * steep * size, "{kernel:?}, {loss:?}: {name} is {a}, not {b}");
    };
    close("slope", found.slope, truth.slope, 8.0 * total.max(1.0));
    close("gradient of 1/τ", found.inverse_temperature, truth.inverse_temperature, total.max(1.0));
    let all = [
        ("queries", &found.queries[..], truth.queries.iter().copied().collect::<Vec<f64>>()),
        ("candidates", &candidate_gradients(&found, case), truth.candidates.iter().copied().collect()),
        ("pairs", &found.pairs, truth.pairs),
        ("columns", &found.columns, truth.columns),
    ];
    for (name, found, truth) in all {
        let largest = truth.iter().fold(1e-6f64, |largest, number| largest.max(number.abs()));
        for (found, truth) in found.iter().zip(&truth) {
            close(name, f64::from(*found), *truth, largest);
        }
    }
    true
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let reweighted = (select(vec![0.0, 0.05, 0.4]), select(vec![0.0, 0.5, 2.0]));
    prop_oneof![
        (-3.0f32..3.0).prop_map(Loss::RealOrNoise),
        reweighted.prop_map(|(debias, hardness)| Loss::Reweighted { debias, hardness }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn losses_agree_with_double_precision_on_every_instruction_set(
        n_queries in 1usize..80,
        n_candidates in 1usize..80,
        dim in 1usize..40,
        spread in select(vec![0.0f32, 3.0, 80.0]),
        masks in select(vec![0.0, 0.3, 1.0]),
        loss in any_loss(),
        seed: u64,
    ) {
        let case = Case::new(n_queries, n_candidates, dim, spread, masks, seed);
        for kernel in Kernel::available() {
            prop_assume!(check(kernel, &case, loss));
        }
    }
}

#[test]
fn losses_are_bitwise_equal_for_any_number_of_threads() {
    let case = Case::new(300, 211, 24, 2.0, 0.05, 5);
    for loss in [Loss::RealOrNoise(0.5), Loss::Reweighted { debias: 0.1, hardness: 1.0 }] {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| case.run(Kernel::detect(), loss));
            let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            let numbers = [found.loss.to_bits(), found.slope.to_bits(), found.inverse_temperature.to_bits()];
            let rows = [&found.queries[..], &candidate_gradients(&found, &case), &found.pairs, &found.columns];
            (numbers, rows.map(bits))
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(7));
    }
}

#[test]
fn reweighted_loss_is_zero_without_negatives() {
    let case = Case::new(20, 40, 8, 3.0, 1.0, 1);
    let found = case.run(Kernel::detect(), Loss::Reweighted { debias: 0.1, hardness: 1.0 });
    assert!(found.losses.iter().all(|loss| *loss == 0.0) && found.queries.iter().all(|number| *number == 0.0));
}
