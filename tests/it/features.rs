//! Items with features: a new one is placed by them, from the catalogue or from events, whatever the threads and the
//! share that is ranked; what is wrong with a catalogue is told before anything is touched.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use negstream::event::Interaction;

use crate::support::{Place, events, lists, read, run, set, text, times, topic, tree, write_columns, write_log};

/// The items of `events`, each once.
fn items(events: &[Interaction]) -> Vec<&str> {
    events.iter().map(|event| event.item.as_str()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn write_catalogue(place: &Place, name: &str, items: &[&str], columns: Vec<(&str, ArrayRef)>) {
    let mut all = vec![("item_id", text(items.iter().map(|item| Some(*item))))];
    all.extend(columns);
    write_columns(&place.path(name), all);
}

const WITH: [&str; 2] = ["features.buckets=500", "features.catalogue=items.parquet"];

#[test]
fn an_item_never_seen_before_is_near_items_with_the_same_features() {
    let place = Place::new();
    let mut events = events(12_000, 40);
    // The last event is of a newcomer, whose like the stream has known for long.
    let known = events[0].item.clone();
    let newcomer = "newcomer";
    let last = events.len() - 1;
    events[last].item = newcomer.into();
    write_log(&place.path("log.parquet"), &events);
    let all = items(&events);
    let kinds = all.iter().map(|item| Some(topic(if *item == newcomer { &known } else { item })));
    write_catalogue(&place, "items.parquet", &all, vec![("kind", text(kinds))]);
    let alike = |checkpoints: &str| {
        let mut command = place.negstream(&["neighbors", checkpoints, newcomer, "-k", "10", "--json"]);
        let said = run(&mut command).ended(0).json();
        let near = said["neighbors"].as_array().unwrap().clone();
        near.iter().filter(|near| topic(near["item_id"].as_str().unwrap()) == topic(&known)).count()
    };
    place.replay_in("with", &["log.parquet"], &WITH);
    place.replay_in("without", &["log.parquet"], &[]);
    assert!(alike("with") >= 9, "{} of 10", alike("with"));
    assert!(alike("without") <= 5, "{} of 10 without features", alike("without"));
}

#[test]
fn neither_threads_nor_the_share_that_is_ranked_change_anything() {
    let place = Place::new();
    let events = events(9_000, 41);
    write_log(&place.path("log.parquet"), &events);
    let all = items(&events);
    let kinds = all.iter().map(|item| Some(format!("{} thing", topic(item))));
    write_catalogue(&place, "items.parquet", &all, vec![("kind", text(kinds))]);
    place.replay_in("one", &["log.parquet"], &[&WITH[..], &["threads=1"]].concat());
    for setting in ["threads=2", "threads=3", "evaluate.share=0", "evaluate.share=0.003"] {
        place.replay_in(setting, &["log.parquet"], &[&WITH[..], &[setting]].concat());
        let counts = ["item_state.parquet", "users.parquet", "cooccurrence.parquet"];
        for file in counts.into_iter().chain(["items.parquet", "features.parquet", "parameters.parquet"]) {
            let of = |checkpoints: &str| read(&place.newest(checkpoints).join(file));
            assert!(of(setting) == of("one"), "{setting}: {file} differs");
        }
    }
}

#[test]
fn known_items_keep_their_features_wherever_the_catalogue_is() {
    let place = Place::new();
    let mut events = events(256 * 24, 42);
    let half = events.len() / 2;
    let known: Vec<String> = items(&events[..half]).into_iter().map(str::to_owned).collect();
    // Whoever comes in the second half came in the first.
    for (place, event) in events[half..].iter_mut().enumerate() {
        event.item = known[place * 7 % known.len()].as_str().into();
    }
    write_log(&place.path("first.parquet"), &events[..half]);
    write_log(&place.path("second.parquet"), &events[half..]);
    let all = items(&events);
    let kinds = || text(all.iter().map(|item| Some(topic(item))));
    write_catalogue(&place, "items.parquet", &all, vec![("kind", kinds())]);
    write_catalogue(&place, "another.parquet", &["nothing-that-comes"], vec![("kind", text([Some("x")]))]);
    place.replay_in("whole", &["first.parquet", "second.parquet"], &WITH);
    place.replay_in("parts", &["first.parquet"], &WITH);
    let elsewhere = [WITH[0], "features.catalogue=another.parquet"];
    place.replay_in("parts", &["first.parquet", "second.parquet"], &elsewhere);
    assert!(place.items("parts") == place.items("whole"), "items.parquet differs");
    let mut command = place.negstream_in("parts", &["replay", "second.parquet"]);
    set(&mut command, &["features.buckets=9"]);
    run(&mut command).ended(2).names(&["features.buckets = 500 there, 9 here"]);
    let said = run(&mut place.negstream(&["inspect", "parts"])).ended(0);
    assert!(said.out.contains("hashed to 500 buckets") && said.out.contains("features.parquet"), "{}", said.out);
}

#[test]
fn a_feature_is_the_same_however_it_is_written() {
    let place = Place::new();
    let events = events(3_000, 43);
    let all = items(&events);
    let kind = |item: &str| [topic(item).to_owned(), format!("n {}", item.len())];
    write_log(&place.path("log.parquet"), &events);
    let columns = |features: ArrayRef| {
        vec![
            ("user_id", text(events.iter().map(|event| Some(&event.user)))),
            ("item_id", text(events.iter().map(|event| Some(&event.item)))),
            ("event_type", text(events.iter().map(|event| Some(&event.kind)))),
            ("timestamp", times(events.iter().map(|event| Some(event.timestamp)))),
            ("features", features),
        ]
    };
    let of_events = events.iter().map(|event| kind(&event.item).to_vec());
    write_columns(&place.path("described.parquet"), columns(lists(of_events)));
    let list = lists(all.iter().map(|item| kind(item).to_vec()));
    write_catalogue(&place, "list.parquet", &all, vec![("features", list)]);
    let parts = text(all.iter().map(|item| Some(kind(item).join(" | ").to_uppercase())));
    write_catalogue(&place, "parts.parquet", &all, vec![("features", parts), ("price", numbers(all.len()))]);
    place.replay_in("events", &["described.parquet"], &["features.buckets=500"]);
    for name in ["list", "parts"] {
        let catalogue = format!("features.catalogue={name}.parquet");
        place.replay_in(name, &["log.parquet"], &["features.buckets=500", &catalogue]);
        assert!(place.items(name) == place.items("events"), "{name}: items.parquet differs");
    }
    place.replay_in("none", &["described.parquet"], &[]);
    assert!(place.items("none") != place.items("events"), "features matter");
}

fn numbers(n: usize) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..n).map(|number| number as f64)))
}

#[test]
fn what_is_wrong_with_a_catalogue_is_told_before_anything_is_touched() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(500, 44));
    let one = || text([Some("a")]);
    let codes: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    write_catalogue(&place, "items.parquet", &["x"], vec![("title", one()), ("price", numbers(1)), ("code", codes)]);
    write_catalogue(&place, "prices.parquet", &["x"], vec![("price", numbers(1))]);
    write_catalogue(&place, "none.parquet", &[], vec![("title", text(Vec::<Option<&str>>::new()))]);
    write_columns(&place.path("nameless.parquet"), vec![("sku", one()), ("title", one())]);
    let truth: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    write_columns(&place.path("truth.parquet"), vec![("item_id", truth), ("title", one())]);
    std::fs::write(place.path("text.parquet"), b"item_id,title").unwrap();
    let before = tree(&place.path(""));
    let cases: [(&[&str], &[&str]); 11] = [
        (&["features.catalogue=gone.parquet"], &["features.catalogue: cannot read gone.parquet", "No such file"]),
        (&["features.catalogue=text.parquet"], &["cannot read text.parquet"]),
        (&["features.catalogue=nameless.parquet"], &["column 'item_id' is missing; there are sku, title"]),
        (&["features.catalogue=truth.parquet"], &["column 'item_id' must be text or whole numbers, but is Boolean"]),
        (&["features.catalogue=none.parquet"], &["none.parquet: it names no item"]),
        (&["features.catalogue=prices.parquet"], &["no column besides 'item_id' describes items", "price"]),
        (
            &["features.catalogue=items.parquet", r#"features.columns=["titel"]"#],
            &["column 'titel' is missing", "title"],
        ),
        (
            &["features.catalogue=items.parquet", r#"features.columns=["price"]"#],
            &["column 'price' must be", "Float64"],
        ),
        (&["features.catalogue=items.parquet", r#"features.columns=["item_id"]"#], &["'item_id' holds the item ids"]),
        (&["features.catalogue=items.parquet", "features.buckets=0"], &["'features.buckets'", "must be above 0"]),
        (&[r#"features.columns=["title"]"#], &["'features.columns'", "there is none"]),
    ];
    for (settings, words) in cases {
        let mut command = place.negstream(&["replay", "log.parquet", "--set", "features.buckets=50"]);
        set(&mut command, settings);
        run(&mut command).ended(2).names(words);
    }
    assert!(tree(&place.path("")) == before, "something was touched");
    place.replay("log.parquet", &[WITH[0], WITH[1], r#"features.columns=["code", "title"]"#]);
}
