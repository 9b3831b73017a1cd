//! What was left out of a build: whoever asks for it learns the feature's name, before anything is touched. In a build with
//! every feature each test has nothing left to ask for.

use crate::support::{Place, events, negstream, run, tree, write_log};

const TLS: bool = cfg!(any(feature = "tls", feature = "tls-system"));

/// A setting, the feature that it needs, and whether this build has it.
const SETTINGS: [(&str, &str, bool); 6] = [
    ("source.format=protobuf", "protobuf", cfg!(feature = "protobuf")),
    ("source.registry.url=http://127.0.0.1:9", "registry", cfg!(feature = "registry")),
    ("checkpoint.dir=s3://bucket/prefix", "s3", cfg!(feature = "s3")),
    ("kafka.properties.security.protocol=SASL_SSL", "tls", TLS),
    ("kafka.properties.sasl.mechanism=SCRAM-SHA-512", "tls", TLS),
    ("kafka.properties.ssl.ca.location=ca.pem", "tls", TLS),
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

/// Addresses of logs, the feature that each needs, and whether this build has it.
const LOGS: [(&str, &str, bool); 5] = [
    ("s3://bucket/logs", "s3", cfg!(feature = "s3")),
    ("gs://bucket/logs/*.parquet", "gcs", cfg!(feature = "gcs")),
    ("az://container/logs", "azure", cfg!(feature = "azure")),
    ("abfss://container@account.dfs.core.windows.net/logs", "azure", cfg!(feature = "azure")),
    ("https://host/log.parquet", "http", cfg!(feature = "http")),
];

#[test]
fn logs_that_need_a_missing_feature_are_refused_by_its_name() {
    let place = Place::new();
    for (log, feature, built_in) in LOGS {
        if built_in {
            continue;
        }
        for command in ["replay", "produce"] {
            let mut negstream = negstream();
            negstream.current_dir(place.path("")).args([command, log, "--set", "kafka.brokers=127.0.0.1:9"]);
            run(&mut negstream).ended(2).names(&["://", &format!("'{feature}'"), "--features"]);
            assert!(tree(&place.path("")).is_empty(), "{log}: nothing is touched");
        }
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

/// Flags for C in the checkout's own configuration of Cargo would reach every crate that compiles C (zstd and zlib as well
/// as librdkafka), after the level that the crate asks for, and `cargo install` would build another binary.
#[test]
fn checkout_sets_no_flags_for_c_compilers() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [".cargo/config.toml", ".cargo/config"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap_or_default();
        assert!(!text.contains("CFLAGS") && !text.contains("CXXFLAGS"), "{name} sets flags for C compilers");
    }
}

/// Prerequisite of the fault suite, which kills workers at the steps of a checkpoint; a released program must not obey.
#[test]
fn failpoints_are_in_neither_default_nor_full() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    for group in ["default", "full"] {
        let names = features[group].as_array().unwrap();
        assert!(names.iter().all(|name| name.as_str() != Some("failpoints")), "{group}");
    }
}
