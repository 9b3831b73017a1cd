//! What the index finds, against a look at all items.

use std::sync::Arc;

use crate::config::Config;
use crate::event::{Interaction, Record};
use crate::kernel::Kernel;
use crate::position::Stream;
use crate::recommend::view::{FrozenView, MeasuredSearch, NearItem, StateView};
use crate::recommend::{ListRules, Recommendation, Visitor, Wish};
use crate::table::rows::{GOLDEN, split_mix};
use crate::trainer::Trainer;
use crate::trainer::state::State;

const KINDS: u64 = 60;
const USERS: u64 = 150;
const AT: i64 = 1_700_000_100_000;

fn draw(of: u64) -> u64 {
    split_mix(of.wrapping_mul(GOLDEN))
}

/// A trainer with `n` items of several kinds, whose vectors lie around one direction for each kind, and some events.
fn trainer(n: u64) -> Trainer {
    trainer_of(16, n)
}

/// The same with vectors of `dim` numbers.
fn trainer_of(dim: usize, n: u64) -> Trainer {
    let settings = [format!("model.dim={dim}"), "evaluate.share=0.0".to_owned(), "threads=1".to_owned()];
    let config = Config::with_settings(&settings).unwrap();
    let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect())).unwrap();
    trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
    for item in 0..n {
        trainer.state.add_item(&format!("i{item}"));
        let number = |of: u64, place: usize| (draw(64 * of + place as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let row = trainer.state.model.items.values.row_mut(item as usize);
        for (place, value) in row.iter_mut().enumerate() {
            *value = number(1_000_000 + item % KINDS, place) + 0.7 * number(item, place);
        }
    }
    trainer.state.model.refresh_all_norms();
    for offset in 0..2_000 {
        trainer.ingest(record(offset, n));
    }
    trainer.finish();
    trainer
}

fn record(offset: u64, n: u64) -> Record {
    let user = draw(3 * offset) % USERS;
    // Of the user's kind, and more often one of the first.
    let kind = draw(5_000 + user) % KINDS;
    let place = draw(7 * offset) % (1 + draw(11 * offset) % (n / KINDS));
    let event = Interaction {
        user: format!("u{user}").into(),
        item: format!("i{}", place * KINDS + kind).into(),
        kind: "click".into(),
        timestamp: 1_700_000_000_000 + offset as i64,
        session: None,
        value: None,
        features: Vec::new(),
    };
    Record { stream: 0, offset, broker_timestamp: None, outcome: Ok(event) }
}

fn view(trainer: &mut Trainer) -> StateView {
    FrozenView::of(&mut trainer.state, "test".into(), None, None).ready()
}

fn lists(view: &StateView, k: usize) -> Vec<Vec<Recommendation>> {
    let rules = ListRules { k, at: AT, excluded: &[3, 60, 120], candidates: None, with_own: false };
    let wishes: Vec<Wish<'_>> = (0..USERS as u32).map(|user| Wish { visitor: Visitor::User(user), rules }).collect();
    view.recommender().recommend_each(&wishes)
}

/// What the index finds of lists of 20 for the queries of late.
fn measure(view: &StateView) -> Vec<MeasuredSearch> {
    let mut measurement = view.begin_measurement(20).unwrap();
    loop {
        if let Some(measured) = view.go_on_measuring(&mut measurement, 3) {
            return measured;
        }
    }
}

/// The share of the items of `exact` lists that are in the `found` ones.
fn recall(exact: &[Vec<Recommendation>], found: &[Vec<Recommendation>]) -> f64 {
    let (mut both, mut all) = (0, 0);
    for (exact, found) in exact.iter().zip(found) {
        all += exact.len();
        both += exact.iter().filter(|row| found.iter().any(|found| found.item == row.item)).count();
    }
    both as f64 / all as f64
}

#[test]
fn endless_reach_finds_the_exact_lists() {
    [16, 15].into_iter().for_each(check_endless_reach);
}

fn check_endless_reach(dim: usize) {
    let mut trainer = trainer_of(dim, 6_000);
    let mut view = view(&mut trainer);
    let exact = lists(&view, 20);
    let index = Arc::new(view.index_of_all());
    // Nothing that is beyond 8 deviations of its cluster is among so few.
    while !index.learn(0.0, 1.0) {}
    view.attach(Arc::clone(&index));
    assert!(view.index().is_some());
    // The same scores to the bit, in the same order.
    assert_eq!(lists(&view, 20), exact);
    assert_eq!(lists(&view, 1), exact.iter().map(|list| list[..1].to_vec()).collect::<Vec<_>>());
}

#[test]
fn index_finds_nearly_all_with_a_look_at_few_and_learns_how_far_to_look() {
    let mut trainer = trainer(12_000);
    let mut view = view(&mut trainer);
    let exact = lists(&view, 20);
    let index = Arc::new(view.index_of_all());
    view.attach(Arc::clone(&index));
    for _ in 0..20 {
        lists(&view, 20);
        for measured in measure(&view) {
            assert!(measured.of == 20 && measured.found <= 20);
            index.learn(measured.found as f32 / 20.0, 0.98);
        }
    }
    let found = recall(&exact, &lists(&view, 20));
    assert!(found > 0.96, "{found}");
    let looked_at: Vec<usize> = measure(&view).iter().map(|measured| measured.n_looked_at).collect();
    let mean = looked_at.iter().sum::<usize>() / looked_at.len();
    assert!(mean < 6_000, "{mean} of 12000 items");
}

#[test]
fn items_and_events_after_the_index_are_found() {
    let mut trainer = trainer(6_000);
    let index = Arc::new(view(&mut trainer).index_of_all());
    while !index.learn(0.0, 1.0) {}
    trainer.state.add_item("new");
    for offset in 2_000..6_000 {
        let mut record = record(offset, 6_000);
        let event = record.outcome.as_mut().unwrap();
        // Some never had it: whoever did does not get it again.
        if offset % 3 == 0 && event.user.ends_with(['0', '2', '4']) {
            event.item = "new".into();
        }
        trainer.ingest(record);
    }
    trainer.finish();
    let mut view = view(&mut trainer);
    let exact = lists(&view, 20);
    view.attach(index);
    assert!(view.index().is_some());
    let found = lists(&view, 20);
    // Vectors have moved since.
    let share = recall(&exact, &found);
    assert!(share > 0.97, "{share}");
    let new = view.items().get("new").unwrap();
    let lists_with_new = |lists: &[Vec<Recommendation>]| lists.iter().flatten().filter(|row| row.item == new).count();
    assert!(lists_with_new(&found) > 0, "it is in some list");
    assert_eq!(lists_with_new(&found), lists_with_new(&exact));
}

#[test]
fn endless_reach_finds_the_nearest_items() {
    let mut trainer = trainer(6_000);
    let mut view = view(&mut trainer);
    let asked = [(0, 12), (17, 3), (5_999, 1)];
    let exact = view.neighbors(&asked);
    let index = Arc::new(view.index_of_all());
    while !index.learn(0.0, 1.0) {}
    view.attach(index);
    for ((exact, found), (_, k)) in exact.iter().zip(view.neighbors(&asked)).zip(asked) {
        let items = |list: &[NearItem]| list.iter().map(|near| near.item).collect::<Vec<u32>>();
        assert_eq!(items(&found), items(exact));
        assert_eq!(found.len(), k);
        assert!(exact.iter().zip(&found).all(|(exact, found)| (exact.cosine - found.cosine).abs() < 1e-5));
    }
}

#[test]
fn index_of_other_rows_is_not_attached() {
    let (mut few, mut many) = (trainer(2_400), trainer(6_000));
    let index = Arc::new(view(&mut many).index_of_all());
    let mut view = view(&mut few);
    view.attach(index);
    assert!(view.index().is_none(), "it has more items than there are");
}
