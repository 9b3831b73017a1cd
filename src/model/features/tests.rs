//! A step on items that share features: against finite differences of the loss, written anew in double precision, and
//! against the same step on items whose rows are their vectors, for every objective.

use super::Features;
use crate::config::{Config, layers};
use crate::context::Batch;
use crate::context::cooccurrence::{CooccurrenceLimits, Cooccurrences};
use crate::context::repeat_memory::RepeatDecay;
use crate::context::users::{Retention, UserHistories};
use crate::kernel::Kernel;
use crate::model::Model;
use crate::model::encoder::Encoded;
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::mix::NoiseMix;
use crate::negatives::samplers::{BatchObservation, QueryContext, StreamView};
use crate::objective::step::StepRequest;
use crate::objective::{Objectives, Scratch};
use crate::table::adagrad::{Optimizer, START, TrainedRows};
use crate::table::row_remap::RowRemap;

/// Buckets of the features of each item; the last item has none.
const ITEMS: [&[u32]; 7] = [&[0, 1], &[1], &[2, 0, 3], &[4, 1, 2, 5], &[3], &[0, 6, 7, 1, 2], &[]];

/// One batch, and all that a step on it reads.
struct World {
    config: Config,
    batch: Batch,
    frequencies: Frequencies,
    live: LiveItems,
}

fn world(flags: &[&str]) -> (World, Model) {
    let small = [
        "model.dim=5",
        "context.length=3",
        "negatives.bank=0",
        "negatives.half_life=40",
        "features.buckets=9",
        "train.batch=2",
    ];
    let flags: Vec<String> = small.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    let config = layers::load(None, std::iter::empty(), &flags).unwrap();
    let mut model = Model::new(&config, Kernel::detect());
    let decay = RepeatDecay::new(50.0, 128);
    let mut histories =
        UserHistories::new(Retention { context: 3, decay, repeat: config.evaluate.repeat, own_items: 9 });
    // Of which nothing is counted here.
    let mut cooccurrences = Cooccurrences::new(CooccurrenceLimits { window: 1, neighbors: 0, plain_cosine: true });
    let mut batch = Batch::default();
    batch.clear(0);
    let events = [(0, 1), (1, 2), (0, 3), (1, 1), (0, 6), (2, 4), (1, 3), (2, 1), (0, 5), (2, 0), (1, 2), (0, 1)];
    for (number, (user, item)) in events.into_iter().enumerate() {
        // Users come first in the order of their rows.
        if user as usize == histories.len() {
            histories.push();
            model.add_user(&format!("user-{user}"));
        }
        histories.capture(&mut batch, user, item, number as i64 * 4000);
        batch.capture_related(&mut cooccurrences);
        batch.kinds.push("click".into());
        batch.newcomers.push(false);
    }
    ITEMS.iter().enumerate().for_each(|(item, buckets)| model.add_item_with(&format!("item-{item}"), buckets));
    // As if they had learnt something.
    let features = &mut model.features.as_mut().unwrap().rows.values;
    for (place, number) in features.numbers_mut().into_iter().enumerate() {
        *number = (place as f32 * 0.7).sin() * 0.3;
    }
    model.refresh_all();
    let mut frequencies = Frequencies::new(config.negatives.half_life);
    frequencies.grow(ITEMS.len());
    frequencies.add(&batch.items);
    let mut live = LiveItems::new(u64::MAX);
    live.observe(&batch.items);
    (World { config, batch, frequencies, live }, model)
}

/// Takes a step; gives what it was taken against.
fn take_step(world: &World, model: &mut Model) -> Candidates {
    let kernel = Kernel::detect();
    let mut objectives = Objectives::new(&world.config);
    let (mut asked, mut encoded, mut scratch) = (StepRequest::default(), Encoded::default(), Scratch::default());
    let (mut candidates, mut initial_states) = (Candidates::default(), Vec::new());
    let (bank, random) = (Bank::new(0, 0, false), (1, 0));
    objectives.prepare(&world.batch, random, &mut asked);
    model.advance_hidden_states(kernel, &world.batch, asked.longest, &mut initial_states);
    model.encode(kernel, &asked.sequences, &initial_states, &mut encoded);
    let view = StreamView { frequencies: &world.frequencies, live: &world.live, vectors: &*model };
    let mut noise = NoiseMix::new(&world.config.negatives.noise.terms());
    noise.observe(view, BatchObservation { items: &world.batch.items, ..BatchObservation::default() });
    candidates.gather(asked.positives.iter().copied(), &bank, &mut noise, view, QueryContext::default(), random);
    let on = (&asked, &mut encoded);
    let stats = objectives.step((kernel, random), model, &world.batch, on, (&candidates, &bank), &mut scratch);
    assert!(stats.finite && stats.loss > 0.0);
    candidates
}

/// The gradient that moved row `row` from where it was `before` in its first step.
fn gradient(before: &TrainedRows, after: &TrainedRows, row: usize) -> Vec<f64> {
    let numbers = before.values.row(row).iter().zip(after.values.row(row)).zip(after.sums.row(row));
    let size = |sum: f32| (f64::from(sum) - f64::from(START)).max(0.0).sqrt();
    numbers.map(|((before, after), sum)| if after < before { size(*sum) } else { -size(*sum) }).collect()
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|number| number * number).sum::<f64>().sqrt()
}

#[track_caller]
fn agree(found: &[f64], expected: &[f64], what: &str) {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    assert!(norm(&difference) <= 1e-4 * norm(expected) + 1e-6, "{what}: {found:?}, not {expected:?}");
}

/// Item, feature and context rows in double precision.
#[derive(Clone)]
struct Tables([Vec<Vec<f64>>; 3]);

fn tables(model: &Model) -> [&TrainedRows; 3] {
    [&model.items, &model.features.as_ref().unwrap().rows, model.contexts.as_ref().unwrap()]
}

/// The loss of InfoNCE over the batch's positives, from its formula.
fn loss(world: &World, model: &Model, Tables([items, features, contexts]): &Tables, candidates: &Candidates) -> f64 {
    let (batch, dim) = (&world.batch, model.dim());
    // A bucket gets its row when a feature first falls into it: here that is not the order of the buckets.
    let row_of = |bucket: &u32| model.features.as_ref().unwrap().buckets().iter().position(|b| b == bucket).unwrap();
    let vector = |item: usize| {
        let share = if ITEMS[item].is_empty() { 0.0 } else { 2.0 / (ITEMS[item].len() as f64).sqrt() };
        let of_features = |k: usize| ITEMS[item].iter().map(|bucket| features[row_of(bucket)][k]).sum::<f64>();
        (0..dim).map(|k| items[item][k] + share * of_features(k)).collect::<Vec<f64>>()
    };
    let unit = |row: Vec<f64>| row.iter().map(|number| number / norm(&row)).collect::<Vec<f64>>();
    let shrinkage = world.config.model.shrinkage;
    let shrunk = |row: Vec<f64>| row.iter().map(|number| number / norm(&row).hypot(shrinkage)).collect::<Vec<f64>>();
    let mut sum = 0.0;
    for query in 0..batch.n_queries() {
        let context = batch.context(query);
        let weight = |k: usize| f64::from(model.position_weights.values[k]).exp();
        let total: f64 = (0..context.len()).map(weight).sum();
        let mut raw = vec![0.0; dim];
        for (k, item) in context.iter().enumerate() {
            let parts = vector(*item as usize).into_iter().zip(&contexts[*item as usize]);
            raw.iter_mut().zip(parts).for_each(|(sum, (a, b))| *sum += weight(k) / total * (a + b));
        }
        let raw = unit(raw);
        let own: Vec<u32> = batch.own(query).iter().map(|own| own.item).collect();
        let (mut of_positive, mut mass) = (0.0, 0.0);
        for (column, item) in candidates.items.iter().enumerate() {
            let similarity: f64 = raw.iter().zip(shrunk(vector(*item as usize))).map(|(a, b)| a * b).sum();
            let popularity = f64::from(model.beta()) * f64::from(candidates.log_frequency[column]);
            let logit = similarity * f64::from(model.temperature.values[0]).exp() + popularity;
            if *item == batch.positive(query) {
                of_positive = logit;
                mass += logit.exp();
            } else if !own.contains(item) {
                let expected = f64::from(candidates.log_expected[column]);
                mass += f64::from(candidates.multiplicity[column]) * (logit - expected).exp();
            }
        }
        sum += mass.ln() - of_positive;
    }
    sum / batch.n_queries() as f64
}

#[test]
fn step_with_features_follows_the_gradient_of_the_loss() {
    let (world, before) = world(&[]);
    let mut after = before.clone();
    let candidates = take_step(&world, &mut after);
    let wide = |table: &TrainedRows| {
        let row = |row: usize| table.values.row(row).iter().map(|number| f64::from(*number)).collect();
        (0..table.values.len()).map(row).collect()
    };
    let start = Tables(tables(&before).map(wide));
    let mut checked = 0;
    for (place, name) in ["item", "feature", "context"].into_iter().enumerate() {
        for row in 0..start.0[place].len() {
            let slope = |k: usize| {
                let at = |by: f64| {
                    let mut moved = start.clone();
                    moved.0[place][row][k] += by;
                    loss(&world, &before, &moved, &candidates)
                };
                let step = 1e-3;
                (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step)
            };
            let expected: Vec<f64> = (0..before.dim()).map(slope).collect();
            let found = gradient(tables(&before)[place], tables(&after)[place], row);
            agree(&found, &expected, &format!("{name} {row}"));
            checked += usize::from(norm(&expected) > 1e-2);
        }
    }
    assert!(checked >= 18, "only {checked} rows have a gradient");
}

#[test]
fn feature_gradients_sum_those_of_their_items_vectors() {
    let every = r#"objective=[{kind="infonce"},{kind="nce"},{kind="cpc",steps=2},{kind="infomax"},{kind="views"},{kind="i2i"}]"#;
    let settings: [&[&str]; 6] = [
        &[],
        &["evaluate.repeat=true", "context.user_row=true", "negatives.noise=[{sampler=\"uniform\",draws=9}]"],
        &["model.similarity=dot", "context.context_rows=false"],
        &["context.encoder=gru"],
        &[every],
        &[every, "context.encoder=gru", "evaluate.repeat=true"],
    ];
    for flags in settings {
        let (world, before) = world(flags);
        let mut after = before.clone();
        take_step(&world, &mut after);
        // The same items, with their vectors for rows.
        let mut plain = before.clone();
        plain.features = None;
        for item in 0..ITEMS.len() {
            plain.items.values.row_mut(item).copy_from_slice(before.vectors().row(item));
        }
        plain.refresh_all_norms();
        let plain_before = plain.clone();
        take_step(&world, &mut plain);
        let of_vectors: Vec<Vec<f64>> =
            (0..ITEMS.len()).map(|item| gradient(&plain_before.items, &plain.items, item)).collect();
        let (features, moved) = (before.features.as_ref().unwrap(), after.features.as_ref().unwrap());
        for (item, expected) in of_vectors.iter().enumerate() {
            agree(&gradient(&before.items, &after.items, item), expected, &format!("{flags:?}: item {item}"));
        }
        for (row, bucket) in features.buckets().iter().enumerate() {
            let mut expected = vec![0.0; before.dim()];
            for (buckets, of_vector) in ITEMS.iter().zip(&of_vectors).filter(|(buckets, _)| buckets.contains(bucket)) {
                let share = 2.0 / (buckets.len() as f64).sqrt();
                expected.iter_mut().zip(of_vector).for_each(|(sum, number)| *sum += share * number);
            }
            assert!(norm(&expected) > 1e-3, "{flags:?}: bucket {bucket} has no gradient");
            agree(&gradient(&features.rows, &moved.rows, row), &expected, &format!("{flags:?}: bucket {bucket}"));
        }
        assert_eq!(plain.position_weights, after.position_weights, "{flags:?}");
        assert_eq!(plain.popularity, after.popularity, "{flags:?}");
    }
}

#[test]
fn refresh_of_one_refresh_of_all_and_served_vector_agree() {
    for similarity in ["cosine", "dot"] {
        let (world, mut model) = world(&[&format!("model.similarity={similarity}"), "model.temperature=1"]);
        take_step(&world, &mut model);
        let mut all = model.clone();
        all.refresh_all();
        let mut served = vec![0.0; model.dim()];
        for item in 0..ITEMS.len() {
            assert_ne!(model.vectors().row(item), all.vectors().row(item), "the step moved it");
            model.served(item, &mut served);
            model.refresh(&[item as u32]);
            assert_eq!(model.vectors().row(item), all.vectors().row(item));
            assert_eq!(model.inverse_norms[item], all.inverse_norms[item]);
            let scaled: Vec<f32> = all.vectors().row(item).iter().map(|x| x * all.inverse_norms[item]).collect();
            assert_eq!(served, scaled);
        }
    }
}

#[test]
fn features_of_an_item_are_bounded_and_distinct() {
    let mut features = Features::new(2, Optimizer::Adagrad, 100);
    features.push(&[7, 3, 7, 3, 9]);
    features.push(&(0..100).collect::<Vec<u32>>());
    assert_eq!(
        (features.of(0), features.of(1).len(), features.buckets().run(0..3).to_vec()),
        (&[0, 1, 2][..], super::MOST, vec![7, 3, 9])
    );
    assert_eq!(features.rows.values.len(), features.buckets().len());
    let mut again = Features::new(2, Optimizer::Adagrad, 100);
    features.buckets().iter().for_each(|_| again.rows.push(|row| row.fill(0.0)));
    assert!(again.clone().restore(features.buckets().iter().skip(1).copied().collect()).is_none());
    assert!(again.restore(features.buckets().iter().copied().collect()).is_some());
    assert!(again.restore_item(features.of(0)).is_some());
    assert!(again.restore_item(&[100]).is_none());
}

#[test]
fn features_follow_their_items_through_eviction() {
    let mut features = Features::new(4, Optimizer::Adagrad, 50);
    let of: Vec<Vec<u32>> = (0..40u32).map(|item| (0..item % 5).map(|k| (item * 7 + k * 11) % 50).collect()).collect();
    of.iter().for_each(|buckets| features.push(buckets));
    let named = |features: &Features, item| -> Vec<u32> {
        features.of(item).iter().map(|row| features.buckets()[*row as usize]).collect()
    };
    for round in 0..3 {
        let before = features.clone();
        let rows = RowRemap::of_rows(before.n_items(), |row| row % 3 != round);
        features.keep_items(&rows);
        assert_eq!(features.n_items(), rows.n_kept());
        rows.kept().for_each(|(old, new)| assert_eq!(named(&features, new), named(&before, old)));
        features.push(&[3, 49, 3]);
        assert_eq!(named(&features, rows.n_kept()), [3, 49]);
    }
}
