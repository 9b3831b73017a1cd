//! The streams that are played: a real log, one that drifts and whose truth is known, and one with known structure.

use std::path::Path;

use negstream::config::{Config, layers};
use negstream::event::Interaction;
use negstream::position::Positions;
use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::source::{EventSource, PollStatus};
use negstream::synth::{EventGenerator, SynthConfig};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Items of the drifting stream.
pub const DRIFTING: usize = 5_000;
/// Two of its items change places in so many events: who is popular stays so for some 20,000 events.
const EXCHANGE_EVERY: usize = 8;

/// The shipped defaults, without the evaluation and the ledger, which change nothing in the model.
pub fn configuration(half_life: &str) -> anyhow::Result<Config> {
    let flags =
        ["evaluate.share=0.0", "negatives.false_negative_share=0.0", &format!("negatives.half_life={half_life}")]
            .map(str::to_owned);
    Ok(layers::load(None, std::iter::empty(), &flags)?)
}

/// The events of a Parquet log, in order.
pub fn real(path: &Path, config: &Config) -> anyhow::Result<Vec<Interaction>> {
    let options = LogOptions::new(&config.source, false);
    let mut source = ParquetLogs::open(&[path.display().to_string()], options, &Positions::default())?;
    let mut block = Vec::new();
    while !matches!(source.poll(&mut block)?, PollStatus::End) {}
    Ok(block.into_iter().filter_map(|record| record.outcome.ok()).collect())
}

/// The generator's log, with its defaults.
pub fn synthetic(events: usize) -> Vec<Interaction> {
    let mut synth = EventGenerator::new(SynthConfig::default());
    (0..events).map(|_| synth.next_event()).collect()
}

/// Items 0 to [`DRIFTING`] by Zipf's law, whose ranks change one exchange at a time, taken by users at random: nothing
/// is to be known but popularity. With the true probabilities, by item, as of the event of each of `points`.
pub fn drifting(events: usize, points: &[usize]) -> (Vec<Interaction>, Vec<Vec<f64>>) {
    let mut random = Pcg64Mcg::seed_from_u64(17);
    // From rank to item.
    let mut items: Vec<usize> = (0..DRIFTING).collect();
    let sum: f64 = (1..=DRIFTING).map(|rank| (rank as f64).recip()).sum();
    let mut end = 0.0;
    let ends: Vec<f64> = (1..=DRIFTING)
        .map(|rank| {
            end += (rank as f64 * sum).recip();
            end
        })
        .collect();
    let (mut log, mut truths) = (Vec::new(), Vec::new());
    for event in 0..events {
        if points.contains(&event) {
            let mut truth = vec![0.0; DRIFTING];
            items.iter().enumerate().for_each(|(rank, item)| truth[*item] = ((rank + 1) as f64 * sum).recip());
            truths.push(truth);
        }
        if event % EXCHANGE_EVERY == 0 {
            let (a, b) = (random.random_range(0..DRIFTING), random.random_range(0..DRIFTING));
            items.swap(a, b);
        }
        let point = random.random::<f64>();
        let item = items[ends.partition_point(|end| *end <= point).min(DRIFTING - 1)];
        log.push(Interaction {
            user: random.random_range(0..2_000).to_string().into(),
            item: item.to_string().into(),
            kind: "".into(),
            timestamp: event as i64 * 1_000,
            session: None,
            value: None,
            features: Vec::new(),
        });
    }
    (log, truths)
}
