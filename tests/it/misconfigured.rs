//! Misconfiguration: what is set wrong is told in one line that names the setting, instead of an empty model and exit status 0.

use std::collections::BTreeSet;

use negstream::event::Interaction;
use serde_json::Value;

use crate::kafka_source::{Cluster, produce};
use crate::support::{Place, events, run, set, text, write_columns, write_log};

/// The events of `n` users, of which `change` makes something else.
fn changed(n: usize, change: impl Fn(usize, &mut Interaction)) -> Vec<Interaction> {
    let mut events = events(n, 41);
    events.iter_mut().enumerate().for_each(|(number, event)| change(number, event));
    events
}

/// Replays `events`, which teaches nothing: the report says so, as JSON and for people, and the log does.
#[track_caller]
fn teaches_nothing(events: &[Interaction], settings: &[&str], why: &str) {
    let place = Place::new();
    write_log(&place.path("log.parquet"), events);
    let report = place.replay("log.parquet", settings);
    let warning = report["warnings"][0].as_str().unwrap_or_else(|| panic!("no warning: {report}"));
    assert!(warning.starts_with("nothing was learnt: ") && warning.contains(why), "{warning}");
    let mut command = place.negstream_in("again", &["replay", "log.parquet"]);
    set(&mut command, settings);
    let said = run(&mut command).ended(0).names(&["WARN", why]);
    assert!(said.out.lines().any(|line| line.starts_with("warning ") && line.contains(why)), "{}", said.out);
}

#[test]
fn log_that_teaches_nothing_is_told_with_the_setting() {
    let each_a_user = changed(700, |number, event| event.user = format!("u{number}").into());
    teaches_nothing(
        &each_a_user,
        &[],
        "no event had an earlier one of the same user (700 events, as many users); source.fields.user_id",
    );
    let one_item = changed(700, |_, event| event.item = "i".into());
    teaches_nothing(&one_item, &[], "are of one item, and there is nothing to tell it from; source.fields.item_id");
    let rare = changed(700, |number, event| event.item = format!("i{number}").into());
    teaches_nothing(&rare, &["memory.items.admit_after=2"], "memory.items.admit_after");
    teaches_nothing(&events(1, 41), &[], "no event had an earlier one of the same user");
}

#[test]
fn log_that_teaches_something_brings_no_warning() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(2_000, 41));
    assert_eq!(place.replay("log.parquet", &[])["warnings"], Value::Array(Vec::new()));
}

#[test]
fn event_type_that_no_event_has_is_refused_before_anything_is_saved() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &changed(700, |_, event| event.kind = "click".into()));
    let mut command = place.negstream(&["replay", "log.parquet", "--set", "positives.kinds=[\"Click\", \"buy\"]"]);
    let said = run(&mut command).ended(2).names(&[
        "none of 700 events is of positives.kinds [\"Click\", \"buy\"]; there are: \"click\"; did you mean \"click\"?",
    ]);
    assert!(said.out.contains("nothing was learnt: none of 700 events is of positives.kinds"), "{}", said.out);
    let mut command = place.negstream(&["replay", "log.parquet", "--json", "--set", "positives.kinds=[\"buy\"]"]);
    assert_eq!(run(&mut command).ended(2).out, "", "what is no JSON is not printed as such");
    assert!(place.checkpoints("checkpoints").is_empty());

    let names = |prefix: &'static str| text((0..600).map(move |row| Some(format!("{prefix}{}", row % 40))));
    let times = crate::support::times((0..600).map(Some));
    write_columns(
        &place.path("untyped.parquet"),
        vec![("user_id", names("u")), ("item_id", names("i")), ("timestamp", times)],
    );
    let mut command = place.negstream(&["replay", "untyped.parquet", "--set", "positives.kinds=[\"click\"]"]);
    run(&mut command).ended(2).names(&["they have no type at all; source.fields.event_type"]);
}

#[test]
fn run_that_meets_no_event_of_its_types_passes_none_over() {
    let (place, cluster) = (Place::new(), Cluster::embedded());
    let kafka = cluster.topic("typed", 1);
    produce(&kafka, 0..600);
    let run_with = |kinds: &str, arguments: &[&str]| {
        let mut command = place.negstream(&[&["run", "--until-end", "--json"], arguments].concat());
        let (brokers, kinds) = (format!("kafka.brokers={}", kafka.brokers), format!("positives.kinds=[{kinds:?}]"));
        set(&mut command, &[&brokers, "kafka.topic=typed", "kafka.assignment=all", &kinds]);
        run(&mut command)
    };
    run_with("Click", &[]).ended(2).names(&["none of 600 events is of positives.kinds", "did you mean \"click\"?"]);
    let report = run_with("click", &["--fresh"]).ended(0).json();
    assert_eq!((&report["events"]["read"], &report["events"]["used"]), (&600.into(), &600.into()));
}

#[test]
fn catalogue_that_describes_no_item_of_the_log_is_told() {
    let place = Place::new();
    let log = events(2_000, 41);
    write_log(&place.path("log.parquet"), &log);
    let items: BTreeSet<&str> = log.iter().map(|event| event.item.as_str()).collect();
    let catalogue = |ids: &mut dyn Iterator<Item = String>| {
        let ids: Vec<_> = ids.map(Some).collect();
        let titles = text(ids.iter().map(|_| Some("A Title".to_owned())));
        write_columns(&place.path("items.parquet"), vec![("item_id", text(ids)), ("title", titles)]);
    };
    let settings = ["features.buckets=64", "features.catalogue=items.parquet"];
    catalogue(&mut items.iter().map(|item| format!("sku-{item}")));
    let report = place.replay_in("none", &["log.parquet"], &settings);
    let warning = report["warnings"][0].as_str().expect("a warning");
    let expected = format!("features.catalogue describes {} items, and none of {} new items", items.len(), items.len());
    assert!(warning.starts_with(&expected), "{warning}");
    // One that is known is enough to say that ids agree.
    catalogue(&mut items.iter().take(1).map(|item| (*item).to_owned()));
    assert_eq!(place.replay_in("one", &["log.parquet"], &settings)["warnings"], Value::Array(Vec::new()));
    // Features of events are asked for, and no event has any.
    let report = place.replay_in("events", &["log.parquet"], &["features.buckets=64"]);
    let warning = report["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("source.fields.features"), "{warning}");
}

#[test]
fn mistyped_variable_is_refused_with_the_one_that_was_meant() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(300, 41));
    for (name, meant) in [
        ("NEGSTREAM_TRAIN__BATCH", "NEGSTREAM__TRAIN__BATCH"),
        ("NEGSTREAM_CHECKPOINT_DIR", "NEGSTREAM__CHECKPOINT__DIR"),
        ("NEGSTREAM__TRAIN__BATHC", "'train.batch'"),
    ] {
        run(place.negstream(&["replay", "log.parquet"]).env(name, "256")).ended(2).names(&[name, meant]);
    }
    assert!(!place.path("checkpoints").exists());
    let mut command = place.negstream(&["replay", "log.parquet"]);
    // What a cluster gives each pod for a service of that name.
    command.env("NEGSTREAM_SERVICE_HOST", "10.0.0.1").env("NEGSTREAM_PORT_9464_TCP", "tcp://10.0.0.1:9464");
    run(&mut command).ended(0);
}
