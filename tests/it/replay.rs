//! Replaying logs: what is reported, how logs are named and read, going on, and that every setting keeps to the rule:
//! the model is a pure function of configuration, seed and events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringViewArray, TimestampMicrosecondArray, UInt32Array,
};
use negstream::event::Interaction;

use crate::recovery::without_run_details;
use crate::support::{
    self, Background, Place, checkpoint_events, events, read, run, set, text, times, tree, write_columns,
    write_described_log, write_log,
};

#[test]
fn the_report_says_what_happened() {
    let place = Place::new();
    let events = events(10_000, 20);
    write_log(&place.path("log.parquet"), &events);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let clicks = kinds.iter().filter(|kind| **kind == "click").count();
    assert!(clicks > 9_000 && clicks < 9_900, "{clicks} clicks");

    let report = place.replay("log.parquet", &[]);
    let counts = |report: &serde_json::Value| {
        ["read", "used", "ignored", "rejected"].map(|name| report["events"][name].as_u64().unwrap() as usize)
    };
    assert_eq!(counts(&report), [10_000, 10_000, 0, 0]);
    assert_eq!(report["steps"], 10_000u64.div_ceil(256));
    let distinct =
        |of: &dyn Fn(&Interaction) -> String| events.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(report["items"], distinct(&|event| event.item.to_string()));
    assert_eq!(report["users"], distinct(&|event| event.user.to_string()));
    for name in ["seconds", "events_per_second", "loss", "mi_bound"] {
        assert!(report[name].as_f64().is_some_and(f64::is_finite), "{name}: {report}");
    }
    assert!(report["checkpoint"].as_str().unwrap().starts_with("checkpoints/"));
    let evaluation = &report["evaluation"];
    assert!((4_000..=5_000).contains(&evaluation["events"].as_u64().unwrap()), "{evaluation}");
    for name in ["hr@20", "ndcg@20", "mrr@20", "tail_hr@20", "head_hr@20", "cold_hr@20"] {
        for figure in [&evaluation[name], &evaluation["popularity"][name]] {
            assert!(figure.as_f64().is_some_and(|figure| (0.0..=1.0).contains(&figure)), "{name}: {evaluation}");
        }
    }

    let report = place.replay_in("clicked", &["log.parquet"], &[r#"positives.kinds=["click"]"#]);
    assert_eq!(counts(&report), [10_000, clicks, 10_000 - clicks, 0]);
    assert_eq!(report["steps"], clicks.div_ceil(256));
    // Half of what counts as positive, not half of the log.
    let evaluated = report["evaluation"]["events"].as_u64().unwrap() as usize;
    assert!((clicks / 2 - 500..=clicks / 2).contains(&evaluated), "{evaluated} of {clicks}");
}

#[test]
fn logs_are_read_in_the_order_in_which_they_are_named() {
    let place = Place::new();
    let events = events(9_000, 21);
    write_log(&place.path("whole.parquet"), &events);
    std::fs::create_dir_all(place.path("parts/deeper")).unwrap();
    let names = ["parts/a.parquet", "parts/b.parquet", "parts/deeper/c.parquet"];
    for (name, part) in names.iter().zip(events.chunks(3_000)) {
        write_log(&place.path(name), part);
    }
    std::fs::write(place.path("parts/README.txt"), b"not a log").unwrap();
    let expected = place.replay_in("whole", &["whole.parquet"], &[]);
    let cases: [(&str, &[&str]); 4] = [
        ("files", &names),
        ("folder", &["parts"]),
        ("pattern", &["parts/**/[abc].parquet"]),
        ("mixed", &["parts/[ab].parquet", "parts/deeper", "parts/a.parquet"]),
    ];
    for (checkpoints, logs) in cases {
        let report = place.replay_in(checkpoints, logs, &[]);
        assert_eq!(without_run_details(&report), without_run_details(&expected), "{checkpoints}");
        assert!(place.items(checkpoints) == place.items("whole"), "{checkpoints}: items.parquet differs");
    }
    place.replay_in("backwards", &[names[2], names[1], names[0]], &[]);
    assert!(place.items("backwards") != place.items("whole"), "the order matters");
}

#[test]
fn columns_may_have_other_names_and_types() {
    let place = Place::new();
    // Numbers as names, so that one column can be text in one log and integers in another.
    let events: Vec<(u32, u32, i64)> =
        (0..4_000u32).map(|n| (n * 7 % 90, (n * n + n / 9) % 130, 1_700_000_000_000 + i64::from(n))).collect();
    let users = || events.iter().map(|event| Some(event.0.to_string()));
    let items = || events.iter().map(|event| Some(event.1.to_string()));
    let moments = || times(events.iter().map(|event| Some(event.2)));
    write_columns(
        &place.path("plain.parquet"),
        vec![("user_id", text(users())), ("item_id", text(items())), ("timestamp", moments())],
    );
    let dictionary = |values: &mut dyn Iterator<Item = Option<String>>| {
        let values: Vec<String> = values.flatten().collect();
        Arc::new(values.iter().map(|value| Some(value.as_str())).collect::<DictionaryArray<Int32Type>>()) as ArrayRef
    };
    let columns: [(&str, ArrayRef, ArrayRef, ArrayRef); 4] = [
        (
            "integers",
            Arc::new(UInt32Array::from_iter_values(events.iter().map(|event| event.0))),
            Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.1.into()))),
            moments(),
        ),
        ("dictionary", dictionary(&mut users()), dictionary(&mut items()), moments()),
        (
            "large",
            Arc::new(LargeStringArray::from_iter(users())),
            Arc::new(StringViewArray::from_iter(items())),
            moments(),
        ),
        (
            "micros",
            text(users()),
            text(items()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.2 * 1000 + 999))),
        ),
    ];
    place.replay_in("plain", &["plain.parquet"], &[]);
    let names = ["source.fields.user_id=who", "source.fields.item_id=sku", "source.fields.timestamp=at"];
    for (name, who, sku, at) in columns {
        let log = format!("{name}-log.parquet");
        // In another order, among others, under other names.
        let other = text((0..4_000).map(|_| Some("other")));
        write_columns(&place.path(&log), vec![("item_id", other), ("at", at), ("sku", sku), ("who", who)]);
        place.replay_in(name, &[&log], &names);
        assert!(place.items(name) == place.items("plain"), "{name}: items.parquet differs");
    }
}

#[test]
fn a_log_that_was_read_is_not_read_again() {
    let place = Place::new();
    let events = events(5_000, 22);
    write_log(&place.path("log.parquet"), &events);
    let first = place.replay("log.parquet", &[]);
    let before = tree(&place.path("checkpoints"));
    let again = place.replay("log.parquet", &[]);
    assert_eq!(without_run_details(&again), without_run_details(&first));
    assert!(tree(&place.path("checkpoints")) == before, "nothing new, no new checkpoint");
    // It is known by its content, not by its name.
    std::fs::rename(place.path("log.parquet"), place.path("moved.parquet")).unwrap();
    place.replay("moved.parquet", &[]);
    assert!(tree(&place.path("checkpoints")) == before);
    // So one that grew is another, and all of it is read.
    write_log(&place.path("moved.parquet"), &support::events(6_000, 22));
    assert_eq!(place.replay("moved.parquet", &[])["events"]["read"], 11_000);
}

#[test]
fn fresh_begins_anew_beside_what_is_there() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(5_000, 23));
    place.replay("log.parquet", &[]);
    let first = place.items("checkpoints");
    let mut command = place.negstream(&["replay", "--fresh", "--json", "log.parquet"]);
    let report = run(&mut command).ended(0).json();
    assert_eq!(report["events"]["read"], 5_000);
    assert!(place.items("checkpoints") == first, "items.parquet differs");
    assert!(place.checkpoints("checkpoints").len() > 1, "the older ones stay until they are pruned");
    // And a different configuration is welcome then.
    let mut command = place.negstream(&["replay", "--fresh", "log.parquet", "--set", "model.dim=16"]);
    run(&mut command).ended(0);
    assert_eq!(place.manifest("checkpoints")["dim"], 16);
}

#[test]
fn another_configuration_is_refused_and_its_key_named() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(2_000, 24));
    place.replay("log.parquet", &[]);
    let before = tree(&place.path("checkpoints"));
    let cases = [
        ("model.dim=32", "model.dim = 64 there, 32 here"),
        ("seed=2", "seed = 1 there, 2 here"),
        ("negatives.noise=unigram", r#"negatives.noise = "none" there, "unigram" here"#),
        ("negatives.half_life=inf", r#"negatives.half_life = "auto" there, "inf" here"#),
        (r#"positives.kinds=["click"]"#, "positives.kinds"),
        ("evaluate.repeat=true", "evaluate.repeat"),
    ];
    for (setting, words) in cases {
        let mut command = place.negstream(&["replay", "log.parquet", "--set", setting]);
        run(&mut command).ended(2).names(&["made with another configuration", words, "--fresh"]);
    }
    assert!(tree(&place.path("checkpoints")) == before, "the folder was changed");
    // What does not shape the model may change.
    place.replay("log.parquet", &["threads=1", "checkpoint.keep=7", "evaluate.share=0.5", "log.level=warn"]);
}

/// Every setting that changes what a step does, one by one and then many at once.
pub const SETTINGS: [&[&str]; 43] = [
    &[],
    &[r#"positives.kinds=["click"]"#],
    &["negatives.noise=uniform"],
    &["negatives.noise=unigram"],
    &[r#"negatives.noise=[{sampler="unigram",draws=64,power=0.5},{sampler="uniform",draws=32}]"#, "negatives.bank=0"],
    &["context.context_rows=false"],
    &["context.user_row=true"],
    &["train.optimizer=rowwise_adagrad", "context.user_row=true"],
    &["model.learn_temperature=true"],
    &["model.similarity=dot", "model.temperature=1"],
    &["train.batch_span_ms=600000"],
    &["evaluate.repeat=true", "cooccurrence.plain_cosine=true"],
    &["evaluate.share=0.3", "negatives.half_life=inf", "model.learn_popularity=false"],
    &["negatives.noise=log_uniform"],
    &[r#"negatives.noise=[{sampler="interval",width=64}]"#, "negatives.live_events=900"],
    &["negatives.noise=cooccurrence", "negatives.live_events=1500"],
    &[r#"negatives.noise=[{sampler="adaptive",clusters=9}]"#],
    &["negatives.noise=hard", "negatives.mask_recent=2", "evaluate.repeat=true"],
    &["negatives.noise=exposure", r#"negatives.exposure_kinds=["purchase"]"#, r#"positives.kinds=["click"]"#],
    &[
        r#"negatives.noise=[{sampler="mixture",parts=[{sampler="cooccurrence",weight=2},{sampler="adaptive"},{sampler="interval"}]}]"#,
        "negatives.live_events=2000",
    ],
    &["negatives.bank_vectors=frozen", "negatives.bank_max_age=900"],
    &["negatives.bank_max_age=500"],
    &["features.buckets=40"],
    &["features.buckets=500", "context.encoder=gru", "evaluate.share=0", "negatives.bank_vectors=frozen"],
    &["negatives.false_negative_share=1", "negatives.false_negative_window=300", "seed=3"],
    &["objective=nce"],
    &["objective=cpc", "context.user_row=true"],
    &["objective=infomax"],
    &[r#"objective=[{kind="infomax",prior_kind="gaussian_mixture",components=3,prior=1},{kind="views"}]"#],
    &[r#"objective=[{kind="i2i",half_life=5000,width=256}]"#],
    &[r#"objective=[{kind="i2i",acceptance="agreement",gap_minutes=5,window=2},{kind="infonce"}]"#],
    &[r#"objective=[{kind="infonce",symmetric=true,event_weights={purchase=3}}]"#, "evaluate.repeat=true"],
    &[r#"objective=[{kind="infonce",debias=0.01,hardness=0.3}]"#],
    &["context.encoder=gru", "context.length=4", "objective=cpc"],
    &[
        r#"objective=[{kind="infonce",weight=0.7,symmetric=true},{kind="nce"},{kind="cpc",steps=2},{kind="infomax",prior_kind="gaussian"},{kind="views",weight=0.1},{kind="i2i"}]"#,
        "context.encoder=gru",
        "context.user_row=true",
        "evaluate.repeat=true",
        "negatives.noise=adaptive",
    ],
    &[
        "evaluate.repeat=true",
        "context.user_row=true",
        "model.learn_temperature=true",
        "model.dim=24",
        "train.batch=100",
        "seed=7",
        r#"negatives.noise=[{sampler="uniform",draws=100},{sampler="unigram"},{sampler="hard"},{sampler="adaptive"},{sampler="cooccurrence"},{sampler="interval"}]"#,
        "negatives.live_events=3000",
        "negatives.bank_vectors=frozen",
        "features.buckets=300",
    ],
    // What is deferred fills no batch, so only the pause between the logs ends one there.
    &["memory.items.admit_after=2", "train.batch_span_ms=600000"],
    &[
        "memory.users.admit_after=3",
        "memory.users.newcomers=64",
        "memory.items.admit_after=3",
        "evaluate.repeat=true",
        "train.batch_span_ms=900000",
    ],
    &[
        "memory.items.cap=200",
        "train.batch=100",
        "memory.items.admit_after=2",
        "memory.items.newcomers=100",
        "train.batch_span_ms=600000",
    ],
    &[
        "memory.users.cap=200",
        "train.batch=100",
        "context.encoder=gru",
        "context.user_row=true",
        "cooccurrence.neighbors=3",
        "cooccurrence.window=2",
    ],
    &[
        "memory.items.expire_events=700",
        "memory.users.expire_events=400",
        "negatives.bank_vectors=frozen",
        "cooccurrence.neighbors=0",
        "context.situation=false",
        "model.gate=false",
    ],
    &[
        "memory.items.cap=250",
        "memory.users.cap=220",
        "train.batch=100",
        "train.optimizer=rowwise_adagrad",
        "evaluate.repeat=true",
        "context.user_row=true",
        r#"negatives.noise=[{sampler="mixture",parts=[{sampler="uniform"},{sampler="exposure"}]},{sampler="unigram"},{sampler="hard"},{sampler="adaptive",clusters=9},{sampler="cooccurrence"},{sampler="interval",width=64},{sampler="log_uniform"}]"#,
        r#"negatives.exposure_kinds=["purchase"]"#,
        r#"positives.kinds=["click"]"#,
        "negatives.false_negative_share=1",
        "features.buckets=300",
        "context.encoder=gru",
        r#"objective=[{kind="infonce"},{kind="nce"},{kind="i2i",half_life=5000,width=256}]"#,
    ],
    &[
        "memory.items.cap=230",
        "memory.items.admit_after=2",
        "memory.users.admit_after=2",
        "memory.users.expire_events=2000",
        "memory.items.expire_events=1500",
        "train.batch=100",
        r#"negatives.noise=[{sampler="unigram"},{sampler="exposure",remembered=5}]"#,
        "negatives.live_events=600",
        "train.batch_span_ms=600000",
        r#"negatives.exposure_kinds=["purchase"]"#,
    ],
];

/// Everything of the newest checkpoint that the future depends on. Where the evaluation begins to count, how many
/// checkpoints there were, and which run they are of, does not belong to it.
fn state(place: &Place, checkpoints: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(&place.newest(checkpoints));
    files.retain(|name, _| !["manifest.json", "progress.json", "lineage"].iter().any(|other| name.ends_with(other)));
    let features = usize::from(files.keys().any(|name| name.ends_with("features.parquet")));
    assert_eq!(files.len(), 8 + features, "{:?}", files.keys());
    files
}

#[test]
fn with_every_setting_a_resumed_worker_ends_the_same() {
    let place = Place::new();
    for (number, settings) in SETTINGS.iter().enumerate() {
        // The first log ends where a batch ends, so that its declared end cuts none short.
        let clicked = settings.iter().any(|setting| setting.starts_with("positives.kinds"));
        let batch = if settings.contains(&"train.batch=100") { 100 } else { 256 };
        let mut events = events(7_000, 25);
        let is_positive = |event: &&Interaction| !clicked || event.kind == "click";
        let positives = events.iter().filter(is_positive).count() / 2 / batch * batch;
        let last = events.iter().enumerate().filter(|(_, event)| is_positive(event)).nth(positives - 1).unwrap().0;
        // Where batches are cut by event time, the pause between the two ends one anyway.
        events[last + 1..].iter_mut().for_each(|event| event.timestamp += 3_600_000);
        write_described_log(&place.path("first.parquet"), &events[..=last]);
        write_described_log(&place.path("second.parquet"), &events[last + 1..]);

        let (whole, parts) = (format!("whole {number}"), format!("parts {number}"));
        let expected = place.replay_in(&whole, &["first.parquet", "second.parquet"], settings);
        place.replay_in(&parts, &["first.parquet"], settings);
        let report = place.replay_in(&parts, &["first.parquet", "second.parquet"], settings);
        assert!(state(&place, &parts) == state(&place, &whole), "{settings:?}");
        for name in ["events", "steps", "items", "users", "loss", "mi_bound", "beta"] {
            assert_eq!(report[name], expected[name], "{settings:?}: {name}");
        }
    }
}

#[test]
fn half_lives_that_sleep_and_weights_that_fade_are_read_back() {
    let place = Place::new();
    // Long enough for the stream to have made up its mind, and for items to fade beyond what a number holds.
    let events = events(256 * 160, 33);
    let (first, second) = events.split_at(256 * 120);
    write_log(&place.path("first.parquet"), first);
    write_log(&place.path("second.parquet"), second);
    let every = r#"negatives.noise=[{sampler="unigram",power=2},{sampler="cooccurrence"},{sampler="log_uniform"},{sampler="interval"},{sampler="adaptive",clusters=40}]"#;
    let settings: [&[&str]; 4] = [
        &[every],
        &[every, "negatives.half_life=1"],
        &[every, "negatives.half_life=3", "negatives.live_events=2500"],
        &[r#"negatives.noise=[{sampler="adaptive",clusters=2,power=4}]"#, "negatives.half_life=2"],
    ];
    for (number, settings) in settings.iter().enumerate() {
        let (whole, parts) = (format!("whole {number}"), format!("parts {number}"));
        place.replay_in(&whole, &["first.parquet", "second.parquet"], settings);
        place.replay_in(&parts, &["first.parquet"], settings);
        place.replay_in(&parts, &["first.parquet", "second.parquet"], settings);
        assert!(state(&place, &parts) == state(&place, &whole), "{settings:?}");
    }
    // A checkpoint of nothing at all, which a fresh start beside an older run begins with.
    place.replay_in("whole 0", &["first.parquet"], &[every, "checkpoint.every_events=1000000"]);
}

#[test]
fn the_settings_matter() {
    let place = Place::new();
    write_described_log(&place.path("log.parquet"), &events(3_000, 26));
    let mut seen = BTreeMap::new();
    for (number, settings) in SETTINGS.iter().enumerate() {
        let checkpoints = format!("{number}");
        place.replay_in(&checkpoints, &["log.parquet"], settings);
        if let Some(other) = seen.insert(place.items(&checkpoints), settings) {
            panic!("{settings:?} gives the same as {other:?}");
        }
    }
}

#[test]
fn killed_with_many_settings_at_once_it_ends_the_same() {
    let place = Place::new();
    write_described_log(&place.path("log.parquet"), &events(40_000, 27));
    let many = SETTINGS.into_iter().filter(|settings| settings.len() >= 10);
    for (number, settings) in many.enumerate() {
        let (whole, killed) = (format!("whole {number}"), format!("killed {number}"));
        let expected = place.replay_in(&whole, &["log.parquet"], settings);
        let command = || {
            let mut command = place.negstream(&["replay", "--json", "log.parquet"]);
            set(&mut command, settings);
            set(&mut command, &["checkpoint.every_events=4000", &format!("checkpoint.dir={killed}")]);
            command
        };
        for events in [4_000, 8_000, 20_000, 28_000] {
            let mut worker = Background::start(&mut command());
            worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events)).unwrap();
            assert!(worker.kill(), "it had ended before");
        }
        let report = run(&mut command()).ended(0).json();
        assert_eq!(without_run_details(&report), without_run_details(&expected), "{settings:?}");
        assert!(state(&place, &killed) == state(&place, &whole), "{settings:?}: the state differs");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(10_000, 28));
    let one = place.replay_in("one", &["log.parquet"], &["threads=1"]);
    for threads in ["2", "3"] {
        let other = place.replay_in(threads, &["log.parquet"], &[&format!("threads={threads}")]);
        assert_eq!(without_run_details(&other), without_run_details(&one));
        assert!(state(&place, threads) == state(&place, "one"), "{threads} threads");
    }
    // And once more, to tell apart what threads do from what chance does.
    place.replay_in("again", &["log.parquet"], &["threads=1"]);
    assert!(read(&place.newest("again").join("progress.json")) == read(&place.newest("one").join("progress.json")));
}
