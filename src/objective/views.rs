//! Views: two views of the same sequence belong together, whatever comes next. (Contrastive learning by augmentation of
//! sequences: Xie et al. 2020; Liu et al. 2021.)
//!
//! Of each context of two items and more, two views are made, each in one of the ways that are asked for: a stretch of it
//! (`crop`), some of its items left out (`mask`), a stretch shuffled (`reorder`). They are encoded as a context of nobody is,
//! and told apart from the views of other users' contexts, both ways.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::contrast::{RowsScratch, SequenceContrast};
use super::term::{Scene, StepAccumulator, StepRequest, Term, generator};
use crate::config::{ObjectiveKind, ObjectiveTerm, View};
use crate::context::Batch;

/// See the module.
#[derive(Debug)]
pub(super) struct Views {
    weight: f64,
    ways: Vec<View>,
    keep: f64,
    /// The user of each sequence that there are two views of.
    users: Vec<u32>,
    first: usize,
    scratch: RowsScratch,
}

impl Views {
    pub(super) fn new(term: &ObjectiveTerm) -> Self {
        Self {
            weight: term.weight(),
            ways: term.views(),
            keep: term.keep(),
            users: Vec::new(),
            first: 0,
            scratch: RowsScratch::default(),
        }
    }

    fn view(&self, items: &[u32], random: &mut Pcg64Mcg) -> Vec<u32> {
        let kept = ((items.len() as f64 * self.keep).round() as usize).clamp(1, items.len());
        match self.ways[random.random_range(0..self.ways.len())] {
            View::Crop => {
                let begin = random.random_range(0..=items.len() - kept);
                items[begin..begin + kept].to_vec()
            }
            View::Mask => {
                let mut places = rand::seq::index::sample(random, items.len(), kept).into_vec();
                places.sort_unstable();
                places.into_iter().map(|place| items[place]).collect()
            }
            View::Reorder => {
                let mut shuffled = items.to_vec();
                let length = items.len() - kept;
                let begin = random.random_range(0..=kept);
                shuffled[begin..begin + length].shuffle(random);
                shuffled
            }
        }
    }
}

impl Term for Views {
    fn ask(&mut self, batch: &Batch, random: (u64, u64), asked: &mut StepRequest) {
        let mut random = generator(random, "views");
        let long: Vec<usize> = (0..batch.n_queries()).filter(|query| batch.context(*query).len() > 1).collect();
        self.users.clear();
        self.users.extend(long.iter().map(|query| batch.user(*query)));
        self.first = asked.sequences.len();
        for _ in 0..2 {
            for query in &long {
                let view = self.view(batch.context(*query), &mut random);
                asked.sequences.push(view, None, 0);
            }
        }
    }

    fn step(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        let n = self.users.len();
        if n < 2 {
            return;
        }
        let users = &self.users;
        // A user's contexts within a batch are nearly the same: they are no strangers.
        let same = |row: usize, other: usize| users[row] == users[other];
        let (first, other, weight) = (self.first, self.first + n, self.weight / 2.0);
        let forth = SequenceContrast { first, other, n, same, weight }.run(scene, found, &mut self.scratch);
        let back =
            SequenceContrast { first: other, other: first, n, same, weight }.run(scene, found, &mut self.scratch);
        let (loss, bound) = (f64::midpoint(forth.0, back.0), f64::midpoint(forth.1, back.1));
        found.lost(ObjectiveKind::Views, "", self.weight, loss, Some(bound));
    }
}
