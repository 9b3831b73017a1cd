//! Views: two views of the same sequence belong together, whatever comes next. (Contrastive learning by augmentation of
//! sequences: Xie et al. 2020; Liu et al. 2021.)
//!
//! Of each context of two items and more, two views are made, each in one of the ways that are asked for: a stretch of it
//! (`crop`), some of its items left out (`mask`), a stretch shuffled (`reorder`). They are encoded as a context of nobody is,
//! and told apart from the views of other users' contexts, both ways.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use super::contrast::{RowsScratch, SequenceContrast};
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext, StepRequest, generator};
#[cfg(test)]
use super::tests::reference::Reference;
use crate::context::Batch;
use crate::util::component::Component;
use crate::util::config_section::{ConfigValue, Refusal, Shape, config_choice, config_section, require, value_shape};

config_choice! {
    /// A way to make a view of a sequence.
    pub enum View {
        /// A stretch of the sequence.
        Crop = "crop",
        /// The sequence with items left out here and there.
        Mask = "mask",
        /// The sequence with a stretch shuffled.
        Reorder = "reorder",
    }
}

impl ConfigValue for Vec<View> {
    fn shape() -> Shape {
        let names: Vec<&str> = [View::Crop, View::Mask, View::Reorder].map(View::name).to_vec();
        value_shape(json!({ "type": "array", "minItems": 1, "items": { "enum": names } }))
    }

    fn validate(&self) -> Result<(), Refusal> {
        require(!self.is_empty(), "must name at least one way")
    }
}

config_section! {
    /// The options of `views`.
    pub struct ViewsOptions {
        /// The ways of making a view, of which each view takes one at random.
        views: Vec<View> = vec![View::Crop, View::Mask, View::Reorder];
        /// Share of a sequence that a view keeps (`crop`, `mask`), or leaves in order (`reorder`).
        keep: f64 = 0.6 => [within(0.0..=1.0)];
    }
}

impl Component for ViewsOptions {
    const NAME: &'static str = "views";
    const SUMMARY: &'static str = "Two views of the same sequence belong together.";
}

impl ObjectiveOptions for ViewsOptions {
    const TESTED: &'static [&'static str] = &[""];

    fn build(&self, weight: f64, _setting: ObjectiveSetting) -> Box<dyn Objective> {
        Box::new(Views {
            weight,
            ways: self.views.clone(),
            keep: self.keep,
            users: Vec::new(),
            first: 0,
            scratch: RowsScratch::default(),
        })
    }

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let batch = &at.world.batch;
        let long: Vec<usize> = (0..batch.n_queries()).filter(|query| batch.context(*query).len() > 1).collect();
        let views = || -> Vec<Vec<f64>> {
            let view = |query: &usize| {
                let items = at.next_sequence();
                assert!(!items.is_empty() && items.iter().all(|item| batch.context(*query).contains(item)));
                at.scores.encode(items, None, 0)
            };
            long.iter().map(view).collect()
        };
        let (these, those) = (views(), views());
        let user = |row: usize| batch.user(long[row]);
        if long.len() < 2 { 0.0 } else { (at.rows(&these, &those, user) + at.rows(&those, &these, user)) / 2.0 }
    }
}

/// The objective `views` at work.
#[derive(Debug)]
pub(super) struct Views {
    weight: f64,
    ways: Vec<View>,
    keep: f64,
    /// The user of each sequence of which two views were made.
    users: Vec<u32>,
    first: usize,
    scratch: RowsScratch,
}

impl Views {
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

impl Objective for Views {
    fn prepare(&mut self, batch: &Batch, random: (u64, u64), request: &mut StepRequest) {
        let mut random = generator(random, "views");
        let long: Vec<usize> = (0..batch.n_queries()).filter(|query| batch.context(*query).len() > 1).collect();
        self.users.clear();
        self.users.extend(long.iter().map(|query| batch.user(*query)));
        self.first = request.sequences.len();
        for _ in 0..2 {
            for query in &long {
                let view = self.view(batch.context(*query), &mut random);
                request.sequences.push(view, None, 0);
            }
        }
    }

    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let n = self.users.len();
        if n < 2 {
            return;
        }
        let users = &self.users;
        // A user's contexts within a batch are nearly the same: they are no strangers.
        let same = |row: usize, other: usize| users[row] == users[other];
        let (first, other, weight) = (self.first, self.first + n, self.weight / 2.0);
        let forth = SequenceContrast { first, other, n, same, weight }.run(step, accumulator, &mut self.scratch);
        let back =
            SequenceContrast { first: other, other: first, n, same, weight }.run(step, accumulator, &mut self.scratch);
        let (loss, bound) = (f64::midpoint(forth.0, back.0), f64::midpoint(forth.1, back.1));
        accumulator.add_loss(ViewsOptions::NAME, "", self.weight, loss, Some(bound));
    }
}
