//! Prints the single-precision rate of the `gemm` crate in GFLOP/s: a 2048³ product, each thread making a strip of it.
//!
//! `gemm-rate THREADS SECONDS`

use std::time::{Duration, Instant};

const N: usize = 2048;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(1, |number| number.parse().expect("a number of threads"));
    let seconds: f64 = arguments.next().map_or(1.0, |number| number.parse().expect("a number of seconds"));
    let columns = N / threads;
    let a = vec![0.5f32; N * N];
    let b = vec![0.25f32; N * N];
    let mut strips = vec![vec![0.0f32; N * columns]; threads];
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < Duration::from_secs_f64(seconds) || best.is_infinite() {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (strip, b) in strips.iter_mut().zip(b.chunks(N * columns)) {
                let a = &a;
                scope.spawn(move || product(a, b, strip, columns));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    assert!(strips.iter().flatten().all(|number| *number == N as f32 / 8.0), "a wrong product has no speed");
    println!("{:.1}", 2.0 * (N * N * columns * threads) as f64 / best / 1e9);
}

/// `strip = a · b`, all column by column: N × `columns` = (N × N) · (N × `columns`).
fn product(a: &[f32], b: &[f32], strip: &mut [f32], columns: usize) {
    let step = N as isize;
    assert!(a.len() >= N * N && b.len() >= N * columns && strip.len() >= N * columns);
    let (a, b, strip) = (a.as_ptr(), b.as_ptr(), strip.as_mut_ptr());
    let parallelism = gemm_common::Parallelism::None;
    let multiply = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: the slices hold as many numbers as the sizes and steps reach, and `strip` overlaps neither of the others.
    unsafe {
        multiply(
            N, columns, N, strip, step, 1, false, a, step, 1, b, step, 1, 0.0, 1.0, false, false, false, parallelism,
        );
    }
}
