//! The total loss of any list of objectives in double precision, written anew from the formulas: every draw of a candidate
//! by itself, one number after the other. What is drawn at random (candidates, views, the items that are looked for) is
//! taken as the step had it; all else is made from the batch.

use std::cell::Cell;

use super::scores::{Scores, product};
use super::world::{Numbers, World};
use crate::objective::cpc::CpcOptions;
use crate::objective::i2i::evidence::Evidence;
use crate::objective::i2i::{Acceptance, I2iOptions};
use crate::objective::info_max::InfoMaxOptions;
use crate::objective::info_nce::InfoNceOptions;
use crate::objective::nce::NceOptions;
use crate::objective::registry::ObjectiveTerm;
use crate::objective::views::ViewsOptions;

/// The loss as a function of the model's numbers.
pub(super) struct Truth<'a> {
    world: &'a World,
    /// Where the world is: what the gradient takes for constant is made of these.
    start: Numbers<f64>,
    /// Debiased queries whose negatives have come down to the least there can be.
    pub(super) at_least: Cell<usize>,
    /// How near any of them is to there, in nats.
    pub(super) nearest: Cell<f64>,
}

impl<'a> Truth<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, start: world.numbers(), at_least: Cell::new(0), nearest: Cell::new(f64::INFINITY) }
    }

    /// The sum of all objectives, whose gradient is taken. Where not `weighed`, queries all count alike, as in the loss that
    /// is reported.
    pub(super) fn loss(&self, numbers: &Numbers<f64>, weighed: bool) -> f64 {
        self.at_least.set(0);
        let scores = Scores { world: self.world, numbers };
        let at = At { truth: self, world: self.world, scores, weighed };
        let (mut sequences, mut positives) = (self.world.batch.n_queries(), self.world.batch.n_queries());
        let mut loss = 0.0;
        for term in self.world.config.objective.terms() {
            loss += term.weight() * at.loss(&term, &mut sequences, &mut positives);
        }
        let asked = &self.world.asked;
        assert_eq!((sequences, positives), (asked.sequences.len(), asked.positives.len()), "no more was asked for");
        loss
    }
}

/// The loss at some numbers.
struct At<'a> {
    truth: &'a Truth<'a>,
    world: &'a World,
    scores: Scores<'a>,
    weighed: bool,
}

/// A candidate that counts as a negative.
struct Negative {
    /// f.
    score: f64,
    /// log E.
    log_expected: f64,
    draws: f64,
    /// The least that f can be, at the start.
    lowest: f64,
}

impl At<'_> {
    /// The loss of one objective.
    fn loss(&self, term: &ObjectiveTerm, sequences: &mut usize, positives: &mut usize) -> f64 {
        if let Some(options) = term.options::<InfoNceOptions>() {
            self.info_nce(&options)
        } else if term.options::<NceOptions>().is_some() {
            self.nce()
        } else if let Some(options) = term.options::<CpcOptions>() {
            self.cpc(&options, sequences)
        } else if let Some(options) = term.options::<InfoMaxOptions>() {
            self.info_max(&options, sequences, positives)
        } else if term.options::<ViewsOptions>().is_some() {
            self.views(sequences)
        } else if let Some(options) = term.options::<I2iOptions>() {
            self.i2i(&options, sequences)
        } else {
            panic!("{:?} has no reference: write its loss in double precision here", term.kind)
        }
    }

    /// Whether an item is no negative of a query, being its user's own.
    fn masked(&self, query: usize, item: u32) -> bool {
        let World { batch, config, .. } = self.world;
        let recent = batch.context(query).iter().take(config.negatives.mask_recent).any(|recent| *recent == item);
        let own = batch.own(query).iter().any(|own| own.item == item);
        own && (recent || !config.evaluate.repeat)
    }

    /// f of `positive`, and all draws of other items that are not masked.
    fn contrast(
        &self,
        query: &[f64],
        positive: u32,
        rho: impl Fn(u32) -> f64,
        masked: impl Fn(u32) -> bool,
    ) -> (f64, Vec<Negative>) {
        let candidates = &self.world.candidates;
        let column = candidates.items.iter().position(|item| *item == positive).unwrap();
        let own = self.scores.score(query, column) + rho(positive);
        let others = (0..candidates.items.len()).filter(|column| {
            let item = candidates.items[*column];
            item != positive && !masked(item)
        });
        let start = &self.truth.start;
        let negative = |column: usize| Negative {
            score: self.scores.score(query, column) + rho(candidates.items[column]),
            log_expected: f64::from(candidates.log_expected[column]),
            draws: f64::from(candidates.multiplicity[column]),
            lowest: start["popularity"][0] * f64::from(candidates.log_frequency[column])
                + start.get("bias").map_or(0.0, |biases| biases[candidates.items[column] as usize])
                - start["temperature"][0].exp(),
        };
        (own, others.map(negative).collect())
    }

    /// InfoNCE with the positive there once, with certainty, and corrected negatives.
    fn softmax(&self, (own, negatives): (f64, Vec<Negative>)) -> f64 {
        let others: f64 = negatives.iter().map(|one| one.draws * (one.score - one.log_expected).exp()).sum();
        (own.exp() + others).ln() - own
    }

    /// Debiased (Chuang et al. 2020) and hardness-weighted (Robinson et al. 2021).
    fn reweighted(&self, (own, negatives): (f64, Vec<Negative>), debias: f64, hardness: f64) -> f64 {
        let sum = |of: &dyn Fn(&Negative) -> f64| -> f64 {
            negatives.iter().map(|one| one.draws * (-one.log_expected).exp() * of(one)).sum()
        };
        let total = sum(&|_| 1.0);
        if total == 0.0 {
            return 0.0;
        }
        let hard = sum(&|one| ((1.0 + hardness) * one.score).exp()) / sum(&|one| (hardness * one.score).exp());
        let corrected = (total * hard - debias * total * own.exp()) / (1.0 - debias);
        let least = sum(&|one| one.lowest.exp());
        self.truth.nearest.set(self.truth.nearest.get().min((corrected.max(1e-300) / least).ln().abs()));
        self.truth.at_least.set(self.truth.at_least.get() + usize::from(corrected <= least));
        (own.exp() + corrected.max(least)).ln() - own
    }

    fn info_nce(&self, options: &InfoNceOptions) -> f64 {
        let batch = &self.world.batch;
        let queries = self.scores.queries();
        let n = queries.len();
        let plain = options.debias == 0.0 && options.hardness == 0.0;
        let weight = |query: usize| {
            let kind = &batch.kinds[batch.with_context[query] as usize];
            if self.weighed { options.event_weights.0.get(kind.as_str()).copied().unwrap_or(1.0) } else { 1.0 }
        };
        let forth = |query: usize| {
            let (rho, masked) = (|item| self.scores.repetition(query, item), |item| self.masked(query, item));
            let contrast = self.contrast(&queries[query], batch.positive(query), rho, masked);
            if plain { self.softmax(contrast) } else { self.reweighted(contrast, options.debias, options.hardness) }
        };
        let back = |query: usize| {
            let item = batch.positive(query);
            let vector = self.scores.normalized(self.scores.row("item", item).unwrap().to_vec());
            let score =
                |other: usize| self.scores.similarity(&vector, &queries[other]) + self.scores.repetition(other, item);
            let rivals = (0..n)
                .filter(|other| *other == query || (batch.positive(*other) != item && !self.masked(*other, item)));
            rivals.map(|other| score(other).exp()).sum::<f64>().ln() - score(query)
        };
        let mean = |of: &dyn Fn(usize) -> f64| mean((0..n).map(|query| weight(query) * of(query)));
        if options.symmetric { (mean(&forth) + mean(&back)) / 2.0 } else { mean(&forth) }
    }

    fn nce(&self) -> f64 {
        let World { batch, candidates, .. } = self.world;
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let of = |(query, vector): (usize, Vec<f64>)| {
            let positive = batch.positive(query);
            let mut real = None;
            let mut noise = 0.0;
            for (column, item) in candidates.items.iter().enumerate() {
                let delta = self.scores.score(&vector, column)
                    + self.scores.repetition(query, *item)
                    + self.scores.number("normaliser")
                    - f64::from(candidates.log_expected[column]);
                let mut draws = candidates.multiplicity[column];
                if *item == positive && column < candidates.n_live() {
                    // One of them is the real one.
                    real = Some(softplus(-delta));
                    draws -= 1;
                } else if *item != positive && self.masked(query, *item) {
                    draws = 0;
                }
                noise += f64::from(draws) * softplus(delta);
            }
            real.unwrap() + noise
        };
        mean(self.scores.queries().into_iter().enumerate().map(of))
    }

    /// Takes the next sequences that were asked for, which must be these.
    fn expect(&self, next: &mut usize, sequences: &[Vec<u32>]) {
        for sequence in sequences {
            assert_eq!(self.world.asked.sequences.of(*next), sequence);
            *next += 1;
        }
    }

    fn cpc(&self, options: &CpcOptions, next: &mut usize) -> f64 {
        let batch = &self.world.batch;
        let mut sum = 0.0;
        for back in 0..options.steps {
            let queries: Vec<usize> =
                (0..batch.n_queries()).filter(|query| batch.context(*query).len() > back).collect();
            let earlier = |query: &usize| batch.context(*query)[back..].to_vec();
            if back > 0 {
                self.expect(next, &queries.iter().map(earlier).collect::<Vec<_>>());
            }
            if queries.len() < 2 {
                continue;
            }
            sum += mean(queries.iter().map(|query| {
                let vector = self.scores.encode(&earlier(query), Some(*query), back);
                let rho = |item| if back == 0 { self.scores.repetition(*query, item) } else { 0.0 };
                self.softmax(self.contrast(&vector, batch.positive(*query), rho, |item| self.masked(*query, item)))
            }));
        }
        sum / options.steps as f64
    }

    /// Rows of one kind each to its own of the other kind, but for strangers that are none.
    fn rows(&self, rows: &[Vec<f64>], others: &[Vec<f64>], user: impl Fn(usize) -> u32) -> f64 {
        mean(rows.iter().enumerate().map(|(row, vector)| {
            let rivals = (0..others.len()).filter(|other| *other == row || user(*other) != user(row));
            let score = |other: usize| self.scores.similarity(vector, &others[other]);
            rivals.map(|other| score(other).exp()).sum::<f64>().ln() - score(row)
        }))
    }

    fn info_max(&self, options: &InfoMaxOptions, next: &mut usize, next_positive: &mut usize) -> f64 {
        let World { batch, config, asked, .. } = self.world;
        let queries = self.scores.queries();
        let n = queries.len();
        let mut sum = 0.0;
        if options.global > 0.0 {
            let whole = |query: usize| {
                let mut items = vec![batch.positive(query)];
                items.extend(batch.context(query).iter().take(config.context.length - 1));
                items
            };
            let wholes: Vec<Vec<u32>> = (0..n).map(whole).collect();
            self.expect(next, &wholes);
            let others: Vec<_> = (0..n).map(|query| self.scores.encode(&wholes[query], Some(query), 0)).collect();
            sum += options.global * self.rows(&queries, &others, |query| batch.user(query));
        }
        if options.local > 0.0 {
            let items = &asked.positives[*next_positive..][..n];
            *next_positive += n;
            sum += options.local
                * mean(queries.iter().zip(items).enumerate().map(|(query, (vector, item))| {
                    let context = batch.context(query);
                    assert!(context.contains(item));
                    let own = |other: u32| batch.own(query).iter().any(|own| own.item == other);
                    let masked = |other| context.contains(&other) || (!config.evaluate.repeat && own(other));
                    self.softmax(self.contrast(vector, *item, |_| 0.0, masked))
                }));
        }
        sum
    }

    fn views(&self, next: &mut usize) -> f64 {
        let World { batch, asked, .. } = self.world;
        let long: Vec<usize> = (0..batch.n_queries()).filter(|query| batch.context(*query).len() > 1).collect();
        let mut views = || -> Vec<Vec<f64>> {
            let view = |query: &usize| {
                let items = asked.sequences.of(*next);
                assert!(!items.is_empty() && items.iter().all(|item| batch.context(*query).contains(item)));
                *next += 1;
                self.scores.encode(items, None, 0)
            };
            long.iter().map(view).collect()
        };
        let (these, those) = (views(), views());
        let user = |row: usize| batch.user(long[row]);
        if long.len() < 2 { 0.0 } else { (self.rows(&these, &those, user) + self.rows(&those, &these, user)) / 2.0 }
    }

    fn i2i(&self, options: &I2iOptions, next: &mut usize) -> f64 {
        let batch = &self.world.batch;
        let mut pairs = Vec::new();
        for query in 0..batch.n_queries() {
            let event = batch.with_context[query] as usize;
            // The user's events before, newest first, until a pause; each item once.
            let (mut later, mut seen) = (batch.timestamps[event], vec![batch.positive(query)]);
            for before in (0..event).rev().filter(|before| batch.users[*before] == batch.user(query)) {
                if later - batch.timestamps[before] > (options.gap_minutes * 60_000.0) as i64 {
                    break;
                }
                later = batch.timestamps[before];
                if !seen.contains(&batch.items[before]) && seen.len() <= options.window {
                    seen.push(batch.items[before]);
                }
            }
            pairs.extend(seen[1..].iter().map(|before| (*before, seen[0])));
        }
        self.expect(next, &pairs.iter().map(|(before, _)| vec![*before]).collect::<Vec<_>>());
        if pairs.is_empty() {
            return 0.0;
        }
        // Of the step before, on the same batch.
        let mut evidence = Evidence::new(options.half_life, options.width, 4);
        evidence.observe(&pairs, self.truth.start["item"].len() / self.world.config.model.dim);
        // What a pair counts is a constant to the gradient.
        let here = Scores { numbers: &self.truth.start, ..self.scores };
        let weight = |before: u32, item: u32| match options.acceptance {
            _ if !self.weighed => 1.0,
            Acceptance::Raw => 1.0,
            Acceptance::Lift => f64::from(evidence.acceptance(before, item)),
            Acceptance::Agreement => {
                let vector = |item| here.normalized(here.row("item", item).unwrap().to_vec());
                let (a, b) = (vector(before), vector(item));
                (product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).clamp(0.0, 1.0)
            }
        };
        mean(pairs.iter().map(|(before, item)| {
            let vector = self.scores.encode(&[*before], None, 0);
            weight(*before, *item) * self.softmax(self.contrast(&vector, *item, |_| 0.0, |other| other == *before))
        }))
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = numbers.collect();
    all.iter().sum::<f64>() / all.len() as f64
}
