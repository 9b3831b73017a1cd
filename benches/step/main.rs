//! The whole training step, on the workloads of the PyTorch peer: candidates gathered, kernel, gradients scattered,
//! rows moved. One JSON line per workload; the fields are those of the peer's script, so that the two can be joined.
//!
//! `cargo bench --bench step [-- --quick] [--threads N] [--workload BATCH,BANK,DIM] [--precision bf16] [--gemm PROGRAM]
//! [--plot FILE]`
//!
//! GFLOP/s and `share` count every candidate, as the peer computes them; `computed_share` counts those that are left
//! after equal ones were merged. Drawing the random numbers is not timed.
//!
//! The machine's rate is that of a single-precision matrix product (2048³, by `ndarray` over its `matrixmultiply`, one
//! product per thread side by side), measured in the same process; or that of `PROGRAM`, built from `benches/peers/gemm`,
//! where it is the faster one (it has AVX-512). `benches/peers/compare.py` asks other libraries as well. With `--plot`, the step
//! is measured over numbers of threads, candidates and dimensions and sizes of batches, and drawn beside what bounds it.
//!
//! Before anything is timed, the kernel's result is checked against double precision; and it is an error if every
//! step asks for memory: buffers grow with the widest batch so far, and no step needs any beyond that.

mod plot;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ndarray::{Array2, linalg::general_mat_mul};
use negstream::config::layers;
use negstream::context::Batch;
use negstream::kernel::contrast::{Gradients, Pairs, Problem, info_nce};
use negstream::kernel::{Kernel, reference};
use negstream::model::Model;
use negstream::model::encoder::Encoded;
use negstream::negatives::bank::Bank;
use negstream::negatives::candidates::Candidates;
use negstream::negatives::frequency::Frequencies;
use negstream::negatives::live::LiveItems;
use negstream::negatives::samplers::mix::NoiseMix;
use negstream::negatives::samplers::{QueryContext, StreamView};
use negstream::objective::step::StepRequest;
use negstream::objective::{Objectives, Scratch};
use negstream::util::attentive::attentive;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// (batch, bank, dimensions)
const WORKLOADS: [(usize, usize, usize); 7] = [
    (256, 0, 64),
    (1024, 0, 64),
    (1024, 4096, 64),
    (1024, 16384, 64),
    (256, 8192, 64),
    (4096, 0, 64),
    (1024, 4096, 128),
];
const ROWS: u32 = 200_000;

/// The system's allocator, with a count of what it is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts")]
// SAFETY: everything is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let place = arguments.iter().position(|argument| argument == flag)?;
        Some(arguments.get(place + 1).unwrap_or_else(|| panic!("{flag} needs a value")))
    };
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let threads = after("--threads").map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |number| number.parse().expect("--threads takes a number"),
    );
    let workloads = after("--workload").map_or_else(
        || WORKLOADS.to_vec(),
        |triple| {
            let numbers: Vec<usize> =
                triple.split(',').map(|number| number.parse().expect("--workload takes BATCH,BANK,DIM")).collect();
            vec![numbers.try_into().map(|[batch, bank, dim]: [usize; 3]| (batch, bank, dim)).expect("three numbers")]
        },
    );
    let precision = after("--precision").map_or("f32", String::as_str);
    let budget = Duration::from_millis(if quick { 100 } else { 3000 });
    let gemm = after("--gemm").map(String::as_str);
    let Some(file) = after("--plot") else {
        for workload in workloads {
            measure(workload, threads, precision, gemm, budget);
        }
        return;
    };
    let mut measured = Vec::new();
    for (threads, precision) in [(1, "f32"), (threads, "f32"), (threads, "bf16")] {
        for workload in plot::workloads() {
            measured.push(measure(workload, threads, precision, gemm, budget / 3));
        }
    }
    std::fs::write(file, plot::draw(&measured, threads, copy_rate(threads))).expect("the drawing can be written");
}

/// Measures a step, and prints what is found.
fn measure(
    (batch, bank, dim): (usize, usize, usize),
    threads: usize,
    precision: &str,
    gemm: Option<&str>,
    budget: Duration,
) -> serde_json::Value {
    let kernel = Kernel::detect().with_bf16_products(precision == "bf16");
    check(kernel);
    let product_rate = |budget: Duration| {
        let theirs = gemm.map_or(0.0, |program| gemm_rate(program, threads, budget));
        theirs.max(product_rate(threads, budget))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let before = product_rate(budget / 3);
    let Measured { seconds, columns, allocations, least_allocations } =
        pool.install(|| step_seconds(kernel, precision, (batch, bank, dim), budget));
    assert_eq!(least_allocations, 0, "every step asks for memory");
    let rate = before.max(product_rate(budget / 3));
    let gflops = 6.0 * (batch * (batch + bank) * dim) as f64 / seconds / 1e9;
    // What was computed, equal candidates having been merged.
    let computed = gflops * columns as f64 / (batch + bank) as f64;
    let line = serde_json::json!({
        "batch": batch, "bank": bank, "dim": dim, "columns_after_merging": columns,
        "examples_per_second": (batch as f64 / seconds).round(), "gflops": (gflops * 10.0).round() / 10.0,
        "matmul_gflops": (rate * 10.0).round() / 10.0, "share": (gflops / rate * 1000.0).round() / 1000.0,
        "computed_share": (computed / rate * 1000.0).round() / 1000.0,
        "allocations_per_step": allocations, "threads": threads, "precision": precision,
        "isa": format!("{:?}", kernel.isa()),
    });
    println!("{line}");
    line
}

/// Bytes per second that all threads together read and write, copying what fits no cache.
fn copy_rate(threads: usize) -> f64 {
    const LENGTH: usize = 1 << 27;
    let mut buffers: Vec<_> = (0..threads).map(|_| (vec![1u8; LENGTH], vec![0u8; LENGTH])).collect();
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (from, to) in &mut buffers {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    (2 * threads * LENGTH) as f64 / best
}

/// GFLOP/s of a 2048³ product on every thread at once, the best of several.
fn product_rate(threads: usize, budget: Duration) -> f64 {
    const N: usize = 2048;
    // Each thread makes its own strip of the product.
    let strip = N / threads;
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    let b = Array2::from_shape_fn((N, N), |(i, j)| ((i + 2 * j) % 7) as f32 - 3.0);
    let strips: Vec<_> =
        (0..threads).map(|_| Array2::from_shape_fn((strip, N), |(i, j)| ((i + j) % 5) as f32)).collect();
    let mut products: Vec<_> = (0..threads).map(|_| Array2::<f32>::zeros((strip, N))).collect();
    while begin.elapsed() < budget || best.is_infinite() {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (a, c) in strips.iter().zip(&mut products) {
                let b = &b;
                scope.spawn(move || general_mat_mul(1.0, a, b, 0.0, c));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (strip * threads * N * N) as f64 / best / 1e9
}

/// What a workload came to.
struct Measured {
    /// Median of a step.
    seconds: f64,
    /// Columns of the last step, after merging.
    columns: usize,
    /// Median of a step.
    allocations: u64,
    /// Least of a step.
    least_allocations: u64,
}

/// What `program` prints: GFLOP/s of the `gemm` crate.
fn gemm_rate(program: &str, threads: usize, budget: Duration) -> f64 {
    let arguments = [threads.to_string(), budget.as_secs_f64().to_string()];
    let out = std::process::Command::new(program).args(arguments).output().expect("the program of --gemm runs");
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("the program of --gemm prints a number")
}

fn step_seconds(
    kernel: Kernel,
    precision: &str,
    (batch_size, bank_size, dim): (usize, usize, usize),
    budget: Duration,
) -> Measured {
    let flags = [
        format!("model.dim={dim}"),
        format!("model.precision={precision}"),
        "context.context_rows=false".to_owned(),
        "evaluate.repeat=true".to_owned(),
        "model.learn_popularity=false".to_owned(),
    ];
    let config = layers::load(None, std::iter::empty(), &flags).expect("a valid configuration");
    let mut random = Pcg64Mcg::seed_from_u64(0);
    let mut model = Model::new(&config, kernel);
    (0..ROWS).for_each(|item| model.add_item(&item.to_string()));
    let mut zipf = |n: usize| -> Vec<u32> {
        (0..n).map(|_| ((f64::from(ROWS).powf(random.random::<f64>()) - 1.0) as u32).min(ROWS - 1)).collect()
    };
    let mut frequencies = Frequencies::new(Some(5000.0));
    frequencies.grow(ROWS as usize);
    frequencies.add(&zipf(100_000));
    let live = LiveItems::new(u64::MAX);
    let mut bank = Bank::new(bank_size, 0, false);
    bank.push(&zipf(bank_size), &model);
    let mut noise = NoiseMix::new(&[]);
    let mut objectives = Objectives::new(&config);
    let (mut batch, mut asked, mut encoded) = (Batch::default(), StepRequest::default(), Encoded::default());
    let (mut candidates, mut scratch) = (Candidates::default(), Scratch::default());
    let (mut contexts, mut uniform) = (Vec::new(), Pcg64Mcg::seed_from_u64(1));
    let (mut times, mut allocations) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < budget || times.len() < 5 {
        // A context of one item stands for the peer's query row, and is as seldom in a cache: any row of as many.
        let positives = zipf(batch_size);
        contexts.clear();
        contexts.extend((0..batch_size).map(|_| uniform.random_range(0..ROWS)));
        let allocated = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        attentive(|| {
            batch.clear(0);
            for (context, positive) in contexts.iter().zip(&positives) {
                batch.push(0, *positive, &[*context]);
            }
            objectives.prepare(&batch, (0, 0), &mut asked);
            rayon::join(
                || model.encode(kernel, &asked.sequences, &[], &mut encoded),
                || {
                    let view = StreamView { frequencies: &frequencies, live: &live, vectors: &model };
                    candidates.gather(
                        asked.positives.iter().copied(),
                        &bank,
                        &mut noise,
                        view,
                        QueryContext::default(),
                        (0, 0),
                    );
                },
            );
            let on = (&asked, &mut encoded);
            objectives.step((model.kernel(), (0, 0)), &mut model, &batch, on, (&candidates, &bank), &mut scratch);
            bank.push(&positives, &model);
        });
        times.push(start.elapsed().as_secs_f64());
        allocations.push(ALLOCATIONS.load(Ordering::Relaxed) - allocated);
    }
    times.sort_unstable_by(f64::total_cmp);
    allocations.sort_unstable();
    let middle = times.len() / 2;
    Measured {
        seconds: times[middle],
        columns: candidates.items.len(),
        allocations: allocations[middle],
        least_allocations: allocations[0],
    }
}

/// A wrong result has no speed.
fn check(kernel: Kernel) {
    let number = |i: usize, k: usize| (((i * 31 + k * 17) % 23) as f32 - 11.0) / 40.0;
    let (queries, candidates) = (
        Array2::from_shape_fn((40, 64), |(i, k)| number(i, k)),
        Array2::from_shape_fn((90, 64), |(i, k)| number(i + 7, k)),
    );
    let (bias, slope) = (vec![0.1; 90], vec![1.0; 90]);
    let positives: Vec<u32> = (0..40).collect();
    let starts: Vec<u32> = (0..=40).collect();
    let terms = vec![-0.5; 40];
    let problem = Problem {
        queries: queries.view(),
        query_inverse_norms: &[],
        query_scales: &[],
        candidates: candidates.view(),
        inverse_temperature: 6.0,
        bias: &bias,
        slope: &slope,
        positives: &positives,
        pairs: Pairs { starts: &starts, columns: &positives, terms: &terms },
        scale: 1.0,
        weights: &[],
    };
    let truth = reference::info_nce(&problem);
    let mut found = Gradients::default();
    info_nce(kernel, &problem, &mut found);
    // Eight significant bits, or twenty-four.
    let bound = if kernel == kernel.with_bf16_products(true) { 1e-2 } else { 1e-5 };
    let candidate_gradients = (0..90).flat_map(|column| found.candidate(column));
    let (apart, largest) = candidate_gradients
        .zip(truth.candidates.iter())
        .fold((0.0f64, 0.0f64), |(apart, largest), (a, b)| (apart.max((f64::from(a) - b).abs()), largest.max(b.abs())));
    let of_loss = (found.loss / truth.loss - 1.0).abs();
    assert!(apart < bound * largest && of_loss < bound, "the kernel is wrong by {apart} of {largest}, {of_loss}");
}
