//! What was left out of a build: whoever asks for it learns the feature's name, before anything is touched. In a build with
//! every feature each test has nothing left to ask for.

use crate::support::{Place, events, negstream, run, tree, write_log};

/// A setting, the feature that it needs, and whether this build has it.
const SETTINGS: [(&str, &str, bool); 6] = [
    ("source.format=protobuf", "protobuf", cfg!(feature = "protobuf")),
    ("source.registry.url=http://127.0.0.1:9", "registry", cfg!(feature = "registry")),
    ("checkpoint.dir=s3://bucket/prefix", "s3", cfg!(feature = "s3")),
    ("kafka.properties.security.protocol=SASL_SSL", "tls", cfg!(feature = "tls")),
    ("kafka.properties.sasl.mechanism=SCRAM-SHA-512", "tls", cfg!(feature = "tls")),
    ("kafka.properties.ssl.ca.location=ca.pem", "tls", cfg!(feature = "tls")),
];

#[test]
fn settings_that_need_a_missing_feature_are_refused_by_its_name() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(300, 12));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/interaction.proto");
    for (setting, feature, built_in) in SETTINGS {
        if built_in {
            continue;
        }
        let schema = format!("source.schema={schema}");
        for command in [&["run"][..], &["replay", "log.parquet"], &["produce", "log.parquet"]] {
            let before = tree(&place.path(""));
            let mut negstream = negstream();
            negstream.current_dir(place.path("")).args(command).args(["--set", &schema, "--set", setting]);
            let key = setting.split_once('=').map_or(setting, |(key, _)| key);
            let said = run(&mut negstream).ended(2).names(&[key, &format!("'{feature}'"), "--features"]);
            assert!(said.out.is_empty(), "{}", said.out);
            assert!(tree(&place.path("")) == before, "{setting}: nothing is touched");
        }
    }
}

#[test]
#[cfg(not(feature = "s3"))]
fn addresses_of_object_stores_are_refused_by_name_of_the_feature() {
    let place = Place::new();
    for command in [&["inspect", "s3://bucket/prefix"][..], &["neighbors", "s3://bucket/prefix", "7"]] {
        run(negstream().current_dir(place.path("")).args(command)).ended(2).names(&["'s3'", "--features"]);
    }
}

#[test]
#[cfg(not(feature = "failpoints"))]
fn failpoint_variable_is_ignored_by_a_program_without_failpoints() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(300, 12));
    let mut replay = negstream();
    replay.current_dir(place.path("")).args(["replay", "log.parquet"]).env("NEGSTREAM_FAILPOINT", "commit=kill");
    run(&mut replay).ended(0);
}
