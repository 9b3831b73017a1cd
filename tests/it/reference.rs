//! The pages of docs/reference/, which are written by the code that they are about: `UPDATE_GENERATED=1 cargo test --test it
//! reference::`. Without it, they are compared with what would be written.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use arrow_schema::{DataType, Schema};
use clap::{Arg, Command, CommandFactory as _};
use negstream::cli::Cli;
use negstream::source::memory::MemorySource;
use negstream::{Checkpoint, Config, Pipeline};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::support::events;

/// Writes a generated page, or compares it with what is there.
fn page(name: &str, title: &str, source: &str, body: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    let note = "<!-- Written by UPDATE_GENERATED=1 cargo test --release --all-features --test it reference:: -->";
    let expected = format!("# {title}\n\n{note}\n\nThis page is written from {source}.\n\n{body}");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(path, expected).expect("it can be written");
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let at = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "docs/reference/{name} is older than the code, {at:?}: UPDATE_GENERATED=1 writes it");
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[test]
fn every_command_and_option_has_its_place() {
    let mut command = Cli::command();
    command.build();
    let mut body = String::new();
    body.push_str("Every command also takes `--help`. The layers of the configuration are options of each:\n\n");
    options(&mut body, command.get_arguments().filter(|argument| argument.is_global_set()));
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        section(&mut body, subcommand, 2);
    }
    page("cli.md", "Command line", "the definition of the command line (`src/cli.rs`)", &body);
}

fn section(body: &mut String, command: &Command, level: usize) {
    let path = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    writeln!(body, "\n{} {path}\n\n{}\n\n```text\n{usage}\n```\n", "#".repeat(level), about.replace('<', "&lt;"))
        .unwrap();
    options(body, command.get_arguments().filter(|argument| !argument.is_global_set()));
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        section(body, subcommand, level + 1);
    }
}

fn options<'a>(body: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for argument in arguments.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str())) {
        let takes = argument.get_action().takes_values();
        let value = argument.get_value_names().unwrap_or_default().first().map(ToString::to_string).unwrap_or_default();
        let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let name = match argument.get_long() {
            Some(long) if takes => format!("{short}--{long} {value}"),
            Some(long) => format!("{short}--{long}"),
            None => value,
        };
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let hidden = argument.is_hide_possible_values_set() || !takes;
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        let values =
            if hidden || values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) };
        let defaults: Vec<String> =
            argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if takes { defaults.join(", ") } else { String::new() };
        writeln!(rows, "| `{}` | {} | {}{values} |", name.replace('|', "\\|"), cell(&default), cell(&help)).unwrap();
    }
    if !rows.is_empty() {
        write!(body, "| option | default | |\n| --- | --- | --- |\n{rows}").unwrap();
    }
}

#[test]
fn every_key_of_the_configuration_has_its_place() {
    let text = include_str!("../../schemas/config.schema.json");
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    let mut body = "One TOML file, every part of which may be left out; flags win over environment over file over default. \
        `negstream config default` prints it with its comments, `negstream config check` what results from all layers.\n"
        .to_owned();
    let mut plain = String::new();
    let properties = schema["properties"].as_object().expect("sections");
    for (name, value) in properties.iter().filter(|(_, value)| value["properties"].is_null()) {
        key(&mut plain, name, value);
    }
    write!(body, "\n## Without a section\n\n{HEAD}{plain}").unwrap();
    for (name, value) in properties.iter().filter(|(_, value)| value["properties"].is_object()) {
        keys(&mut body, name, value, 2);
    }
    page("configuration.md", "Configuration", "the schema of the configuration (`schemas/config.schema.json`)", &body);
}

const HEAD: &str = "| key | type | default | |\n| --- | --- | --- | --- |\n";

fn keys(body: &mut String, section: &str, of: &Value, level: usize) {
    let description = of["description"].as_str().unwrap_or_default();
    write!(body, "\n{} {section}\n\n{}\n\n", "#".repeat(level), cell(description)).unwrap();
    let (mut rows, mut inner) = (String::new(), String::new());
    for (name, value) in of["properties"].as_object().expect("keys") {
        if value["properties"].is_object() {
            keys(&mut inner, &format!("{section}.{name}"), value, level + 1);
        } else {
            key(&mut rows, name, value);
        }
    }
    if !rows.is_empty() {
        body.push_str(HEAD);
    }
    body.push_str(&rows);
    body.push_str(&inner);
}

fn key(rows: &mut String, name: &str, value: &Value) {
    let bound = |name: &str| value[name].is_number().then(|| value[name].to_string());
    let bounds = match (bound("minimum").or(bound("exclusiveMinimum")), bound("maximum")) {
        (Some(least), Some(most)) => format!(", {least} … {most}"),
        (Some(least), None) => {
            format!(", {} {least}", if value["exclusiveMinimum"].is_number() { "above" } else { "from" })
        }
        (None, Some(most)) => format!(", up to {most}"),
        (None, None) => String::new(),
    };
    let choices: Vec<String> = value["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["const"].as_str())
        .map(|one| format!("`{one}`"))
        .collect();
    let kind = match (value["type"].as_str(), choices.is_empty()) {
        (_, false) => choices.join(", "),
        (Some(kind), true) => format!("{kind}{bounds}"),
        (None, true) => "name or tables".to_owned(),
    };
    let default = if value["default"].is_null() { String::new() } else { format!("`{}`", value["default"]) };
    let description = value["description"].as_str().unwrap_or_default();
    writeln!(rows, "| `{name}` | {} | {} | {} |", cell(&kind), cell(&default), cell(description)).unwrap();
}

#[test]
fn every_file_of_a_checkpoint_has_its_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = format!("checkpoint.dir={}", folder.path().display());
    let settings = [
        "model.dim=16",
        "features.buckets=64",
        "context.user_row=true",
        "context.encoder=gru",
        "checkpoint.audit=true",
        "objective=nce",
        "negatives.bank_vectors=frozen",
        &dir,
    ];
    let config = Config::with_settings(&settings.map(str::to_owned)).expect("a configuration");
    let mut pipeline = Pipeline::new(&config).expect("a pipeline");
    pipeline.run(MemorySource::of_events(events(600, 3))).expect("events to learn");
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let mut body = "Columns as a model has them that has everything a model can have: item features, a row for each user, a recurrent \
        encoder, an audit, biases of items, vectors that the bank keeps. Others lack what they have no use for; `16` stands for \
        `model.dim`. [What each file is for](../checkpoints.md#what-is-in-it). Only `items.parquet` is for other programs; the \
        others may change with any version.\n"
        .to_owned();
    let mut names: Vec<&str> = checkpoint.manifest().files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    for name in names.iter().filter(|name| name.ends_with(".parquet")) {
        let file = File::open(checkpoint.folder().join(name)).expect("the manifest lists it");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        write!(body, "\n## {name}\n\n| column | type |\n| --- | --- |\n{}", columns(reader.schema())).unwrap();
    }
    for name in ["manifest.json", "progress.json"] {
        let text = std::fs::read(checkpoint.folder().join(name)).expect("every checkpoint has it");
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        write!(body, "\n## {name}\n\n| key | type |\n| --- | --- |\n").unwrap();
        for (key, value) in value.as_object().expect("an object") {
            let kind = match value {
                Value::Null => "null, or what it is where there is any",
                Value::Bool(_) => "truth value",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(_) => "object",
            };
            writeln!(body, "| `{key}` | {kind} |").unwrap();
        }
    }
    page("checkpoint.md", "Files of a checkpoint", "a checkpoint that a test makes", &body);
}

fn columns(schema: &Schema) -> String {
    let mut rows = String::new();
    for field in schema.fields() {
        writeln!(rows, "| `{}` | {} |", field.name(), kind(field.data_type())).unwrap();
    }
    rows
}

fn kind(of: &DataType) -> String {
    match of {
        DataType::Utf8 => "utf8".to_owned(),
        DataType::List(inner) => format!("list&lt;{}>", kind(inner.data_type())),
        DataType::FixedSizeList(inner, length) => format!("fixed_size_list&lt;{}, {length}>", kind(inner.data_type())),
        DataType::Timestamp(..) => "timestamp(ms, UTC)".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
