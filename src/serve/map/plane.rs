//! The plane that shows most of some vectors, by power iteration; and how one map is turned, mirrored and moved onto another.

use crate::table::rows::{GOLDEN, split_mix};

/// Rounds of the power iteration: what is left after them shows in no picture.
const ROUNDS: usize = 30;

/// The places of `vectors` (of `dim` numbers each) in the plane of their two largest principal components.
pub(super) fn principal(vectors: &[f32], dim: usize) -> Vec<[f32; 2]> {
    let n = vectors.len() / dim.max(1);
    if n == 0 {
        return Vec::new();
    }
    let mut mean = vec![0.0_f32; dim];
    for row in vectors.chunks_exact(dim) {
        add(&mut mean, row, 1.0 / n as f32);
    }
    // The same start for every process, so that maps of equal models are equal.
    let start =
        |axis: u64| -> Vec<f32> { (0..dim as u64).map(|place| unit_noise(axis * dim as u64 + place) - 0.5).collect() };
    let mut axes = [start(1), start(2)];
    for _ in 0..ROUNDS {
        let mut next = [vec![0.0; dim], vec![0.0; dim]];
        for row in vectors.chunks_exact(dim) {
            for (axis, next) in axes.iter().zip(&mut next) {
                let along = dot(row, axis) - dot(&mean, axis);
                add(next, row, along);
                add(next, &mean, -along);
            }
        }
        let [mut first, mut second] = next;
        normalise(&mut first);
        let shared = dot(&first, &second);
        add(&mut second, &first, -shared);
        normalise(&mut second);
        axes = [first, second];
    }
    for axis in &mut axes {
        // Of an axis and its opposite, that whose largest number is positive.
        let largest =
            axis.iter().copied().fold(0.0_f32, |best, number| if number.abs() > best.abs() { number } else { best });
        if largest < 0.0 {
            axis.iter_mut().for_each(|number| *number = -*number);
        }
    }
    let place = |row: &[f32]| [0, 1].map(|axis| dot(row, &axes[axis]) - dot(&mean, &axes[axis]));
    vectors.chunks_exact(dim).map(place).collect()
}

/// Turns, mirrors and moves `places` so that those in `known` (number of the place, where it was before) come to lie as near to where they
/// were as they can (Procrustes); nothing is stretched.
pub(super) fn align(places: &mut [[f32; 2]], known: &[(usize, [f32; 2])]) {
    if known.is_empty() {
        return;
    }
    let share = 1.0 / known.len() as f32;
    let (mut centre, mut earlier_centre) = ([0.0; 2], [0.0; 2]);
    for (number, before) in known {
        for axis in 0..2 {
            centre[axis] += share * places[*number][axis];
            earlier_centre[axis] += share * before[axis];
        }
    }
    let mut moments = [[0.0_f32; 2]; 2];
    for (number, before) in known {
        for (row, moments) in moments.iter_mut().enumerate() {
            for (column, moment) in moments.iter_mut().enumerate() {
                *moment += (places[*number][row] - centre[row]) * (before[column] - earlier_centre[column]);
            }
        }
    }
    let [[xx, xy], [yx, yy]] = moments;
    // The turn that fits best, and the turn of the mirrored map that does.
    let turned = (xx + yy, xy - yx);
    let mirrored = (xx - yy, xy + yx);
    let (fits, mirrors) = (turned.0.hypot(turned.1), mirrored.0.hypot(mirrored.1));
    let is_mirrored = mirrors > fits;
    let (along, across) = if is_mirrored { mirrored } else { turned };
    let size = along.hypot(across);
    let (cosine, sine) = if size > 0.0 { (along / size, across / size) } else { (1.0, 0.0) };
    for place in places {
        let (x, y) = (place[0] - centre[0], place[1] - centre[1]);
        let y = if is_mirrored { -y } else { y };
        *place = [earlier_centre[0] + cosine * x - sine * y, earlier_centre[1] + sine * x + cosine * y];
    }
}

/// A number in 0..1 that `seed` alone decides.
pub(super) fn unit_noise(seed: u64) -> f32 {
    (split_mix(seed.wrapping_mul(GOLDEN)) >> 40) as f32 / (1_u64 << 24) as f32
}

pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    // Sums of their own, so that they are made side by side.
    let mut sums = [0.0_f32; 8];
    let (chunks, others) = (left.chunks_exact(8), right.chunks_exact(8));
    let rest: f32 = chunks.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in chunks.zip(others) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

fn add(to: &mut [f32], row: &[f32], factor: f32) {
    to.iter_mut().zip(row).for_each(|(to, number)| *to += factor * number);
}

fn normalise(vector: &mut [f32]) {
    let norm = dot(vector, vector).sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|number| *number /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plane_shows_the_directions_that_differ_most() {
        let mut vectors = Vec::new();
        for n in 0..200_u64 {
            let at = |seed: u64| unit_noise(10 * n + seed) - 0.5;
            vectors.extend([0.01 * at(1), 3.0 * at(2), 5.0 + 0.01 * at(3), 10.0 * at(4)]);
        }
        let places = principal(&vectors, 4);
        for (place, row) in places.iter().zip(vectors.chunks_exact(4)) {
            assert!((place[0].abs() - row[3].abs()).abs() < 1.0 && (place[1].abs() - row[1].abs()).abs() < 1.0);
        }
        assert_eq!(places, principal(&vectors, 4));
        assert!(principal(&[], 4).is_empty());
        assert_eq!(principal(&[1.0, 2.0], 2), [[0.0, 0.0]]);
    }

    #[test]
    fn a_map_that_was_turned_mirrored_and_moved_comes_back() {
        let before: Vec<[f32; 2]> = (0..50).map(|n| [unit_noise(n), 2.0 * unit_noise(n + 99)]).collect();
        for mirror in [1.0, -1.0] {
            let (sine, cosine) = 2.0_f32.sin_cos();
            let mut places: Vec<[f32; 2]> = before
                .iter()
                .map(|[x, y]| [cosine * x - sine * y * mirror + 5.0, sine * x + cosine * y * mirror - 3.0])
                .collect();
            let known: Vec<_> = before.iter().copied().enumerate().take(40).collect();
            align(&mut places, &known);
            for (place, before) in places.iter().zip(&before) {
                assert!(
                    (place[0] - before[0]).abs() < 1e-4 && (place[1] - before[1]).abs() < 1e-4,
                    "{place:?} {before:?}"
                );
            }
        }
        let mut alone = [[1.0, 2.0]];
        align(&mut alone, &[]);
        align(&mut alone, &[(0, [4.0, 4.0])]);
        assert_eq!(alone, [[4.0, 4.0]]);
    }
}
