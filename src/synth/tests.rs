//! What the synthetic log promises, and how hard it is: decayed popularity against somebody who knows the topics.

use std::collections::{HashMap, HashSet};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::log::write_parquet;
use super::*;

fn topic(item: &str) -> &str {
    item.split_once('-').expect("an item's name is topic-number").0
}

#[test]
fn generator_is_a_function_of_its_seed() {
    let events =
        |seed| EventGenerator::new(SynthConfig { seed, ..SynthConfig::default() }).take(20_000).collect::<Vec<_>>();
    assert_eq!(events(7), events(7));
    assert_ne!(events(7), events(8));
}

#[test]
fn timestamps_never_go_back_and_gaps_are_human() {
    let times: Vec<i64> =
        EventGenerator::new(SynthConfig::default()).take(100_000).map(|event| event.timestamp).collect();
    assert!(times.is_sorted());
    let days = (times[times.len() - 1] - times[0]) as f64 / DAY;
    assert!((0.3..3.0).contains(&days), "{days} days");
}

#[test]
fn session_mostly_stays_in_one_topic_of_one_user() {
    let mut sessions: HashMap<CompactString, Vec<Interaction>> = HashMap::new();
    for event in EventGenerator::new(SynthConfig::default()).take(60_000) {
        let session = event.session.clone().expect("every event has a session");
        sessions.entry(session).or_default().push(event);
    }
    let (mut largest, mut all) = (0, 0);
    for events in sessions.values().filter(|events| events.len() >= 4) {
        assert!(events.iter().all(|event| event.user == events[0].user));
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for event in events {
            *counts.entry(topic(&event.item)).or_default() += 1;
        }
        largest += counts.values().max().expect("a session has events");
        all += events.len();
    }
    let share = largest as f64 / all as f64;
    assert!((0.7..0.95).contains(&share), "{share} of a session's events are about its topic");
}

/// Share of neighbouring events of a session that are of one topic.
fn togetherness(interleave: f64) -> f64 {
    let mut last: HashMap<CompactString, CompactString> = HashMap::new();
    let (mut alike, mut all) = (0u32, 0u32);
    for event in EventGenerator::new(SynthConfig { interleave, ..SynthConfig::default() }).take(100_000) {
        let session = event.session.expect("every event has a session");
        if let Some(before) = last.insert(session, event.item.clone()) {
            alike += u32::from(topic(&before) == topic(&event.item));
            all += 1;
        }
    }
    f64::from(alike) / f64::from(all)
}

#[test]
fn interleave_mixes_topics_within_sessions() {
    let [none, half, most, all] = [0.0, 0.5, 0.9, 1.0].map(togetherness);
    eprintln!("neighbouring events of one topic: {none:.3}, {half:.3}, {most:.3}, {all:.3}");
    // Of three favourites the same one by a third, or another that is the same topic.
    assert!(none > 0.65 && (0.37..0.43).contains(&most) && (0.33..0.4).contains(&all));
    assert!(((none + all) / 2.0 - half).abs() < 0.02);
}

#[test]
fn interleaving_users_have_three_independent_favourites() {
    let mut synth = EventGenerator::new(SynthConfig { interleave: 0.5, ..SynthConfig::default() });
    let users: Vec<u32> = (0..5_000).filter(|user| synth.interleaves(*user)).collect();
    assert!((2_490..2_510).contains(&users.len()));
    // As many among the busy, which are the first.
    assert!((45..56).contains(&users.iter().filter(|user| **user < 100).count()));
    let mut together: HashMap<(u32, u32), f64> = HashMap::new();
    let (mut popularity, mut pairs) = (HashMap::<u32, f64>::new(), 0.0);
    for user in &users {
        let mut favourites: Vec<u32> =
            (0..60).map(|_| synth.world.draw_favourite_evenly(*user, &mut synth.random)).collect();
        let mut counts: HashMap<u32, usize> = HashMap::new();
        favourites.iter().for_each(|topic| *counts.entry(*topic).or_default() += 1);
        assert!(counts.values().all(|count| *count > 4), "each of the three alike: {counts:?}");
        favourites.sort_unstable();
        favourites.dedup();
        for (a, b) in favourites.iter().flat_map(|a| favourites.iter().map(move |b| (*a, *b))).filter(|(a, b)| a < b) {
            *together.entry((a, b)).or_default() += 1.0;
            *popularity.entry(a).or_default() += 1.0;
            *popularity.entry(b).or_default() += 1.0;
            pairs += 1.0;
        }
    }
    // Distinct topics meet as their popularity has it. The most popular one cannot meet itself, so a little more often.
    for ((a, b), count) in together {
        let expected = popularity[&a] * popularity[&b] / (2.0 * pairs);
        if expected > 50.0 {
            assert!((0.7..1.5).contains(&(count / expected)), "{a} and {b}: {count}, not {expected}");
        }
    }
}

#[test]
fn items_keep_arriving_and_the_top_changes() {
    let events: Vec<_> = EventGenerator::new(SynthConfig::default()).take(300_000).collect();
    let tenths: Vec<&[Interaction]> = events.chunks(30_000).collect();
    let mut seen = HashSet::new();
    for (number, tenth) in tenths.iter().enumerate() {
        let new = tenth.iter().filter(|event| seen.insert(&event.item)).count();
        assert!(new > 300, "{new} new items in tenth {number}");
    }
    let top = |tenth: &[Interaction]| {
        let mut counts: HashMap<CompactString, usize> = HashMap::new();
        for event in tenth {
            *counts.entry(event.item.clone()).or_default() += 1;
        }
        let mut ranked: Vec<_> = counts.into_iter().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.into_iter().take(50).map(|(item, _)| item).collect::<HashSet<_>>()
    };
    let common = top(tenths[0]).intersection(&top(tenths[9])).count();
    assert!(common <= 5, "{common} of the first tenth's top fifty are in the last tenth's");
}

#[test]
fn config_values_out_of_range_are_clamped() {
    let config = SynthConfig {
        users: 0,
        items: 0,
        topics: 0,
        lifetime: 0,
        session_events: f64::NAN,
        noise: 7.0,
        pause_seconds: -1.0,
        start: -5,
        ..SynthConfig::default()
    };
    let events: Vec<_> = EventGenerator::new(config).take(5_000).collect();
    assert!(events.iter().all(|event| event.timestamp >= 0 && !event.item.is_empty()));
    assert!(events.iter().map(|event| topic(&event.item)).collect::<HashSet<_>>().len() > 1);
}

#[test]
fn log_reads_back_as_it_was_generated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("log.parquet");
    let config = SynthConfig { users: 200, items: 300, topics: 10, ..SynthConfig::default() };
    let mut told = Vec::new();
    write_parquet(&mut EventGenerator::new(config.clone()), 150_000, &path, |written| told.push(written))
        .expect("written");
    assert_eq!(told.last(), Some(&150_000));
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").collect();
    assert_eq!(names.len(), 1, "nothing else is left behind");

    let file = std::fs::File::open(&path).expect("the log is there");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("the log is Parquet");
    assert_eq!(builder.schema().fields(), log::schema().fields());
    assert_eq!(builder.metadata().num_row_groups(), 2);
    let mut expected = EventGenerator::new(config);
    let mut rows = 0;
    for batch in builder.build().expect("readable") {
        let batch = batch.expect("readable");
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let times = batch.column(3).as_primitive::<TimestampMillisecondType>();
        for row in 0..batch.num_rows() {
            let event = expected.next_event();
            assert_eq!(text(0).value(row), event.user);
            assert_eq!(text(1).value(row), event.item);
            assert_eq!(text(2).value(row), event.kind);
            assert_eq!(times.value(row), event.timestamp);
            assert_eq!(Some(text(4).value(row)), event.session.as_deref());
            rows += 1;
        }
    }
    assert_eq!(rows, 150_000);
}

#[test]
fn log_write_failure_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("no-such-folder").join("log.parquet");
    let error =
        write_parquet(&mut EventGenerator::new(SynthConfig::default()), 10, &path, |_| ()).expect_err("no folder");
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    // A folder in the file's place: the rename fails after everything was written.
    let taken = folder.path().join("taken.parquet");
    std::fs::create_dir(&taken).expect("creatable");
    write_parquet(&mut EventGenerator::new(SynthConfig::default()), 10, &taken, |_| ())
        .expect_err("a folder is in the way");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
}

/// The hit rates among the twenty best of decayed popularity and of a recommender that knows everything about items
/// but of the user only the topic of the newest event, own items left out of both rankings.
fn difficulty(config: SynthConfig, events: usize) -> (f64, f64) {
    let mut synth = EventGenerator::new(config);
    let mut popularity: HashMap<CompactString, (f64, usize)> = HashMap::new();
    let mut had: HashMap<CompactString, (HashSet<CompactString>, u32)> = HashMap::new();
    let decay = |age: usize| (-(age as f64) * std::f64::consts::LN_2 / 5_000.0).exp();
    let numbers: HashMap<String, u32> =
        (0..synth.world.topics() as u32).map(|topic| (synth.world.name(topic).to_owned(), topic)).collect();
    let (mut judged, mut by_popularity, mut by_topic) = (0, 0, 0);
    for now in 0..events {
        let event = synth.next_event();
        let (own, last) = had.entry(event.user.clone()).or_default();
        // Every seventh is enough, once things have settled.
        if now > events / 2 && now % 7 == 0 && !own.is_empty() {
            judged += 1;
            let own_score = popularity.get(&event.item).map_or(0.0, |(count, at)| count * decay(now - at));
            let above = popularity
                .iter()
                .filter(|(item, (count, at))| count * decay(now - at) > own_score && !own.contains(*item))
                .count();
            by_popularity += usize::from(above < 20 && own_score > 0.0);
            let mut ranked = synth.world.appeals(*last);
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            let best = ranked.iter().map(|(item, _)| synth.item_name(*item));
            let best: Vec<_> = best.filter(|item| *item == event.item || !own.contains(item)).take(20).collect();
            by_topic += usize::from(best.contains(&event.item));
        }
        *last = numbers[topic(&event.item)];
        own.insert(event.item.clone());
        let entry = popularity.entry(event.item).or_insert((0.0, now));
        *entry = (entry.0 * decay(now - entry.1) + 1.0, now);
    }
    (f64::from(by_popularity as u32) / f64::from(judged), f64::from(by_topic as u32) / f64::from(judged))
}

#[test]
fn topic_knowledge_beats_popularity() {
    let (popularity, topic) = difficulty(SynthConfig::default(), 200_000);
    eprintln!("hit rate at 20: popularity {popularity:.3}, topic {topic:.3}");
    assert!((0.10..0.20).contains(&popularity), "decayed popularity: {popularity}");
    assert!((0.40..0.56).contains(&topic), "knowing the topic: {topic}");
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture synth_speed"]
fn synth_speed() {
    let configs = [
        SynthConfig::default(),
        SynthConfig { users: 1_000_000, items: 200_000, topics: 500, lifetime: 8_000_000, ..SynthConfig::default() },
    ];
    for config in configs {
        let began = std::time::Instant::now();
        let mut synth = EventGenerator::new(config);
        let built = began.elapsed();
        let began = std::time::Instant::now();
        for _ in 0..3_000_000 {
            std::hint::black_box(synth.next_event());
        }
        eprintln!("built in {built:?}, {:.0} events/s", 3_000_000.0 / began.elapsed().as_secs_f64());
    }
}
