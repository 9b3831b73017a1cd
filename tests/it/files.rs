//! Files beside the code, compared with the code: metrics and keys that `deploy/` names exist, and the schemas of an event agree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow_schema::{DataType, TimeUnit};
use negstream::metric::MetricKind;
use negstream::synth::log;
use negstream::telemetry::metrics::catalogue;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below deploy/.
fn deploy_files() -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join("deploy")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("deploy/ can be listed") {
            let path = entry.expect("deploy/ can be listed").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The words of `text` that begin with `prefix` and go on with letters, digits and underscores.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(prefix)
        .filter(|(place, _)| !text[..*place].ends_with(is_part))
        .map(|(place, _)| text[place..].chars().take_while(|letter| is_part(*letter)).collect())
        .collect()
}

#[test]
fn every_metric_that_deploy_names_exists() {
    let mut shown = BTreeSet::new();
    for metric in catalogue() {
        shown.insert(metric.name.to_owned());
        if metric.kind == MetricKind::Histogram {
            shown.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", metric.name)));
        }
    }
    let mut named = BTreeSet::new();
    for path in deploy_files() {
        let text = std::fs::read_to_string(&path).expect("deploy/ holds text");
        for name in words(&text, "negstream_") {
            assert!(shown.contains(&name), "{}: there is no metric {name}", path.display());
            named.insert(name);
        }
    }
    assert!(named.len() > 20, "alerts and dashboard name only {named:?}");
}

/// Compares the table of docs/metrics.md with the registry; with `UPDATE_GENERATED` set, writes it instead.
#[test]
fn metrics_table_in_docs_lists_the_registry() {
    const PATH: &str = "docs/metrics.md";
    const BEGIN: &str = "<!-- metrics -->\n";
    let text = read(PATH);
    let (head, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (table, tail) = rest.split_once("<!-- end -->").expect("where it ends");
    let mut expected = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for metric in catalogue() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
        expected.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(root().join(PATH), format!("{head}{BEGIN}{expected}<!-- end -->{tail}"))
            .expect("it can be written");
        return;
    }
    assert_eq!(
        table, expected,
        "{PATH} is not what the metrics declare: UPDATE_GENERATED=1 cargo test --test it metrics_table"
    );
}

#[test]
fn deploy_sets_existing_configuration_keys() {
    let keys: toml::Table = read("config/default.toml").parse().expect("the default is TOML");
    for path in deploy_files() {
        let text = std::fs::read_to_string(&path).expect("deploy/ holds text");
        for variable in words(&text, "NEGSTREAM__") {
            let mut place = &toml::Value::Table(keys.clone());
            for key in variable.split("__").skip(1) {
                let key = key.to_ascii_lowercase();
                place = place.get(&key).unwrap_or_else(|| panic!("{}: no key for {variable}", path.display()));
            }
        }
    }
}

#[test]
fn the_dashboard_is_json_with_panels_that_ask_something() {
    let dashboard = json("deploy/grafana.json");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{}: its id is taken", panel["title"]);
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{}", panel["title"]);
    }
    assert!(panels.len() > 10);
}

/// Name and whether it may be left out, of every field.
type Fields = Vec<(String, bool)>;

fn json_schema() -> Fields {
    let schema = json("schemas/interaction.schema.json");
    let required: BTreeSet<&str> =
        schema["required"].as_array().expect("required").iter().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().expect("properties");
    properties.keys().map(|name| (name.clone(), !required.contains(name.as_str()))).collect()
}

fn avro() -> Fields {
    let schema = json("schemas/interaction.avsc");
    let fields = schema["fields"].as_array().expect("fields");
    let name = |field: &Value| field["name"].as_str().expect("a name").to_owned();
    fields.iter().map(|field| (name(field), field.get("default").is_some())).collect()
}

fn protobuf() -> Fields {
    let text = read("schemas/interaction.proto");
    let (_, message) = text.split_once("message Interaction {").expect("the message");
    let (message, _) = message.split_once('}').expect("its end");
    let mut fields = Vec::new();
    for line in message.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
        let (field, number) = line.strip_suffix(';').and_then(|line| line.split_once(" = ")).expect("a field");
        let words: Vec<&str> = field.split(' ').collect();
        fields.push((words[words.len() - 1].to_owned(), words.len() == 3));
        assert_eq!(number.parse(), Ok(fields.len()), "numbers follow the order: {line}");
        assert!(["string", "int64", "double"].contains(&words[words.len() - 2]), "{line}");
    }
    assert!(text.contains("syntax = \"proto3\";"));
    fields
}

fn arrow() -> Fields {
    let schema = json("schemas/log.arrow.json");
    let fields = schema["fields"].as_array().expect("fields");
    let one = |field: &Value| {
        (field["name"].as_str().expect("a name").to_owned(), field["optional"].as_bool().expect("optional"))
    };
    fields.iter().map(one).collect()
}

#[test]
fn event_schemas_agree_on_fields_and_optionality() {
    let expected = [
        ("user_id", false),
        ("item_id", false),
        ("event_type", true),
        ("timestamp", false),
        ("session_id", true),
        ("value", true),
        ("features", true),
    ]
    .map(|(name, optional)| (name.to_owned(), optional));
    assert_eq!(json_schema(), expected, "json schema");
    assert_eq!(avro(), expected, "avro");
    assert_eq!(protobuf(), expected, "protobuf");
    assert_eq!(arrow(), expected, "arrow");
}

#[test]
fn synthetic_log_has_columns_of_the_arrow_schema() {
    let schema = json("schemas/log.arrow.json");
    let known = schema["fields"].as_array().expect("fields");
    for field in log::schema().fields() {
        let described = known.iter().find(|known| known["name"] == *field.name()).expect("a known column");
        let name = match field.data_type() {
            DataType::Utf8 => "utf8",
            DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) if &**zone == "UTC" => "timestamp[ms, UTC]",
            other => panic!("{}: {other}", field.name()),
        };
        assert_eq!(described["type"], name, "{}", field.name());
    }
}
