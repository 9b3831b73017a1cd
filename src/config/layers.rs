//! Layering: default, file, environment, flags; each names its keys in full, so a mistake is reported with its place.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, FieldNames, ObjectiveKind, RegistryConfig};

/// The embedded default, complete and commented.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// Prefix of environment variables that override keys; `__` separates the parts of a key.
pub const ENVIRONMENT_PREFIX: &str = "NEGSTREAM__";

/// Tables whose keys are free.
const OPEN_TABLES: [&str; 2] = ["kafka.properties", "checkpoint.store"];

/// What can be wrong with a configuration. Always found before anything is touched.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read configuration {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// File, variable or flag.
        place: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key '{key}'{}", hint(nearest))]
    UnknownKey {
        /// File, variable or flag.
        place: String,
        /// As given.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A value of the wrong type or outside its range.
    #[error("{place}: '{key}': {message}")]
    Value {
        /// File, variable or flag.
        place: String,
        /// The key.
        key: String,
        /// What is wrong with the value.
        message: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|key| format!(", did you mean '{key}'?")).unwrap_or_default()
}

/// Reads the configuration: default under `file` under `environment` under `flags` (`KEY=VALUE`).
///
/// # Errors
/// The first mistake, with its place.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Config, ConfigError> {
    load_over(&[], file, environment, flags)
}

/// The same, over other defaults for the keys in `below` (`KEY=VALUE`).
///
/// # Errors
/// The first mistake, with its place.
pub fn load_over(
    below: &[String],
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Config, ConfigError> {
    let defaults = parse(DEFAULT, "default")?;
    let mut merged = defaults.clone();
    let mut layer = |place: &str, table: Table| -> Result<(), ConfigError> {
        check_keys(&table, &defaults, "", place)?;
        merge(&mut merged, table);
        // Each layer is checked as it comes, so that the message can name the place.
        build(&merged, place).map(|_| ())
    };
    for (key, text) in below.iter().filter_map(|default| default.split_once('=')) {
        layer("default of the command", assignment(key, text, &defaults))?;
    }
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let place = path.display().to_string();
        layer(&place, parse(&text, &place)?)?;
    }
    let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let key = name[ENVIRONMENT_PREFIX.len()..].to_lowercase().replace("__", ".");
        layer(&format!("environment variable {name}"), assignment(&key, &text, &defaults))?;
    }
    for flag in flags {
        let Some((key, text)) = flag.split_once('=') else {
            let (place, message) = ("--set".to_owned(), "expected KEY=VALUE".to_owned());
            return Err(ConfigError::Value { place, key: flag.clone(), message });
        };
        // Without the value, which may be secret even where its key is mistyped.
        layer(&format!("--set {}", key.trim()), assignment(key.trim(), text.trim(), &defaults))?;
    }
    let config = build(&merged, "configuration")?;
    check_values(&config)?;
    Ok(config)
}

/// The default configuration.
///
/// # Panics
/// If the embedded default is not valid, which a test rules out.
pub fn default() -> Config {
    load(None, std::iter::empty(), &[]).expect("the embedded default is valid")
}

/// The configuration as TOML; properties that may be secret are not shown.
///
/// # Errors
/// Never for a configuration that was loaded.
pub fn shown(config: &Config) -> Result<String, toml::ser::Error> {
    let mut config = config.clone();
    for (key, value) in &mut config.kafka.properties {
        let harmless = ["sasl.mechanism", "sasl.mechanisms", "sasl.username"].contains(&key.as_str());
        let secret = ["password", "secret", "key.pem", "token", "jaas"].iter().any(|word| key.contains(word));
        if secret || (key.starts_with("sasl.") && !harmless) {
            *value = "(not shown)".to_owned();
        }
    }
    for (key, value) in &mut config.checkpoint.store {
        let harmless = ["region", "endpoint", "allow_http", "virtual_hosted_style_request", "conditional_put"];
        if !harmless.contains(&key.strip_prefix("aws_").unwrap_or(key)) || value.contains('@') {
            *value = "(not shown)".to_owned();
        }
    }
    config.source.registry.hide();
    toml::to_string(&config)
}

fn parse(text: &str, place: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        // The parser's own display would show the line, which may hold a password.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, column) =
            (before.split('\n').count(), before.rsplit('\n').next().unwrap_or_default().chars().count());
        let message = format!("line {line}, column {}: {}", column + 1, error.message().trim());
        ConfigError::Syntax { place: place.to_owned(), message }
    })
}

/// `a.b.c = text` as nested tables; text that is no TOML value (`brokers=localhost:9092`), or whose key holds a string
/// by default or in an open table, is taken as a string.
fn assignment(key: &str, text: &str, defaults: &Table) -> Table {
    // The keys of an open table may themselves hold dots.
    let open =
        OPEN_TABLES.iter().find_map(|table| key.strip_prefix(table)?.strip_prefix('.').map(|rest| (*table, rest)));
    let wanted = lookup(defaults, key);
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = match (wanted, parsed) {
        (_, Some(value @ Value::String(_))) if open.is_some() => value,
        (_, _) if open.is_some() => Value::String(text.to_owned()),
        (Some(Value::String(_)), Some(value @ (Value::String(_) | Value::Array(_)))) => value,
        (Some(Value::String(_)), _) | (_, None) => Value::String(text.to_owned()),
        (Some(Value::Float(_)), Some(Value::Integer(number))) => Value::Float(number as f64),
        (_, Some(value)) => value,
    };
    let mut parts: Vec<&str> = match open {
        Some((table, rest)) => table.split('.').chain([rest]).collect(),
        None => key.split('.').collect(),
    };
    let mut table = Table::new();
    table.insert(parts.pop().unwrap_or_default().to_owned(), value);
    for part in parts.into_iter().rev() {
        let mut outer = Table::new();
        outer.insert(part.to_owned(), Value::Table(table));
        table = outer;
    }
    table
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => merge(inner, table),
            // Whole numbers are welcome where the default is a fraction.
            (Some(slot @ Value::Float(_)), Value::Integer(number)) => *slot = Value::Float(number as f64),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn check_keys(table: &Table, defaults: &Table, prefix: &str, place: &str) -> Result<(), ConfigError> {
    for (key, value) in table {
        let full = format!("{prefix}{key}");
        match (defaults.get(key), value) {
            (None, _) => {
                return Err(ConfigError::UnknownKey { place: place.to_owned(), nearest: nearest(&full), key: full });
            }
            (Some(Value::Table(known)), Value::Table(inner)) if !OPEN_TABLES.contains(&full.as_str()) => {
                check_keys(inner, known, &format!("{full}."), place)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The known key most like `key`, where one is near: by its full name, or by its last part alone.
fn nearest(key: &str) -> Option<String> {
    let mut known = Vec::new();
    flatten(&DEFAULT.parse().expect("the embedded default is valid TOML"), "", &mut known);
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .into_iter()
        .map(|candidate| {
            let likeness =
                strsim::jaro_winkler(&candidate, key).max(strsim::jaro_winkler(&last(&candidate), &last(key)) - 0.02);
            (candidate, likeness)
        })
        .filter(|(_, likeness)| *likeness > 0.8)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(candidate, _)| candidate)
}

fn flatten(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let full = format!("{prefix}{key}");
        if let Value::Table(inner) = value {
            flatten(inner, &format!("{full}."), keys);
        }
        keys.push(full);
    }
}

fn build(merged: &Table, place: &str) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(merged.clone())).map_err(|error| {
        let key = error.path().to_string();
        // What serde says repeats the value, which may be a password.
        let message = match OPEN_TABLES.iter().any(|table| key.starts_with(table)) || key == RegistryConfig::SECRET {
            true => "must be text, in quotes".to_owned(),
            false => error.into_inner().message().trim().to_owned(),
        };
        ConfigError::Value { place: place.to_owned(), key, message }
    })
}

fn check_values(config: &Config) -> Result<(), ConfigError> {
    let refuse = |key: &str, message: &str| {
        Err(ConfigError::Value { place: "configuration".to_owned(), key: key.to_owned(), message: message.to_owned() })
    };
    let share = |value: f64| (0.0..=1.0).contains(&value);
    // Not a number is not at least one.
    let at_least_one = |value: f64| matches!(value.partial_cmp(&1.0), Some(Ordering::Greater | Ordering::Equal));
    // In single precision, which is what is computed with.
    let positive = |value: f64| (value as f32).is_normal() && value > 0.0;
    match () {
        () if config.threads > 1024 => refuse("threads", "must be at most 1024"),
        () if !(1..=4096).contains(&config.model.dim) => refuse("model.dim", "must lie in 1..=4096"),
        () if !positive(config.model.temperature) => refuse("model.temperature", "must be above 0"),
        () if !(config.model.popularity_start as f32).is_finite() => {
            refuse("model.popularity_start", "must be a number")
        }
        () if !positive(config.model.start_scale) => refuse("model.start_scale", "must be above 0"),
        () if !(2..=65_536).contains(&config.train.batch) => refuse("train.batch", "must lie in 2..=65536"),
        () if !positive(config.train.learning_rate) => refuse("train.learning_rate", "must be above 0"),
        () if config.features.buckets > 1 << 26 => refuse("features.buckets", "must be at most 67108864"),
        () if config.features.buckets == 0 && !config.features.catalogue.as_os_str().is_empty() => {
            refuse("features.buckets", "must be above 0 where there is a features.catalogue")
        }
        () if config.features.catalogue.as_os_str().is_empty() && !config.features.columns.is_empty() => {
            refuse("features.columns", "names columns of a features.catalogue, but there is none")
        }
        () if config.negatives.bank > 1 << 22 => refuse("negatives.bank", "must be at most 4194304"),
        () if !share(config.negatives.ledger_share) => refuse("negatives.ledger_share", "must lie in 0..=1"),
        () if config.negatives.ledger_events > 1 << 16 => refuse("negatives.ledger_events", "must be at most 65536"),
        () if config.negatives.live_events > 1 << 28 => refuse("negatives.live_events", "must be at most 268435456"),
        () if config.negatives.mask_recent > config.context.length => {
            refuse("negatives.mask_recent", "must be at most context.length")
        }
        () if !at_least_one(config.repetition.half_life) => refuse("repetition.half_life", "must be at least 1"),
        () if !(1..=1024).contains(&config.context.length) => refuse("context.length", "must lie in 1..=1024"),
        () if !(1..=65_536).contains(&config.repetition.items) => refuse("repetition.items", "must lie in 1..=65536"),
        () if !share(config.evaluate.share) => refuse("evaluate.share", "must lie in 0..=1"),
        () if !share(config.evaluate.from) => refuse("evaluate.from", "must lie in 0..=1"),
        () if config.checkpoint.every_events == 0 => refuse("checkpoint.every_events", "must be at least 1"),
        () if config.checkpoint.keep == 0 => refuse("checkpoint.keep", "must be at least 1"),
        () if !(100..=86_400_000).contains(&config.checkpoint.lease_ms) => {
            refuse("checkpoint.lease_ms", "must lie in 100..=86400000")
        }
        () if !(100..=3_600_000).contains(&config.checkpoint.answer_ms) => {
            refuse("checkpoint.answer_ms", "must lie in 100..=3600000")
        }
        () if !(1..=65_536).contains(&config.source.max_id_bytes) => {
            refuse("source.max_id_bytes", "must lie in 1..=65536")
        }
        () if config.evaluate.own_items > 65_536 => refuse("evaluate.own_items", "must be at most 65536"),
        () if config.train.batch * config.repetition.items.max(config.context.length) > 1 << 30 => {
            refuse("train.batch", "must be smaller: with repetition.items or context.length it makes too large a batch")
        }
        () if config.checkpoint.dir.as_os_str().is_empty() => refuse("checkpoint.dir", "must not be empty"),
        () if !is_address(&config.http.listen) => refuse("http.listen", "must be address:port, or empty"),
        () if config.source.latest_year < 1970 => refuse("source.latest_year", "must be 1970 or later"),
        () if config.kafka.partitions < 1 => refuse("kafka.partitions", "must be at least 1"),
        () if config.kafka.topic.is_empty() => refuse("kafka.topic", "must not be empty"),
        () if !["error", "warn", "info", "debug", "trace"].contains(&config.log.level.as_str()) => {
            refuse("log.level", "must be error, warn, info, debug or trace")
        }
        () => check_lists(config),
    }
}

/// Empty, or something with a port behind it.
fn is_address(listen: &str) -> bool {
    listen.is_empty()
        || listen.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn check_lists(config: &Config) -> Result<(), ConfigError> {
    let refuse = |key: &str, message: &str| {
        Err(ConfigError::Value { place: "configuration".to_owned(), key: key.to_owned(), message: message.to_owned() })
    };
    if let Some((key, message)) = config.negatives.mistake(&config.positives.kinds) {
        return refuse(key, &message);
    }
    if let Some((key, message)) = config.memory.mistake(config.train.batch) {
        return refuse(&key, &message);
    }
    if let Some((key, message)) = config.source.registry.mistake() {
        return refuse(key, message);
    }
    let FieldNames { user_id, item_id, event_type, timestamp, session_id, value, features } = &config.source.fields;
    let mut names = [user_id, item_id, event_type, timestamp, session_id, value, features];
    names.sort_unstable();
    if names[0].is_empty() || names.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("source.fields", "every field needs a name of its own");
    }
    let windows = config.objective.terms().into_iter().filter(|term| term.kind == ObjectiveKind::I2i);
    if windows.map(|term| term.window()).any(|window| window > config.repetition.items) {
        return refuse("objective", "'window' of 'i2i' must be at most repetition.items: what is remembered of a user");
    }
    match config.objective.mistake() {
        Some(message) => refuse("objective", &message),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[&str]) -> Result<Config, ConfigError> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        load(None, std::iter::empty(), &flags)
    }

    #[test]
    fn default_is_valid_and_complete() {
        let config = default();
        let written = Table::try_from(&config).unwrap();
        let mut from_struct = Vec::new();
        flatten(&written, "", &mut from_struct);
        let mut from_file = Vec::new();
        flatten(&DEFAULT.parse().unwrap(), "", &mut from_file);
        from_struct.sort();
        from_file.sort();
        assert_eq!(from_struct, from_file);
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("worker.toml");
        std::fs::write(&file, "seed = 2\n[train]\nbatch = 10\nlearning_rate = 1\n").unwrap();
        let environment = [("NEGSTREAM__TRAIN__BATCH".to_owned(), "20".to_owned())];
        let config = load(Some(&file), environment.into_iter(), &["train.batch=30".to_owned()]).unwrap();
        assert_eq!((config.seed, config.train.batch, config.train.learning_rate), (2, 30, 1.0));
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let error = with(&["train.bach=3"]).unwrap_err().to_string();
        assert!(error.contains("unknown key 'train.bach', did you mean 'train.batch'?"), "{error}");
        let error = with(&["learning_rate=3"]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'train.learning_rate'?"), "{error}");
    }

    #[test]
    fn mistakes_name_key_and_place() {
        for (flag, message) in [
            ("train.batch=many", "--set train.batch: 'train.batch': invalid type: string \"many\""),
            ("evaluate.share=1.5", "'evaluate.share': must lie in 0..=1"),
            (
                "negatives.noise=unigrm",
                "unknown variant `unigrm`, expected one of `none`, `uniform`, `unigram`, `log_uniform`,",
            ),
            ("objective=npc", "unknown variant `npc`, expected one of `infonce`, `nce`, `cpc`,"),
            ("objective=[{kind=\"nce\", steps=2}]", "'steps' is not an option of 'nce'"),
            ("objective=[{kind=\"cpc\", steps=0}]", "'steps' of 'cpc' must lie in 1..=32"),
            ("objective=[]", "names no objective"),
            ("objective=[{kind=\"infomax\", global=0, local=0, prior=0}]", "nothing is left of 'infomax'"),
            ("objective=[{kind=\"infonce\", event_weights={click=-1}}]", "'event_weights' of 'infonce' must be"),
            ("negatives.noise=[{sampler=\"uniform\", drws=3}]", "unknown field `drws`"),
            ("negatives.half_life=nan", "'negatives.half_life': must be at least 1"),
            ("negatives.half_life=long", "expected a number of events, `inf`, or `auto`"),
            ("negatives.noise=[{sampler=\"uniform\", clusters=3}]", "'clusters' is not an option of 'uniform'"),
            ("negatives.noise=[{sampler=\"unigram\", power=nan}]", "'power' of 'unigram' must lie in 0..=4"),
            ("negatives.noise=[{sampler=\"uniform\", draws=0}]", "'draws' of 'uniform' must lie in 1..="),
            ("negatives.noise=mixture", "'mixture' needs 'parts'"),
            ("negatives.noise=exposure", "'negatives.exposure_kinds': must name the event types"),
            ("seed", "expected KEY=VALUE"),
        ] {
            let error = with(&[flag]).unwrap_err().to_string();
            assert!(error.contains(message), "{flag}: {error}");
        }
    }

    #[test]
    fn values_are_taken_as_the_key_wants_them() {
        let config = with(&[
            "kafka.brokers=localhost:9092",
            "kafka.group=7",
            "negatives.half_life=inf",
            "model.temperature=1",
            "positives.kinds=[\"a\", \"b\"]",
            "kafka.properties.security.protocol=ssl",
            "kafka.properties.sasl.password=12345",
            "negatives.noise=[{sampler=\"unigram\", draws=9, power=0.5}]",
        ])
        .unwrap();
        assert_eq!(config.kafka.brokers, "localhost:9092");
        assert_eq!(config.kafka.group, "7");
        assert_eq!(config.negatives.half_life.events(), Some(f64::INFINITY));
        assert_eq!(config.positives.kinds, ["a", "b"]);
        assert_eq!(config.kafka.properties["security.protocol"], "ssl");
        assert_eq!(config.kafka.properties["sasl.password"], "12345");
        assert_eq!(config.negatives.noise.terms()[0].draws(), 9);
    }
}
