//! How close each sampler comes to the stream, after each tenth of it.
//!
//! * On a real log: the mean −log q, in nats, of those of the next 2,000 events that are of live items. The lower, the
//!   closer; the difference of two samplers is that of their divergences from whatever the truth was.
//! * On the drifting stream: KL(truth ‖ q), exactly, with the truth confined to the live items.
//!
//! Beside each the entropy of q. A model is trained along the way with the shipped defaults, for samplers that look at
//! vectors. A sampler that depends on the queries is asked as in training, with 256 queries that share q, and with one
//! at a time.

use negstream::config::Config;
use negstream::event::Interaction;
use serde_json::json;

use crate::replay::{Example, Replay, view};
use crate::report::{Report, rounded};
use crate::streams::{self, configuration};
use crate::{Kind, Options};

/// Events that are looked ahead.
const AHEAD: usize = 2_000;
/// Queries that share a distribution in training.
const BATCH: usize = 256;
/// Of so many distributions at most the divergence and the entropy are computed in full.
const IN_FULL: usize = 32;

/// Means over the points of a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Means {
    loss: f64,
    divergence: f64,
    entropy: f64,
}

/// Measures, and reports.
pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let proper =
        |kind: &Kind| kind.full_support && !kind.name.starts_with("hard") && !kind.name.starts_with("exposure");
    let all: Vec<Kind> = options.kinds().into_iter().filter(proper).collect();
    let unigram: Vec<Kind> = all.iter().copied().filter(|kind| kind.name == "unigram").collect();
    let (real_events, drifting_events) = if options.quick { (5_120, 10_240) } else { (usize::MAX, 200_000) };
    for (half_life, kinds) in [("auto", &all), ("500", &unigram), ("5000", &unigram), ("100000", &unigram)] {
        let config = configuration(half_life)?;
        if let Some(path) = &options.log {
            let mut events = streams::real(path, &config)?;
            events.truncate(real_events);
            let points = points(events.len());
            measure(("log", half_life), &config, kinds, events, &points, None, report)?;
        }
        let points = points(drifting_events);
        let (events, truths) = streams::drifting(drifting_events + AHEAD, &points);
        measure(("drift", half_life), &config, kinds, events, &points, Some(&truths), report)?;
    }
    Ok(())
}

/// After each tenth, to whole batches.
fn points(events: usize) -> Vec<usize> {
    (1..=10).map(|tenth| events / 10 * tenth / BATCH * BATCH).collect()
}

fn measure(
    (stream, half_life): (&str, &str),
    config: &Config,
    kinds: &[Kind],
    events: Vec<Interaction>,
    points: &[usize],
    truths: Option<&[Vec<f64>]>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut replay = Replay::new(config, kinds, events)?;
    // By sampler and number of queries that share a distribution.
    let mut results: Vec<(&str, Option<usize>, Means)> = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let depends = replay.samplers[index].1.depends_on_queries();
        let asked: &[Option<usize>] = if depends { &[Some(BATCH), Some(1)] } else { &[None] };
        results.extend(asked.iter().map(|asked| (kind.name, *asked, Means::default())));
    }
    let (mut n_points, mut half_lives, mut truth_entropy) = (0.0, 0.0f64, 0.0);
    for (index, point) in points.iter().enumerate() {
        replay.run_to(*point);
        let examples = replay.upcoming(AHEAD);
        // The end of a log is followed by nothing.
        if examples.len() < BATCH {
            continue;
        }
        n_points += 1.0;
        half_lives += replay.trainer.state.negatives.frequencies.half_life().ln();
        let truth = truths.map(|truths| confined(&replay, &truths[index]));
        if let Some(truth) = &truth {
            truth_entropy -= truth.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        }
        for (name, asked, means) in &mut results {
            let sampler = kinds.iter().position(|kind| kind.name == *name).expect("one of them");
            add(&mut replay, sampler, *asked, &examples, truth.as_deref(), means);
        }
    }
    for (sampler, asked, means) in results {
        let mut line = json!({
            "measure": "kl", "stream": stream, "half_life": half_life, "sampler": sampler, "queries_asked": asked,
            "log_loss": rounded(means.loss / n_points, 4), "entropy": rounded(means.entropy / n_points, 3),
            "points": n_points, "mean_half_life": (half_lives / n_points).exp().round(),
        });
        if truths.is_some() {
            line["kl"] = rounded(means.divergence / n_points, 4).into();
            line["entropy_of_truth"] = rounded(truth_entropy / n_points, 3).into();
        }
        report.line(line);
    }
    Ok(())
}

/// The truth about each live item, in their order.
fn confined(replay: &Replay, truth: &[f64]) -> Vec<f64> {
    let state = &replay.trainer.state;
    let number = |item: &u32| state.items.ids.name(*item).parse::<usize>().expect("items are called by their number");
    let mut confined: Vec<f64> = state.negatives.live.items().iter().map(|item| truth[number(item)]).collect();
    let sum: f64 = confined.iter().sum();
    confined.iter_mut().for_each(|p| *p /= sum);
    confined
}

/// Adds what sampler number `sampler` comes to at one point.
fn add(
    replay: &mut Replay,
    sampler: usize,
    asked: Option<usize>,
    examples: &[Example],
    truth: Option<&[f64]>,
    means: &mut Means,
) {
    let together = asked.unwrap_or(examples.len()).min(examples.len());
    let n_groups = examples.len().div_ceil(together);
    let every = n_groups.div_ceil(IN_FULL);
    let (mut loss, mut divergence, mut entropy) = (0.0, 0.0, 0.0);
    for (index, group) in examples.chunks(together).enumerate() {
        if asked.is_some() {
            let asked = replay.asked(group);
            replay.ask(sampler, &asked);
        }
        let (view, (_, sampler)) = (view(&replay.trainer.state), &replay.samplers[sampler]);
        loss -= group.iter().map(|example| sampler.probability(view, example.positive).ln()).sum::<f64>();
        if index % every == 0 {
            let q: Vec<f64> = view.live.items().iter().map(|item| sampler.probability(view, *item)).collect();
            let sum: f64 = q.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "probabilities sum to {sum}");
            entropy -= q.iter().filter(|q| **q > 0.0).map(|q| q * q.ln()).sum::<f64>();
            divergence += truth.map_or(0.0, |truth| truth.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum());
        }
    }
    let in_full = n_groups.div_ceil(every) as f64;
    means.loss += loss / examples.len() as f64;
    means.divergence += divergence / in_full;
    means.entropy += entropy / in_full;
}
