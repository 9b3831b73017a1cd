//! Objectives and encoders on real logs: each replayed from the beginning, every event ranked before it is learnt. One
//! JSON line per replay; with `--markdown`, a table for each log at the end.
//!
//! `cargo bench --bench objectives [-- --data DIR] [--log NAME]… [--only VARIANT]… [--markdown]`, where DIR (or the
//! variable NEGSTREAM_DATA; otherwise `shared/data` beside the project's folder) holds a folder for each log, with
//! `events.parquet` in it. Logs that are not there are left out, and said so.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A log, and the settings that say what kind of log it is.
struct Log {
    name: &'static str,
    settings: &'static [&'static str],
}

const LOGS: [Log; 3] = [
    Log { name: "ml-100k", settings: &[] },
    Log { name: "ml-latest-small", settings: &[] },
    Log { name: "online-retail-ii-y1", settings: &["evaluate.repeat=true", r#"positives.kinds=["purchase"]"#] },
];

/// A row of the tables.
struct Variant {
    name: &'static str,
    settings: &'static [&'static str],
    /// With the features of the catalogue beside the log, `items.parquet`.
    features: bool,
}

const fn variant(name: &'static str, settings: &'static [&'static str]) -> Variant {
    Variant { name, settings, features: false }
}

const fn with_features(name: &'static str, settings: &'static [&'static str]) -> Variant {
    Variant { name, settings, features: true }
}

const VARIANTS: [Variant; 23] = [
    variant("infonce", &[]),
    variant("infonce, symmetric", &[r#"objective=[{kind="infonce",symmetric=true}]"#]),
    variant("infonce, debias 0.01", &[r#"objective=[{kind="infonce",debias=0.01}]"#]),
    variant("infonce, hardness 0.2", &[r#"objective=[{kind="infonce",hardness=0.2}]"#]),
    variant("infonce, learned τ", &["model.learn_temperature=true"]),
    variant("nce", &["objective=nce"]),
    variant("nce, noise: the model", &["objective=nce", "negatives.noise=adaptive"]),
    variant("cpc", &["objective=cpc"]),
    variant("infomax", &["objective=infomax"]),
    variant("views", &["objective=views"]),
    variant("i2i, lift", &["objective=i2i"]),
    variant("i2i, agreement", &[r#"objective=[{kind="i2i",acceptance="agreement"}]"#]),
    variant("i2i, raw", &[r#"objective=[{kind="i2i",acceptance="raw"}]"#]),
    variant("infonce + infomax", &[r#"objective=[{kind="infonce"},{kind="infomax"}]"#]),
    variant("infonce + views 0.05", &[r#"objective=[{kind="infonce"},{kind="views",weight=0.05}]"#]),
    variant("infonce + i2i 0.2", &[r#"objective=[{kind="infonce"},{kind="i2i",weight=0.2}]"#]),
    with_features("infonce, features", &["features.buckets=65536"]),
    with_features("nce, features", &["objective=nce", "features.buckets=65536"]),
    variant("infonce, gru", &["context.encoder=gru"]),
    variant("cpc, gru", &["objective=cpc", "context.encoder=gru"]),
    variant("last item: infonce", &["evaluate.last_item=true"]),
    variant("last item: i2i, lift", &["evaluate.last_item=true", "objective=i2i"]),
    variant("last item: i2i, raw", &["evaluate.last_item=true", r#"objective=[{kind="i2i",acceptance="raw"}]"#]),
];

/// What was asked for.
#[derive(Default)]
struct Options {
    data: Option<PathBuf>,
    logs: Vec<String>,
    only: Vec<String>,
    markdown: bool,
}

fn main() {
    let options = options();
    for name in &options.logs {
        assert!(
            LOGS.iter().any(|log| log.name == name),
            "no log '{name}'; there are {}",
            names(&LOGS.map(|log| log.name))
        );
    }
    for name in &options.only {
        let known = VARIANTS.map(|variant| variant.name);
        assert!(known.contains(&name.as_str()), "no variant '{name}'; there are {}", names(&known));
    }
    let chosen = |list: &[String], name: &str| list.is_empty() || list.iter().any(|other| other == name);
    let data = options.data.clone().or_else(|| std::env::var_os("NEGSTREAM_DATA").map(PathBuf::from));
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let mut tables = String::new();
    for log in LOGS.iter().filter(|log| chosen(&options.logs, log.name)) {
        let events = data.join(log.name).join("events.parquet");
        if !events.is_file() {
            eprintln!("{}: left out, there is no {}", log.name, events.display());
            continue;
        }
        tables += &format!(
            "\n**{}**\n\n| objective | HR@20 | NDCG@20 | tail | cold | events/s |\n| --- | --- | --- | --- | --- | --- |\n",
            log.name
        );
        for variant in VARIANTS.iter().filter(|variant| chosen(&options.only, variant.name)) {
            tables += &replay(log, variant, &events);
        }
    }
    if options.markdown {
        println!("{tables}");
    }
}

fn names(known: &[&str]) -> String {
    known.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn options() -> Options {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--data" => options.data = Some(value().into()),
            "--log" => options.logs.push(value()),
            "--only" => options.only.push(value()),
            "--markdown" => options.markdown = true,
            other => panic!("no option '{other}'"),
        }
    }
    options
}

/// Replays `log`; a row of its table.
fn replay(log: &Log, variant: &Variant, events: &Path) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_negstream"));
    command.args(["replay", "--fresh", "--json"]).arg(events);
    command.arg("--set").arg(format!("checkpoint.dir={}", folder.path().display()));
    for setting in log.settings.iter().chain(variant.settings) {
        command.args(["--set", setting]);
    }
    if variant.features {
        let catalogue = events.with_file_name("items.parquet");
        if !catalogue.is_file() {
            eprintln!("{}, {}: left out, there is no {}", log.name, variant.name, catalogue.display());
            return String::new();
        }
        command.arg("--set").arg(format!("features.catalogue={}", catalogue.display()));
    }
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}: {}", variant.name, String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let evaluation = &report["evaluation"];
    let settings: Vec<&str> = log.settings.iter().chain(variant.settings).copied().collect();
    let (log, name, speed) = (log.name, variant.name, &report["events_per_second"]);
    println!(
        "{}",
        serde_json::json!({ "log": log, "objective": name, "settings": settings, "events_per_second": speed, "evaluation": evaluation })
    );
    let figure = |name: &str| evaluation[name].as_f64().map_or("–".to_owned(), |figure| format!("{figure:.4}"));
    format!(
        "| {name} | {} | {} | {} | {} | {:.0} |\n",
        figure("hr@20"),
        figure("ndcg@20"),
        figure("tail_hr@20"),
        figure("cold_hr@20"),
        speed.as_f64().unwrap_or(0.0)
    )
}
