//! Vectors in bfloat16, sixteen side by side: products of one query with many of them, as fast as memory gives them.
//!
//! A *group* is [`LANES`] vectors, packed as pairs of numbers: pair k of a vector is its number k with number ⌈n/2⌉ + k, or with 0
//! where it has no such number. So an instruction multiplies a pair of the query with those of all vectors of a group, and
//! nothing is left to add up across lanes.

use std::ops::Range;

use super::aligned::Aligned;
use super::dots::pack;
use super::rows::prefetch_one;
use super::simd::products::pair;
use super::simd::{SimdVector, for_each_vector};
use super::{Kernel, LANES, Lanes};

/// Groups that are multiplied at once: the sum of a group waits for each of its products, and those of the other groups are added
/// meanwhile.
const TOGETHER: usize = 4;

/// Appends the pairs of a vector, its numbers in bfloat16, to `pairs`: ⌈n/2⌉ of them.
pub fn push_pairs(kernel: Kernel, vector: &[f32], pairs: &mut Vec<f32>) {
    let (low, high) = vector.split_at(vector.len().div_ceil(2));
    let begin = pairs.len();
    pairs.resize(begin + low.len(), 0.0);
    let (paired, single) = pairs[begin..].split_at_mut(high.len());
    pair(kernel.isa, &low[..high.len()], high, paired);
    if !single.is_empty() {
        pair(kernel.isa, &low[high.len()..], &[0.0], single);
    }
}

/// Groups of vectors.
#[derive(Debug)]
pub struct PackedRows {
    /// Pairs of a vector.
    n_pairs: usize,
    /// Groups × `n_pairs`.
    groups: Aligned<Lanes>,
}

impl PackedRows {
    /// No vectors yet, of `dim` numbers; with room for so many groups.
    pub fn with_capacity(dim: usize, n_groups: usize) -> Self {
        let n_pairs = dim.div_ceil(2);
        Self { n_pairs, groups: Aligned::with_capacity(n_groups * n_pairs) }
    }

    /// How many groups there are.
    pub fn n_groups(&self) -> usize {
        self.groups.len().checked_div(self.n_pairs).unwrap_or(0)
    }

    /// Adds a group of vectors, each as [`push_pairs`] makes it; [`LANES`] at most. Where there are fewer, the others are 0.
    ///
    /// # Panics
    /// If one has another number of pairs.
    pub fn push<'a>(&mut self, vectors: impl Iterator<Item = &'a [f32]>) {
        let vectors = vectors
            .inspect(|vector| assert!(vector.len() == self.n_pairs, "{} pairs, not {}", vector.len(), self.n_pairs));
        let begin = self.groups.len();
        self.groups.resize(begin + self.n_pairs, [0.0; LANES]);
        pack(vectors, &mut self.groups[begin..]);
    }

    /// The products of the query, as [`push_pairs`] makes it, with the vectors of `groups`, into `out`: near the true ones, as numbers
    /// are rounded. Memory is asked meanwhile for the groups of `next`, as many as there are in `groups`.
    ///
    /// # Panics
    /// If there are no such groups, `out` is of another length than `groups`, or the query has another number of pairs than the vectors.
    pub fn products(&self, kernel: Kernel, query: &[f32], groups: Range<usize>, next: Range<usize>, out: &mut [Lanes]) {
        assert!(query.len() == self.n_pairs && groups.len() == out.len());
        let lines = |groups: Range<usize>| &self.groups[groups.start * self.n_pairs..groups.end * self.n_pairs];
        multiply(kernel.isa, query, lines(groups), lines(next), out);
    }
}

for_each_vector!(multiply = multiply_body(query: &[f32], groups: &[Lanes], next: &[Lanes], out: &mut [Lanes]));

#[inline(always)]
fn multiply_body<V: SimdVector, const R: usize, const V1: usize, const G: usize, const V2: usize>(
    query: &[f32],
    groups: &[Lanes],
    next: &[Lanes],
    out: &mut [Lanes],
) {
    let mut group = 0;
    while group + TOGETHER <= out.len() {
        multiply_some::<V, TOGETHER>(query, groups, next, group, out);
        group += TOGETHER;
    }
    while group < out.len() {
        multiply_some::<V, 1>(query, groups, next, group, out);
        group += 1;
    }
}

/// The products of `N` groups, the first of which is number `first`.
#[inline(always)]
fn multiply_some<V: SimdVector, const N: usize>(
    query: &[f32],
    groups: &[Lanes],
    next: &[Lanes],
    first: usize,
    out: &mut [Lanes],
) {
    let n_pairs = query.len();
    let mut each: [&[Lanes]; N] = [&[]; N];
    for group in 0..N {
        each[group] = &groups[(first + group) * n_pairs..][..n_pairs];
    }
    for lane in (0..LANES).step_by(V::WIDTH) {
        let mut sums = [V::splat(0.0); N];
        for k in 0..n_pairs {
            let of_query = V::splat(query[k]);
            for group in 0..N {
                let line = (first + group) * n_pairs + k;
                // Once for each line, although its lanes may take several vectors.
                if lane == 0 && line < next.len() {
                    prefetch_one(&next[line]);
                }
                sums[group] = sums[group].add_pairs(of_query, V::load(&each[group][k][lane..]));
            }
        }
        for group in 0..N {
            sums[group].store(&mut out[first + group][lane..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::ranking::Comparer;

    proptest! {
        /// Near the products in double precision, with the same bytes by every instruction set, as products of numbers in bfloat16 are exact;
        /// each vector in its lane, and whatever is asked for beside it.
        #[test]
        fn products_are_near_the_true_ones(
            dim in 1usize..70,
            n_vectors in 1usize..150,
            n_next in 0usize..4,
            numbers in prop::collection::vec(-1.0f32..1.0, 70),
        ) {
            let number = |vector: usize, k: usize| numbers[(vector * 31 + k) % numbers.len()] * 0.9f32.powi(vector as i32 % 7);
            let vectors: Vec<Vec<f32>> = (0..=n_vectors).map(|v| (0..dim).map(|k| number(v, k)).collect()).collect();
            let (query, vectors) = vectors.split_last().expect("a query");
            let mut of_others: Option<Vec<u32>> = None;
            for kernel in Kernel::available() {
                let mut packed = PackedRows::with_capacity(dim, 1);
                for group in vectors.chunks(LANES) {
                    let pairs: Vec<Vec<f32>> = group.iter().map(|vector| pairs_of(kernel, vector)).collect();
                    packed.push(pairs.iter().map(Vec::as_slice));
                }
                let n_groups = packed.n_groups();
                prop_assert_eq!(n_groups, n_vectors.div_ceil(LANES));
                let mut out = vec![[f32::NAN; LANES]; n_groups];
                let next = n_groups - n_next.min(n_groups)..n_groups;
                packed.products(kernel, &pairs_of(kernel, query), 0..n_groups, next, &mut out);
                let norm = |vector: &[f32]| vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
                for (vector, product) in vectors.iter().zip(out.as_flattened()) {
                    let truth: f64 = vector.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let bound = f64::from(Comparer::error(dim)) * norm(vector) * norm(query) + 1e-14;
                    prop_assert!((f64::from(*product) - truth).abs() <= bound, "{product}, not {truth}");
                }
                prop_assert!(out.as_flattened()[n_vectors..].iter().all(|product| *product == 0.0));
                let bits: Vec<u32> = out.as_flattened().iter().map(|product| product.to_bits()).collect();
                let expected = of_others.get_or_insert_with(|| bits.clone());
                prop_assert_eq!(&bits, &*expected);
            }
        }
    }

    fn pairs_of(kernel: Kernel, vector: &[f32]) -> Vec<f32> {
        let mut pairs = Vec::new();
        push_pairs(kernel, vector, &mut pairs);
        pairs
    }
}
