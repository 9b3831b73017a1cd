//! `negstream recommend`: lists from a checkpoint, by the full score.

use negstream::source::memory::MemorySource;
use negstream::{Checkpoint, Config, Pipeline};
use serde_json::Value;

use crate::support::{self, Place, run, write_log};

const EVENTS: usize = 12_000;

fn list(value: &Value) -> Vec<(String, f64)> {
    let rows = value["recommendations"].as_array().unwrap();
    rows.iter().map(|row| (row["item_id"].as_str().unwrap().to_owned(), row["score"].as_f64().unwrap())).collect()
}

/// The command reads a checkpoint, and then a worker goes on from it: the next event's item has the rank that the list says.
#[test]
fn recommend_lists_items_in_the_order_of_the_evaluator() {
    for repeat in ["evaluate.repeat=true", "evaluate.repeat=false"] {
        let place = Place::new();
        let events = support::events(EVENTS + 40, 21);
        let dir = format!("checkpoint.dir={}", place.path("checkpoints").display());
        let settings = ["model.dim=16", "checkpoint.keep=1", repeat, &dir].map(str::to_owned);
        let config = Config::with_settings(&settings).unwrap();
        Pipeline::new(&config).unwrap().run(MemorySource::of_events(events[..EVENTS].to_vec())).unwrap();
        let mut compared = 0;
        for (until, event) in events.iter().enumerate().skip(EVENTS) {
            let (user, at) = (event.user.to_string(), event.timestamp.to_string());
            let arguments = ["recommend", "checkpoints", "--user", &user, "-k", "100000", "--at", &at, "--json"];
            let answer = run(&mut place.negstream(&arguments));
            let mut pipeline = Pipeline::new(&config).unwrap();
            pipeline.run(MemorySource::of_events(vec![event.clone()])).unwrap();
            assert_eq!(Checkpoint::open(place.path("checkpoints")).unwrap().manifest().events.read, until as u64 + 1);
            let ranked = pipeline.trainer().ranked();
            let Some(expected) = ranked.first().and_then(|ranked| ranked.model) else { continue };
            let list = list(&answer.ended(0).json()["lists"][0]);
            // Where own items leave the ranking, one that comes all the same is in no list.
            let Some((_, target)) = list.iter().find(|(item, _)| *item == event.item.as_str()) else { continue };
            let above = list.iter().filter(|(_, score)| score > target).count() as f64;
            let equal = list.iter().filter(|(_, score)| score == target).count() as f64 - 1.0;
            let rank = above + equal / 2.0;
            assert!(rank == expected || (rank >= 20.0 && expected >= 20.0), "{rank}, not {expected}");
            compared += 1;
        }
        assert!(compared >= 5, "{compared}");
    }
}

#[test]
fn recommend_answers_people_and_names_what_it_does_not_know() {
    let place = Place::new();
    let events = support::events(6_000, 22);
    write_log(&place.path("log.parquet"), &events);
    place.replay("log.parquet", &["model.dim=16"]);
    let (user, item) = (events[5_000].user.as_str(), events[5_000].item.as_str());
    let recommend = |rest: &[&str]| run(&mut place.negstream(&[&["recommend", "checkpoints"], rest].concat()));

    let table = recommend(&["--user", user, "-k", "3"]).ended(0).out;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("rank  item"), "{table}");
    let two = recommend(&["--user", user, "--user", events[5_001].user.as_str(), "-k", "3"]).ended(0).out;
    assert!(two.contains(&table) && two.matches("rank  item").count() == 2, "{two}");

    let of_session = list(&recommend(&["--item", item, "--json"]).ended(0).json()["lists"][0]);
    assert_eq!(of_session.len(), 20);
    assert!(of_session.iter().all(|(other, _)| other != item));
    let first = of_session[0].0.as_str();
    let without = list(&recommend(&["--item", item, "--exclude", first, "--json"]).ended(0).json()["lists"][0]);
    assert_eq!(without[..19], of_session[1..]);
    std::fs::write(place.path("only"), format!("{first}\n{}\nnever-seen\n", of_session[4].0)).unwrap();
    let only = list(&recommend(&["--item", item, "--candidates", "only", "--json"]).ended(0).json()["lists"][0]);
    assert_eq!(only, [of_session[0].clone(), of_session[4].clone()]);

    recommend(&["--user", "nobody-knows"]).ended(2).names(&["no user 'nobody-knows'", "nearest name", "--item"]);
    recommend(&["--item", "nothing"]).ended(2).names(&["no item 'nothing'", "nearest name"]);
    recommend(&["--user", user, "--at", "noon"]).ended(2).names(&["--at 'noon'"]);
    recommend(&["--user", user, "--candidates", "x,y"]).ended(2).names(&["--candidates"]);
    recommend(&[]).ended(2).names(&["--user"]);
}
