//! The trainer as a whole: eviction, and the tracking of changes, against trainers without either.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::Trainer;
use crate::config::{Config, layers};
use crate::event::{Interaction, Record};
use crate::kernel::Kernel;
use crate::position::Stream;
use crate::table::changes::ChangeMark;
use crate::table::rows::Rows;
use crate::trainer::state::State;

fn configuration(flags: &[&str]) -> Config {
    let small = ["train.batch=16", "model.dim=8", "context.length=4", "negatives.bank=32", "threads=1"];
    let flags: Vec<String> = small.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

fn trainer(config: &Config) -> Trainer {
    let mut trainer = Trainer::new(config, State::new(config, Kernel::detect())).unwrap();
    trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
    trainer
}

fn event(user: &str, item: &str, kind: &str, number: u64, features: &[String]) -> Record {
    let interaction = Interaction {
        user: user.into(),
        item: item.into(),
        kind: kind.into(),
        timestamp: number as i64 * 1_000,
        session: None,
        value: None,
        features: features.iter().map(|feature| feature.as_str().into()).collect(),
    };
    Record { stream: 0, offset: number, broker_timestamp: None, outcome: Ok(interaction) }
}

fn rows(rows: &Rows) -> Vec<Vec<u32>> {
    (0..rows.len()).map(|row| rows.row(row).iter().map(|number| number.to_bits()).collect()).collect()
}

/// Everything of a state that has a row for each user or refers to one, as text.
fn user_state(state: &mut State) -> BTreeMap<&'static str, String> {
    let frozen = state.freeze();
    let model = &frozen.model;
    let of_users = model.users.as_ref().map(|users| (rows(&users.values), rows(&users.sums)));
    BTreeMap::from([
        ("names", format!("{:?}", state.users.ids.iter().collect::<Vec<_>>())),
        ("histories", format!("{:?}", state.users.histories.iter().collect::<Vec<_>>())),
        ("lifecycle", format!("{:?}", state.users.lifecycle.last_active())),
        ("rows", format!("{of_users:?}")),
        ("hidden states", format!("{:?}", rows(&model.hidden_states))),
        ("samplers and objectives", format!("{:?}", (&frozen.live_items, &frozen.samplers, &frozen.objectives))),
        ("false negatives", serde_json::to_string(&frozen.false_negatives).unwrap()),
        ("item rows", format!("{:?}", rows(&model.items.values))),
    ])
}

/// One trainer has a user more, who never acts and whose row is evicted. From then on both must be the same in everything
/// that has rows of users: a structure that is not remapped keeps the row numbers of before.
#[test]
fn eviction_of_a_user_leaves_the_state_of_a_trainer_without_them() {
    let common = [
        "context.user_row=true",
        "memory.users.expire_events=160",
        "memory.users.cap=0",
        r#"negatives.noise=[{sampler="exposure"},{sampler="unigram"},{sampler="cooccurrence"}]"#,
        r#"negatives.exposure_kinds=["view"]"#,
        r#"positives.kinds=["click"]"#,
        "negatives.false_negative_share=1",
    ];
    for more in [["context.encoder=gru", "evaluate.repeat=false"], ["context.encoder=sum", "evaluate.repeat=true"]] {
        let config = configuration(&[&common[..], &more].concat());
        let [mut with, mut without] = [(); 2].map(|()| trainer(&config));
        with.state.add_user("idle");
        let mut random = Pcg64Mcg::seed_from_u64(3);
        for number in 0..1_200 {
            let user = format!("user-{}", random.random_range(0..7));
            let item = format!("item-{}", random.random_range(0..30));
            let kind = if random.random_range(0..4) == 0 { "view" } else { "click" };
            for trainer in [&mut with, &mut without] {
                trainer.ingest(event(&user, &item, kind, number, &[]));
            }
        }
        assert_eq!((with.state.evicted().users.expired, without.state.evicted().users.expired), (1, 0));
        assert!(with.state.users.ids.get("idle").is_none());
        let (with, without) = (user_state(&mut with.state), user_state(&mut without.state));
        for (part, expected) in &without {
            assert_eq!(&with[part], expected, "{more:?}: {part}");
        }
    }
}

/// The vector of each item as it is served, by name.
fn served(state: &State) -> BTreeMap<String, Vec<u32>> {
    let mut vector = vec![0.0; state.model.dim()];
    let mut serve = |(item, name): (usize, &str)| {
        state.model.served(item, &mut vector);
        (name.to_owned(), vector.iter().map(|number| number.to_bits()).collect())
    };
    state.items.ids.iter().enumerate().map(&mut serve).collect()
}

#[test]
fn changes_match_a_comparison_of_all_embeddings() {
    // Items that share features move together, so fewer of them rest.
    for (features, least_spared) in [("features.buckets=0", 100), ("features.buckets=64", 50)] {
        let flags = [features, "memory.items.cap=120", "evaluate.share=0", "negatives.bank=16", "model.init_scale=0.4"];
        let config = configuration(&flags);
        let [mut tracked, mut plain] = [(); 2].map(|()| trainer(&config));
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let (mut before, mut since_start) = (BTreeMap::new(), None);
        let (mut n_removed, mut n_spared) = (0, 0);
        for round in 0..60u64 {
            for number in round * 32..(round + 1) * 32 {
                let user = format!("user-{}", random.random_range(0..20));
                // A window that moves on, so that items are evicted, and some of them come back.
                let newest = 60 + round * 4;
                let item = newest - random.random_range(0..60u64.min(newest)) * random.random_range(0..2);
                let features = [format!("group={}", item % 40)];
                for trainer in [&mut tracked, &mut plain] {
                    trainer.ingest(event(&user, &format!("item-{item}"), "click", number, &features));
                }
            }
            if round == 2 {
                tracked.state.track_changes();
                since_start = tracked.state.changes_since(ChangeMark::START);
            }
            if round % 3 != 2 {
                continue;
            }
            let changes = tracked.state.drain_changes().expect("changes are tracked");
            let now = served(&tracked.state);
            let changed: Vec<&str> = changes.changed.iter().map(|row| tracked.state.items.ids.name(*row)).collect();
            for (name, vector) in &now {
                let differs = before.get(name) != Some(vector);
                assert!(!differs || changed.contains(&name.as_str()), "{features}: {name} in round {round}");
            }
            n_spared += now.len() - changed.len();
            for name in before.keys() {
                let is_gone = !now.contains_key(name);
                assert_eq!(changes.removed.iter().any(|removed| removed == name), is_gone, "{features}: {name}");
            }
            assert!(changes.removed.iter().all(|name| !now.contains_key(name.as_str())));
            n_removed += changes.removed.len();
            before = now;
        }
        assert_eq!(
            since_start.map(|changes| changes.changed.len() > 30),
            Some(true),
            "all items changed since the start"
        );
        // The comparison says something only where items go, and where some rest.
        assert!(n_removed > 50 && n_spared > least_spared, "{features}: {n_removed} {n_spared}");
        assert_eq!(served(&tracked.state), served(&plain.state), "{features}");
    }
}

/// Where weights do not move, nothing that a ranking goes by lags: how the stream is cut into batches must not matter.
#[test]
fn ranking_of_an_event_does_not_depend_on_the_batch_it_is_in() {
    let figures = |half_life: &str, repeat: &str, batch: &str| {
        let settings = [
            half_life,
            repeat,
            batch,
            "train.learning_rate=1e-30",
            "evaluate.popularity_half_life=60",
            "model.popularity_init=2",
        ];
        let mut trainer = trainer(&configuration(&settings));
        let mut random = Pcg64Mcg::seed_from_u64(11);
        for number in 0..3_000u64 {
            let user = format!("user-{}", random.random_range(0..60));
            // Some items are common, some are of the hour, and a third is new.
            let item = match random.random_range(0..3) {
                0 => random.random_range(0..40),
                1 => 1_000 + number / 150 * 10 + random.random_range(0..10u64),
                _ => 10_000 + number,
            };
            trainer.ingest(event(&user, &format!("item-{item}"), "click", number, &[]));
        }
        trainer.finish();
        let evaluation = trainer.state.progress.evaluation;
        let all = [evaluation.model(), evaluation.popularity(), evaluation.own_history()];
        (evaluation.events, all.map(|ranker| ranker.map(|ranker| [ranker.hit_rate, ranker.mrr])))
    };
    // The scales of q̂ are those of a frame: what that comes to is seen where they move.
    for (half_life, tolerance) in [("100", 0.01), ("10m", 0.01), ("inf", 1e-3), ("auto", 0.04)] {
        let half_life = format!("negatives.half_life={half_life}");
        for repeat in ["evaluate.repeat=true", "evaluate.repeat=false"] {
            let (events, reference) = figures(&half_life, repeat, "train.batch=2");
            assert!(events > 2_500 && reference[0].is_some_and(|[hit_rate, _]| hit_rate > 0.1), "{reference:?}");
            for batch in ["train.batch=16", "train.batch=300", "train.batch=2500"] {
                let (same, found) = figures(&half_life, repeat, batch);
                assert_eq!(same, events);
                for (place, (found, reference)) in found.iter().zip(&reference).enumerate() {
                    let tolerance = if place == 0 { tolerance } else { 1e-12 };
                    let both = found.iter().flatten().zip(reference.iter().flatten());
                    let differ = both.clone().find(|(found, reference)| (*found - *reference).abs() > tolerance);
                    assert_eq!(differ, None, "{half_life} {repeat} {batch}, ranker {place}");
                    assert_eq!(found.is_some(), reference.is_some());
                }
            }
        }
    }
}
