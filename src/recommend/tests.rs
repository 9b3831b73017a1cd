//! The promise: lists are the evaluator's rankings, for every event of a stream.

use super::view::FrozenView;
use super::{ListRules, Recommendation, Recommender, Visitor, Wish};
use crate::config::Config;
use crate::evaluate::K;
use crate::event::Record;
use crate::kernel::Kernel;
use crate::position::Stream;
use crate::synth::{EventGenerator, SynthConfig};
use crate::trainer::Trainer;
use crate::trainer::state::State;

/// A trainer that learns every event by itself.
fn trainer(settings: &[&str]) -> Trainer {
    let small = ["model.dim=16", "negatives.bank=64", "threads=2"];
    let settings: Vec<String> = small.iter().chain(settings).map(|set| (*set).to_owned()).collect();
    let config = Config::with_settings(&settings).unwrap();
    let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect())).unwrap();
    trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
    trainer
}

fn records(n: usize) -> impl Iterator<Item = Record> {
    let mut generator = EventGenerator::new(SynthConfig { users: 120, items: 900, ..SynthConfig::default() });
    (0..n as u64).map(move |offset| Record {
        stream: 0,
        offset,
        broker_timestamp: None,
        outcome: Ok(generator.next_event()),
    })
}

/// The rank of `item` by scores, ties counting half; infinite where it is certain to be beyond the first [`K`].
fn rank(list: &[Recommendation], item: u32) -> f64 {
    let target = list.iter().find(|other| other.item == item).expect("every item is in the list").score;
    let above = list.iter().filter(|other| other.score > target).count();
    let equal = list.iter().filter(|other| other.score == target).count() - 1;
    let rank = above as f64 + equal as f64 / 2.0;
    if above >= K { f64::INFINITY } else { rank }
}

/// Before each event: the list of its user. After it: the rank that the evaluator gave its item.
fn agrees(settings: &[&str]) {
    let mut trainer = trainer(settings);
    let (mut compared, mut hits) = (0, 0);
    for record in records(4_000) {
        let event = record.outcome.clone().unwrap();
        let state = &mut trainer.state;
        state.model.refresh_all();
        let (user, item) = (state.users.ids.get(&event.user), state.items.ids.get(&event.item));
        let recommender = Recommender::new(state);
        let asked = user.zip(item).filter(|(user, _)| recommender.knows(&Visitor::User(*user)));
        let list = asked.map(|(user, item)| {
            // An item that the user had has a rank of its own, though it would not be recommended.
            let own = &state.users.histories.get(user).own;
            let rules = ListRules { k: 1 << 20, at: event.timestamp, excluded: &[], candidates: None, with_own: false };
            let [list] = &mut recommender.recommend(&[Visitor::User(user)], rules)[..] else { panic!("one list") };
            (std::mem::take(list), item, own.contains(&item))
        });
        trainer.ingest(record);
        assert!(trainer.finish().is_some(), "a batch is one event");
        let ranked = trainer.ranked();
        if let Some((list, item, false)) = list {
            let expected = ranked[0].model.expect("the item is known");
            let found = rank(&list, item);
            // Beyond the first K the evaluator may have stopped counting.
            assert!(found == expected || (found >= K as f64 && expected >= K as f64), "{found}, not {expected}");
            compared += 1;
            hits += usize::from(expected < K as f64);
        }
    }
    assert!(compared > 1_000 && hits > 20, "{compared} compared, {hits} hits");
}

#[test]
fn lists_are_the_evaluators_rankings() {
    agrees(&[]);
}

#[test]
fn lists_are_the_evaluators_rankings_where_items_recur() {
    agrees(&["evaluate.repeat=true"]);
}

#[test]
fn lists_are_the_evaluators_rankings_with_rows_of_users_and_biases() {
    agrees(&["context.user_row=true", "context.context_rows=true", r#"objective="nce""#]);
}

#[test]
fn lists_are_the_evaluators_rankings_with_a_recurrent_encoder() {
    agrees(&[r#"context.encoder="gru""#, "evaluate.repeat=true"]);
}

/// A state that has learnt something.
fn learnt(settings: &[&str]) -> Trainer {
    let mut trainer = trainer(settings);
    for record in records(3_000) {
        trainer.ingest(record);
    }
    trainer.state.model.refresh_all();
    trainer
}

const RULES: ListRules<'_> =
    ListRules { k: 10, at: 1_700_000_000_000, excluded: &[], candidates: None, with_own: false };

#[test]
fn visitors_together_get_what_each_gets_alone() {
    let trainer = learnt(&["evaluate.repeat=true"]);
    let recommender = Recommender::new(&trainer.state);
    let mut visitors: Vec<Visitor> = (0..70).map(Visitor::User).collect();
    visitors.insert(3, Visitor::Session(Vec::new()));
    visitors.insert(9, Visitor::Session(vec![4, 5, 4]));
    let together = recommender.recommend(&visitors, RULES);
    for (visitor, list) in visitors.iter().zip(&together) {
        assert_eq!(&recommender.recommend(std::slice::from_ref(visitor), RULES)[0], list, "{visitor:?}");
        assert_eq!(list.len(), if recommender.knows(visitor) { RULES.k } else { 0 });
    }
}

#[test]
fn rules_leave_out_what_they_exclude_and_keep_the_order_of_the_rest() {
    for repeat in ["evaluate.repeat=true", "evaluate.repeat=false"] {
        let trainer = learnt(&[repeat]);
        let recommender = Recommender::new(&trainer.state);
        let visitors = [Visitor::User(1), Visitor::Session(vec![7, 8])];
        let whole = recommender.recommend(&visitors, ListRules { k: 1 << 20, ..RULES });
        for (place, list) in whole.iter().enumerate() {
            let of = |rules| recommender.recommend(&visitors, rules)[place].clone();
            assert_eq!(of(RULES), list[..RULES.k]);
            let excluded = [list[0].item, list[2].item];
            let expected: Vec<_> = list.iter().filter(|row| !excluded.contains(&row.item)).take(10).copied().collect();
            assert_eq!(of(ListRules { excluded: &excluded, ..RULES }), expected);
            let candidates: Vec<u32> = list.iter().step_by(5).map(|row| row.item).rev().collect();
            let expected: Vec<_> = list.iter().step_by(5).take(10).copied().collect();
            assert_eq!(of(ListRules { candidates: Some(&candidates), ..RULES }), expected);
            for row in list {
                let sum = row.similarity + row.popularity + row.repetition + row.cooccurrence;
                assert!((sum - row.score).abs() <= 1e-4 * row.score.abs().max(1.0), "{row:?}");
            }
        }
        let had = whole[1].iter().any(|row| [7, 8].contains(&row.item));
        assert_eq!(had, repeat == "evaluate.repeat=true");
    }
}

/// Readers get what the state says, whatever becomes of it meanwhile; and each visitor by rules of their own.
#[test]
fn views_answer_as_the_state_they_were_taken_of() {
    for settings in [&[][..], &["evaluate.repeat=true", "features.buckets=64"], &["context.encoder=gru"]] {
        let mut trainer = trainer(settings);
        for record in records(3_000) {
            trainer.ingest(record);
        }
        trainer.finish();
        let mut earlier = None;
        for more in [40, 400, 1] {
            let state = &mut trainer.state;
            state.model.refresh_all();
            let visitors: Vec<Visitor> = (0..40).map(Visitor::User).chain([Visitor::Session(vec![7, 8, 7])]).collect();
            let rules_of = |place: usize| match place % 3 {
                0 => RULES,
                1 => ListRules { k: 3, excluded: &[1, 2, 3], ..RULES },
                _ => ListRules { candidates: Some(&[5, 9, 200, 4]), at: RULES.at + 86_400_000, ..RULES },
            };
            let recommender = Recommender::new(state);
            let list = |(place, visitor): (usize, &Visitor)| {
                recommender.recommend(std::slice::from_ref(visitor), rules_of(place)).pop().unwrap()
            };
            let expected: Vec<_> = visitors.iter().enumerate().map(list).collect();
            let of_item = recommender.n_items() as u32 - 1;
            let name = state.items.ids.name(of_item).to_owned();
            let view = FrozenView::of(state, "test".into(), earlier, None);
            for record in records(3_000 + more).skip(3_000) {
                trainer.ingest(record);
            }
            trainer.finish();
            let view = view.ready();
            let wish = |(place, visitor): (usize, &Visitor)| Wish { visitor: visitor.clone(), rules: rules_of(place) };
            let wishes: Vec<Wish<'_>> = visitors.iter().enumerate().map(wish).collect();
            assert_eq!(view.recommender().recommend_each(&wishes), expected);
            assert_eq!(view.items().get(&name), Some(of_item));
            let near = view.neighbors(&[(of_item, 5), (3, 4)]);
            assert!(near[0].len() == 5 && near[1].iter().all(|near| near.item != 3 && near.cosine <= 1.001));
            earlier = Some(view.into_remains());
            let cooccurrences = &mut trainer.state.items.cooccurrences;
            assert!(cooccurrences.thaw(&mut usize::MAX.clone()), "what is left of a view shares nothing");
        }
    }
}

#[test]
fn short_lists_are_the_heads_of_long_ones() {
    // Few of many items are popular, and of most little was learnt: chunks of the table are passed over.
    let mut trainer = trainer(&["evaluate.share=0.0"]);
    for item in 0..6_000 {
        trainer.state.add_item(&format!("item-{item}"));
    }
    for record in records(3_000) {
        trainer.ingest(record);
    }
    let state = &trainer.state;
    let recommender = Recommender::new(state);
    let visitors: Vec<Visitor> = (0..state.users.ids.len() as u32).map(Visitor::User).collect();
    let at = state.negatives.frequencies.newest().unwrap_or_default();
    let rules = ListRules { k: 1 << 20, at, excluded: &[], candidates: None, with_own: false };
    let all = recommender.recommend(&visitors, rules);
    for k in [1, 20, 300] {
        let best = recommender.recommend(&visitors, ListRules { k, ..rules });
        for (best, all) in best.iter().zip(&all) {
            assert_eq!(best[..], all[..k.min(all.len())]);
        }
        // Also of one visitor alone, whom no other's list keeps from passing over chunks.
        let alone = recommender.recommend(&visitors[..1], ListRules { k, ..rules });
        assert_eq!(alone[0], best[0]);
    }
}
