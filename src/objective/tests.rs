//! A whole step against finite differences of the loss, written anew in double precision from its formula.

use std::collections::BTreeMap;

use super::encoder::Encoded;
use super::model::Model;
use super::term::Asked;
use super::{LossStats, Objectives, Scratch};
use crate::config::{BankVectors, Config, layers};
use crate::context::Batch;
use crate::context::memory::Fading;
use crate::context::users::{Retention, Users};
use crate::kernel::Kernel;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::noise::mix::NoiseMix;
use crate::negatives::noise::{Asking, Scene, Seen};
use crate::table::adagrad::START;

/// One batch of a small world, with everything that a step reads.
struct World {
    config: Config,
    model: Model,
    batch: Batch,
    candidates: Candidates,
    bank: Bank,
}

fn world(flags: &[&str]) -> World {
    let small = [
        "model.dim=5",
        "context.length=3",
        "negatives.bank=8",
        "negatives.half_life=40",
        "model.learn_temperature=true",
    ];
    let flags: Vec<String> = small.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    let config = layers::load(None, std::iter::empty(), &flags).unwrap();
    let mut model = Model::new(&config);
    let retention =
        Retention { context: 3, fading: Fading::new(50.0, 128), repeat: config.evaluate.repeat, own_items: 9 };
    let mut users = Users::new(retention);
    let mut batch = Batch::default();
    batch.clear(0);
    let events = [(0, 1), (1, 2), (0, 3), (1, 1), (0, 1), (2, 4), (1, 3), (2, 1), (0, 5), (2, 4), (1, 2), (0, 1)];
    for (number, (user, item)) in events.into_iter().enumerate() {
        let name = format!("user-{user}");
        if users.ids.get(&name).is_none() {
            model.add_user(&name);
        }
        users.capture(&mut batch, &name, item, number as i64 * 4000);
    }
    (0..7).for_each(|item| model.add_item(&format!("item-{item}")));
    for (place, number) in model.repetition.parameters.values.iter_mut().enumerate() {
        *number = (place as f32 * 0.7).sin() * 0.3;
    }
    let mut frequencies = Frequencies::new(config.negatives.half_life.events());
    frequencies.grow(7);
    frequencies.add(&batch.items);
    let mut live = LiveItems::new(u64::MAX);
    live.observe(&batch.items);
    let mut bank = Bank::new(8, 0, config.negatives.bank_vectors == BankVectors::Frozen);
    bank.push(&[6, 1, 0, 1, 4], &model);
    // What is frozen is not what is there now.
    for table in [Some(&mut model.items), model.contexts.as_mut()].into_iter().flatten() {
        table.values.chunks_mut().flatten().for_each(|number| *number = -*number * 0.9 + 0.05);
    }
    model.refresh_all_norms();
    let scene = Scene { frequencies: &frequencies, live: &live, vectors: &model };
    let mut noise = NoiseMix::new(&config.negatives.noise.terms());
    noise.observe(scene, Seen { items: &batch.items, ..Seen::default() });
    let mut candidates = Candidates::default();
    let positives = batch.with_context.iter().map(|event| batch.items[*event as usize]);
    candidates.gather(positives, &bank, &mut noise, scene, Asking::default(), (1, 0));
    World { config, model, batch, candidates, bank }
}

/// The mean loss, from the formula alone: no merging, no tiles, every draw a column of its own.
fn loss(world: &World, model: &Model) -> f64 {
    let World { config, batch, candidates, bank, .. } = world;
    let wide = |row: &[f32]| row.iter().map(|number| f64::from(*number)).collect::<Vec<f64>>();
    let cosine = config.model.likeness == crate::config::Likeness::Cosine;
    let unit = |mut row: Vec<f64>| {
        if cosine {
            let norm = row.iter().map(|number| number * number).sum::<f64>().sqrt();
            row.iter_mut().for_each(|number| *number /= norm);
        }
        row
    };
    let inverse_temperature = f64::from(model.temperature.values[0]).exp();
    let beta = f64::from(model.beta());
    let mut sum = 0.0;
    for query in 0..batch.n_queries() {
        let context = batch.context(query);
        let weights: Vec<f64> =
            (0..context.len()).map(|place| f64::from(model.position_weights.values[place]).exp()).collect();
        let mut raw = vec![0.0; model.dim()];
        for (item, weight) in context.iter().zip(&weights) {
            let share = weight / weights.iter().sum::<f64>();
            for table in [Some(&model.items), model.contexts.as_ref()].into_iter().flatten() {
                let row = wide(table.values.row(*item as usize));
                raw.iter_mut().zip(row).for_each(|(sum, number)| *sum += share * number);
            }
        }
        if let Some(users) = &model.users {
            let row = wide(users.values.row(batch.user(query) as usize));
            raw.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
        }
        let vector = unit(raw);
        let positive = batch.positive(query);
        let own: BTreeMap<u32, f64> =
            batch.own(query).iter().map(|own| (own.item, f64::from(model.repetition.term(own.buckets)))).collect();
        let logit = |column: usize| {
            let item = candidates.items[column];
            let candidate = match column.checked_sub(candidates.n_live()) {
                None => unit(wide(model.items.values.row(item as usize))),
                Some(place) => {
                    let mut frozen = vec![0.0; model.dim()];
                    bank.frozen_vector(candidates.frozen[place] as usize, &mut frozen);
                    wide(&frozen)
                }
            };
            let likeness: f64 = vector.iter().zip(candidate).map(|(a, b)| a * b).sum();
            let term = if config.evaluate.repeat { own.get(&item).copied().unwrap_or(0.0) } else { 0.0 };
            likeness * inverse_temperature + beta * f64::from(candidates.log_frequency[column])
                - f64::from(candidates.log_expected[column])
                + term
        };
        let mut weight = 0.0;
        let mut positive_logit = 0.0;
        for (column, item) in candidates.items.iter().enumerate() {
            let recent = context.iter().take(config.negatives.mask_recent).any(|recent| recent == item);
            let masked = own.contains_key(item) && (!config.evaluate.repeat || recent);
            let draws = if *item == positive && column >= candidates.n_live() {
                0
            } else if *item == positive {
                positive_logit = logit(column) + f64::from(candidates.log_expected[column]);
                weight += positive_logit.exp();
                0
            } else if masked {
                0
            } else {
                candidates.multiplicity[column]
            };
            weight += f64::from(draws) * logit(column).exp();
        }
        sum += weight.ln() - positive_logit;
    }
    sum / batch.n_queries() as f64
}

fn take_step(world: &World, model: &mut Model) -> LossStats {
    let kernel = Kernel::detect();
    let mut objectives = Objectives::new(&world.config);
    let (mut asked, mut encoded, mut scratch) = (Asked::default(), Encoded::default(), Scratch::default());
    objectives.ask(&world.batch, (1, 0), &mut asked);
    model.encode(kernel, &asked.sequences, &[], &mut encoded);
    let on = (&asked, &mut encoded);
    let candidates = (&world.candidates, &world.bank);
    objectives.step((kernel, (1, 0)), model, &world.batch, on, candidates, &mut scratch)
}

/// Every number of the model, as (name, value, Adagrad's sum).
fn numbers(model: &mut Model) -> Vec<(String, &mut f32, f32)> {
    let mut all = Vec::new();
    let tables =
        [("item", Some(&mut model.items)), ("context", model.contexts.as_mut()), ("user", model.users.as_mut())];
    for (name, table) in tables.into_iter().filter_map(|(name, table)| Some((name, table?))) {
        let sums: Vec<Vec<f32>> = (0..table.sums.len()).map(|row| table.sums.row(row).to_vec()).collect();
        let values = table.values.chunks_mut().flatten();
        all.extend(
            values.zip(sums.concat()).enumerate().map(|(place, (value, sum))| (format!("{name} {place}"), value, sum)),
        );
    }
    for (name, parameters) in [
        ("position", &mut model.position_weights),
        ("popularity", &mut model.popularity),
        ("temperature", &mut model.temperature),
        ("repetition", &mut model.repetition.parameters),
    ] {
        let sums = parameters.sums.clone();
        let values = parameters.values.iter_mut().zip(sums);
        all.extend(values.enumerate().map(|(place, (value, sum))| (format!("{name} {place}"), value, sum)));
    }
    all
}

#[test]
fn a_step_follows_the_gradient_of_the_loss() {
    for flags in [
        &[][..],
        &["evaluate.repeat=true"],
        &["context.context_rows=false", "context.user_row=true"],
        &["model.likeness=dot", "evaluate.repeat=true", "context.user_row=true"],
        &["evaluate.repeat=true", "negatives.mask_recent=1"],
        &["evaluate.repeat=true", "negatives.bank_vectors=frozen"],
        &["negatives.bank_vectors=frozen"],
        &["negatives.noise=[{sampler=\"uniform\",draws=9},{sampler=\"unigram\",draws=7,power=0.5}]"],
    ] {
        let world = world(flags);
        let mut moved = world.model.clone();
        let stats = take_step(&world, &mut moved);
        assert!((stats.loss - loss(&world, &world.model)).abs() < 1e-5, "{flags:?}: the loss itself");
        let mut before = world.model.clone();
        let n_numbers = numbers(&mut before).len();
        let mut checked = 0;
        for place in 0..n_numbers {
            let after = {
                let mut all = numbers(&mut moved);
                let (_, value, sum) = all.swap_remove(place);
                (*value, sum)
            };
            let (name, start) = {
                let mut all = numbers(&mut before);
                let (name, value, _) = all.swap_remove(place);
                (name, *value)
            };
            // The first step's sum is the squared gradient, and its direction the gradient's sign.
            let size = f64::from((after.1 - START).max(0.0)).sqrt();
            let found = if after.0 < start { size } else { -size };
            let at = |by: f32| {
                let mut changed = world.model.clone();
                *numbers(&mut changed)[place].1 += by;
                loss(&world, &changed)
            };
            let step = 4e-3f32;
            let expected =
                (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * f64::from(step));
            // Sums begin at 1e-6, which hides squares far below it.
            let tolerance = 2e-3 * expected.abs() + 5e-4;
            assert!((found - expected).abs() < tolerance, "{flags:?}: {name}: {found}, not {expected}");
            checked += usize::from(expected.abs() > 2e-3);
        }
        assert!(checked > 40, "{flags:?}: only {checked} numbers have a gradient");
    }
}
