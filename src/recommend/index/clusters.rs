//! Directions that stand for the vectors near them: spherical k-means in two levels (Dhillon & Modha 2001), so that finding the
//! nearest of n takes about 2·√n products and not n.

use super::super::pass::dense_scores;
use crate::kernel::Kernel;
use crate::kernel::rows::inverse_norm;

/// Rounds of k-means on each level.
const ROUNDS: usize = 5;

/// Unit vectors, `dim` numbers each.
#[derive(Debug, Clone, Default)]
struct Directions {
    numbers: Vec<f32>,
    dim: usize,
}

/// Clusters of vectors on two levels.
#[derive(Debug, Clone)]
pub(super) struct Clusters {
    coarse: Directions,
    /// By coarse direction.
    fine: Vec<Directions>,
    /// By coarse direction: how many fine ones are before its own.
    first: Vec<u32>,
    kernel: Kernel,
}

/// Where a vector belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ClusterPlace {
    /// The cluster.
    pub(super) cluster: u32,
    /// The cosine between the vector and the cluster's direction.
    pub(super) cosine: f32,
}

impl Directions {
    fn len(&self) -> usize {
        self.numbers.len() / self.dim.max(1)
    }

    /// The direction with the largest product with each of `rows`, and the product.
    fn nearest(&self, kernel: Kernel, rows: &[f32], found: &mut Vec<(u32, f32)>) {
        found.clear();
        found.resize(rows.len() / self.dim, (0, f32::NEG_INFINITY));
        let mut at = 0;
        for some in self.numbers.chunks(crate::kernel::LANES * self.dim) {
            let n_some = some.len() / self.dim;
            dense_scores(kernel, some.chunks_exact(self.dim), self.dim, rows, |row, scores| {
                for (place, score) in scores[..n_some].iter().enumerate() {
                    if *score > found[row].1 {
                        found[row] = ((at + place) as u32, *score);
                    }
                }
            });
            at += n_some;
        }
    }

    /// `n` directions that `rows`, unit vectors, gather around.
    fn among(kernel: Kernel, rows: &[f32], dim: usize, n: usize) -> Self {
        let n_rows = rows.len() / dim;
        let n = n.clamp(1, n_rows.max(1));
        let pick = |place: usize| place * n_rows / n;
        let mut numbers = Vec::with_capacity(n * dim);
        (0..n).for_each(|place| numbers.extend_from_slice(&rows[pick(place) * dim..][..dim]));
        let mut directions = Self { numbers, dim };
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            directions.nearest(kernel, rows, &mut found);
            let mut sums = vec![0.0; n * dim];
            for ((nearest, _), row) in found.iter().zip(rows.chunks_exact(dim)) {
                let sum = &mut sums[*nearest as usize * dim..][..dim];
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            }
            for (old, sum) in directions.numbers.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)) {
                // One that nothing gathers around stays where it is.
                let factor = inverse_norm(sum);
                if factor.is_finite() && sum.iter().any(|number| *number != 0.0) {
                    old.iter_mut().zip(sum).for_each(|(old, sum)| *old = sum * factor);
                }
            }
        }
        directions
    }
}

impl Clusters {
    /// About `n` clusters of `rows`, a sample of unit vectors of `dim` numbers each.
    pub(super) fn of_sample(kernel: Kernel, rows: &[f32], dim: usize, n: usize) -> Self {
        let n_coarse = (n as f64).sqrt().ceil() as usize;
        let coarse = Directions::among(kernel, rows, dim, n_coarse);
        let mut found = Vec::new();
        coarse.nearest(kernel, rows, &mut found);
        let mut members = vec![Vec::new(); coarse.len()];
        for ((nearest, _), row) in found.iter().zip(rows.chunks_exact(dim)) {
            members[*nearest as usize].extend_from_slice(row);
        }
        let n_rows = rows.len() / dim;
        let of_members = |(place, members): (usize, &Vec<f32>)| match members.len() / dim {
            // So that each coarse direction has at least one fine one.
            0 => Directions { numbers: coarse.numbers[place * dim..][..dim].to_vec(), dim },
            n_members => Directions::among(kernel, members, dim, (n * n_members).div_ceil(n_rows)),
        };
        let fine: Vec<Directions> = members.iter().enumerate().map(of_members).collect();
        let mut first = Vec::with_capacity(fine.len());
        let mut before = 0;
        for fine in &fine {
            first.push(before);
            before += fine.len() as u32;
        }
        Self { coarse, fine, first, kernel }
    }

    /// How many clusters there are.
    pub(super) fn len(&self) -> usize {
        self.fine.iter().map(Directions::len).sum()
    }

    /// All clusters' directions in order, one behind the other.
    pub(super) fn directions(&self) -> Vec<f32> {
        self.fine.iter().flat_map(|fine| &fine.numbers).copied().collect()
    }

    /// Where each of `rows`, unit vectors, belongs.
    pub(super) fn places(&self, rows: &[f32]) -> Vec<ClusterPlace> {
        let dim = self.coarse.dim;
        let mut found = Vec::new();
        self.coarse.nearest(self.kernel, rows, &mut found);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.coarse.len()];
        found.iter().enumerate().for_each(|(row, (nearest, _))| members[*nearest as usize].push(row));
        let mut places = vec![ClusterPlace::default(); found.len()];
        let mut gathered = Vec::new();
        for ((fine, first), members) in self.fine.iter().zip(&self.first).zip(&members) {
            gathered.clear();
            members.iter().for_each(|row| gathered.extend_from_slice(&rows[row * dim..][..dim]));
            fine.nearest(self.kernel, &gathered, &mut found);
            for (row, (nearest, cosine)) in members.iter().zip(&found) {
                places[*row] = ClusterPlace { cluster: first + nearest, cosine: *cosine };
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    /// Unit vectors around `n` directions.
    fn bundles(n: usize, rows: usize, dim: usize, spread: f32) -> Vec<f32> {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut number = || random.random::<f32>() - 0.5;
        let centres: Vec<f32> = (0..n * dim).map(|_| number()).collect();
        let mut all = Vec::new();
        for row in 0..rows {
            let centre = &centres[row % n * dim..][..dim];
            let mut vector: Vec<f32> = centre.iter().map(|centre| centre + spread * number()).collect();
            let factor = inverse_norm(&vector);
            vector.iter_mut().for_each(|number| *number *= factor);
            all.extend(vector);
        }
        all
    }

    #[test]
    fn clusters_are_found_where_vectors_gather() {
        let (n, dim) = (25, 16);
        let rows = bundles(n, 4_000, dim, 0.2);
        let clusters = Clusters::of_sample(Kernel::detect(), &rows, dim, 4 * n);
        assert!((n..=6 * n).contains(&clusters.len()), "{}", clusters.len());
        let places = clusters.places(&rows);
        let mean = places.iter().map(|place| place.cosine).sum::<f32>() / places.len() as f32;
        assert!(mean > 0.95, "{mean}");
        // Whoever shares a cluster mostly shares a bundle.
        let mut bundles = vec![[0usize; 25]; clusters.len()];
        places.iter().enumerate().for_each(|(row, place)| bundles[place.cluster as usize][row % n] += 1);
        let pure: usize = bundles.iter().map(|counts| counts.iter().max().copied().unwrap_or(0)).sum();
        assert!(pure > 3_900, "{pure} of 4000");
    }

    #[test]
    fn places_name_the_direction_that_they_were_compared_with() {
        let dim = 8;
        let rows = bundles(7, 300, dim, 0.8);
        let clusters = Clusters::of_sample(Kernel::detect(), &rows, dim, 20);
        let directions = clusters.directions();
        for (row, place) in rows.chunks_exact(dim).zip(clusters.places(&rows)) {
            let direction = &directions[place.cluster as usize * dim..][..dim];
            let cosine: f32 = row.iter().zip(direction).map(|(a, b)| a * b).sum();
            assert!((cosine - place.cosine).abs() < 1e-4);
        }
    }
}
