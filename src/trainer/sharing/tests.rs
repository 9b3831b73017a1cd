//! Workers that share a model, against each other and against one that had all the events.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::config::{Config, layers};
use crate::event::{Interaction, Record};
use crate::kernel::Kernel;
use crate::position::Stream;
use crate::share::{Delta, MovePrecision, SharedTable};
use crate::trainer::Trainer;
use crate::trainer::state::State;

fn configuration(flags: &[&str]) -> Config {
    let small = ["train.batch=16", "model.dim=8", "context.length=4", "negatives.bank=32", "threads=1"];
    let flags: Vec<String> = small.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

fn worker(config: &Config, name: &str, precision: MovePrecision) -> Trainer {
    let mut trainer = Trainer::new(config, State::new(config, Kernel::detect())).unwrap();
    trainer.set_streams(&[Stream { name: name.to_owned(), label: name.to_owned() }]);
    trainer.share(name, precision, 1.0);
    trainer
}

/// `n` events from number `from` on, of a few users and items, the fewer the lower `salt`.
fn feed(trainer: &mut Trainer, salt: u64, from: u64, n: u64) {
    let mut random = Pcg64Mcg::seed_from_u64(salt ^ from << 8);
    for number in from..from + n {
        let item = random.random_range(0..20 + salt);
        let interaction = Interaction {
            user: format!("user-{salt}-{}", random.random_range(0..9)).into(),
            item: format!("item-{item}").into(),
            kind: "click".into(),
            timestamp: number as i64 * 1_000,
            session: None,
            value: None,
            features: vec![format!("colour {}", item % 5).into()],
        };
        let outcome = Ok(interaction);
        trainer.ingest(Record { stream: 0, offset: number, broker_timestamp: None, outcome });
    }
}

/// The rows of item `name` in all tables, sums included.
fn rows_of(trainer: &mut Trainer, name: &str) -> Vec<f32> {
    let item = trainer.state.items.ids.get(name).expect("a row") as usize;
    let of_items = trainer.state.model.shared_tables_mut().filter(|(table, _)| *table != SharedTable::Features);
    of_items
        .flat_map(|(_, rows)| rows.values.row(item).iter().chain(rows.sums.row(item)).copied().collect::<Vec<_>>())
        .collect()
}

fn parameters(trainer: &mut Trainer) -> Vec<f32> {
    let State { model, .. } = &mut trainer.state;
    model.parameters_mut().flat_map(|(_, parameters)| [&parameters.values[..], &parameters.sums].concat()).collect()
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs() / a.abs().max(b.abs()).max(1e-2)).fold(0.0, f32::max)
}

/// Holds that two workers have the same model and the same counts.
fn assert_alike(one: &mut Trainer, other: &mut Trainer, tolerance: f32, context: &str) {
    let names: Vec<String> = one.state.items.ids.iter().map(str::to_owned).collect();
    assert_eq!(names.len(), other.state.items.ids.len(), "{context}");
    for name in &names {
        let difference = largest_difference(&rows_of(one, name), &rows_of(other, name));
        assert!(difference < tolerance, "{context}: {name} differs by {difference}");
        let count = |trainer: &Trainer| {
            let item = trainer.state.items.ids.get(name).unwrap();
            trainer.state.items.occurrences[item as usize]
        };
        assert_eq!(count(one), count(other), "{context}: {name}");
    }
    let difference = largest_difference(&parameters(one), &parameters(other));
    assert!(difference < tolerance, "{context}: learned numbers differ by {difference}");
    for name in &names {
        let mut vectors = [vec![0.0; 8], vec![0.0; 8]];
        for (trainer, vector) in [&mut *one, &mut *other].into_iter().zip(&mut vectors) {
            trainer.state.model.served(trainer.state.items.ids.get(name).unwrap() as usize, vector);
        }
        assert!(largest_difference(&vectors[0], &vectors[1]) < 20.0 * tolerance, "{context}: {name} as served");
    }
}

#[test]
fn delta_is_due_while_the_model_is_young_and_where_interest_fades_fast() {
    for (half_life, is_due_later) in [(40, true), (100_000, false)] {
        let config = configuration(&[&format!("negatives.half_life={half_life}")]);
        let mut trainer = worker(&config, "a", MovePrecision::F32);
        assert!(!trainer.is_delta_due(), "nothing was read");
        feed(&mut trainer, 1, 0, 16);
        assert!(trainer.is_delta_due(), "all that there is is not sent");
        for begin in 1..1_000 {
            feed(&mut trainer, 1, begin * 16, 16);
            trainer.take_delta();
        }
        assert!(!trainer.is_delta_due(), "all is sent");
        // Less than one event in two hundred, but more than half of 40.
        feed(&mut trainer, 1, 16_000, 48);
        assert_eq!(trainer.is_delta_due(), is_due_later, "half-life {half_life}");
    }
}

fn through_bytes(delta: &Delta, precision: MovePrecision) -> Delta {
    let read = Delta::decode(&delta.encode(precision)).unwrap();
    assert_eq!(&read, delta);
    read
}

/// Everything that a model may have, in a few turns.
const KINDS: [&[&str]; 5] = [
    &[],
    &["evaluate.repeat=true", "train.optimizer=rowwise_adagrad", "cooccurrence.plain_cosine=true"],
    &["features.buckets=32", "context.context_rows=false", "negatives.bank_vectors=frozen"],
    &["context.encoder=gru", "context.user_row=true", "objective=cpc"],
    &[
        r#"negatives.noise=[{sampler="unigram"},{sampler="cooccurrence"},{sampler="adaptive"}]"#,
        "negatives.live_events=300",
        r#"objective=[{kind="infonce"},{kind="views",weight=0.1}]"#,
    ],
];

#[test]
fn workers_that_send_each_other_everything_have_one_model() {
    for flags in KINDS {
        for precision in [MovePrecision::F32, MovePrecision::Bf16] {
            let config = configuration(flags);
            let mut workers = [0, 1, 2].map(|number| worker(&config, &format!("w{number}"), precision));
            for round in 0..8 {
                let deltas: Vec<Option<Delta>> = workers
                    .iter_mut()
                    .zip(0..)
                    .map(|(worker, salt)| {
                        feed(worker, salt, round * 48, 48);
                        worker.take_delta().map(|delta| through_bytes(&delta, precision))
                    })
                    .collect();
                for (place, worker) in workers.iter_mut().enumerate() {
                    let others = deltas.iter().enumerate().filter(|(other, _)| *other != place);
                    let others: Vec<&Delta> = others.filter_map(|(_, delta)| delta.as_ref()).collect();
                    // One at a time, or all together: it is the same.
                    match round % 2 {
                        0 => worker.merge(&others),
                        _ => others.into_iter().for_each(|delta| worker.merge(&[delta])),
                    }
                }
            }
            let [one, two, three] = &mut workers;
            assert_alike(one, two, 1e-4, &format!("{flags:?} {precision:?}"));
            assert_alike(one, three, 1e-4, &format!("{flags:?} {precision:?}"));
            let sum: u64 = one.state.items.occurrences.iter().sum();
            assert_eq!(sum, 3 * 8 * 48);
            assert_eq!(one.state.progress.group_positives(), 3 * 8 * 48);
            // Counts decay by the group's events: what came often is as frequent to all.
            for name in ["item-1", "item-7"] {
                let of = |trainer: &Trainer| {
                    let item = trainer.state.items.ids.get(name).unwrap();
                    trainer.state.negatives.frequencies.frequency(item)
                };
                assert!((of(one) / of(two) - 1.0).abs() < 0.05, "{} and {}", of(one), of(two));
            }
            let shares = |trainer: &Trainer| trainer.state.negatives.frequencies.half_life();
            assert!((shares(one) / shares(three) - 1.0).abs() < 0.2, "{} and {}", shares(one), shares(three));
            let bank = |trainer: &Trainer| -> Vec<String> {
                let entries = trainer.state.negatives.bank.entries().iter();
                let mut names: Vec<String> =
                    entries.map(|entry| trainer.state.items.ids.name(entry.item).to_owned()).collect();
                names.sort_unstable();
                names
            };
            // But for where it begins: clocks differ by less than a flush.
            let (banks, mut common) = ([bank(one), bank(two)], 0);
            let mut rest = banks[1].clone();
            for name in &banks[0] {
                if let Some(place) = rest.iter().position(|other| other == name) {
                    rest.swap_remove(place);
                    common += 1;
                }
            }
            assert!(banks[0].len() == 32 && common >= 26, "{banks:?}");
        }
    }
}

#[test]
fn sharing_with_nobody_changes_nothing() {
    for flags in KINDS {
        let config = configuration(flags);
        let [mut shared, mut plain] = ["w0", "w1"].map(|name| worker(&config, name, MovePrecision::F32));
        plain.recorder = None;
        for trainer in [&mut shared, &mut plain] {
            feed(trainer, 3, 0, 400);
        }
        for name in ["item-1", "item-11"] {
            let bits = |rows: Vec<f32>| rows.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(rows_of(&mut shared, name)), bits(rows_of(&mut plain, name)), "{flags:?}");
        }
        let before = rows_of(&mut shared, "item-1");
        assert!(shared.unshared_bytes() > 0);
        let delta = shared.take_delta().expect("it has learnt something");
        assert_eq!((delta.sequence, delta.positives, delta.sources[0].until), (0, 400, 400));
        // Taking a delta rounds by an ulp, and leaves nothing to be sent.
        assert!(largest_difference(&rows_of(&mut shared, "item-1"), &before) < 1e-6);
        assert!(shared.take_delta().is_none());
        assert_eq!(shared.group_clock().map(|clock| (clock.now(), clock.pace())), Some((400.0, 1.0)));
    }
}

#[test]
fn moves_add_up_and_are_divided_by_nobody() {
    let config = configuration(&[]);
    let [mut one, mut two, mut listener] = ["w0", "w1", "w2"].map(|name| worker(&config, name, MovePrecision::F32));
    feed(&mut one, 0, 0, 64);
    feed(&mut two, 1, 0, 64);
    let deltas = [one.take_delta().unwrap(), two.take_delta().unwrap()];
    listener.merge(&[&deltas[0], &deltas[1]]);
    for name in ["item-2", "item-5"] {
        let mut expected = rows_of(&mut worker_that_knows(&config, name), name);
        for delta in &deltas {
            let place = delta.items.iter().position(|item| item.name == name).unwrap() as u32;
            let mut at = 0;
            for table in [SharedTable::Items, SharedTable::Contexts] {
                let rows = delta.rows.iter().find(|rows| rows.table == table).unwrap();
                if let Some((_, moves)) = rows.iter().find(|(key, _)| *key == place) {
                    expected[at..].iter_mut().zip(moves).for_each(|(number, part)| *number += part);
                }
                at += rows.width;
            }
        }
        assert_eq!(rows_of(&mut listener, name), expected, "{name}");
    }
}

/// A worker that has a row for `name`, and knows nothing of it.
fn worker_that_knows(config: &Config, name: &str) -> Trainer {
    let mut trainer = worker(config, "nobody", MovePrecision::F32);
    trainer.state.add_item(name);
    trainer
}

#[test]
fn rows_that_left_leave_everywhere() {
    // One worker has room for fewer items, so that it is the one to choose; the others follow.
    let [small, large] = ["memory.items.cap=40", "memory.items.cap=0"].map(|cap| configuration(&[cap]));
    let mut workers = [
        worker(&small, "w0", MovePrecision::F32),
        worker(&large, "w1", MovePrecision::F32),
        worker(&large, "w2", MovePrecision::F32),
    ];
    let mut evicted = 0;
    for round in 0..12 {
        // In the order of a log: who flushes has received all that was said before.
        for place in 0..3 {
            feed(&mut workers[place], 30 * place as u64, round * 16, 16);
            let Some(delta) = workers[place].take_delta() else { continue };
            evicted += delta.evicted.len();
            for (_, other) in workers.iter_mut().enumerate().filter(|(other, _)| *other != place) {
                other.merge(&[&delta]);
            }
        }
    }
    assert!(evicted > 20, "{evicted}");
    let [one, two, three] = &mut workers;
    assert_alike(two, three, 1e-4, "the followers");
    assert_alike(one, two, 1e-4, "the one that chose, and a follower");
}

#[test]
fn eviction_spares_what_others_have_not_received() {
    let config = configuration(&[]);
    let [mut one, mut two] = ["w0", "w1"].map(|name| worker(&config, name, MovePrecision::F32));
    feed(&mut one, 0, 0, 64);
    let received = one.take_delta().unwrap();
    two.merge(&[&received]);
    // The second has learnt more of an item when it learns that the item has left.
    feed(&mut two, 0, 64, 32);
    let name = two.state.items.ids.name(two.recorder.as_ref().unwrap().events[0].item).to_owned();
    let evicts = Delta { worker: "w0".into(), sequence: 1, evicted: vec![name.as_str().into()], ..Delta::default() };
    two.merge(&[&evicts]);
    let unreceived = two.take_delta().unwrap();
    let events = unreceived.events.iter().filter(|event| unreceived.items[event.item as usize].name == name).count();
    assert!(events > 0);
    // A third receives all of it in the order of the log.
    let mut third = worker(&config, "w2", MovePrecision::F32);
    [&received, &evicts, &unreceived].into_iter().for_each(|delta| third.merge(&[delta]));
    assert_alike(&mut two, &mut third, 1e-4, "second and third");
    // Or all of it at once.
    let mut fourth = worker(&config, "w3", MovePrecision::F32);
    fourth.merge(&[&received, &evicts, &unreceived]);
    assert_alike(&mut third, &mut fourth, 1e-4, "third and fourth");
    let item = third.state.items.ids.get(&name).unwrap();
    assert_eq!(third.state.items.occurrences[item as usize], events as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However deltas are put in order and together, what they add up to is the same.
    #[test]
    fn order_of_merging_does_not_matter(order in Just((0..4usize).collect::<Vec<_>>()).prop_shuffle(), cut in 0usize..4) {
        let config = configuration(&[]);
        let deltas: Vec<Delta> = (0..4u64).map(|number| {
            let mut worker = worker(&config, &format!("w{number}"), MovePrecision::F32);
            feed(&mut worker, number, 0, 40 + 8 * number);
            worker.finish();
            worker.take_delta().unwrap()
        }).collect();
        let mut straight = worker(&config, "straight", MovePrecision::F32);
        straight.merge(&deltas.iter().collect::<Vec<_>>());
        let mut shuffled = worker(&config, "shuffled", MovePrecision::F32);
        let all: Vec<&Delta> = order.iter().map(|place| &deltas[*place]).collect();
        [&all[..cut], &all[cut..]].into_iter().for_each(|some| shuffled.merge(some));
        assert_alike(&mut straight, &mut shuffled, 1e-5, "straight and shuffled");
        let total: u64 = straight.state.items.occurrences.iter().sum();
        prop_assert_eq!(total, (0..4).map(|number| 40 + 8 * number).sum::<u64>());
    }
}
