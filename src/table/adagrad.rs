//! Adagrad (Duchi et al. 2011): each number keeps the sum of its squared gradients, and moves by
//! `learning_rate · g / (√sum + ε)`. Only what has a gradient moves, so a step touches only the rows of its batch.

use super::rows::Rows;

/// Where the sums begin: small, so that a first gradient moves a number by about the learning rate.
pub const START: f32 = 1e-6;
const EPSILON: f32 = 1e-10;

/// Moves `values` against `gradients`.
///
/// # Panics
/// If the lengths differ.
pub fn step(values: &mut [f32], sums: &mut [f32], gradients: &[f32], learning_rate: f32) {
    assert!(values.len() == sums.len() && sums.len() == gradients.len());
    for ((value, sum), gradient) in values.iter_mut().zip(sums).zip(gradients) {
        *sum += gradient * gradient;
        *value -= learning_rate * gradient / (sum.sqrt() + EPSILON);
    }
}

/// Rows and their sums, growing together.
#[derive(Debug, Clone)]
pub struct TrainedRows {
    /// The rows.
    pub values: Rows,
    /// Adagrad's sums.
    pub sums: Rows,
}

impl TrainedRows {
    /// No rows yet.
    pub fn new(dim: usize) -> Self {
        Self { values: Rows::new(dim), sums: Rows::new(dim) }
    }

    /// Adds a row that starts as `fill` makes it.
    pub fn push(&mut self, fill: impl FnOnce(&mut [f32])) {
        self.values.push(fill);
        self.sums.push(|row| row.fill(START));
    }

    /// Moves row `row` against `gradient`.
    pub fn step(&mut self, row: usize, gradient: &[f32], learning_rate: f32) {
        step(self.values.row_mut(row), self.sums.row_mut(row), gradient, learning_rate);
    }
}

/// A few learned numbers that belong to no row (weights of positions, β, …), with their sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The numbers.
    pub values: Vec<f32>,
    /// Adagrad's sums.
    pub sums: Vec<f32>,
}

impl Parameters {
    /// Starting at `values`.
    pub fn new(values: Vec<f32>) -> Self {
        let sums = vec![START; values.len()];
        Self { values, sums }
    }

    /// Moves the numbers against `gradients`.
    pub fn step(&mut self, gradients: &[f32], learning_rate: f32) {
        step(&mut self.values, &mut self.sums, gradients, learning_rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formula() {
        let mut numbers = Parameters::new(vec![1.0, 2.0]);
        numbers.step(&[0.5, 0.0], 0.1);
        let sum: f32 = START + 0.25;
        assert_eq!(numbers.values, [1.0 - 0.1 * 0.5 / (sum.sqrt() + EPSILON), 2.0]);
        assert_eq!(numbers.sums, [sum, START]);
    }
}
