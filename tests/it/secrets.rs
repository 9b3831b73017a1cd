//! Secrets: what was given as a password is in nothing that the program writes, whatever form it was given in.
//!
//! A canary stands for each secret: in `kafka.properties`, for the registry, among the options of the object stores, in the
//! environment of the store, and in URLs. It is looked for in all that every command says, serves and leaves behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Background, Place, events, negstream, run, tree, write_log};

const CANARY: &str = "C4nary-in-the-mine";

/// A configuration with a secret wherever there is a place for one.
fn configuration() -> String {
    let registry = match cfg!(feature = "registry") {
        true => "url = \"http://127.0.0.1:9\"\n",
        false => "",
    };
    format!(
        "[kafka]\nbrokers = \"embedded\"\n\
         [kafka.properties]\n\"sasl.password\" = \"{CANARY}\"\n\"sasl.username\" = \"me\"\n\
         [source.registry]\n{registry}user = \"me\"\npassword = \"{CANARY}\"\n\
         [source.storage_options]\nsecret_access_key = \"{CANARY}\"\nazure_storage_sas_key = \"{CANARY}\"\n\
         [checkpoint.storage_options]\naws_secret_access_key = \"{CANARY}\"\naws_session_token = \"{CANARY}\"\n"
    )
}

/// The program in `place`, with the secrets of `config` and as much to say as it has.
fn with_secrets(place: &Place, config: &Path, format: &str, arguments: &[&str]) -> Command {
    let mut command = place.negstream(arguments);
    command.arg("-c").arg(config).args(["--set", "log.level=trace", "--set"]).arg(format!("log.format={format}"));
    command.env("AWS_SECRET_ACCESS_KEY", CANARY).env("AWS_ACCESS_KEY_ID", "AK");
    command
}

#[track_caller]
fn assert_silent(place: &str, text: &[u8]) {
    let found = text.windows(CANARY.len()).position(|part| part == CANARY.as_bytes());
    if let Some(found) = found {
        let around = &text[found.saturating_sub(200)..text.len().min(found + 80)];
        panic!("{place} holds a secret: {}", String::from_utf8_lossy(around));
    }
}

#[test]
fn secrets_are_in_nothing_that_commands_say_or_leave_behind() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let config = elsewhere.path("worker.toml");
    std::fs::write(&config, configuration()).unwrap();
    write_log(&place.path("log.parquet"), &events(3_000, 31));
    let url = format!("https://me:{CANARY}@127.0.0.1:1/log.parquet?sig={CANARY}&se=1");
    let catalogue = format!("features.catalogue={url}");
    let bucket = format!("s3://AK:{CANARY}@bucket/prefix");
    let other_store = format!("gs://AK:{CANARY}@bucket/prefix");
    let signed = format!("https://host/?sig={CANARY}");
    let commands: [&[&str]; 14] = [
        &["config", "check"],
        &["replay", "log.parquet", "--report", "report.json", "--set", "dead_letters.file=letters.jsonl"],
        &["replay", "log.parquet", "--json"],
        &["replay", &url],
        &["replay", "log.parquet", "--set", "features.buckets=8", "--set", &catalogue],
        &["inspect", "checkpoints"],
        &["inspect", "checkpoints", "--json"],
        &["inspect", &bucket],
        &["inspect", &other_store],
        &["inspect", &signed],
        &["neighbors", "checkpoints", "nothing"],
        &["negatives", "checkpoints", "--sampler", "unigram", "--draws", "1000"],
        &["audit", "checkpoints"],
        &["produce", "log.parquet"],
    ];
    for arguments in commands {
        for format in ["text", "json"] {
            let said = run(&mut with_secrets(&place, &config, format, arguments));
            assert!(!said.out.is_empty() || !said.err.is_empty(), "{arguments:?} says something");
            assert_silent(&format!("{arguments:?}, standard output"), said.out.as_bytes());
            assert_silent(&format!("{arguments:?}, standard error"), said.err.as_bytes());
        }
    }
    let files = tree(&place.path(""));
    assert!(files.keys().any(|name| name.ends_with("manifest.json")) && files.contains_key(Path::new("report.json")));
    files.iter().for_each(|(name, bytes)| assert_silent(&name.display().to_string(), bytes));
    let shown = run(&mut with_secrets(&place, &config, "text", &["config", "check"])).ended(0).out;
    assert!(shown.contains("\"sasl.password\" = \"(not shown)\"") && shown.contains("\"sasl.username\" = \"me\""));
}

#[test]
fn secrets_are_on_no_page_of_a_worker() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let config = elsewhere.path("worker.toml");
    std::fs::write(&config, configuration()).unwrap();
    let mut command = with_secrets(&place, &config, "text", &["run"]);
    command.args(["--set", "http.listen=127.0.0.1:0"]);
    let mut worker = Background::start(&mut command);
    let address = worker.address();
    for path in ["/", "/metrics", "/status", "/livez", "/readyz", "/elsewhere"] {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
        assert_silent(path, &answer);
    }
    worker.terminate();
    let said = worker.end().ended(0);
    assert_silent("standard output", said.out.as_bytes());
    assert_silent("standard error", said.err.as_bytes());
    tree(&place.path("")).iter().for_each(|(name, bytes)| assert_silent(&name.display().to_string(), bytes));
}

#[test]
fn secrets_in_the_wrong_form_are_not_repeated() {
    let place = Place::new();
    let key = "kafka.properties.sasl.password";
    let joined = format!("{key} {CANARY}");
    let assigned = format!("{key}={CANARY}");
    let half = format!("{key}=");
    let glued = format!("--set={key}");
    let arguments: [&[&str]; 9] = [
        &["config", "check", "--set", &joined],
        &["config", "check", "--set", key, CANARY],
        &["config", "check", "--set", key, "=", CANARY],
        &["config", "check", "--set", &half, CANARY],
        &["config", "check", &glued, CANARY],
        &["--set", key, CANARY, "config", "check"],
        &["run", &assigned],
        &["config", "check", "--set", CANARY],
        &["config", "check", "--set", &format!("kafka.brokers=me:{CANARY}@host:9092")],
    ];
    for arguments in arguments {
        let said = run(negstream().current_dir(place.path("")).args(arguments)).ended(2);
        assert_silent(&format!("{arguments:?}"), format!("{}{}", said.out, said.err).as_bytes());
        assert!(said.err.contains("--set") || said.err.contains("kafka.brokers"), "{}", said.err);
    }
    // Tables in the environment, with a quote missing, as JSON, and as a text.
    for (name, value) in [
        ("NEGSTREAM__SOURCE__REGISTRY", format!("{{ url = \"http://r:1\", password = \"{CANARY} }}")),
        ("NEGSTREAM__SOURCE__REGISTRY", format!("http://me:{CANARY}@r:1")),
        ("NEGSTREAM__KAFKA", format!("{{ properties = {{ \"sasl.password\" = \"{CANARY} }} }}")),
        ("NEGSTREAM__KAFKA__PROPERTIES", format!("{{ \"sasl.password\" = \"{CANARY} }}")),
        ("NEGSTREAM__KAFKA__PROPERTIES", format!("{{\"sasl.password\": \"{CANARY}\"}}")),
        ("NEGSTREAM__KAFKA__PROPERTIES", format!("sasl.password={CANARY}")),
        ("NEGSTREAM__CHECKPOINT__STORAGE_OPTIONS", format!("aws_secret_access_key={CANARY}")),
        ("NEGSTREAM__CHECKPOINT__STORAGE_OPTIONS__ENDPOINT", format!("https://h/?sig={CANARY}")),
        ("NEGSTREAM__CHECKPOINT__DIR", format!("s3://AK:{CANARY}@bucket/prefix")),
        ("NEGSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD", CANARY.to_owned()),
    ] {
        let said = run(negstream().current_dir(place.path("")).args(["config", "check"]).env(name, &value)).ended(2);
        assert_silent(&format!("{name}={value}"), format!("{}{}", said.out, said.err).as_bytes());
    }
    assert!(tree(&place.path("")).is_empty(), "nothing is touched");
}
