//! Samplers alone, without a trainer: observe a stream, draw negatives, and read the exact log-probability of each draw.
//!
//! `cargo run --release --example samplers_alone`

use negstream::negatives::Vectors;
use negstream::negatives::frequency::Frequencies;
use negstream::negatives::live::LiveItems;
use negstream::negatives::samplers::unigram::Unigram;
use negstream::negatives::samplers::{BatchObservation, NoiseSampler, StreamView};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

/// Stands in for a model: a unigram sampler looks at counts alone.
#[derive(Debug)]
struct NoVectors;

impl Vectors for NoVectors {
    fn dim(&self) -> usize {
        0
    }

    fn vector(&self, _item: u32, _out: &mut [f32]) {}

    fn inverse_temperature(&self) -> f32 {
        1.0
    }

    fn beta(&self) -> f32 {
        1.0
    }
}

fn main() {
    // Counts with a half-life of 1,000 events; every item that ever came can be drawn.
    let mut frequencies = Frequencies::new(Some(1_000.0));
    let mut live = LiveItems::new(u64::MAX);
    let mut sampler = Unigram::new(0.75);

    // A stream of batches of item rows: item 0 comes most, item 4 least.
    for batch in [[0, 1, 0, 2, 0, 1], [0, 3, 0, 1, 2, 4], [0, 0, 1, 0, 2, 3]] {
        frequencies.grow(5);
        frequencies.add(&batch);
        live.observe(&batch);
        let view = StreamView { frequencies: &frequencies, live: &live, vectors: &NoVectors };
        sampler.observe(view, BatchObservation { items: &batch, ..BatchObservation::default() });
    }

    // Draws are a function of the generator alone: the same seed draws the same.
    let view = StreamView { frequencies: &frequencies, live: &live, vectors: &NoVectors };
    let (mut random, mut drawn) = (Pcg64Mcg::seed_from_u64(1), Vec::new());
    sampler.draw(view, 10_000, &mut random, &mut drawn);
    println!("item   log q   share of the draws");
    for item in 0..5 {
        let share = drawn.iter().filter(|other| **other == item).count() as f64 / drawn.len() as f64;
        println!("{item:>4}  {:>6.3}   {share:.3}", sampler.probability(view, item).ln());
    }
}
