//! The tables `[[publish]]` of the configuration: one sink each, with what every sink has and what only this one knows.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use toml::{Table, Value};

use super::registry::{SINKS, find};
use crate::util::component::{self, serialize_table, take_declared, take_name};
use crate::util::config_section::{
    ConfigValue, KeyEntry, REDACTED, Refusal, Shape, config_choice, config_section, value_shape,
};
use crate::util::credentials::hide_credentials;

/// The key of a table that holds the sink's name in the registry.
const SINK: &str = "sink";

config_choice! {
    /// What becomes of training when a sink has not kept up for as long as `patience`.
    pub enum WhenFull {
        /// Training waits, however long it takes.
        Wait = "wait",
        /// What waits for the sink is dropped; once it is back, it gets the whole table.
        DropAndResync = "drop_and_resync",
    }
}

config_section! {
    /// What every sink has.
    pub struct SinkOptions {
        /// Where the sink is: a URL, brokers, a folder, as the sink says. A password in a URL is never shown.
        target: String = String::new() => [redacted(redact_target)];
        /// The key prefix, table or index there; empty: the sink's own default.
        name: String = String::new();
        /// How many seconds a sink that does not keep up may hold up training, and how long its last update is waited for at an
        /// end.
        patience: u64 = 30 => [within(1..=86_400)];
        /// What follows when `patience` is over: `drop_and_resync` or `wait`.
        when_full: WhenFull = WhenFull::DropAndResync;
        /// Seconds between two updates of the items' log-frequencies, which are sent without their vectors.
        popularity_every_seconds: u64 = 60 => [within(1..=604_800)];
        /// How much of the lists of the 20 best items may not change by what is not sent yet: a row is sent once it has moved so
        /// far that it matters to them. 1: every row that is touched is sent.
        recall: f64 = 0.99 => [within(0.5..=1.0)];
        /// Seconds after which a row that moved at all is sent.
        max_age: u64 = 300 => [within(1..=604_800)];
        /// Whether the sink's embeddings of another model are replaced. They are refused otherwise.
        replace: bool = false;
    }
}

fn redact_target(target: &mut String) {
    *target = hide_credentials(target).into_owned();
}

impl SinkOptions {
    /// `name`, or `default` where it is empty.
    pub fn name_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.name.is_empty() { default } else { &self.name }
    }
}

/// A sink, one of several that embeddings are published to: `{ sink = "redis", target = "redis://localhost:6379/0", … }`.
#[derive(Clone, PartialEq)]
pub struct SinkConfig {
    /// The sink's name in the registry.
    pub sink: String,
    /// What every sink has.
    pub common: SinkOptions,
    /// What only this sink knows, as it was given; [`SinkConfig::own`] reads it.
    given: Table,
}

impl SinkConfig {
    /// The sink that the registry calls `sink`, at `target`, with defaults for all else.
    pub fn new(sink: &str, target: &str) -> Self {
        let common = SinkOptions { target: target.to_owned(), ..SinkOptions::default() };
        Self { sink: sink.to_owned(), common, given: Table::new() }
    }

    /// Reads a table: `{ sink = "redis", target = "redis://localhost:6379/0", … }`.
    ///
    /// # Errors
    /// A sentence that names the sink and the option that is refused.
    pub fn from_table(mut table: Table) -> Result<Self, String> {
        let sink = take_name(SINK, &mut table)?;
        let entry = find(&sink)?;
        let common = component::options(&sink, &take_declared::<SinkOptions>(&mut table))?;
        entry.check(&table)?;
        Ok(Self { sink, common, given: table })
    }

    /// The sink's own options.
    ///
    /// # Errors
    /// A sentence that names the option that is refused.
    pub fn own<C: ConfigValue + Default>(&self) -> Result<C, String> {
        component::options(&self.sink, &self.given)
    }

    fn own_keys(&self) -> Vec<KeyEntry> {
        find(&self.sink).map(|entry| entry.options()).unwrap_or_default()
    }

    fn redact_own(&mut self) {
        let keys = self.own_keys();
        redact_given(&mut self.given, &keys);
    }
}

/// Replaces what must never be shown of options as they were given.
fn redact_given(given: &mut Table, keys: &[KeyEntry]) {
    for key in keys {
        match (given.get_mut(key.name), &key.shape) {
            (Some(Value::Table(section)), Shape::Section(keys)) => redact_given(section, keys),
            (Some(Value::String(text)), _) if key.secret => REDACTED.clone_into(text),
            (Some(Value::Table(table)), _) if key.secret => {
                table.iter_mut().for_each(|(_, value)| *value = Value::String(REDACTED.to_owned()));
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for SinkConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.clone();
        shown.redact_own();
        let Self { sink, common, given } = &shown;
        formatter.debug_struct("SinkConfig").field("sink", sink).field("common", common).field("own", given).finish()
    }
}

impl Serialize for SinkConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::try_from(&self.common).expect("a section can be written as TOML");
        table.extend(self.given.clone());
        serialize_table(serializer, (SINK, &self.sink), table.iter())
    }
}

impl<'de> Deserialize<'de> for SinkConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Table(table) => Self::from_table(table).map_err(serde::de::Error::custom),
            other => {
                let found = other.type_str();
                Err(serde::de::Error::custom(format!("expected a table, {{ sink = \"…\", … }}, found {found}")))
            }
        }
    }
}

impl ConfigValue for Vec<SinkConfig> {
    fn shape() -> Shape {
        let tables: Vec<Json> =
            SINKS.iter().map(|entry| sink_schema(entry.name, entry.about, entry.options())).collect();
        value_shape(json!({ "type": "array", "items": { "anyOf": tables } }))
    }

    fn validate(&self) -> Result<(), Refusal> {
        for (place, sink) in self.iter().enumerate() {
            let same = |other: &&SinkConfig| {
                let (a, b) = (&other.common, &sink.common);
                other.sink == sink.sink && (&a.target, &a.name) == (&b.target, &b.name)
            };
            if self[..place].iter().any(|other| same(&other)) {
                return Err(format!("the sink '{}' is there twice with one target and name", sink.sink).into());
            }
        }
        Ok(())
    }

    fn redact(&mut self) {
        for sink in self {
            sink.common.redact();
            sink.redact_own();
        }
    }
}

/// The JSON Schema of a sink's table.
fn sink_schema(name: &str, about: &str, own: Vec<KeyEntry>) -> Json {
    let mut properties = Map::from_iter([(SINK.to_owned(), json!({ "const": name }))]);
    for key in component::keys::<SinkOptions>().into_iter().chain(own) {
        properties.insert(key.name.to_owned(), key_schema(&key));
    }
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": [SINK],
        "additionalProperties": false,
    })
}

/// The JSON Schema of one option.
fn key_schema(key: &KeyEntry) -> Json {
    let mut schema = match &key.shape {
        Shape::Value(schema) => schema.clone(),
        Shape::Section(keys) => {
            let keys: Map<String, Json> = keys.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect();
            Map::from_iter([
                ("type".to_owned(), json!("object")),
                ("properties".to_owned(), Json::Object(keys)),
                ("additionalProperties".to_owned(), json!(false)),
            ])
        }
        Shape::OpenTable => Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("additionalProperties".to_owned(), json!({ "type": "string" })),
        ]),
    };
    schema.insert("description".to_owned(), json!(key.description.join(" ")));
    Json::Object(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sinks: &str) -> Result<Vec<SinkConfig>, String> {
        let table: Table = format!("publish = {sinks}").parse().expect("TOML");
        let sinks: Vec<SinkConfig> =
            table["publish"].clone().try_into().map_err(|error: toml::de::Error| error.message().trim().to_owned())?;
        sinks.validate().map_err(|refusal| refusal.message)?;
        Ok(sinks)
    }

    #[test]
    fn sinks_are_written_as_they_were_read() {
        let sinks = read("[{ sink = 'memory', target = 'a', patience = 5, when_full = 'wait' }, { sink = 'memory' }]");
        let sinks = sinks.unwrap();
        assert_eq!((sinks[0].common.patience, sinks[0].common.when_full), (5, WhenFull::Wait));
        assert_eq!(sinks[1].common.name_or("items"), "items");
        let json = serde_json::to_value(&sinks).unwrap();
        assert_eq!(serde_json::from_value::<Vec<SinkConfig>>(json).unwrap(), sinks);
    }

    #[test]
    fn errors_name_sink_and_option() {
        for (sinks, message) in [
            ("[{ target = 'a' }]", "missing 'sink'"),
            ("['memory']", "expected a table"),
            ("[{ sink = 'memroy' }]", "unknown sink 'memroy', did you mean 'memory'?"),
            ("[{ sink = 'memory', patince = 1 }]", "'patince' is not an option of 'memory', did you mean 'patience'?"),
            ("[{ sink = 'memory', patience = 0 }]", "'patience' of 'memory' must lie in 1..=86400"),
            ("[{ sink = 'memory' }, { sink = 'memory' }]", "there twice"),
        ] {
            let said = read(sinks).expect_err(sinks);
            assert!(said.contains(message), "{sinks}: {said}");
        }
    }

    #[test]
    fn sections_of_options_are_merged_checked_and_redacted() {
        let kafka = |registry: &str| {
            read(&format!("[{{ sink = 'kafka', target = 'kafka://b:1', encoding = 'avro', registry = {registry} }}]"))
        };
        let said = kafka("{ ulr = 'http://r:1' }").unwrap_err();
        assert!(said.contains("'ulr' is not an option of 'kafka.registry'"), "{said}");
        if !crate::util::cargo_feature::CargoFeature::Registry.is_built_in() {
            assert!(kafka("{}").unwrap_err().contains("needs the feature 'registry'"));
            return;
        }
        let said = kafka("{}").unwrap_err();
        assert!(said.contains("'encoding' of 'kafka' 'avro' needs the address of a schema registry"), "{said}");
        let said = kafka("{ url = 'http://me:S3CR3T@r:1' }").unwrap_err();
        assert!(said.contains("keys of their own") && !said.contains("S3CR3T"), "{said}");
        let mut sinks = kafka("{ url = 'http://r:1', user = 'me', password = 'S3CR3T' }").unwrap();
        assert!(!format!("{sinks:?}").contains("S3CR3T"));
        sinks.redact();
        let shown = serde_json::to_string(&sinks).unwrap();
        assert!(!shown.contains("S3CR3T") && shown.contains("http://r:1"), "{shown}");
    }

    #[test]
    fn credentials_of_a_target_are_never_shown() {
        let mut sinks = read("[{ sink = 'memory', target = 'redis://me:S3CR3T@host:6379' }]").unwrap();
        assert!(!format!("{sinks:?}").contains("S3CR3T"));
        sinks.redact();
        let shown = serde_json::to_string(&sinks).unwrap();
        assert!(!shown.contains("S3CR3T") && shown.contains("host:6379"), "{shown}");
    }
}
