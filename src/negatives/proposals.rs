//! What each proposal brought to the newest batch: how much, how varied, how near to the data, how much of it twice.

use serde::Serialize;

use super::candidates::Candidates;
use super::false_negatives::STREAM;
use super::samplers::StreamView;
use super::samplers::mix::{NoiseMix, NoiseSource};
use crate::metric::{Instrumented, Metric};

/// The part of one proposal in the newest batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Proposal {
    /// `batch`, `bank`, or the name of a sampler at work.
    pub name: String,
    /// The proposal's share of all draws.
    pub share: f64,
    /// −E log q over its draws, in nats; not of the stream's own.
    pub entropy: Option<f64>,
    /// KL(q ‖ live items' decayed frequency), estimated over its draws, in nats; not of the stream's own.
    pub divergence: Option<f64>,
    /// Share of its draws that were candidates already; not of the stream's own.
    pub collisions: Option<f64>,
}

/// The parts of all proposals in the newest batch, which has the candidates `candidates`.
pub fn proposals(candidates: &Candidates, noise: &NoiseMix, view: StreamView<'_>) -> Vec<Proposal> {
    // Where items die, the data are those of the living.
    let live_share = || view.live.items().iter().map(|item| view.frequencies.share(*item)).sum::<f64>().ln();
    let log_live = if view.live.items().len() == view.frequencies.len() { 0.0 } else { live_share() };
    let share = |draws: usize| draws as f64 / candidates.n_draws.max(1) as f64;
    let of_stream = STREAM.iter().zip(candidates.from_stream).map(|(name, draws)| Proposal {
        name: (*name).to_owned(),
        share: share(draws),
        entropy: None,
        divergence: None,
        collisions: None,
    });
    let of_noise = noise.terms.iter().map(|term| {
        let (entropy, divergence) = moments(term, view, log_live).unzip();
        let collisions = (!term.drawn.is_empty()).then(|| term.collisions as f64 / term.drawn.len() as f64);
        Proposal { name: term.name.clone(), share: share(term.drawn.len()), entropy, divergence, collisions }
    });
    of_stream.chain(of_noise).collect()
}

fn moments(term: &NoiseSource, view: StreamView<'_>, log_live: f64) -> Option<(f64, f64)> {
    let (mut surprise, mut ratio, mut n) = (0.0, 0.0, 0);
    for item in &term.drawn {
        let log_q = term.sampler.probability(view, *item).ln();
        // What has faded beyond what a double holds is as rare as it can tell.
        let log_p = view.frequencies.share(*item).max(f64::MIN_POSITIVE).ln() - log_live;
        if log_q.is_finite() {
            surprise -= log_q;
            ratio += log_q - log_p;
            n += 1;
        }
    }
    (n > 0).then(|| (surprise / f64::from(n), ratio / f64::from(n)))
}

impl Instrumented for [Proposal] {
    // Names of proposals come from the configuration's own closed list.
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge_by(
            "negstream_proposal_share",
            &["proposal"],
            "Share of all negatives drawn, by proposal.",
            |proposals, samples| proposals.iter().for_each(|one| samples.put_for([&one.name], one.share)),
        ),
        Metric::gauge_by(
            "negstream_proposal_entropy_nats",
            &["proposal"],
            "Entropy of a noise sampler.",
            |proposals, samples| proposals.iter().for_each(|one| samples.put_for([&one.name], one.entropy)),
        ),
        Metric::gauge_by(
            "negstream_proposal_divergence_nats",
            &["proposal"],
            "KL divergence of a noise sampler from the live items' frequencies.",
            |proposals, samples| proposals.iter().for_each(|one| samples.put_for([&one.name], one.divergence)),
        ),
        Metric::gauge_by(
            "negstream_proposal_collision_share",
            &["proposal"],
            "Share of a noise sampler's draws that were candidates already.",
            |proposals, samples| proposals.iter().for_each(|one| samples.put_for([&one.name], one.collisions)),
        ),
    ];
}
