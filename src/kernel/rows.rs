//! Arithmetic on single rows: what gathers them, brings gradients back to them, and moves them.
//!
//! Nothing here is fused or reordered by instruction set, only made wider: the same bytes on every machine.

use super::{Kernel, LANES, Lanes, cut_alike, for_each_isa};

/// Added to the root of Adagrad's sum, which begins above 0 anyway.
const EPSILON: f32 = 1e-10;
const SMALLEST_NORM: f32 = 1e-12;

/// The dot product, in [`LANES`] partial sums: one order of operations, which compilers can also run side by side.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for block in 0..blocks_a.len().min(blocks_b.len()) {
        for lane in 0..LANES {
            sums[lane] += blocks_a[block][lane] * blocks_b[block][lane];
        }
    }
    // What a sum of nothing is.
    let mut rest = -0.0;
    for k in 0..rest_a.len().min(rest_b.len()) {
        rest += rest_a[k] * rest_b[k];
    }
    sum(&sums) + rest
}

/// Σ of all lanes, in halves: with lengths that are known, this takes four instructions.
#[inline(always)]
pub(super) fn sum(lanes: &Lanes) -> f32 {
    let (mut halves, mut quarters) = ([0.0; LANES / 2], [0.0; LANES / 4]);
    for lane in 0..LANES / 2 {
        halves[lane] = lanes[lane] + lanes[lane + LANES / 2];
    }
    for lane in 0..LANES / 4 {
        quarters[lane] = halves[lane] + halves[lane + LANES / 4];
    }
    (quarters[0] + quarters[2]) + (quarters[1] + quarters[3])
}

/// 1/‖row‖₂.
#[inline(always)]
pub fn inverse_norm(row: &[f32]) -> f32 {
    dot(row, row).sqrt().max(SMALLEST_NORM).recip()
}

/// Bytes that are fetched at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Asks for a row, or a list, that will be worked on soon: a table is larger than any cache, and to wait for memory at each of its
/// rows costs more than the arithmetic.
#[inline(always)]
pub fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for first in (0..row.len()).step_by(const { CACHE_LINE.div_ceil(size_of::<T>()) }) {
        prefetch_one(&row[first]);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Asks for the cache line that `number` begins in, as [`prefetch`] does for a row.
#[inline(always)]
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the hint takes a raw pointer"))]
pub fn prefetch_one<T>(number: &T) {
    let pointer = std::ptr::from_ref(number);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint may name any address, and this one is that of a number.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(pointer.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pointer;
}

/// Rows that [`copy_rows`] asks memory for before it copies them. They lie all over memory, and the first cache line of each will do:
/// the processor fetches the lines behind it by itself, and a loop that prefetches every line is slower.
const COPIED_AHEAD: usize = 16;

/// Copies the first row of each pair to the second, of the same length, by non-temporal stores: they go past the caches, so that what
/// the copies replace is not fetched first. They are for memory that nobody reads soon.
///
/// # Panics
/// If lengths differ.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "non-temporal stores take raw pointers, and end with a fence")
)]
pub fn copy_rows(pairs: &mut [(&[f32], &mut [f32])]) {
    // Before the first is copied, so that nothing can end this function without its fence.
    assert!(pairs.iter().all(|(from, to)| from.len() == to.len()), "rows of different lengths");
    let ask = |(from, _): &(&[f32], &mut [f32])| from.first().into_iter().for_each(prefetch_one);
    pairs.iter().take(COPIED_AHEAD).for_each(ask);
    for place in 0..pairs.len() {
        pairs.get(place + COPIED_AHEAD).into_iter().for_each(ask);
        let (from, to) = &mut pairs[place];
        #[cfg(target_arch = "x86_64")]
        if to.as_ptr().addr().is_multiple_of(CACHE_LINE) && to.len().is_multiple_of(LANES) {
            use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
            for (from, to) in from.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<4>().0) {
                // SAFETY: four numbers are read where four are.
                let numbers = unsafe { _mm_loadu_ps(from.as_ptr()) };
                // SAFETY: these four are aligned, as the row is, and nobody reads them before the fence below.
                unsafe { _mm_stream_ps(to.as_mut_ptr(), numbers) };
            }
            continue;
        }
        to.copy_from_slice(from);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction, which touches no memory.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// `into += factor · row`.
pub fn add_scaled(kernel: Kernel, into: &mut [f32], row: &[f32], factor: f32) {
    run_add_scaled(kernel.isa, into, row, factor);
}

/// `(a + b)·other`.
pub fn dot_of_sum(kernel: Kernel, a: &[f32], b: &[f32], other: &[f32]) -> f32 {
    run_dot_of_sum(kernel.isa, a, b, other)
}

/// `out = factor · row`.
pub fn scale(kernel: Kernel, out: &mut [f32], row: &[f32], factor: f32) {
    run_scale(kernel.isa, out, row, factor);
}

/// Turns the gradient of a direction, `unit`, into that of the vector, of length 1/`inverse_norm`, that has it.
pub fn unnormalise(kernel: Kernel, unit: &[f32], inverse_norm: f32, gradient: &mut [f32]) {
    run_unnormalise(kernel.isa, unit, inverse_norm, gradient);
}

/// Adagrad (Duchi et al. 2011): each number keeps the sum of its squared gradients, and moves by `rate · g / (√sum + ε)`.
/// Gives 1/norm of the moved row; it is not finite where a number of the row is not.
///
/// # Panics
/// If the lengths differ.
pub fn adagrad(kernel: Kernel, values: &mut [f32], sums: &mut [f32], gradient: &[f32], rate: f32) -> f32 {
    assert!(values.len() == sums.len() && sums.len() == gradient.len());
    run_adagrad(kernel.isa, values, sums, gradient, rate)
}

/// Row-wise Adagrad: one sum for the whole row, of the mean of its squared gradients; otherwise as [`adagrad`].
///
/// # Panics
/// If the lengths differ.
pub fn rowwise_adagrad(kernel: Kernel, values: &mut [f32], sum: &mut f32, gradient: &[f32], rate: f32) -> f32 {
    assert_eq!(values.len(), gradient.len());
    run_rowwise_adagrad(kernel.isa, values, sum, gradient, rate)
}

for_each_isa!(run_add_scaled = add_scaled_body(into: &mut [f32], row: &[f32], factor: f32));
for_each_isa!(run_dot_of_sum = dot_of_sum_body(a: &[f32], b: &[f32], other: &[f32]) -> f32);
for_each_isa!(run_scale = scale_body(out: &mut [f32], row: &[f32], factor: f32));
for_each_isa!(run_unnormalise = unnormalise_body(unit: &[f32], inverse_norm: f32, gradient: &mut [f32]));
for_each_isa!(run_adagrad = adagrad_body(
    values: &mut [f32],
    sums: &mut [f32],
    gradient: &[f32],
    rate: f32,
) -> f32);
for_each_isa!(run_rowwise_adagrad = rowwise_adagrad_body(
    values: &mut [f32],
    sum: &mut f32,
    gradient: &[f32],
    rate: f32,
) -> f32);

#[inline(always)]
fn add_scaled_body<const FMA: bool, const ROWS: usize>(into: &mut [f32], row: &[f32], factor: f32) {
    let (into, row) = cut_alike(into, row);
    for k in 0..into.len() {
        into[k] += factor * row[k];
    }
}

#[inline(always)]
fn dot_of_sum_body<const FMA: bool, const ROWS: usize>(a: &[f32], b: &[f32], other: &[f32]) -> f32 {
    dot(a, other) + dot(b, other)
}

#[inline(always)]
fn scale_body<const FMA: bool, const ROWS: usize>(out: &mut [f32], row: &[f32], factor: f32) {
    let (out, row) = cut_alike(out, row);
    for k in 0..out.len() {
        out[k] = row[k] * factor;
    }
}

#[inline(always)]
fn unnormalise_body<const FMA: bool, const ROWS: usize>(unit: &[f32], inverse_norm: f32, gradient: &mut [f32]) {
    let along = dot(unit, gradient);
    let (gradient, unit) = cut_alike(gradient, unit);
    for k in 0..gradient.len() {
        gradient[k] = (gradient[k] - along * unit[k]) * inverse_norm;
    }
}

#[inline(always)]
fn adagrad_body<const FMA: bool, const ROWS: usize>(
    values: &mut [f32],
    sums: &mut [f32],
    gradient: &[f32],
    rate: f32,
) -> f32 {
    let dim = values.len();
    let (sums, gradient) = (&mut sums[..dim], &gradient[..dim]);
    for k in 0..dim {
        sums[k] += gradient[k] * gradient[k];
        values[k] -= rate * gradient[k] / (sums[k].sqrt() + EPSILON);
    }
    // An infinite sum would stop its number for ever, and nobody would notice.
    if largest(sums).is_finite() { finite_inverse_norm(values) } else { f32::NAN }
}

#[inline(always)]
fn rowwise_adagrad_body<const FMA: bool, const ROWS: usize>(
    values: &mut [f32],
    sum: &mut f32,
    gradient: &[f32],
    rate: f32,
) -> f32 {
    *sum += dot(gradient, gradient) / gradient.len() as f32;
    let rate = rate / (sum.sqrt() + EPSILON);
    let (values, gradient) = cut_alike(values, gradient);
    for k in 0..values.len() {
        values[k] -= rate * gradient[k];
    }
    if sum.is_finite() { finite_inverse_norm(values) } else { f32::NAN }
}

/// The largest of numbers that are none below 0; NaN is passed over, since it shows in the values.
#[inline(always)]
fn largest(numbers: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = numbers.as_chunks::<LANES>();
    let rest = rest.iter().fold(0.0f32, |a, b| a.max(*b));
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().fold(rest, |a, b| a.max(*b))
}

/// 1/norm, NaN where the norm is not finite (1/∞ would pass for a number).
#[inline(always)]
fn finite_inverse_norm(row: &[f32]) -> f32 {
    let square = dot(row, row);
    if square.is_finite() { square.sqrt().max(SMALLEST_NORM).recip() } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::aligned::Aligned;

    #[test]
    fn copied_rows_are_equal_whatever_their_width_and_place() {
        for (width, offset) in [1, 3, 16, 24, 64, 70, 256].into_iter().flat_map(|width| [(width, 0), (width, 1)]) {
            // More rows than memory is asked for ahead.
            let n = width * 3 * COPIED_AHEAD;
            let from: Vec<f32> = (0..n).map(|number| number as f32).collect();
            let mut to = Aligned::default();
            to.resize(offset + n, f32::NAN);
            copy_rows(&mut from.chunks_exact(width).zip(to[offset..].chunks_exact_mut(width)).collect::<Vec<_>>());
            assert_eq!(to[offset..], from, "width {width}, offset {offset}");
        }
    }

    #[test]
    #[should_panic(expected = "rows of different lengths")]
    fn rows_of_different_lengths_are_refused() {
        copy_rows(&mut [(&[1.0; 16], &mut [0.0; 16]), (&[1.0; 16], &mut [0.0; 15])]);
    }

    #[test]
    fn adagrad_follows_the_formula() {
        for kernel in Kernel::available() {
            let (mut values, mut sums) = ([1.0, 2.0], [0.25, 1.0]);
            let inverse_norm = adagrad(kernel, &mut values, &mut sums, &[0.5, 0.0], 0.1);
            assert_eq!(sums, [0.5, 1.0]);
            assert_eq!(values, [1.0 - 0.1 * 0.5 / (0.5f32.sqrt() + EPSILON), 2.0]);
            assert!((inverse_norm - (values[0] * values[0] + 4.0f32).sqrt().recip()).abs() < 1e-6);

            let (mut values, mut sum) = ([1.0, 2.0], 0.25);
            rowwise_adagrad(kernel, &mut values, &mut sum, &[3.0, 1.0], 0.1);
            assert_eq!(sum, 5.25);
            let rate = 0.1 / (5.25f32.sqrt() + EPSILON);
            assert_eq!(values, [1.0 - rate * 3.0, 2.0 - rate * 1.0]);
        }
    }

    #[test]
    fn adagrad_reports_rows_that_are_not_finite() {
        for kernel in Kernel::available() {
            for bad in [f32::NAN, f32::INFINITY, 1e30] {
                let (mut values, mut sums) = ([0.0, bad], [1.0; 2]);
                assert!(adagrad(kernel, &mut values, &mut sums, &[0.0; 2], 0.1).is_nan(), "{bad}");
            }
            // The square is infinite, though neither the gradient nor the move is.
            assert!(adagrad(kernel, &mut [0.0; 20], &mut [1.0; 20], &[2e19; 20], 0.1).is_nan());
            assert!(rowwise_adagrad(kernel, &mut [0.0; 20], &mut 1.0, &[2e19; 20], 0.1).is_nan());
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        let numbers = |salt: usize, n: usize| (0..n).map(|k| ((k * 37 + salt) as f32).sin()).collect::<Vec<_>>();
        for n in [1, 15, 16, 64, 100] {
            let results: Vec<_> = Kernel::available()
                .into_iter()
                .map(|kernel| {
                    let (mut values, mut sums) = (numbers(1, n), vec![0.1; n]);
                    let mut gradient = numbers(2, n);
                    unnormalise(kernel, &values.clone(), 1.3, &mut gradient);
                    add_scaled(kernel, &mut gradient, &numbers(3, n), 0.7);
                    let norm = adagrad(kernel, &mut values, &mut sums, &gradient, 0.05);
                    let product = dot_of_sum(kernel, &values, &sums, &gradient);
                    (values, norm.to_bits(), product.to_bits())
                })
                .collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{n}");
        }
    }
}
