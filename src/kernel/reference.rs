//! The reference: the losses in double precision, written for reading; the oracle of tests and benchmarks.

use ndarray::{Array1, Array2};

use super::contrast::Problem;

/// What [`info_nce`] finds; see [`super::contrast::Gradients`] for the meaning of each.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Sum of the losses.
    pub loss: f64,
    /// B × stride.
    pub queries: Array2<f64>,
    /// N × stride.
    pub candidates: Array2<f64>,
    /// One for each pair term.
    pub pairs: Vec<f64>,
    /// ∂/∂β.
    pub slope: f64,
    /// ∂/∂(1/τ).
    pub inverse_temperature: f64,
}

/// Loss and gradients of `problem`, by the book (van den Oord 2018, eq. 4, with the corrected logits).
pub fn info_nce(problem: &Problem<'_>) -> Truth {
    let queries = problem.queries.mapv(f64::from);
    let candidates = problem.candidates.mapv(f64::from);
    let inverse_temperature = f64::from(problem.inverse_temperature);
    let slope = Array1::from_iter(problem.slope.iter().map(|&number| f64::from(number)));
    let products = queries.dot(&candidates.t());
    let mut logits = &products * inverse_temperature;
    for mut row in logits.rows_mut() {
        for (logit, bias) in row.iter_mut().zip(problem.bias) {
            *logit += f64::from(*bias);
        }
    }
    let n_queries = queries.nrows();
    let pairs_of = |query: usize| problem.pairs.starts[query] as usize..problem.pairs.starts[query + 1] as usize;
    let mut truth = Truth {
        loss: 0.0,
        queries: Array2::zeros(queries.dim()),
        candidates: Array2::zeros(candidates.dim()),
        pairs: vec![0.0; problem.pairs.columns.len()],
        slope: 0.0,
        inverse_temperature: 0.0,
    };
    let mut weights = Array2::zeros(logits.dim());
    for query in 0..n_queries {
        for pair in pairs_of(query) {
            logits[[query, problem.pairs.columns[pair] as usize]] += f64::from(problem.pairs.terms[pair]);
        }
        let row = logits.row(query);
        let positive = problem.positives[query] as usize;
        let scale = f64::from(problem.scale) * problem.weights.get(query).map_or(1.0, |weight| f64::from(*weight));
        let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
        truth.loss += largest - row[positive] + sum.ln();
        for (column, logit) in row.iter().enumerate() {
            weights[[query, column]] = scale * (logit - largest).exp() / sum;
        }
        weights[[query, positive]] -= scale;
        for pair in pairs_of(query) {
            truth.pairs[pair] = weights[[query, problem.pairs.columns[pair] as usize]];
        }
    }
    truth.queries = weights.dot(&candidates) * inverse_temperature;
    truth.candidates = weights.t().dot(&queries) * inverse_temperature;
    truth.slope = weights.dot(&slope).sum();
    truth.inverse_temperature = (&weights * &products).sum();
    truth
}
