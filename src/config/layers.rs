//! The layers of a configuration: defaults, file, environment, flags. Each names its keys in full, so that an error can
//! name the place that the refused value comes from.
//!
//! No error repeats a value of a table that holds a secret, nor a text that may be one: where a quote or a `=` is missing, a
//! password is easily taken for something else.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, template};
use crate::util::config_section::{ConfigValue, KeyEntry, Refusal, Shape};
use crate::util::credentials::hide_credentials;

/// Prefix of environment variables that override keys; `__` separates the parts of a key.
pub const ENVIRONMENT_PREFIX: &str = "NEGSTREAM__";

/// Errors of a configuration. All are found before anything else is touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// An environment variable that resembles one of this program's, and sets nothing.
    #[error("environment variable {name} sets nothing, did you mean {meant}?")]
    Variable {
        /// Its name.
        name: String,
        /// The variable, or the form of one, that was meant.
        meant: String,
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

impl Config {
    /// The default configuration with `settings` (`KEY=VALUE`, as `--set` takes them) over it.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn with_settings<S: AsRef<str>>(settings: &[S]) -> Result<Self, ConfigError> {
        let flags: Vec<String> = settings.iter().map(|setting| setting.as_ref().to_owned()).collect();
        load(None, std::iter::empty(), &flags)
    }
}

/// Loads the configuration: default under `file` under `environment` under `flags` (`KEY=VALUE`).
///
/// # Errors
/// The first error, with its place.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Config, ConfigError> {
    load_with_defaults(&[], file, environment, flags)
}

/// Loads the configuration as [`load`] does, over the default where `defaults` (`KEY=VALUE`) has none of its own.
///
/// # Errors
/// The first error, with its place.
pub fn load_with_defaults(
    defaults: &[String],
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Config, ConfigError> {
    let known = KnownKeys::new();
    let (mut merged, mut given) = (known.defaults.clone(), Table::new());
    let mut layer = |place: &str, table: Table| -> Result<(), ConfigError> {
        known.check(&table, place)?;
        merge(&mut given, table.clone());
        merge(&mut merged, table);
        // Each layer is checked as it comes, so that the message can name the place.
        known.build(&merged, place).map(|_| ())
    };
    for (key, text) in defaults.iter().filter_map(|default| default.split_once('=')) {
        let place = "default of the command";
        layer(place, known.assignment(key, text, place)?)?;
    }
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let place = path.display().to_string();
        layer(&place, parse(&text, &place)?)?;
    }
    let mut variables: Vec<_> = environment.collect();
    variables.sort();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            match known.variable_meant(&name) {
                None => continue,
                Some(meant) => return Err(ConfigError::Variable { name, meant }),
            }
        };
        let key = rest.to_lowercase().replace("__", ".");
        let place = format!("environment variable {name}");
        layer(&place, known.assignment(&key, &text, &place)?)?;
    }
    for (number, flag) in (1..).zip(flags) {
        let (key, text) =
            flag.split_once('=').map_or((flag.trim(), None), |(key, text)| (key.trim(), Some(text.trim())));
        let refuse = |message: &str| {
            let (place, message) = (format!("--set (number {number})"), message.to_owned());
            ConfigError::Value { place, key: known.shown_key(key), message }
        };
        let text = text.ok_or_else(|| refuse("expected KEY=VALUE, in one argument"))?;
        if !key.chars().all(is_of_a_key) {
            return Err(refuse("expected KEY=VALUE; a key has letters, digits, '.', '_' and '-' alone"));
        }
        // Without the value, which may be secret even where its key is mistyped.
        let place = format!("--set {key}");
        layer(&place, known.assignment(key, text, &place)?)?;
    }
    let mut config = known.build(&merged, "configuration")?;
    let preset = config.model.preset.defaults();
    if !preset.is_empty() {
        // Below what is given, over what is not.
        let place = "model.preset";
        let mut merged = known.defaults.clone();
        for (key, text) in preset {
            merge(&mut merged, known.assignment(key, text, place)?);
        }
        merge(&mut merged, given.clone());
        config = known.build(&merged, place)?;
    }
    let refused = |Refusal { key, message }| ConfigError::Value { place: "configuration".to_owned(), key, message };
    config.validate().and_then(|()| config.validate_given(&given)).map_err(refused)?;
    Ok(config)
}

/// The configuration as TOML, without its secrets.
///
/// # Errors
/// Never for a configuration that was loaded.
pub fn to_redacted_toml(config: &Config) -> Result<String, toml::ser::Error> {
    let mut shown = config.clone();
    shown.redact();
    let mut text = toml::to_string(&shown)?;
    if !config.kafka.topics.is_empty() {
        // The key for one topic is none that may be given beside the list: what is shown can be loaded.
        text = text.replacen("\ntopic = ", "\n# topic = ", 1);
    }
    Ok(hide_credentials(&text).into_owned())
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

/// The keys that exist, by their full names.
struct KnownKeys {
    defaults: Table,
    /// The names of all keys and sections.
    names: Vec<String>,
    /// The names of the keys that are no sections.
    values: Vec<String>,
    /// Tables whose keys are free.
    open_tables: Vec<String>,
    /// Keys whose values must not be repeated.
    secrets: Vec<String>,
}

impl KnownKeys {
    fn new() -> Self {
        let mut known = Self {
            defaults: template::defaults(),
            names: Vec::new(),
            values: Vec::new(),
            open_tables: Vec::new(),
            secrets: Vec::new(),
        };
        known.add(&Config::keys(), "");
        known
    }

    fn add(&mut self, keys: &[KeyEntry], section: &str) {
        for key in keys {
            let name = format!("{section}{}", key.name);
            match &key.shape {
                Shape::Section(inner) => self.add(inner, &format!("{name}.")),
                Shape::OpenTable => self.open_tables.push(name.clone()),
                Shape::Value(_) => self.values.push(name.clone()),
            }
            if key.secret {
                self.secrets.push(name.clone());
            }
            self.names.push(name);
        }
    }

    /// `a.b.c = text` as nested tables; text that is no TOML value (`brokers=localhost:9092`), or whose key holds a string
    /// by default or in an open table, becomes a string.
    ///
    /// # Errors
    /// The key is a table, and the text is none.
    fn assignment(&self, key: &str, text: &str, place: &str) -> Result<Table, ConfigError> {
        // The keys of an open table may themselves hold dots.
        let mut tables = self.open_tables.iter();
        let open = tables.find_map(|table| Some((table, key.strip_prefix(table)?.strip_prefix('.')?)));
        let parsed = format!("value = {text}").parse::<Table>();
        let fault = parsed.as_ref().err().map(|error| error.message().trim().to_owned());
        let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
        let value = match (lookup(&self.defaults, key), parsed) {
            (Some(Value::Table(_)), Some(value @ Value::Table(_))) => value,
            (Some(Value::Table(_)), _) => {
                let fault = fault.map_or_else(String::new, |fault| format!(" (as TOML: {fault})"));
                let message = format!("must be a table, {{ key = \"value\", … }}, and what is given is none{fault}");
                return Err(ConfigError::Value { place: place.to_owned(), key: key.to_owned(), message });
            }
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
        Ok(table)
    }

    /// What may be shown of a text that stands where a key should: it may be a secret.
    fn shown_key(&self, text: &str) -> String {
        let key = text.split(|c| !is_of_a_key(c)).next().unwrap_or_default();
        let table =
            self.open_tables.iter().find(|table| key.strip_prefix(*table).is_some_and(|rest| rest.starts_with('.')));
        match table {
            Some(table) => format!("{table}.…"),
            None if self.names.iter().any(|name| name == key) => key.to_owned(),
            None => "…".to_owned(),
        }
    }

    /// The variable that was meant by `name`, which does not begin as this program's do: its underscores, its case or the
    /// program's name are mistyped. `None` for variables of others. (A cluster gives each pod `NAME_SERVICE_HOST` and the like,
    /// for each service.)
    fn variable_meant(&self, name: &str) -> Option<String> {
        let words = |text: &str| {
            text.to_lowercase().split(['_', '.']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
        };
        let variable = |key: &str| format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "__"));
        let (program, rest) = name.split_once('_')?;
        let own = ENVIRONMENT_PREFIX.trim_end_matches('_');
        let is_own = program.eq_ignore_ascii_case(own);
        let is_nested = rest.starts_with('_') || rest.contains("__");
        if !is_own && (!is_nested || strsim::jaro_winkler(&program.to_uppercase(), own) < 0.9) {
            return None;
        }
        let rest = words(rest);
        if let Some(key) = self.values.iter().find(|key| words(key) == rest) {
            return Some(variable(key));
        }
        if let Some(table) = self.open_tables.iter().find(|table| rest.starts_with(&format!("{}_", words(table)))) {
            return Some(format!("{}__…", variable(table)));
        }
        let nearest = || self.nearest(&rest.replace('_', ".")).unwrap_or_else(|| "section.key".to_owned());
        (is_nested && is_own).then(|| variable(&nearest()))
    }

    /// Checks that each key of `table` exists.
    fn check(&self, table: &Table, place: &str) -> Result<(), ConfigError> {
        self.check_section(table, &self.defaults, "", place)
    }

    fn check_section(&self, table: &Table, known: &Table, section: &str, place: &str) -> Result<(), ConfigError> {
        for (key, value) in table {
            let full = format!("{section}{key}");
            match (known.get(key), value) {
                (None, _) => {
                    let (place, nearest) = (place.to_owned(), self.nearest(&full));
                    return Err(ConfigError::UnknownKey { place, key: full, nearest });
                }
                (Some(Value::Table(known)), Value::Table(inner)) if !self.open_tables.contains(&full) => {
                    self.check_section(inner, known, &format!("{full}."), place)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The known key most similar to `key`, where one is near: by its full name, or by its last part alone.
    fn nearest(&self, key: &str) -> Option<String> {
        fn last(key: &str) -> &str {
            key.rsplit('.').next().unwrap_or_default()
        }
        let similarity =
            |name: &str| strsim::jaro_winkler(name, key).max(strsim::jaro_winkler(last(name), last(key)) - 0.02);
        self.names
            .iter()
            .map(|name| (name, similarity(name)))
            .filter(|(_, similarity)| *similarity > 0.8)
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(name, _)| name.clone())
    }

    fn build(&self, merged: &Table, place: &str) -> Result<Config, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(merged.clone())).map_err(|error| {
            let key = error.path().to_string();
            // What serde says repeats the value, which may be a password or hold one.
            let below =
                |table: &String| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let message = match lookup(&self.defaults, &key) {
                Some(Value::Table(_)) => "must be a table, { key = \"value\", … }".to_owned(),
                _ if self.secrets.iter().chain(&self.open_tables).any(below) => "must be text, in quotes".to_owned(),
                _ => error.into_inner().message().trim().to_owned(),
            };
            ConfigError::Value { place: place.to_owned(), key, message }
        })
    }
}

/// Whether keys have this character.
fn is_of_a_key(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '_' | '-')
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[&str]) -> Result<Config, ConfigError> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        load(None, std::iter::empty(), &flags)
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
    fn a_preset_gives_way_to_keys_that_are_given() {
        assert_eq!(with(&[]).unwrap().model.dim, Config::default().model.dim);
        let best = with(&["model.preset=best", "train.batch=7"]).unwrap();
        assert_eq!((best.model.dim, best.train.batch), (256, 7));
        for flags in [["model.preset=best", "model.dim=32"], ["model.dim=32", "model.preset=best"]] {
            assert_eq!(with(&flags).unwrap().model.dim, 32);
        }
        assert_eq!(with(&["model.preset=best", "model.preset=fast"]).unwrap().model.dim, Config::default().model.dim);
        let shown: String = to_redacted_toml(&best).unwrap();
        assert_eq!(shown.parse::<Table>().unwrap()["model"]["dim"].as_integer(), Some(256));
    }

    #[test]
    fn unknown_key_error_names_the_nearest() {
        let error = with(&["train.bach=3"]).unwrap_err().to_string();
        assert!(error.contains("unknown key 'train.bach', did you mean 'train.batch'?"), "{error}");
        let error = with(&["learning_rate=3"]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'train.learning_rate'?"), "{error}");
    }

    #[test]
    fn errors_name_key_and_place() {
        for (flag, message) in [
            ("train.batch=many", "--set train.batch: 'train.batch': invalid type: string \"many\""),
            ("evaluate.share=1.5", "'evaluate.share': must lie in 0..=1"),
            (
                "negatives.noise=unigrm",
                "unknown sampler 'unigrm', did you mean 'unigram'? There are none, uniform, unigram, log_uniform,",
            ),
            ("objective=npc", "unknown objective 'npc', did you mean 'cpc'? There are infonce, nce, cpc,"),
            ("objective=[{kind=\"nce\", steps=2}]", "'steps' is not an option of 'nce'"),
            ("objective=[{kind=\"cpc\", steps=0}]", "'steps' of 'cpc' must lie in 1..=32"),
            ("objective=[]", "names no objective"),
            ("objective=[{kind=\"infomax\", global=0, local=0, prior=0}]", "'prior' of 'infomax' must not be 0 where"),
            ("objective=[{kind=\"infonce\", event_weights={click=-1}}]", "'event_weights' of 'infonce' must be"),
            ("negatives.noise=[{sampler=\"uniform\", drws=3}]", "'drws' is not an option of 'uniform'"),
            ("negatives.half_life=nan", "'negatives.half_life': must be at least 1"),
            ("negatives.half_life=long", "expected a number of events, a time such as `6h`, `inf`, or `auto`"),
            ("negatives.noise=[{sampler=\"uniform\", clusters=3}]", "'clusters' is not an option of 'uniform'"),
            ("negatives.noise=[{sampler=\"unigram\", power=nan}]", "'power' of 'unigram' must lie in 0..=4"),
            ("negatives.noise=[{sampler=\"uniform\", draws=0}]", "'draws' of 'uniform' must lie in 1..="),
            ("negatives.noise=mixture", "'parts' of 'mixture' must list the samplers"),
            (
                "kafka.topics=[{name=\"a\", event_tpye=\"view\"}]",
                "'kafka.topics[0]': 'event_tpye' is no setting of topic 'a'",
            ),
            (
                "kafka.topics=[{name=\"a\", latest_year=1}]",
                "'kafka.topics': 'latest_year' of topic 'a' must not be before",
            ),
            ("negatives.noise=exposure", "'negatives.exposure_kinds': must name the event types"),
            ("seed", "expected KEY=VALUE"),
        ] {
            let error = with(&[flag]).unwrap_err().to_string();
            assert!(error.contains(message), "{flag}: {error}");
        }
    }

    #[test]
    fn one_topic_and_several_are_not_given_both() {
        let several = "kafka.topics=[{name=\"views\"}, {name=\"buys\", event_type=\"buy\"}]";
        assert_eq!(with(&[several]).unwrap().kafka.topic_names(), ["views", "buys"]);
        for flags in [["kafka.topic=clicks", several], [several, "kafka.topic=interactions"]] {
            let error = with(&flags).unwrap_err().to_string();
            assert!(error.contains("'kafka.topics': is given, and kafka.topic too"), "{error}");
        }
        let shown = with(&[several]).unwrap();
        let (folder, text) = (tempfile::tempdir().unwrap(), to_redacted_toml(&shown).unwrap());
        let file = folder.path().join("shown.toml");
        std::fs::write(&file, text).unwrap();
        assert_eq!(load(Some(&file), std::iter::empty(), &[]).unwrap(), shown);
        let config = with(&[several, "kafka.topics=[]", "kafka.topic=clicks"]).unwrap();
        assert_eq!(config.kafka.topic_names(), ["clicks"]);
    }

    /// A secret that is given in every wrong form is repeated in none of the messages.
    #[test]
    fn errors_repeat_no_secret() {
        const SECRET: &str = "S3CR3T";
        let flags = [
            "kafka.properties.sasl.password S3CR3T",
            "kafka.properties.sasl.password S3CR3T==",
            "kafka.properties.sasl.password: S3CR3T=",
            "S3CR3T",
            "kafka.properties.S3CR3T",
            "kafka.properties={ \"sasl.password\" = \"S3CR3T }",
            "kafka.properties=sasl.password=S3CR3T",
            "kafka.properties={ \"sasl.password\" = [\"S3CR3T\"] }",
            "kafka=S3CR3T",
            "kafka={ properties = \"S3CR3T\" }",
            "kafka={ properties = { \"sasl.password\" = { a = \"S3CR3T\" } } }",
            "kafka.brokers=me:S3CR3T@host:9092",
            "kafka.brokers=SASL_SSL://me:S3CR3T@host:9092",
            "source.registry={ url = \"http://r:1\", password = \"S3CR3T }",
            "source.registry=http://me:S3CR3T@r:1",
            "source={ registry = \"http://me:S3CR3T@r:1\" }",
            "source.registry.url=http://me:S3CR3T@r:1",
            "source.registry.password=[\"S3CR3T\"]",
            "source.registry.password.S3CR3T=1 = S3CR3T",
            "checkpoint.dir=s3://AK:S3CR3T@bucket/p",
            "checkpoint.dir=s3://bucket/p?secret=S3CR3T",
            "checkpoint.dir=gs://S3CR3T@bucket/p",
            "checkpoint.dir=s3:/AK:S3CR3T@bucket/p",
            "checkpoint.storage_options.endpoint=https://h/?sig=S3CR3T",
            "checkpoint.storage_options.endpoint=me:S3CR3T@h",
            "checkpoint.storage_options=aws_secret_access_key=S3CR3T",
            "http.listen=http://me:S3CR3T@0.0.0.0:9464",
            "http.allowed_hosts=[\"https://me:S3CR3T@host\"]",
        ];
        for flag in flags {
            let flag_said = with(&[flag]).expect_err(flag).to_string();
            let (key, text) = flag.split_once('=').unwrap_or((flag, ""));
            let variable = format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "__"));
            let environment = [(variable, text.to_owned())];
            let said = load(None, environment.into_iter(), &[]).err().map(|error| error.to_string());
            let file_said = parse(flag, "worker.toml").err().map(|error| error.to_string());
            assert!(!flag_said.contains(SECRET) || key.ends_with(".S3CR3T"), "{flag}: {flag_said}");
            assert!(key.contains(SECRET) || said.is_none_or(|said| !said.contains(SECRET)), "{flag}");
            assert!(file_said.is_none_or(|said| !said.contains(SECRET)), "{flag}");
        }
    }

    #[test]
    fn messages_for_mistyped_flags_say_what_was_expected() {
        for (flag, message) in [
            ("kafka.properties.sasl.password x", "--set (number 1): 'kafka.properties.…': expected KEY=VALUE, in one"),
            ("a b=c", "--set (number 1): '…': expected KEY=VALUE; a key has letters, digits,"),
            (
                "kafka.properties={ \"a\" = \"b }",
                "must be a table, { key = \"value\", … }, and what is given is none (as TOML:",
            ),
            ("kafka={ properties = 3 }", "'kafka.properties': must be a table"),
            ("kafka={ properties = { a = 3 } }", "'kafka.properties.a': must be text, in quotes"),
        ] {
            let error = with(&[flag]).unwrap_err().to_string();
            assert!(error.contains(message), "{flag}: {error}");
        }
    }

    #[test]
    fn mistyped_variables_are_refused_and_those_of_others_left_alone() {
        let set = |name: &str| load(None, [(name.to_owned(), "7".to_owned())].into_iter(), &[]);
        for (name, meant) in [
            ("NEGSTREAM_KAFKA_BROKERS", "NEGSTREAM__KAFKA__BROKERS"),
            ("NEGSTREAM_KAFKA__BROKERS", "NEGSTREAM__KAFKA__BROKERS"),
            ("negstream__checkpoint__every_events", "NEGSTREAM__CHECKPOINT__EVERY_EVENTS"),
            ("NEGSTREAM_TRAIN__BATHC", "NEGSTREAM__TRAIN__BATCH"),
            ("NEGSTREM__TRAIN__BATCH", "NEGSTREAM__TRAIN__BATCH"),
            ("NEGSTREAM_SEED", "NEGSTREAM__SEED"),
            ("NEGSTREAM_KAFKA_PROPERTIES_SASL_PASSWORD", "NEGSTREAM__KAFKA__PROPERTIES__…"),
        ] {
            let error = set(name).unwrap_err().to_string();
            assert_eq!(error, format!("environment variable {name} sets nothing, did you mean {meant}?"));
        }
        for name in [
            "NEGSTREAM_SERVICE_HOST",
            "NEGSTREAM_PORT_9464_TCP_ADDR",
            "NEGSTREAM_SERVICE_PORT_HTTP",
            "NEGSTREAM_FAILPOINT",
            "NEGSTREAM_DATA",
            "NEGSTREAM",
            "NEGOTIATE__TRAIN__BATCH",
            "PATH",
            "KAFKA_BROKERS",
        ] {
            assert!(set(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn redacted_toml_holds_no_secret() {
        let shown = to_redacted_toml(
            &with(&[
                "kafka.properties.sasl.password=S3CR3T",
                "kafka.properties.sasl.oauthbearer.config=S3CR3T",
                "kafka.properties.https.proxy=http://me:S3CR3T@proxy",
                "kafka.properties.sasl.username=me",
                "source.registry.password=S3CR3T",
                "checkpoint.storage_options.aws_secret_access_key=S3CR3T",
                "checkpoint.storage_options.token=S3CR3T",
                "checkpoint.storage_options.region=here",
                "features.catalogue=https://me:S3CR3T@host/?sig=S3CR3T",
                "features.buckets=16",
            ])
            .unwrap(),
        )
        .unwrap();
        assert!(!shown.contains("S3CR3T") && shown.contains("\"me\"") && shown.contains("\"here\""), "{shown}");
    }

    #[test]
    fn flag_values_become_the_type_of_their_key() {
        let config = with(&[
            "kafka.brokers=localhost:9092",
            "kafka.group=7",
            "negatives.half_life=inf",
            "model.temperature=1",
            "positives.kinds=[\"a\", \"b\"]",
            "kafka.properties.security.protocol=plaintext",
            "kafka.properties.sasl.password=12345",
            "negatives.noise=[{sampler=\"unigram\", draws=9, power=0.5}]",
        ])
        .unwrap();
        assert_eq!(config.kafka.brokers, "localhost:9092");
        assert_eq!(config.kafka.group, "7");
        assert_eq!(config.negatives.half_life, crate::negatives::HalfLife::Events(f64::INFINITY));
        assert_eq!(config.positives.kinds, ["a", "b"]);
        assert_eq!(config.kafka.properties["security.protocol"], "plaintext");
        assert_eq!(config.kafka.properties["sasl.password"], "12345");
        assert_eq!(config.negatives.noise.terms()[0].draws(), 9);
    }
}
