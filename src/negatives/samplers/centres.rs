//! Online k-means: centres that follow vectors which move.
//!
//! A vector that is looked at goes to the centre that is nearest by the Euclidean distance, and moves it: a centre is the
//! decayed mean of those who came to it. Being means, and not of norm 1, centres have the mean of their members' inner
//! products with anything (MacQueen 1967, with decay).

use crate::state_dict::{StateDict, StateDictError};

/// A centre is the mean of about so many newest visits.
const MEMORY: f64 = 200.0;

/// Centres of clusters, which move with the vectors that are assigned to them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Centres {
    dim: usize,
    /// dim for each centre.
    numbers: Vec<f32>,
    /// ½·|centre|².
    half_norms: Vec<f32>,
    /// Decayed number of the visits that each is the mean of.
    visits: Vec<f64>,
}

impl Centres {
    /// An empty set of centres with `dim` numbers each.
    pub fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Inner product of `vector` with each centre.
    pub fn products(&self, vector: &[f32]) -> impl Iterator<Item = f32> {
        (0..self.len()).map(|index| dot(vector, &self.numbers[index * self.dim..][..self.dim]))
    }

    /// The centre that is nearest to `vector`, of equals the first, and how far it is, squared; (0, ∞) without any.
    pub fn nearest(&self, vector: &[f32]) -> (usize, f32) {
        let (mut nearest, mut best) = (0, f32::NEG_INFINITY);
        for (index, (product, half_norm)) in self.products(vector).zip(&self.half_norms).enumerate() {
            if product - half_norm > best {
                (nearest, best) = (index, product - half_norm);
            }
        }
        (nearest, dot(vector, vector) - 2.0 * best)
    }

    /// Puts centre `index` where `vector` is; a new centre, where `index` is the number of centres so far.
    pub fn open(&mut self, index: usize, vector: &[f32]) {
        if index == self.len() {
            self.visits.push(0.0);
            self.half_norms.push(0.0);
            self.numbers.resize(self.numbers.len() + self.dim, 0.0);
        }
        self.visits[index] = 0.0;
        self.attract(index, vector);
    }

    /// Moves the centre towards `vector`.
    pub fn attract(&mut self, index: usize, vector: &[f32]) {
        let visits = self.visits[index] * (1.0 - 1.0 / MEMORY) + 1.0;
        let rate = visits.recip() as f32;
        let centre = &mut self.numbers[index * self.dim..][..self.dim];
        centre.iter_mut().zip(vector).for_each(|(mean, number)| *mean += (number - *mean) * rate);
        self.half_norms[index] = 0.5 * dot(centre, centre);
        self.visits[index] = visits;
    }

    /// Saves the state that [`Self::restore`] reads.
    pub fn save(&self, out: &mut StateDict) {
        out.put_f64("centres", self.numbers.iter().copied().map(f64::from).collect());
        out.put_f64("visits", self.visits.clone());
    }

    /// Restores at most `most` centres of `dim` numbers each.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restore(dim: usize, most: usize, saved: &mut StateDict) -> Result<Self, StateDictError> {
        let (numbers, visits) = (saved.take_f64("centres")?, saved.take_f64("visits")?);
        if visits.len() > most || numbers.len() != visits.len() * dim {
            return Err(saved.error("centres", "are too many, or of another length"));
        }
        if visits.iter().any(|visits| !(1.0..=2.0 * MEMORY).contains(visits)) {
            return Err(saved.error("visits", "are of a number that cannot be"));
        }
        let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(saved.error("centres", "are not finite"));
        }
        let half_norm = |index: usize| {
            let centre = &numbers[index * dim..][..dim];
            0.5 * dot(centre, centre)
        };
        Ok(Self { dim, half_norms: (0..visits.len()).map(half_norm).collect(), numbers, visits })
    }
}

/// Inner product, in lanes that a processor adds up side by side.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        lanes = std::array::from_fn(|lane| lanes[lane] + a[lane] * b[lane]);
    }
    let eight: [f32; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (four[0] + four[2]) + (four[1] + four[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_product_works_for_any_length() {
        for length in [0, 1, 15, 16, 17, 33, 64] {
            let a: Vec<f32> = (0..length).map(|number| number as f32).collect();
            let expected: f32 = a.iter().map(|number| number * number).sum();
            assert_eq!(dot(&a, &a), expected);
        }
    }

    #[test]
    fn centre_moves_towards_its_vectors() {
        let mut centres = Centres::new(2);
        assert_eq!(centres.nearest(&[1.0, 0.0]), (0, f32::INFINITY));
        centres.open(0, &[1.0, 0.0]);
        centres.open(1, &[0.0, 1.0]);
        assert_eq!(centres.nearest(&[0.0, 2.0]), (1, 1.0));
        (0..9).for_each(|_| centres.attract(1, &[0.0, 2.0]));
        let product = centres.products(&[0.0, 1.0]).last().unwrap();
        assert!((product - 1.9).abs() < 0.01, "{product}");
        // What came first is forgotten.
        (0..10_000).for_each(|_| centres.attract(0, &[-1.0, 0.0]));
        assert!(centres.nearest(&[-1.0, 0.0]).1 < 1e-6);

        let mut saved = StateDict::default();
        centres.save(&mut saved);
        assert_eq!(Centres::restore(2, 2, &mut saved.clone()), Ok(centres));
        assert!(Centres::restore(3, 2, &mut saved.clone()).is_err());
        assert!(Centres::restore(2, 1, &mut saved.clone()).is_err());
        saved.put_f64("visits", vec![f64::NAN, 1.0]);
        assert!(Centres::restore(2, 2, &mut saved).is_err());
    }
}
