//! The total loss of any list of objectives in double precision, written anew from the formulas: every draw of a candidate
//! by itself, one number after the other. What is drawn at random (candidates, views, the items that are looked for) is
//! taken as the step had it; all else is made from the batch.
//!
//! Each objective has its own formula beside its options
//! ([`ObjectiveOptions::reference_loss`](crate::objective::registry::ObjectiveOptions::reference_loss)); the pieces that
//! several of them share are methods of [`Reference`].

use std::cell::Cell;

use super::scores::Scores;
use super::world::{Numbers, World};

/// The loss as a function of the model's numbers.
pub(in crate::objective) struct ReferenceLoss<'a> {
    world: &'a World,
    /// Where the world is: what the gradient takes for constant is made of these.
    start: Numbers<f64>,
    /// Debiased queries whose negatives have come down to the least there can be.
    pub(in crate::objective) at_least: Cell<usize>,
    /// How near any of them is to there, in nats.
    pub(in crate::objective) nearest: Cell<f64>,
}

impl<'a> ReferenceLoss<'a> {
    pub(in crate::objective) fn new(world: &'a World) -> Self {
        Self { world, start: world.numbers(), at_least: Cell::new(0), nearest: Cell::new(f64::INFINITY) }
    }

    /// The sum of all objectives, whose gradient is taken. Where not `weighed`, queries all count alike, as in the loss that
    /// is reported.
    pub(in crate::objective) fn loss(&self, numbers: &Numbers<f64>, weighed: bool) -> f64 {
        self.at_least.set(0);
        let scores = Scores { world: self.world, numbers, terms: numbers };
        let [n_sequences, n_positives] = [(); 2].map(|()| Cell::new(self.world.batch.n_queries()));
        let at = Reference { loss: self, world: self.world, scores, weighed, n_sequences, n_positives };
        let mut loss = 0.0;
        for term in self.world.config.objective.terms() {
            loss += term.weight() * term.reference_loss(&at);
        }
        let (request, claimed) = (&self.world.asked, (at.n_sequences.get(), at.n_positives.get()));
        assert_eq!(claimed, (request.sequences.len(), request.positives.len()), "no more was requested");
        loss
    }
}

/// A point at which the loss is taken: a world, and numbers of the model.
pub(in crate::objective) struct Reference<'a> {
    loss: &'a ReferenceLoss<'a>,
    pub(in crate::objective) world: &'a World,
    pub(in crate::objective) scores: Scores<'a>,
    /// Whether queries count by their weights; otherwise they all count alike.
    pub(in crate::objective) weighed: bool,
    /// Requested sequences and positives that objectives have claimed so far.
    n_sequences: Cell<usize>,
    n_positives: Cell<usize>,
}

/// A candidate that counts as a negative.
pub(in crate::objective) struct Negative {
    /// f.
    score: f64,
    /// log E.
    log_expected: f64,
    draws: f64,
    /// The least that f can be, at the start.
    lowest: f64,
}

impl Reference<'_> {
    /// Whether an item is no negative of a query, being its user's own.
    pub(in crate::objective) fn masked(&self, query: usize, item: u32) -> bool {
        let World { batch, config, .. } = self.world;
        let recent = batch.context(query).iter().take(config.negatives.mask_recent).any(|recent| *recent == item);
        let own = batch.own(query).iter().any(|own| own.item == item);
        own && (recent || !config.evaluate.repeat)
    }

    /// f of `positive`, and all draws of other items that are not masked.
    pub(in crate::objective) fn contrast(
        &self,
        scores: Scores<'_>,
        query: &[f64],
        positive: u32,
        rho: impl Fn(u32) -> f64,
        masked: impl Fn(u32) -> bool,
    ) -> (f64, Vec<Negative>) {
        let candidates = &self.world.candidates;
        let column = candidates.items.iter().position(|item| *item == positive).unwrap();
        let own = scores.score(query, column) + rho(positive);
        let others = (0..candidates.items.len()).filter(|column| {
            let item = candidates.items[*column];
            item != positive && !masked(item)
        });
        let start = &self.loss.start;
        let negative = |column: usize| Negative {
            score: scores.score(query, column) + rho(candidates.items[column]),
            log_expected: f64::from(candidates.log_expected[column]),
            draws: f64::from(candidates.multiplicity[column]),
            lowest: start["popularity"][0] * f64::from(candidates.log_frequency[column])
                + start.get("bias").map_or(0.0, |biases| biases[candidates.items[column] as usize])
                - start["temperature"][0].exp(),
        };
        (own, others.map(negative).collect())
    }

    /// InfoNCE with the positive there once, with certainty, and corrected negatives.
    pub(in crate::objective) fn softmax(&self, (own, negatives): (f64, Vec<Negative>)) -> f64 {
        let others: f64 = negatives.iter().map(|one| one.draws * (one.score - one.log_expected).exp()).sum();
        (own.exp() + others).ln() - own
    }

    /// Debiased (Chuang et al. 2020) and hardness-weighted (Robinson et al. 2021).
    pub(in crate::objective) fn reweighted(
        &self,
        (own, negatives): (f64, Vec<Negative>),
        debias: f64,
        hardness: f64,
    ) -> f64 {
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
        self.loss.nearest.set(self.loss.nearest.get().min((corrected.max(1e-300) / least).ln().abs()));
        self.loss.at_least.set(self.loss.at_least.get() + usize::from(corrected <= least));
        (own.exp() + corrected.max(least)).ln() - own
    }

    /// Scores at the numbers that the step began with: what the gradient takes for constant.
    pub(in crate::objective) fn start_scores(&self) -> Scores<'_> {
        Scores { numbers: &self.loss.start, terms: &self.loss.start, ..self.scores }
    }

    /// The scores of `query` and its next item: where that never came before, what it does to popularity, ρ and κ is not learnt.
    pub(in crate::objective) fn next_scores(&self, query: usize) -> Scores<'_> {
        let is_newcomer = self.world.batch.is_newcomer(query);
        Scores { terms: if is_newcomer { &self.loss.start } else { self.scores.terms }, ..self.scores }
    }

    /// Claims the next requested sequence.
    pub(in crate::objective) fn next_sequence(&self) -> &[u32] {
        let next = self.n_sequences.get();
        self.n_sequences.set(next + 1);
        self.world.asked.sequences.of(next)
    }

    /// Claims the next `n` requested positives.
    pub(in crate::objective) fn next_positives(&self, n: usize) -> &[u32] {
        let next = self.n_positives.get();
        self.n_positives.set(next + n);
        &self.world.asked.positives[next..][..n]
    }

    /// Claims the next requested sequences, which must be `sequences`.
    pub(in crate::objective) fn claim(&self, sequences: &[Vec<u32>]) {
        sequences.iter().for_each(|sequence| assert_eq!(self.next_sequence(), sequence));
    }

    /// The mean loss of telling, for each of `rows`, its own of `others` from those of other users.
    pub(in crate::objective) fn rows(
        &self,
        rows: &[Vec<f64>],
        others: &[Vec<f64>],
        user: impl Fn(usize) -> u32,
    ) -> f64 {
        mean(rows.iter().enumerate().map(|(row, vector)| {
            let rivals = (0..others.len()).filter(|other| *other == row || user(*other) != user(row));
            let score = |other: usize| self.scores.similarity(vector, &others[other]);
            rivals.map(|other| score(other).exp()).sum::<f64>().ln() - score(row)
        }))
    }
}

pub(in crate::objective) fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = numbers.collect();
    all.iter().sum::<f64>() / all.len() as f64
}
