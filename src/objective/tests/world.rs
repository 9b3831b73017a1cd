//! A small world with one batch, and a step on it.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::config::{Config, layers};
use crate::context::cooccurrence::{CooccurrenceLimits, Cooccurrences};
use crate::context::repeat_memory::RepeatDecay;
use crate::context::users::{Retention, UserHistories};
use crate::context::{Batch, CooccurrenceConfig};
use crate::kernel::Kernel;
use crate::model::Model;
use crate::model::encoder::Encoded;
use crate::negatives::BankVectors;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::mix::NoiseMix;
use crate::negatives::samplers::{BatchObservation, QueryContext, StreamView};
use crate::objective::step::StepRequest;
use crate::objective::{LossStats, Objectives, Scratch};
use crate::table::adagrad::{Parameters, TrainedRows};
use crate::table::ids::Ids;

/// Seed and number of the step.
const RANDOM: (u64, u64) = (1, 0);

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::objective) struct Shape {
    pub(in crate::objective) dim: usize,
    /// Items of the longest context.
    pub(in crate::objective) context: usize,
    pub(in crate::objective) n_items: u32,
    pub(in crate::objective) n_users: usize,
    pub(in crate::objective) n_events: usize,
    pub(in crate::objective) seed: u64,
}

/// One batch, with everything that a step reads. Nothing is at its starting value.
pub(in crate::objective) struct World {
    pub(in crate::objective) config: Config,
    pub(in crate::objective) model: Model,
    pub(in crate::objective) batch: Batch,
    pub(in crate::objective) asked: StepRequest,
    pub(in crate::objective) candidates: Candidates,
    pub(in crate::objective) bank: Bank,
    /// The states that the sequences of the queries begin with, where there is a recurrent unit.
    pub(in crate::objective) initial_states: Vec<f32>,
    objectives: Objectives,
}

/// By kind of number (`item`, `temperature`, …): all of that kind.
pub(in crate::objective) type Numbers<T> = BTreeMap<String, Vec<T>>;

impl World {
    pub(in crate::objective) fn new(shape: Shape, flags: &[String]) -> Self {
        let Shape { dim, context, n_items, n_users, n_events, seed } = shape;
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let small = [
            format!("model.dim={dim}"),
            format!("context.length={context}"),
            "negatives.bank=8".to_owned(),
            "negatives.half_life=40".to_owned(),
            // Every batch is a full one.
            "train.batch=2".to_owned(),
            "model.learn_temperature=true".to_owned(),
        ];
        let config = layers::load(None, std::iter::empty(), &[&small, flags].concat()).unwrap();
        let mut model = Model::new(&config, Kernel::detect());
        let decay = RepeatDecay::new(50.0, 128);
        let mut histories =
            UserHistories::new(Retention { context, decay, repeat: config.evaluate.repeat, own_items: 99 });
        let CooccurrenceConfig { neighbors, window, plain_cosine } = config.cooccurrence;
        let mut cooccurrences = Cooccurrences::new(CooccurrenceLimits { window, neighbors, plain_cosine });
        (0..n_items).for_each(|_| cooccurrences.push());
        let (mut ids, mut batch) = (Ids::default(), Batch::default());
        batch.clear(0);
        let mut now = 0;
        for _ in 0..n_events {
            let name = format!("user-{}", random.random_range(0..n_users));
            let user = ids.intern(&name);
            if user as usize == histories.len() {
                histories.push();
                model.add_user(&name);
            }
            histories.capture(&mut batch, user, random.random_range(0..n_items), now);
            batch.capture_related(&mut cooccurrences);
            batch.newcomers.push(random.random_range(0..4) == 0);
            batch.kinds.push(["view", "click", "buy"][random.random_range(0..3)].into());
            // Now and then a pause that ends a session.
            now += if random.random_range(0..8) == 0 { 4_000_000 } else { 4_000 };
        }
        (0..n_items).for_each(|item| model.add_item(&format!("item-{item}")));
        let mut frequencies = Frequencies::new(config.negatives.half_life);
        frequencies.grow(n_items as usize);
        frequencies.add(&batch.items);
        let mut live = LiveItems::new(u64::MAX);
        live.observe(&batch.items);
        let mut bank = Bank::new(8, 0, config.negatives.bank_vectors == BankVectors::Frozen);
        let live_items: Vec<u32> = (0..6).map(|_| batch.items[random.random_range(0..batch.items.len())]).collect();
        bank.push(&live_items, &model);
        // What is frozen is not what is there now.
        disturb(&mut model, &mut random);
        let mut objectives = Objectives::new(&config);
        let mut asked = StepRequest::default();
        objectives.prepare(&batch, RANDOM, &mut asked);
        let mut initial_states = Vec::new();
        model.advance_hidden_states(Kernel::detect(), &batch, asked.longest, &mut initial_states);
        let view = StreamView { frequencies: &frequencies, live: &live, vectors: &model };
        let mut noise = NoiseMix::new(&config.negatives.noise.terms());
        noise.observe(view, BatchObservation { items: &batch.items, ..BatchObservation::default() });
        let mut candidates = Candidates::default();
        candidates.gather(asked.positives.iter().copied(), &bank, &mut noise, view, QueryContext::default(), RANDOM);
        Self { config, model, batch, asked, candidates, bank, initial_states, objectives }
    }

    /// Takes the step twice, from the same numbers: what objectives remember of the first is there in the second, and so is
    /// whatever buffers keep. Gives the model after the second.
    pub(in crate::objective) fn step(&mut self) -> (Model, LossStats) {
        let (mut encoded, mut scratch) = (Encoded::default(), Scratch::default());
        let mut step = || {
            let mut moved = self.model.clone();
            // The sum is then the squared gradient, and nothing else.
            for (_, _, sums) in parts(&mut moved) {
                sums.into_iter().for_each(|sum| *sum = 0.0);
            }
            self.objectives.prepare(&self.batch, RANDOM, &mut self.asked);
            moved.encode(Kernel::detect(), &self.asked.sequences, &self.initial_states, &mut encoded);
            let on = (&self.asked, &mut encoded);
            let (batch, candidates) = (&self.batch, (&self.candidates, &self.bank));
            let context = (Kernel::detect(), RANDOM);
            let stats = self.objectives.step(context, &mut moved, batch, on, candidates, &mut scratch);
            (moved, stats)
        };
        step();
        step()
    }

    /// Every number that is learned.
    pub(in crate::objective) fn numbers(&self) -> Numbers<f64> {
        let wide = |values: Vec<&mut f32>| values.into_iter().map(|value| f64::from(*value)).collect();
        parts(&mut self.model.clone()).into_iter().map(|(name, values, _)| (name, wide(values))).collect()
    }

    /// The gradient of every number, which a step that began with sums of 0 has moved to `moved`.
    pub(in crate::objective) fn gradients(&self, moved: &mut Model) -> Numbers<f64> {
        let before = self.numbers();
        let of_kind = |(name, values, sums): Part<'_>| {
            let numbers = values.into_iter().zip(sums).zip(&before[&name]);
            let gradients =
                numbers.map(|((after, sum), before)| f64::from(*sum).sqrt() * (before - f64::from(*after)).signum());
            (name.clone(), gradients.collect())
        };
        parts(moved).into_iter().map(of_kind).collect()
    }
}

/// Kind, numbers, Adagrad's sums.
type Part<'a> = (String, Vec<&'a mut f32>, Vec<&'a mut f32>);

fn parts(model: &mut Model) -> Vec<Part<'_>> {
    let mut all = Vec::new();
    let mut parameters: Vec<(String, &mut Parameters)> = Vec::new();
    let Model {
        items,
        contexts,
        users,
        biases,
        position_weights,
        gru,
        gate,
        situations,
        transforms,
        popularity,
        temperature,
        ..
    } = model;
    let tables =
        [("item", Some(items)), ("context", contexts.as_mut()), ("user", users.as_mut()), ("bias", biases.as_mut())];
    for (name, table) in tables {
        if let Some(TrainedRows { values, sums, .. }) = table {
            all.push((name.to_owned(), values.numbers_mut(), sums.numbers_mut()));
        }
    }
    parameters.extend([
        ("position".to_owned(), position_weights),
        ("popularity".to_owned(), popularity),
        ("temperature".to_owned(), temperature),
        ("normaliser".to_owned(), &mut model.normaliser),
        ("repetition".to_owned(), &mut model.repetition.parameters),
        ("cooccurrence".to_owned(), &mut model.cooccurrence.parameters),
    ]);
    parameters.extend(transforms.iter_mut().enumerate().map(|(k, numbers)| (format!("transform {k}"), numbers)));
    parameters.extend(gate.iter_mut().map(|gate| ("gate".to_owned(), &mut gate.parameters)));
    parameters.extend(situations.iter_mut().map(|vectors| ("situations".to_owned(), &mut vectors.parameters)));
    parameters.extend(gru.iter_mut().map(|numbers| ("gru".to_owned(), numbers)));
    all.extend(
        parameters
            .into_iter()
            .map(|(name, Parameters { values, sums })| (name, values.iter_mut().collect(), sums.iter_mut().collect())),
    );
    all
}

/// Moves every number, so that none is 0 or 1 by its start; rows, too, so that frozen ones are others.
fn disturb(model: &mut Model, random: &mut Pcg64Mcg) {
    for (name, values, _) in parts(model) {
        let by = match name.as_str() {
            "item" | "context" | "user" => 0.2,
            "temperature" => 0.1,
            _ => 0.3,
        };
        values.into_iter().for_each(|value| *value += random.random_range(-by..by));
    }
    for user in 0..model.hidden_states.len() {
        model.hidden_states.row_mut(user).iter_mut().for_each(|number| *number = random.random_range(-0.5..0.5));
    }
    model.refresh_all_norms();
}
