//! How far the gradient of a loss over a positive and N draws is from that over all live items.
//!
//! A model is trained with the shipped defaults and then stands still. For some of the newest examples, the gradient of
//! `L = −log softmax_p` with respect to the query's vector, with `f(q, j) = q·v_j/τ + β·log q̂_j`, is
//! `g = (Σ_j w_j·v_j − v_p)/τ`, w being the softmax over all live items; or, drawn, over the positive p and N draws from
//! a sampler that was asked with this one query, in one of three forms:
//!
//! | form | logit of the positive | logit of a draw j | draws that are the positive |
//! | --- | --- | --- | --- |
//! | `uncorrected` | f_p | f_j | are masked |
//! | `sampled` | f_p − log(N·q_p) | f_j − log(N·q_j) | are merged into its column, which counts once |
//! | `certain` | f_p | f_j − log(N·q_j) | are masked |
//!
//! All in double precision. Of the mean gradient over R replicates, `bias` is the distance from the full one relative to
//! that one's length, as a root mean square over the queries. The squared distance is estimated without bias: replicates
//! come in groups, and only products of the errors of two different groups are averaged. Its standard error is by the
//! jackknife over the groups; R doubles until that is small, or the budget is spent. `deviation` is the standard
//! deviation of a single gradient, relative likewise. `slope` is that of log bias against log N, over those N where the
//! bias is clear of its noise.

use std::path::Path;

use negstream::event::Interaction;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::replay::{Replay, view};
use crate::report::{Report, significant};
use crate::streams::{self, configuration};
use crate::{Kind, Options};

/// The forms of the correction, in the order of the sums below.
const FORMS: [&str; 3] = ["uncorrected", "sampled", "certain"];
const DRAWS: [usize; 4] = [32, 128, 512, 2048];
/// Groups of replicates.
const GROUPS: usize = 16;
/// Only a bias of so many standard errors is a point of the slope.
const CLEAR: f64 = 2.5;
/// A relative standard error of one query's squared bias that is good enough.
const PRECISE: f64 = 0.2;

/// How much is spent.
#[derive(Debug, Clone, Copy)]
struct Budget {
    queries: usize,
    first_replicates: usize,
    most_replicates: usize,
    /// For each query and N.
    most_draws: usize,
}

const FULL: Budget = Budget { queries: 32, first_replicates: 512, most_replicates: 8_192, most_draws: 4_200_000 };
const QUICK: Budget = Budget { queries: 4, first_replicates: 64, most_replicates: 128, most_draws: 40_000 };

/// What is known of the live items for one query and one sampler, in their order.
#[derive(Debug, Default)]
struct Problem {
    /// Place among the live items, by item.
    places: Vec<u32>,
    /// The vectors, `dim` numbers each.
    vectors: Vec<f64>,
    dim: usize,
    inverse_temperature: f64,
    positive: usize,
    /// exp(f), the largest being 1.
    exps: Vec<f64>,
    /// exp(f)/q; 0 for what cannot be drawn.
    ratios: Vec<f64>,
    /// The gradient over all.
    full: Vec<f64>,
}

/// Some replicates.
#[derive(Debug)]
struct Group {
    random: Pcg64Mcg,
    /// By place: the sums of the shares that draws of it had, in a unit of their own, for each form.
    shares: Vec<[f64; 3]>,
    /// Sums of the positive's shares.
    positive: [f64; 3],
}

/// What came of one query: by form.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// ‖bias‖² and its squared standard error, relative to ‖full‖².
    squared: f64,
    squared_error: f64,
    /// Variance of a single gradient, relative likewise.
    variance: f64,
}

/// Measures, and reports.
pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (budget, events) = if options.quick { (QUICK, 6_000) } else { (FULL, 100_000) };
    if let Some(path) = &options.log {
        let mut log = streams::real(path, &configuration("auto")?)?;
        log.truncate(if options.quick { events } else { usize::MAX });
        let name = path.parent().and_then(Path::file_name).map_or("log".into(), |name| name.to_string_lossy());
        measure(&name, log, &options.kinds(), budget, report)?;
    }
    measure("synth", streams::synthetic(events), &options.kinds(), budget, report)
}

fn measure(
    stream: &str,
    events: Vec<Interaction>,
    kinds: &[Kind],
    budget: Budget,
    report: &mut Report,
) -> anyhow::Result<()> {
    let n_events = events.len();
    let mut replay = Replay::new(&configuration("auto")?, kinds, events)?;
    replay.run_to(n_events);
    let newest = replay.latest.len();
    let examples: Vec<_> =
        (1..=budget.queries).map(|index| replay.latest[newest * index / budget.queries - 1].clone()).collect();
    let mut problem = Problem::of(&replay);
    for (index, kind) in kinds.iter().enumerate() {
        // By N, by query.
        let mut outcomes = vec![Vec::new(); DRAWS.len()];
        let mut replicates = [0; DRAWS.len()];
        let mut drawable = true;
        for (number, example) in examples.iter().enumerate() {
            let asked = replay.asked(std::slice::from_ref(example));
            replay.ask(index, &asked);
            problem.pose(&replay, index, asked.queries.normalized.row(0), example.positive);
            drawable &= problem.ratios[problem.positive] > 0.0;
            for (place, draws) in DRAWS.into_iter().enumerate() {
                let seed = (index * 1_000 + number) as u64 * 100_000 + draws as u64;
                let (outcome, spent) = sample(&replay, index, &problem, draws, seed, budget);
                outcomes[place].push(outcome);
                replicates[place] += spent;
            }
        }
        for (form, name) in FORMS.into_iter().enumerate() {
            // A positive that cannot be drawn has no log q.
            if name == "sampled" && !drawable {
                continue;
            }
            let mut points = Vec::new();
            for (place, draws) in DRAWS.into_iter().enumerate() {
                let mut line = json!({
                    "measure": "bias", "stream": stream, "sampler": kind.name, "full_support": kind.full_support,
                    "form": name, "draws": draws, "live": problem.exps.len(), "queries": examples.len(),
                    "replicates": replicates[place] / examples.len(),
                });
                let (bias, error) = summarise(outcomes[place].iter().map(|outcome| outcome[form]), &mut line);
                points.extend((bias > CLEAR * error).then(|| ((draws as f64).ln(), bias.ln())));
                report.line(line);
            }
            report.line(json!({
                "measure": "bias_slope", "stream": stream, "sampler": kind.name, "form": name,
                "slope": (points.len() > 1).then(|| (slope(&points) * 100.0).round() / 100.0), "points": points.len(),
            }));
        }
    }
    Ok(())
}

/// Puts the mean over the queries into `line`; the bias, and its standard error.
fn summarise(outcomes: impl ExactSizeIterator<Item = Outcome>, line: &mut Value) -> (f64, f64) {
    let n = outcomes.len() as f64;
    let sum = outcomes.fold(Outcome::default(), |sum, outcome| Outcome {
        squared: sum.squared + outcome.squared,
        squared_error: sum.squared_error + outcome.squared_error,
        variance: sum.variance + outcome.variance,
    });
    let squared_error = sum.squared_error.sqrt() / n;
    // Below its own noise the square may come out negative.
    let bias = (sum.squared / n).max(0.0).sqrt();
    let error = squared_error / (2.0 * bias.max(squared_error.sqrt()));
    line["bias"] = significant(bias).into();
    line["standard_error"] = significant(error).into();
    line["deviation"] = significant((sum.variance / n).sqrt()).into();
    (bias, error)
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let (above, below) =
        points.iter().fold((0.0, 0.0), |(a, b), point| (a + (point.0 - x) * (point.1 - y), b + (point.0 - x).powi(2)));
    above / below
}

impl Problem {
    /// What all queries have in common.
    fn of(replay: &Replay) -> Self {
        let (model, live) = (&replay.trainer.state.model, replay.trainer.state.negatives.live.items());
        let dim = model.dim();
        let mut places = vec![u32::MAX; replay.trainer.state.items.ids.len()];
        let (mut vectors, mut vector) = (Vec::new(), vec![0.0; dim]);
        for (place, item) in live.iter().enumerate() {
            places[*item as usize] = place as u32;
            model.served(*item as usize, &mut vector);
            vectors.extend(vector.iter().copied().map(f64::from));
        }
        let inverse_temperature = f64::from(model.inverse_temperature());
        Self { places, vectors, dim, inverse_temperature, ..Self::default() }
    }

    /// Of `query`, which led to `positive`, with sampler number `index`, which was asked.
    fn pose(&mut self, replay: &Replay, index: usize, query: &[f32], positive: u32) {
        let (state, view, sampler) = (&replay.trainer.state, view(&replay.trainer.state), &replay.samplers[index].1);
        let beta = f64::from(state.model.beta());
        self.positive = self.places[positive as usize] as usize;
        let scores =
            state.negatives.live.items().iter().zip(self.vectors.chunks_exact(self.dim)).map(|(item, vector)| {
                let product: f64 = vector.iter().zip(query).map(|(a, b)| a * f64::from(*b)).sum();
                product * self.inverse_temperature + beta * state.negatives.frequencies.frequency(*item).ln()
            });
        self.exps = scores.collect();
        let best = self.exps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.exps.iter_mut().for_each(|score| *score = (*score - best).exp());
        let ratio = |(item, exp): (&u32, &f64)| match sampler.probability(view, *item) {
            0.0 => 0.0,
            probability => exp / probability,
        };
        self.ratios = state.negatives.live.items().iter().zip(&self.exps).map(ratio).collect();
        let sum: f64 = self.exps.iter().sum();
        self.full = self.gradient(self.exps.iter().map(|exp| exp / sum));
    }

    /// That of the shares `shares`, by place.
    fn gradient(&self, shares: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut gradient: Vec<f64> =
            self.vectors[self.positive * self.dim..][..self.dim].iter().map(|number| -number).collect();
        for (share, vector) in shares.zip(self.vectors.chunks_exact(self.dim)).filter(|(share, _)| *share != 0.0) {
            gradient.iter_mut().zip(vector).for_each(|(sum, number)| *sum += share * number);
        }
        gradient.iter_mut().for_each(|number| *number *= self.inverse_temperature);
        gradient
    }

    /// Adds `replicates` of `draws` draws each to `group`.
    fn replicate(&self, replay: &Replay, sampler: usize, group: &mut Group, draws: usize, replicates: usize) {
        let (view, (_, sampler)) = (view(&replay.trainer.state), &replay.samplers[sampler]);
        let (exp, ratio) = (self.exps[self.positive], self.ratios[self.positive]);
        let mut drawn = Vec::with_capacity(draws);
        for _ in 0..replicates {
            drawn.clear();
            sampler.draw(view, draws, &mut group.random, &mut drawn);
            let (mut plain, mut corrected) = (0.0, 0.0);
            drawn.iter_mut().for_each(|item| *item = self.places[*item as usize]);
            drawn.retain(|place| *place as usize != self.positive);
            for place in &drawn {
                plain += self.exps[*place as usize];
                corrected += self.ratios[*place as usize];
            }
            // All times N where there is a correction.
            let positive = [exp, ratio, exp * draws as f64];
            let inverses = [plain + exp, corrected + ratio, corrected + positive[2]].map(f64::recip);
            for (sum, (part, inverse)) in group.positive.iter_mut().zip(positive.into_iter().zip(inverses)) {
                *sum += part * inverse;
            }
            for place in &drawn {
                group.shares[*place as usize].iter_mut().zip(inverses).for_each(|(sum, inverse)| *sum += inverse);
            }
        }
    }

    /// How far the mean of `replicates` of `group` is from the full gradient, in `form`.
    fn error(&self, group: &Group, form: usize, replicates: usize) -> Vec<f64> {
        let units = if form == 0 { &self.exps } else { &self.ratios };
        let shares = group.shares.iter().zip(units).enumerate().map(|(place, (shares, unit))| {
            let share = if place == self.positive { group.positive[form] } else { shares[form] * unit };
            share / replicates as f64
        });
        let mut error = self.gradient(shares);
        error.iter_mut().zip(&self.full).for_each(|(error, full)| *error -= full);
        error
    }
}

fn squared_length(vector: &[f64]) -> f64 {
    vector.iter().map(|number| number * number).sum()
}

/// Replicates until it is precise, or the budget spent. The outcomes by form, and the number of replicates.
fn sample(
    replay: &Replay,
    sampler: usize,
    problem: &Problem,
    draws: usize,
    seed: u64,
    budget: Budget,
) -> ([Outcome; 3], usize) {
    let new = |group: usize| Group {
        random: Pcg64Mcg::seed_from_u64(seed * GROUPS as u64 + group as u64),
        shares: vec![[0.0; 3]; problem.exps.len()],
        positive: [0.0; 3],
    };
    let mut groups: Vec<Group> = (0..GROUPS).map(new).collect();
    let most = budget.most_replicates.min(budget.most_draws / draws).max(budget.first_replicates) / GROUPS;
    let (mut done, mut target) = (0, budget.first_replicates / GROUPS);
    loop {
        groups.par_iter_mut().for_each(|group| problem.replicate(replay, sampler, group, draws, target - done));
        done = target;
        let outcomes: Vec<Outcome> =
            (0..FORMS.len()).into_par_iter().map(|form| outcome(problem, &groups, form, done)).collect();
        let precise = outcomes.iter().all(|outcome| outcome.squared_error.sqrt() < PRECISE * outcome.squared);
        if precise || done >= most {
            return ([outcomes[0], outcomes[1], outcomes[2]], done * GROUPS);
        }
        target = (2 * done).min(most);
    }
}

fn outcome(problem: &Problem, groups: &[Group], form: usize, replicates: usize) -> Outcome {
    let errors: Vec<Vec<f64>> = groups.iter().map(|group| problem.error(group, form, replicates)).collect();
    let n = errors.len() as f64;
    let mut sum = vec![0.0; problem.dim];
    errors.iter().for_each(|error| sum.iter_mut().zip(error).for_each(|(sum, number)| *sum += number));
    let squares: Vec<f64> = errors.iter().map(|error| squared_length(error)).collect();
    let (total, all) = (squares.iter().sum::<f64>(), squared_length(&sum));
    // The mean product of two different groups, of all groups, and of all but one.
    let mean_product = |all: f64, total: f64, n: f64| (all - total) / (n * (n - 1.0));
    let without: Vec<f64> = errors
        .iter()
        .zip(&squares)
        .map(|(error, square)| {
            let rest: f64 = sum.iter().zip(error).map(|(sum, number)| (sum - number).powi(2)).sum();
            mean_product(rest, total - square, n - 1.0)
        })
        .collect();
    let mean = without.iter().sum::<f64>() / n;
    let squared_error = without.iter().map(|one| (one - mean).powi(2)).sum::<f64>() * (n - 1.0) / n;
    let scale = squared_length(&problem.full).recip();
    Outcome {
        squared: mean_product(all, total, n) * scale,
        squared_error: squared_error * scale * scale,
        variance: (total - all / n) / (n - 1.0) * replicates as f64 * scale,
    }
}
