//! Deep InfoMax on sequences (Hjelm et al. 2019): a sequence's summary should say as much as it can about the sequence.
//!
//! | term | what it does |
//! | --- | --- |
//! | global | which whole sequence, the new item included, does the summary of the context belong to? |
//! | local | which item is in it? One item of each context a step, against candidates; other items of the context are masked |
//! | prior | summaries are moved to be distributed like a prior: [`super::prior`] |
//!
//! Summaries are the queries themselves, so that what is learnt here is served. (Where the encoder is recurrent, the oldest
//! item of a full context is in no whole sequence: it makes room for the newest, and is not in the hidden state yet.)

use rand::RngExt;

use super::contrast::{ItemContrast, RowsScratch, SequenceContrast};
use super::inputs::PairTerms;
use super::prior::{self, Prior};
use super::term::{Scene, StepAccumulator, StepRequest, Term, generator};
use crate::config::{ObjectiveKind, ObjectiveTerm, PriorKind};
use crate::context::Batch;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::unnormalise;
use crate::table::adagrad::Parameters;
use crate::table::rows::stable_hash;

/// See the module.
#[derive(Debug)]
pub(super) struct InfoMax {
    global: f64,
    local: f64,
    prior: f64,
    on_sphere: bool,
    matched: Prior,
    /// The first of the whole sequences.
    whole: usize,
    /// By query: the item of its context that is looked for.
    items: Vec<u32>,
    codes: Vec<f32>,
    code_gradients: Vec<f32>,
    row_gradients: Aligned<f32>,
    scratch: RowsScratch,
}

impl InfoMax {
    pub(super) fn new(term: &ObjectiveTerm, dim: usize, seed: u64) -> Self {
        let kind = match term.prior_kind() {
            PriorKind::Sphere => prior::PriorKind::Sphere,
            PriorKind::Gaussian => prior::PriorKind::Gaussian,
            PriorKind::GaussianMixture => prior::PriorKind::GaussianMixture { components: term.components() },
        };
        let settings = prior::Settings::default();
        Self {
            global: term.weight() * term.global(),
            local: term.weight() * term.local(),
            prior: term.weight() * term.prior(),
            on_sphere: term.prior_kind() == PriorKind::Sphere,
            matched: Prior::new(kind, dim, settings, stable_hash(seed, &["prior"])),
            whole: 0,
            items: Vec::new(),
            codes: Vec::new(),
            code_gradients: Vec::new(),
            row_gradients: Aligned::default(),
            scratch: RowsScratch::default(),
        }
    }

    fn tell_sequences_apart(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        let batch = scene.batch;
        // A user's sequences within a batch are nearly the same: they are no strangers.
        let same = |row: usize, other: usize| batch.user(row) == batch.user(other);
        let contrast =
            SequenceContrast { first: 0, other: self.whole, n: batch.n_queries(), same, weight: self.global };
        let (loss, bound) = contrast.run(scene, found, &mut self.scratch);
        found.lost(ObjectiveKind::InfoMax, "global", self.global, loss, Some(bound));
    }

    fn tell_items_apart(&self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        let Scene { batch, candidates, .. } = *scene;
        let contrast = ItemContrast {
            rows: 0..batch.n_queries(),
            pairs: |pairs: &mut PairTerms| {
                pairs.clear();
                for (query, item) in self.items.iter().enumerate() {
                    pairs.positive(candidates, *item, true);
                    let mut own: Vec<u32> = batch.context(query).to_vec();
                    if !scene.positive_rules.repeat {
                        own.extend(batch.own(query).iter().map(|own| own.item));
                    }
                    own.sort_unstable();
                    own.dedup();
                    for other in own.into_iter().filter(|own| own != item) {
                        pairs.mask(candidates, other);
                    }
                    pairs.close();
                }
            },
            weights: &[],
            weight: self.local,
            merged: true,
        };
        let (loss, bound) = contrast.tell_apart(scene, found);
        found.lost(ObjectiveKind::InfoMax, "local", self.local, loss, bound);
    }

    fn match_prior(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        let Scene { kernel, model, batch, encoded, .. } = *scene;
        let (n, dim, stride) = (batch.n_queries(), model.dim(), model.stride());
        self.codes.clear();
        for query in 0..n {
            let norm = if self.on_sphere { 1.0 } else { encoded.inverse_norms[query].recip() };
            self.codes.extend(encoded.normalized.row(query)[..dim].iter().map(|number| number * norm));
        }
        let stats = self.matched.step(kernel, &self.codes, scene.random, scene.rate, &mut self.code_gradients);
        self.row_gradients.resize(n * stride, 0.0);
        let rows = self.row_gradients.chunks_exact_mut(stride).zip(self.code_gradients.chunks_exact(dim));
        for (query, (row, gradient)) in rows.enumerate() {
            row[dim..].fill(0.0);
            row[..dim].iter_mut().zip(gradient).for_each(|(row, number)| *row = number * self.prior as f32);
            if self.on_sphere && model.is_cosine() {
                unnormalise(kernel, encoded.normalized.row(query), encoded.inverse_norms[query], row);
            }
        }
        found.gradients.add_sequences(0, &mut self.row_gradients);
        found.lost(ObjectiveKind::InfoMax, "prior", self.prior, stats.generator_loss, None);
        found.lost(ObjectiveKind::InfoMax, "discriminator", 0.0, stats.discriminator_loss, None);
    }
}

impl Term for InfoMax {
    fn ask(&mut self, batch: &Batch, random: (u64, u64), asked: &mut StepRequest) {
        self.whole = asked.sequences.len();
        if self.global > 0.0 {
            for query in 0..batch.n_queries() {
                // As long as a context may be: the oldest item makes room for the newest.
                let context = batch.context(query);
                let room = context.len().min(asked.longest - 1);
                let whole = [batch.positive(query)].into_iter().chain(context[..room].iter().copied());
                asked.sequences.push(whole, Some(query), 0);
            }
        }
        self.items.clear();
        if self.local > 0.0 {
            let mut random = generator(random, "infomax");
            for query in 0..batch.n_queries() {
                let context = batch.context(query);
                self.items.push(context[random.random_range(0..context.len())]);
            }
            asked.positives.extend(&self.items);
        }
    }

    fn step(&mut self, scene: &Scene<'_>, found: &mut StepAccumulator) {
        if self.global > 0.0 {
            self.tell_sequences_apart(scene, found);
        }
        if self.local > 0.0 {
            self.tell_items_apart(scene, found);
        }
        if self.prior > 0.0 {
            self.match_prior(scene, found);
        }
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        self.matched.parameters_mut().into_iter().map(|(name, numbers)| (format!("prior {name}"), numbers)).collect()
    }
}
