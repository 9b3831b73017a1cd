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
use super::prior::{self, Prior, PriorDistribution};
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext, StepRequest, generator};
#[cfg(test)]
use super::tests::reference::{Reference, mean};
use crate::context::Batch;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::unnormalise;
use crate::table::adagrad::Parameters;
use crate::table::rows::stable_hash;
use crate::util::component::Component;
use crate::util::config_section::{Refusal, config_choice, config_section, require};

config_choice! {
    /// A distribution that summaries of sequences are moved to.
    pub enum PriorKind {
        /// Uniform on the unit sphere.
        Sphere = "sphere",
        /// N(0, I/dim).
        Gaussian = "gaussian",
        /// A mixture of Gaussians that is itself estimated on the stream.
        GaussianMixture = "gaussian_mixture",
    }
}

config_section! {
    /// The options of `infomax`.
    pub struct InfoMaxOptions {
        /// The prior that summaries are moved to.
        prior_kind: PriorKind = PriorKind::Sphere;
        /// Weight of telling which whole sequence, the new item included, a summary belongs to.
        global: f64 = 0.03 => [within(0.0..=1e6)];
        /// Weight of telling which item is in the sequence, against the candidates; its other items are masked.
        local: f64 = 0.1 => [within(0.0..=1e6)];
        /// Weight of moving summaries to be distributed like the prior, against a discriminator.
        prior: f64 = 0.01 => [within(0.0..=1e6), check(something_is_left)];
        /// Components of the Gaussian mixture; with nothing else to hold summaries apart, it draws together in time.
        components: usize = 8 => [within(1..=1024)];
    }
}

impl Component for InfoMaxOptions {
    const NAME: &'static str = "infomax";
    const SUMMARY: &'static str =
        "Deep InfoMax on sequences: summaries against whole sequences, against their items, and against a prior.";
}

impl ObjectiveOptions for InfoMaxOptions {
    // The prior is matched against a discriminator that learns in the same step: its gradients have tests of their own.
    const TESTED: &'static [&'static str] = &["global=1.0,local=0.6,prior=0.0"];

    fn build(&self, weight: f64, setting: ObjectiveSetting) -> Box<dyn Objective> {
        let prior_distribution = match self.prior_kind {
            PriorKind::Sphere => PriorDistribution::Sphere,
            PriorKind::Gaussian => PriorDistribution::Gaussian,
            PriorKind::GaussianMixture => PriorDistribution::GaussianMixture { components: self.components },
        };
        let seed = stable_hash(setting.seed, &["prior"]);
        Box::new(InfoMax {
            global: weight * self.global,
            local: weight * self.local,
            prior: weight * self.prior,
            on_sphere: self.prior_kind == PriorKind::Sphere,
            matched: Prior::new(prior_distribution, setting.dim, prior::DiscriminatorSettings::default(), seed),
            whole: 0,
            items: Vec::new(),
            codes: Vec::new(),
            code_gradients: Vec::new(),
            row_gradients: Aligned::default(),
            scratch: RowsScratch::default(),
        })
    }

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let (batch, config) = (&at.world.batch, &at.world.config);
        let queries = at.scores.queries();
        let n = queries.len();
        let mut sum = 0.0;
        if self.global > 0.0 {
            let whole = |query: usize| {
                let mut items = vec![batch.positive(query)];
                items.extend(batch.context(query).iter().take(config.context.length - 1));
                items
            };
            let wholes: Vec<Vec<u32>> = (0..n).map(whole).collect();
            at.claim(&wholes);
            let others: Vec<_> = (0..n).map(|query| at.scores.encode(&wholes[query], Some(query), 0)).collect();
            sum += self.global * at.rows(&queries, &others, |query| batch.user(query));
        }
        if self.local > 0.0 {
            let items = at.next_positives(n);
            sum += self.local
                * mean(queries.iter().zip(items).enumerate().map(|(query, (vector, item))| {
                    let context = batch.context(query);
                    assert!(context.contains(item));
                    let own = |other: u32| batch.own(query).iter().any(|own| own.item == other);
                    let masked = |other| context.contains(&other) || (!config.evaluate.repeat && own(other));
                    at.softmax(at.contrast(at.scores, vector, *item, |_| 0.0, masked))
                }));
        }
        sum
    }
}

/// At least one of the three parts must count.
fn something_is_left(prior: &f64, options: &InfoMaxOptions) -> Result<(), Refusal> {
    require(options.global + options.local + prior > 0.0, "must not be 0 where 'global' and 'local' are 0 too")
}

/// Deep InfoMax at work.
#[derive(Debug)]
pub(super) struct InfoMax {
    global: f64,
    local: f64,
    prior: f64,
    on_sphere: bool,
    matched: Prior,
    /// The place of the first whole sequence.
    whole: usize,
    /// For each query, the item of its context that is looked for.
    items: Vec<u32>,
    codes: Vec<f32>,
    code_gradients: Vec<f32>,
    row_gradients: Aligned<f32>,
    scratch: RowsScratch,
}

impl InfoMax {
    fn tell_sequences_apart(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let batch = step.batch;
        // A user's sequences within a batch are nearly the same: they are no strangers.
        let same = |row: usize, other: usize| batch.user(row) == batch.user(other);
        let contrast =
            SequenceContrast { first: 0, other: self.whole, n: batch.n_queries(), same, weight: self.global };
        let (loss, bound) = contrast.run(step, accumulator, &mut self.scratch);
        accumulator.add_loss(InfoMaxOptions::NAME, "global", self.global, loss, Some(bound));
    }

    fn tell_items_apart(&self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let StepContext { batch, candidates, .. } = *step;
        let contrast = ItemContrast {
            rows: 0..batch.n_queries(),
            pairs: |pairs: &mut PairTerms| {
                pairs.clear();
                for (query, item) in self.items.iter().enumerate() {
                    pairs.begin_query(candidates, *item, true);
                    let mut own: Vec<u32> = batch.context(query).to_vec();
                    if !step.positive_rules.repeat {
                        own.extend(batch.own(query).iter().map(|own| own.item));
                    }
                    own.sort_unstable();
                    own.dedup();
                    for other in own.into_iter().filter(|own| own != item) {
                        pairs.mask(candidates, other);
                    }
                    pairs.end_query();
                }
            },
            weights: &[],
            weight: self.local,
            is_next_item: false,
            merged: true,
        };
        let (loss, bound) = contrast.tell_apart(step, accumulator);
        accumulator.add_loss(InfoMaxOptions::NAME, "local", self.local, loss, bound);
    }

    fn match_prior(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let StepContext { kernel, model, batch, encoded, .. } = *step;
        let (n, dim, stride) = (batch.n_queries(), model.dim(), model.stride());
        self.codes.clear();
        for query in 0..n {
            let norm = if self.on_sphere { 1.0 } else { encoded.inverse_norms[query].recip() };
            self.codes.extend(encoded.normalized.row(query)[..dim].iter().map(|number| number * norm));
        }
        let stats = self.matched.step(kernel, &self.codes, step.random, step.rate, &mut self.code_gradients);
        self.row_gradients.resize(n * stride, 0.0);
        let rows = self.row_gradients.chunks_exact_mut(stride).zip(self.code_gradients.chunks_exact(dim));
        for (query, (row, gradient)) in rows.enumerate() {
            row[dim..].fill(0.0);
            row[..dim]
                .iter_mut()
                .zip(gradient)
                .for_each(|(row, number)| *row = number * self.prior as f32 * step.share);
            if self.on_sphere && model.is_cosine() {
                unnormalise(kernel, encoded.normalized.row(query), encoded.inverse_norms[query], row);
            }
        }
        accumulator.gradients.add_sequences(0, &mut self.row_gradients);
        accumulator.add_loss(InfoMaxOptions::NAME, "prior", self.prior, stats.generator_loss, None);
        accumulator.add_loss(InfoMaxOptions::NAME, "discriminator", 0.0, stats.discriminator_loss, None);
    }
}

impl Objective for InfoMax {
    fn prepare(&mut self, batch: &Batch, random: (u64, u64), request: &mut StepRequest) {
        self.whole = request.sequences.len();
        if self.global > 0.0 {
            for query in 0..batch.n_queries() {
                // As long as a context may be: the oldest item makes room for the newest.
                let context = batch.context(query);
                let room = context.len().min(request.longest - 1);
                let whole = [batch.positive(query)].into_iter().chain(context[..room].iter().copied());
                request.sequences.push(whole, Some(query), 0);
            }
        }
        self.items.clear();
        if self.local > 0.0 {
            let mut random = generator(random, "infomax");
            for query in 0..batch.n_queries() {
                let context = batch.context(query);
                self.items.push(context[random.random_range(0..context.len())]);
            }
            request.positives.extend(&self.items);
        }
    }

    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        if self.global > 0.0 {
            self.tell_sequences_apart(step, accumulator);
        }
        if self.local > 0.0 {
            self.tell_items_apart(step, accumulator);
        }
        if self.prior > 0.0 {
            self.match_prior(step, accumulator);
        }
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        self.matched.parameters_mut().into_iter().map(|(name, numbers)| (format!("prior {name}"), numbers)).collect()
    }
}
